/**
 * The transactions of a log or a metric store: what a record writer does between taking datagrams and
 * COMMIT. Belongs to the thread that made it (LOG-44, MET-56).
 */
import { type Stats, statSync } from 'node:fs';
import type { DatagramsHandle, DecodedRecords } from '../native/addon.js';
import { type BatchLimits, type BatchLoad, IDLE_LOAD, observeBatch, recordLingerMs } from './batchPolicy.js';
import type { DatagramSource } from './datagramSource.js';
import { setStrayWalAside } from './exclusion.js';
import type { LeaseId } from './lease.js';
import { SHARD_TRUNCATED, ShardFileGuard } from './shardFileGuard.js';
import { errorText, isCorruption, StoreError, sqliteCode } from './storeError.js';
import { checkStructure, openStore, realPath, type StoreConnection, type StoreSchema } from './storeFile.js';
import { WalCheckpoint } from './walCheckpoint.js';

/** Codes of a RecordCommitError for files that somebody else has taken away or cut. */
export const STORE_GONE = 'ERR_STORE_GONE';
export const STORE_TRUNCATED = 'ERR_STORE_TRUNCATED';

/** How a store's records get into its tables. */
export interface RecordTable {
  /** The transaction has begun: nobody else can write now. */
  begun(): void;
  /** Decodes the next records of the batch, or finds some decoded: `more` when there is more of either. */
  decode(batch: DatagramsHandle, maxRecords: number): DecodedRecords;
  /** Inserts what was decoded last; returns the number of rows. */
  insert(batch: DatagramsHandle): number;
  committed(): void;
  /** The holder of the lease writes between now and `returned`. */
  lent(lease: LeaseId): void;
  /**
   * It has, perhaps long after its turn; of the series that it deleted nothing may be remembered (MET-37).
   * Null: they are not known.
   */
  returned(lease: LeaseId, series: BigInt64Array | null): void;
  /** Returns how many decoded records went with the transaction. */
  rolledBack(): number;
  /** Entries of a cache that the table keeps. */
  resize(cacheSize: number): void;
  close(): void;
}

/** What one transaction stored. */
export interface RecordCommit {
  readonly records: number;
  /** Bytes of the datagrams it took out of the buffer. */
  readonly bytes: number;
  readonly commitMs: number;
  /** More waits to be decoded. */
  readonly more: boolean;
  /** The receiver has ended and nothing is left of what it read. */
  readonly finished: boolean;
  /** How long to let the next batch grow, ms. */
  readonly lingerMs: number;
}

/** What must happen to the store before anything is written to it again. */
export type StoreDamage =
  /** Nothing: the next batch may succeed (FAIL-10). */
  | 'none'
  /** The file is not the one that was opened: open the store anew. */
  | 'gone'
  /** The file is damaged: set it aside (FAIL-18). */
  | 'corrupt';

/** A commit that failed and was rolled back; its records are lost (LOG-46, MET-43). */
export class RecordCommitError extends Error {
  override readonly name = 'RecordCommitError';

  constructor(
    /** SQLite's result code, `SQLITE_FULL` and the like. */
    readonly code: string,
    message: string,
    readonly damage: StoreDamage,
    /** Decoded records that went with it. */
    readonly lost: number,
  ) {
    super(message);
  }
}

export interface RecordCommitterOptions {
  readonly file: string;
  readonly schema: StoreSchema;
  readonly source: DatagramSource;
  /** Prepares the statements of this store. */
  readonly table: (db: StoreConnection) => RecordTable;
}

export class RecordCommitter {
  readonly #file: string;
  readonly #schema: StoreSchema;
  readonly #source: DatagramSource;
  readonly #db: StoreConnection;
  readonly #table: RecordTable;
  readonly #begin;
  readonly #commit;
  readonly #guard: ShardFileGuard;
  readonly #checkpoint: WalCheckpoint;
  readonly #files: { readonly database: Stats | undefined; readonly wal: Stats | undefined };
  #damage: StoreDamage = 'none';
  #load: BatchLoad = IDLE_LOAD;
  #lastEnd = performance.now();
  /** Bytes of a datagram per record, of the last batch: what waits is counted in bytes. */
  #recordBytes = 100;
  #batchRecords = 0;

  /** @throws StoreError when the file must not be written */
  constructor({ file, schema, source, table }: RecordCommitterOptions) {
    this.#schema = schema;
    this.#source = source;
    this.#db = openStore(file, schema);
    this.#file = realPath(file);
    try {
      this.#table = table(this.#db);
      this.#begin = this.#db.prepare('BEGIN IMMEDIATE');
      this.#commit = this.#db.prepare('COMMIT');
      this.#checkpoint = new WalCheckpoint(this.#db, this.#file);
      this.#guard = new ShardFileGuard(this.#db, this.#file);
      this.#files = { database: found(this.#file), wal: found(`${this.#file}-wal`) };
    } catch (error) {
      this.#db.close();
      throw new StoreError(isCorruption(error) ? 'corrupt' : 'io', file, errorText(error));
    }
  }

