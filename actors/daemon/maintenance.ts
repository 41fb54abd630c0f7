/**
 * What may wait, as the daemon sees it: retention, the index policy and rollups, which share the maintenance
 * thread (RET-3, LIFE-123, LIFE-124), and their turns at the metric store (MET-58).
 */
import type { SweptStore } from '../../machines/retentionSweeper.js';
import type { ProcessLog } from '../../src/host/processLog.js';
import type { IndexedField } from '../../src/indexes/fields.js';
import type { Settings } from '../../src/registry/settings.js';
import { MaintenanceThread } from '../maintenance/maintenanceThread.js';
import { type IndexSurvey, IndexThread } from './indexThread.js';
import { LeaseQueue } from './leaseQueue.js';
import type { Lender } from './leases.js';
import { advisorLimits } from './limits.js';
import type { MaintainedOptions } from './maintained.js';
import { type RetentionSurvey, RetentionThread } from './retentionThread.js';
import { type RollupSurvey, RollupThread } from './rollupThread.js';

export interface MaintenanceOptions extends Omit<MaintainedOptions, 'maintenance'> {
  readonly settings: Settings;
  /** 16 bytes: the running boot. */
  readonly bootId: Uint8Array;
  readonly log: ProcessLog;
  /** Who lets others write to a store beside its writers (RET-8); null while the store has no path. */
  readonly lender: (store: SweptStore) => Lender | null;
  /** The index policy has a new set for the writers (IDX-7). */
  readonly onDesiredIndexes: () => void;
}

/** All three at one instant; null before they are started. */
export interface MaintenanceSurvey {
  readonly retention: RetentionSurvey | null;
  readonly indexes: IndexSurvey | null;
  readonly rollups: RollupSurvey | null;
}

export const NO_MAINTENANCE: MaintenanceSurvey = { retention: null, indexes: null, rollups: null };

export class Maintenance {
  readonly #retention: RetentionThread;
  readonly #indexes: IndexThread;
  readonly #rollups: RollupThread;
  #indexesStarted = false;
  #started = false;

  constructor(options: MaintenanceOptions) {
    const { settings, bootId, log, lender, onInspection, onThreadEnded, onDesiredIndexes } = options;
    const outside: MaintainedOptions = {
      maintenance: new MaintenanceThread(),
      log,
      onInspection,
      onThreadEnded,
    };
    const eventStorePath = settings.EventStorePath;
    const metricStorePath = settings.MetricStorePath;
    // The metric writer knows of one lease only.
    const metricLeases = new LeaseQueue(() => lender('metric'));
    this.#indexes = new IndexThread({
      ...outside,
      eventStorePath,
      limits: advisorLimits(settings),
      onDesired: onDesiredIndexes,
    });
    this.#retention = new RetentionThread({
      ...outside,
      settings,
      eventStorePath,
      logStorePath: settings.LogStorePath,
      metricStorePath,
      bootId,
      lender: (store) => (store === 'metric' ? metricLeases : lender(store)),
    });
    this.#rollups = new RollupThread({
      ...outside,
      settings,
      eventStorePath,
      metricStorePath,
      lender: metricLeases,
    });
  }

  /** Phase 2 (LIFE-107): resolves when the set of the last run is known. Once. */
  startIndexes(): Promise<void> {
    this.#indexesStarted = true;
    return this.#indexes.start();
  }

  /** Phase 6 (LIFE-123, LIFE-124): the others. Once: a recovery of the event path leaves them alone. */
  async start(): Promise<void> {
    this.#started = true;
    await Promise.all([this.#retention.start(), this.#rollups.start()]);
  }

  /** For queries (IDX-3, IDX-47). */
  get indexPolicy(): IndexThread {
    return this.#indexes;
  }

  /** The indexes every shard is to have, highest priority first; null while that is not known (IDX-1). */
  get desiredIndexes(): readonly IndexedField[] | null {
    return this.#indexes.desired;
  }

  /** A metric query asks for the rollups with this key (ROL-10). */
  rollupUsed(pair: string): void {
    this.#rollups.used(pair);
  }

  /** The metric writer has stored a batch (ROL-18). */
  metricsCommitted(records: number): void {
    this.#rollups.committed(records);
  }

  /** A commit found no room (RET-11, FAIL-8). */
  diskFull(): void {
    this.#retention.diskFull();
  }

  /** CFG-70. */
  setLimits(settings: Settings): void {
    this.#indexes.setLimits(advisorLimits(settings));
    this.#retention.setLimits(settings);
    this.#rollups.setLimits(settings);
  }

  /** Whether the debug socket hears of them. */
  inspect(on: boolean): void {
    for (const actor of this.#all) actor.inspect(on);
  }

  /** LIFE-230. */
  async survey(waitMs: number): Promise<MaintenanceSurvey> {
    const [retention, indexes, rollups] = await Promise.all([
      this.#started ? this.#retention.survey(waitMs) : null,
      this.#indexesStarted ? this.#indexes.survey(waitMs) : null,
      this.#started ? this.#rollups.survey(waitMs) : null,
    ]);
    return { retention, indexes, rollups };
  }

  /** With shutdown step 1, before the last commits (LIFE-204): nothing of theirs holds a lock after it. */
  async stop(deadlineMs: number): Promise<void> {
    await Promise.all(this.#all.map((actor) => actor.stop(deadlineMs)));
  }

  /** The end, also after a failed start (LIFE-132). Safe twice. */
  async release(): Promise<void> {
    await Promise.all(this.#all.map((actor) => actor.release()));
  }

  get #all() {
    return [this.#retention, this.#indexes, this.#rollups];
  }
}
