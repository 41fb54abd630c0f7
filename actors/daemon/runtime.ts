/**
 * The effects of the daemon machine: one method per bootstrap phase and shutdown step, and the
 * resources they open. The machine decides the order; this class knows how.
 */
import { readFileSync } from 'node:fs';
import type { AnyActorRef } from 'xstate';
import { RingAuditSink } from '../../src/host/accessAuditSink.js';
import { type BootId, readBootId } from '../../src/host/bootId.js';
import { formatPlainGuid } from '../../src/host/guid.js';
import { attachAllRings, checkKmesSource, type KmesSource } from '../../src/host/kmes.js';
import { Notifier, watchdogPingMs } from '../../src/host/notify.js';
import { foreignRootProblem, resolveAdminGroups } from '../../src/host/peerIdentity.js';
import type { Adapter } from '../../src/host/platform.js';
import { choosePlatform, type HostChoice } from '../../src/host/platform.js';
import type { ProcessLog } from '../../src/host/processLog.js';
import { IdentityStamps, readProcessStat } from '../../src/kmesd/identity.js';
import { native, type RingInfo } from '../../src/native/addon.js';
import { openEmbeddedRegistry } from '../../src/registry/embedded.js';
import type { Settings } from '../../src/registry/settings.js';
import { CommitFeed } from '../../src/stores/commitFeed.js';
import { type EventStorePlan, openEventStore } from '../../src/stores/eventStore.js';
import { type BootResolution, NOTHING_SEEN, resolveBoot } from '../../src/stores/resume.js';
import { shardCount } from '../../src/stores/shardFiles.js';
import { errorText } from '../../src/stores/storeError.js';
import { lockEventStore } from '../../src/stores/storeLock.js';
import {
  configChangeEvent,
  type SyntheticEvent,
  shutdownEvent,
  startupEvent,
  storageErrorEvent,
} from '../../src/stores/synthetic.js';
import { InspectionFeed, type InspectionMessage } from '../inspector/feed.js';
import { InspectorServer } from '../inspector/server.js';
import { MaintenanceThread } from '../maintenance/maintenanceThread.js';
import { QueryService } from '../query/service.js';
import type { Subscription } from '../rx.js';
import { stateText } from '../stateText.js';
import { Configuration, DEFAULT_SERVICE } from './configuration.js';
import { dumpText } from './dump.js';
import { EventPipeline } from './eventPipeline.js';
import { HealthMetrics } from './healthMetrics.js';
import { Heartbeat } from './heartbeat.js';
import { IndexThread } from './indexThread.js';
import { LeaseQueue } from './leaseQueue.js';
import { advisorLimits, queryLimits, recorded, sheddingLimits, writerLimits } from './limits.js';
import { PathReports } from './pathReports.js';
import { RecordPaths } from './recordPaths.js';
import { RetentionThread } from './retentionThread.js';
import { RollupThread } from './rollupThread.js';
import { type DaemonSurvey, figuresOf } from './survey.js';

export interface DaemonOptions {
  readonly registryFile: string;
  readonly kmesDirectory: string;
  readonly host: HostChoice;
  readonly log: ProcessLog;
}

/** Share of the stop bound that the final drain may use; what follows needs the rest. */
const DRAIN_SHARE = 0.3;
const COMMIT_SHARE = 0.25;
const RECORD_SHARE = 0.1;
const CLOSE_SHARE = 0.1;
/** Of each of the two waits of a recovery: for commits, for closing. */
const RECOVERY_SHARE = 0.2;

/** ms a thread has to answer for the diagnostic dump: longer than a large commit, far below the stop bound. */
const DUMP_WAIT_MS = 500;
/** The same for the debug socket, whose readers wait for it when they come. */
const FIGURES_WAIT_MS = 250;

