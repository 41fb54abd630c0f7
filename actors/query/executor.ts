/**
 * Runs jobs inside one worker thread: several at a time, one step of a stage or one result frame of one
 * query per turn, and of a frame that takes long a slice, so that a large query does not keep a small one
 * waiting (QX-65, QX-67).
 */
import { chooseSql } from '../../src/indexes/choice.js';
import type { NativeAddon } from '../../src/native/addon.js';
import { QueryError } from '../../src/query/errors.js';
import { needsScratch, type QueryJob, type StoreName, storesOf } from '../../src/query/job.js';
import type { Survey } from '../../src/query/survey.js';
import { CommitFeed } from '../../src/stores/commitFeed.js';
import { EventDatabases } from '../../src/stores/eventDatabases.js';
import { LOG_SCHEMA } from '../../src/stores/logSchema.js';
import { METRIC_SCHEMA } from '../../src/stores/metricSchema.js';
import { type ReadableFile, ReadConnectionPool } from '../../src/stores/readConnection.js';
import { readableFiles } from '../../src/stores/singleStore.js';
import { errorText, sqliteCode } from '../../src/stores/storeError.js';
import { encodeResult } from '../../src/wire/messages.js';
import type { InterruptGuard } from './interruptGuard.js';
import { MemoryShare, QueryMemory } from './memory.js';
import {
  FRAME_MAX_BYTES,
  FRAME_MAX_RECORDS,
  type FromQueryWorker,
  type QueryFailure,
  type QueryWorkerData,
  type ToQueryWorker,
} from './protocol.js';
import { bindRanges, type RunningQuery, slotsOf, slotsOfSource, type Work } from './runningQuery.js';
import { memoryExceeded, Scratch } from './scratch.js';
import type { StageContext } from './stages/context.js';
import { runStages } from './stages/stages.js';
import { Surveys } from './surveys.js';

/** A turn of a read ends after this time, also where no row was found meanwhile. */
const SLICE_MS = 5;

/** A file that cannot be opened is reported at most this often, in ms. */
const WARNING_INTERVAL_MS = 60_000;

/** The databases of one store, and the connections to them. */
interface Store {
  /** As messages name it. */
  readonly what: string;
  files(): ReadableFile[];
  readonly pool: ReadConnectionPool;
}

export class QueryExecutor {
  readonly #native: NativeAddon;
  readonly #commits: CommitFeed;
  readonly #guard: InterruptGuard;
  readonly #post: (message: FromQueryWorker, transfer?: readonly ArrayBuffer[]) => void;
  readonly #stores: Readonly<Record<StoreName, Store>>;
  readonly #idleTimer: NodeJS.Timeout;
  readonly #queries = new Map<number, RunningQuery>();
  readonly #memory: QueryMemory;
  readonly #worker: number;
  readonly #surveys: Surveys;
  readonly #warnedAt = new Map<string, number>();
  /** Queries with a step to do, or with a cursor and a credit, in the order of their turns. */
  #ready: RunningQuery[] = [];
  #turnScheduled = false;

