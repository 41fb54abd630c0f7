/**
 * Whether ids of series mean what they meant. Retention deletes series, and SQLite gives the ids of the last
 * ones to the next: so it counts its deletions, in the `user_version` of the file, which readers find in every
 * metric store, whatever of its tables is left.
 */
import type { StoreConnection } from './storeFile.js';

/** While both stay, nobody has made or deleted a series; none is ever changed. */
export interface SeriesMark {
  readonly newest: bigint;
  readonly deletions: bigint;
}

/** One row, a {@link SeriesMark}. */
export const SERIES_MARK =
  'SELECT ifnull(max(id), 0) AS newest, (SELECT user_version FROM pragma_user_version) AS deletions FROM series';

/** It has 31 bits. */
const LAST_VERSION = 2 ** 31 - 1;

/** In the transaction that has deleted series. */
export function countDeletions(db: StoreConnection): void {
  const count = Number(db.pragma('user_version', { simple: true }));
  db.pragma(`user_version = ${count < 0 || count === LAST_VERSION ? 0 : count + 1}`);
}