  /**
   * One transaction with the next records that wait, at most `maxBatchSize` (LOG-28).
   *
   * @throws RecordCommitError after rolling back; what was decoded is lost then, what waits behind it is not
   */
  commit(limits: BatchLimits): RecordCommit {
    const started = performance.now();
    this.#checkFile();
    // Datagrams stay in the buffer until the file is known to be the one that was opened.
    const fresh = !this.#source.holds;
    const batch = this.#source.take();
    if (batch === null) return this.#report({ records: 0, bytes: 0, started, limits });
    let decoded: DecodedRecords = { records: 0, more: true };
    let records = 0;
    try {
      this.#begin.run();
      this.#table.begun();
      decoded = this.#decode(batch.batch, limits.maxBatchSize);
      if (decoded.records > 0) records = this.#table.insert(batch.batch);
      this.#commit.run();
      this.#table.committed();
    } catch (error) {
      throw this.#undo(error);
    } finally {
      this.#batchRecords += decoded.records;
      if (!decoded.more) this.#batchDone(batch.bytes);
    }
    return this.#report({ records, bytes: fresh ? batch.bytes : 0, started, limits });
  }

  /** Somebody else has his turn (LOG-52, MET-58). */
  lend(lease: LeaseId): void {
    quietly(() => this.#table.lent(lease));
  }

  /**
   * He is through; also with a lease that another one has followed, or that was never granted.
   * @param series ids that he has deleted; null when nobody can tell
   */
  takeBack(lease: LeaseId, series: BigInt64Array | null): void {
    quietly(() => this.#table.returned(lease, series));
  }

  /**
   * Closes the connection; SQLite checkpoints the WAL (LIFE-207), but never into a file that is damaged
   * or not ours any more. A WAL that is left over from a file that is gone is moved out of the way of the
   * next one.
   */
  close(): void {
    if (this.#damage !== 'none') this.#keepWal();
    try {
      this.#table.close();
    } finally {
      this.#db.close();
    }
    if (this.#damage === 'gone' && this.#walIsOrphan()) setStrayWalAside(this.#file);
  }

  /** A batch that cannot be decoded at all would be met again and again. */
  #decode(batch: DatagramsHandle, maxRecords: number): DecodedRecords {
    try {
      return this.#table.decode(batch, maxRecords);
    } catch (error) {
      this.#source.release();
      throw error;
    }
  }

  #keepWal(): void {
    try {
      this.#db.prepare('SELECT eventd_keep_wal()').get();
    } catch {
      // The statement touches no page; what fails here failed because the connection is beyond use.
    }
  }

  /** The database was deleted or replaced, and its WAL was left: SQLite would play it into the new file. */
  #walIsOrphan(): boolean {
    const wal = found(`${this.#file}-wal`);
    return (
      wal !== undefined && isSame(wal, this.#files.wal) && !isSame(found(this.#file), this.#files.database)
    );
  }

  /** Applies a changed cache size at once (MET-37). */
  resizeCache(entries: number): void {
    this.#table.resize(entries);
  }

  /** SQLite would go on writing to a file that has no name any more, and the rows would be gone with it. */
  #checkFile(): void {
    if (this.#damage === 'corrupt') {
      const message = `${this.#file}: is damaged and is not written any more`;
      throw new RecordCommitError('ERR_STORE_DAMAGED', message, 'corrupt', 0);
    }
    const problem = this.#guard.problem();
    if (problem === null) return;
    const gone = problem.code !== SHARD_TRUNCATED;
    this.#damage = gone ? 'gone' : 'corrupt';
    const code = gone ? STORE_GONE : STORE_TRUNCATED;
    throw new RecordCommitError(code, `${this.#file}: ${problem.detail}`, this.#damage, 0);
  }

  #undo(error: unknown): RecordCommitError {
    try {
      if (this.#db.inTransaction) this.#db.exec('ROLLBACK');
    } catch {
      // SQLite rolled back by itself, or will at close; the first error is the one that matters.
    }
    const lost = this.#table.rolledBack();
    if (isCorruption(error) || this.#lacksSomething(error)) this.#damage = 'corrupt';
    const message = `${this.#file}: ${errorText(error)}`;
    return new RecordCommitError(sqliteCode(error) ?? 'ERR_COMMIT', message, this.#damage, lost);
  }

  /** A table or an index that was dropped is what the start calls corrupt, too (FAIL-12). */
  #lacksSomething(error: unknown): boolean {
    if (sqliteCode(error) !== 'SQLITE_ERROR') return false;
    try {
      checkStructure(this.#db, this.#file, this.#schema);
      return false;
    } catch (problem) {
      return problem instanceof StoreError && problem.kind === 'corrupt';
    }
  }

  #batchDone(bytes: number): void {
    if (this.#batchRecords > 0) this.#recordBytes = bytes / this.#batchRecords;
    this.#batchRecords = 0;
    this.#source.release();
  }

  #report(done: { records: number; bytes: number; started: number; limits: BatchLimits }): RecordCommit {
    const { records, bytes, started, limits } = done;
    const ended = performance.now();
    const commitMs = ended - started;
    if (records > 0) {
      const elapsedMs = ended - this.#lastEnd;
      this.#load = observeBatch(this.#load, { rows: records, elapsedMs, commitMs });
      this.#lastEnd = ended;
      this.#checkpoint.committed();
    }
    const { holds, status } = this.#source;
    const waiting = holds ? limits.maxBatchSize : status.waiting / this.#recordBytes;
    return {
      records,
      bytes,
      commitMs,
      more: waiting > 0,
      finished: status.finished && waiting === 0,
      lingerMs: recordLingerMs(this.#load, limits, waiting),
    };
  }
}

function found(path: string): Stats | undefined {
  return statSync(path, { throwIfNoEntry: false });
}

function isSame(now: Stats | undefined, then: Stats | undefined): boolean {
  return now?.ino === then?.ino && now?.dev === then?.dev;
}

/** What goes wrong between two transactions the next one meets, too, and tells. */
function quietly(work: () => void): void {
  try {
    work();
  } catch {
    // See above.
  }
}
