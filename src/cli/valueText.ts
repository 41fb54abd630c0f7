/** Single values as text for people: short, and safe to print on a terminal. */
import { MAX_VALUE_DEPTH, MsgpackExt, type MsgpackValue } from '../wire/msgpackReader.js';
import { base64 } from './jsonl.js';
import { jsonString, visible } from './terminal.js';

/** How much of a value is shown. */
export interface ValueLimits {
  /** Characters of a string. */
  readonly string: number;
  /** Items of a nested value. */
  readonly items: number;
  readonly depth: number;
}

/** One record stays one line that can be read. */
export const SHORT: ValueLimits = { string: 240, items: 32, depth: 6 };
/** All of it. The depth is that of the reader: what it takes is shown. */
export const WHOLE: ValueLimits = {
  string: Number.POSITIVE_INFINITY,
  items: Number.POSITIVE_INFINITY,
  depth: MAX_VALUE_DEPTH,
};

/**
 * ISO 8601.
 * @param digits of the second's fraction, 6 or 9. Nanoseconds are noise to a reader, and in the other formats.
 */
export function timeText(ns: bigint, local: boolean, digits: 6 | 9 = 6): string {
  const ms = Number(floorDivide(ns, 1_000_000n));
  const date = new Date(ms);
  if (Number.isNaN(date.getTime())) return `${ns}ns`;
  const inSecond = ns - floorDivide(ns, 1_000_000_000n) * 1_000_000_000n;
  const fraction = String(inSecond).padStart(9, '0').slice(0, digits);
  if (!local) return `${date.toISOString().slice(0, -5)}.${fraction}Z`;
  const two = (value: number) => String(value).padStart(2, '0');
  const offset = -date.getTimezoneOffset();
  const zone = `${offset < 0 ? '-' : '+'}${two(Math.trunc(Math.abs(offset) / 60))}:${two(Math.abs(offset) % 60)}`;
  const day = `${date.getFullYear()}-${two(date.getMonth() + 1)}-${two(date.getDate())}`;
  return `${day}T${two(date.getHours())}:${two(date.getMinutes())}:${two(date.getSeconds())}.${fraction}${zone}`;
}

function floorDivide(value: bigint, by: bigint): bigint {
  return value / by - (value % by < 0n ? 1n : 0n);
}

/** One value, compact and safe to print; what exceeds the limits is cut with an ellipsis. */
export function shortText(value: MsgpackValue, limits: ValueLimits = SHORT, depth = 0): string {
  if (value === null) return 'null';
  if (typeof value === 'string') return stringText(value, limits);
  if (typeof value === 'number') return Object.is(value, -0) ? '-0' : String(value);
  if (typeof value === 'boolean' || typeof value === 'bigint') return value.toString();
  if (value instanceof Uint8Array) return `bin:${cut(base64(value), limits)}`;
  if (value instanceof MsgpackExt) return `ext${value.type}:${cut(base64(value.data), limits)}`;
  if (depth >= limits.depth) return '…';
  const inner = (item: MsgpackValue) => shortText(item, limits, depth + 1);
  const shown: string[] = [];
  if (value instanceof Map) {
    for (const [key, item] of value) {
      if (shown.length >= limits.items) return `{${shown.join(' ')} …}`;
      shown.push(`${inner(key)}=${inner(item)}`);
    }
    return `{${shown.join(' ')}}`;
  }
  const items = value as readonly MsgpackValue[];
  for (const item of items.slice(0, limits.items)) shown.push(inner(item));
  if (items.length > limits.items) shown.push('…');
  return `[${shown.join(' ')}]`;
}

/** Bare where it cannot be taken for anything else, else in JSON quotes. */
function stringText(text: string, limits: ValueLimits): string {
  const bare =
    /^[A-Za-z_./{][\w.:/@%+{}-]*$/.test(text) &&
    !/^(?:null|true|false|NaN|Infinity|bin:.*|ext\d.*)$/.test(text);
  return bare && text.length <= limits.string ? text : jsonString(cut(text, limits));
}

function cut(text: string, { string: limit }: ValueLimits): string {
  if (text.length <= limit) return text;
  // Not between the halves of a pair.
  const end = /[\uD800-\uDBFF]/.test(text[limit - 1] ?? '') ? limit - 1 : limit;
  return `${text.slice(0, end)}…`;
}

/** `31 observed, sum 6.25: 20 ≤ 0.1, 28 ≤ 0.5`, or null for anything that is no histogram (QL-102). */
export function histogramText(value: MsgpackValue): string | null {
  if (!(value instanceof Map)) return null;
  const [boundaries, counts, total, sum] = ['boundaries', 'counts', 'total_count', 'sum'].map((key) =>
    value.get(key),
  );
  if (!Array.isArray(boundaries) || !Array.isArray(counts) || total === undefined || sum === undefined)
    return null;
  const buckets = boundaries.map((bound, i) => `${shortText(counts[i] ?? null)} ≤ ${shortText(bound)}`);
  return `${shortText(total)} observed, sum ${shortText(sum)}${buckets.length === 0 ? '' : `: ${buckets.join(', ')}`}`;
}

/** `name{label="x"}` and the value of a sample's record; null for any other record. */
export function sampleParts(
  fields: ReadonlyMap<string, MsgpackValue>,
): { readonly series: string; readonly value: MsgpackValue } | null {
  const name = fields.get('name');
  const value = fields.get('value');
  if (typeof name !== 'string' || value === undefined) return null;
  const labels = [...fields].filter(([key]) => key !== 'timestamp' && key !== 'name' && key !== 'value');
  if (labels.some(([, label]) => typeof label !== 'string')) return null;
  const pairs = labels.map(([key, label]) => `${visible(key)}=${jsonString(String(label))}`).join(',');
  return { series: `${visible(name)}${pairs === '' ? '' : `{${pairs}}`}`, value };
}