  constructor(
    data: QueryWorkerData,
    native: NativeAddon,
    guard: InterruptGuard,
    post: (message: FromQueryWorker, transfer?: readonly ArrayBuffer[]) => void,
  ) {
    this.#native = native;
    this.#commits = new CommitFeed(data.commits);
    this.#guard = guard;
    this.#post = post;
    this.#memory = new QueryMemory(data.memory);
    this.#worker = data.worker;
    this.#surveys = new Surveys((learned) => post({ type: 'worker.learned', learned }));
    const events = new EventDatabases(data.eventStorePath, (name, reason) => {
      this.#warn(name, 'an event database cannot be read and is left out of queries', reason);
    });
    const skipped = (what: string) => (path: string, reason: string) =>
      this.#warn(path, `a ${what} database cannot be read and is left out of queries`, reason);
    this.#stores = {
      events: { what: 'event', files: () => events.scan(), pool: this.#newPool('event', data) },
      logs: {
        what: 'log',
        files: () => readableFiles(data.logStorePath, LOG_SCHEMA, skipped('log')),
        pool: this.#newPool('log', data),
      },
      metrics: {
        what: 'metric',
        files: () => readableFiles(data.metricStorePath, METRIC_SCHEMA, skipped('metric')),
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
      void this.#start(message, { kind: 'job', job: message.job });
      return;
    }
    if (message.type === 'query.survey') {
      void this.#start({ ...message, credits: 0, seam: null }, { kind: 'survey', survey: message.survey });
      return;
    }
    if (message.type === 'worker.learned') {
      this.#surveys.adopt(message.learned);
      return;
    }
    const query = this.#queries.get(message.id);
    if (query === undefined) return;
    if (message.type === 'query.credit') {
      query.credits++;
      if (message.spent !== null) query.spent.push(message.spent);
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

  async #start(
    message: Pick<Extract<ToQueryWorker, { type: 'query.run' }>, 'id' | 'deadline' | 'credits' | 'seam'>,
    work: Work,
  ): Promise<void> {
    const { id, deadline, credits, seam } = message;
    const query: RunningQuery = {
      id,
      work,
      stores: work.kind === 'job' ? storesOf(work.job) : [work.survey.store],
      deadline,
      credits,
      seam,
      abort: new AbortController(),
      memory: new MemoryShare(this.#memory, this.#worker),
      connections: new Map(),
      scratch: null,
      steps: null,
      ranges: new Map(),
      texts: new Map(),
      cursor: null,
      opened: false,
      spent: [],
      frames: 0,
      queued: false,
    };
    this.#queries.set(id, query);
    try {
      const listed = this.#commits.next;
      for (const name of query.stores) {
        const { pool, ...store } = this.#stores[name];
        const files = store.files();
        pool.retain(files);
        const connections = await pool.acquire(files, query.abort.signal);
        // A cancel may have come between the grant and this line; then nobody else gives them back.
        if (!this.#queries.has(id)) return pool.release(connections);
        query.connections.set(name, connections);
      }
      if (work.kind === 'job' && needsScratch(work.job)) query.scratch = new Scratch(query.memory);
      this.#open(query, listed);
    } catch (error) {
      this.#failWith(query, error);
    }
  }

  /** Everything the job needs is there: its clock is set, its turns begin. */
  #open(query: RunningQuery, listed: bigint): void {
    const remainingMs = this.#remainingMs(query);
    if (remainingMs <= 0) {
      this.#fail(query, { kind: 'deadline' });
      return;
    }
    const slots = slotsOf(query);
    this.#post({ type: 'query.executing', id: query.id, slots });
    for (const slot of slots) this.#native.slotDeadline(slot, remainingMs);
    if (query.seam !== null) this.#beginSnapshots(query, query.seam, listed);
    const { work } = query;
    if (work.kind === 'survey') query.steps = this.#survey(query, work.survey);
    else if (work.job.stages.length > 0 || work.job.read.choice !== undefined) {
      query.steps = this.#stepsOf(query, work.job);
    } else this.#openCursor(query, work.job);
    query.opened = true;
    this.#makeReady(query);
  }

  /** Its last step is the answer. */
  *#survey(query: RunningQuery, survey: Survey): Generator<void, void, void> {
    const found = yield* this.#surveys.run(survey, this.#contextOf(query));
    // A generator cannot be ended from within.
    query.steps = null;
    this.#release(query);
    this.#post({ type: 'query.surveyed', id: query.id, found });
  }

  /** All the job reads of the store comes from one snapshot per database, and a stream goes on behind it (STR-3). */
  #beginSnapshots(query: RunningQuery, table: 'events' | 'logs', listed: bigint): void {
    const ticket = this.#commits.next;
    const databases = this.#guard.execute(query.id, () =>
      (query.connections.get(table) ?? []).map((connection) => ({
        path: connection.file.path,
        last: connection.beginSnapshot(table),
      })),
    );
    this.#post({ type: 'query.seam', id: query.id, seam: { listed, ticket, databases } });
  }

