/**
 * Records for people: one line each, columns aligned.
 *
 * ```
 * 2026-05-01T12:00:01.123456Z  0/124  kacs.access_denied  pid=42 path=/etc/shadow
 * 2026-05-01T12:00:01.123460Z  ── gap cpu 0: 120 events lost (seq 125–244, ring_loss) ──
 * 2026-05-01T12:00:01.123470Z  loregd ! hive is 100% full
 * 2026-05-01T12:00:01.123480Z  cpu.usage{core="0"}  20.5
 * ```
 *
 * A row is taken for one of eventd's own (gap, startup, ...) only when its `sequence` and
 * `origin_class` are present and nil: userspace may emit any type, `synthetic.gap` included.
 */

import { EVENT_COLUMNS } from '../stores/eventColumns.js';
import type { EventRecord } from '../wire/client.js';
import { MsgpackExt, type MsgpackValue } from '../wire/msgpackReader.js';
import { base64 } from './jsonl.js';
import { jsonString, type Paint, type Style, visible } from './terminal.js';

type Fields = ReadonlyMap<string, MsgpackValue>;

/** Columns that an event line shows in its own places, or leaves to the other formats. */
const HEADER: ReadonlySet<string> = new Set(EVENT_COLUMNS);

/** A column grows with what it shows, up to here. */
const MAX_TYPE_WIDTH = 40;
const MAX_PLACE_WIDTH = 24;
const MAX_SERIES_WIDTH = 60;
/** Longest string value and most items of a nested value shown. */
const MAX_STRING = 240;
const MAX_ITEMS = 32;
const MAX_DEPTH = 6;

export interface PrettyOptions {
  readonly paint: Paint;
  /** Local time instead of UTC. */
  readonly local: boolean;
}

/** Turns records into lines; remembers column widths from one record to the next. */
export class PrettyPrinter {
  #typeWidth = 0;
  #placeWidth = 0;

  constructor(readonly options: PrettyOptions) {}

  /** One record as one line, with its line end. */
  line(record: EventRecord): string {
    const { fields } = record;
    const timestamp = fields.get('timestamp');
    const type = fields.get('event_type');
    if (typeof timestamp !== 'bigint') return `${this.#pairs(fields, () => true)}\n`;
    const time = this.#paint('dim', timeText(timestamp, this.options.local));
    if (typeof type !== 'string') {
      const rest =
        this.#log(fields) ?? this.#sample(fields) ?? this.#pairs(fields, (name) => name !== 'timestamp');
      return `${time}  ${rest}\n`;
    }
    if (isSynthetic(fields)) {
      const own = syntheticText(type, fields);
      if (own !== null) return `${time}  ${this.#paint(own.style, `── ${own.text} ──`)}\n`;
    }
    return `${time}  ${this.#event(type, fields)}`.trimEnd().concat('\n');
  }

