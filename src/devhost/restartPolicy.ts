/** peinit's rule for what crashed (HOST-24). */

export interface RestartLimits {
  readonly firstDelayMs: number;
  readonly maxDelayMs: number;
  /** Restarts allowed within the window. */
  readonly maxRestarts: number;
  readonly windowMs: number;
}

export const DEFAULT_RESTART_LIMITS: RestartLimits = {
  firstDelayMs: 1000,
  maxDelayMs: 60_000,
  maxRestarts: 5,
  windowMs: 120_000,
};

/** Decides when a crashed program starts again. The delay doubles while crashes stay within the window. */
export class RestartPolicy {
  /** Times of the restarts granted within the window, oldest first. */
  #granted: number[] = [];

  constructor(readonly limits: RestartLimits = DEFAULT_RESTART_LIMITS) {}

  /**
   * A crash at `now` (any monotonic ms).
   * @returns ms to wait before the restart, or null: the program has failed for good
   */
  crashed(now: number): number | null {
    const { firstDelayMs, maxDelayMs, maxRestarts, windowMs } = this.limits;
    this.#granted = this.#granted.filter((time) => time > now - windowMs);
    if (this.#granted.length >= maxRestarts) return null;
    const delay = Math.min(firstDelayMs * 2 ** this.#granted.length, maxDelayMs);
    this.#granted.push(now);
    return delay;
  }
}
