/** The tail thread as the main thread sees it: started for the first stream, replaced when it breaks. */

import { Worker } from 'node:worker_threads';
import { messageOf } from '../../../src/host/errorMessage.js';
import type { TailProgram } from '../../../src/query/predicateProgram.js';
import type { Found } from '../../../src/query/survey.js';
import { CommitFeed } from '../../../src/stores/commitFeed.js';
import type { QueryLogger } from '../logger.js';
import type { QueryFailure } from '../protocol.js';
import type { FromTail, RowRange, Seam, TailWorkerData, ToTail } from './protocol.js';

/** Time the thread has to close its databases at a stop, ms. */
const STOP_MS = 2000;

const THREAD_LOST = 'storage error: the stream was lost because its thread failed';

/** What a watched stream reports. After `onFailed` nothing more comes. */
export interface WatchListener {
  /** The initial set may be read now: later commits are accounted for. */
  readonly onOpened: () => void;
  /** Records committed since the seam, under credits. */
  readonly onFrame: (frames: Uint8Array, records: number, rows: RowRange) => void;
  readonly onLive: () => void;
  /** The records of one committed batch. */
  readonly onUnit: (frames: Uint8Array, records: number, rows: RowRange) => void;
  /** It stands still until it is resumed: after `hold`, or because of names and fields not decided about. */
  readonly onHeld: (news: Found) => void;
  readonly onFailed: (failure: QueryFailure) => void;
}

/** A stream in the tail thread. */
export interface Watch {
  /** The initial set is out and ended at the seam; `credits` frames may come at once. */
  attach(seam: Seam, credits: number): void;
  /** Lets one frame more come while the stream catches up. */
  credit(): void;
  /** Makes it stand still; rows that are under way still come. */
  hold(): void;
  /** Goes on with another program, first over these rows again. */
  resume(program: TailProgram, rows: readonly RowRange[]): void;
  /** The listener hears nothing more. Safe twice and after the end. */
  close(): void;
}

export interface TailThreadOptions extends TailWorkerData {
  readonly logger: QueryLogger;
  /** Module of the worker thread. */
  readonly entry?: URL;
}

export class TailThread {
  readonly #options: TailThreadOptions;
  readonly #watched = new Map<number, WatchListener>();
  #worker: Worker | null = null;
  #nextId = 1;
  #stopping: Promise<void> | null = null;

  constructor(options: TailThreadOptions) {
    this.#options = options;
  }

  /** Begins to watch for a stream. `crossTypeWindowMs` holds for its whole life (QX-64). */
  watch(program: TailProgram, crossTypeWindowMs: number, listener: WatchListener): Watch {
    const id = this.#nextId++;
    this.#watched.set(id, listener);
    if (this.#stopping === null) {
      this.#worker ??= this.#start();
      this.#send({ type: 'tail.open', id, program, crossTypeWindowMs });
    } else {
      queueMicrotask(() => this.#failed(id, { kind: 'storage', text: THREAD_LOST }));
    }
    return {
      attach: (seam, credits) => {
        if (this.#watched.has(id)) this.#send({ type: 'tail.attach', id, seam, credits });
      },
      credit: () => {
        if (this.#watched.has(id)) this.#send({ type: 'tail.credit', id });
      },
      hold: () => {
        if (this.#watched.has(id)) this.#send({ type: 'tail.hold', id });
      },
      resume: (next, rows) => {
        if (this.#watched.has(id)) this.#send({ type: 'tail.resume', id, program: next, rows });
      },
      close: () => {
        if (this.#watched.delete(id)) this.#send({ type: 'tail.close', id });
      },
    };
  }

  /** Ends the thread and closes its databases. Safe twice. */
  stop(): Promise<void> {
    this.#stopping ??= this.#stop();
    return this.#stopping;
  }

  async #stop(): Promise<void> {
    const worker = this.#worker;
    if (worker === null) return;
    const gone = new Promise<void>((resolve) => {
      worker.once('exit', () => resolve());
    });
    this.#send({ type: 'worker.stop' });
    const timer = setTimeout(() => void worker.terminate(), STOP_MS);
    await gone;
    clearTimeout(timer);
  }

  #start(): Worker {
    const { eventStorePath, logStorePath, metricStorePath, commits, entry } = this.#options;
    const data: TailWorkerData = { eventStorePath, logStorePath, metricStorePath, commits };
    const worker = new Worker(entry ?? new URL('./worker.js', import.meta.url), {
      workerData: data,
      name: 'tail',
    });
    let cause = 'it ended by itself';
    worker.on('message', (message: FromTail) => this.#receive(message));
    worker.on('error', (error) => {
      cause = messageOf(error);
    });
    worker.on('exit', () => this.#gone(worker, cause));
    return worker;
  }

  #receive(message: FromTail): void {
    switch (message.type) {
      case 'worker.warning':
        this.#options.logger.warn({ ...message.details }, message.text);
        return;
      case 'tail.unit':
        this.#send({ type: 'tail.ack', bytes: message.frames.byteLength });
        for (const id of message.ids) {
          this.#watched.get(id)?.onUnit(message.frames, message.records, message.rows);
        }
        return;
      case 'tail.held':
        this.#watched.get(message.id)?.onHeld(message.news);
        return;
      case 'tail.opened':
        this.#watched.get(message.id)?.onOpened();
        return;
      case 'tail.frame':
        this.#watched.get(message.id)?.onFrame(message.frames, message.records, message.rows);
        return;
      case 'tail.live':
        this.#watched.get(message.id)?.onLive();
        return;
      case 'tail.failed':
        this.#failed(message.id, message.failure);
    }
  }

  #failed(id: number, failure: QueryFailure): void {
    const listener = this.#watched.get(id);
    this.#watched.delete(id);
    listener?.onFailed(failure);
  }

  /** Its streams cannot go on: what was committed meanwhile would be missing. The next stream starts another. */
  #gone(worker: Worker, cause: string): void {
    if (this.#worker !== worker) return;
    this.#worker = null;
    new CommitFeed(this.#options.commits).forgetReaders();
    if (this.#stopping !== null) return;
    this.#options.logger.error({ cause, lostStreams: this.#watched.size }, 'the tail thread failed');
    for (const id of [...this.#watched.keys()]) this.#failed(id, { kind: 'storage', text: THREAD_LOST });
  }

  #send(message: ToTail): void {
    this.#worker?.postMessage(message);
  }
}
