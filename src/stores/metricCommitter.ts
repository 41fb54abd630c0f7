/**
 * Samples into `samples`, each under the id of its series (MET-28, MET-39). Series that the cache in
 * native code knows cost no SQL; the others are looked up or made here, once per transaction.
 */

import { type DatagramsHandle, native, type SeriesCacheHandle, type SeriesKey } from '../native/addon.js';
import { LateSamples } from '../rollups/lateSamples.js';
import type { DatagramSource } from './datagramSource.js';
import { HELD_CACHE, type HeldHandles } from './heldHandles.js';
import {
  FIND_SERIES,
  FIND_SERIES_BY_TEXT,
  INSERT_SAMPLES,
  INSERT_SERIES,
  METRIC_SCHEMA,
  type MetricType,
} from './metricSchema.js';
import { RecordCommitter, type RecordTable } from './recordCommitter.js';
import type { StoreConnection } from './storeFile.js';

export interface MetricCommitterOptions {
  readonly file: string;
  readonly source: DatagramSource;
  /** Entries of the series cache, which begins empty (MET-32, MET-55). */
  readonly cacheSize: number;
  /** Names the cache for whoever survives this thread. */
  readonly held: HeldHandles;
}

/**
 * What waits is decoded this many transactions at a time, and stored in the order of its series: a
 * transaction of a few series touches few leaves of the index, and each of them costs a page in the WAL
 * and in the next checkpoint.
 */
const TRANSACTIONS_PER_STEP = 16;
/** Samples decoded at a time, whatever a transaction may have. */
const MOST_SAMPLES = 65_536;

/** @throws StoreError when the file must not be written */
export function openMetricCommitter({
  file,
  source,
  cacheSize,
  held,
}: MetricCommitterOptions): RecordCommitter {
  return new RecordCommitter({
    file,
    schema: METRIC_SCHEMA,
    source,
    table: (db) => new SampleTable(db, cacheSize, held),
  });
}

interface StoredSeries {
  readonly id: bigint;
  readonly type: bigint;
}

class SampleTable implements RecordTable {
  readonly #held: HeldHandles;
  #cacheSize: number;
  #cache: SeriesCacheHandle;
  readonly #find;
  readonly #findByText;
  readonly #insertSeries;
  readonly #insertSamples;
  readonly #dataVersion;
  readonly #late: LateSamples;
  #version: unknown;
  #unresolved = 0;
  /** Decoded samples that no transaction has had; null until the batch was asked. */
  #left: number | null = null;
  #isSorted = false;
  /** The batch has more to decode. */
  #more = false;
  /** What the samples were resolved to may not hold any more. */
  #isStale = true;
  #maxRecords = 0;
  /** Samples of the transaction that is open. */
  #taken: number | null = null;

  constructor(db: StoreConnection, cacheSize: number, held: HeldHandles) {
    // Checked per sample it would cost nearly half of the throughput; `begun` sees to the same.
    db.pragma('foreign_keys = OFF');
    this.#dataVersion = db.prepare('PRAGMA data_version').pluck();
    this.#version = this.#dataVersion.get();
    this.#find = db.prepare<unknown[], StoredSeries>(FIND_SERIES);
    this.#findByText = db.prepare<unknown[], StoredSeries>(FIND_SERIES_BY_TEXT);
    this.#insertSeries = db.prepare(INSERT_SERIES);
    this.#insertSamples = db.prepare(INSERT_SAMPLES);
    this.#late = new LateSamples(db, native);
    this.#held = held;
    this.#cacheSize = cacheSize;
    this.#cache = this.#openCache();
  }