  /** A log record with the fields of a line, the boot aside; `!` marks what came from standard error. */
  #log(fields: Fields): string | null {
    const [origin, message, isError] = ['origin', 'message', 'is_error'].map((name) => fields.get(name));
    if (typeof origin !== 'string' || typeof message !== 'string' || typeof isError !== 'boolean')
      return null;
    const shown = visible(origin);
    this.#typeWidth = grown(this.#typeWidth, shown, MAX_TYPE_WIDTH);
    const text = isError ? this.#paint('red', `! ${visible(message)}`) : `  ${visible(message)}`;
    return `${this.#paint('bold', shown.padEnd(this.#typeWidth))} ${text}`;
  }

  /** A sample as Prometheus users write it: `name{label="x"}  value`. */
  #sample(fields: Fields): string | null {
    const name = fields.get('name');
    const value = fields.get('value');
    if (typeof name !== 'string' || value === undefined) return null;
    const labels = [...fields].filter(([key]) => key !== 'timestamp' && key !== 'name' && key !== 'value');
    if (labels.some(([, label]) => typeof label !== 'string')) return null;
    const pairs = labels.map(([key, label]) => `${visible(key)}=${jsonString(String(label))}`).join(',');
    const series = `${visible(name)}${pairs === '' ? '' : `{${pairs}}`}`;
    this.#typeWidth = grown(this.#typeWidth, series, MAX_SERIES_WIDTH);
    return `${this.#paint('bold', series.padEnd(this.#typeWidth))}  ${histogramText(value) ?? short(value)}`;
  }

  #event(type: string, fields: Fields): string {
    const cpu = fields.get('cpu_id');
    const sequence = fields.get('sequence');
    const place = `${cpu === undefined || cpu === null ? '-' : short(cpu)}/${
      sequence === undefined || sequence === null ? '-' : short(sequence)
    }`;
    this.#placeWidth = grown(this.#placeWidth, place, MAX_PLACE_WIDTH);
    const shownType = /^[^\s"=]+$/u.test(type) ? visible(type) : jsonString(type);
    this.#typeWidth = grown(this.#typeWidth, shownType, MAX_TYPE_WIDTH);
    const padding = ' '.repeat(Math.max(0, this.#typeWidth - shownType.length));
    return [
      this.#paint('dim', place.padEnd(this.#placeWidth)),
      this.#paint('bold', shownType) + padding,
      this.#pairs(fields, (name) => !HEADER.has(name)),
    ].join('  ');
  }

  #pairs(fields: Fields, wanted: (name: string) => boolean): string {
    const parts: string[] = [];
    for (const [name, value] of fields) {
      if (!wanted(name)) continue;
      const shownName = /^[^\s"={}[\]]+$/u.test(name) ? visible(name) : jsonString(name);
      const shown =
        name === 'timestamp' && typeof value === 'bigint'
          ? timeText(value, this.options.local)
          : short(value);
      parts.push(`${this.#paint('cyan', `${shownName}=`)}${shown}`);
    }
    return parts.join(' ');
  }

  #paint(style: Style, text: string): string {
    return this.options.paint(style, text);
  }
}

/** `31 observed, sum 6.25: 20 ≤ 0.1, 28 ≤ 0.5`, or null for anything that is no histogram (QL-102). */
function histogramText(value: MsgpackValue): string | null {
  if (!(value instanceof Map)) return null;
  const [boundaries, counts, total, sum] = ['boundaries', 'counts', 'total_count', 'sum'].map((key) =>
    value.get(key),
  );
  if (!Array.isArray(boundaries) || !Array.isArray(counts) || total === undefined || sum === undefined)
    return null;
  const buckets = boundaries.map((bound, i) => `${short(counts[i] ?? null)} ≤ ${short(bound)}`);
  return `${short(total)} observed, sum ${short(sum)}${buckets.length === 0 ? '' : `: ${buckets.join(', ')}`}`;
}

/** True only for rows eventd made itself: both columns were asked for and are nil. */
export function isSynthetic(fields: Fields): boolean {
  return fields.get('sequence') === null && fields.get('origin_class') === null;
}

function syntheticText(
  type: string,
  fields: Fields,
): { readonly style: Style; readonly text: string } | null {
  const shown = (name: string) => {
    const value = fields.get(name);
    return value === undefined ? '?' : short(value);
  };
  switch (type) {
    case 'synthetic.gap': {
      const count = fields.get('missing_count');
      const lost = typeof count === 'bigint' ? `${count} ${count === 1n ? 'event' : 'events'}` : 'events';
      const cause = fields.has('cause') ? `, ${shown('cause')}` : '';
      const range = `seq ${shown('first_missing')}–${shown('last_missing')}`;
      return { style: 'red', text: `gap cpu ${shown('cpu_id')}: ${lost} lost (${range}${cause})` };
    }
    case 'synthetic.startup': {
      const kind = fields.get('restart') === true ? 'restart in the same boot' : 'fresh boot';
      return {
        style: 'green',
        text: `eventd started: ${kind}, shards ${shown('shard_count')}, boot ${shown('boot_id')}`,
      };
    }
    case 'synthetic.shutdown':
      return { style: 'yellow', text: `eventd stopped: last sequences ${shown('last_sequences')}` };
    case 'synthetic.config_change':
      return {
        style: 'magenta',
        text: `config ${shown('key_name')}: ${shown('old_value')} → ${shown('new_value')}`,
      };
    case 'synthetic.storage_error': {
      const shard = typeof fields.get('shard_index') === 'bigint' ? ` shard ${shown('shard_index')}` : '';
      return { style: 'red', text: `storage error, ${shown('store_type')} store${shard}: ${shown('error')}` };
    }
    default:
      return null;
  }
}

