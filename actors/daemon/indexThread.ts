/**
 * The index policy as the daemon sees it: its thread, which is started again when it dies, what queries
 * tell it, and the set it decides on for the writers (IDX-1..7, LIFE-124).
 */
import type { AdvisorLimits } from '../../machines/indexAdvisor.js';
import { type StoredDescriptor, storedDescriptor } from '../../src/access/caller.js';
import type { ProcessLog } from '../../src/host/processLog.js';
import { MAX_COUNTED_FIELDS } from '../../src/indexes/counters.js';
import type { IndexedField } from '../../src/indexes/fields.js';
import type { AdvisorData } from '../indexAdvisor/indexAdvisor.js';
import type { AdvisorDump, FromAdvisor, ToAdvisor } from '../indexAdvisor/messages.js';
import type { MaintenanceThread } from '../maintenance/maintenanceThread.js';
import type { ActorThread } from '../thread.js';
import { heard, withinMs } from '../threadTalk.js';

export interface IndexThreadOptions extends AdvisorData {
  /** Where it runs. */
  readonly maintenance: MaintenanceThread;
  readonly log: ProcessLog;
  /** A new set, highest priority first. */
  readonly onDesired: (fields: readonly IndexedField[]) => void;
  readonly onInspection: (message: unknown) => void;
}

/** The policy at one instant; the dump is null when its thread does not answer, or is gone. */
export interface IndexSurvey {
  readonly desired: readonly IndexedField[] | null;
  readonly dump: AdvisorDump | null;
}

/** After its thread has died the policy starts anew, so late that a file that kills it does little harm. */
const RESTART_MS = 10_000;
/** What queries ask for is told together, ms. */
const USED_EVERY_MS = 1000;

export class IndexThread {
  readonly #options: IndexThreadOptions;
  #limits: AdvisorLimits;
  #thread: ActorThread<FromAdvisor, ToAdvisor> | null = null;
  #restart: NodeJS.Timeout | null = null;
  #desired: readonly IndexedField[] | null = null;
  #used = new Map<string, number>();
  #telling: NodeJS.Timeout | null = null;
  #nextId = 0;
  #inspecting = false;
  #stopping = false;

  constructor(options: IndexThreadOptions) {
    this.#options = options;
    this.#limits = options.limits;
  }

