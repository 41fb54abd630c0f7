/**
 * The scratch database of one query: SQLite in memory, with the extension, under the query memory limit.
 * It has a slot of its own, so interrupts and deadlines reach it as they reach the stores' connections.
 */
import Database from 'better-sqlite3';
import { addonPath } from '../../src/native/addon.js';
import { QueryError } from '../../src/query/errors.js';
import type { MemoryShare } from './memory.js';

const PAGE_BYTES = 4096;

/** What a new scratch database reserves; further steps double up to the largest. */
const FIRST_STEP_BYTES = 256 * 1024;
const LARGEST_STEP_BYTES = 8 * 1024 * 1024;

/** Pages of a b-tree may be half full after a split, and inner pages come on top. */
const FILL_FACTOR = 3;

/** Schema, tree roots and splits. */
const SPARE_PAGES = 16;

export class Scratch {
  readonly #database: Database.Database;
  readonly #memory: MemoryShare;
  readonly #pageCount: Database.Statement;
  /** Number under which the addon knows this connection (copies, cursors, interrupts, deadlines). */
  readonly slot: number;
  #pages = 0;
  #step = FIRST_STEP_BYTES;

  /** @throws QueryError `limit exceeded` when the query memory is used up */
  constructor(memory: MemoryShare) {
    this.#memory = memory;
    this.#database = new Database(':memory:');
    try {
      this.#database.loadExtension(addonPath);
      this.#database.defaultSafeIntegers(true);
      this.#database.pragma(`page_size = ${PAGE_BYTES}`);
      // Nothing is ever rolled back: what fails ends the query, and the database with it.
      this.#database.pragma('journal_mode = OFF');
      // Of a database in memory this bounds what a sort holds before it goes to a temporary file.
      this.#database.pragma('cache_size = -1024');
      this.slot = Number(this.#database.prepare('SELECT eventd_slot()').pluck().get());
      this.#pageCount = this.#database.prepare('PRAGMA page_count').pluck().safeIntegers(false);
      this.makeRoom(PAGE_BYTES);
    } catch (error) {
      this.#database.close();
      throw error;
    }
  }

  /** Runs statements without parameters and results. */
  exec(sql: string): void {
    this.#database.exec(sql);
  }

  /** A statement of this database; call {@link makeRoom} before it adds rows. */
  prepare(sql: string): Database.Statement {
    return this.#database.prepare(sql);
  }

  /**
   * Sees to it that rows of `bytes` in all can be inserted next.
   * @throws QueryError `limit exceeded` when the query memory is used up
   */
  makeRoom(bytes: number): void {
    const needed = Math.ceil((bytes * FILL_FACTOR) / PAGE_BYTES) + SPARE_PAGES;
    const missing = (Number(this.#pageCount.get()) + needed - this.#pages) * PAGE_BYTES;
    if (missing <= 0) return;
    const step = Math.max(missing, this.#step);
    // A whole step may be too much where the rest is enough.
    if (this.#memory.reserve(step)) this.#grow(step);
    else if (this.#memory.reserve(missing)) this.#grow(missing);
    else throw memoryExceeded(this.#memory.limit);
    this.#step = Math.min(this.#step * 2, LARGEST_STEP_BYTES);
  }

  /** Whether the last insert failed because there was no page left for it. */
  get isFull(): boolean {
    return Number(this.#pageCount.get()) >= this.#pages;
  }

  #grow(bytes: number): void {
    this.#pages += bytes / PAGE_BYTES;
    this.#database.pragma(`max_page_count = ${this.#pages}`);
  }

  /** Frees the memory; the share is given back by whoever owns it. Safe twice. */
  close(): void {
    this.#database.close();
  }
}

/** A query needs more than `QueryMemoryBytes` leaves it. */
export function memoryExceeded(limit: number): QueryError {
  return new QueryError(
    'X',
    'limit exceeded',
    `the running queries need more memory than the ${limit} bytes of QueryMemoryBytes; ` +
      'narrow SINCE and UNTIL, or group by a field of fewer values',
  );
}
