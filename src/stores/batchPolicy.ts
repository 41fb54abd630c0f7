/**
 * How long a shard writer lets a batch grow before it commits (ING-51..60).
 *
 * The rule: commit at once while events come slowly, and wait for more only as long as waiting buys
 * throughput. Under load batches grow by themselves anyway, because the next segment fills while one
 * commits; the linger only keeps a middling load from paying one fsync for a handful of rows.
 */

/** Rate below which every arrival is committed at once, in events per second. */
const SLOW_RATE = 2000;

/** A batch is aimed to take this many times as long to fill as its commit takes. */
const FILL_TO_COMMIT = 4;

/** Share of MaxBatchLatencyMs a linger may use; the rest is for the commit itself (ING-56). */
const LATENCY_SHARE = 0.4;

/** Share of a batch that records may wait for: what comes while it is being decoded fills the rest. */
const FULL_SHARE = 0.9;

/** Weight of the newest observation in the smoothed values (ING-60). */
const SMOOTHING = 0.3;

export interface BatchLimits {
  /** Rows per transaction, upper bound (CFG-21). */
  readonly maxBatchSize: number;
  /** First row in a batch to its commit, upper bound, ms (CFG-22). */
  readonly maxBatchLatencyMs: number;
}

/** Smoothed load of one writer. */
export interface BatchLoad {
  /** Rows per second. */
  readonly rate: number;
  /** Duration of a commit, ms. */
  readonly commitMs: number;
}

export const IDLE_LOAD: BatchLoad = { rate: 0, commitMs: 0 };

/**
 * The same for log records and samples, which nobody waits for: a batch may grow until it is nearly full
 * or its share of the latency is used up (LOG-26, MET-40). A transaction costs by the leaves of the index
 * it touches, and many samples touch as many of them as few do. Slower arrivals wait proportionally
 * less, down to not at all: a commit per line at 1000 lines/s would keep a core from those who send them.
 */
export function recordLingerMs(load: BatchLoad, limits: BatchLimits, waiting = 0): number {
  const untilFull = (Math.max(limits.maxBatchSize * FULL_SHARE - waiting, 0) / load.rate) * 1000;
  const patience = limits.maxBatchLatencyMs * LATENCY_SHARE * Math.min(1, load.rate / SLOW_RATE);
  return Math.floor(Math.min(untilFull, patience));
}

/** Folds one committed batch into the smoothed load. `elapsedMs` is the time since the previous commit ended. */
export function observeBatch(
  load: BatchLoad,
  batch: { rows: number; elapsedMs: number; commitMs: number },
): BatchLoad {
  const rate = (batch.rows * 1000) / Math.max(batch.elapsedMs, 1);
  return {
    rate: load.rate + SMOOTHING * (rate - load.rate),
    commitMs: load.commitMs + SMOOTHING * (batch.commitMs - load.commitMs),
  };
}

/**
 * Time to let the next batch grow, ms; 0 = commit at once. `waiting` rows of it are there already:
 * under load they came while the last commit ran, and half a batch needs no waiting for.
 */
export function lingerMs(load: BatchLoad, limits: BatchLimits, waiting = 0): number {
  if (load.rate < SLOW_RATE) return 0;
  const untilHalfFull = (Math.max(limits.maxBatchSize / 2 - waiting, 0) / load.rate) * 1000;
  return Math.floor(
    Math.min(load.commitMs * FILL_TO_COMMIT, untilHalfFull, limits.maxBatchLatencyMs * LATENCY_SHARE),
  );
}