export class DaemonRuntime {
  readonly #options: DaemonOptions;
  readonly #log: ProcessLog;
  readonly #notifier: Notifier;
  readonly #environment = { ...process.env };
  readonly #feed = new InspectionFeed('main', (message) => this.#inspector?.publish(message));
  readonly #subscriptions: Subscription[] = [];
  #configuration: Configuration | null = null;
  #kmes: KmesSource;
  #bootId: BootId | null = null;
  /** Mapped, and not yet in a pipeline's hands. */
  #rings: RingInfo[] = [];
  #cpus = 0;
  #stores: EventStorePlan | null = null;
  #unlockStore: (() => void) | null = null;
  #boot: BootResolution | null = null;
  #queries: QueryService | null = null;
  #accessAdapter: Adapter = 'linux';
  #auditSink: RingAuditSink | null = null;
  #inspector: InspectorServer | null = null;
  #pipeline: EventPipeline | null = null;
  #records: RecordPaths | null = null;
  readonly #maintenance = new MaintenanceThread();
  #retention: RetentionThread | null = null;
  #indexes: IndexThread | null = null;
  /** The set of the last run is known. */
  #indexesReady: Promise<void> = Promise.resolve();
  #rollups: RollupThread | null = null;
  /** Retention and rollups take turns with the metric writer. */
  readonly #metricLeases = new LeaseQueue(() => this.#records?.lender('metric') ?? null);
  readonly #retentionTurns = this.#metricLeases.user();
  readonly #health = new HealthMetrics();
  readonly #heartbeat: Heartbeat;
  readonly #pathReports: PathReports;
  /** Writers tell of their commits in it, streams listen (STR-5). */
  readonly #commits = CommitFeed.allocate();
  readonly #lastSequences = new Map<number, bigint>();
  /** The daemon's own actor. */
  #actor: AnyActorRef | null = null;
  #stopping = false;
  /** Synthetic rows that wait for the next pipeline. */
  readonly #owedRecords: SyntheticEvent[] = [];
  #startupStored = false;
  #inspecting = false;
  #recoveries = 0;
  /** Since when the event path is being started again, ms of `performance.now()`; null while it works. */
  #downSince: number | null = null;
  /** What the daemon tells its machine about: what breaks the event path, and registry changes. */
  onPathFailed: (part: string, message: string, excluded?: boolean) => void = () => undefined;
  onConfigurationChanged: () => void = () => undefined;

