/**
 * Retention as the daemon sees it: its thread, which is started again when it dies, and the leases, which
 * go from it to the writers and back (RET-3, RET-8). Writers and sweeper do not know each other; whoever
 * of them dies, nobody waits for him.
 */
import {
  type RetentionLimits,
  SWEPT_STORES,
  type SweptStore,
  type Target,
} from '../../machines/retentionSweeper.js';
import type { ProcessLog } from '../../src/host/processLog.js';
import type { Settings } from '../../src/registry/settings.js';
import type { MaintenanceThread } from '../maintenance/maintenanceThread.js';
import type { FromRetention, RetentionDump, StoreFigures, ToRetention } from '../retention/messages.js';
import type { RetentionData } from '../retention/retention.js';
import type { ActorThread } from '../thread.js';
import { heard, withinMs } from '../threadTalk.js';
import type { Lender } from './leases.js';
import { retentionLimits } from './limits.js';

export interface RetentionThreadOptions extends Omit<RetentionData, 'limits'> {
  /** Where it runs. */
  readonly maintenance: MaintenanceThread;
  readonly settings: Settings;
  readonly log: ProcessLog;
  /** Null while the store has no path. */
  readonly lender: (store: SweptStore) => Lender | null;
  readonly onInspection: (message: unknown) => void;
}

/** Retention at one instant. */
export interface RetentionSurvey {
  readonly stores: Readonly<Record<SweptStore, StoreFigures>>;
  /** Sweeps that ended, since the start of the process. */
  readonly sweeps: number;
  /** Null when its thread does not answer, or is gone. */
  readonly dump: RetentionDump | null;
}

/** After its thread has died retention starts anew, so late that a database that kills it does little harm. */
const RESTART_MS = 10_000;

const NOTHING: StoreFigures = { rows: 0, series: 0, usedBytes: null };

/** A lease that the thread has asked for. */
interface OpenLease {
  readonly id: number;
  readonly target: Target;
}

export class RetentionThread {
  readonly #options: RetentionThreadOptions;
  #limits: RetentionLimits;
  #thread: ActorThread<FromRetention, ToRetention> | null = null;
  #restart: NodeJS.Timeout | null = null;
  #lease: OpenLease | null = null;
  #inspecting = false;
  #stopping = false;
  #sweeps = 0;
  /** Of the thread that runs now, and of those before it. */
  #figures: Record<SweptStore, StoreFigures> = { event: NOTHING, log: NOTHING, metric: NOTHING };
  #earlier = this.#figures;
  /** Lease numbers begin anew with each thread, but writers must not confuse them. */
  #generation = 0;

  constructor(options: RetentionThreadOptions) {
    this.#options = options;
    this.#limits = retentionLimits(options.settings);
  }

