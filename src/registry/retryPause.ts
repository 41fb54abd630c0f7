/** How long to wait before something that failed is tried again. */

/** First and last pause. */
const FIRST_MS = 250;
export const LONGEST_PAUSE_MS = 10_000;

/**
 * Pauses that double, also over successes that do not last: what fails again right after it came back
 * would otherwise be tried four times a second for ever.
 */
export class RetryPause {
  #nextMs = FIRST_MS;
  #succeededAt: number | null = null;

  /** A success that has lasted makes the next pause the shortest again. */
  failed(): void {
    if (this.#succeededAt !== null && Date.now() - this.#succeededAt >= LONGEST_PAUSE_MS)
      this.#nextMs = FIRST_MS;
    this.#succeededAt = null;
  }

  succeeded(): void {
    this.#succeededAt = Date.now();
  }

  /** Milliseconds until the next try. */
  next(): number {
    const pauseMs = this.#nextMs;
    this.#nextMs = Math.min(2 * pauseMs, LONGEST_PAUSE_MS);
    return pauseMs;
  }
}
