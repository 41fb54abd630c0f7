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
/** Bytes that a commit adds to the WAL below which it is part of a trickle. */
const TRICKLE_BYTES = 64 * 1024;

/** PASSIVE moves what it can and never waits for readers (ING-64, ING-65); NOOP only looks. */
type CheckpointMode = 'NOOP' | 'PASSIVE';

/**
 * Frames of the WAL that are not in the database, after a checkpoint of this mode; 0 while somebody else makes one.
 *
 * @throws SQLite's error
 */
export function pendingFrames(db: Database, mode: CheckpointMode): number {
  const [state] = db.pragma(`wal_checkpoint(${mode})`) as { log: bigint; checkpointed: bigint }[];
  return state === undefined ? 0 : Number(state.log - state.checkpointed);
}

export interface CheckpointFailure {
  readonly code: string;
  readonly message: string;
}

/** The checkpoints of one writing connection. Between transactions only; never throws. */
export class WalCheckpoint {
  readonly #db: Database;
  readonly #file: string;
  readonly #pageSize: number;
  /** Bytes in the WAL after the last commit. */
  #pending = 0;
  /** Bytes that the last attempt has left there, because of a reader or a failure. */
  #left = 0;
  #fails = false;
  #failure: CheckpointFailure | null = null;

  /** @throws SQLite's error when the page size cannot be read */
  constructor(db: Database, file: string) {
    this.#db = db;
    this.#file = file;
    this.#pageSize = Number(db.pragma('page_size', { simple: true }));
  }

  /** A transaction was committed. */
  committed(): void {
    const pending = this.#pendingBytes('NOOP');
    if (pending === null) return;
    const added = pending - this.#pending;
    this.#pending = pending;
    // Somebody else has moved what was left.
    if (pending < this.#left) this.#left = 0;
    const limit = added < TRICKLE_BYTES ? TRICKLE_CHECKPOINT_BYTES : CHECKPOINT_BYTES;
    if (pending < (this.#left === 0 ? limit : this.#left + RETRY_BYTES)) return;
    this.#left = this.#pendingBytes('PASSIVE') ?? pending;
    this.#pending = this.#left;
  }

  /** Why a checkpoint failed: the first failure of a row of them, once (FAIL-11). */
  takeFailure(): CheckpointFailure | null {
    const failure = this.#failure;
    this.#failure = null;
    return failure;
  }

  /** Null = it failed. */
  #pendingBytes(mode: CheckpointMode): number | null {
    try {
      const frames = pendingFrames(this.#db, mode);
      if (mode === 'PASSIVE') this.#fails = false;
      return frames * this.#pageSize;
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
