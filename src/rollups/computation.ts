/**
 * Computes rollups (ROL-15..22): finds completed windows that have samples and no row, and writes rows in
 * small transactions, each under the lease of the metric writer. What is there already is read from the table
 * itself, so that it goes on after a restart where it was (ROL-39).
 */
import { METRIC_SCHEMA } from '../stores/metricSchema.js';
import { RetentionDatabase } from '../stores/retentionDatabase.js';
import { CHECKPOINT_BYTES } from '../stores/walCheckpoint.js';
import { isDeltaFunction, ROLLUP_FUNCTIONS, type RollupPair } from './pairs.js';
import { Reopened, RolledUntil, windowStart } from './rollupRows.js';

const SECOND_NS = 1_000_000_000n;
const DAY_NS = 86_400n * SECOND_NS;

/** Samples after which a unit ends; a window is never cut (ROL-18). */
export const UNIT_SAMPLES = 5000;
/** The same in time, ms, where pages have to come from disk: the writer waits. */
const UNIT_MS = 40;
/** Steps in an index after which the search for work lets others have a turn: a few ms. */
const SEARCH_STEPS = 2000;

/** What bears on which windows may be rolled up. */
export interface ComputationLimits {
  /** How long after its end a window counts as completed, ns (ROL-19). */
  readonly completionDelayNs: bigint;
  readonly retentionDays: number;
  /** Retention also goes by size: the first window of a series may have lost samples already. */
  readonly sizeLimited: boolean;
}

/** What tells which windows are completed, and kept. */
export interface Moment {
  readonly nowNs: bigint;
  readonly limits: ComputationLimits;
}

/** Some windows of one series and pair (ROL-18). */
export interface RollupUnit {
  readonly series: bigint;
  readonly pair: RollupPair;
  /** Start of the first of them, ns. */
  readonly from: bigint;
  /** The first and no other: together they took too long. */
  readonly alone: boolean;
}

/** Where the search through all series stands. */
export interface SearchPlace {
  readonly series: bigint;
  /** Null: at the series' beginning. */
  readonly from: bigint | null;
}

export const SEARCH_START: SearchPlace = { series: 0n, from: null };

/** What one step of the search has brought. */
export interface SearchStep {
  readonly unit: RollupUnit | null;
  /** Null: the search is over. */
  readonly next: SearchPlace | null;
}

/** What a unit has stored. */
export interface UnitResult {
  readonly rows: number;
  readonly samples: number;
  /** Everything of the series up to here is done, ns. */
  readonly next: bigint;
}

/** Sum that keeps what rounding took from it (Neumaier), as the computation of queries does. */
class PreciseSum {
  #sum = 0;
  #rest = 0;

  add(value: number): void {
    const sum = this.#sum + value;
    this.#rest += Math.abs(this.#sum) >= Math.abs(value) ? this.#sum - sum + value : value - sum + this.#sum;
    this.#sum = sum;
  }

  get value(): number {
    return Number.isFinite(this.#sum) ? this.#sum + this.#rest : this.#sum;
  }
}

const NUMERIC = "typeof(value) IN ('real', 'integer')";
const IN_WINDOW = `series_id = ? AND timestamp >= ? AND timestamp < ? AND ${NUMERIC}`;

/** The aggregate of a window in SQL; SQLite's sums are compensated, too. */
const FOLDS = { avg: 'total(value) / count(*)', min: 'min(value)', max: 'max(value)', sum: 'total(value)' };

export class RollupComputation {
  readonly #database: RetentionDatabase;
  readonly #rolledUntil: RolledUntil;
  readonly #reopened: Reopened;
  readonly #nextSeries;
  readonly #type;
  readonly #nextSample;
  readonly #hasRow;
  readonly #before;
  readonly #values;
  readonly #folds;
  readonly #insert;

