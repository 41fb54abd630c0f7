/**
 * The query workers as the main thread sees them: which one runs a query, how it is cancelled in the
 * middle of a long SQLite step, and what happens when a thread breaks.
 */

import { Worker } from 'node:worker_threads';
import { messageOf } from '../../src/host/errorMessage.js';
import { native } from '../../src/native/addon.js';
import type { QueryJob } from '../../src/query/job.js';
import type { Found, Survey } from '../../src/query/survey.js';
import { InterruptGuard } from './interruptGuard.js';
import { Learnings } from './learned.js';
import type { QueryLogger } from './logger.js';
import { QueryMemory } from './memory.js';
import {
  FRAME_CREDITS,
  type FromQueryWorker,
  type QueryFailure,
  type QueryWorkerData,
  type ToQueryWorker,
} from './protocol.js';
import type { Seam } from './tail/protocol.js';

/** Read connections one worker keeps open at most (QX-66); with 1 MB of page cache each, filled on demand. */
const MAX_CONNECTIONS_PER_WORKER = 256;

/** An unused connection is closed after this time, so deleted archives give their space back. */
const IDLE_CONNECTION_MS = 30_000;

/** How often a cancelled query's step is interrupted until the worker reports its end. */
const INTERRUPT_INTERVAL_MS = 20;

/** Waiting time before a broken worker's successor: the first, and the longest after repeated failures. */
const RESTART_MS = { first: 20, longest: 5000 };

/** A worker that ran this long was sound: the next restart is quick again. */
const SOUND_AFTER_MS = 60_000;

/** Time a worker has to close its databases when the pool stops. */
const STOP_MS = 2000;

/** The text for a query whose thread broke; the cause goes to the log. */
const WORKER_LOST = 'storage error: the query was lost because its worker failed';

/** What a running query reports. After `onFinished` or `onFailed` nothing more comes. */
export interface QueryRunListener {
  /** Only for a stream's initial set, before its first frame. */
  readonly onSeam?: (seam: Seam) => void;
  readonly onFrame: (frame: Uint8Array, records: number) => void;
  readonly onFinished: () => void;
  readonly onFailed: (failure: QueryFailure) => void;
}

/** What a survey reports: one of the two, once. */
export interface SurveyListener {
  readonly onSurveyed: (found: Found) => void;
  readonly onFailed: (failure: QueryFailure) => void;
}

/** A query inside a worker. */
export interface QueryRun {
  /**
   * Lets the worker send one frame more.
   * @param spent a frame of its that nobody needs any more: its memory goes back
   */
  credit(spent?: Uint8Array | null): void;
  /** Ends the query soon; the listener hears nothing more. Safe twice and after the end. */
  cancel(): void;
  /** Resolves when the worker holds nothing of the query any more. Never rejects. */
  readonly released: Promise<void>;
}

export interface QueryWorkerPoolOptions {
  readonly eventStorePath: string;
  readonly logStorePath: string;
  readonly metricStorePath: string;
  /** What the writers publish their commits in. */
  readonly commits: SharedArrayBuffer;
  readonly logger: QueryLogger;
  readonly workers: number;
  /** What all queries together may hold in memory (`QueryMemoryBytes`). */
  readonly memoryBytes: number;
  /** Module of the worker thread. */
  readonly entry?: URL;
}

interface Running {
  readonly id: number;
  readonly listener: QueryRunListener | SurveyListener;
  readonly release: () => void;
  slots: readonly number[];
  cancelled: boolean;
}

interface Seat {
  readonly index: number;
  worker: Worker | null;
  guard: InterruptGuard;
  startedAt: number;
  restartMs: number;
  restartTimer: NodeJS.Timeout | null;
  readonly running: Map<number, Running>;
  /** Queries for the worker that is about to replace a broken one. */
  readonly unsent: ToQueryWorker[];
}

export class QueryWorkerPool {
  readonly #options: QueryWorkerPoolOptions;
  readonly #seats: Seat[] = [];
  readonly #memory: QueryMemory;
  /** What the workers found out about event databases, for those that start later. */
  readonly #learned = new Learnings();
  #nextId = 1;
  #started = false;
  #stopping: Promise<void> | null = null;

  constructor(options: QueryWorkerPoolOptions) {
    this.#options = options;
    this.#memory = QueryMemory.allocate(options.workers, options.memoryBytes);
    for (let index = 0; index < options.workers; index++) {
      const seat: Seat = {
        index,
        worker: null,
        guard: new InterruptGuard(InterruptGuard.allocate()),
        startedAt: 0,
        restartMs: RESTART_MS.first,
        restartTimer: null,
        running: new Map(),
        unsent: [],
      };
      this.#seats.push(seat);
    }
  }

