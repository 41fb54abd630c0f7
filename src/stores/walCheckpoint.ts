/**
 * When a writer moves its WAL into the database. It goes by what is in the WAL: a commit of one row writes
 * whole pages, a hundred times what the row has.
 */
import type { Database } from 'better-sqlite3';
import { errorText, sqliteCode } from './storeError.js';

/** Bytes in the WAL, not yet in the database, that start a checkpoint (ING-63, ING-66, LOG-45, MET-57). */
export const CHECKPOINT_BYTES = 16 * 1024 * 1024;
/** The same while records only trickle in: a small disk is not to be filled with copies of the same few pages. */
export const TRICKLE_CHECKPOINT_BYTES = CHECKPOINT_BYTES / 4;
/** Further bytes before the next attempt when one has left something. */
const RETRY_BYTES = CHECKPOINT_BYTES / 4;
/** Bytes of a commit's records below which it is part of a trickle. */
const TRICKLE_BYTES = 64 * 1024;

export interface CheckpointFailure {
  readonly code: string;
  readonly message: string;
}

/** The checkpoints of one writing connection. Between transactions only; never throws. */
export class WalCheckpoint {
  readonly #db: Database;
  readonly #file: string;
  readonly #pageSize: number;
  /** Bytes that the last attempt has left in the WAL, because of a reader or a failure. */
  #left = 0;
  #fails = false;
  #failure: CheckpointFailure | null = null;

  /** @throws SQLite's error when the page size cannot be read */
  constructor(db: Database, file: string) {
    this.#db = db;
    this.#file = file;
    this.#pageSize = Number(db.pragma('page_size', { simple: true }));
  }

  /** A transaction with so many bytes of records was committed. */
  committed(bytes: number): void {
    const pending = this.#pendingBytes('NOOP');
    if (pending === null) return;
    // Somebody else has moved what was left.
    if (pending < this.#left) this.#left = 0;
    const limit = bytes < TRICKLE_BYTES ? TRICKLE_CHECKPOINT_BYTES : CHECKPOINT_BYTES;
    if (pending < (this.#left === 0 ? limit : this.#left + RETRY_BYTES)) return;
    this.#left = this.#pendingBytes('PASSIVE') ?? pending;
  }

  /** Why a checkpoint failed: the first failure of a row of them, once (FAIL-11). */
  takeFailure(): CheckpointFailure | null {
    const failure = this.#failure;
    this.#failure = null;
    return failure;
  }

  /**
   * Page bytes of the WAL that are not in the database, after a checkpoint of this mode; null = it failed.
   * PASSIVE moves what it can and never waits for readers (ING-64, ING-65).
   */
  #pendingBytes(mode: 'NOOP' | 'PASSIVE'): number | null {
    try {
      const [state] = this.#db.pragma(`wal_checkpoint(${mode})`) as { log: bigint; checkpointed: bigint }[];
      if (mode === 'PASSIVE') this.#fails = false;
      return state === undefined ? 0 : Number(state.log - state.checkpointed) * this.#pageSize;
    } catch (error) {
      // The batch is committed and the WAL keeps it; the next checkpoint tries again.
      if (mode === 'PASSIVE') this.#failed(error);
      return null;
    }
  }

  #failed(error: unknown): void {
    if (!this.#fails) {
      const message = `${this.#file}: checkpoint: ${errorText(error)}`;
      this.#failure = { code: sqliteCode(error) ?? 'ERR_CHECKPOINT', message };
    }
    this.#fails = true;
  }
}
