/**
 * How often each field was asked for within the rolling window (IDX-2, IDX-8): hourly buckets in memory.
 */
import { candidacyOf } from './fields.js';

const HOUR_NS = 3_600_000_000_000n;

/** Fields counted at once; queries choose their names. Past it the least used field is forgotten. */
export const MAX_COUNTED_FIELDS = 4096;

/** A row of `index_counters` (IDX-42). */
export interface StoredCounter {
  readonly field: string;
  readonly count: number;
  /** Begin of the oldest bucket, ns. */
  readonly windowStart: bigint;
}

/** Hour to count; the hours of a window are few. */
type Buckets = Map<number, number>;

export class FieldCounters {
  readonly #fields = new Map<string, Buckets>();

  /** A query has asked for the field so many times. Fields that cannot have an index count nothing (QX-41). */
  add(field: string, times: number, nowNs: bigint): void {
    if (candidacyOf(field).kind !== 'candidate') return;
    const hour = hourOf(nowNs);
    const buckets = this.#fields.get(field) ?? this.#enrol(field);
    buckets.set(hour, (buckets.get(hour) ?? 0) + times);
  }

  /**
   * Takes what an earlier run has counted, spread evenly over the hours since, so that it ages out (IDX-8).
   */
  load(stored: readonly StoredCounter[], windowHours: number, nowNs: bigint): void {
    const now = hourOf(nowNs);
    for (const { field, count, windowStart } of stored) {
      if (candidacyOf(field).kind !== 'candidate' || count <= 0) continue;
      const start = Math.min(hourOf(windowStart), now);
      const hours = now - start + 1;
      const buckets = this.#fields.get(field) ?? this.#enrol(field);
      // Earlier hours are over, however many there are.
      for (let n = Math.max(0, hours - windowHours); n < hours; n++) {
        const share = Math.floor(((n + 1) * count) / hours) - Math.floor((n * count) / hours);
        if (share > 0) buckets.set(start + n, (buckets.get(start + n) ?? 0) + share);
      }
    }
    this.prune(windowHours, nowNs);
  }

  /** Forgets what lies before the window. What a clock that was ahead has counted counts as of now. */
  prune(windowHours: number, nowNs: bigint): void {
    const now = hourOf(nowNs);
    for (const [field, buckets] of this.#fields) {
      for (const [hour, count] of [...buckets]) {
        if (hour > now - windowHours && hour <= now) continue;
        buckets.delete(hour);
        if (hour > now) buckets.set(now, (buckets.get(now) ?? 0) + count);
      }
      if (buckets.size === 0) this.#fields.delete(field);
    }
  }

  /** Queries within the window, by field. */
  counts(): ReadonlyMap<string, number> {
    return new Map([...this.#fields].map(([field, buckets]) => [field, sumOf(buckets)]));
  }

  /** What is persisted (IDX-42), by field ascending. */
  stored(): StoredCounter[] {
    return [...this.#fields]
      .map(([field, buckets]) => ({
        field,
        count: sumOf(buckets),
        windowStart: BigInt(Math.min(...buckets.keys())) * HOUR_NS,
      }))
      .sort((a, b) => (a.field < b.field ? -1 : 1));
  }

  #enrol(field: string): Buckets {
    if (this.#fields.size >= MAX_COUNTED_FIELDS) this.#forgetLeastUsed();
    const buckets: Buckets = new Map();
    this.#fields.set(field, buckets);
    return buckets;
  }

  #forgetLeastUsed(): void {
    let least: { readonly field: string; readonly count: number } | null = null;
    for (const [field, buckets] of this.#fields) {
      const count = sumOf(buckets);
      if (least === null || count < least.count) least = { field, count };
    }
    if (least !== null) this.#fields.delete(least.field);
  }
}

function hourOf(ns: bigint): number {
  return Number(ns / HOUR_NS);
}

function sumOf(buckets: Buckets): number {
  let sum = 0;
  for (const count of buckets.values()) sum += count;
  return sum;
}