  /**
   * SQLite says whether another connection has written since. It may have deleted series, whose ids a
   * new series then gets: what the cache knows is worth nothing any more.
   */
  begun(): void {
    const version = this.#dataVersion.get();
    if (version === this.#version) return;
    this.#version = version;
    this.#late.refresh();
    this.#isStale = true;
    this.close();
    this.#cache = this.#openCache();
  }

  /** Whoever has written before is not retention. */
  lent(): void {
    this.begun();
  }

  /** What retention has written since is known in full: the rest of the cache stays good (MET-37, MET-64). */
  returned(series: BigInt64Array | null): void {
    // It died, perhaps behind its COMMIT: `begun` will see whether something was written.
    if (series === null) return;
    this.#version = this.#dataVersion.get();
    this.#late.refresh();
    if (series.length === 0) return;
    native.seriesCacheForget(this.#cache, series);
    this.#isStale = true;
  }

  decode(batch: DatagramsHandle, maxRecords: number) {
    this.#maxRecords = maxRecords;
    try {
      return this.#next(batch);
    } catch (error) {
      // The batch is given back; the next one has to be asked.
      this.#left = null;
      throw error;
    }
  }

  #next(batch: DatagramsHandle) {
    // A writer that was replaced may have left some.
    this.#left ??= native.metricLeft(batch);
    if (this.#left === 0) this.#decodeStep(batch);
    else if (this.#isStale) {
      this.#unresolved = native.metricAgain(batch);
      this.#isSorted = false;
    }
    this.#isStale = false;
    const records = Math.min(this.#left, this.#maxRecords);
    return { records, more: this.#more || this.#left > records };
  }

  insert(batch: DatagramsHandle): number {
    if (!this.#isSorted) this.#sort(batch);
    this.#taken = native.metricSlice(batch, this.#maxRecords);
    this.#left = native.metricLeft(batch);
    if (this.#taken === 0) return 0;
    this.#insertSamples.run(batch);
    this.#late.inserted(batch);
    return this.#taken;
  }

  #decodeStep(batch: DatagramsHandle): void {
    const most = Math.max(this.#maxRecords, Math.min(this.#maxRecords * TRANSACTIONS_PER_STEP, MOST_SAMPLES));
    const decoded = native.metricDecode(batch, this.#cache, most);
    this.#left = decoded.records;
    this.#unresolved = decoded.unresolved;
    this.#more = decoded.more;
    this.#isSorted = false;
  }

  #sort(batch: DatagramsHandle): void {
    for (let index = 0; index < this.#unresolved; index++) {
      const { id, type } = this.#resolve(native.metricUnresolved(batch, index));
      native.metricResolve(batch, index, id, type);
    }
    native.metricSort(batch);
    this.#isSorted = true;
  }

  committed(): void {
    this.#taken = null;
    native.seriesCacheCommitted(this.#cache);
  }

  /** Samples that could not even be resolved all go; of sorted ones those of the transaction. */
  rolledBack(): number {
    native.seriesCacheRolledBack(this.#cache);
    this.#isStale = true;
    const taken = this.#taken;
    this.#taken = null;
    if (taken !== null) return taken;
    if (this.#isSorted) return 0;
    const lost = this.#left ?? 0;
    this.#left = 0;
    return lost;
  }

  resize(cacheSize: number): void {
    this.#cacheSize = cacheSize;
    native.seriesCacheLimit(this.#cache, cacheSize);
  }

  close(): void {
    native.seriesCacheClose(this.#cache);
    this.#held[HELD_CACHE] = 0;
  }

  #openCache(): SeriesCacheHandle {
    const cache = native.seriesCacheOpen(this.#cacheSize);
    this.#held[HELD_CACHE] = cache;
    return cache;
  }

  /** The series' id and stored type; a new one gets the type of its first sample (MET-35). */
  #resolve(key: SeriesKey): { id: bigint; type: MetricType } {
    const { name, labels, type, labelHash, boundariesHash } = key;
    const found =
      this.#find.get(name, labelHash, labels, boundariesHash) ??
      this.#findByText.get(name, labels, boundariesHash);
    if (found !== undefined) return { id: found.id, type: Number(found.type) as MetricType };
    const { lastInsertRowid } = this.#insertSeries.run(name, labels, type, labelHash, boundariesHash);
    return { id: BigInt(lastInsertRowid), type };
  }
}
