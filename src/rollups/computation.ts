/**
 * Computes rollups (ROL-15..22): finds completed windows that have samples and no row, and writes rows in
 * small transactions, each under the lease of the metric writer. What is there already is read from the table
 * itself, so that it goes on after a restart where it was (ROL-39).
 */
import { METRIC_SCHEMA } from '../stores/metricSchema.js';
import { RetentionDatabase } from '../stores/retentionDatabase.js';
import { isDeltaFunction, ROLLUP_FUNCTIONS, type RollupPair } from './pairs.js';
import { RolledUntil, windowStart } from './rollupRows.js';

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

/** Some windows of one series and pair (ROL-18). */
export interface RollupUnit {
  readonly series: bigint;
  readonly pair: RollupPair;
  /** Start of the first of them, ns. */
  readonly from: bigint;
}

/** Where the search for work stands. */
export interface SearchPlace {
  /** Index into the pairs, which go by priority. */
  readonly pair: number;
  readonly series: bigint;
  /** Null: at the series' beginning. */
  readonly from: bigint | null;
}

export const SEARCH_START: SearchPlace = { pair: 0, series: 0n, from: null };

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
  readonly #nextSeries;
  readonly #nextSample;
  readonly #newestRow;
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
      this.#nextSeries = db
        .prepare('SELECT id FROM series WHERE id >= ? AND type <= ? ORDER BY id LIMIT 1')
        .pluck();
      this.#nextSample = db
        .prepare(
          `SELECT timestamp FROM samples WHERE series_id = ? AND timestamp >= ? AND ${NUMERIC}
           ORDER BY timestamp LIMIT 1`,
        )
        .pluck();
      const ofPair = 'FROM rollups WHERE series_id = ? AND function = ? AND window_seconds = ?';
      this.#newestRow = db.prepare(`SELECT max(window_start) ${ofPair}`).pluck();
      this.#hasRow = db.prepare(`SELECT 1 ${ofPair} AND window_start = ?`).pluck();
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
   * Looks for a window that is completed, has samples and no row (ROL-15), a bounded way further. `whole`:
   * from the first sample of each series on, past rows that were invalidated; else behind its newest row.
   */
  search(
    pairs: readonly RollupPair[],
    place: SearchPlace,
    options: { readonly whole: boolean; readonly nowNs: bigint; readonly limits: ComputationLimits },
  ): SearchStep {
    const { whole, nowNs, limits } = options;
    let at: SearchPlace = place;
    for (let steps = 0; steps < SEARCH_STEPS; ) {
      const pair = pairs[at.pair];
      if (pair === undefined) return { unit: null, next: null };
      const series = this.#nextSeries.get(at.series, isDeltaFunction(pair.function) ? 0n : 1n);
      steps++;
      if (typeof series !== 'bigint') {
        at = { pair: at.pair + 1, series: 0n, from: null };
        continue;
      }
      let from = series === at.series ? at.from : null;
      from ??= this.#beginning(series, pair, whole, { nowNs, limits });
      const found = this.#missing(series, pair, from, { nowNs, limits }, SEARCH_STEPS - steps);
      steps += found.steps;
      if (found.kind === 'window') {
        return {
          unit: { series, pair, from: found.at },
          next: { pair: at.pair, series, from: found.at },
        };
      }
      at =
        found.kind === 'tired'
          ? { pair: at.pair, series, from: found.at }
          : { pair: at.pair, series: series + 1n, from: null };
    }
    return { unit: null, next: at };
  }

  /**
   * One transaction; call it under a lease only.
   *
   * @throws BatchTooLong after rolling back, StoreError or SQLite's error
   */
  compute(unit: RollupUnit, nowNs: bigint, limits: ComputationLimits): UnitResult {
    const result = this.#database.batch(() => this.#compute(unit, nowNs, limits));
    this.#database.checkpointWhenDue(16 * 1024 * 1024);
    return result;
  }

  close(): void {
    this.#database.close();
  }

  #compute({ series, pair, from }: RollupUnit, nowNs: bigint, limits: ComputationLimits): UnitResult {
    const windowNs = BigInt(pair.windowSeconds) * SECOND_NS;
    const id = BigInt(ROLLUP_FUNCTIONS.indexOf(pair.function));
    let at = from;
    let rows = 0;
    let samples = 0;
    let newestEnd: bigint | null = null;
    // A unit waits for its turn meanwhile: what retention has begun to delete, or may, is left alone (ROL-36).
    const beginning = this.#beginning(series, pair, true, { nowNs, limits });
    if (at < beginning) at = beginning;
    const started = performance.now();
    while (samples < UNIT_SAMPLES && performance.now() - started < UNIT_MS) {
      const found = this.#missing(series, pair, at, { nowNs, limits }, SEARCH_STEPS);
      at = found.at;
      if (found.kind !== 'window') break;
      const { count, value } = this.#aggregate(series, pair, at, at + windowNs);
      // Each costs something, whatever it holds.
      samples += count + 1;
      if (value !== null) {
        this.#insert.run(series, id, BigInt(pair.windowSeconds), at, value, BigInt(count));
        rows++;
        newestEnd = at + windowNs;
      }
      at += windowNs;
    }
    if (newestEnd !== null) this.#rolledUntil.raise(newestEnd);
    return { rows, samples, next: at };
  }

  /** Where the windows of a series begin that may have rows. */
  #beginning(
    series: bigint,
    pair: RollupPair,
    whole: boolean,
    { nowNs, limits }: { readonly nowNs: bigint; readonly limits: ComputationLimits },
  ): bigint {
    const windowNs = BigInt(pair.windowSeconds) * SECOND_NS;
    const oldest = oldestStart(windowNs, nowNs, limits);
    if (!whole) {
      const id = BigInt(ROLLUP_FUNCTIONS.indexOf(pair.function));
      const newest: unknown = this.#newestRow.get(series, id, BigInt(pair.windowSeconds));
      if (typeof newest === 'bigint' && newest + windowNs > oldest) return newest + windowNs;
    }
    const first: unknown = this.#nextSample.get(series, -(2n ** 63n));
    if (typeof first !== 'bigint') return oldest;
    // The first window of a series has deltas of which no other sample tells (ROL-22).
    const skipsFirst = isDeltaFunction(pair.function) || limits.sizeLimited;
    const begin = windowStart(first, windowNs) + (skipsFirst ? windowNs : 0n);
    return begin > oldest ? begin : oldest;
  }

  /** The first window from `from` on that has samples and no row, as far as windows are completed (ROL-16). */
  #missing(
    series: bigint,
    pair: RollupPair,
    from: bigint,
    { nowNs, limits }: { readonly nowNs: bigint; readonly limits: ComputationLimits },
    most: number,
  ): { readonly kind: 'window' | 'none' | 'tired'; readonly at: bigint; readonly steps: number } {
    const windowNs = BigInt(pair.windowSeconds) * SECOND_NS;
    const id = BigInt(ROLLUP_FUNCTIONS.indexOf(pair.function));
    const completed = nowNs - limits.completionDelayNs;
    let at = from;
    for (let steps = 1; steps <= Math.max(most, 1); steps++) {
      const next: unknown = this.#nextSample.get(series, at);
      if (typeof next !== 'bigint') return { kind: 'none', at, steps };
      const start = windowStart(next, windowNs);
      if (start + windowNs > completed) return { kind: 'none', at, steps };
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

function finite(value: unknown): number | null {
  return typeof value === 'number' && Number.isFinite(value) ? value : null;
}

/** Windows that start earlier may lose samples, or have (ROL-36). */
function oldestStart(windowNs: bigint, nowNs: bigint, { retentionDays }: ComputationLimits): bigint {
  const cutoff = nowNs - BigInt(retentionDays) * DAY_NS;
  const start = windowStart(cutoff, windowNs);
  return start === cutoff ? start : start + windowNs;
}
