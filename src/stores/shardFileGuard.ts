/**
 * Watches that a writer's files are still the ones it opened. SQLite does not look: it would commit into
 * a deleted file, and nobody would ever read that.
 */
import { closeSync, openSync, readSync, type Stats, statSync } from 'node:fs';

/** Codes of a CommitError for files that somebody else has taken away or cut. */
export const SHARD_GONE = 'ERR_SHARD_GONE';
export const SHARD_WAL_GONE = 'ERR_SHARD_WAL_GONE';
export const SHARD_TRUNCATED = 'ERR_SHARD_TRUNCATED';

export interface FileProblem {
  readonly code: typeof SHARD_GONE | typeof SHARD_WAL_GONE | typeof SHARD_TRUNCATED;
  readonly detail: string;
}

/** The database header: big-endian page size at 16 (1 = 65536), number of pages at 28. */
const HEADER_BYTES = 32;

/** Two `stat` calls per look, some microseconds. */
export class ShardFileGuard {
  readonly #file: string;
  /** Kept open: closing any descriptor of a database drops all locks of the process on it, SQLite's too. */
  readonly #fd: number;
  readonly #database: Stats | undefined;
  #wal: Stats | undefined;
  #size: number;

  /** @param file the database, open already */
  constructor(file: string) {
    this.#file = file;
    this.#fd = openSync(file, 'r');
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

  /** Call it when the database is closed, not before. */
  close(): void {
    closeSync(this.#fd);
  }

  /** A file that shrank because somebody vacuumed it says so in its header. */
  #promisedSize(): number {
    const header = Buffer.alloc(HEADER_BYTES);
    if (readSync(this.#fd, header, 0, HEADER_BYTES, 0) < HEADER_BYTES) return Number.POSITIVE_INFINITY;
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
