/** The stand-in for peer tokens: a token made of Unix credentials (HOST-65..69). */

import { readFile } from 'node:fs/promises';
import {
  SID_ADMINISTRATORS,
  SID_AUTHENTICATED_USERS,
  SID_EVERYONE,
  SID_LOCAL,
  sidOfGid,
  sidOfUid,
} from '../access/sid.js';
import { GROUP_ENABLED, isSystemOrAdministrator, PRIVILEGE_SECURITY, type Token } from '../access/token.js';
import type { PeerCredentials } from '../native/addon.js';
import { messageOf } from './errorMessage.js';
import type { WarningLog } from './log.js';

const INTEGRITY_MEDIUM = 8192;
const INTEGRITY_HIGH = 12288;
const INTEGRITY_SYSTEM = 16384;
const POLICY_NO_WRITE_UP = 1;

/** Ids the kernel shows for users it cannot name in this namespace (HOST-68). */
const UNMAPPED_IDS: ReadonlySet<number> = new Set([65534, 0xffffffff]);

const MAX_GROUP_FILE_BYTES = 4 * 1024 * 1024;

/** A token with what it was made of. Holds for the life of the connection (HOST-69). */
export interface PeerToken extends Token {
  readonly uid: number;
  readonly gid: number;
  /** Of the process that connected; it may be gone. */
  readonly pid: number;
  /** The token carries S-1-5-18 or S-1-5-32-544, enabled. */
  readonly isSystemOrAdministrator: boolean;
}

/**
 * Builds the token of HOST-66 from credentials the kernel attested at connect.
 *
 * @param adminGids groups whose members are administrators besides root, see `resolveAdminGroups`
 */
export function tokenFromCredentials(
  credentials: PeerCredentials,
  adminGids: ReadonlySet<number>,
): PeerToken {
  const { uid, gid, pid } = credentials;
  const root = uid === 0;
  const gids = [...new Set([gid, ...credentials.groups])];
  const named = !UNMAPPED_IDS.has(uid);
  const administrator = root || (named && gids.some((id) => adminGids.has(id) && !UNMAPPED_IDS.has(id)));
  const sids = [
    SID_EVERYONE,
    SID_AUTHENTICATED_USERS,
    ...(root ? [SID_LOCAL] : []),
    ...(administrator ? [SID_ADMINISTRATORS] : []),
    ...gids.map(sidOfGid),
  ];
  const token: Token = {
    user: sidOfUid(uid),
    userDenyOnly: false,
    groups: sids.map((sid) => ({ sid, attributes: GROUP_ENABLED })),
    privileges: root ? 1n << PRIVILEGE_SECURITY : 0n,
    integrityLevel: root ? INTEGRITY_SYSTEM : administrator ? INTEGRITY_HIGH : INTEGRITY_MEDIUM,
    mandatoryPolicy: POLICY_NO_WRITE_UP,
    type: 'primary',
    restrictingSids: [],
    writeRestricted: false,
    confinementSid: null,
    confinementCapabilities: [],
    userClaims: new Map(),
    deviceClaims: new Map(),
    deviceGroups: [],
    trust: { type: 0, level: 0 },
    auditPolicy: 0,
  };
  return { ...token, uid, gid, pid, isSystemOrAdministrator: isSystemOrAdministrator(token) };
}

/**
 * Group ids of the configured admin groups (HOST-67). Entries are ids or names of `/etc/group`; an
 * unknown name is logged and skipped.
 */
export async function resolveAdminGroups(
  entries: readonly string[],
  log: WarningLog,
  groupFile = '/etc/group',
): Promise<ReadonlySet<number>> {
  const gids = new Set<number>();
  const names = entries.filter((entry) => !isId(entry));
  const byName = names.length > 0 ? await readGroups(groupFile, log) : new Map<string, number>();
  for (const entry of entries) {
    const gid = isId(entry) ? Number(entry) : byName.get(entry);
    if (gid === undefined) {
      log.warn(`AdminGroups: no group is named ${JSON.stringify(entry)}; it is skipped`);
    } else if (UNMAPPED_IDS.has(gid) || gid > 0xffffffff) {
      log.warn(`AdminGroups: group id ${gid} stands for unknown users; it is skipped`);
    } else {
      gids.add(gid);
    }
  }
  return gids;
}

function isId(entry: string): boolean {
  return /^[0-9]{1,10}$/.test(entry);
}

async function readGroups(file: string, log: WarningLog): Promise<ReadonlyMap<string, number>> {
  const groups = new Map<string, number>();
  let text = '';
  try {
    const bytes = await readFile(file);
    text = bytes.subarray(0, MAX_GROUP_FILE_BYTES).toString('utf8');
  } catch (error) {
    log.warn(`AdminGroups: ${messageOf(error)}`);
  }
  for (const line of text.split('\n')) {
    const [name, , gid] = line.split(':');
    if (name && gid !== undefined && isId(gid) && !groups.has(name)) groups.set(name, Number(gid));
  }
  return groups;
}

/**
 * Why uid 0 cannot be trusted to be this machine's root, or null. In a user namespace whose root is
 * an ordinary user outside, other namespaces over the same user arrive as uid 0, too.
 *
 * @param uidMap text of `/proc/self/uid_map`
 */
export function foreignRootProblem(uidMap: string): string | null {
  for (const line of uidMap.trim().split('\n')) {
    const [inside, outside, length] = line.trim().split(/\s+/).map(Number);
    if (inside === undefined || outside === undefined || length === undefined) continue;
    if (inside === 0 && length > 0 && outside !== 0) {
      return `uid 0 of this user namespace is uid ${outside} outside, so foreign roots would arrive as root`;
    }
  }
  return null;
}
