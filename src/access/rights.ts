/** Access rights of eventd's data and the generic mapping passed with every check (ACL-15, CFG-80, CFG-81). */

/** Read records of the pattern; the only right queries and INDEX ask for (ACL-16). */
export const EVENTD_READ = 0x0001;
/** Delete records of the pattern; reserved for later administration. */
export const EVENTD_CLEAR = 0x0002;

export const DELETE = 0x00010000;
export const READ_CONTROL = 0x00020000;
export const WRITE_DAC = 0x00040000;
export const WRITE_OWNER = 0x00080000;
export const SYNCHRONIZE = 0x00100000;
export const ACCESS_SYSTEM_SECURITY = 0x01000000;
export const MAXIMUM_ALLOWED = 0x02000000;
export const GENERIC_ALL = 0x10000000;
export const GENERIC_EXECUTE = 0x20000000;
export const GENERIC_WRITE = 0x40000000;
export const GENERIC_READ = 0x80000000;

/** Bits 21-23 and 26-27 mean nothing and are refused (ACL-68). */
export const RESERVED_BITS = 0x0ce00000;

/** What the four generic rights stand for. */
export interface GenericMapping {
  readonly read: number;
  readonly write: number;
  readonly execute: number;
  readonly all: number;
}

/** eventd's mapping (CFG-81). Read and write overlap in READ_CONTROL. */
export const EVENTD_MAPPING: GenericMapping = {
  read: 0x00020001,
  write: 0x00020002,
  execute: 0x00020001,
  all: 0x000f0003,
};

/** Replaces the generic bits of a mask by what they stand for. Unsigned. */
export function mapGenerics(mask: number, mapping: GenericMapping): number {
  let mapped = mask & 0x0fffffff;
  if ((mask & GENERIC_READ) !== 0) mapped |= mapping.read;
  if ((mask & GENERIC_WRITE) !== 0) mapped |= mapping.write;
  if ((mask & GENERIC_EXECUTE) !== 0) mapped |= mapping.execute;
  if ((mask & GENERIC_ALL) !== 0) mapped |= mapping.all;
  return mapped >>> 0;
}
