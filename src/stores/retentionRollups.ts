/**
 * Rollups under retention: the rows of some series whose windows begin up to a cutoff (ROL-35, ROL-36).
 * Their index goes by series, function, window size and start, so the oldest row of a kind is found in one
 * step, however many it has; every kind of every series looked at costs that step, whatever is found.
 */
import type { RetentionDatabase } from './retentionDatabase.js';

/** The first row behind a series, function and window size, which is the oldest of the next kind. */
const OLDEST_OF_NEXT_KIND = `SELECT next.id FROM rollups AS next
  WHERE (next.series_id, next.function, next.window_seconds) > (at.series_id, at.function, at.window_seconds)
  ORDER BY next.series_id, next.function, next.window_seconds, next.window_start LIMIT 1`;

/**
 * The oldest row of each kind of the series from @first to @last, one step in the index each. SQLite
 * materializes them all before it reads the first: no LIMIT behind it shortens the walk, only @last does.
 */
const OLDEST_OF_KINDS = `WITH RECURSIVE oldest(id) AS (
    SELECT (SELECT id FROM rollups WHERE series_id >= @first
      ORDER BY series_id, function, window_seconds, window_start LIMIT 1)
    UNION ALL
    SELECT (${OLDEST_OF_NEXT_KIND}) FROM oldest JOIN rollups AS at ON at.id = oldest.id
    WHERE at.series_id <= @last)`;

/** Ids of series that one statement covers: it may run under the lease. */
const SERIES_PER_STEP = 256n;
const LAST_SERIES = 2n ** 63n - 1n;

export class OldRollups {
  readonly #first;
  readonly #next;
  readonly #delete;
  /** No series below it has rows up to the cutoff. */
  #at = 0n;
  #cutoff: bigint | null = null;
  #isDone = false;

  constructor({ db }: RetentionDatabase) {
    this.#first = db
      .prepare(
        `${OLDEST_OF_KINDS} SELECT at.series_id FROM oldest CROSS JOIN rollups AS at ON at.id = oldest.id
         WHERE at.series_id <= @last AND at.window_start <= @cutoff LIMIT 1`,
      )
      .pluck();
    this.#next = db
      .prepare('SELECT series_id FROM rollups WHERE series_id > ? ORDER BY series_id LIMIT 1')
      .pluck();
    this.#delete = db.prepare(
      `DELETE FROM rollups WHERE id IN (${OLDEST_OF_KINDS}
         SELECT old.id FROM oldest CROSS JOIN rollups AS at ON at.id = oldest.id
         CROSS JOIN rollups AS old ON old.series_id = at.series_id AND old.function = at.function
           AND old.window_seconds = at.window_seconds AND old.window_start <= @cutoff
         WHERE at.series_id <= @last LIMIT @most)`,
    );
  }

  /** Whether any series has some; each is looked at once per cutoff. Reads only. */
  hasUpTo(cutoff: bigint): boolean {
    if (cutoff !== this.#cutoff) {
      this.#cutoff = cutoff;
      this.#at = 0n;
      this.#isDone = false;
    }
    if (this.#isDone) return false;
    for (;;) {
      const last = lastOfStep(this.#at);
      const found = this.#first.get({ first: this.#at, last, cutoff }) as bigint | undefined;
      if (found !== undefined) {
        this.#at = found;
        return true;
      }
      const next = this.#next.get(last) as bigint | undefined;
      if (next === undefined) {
        this.#isDone = true;
        return false;
      }
      this.#at = next;
    }
  }

  /** Deletes some of what `hasUpTo` has found, and of the series close behind; returns their number. */
  deleteFound(maxRows: number): number {
    return this.deleteUpTo(this.#at, lastOfStep(this.#at), this.#cutoff ?? 0n, maxRows);
  }

  /**
   * Deletes rows of the series from `first` to `last`, both included; returns their number. It looks at all
   * of these series, also when `maxRows` is small.
   */
  deleteUpTo(first: bigint, last: bigint, cutoff: bigint, maxRows: number): number {
    return this.#delete.run({ first, last, cutoff, most: BigInt(maxRows) }).changes;
  }
}

function lastOfStep(first: bigint): bigint {
  return first > LAST_SERIES - SERIES_PER_STEP ? LAST_SERIES : first + SERIES_PER_STEP - 1n;
}
