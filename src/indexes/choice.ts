/**
 * Decides in one database by which index the rows of a SELECT are found: by counting, a bounded number of
 * index entries, what each way would have to read. SQLite has no figures to go by, and an average would not
 * do: fields have values of one row and values of half the table.
 */
import type { ChosenStatement, IndexChoice, IndexSeek, JobParam, Statement } from '../query/job.js';
import { sqliteCode } from '../stores/storeError.js';
import { existingIndex } from './fields.js';

/** Entries counted of each way, the next number where all ways have more: cheap beside what follows. */
const LEVELS = [1000, 16_000, 256_000] as const;

/** Rows looked at to see whether a search by time ends early: these are read, not only counted. */
const MOST_EARLY_ROWS = 16_000;

/** Ways by a field that are counted beyond the first level; all of them have many rows. */
const MAX_COUNTED_SEEKS = 4;

/** What a row found by a field costs beside one found by time, which needs no sorting; few rows cost nothing. */
const SORTED_ROW = 2;

/** Where every way has very many rows, their order is worth this many times as many. */
const ORDER_FACTOR = 16;

/** A connection to the database. */
export interface Asked {
  prepare(sql: string): { all(...params: unknown[]): unknown[] };
}

/** How the database is asked. */
export interface Asking {
  /** What stands for the parameters of a job's statement. */
  bind(params: readonly JobParam[]): readonly unknown[];
  /** Runs a call into SQLite: one count. */
  execute<Result>(call: () => Result): Result;
}

/**
 * The spelling of the SELECT that suits this database. All of them give the same rows: an index that vanishes
 * meanwhile costs time and nothing else. Each yield, after a count, is a turn for others (QX-67).
 *
 * @throws SQLite's error when it is interrupted
 */
export function* chooseSql(
  database: Asked,
  { sql, choice }: ChosenStatement,
  asking: Asking,
): Generator<void, string, void> {
  if (choice === undefined) return sql;
  try {
    const counter = new Counter(database, asking);
    const seeks = counter.possible(choice.seeks);
    return (seeks.length === 0 ? null : yield* best(counter, choice, seeks)) ?? sql;
  } catch (error) {
    if (sqliteCode(error) === 'SQLITE_INTERRUPT') throw error;
    // A damaged page, perhaps, which the query itself need not come to (FAIL-15).
    return sql;
  }
}

/** The same at once, where nobody waits for a turn. */
export function chosenSql(database: Asked, statement: ChosenStatement, bind: Asking['bind']): string {
  const steps = chooseSql(database, statement, { bind, execute: (call) => call() });
  for (;;) {
    const { done, value } = steps.next();
    if (done === true) return value;
  }
}

/** Null: the SELECT as it is. */
function* best(
  counter: Counter,
  choice: IndexChoice,
  seeks: readonly IndexSeek[],
): Generator<void, string | null, void> {
  let left = seeks;
  for (const level of LEVELS) {
    let fewest = counter.inTime(choice.time, level);
    yield;
    let text: string | null = choice.byTime;
    const most = new Map<IndexSeek, number>();
    for (const seek of left) {
      const rows = yield* counter.found(seek, level);
      if (rows === null) continue;
      most.set(seek, rows);
      const cost = level === LEVELS[0] ? rows : rows * SORTED_ROW;
      if (cost >= fewest) continue;
      fewest = cost;
      text = seek.sql;
    }
    left = [...most.keys()].slice(0, MAX_COUNTED_SEEKS);
    if (fewest < level || left.length === 0) return text;
    if (counter.endsEarly(choice.early, level)) return choice.byTime;
    yield;
  }
  // More than can be counted by each way: by time they come in order, unless those are far more still.
  const [seek] = left;
  const last = LEVELS[LEVELS.length - 1] ?? 0;
  return seek !== undefined && counter.estimateInTime(choice.time) > last * ORDER_FACTOR
    ? seek.sql
    : choice.byTime;
}

class Counter {
  readonly #database: Asked;
  readonly #asking: Asking;
  readonly #indexes = new Map<string, string>();

  constructor(database: Asked, asking: Asking) {
    this.#database = database;
    this.#asking = asking;
  }

  /** Those whose indexes this database has. */
  possible(seeks: readonly IndexSeek[]): IndexSeek[] {
    const rows = this.#rows(
      "SELECT name, sql FROM sqlite_master WHERE type = 'index' AND tbl_name = 'events'",
      [],
    ) as { name: string; sql: string | null }[];
    for (const { name, sql } of rows) {
      const field = existingIndex(name, sql)?.field;
      if (field != null) this.#indexes.set(field, name);
    }
    return seeks.filter(({ parts }) => parts.every(({ field }) => this.#indexes.has(field)));
  }

  /** Rows that a seek would read, up to `most`; null when the index is of no use after all. */
  *found({ parts }: IndexSeek, most: number): Generator<void, number | null, void> {
    let rows = 0;
    for (const { field, condition } of parts) {
      const index = (this.#indexes.get(field) ?? '').replaceAll('"', '""');
      try {
        rows += this.#count(`events INDEXED BY "${index}"`, condition, most - rows);
      } catch (error) {
        // It was dropped a moment ago, or does not answer this condition by itself.
        if (sqliteCode(error) === 'SQLITE_ERROR') return null;
        throw error;
      }
      yield;
      if (rows >= most) return most;
    }
    return rows;
  }

  inTime(time: Statement, most: number): number {
    return this.#count('events', time, most);
  }

  /** By their ids: events come about in the order of their times. */
  estimateInTime({ sql, params }: Statement): number {
    const edge = (order: 'ASC' | 'DESC') => {
      const text = `SELECT id FROM events WHERE ${sql} ORDER BY timestamp ${order} LIMIT 1`;
      const [row] = this.#rows(text, params) as { id: bigint | number }[];
      return Number(row?.id ?? 0);
    };
    return Math.abs(edge('DESC') - edge('ASC'));
  }

  endsEarly(early: IndexChoice['early'], most: number): boolean {
    if (early === null || most > MOST_EARLY_ROWS || early.rows > most) return false;
    const { sql, params } = early.hits;
    return this.#number(`SELECT ifnull(sum(hit), 0) AS n FROM (${sql} LIMIT ?)`, params, most) >= early.rows;
  }

  #count(from: string, { sql, params }: Statement, most: number): number {
    return this.#number(
      `SELECT count(*) AS n FROM (SELECT 1 FROM ${from} WHERE ${sql} LIMIT ?)`,
      params,
      most,
    );
  }

  #number(sql: string, params: readonly JobParam[], most: number): number {
    const [row] = this.#rows(sql, params, BigInt(most)) as { n: bigint | number }[];
    return Number(row?.n ?? 0);
  }

  #rows(sql: string, params: readonly JobParam[], ...more: readonly bigint[]): unknown[] {
    const { bind, execute } = this.#asking;
    return execute(() => this.#database.prepare(sql).all(...bind(params), ...more));
  }
}
