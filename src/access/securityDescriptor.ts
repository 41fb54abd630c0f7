/**
 * Self-relative security descriptors: reading with every bound checked (ACL-63..68), and writing.
 * Unknown ACE types survive byte for byte (ACL-67).
 */
import { SidError, sidLengthAt } from './sid.js';

/** Largest security descriptor in bytes (ACL-64). */
export const MAX_SD_BYTES = 65535;

export const SD_CONTROL = {
  daclPresent: 0x0004,
  saclPresent: 0x0010,
  daclAutoInheritRequested: 0x0100,
  saclAutoInheritRequested: 0x0200,
  daclAutoInherited: 0x0400,
  saclAutoInherited: 0x0800,
  daclProtected: 0x1000,
  saclProtected: 0x2000,
  selfRelative: 0x8000,
} as const;

/** How the body of an ACE type is laid out (ACL-66). */
export type AceShape = 'plain' | 'object' | 'callback' | 'callbackObject' | 'attribute' | 'unknown';

const SHAPES: ReadonlyMap<number, AceShape> = new Map<number, AceShape>([
  ...([0x00, 0x01, 0x02, 0x03, 0x11, 0x13, 0x14] as const).map((type) => [type, 'plain'] as const),
  ...([0x05, 0x06, 0x07, 0x08] as const).map((type) => [type, 'object'] as const),
  ...([0x09, 0x0a, 0x0d, 0x0e] as const).map((type) => [type, 'callback'] as const),
  ...([0x0b, 0x0c, 0x0f, 0x10] as const).map((type) => [type, 'callbackObject'] as const),
  [0x12, 'attribute'],
]);

/** One access control entry. */
export interface Ace {
  readonly type: number;
  readonly flags: number;
  readonly shape: AceShape;
  /** Access mask, unsigned; 0 for unknown types. */
  readonly mask: number;
  /** Object type GUID (mixed-endian), for object shapes that carry one. */
  readonly objectType: Uint8Array | null;
  readonly inheritedObjectType: Uint8Array | null;
  /** Null only for unknown types. */
  readonly sid: Uint8Array | null;
  /** What follows the SID: condition bytes or a claim entry. For unknown types the whole body. */
  readonly extra: Uint8Array;
}

export interface Acl {
  readonly revision: number;
  readonly aces: readonly Ace[];
}

/** A parsed descriptor. A null `dacl` means the present bit is clear: everything is allowed. */
export interface SecurityDescriptor {
  readonly control: number;
  readonly owner: Uint8Array | null;
  readonly group: Uint8Array | null;
  readonly sacl: Acl | null;
  readonly dacl: Acl | null;
}

/** A malformed descriptor. `code` is always `ERR_SD`. */
export class SecurityDescriptorError extends Error {
  readonly code = 'ERR_SD';
  override readonly name = 'SecurityDescriptorError';
}

const HEADER_BYTES = 20;
const ACL_HEADER_BYTES = 8;
/** Bits 21-23, 26-27 and MAXIMUM_ALLOWED have no place in an ACE (ACL-68). */
const FORBIDDEN_MASK_BITS = 0x0ee00000;
const OBJECT_TYPE_PRESENT = 1;
const INHERITED_TYPE_PRESENT = 2;

/** Layout of an ACE type. */
export function aceShape(type: number): AceShape {
  return SHAPES.get(type) ?? 'unknown';
}

function malformed(what: string): never {
  throw new SecurityDescriptorError(`malformed security descriptor: ${what}`);
}

/**
 * Parses a self-relative descriptor. All slices are copies.
 *
 * @throws SecurityDescriptorError for anything ACL-64..66 and ACL-68 reject. A missing owner passes
 * here: whoever checks access must refuse it.
 */