/** ISO 8601 to the microsecond; the last three digits are noise to a reader and in the other formats. */
export function timeText(ns: bigint, local: boolean): string {
  const micros = ns / 1000n - (ns % 1000n < 0n ? 1n : 0n);
  const ms = Number(micros / 1000n - (micros % 1000n < 0n ? 1n : 0n));
  const date = new Date(ms);
  if (Number.isNaN(date.getTime())) return `${ns}ns`;
  const fraction = String(((micros % 1_000_000n) + 1_000_000n) % 1_000_000n).padStart(6, '0');
  if (!local) return `${date.toISOString().slice(0, -5)}.${fraction}Z`;
  const two = (value: number) => String(value).padStart(2, '0');
  const offset = -date.getTimezoneOffset();
  const zone = `${offset < 0 ? '-' : '+'}${two(Math.trunc(Math.abs(offset) / 60))}:${two(Math.abs(offset) % 60)}`;
  const day = `${date.getFullYear()}-${two(date.getMonth() + 1)}-${two(date.getDate())}`;
  return `${day}T${two(date.getHours())}:${two(date.getMinutes())}:${two(date.getSeconds())}.${fraction}${zone}`;
}

/** One value, compact and safe to print; long ones are cut with an ellipsis. */
export function short(value: MsgpackValue, depth = 0): string {
  if (value === null) return 'null';
  if (typeof value === 'string') return stringText(value);
  if (typeof value === 'number') return Object.is(value, -0) ? '-0' : String(value);
  if (typeof value === 'boolean' || typeof value === 'bigint') return value.toString();
  if (value instanceof Uint8Array) return `bin:${cut(base64(value))}`;
  if (value instanceof MsgpackExt) return `ext${value.type}:${cut(base64(value.data))}`;
  if (depth >= MAX_DEPTH) return '…';
  if (value instanceof Map) {
    const entries: string[] = [];
    for (const [key, item] of value) {
      if (entries.length >= MAX_ITEMS) {
        entries.push('…');
        break;
      }
      entries.push(`${short(key, depth + 1)}=${short(item, depth + 1)}`);
    }
    return `{${entries.join(' ')}}`;
  }
  const items = value as readonly MsgpackValue[];
  const shown = items.slice(0, MAX_ITEMS).map((item) => short(item, depth + 1));
  if (items.length > MAX_ITEMS) shown.push('…');
  return `[${shown.join(' ')}]`;
}

/** Bare where it cannot be taken for anything else, else in JSON quotes. */
function stringText(text: string): string {
  const bare =
    /^[A-Za-z_./{][\w.:/@%+{}-]*$/.test(text) &&
    !/^(?:null|true|false|NaN|Infinity|bin:.*|ext\d.*)$/.test(text);
  return bare && text.length <= MAX_STRING ? text : jsonString(cut(text));
}

function cut(text: string): string {
  if (text.length <= MAX_STRING) return text;
  // Not between the halves of a pair.
  const end = /[\uD800-\uDBFF]/.test(text[MAX_STRING - 1] ?? '') ? MAX_STRING - 1 : MAX_STRING;
  return `${text.slice(0, end)}…`;
}

function grown(width: number, text: string, limit: number): number {
  return Math.max(width, Math.min(text.length, limit));
}