  /** Phase 6. Once: a recovery of the event path leaves the thread alone. */
  async start(): Promise<void> {
    if (this.#thread !== null || this.#stopping) return;
    await heard(this.#start(), ({ type }) => type === 'ready');
  }

  /** The set in force; null while none is known. */
  get desired(): readonly IndexedField[] | null {
    return this.#desired;
  }

  /** An event query asks for these fields (IDX-3). Costs its caller nothing but memory (QX-43). */
  used(fields: readonly string[]): void {
    for (const field of fields) {
      if (!this.#used.has(field) && this.#used.size >= MAX_COUNTED_FIELDS) continue;
      this.#used.set(field, (this.#used.get(field) ?? 0) + 1);
    }
    if (this.#used.size > 0) this.#telling ??= setTimeout(() => this.#tell(), USED_EVERY_MS).unref();
  }

  /** EVENTS INDEX: resolves when the field is in the set, and that is written down (IDX-47, IDX-48). */
  async index(field: string): Promise<void> {
    const id = ++this.#nextId;
    await this.#ask({ type: 'index', id, field }, (m) => m.type === 'indexed' && m.id === id);
  }

  /** `admin_sd` as it is now; null where it is missing or malformed (IDX-44). */
  async adminDescriptor(): Promise<StoredDescriptor | null> {
    const id = ++this.#nextId;
    const isAnswer = (m: FromAdvisor) => m.type === 'adminDescriptor' && m.id === id;
    const answer = await this.#ask({ type: 'adminDescriptor', id }, isAnswer);
    if (answer.type !== 'adminDescriptor' || answer.bytes === null) return null;
    return storedDescriptor(answer.bytes);
  }

  /** CFG-70. */
  setLimits(limits: AdvisorLimits): void {
    if (JSON.stringify(limits) === JSON.stringify(this.#limits)) return;
    this.#limits = limits;
    this.#thread?.send({ type: 'limits', limits });
  }

  inspect(on: boolean): void {
    this.#inspecting = on;
    this.#thread?.send({ type: 'inspect', on });
  }

  async survey(waitMs: number): Promise<IndexSurvey> {
    return { desired: this.#desired, dump: await this.#dump(waitMs) };
  }

  /** Writes down what was counted (IDX-48). */
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
    const thread = this.#thread;
    if (thread === null) return;
    // Not inside SQLite: better-sqlite3 aborts the process when a call fails in a thread being terminated.
    const pong = heard(thread, ({ type }) => type === 'pong').catch(() => undefined);
    thread.send({ type: 'ping' });
    await pong;
    await thread.terminate();
  }

  #start(): ActorThread<FromAdvisor, ToAdvisor> {
    const { eventStorePath } = this.#options;
    const data: AdvisorData = { eventStorePath, limits: this.#limits };
    const entry = new URL('../indexAdvisor/worker.js', import.meta.url);
    const thread = this.#options.maintenance.start<FromAdvisor, ToAdvisor>('index-advisor', entry, {
      ...data,
    });
    this.#thread = thread;
    thread.messages$.subscribe((message) => this.#heard(message));
    if (this.#inspecting) thread.send({ type: 'inspect', on: true });
    void thread.ended.then((error) => this.#ended(thread, error));
    return thread;
  }

  #heard(message: FromAdvisor): void {
    const { log, onDesired, onInspection } = this.#options;
    switch (message.type) {
      case 'desired':
        this.#report(message.fields);
        this.#desired = message.fields;
        onDesired(message.fields);
        break;
      case 'recreated':
        log.error(`${message.problem}; the index policy begins anew`);
        break;
      case 'failed':
        log.error(`the index policy cannot be written down: ${message.failure.message}`, {
          code: message.failure.code,
        });
        break;
      case 'inspection':
        onInspection(message.message);
        break;
    }
  }

  #report(fields: readonly IndexedField[]): void {
    if (this.#desired === null) return;
    const before = this.#desired.map(({ field }) => field);
    const now = fields.map(({ field }) => field);
    const added = now.filter((field) => !before.includes(field));
    const removed = before.filter((field) => !now.includes(field));
    if (added.length + removed.length === 0) return;
    this.#options.log.info('the desired indexes have changed', { added, removed });
  }

  #tell(): void {
    if (this.#telling !== null) clearTimeout(this.#telling);
    this.#telling = null;
    // While there is no thread they wait for the next one.
    if (this.#thread === null || this.#used.size === 0) return;
    this.#thread.send({ type: 'used', fields: this.#used });
    this.#used = new Map();
  }

  async #ask(question: ToAdvisor, isAnswer: (message: FromAdvisor) => boolean): Promise<FromAdvisor> {
    const thread = this.#thread;
    if (thread === null) throw new Error('the index policy is being started again');
    const answer = heard(thread, isAnswer);
    thread.send(question);
    return answer;
  }

  #ended(thread: ActorThread<FromAdvisor, ToAdvisor>, error: Error | null): void {
    if (this.#thread !== thread) return;
    this.#thread = null;
    if (this.#stopping) return;
    const message = error?.message ?? 'it ended unexpectedly';
    this.#options.log.error(`thread index-advisor ended and is started again: ${message}`);
    this.#restart = setTimeout(() => this.#start(), RESTART_MS).unref();
  }

  async #dump(waitMs: number): Promise<AdvisorDump | null> {
    const thread = this.#thread;
    if (thread === null) return null;
    let dump: AdvisorDump | null = null;
    const answer = heard(thread, (message) => {
      if (message.type === 'dumped') dump = message.dump;
      return message.type === 'dumped';
    });
    thread.send({ type: 'dump' });
    await withinMs(answer, waitMs).catch(() => false);
    return dump;
  }
}
