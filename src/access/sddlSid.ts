import { SddlError } from './sddlError.js';
import { parseSid, SID_ALIASES, SidError } from './sid.js';

/**
 * Reads a SID inside SDDL: a two-letter alias or `S-1-...`.
 *
 * @throws SddlError at `offset`.
 */
export function readSid(text: string, offset: number): { readonly sid: Uint8Array; readonly end: number } {
  const long = /^S-1-(?:0x[0-9a-f]{12}|[0-9]+)(?:-[0-9]+)*/i.exec(text.slice(offset, offset + 256));
  const found = long?.[0] ?? text.slice(offset, offset + 2);
  const canonical = long ? found : SID_ALIASES.get(found);
  if (canonical === undefined) throw new SddlError(`unknown SID "${found}"`, offset);
  try {
    return { sid: parseSid(canonical), end: offset + found.length };
  } catch (error) {
    if (error instanceof SidError) throw new SddlError(error.message, offset);
    throw error;
  }
}
