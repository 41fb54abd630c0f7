import { readFileSync } from 'node:fs';
import { formatSid, sidOfUid } from '../access/sid.js';
import { NIL_GUID, nameGuid } from '../host/guid.js';
import type { ProducerIdentity } from '../native/addon.js';

/** The stamp of events no process stands behind (KMES-40). */
export const NO_IDENTITY: ProducerIdentity = {
  effectiveToken: NIL_GUID,
  trueToken: NIL_GUID,
  process: NIL_GUID,
};

/** What tells a process from every other of the boot: pid and start time. */
export interface ProcessKey {
  readonly pid: number;
  /** Clock ticks after boot, field 22 of /proc/PID/stat. */
  readonly startTime: string;
}

/** `pid:starttime`, the name of a process within its boot (HOST-77). */
export function processName(process: ProcessKey): string {
  return `${process.pid}:${process.startTime}`;
}

/** The fields kmesd needs of /proc/PID/stat. */
export interface ProcessStat {
  readonly comm: string;
  readonly parent: number;
  readonly startTime: string;
}

/** Parses /proc/PID/stat. The name may hold spaces and parentheses, so the last ')' ends it. Null if malformed. */
export function parseProcessStat(text: string): ProcessStat | null {
  const open = text.indexOf('(');
  const close = text.lastIndexOf(')');
  if (open < 0 || close < open) return null;
  const fields = text.slice(close + 2).split(' ');
  const parent = fields[1];
  const startTime = fields[19];
  if (parent === undefined || startTime === undefined || !/^[0-9]+$/.test(startTime)) return null;
  return { comm: text.slice(open + 1, close), parent: Number(parent), startTime };
}

/** Reads /proc/PID/stat; null when the process is gone or not visible. */
export function readProcessStat(pid: number): ProcessStat | null {
  if (pid <= 0) return null;
  try {
    return parseProcessStat(readFileSync(`/proc/${pid}/stat`, 'latin1'));
  } catch {
    return null;
  }
}

/** Users whose GUID is remembered; the least recently added go first. */
const REMEMBERED_USERS = 1024;

/** Makes identity stamps: UUID v5 of the boot ID over user SID and process name (HOST-77). */
export class IdentityStamps {
  readonly #bootId: Uint8Array;
  readonly #users = new Map<number, Uint8Array>();

  constructor(bootId: Uint8Array) {
    this.#bootId = bootId;
  }

  /** Both tokens carry the user: nobody impersonates on plain Linux. */
  of(uid: number, process: ProcessKey | null): ProducerIdentity {
    const token = this.#token(uid);
    return {
      effectiveToken: token,
      trueToken: token,
      process: process === null ? NIL_GUID : nameGuid(this.#bootId, processName(process)),
    };
  }

  #token(uid: number): Uint8Array {
    const known = this.#users.get(uid);
    if (known !== undefined) return known;
    const [oldest] = this.#users.keys();
    if (this.#users.size >= REMEMBERED_USERS && oldest !== undefined) this.#users.delete(oldest);
    const token = nameGuid(this.#bootId, formatSid(sidOfUid(uid)));
    this.#users.set(uid, token);
    return token;
  }
}
