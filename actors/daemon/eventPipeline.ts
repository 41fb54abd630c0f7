/**
 * The event path as the daemon sees it: a thread per shard writer, one thread for all ring readers,
 * the channels between them, and what happens when one of them fails.
 */
import { MessageChannel } from 'node:worker_threads';
import type { CommitFailure, WriterLimits } from '../../machines/shardWriter.js';
import type { KmesSource } from '../../src/host/kmes.js';
import { type ChannelHandle, native, type RingInfo } from '../../src/native/addon.js';
import { assignShards } from '../../src/stores/assignment.js';
import type { ShardPlan } from '../../src/stores/eventStore.js';
import { type BootResolution, NOTHING_SEEN } from '../../src/stores/resume.js';
import { type SyntheticEvent, storageErrorEvent } from '../../src/stores/synthetic.js';
import type { CpuReadersThreadData } from '../cpuReader/worker.js';
import type { FromReaders, FromWriter, ReaderDump, ToReaders, ToWriter, WriterDump } from '../messages.js';
import { filter, firstValueFrom, type Observable, Subject, take } from '../rx.js';
import { openChannel } from '../shardWriter/shardWriter.js';
import type { ShardWriterThreadData } from '../shardWriter/worker.js';
import { type ActorThread, startThread } from '../thread.js';

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
  | { readonly type: 'readOnly'; readonly shard: number }
  | {
      readonly type: 'loss';
      readonly cpu: number;
      readonly what: string;
      readonly detail: Record<string, unknown>;
    }
  | { readonly type: 'threadFailed'; readonly thread: string; readonly message: string }
  | { readonly type: 'inspection'; readonly message: unknown };

interface Writer {
  readonly shard: number;
  readonly channel: ChannelHandle;
  readonly thread: ActorThread<FromWriter, ToWriter>;
  /** Synthetic rows handed over so far, and how many of them are stored; they are stored in order. */
  handedOver: number;
  stored: number;
  /** A commit failed and none has succeeded since. */
  failing: boolean;
  readOnly: boolean;
  /** Its thread is over: it takes nothing any more. */
  ended: boolean;
  /** Its storage error waits for a shard that may hold it (FAIL-11, FAIL-17). */
  pendingError: SyntheticEvent | null;
}

export class EventPipeline {
  readonly #options: EventPipelineOptions;
  readonly #reports$ = new Subject<PipelineReport>();
  readonly #writers: Writer[] = [];
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