  /** Phase 6 (LIFE-123). Once: a recovery of the event path leaves the thread alone. */
  async start(): Promise<void> {
    if (this.#thread !== null || this.#stopping) return;
    await heard(this.#start(), ({ type }) => type === 'ready');
  }

  /** CFG-70. */
  setLimits(settings: Settings): void {
    const limits = retentionLimits(settings);
    if (limitsText(limits) === limitsText(this.#limits)) return;
    this.#limits = limits;
    this.#thread?.send({ type: 'limits', limits });
  }

  /** A commit found no room (RET-11, FAIL-8). */
  diskFull(): void {
    this.#thread?.send({ type: 'diskFull' });
  }

  inspect(on: boolean): void {
    this.#inspecting = on;
    this.#thread?.send({ type: 'inspect', on });
  }

  async survey(waitMs: number): Promise<RetentionSurvey> {
    return { stores: this.#total(), sweeps: this.#sweeps, dump: await this.#dump(waitMs) };
  }

  /** Before the last commits (LIFE-204): the batch under way ends, and nothing holds a lock any more. */
  async stop(deadlineMs: number): Promise<void> {
    this.#end();
    const thread = this.#thread;
    if (thread === null) return;
    thread.send({ type: 'stop' });
    await withinMs(thread.ended, deadlineMs);
  }

  /** The end, also after a failed start. Safe twice. */
  async release(): Promise<void> {
    this.#end();
    const thread = this.#thread;
    if (thread === null) return;
    // Not inside SQLite: better-sqlite3 aborts the process when a call fails in a thread being terminated.
    const pong = heard(thread, ({ type }) => type === 'pong').catch(() => undefined);
    thread.send({ type: 'ping' });
    await pong;
    await thread.terminate();
  }

  #end(): void {
    this.#stopping = true;
    if (this.#restart !== null) clearTimeout(this.#restart);
  }

  #start(): ActorThread<FromRetention, ToRetention> {
    const { eventStorePath, logStorePath, metricStorePath, bootId } = this.#options;
    const limits = this.#limits;
    const data: RetentionData = { eventStorePath, logStorePath, metricStorePath, bootId, limits };
    const entry = new URL('../retention/worker.js', import.meta.url);
    const thread = this.#options.maintenance.start<FromRetention, ToRetention>('retention', entry, {
      ...data,
    });
    this.#thread = thread;
    this.#generation++;
    thread.messages$.subscribe((message) => this.#heard(thread, message));
    if (this.#inspecting) thread.send({ type: 'inspect', on: true });
    void thread.ended.then((error) => this.#ended(thread, error));
    return thread;
  }

  #heard(thread: ActorThread<FromRetention, ToRetention>, message: FromRetention): void {
    const { log, onInspection } = this.#options;
    switch (message.type) {
      case 'leaseRequest':
        void this.#ask(thread, message);
        break;
      case 'leaseReturn':
        this.#return(message, message.series);
        break;
      case 'swept': {
        this.#sweeps++;
        const before = this.#total();
        this.#figures = { ...message.stores };
        this.#report(before, message);
        break;
      }
      case 'failed':
        log.error(`retention: ${message.failure.message}`, { code: message.failure.code });
        break;
      case 'inspection':
        onInspection(message.message);
        break;
    }
  }

  async #ask(thread: ActorThread<FromRetention, ToRetention>, { id, target }: OpenLease): Promise<void> {
    const lease = { id, target };
    this.#lease = lease;
    const lender = this.#options.lender(target.store);
    const pressure = (await lender?.lease(target.file, this.#numberOf(id))) ?? null;
    if (this.#lease !== lease) return;
    if (pressure === null) {
      this.#lease = null;
      thread.send({ type: 'leaseRefused', id });
    } else thread.send({ type: 'leaseGranted', id, pressure });
  }

  #return({ id, target }: OpenLease, series: BigInt64Array | null): void {
    if (this.#lease?.id !== id) return;
    this.#lease = null;
    this.#options.lender(target.store)?.returnLease(target.file, this.#numberOf(id), series);
  }

  #numberOf(id: number): number {
    return this.#generation * 2 ** 32 + id;
  }

  /** What a sweep has deleted since the last one, where it has. */
  #report(
    before: Readonly<Record<SweptStore, StoreFigures>>,
    { urgent, ms }: { urgent: boolean; ms: number },
  ): void {
    const now = this.#total();
    const deleted = SWEPT_STORES.map((store) => now[store].rows - before[store].rows);
    if (deleted.every((rows) => rows === 0) && !urgent) return;
    const [events, logs, samples] = deleted;
    this.#options.log.info(urgent ? 'retention after a full disk' : 'retention', {
      events,
      logs,
      samples,
      seconds: Math.round(ms / 100) / 10,
    });
  }

  #total(): Record<SweptStore, StoreFigures> {
    const sum = (store: SweptStore): StoreFigures => {
      const [earlier, now] = [this.#earlier[store], this.#figures[store]];
      return {
        rows: earlier.rows + now.rows,
        series: earlier.series + now.series,
        usedBytes: now.usedBytes ?? earlier.usedBytes,
      };
    };
    return { event: sum('event'), log: sum('log'), metric: sum('metric') };
  }

  #ended(thread: ActorThread<FromRetention, ToRetention>, error: Error | null): void {
    if (this.#thread !== thread) return;
    this.#thread = null;
    // What it deleted last it cannot say any more.
    if (this.#lease !== null) this.#return(this.#lease, null);
    this.#earlier = this.#total();
    this.#figures = { event: NOTHING, log: NOTHING, metric: NOTHING };
    if (this.#stopping) return;
    const message = error?.message ?? 'it ended unexpectedly';
    this.#options.log.error(`thread retention ended and is started again: ${message}`);
    this.#restart = setTimeout(() => this.#start(), RESTART_MS).unref();
  }

  async #dump(waitMs: number): Promise<RetentionDump | null> {
    const thread = this.#thread;
    if (thread === null) return null;
    let dump: RetentionDump | null = null;
    const answer = heard(thread, (message) => {
      if (message.type === 'dumped') dump = message.dump;
      return message.type === 'dumped';
    });
    thread.send({ type: 'dump' });
    await withinMs(answer, waitMs).catch(() => false);
    return dump;
  }
}

function limitsText(limits: RetentionLimits): string {
  return JSON.stringify(limits, (_, value: unknown) => (typeof value === 'bigint' ? String(value) : value));
}
