/**
 * Rollups as the daemon sees them: their thread, which is started again when it dies, what queries tell it,
 * the load of the metric writer, and its leases (ROL-9..18, LIFE-124).
 */
import type { ProcessLog } from '../../src/host/processLog.js';
import { MAX_COUNTED_FIELDS } from '../../src/indexes/counters.js';
import type { Settings } from '../../src/registry/settings.js';
import type { MaintenanceThread } from '../maintenance/maintenanceThread.js';
import type { FromRollups, RollupDump, RollupSettings, ToRollups } from '../rollupAdvisor/messages.js';
import type { RollupData } from '../rollupAdvisor/rollupAdvisor.js';
import type { ActorThread } from '../thread.js';
import { heard, withinMs } from '../threadTalk.js';
import type { Lender } from './leases.js';
import { rollupSettings } from './limits.js';

export interface RollupThreadOptions extends Omit<RollupData, 'settings'> {
  /** Where it runs. */
  readonly maintenance: MaintenanceThread;
  readonly settings: Settings;
  readonly log: ProcessLog;
  readonly lender: Lender;
  readonly onInspection: (message: unknown) => void;
}

/** Rollups at one instant; the dump is null when the thread does not answer, or is gone. */
export interface RollupSurvey {
  /** Keys of the pairs that are kept, highest priority first. */
  readonly desired: readonly string[];
  readonly dump: RollupDump | null;
}

/** After its thread has died it starts anew, so late that a database that kills it does little harm. */
const RESTART_MS = 10_000;
/** What queries ask for is told together, ms. */
const USED_EVERY_MS = 1000;

/** Shares of `MetricMaxBatchSize` (ROL-18). */
const RISING = 0.75;
const QUIET = 0.25;
/** Without a batch for this long writes are few, ms. */
const SILENCE_MS = 5000;

type RollupWorker = ActorThread<FromRollups, ToRollups>;

export class RollupThread {
  readonly #options: RollupThreadOptions;
  #settings: RollupSettings;
  #maxBatchSize: number;
  #thread: RollupWorker | null = null;
  #restart: NodeJS.Timeout | null = null;
  #desired: readonly string[] = [];
  #used = new Map<string, number>();
  #telling: NodeJS.Timeout | null = null;
  #rose = false;
  #silence: NodeJS.Timeout | null = null;
  /** The lease that the thread has asked for. */
  #lease: number | null = null;
  /** Lease numbers begin anew with each thread. */
  #generation = 0;
  #inspecting = false;
  #stopping = false;

  constructor(options: RollupThreadOptions) {
    this.#options = options;
    this.#settings = rollupSettings(options.settings);
    this.#maxBatchSize = options.settings.MetricMaxBatchSize;
  }

