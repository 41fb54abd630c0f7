/**
 * Retention as the daemon sees it: its thread, which is started again when it dies, and the leases, which
 * go from it to the writers and back (RET-3, RET-8). Writers and sweeper do not know each other; whoever
 * of them dies, nobody waits for him.
 */
import { isDeepStrictEqual } from 'node:util';
import {
  type RetentionLimits,
  SWEPT_STORES,
  type SweptStore,
  type Target,
} from '../../machines/retentionSweeper.js';
import type { Settings } from '../../src/registry/settings.js';
import type { FromRetention, RetentionDump, StoreFigures, ToRetention } from '../retention/messages.js';
import type { RetentionData } from '../retention/retention.js';
import { LeaseDesk } from './leaseDesk.js';
import type { Lender } from './leases.js';
import { retentionLimits } from './limits.js';
import { Maintained, type MaintainedOptions } from './maintained.js';

export interface RetentionThreadOptions extends Omit<RetentionData, 'limits'>, MaintainedOptions {
  readonly settings: Settings;
  /** Null while the store has no path. */
  readonly lender: (store: SweptStore) => Lender | null;
}

/** Retention at one instant. */
export interface RetentionSurvey {
  readonly stores: Readonly<Record<SweptStore, StoreFigures>>;
  /** Sweeps that ended, since the start of the process. */
  readonly sweeps: number;
  /** Null when its thread does not answer, or is gone. */
  readonly dump: RetentionDump | null;
}

const NOTHING: StoreFigures = { rows: 0, series: 0, usedBytes: null };

export class RetentionThread extends Maintained<FromRetention, ToRetention, RetentionDump> {
  readonly #options: RetentionThreadOptions;
  #limits: RetentionLimits;
  readonly #leases: LeaseDesk<Target>;
  #sweeps = 0;
  /** Of the thread that runs now, and of those before it. */
  #figures: Record<SweptStore, StoreFigures> = { event: NOTHING, log: NOTHING, metric: NOTHING };
  #earlier = this.#figures;

  constructor(options: RetentionThreadOptions) {
    super(options, 'retention', new URL('../retention/worker.js', import.meta.url));
    this.#options = options;
    this.#limits = retentionLimits(options.settings);
    this.#leases = new LeaseDesk(({ store }) => options.lender(store));
  }

  /** CFG-70. */
  setLimits(settings: Settings): void {
    const limits = retentionLimits(settings);
    if (isDeepStrictEqual(limits, this.#limits)) return;
    this.#limits = limits;
    this.send({ type: 'limits', limits });
  }

  /** A commit found no room (RET-11, FAIL-8). */
  diskFull(): void {
    this.send({ type: 'diskFull' });
  }

  async survey(waitMs: number): Promise<RetentionSurvey> {
    return { stores: this.#total(), sweeps: this.#sweeps, dump: await this.dump(waitMs) };
  }

  protected override data(): RetentionData {
    const { eventStorePath, logStorePath, metricStorePath, bootId } = this.#options;
    return { eventStorePath, logStorePath, metricStorePath, bootId, limits: this.#limits };
  }

  protected override ended(): void {
    this.#leases.abandon(null);
    this.#earlier = this.#total();
    this.#figures = { event: NOTHING, log: NOTHING, metric: NOTHING };
  }

  protected override heard(message: FromRetention): void {
    const { log } = this.#options;
    switch (message.type) {
      case 'leaseRequest':
        void this.#leases.ask(message.id, message.target, (answer) => this.send(answer));
        break;
      case 'leaseReturn':
        this.#leases.giveBack(message.id, message.series);
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
    }
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
}
