/**
 * GUIDs as KMES stores them (KMES-10): 16 bytes, the first three parts little-endian, the last
 * eight bytes as they are. Everything in eventd carries this form; text appears only at the edges.
 */
import { createRequire } from 'node:module';

const require = createRequire(import.meta.url);

/** Loaded when it is first needed: most threads only read GUIDs, and it is a fifteenth of their start. */
const crypto = () => require('node:crypto') as typeof import('node:crypto');

/** Bytes of a GUID. */
export const GUID_LENGTH = 16;

/** The nil GUID (KMES-11): legal, and in an event it means "identity not available". */
export const NIL_GUID: Uint8Array = new Uint8Array(GUID_LENGTH);

/** Text or bytes that are no GUID. `code` is always `ERR_GUID`. */
export class GuidError extends Error {
  readonly code = 'ERR_GUID';
  override readonly name = 'GuidError';
}

const GROUP_DIGITS = [8, 4, 4, 4, 12] as const;

/** Position in RFC 4122 order of each stored byte; the permutation is its own inverse. */
const RFC_ORDER = [3, 2, 1, 0, 5, 4, 7, 6, 8, 9, 10, 11, 12, 13, 14, 15] as const;

function swapParts(bytes: Uint8Array): Uint8Array {
  requireGuid(bytes);
  return Uint8Array.from(RFC_ORDER, (from) => bytes[from] ?? 0);
}

function requireGuid(bytes: Uint8Array): void {
  if (bytes.length !== GUID_LENGTH) {
    throw new GuidError(`a GUID has ${GUID_LENGTH} bytes, found ${bytes.length}`);
  }
}

/** Converts stored (mixed-endian) bytes to RFC 4122 network order. */
export const toNetworkOrder = swapParts;

/** Converts RFC 4122 network order to stored (mixed-endian) bytes. */
export const fromNetworkOrder = swapParts;

/**
 * Reads a GUID in either letter case, with or without braces (KMES-15..18).
 *
 * @throws GuidError naming the brace, the group or the character that is wrong.
 * @example parseGuid('{01020304-0506-0708-090a-0b0c0d0e0f10}')
 */
export function parseGuid(text: string): Uint8Array {
  const opened = text.startsWith('{');
  if (opened !== text.endsWith('}')) {
    throw new GuidError(`${quote(text)}: ${opened ? 'the closing' : 'the opening'} brace is missing`);
  }
  const groups = (opened ? text.slice(1, -1) : text).split('-');
  if (groups.length !== GROUP_DIGITS.length) {
    throw new GuidError(`${quote(text)}: expected 5 groups separated by "-", found ${groups.length}`);
  }
  for (const [index, digits] of GROUP_DIGITS.entries()) {
    const group = groups[index] ?? '';
    const stray = /[^0-9a-fA-F]/.exec(group);
    if (stray !== null) {
      throw new GuidError(`${quote(text)}: ${quote(stray[0])} in group ${index + 1} is no hex digit`);
    }
    if (group.length !== digits) {
      throw new GuidError(
        `${quote(text)}: group ${index + 1} must have ${digits} hex digits, found ${group.length}`,
      );
    }
  }
  return fromNetworkOrder(Buffer.from(groups.join(''), 'hex'));
}

function quote(text: string): string {
  return JSON.stringify(text.length > 64 ? `${text.slice(0, 64)}…` : text);
}

/** The canonical 38-character form `{8-4-4-4-12}`, lower case (KMES-13, KMES-14). */
export function formatGuid(bytes: Uint8Array): string {
  return `{${formatPlainGuid(bytes)}}`;
}

/** The same without braces, as payloads and SDDL carry it (STO-8). */
export function formatPlainGuid(bytes: Uint8Array): string {
  const hex = Buffer.from(toNetworkOrder(bytes)).toString('hex');
  return `${hex.slice(0, 8)}-${hex.slice(8, 12)}-${hex.slice(12, 16)}-${hex.slice(16, 20)}-${hex.slice(20)}`;
}

/** Equality on the 16 bytes (KMES-19). */
export function guidsEqual(a: Uint8Array, b: Uint8Array): boolean {
  requireGuid(a);
  requireGuid(b);
  return a.every((byte, index) => byte === b[index]);
}

export function isNilGuid(bytes: Uint8Array): boolean {
  return guidsEqual(bytes, NIL_GUID);
}

function stamp(bytes: Uint8Array, version: number): Uint8Array {
  // In stored order the version sits in the high byte of Data3 and the variant in Data4[0].
  bytes[7] = ((bytes[7] ?? 0) & 0x0f) | (version << 4);
  bytes[8] = ((bytes[8] ?? 0) & 0x3f) | 0x80;
  return bytes;
}

/** A random version 4 GUID from the CSPRNG; the version bits keep it from being nil (KMES-21..23). */
export function newGuid(): Uint8Array {
  return stamp(crypto().randomFillSync(new Uint8Array(GUID_LENGTH)), 4);
}

/**
 * The version 5 GUID of a name (CFG-82). Hashing happens in RFC order; only the result is swapped.
 *
 * @param namespace stored (mixed-endian) bytes
 * @param name text, hashed as UTF-8
 */
export function nameGuid(namespace: Uint8Array, name: string): Uint8Array {
  const hash = crypto().createHash('sha1').update(toNetworkOrder(namespace));
  const digest = hash.update(name, 'utf8').digest();
  return stamp(fromNetworkOrder(digest.subarray(0, GUID_LENGTH)), 5);
}
