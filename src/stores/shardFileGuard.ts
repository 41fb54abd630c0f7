/**
 * Watches that a writer's files are still the ones it opened. SQLite does not look: it would commit into
 * a deleted file, and nobody would ever read that.
 */
import { type Stats, statSync } from 'node:fs';
import type { StoreConnection } from './storeFile.js';

/** Codes of a CommitError for files that somebody else has taken away or cut. */
export const SHARD_GONE = 'ERR_SHARD_GONE';
export const SHARD_WAL_GONE = 'ERR_SHARD_WAL_GONE';
export const SHARD_TRUNCATED = 'ERR_SHARD_TRUNCATED';

export interface FileProblem {
  readonly code: typeof SHARD_GONE | typeof SHARD_WAL_GONE | typeof SHARD_TRUNCATED;
  readonly detail: string;
}

/**
 * Two `stat` calls per look, some microseconds. It opens none of the files: closing any descriptor of a
 * database drops all locks that the process has on it, SQLite's too, and where another connection is open
 * SQLite does not take them again. Then whoever reads the file with another program removes the live WAL.
 */
export class ShardFileGuard {
  readonly #db: StoreConnection;
  readonly #file: string;
  readonly #database: Stats | undefined;
  #wal: Stats | undefined;
  #size: number;

  /** @param db the writer's connection to `file` */
  constructor(db: StoreConnection, file: string) {
    this.#db = db;
    this.#file = file;
    this.#database = found(file);
    this.#wal = found(`${file}-wal`);
    this.#size = this.#database?.size ?? 0;
  }

  /** What has happened to the files since they were opened; null when nothing has. */
  problem(): FileProblem | null {
    const database = found(this.#file);
    if (database === undefined) return { code: SHARD_GONE, detail: 'the file was deleted' };
    if (!isSame(database, this.#database)) return { code: SHARD_GONE, detail: 'the file was replaced' };
    const wal = found(`${this.#file}-wal`);
    // The WAL may come with the first transaction; once there, it stays until the last connection closes.
    if (this.#wal !== undefined && !isSame(wal, this.#wal)) {
      return { code: SHARD_WAL_GONE, detail: `its WAL was ${wal === undefined ? 'deleted' : 'replaced'}` };
    }
    this.#wal = wal;
    if (database.size < this.#size && database.size < this.#promisedSize()) {
      return { code: SHARD_TRUNCATED, detail: `the file was cut to ${database.size} bytes` };
    }
    this.#size = database.size;
    return null;
  }

  /**
   * A file that shrank because somebody vacuumed it says so in its header: big-endian page size at 16
   * (1 = 65536), number of pages at 28.
   */
  #promisedSize(): number {
    const header = this.#db.prepare('SELECT eventd_file_header()').pluck().get() as Buffer | null;
    if (header === null) return Number.POSITIVE_INFINITY;
    const pageSize = header.readUInt16BE(16);
    return header.readUInt32BE(28) * (pageSize === 1 ? 65536 : pageSize);
  }
}

function found(path: string): Stats | undefined {
  return statSync(path, { throwIfNoEntry: false });
}

function isSame(now: Stats | undefined, then: Stats | undefined): boolean {
  return now?.ino === then?.ino && now?.dev === then?.dev;
}
