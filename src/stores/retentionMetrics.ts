/**
 * The metric store under retention: samples have no index on their time alone, so they are found series
 * by series; rollups go before the samples they were made of (ROL-35, ROL-36), series with their last
 * sample (MET-62, MET-64).
 */
import { METRIC_SCHEMA } from './metricSchema.js';
import type { RetentionDatabase } from './retentionDatabase.js';
import type { Probe } from './retentionLimits.js';
import { OldRollups } from './retentionRollups.js';
import { opened, probesOf, type RetentionTable } from './retentionTables.js';
import { countDeletions } from './seriesMark.js';

/** Series that one transaction looks at: each costs a step in an index, under the lease. */
const SERIES_PER_BATCH = 256;

/** The last of the next series that a batch may look at. Parameters: first of them, their number. */
const LAST_OF_SERIES = 'SELECT max(id) FROM (SELECT id FROM series WHERE id >= ? ORDER BY id LIMIT ?)';

/**
 * A sample's share of its series, which goes with the last of them: the row and three indexes. Where samples are
 * few the series weighs more than they do; where they are many nobody counts them all.
 */
const BYTES_OF_SERIES = `SELECT (70 + 3 * length(CAST(name AS BLOB)) + 2 * length(CAST(labels AS BLOB)))
    / (SELECT count(*) FROM (SELECT 1 FROM samples AS own WHERE own.series_id = series.id LIMIT 64))
  FROM series WHERE series.id = samples.series_id`;

/** @throws StoreError */
export function openMetricTable(file: string): MetricTable {
  return opened(file, METRIC_SCHEMA, (database) => new MetricTable(database));
}

export class MetricTable implements RetentionTable {
  readonly #samples: OldSamples;
  readonly #rollups: OldRollups;
  readonly #lastOfSeries;
  readonly #nextEmpty;
  readonly #isEmpty;
  readonly #deleteRollups;
  readonly #deleteSeries;
  /** Series below it are known to have samples, or to be gone. */
  #empty = 0n;

  constructor(readonly database: RetentionDatabase) {
    const { db } = database;
    this.#samples = new OldSamples(database);
    this.#rollups = new OldRollups(database);
    this.#lastOfSeries = db.prepare(LAST_OF_SERIES).pluck();
    const isEmpty = 'NOT EXISTS (SELECT 1 FROM samples WHERE samples.series_id = series.id)';
    this.#nextEmpty = db
      .prepare(`SELECT id FROM series WHERE id >= ? AND ${isEmpty} ORDER BY id LIMIT 1`)
      .pluck();
    this.#isEmpty = db
      .prepare(`SELECT id FROM series WHERE id BETWEEN ? AND ? AND ${isEmpty} ORDER BY id LIMIT ?`)
      .pluck();
    this.#deleteRollups = db.prepare(
      'DELETE FROM rollups WHERE id IN (SELECT id FROM rollups WHERE series_id = ? LIMIT ?)',
    );
    this.#deleteSeries = db.prepare('DELETE FROM series WHERE id = ?');
  }

  hasUpTo(cutoff: bigint): boolean {
    return this.#samples.hasUpTo(cutoff) || this.#rollups.hasUpTo(cutoff);
  }

  /**
   * No rollup may outlive a sample it was made of, and new ones are made while the sweep goes on: a batch
   * takes those of its series first, and samples only when none is left. Rows whose samples are gone
   * already come last. Only samples count.
   */
  deleteUpTo(cutoff: bigint, maxRows: number): number {
    if (!this.#samples.hasUpTo(cutoff)) {
      this.#rollups.deleteFound(maxRows);
      return 0;
    }
    const series = this.#samples.seriesOf(cutoff, maxRows);
    if (series === null) return 0;
    const rollups = this.#rollups.deleteUpTo(series.first, series.last, cutoff, maxRows);
    return rollups < maxRows ? this.#samples.deleteUpTo(series, cutoff, maxRows - rollups) : 0;
  }

  probes(): Probe[] {
    const bytes = `45 + coalesce(length(histogram_data), 0) + (${BYTES_OF_SERIES})`;
    return probesOf(this.database, { table: 'samples', row: 'rowid', bytes });
  }

  /** True when there are series without samples; reads only. */
  hasEmptySeries(): boolean {
    const next = this.#nextEmpty.get(this.#empty) as bigint | undefined;
    if (next !== undefined) this.#empty = next;
    return next !== undefined;
  }

  /**
   * Deletes series that have no sample, some at a time, with what is left of their rollups (MET-64).
   * Inside a transaction: nobody gives them one meanwhile.
   *
   * @returns their ids, which the writer must forget before it goes on (MET-37)
   */
  deleteEmptySeries(maxRows: number): bigint[] {
    const count = Math.min(maxRows, SERIES_PER_BATCH);
    const last = this.#lastOfSeries.get(this.#empty, BigInt(count)) as bigint | null;
    const gone: bigint[] = [];
    let room = maxRows;
    for (const id of this.#isEmpty.all(this.#empty, last ?? 0n, BigInt(count)) as bigint[]) {
      room -= this.#deleteRollups.run(id, BigInt(room)).changes;
      // There may be more of them: the series goes with the last.
      if (room <= 0) break;
      this.#deleteSeries.run(id);
      gone.push(id);
    }
    if (gone.length > 0) countDeletions(this.database.db);
    return gone;
  }
}

