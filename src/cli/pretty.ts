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
import type { MsgpackValue } from '../wire/msgpackReader.js';
import { displayWidth, jsonString, type Paint, padTo, type Style, visible } from './terminal.js';
import { histogramText, SHORT, sampleParts, shortText, timeText, WHOLE } from './valueText.js';

type Fields = ReadonlyMap<string, MsgpackValue>;

/** Columns that an event line shows in its own places, or leaves to the other formats. */
const HEADER: ReadonlySet<string> = new Set(EVENT_COLUMNS);

/** A column grows with what it shows, up to here. */
const MAX_TYPE_WIDTH = 40;
const MAX_PLACE_WIDTH = 24;
const MAX_SERIES_WIDTH = 60;
/** Lines of one log message that are shown. */
const MAX_LINES = 50;

export interface PrettyOptions {
  readonly paint: Paint;
  /** Local time instead of UTC. */
  readonly local: boolean;
  /** Long values and texts whole. */
  readonly full: boolean;
}

/** Turns records into lines; remembers column widths from one record to the next. */
export class PrettyPrinter {
  #typeWidth = 0;
  #placeWidth = 0;

  constructor(readonly options: PrettyOptions) {}

  /** The lines of one result message, their columns below each other. */
  message(records: readonly EventRecord[]): string {
    for (const { fields } of records) this.#measure(fields);
    return records.map((record) => this.line(record)).join('');
  }

  /** One record as one line, with its line end; a log message of several lines as so many. */
  line(record: EventRecord): string {
    const { fields } = record;
    const timestamp = fields.get('timestamp');
    const type = fields.get('event_type');
    if (typeof timestamp !== 'bigint') return `${this.#pairs(fields, () => true)}\n`;
    const plainTime = timeText(timestamp, this.options.local);
    const time = this.#paint('dim', plainTime);
    if (typeof type !== 'string') {
      const rest =
        this.#log(fields, plainTime.length) ??
        this.#sample(fields) ??
        this.#pairs(fields, (name) => name !== 'timestamp');
      return `${time}  ${rest}\n`;
    }
    if (isSynthetic(fields)) {
      const own = syntheticText(type, fields);
      if (own !== null) return `${time}  ${this.#paint(own.style, `── ${own.text} ──`)}\n`;
    }
    return `${time}  ${this.#event(type, fields)}`.trimEnd().concat('\n');
  }

  /** Lets the columns grow to what a record needs. */
  #measure(fields: Fields): void {
    const [type, origin, message] = ['event_type', 'origin', 'message'].map((name) => fields.get(name));
    if (typeof type === 'string') {
      if (isSynthetic(fields)) return;
      this.#placeWidth = grown(this.#placeWidth, placeText(fields), MAX_PLACE_WIDTH);
      this.#typeWidth = grown(this.#typeWidth, typeText(type), MAX_TYPE_WIDTH);
    } else if (typeof origin === 'string' && typeof message === 'string') {
      this.#typeWidth = grown(this.#typeWidth, visible(origin), MAX_TYPE_WIDTH);
    } else {
      const series = sampleParts(fields)?.series;
      if (series !== undefined) this.#typeWidth = grown(this.#typeWidth, series, MAX_SERIES_WIDTH);
    }
  }

  /**
   * A log record with the fields of a line, the boot aside; `!` marks what came from standard error. Further lines of
   * the message stand below its beginning, behind a bar that the message cannot forge: it is not at a line's start.
   */
  #log(fields: Fields, timeWidth: number): string | null {
    const [origin, message, isError] = ['origin', 'message', 'is_error'].map((name) => fields.get(name));
    if (typeof origin !== 'string' || typeof message !== 'string' || typeof isError !== 'boolean')
      return null;
    const shown = visible(origin);
    this.#typeWidth = grown(this.#typeWidth, shown, MAX_TYPE_WIDTH);
    const head = padTo(shown, this.#typeWidth);
    const indent = ' '.repeat(timeWidth + 2 + displayWidth(head) + 1);
    const lines = message.replace(/\r?\n$/, '').split(/\r?\n/);
    const kept = this.options.full ? lines : lines.slice(0, MAX_LINES);
    const texts = kept.map((line) => visible(line));
    if (kept.length < lines.length) texts.push(`… ${lines.length - kept.length} more lines, see --full`);
    const [first = '', ...others] = texts.map((text) => (isError ? this.#paint('red', text) : text));
    const mark = isError ? this.#paint('red', '!') : ' ';
    const further = others.map((text) => `\n${indent}${this.#paint('dim', '│')} ${text}`);
    return `${this.#paint('bold', head)} ${mark} ${first}${further.join('')}`;
  }

  /** A sample as Prometheus users write it: `name{label="x"}  value`. */
  #sample(fields: Fields): string | null {
    const sample = sampleParts(fields);
    if (sample === null) return null;
    this.#typeWidth = grown(this.#typeWidth, sample.series, MAX_SERIES_WIDTH);
    const series = this.#paint('bold', padTo(sample.series, this.#typeWidth));
    return `${series}  ${histogramText(sample.value) ?? this.#value(sample.value)}`;
  }

  #event(type: string, fields: Fields): string {
    const place = placeText(fields);
    const shownType = typeText(type);
    this.#placeWidth = grown(this.#placeWidth, place, MAX_PLACE_WIDTH);
    this.#typeWidth = grown(this.#typeWidth, shownType, MAX_TYPE_WIDTH);
    const padding = ' '.repeat(Math.max(0, this.#typeWidth - displayWidth(shownType)));
    return [
      this.#paint('dim', padTo(place, this.#placeWidth)),
      this.#paint('bold', shownType) + padding,
      this.#pairs(fields, (name) => !HEADER.has(name)),
    ].join('  ');
  }

  #value(value: MsgpackValue): string {
    return shortText(value, this.options.full ? WHOLE : SHORT);
  }

  #pairs(fields: Fields, wanted: (name: string) => boolean): string {
    const parts: string[] = [];
    for (const [name, value] of fields) {
      if (!wanted(name)) continue;
      const shownName = /^[^\s"={}[\]]+$/u.test(name) ? visible(name) : jsonString(name);
      const shown =
        name === 'timestamp' && typeof value === 'bigint'
          ? timeText(value, this.options.local)
          : this.#value(value);
      parts.push(`${this.#paint('cyan', `${shownName}=`)}${shown}`);
    }
    return parts.join(' ');
  }

  #paint(style: Style, text: string): string {
    return this.options.paint(style, text);
  }
}

/** `cpu/sequence`. */
function placeText(fields: Fields): string {
  const part = (name: string) => shortText(fields.get(name) ?? '-');
  return `${part('cpu_id')}/${part('sequence')}`.replaceAll('"-"', '-');
}

function typeText(type: string): string {
  return /^[^\s"=]+$/u.test(type) ? visible(type) : jsonString(type);
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
    return value === undefined ? '?' : shortText(value);
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

function grown(width: number, text: string, limit: number): number {
  return Math.max(width, Math.min(displayWidth(text), limit));
}
