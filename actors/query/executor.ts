/**
 * Runs queries inside one worker thread: several at a time, one result frame of one query per turn, so
 * that a large result does not keep a small one waiting (QX-65, QX-67).
 */
import type { CursorHandle, NativeAddon } from '../../src/native/addon.js';
import { EventDatabases } from '../../src/stores/eventDatabases.js';
import { logFiles } from '../../src/stores/logStore.js';
import { metricFiles } from '../../src/stores/metricStore.js';
import {
  type ReadableFile,
  type ReadConnection,
  ReadConnectionPool,
} from '../../src/stores/readConnection.js';
import { errorText, sqliteCode } from '../../src/stores/storeError.js';
import { encodeResult } from '../../src/wire/messages.js';
import type { InterruptGuard } from './interruptGuard.js';
import {
  FRAME_MAX_BYTES,
  FRAME_MAX_RECORDS,
  type FromQueryWorker,
  type QueryFailure,
  type QueryWorkerData,
  type StoreRead,
  type ToQueryWorker,
} from './protocol.js';

/** A file that cannot be opened is reported at most this often, in ms. */
const WARNING_INTERVAL_MS = 60_000;

interface RunningQuery {
  readonly id: number;
  readonly read: StoreRead;
  readonly deadline: bigint;
  readonly abort: AbortController;
  connections: readonly ReadConnection[];
  /** Null before it is open, and for a store without any database. */
  cursor: CursorHandle | null;
  opened: boolean;
  credits: number;
  frames: number;
  queued: boolean;
}

/** The databases of one store, and the connections to them. */
interface Store {
  /** As messages name it. */
  readonly what: string;
  files(): ReadableFile[];
  readonly pool: ReadConnectionPool;
}

type Native = Pick<
  NativeAddon,
  'cursorOpen' | 'cursorFetch' | 'cursorClose' | 'slotDeadline' | 'monotonicNs'
>;

export class QueryExecutor {
  readonly #native: Native;
  readonly #guard: InterruptGuard;
  readonly #post: (message: FromQueryWorker, transfer?: readonly ArrayBuffer[]) => void;
  readonly #stores: Readonly<Record<StoreRead['store'], Store>>;
  readonly #idleTimer: NodeJS.Timeout;
  readonly #queries = new Map<number, RunningQuery>();
  readonly #warnedAt = new Map<string, number>();
  /** Queries that hold a cursor and a credit, in the order of their turns. */
  #ready: RunningQuery[] = [];
  #turnScheduled = false;

  constructor(
    data: QueryWorkerData,
    native: Native,
    guard: InterruptGuard,
    post: (message: FromQueryWorker, transfer?: readonly ArrayBuffer[]) => void,
  ) {
    this.#native = native;
    this.#guard = guard;
    this.#post = post;
    const events = new EventDatabases(data.eventStorePath, (name, reason) => {
      this.#warn(name, 'an event database cannot be read and is left out of queries', reason);
    });
    const skipped = (what: string) => (path: string, reason: string) =>
      this.#warn(path, `a ${what} database cannot be read and is left out of queries`, reason);
    this.#stores = {
      events: { what: 'event', files: () => events.scan(), pool: this.#newPool('event', data) },
      logs: {
        what: 'log',
        files: () => logFiles(data.logStorePath, skipped('log')),
        pool: this.#newPool('log', data),
      },
      metrics: {
        what: 'metric',
        files: () => metricFiles(data.metricStorePath, skipped('metric')),
        pool: this.#newPool('metric', data),
      },
    };
    this.#idleTimer = setInterval(() => {
      for (const { pool } of Object.values(this.#stores)) pool.closeIdle();
    }, data.idleConnectionMs / 2);
    this.#idleTimer.unref();
  }

