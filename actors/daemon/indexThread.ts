/**
 * The index policy as the daemon sees it: its thread, which is started again when it dies, what queries
 * tell it, and the set it decides on for the writers (IDX-1..7, LIFE-124).
 */
import { isDeepStrictEqual } from 'node:util';
import type { AdvisorLimits } from '../../machines/indexAdvisor.js';
import { type StoredDescriptor, storedDescriptor } from '../../src/access/caller.js';
import type { IndexedField } from '../../src/indexes/fields.js';
import type { AdvisorData } from '../indexAdvisor/indexAdvisor.js';
import type { AdvisorDump, FromAdvisor, ToAdvisor } from '../indexAdvisor/messages.js';
import { Maintained, type MaintainedOptions } from './maintained.js';
import { UseCounts } from './useCounts.js';

export interface IndexThreadOptions extends AdvisorData, MaintainedOptions {
  /** A new set, highest priority first. */
  readonly onDesired: (fields: readonly IndexedField[]) => void;
}

/** The policy at one instant; the dump is null when its thread does not answer, or is gone. */
export interface IndexSurvey {
  readonly desired: readonly IndexedField[] | null;
  readonly dump: AdvisorDump | null;
}

export class IndexThread extends Maintained<FromAdvisor, ToAdvisor, AdvisorDump> {
  readonly #options: IndexThreadOptions;
  #limits: AdvisorLimits;
  readonly #uses = new UseCounts((fields) => this.send({ type: 'used', fields }));
  #desired: readonly IndexedField[] | null = null;
  #nextId = 0;

  constructor(options: IndexThreadOptions) {
    super(options, 'index-advisor', new URL('../indexAdvisor/worker.js', import.meta.url));
    this.#options = options;
    this.#limits = options.limits;
  }

  /** The set in force; null while none is known. */
  get desired(): readonly IndexedField[] | null {
    return this.#desired;
  }

  /** An event query asks for these fields (IDX-3). */
  used(fields: readonly string[]): void {
    this.#uses.add(fields);
  }

  /** EVENTS INDEX: resolves when the field is in the set, and that is written down (IDX-47, IDX-48). */
  async index(field: string): Promise<void> {
    const id = ++this.#nextId;
    await this.ask({ type: 'index', id, field }, (m) => m.type === 'indexed' && m.id === id);
  }

  /** `admin_sd` as it is now; null where it is missing or malformed (IDX-44). */
  async adminDescriptor(): Promise<StoredDescriptor | null> {
    const id = ++this.#nextId;
    const isAnswer = (m: FromAdvisor) => m.type === 'adminDescriptor' && m.id === id;
    const answer = await this.ask({ type: 'adminDescriptor', id }, isAnswer);
    if (answer.type !== 'adminDescriptor' || answer.bytes === null) return null;
    return storedDescriptor(answer.bytes);
  }

  /** CFG-70. */
  setLimits(limits: AdvisorLimits): void {
    if (isDeepStrictEqual(limits, this.#limits)) return;
    this.#limits = limits;
    this.send({ type: 'limits', limits });
  }

  async survey(waitMs: number): Promise<IndexSurvey> {
    return { desired: this.#desired, dump: await this.dump(waitMs) };
  }

  override stop(deadlineMs: number): Promise<void> {
    this.#uses.flush();
    return super.stop(deadlineMs);
  }

  protected override data(): AdvisorData {
    return { eventStorePath: this.#options.eventStorePath, limits: this.#limits };
  }

  protected override heard(message: FromAdvisor): void {
    const { log, onDesired } = this.#options;
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
}
