/**
 * Rollups as the daemon sees them: their thread, which is started again when it dies, what queries tell it,
 * the load of the metric writer, and its leases (ROL-9..18, LIFE-124).
 */
import { isDeepStrictEqual } from 'node:util';
import type { Settings } from '../../src/registry/settings.js';
import type { FromRollups, RollupDump, RollupSettings, ToRollups } from '../rollupAdvisor/messages.js';
import type { RollupData } from '../rollupAdvisor/rollupAdvisor.js';
import { LeaseDesk } from './leaseDesk.js';
import type { Lender } from './leases.js';
import { rollupSettings } from './limits.js';
import { Maintained, type MaintainedOptions } from './maintained.js';
import { UseCounts } from './useCounts.js';

export interface RollupThreadOptions extends Omit<RollupData, 'settings'>, MaintainedOptions {
  readonly settings: Settings;
  readonly lender: Lender;
}

/** Rollups at one instant; the dump is null when the thread does not answer, or is gone. */
export interface RollupSurvey {
  /** Keys of the pairs that are kept, highest priority first. */
  readonly desired: readonly string[];
  readonly dump: RollupDump | null;
}

/** Shares of `MetricMaxBatchSize` (ROL-18). */
const RISING = 0.75;
const QUIET = 0.25;
/** Without a batch for this long writes are few, ms. */
const SILENCE_MS = 5000;

export class RollupThread extends Maintained<FromRollups, ToRollups, RollupDump> {
  readonly #options: RollupThreadOptions;
  #settings: RollupSettings;
  #maxBatchSize: number;
  readonly #leases: LeaseDesk<{ readonly file: string }>;
  readonly #uses = new UseCounts((pairs) => this.send({ type: 'used', pairs }));
  #desired: readonly string[] = [];
  #rose = false;
  #silence: NodeJS.Timeout | null = null;

  constructor(options: RollupThreadOptions) {
    super(options, 'rollup-advisor', new URL('../rollupAdvisor/worker.js', import.meta.url));
    this.#options = options;
    this.#settings = rollupSettings(options.settings);
    this.#maxBatchSize = options.settings.MetricMaxBatchSize;
    this.#leases = new LeaseDesk(() => options.lender);
  }

  /** A metric query asks for this pair (ROL-10, ROL-13). */
  used(pair: string): void {
    this.#uses.add([pair]);
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
    if (isDeepStrictEqual(settings, this.#settings)) return;
    this.#settings = settings;
    this.send({ type: 'settings', settings });
  }

  async survey(waitMs: number): Promise<RollupSurvey> {
    return { desired: this.#desired, dump: await this.dump(waitMs) };
  }

  override stop(deadlineMs: number): Promise<void> {
    this.#uses.flush();
    return super.stop(deadlineMs);
  }

  protected override data(): RollupData {
    const { eventStorePath, metricStorePath } = this.#options;
    return { eventStorePath, metricStorePath, settings: this.#settings };
  }

  protected override begun(): void {
    if (this.#rose) this.send({ type: 'writes', rose: true });
  }

  protected override ended(): void {
    // It deletes no series.
    this.#leases.abandon(new BigInt64Array());
  }

  protected override heard(message: FromRollups): void {
    const { log, metricStorePath: file } = this.#options;
    switch (message.type) {
      case 'desired':
        this.#report(message.pairs);
        this.#desired = message.pairs;
        break;
      case 'leaseRequest':
        void this.#leases.ask(message.id, { file }, (answer) => this.send(answer));
        break;
      case 'leaseReturn':
        this.#leases.giveBack(message.id, new BigInt64Array());
        break;
      case 'failed':
        log.error(`rollups: ${message.failure.message}`, { code: message.failure.code });
        break;
    }
  }

  #setRose(rose: boolean): void {
    if (rose === this.#rose) return;
    this.#rose = rose;
    this.send({ type: 'writes', rose });
  }

  #report(pairs: readonly string[]): void {
    const added = pairs.filter((pair) => !this.#desired.includes(pair));
    const removed = this.#desired.filter((pair) => !pairs.includes(pair));
    if (added.length + removed.length === 0) return;
    this.#options.log.info('the rollups that are kept have changed', { added, removed });
  }
}
