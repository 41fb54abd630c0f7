/** Whether a shard has been under pressure for a whole window: graduated shedding (IDX-21, IDX-22). */

/** Live settings (CFG-31, CFG-32). */
export interface SheddingLimits {
  readonly windowSeconds: number;
  /** More of the batches than this, in percent, must be oversized. */
  readonly batchPercent: number;
}

/** A batch above this share of `MaxBatchSize` is oversized (IDX-21). */
const OVERSIZED_SHARE = 0.75;

/**
 * Batches remembered one by one; beyond it neighbours are counted together. Full batches take
 * milliseconds, and a window may last five minutes.
 */
const SLICES = 128;
/** A pause longer than this share of the window is no pressure: what was observed before it is forgotten. */
const LONGEST_PAUSE = 0.25;

interface Slice {
  readonly beganMs: number;
  batches: number;
  oversized: number;
}

export class BatchWindow {
  #slices: Slice[] = [];
  /** Since when there are observations without a pause worth mentioning; null: there are none. */
  #sinceMs: number | null = null;
  #lastMs = 0;

  /** A batch of so many rows was stored; whether it was oversized. Times are of a monotonic clock. */
  observe(rows: number, maxBatchSize: number, nowMs: number, { windowSeconds }: SheddingLimits): boolean {
    const windowMs = windowSeconds * 1000;
    const oversized = isOversized(rows, maxBatchSize);
    if (nowMs - this.#lastMs > windowMs * LONGEST_PAUSE) this.clear();
    this.#lastMs = nowMs;
    this.#sinceMs ??= nowMs;
    const last = this.#slices.at(-1);
    if (last !== undefined && nowMs - last.beganMs < windowMs / SLICES) {
      last.batches++;
      last.oversized += oversized ? 1 : 0;
    } else this.#slices.push({ beganMs: nowMs, batches: 1, oversized: oversized ? 1 : 0 });
    while ((this.#slices[0]?.beganMs ?? nowMs) < nowMs - windowMs) this.#slices.shift();
    return oversized;
  }

  /** Whether the window is spanned, and more of its batches than allowed were oversized. */
  isLasting(nowMs: number, { windowSeconds, batchPercent }: SheddingLimits): boolean {
    if (this.#sinceMs === null || nowMs - this.#sinceMs < windowSeconds * 1000) return false;
    const batches = this.#slices.reduce((sum, slice) => sum + slice.batches, 0);
    const oversized = this.#slices.reduce((sum, slice) => sum + slice.oversized, 0);
    return oversized * 100 > batches * batchPercent;
  }

  /** An index was dropped: the next one takes a whole window of its own. */
  clear(): void {
    this.#slices = [];
    this.#sinceMs = null;
  }
}

export function isOversized(rows: number, maxBatchSize: number): boolean {
  return rows > maxBatchSize * OVERSIZED_SHARE;
}
