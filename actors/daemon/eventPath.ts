/**
 * The event path over its restarts: rings, shard files, the resume points between them, and the pipeline of
 * the moment. A recovery (FAIL-15..20) takes the same steps as a start; what was counted, and what is still
 * owed to the store, outlives it.
 */
import { formatPlainGuid } from '../../src/host/guid.js';
import { attachAllRings, type KmesSource } from '../../src/host/kmes.js';
import type { ProcessLog } from '../../src/host/processLog.js';
import { native, type RingInfo } from '../../src/native/addon.js';
import type { Settings } from '../../src/registry/settings.js';
import { type EventStorePlan, openEventStore, type ShardPlan } from '../../src/stores/eventStore.js';
import { type BootResolution, NOTHING_SEEN, resolveBoot } from '../../src/stores/resume.js';
import { shardCount } from '../../src/stores/shardFiles.js';
import { lockEventStore } from '../../src/stores/storeLock.js';
import {
  type SyntheticEvent,
  shutdownEvent,
  startupEvent,
  storageErrorEvent,
} from '../../src/stores/synthetic.js';
import type { WriterIndexes } from '../shardWriter/shardWriter.js';
import { EventPipeline } from './eventPipeline.js';
import type { Lender } from './leases.js';
import { writerLimits } from './limits.js';
import { PathReports, type PathReportsOptions } from './pathReports.js';
import { present } from './present.js';
import type { PathSurvey } from './survey.js';

export interface EventPathOptions extends Omit<PathReportsOptions, 'onStorageError'> {
  readonly log: ProcessLog;
  readonly kmes: KmesSource;
  /** 16 bytes: the running boot. */
  readonly bootId: Uint8Array;
  /** Where the writers tell of their commits (STR-5). */
  readonly commits: SharedArrayBuffer;
  /** As they are now. */
  readonly settings: () => Settings;
  /** What the writers are to know of indexes now. */
  readonly indexes: () => Omit<WriterIndexes, 'signal'>;
  /** A thread of the path is over, and with it its actors. */
  readonly onThreadEnded: (thread: string) => void;
}

export class EventPath {
  readonly #options: EventPathOptions;
  readonly #reports: PathReports;
  /** Mapped, and not yet in a pipeline's hands. */
  #rings: RingInfo[] = [];
  #cpus = 0;
  #stores: EventStorePlan | null = null;
  #unlockStore: (() => void) | null = null;
  #boot: BootResolution | null = null;
  #pipeline: EventPipeline | null = null;
  /** Synthetic rows that wait for the next pipeline. */
  readonly #owed: SyntheticEvent[] = [];
  #startupStored = false;
  readonly #lastSequences = new Map<number, bigint>();
  #inspecting = false;
  #recoveries = 0;
  /** Since when the path is being started again, ms of `performance.now()`; null while it works. */
  #downSince: number | null = null;

  constructor(options: EventPathOptions) {
    this.#options = options;
    this.#reports = new PathReports({ ...options, onStorageError: (event) => this.queue(event) });
  }

  /** Times it was started again. */
  get recoveries(): number {
    return this.#recoveries;
  }

  get cpus(): number {
    return this.#cpus;
  }

  /** The shards that are written. */
  get shards(): readonly ShardPlan[] {
    return this.#stores?.shards ?? [];
  }

  /** Who lets retention write to shards (RET-8); null while the path is closed. */
  get lender(): Lender | null {
    return this.#pipeline;
  }

  /** The rings first: their number decides the number of shards (LIFE-134). @throws KmesError */
  mapRings(): void {
    this.#rings = attachAllRings(this.#options.kmes, this.#options.bootId);
    this.#cpus = this.#rings.length;
  }