export function parseSecurityDescriptor(bytes: Uint8Array): SecurityDescriptor {
  if (bytes.length < HEADER_BYTES) malformed(`${bytes.length} bytes are less than a header`);
  if (bytes.length > MAX_SD_BYTES) malformed(`${bytes.length} bytes exceed ${MAX_SD_BYTES}`);
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  if (bytes[0] !== 1) malformed(`revision must be 1, found ${bytes[0]}`);
  const control = view.getUint16(2, true);
  if ((control & SD_CONTROL.selfRelative) === 0) malformed('it is not self-relative');
  const saclOffset = view.getUint32(12, true);
  const daclOffset = view.getUint32(16, true);
  if (((control & SD_CONTROL.saclPresent) !== 0) !== (saclOffset !== 0))
    malformed('SACL bit and offset disagree');
  if (((control & SD_CONTROL.daclPresent) !== 0) !== (daclOffset !== 0))
    malformed('DACL bit and offset disagree');

  const parts: { readonly start: number; readonly end: number }[] = [];
  const part = (name: string, offset: number, length: (offset: number) => number): Uint8Array | null => {
    if (offset === 0) return null;
    if (offset < HEADER_BYTES || offset >= bytes.length)
      malformed(`${name} offset ${offset} is out of bounds`);
    const end = offset + length(offset);
    if (parts.some((other) => offset < other.end && other.start < end))
      malformed(`${name} overlaps another part`);
    parts.push({ start: offset, end });
    return bytes.slice(offset, end);
  };
  const sidLength = (offset: number) => guardSid(() => sidLengthAt(bytes, offset, bytes.length));
  const aclLength = (offset: number) => {
    if (offset + ACL_HEADER_BYTES > bytes.length) malformed('an ACL is cut off');
    const size = view.getUint16(offset + 2, true);
    if (size < ACL_HEADER_BYTES || offset + size > bytes.length)
      malformed(`ACL size ${size} is out of bounds`);
    return size;
  };
  const owner = part('owner', view.getUint32(4, true), sidLength);
  const group = part('group', view.getUint32(8, true), sidLength);
  const sacl = part('SACL', saclOffset, aclLength);
  const dacl = part('DACL', daclOffset, aclLength);
  return { control, owner, group, sacl: sacl && parseAcl(sacl), dacl: dacl && parseAcl(dacl) };
}

function guardSid<T>(read: () => T): T {
  try {
    return read();
  } catch (error) {
    if (error instanceof SidError) return malformed(error.message);
    throw error;
  }
}

function parseAcl(bytes: Uint8Array): Acl {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const count = view.getUint16(4, true);
  const aces: Ace[] = [];
  let offset = ACL_HEADER_BYTES;
  for (let index = 0; index < count; index++) {
    if (offset + 4 > bytes.length) malformed(`ACE ${index} is cut off`);
    const size = view.getUint16(offset + 2, true);
    if (size < 4 || size % 4 !== 0 || offset + size > bytes.length)
      malformed(`ACE ${index} has size ${size}`);
    aces.push(parseAce(bytes.slice(offset, offset + size), index));
    offset += size;
  }
  if (offset !== bytes.length) malformed(`${bytes.length - offset} bytes follow the last ACE`);
  return { revision: bytes[0] ?? 0, aces };
}

function parseAce(bytes: Uint8Array, index: number): Ace {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const type = bytes[0] ?? 0;
  const flags = bytes[1] ?? 0;
  const shape = aceShape(type);
  const none = { objectType: null, inheritedObjectType: null };
  if (shape === 'unknown') {
    return { type, flags, shape, mask: 0, ...none, sid: null, extra: bytes.slice(4) };
  }
  if (bytes.length < 16) malformed(`ACE ${index} is too short`);
  const mask = view.getUint32(4, true);
  if ((mask & FORBIDDEN_MASK_BITS) !== 0)
    malformed(`ACE ${index} has reserved mask bits (0x${mask.toString(16)})`);
  let offset = 8;
  const guids: { objectType: Uint8Array | null; inheritedObjectType: Uint8Array | null } = { ...none };
  if (shape === 'object' || shape === 'callbackObject') {
    const present = view.getUint32(8, true);
    offset = 12;
    const guid = () => {
      if (offset + 16 > bytes.length) malformed(`ACE ${index} is too short for its GUIDs`);
      offset += 16;
      return bytes.slice(offset - 16, offset);
    };
    if ((present & OBJECT_TYPE_PRESENT) !== 0) guids.objectType = guid();
    if ((present & INHERITED_TYPE_PRESENT) !== 0) guids.inheritedObjectType = guid();
  }
  const sidEnd = offset + guardSid(() => sidLengthAt(bytes, offset, bytes.length));
  if ((shape === 'plain' || shape === 'object') && sidEnd !== bytes.length) {
    malformed(`ACE ${index} goes on after its SID`);
  }
  return { type, flags, shape, mask, ...guids, sid: bytes.slice(offset, sidEnd), extra: bytes.slice(sidEnd) };
}

