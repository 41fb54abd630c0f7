/**
 * Who may read events, while no per-record security descriptors are consulted: exactly the readers of
 * the default `Events\*` (ACL-13), SYSTEM and Administrators, and everybody else nothing (fail closed).
 */

/** The part of a caller's token this decision needs. */
export interface EventReader {
  /** User id the kernel attested at connect. */
  readonly uid: number;
  /** The token carries S-1-5-18 or S-1-5-32-544, enabled. */
  readonly isSystemOrAdministrator: boolean;
}

/** Ids the kernel uses for users it cannot name; nobody gains anything by sharing one (HOST-68). */
const UNMAPPED_IDS: ReadonlySet<number> = new Set([65534, 0xffffffff]);

/**
 * True when the caller sees every event, false when it sees none (ACL-1, ACL-13).
 *
 * Besides SYSTEM and Administrators the user eventd runs as may read: it owns the database files, so on
 * a developer's own instance a refusal would protect nothing.
 *
 * @param ownUid effective user id of the daemon
 */
export function mayReadEvents(reader: EventReader, ownUid: number): boolean {
  if (reader.isSystemOrAdministrator) return true;
  return reader.uid === ownUid && !UNMAPPED_IDS.has(reader.uid);
}