  /** Starts the threads side by side; the readers begin to read once every writer is ready (LIFE-137). */
  async start(): Promise<void> {
    const { shards, rings, resume, kmes, emergencyPercent, limits, bootId } = this.#options;
    const ports = shards.map((plan) => this.#startWriter(plan, bootId, limits));
    const writersReady = Promise.all(this.#writers.map((writer) => this.#opened(writer)));
    writersReady.catch(() => undefined);
    const writable = shards.map(({ shard }) => shard);
    const data: CpuReadersThreadData = {
      kmes,
      emergencyPercent,
      shards: this.#writers.map(({ shard, channel }, i) => {
        const port = ports[i];
        if (port === undefined) throw new RangeError(`no port for shard ${shard}`);
        return { shard, channel, port };
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
    const reading = this.#heard(readers, (m) => m.type === 'ready');
    readers.send({ type: 'start' });
    await reading;
    this.#started = true;
    if (this.#endedEarly !== null) throw new Error(this.#endedEarly);
  }

  /** Stores a daemon-wide synthetic row in the lowest healthy shard (ING-71, FAIL-17) and waits for the commit. */
  async store(event: SyntheticEvent): Promise<void> {
    const writer = this.#healthy(null) ?? this.#writers[0];
    if (writer === undefined) return;
    const position = handOver(writer, event);
    await this.#heard(writer.thread, (m) => m.type === 'committed' && writer.stored >= position);
  }

  /** Queues a daemon-wide synthetic row without waiting. */
  queue(event: SyntheticEvent): void {
    const writer = this.#healthy(null) ?? this.#writers[0];
    if (writer !== undefined) handOver(writer, event);
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

  /** Every reader and writer, one line each, for the diagnostic dump. A thread busy for long is left out. */
  async describe(waitMs: number): Promise<string[]> {
    const readers = this.#readers;
    const read = readers === null ? null : this.#asked(readers, waitMs);
    const written = this.#writers.map(({ thread }) => this.#asked(thread, waitMs));
    const readerLines = (await read)?.dump.map(readerLine) ?? ['  readers: no answer'];
    const writerLines = this.#writers.map(async (writer, i) =>
      writerLine(writer, (await written[i])?.dump ?? null),
    );
    return [...readerLines, ...(await Promise.all(writerLines))];
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
      this.#writers.map(async ({ shard, thread }) => {
        try {
          const drained = this.#heard(thread, (m) => m.type === 'drained' || m.type === 'closed');
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
          problems.push(`shard ${shard}: ${error instanceof Error ? error.message : String(error)}`);
        }
      }),
    );
    if (problems.length > 0) throw new Error(problems.join('; '));
  }

  /** Shutdown step 6: the record goes to shard 0, else to the lowest shard that can take it (LIFE-206). */
  async recordShutdown(event: SyntheticEvent, deadlineMs: number): Promise<void> {
    const writer = this.#healthy(null);
    if (writer === null) return;
    const position = handOver(writer, event);
    // `drained` alone says nothing: it may be the late answer to the stop.
    const over = this.#heard(
      writer.thread,
      (m) => writer.stored >= position || (m.type === 'drained' && writer.failing),
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
        if (!(await withinMs(thread.ended, deadlineMs))) await thread.terminate();
      }),
    );
  }

  /** Shutdown step 8, and the end of a failed start: ends every thread, frees channels and rings. */
  async release(): Promise<void> {
    this.#stopping = true;
    await this.#readers?.terminate();
    await Promise.all(this.#writers.map(({ thread }) => thread.terminate()));
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
    const data: ShardWriterThreadData = { shard, file, bootId, channel, limits, unordered, readers: port2 };
    const entry = new URL('../shardWriter/worker.js', import.meta.url);
    const thread = startThread<FromWriter, ToWriter>(`writer-${shard}`, entry, { ...data }, [port2]);
    const writer: Writer = {
      shard,
      channel,
      thread,
      handedOver: 0,
      stored: 0,
      failing: false,
      readOnly: false,
      ended: false,
      pendingError: null,
    };
    this.#writers.push(writer);
    this.#supervise(thread);
    void thread.ended.then(() => {
      writer.ended = true;
    });
    thread.messages$.subscribe((message) => this.#fromWriter(writer, message));
    return port1;
  }

  async #opened({ thread }: Writer): Promise<void> {
    const answer = await this.#heard(thread, (m) => m.type === 'ready' || m.type === 'failed');
    if (answer.type === 'failed') throw new Error(answer.failure.message);
  }

  #fromWriter(writer: Writer, message: FromWriter): void {
    const { shard } = writer;
    switch (message.type) {
      case 'committed':
        writer.failing = false;
        writer.stored += message.synthetic;
        this.#reports$.next({
          type: 'commit',
          shard,
          rows: message.rows,
          events: message.events,
          commitMs: message.commitMs,
        });
        this.#placePendingErrors();
        break;
      case 'failed':
        writer.failing = true;
        this.#reports$.next({ type: 'commitFailed', shard, failure: message.failure });
        writer.pendingError ??= storageErrorEvent(native.realtimeNs(), {
          store: 'event',
          shard,
          error: `${message.failure.code}: ${message.failure.message}`,
        });
        this.#placePendingErrors();
        break;
      case 'readOnly':
        writer.readOnly = true;
        this.#reports$.next({ type: 'readOnly', shard });
        break;
      case 'inspection':
        this.#reports$.next({ type: 'inspection', message: message.message });
        break;
    }
  }

  #fromReaders(message: FromReaders): void {
    switch (message.type) {
      case 'loss':
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

  /** A storage error goes to another shard, or to its own once that has recovered (ING-72, FAIL-17). */
  #placePendingErrors(): void {
    for (const writer of this.#writers) {
      if (writer.pendingError === null) continue;
      const target = this.#healthy(writer) ?? (isHealthy(writer) ? writer : null);
      if (target === null) continue;
      handOver(target, writer.pendingError);
      writer.pendingError = null;
    }
  }

  /** The thread's dump, or null when it does not answer in time. */
  async #asked<In extends { readonly type: string }>(
    thread: ActorThread<In, { readonly type: 'dump' }>,
    waitMs: number,
  ): Promise<Extract<In, { type: 'dumped' }> | null> {
    const answer = this.#heard(thread, (m) => m.type === 'dumped');
    answer.catch(() => undefined);
    thread.send({ type: 'dump' });
    return (await withinMs(answer, waitMs).catch(() => false))
      ? ((await answer) as Extract<In, { type: 'dumped' }>)
      : null;
  }

  #healthy(except: Writer | null): Writer | null {
    return this.#writers.find((writer) => writer !== except && isHealthy(writer)) ?? null;
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

  /** The thread's next message of this kind; rejects when the thread ends first. */
  async #heard<In>(thread: ActorThread<In, unknown>, wanted: (message: In) => boolean): Promise<In> {
    const message = firstValueFrom(thread.messages$.pipe(filter(wanted), take(1)));
    const end = thread.ended.then((error) => {
      throw error ?? new Error(`thread ${thread.name} ended`);
    });
    // The stream of an ended thread completes; why it ended is what the caller wants to know.
    return Promise.race([message.catch(() => end), end]);
  }
}

