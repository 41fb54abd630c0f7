/**
 * The event path as the daemon sees it: a thread per shard writer, one thread for all ring readers,
 * the channels between them, and what happens when one of them fails.
 */

import { MessageChannel } from 'node:worker_threads';
import type { CommitFailure, WriterLimits } from '../../machines/shardWriter.js';
import { messageOf } from '../../src/host/errorMessage.js';
import type { KmesSource } from '../../src/host/kmes.js';
import { BuildSignal } from '../../src/indexes/buildSignal.js';
import { native, type RingInfo } from '../../src/native/addon.js';
import { assignShards } from '../../src/stores/assignment.js';
import type { ShardPlan } from '../../src/stores/eventStore.js';
import type { LeaseId } from '../../src/stores/lease.js';
import { type BootResolution, NOTHING_SEEN } from '../../src/stores/resume.js';
import type { SyntheticEvent } from '../../src/stores/synthetic.js';
import type { CpuReadersThreadData } from '../cpuReader/worker.js';
import type { FromReaders, FromWriter, ToReaders, ToWriter } from '../messages.js';
import { type Observable, Subject } from '../rx.js';
import type { IndexChange } from '../shardWriter/indexes.js';
import { openChannel, type WriterIndexes } from '../shardWriter/shardWriter.js';
import type { ShardWriterThreadData } from '../shardWriter/worker.js';
import { type ActorThread, startThread } from '../thread.js';
import { heard, withinMs } from '../threadTalk.js';
import { askLease, type Lender } from './leases.js';
import { lowestHealthy, oweStorageError, PathWriter, placeStorageErrors } from './pathWriter.js';
import type { PathSurvey, WriterSurvey } from './survey.js';

export interface EventPipelineOptions {
  /** Writable shards, ascending, not empty. */
  readonly shards: readonly ShardPlan[];
  /** Shards configured, excluded ones included (ING-30). */
  readonly shardCount: number;
  readonly kmes: KmesSource;
  /** One mapped ring per CPU, in CPU order; the pipeline owns them from now on. */
  readonly rings: readonly RingInfo[];
  readonly resume: BootResolution;
  /** 16 bytes. */
  readonly bootId: Uint8Array;
  readonly limits: WriterLimits;
  readonly emergencyPercent: number;
  /** Where the writers tell of their commits (STR-5). */
  readonly commits?: SharedArrayBuffer;
  /** The indexes every shard is to have (IDX-1); without them shards keep those they have. */
  readonly indexes?: Omit<WriterIndexes, 'signal'>;
}

/** What the daemon hears of the pipeline while it runs. */
export type PipelineReport =
  | {
      readonly type: 'commit';
      readonly shard: number;
      readonly rows: number;
      readonly events: number;
      readonly commitMs: number;
    }
  | { readonly type: 'commitFailed'; readonly shard: number; readonly failure: CommitFailure }
  | {
      readonly type: 'checkpointFailed';
      readonly shard: number;
      readonly code: string;
      readonly message: string;
    }
  /** The shard must not be written any more; nothing else of the pipeline is touched. */
  | {
      readonly type: 'readOnly';
      readonly shard: number;
      readonly file: string;
      readonly failure: CommitFailure;
    }
  | {
      readonly type: 'loss';
      readonly cpu: number;
      readonly what: string;
      readonly detail: Record<string, unknown>;
    }
  | { readonly type: 'regressed'; readonly cpu: number; readonly newest: bigint; readonly known: bigint }
  | {
      readonly type: 'indexes';
      readonly shard: number;
      readonly change: IndexChange;
    }
  | { readonly type: 'threadFailed'; readonly thread: string; readonly message: string }
  | { readonly type: 'inspection'; readonly message: unknown };

/** Lost ranges shown for a writer that does not answer. */
const SHOWN_RANGES = 20;

