/**
 * Records as CSV (RFC 4180): one header line, lines end in CR LF.
 *
 * Columns are those the query names (SELECT, an aggregation, LOGS); where payload fields or labels are in the
 * records, also every key of the first message that holds any. A key that comes later has no column: it is in
 * the last one, `*`, as part of a JSON object, so that nothing is lost without a word.
 *
 * nil is an empty cell, an empty string `""`. `timestamp` is ISO 8601 in UTC with nine digits; other values
 * are written as jsonl writes them, strings without its quotes.
 */
import type { EventRecord } from '../wire/client.js';
import type { MsgpackValue } from '../wire/msgpackReader.js';
import type { KnownColumns } from './columns.js';
import { jsonValue } from './jsonl.js';
import { jsonString, visible } from './terminal.js';
import { timeText } from './valueText.js';

/** The name of the column for what has none; no field of the language can be named so. */
const REST = '*';

export class CsvWriter {
  readonly #known: KnownColumns | null;
  /** Makes a text fit to be shown: nothing in a file, control characters visible on a terminal. */
  readonly #shown: (text: string) => string;
  #columns: readonly string[] | null = null;
  #rest: string | null = null;

  constructor(known: KnownColumns | null, isTerminal: boolean) {
    this.#known = known;
    this.#shown = isTerminal ? visible : (text) => text;
  }

  /** The lines of one result message; the first one with records decides on the columns. */
  message(records: readonly EventRecord[]): string {
    if (records.length === 0) return '';
    const header = this.#columns === null ? this.#begin(records) : '';
    return header + records.map((record) => this.#line(record)).join('');
  }

  /** The header, if there was no record to bring it. */
  end(): string {
    return this.#columns === null ? this.#begin([]) : '';
  }

  #begin(records: readonly EventRecord[]): string {
    const names = new Set(this.#known?.names ?? []);
    const isComplete = this.#known?.complete === true;
    if (!isComplete) for (const { fields } of records) for (const name of fields.keys()) names.add(name);
    this.#columns = [...names];
    if (!isComplete) for (this.#rest = REST; names.has(this.#rest); ) this.#rest += REST;
    const all = this.#rest === null ? this.#columns : [...this.#columns, this.#rest];
    return `${all.map((name) => this.#cell(name)).join(',')}\r\n`;
  }

  #line({ fields }: EventRecord): string {
    const columns = this.#columns ?? [];
    const cells = columns.map((name) => this.#value(name, fields.get(name)));
    if (this.#rest !== null) {
      const rest = [...fields].filter(([name]) => !columns.includes(name));
      const pairs = rest.map(([name, value]) => `${jsonString(name)}:${jsonValue(value)}`);
      cells.push(pairs.length === 0 ? '' : this.#cell(`{${pairs.join(',')}}`));
    }
    return `${cells.join(',')}\r\n`;
  }

  #value(name: string, value: MsgpackValue | undefined): string {
    if (value === undefined || value === null) return '';
    if (typeof value === 'string') return value === '' ? '""' : this.#cell(value);
    if (name === 'timestamp' && typeof value === 'bigint') return timeText(value, false, 9);
    return this.#cell(jsonValue(value));
  }

  #cell(text: string): string {
    const shown = this.#shown(text);
    return /[",\r\n]/.test(shown) || shown !== shown.trim() ? `"${shown.replaceAll('"', '""')}"` : shown;
  }
}