function isHealthy({ failing, readOnly, ended }: Writer): boolean {
  return !failing && !readOnly && !ended;
}

/** Sends a synthetic row to a writer; returns its place among all that this writer got. */
function handOver(writer: Writer, event: SyntheticEvent): number {
  writer.thread.send({ type: 'synthetic', event });
  return ++writer.handedOver;
}

function readerLine({ cpu, state, drain }: ReaderDump): string {
  if (drain === null) return `  reader ${cpu}: ${state}`;
  const { lastSequence, events, gaps, lost, peakFill } = drain;
  return `  reader ${cpu}: ${state}, last sequence ${lastSequence}, ${events} events, ${gaps} gaps, ${lost} lost, peak fill ${peakFill.toFixed(3)}`;
}

function writerLine(
  { shard, channel, failing, readOnly, pendingError }: Writer,
  dump: WriterDump | null,
): string {
  const credit = quietly(() => native.channelStatus(channel));
  const parts = [
    dump?.state ?? 'no answer',
    readOnly ? 'read-only' : failing ? 'failing' : 'good',
    credit === null
      ? 'channel closed'
      : `${credit.rows}/${credit.maxRows} rows waiting, ${credit.blocked} readers blocked`,
  ];
  if (dump !== null) {
    const ranges = dump.owedRanges.map(({ cpu, first, last }) => ` cpu ${cpu} ${first}-${last}`);
    const last = [...dump.lastSequences].map(([cpu, sequence]) => ` cpu ${cpu} ${sequence}`);
    parts.push(
      `${dump.rows} rows in ${dump.commits} commits, ${dump.failures} failed in a row`,
      `stored up to${last.join() || ' nothing'}`,
      `${dump.owed} lost ranges to record${ranges.join()}`,
    );
  }
  if (pendingError !== null) parts.push('a storage error waits to be recorded');
  return `  writer ${shard}: ${parts.join(', ')}`;
}

/** True when the promise settled in time. */
async function withinMs(promise: Promise<unknown>, ms: number): Promise<boolean> {
  let timer: NodeJS.Timeout | undefined;
  const timeout = new Promise<boolean>((resolve) => {
    timer = setTimeout(() => resolve(false), ms);
  });
  try {
    return await Promise.race([promise.then(() => true), timeout]);
  } finally {
    clearTimeout(timer);
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