  constructor(options: DaemonOptions) {
    this.#options = options;
    this.#log = options.log;
    this.#kmes = { kind: 'embedded', directory: options.kmesDirectory };
    this.#notifier = Notifier.fromEnvironment(process.env, native.sendDatagram, options.log);
    this.#pathReports = new PathReports({
      log: options.log,
      onCommit: (shard, rows, ms) => this.#health.committed('event', shard, rows, ms),
      onCommitFailed: (shard) => this.#health.failed(shard),
      onDiskFull: () => this.#retention?.diskFull(),
      onInspection: (message) => this.#inspector?.publish(message),
      onFailed: (part, message, excluded) => this.onPathFailed(part, message, excluded),
    });
    this.#heartbeat = new Heartbeat({
      answers: (waitMs) => this.#answers(waitMs),
      ping: () => this.#notifier.watchdog(),
      report: () => this.#reportHealth(),
      onReportFailed: (error) => this.#log.warn(`health metrics cannot be measured: ${errorText(error)}`),
    });
  }

  /** Shows the daemon's own actor on the debug socket; every other actor appears below it. */
  watch(actor: AnyActorRef): void {
    this.#actor = actor;
    this.#feed.watch(actor);
  }

  /** How long the whole shutdown may take, ms: one second less than peinit waits (LIFE-210, HOST-18). */
  get stopBoundMs(): number {
    const { stopTimeoutSeconds } = this.#configuration?.service ?? DEFAULT_SERVICE;
    return Math.max(stopTimeoutSeconds - 1, 1) * 1000;
  }

  // Bootstrap

  /** Phase 1 (LIFE-101..103), and the rings, whose number decides the number of shards (LIFE-134). */
  async configure(): Promise<void> {
    const foreignRoot = foreignRootProblem(readFileSync('/proc/self/uid_map', 'latin1'));
    if (foreignRoot !== null) throw new Error(foreignRoot);
    const platform = choosePlatform(this.#options.host, native.probeSyscall);
    this.#log.info(platform.description);
    if (platform.adapters.lcs === 'peios') {
      throw new Error('the LCS registry adapter is not part of this version; start with --host linux');
    }
    if (platform.adapters.kmes === 'peios') this.#kmes = { kind: 'kernel' };
    this.#accessAdapter = platform.adapters.kacs;
    const registry = await openEmbeddedRegistry(this.#options.registryFile, this.#log);
    this.#configuration = await Configuration.load(registry, this.#log).catch(async (error: unknown) => {
      await registry.close();
      throw error;
    });
    this.#subscriptions.push(this.#configuration.changed$.subscribe(() => this.onConfigurationChanged()));
    this.#bootId = readBootId(this.#environment);
    checkKmesSource(this.#kmes, this.#bootId.guid);
    this.#attachRings();
  }

  /** Phase 2 (LIFE-104). */
  async openStores(): Promise<void> {
    const { EventStorePath, StorageShards } = this.#settings;
    this.#unlockStore?.();
    this.#unlockStore = null;
    this.#unlockStore = lockEventStore(EventStorePath);
    this.#stores = openEventStore(EventStorePath, shardCount(StorageShards, this.#cpus));
    for (const { shard, error } of this.#stores.excluded) {
      this.#log.error(`shard ${shard} is not written: ${error.message}; it stays readable for queries`);
    }
    // A recovery of the event path comes through here again, and the other stores are none of its business.
    this.#records ??= this.#openRecords();
    // Its thread starts beside the next phase; the writers are what needs the set.
    this.#indexesReady = this.#startIndexes();
    this.#indexesReady.catch(() => undefined);
  }

  /** LIFE-107, LIFE-124: what was decided before is known when the writers start. Once. */
  async #startIndexes(): Promise<void> {
    const settings = this.#settings;
    this.#indexes ??= new IndexThread({
      maintenance: this.#maintenance,
      eventStorePath: settings.EventStorePath,
      limits: advisorLimits(settings),
      log: this.#log,
      onDesired: () => this.#pipeline?.setIndexes(this.#shardIndexes),
      onInspection: (message) => this.#inspector?.publish(message as InspectionMessage),
    });
    this.#indexes.inspect(this.#inspecting);
    await this.#indexes.start();
  }

  /** What the writers are to know of indexes. */
  get #shardIndexes() {
    return { desired: this.#indexes?.desired ?? null, shedding: sheddingLimits(this.#settings) };
  }

  #openRecords(): RecordPaths {
    const records = new RecordPaths({
      settings: this.#settings,
      bootId: this.#identity.guid,
      commits: this.#commits,
      log: this.#log,
      onStorageError: (event) => {
        if (this.#pipeline === null) this.#owedRecords.push(event);
        else this.#pipeline.queue(event);
      },
      onDiskFull: () => this.#retention?.diskFull(),
      onCommit: (store, rows, ms) => {
        this.#health.committed(store, null, rows, ms);
        if (store === 'metric') this.#rollups?.committed(rows);
      },
      onInspection: (message) => this.#inspector?.publish(message as InspectionMessage),
    });
    records.openStores();
    return records;
  }

  /** Phase 3 (LIFE-108..111). */
  async resolveBoot(): Promise<void> {
    const boot = resolveBoot(this.#settings.EventStorePath, this.#identity.guid);
    this.#boot = boot;
    for (const { file, reason } of boot.unreadable)
      this.#log.warn(`${file} cannot help in full to find the resume points: ${reason}`);
    this.#log.info(boot.restart ? 'restart within the boot' : 'first start in this boot', {
      bootId: this.#identity.text,
      source: this.#identity.source,
    });
  }

  /** Phase 4 (LIFE-112..114): the rings are mapped since phase 1; here each learns where it goes on. */
  async attachKmes(): Promise<void> {
    await this.#indexesReady;
    const stores = present(this.#stores, 'stores');
    const pipeline = new EventPipeline({
      shards: stores.shards,
      shardCount: shardCount(this.#settings.StorageShards, this.#cpus),
      kmes: this.#kmes,
      rings: this.#rings,
      resume: present(this.#boot, 'boot'),
      bootId: this.#identity.guid,
      commits: this.#commits,
      limits: writerLimits(this.#settings),
      emergencyPercent: this.#settings.EmergencySheddingBufferPercent,
      indexes: this.#shardIndexes,
    });
    this.#pipeline = pipeline;
    this.#rings = [];
    pipeline.reports$.subscribe((report) => {
      // The threads of an abandoned path are ended on purpose. What it says else counts: losses in its last
      // commits, and a second damaged shard, which must not be opened again either.
      if (report.type !== 'threadFailed' || this.#pipeline === pipeline) this.#pathReports.heard(report);
    });
  }

  /** Phase 5 (LIFE-115). */
  async bindSockets(): Promise<void> {
    const settings = this.#settings;
    const adminGids = await resolveAdminGroups(settings.AdminGroups, this.#log);
    this.#queries = await QueryService.start({
      socketPath: settings.QuerySocketPath,
      eventStorePath: settings.EventStorePath,
      logStorePath: settings.LogStorePath,
      metricStorePath: settings.MetricStorePath,
      commits: this.#commits,
      limits: queryLimits(settings),
      logger: {
        info: (details, text) => this.#log.info(text, { ...details }),
        warn: (details, text) => this.#log.warn(text, { ...details }),
        error: (details, text) => this.#log.error(text, { ...details }),
      },
      adminGids,
      patterns: present(this.#configuration, 'configuration').patterns,
      adapter: this.#accessAdapter,
      ...this.#audits(),
      policy: present(this.#indexes, 'index policy'),
      rollupUsed: (pair) => this.#rollups?.used(pair),
      onInspect: { next: this.#feed.discover },
    });
    this.#records?.bind();
    if (settings.DebugSocketPath !== null) {
      this.#inspector = await InspectorServer.listen({
        path: settings.DebugSocketPath,
        log: this.#log,
        adminGids,
        root: this.#feed.session(present(this.#actor, 'actor')),
        enable: (on) => {
          this.#inspecting = on;
          this.#feed.enable(on);
          this.#pipeline?.inspect(on);
          this.#records?.inspect(on);
          this.#retention?.inspect(on);
          this.#indexes?.inspect(on);
          this.#rollups?.inspect(on);
        },
        figures: async () => figuresOf(await this.#survey(FIGURES_WAIT_MS)),
        configuration: () => present(this.#configuration, 'configuration').report(),
      });
    }
  }

  /** On a stand-in the audit records of reads are ours to write (ACL-85). */
  #audits(): { readonly audits?: RingAuditSink } {
    if (this.#accessAdapter === 'peios' || this.#kmes.kind === 'kernel') return {};
    const { pid } = process;
    const own = readProcessStat(pid);
    const identity = new IdentityStamps(this.#identity.guid).of(
      process.geteuid?.() ?? 0,
      own === null ? null : { pid, startTime: own.startTime },
    );
    this.#auditSink ??= new RingAuditSink(this.#kmes.directory, identity, this.#log);
    return { audits: this.#auditSink };
  }

  /** Phase 6 (LIFE-119..122). */
  async startActors(): Promise<void> {
    const pipeline = present(this.#pipeline, 'pipeline');
    await Promise.all([
      pipeline.start(),
      this.#records?.start(),
      this.#startRetention(),
      this.#startRollups(),
    ]);
    if (this.#inspecting) pipeline.inspect(true);
    for (const record of this.#owedRecords.splice(0)) pipeline.queue(record);
    for (const { shard, error } of present(this.#stores, 'stores').excluded) {
      if (!this.#pathReports.isNews(error.file)) continue;
      pipeline.queue(
        storageErrorEvent(native.realtimeNs(), {
          store: 'event',
          shard,
          error: `excluded at start: ${error.message}`,
        }),
      );
    }
  }

  /** LIFE-123; a recovery of the event path leaves it alone. */
  async #startRetention(): Promise<void> {
    if (this.#retention !== null) return;
    const settings = this.#settings;
    this.#retention = new RetentionThread({
      maintenance: this.#maintenance,
      settings,
      eventStorePath: settings.EventStorePath,
      logStorePath: settings.LogStorePath,
      metricStorePath: settings.MetricStorePath,
      bootId: this.#identity.guid,
      log: this.#log,
      lender: (store) => {
        if (store === 'metric') return this.#retentionTurns;
        return store === 'event' ? this.#pipeline : (this.#records?.lender(store) ?? null);
      },
      onInspection: (message) => this.#inspector?.publish(message as InspectionMessage),
    });
    this.#retention.inspect(this.#inspecting);
    await this.#retention.start();
  }

  /** LIFE-124; a recovery of the event path leaves them alone. */
  async #startRollups(): Promise<void> {
    if (this.#rollups !== null) return;
    const settings = this.#settings;
    this.#rollups = new RollupThread({
      maintenance: this.#maintenance,
      settings,
      eventStorePath: settings.EventStorePath,
      metricStorePath: settings.MetricStorePath,
      log: this.#log,
      lender: this.#metricLeases.user(),
      onInspection: (message) => this.#inspector?.publish(message as InspectionMessage),
    });
    this.#rollups.inspect(this.#inspecting);
    await this.#rollups.start();
  }

  /** Phase 7 (LIFE-125, LIFE-126, LIFE-138). */
  async announceReady(): Promise<void> {
    const { restart, cpus } = present(this.#boot, 'boot');
    const stores = present(this.#stores, 'stores');
    const pipeline = present(this.#pipeline, 'pipeline');
    if (!this.#startupStored) {
      await pipeline.store(
        startupEvent(native.realtimeNs(), {
          bootId: formatPlainGuid(this.#identity.guid),
          restart,
          shardCount: stores.shards.length,
          cpuCount: this.#cpus,
          resumePoints: new Map(
            Array.from({ length: this.#cpus }, (_, cpu) => [cpu, (cpus.get(cpu) ?? NOTHING_SEEN).sequence]),
          ),
        }),
      );
      this.#startupStored = true;
    }
    // The last commit of a stop or of a recovery that did not wait for this phase may have stored the record.
    if (this.#stopping || this.#pipeline !== pipeline) return;
    this.#notifier.ready('storing events');
    this.#queries?.accept();
    const { watchdogTimeoutSeconds } = this.#configuration?.service ?? DEFAULT_SERVICE;
    this.#heartbeat.startPings(watchdogPingMs(this.#environment, process.pid, watchdogTimeoutSeconds));
    this.#heartbeat.startReports(this.#settings.HealthMetricIntervalSeconds);
    this.#log.info('ready', {
      rings: this.#cpus,
      shards: stores.shards.length,
      events: this.#settings.EventStorePath,
      query: this.#settings.QuerySocketPath,
    });
  }

  /** LIFE-141..144, HOST-20. */
  async reload(announce: boolean): Promise<void> {
    if (announce) this.#notifier.reloading();
    const configuration = present(this.#configuration, 'configuration');
    const applied = await configuration.reload();
    const settings = configuration.settings;
    if (applied.length > 0) {
      this.#pipeline?.setLimits(writerLimits(settings));
      this.#pipeline?.setIndexes(this.#shardIndexes);
      this.#indexes?.setLimits(advisorLimits(settings));
      this.#pipeline?.setEmergency(settings.EmergencySheddingBufferPercent);
      this.#queries?.updateLimits(queryLimits(settings));
      this.#records?.setLimits(settings);
      this.#retention?.setLimits(settings);
      this.#rollups?.setLimits(settings);
      if (applied.some(({ key }) => key === 'HealthMetricIntervalSeconds')) {
        this.#heartbeat.startReports(settings.HealthMetricIntervalSeconds);
      }
    }
    // Groups are resolved anew with every reload: the group file may have changed (HOST-67).
    const adminGids = await resolveAdminGroups(settings.AdminGroups, this.#log);
    this.#queries?.updateAdminGroups(adminGids);
    this.#inspector?.updateAdminGroups(adminGids);
    for (const { key, old, new: value } of applied) {
      this.#log.info(`${key} is now ${value}`, { was: old });
      const record = { key, oldValue: recorded(old), newValue: recorded(value) };
      const event = configChangeEvent(native.realtimeNs(), record);
      // The path may be closed for a recovery right now.
      if (this.#pipeline === null) this.#owedRecords.push(event);
      else this.#pipeline.queue(event);
    }
    if (announce && !this.#stopping) this.#notifier.ready();
  }

  // Recovery of the event path (FAIL-15..20): what a restart would do, in this process.

  /** Ends the threads and closes the shards; queries, sockets and configuration stay. */
  async closePath(): Promise<void> {
    this.#downSince ??= performance.now();
    const pipeline = this.#pipeline;
    this.#pipeline = null;
    if (pipeline !== null)
      this.#owedRecords.push(...(await pipeline.abandon(this.stopBoundMs * RECOVERY_SHARE)));
    this.#inspector?.pathEnded();
    this.#pathReports.setStraysAside();
  }

  /** The rings are mapped anew: the drain threads closed theirs. */
  async reattachKmes(): Promise<void> {
    this.#attachRings();
    await this.attachKmes();
  }

  async restartActors(): Promise<void> {
    await this.startActors();
    this.#recoveries++;
    this.#downSince = null;
    this.#log.info('the event path works again', { shards: this.#stores?.shards.length });
  }

  // Shutdown

  announceStopping(reason: string): void {
    this.#stopping = true;
    this.#log.info(`stopping: ${reason}`);
    this.#notifier.stopping();
    this.#heartbeat.stop();
  }

  /** Step 1 (LIFE-201), and the end of retention, which holds locks; step 2 runs beside it and the next one (LIFE-202). */
  async stopAccepting(): Promise<void> {
    this.#records?.finish(this.stopBoundMs * COMMIT_SHARE);
    const deadlineMs = this.stopBoundMs * CLOSE_SHARE;
    await Promise.all([
      this.#queries?.stop(),
      this.#retention?.stop(deadlineMs),
      this.#indexes?.stop(deadlineMs),
      this.#rollups?.stop(deadlineMs),
    ]);
  }

  /** Step 3 (LIFE-203). */
  async drainRings(): Promise<void> {
    await this.#pipeline?.drainRings(this.stopBoundMs * DRAIN_SHARE);
  }

  /** Steps 4 and 5 (LIFE-204, LIFE-205): each commit carries its sequences along. */
  async commitAll(): Promise<void> {
    // A CPU that was idle since the start has its last sequence in what was found then, maybe in a bad file.
    for (const [cpu, { sequence, upper }] of this.#boot?.cpus ?? [])
      this.#lastSequences.set(cpu, upper > sequence ? upper : sequence);
    await this.#pipeline?.commitAll(this.stopBoundMs * COMMIT_SHARE, this.#lastSequences);
    await this.#records?.committed();
  }

  /** Step 6 (LIFE-206). */
  async recordShutdown(): Promise<void> {
    const event = shutdownEvent(native.realtimeNs(), this.#lastSequences);
    await this.#pipeline?.recordShutdown(event, this.stopBoundMs * RECORD_SHARE);
  }

  /** Step 7 (LIFE-207). */
  async closeStores(): Promise<void> {
    const deadlineMs = this.stopBoundMs * CLOSE_SHARE;
    await Promise.all([this.#pipeline?.closeStores(deadlineMs), this.#records?.close(deadlineMs)]);
  }

  /** Step 8 (LIFE-208), and everything else that is open. */
  async release(): Promise<void> {
    await Promise.all([
      this.#pipeline?.release(),
      this.#records?.release(),
      this.#retention?.release(),
      this.#indexes?.release(),
      this.#rollups?.release(),
    ]);
    this.#pipeline = null;
    this.#records = null;
    // Rings that no pipeline took over.
    for (const { ring } of this.#rings.splice(0)) native.ringClose(ring);
    for (const subscription of this.#subscriptions.splice(0)) subscription.unsubscribe();
    await this.#configuration?.close();
    await this.#inspector?.close();
    this.#inspector = null;
    this.#auditSink?.close();
    this.#unlockStore?.();
    this.#unlockStore = null;
  }

  /** After a failed start (LIFE-132). */
  async undo(): Promise<void> {
    this.#heartbeat.stop();
    await this.#queries?.stop();
    await this.release();
  }

  /** SIGQUIT: what an engineer wants to see, as one readable block (LIFE-230). */
  async dump(): Promise<string> {
    return dumpText(await this.#survey(Math.min(DUMP_WAIT_MS, this.stopBoundMs / 4)));
  }

  async #survey(waitMs: number): Promise<DaemonSurvey> {
    const path = (await this.#pipeline?.survey(waitMs)) ?? null;
    const { rss, heapUsed } = process.memoryUsage();
    return {
      pid: process.pid,
      bootId: this.#bootId?.text ?? null,
      state: this.#actor === null ? 'starting' : stateText(this.#actor.getSnapshot().value),
      upSeconds: process.uptime(),
      recoveries: this.#recoveries,
      path,
      records: (await this.#records?.survey(waitMs)) ?? [],
      retention: (await this.#retention?.survey(waitMs)) ?? null,
      indexes: (await this.#indexes?.survey(waitMs)) ?? null,
      rollups: (await this.#rollups?.survey(waitMs)) ?? null,
      queries: this.#queries?.stats() ?? null,
      residentBytes: rss,
      heapBytes: heapUsed,
    };
  }

  #attachRings(): void {
    this.#rings = attachAllRings(this.#kmes);
    this.#cpus = this.#rings.length;
  }

  /** A ping means that the main loop and every thread of the data paths answer (HOST-22). */
  async #answers(waitMs: number): Promise<boolean> {
    // A recovery that waits for a hanging disk is not alive, though nobody is there to be asked.
    if (this.#downSince !== null && performance.now() - this.#downSince > this.stopBoundMs) return false;
    const [events, records] = await Promise.all([
      this.#pipeline?.answers(waitMs) ?? true,
      this.#records?.answers(waitMs) ?? true,
    ]);
    return events && records;
  }

  /** eventd's own figures go straight into the metric store. */
  async #reportHealth(): Promise<void> {
    const survey = await this.#survey(FIGURES_WAIT_MS);
    const { LogStorePath, MetricStorePath } = this.#settings;
    const shards = this.#stores?.shards.map(({ shard, file }) => ({
      labels: { store: 'event', shard: String(shard) },
      path: file,
    }));
    const samples = this.#health.datagram(native.realtimeNs(), survey, [
      ...(shards ?? []),
      { labels: { store: 'log' }, path: LogStorePath },
      { labels: { store: 'metric' }, path: MetricStorePath },
    ]);
    this.#records?.store(samples);
  }

  get #settings(): Settings {
    return present(this.#configuration, 'configuration').settings;
  }

  get #identity(): BootId {
    return present(this.#bootId, 'boot id');
  }
}

/** What an earlier phase made; the machine's order guarantees it. */
function present<T>(value: T | null, what: string): T {
  if (value === null) throw new Error(`${what}: not there yet`);
  return value;
}