  /**
   * Starts a thread; queries run before wait for it. The others start when every living one is busy, for
   * most hosts seldom ask two things at once. Safe twice.
   */
  start(): void {
    if (this.#started || this.#stopping !== null) return;
    this.#started = true;
    for (const seat of this.#seats) {
      if (seat.index === 0 || seat.unsent.length > 0) this.#startWorker(seat);
    }
  }

  /**
   * Starts a query on the worker that has the fewest.
   * @param deadline CLOCK_MONOTONIC ns
   * @param seam the store of a stream, whose initial set the job makes
   */
  run(
    job: QueryJob,
    deadline: bigint,
    listener: QueryRunListener,
    seam: 'events' | 'logs' | null = null,
  ): QueryRun {
    return this.#dispatch(listener, (id) => ({
      type: 'query.run',
      id,
      job,
      deadline,
      credits: FRAME_CREDITS,
      seam,
    }));
  }

  /** Asks which names there are (QX-5). */
  survey(survey: Survey, deadline: bigint, listener: SurveyListener): QueryRun {
    return this.#dispatch(listener, (id) => ({ type: 'query.survey', id, survey, deadline }));
  }

  #dispatch(listener: Running['listener'], message: (id: number) => ToQueryWorker): QueryRun {
    if (this.#stopping !== null) {
      queueMicrotask(() => listener.onFailed({ kind: 'storage', text: WORKER_LOST }));
      return { credit: () => {}, cancel: () => {}, released: Promise.resolve() };
    }
    const seat = this.#leastBusy();
    const id = this.#nextId;
    this.#nextId = id === 0x7fffffff ? 1 : id + 1;
    let release = (): void => {};
    const released = new Promise<void>((resolve) => {
      release = resolve;
    });
    const running: Running = { id, listener, release, slots: [], cancelled: false };
    seat.running.set(id, running);
    send(seat, message(id));
    return {
      released,
      credit: (frame = null) => {
        if (seat.running.get(id) !== running) return;
        const spent = frame === null ? null : (frame.buffer as ArrayBuffer);
        send(seat, { type: 'query.credit', id, spent }, spent === null ? [] : [spent]);
      },
      cancel: () => this.#cancel(seat, running),
    };
  }

  /** Bytes of memory that running queries hold. */
  get memoryUsed(): number {
    return this.#memory.used;
  }

  /** A new `QueryMemoryBytes`, in force at once. */
  setMemoryLimit(bytes: number): void {
    this.#memory.setLimit(bytes);
  }

  /** Ends every query and closes every read connection (LIFE-207). Safe twice. */
  stop(): Promise<void> {
    this.#stopping ??= Promise.all(this.#seats.map((seat) => this.#stopWorker(seat))).then(() => {});
    return this.#stopping;
  }

  /** Among the living; when all are being replaced the query waits for its worker. */
  #leastBusy(): Seat {
    const living = this.#seats.filter(({ worker }) => worker !== null);
    if (this.#started && living.every(({ running }) => running.size > 0)) {
      const spare = this.#seats.find(({ worker, restartTimer }) => worker === null && restartTimer === null);
      if (spare !== undefined) {
        this.#startWorker(spare);
        return spare;
      }
    }
    const candidates = living.length > 0 ? living : this.#seats;
    return candidates.reduce((best, one) => (one.running.size < best.running.size ? one : best));
  }

  #startWorker(seat: Seat): void {
    seat.restartTimer = null;
    const shared = InterruptGuard.allocate();
    const workerData: QueryWorkerData = {
      eventStorePath: this.#options.eventStorePath,
      logStorePath: this.#options.logStorePath,
      metricStorePath: this.#options.metricStorePath,
      commits: this.#options.commits,
      guard: shared,
      memory: this.#memory.shared,
      worker: seat.index,
      maxConnections: MAX_CONNECTIONS_PER_WORKER,
      idleConnectionMs: IDLE_CONNECTION_MS,
    };
    const entry = this.#options.entry ?? new URL('./worker.js', import.meta.url);
    const worker = new Worker(entry, { workerData, name: `query-${seat.index}` });
    seat.worker = worker;
    seat.guard = new InterruptGuard(shared);
    seat.startedAt = performance.now();
    let cause = 'it ended by itself';
    worker.on('message', (message: FromQueryWorker) => this.#receive(seat, message));
    worker.on('error', (error) => {
      cause = messageOf(error);
    });
    worker.on('exit', () => this.#workerGone(seat, worker, cause));
    for (const learned of this.#learned) worker.postMessage({ type: 'worker.learned', learned });
    for (const message of seat.unsent.splice(0)) worker.postMessage(message);
  }

  #receive(seat: Seat, message: FromQueryWorker): void {
    if (message.type === 'worker.warning') {
      this.#options.logger.warn({ ...message.details, worker: seat.index }, message.text);
      return;
    }
    if (message.type === 'worker.learned') {
      this.#learned.add(message.learned);
      for (const other of this.#seats) if (other !== seat) other.worker?.postMessage(message);
      return;
    }
    const running = seat.running.get(message.id);
    if (running === undefined) return;
    if (message.type === 'query.executing') {
      running.slots = message.slots;
      return;
    }
    if (message.type === 'query.surveyed') {
      this.#ended(seat, running);
      if (!running.cancelled && 'onSurveyed' in running.listener) running.listener.onSurveyed(message.found);
      return;
    }
    if (message.type === 'query.failed') {
      this.#ended(seat, running);
      if (!running.cancelled) running.listener.onFailed(message.failure);
      return;
    }
    if ('onFrame' in running.listener) this.#heard(seat, running, running.listener, message);
  }

  #heard(
    seat: Seat,
    running: Running,
    listener: QueryRunListener,
    message: Extract<FromQueryWorker, { type: 'query.seam' | 'query.frame' | 'query.finished' }>,
  ): void {
    switch (message.type) {
      case 'query.seam':
        if (!running.cancelled) listener.onSeam?.(message.seam);
        return;
      case 'query.frame':
        if (!running.cancelled) listener.onFrame(message.frame, message.records);
        return;
      case 'query.finished':
        this.#ended(seat, running);
        if (!running.cancelled) listener.onFinished();
    }
  }

  #ended(seat: Seat, running: Running): void {
    seat.running.delete(running.id);
    running.release();
  }

  #cancel(seat: Seat, running: Running): void {
    if (running.cancelled || seat.running.get(running.id) !== running) return;
    running.cancelled = true;
    if (seat.worker === null) {
      const at = seat.unsent.findIndex(
        (message) =>
          (message.type === 'query.run' || message.type === 'query.survey') && message.id === running.id,
      );
      if (at >= 0) seat.unsent.splice(at, 1);
      this.#ended(seat, running);
      return;
    }
    // The message ends a query between two steps, the interrupt ends the step that keeps the thread busy.
    send(seat, { type: 'query.cancel', id: running.id });
    const interrupt = (): void => {
      if (seat.running.get(running.id) !== running) {
        clearInterval(timer);
        return;
      }
      seat.guard.interrupt(running.id, () => {
        for (const slot of running.slots) native.slotInterrupt(slot);
      });
    };
    const timer = setInterval(interrupt, INTERRUPT_INTERVAL_MS);
    timer.unref();
    interrupt();
  }

  #workerGone(seat: Seat, worker: Worker, cause: string): void {
    if (seat.worker !== worker) return;
    seat.worker = null;
    this.#memory.forget(seat.index);
    const lost = [...seat.running.values()];
    for (const running of lost) {
      this.#ended(seat, running);
      if (!running.cancelled) running.listener.onFailed({ kind: 'storage', text: WORKER_LOST });
    }
    if (this.#stopping !== null) return;
    if (performance.now() - seat.startedAt > SOUND_AFTER_MS) seat.restartMs = RESTART_MS.first;
    this.#options.logger.error(
      { worker: seat.index, cause, lostQueries: lost.length, restartMs: seat.restartMs },
      'a query worker failed and is replaced',
    );
    seat.restartTimer = setTimeout(() => this.#startWorker(seat), seat.restartMs);
    seat.restartMs = Math.min(seat.restartMs * 2, RESTART_MS.longest);
  }

  async #stopWorker(seat: Seat): Promise<void> {
    if (seat.restartTimer !== null) clearTimeout(seat.restartTimer);
    for (const running of [...seat.running.values()]) this.#cancel(seat, running);
    const { worker } = seat;
    if (worker === null) return;
    const gone = new Promise<void>((resolve) => {
      worker.once('exit', () => resolve());
    });
    send(seat, { type: 'worker.stop' });
    const timer = setTimeout(() => void worker.terminate(), STOP_MS);
    await gone;
    clearTimeout(timer);
  }
}

function send(seat: Seat, message: ToQueryWorker, transfer: readonly ArrayBuffer[] = []): void {
  if (seat.worker === null) seat.unsent.push(message);
  else seat.worker.postMessage(message, transfer);
}