  /** Phase 2 (LIFE-104). @throws StoreError */
  openStores(): void {
    const { settings, log } = this.#options;
    const { EventStorePath } = settings();
    this.unlock();
    this.#unlockStore = lockEventStore(EventStorePath);
    this.#stores = openEventStore(EventStorePath, this.#shardCount);
    for (const { shard, error } of this.#stores.excluded)
      log.error(`shard ${shard} is not written: ${error.message}; it stays readable for queries`);
  }

  /** Phase 3 (LIFE-108..111). */
  resolveBoot(): BootResolution {
    const { settings, bootId, log } = this.#options;
    const boot = resolveBoot(settings().EventStorePath, bootId);
    this.#boot = boot;
    for (const { file, reason } of boot.unreadable)
      log.warn(`${file} cannot help in full to find the resume points: ${reason}`);
    return boot;
  }

  /** Phase 4 (LIFE-112..114): the rings are mapped already; here each learns where it goes on. */
  attach(): void {
    const { settings, indexes, kmes, bootId, commits } = this.#options;
    const pipeline = new EventPipeline({
      shards: present(this.#stores, 'stores').shards,
      shardCount: this.#shardCount,
      kmes,
      rings: this.#rings,
      resume: present(this.#boot, 'boot'),
      bootId,
      commits,
      limits: writerLimits(settings()),
      emergencyPercent: settings().EmergencySheddingBufferPercent,
      indexes: indexes(),
    });
    this.#pipeline = pipeline;
    this.#rings = [];
    pipeline.reports$.subscribe((report) => {
      // The threads of an abandoned path are ended on purpose. What it says else counts: losses in its last
      // commits, and a second damaged shard, which must not be opened again either.
      if (report.type !== 'threadFailed' || this.#pipeline === pipeline) this.#reports.heard(report);
    });
  }

  /** Phase 6 (LIFE-119, LIFE-120), and the last step of a recovery: resolves when the threads work. */
  async start(): Promise<void> {
    const pipeline = present(this.#pipeline, 'pipeline');
    await pipeline.start();
    // One that broke at once has been taken away, and what waits for a shard waits for the next.
    if (this.#pipeline !== pipeline) return;
    this.#handOver(pipeline);
    if (this.#downSince === null) return;
    this.#recoveries++;
    this.#downSince = null;
    this.#options.log.info('the event path works again', { shards: this.shards.length });
  }

  /** The debug socket sees it, and what waited for a shard goes to it. */
  #handOver(pipeline: EventPipeline): void {
    if (this.#inspecting) pipeline.inspect(true);
    for (const record of this.#owed.splice(0)) pipeline.queue(record);
    for (const { shard, error } of present(this.#stores, 'stores').excluded) {
      if (!this.#reports.isNews(error.file)) continue;
      const text = `excluded at start: ${error.message}`;
      pipeline.queue(storageErrorEvent(native.realtimeNs(), { store: 'event', shard, error: text }));
    }
  }

  /** Resolves when the record of the start is stored (LIFE-125); false when that pipeline is not the present one. */
  async recordStartup(): Promise<boolean> {
    const { restart, cpus } = present(this.#boot, 'boot');
    const pipeline = present(this.#pipeline, 'pipeline');
    if (!this.#startupStored) {
      await pipeline.store(
        startupEvent(native.realtimeNs(), {
          bootId: formatPlainGuid(this.#options.bootId),
          restart,
          shardCount: this.shards.length,
          cpuCount: this.#cpus,
          resumePoints: new Map(
            Array.from({ length: this.#cpus }, (_, cpu) => [cpu, (cpus.get(cpu) ?? NOTHING_SEEN).sequence]),
          ),
        }),
      );
      this.#startupStored = true;
    }
    return this.#pipeline === pipeline;
  }

  /** Queues a synthetic row; while the path is closed it waits for the next one. */
  queue(event: SyntheticEvent): void {
    if (this.#pipeline === null) this.#owed.push(event);
    else this.#pipeline.queue(event);
  }

  /** The settings have changed (CFG-70). */
  applySettings(): void {
    const settings = this.#options.settings();
    this.#pipeline?.setLimits(writerLimits(settings));
    this.#pipeline?.setEmergency(settings.EmergencySheddingBufferPercent);
    this.applyIndexes();
  }

  /** The desired set, or when indexes are shed, has changed (IDX-7). */
  applyIndexes(): void {
    this.#pipeline?.setIndexes(this.#options.indexes());
  }

  /** Whether the debug socket hears of it. */
  inspect(on: boolean): void {
    this.#inspecting = on;
    this.#pipeline?.inspect(on);
  }

  /** Null while it is closed. */
  async survey(waitMs: number): Promise<PathSurvey | null> {
    return (await this.#pipeline?.survey(waitMs)) ?? null;
  }

  /** True when every thread of it answers in time, or a recovery has lasted no longer than `downMs` (HOST-22). */
  async answers(waitMs: number, downMs: number): Promise<boolean> {
    // A recovery that waits for a hanging disk is not alive, though nobody is there to be asked.
    if (this.#downSince !== null && performance.now() - this.#downSince > downMs) return false;
    return this.#pipeline?.answers(waitMs) ?? true;
  }

  /** First step of a recovery: ends the threads and closes the shards. */
  async close(deadlineMs: number): Promise<void> {
    this.#downSince ??= performance.now();
    const pipeline = this.#pipeline;
    this.#pipeline = null;
    if (pipeline !== null) {
      this.#owed.push(...(await pipeline.abandon(deadlineMs)));
      for (const thread of pipeline.threads) this.#options.onThreadEnded(thread);
    }
    this.#reports.setStraysAside();
  }

  /** Shutdown step 3 (LIFE-203). */
  async drainRings(deadlineMs: number): Promise<void> {
    await this.#pipeline?.drainRings(deadlineMs);
  }

  /** Shutdown steps 4 and 5 (LIFE-204, LIFE-205): each commit carries its sequences along. */
  async commitAll(deadlineMs: number): Promise<void> {
    // A CPU that was idle since the start has its last sequence in what was found then, maybe in a bad file.
    for (const [cpu, { sequence, upper }] of this.#boot?.cpus ?? [])
      this.#lastSequences.set(cpu, upper > sequence ? upper : sequence);
    await this.#pipeline?.commitAll(deadlineMs, this.#lastSequences);
  }

  /** Shutdown step 6 (LIFE-206). */
  async recordShutdown(deadlineMs: number): Promise<void> {
    const event = shutdownEvent(native.realtimeNs(), this.#lastSequences);
    await this.#pipeline?.recordShutdown(event, deadlineMs);
  }

  /** Shutdown step 7 (LIFE-207). */
  async closeStores(deadlineMs: number): Promise<void> {
    await this.#pipeline?.closeStores(deadlineMs);
  }

  /** Shutdown step 8 (LIFE-208), and the end of a failed start. Safe twice. */
  async release(): Promise<void> {
    await this.#pipeline?.release();
    this.#pipeline = null;
    // Rings that no pipeline took over.
    for (const { ring } of this.#rings.splice(0)) native.ringClose(ring);
  }

  /** Another eventd may have the event store from now on. Safe twice. */
  unlock(): void {
    this.#unlockStore?.();
    this.#unlockStore = null;
  }

  get #shardCount(): number {
    return shardCount(this.#options.settings().StorageShards, this.#cpus);
  }
}