/** Series by their ids, both ends included. */
interface SeriesRange {
  readonly first: bigint;
  readonly last: bigint;
}

/** Samples up to a cutoff, found by walking the series. */
class OldSamples {
  readonly #next;
  readonly #lastOfSeries;
  readonly #lastReached;
  readonly #delete;
  /** No series below it has samples up to the cutoff. */
  #at = 0n;
  #cutoff: bigint | null = null;
  #isDone = false;

  constructor({ db }: RetentionDatabase) {
    const older = 'samples.series_id = series.id AND samples.timestamp <= ?';
    this.#next = db
      .prepare(
        `SELECT series.id FROM series WHERE series.id >= ?
         AND EXISTS (SELECT 1 FROM samples WHERE ${older}) ORDER BY series.id LIMIT 1`,
      )
      .pluck();
    this.#lastOfSeries = db.prepare(LAST_OF_SERIES).pluck();
    const found = (column: string) => `SELECT ${column} FROM series CROSS JOIN samples ON ${older}
         WHERE series.id BETWEEN ? AND ? ORDER BY series.id LIMIT ?`;
    this.#lastReached = db.prepare(`SELECT max(id) FROM (${found('series.id')})`).pluck();
    this.#delete = db.prepare(`DELETE FROM samples WHERE rowid IN (${found('samples.rowid')})`);
  }

  /** Looks at each series once per cutoff: what arrives behind it with an old timestamp is for the next sweep. */
  hasUpTo(cutoff: bigint): boolean {
    if (cutoff !== this.#cutoff) {
      this.#cutoff = cutoff;
      this.#at = 0n;
      this.#isDone = false;
    }
    if (this.#isDone) return false;
    const next = this.#next.get(this.#at, cutoff) as bigint | undefined;
    if (next === undefined) this.#isDone = true;
    else this.#at = next;
    return !this.#isDone;
  }

  /** The series that the next so many samples belong to; null when there are none. */
  seriesOf(cutoff: bigint, maxRows: number): SeriesRange | null {
    const end = this.#lastOfSeries.get(this.#at, BigInt(SERIES_PER_BATCH)) as bigint | null;
    if (end === null) return null;
    const last = this.#lastReached.get(cutoff, this.#at, end, BigInt(maxRows)) as bigint | null;
    return last === null ? null : { first: this.#at, last };
  }

  deleteUpTo({ first, last }: SeriesRange, cutoff: bigint, maxRows: number): number {
    return this.#delete.run(cutoff, first, last, BigInt(maxRows)).changes;
  }
}
