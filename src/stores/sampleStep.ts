/**
 * The samples that were decoded together, and how far they are stored. What waits is decoded several
 * transactions at a time, and stored in the order of its series: a transaction of a few series touches few
 * leaves of the index, and each of them costs a page in the WAL and in the next checkpoint.
 */
import {
  type DatagramsHandle,
  type DecodedRecords,
  native,
  type SeriesCacheHandle,
  type SeriesKey,
} from '../native/addon.js';
import type { MetricType } from './metricSchema.js';

const TRANSACTIONS_PER_STEP = 16;
/** Samples decoded at a time, whatever a transaction may have. */
const MOST_SAMPLES = 65_536;

/** A row of `series`. */
export interface ResolvedSeries {
  readonly id: bigint;
  readonly type: MetricType;
}

export class SampleStep {
  /** Whether the samples have the ids of their series; `outdated`: what they were given may not hold any more. */
  #series: 'unresolved' | 'resolved' | 'outdated' = 'outdated';
  /** Series that the cache did not know. */
  #unresolved = 0;
  /** Samples that no transaction has had; null until the batch was asked. */
  #left: number | null = null;
  /** The batch has more to decode. */
  #more = false;
  #maxRecords = 0;
  /** Samples of the transaction that is open; null while it has none yet. */
  #taken: number | null = null;

  /** The samples of the next transaction, at most `maxRecords`; decodes more of the batch when none are left. */
  next(batch: DatagramsHandle, cache: SeriesCacheHandle, maxRecords: number): DecodedRecords {
    this.#maxRecords = maxRecords;
    try {
      const left = this.#ready(batch, cache);
      const records = Math.min(left, maxRecords);
      return { records, more: this.#more || left > records };
    } catch (error) {
      // The batch is given back; the next one has to be asked.
      this.#left = null;
      throw error;
    }
  }

  /**
   * Puts the samples of the transaction where the INSERT finds them.
   * @param resolve finds or makes a series that the cache did not know
   * @returns how many they are
   */
  take(batch: DatagramsHandle, resolve: (key: SeriesKey) => ResolvedSeries): number {
    if (this.#series !== 'resolved') this.#sort(batch, resolve);
    this.#taken = native.metricSlice(batch, this.#maxRecords);
    this.#left = native.metricLeft(batch);
    return this.#taken;
  }

  /** Series may be gone, or others have their ids. */
  outdate(): void {
    this.#series = 'outdated';
  }

  committed(): void {
    this.#taken = null;
  }

  /** @returns how many samples went: those of the transaction, or all that could not even be resolved */
  rolledBack(): number {
    const isUnresolved = this.#series === 'unresolved';
    const taken = this.#taken;
    this.#taken = null;
    this.outdate();
    if (taken !== null) return taken;
    if (!isUnresolved) return 0;
    const lost = this.#left ?? 0;
    this.#left = 0;
    return lost;
  }

  /** @returns how many samples are decoded and wait */
  #ready(batch: DatagramsHandle, cache: SeriesCacheHandle): number {
    // A writer that was replaced may have left some.
    this.#left ??= native.metricLeft(batch);
    if (this.#left === 0) return this.#decode(batch, cache);
    if (this.#series === 'outdated') {
      this.#unresolved = native.metricAgain(batch);
      this.#series = 'unresolved';
    }
    return this.#left;
  }

  #decode(batch: DatagramsHandle, cache: SeriesCacheHandle): number {
    const most = Math.max(this.#maxRecords, Math.min(this.#maxRecords * TRANSACTIONS_PER_STEP, MOST_SAMPLES));
    const { records, unresolved, more } = native.metricDecode(batch, cache, most);
    this.#left = records;
    this.#unresolved = unresolved;
    this.#more = more;
    this.#series = 'unresolved';
    return records;
  }

  #sort(batch: DatagramsHandle, resolve: (key: SeriesKey) => ResolvedSeries): void {
    for (let index = 0; index < this.#unresolved; index++) {
      const { id, type } = resolve(native.metricUnresolved(batch, index));
      native.metricResolve(batch, index, id, type);
    }
    native.metricSort(batch);
    this.#series = 'resolved';
  }
}
