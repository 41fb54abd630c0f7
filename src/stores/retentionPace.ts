/**
 * How much retention deletes at a time, and how long it leaves the writer alone behind it (RET-7, RET-9,
 * FAIL-33): batches as large as fit into a few milliseconds, smaller ones with longer pauses while the
 * writer's buffer fills.
 */

/** Rows of one transaction (RET-7, LOG-52). */
export const MOST_ROWS = 1000;
const LEAST_ROWS = 16;
const FIRST_ROWS = 256;

/** ms a lease is meant to last with an idle writer, and with one whose buffer is half full or more. */
const CALM_MS = 10;
const PRESSED_MS = 2;
/** ms of pause per ms of lease: with nothing in the writer's buffer, with little, with half of it. */
const IDLE_PAUSE = 1;
const CALM_PAUSE = 4;
const PRESSED_PAUSE = 20;
/** Buffer fill that counts as full pressure. */
const FULL_PRESSURE = 0.5;

/** One batch as it went. */
export interface PacedBatch {
  readonly rows: number;
  /** Time of the transaction, ms. */
  readonly ms: number;
  /** How full the writer's buffer was, 0..1. */
  readonly pressure: number;
  /** The disk is full: no pauses, but small batches, for the WAL has no room either. */
  readonly urgent: boolean;
}

export class RetentionPace {
  #rows = FIRST_ROWS;

  /** Rows of the next batch at most. */
  rowsFor(urgent: boolean): number {
    return urgent ? Math.min(this.#rows, FIRST_ROWS) : this.#rows;
  }

  /** @returns the pause before the next batch, ms; 0 = none */
  observe({ rows, ms, pressure, urgent }: PacedBatch): number {
    const weight = Math.min(pressure / FULL_PRESSURE, 1);
    const goalMs = CALM_MS + (PRESSED_MS - CALM_MS) * weight;
    if (rows > 0) {
      // Halved or doubled at most: one slow fsync says little.
      const factor = Math.min(Math.max(goalMs / Math.max(ms, 0.01), 0.5), 2);
      this.#rows = Math.round(Math.min(Math.max(rows * factor, this.#rows * 0.5, LEAST_ROWS), MOST_ROWS));
    }
    if (urgent) return 0;
    const pause = weight === 0 ? IDLE_PAUSE : CALM_PAUSE + (PRESSED_PAUSE - CALM_PAUSE) * weight;
    return Math.ceil(ms * pause);
  }

  /** A batch took too long and was given up; false when it cannot be made smaller. */
  shrink(): boolean {
    if (this.#rows <= 1) return false;
    this.#rows = Math.max(Math.floor(this.#rows / 4), 1);
    return true;
  }
}
