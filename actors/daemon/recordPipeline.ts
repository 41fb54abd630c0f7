/**
 * The log path or the metric path as the daemon sees it: the socket with its receiver, and the thread
 * that writes the store. The receiver outlives the thread: whatever happens to the writer, somebody
 * empties the socket, and no sender stalls (LOG-11, MET-16).
 */

import { lstatSync, unlinkSync } from 'node:fs';
import type { RecordFailure, RecordLimits, RecordStore } from '../../machines/recordWriter.js';
import { messageOf } from '../../src/host/errorMessage.js';
import { native, type ReceiverHandle, type ReceiverStatus } from '../../src/native/addon.js';
import { heldHandles, releaseHeld } from '../../src/stores/heldHandles.js';
import type { LeaseId } from '../../src/stores/lease.js';
import { LOG_SCHEMA } from '../../src/stores/logSchema.js';
import { METRIC_SCHEMA } from '../../src/stores/metricSchema.js';
import { prepareStore, type StoreCondition } from '../../src/stores/singleStore.js';
import type { StoreSchema } from '../../src/stores/storeFile.js';
import { type SyntheticEvent, storageErrorEvent } from '../../src/stores/synthetic.js';
import type { LogWriterData } from '../logWriter/logWriter.js';
import type { FromRecordWriter, RecordWriterDump, ToRecordWriter } from '../messages.js';
import type { RecordWriterData } from '../recordWriter.js';
import { type Observable, Subject } from '../rx.js';
import { type ActorThread, startThread } from '../thread.js';
import { heard, withinMs } from '../threadTalk.js';
import { SocketPathError } from '../unixSocket.js';
import { askLease, type Lender } from './leases.js';

/** The writer's thread: its entry, given `RecordWriterData` and the boot id. */
const ENTRIES: Readonly<Record<RecordStore, URL>> = {
  log: new URL('../logWriter/worker.js', import.meta.url),
  metric: new URL('../metricWriter/worker.js', import.meta.url),
};

const SCHEMAS: Readonly<Record<RecordStore, StoreSchema>> = { log: LOG_SCHEMA, metric: METRIC_SCHEMA };

/**
 * One half of a receiver's memory: what comes while a batch is written. Room for some twenty thousand
 * short records, which is a second of heavy logging, and for what peinit hands over at once (LOG-67).
 */
const BUFFER_BYTES = 4 * 1024 * 1024;

/** Services write to the sockets, whoever they run as (LOG-8, HOST-70). */
const SOCKET_MODE = 0o666;

/** Bytes still read at a stop: far above what the kernel queues for a datagram socket (LIFE-202). */
const LAST_BYTES = 16 * 1024 * 1024;

/** A thread that ends again within this time is restarted with growing pauses, and without a word, ms. */
const EPISODE_MS = 60_000;
const FIRST_RESTART_MS = 100;
const LONGEST_RESTART_MS = 5000;

export interface RecordPipelineOptions {
  readonly store: RecordStore;
  readonly file: string;
  readonly socketPath: string;
  /** 16 bytes; logs are stamped with it (LOG-33). */
  readonly bootId: Uint8Array;
  /** Where the log writer tells of its commits (STR-5). */
  readonly commits?: SharedArrayBuffer;
  readonly limits: RecordLimits;
}

/** One store's path at one instant. */
export interface RecordSurvey {
  readonly store: RecordStore;
  /** Null while the socket is closed. */
  readonly receiver: ReceiverStatus | null;
  readonly health: 'good' | 'failing' | 'discarding';
  /** Records lost to failed commits, as far as told. */
  readonly lost: number;
  readonly hasThread: boolean;
  /** Null when its thread does not answer, or is gone. */
  readonly dump: RecordWriterDump | null;
}

/**
 * What the daemon hears of the path while it runs. Each is said once per episode, because what eventd
 * logs comes back to it as log records (LOG-47).
 */
