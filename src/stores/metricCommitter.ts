/**
 * Samples into `samples`, each under the id of its series (MET-28, MET-39). Series that the cache in
 * native code knows cost no SQL; the others are looked up or made here, once per transaction.
 */

import {
  type DatagramsHandle,
  type DecodedRecords,
  native,
  type SeriesCacheHandle,
  type SeriesKey,
} from '../native/addon.js';
import { LateSamples } from '../rollups/lateSamples.js';
import type { DatagramSource } from './datagramSource.js';
import { HELD_CACHE, type HeldHandles } from './heldHandles.js';
import type { LeaseId } from './lease.js';
import {
  FIND_SERIES,
  FIND_SERIES_BY_TEXT,
  INSERT_SAMPLES,
  INSERT_SERIES,
  METRIC_SCHEMA,
  type MetricType,
} from './metricSchema.js';
import { RecordCommitter, type RecordTable } from './recordCommitter.js';
import { type ResolvedSeries, SampleStep } from './sampleStep.js';
import { SeriesCacheGuard } from './seriesCacheGuard.js';
import type { StoreConnection } from './storeFile.js';

export interface MetricCommitterOptions {
  readonly file: string;
  readonly source: DatagramSource;
  /** Entries of the series cache, which begins empty (MET-32, MET-55). */
  readonly cacheSize: number;
  /** Names the cache for whoever survives this thread. */
  readonly held: HeldHandles;
}

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
  readonly #guard: SeriesCacheGuard;
  readonly #late: LateSamples;
  readonly #step = new SampleStep();

  constructor(db: StoreConnection, cacheSize: number, held: HeldHandles) {
    // Checked per sample it would cost nearly half of the throughput; the guard sees to the same.
    db.pragma('foreign_keys = OFF');
    const dataVersion = db.prepare('PRAGMA data_version').pluck();
    this.#guard = new SeriesCacheGuard({
      dataVersion: () => dataVersion.get(),
      forgetAll: () => this.#forgetAll(),
    });
    this.#find = db.prepare<unknown[], StoredSeries>(FIND_SERIES);
    this.#findByText = db.prepare<unknown[], StoredSeries>(FIND_SERIES_BY_TEXT);
    this.#insertSeries = db.prepare(INSERT_SERIES);
    this.#insertSamples = db.prepare(INSERT_SAMPLES);
    this.#late = new LateSamples(db, native);
    this.#held = held;
    this.#cacheSize = cacheSize;
    this.#cache = this.#openCache();
  }

  begun(): void {
    this.#guard.begun();
  }

  lent(lease: LeaseId): void {
    this.#guard.lent(lease);
  }

  returned(lease: LeaseId, series: BigInt64Array | null): void {
    if (series !== null) this.#forget(series);
    this.#guard.returned(lease, series !== null);
  }

  decode(batch: DatagramsHandle, maxRecords: number): DecodedRecords {
    return this.#step.next(batch, this.#cache, maxRecords);
  }

  insert(batch: DatagramsHandle): number {
    const taken = this.#step.take(batch, (key) => this.#resolve(key));
    if (taken === 0) return 0;
    this.#insertSamples.run(batch);
    this.#late.inserted(batch);
    return taken;
  }

  committed(): void {
    this.#step.committed();
    native.seriesCacheCommitted(this.#cache);
  }

  rolledBack(): number {
    native.seriesCacheRolledBack(this.#cache);
    return this.#step.rolledBack();
  }

  resize(cacheSize: number): void {
    this.#cacheSize = cacheSize;
    native.seriesCacheLimit(this.#cache, cacheSize);
  }

  close(): void {
    native.seriesCacheClose(this.#cache);
    this.#held[HELD_CACHE] = 0;
  }

  #forget(series: BigInt64Array): void {
    if (series.length > 0) {
      native.seriesCacheForget(this.#cache, series);
      this.#step.outdate();
    }
    this.#late.refresh();
  }

  #forgetAll(): void {
    const outdated = this.#cache;
    this.#cache = this.#openCache();
    native.seriesCacheClose(outdated);
    this.#step.outdate();
    this.#late.refresh();
  }

  #openCache(): SeriesCacheHandle {
    const cache = native.seriesCacheOpen(this.#cacheSize);
    this.#held[HELD_CACHE] = cache;
    return cache;
  }

  /** The series' id and stored type; a new one gets the type of its first sample (MET-35). */
  #resolve(key: SeriesKey): ResolvedSeries {
    const { name, labels, type, labelHash, boundariesHash } = key;
    const found =
      this.#find.get(name, labelHash, labels, boundariesHash) ??
      this.#findByText.get(name, labels, boundariesHash);
    if (found !== undefined) return { id: found.id, type: Number(found.type) as MetricType };
    const { lastInsertRowid } = this.#insertSeries.run(name, labels, type, labelHash, boundariesHash);
    return { id: BigInt(lastInsertRowid), type };
  }
}
