/**
 * A database as retention works on it: a read-write connection of its own (RET-6), which deletes in small
 * transactions while the writer waits, measures what is used, and checkpoints what it has written.
 */
import { type Stats, statSync } from 'node:fs';
import { native } from '../native/addon.js';
import { isCorruption, StoreError, sqliteCode } from './storeError.js';
import { openStore, realPath, type StoreConnection, type StoreSchema } from './storeFile.js';
import { pendingFrames } from './walCheckpoint.js';

/** ms to wait for a lock: under a lease nobody but an administrator can hold it. */
const BUSY_TIMEOUT_MS = 1000;

/** A batch that takes longer is given up and tried smaller: the writer waits for it (FAIL-33). */
export const BATCH_LIMIT_MS = 250;

/** Retention reads pages it has not seen and will not see again. */
const CACHE_KIB = 1024;

/** The batch was interrupted at BATCH_LIMIT_MS and rolled back. */
export class BatchTooLong extends Error {
  override readonly name = 'BatchTooLong';
}

export class RetentionDatabase {
  readonly file: string;
  readonly db: StoreConnection;
  readonly #slot: number;
  readonly #opened: Stats;
  readonly #pageSize: bigint;
  readonly #begin;
  readonly #commit;
  #damaged = false;

  /** @throws StoreError when the file is not there or must not be written (RET-12) */
  constructor(file: string, schema: StoreSchema) {
    this.file = realPath(file);
    const opened = statSync(this.file, { throwIfNoEntry: false });
    if (opened === undefined || opened.size === 0) throw new StoreError('io', file, 'there is no database');
    this.#opened = opened;
    this.db = openStore(this.file, { ...schema, cacheKib: CACHE_KIB }, BUSY_TIMEOUT_MS);
    try {
      this.db.pragma('temp_store = MEMORY');
      this.#slot = Number(this.db.prepare('SELECT eventd_slot()').pluck().get());
      this.#pageSize = this.#number('page_size');
      this.#begin = this.db.prepare('BEGIN IMMEDIATE');
      this.#commit = this.db.prepare('COMMIT');
    } catch (error) {
      this.db.close();
      throw error;
    }
  }

  /** Bytes of the pages in use: what DELETE makes smaller, unlike the file (RET-12). */
  usedBytes(): bigint {
    return (this.#number('page_count') - this.#number('freelist_count')) * this.#pageSize;
  }

  /**
   * One transaction. Call it under a lease only.
   *
   * @throws BatchTooLong after rolling back, StoreError when the file is not the one that was opened, or
   *   SQLite's error
   */
  batch<T>(work: () => T): T {
    this.#checkFile();
    native.slotDeadline(this.#slot, BATCH_LIMIT_MS);
    try {
      this.#begin.run();
      const result = work();
      this.#commit.run();
      return result;
    } catch (error) {
      // Else it might meet the rollback.
      native.slotDeadline(this.#slot, 0);
      this.#rollBack();
      if (sqliteCode(error) === 'SQLITE_INTERRUPT') {
        throw new BatchTooLong(`${this.file}: a batch took longer than ${BATCH_LIMIT_MS} ms`);
      }
      this.met(error);
      throw error;
    } finally {
      native.slotDeadline(this.#slot, 0);
    }
  }

  /** Moves the WAL into the database where enough has come together; needs no lease, and waits for nobody. */
  checkpointWhenDue(atBytes: number): void {
    const pending = this.#pendingFrames('NOOP');
    if (pending > 0 && pending * Number(this.#pageSize) >= atBytes) this.#pendingFrames('PASSIVE');
  }

  /** Remembers what an error says of the file: a damaged one gets no checkpoint at close (FAIL-13). */
  met(error: unknown): void {
    this.#damaged ||= isCorruption(error);
  }

  close(): void {
    if (this.#damaged || !this.#isOpenedFile()) this.#keepWal();
    this.db.close();
  }

  /** SQLite would go on deleting from a file that was renamed because it is damaged. */
  #checkFile(): void {
    if (!this.#isOpenedFile()) throw new StoreError('io', this.file, 'the file was taken away or replaced');
  }

  // By name alone: a descriptor of our own, closed, would drop the locks of the whole process on the file.
  #isOpenedFile(): boolean {
    const now = statSync(this.file, { throwIfNoEntry: false });
    return now?.ino === this.#opened.ino && now.dev === this.#opened.dev;
  }

  #rollBack(): void {
    try {
      if (this.db.inTransaction) this.db.exec('ROLLBACK');
    } catch {
      // SQLite rolled back by itself, or will at close; the first error is the one that matters.
    }
  }

  /** Frames that are not in the database; 0 while somebody else checkpoints. */
  #pendingFrames(mode: 'NOOP' | 'PASSIVE'): number {
    try {
      return pendingFrames(this.db, mode);
    } catch (error) {
      this.met(error);
      return 0;
    }
  }

  #keepWal(): void {
    try {
      this.db.prepare('SELECT eventd_keep_wal()').get();
    } catch {
      // The statement touches no page; what fails here failed because the connection is beyond use.
    }
  }

  #number(pragma: string): bigint {
    return BigInt(this.db.pragma(pragma, { simple: true }) as bigint | number);
  }
}
