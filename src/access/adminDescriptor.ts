/** `admin_sd` in the table `meta` of eventd-meta.db: who may direct the indexing policy (ACL-56..58, IDX-43). */
import type { Database } from 'better-sqlite3';
import { type Caller, type StoredDescriptor, storedDescriptor } from './caller.js';
import { sddlToSecurityDescriptor } from './sddl.js';
import { SecurityDescriptorError } from './securityDescriptor.js';

const KEY = 'admin_sd';
const AUDIT_CONTEXT = 'admin:index';
const DEFAULT_SDDL = 'O:SYG:SYD:(A;;0x1;;;SY)(A;;0x1;;;BA)';

/** Stores the default, SYSTEM and Administrators, where no `admin_sd` is (ACL-57). Never overwrites. */
export function ensureAdminDescriptor(database: Database): void {
  // `meta.value` has TEXT affinity, which leaves a BLOB alone (ACL-58).
  database
    .prepare('INSERT OR IGNORE INTO meta (key, value) VALUES (?, ?)')
    .run(KEY, Buffer.from(sddlToSecurityDescriptor(DEFAULT_SDDL)));
}

/** The stored descriptor; null where it is missing, no BLOB, or malformed: then INDEX is refused (ACL-57). */
export function readAdminDescriptor(database: Database): StoredDescriptor | null {
  const value: unknown = database.prepare('SELECT value FROM meta WHERE key = ?').pluck().get(KEY);
  if (!(value instanceof Uint8Array)) return null;
  try {
    return storedDescriptor(Uint8Array.from(value));
  } catch (error) {
    if (error instanceof SecurityDescriptorError) return null;
    throw error;
  }
}

/**
 * Whether the caller may administer the indexing policy (ACL-56, QL-74).
 *
 * @param descriptor `admin_sd`; null where it is missing or malformed, which refuses (ACL-57)
 */
export async function mayAdminister(caller: Caller, descriptor: StoredDescriptor | null): Promise<boolean> {
  if (descriptor === null) return false;
  try {
    const request = { descriptor, nodes: null, auditContext: AUDIT_CONTEXT, localClaims: [] };
    const [granted] = await caller.check(request);
    return granted === true;
  } catch {
    return false;
  }
}
