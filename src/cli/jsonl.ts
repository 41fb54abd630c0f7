/**
 * Records as JSON lines, without loss: integers keep all digits, floats keep a fraction or exponent
 * (`1.0`), and what JSON cannot say is written as an object with one `$` key:
 *
 * - binary `{"$bin": "<base64>"}`, extension `{"$ext": <type>, "$bin": "<base64>"}`
 * - NaN and infinities `{"$float": "NaN" | "Infinity" | "-Infinity"}`
 *
 * A key of a nested map that is no string is a `$` and its JSON text (`"$1"`, `"$1.0"`, `"$[true]"`), and one
 * that begins with `$` gets a second `$`: so no two keys are alike, and these objects cannot be forged.
 */
import type { EventRecord } from '../wire/client.js';
import { MsgpackExt, type MsgpackValue } from '../wire/msgpackReader.js';
import { jsonString } from './terminal.js';

/** One record as one line, with its line end. */
export function jsonLine(record: EventRecord): string {
  const fields: string[] = [];
  for (const [name, value] of record.fields) fields.push(`${jsonString(name)}:${jsonValue(value)}`);
  return `{${fields.join(',')}}\n`;
}

/** One value as JSON text. */
export function jsonValue(value: MsgpackValue): string {
  if (value === null) return 'null';
  if (typeof value === 'boolean' || typeof value === 'bigint') return value.toString();
  if (typeof value === 'number') return floatText(value);
  if (typeof value === 'string') return jsonString(value);
  if (value instanceof Uint8Array) return `{"$bin":"${base64(value)}"}`;
  if (value instanceof MsgpackExt) return `{"$ext":${value.type},"$bin":"${base64(value.data)}"}`;
  if (value instanceof Map) {
    const entries: string[] = [];
    for (const [key, item] of value) entries.push(`${jsonString(keyText(key))}:${jsonValue(item)}`);
    return `{${entries.join(',')}}`;
  }
  return `[${(value as readonly MsgpackValue[]).map(jsonValue).join(',')}]`;
}

function floatText(value: number): string {
  if (!Number.isFinite(value)) return `{"$float":"${value}"}`;
  if (Object.is(value, -0)) return '-0.0';
  const text = String(value);
  return /^-?\d+$/.test(text) ? `${text}.0` : text;
}

/** JSON keys are strings. No JSON text begins with `$`, nor with what follows it in `$bin`, `$ext` and `$float`. */
function keyText(key: MsgpackValue): string {
  if (typeof key !== 'string') return `$${jsonValue(key)}`;
  return key.startsWith('$') ? `$${key}` : key;
}

export function base64(bytes: Uint8Array): string {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString('base64');
}