export class EventPipeline implements Lender {
  readonly #options: EventPipelineOptions;
  readonly #reports$ = new Subject<PipelineReport>();
  readonly #writers: PathWriter[] = [];
  /** Dumps that have been asked for and not given. */
  readonly #asking = new Map<object, Promise<unknown>>();
  #readers: ActorThread<FromReaders, ToReaders> | null = null;
  /** While the threads start, `start` itself reports what ends one of them. */
  #started = false;
  #endedEarly: string | null = null;
  #stopping = false;

  constructor(options: EventPipelineOptions) {
    this.#options = options;
  }

  get reports$(): Observable<PipelineReport> {
    return this.#reports$;
  }

  /** Names of those it has, or had. */
  get threads(): readonly string[] {
    return [
      ...(this.#readers === null ? [] : [this.#readers]),
      ...this.#writers.map(({ thread }) => thread),
    ].map(({ name }) => name);
  }

  /** Starts the threads side by side; the readers begin to read once every writer is ready (LIFE-137). */
  async start(): Promise<void> {
    const { shards, rings, resume, kmes, emergencyPercent, limits, bootId } = this.#options;
    const ports = shards.map((plan) => this.#startWriter(plan, bootId, limits));
    const writersReady = Promise.all(this.#writers.map((writer) => this.#opened(writer)));
    writersReady.catch(() => undefined);
    const writable = shards.map(({ shard }) => shard);
    const data: CpuReadersThreadData = {
      kmes,
      bootId,
      emergencyPercent,
      shards: this.#writers.map(({ shard, channel, building }, i) => {
        const port = ports[i];
        if (port === undefined) throw new RangeError(`no port for shard ${shard}`);
        return { shard, channel, port, building };
      }),
      cpus: rings.map(({ cpu, ring }) => ({
        cpu,
        ring,
        resume: resume.cpus.get(cpu) ?? NOTHING_SEEN,
        shards: assignShards(cpu, rings.length, this.#options.shardCount, writable),
      })),
    };
    const readers = startThread<FromReaders, ToReaders>(
      'readers',
      new URL('../cpuReader/worker.js', import.meta.url),
      { ...data },
      ports,
    );
    this.#readers = readers;
    this.#supervise(readers);
    readers.messages$.subscribe((message) => this.#fromReaders(message));
    await writersReady;
    const reading = heard(readers, (m) => m.type === 'ready');
    readers.send({ type: 'start' });
    await reading;
    this.#started = true;
    if (this.#endedEarly !== null) throw new Error(this.#endedEarly);
  }

  /** Stores a daemon-wide synthetic row in the lowest healthy shard (ING-71, FAIL-17) and waits for the commit. */
  async store(event: SyntheticEvent): Promise<void> {
    const writer = lowestHealthy(this.#writers) ?? this.#writers[0];
    if (writer === undefined) return;
    // The caller tries again with the next path where this one ends before the commit.
    const position = writer.handOver(event, true);
    await heard(writer.thread, (m) => m.type === 'committed' && writer.stored >= position);
  }

  /** Queues a daemon-wide synthetic row without waiting. */
  queue(event: SyntheticEvent): void {
    const writer = lowestHealthy(this.#writers) ?? this.#writers[0];
    if (writer !== undefined) writer.handOver(event);
  }

  /** RET-8: a shard without a writer needs nobody's leave, a damaged one gets it from nobody. */
  async lease(file: string, id: LeaseId): Promise<number | null> {
    const writer = this.#writers.find((one) => one.file === file);
    if (writer === undefined) return this.#stopping ? null : 0;
    if (writer.ended || writer.readOnly) return null;
    writer.endBuild();
    return askLease(writer.thread, id);
  }

  returnLease(file: string, id: LeaseId, series: BigInt64Array | null): void {
    this.#writers.find((one) => one.file === file)?.thread.send({ type: 'leaseReturn', id, series });
  }

  /** The desired set, or when indexes are shed, has changed (IDX-7). */
  setIndexes(indexes: Omit<WriterIndexes, 'signal'>): void {
    for (const { thread } of this.#writers) thread.send({ type: 'indexes', ...indexes });
  }

  setLimits(limits: WriterLimits): void {
    for (const { thread } of this.#writers) thread.send({ type: 'limits', limits });
  }

  setEmergency(percent: number): void {
    this.#readers?.send({ type: 'emergency', percent });
  }

  inspect(on: boolean): void {
    for (const { thread } of this.#writers) thread.send({ type: 'inspect', on });
    this.#readers?.send({ type: 'inspect', on });
  }

  /** How every reader and writer is, as far as their threads say it in time. */
  async survey(waitMs: number): Promise<PathSurvey> {
    const readers = this.#readers;
    const read = readers === null ? null : this.#asked(readers, waitMs);
    const written = this.#writers.map(async (writer): Promise<WriterSurvey> => {
      const answer = await this.#asked(writer.thread, waitMs);
      return {
        shard: writer.shard,
        health: writer.health,
        failure: writer.failure,
        channel: quietly(() => native.channelStatus(writer.channel)),
        owesStorageError: writer.pendingError !== null,
        isBuilding: writer.isBuilding,
        indexes: answer?.dump.indexes?.existing ?? writer.indexes,
        owed: answer?.dump.owed ?? writer.lost.length,
        owedRanges: answer?.dump.owedRanges ?? writer.lost.slice(0, SHOWN_RANGES),
        dump: answer?.dump ?? null,
      };
    });
    return { readers: (await read)?.dump ?? null, writers: await Promise.all(written) };
  }

  /** True when every thread of the path answers in time (HOST-22). */
  async answers(waitMs: number): Promise<boolean> {
    const threads = [
      ...(this.#readers === null ? [] : [this.#readers]),
      // An index build may take minutes, and ends by itself.
      ...this.#writers.filter((writer) => !writer.isBuilding).map((writer) => writer.thread),
    ];
    const answers = threads.map(async (thread) => {
      const pong = heard<{ readonly type: string }>(thread, (m) => m.type === 'pong');
      pong.catch(() => undefined);
      thread.send({ type: 'ping' });
      return withinMs(pong, waitMs).catch(() => false);
    });
    return (await Promise.all(answers)).every(Boolean);
  }

  /**
   * Ends the path so that another can take its place: readers stop where they are, for what they have
   * not handed over is still in the rings; writers that can commit do.
   *
   * @returns synthetic rows that no shard has stored; they belong to whatever comes next (FAIL-11, LIFE-142)
   */
  async abandon(deadlineMs: number): Promise<SyntheticEvent[]> {
    this.#stopping = true;
    await this.#readers?.terminate();
    // Whoever cannot commit is why the path is abandoned; the resume points say what is missing.
    await this.commitAll(deadlineMs).catch(() => undefined);
    await this.closeStores(deadlineMs);
    await this.release();
    return this.#writers.flatMap(({ owed }) => owed);
  }

  /** Shutdown step 3: a last drain cycle on every ring; past the deadline the rest stays in the rings. */
  async drainRings(deadlineMs: number): Promise<void> {
    this.#stopping = true;
    const readers = this.#readers;
    if (readers === null) return;
    readers.send({ type: 'stop' });
    if (await withinMs(readers.ended, deadlineMs)) return;
    await readers.terminate();
    throw new Error(
      `ring readers did not finish within ${deadlineMs} ms; what they had not read stays in the rings`,
    );
  }

  /**
   * Shutdown step 4: every writer commits what is left. Fills `last` with the last persisted sequence
   * per CPU, also where it throws because a writer is late or gone: the others' are true all the same.
   */
  async commitAll(deadlineMs: number, last = new Map<number, bigint>()): Promise<void> {
    this.#stopping = true;
    const problems: string[] = [];
    await Promise.all(
      this.#writers.map(async (writer) => {
        const { shard, thread } = writer;
        try {
          const drained = heard(thread, (m) => m.type === 'drained' || m.type === 'closed');
          writer.endBuild();
          thread.send({ type: 'stop' });
          if (!(await withinMs(drained, deadlineMs))) {
            problems.push(`shard ${shard} did not commit within ${deadlineMs} ms`);
            return;
          }
          const report = await drained;
          if (report.type !== 'drained') return;
          for (const [cpu, sequence] of report.lastSequences) {
            if (sequence > (last.get(cpu) ?? 0n)) last.set(cpu, sequence);
          }
        } catch (error) {
          problems.push(`shard ${shard}: ${messageOf(error)}`);
        }
      }),
    );
    if (problems.length > 0) throw new Error(problems.join('; '));
  }

  /** Shutdown step 6: the record goes to shard 0, else to the lowest shard that can take it (LIFE-206). */
  async recordShutdown(event: SyntheticEvent, deadlineMs: number): Promise<void> {
    const writer = lowestHealthy(this.#writers);
    if (writer === null) return;
    const position = writer.handOver(event);
    // `drained` alone says nothing: it may be the late answer to the stop.
    const over = heard(
      writer.thread,
      (m) => writer.stored >= position || (m.type === 'drained' && writer.failure !== null),
    );
    if (!(await withinMs(over, deadlineMs)))
      throw new Error(`shard ${writer.shard} did not store it in time`);
    if (writer.stored < position) throw new Error(`shard ${writer.shard} could not store it`);
  }

  /** Shutdown step 7. */
  async closeStores(deadlineMs: number): Promise<void> {
    await Promise.all(
      this.#writers.map(async ({ thread }) => {
        thread.send({ type: 'close' });
        if (!(await withinMs(thread.ended, deadlineMs))) await this.#terminate(thread);
      }),
    );
  }

  /** Shutdown step 8, and the end of a failed start: ends every thread, frees channels and rings. */
  async release(): Promise<void> {
    this.#stopping = true;
    await this.#readers?.terminate();
    for (const writer of this.#writers) writer.endBuild();
    await Promise.all(this.#writers.map(({ thread }) => this.#terminate(thread)));
    for (const { channel } of this.#writers) quietly(() => native.channelClose(channel));
    // A ring that a drain thread owned is closed by it; only those that never got one are left.
    for (const { ring } of this.#options.rings) quietly(() => native.ringClose(ring));
    this.#reports$.complete();
  }

  #startWriter(
    { shard, file }: ShardPlan,
    bootId: Uint8Array,
    limits: WriterLimits,
  ): MessageChannel['port1'] {
    const { port1, port2 } = new MessageChannel();
    const channel = openChannel(shard, limits);
    const unordered = [...this.#options.resume.cpus].flatMap(([cpu, { floor, upper }]) =>
      upper > 0n ? [{ cpu, floor, upper }] : [],
    );
    const { commits: feed, indexes } = this.#options;
    const building = BuildSignal.allocate();
    const data: ShardWriterThreadData = {
      shard,
      file,
      bootId,
      channel,
      limits,
      unordered,
      commits: feed === undefined ? null : { feed, source: shard },
      indexes: indexes === undefined ? null : { ...indexes, signal: building },
      readers: port2,
    };
    const entry = new URL('../shardWriter/worker.js', import.meta.url);
    const thread = startThread<FromWriter, ToWriter>(`writer-${shard}`, entry, { ...data }, [port2]);
    const writer = new PathWriter(shard, file, channel, thread, building);
    this.#writers.push(writer);
    this.#supervise(thread);
    thread.messages$.subscribe((message) => this.#fromWriter(writer, message));
    return port1;
  }

  async #opened({ thread }: PathWriter): Promise<void> {
    const answer = await heard(thread, (m) => m.type === 'ready' || m.type === 'failed');
    if (answer.type === 'failed') throw new Error(answer.failure.message);
  }

  #fromWriter(writer: PathWriter, message: FromWriter): void {
    const { shard } = writer;
    switch (message.type) {
      case 'committed':
        writer.committed(message.synthetic);
        this.#reports$.next({
          type: 'commit',
          shard,
          rows: message.rows,
          events: message.events,
          commitMs: message.commitMs,
        });
        if (message.checkpointFailure !== null) this.#checkpointFailed(writer, message.checkpointFailure);
        placeStorageErrors(this.#writers);
        break;
      case 'failed':
        writer.failed(message.failure);
        this.#reports$.next({ type: 'commitFailed', shard, failure: message.failure });
        oweStorageError(this.#writers, writer, message.failure);
        break;
      case 'indexes':
        writer.indexes = message.existing;
        this.#reports$.next({ type: 'indexes', shard, change: message.change });
        break;
      case 'readOnly':
        writer.readOnly = true;
        if (writer.failure !== null)
          this.#reports$.next({ type: 'readOnly', shard, file: writer.file, failure: writer.failure });
        break;
      case 'inspection':
        this.#reports$.next({ type: 'inspection', message: message.message });
        break;
    }
  }

  /** The batch is stored; what failed is moving the WAL into the database. Told once per episode. */
  #checkpointFailed(writer: PathWriter, failure: Pick<CommitFailure, 'code' | 'message'>): void {
    this.#reports$.next({ type: 'checkpointFailed', shard: writer.shard, ...failure });
    oweStorageError(this.#writers, writer, failure);
  }

  #fromReaders(message: FromReaders): void {
    switch (message.type) {
      case 'loss':
      case 'regressed':
        this.#reports$.next(message);
        break;
      case 'finished':
        if (message.output.type === 'failed') {
          this.#reports$.next({
            type: 'threadFailed',
            thread: `reader-${message.cpu}`,
            message: message.output.failure,
          });
        }
        break;
      case 'inspection':
        this.#reports$.next({ type: 'inspection', message: message.message });
        break;
    }
  }

  /**
   * Ends a writer's thread, but not inside SQLite: better-sqlite3 aborts the process when a call fails
   * in a thread that is being terminated. Whoever cannot wait for a hanging disk has the stop bound.
   */
  async #terminate(thread: PathWriter['thread']): Promise<void> {
    const pong = heard(thread, (m) => m.type === 'pong').catch(() => undefined);
    thread.send({ type: 'ping' });
    await pong;
    await thread.terminate();
  }

  /** The thread's dump, or null when it does not answer in time. A thread that hangs is asked once. */
  async #asked<In extends { readonly type: string }>(
    thread: ActorThread<In, { readonly type: 'dump' }>,
    waitMs: number,
  ): Promise<Extract<In, { type: 'dumped' }> | null> {
    let answer = this.#asking.get(thread) as Promise<In> | undefined;
    if (answer === undefined) {
      answer = heard(thread, (m) => m.type === 'dumped');
      const answered = () => this.#asking.delete(thread);
      answer.then(answered, answered);
      this.#asking.set(thread, answer);
      thread.send({ type: 'dump' });
    }
    return (await withinMs(answer, waitMs).catch(() => false))
      ? ((await answer) as Extract<In, { type: 'dumped' }>)
      : null;
  }

  #supervise(thread: ActorThread<unknown, unknown>): void {
    void thread.ended.then((error) => {
      if (this.#stopping && error === null) return;
      const message = error?.message ?? `thread ${thread.name} ended unexpectedly`;
      if (!this.#started) {
        this.#endedEarly ??= message;
        return;
      }
      this.#reports$.next({ type: 'threadFailed', thread: thread.name, message });
    });
  }
}

/** Null when its owner has closed it already. */
function quietly<T>(work: () => T): T | null {
  try {
    return work();
  } catch {
    return null;
  }
}
