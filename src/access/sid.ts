/** Security identifiers: binary form (ACL-62), text form and the aliases SDDL knows. */

/** A malformed SID. `code` is always `ERR_SID`. */
export class SidError extends Error {
  readonly code = 'ERR_SID';
  override readonly name = 'SidError';
}

const MAX_SUB_AUTHORITIES = 15;

/** Two-letter names of well-known SIDs. Domain-relative ones (DA, DU, LA, ...) are left out on purpose. */
export const SID_ALIASES: ReadonlyMap<string, string> = new Map([
  ['WD', 'S-1-1-0'],
  ['CO', 'S-1-3-0'],
  ['CG', 'S-1-3-1'],
  ['OW', 'S-1-3-4'],
  ['NU', 'S-1-5-2'],
  ['IU', 'S-1-5-4'],
  ['SU', 'S-1-5-6'],
  ['AN', 'S-1-5-7'],
  ['PS', 'S-1-5-10'],
  ['AU', 'S-1-5-11'],
  ['RC', 'S-1-5-12'],
  ['SY', 'S-1-5-18'],
  ['LS', 'S-1-5-19'],
  ['NS', 'S-1-5-20'],
  ['BA', 'S-1-5-32-544'],
  ['BU', 'S-1-5-32-545'],
  ['BG', 'S-1-5-32-546'],
  ['BO', 'S-1-5-32-551'],
  ['LW', 'S-1-16-4096'],
  ['ME', 'S-1-16-8192'],
  ['HI', 'S-1-16-12288'],
  ['SI', 'S-1-16-16384'],
]);

const ALIAS_OF: ReadonlyMap<string, string> = new Map([...SID_ALIASES].map(([alias, sid]) => [sid, alias]));

/** Builds a SID from its authority and sub-authorities (unsigned 32-bit each). */
export function makeSid(authority: bigint, subAuthorities: readonly number[]): Uint8Array {
  if (authority < 0n || authority > 0xffffffffffffn)
    throw new SidError(`authority ${authority} needs 48 bits`);
  if (subAuthorities.length > MAX_SUB_AUTHORITIES) {
    throw new SidError(
      `a SID has at most ${MAX_SUB_AUTHORITIES} sub-authorities, found ${subAuthorities.length}`,
    );
  }
  const bytes = new Uint8Array(8 + 4 * subAuthorities.length);
  const view = new DataView(bytes.buffer);
  bytes[0] = 1;
  bytes[1] = subAuthorities.length;
  view.setUint16(2, Number(authority >> 32n));
  view.setUint32(4, Number(authority & 0xffffffffn));
  for (const [index, value] of subAuthorities.entries()) {
    if (!Number.isInteger(value) || value < 0 || value > 0xffffffff) {
      throw new SidError(`sub-authority ${value} is no unsigned 32-bit number`);
    }
    view.setUint32(8 + 4 * index, value, true);
  }
  return bytes;
}

/**
 * Reads `S-1-<authority>-<sub>...`; the authority is decimal or `0x` and 12 hex digits.
 *
 * @throws SidError
 */
export function parseSid(text: string): Uint8Array {
  const match = /^S-1-(0x[0-9a-f]{12}|[0-9]{1,15})((?:-[0-9]{1,10})*)$/i.exec(text);
  if (match === null) throw new SidError(`${JSON.stringify(text)} is no SID of the form S-1-...`);
  const subAuthorities = (match[2] ?? '').split('-').slice(1).map(Number);
  return makeSid(BigInt(match[1] ?? ''), subAuthorities);
}

/**
 * Length of the SID that starts at `offset`, checked against `end`.
 *
 * @throws SidError when the revision is wrong or the SID does not fit.
 */
export function sidLengthAt(bytes: Uint8Array, offset: number, end: number): number {
  if (offset + 8 > end) throw new SidError('SID is cut off');
  if (bytes[offset] !== 1) throw new SidError(`SID revision must be 1, found ${bytes[offset]}`);
  const count = bytes[offset + 1] ?? 0;
  if (count > MAX_SUB_AUTHORITIES) throw new SidError(`SID claims ${count} sub-authorities`);
  const length = 8 + 4 * count;
  if (offset + length > end) throw new SidError('SID is cut off');
  return length;
}

/** The text form of a binary SID. */
export function formatSid(sid: Uint8Array): string {
  if (sidLengthAt(sid, 0, sid.length) !== sid.length) throw new SidError('bytes after the end of the SID');
  const view = new DataView(sid.buffer, sid.byteOffset, sid.byteLength);
  const high = view.getUint16(2);
  const authority = (BigInt(high) << 32n) | BigInt(view.getUint32(4));
  const parts = ['S', '1', high === 0 ? String(authority) : `0x${authority.toString(16).padStart(12, '0')}`];
  for (let offset = 8; offset < sid.length; offset += 4) parts.push(String(view.getUint32(offset, true)));
  return parts.join('-');
}

/** The SDDL form: an alias where there is one, the text form otherwise. */
export function formatSidShort(sid: Uint8Array): string {
  const text = formatSid(sid);
  return ALIAS_OF.get(text) ?? text;
}

/** Equality is bytewise (ACL-62). */
export function sidsEqual(a: Uint8Array, b: Uint8Array): boolean {
  return a.length === b.length && a.every((byte, index) => byte === b[index]);
}

/** A SID as a text that compares fast and serves as a key of maps. */
export function sidKey(sid: Uint8Array): string {
  return Buffer.from(sid.buffer, sid.byteOffset, sid.byteLength).toString('latin1');
}

export const SID_EVERYONE = parseSid('S-1-1-0');
export const SID_LOCAL = parseSid('S-1-2-0');
export const SID_OWNER_RIGHTS = parseSid('S-1-3-4');
export const SID_ANONYMOUS = parseSid('S-1-5-7');
export const SID_AUTHENTICATED_USERS = parseSid('S-1-5-11');
export const SID_SYSTEM = parseSid('S-1-5-18');
export const SID_ADMINISTRATORS = parseSid('S-1-5-32-544');

/** The SID of a Linux user on a stand-in (HOST-66); uid 0 is SYSTEM. */
export function sidOfUid(uid: number): Uint8Array {
  return uid === 0 ? SID_SYSTEM : makeSid(22n, [1, uid]);
}

/** The SID of a Linux group on a stand-in (HOST-66). */
export function sidOfGid(gid: number): Uint8Array {
  return makeSid(22n, [2, gid]);
}