export type RecordPipelineReport =
  | {
      readonly type: 'commit';
      readonly store: RecordStore;
      readonly records: number;
      readonly commitMs: number;
    }
  | { readonly type: 'failed'; readonly store: RecordStore; readonly failure: RecordFailure }
  /** The episode is over; so many records were lost in it. */
  | { readonly type: 'recovered'; readonly store: RecordStore; readonly lost: number }
  /** A fresh file is in use. `aside` names the damaged one; null when the old one was gone. */
  | {
      readonly type: 'replaced';
      readonly store: RecordStore;
      readonly file: string;
      readonly aside: string | null;
      readonly reason: string;
    }
  | { readonly type: 'discarding'; readonly store: RecordStore; readonly reason: string }
  /** For the event store (FAIL-11). */
  | { readonly type: 'storageError'; readonly event: SyntheticEvent }
  | { readonly type: 'threadFailed'; readonly thread: string; readonly message: string }
  /** However it ended, and each time: for the debug socket. */
  | { readonly type: 'threadEnded'; readonly thread: string }
  | { readonly type: 'inspection'; readonly message: unknown };

type WriterThread = ActorThread<FromRecordWriter, ToRecordWriter>;

export class RecordPipeline implements Lender {
  readonly #options: RecordPipelineOptions;
  readonly #reports$ = new Subject<RecordPipelineReport>();
  readonly #held = heldHandles();
  #condition: StoreCondition | null = null;
  #receiver: ReceiverHandle | null = null;
  #limits: RecordLimits;
  #thread: WriterThread | null = null;
  #restart: NodeJS.Timeout | null = null;
  #inspecting = false;
  #started = false;
  #stopping = false;
  /** Why the last commit failed; null when it succeeded. */
  #failure: RecordFailure | null = null;
  #isDiscarding = false;
  #lost = 0;
  /** When the thread ended last, and how often in this episode. */
  #lastDeath = Number.NEGATIVE_INFINITY;
  #deaths = 0;

  constructor(options: RecordPipelineOptions) {
    this.#options = options;
    this.#limits = options.limits;
  }

  get reports$(): Observable<RecordPipelineReport> {
    return this.#reports$;
  }

  /**
   * Phase 2 (LIFE-105, LIFE-106): the file is made, or checked, or replaced.
   * @throws StoreError `io` when the store can neither be opened nor made
   */
  openStore(): void {
    this.#condition = prepareStore(this.#options.file, SCHEMAS[this.#options.store]);
  }

  /**
   * Phase 5 (LIFE-116..118): from now on senders find the socket; the kernel's short queue is emptied
   * from `start` on.
   * @throws SocketPathError
   */
  bind(): void {
    const { socketPath: path } = this.#options;
    removeStaleSocket(path);
    try {
      this.#receiver = native.receiverOpen({ path, mode: SOCKET_MODE, capacityBytes: 2 * BUFFER_BYTES });
    } catch (error) {
      throw new SocketPathError(messageOf(error));
    }
  }

