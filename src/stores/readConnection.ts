/**
 * Read-only connections of one thread to event databases, pooled (QX-60, QX-66, STO-28).
 *
 * A connection runs one cursor at a time, so a query takes one for each of its databases, all at once or
 * none: two queries that each held half of what they need would wait for each other.
 */
import Database from 'better-sqlite3';
import { addonPath } from '../native/addon.js';

/** Page cache of a connection in KiB; QX-66 advises 512 to 1024. */
const PAGE_CACHE_KIB = 1024;

/** Time SQLite waits for a lock that only recovery of a WAL can hold against a reader, in ms. */
const BUSY_TIMEOUT_MS = 1000;

/** A database as discovery found it. */
export interface ReadableFile {
  readonly path: string;
  /** Tells a replaced file from the old one under the same name. */
  readonly identity: string;
}

/** An open read-only connection with the SQLite extension in it. */
export class ReadConnection {
  readonly #database: Database.Database;
  /** Number under which the addon knows this connection (cursors, interrupts, deadlines). */
  readonly slot: number;
  /** When it was last given back, in ms of `performance.now()`. */
  idleSince = 0;

  /** @throws SqliteError when the file cannot be opened as a database */
  constructor(readonly file: ReadableFile) {
    this.#database = openReadOnly(file.path);
    try {
      // SQLite derives the entry point, `extensionEntry`, from the file name.
      this.#database.loadExtension(addonPath);
      this.slot = Number(this.#database.prepare('SELECT eventd_slot()').pluck().get());
      this.#database.prepare('SELECT eventd_read_ahead()').get();
    } catch (error) {
      this.#database.close();
      throw error;
    }
  }

  /** A statement whose rows come to JavaScript; integers are bigint. */
  prepare(sql: string): Database.Statement {
    return this.#database.prepare(sql).safeIntegers(true);
  }

  /**
   * Begins a snapshot: until {@link endSnapshot} every statement of this connection reads the database as it
   * is now. Returns the highest rowid of the table in it, 0 when the table is empty (STR-3).
   */
  beginSnapshot(table: 'events' | 'logs' | 'series'): bigint {
    this.#database.exec('BEGIN');
    return this.prepare(`SELECT ifnull(max(id), 0) FROM ${table}`).pluck().get() as bigint;
  }

  /** Its statements must have ended. Harmless when there is no snapshot. */
  endSnapshot(): void {
    if (this.#database.inTransaction) this.#database.exec('ROLLBACK');
  }

  close(): void {
    this.#database.close();
  }
}

/** Opens a database for reading alone; it must exist. */
export function openReadOnly(path: string): Database.Database {
  const database = new Database(path, { readonly: true, fileMustExist: true, timeout: BUSY_TIMEOUT_MS });
  try {
    database.pragma(`cache_size = -${PAGE_CACHE_KIB}`);
    database.pragma('query_only = ON');
    // Damaged files stay readable as far as possible (FAIL-15); a bad page must be noticed, not followed.
    database.pragma('cell_size_check = ON');
    return database;
  } catch (error) {
    database.close();
    throw error;
  }
}

export interface ReadPoolOptions {
  /** Connections open at once. A single query that needs more gets them when it is alone. */
  readonly maxOpen: number;
  /** Idle time after which a connection is closed, in ms. */
  readonly idleMs: number;
  /** Told of a file that could not be opened; it is left out of the query (QX-21). */
  readonly onUnopenable: (file: ReadableFile, error: unknown) => void;
}

interface Waiter {
  readonly files: readonly ReadableFile[];
  readonly resolve: (connections: ReadConnection[]) => void;
  readonly reject: (error: unknown) => void;
}

/** A bounded pool of {@link ReadConnection}s; those who find it full wait in line. */
export class ReadConnectionPool {
  readonly #options: ReadPoolOptions;
  readonly #idle = new Map<string, ReadConnection[]>();
  #idleCount = 0;
  #busyCount = 0;
  #waiting: Waiter[] = [];
  #closed = false;

  constructor(options: ReadPoolOptions) {
    this.#options = options;
  }

  /** Connections open now, and those of them at work. */
  get size(): { readonly open: number; readonly busy: number; readonly waiting: number } {
    return {
      open: this.#idleCount + this.#busyCount,
      busy: this.#busyCount,
      waiting: this.#waiting.length,
    };
  }

  /**
   * One connection per file, in the order of the files; unopenable ones are missing from the result.
   * Waits in line while the pool is full. `signal` takes the caller out of the line.
   */
  acquire(files: readonly ReadableFile[], signal: AbortSignal): Promise<ReadConnection[]> {
    return new Promise((resolve, reject) => {
      if (this.#closed) return reject(new Error('the connection pool is closed'));
      if (signal.aborted) return reject(signal.reason);
      const waiter: Waiter = { files, resolve, reject };
      signal.addEventListener('abort', () => {
        if (!this.#waiting.includes(waiter)) return;
        this.#waiting = this.#waiting.filter((other) => other !== waiter);
        reject(signal.reason);
        this.#serveWaiting();
      });
      this.#waiting.push(waiter);
      this.#serveWaiting();
    });
  }

  /** Gives connections back; their cursors are closed. */
  release(connections: readonly ReadConnection[]): void {
    const now = performance.now();
    for (const connection of connections) {
      this.#busyCount--;
      if (this.#closed) {
        connection.close();
        continue;
      }
      connection.idleSince = now;
      const idle = this.#idle.get(connection.file.path);
      if (idle === undefined) this.#idle.set(connection.file.path, [connection]);
      else idle.push(connection);
      this.#idleCount++;
    }
    this.#serveWaiting();
  }

  /** Closes connections nobody used for a while. */
  closeIdle(now = performance.now()): void {
    this.#closeIdleIf((connection) => now - connection.idleSince >= this.#options.idleMs);
  }

  /** Closes idle connections to files that were deleted or replaced, so their space can be freed. */
  retain(files: readonly ReadableFile[]): void {
    const known = new Map(files.map((file) => [file.path, file.identity]));
    this.#closeIdleIf((connection) => known.get(connection.file.path) !== connection.file.identity);
  }

  /** Closes all idle connections now and the others when they come back. Safe twice. */
  close(): void {
    this.#closed = true;
    this.#closeIdleIf(() => true);
    for (const waiter of this.#waiting.splice(0)) waiter.reject(new Error('the connection pool is closed'));
  }

  #serveWaiting(): void {
    for (let next = this.#waiting[0]; next !== undefined; next = this.#waiting[0]) {
      // Only the head of the line is served: a query over many files must not starve behind small ones.
      if (this.#busyCount > 0 && this.#busyCount + next.files.length > this.#options.maxOpen) return;
      this.#waiting.shift();
      next.resolve(this.#take(next.files));
    }
  }

  #take(files: readonly ReadableFile[]): ReadConnection[] {
    const taken: ReadConnection[] = [];
    for (const file of files) {
      const connection = this.#takeIdle(file) ?? this.#open(file);
      if (connection === null) continue;
      this.#busyCount++;
      taken.push(connection);
    }
    return taken;
  }

  #takeIdle(file: ReadableFile): ReadConnection | null {
    const idle = this.#idle.get(file.path);
    for (let connection = idle?.pop(); connection !== undefined; connection = idle?.pop()) {
      this.#idleCount--;
      if (connection.file.identity === file.identity) return connection;
      connection.close();
    }
    return null;
  }

  #open(file: ReadableFile): ReadConnection | null {
    if (this.#idleCount + this.#busyCount >= this.#options.maxOpen) this.#closeLongestIdle();
    try {
      return new ReadConnection(file);
    } catch (error) {
      this.#options.onUnopenable(file, error);
      return null;
    }
  }

  #closeLongestIdle(): void {
    let oldest: ReadConnection | null = null;
    for (const idle of this.#idle.values()) {
      const first = idle[0];
      if (first !== undefined && (oldest === null || first.idleSince < oldest.idleSince)) oldest = first;
    }
    if (oldest !== null) this.#closeIdleIf((connection) => connection === oldest);
  }

  #closeIdleIf(outdated: (connection: ReadConnection) => boolean): void {
    for (const [path, idle] of this.#idle) {
      const kept = idle.filter((connection) => {
        if (!outdated(connection)) return true;
        connection.close();
        this.#idleCount--;
        return false;
      });
      if (kept.length === 0) this.#idle.delete(path);
      else this.#idle.set(path, kept);
    }
  }
}