/**
 * Writes the self-relative form: header, owner, group, SACL, DACL. Present bits follow the parts
 * that are there; the other control bits are kept.
 *
 * @throws SecurityDescriptorError when the result would exceed 65535 bytes.
 */
export function buildSecurityDescriptor(descriptor: SecurityDescriptor): Uint8Array {
  const parts = [
    { at: 4, bytes: descriptor.owner },
    { at: 8, bytes: descriptor.group },
    { at: 12, bytes: descriptor.sacl && buildAcl(descriptor.sacl) },
    { at: 16, bytes: descriptor.dacl && buildAcl(descriptor.dacl) },
  ];
  const length = parts.reduce((sum, part) => sum + (part.bytes?.length ?? 0), HEADER_BYTES);
  if (length > MAX_SD_BYTES) throw new SecurityDescriptorError(`${length} bytes exceed ${MAX_SD_BYTES}`);
  const result = new Uint8Array(length);
  const view = new DataView(result.buffer);
  const presence = SD_CONTROL.saclPresent | SD_CONTROL.daclPresent;
  result[0] = 1;
  view.setUint16(
    2,
    (descriptor.control & ~presence) |
      SD_CONTROL.selfRelative |
      (descriptor.sacl ? SD_CONTROL.saclPresent : 0) |
      (descriptor.dacl ? SD_CONTROL.daclPresent : 0),
    true,
  );
  let offset = HEADER_BYTES;
  for (const { at, bytes } of parts) {
    if (bytes === null) continue;
    view.setUint32(at, offset, true);
    result.set(bytes, offset);
    offset += bytes.length;
  }
  return result;
}

function buildAcl(acl: Acl): Uint8Array {
  const aces = acl.aces.map(buildAce);
  const size = aces.reduce((sum, ace) => sum + ace.length, ACL_HEADER_BYTES);
  if (size > MAX_SD_BYTES) throw new SecurityDescriptorError(`an ACL of ${size} bytes is too large`);
  const result = new Uint8Array(size);
  const view = new DataView(result.buffer);
  result[0] = acl.revision;
  view.setUint16(2, size, true);
  view.setUint16(4, aces.length, true);
  let offset = ACL_HEADER_BYTES;
  for (const ace of aces) {
    result.set(ace, offset);
    offset += ace.length;
  }
  return result;
}

/** One ACE as it stands in an ACL. */
export function buildAce(ace: Ace): Uint8Array {
  const body: Uint8Array[] = [];
  if (ace.shape !== 'unknown') {
    const present =
      (ace.objectType ? OBJECT_TYPE_PRESENT : 0) | (ace.inheritedObjectType ? INHERITED_TYPE_PRESENT : 0);
    body.push(u32(ace.mask));
    if (ace.shape === 'object' || ace.shape === 'callbackObject') body.push(u32(present));
    for (const bytes of [ace.objectType, ace.inheritedObjectType, ace.sid]) if (bytes) body.push(bytes);
  }
  body.push(ace.extra);
  const length = body.reduce((sum, bytes) => sum + bytes.length, 4);
  const padded = (length + 3) & ~3;
  if (padded > MAX_SD_BYTES) throw new SecurityDescriptorError(`an ACE of ${padded} bytes is too large`);
  const result = new Uint8Array(padded);
  result[0] = ace.type;
  result[1] = ace.flags;
  new DataView(result.buffer).setUint16(2, padded, true);
  let offset = 4;
  for (const bytes of body) {
    result.set(bytes, offset);
    offset += bytes.length;
  }
  return result;
}

function u32(value: number): Uint8Array {
  const bytes = new Uint8Array(4);
  new DataView(bytes.buffer).setUint32(0, value, true);
  return bytes;
}