  /** Phase 6 (LIFE-121, LIFE-122): resolves once the writer stores, or discards, what comes. */
  async start(): Promise<void> {
    const thread = this.#startThread();
    const answer = await heard(
      thread,
      ({ type }) => type === 'ready' || type === 'discarding' || type === 'failed',
    );
    if (answer.type === 'failed') throw new Error(answer.failure.message);
    this.#started = true;
    const { store, file } = this.#options;
    if (this.#condition?.state !== 'replaced') return;
    const { aside, error } = this.#condition;
    this.#reports$.next({ type: 'replaced', store, file, aside, reason: error.message });
    this.#reportStorageError(`replaced at start: ${error.message}`);
  }

  setLimits(limits: RecordLimits): void {
    this.#limits = limits;
    this.#thread?.send({ type: 'limits', limits });
  }

  /** LOG-52, MET-58: nobody writes to a store that discards what comes. */
  async lease(_file: string, id: LeaseId): Promise<number | null> {
    return this.#thread === null || this.#isDiscarding ? null : askLease(this.#thread, id);
  }

  returnLease(_file: string, id: LeaseId, series: BigInt64Array | null): void {
    this.#thread?.send({ type: 'leaseReturn', id, series });
  }

  inspect(on: boolean): void {
    this.#inspecting = on;
    this.#thread?.send({ type: 'inspect', on });
  }

  /** True when the thread answers in time, or is being replaced already (HOST-22). */
  async answers(waitMs: number): Promise<boolean> {
    const thread = this.#thread;
    if (thread === null) return true;
    const pong = heard(thread, ({ type }) => type === 'pong');
    pong.catch(() => undefined);
    thread.send({ type: 'ping' });
    return withinMs(pong, waitMs).catch(() => false);
  }

  /** Receiver and writer as they are now. */
  async survey(waitMs: number): Promise<RecordSurvey> {
    const thread = this.#thread;
    const dump = thread === null ? null : await asked(thread, waitMs);
    return {
      store: this.#options.store,
      receiver: this.#receiver === null ? null : native.receiverStatus(this.#receiver),
      health: this.#isDiscarding ? 'discarding' : this.#failure !== null ? 'failing' : 'good',
      lost: this.#lost,
      hasThread: thread !== null,
      dump,
    };
  }

  /** Appends a datagram of eventd's own, as if it had come over the socket; false when there is no room. */
  inject(datagram: Uint8Array): boolean {
    return this.#receiver !== null && !this.#stopping && native.receiverInject(this.#receiver, datagram);
  }

  /**
   * Shutdown steps 1, 2 and 4 (LIFE-201, LIFE-202, LIFE-204): at once no sender finds the socket any
   * more; resolves when what was queued is committed.
   * @throws Error when that takes too long, or the thread ends; what is left is lost (LIFE-211)
   */
  async finish(deadlineMs: number): Promise<void> {
    this.#stop();
    const { store } = this.#options;
    if (this.#receiver !== null) native.receiverFinish(this.#receiver, LAST_BYTES, deadlineMs);
    // One that waited for its restart is needed at once.
    const thread = this.#thread ?? (this.#started && this.#receiver !== null ? this.#startThread() : null);
    if (thread === null) return;
    const drained = heard(thread, ({ type }) => type === 'drained');
    thread.send({ type: 'finish' });
    if (!(await withinMs(drained, deadlineMs))) {
      throw new Error(`the ${store} writer did not commit within ${deadlineMs} ms`);
    }
  }

  /** Shutdown step 7 (LIFE-207). */
  async close(deadlineMs: number): Promise<void> {
    this.#stop();
    const thread = this.#thread;
    if (thread === null) return;
    const closed = heard(thread, ({ type }) => type === 'closed');
    closed.catch(() => undefined);
    thread.send({ type: 'close' });
    await withinMs(closed, deadlineMs).catch(() => false);
    // Its wake-ups are what keeps a closed writer's thread alive.
    this.#closeReceiver();
    if (!(await withinMs(thread.ended, deadlineMs))) await thread.terminate();
  }

  /** The end of the path, also of one that failed to start: nothing stays open (LIFE-132). Safe twice. */
  async release(): Promise<void> {
    this.#stop();
    await this.#thread?.terminate();
    this.#thread = null;
    this.#closeReceiver();
    this.#reports$.complete();
  }

  #stop(): void {
    this.#stopping = true;
    if (this.#restart !== null) clearTimeout(this.#restart);
    this.#restart = null;
  }

  #closeReceiver(): void {
    if (this.#receiver !== null) native.receiverClose(this.#receiver);
    this.#receiver = null;
  }

  #startThread(): WriterThread {
    const { store, file, bootId, commits = null } = this.#options;
    if (this.#receiver === null) throw new Error(`the ${store} socket is not bound`);
    const data: RecordWriterData & Pick<LogWriterData, 'bootId' | 'commits'> = {
      file,
      bootId,
      commits,
      receiver: this.#receiver,
      bufferBytes: BUFFER_BYTES,
      limits: this.#limits,
      held: this.#held,
    };
    const thread: WriterThread = startThread(`${store}-writer`, ENTRIES[store], { ...data });
    this.#thread = thread;
    thread.messages$.subscribe((message) => this.#heard(message));
    if (this.#inspecting) thread.send({ type: 'inspect', on: true });
    void thread.ended.then((error) => this.#ended(thread, error));
    return thread;
  }

  #heard(message: FromRecordWriter): void {
    const { store, file } = this.#options;
    switch (message.type) {
      case 'committed': {
        const { records, commitMs, lost } = message;
        this.#reports$.next({ type: 'commit', store, records, commitMs });
        this.#lost += lost;
        if (this.#failure !== null) this.#reports$.next({ type: 'recovered', store, lost });
        this.#failure = null;
        break;
      }
      case 'failed': {
        // A restarted thread does not know that its predecessor told of it already.
        if (this.#failure !== null || !this.#started) return;
        const { failure } = message;
        this.#failure = failure;
        this.#reports$.next({ type: 'failed', store, failure });
        this.#reportStorageError(`${failure.code}: ${failure.message}`);
        break;
      }
      case 'replaced': {
        const reason = this.#failure?.message ?? 'it could not be written';
        this.#reports$.next({ type: 'replaced', store, file, aside: message.aside, reason });
        break;
      }
      case 'discarding':
        if (this.#isDiscarding) return;
        this.#isDiscarding = true;
        this.#reports$.next({ type: 'discarding', store, reason: message.failure.message });
        this.#reportStorageError(message.failure.message);
        break;
      case 'inspection':
        this.#reports$.next({ type: 'inspection', message: message.message });
        break;
    }
  }

  /** A thread that ends unasked is replaced; the receiver takes and drops meanwhile. */
  #ended(thread: WriterThread, error: Error | null): void {
    if (this.#thread !== thread) return;
    this.#thread = null;
    releaseHeld(this.#held);
    this.#reports$.next({ type: 'threadEnded', thread: thread.name });
    if (this.#stopping || !this.#started) return;
    const now = performance.now();
    const isNew = now - this.#lastDeath > EPISODE_MS;
    this.#lastDeath = now;
    this.#deaths = isNew ? 1 : this.#deaths + 1;
    if (isNew) {
      const message = error?.message ?? `thread ${thread.name} ended unexpectedly`;
      this.#reports$.next({ type: 'threadFailed', thread: thread.name, message });
    }
    const pause = isNew ? 0 : Math.min(FIRST_RESTART_MS * 2 ** (this.#deaths - 2), LONGEST_RESTART_MS);
    this.#restart = setTimeout(() => this.#startThread(), pause);
  }

  #reportStorageError(error: string): void {
    const { store } = this.#options;
    const event = storageErrorEvent(native.realtimeNs(), { store, shard: null, error });
    this.#reports$.next({ type: 'storageError', event });
  }
}

/** The thread's dump, or null when it does not answer in time. */
async function asked(thread: WriterThread, waitMs: number): Promise<RecordWriterDump | null> {
  let dump: RecordWriterDump | null = null;
  const answer = heard(thread, (message) => {
    if (message.type !== 'dumped') return false;
    dump = message.dump;
    return true;
  });
  answer.catch(() => undefined);
  thread.send({ type: 'dump' });
  await withinMs(answer, waitMs).catch(() => false);
  return dump;
}

/**
 * A socket file of an earlier run that nobody reads is removed, anything else in its place is left
 * alone. An empty datagram tells the two apart; a reader drops it in silence (LOG-18).
 */
function removeStaleSocket(path: string): void {
  const stat = lstatSync(path, { throwIfNoEntry: false });
  if (stat === undefined) return;
  if (!stat.isSocket()) throw new SocketPathError(`${path}: exists and is no socket`);
  try {
    native.sendDatagram(path, new Uint8Array());
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code === 'ENOENT') return;
    if (code === 'ECONNREFUSED') {
      unlinkSync(path);
      return;
    }
    if (code !== 'EAGAIN' && code !== 'EPROTOTYPE' && code !== 'EPIPE') {
      throw new SocketPathError(`${path}: cannot tell whether another process uses this socket: ${code}`);
    }
  }
  throw new SocketPathError(`${path}: another process answers on this socket`);
}
