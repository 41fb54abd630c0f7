import { isUtf8 } from 'node:buffer';

/** One record of /dev/kmsg, decoded. */
export interface KmsgRecord {
  /** facility * 8 + level. */
  readonly priority: number;
  readonly facility: number;
  /** Syslog level, 0 emergency to 7 debug. */
  readonly level: number;
  /** The kernel's 64-bit record number; exact below 2^53. */
  readonly sequence: number;
  /** Microseconds after boot. */
  readonly monotonicUs: number;
  /** True for a piece of a line that was printed in several calls. */
  readonly continuation: boolean;
  /** `T<tid>` or `C<cpu>`, where the kernel is built to tell. */
  readonly caller: string | null;
  readonly message: string;
  /** Dictionary fields such as SUBSYSTEM and DEVICE, in their order. */
  readonly fields: readonly (readonly [string, string])[];
}

/** Most dictionary fields taken from one record; the rest are left out. */
const MAX_FIELDS = 64;
const MAX_FIELD_NAME = 64;
const NEWLINE = 0x0a;
const SEMICOLON = 0x3b;
const SPACE = 0x20;
const EQUALS = 0x3d;
const BACKSLASH = 0x5c;
const LETTER_X = 0x78;

const lossy = new TextDecoder('utf-8');

/**
 * Parses what one read(2) of /dev/kmsg returned:
 *
 *     6,339,5140900,-,caller=T1;NET: Registered protocol family 10
 *      SUBSYSTEM=acpi
 *      DEVICE=+acpi:PNP0A03:00
 *
 * Bytes the kernel escaped as `\xNN` are restored. Null when the record has no valid prefix.
 */
export function parseKmsgRecord(record: Uint8Array): KmsgRecord | null {
  const semicolon = record.indexOf(SEMICOLON);
  if (semicolon < 0) return null;
  const prefix = Buffer.from(record.buffer, record.byteOffset, semicolon).toString('latin1').split(',');
  const priority = unsigned(prefix[0]);
  const sequence = unsigned(prefix[1]);
  const monotonicUs = unsigned(prefix[2]);
  if (priority === null || sequence === null || monotonicUs === null) return null;
  const lines = splitLines(record.subarray(semicolon + 1));
  const flags = prefix[3] ?? '-';
  return {
    priority,
    facility: Math.floor(priority / 8),
    level: priority % 8,
    sequence,
    monotonicUs,
    continuation: flags.includes('c') || flags.includes('+'),
    caller: callerOf(prefix.slice(4)),
    message: decodeText(unescapeBytes(lines[0] ?? new Uint8Array(0))),
    fields: dictionary(lines.slice(1)),
  };
}

/** The msgpack-ready payload of a `linux.kmsg` event. Dictionary fields never replace a name of ours. */
export function kmsgPayload(record: KmsgRecord): Readonly<Record<string, unknown>> {
  const own: Record<string, unknown> = {
    priority: record.priority,
    facility: record.facility,
    level: record.level,
    sequence: record.sequence,
    monotonic_us: record.monotonicUs,
  };
  if (record.caller !== null) own.caller = record.caller;
  if (record.continuation) own.continuation = true;
  own.message = record.message;
  // Entries, not assignment: a field called __proto__ must stay a field.
  const fields = record.fields.filter(([name]) => !Object.hasOwn(own, name));
  return Object.fromEntries([...Object.entries(own), ...fields]);
}

function unsigned(text: string | undefined): number | null {
  if (text === undefined || !/^[0-9]{1,20}$/.test(text)) return null;
  const value = Number(text);
  return Number.isSafeInteger(value) ? value : null;
}

function callerOf(extras: readonly string[]): string | null {
  // The kernel may append more comma-separated values; unknown ones are skipped.
  const found = extras.find((extra) => extra.startsWith('caller='));
  return found === undefined ? null : found.slice('caller='.length, MAX_FIELD_NAME);
}

function splitLines(bytes: Uint8Array): Uint8Array[] {
  const lines: Uint8Array[] = [];
  for (let start = 0; start < bytes.length; ) {
    const end = bytes.indexOf(NEWLINE, start);
    lines.push(bytes.subarray(start, end < 0 ? bytes.length : end));
    start = end < 0 ? bytes.length : end + 1;
  }
  return lines;
}

function dictionary(lines: readonly Uint8Array[]): [string, string][] {
  const fields: [string, string][] = [];
  for (const line of lines) {
    const equals = line.indexOf(EQUALS);
    if (line[0] !== SPACE || equals < 2 || equals - 1 > MAX_FIELD_NAME) continue;
    if (fields.length === MAX_FIELDS) break;
    fields.push([
      decodeText(unescapeBytes(line.subarray(1, equals))),
      decodeText(unescapeBytes(line.subarray(equals + 1))),
    ]);
  }
  return fields;
}

/** Restores `\xNN`; anything else after a backslash stays as it is. */
function unescapeBytes(bytes: Uint8Array): Uint8Array {
  if (!bytes.includes(BACKSLASH)) return bytes;
  const out = new Uint8Array(bytes.length);
  let length = 0;
  for (let at = 0; at < bytes.length; ) {
    const escaped = bytes[at] === BACKSLASH && bytes[at + 1] === LETTER_X ? hexPair(bytes, at + 2) : null;
    out[length] = escaped ?? bytes[at] ?? 0;
    length += 1;
    at += escaped === null ? 1 : 4;
  }
  return out.subarray(0, length);
}

function hexPair(bytes: Uint8Array, at: number): number | null {
  const pair = String.fromCharCode(bytes[at] ?? 0, bytes[at + 1] ?? 0);
  return /^[0-9a-fA-F]{2}$/.test(pair) ? Number.parseInt(pair, 16) : null;
}

function decodeText(bytes: Uint8Array): string {
  return isUtf8(bytes) ? Buffer.from(bytes).toString('utf8') : lossy.decode(bytes);
}