  #newPool(what: string, data: QueryWorkerData): ReadConnectionPool {
    return new ReadConnectionPool({
      maxOpen: data.maxConnections,
      idleMs: data.idleConnectionMs,
      onUnopenable: (file, error) => {
        const text = `${what === 'event' ? 'an' : 'a'} ${what} database cannot be opened and is left out of a query`;
        this.#warn(file.path, text, errorText(error));
      },
    });
  }

  receive(message: Exclude<ToQueryWorker, { type: 'worker.stop' }>): void {
    if (message.type === 'query.run') {
      void this.#start(message);
      return;
    }
    const query = this.#queries.get(message.id);
    if (query === undefined) return;
    if (message.type === 'query.credit') {
      query.credits++;
      this.#makeReady(query);
    } else {
      query.abort.abort(new Error('cancelled'));
      this.#fail(query, { kind: 'cancelled' });
    }
  }

  /** Ends all queries and closes all connections (LIFE-207). */
  stop(): void {
    clearInterval(this.#idleTimer);
    for (const query of [...this.#queries.values()]) {
      query.abort.abort(new Error('cancelled'));
      this.#fail(query, { kind: 'cancelled' });
    }
    for (const { pool } of Object.values(this.#stores)) pool.close();
  }

  async #start(message: Extract<ToQueryWorker, { type: 'query.run' }>): Promise<void> {
    const { id, read, deadline, credits } = message;
    const query: RunningQuery = {
      id,
      read,
      deadline,
      credits,
      abort: new AbortController(),
      connections: [],
      cursor: null,
      opened: false,
      frames: 0,
      queued: false,
    };
    this.#queries.set(id, query);
    try {
      const { files: listed, pool } = this.#stores[read.store];
      const files = listed();
      pool.retain(files);
      const connections = await pool.acquire(files, query.abort.signal);
      // A cancel may have come between the grant and this line; then nobody else gives them back.
      if (!this.#queries.has(id)) return pool.release(connections);
      query.connections = connections;
      this.#open(query);
      query.opened = true;
      this.#makeReady(query);
    } catch (error) {
      this.#failWith(query, error);
    }
  }

  #open(query: RunningQuery): void {
    if (query.connections.length === 0) return;
    const remainingMs = this.#remainingMs(query);
    if (remainingMs <= 0) {
      this.#fail(query, { kind: 'deadline' });
      return;
    }
    const slots = query.connections.map((connection) => connection.slot);
    this.#post({ type: 'query.executing', id: query.id, slots });
    for (const slot of slots) this.#native.slotDeadline(slot, remainingMs);
    const { sql, params, sort, skip, take, fields, encoded } = query.read;
    query.cursor = this.#guard.execute(query.id, () =>
      this.#native.cursorOpen({
        parts: slots.map((slot) => ({ slot, sql, params })),
        sort,
        skip,
        take,
        fields,
        encoded,
      }),
    );
  }

  #makeReady(query: RunningQuery): void {
    if (!query.opened || query.queued || query.credits === 0 || !this.#queries.has(query.id)) return;
    query.queued = true;
    this.#ready.push(query);
    this.#scheduleTurn();
  }

  #scheduleTurn(): void {
    if (this.#turnScheduled || this.#ready.length === 0) return;
    this.#turnScheduled = true;
    // An immediate, not a loop: credits and cancels that wait in the port come first.
    setImmediate(() => {
      this.#turnScheduled = false;
      const query = this.#ready.shift();
      if (query !== undefined) {
        query.queued = false;
        this.#fetch(query);
      }
      this.#scheduleTurn();
    });
  }

  #fetch(query: RunningQuery): void {
    const { cursor } = query;
    if (cursor === null) {
      this.#sendNothing(query);
      return;
    }
    try {
      const chunk = this.#guard.execute(query.id, () =>
        this.#native.cursorFetch(cursor, FRAME_MAX_RECORDS, FRAME_MAX_BYTES),
      );
      // The end may coincide with a frame's border; an empty message is sent only when it is the first.
      if (chunk.records > 0 || query.frames === 0) {
        query.credits--;
        query.frames++;
        this.#postFrame(query.id, chunk.records, chunk.frame);
      }
      if (chunk.done) this.#finish(query);
      else this.#makeReady(query);
    } catch (error) {
      this.#failWith(query, error);
    }
  }

  /** There is no database at all: one empty result message (WIRE-7). */
  #sendNothing(query: RunningQuery): void {
    this.#postFrame(query.id, 0, encodeResult([]));
    this.#finish(query);
  }

  #postFrame(id: number, records: number, frame: Uint8Array): void {
    const whole = frame.byteLength === frame.buffer.byteLength ? frame : frame.slice();
    this.#post({ type: 'query.frame', id, records, frame: whole }, [whole.buffer as ArrayBuffer]);
  }

  #finish(query: RunningQuery): void {
    this.#release(query);
    this.#post({ type: 'query.finished', id: query.id });
  }

  #failWith(query: RunningQuery, error: unknown): void {
    if (!this.#queries.has(query.id)) return;
    const code = sqliteCode(error);
    if (code === 'SQLITE_INTERRUPT') {
      // Whoever cancels has told the main thread already, so this is the deadline unless it asked for it.
      this.#fail(query, { kind: 'deadline' });
      return;
    }
    const { what } = this.#stores[query.read.store];
    this.#warn('read', `a query failed while reading the ${what} databases`, errorText(error));
    const detail = code === null ? '' : ` (${code})`;
    this.#fail(query, {
      kind: 'storage',
      text: `storage error: the ${what} store could not be read${detail}`,
    });
  }

  #fail(query: RunningQuery, failure: QueryFailure): void {
    if (!this.#queries.has(query.id)) return;
    this.#release(query);
    this.#post({ type: 'query.failed', id: query.id, failure });
  }

  #release(query: RunningQuery): void {
    this.#queries.delete(query.id);
    this.#ready = this.#ready.filter((other) => other !== query);
    if (query.cursor !== null) this.#native.cursorClose(query.cursor);
    query.cursor = null;
    for (const connection of query.connections) this.#native.slotDeadline(connection.slot, 0);
    this.#stores[query.read.store].pool.release(query.connections);
    query.connections = [];
  }

  #remainingMs(query: RunningQuery): number {
    return Math.ceil(Number(query.deadline - this.#native.monotonicNs()) / 1e6);
  }

  #warn(subject: string, text: string, reason: string): void {
    const now = performance.now();
    const last = this.#warnedAt.get(`${subject}\n${reason}`);
    if (last !== undefined && now - last < WARNING_INTERVAL_MS) return;
    if (this.#warnedAt.size > 1000) this.#warnedAt.clear();
    this.#warnedAt.set(`${subject}\n${reason}`, now);
    this.#post({ type: 'worker.warning', text, details: { subject, reason } });
  }
}
