/** Groups of an aggregation as a table: a header, numbers to the right. */
import type { EventRecord } from '../wire/client.js';
import type { MsgpackValue } from '../wire/msgpackReader.js';
import type { PrettyOptions, PrettyPrinter } from './pretty.js';
import { displayWidth, padTo, visible } from './terminal.js';
import { SHORT, shortText, timeText, WHOLE } from './valueText.js';

/** A column grows with what it shows, up to here. */
const MAX_WIDTH = 60;

interface Column {
  readonly name: string;
  readonly align: 'left' | 'right';
  width: number;
}

export class TablePrinter {
  readonly #names: readonly string[];
  readonly #options: PrettyOptions;
  #columns: readonly Column[] | null = null;

  /** @param names keys of the records */
  constructor(names: readonly string[], options: PrettyOptions) {
    this.#names = names;
    this.#options = options;
  }

  /** The lines of one result message; the first one decides how columns are aligned. */
  message(records: readonly EventRecord[]): string {
    if (records.length === 0) return '';
    const isFirst = this.#columns === null;
    const columns = this.#columns ?? this.#names.map((name) => columnOf(name, records));
    this.#columns = columns;
    const rows = records.map(({ fields }) => columns.map(({ name }) => this.#cell(name, fields.get(name))));
    for (const row of rows)
      for (const [i, column] of columns.entries())
        column.width = Math.max(column.width, Math.min(displayWidth(row[i] ?? ''), MAX_WIDTH));
    const header = isFirst
      ? `${this.#options.paint(
          'bold',
          lineOf(
            columns,
            columns.map(({ name }) => visible(name)),
          ),
        )}\n`
      : '';
    return header + rows.map((row) => `${lineOf(columns, row)}\n`).join('');
  }

  #cell(name: string, value: MsgpackValue | undefined): string {
    if (value === undefined) return '';
    if (name === 'timestamp' && typeof value === 'bigint') return timeText(value, this.#options.local);
    return shortText(value, this.#options.full ? WHOLE : SHORT);
  }
}

/**
 * A stream of groups: they are what it begins with, and an empty message ends them (STR-4). The records
 * that follow are as they were committed (STR-7), so they are lines.
 */
export class StreamedTable {
  readonly #groups: TablePrinter;
  readonly #lines: PrettyPrinter;
  #isOver = false;

  constructor(groups: TablePrinter, lines: PrettyPrinter) {
    this.#groups = groups;
    this.#lines = lines;
  }

  message(records: readonly EventRecord[]): string {
    if (records.length === 0) this.#isOver = true;
    return this.#isOver ? this.#lines.message(records) : this.#groups.message(records);
  }
}

function columnOf(name: string, records: readonly EventRecord[]): Column {
  const isNumeric = records.every(({ fields }) => {
    const value = fields.get(name);
    return value === undefined || value === null || typeof value === 'bigint' || typeof value === 'number';
  });
  const align = isNumeric && name !== 'timestamp' ? 'right' : 'left';
  return { name, align, width: displayWidth(visible(name)) };
}

function lineOf(columns: readonly Column[], cells: readonly string[]): string {
  return columns
    .map(({ width, align }, i) => padTo(cells[i] ?? '', width, align))
    .join('  ')
    .trimEnd();
}