  #contextOf(query: RunningQuery): StageContext {
    const { scratch } = query;
    return {
      connections: (store) => query.connections.get(store) ?? [],
      get scratch() {
        if (scratch === null) throw new Error('the job has no scratch database');
        return scratch;
      },
      memory: query.memory,
      native: this.#native,
      bind: (params) => bindRanges(params, query.ranges),
      execute: (call) => this.#guard.execute(query.id, call),
      setRanges: (index, ranges) => query.ranges.set(index, ranges),
    };
  }

  /** What comes before the read: its stages, and in each database the choice of an index. */
  *#stepsOf(query: RunningQuery, { stages, read }: QueryJob): Generator<void, void, void> {
    const context = this.#contextOf(query);
    yield* runStages(stages, context);
    if (read.choice === undefined || read.store === 'scratch') return;
    for (const connection of context.connections(read.store)) {
      query.texts.set(connection.slot, yield* chooseSql(connection, read, context));
      yield;
    }
  }

  #openCursor(query: RunningQuery, job: QueryJob): void {
    const { store, sql, params, sort, skip, take, fields, shown, encoded } = job.read;
    const slots = slotsOfSource(query, store);
    if (slots.length === 0) return;
    const bound = bindRanges(params, query.ranges);
    query.cursor = this.#guard.execute(query.id, () =>
      this.#native.cursorOpen({
        parts: slots.map((slot) => ({ slot, sql: query.texts.get(slot) ?? sql, params: bound })),
        sort,
        skip,
        take,
        fields,
        shown: shown ?? null,
        encoded,
      }),
    );
  }

  #makeReady(query: RunningQuery): void {
    if (!query.opened || query.queued || !this.#queries.has(query.id)) return;
    if (query.steps === null && query.credits === 0) return;
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
        if (query.steps === null) this.#fetch(query);
        else this.#prepare(query, query.steps);
      }
      this.#scheduleTurn();
    });
  }

  /** One step of the stages; behind the last the read begins. */
  #prepare(query: RunningQuery, steps: Generator<void, void, void>): void {
    // An interrupt ends only what is inside SQLite.
    if (this.#remainingMs(query) <= 0) {
      this.#fail(query, { kind: 'deadline' });
      return;
    }
    try {
      if (steps.next().done === true) {
        query.steps = null;
        if (query.work.kind === 'survey') return;
        this.#openCursor(query, query.work.job);
      }
      this.#makeReady(query);
    } catch (error) {
      this.#failWith(query, error);
    }
  }

  #fetch(query: RunningQuery): void {
    const { cursor } = query;
    if (cursor === null) {
      this.#sendNothing(query);
      return;
    }
    try {
      const isReady = this.#guard.execute(query.id, () =>
        this.#native.cursorAdvance(cursor, FRAME_MAX_RECORDS, FRAME_MAX_BYTES, SLICE_MS),
      );
      if (!isReady) {
        this.#makeReady(query);
        return;
      }
      const chunk = this.#native.cursorFetch(
        cursor,
        FRAME_MAX_RECORDS,
        FRAME_MAX_BYTES,
        query.spent.pop() ?? null,
      );
      // An empty message is sent only when it is the first, and behind the initial set of a stream (STR-4).
      if (chunk.records > 0 || query.frames === 0 || query.seam !== null) {
        query.credits--;
        query.frames++;
        this.#postFrame(query.id, chunk.records, chunk.frame);
      }
      if (chunk.done && (chunk.records === 0 || query.seam === null)) this.#finish(query);
      else this.#makeReady(query);
    } catch (error) {
      this.#failWith(query, error);
    }
  }

  /** There is no database at all: one empty result message (WIRE-7). */
  #sendNothing(query: RunningQuery): void {
    this.#postFrame(query.id, 0, new Uint8Array(encodeResult([])));
    this.#finish(query);
  }

  /** @param frame with memory of its own, which goes with it */
  #postFrame(id: number, records: number, frame: Uint8Array): void {
    this.#post({ type: 'query.frame', id, records, frame }, [frame.buffer as ArrayBuffer]);
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
    // A full disk, on which large sorts go on, has the same code.
    const isOver = code === 'SQLITE_FULL' && query.scratch?.isFull === true;
    const refusal = isOver ? memoryExceeded(query.memory.limit) : error;
    if (refusal instanceof QueryError) {
      this.#fail(query, { kind: 'refused', text: refusal.text });
      return;
    }
    const what = query.stores.map((store) => this.#stores[store].what).join(', ');
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
    // Statements first, then their connections.
    query.steps?.return();
    query.steps = null;
    if (query.cursor !== null) this.#native.cursorClose(query.cursor);
    query.cursor = null;
    query.scratch?.close();
    query.scratch = null;
    query.memory.release();
    query.ranges.clear();
    for (const [store, connections] of query.connections) {
      for (const connection of connections) {
        this.#native.slotDeadline(connection.slot, 0);
        connection.endSnapshot();
      }
      this.#stores[store].pool.release(connections);
    }
    query.connections.clear();
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