  /** @throws StoreError when the file is not there or must not be written */
  constructor(file: string) {
    this.#database = new RetentionDatabase(file, METRIC_SCHEMA);
    try {
      const { db } = this.#database;
      this.#rolledUntil = new RolledUntil(db);
      this.#reopened = new Reopened(db);
      this.#nextSeries = db
        .prepare('SELECT id FROM series WHERE id >= ? AND type <= ? ORDER BY id LIMIT 1')
        .pluck();
      this.#type = db.prepare('SELECT type FROM series WHERE id = ?').pluck();
      this.#nextSample = db
        .prepare(
          `SELECT timestamp FROM samples WHERE series_id = ? AND timestamp >= ? AND ${NUMERIC}
           ORDER BY timestamp LIMIT 1`,
        )
        .pluck();
      this.#hasRow = db
        .prepare(
          `SELECT 1 FROM rollups
           WHERE series_id = ? AND function = ? AND window_seconds = ? AND window_start = ?`,
        )
        .pluck();
      this.#before = db
        .prepare(
          `SELECT value FROM samples WHERE series_id = ? AND timestamp < ? AND ${NUMERIC}
           ORDER BY timestamp DESC, rowid DESC LIMIT 1`,
        )
        .pluck();
      this.#values = db
        .prepare(`SELECT value FROM samples WHERE ${IN_WINDOW} ORDER BY timestamp, rowid`)
        .pluck();
      const fold = (sql: string) =>
        db.prepare(`SELECT count(*), ${sql} FROM samples WHERE ${IN_WINDOW}`).raw();
      this.#folds = {
        avg: fold(FOLDS.avg),
        min: fold(FOLDS.min),
        max: fold(FOLDS.max),
        sum: fold(FOLDS.sum),
      };
      this.#insert = db.prepare(
        `INSERT OR REPLACE INTO rollups (series_id, function, window_seconds, window_start, value, sample_count)
         VALUES (?, ?, ?, ?, ?, ?)`,
      );
    } catch (error) {
      this.#database.close();
      throw error;
    }
  }

  /**
   * Looks for a window of the pair that is completed, has samples and no row (ROL-15), a bounded way further.
   *
   * @param since ns: windows that end before it need no look; null: there may be some in all of the past
   */
  search(pair: RollupPair, place: SearchPlace, since: bigint | null, moment: Moment): SearchStep {
    let at: SearchPlace = place;
    for (let steps = 0; steps < SEARCH_STEPS; ) {
      const series = this.#nextSeries.get(at.series, lastType(pair));
      steps++;
      if (typeof series !== 'bigint') return { unit: null, next: null };
      const from = (series === at.series ? at.from : null) ?? this.#beginning(series, pair, since, moment);
      const found = this.#missing(series, pair, from, moment, SEARCH_STEPS - steps);
      steps += found.steps;
      if (found.kind === 'window') {
        return { unit: { series, pair, from: found.at, alone: false }, next: { series, from: found.at } };
      }
      at = found.kind === 'tired' ? { series, from: found.at } : { series: series + 1n, from: null };
    }
    return { unit: null, next: at };
  }

  /** No window that ends behind it was looked at by `compute`; null: none was at all. Samples before it are late. */
  lookedUntil(): bigint | null {
    return this.#rolledUntil.read();
  }

  /** Whether samples have come late since `takeReopened`. */
  hasReopened(): boolean {
    return this.#reopened.read() !== null;
  }

  /**
   * One transaction; call it under a lease only.
   *
   * @returns the oldest sample that came late since it was asked last, ns; null when there was none
   * @throws BatchTooLong after rolling back, StoreError or SQLite's error
   */
  takeReopened(): bigint | null {
    return this.#database.batch(() => {
      const at = this.#reopened.read();
      this.#reopened.clear();
      return at;
    });
  }

  /**
   * One transaction; call it under a lease only.
   *
   * @throws BatchTooLong after rolling back, StoreError or SQLite's error
   */
  compute(unit: RollupUnit, moment: Moment): UnitResult {
    const result = this.#database.batch(() => this.#compute(unit, moment));
    this.#database.checkpointWhenDue(CHECKPOINT_BYTES);
    return result;
  }

  close(): void {
    this.#database.close();
  }

  #compute({ series, pair, from, alone }: RollupUnit, moment: Moment): UnitResult {
    const windowNs = windowOf(pair);
    const id = BigInt(ROLLUP_FUNCTIONS.indexOf(pair.function));
    // A unit waits for its turn meanwhile: retention may have deleted the series, and another have its id now.
    const type: unknown = this.#type.get(series);
    if (typeof type !== 'bigint' || type > lastType(pair)) return { rows: 0, samples: 0, next: from };
    // What it has begun to delete, or may, is left alone (ROL-36).
    let at = this.#beginning(series, pair, from, moment);
    let rows = 0;
    let samples = 0;
    let lookedUntil: bigint | null = null;
    const started = performance.now();
    const most = alone ? 1 : UNIT_SAMPLES;
    while (samples < most && performance.now() - started < UNIT_MS) {
      const found = this.#missing(series, pair, at, moment, SEARCH_STEPS);
      at = found.at;
      if (found.kind !== 'window') break;
      const { count, value } = this.#aggregate(series, pair, at, at + windowNs);
      // Each costs something, whatever it holds.
      samples += count + 1;
      if (value !== null) {
        this.#insert.run(series, id, BigInt(pair.windowSeconds), at, value, BigInt(count));
        rows++;
      }
      at += windowNs;
      lookedUntil = at;
    }
    if (lookedUntil !== null) this.#rolledUntil.raise(lookedUntil);
    return { rows, samples, next: at };
  }

  /** Where the windows of a series begin that may have rows, from the one on that holds `since`. */
  #beginning(series: bigint, pair: RollupPair, since: bigint | null, { nowNs, limits }: Moment): bigint {
    const windowNs = windowOf(pair);
    const oldest = oldestStart(windowNs, nowNs, limits);
    const begin = since === null ? oldest : later(windowStart(since, windowNs), oldest);
    const first: unknown = this.#nextSample.get(series, -(2n ** 63n));
    if (typeof first !== 'bigint') return begin;
    // The first window of a series has deltas of which no other sample tells (ROL-22).
    const skipsFirst = isDeltaFunction(pair.function) || limits.sizeLimited;
    return later(windowStart(first, windowNs) + (skipsFirst ? windowNs : 0n), begin);
  }

  /** The first window from the one at `from` on that has samples and no row, as far as they are completed (ROL-16). */
  #missing(
    series: bigint,
    pair: RollupPair,
    from: bigint,
    moment: Moment,
    most: number,
  ): { readonly kind: 'window' | 'none' | 'tired'; readonly at: bigint; readonly steps: number } {
    const windowNs = windowOf(pair);
    const id = BigInt(ROLLUP_FUNCTIONS.indexOf(pair.function));
    const end = completedEnd(pair, moment);
    let at = from;
    for (let steps = 1; steps <= Math.max(most, 1); steps++) {
      // Nor has a sample from the end of all time a window behind it that could be asked for.
      if (at >= end) return { kind: 'none', at, steps };
      const next: unknown = this.#nextSample.get(series, at);
      if (typeof next !== 'bigint' || next >= end) return { kind: 'none', at, steps };
      const start = windowStart(next, windowNs);
      if (this.#hasRow.get(series, id, BigInt(pair.windowSeconds), start) === undefined) {
        return { kind: 'window', at: start, steps };
      }
      at = start + windowNs;
    }
    return { kind: 'tired', at, steps: most };
  }

  /** Null where there is no finite result: such a window stays with its samples. */
  #aggregate(
    series: bigint,
    pair: RollupPair,
    start: bigint,
    end: bigint,
  ): { readonly count: number; readonly value: number | null } {
    const { function: name } = pair;
    if (name === 'rate' || name === 'delta') return this.#deltas(series, start, end);
    const [count, value] = this.#folds[name].get(series, start, end) as [bigint, unknown];
    return { count: Number(count), value: finite(value) };
  }

  /** The sum of adjusted deltas (ROL-20..22). */
  #deltas(
    series: bigint,
    start: bigint,
    end: bigint,
  ): { readonly count: number; readonly value: number | null } {
    const before: unknown = this.#before.get(series, start);
    const sum = new PreciseSum();
    let count = 0;
    let last = typeof before === 'number' ? before : null;
    for (const value of this.#values.iterate(series, start, end) as IterableIterator<number>) {
      if (last !== null) sum.add(value < last ? value : value - last);
      last = value;
      count++;
    }
    return { count, value: typeof before === 'number' ? finite(sum.value) : null };
  }
}

/** The type of the highest id of which the pair makes rows (ROL-5). */
function lastType({ function: name }: RollupPair): bigint {
  return isDeltaFunction(name) ? 0n : 1n;
}

function finite(value: unknown): number | null {
  return typeof value === 'number' && Number.isFinite(value) ? value : null;
}

/** Up to here the windows of a pair are completed (ROL-19): the end of the last of them, ns. */
export function completedEnd(pair: RollupPair, { nowNs, limits }: Moment): bigint {
  return windowStart(nowNs - limits.completionDelayNs, windowOf(pair));
}

function windowOf({ windowSeconds }: RollupPair): bigint {
  return BigInt(windowSeconds) * SECOND_NS;
}

function later(a: bigint, b: bigint): bigint {
  return a > b ? a : b;
}

/** Windows that start earlier may lose samples, or have (ROL-36). */
function oldestStart(windowNs: bigint, nowNs: bigint, { retentionDays }: ComputationLimits): bigint {
  const cutoff = nowNs - BigInt(retentionDays) * DAY_NS;
  const start = windowStart(cutoff, windowNs);
  return start === cutoff ? start : start + windowNs;
}