  /** Phase 6 (LIFE-124). Once: a recovery of the event path leaves the thread alone. */
  async start(): Promise<void> {
    if (this.#thread !== null || this.#stopping) return;
    await heard(this.#start(), ({ type }) => type === 'ready');
  }

  /** A metric query asks for this pair (ROL-10, ROL-13). Costs its caller nothing but memory. */
  used(pair: string): void {
    if (!this.#used.has(pair) && this.#used.size >= MAX_COUNTED_FIELDS) return;
    this.#used.set(pair, (this.#used.get(pair) ?? 0) + 1);
    this.#telling ??= setTimeout(() => this.#tell(), USED_EVERY_MS).unref();
  }

  /** The metric writer has stored a batch (ROL-17, ROL-18). */
  committed(records: number): void {
    if (records >= this.#maxBatchSize * RISING) this.#setRose(true);
    else if (records < this.#maxBatchSize * QUIET) this.#setRose(false);
    if (this.#rose) {
      this.#silence ??= setTimeout(() => this.#setRose(false), SILENCE_MS).unref();
      this.#silence.refresh();
    }
  }

  /** CFG-70. */
  setLimits(all: Settings): void {
    this.#maxBatchSize = all.MetricMaxBatchSize;
    const settings = rollupSettings(all);
    if (settingsText(settings) === settingsText(this.#settings)) return;
    this.#settings = settings;
    this.#thread?.send({ type: 'settings', settings });
  }

  inspect(on: boolean): void {
    this.#inspecting = on;
    this.#thread?.send({ type: 'inspect', on });
  }

  async survey(waitMs: number): Promise<RollupSurvey> {
    return { desired: this.#desired, dump: await this.#dump(waitMs) };
  }

  /** Writes down what was counted, before the last commits (LIFE-204): the unit under way ends first. */
  async stop(deadlineMs: number): Promise<void> {
    this.#stopping = true;
    if (this.#restart !== null) clearTimeout(this.#restart);
    const thread = this.#thread;
    if (thread === null) return;
    this.#tell();
    thread.send({ type: 'stop' });
    await withinMs(thread.ended, deadlineMs);
  }

  /** The end, also after a failed start. Safe twice. */
  async release(): Promise<void> {
    this.#stopping = true;
    if (this.#telling !== null) clearTimeout(this.#telling);
    if (this.#silence !== null) clearTimeout(this.#silence);
    const thread = this.#thread;
    if (thread === null) return;
    // Not inside SQLite: better-sqlite3 aborts the process when a call fails in a thread being terminated.
    const pong = heard(thread, ({ type }) => type === 'pong').catch(() => undefined);
    thread.send({ type: 'ping' });
    await pong;
    await thread.terminate();
  }

  #start(): RollupWorker {
    const { eventStorePath, metricStorePath } = this.#options;
    const data: RollupData = { eventStorePath, metricStorePath, settings: this.#settings };
    const entry = new URL('../rollupAdvisor/worker.js', import.meta.url);
    const thread = this.#options.maintenance.start<FromRollups, ToRollups>('rollup-advisor', entry, {
      ...data,
    });
    this.#thread = thread;
    this.#generation++;
    thread.messages$.subscribe((message) => this.#heard(thread, message));
    if (this.#inspecting) thread.send({ type: 'inspect', on: true });
    if (this.#rose) thread.send({ type: 'writes', rose: true });
    void thread.ended.then((error) => this.#ended(thread, error));
    return thread;
  }

  #heard(thread: RollupWorker, message: FromRollups): void {
    const { log, onInspection } = this.#options;
    switch (message.type) {
      case 'desired':
        this.#report(message.pairs);
        this.#desired = message.pairs;
        break;
      case 'leaseRequest':
        void this.#ask(thread, message.id);
        break;
      case 'leaseReturn':
        if (this.#lease === message.id) this.#return(message.id);
        break;
      case 'failed':
        log.error(`rollups: ${message.failure.message}`, { code: message.failure.code });
        break;
      case 'inspection':
        onInspection(message.message);
        break;
    }
  }

  async #ask(thread: RollupWorker, id: number): Promise<void> {
    this.#lease = id;
    const { lender, metricStorePath } = this.#options;
    const generation = this.#generation;
    const pressure = await lender.lease(metricStorePath, this.#numberOf(id));
    if (this.#lease !== id || this.#generation !== generation) return;
    if (pressure === null) {
      this.#lease = null;
      thread.send({ type: 'leaseRefused', id });
    } else thread.send({ type: 'leaseGranted', id, pressure });
  }

  #return(id: number): void {
    this.#lease = null;
    const { lender, metricStorePath } = this.#options;
    lender.returnLease(metricStorePath, this.#numberOf(id), new BigInt64Array());
  }

  #numberOf(id: number): number {
    return this.#generation * 2 ** 32 + id;
  }

  #setRose(rose: boolean): void {
    if (rose === this.#rose) return;
    this.#rose = rose;
    this.#thread?.send({ type: 'writes', rose });
  }

  #report(pairs: readonly string[]): void {
    const added = pairs.filter((pair) => !this.#desired.includes(pair));
    const removed = this.#desired.filter((pair) => !pairs.includes(pair));
    if (added.length + removed.length === 0) return;
    this.#options.log.info('the rollups that are kept have changed', { added, removed });
  }

  #tell(): void {
    if (this.#telling !== null) clearTimeout(this.#telling);
    this.#telling = null;
    // While there is no thread they wait for the next one.
    if (this.#thread === null || this.#used.size === 0) return;
    this.#thread.send({ type: 'used', pairs: this.#used });
    this.#used = new Map();
  }

  #ended(thread: RollupWorker, error: Error | null): void {
    if (this.#thread !== thread) return;
    this.#thread = null;
    if (this.#lease !== null) this.#return(this.#lease);
    if (this.#stopping) return;
    const message = error?.message ?? 'it ended unexpectedly';
    this.#options.log.error(`thread rollup-advisor ended and is started again: ${message}`);
    this.#restart = setTimeout(() => this.#start(), RESTART_MS).unref();
  }

  async #dump(waitMs: number): Promise<RollupDump | null> {
    const thread = this.#thread;
    if (thread === null) return null;
    let dump: RollupDump | null = null;
    const answer = heard(thread, (message) => {
      if (message.type === 'dumped') dump = message.dump;
      return message.type === 'dumped';
    });
    thread.send({ type: 'dump' });
    await withinMs(answer, waitMs).catch(() => false);
    return dump;
  }
}

function settingsText(settings: RollupSettings): string {
  return JSON.stringify(settings, (_, value: unknown) => (typeof value === 'bigint' ? String(value) : value));
}
