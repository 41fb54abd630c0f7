/**
 * Claim entries: the binary form that resource attribute ACEs and the local claims of a check carry
 * (ACL-55, ACL-66). Little-endian; offsets count from the start of the entry.
 */
import { foldName } from '../registry/names.js';
import { SidError, sidLengthAt } from './sid.js';
import type { TokenClaim } from './token.js';

/** Types of claim values. */
export const CLAIM = { int64: 1, uint64: 2, string: 3, sid: 5, boolean: 6, octets: 0x10 } as const;

/** Flags of a claim that matter to conditions. */
export const CLAIM_FLAG = { caseSensitive: 0x2, denyOnly: 0x4, disabled: 0x10 } as const;

/** A claim with the name it goes by. */
export interface NamedClaim extends TokenClaim {
  readonly name: string;
}

/** Bytes that are no claim entry, or a claim that has no binary form. `code` is always `ERR_CLAIM`. */
export class ClaimError extends Error {
  readonly code = 'ERR_CLAIM';
  override readonly name = 'ClaimError';
}

const HEADER_BYTES = 16;
const MAX_NAME_UNITS = 256;
const MAX_VALUES = 1024;
/** Largest claim array a check takes (Appendix A). */
export const MAX_CLAIMS_BYTES = 65536;

/** Claims by folded name, as conditions look them up. The first of equal names counts. */
export function claimTable(claims: readonly NamedClaim[]): ReadonlyMap<string, TokenClaim> {
  const table = new Map<string, TokenClaim>();
  for (const claim of claims) {
    const key = foldName(claim.name);
    if (!table.has(key)) table.set(key, claim);
  }
  return table;
}

/**
 * Reads one claim entry; bytes behind its parts are padding.
 *
 * @throws ClaimError when anything points outside or has an unknown type
 */
export function decodeClaim(entry: Uint8Array): NamedClaim {
  const view = new DataView(entry.buffer, entry.byteOffset, entry.byteLength);
  const u32 = (offset: number): number => {
    if (offset + 4 > entry.length) throw new ClaimError(`offset ${offset} lies outside the claim`);
    return view.getUint32(offset, true);
  };
  if (entry.length < HEADER_BYTES) throw new ClaimError(`${entry.length} bytes are less than a claim header`);
  const type = view.getUint16(4, true);
  if (view.getUint16(6, true) !== 0) throw new ClaimError('a reserved field of the claim is set');
  const count = u32(12);
  if (count > MAX_VALUES) throw new ClaimError(`a claim has at most ${MAX_VALUES} values, found ${count}`);
  const name = textAt(view, u32(0), MAX_NAME_UNITS);
  if (name === '') throw new ClaimError('a claim needs a name');
  const values: (string | bigint | Uint8Array)[] = [];
  // Values may share their bytes, so a small entry could stand for a thousand large values.
  let budget = entry.length;
  for (let index = 0; index < count; index++) {
    const value = valueAt(entry, view, type, u32(HEADER_BYTES + 4 * index), u32);
    budget -= typeof value === 'bigint' ? 8 : value.length;
    if (budget < 0) throw new ClaimError('the values of the claim overlap');
    values.push(value);
  }
  return { name, type, flags: u32(8), values };
}

function valueAt(
  entry: Uint8Array,
  view: DataView,
  type: number,
  offset: number,
  u32: (offset: number) => number,
): string | bigint | Uint8Array {
  switch (type) {
    case CLAIM.int64:
    case CLAIM.uint64:
    case CLAIM.boolean:
      if (offset + 8 > entry.length) throw new ClaimError(`offset ${offset} lies outside the claim`);
      return type === CLAIM.int64 ? view.getBigInt64(offset, true) : view.getBigUint64(offset, true);
    case CLAIM.string:
      return textAt(view, u32(offset), Number.POSITIVE_INFINITY);
    case CLAIM.sid: {
      const start = u32(offset);
      try {
        return entry.slice(start, start + sidLengthAt(entry, start, entry.length));
      } catch (error) {
        if (error instanceof SidError) throw new ClaimError(error.message);
        throw error;
      }
    }
    case CLAIM.octets: {
      const start = u32(offset);
      const length = u32(start);
      if (start + 4 + length > entry.length) throw new ClaimError('octets reach beyond the claim');
      return entry.slice(start + 4, start + 4 + length);
    }
    default:
      throw new ClaimError(`unknown claim type ${type}`);
  }
}

/** UTF-16LE up to its closing NUL, which must lie inside. */
function textAt(view: DataView, offset: number, limit: number): string {
  let text = '';
  for (let at = offset; at + 2 <= view.byteLength; at += 2) {
    const unit = view.getUint16(at, true);
    if (unit === 0) return text;
    if (text.length >= limit) throw new ClaimError(`a name exceeds ${limit} units`);
    text += String.fromCharCode(unit);
  }
  throw new ClaimError('a text is not closed inside the claim');
}

/**
 * One claim entry: header, offsets, name, then the values.
 *
 * @throws ClaimError for what the format cannot hold: NUL in a text, a long name, too many values
 */
export function encodeClaim(claim: NamedClaim): Uint8Array {
  if (claim.name === '' || claim.name.length > MAX_NAME_UNITS)
    throw new ClaimError('a claim name has 1 to 256 units');
  if (claim.values.length > MAX_VALUES) throw new ClaimError(`a claim has at most ${MAX_VALUES} values`);
  const header = Buffer.alloc(HEADER_BYTES + 4 * claim.values.length);
  const parts: Buffer[] = [header];
  let at = header.length;
  const append = (part: Buffer): number => {
    const offset = at;
    parts.push(part);
    at += part.length;
    return offset;
  };
  header.writeUInt16LE(claim.type, 4);
  header.writeUInt32LE(claim.flags, 8);
  header.writeUInt32LE(claim.values.length, 12);
  header.writeUInt32LE(append(utf16(claim.name)), 0);
  for (const [index, value] of claim.values.entries()) {
    const pointer = Buffer.alloc(typeof value === 'bigint' ? 8 : 4);
    header.writeUInt32LE(append(pointer), HEADER_BYTES + 4 * index);
    if (typeof value === 'bigint') pointer.writeBigUInt64LE(BigInt.asUintN(64, value));
    else pointer.writeUInt32LE(append(body(claim.type, value)));
  }
  return Uint8Array.from(Buffer.concat(parts));
}

function body(type: number, value: string | Uint8Array): Buffer {
  if (typeof value === 'string') return utf16(value);
  if (type !== CLAIM.octets) return Buffer.from(value);
  const length = Buffer.alloc(4);
  length.writeUInt32LE(value.length);
  return Buffer.concat([length, value]);
}

function utf16(text: string): Buffer {
  if (text.includes('\0')) throw new ClaimError('a text holds a NUL character');
  return Buffer.from(`${text}\0`, 'utf16le');
}

/**
 * The claim array of a check: each entry behind its length. A claim that has no binary form, or no room
 * any more, is left out and never a failure (ACL-55).
 */
export function encodeClaims(claims: readonly NamedClaim[]): Uint8Array {
  const parts: Uint8Array[] = [];
  let size = 0;
  for (const claim of claims) {
    let entry: Uint8Array;
    try {
      entry = encodeClaim(claim);
    } catch (error) {
      if (error instanceof ClaimError) continue;
      throw error;
    }
    if (size + 4 + entry.length > MAX_CLAIMS_BYTES) continue;
    const length = Buffer.alloc(4);
    length.writeUInt32LE(entry.length);
    parts.push(length, entry);
    size += 4 + entry.length;
  }
  return Uint8Array.from(Buffer.concat(parts));
}
