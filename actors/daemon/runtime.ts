/**
 * The effects of the daemon machine: one method per bootstrap phase and shutdown step, and the
 * resources they open. The machine decides the order; this class knows how.
 */
import { readFileSync } from 'node:fs';
import type { AnyActorRef } from 'xstate';
import type { RingAuditSink } from '../../src/host/accessAuditSink.js';
import { type BootId, readBootId } from '../../src/host/bootId.js';
import { checkKmesSource, type KmesSource } from '../../src/host/kmes.js';
import { Notifier, stopBoundMs, watchdogPingMs } from '../../src/host/notify.js';
import { foreignRootProblem, resolveAdminGroups } from '../../src/host/peerIdentity.js';
import type { Adapter } from '../../src/host/platform.js';
import { choosePlatform, type HostChoice } from '../../src/host/platform.js';
import type { ProcessLog } from '../../src/host/processLog.js';
import { native } from '../../src/native/addon.js';
import type { Settings } from '../../src/registry/settings.js';
import { openRegistry, registrySource, sourceName } from '../../src/registry/source.js';
import { CommitFeed } from '../../src/stores/commitFeed.js';
import { errorText } from '../../src/stores/storeError.js';
import { configChangeEvent } from '../../src/stores/synthetic.js';
import { QueryService } from '../query/service.js';
import type { Subscription } from '../rx.js';
import { stateText } from '../stateText.js';
import { Configuration, DEFAULT_SERVICE } from './configuration.js';
import { dumpText } from './dump.js';
import { EventPath } from './eventPath.js';
import { HealthMetrics, storeFiles } from './healthMetrics.js';
import { Heartbeat } from './heartbeat.js';
import { Inspection } from './inspection.js';
import { queryLimits, recorded, sheddingLimits } from './limits.js';
import { Maintenance, NO_MAINTENANCE } from './maintenance.js';
import { ownAudits } from './ownAudits.js';
import { present } from './present.js';
import { RecordPaths } from './recordPaths.js';
import { type DaemonSurvey, figuresOf } from './survey.js';

export interface DaemonOptions {
  /** Null = nobody named one: the kernel's registry where there is one, else the hive at its usual place. */
  readonly registryFile: string | null;
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
  readonly #inspection = new Inspection();
  readonly #subscriptions: Subscription[] = [];
  #configuration: Configuration | null = null;
  #bootId: BootId | null = null;
  #kmes: KmesSource;
  #accessAdapter: Adapter = 'linux';
  #events: EventPath | null = null;
  #records: RecordPaths | null = null;
  #maintenance: Maintenance | null = null;
  /** The indexes that were decided on before are known. */
  #indexesReady: Promise<void> = Promise.resolve();
  #queries: QueryService | null = null;
  #audits: RingAuditSink | null = null;
  readonly #health = new HealthMetrics();
  readonly #heartbeat: Heartbeat;
  /** Writers tell of their commits in it, streams listen (STR-5). */
  readonly #commits = CommitFeed.allocate();
  /** The daemon's own actor. */
  #actor: AnyActorRef | null = null;
  #stopping = false;
  /** What the daemon tells its machine about: what breaks the event path, and registry changes. */
  onPathFailed: (part: string, message: string, excluded?: boolean) => void = () => undefined;
  onConfigurationChanged: () => void = () => undefined;

  constructor(options: DaemonOptions) {
    this.#options = options;
    this.#log = options.log;
    this.#kmes = { kind: 'embedded', directory: options.kmesDirectory };
    this.#notifier = Notifier.fromEnvironment(process.env, native.sendDatagram, options.log);
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
    this.#inspection.watch(actor);
  }

  /** How long the whole shutdown may take (LIFE-210, HOST-18). */
  get stopBoundMs(): number {
    return stopBoundMs((this.#configuration?.service ?? DEFAULT_SERVICE).stopTimeoutSeconds);
  }

  // Bootstrap

  /** Phase 1 (LIFE-101..103), and the rings, whose number decides the number of shards (LIFE-134). */
  async configure(): Promise<void> {
    const foreignRoot = foreignRootProblem(readFileSync('/proc/self/uid_map', 'latin1'));
    if (foreignRoot !== null) throw new Error(foreignRoot);
    const platform = choosePlatform(this.#options.host, native.probeSyscall);
    this.#log.info(platform.description);
    if (platform.adapters.kmes === 'peios') this.#kmes = { kind: 'kernel' };
    this.#accessAdapter = platform.adapters.kacs;
    const source = registrySource(this.#options.registryFile, platform.adapters.lcs);
    const registry = await openRegistry(source, this.#log);
    this.#configuration = await Configuration.load(registry, this.#log, sourceName(source)).catch(
      async (error: unknown) => {
        await registry.close();
        throw error;
      },
    );
    this.#subscriptions.push(this.#configuration.changed$.subscribe(() => this.onConfigurationChanged()));
    this.#bootId = readBootId(this.#environment);
    checkKmesSource(this.#kmes, this.#bootId.guid);
    this.#events = this.#eventPath(this.#bootId.guid);
    this.#events.mapRings();
  }

  #eventPath(bootId: Uint8Array): EventPath {
    return new EventPath({
      kmes: this.#kmes,
      bootId,
      commits: this.#commits,
      log: this.#log,
      settings: () => this.#settings,
      indexes: () => ({
        desired: this.#maintenance?.desiredIndexes ?? null,
        shedding: sheddingLimits(this.#settings),
      }),
      onCommit: (shard, rows, ms) => this.#health.committed('event', shard, rows, ms),
      onCommitFailed: (shard) => this.#health.failed(shard),
      onDiskFull: () => this.#maintenance?.diskFull(),
      onInspection: this.#inspection.publish,
      onThreadEnded: this.#inspection.threadEnded,
      onFailed: (part, message, excluded) => this.onPathFailed(part, message, excluded),
    });
  }

  /** Phase 2 (LIFE-104..107). */
  async openStores(): Promise<void> {
    this.#path.openStores();
    // A recovery of the event path comes through here again, and the rest is none of its business.
    this.#records ??= this.#openRecords();
    this.#maintenance ??= this.#openMaintenance();
    // Its thread starts beside the next phase; the writers are what needs the set.
    this.#indexesReady = this.#maintenance.startIndexes();
    this.#indexesReady.catch(() => undefined);
  }

  #openRecords(): RecordPaths {
    const records = new RecordPaths({
      settings: this.#settings,
      bootId: this.#identity.guid,
      commits: this.#commits,
      log: this.#log,
      onStorageError: (event) => this.#path.queue(event),
      onDiskFull: () => this.#maintenance?.diskFull(),
      onCommit: (store, rows, ms) => {
        this.#health.committed(store, null, rows, ms);
        if (store === 'metric') this.#maintenance?.metricsCommitted(rows);
      },
      onInspection: this.#inspection.publish,
      onThreadEnded: this.#inspection.threadEnded,
    });
    records.openStores();
    return records;
  }

  #openMaintenance(): Maintenance {
    const maintenance = new Maintenance({
      settings: this.#settings,
      bootId: this.#identity.guid,
      log: this.#log,
      lender: (store) => (store === 'event' ? this.#events?.lender : this.#records?.lender(store)) ?? null,
      onDesiredIndexes: () => this.#events?.applyIndexes(),
      onInspection: this.#inspection.publish,
      onThreadEnded: this.#inspection.threadEnded,
    });
    maintenance.inspect(this.#inspection.isOn);
    return maintenance;
  }

  /** Phase 3 (LIFE-108..111). */
  async resolveBoot(): Promise<void> {
    const { restart } = this.#path.resolveBoot();
    this.#log.info(restart ? 'restart within the boot' : 'first start in this boot', {
      bootId: this.#identity.text,
      source: this.#identity.source,
    });
  }

  /** Phase 4 (LIFE-112..114): the rings are mapped since phase 1; here each learns where it goes on. */
  async attachKmes(): Promise<void> {
    await this.#indexesReady;
    this.#path.attach();
  }

  /** Phase 5 (LIFE-115). */
  async bindSockets(): Promise<void> {
    const settings = this.#settings;
    const adminGids = await resolveAdminGroups(settings.AdminGroups, this.#log);
    const maintenance = present(this.#maintenance, 'maintenance');
    this.#audits ??= ownAudits(this.#accessAdapter, this.#kmes, this.#identity.guid, this.#log);
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
      ...(this.#audits === null ? {} : { audits: this.#audits }),
      policy: maintenance.indexPolicy,
      rollupUsed: (pair) => maintenance.rollupUsed(pair),
      onInspect: { next: this.#inspection.discover },
    });
    this.#records?.bind();
    if (settings.DebugSocketPath !== null) {
      await this.#inspection.listen(present(this.#actor, 'actor'), {
        path: settings.DebugSocketPath,
        log: this.#log,
        adminGids,
        enable: (on) => {
          for (const part of [this.#events, this.#records, this.#maintenance]) part?.inspect(on);
        },
        figures: async () => figuresOf(await this.#survey(FIGURES_WAIT_MS)),
        configuration: () => present(this.#configuration, 'configuration').report(),
      });
    }
  }

  /** Phase 6 (LIFE-119..124). A recovery starts the event path alone, but waits for the others, too. */
  async startActors(): Promise<void> {
    await Promise.all([this.#path.start(), this.#records?.start(), this.#maintenance?.start()]);
  }

  /** Phase 7 (LIFE-125, LIFE-126, LIFE-138). */
  async announceReady(): Promise<void> {
    const isPresent = await this.#path.recordStartup();
    // The last commit of a stop or of a recovery that did not wait for this phase may have stored the record.
    if (this.#stopping || !isPresent) return;
    this.#notifier.ready('storing events');
    this.#queries?.accept();
    const { watchdogTimeoutSeconds } = this.#configuration?.service ?? DEFAULT_SERVICE;
    this.#heartbeat.startPings(watchdogPingMs(this.#environment, process.pid, watchdogTimeoutSeconds));
    this.#heartbeat.startReports(this.#settings.HealthMetricIntervalSeconds);
    this.#log.info('ready', {
      rings: this.#path.cpus,
      shards: this.#path.shards.length,
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
      this.#path.applySettings();
      this.#queries?.updateLimits(queryLimits(settings));
      this.#records?.setLimits(settings);
      this.#maintenance?.setLimits(settings);
      if (applied.some(({ key }) => key === 'HealthMetricIntervalSeconds')) {
        this.#heartbeat.startReports(settings.HealthMetricIntervalSeconds);
      }
    }
    // Groups are resolved anew with every reload: the group file may have changed (HOST-67).
    const adminGids = await resolveAdminGroups(settings.AdminGroups, this.#log);
    this.#queries?.updateAdminGroups(adminGids);
    this.#inspection.updateAdminGroups(adminGids);
    for (const { key, old, new: value } of applied) {
      this.#log.info(`${key} is now ${value}`, { was: old });
      const record = { key, oldValue: recorded(old), newValue: recorded(value) };
      this.#path.queue(configChangeEvent(native.realtimeNs(), record));
    }
    if (announce && !this.#stopping) this.#notifier.ready();
  }

  // Recovery of the event path (FAIL-15..20): what a restart would do, in this process.

  /** Ends the threads and closes the shards; queries, sockets and configuration stay. */
  async closePath(): Promise<void> {
    await this.#path.close(this.stopBoundMs * RECOVERY_SHARE);
  }

  /** The rings are mapped anew: the drain threads closed theirs. */
  async reattachKmes(): Promise<void> {
    this.#path.mapRings();
    await this.attachKmes();
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
    await Promise.all([this.#queries?.stop(), this.#maintenance?.stop(this.stopBoundMs * CLOSE_SHARE)]);
  }

  /** Step 3 (LIFE-203). */
  async drainRings(): Promise<void> {
    await this.#events?.drainRings(this.stopBoundMs * DRAIN_SHARE);
  }

  /** Steps 4 and 5 (LIFE-204, LIFE-205). */
  async commitAll(): Promise<void> {
    await this.#events?.commitAll(this.stopBoundMs * COMMIT_SHARE);
    await this.#records?.committed();
  }

  /** Step 6 (LIFE-206). */
  async recordShutdown(): Promise<void> {
    await this.#events?.recordShutdown(this.stopBoundMs * RECORD_SHARE);
  }

  /** Step 7 (LIFE-207). */
  async closeStores(): Promise<void> {
    const deadlineMs = this.stopBoundMs * CLOSE_SHARE;
    await Promise.all([this.#events?.closeStores(deadlineMs), this.#records?.close(deadlineMs)]);
  }

  /** Step 8 (LIFE-208), and everything else that is open. */
  async release(): Promise<void> {
    await Promise.all([this.#events?.release(), this.#records?.release(), this.#maintenance?.release()]);
    this.#records = null;
    for (const subscription of this.#subscriptions.splice(0)) subscription.unsubscribe();
    await this.#configuration?.close();
    await this.#inspection.close();
    this.#audits?.close();
    this.#events?.unlock();
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
    const path = (await this.#events?.survey(waitMs)) ?? null;
    const records = (await this.#records?.survey(waitMs)) ?? [];
    const maintenance = (await this.#maintenance?.survey(waitMs)) ?? NO_MAINTENANCE;
    const { rss, heapUsed } = process.memoryUsage();
    return {
      pid: process.pid,
      bootId: this.#bootId?.text ?? null,
      state: this.#actor === null ? 'starting' : stateText(this.#actor.getSnapshot().value),
      upSeconds: process.uptime(),
      recoveries: this.#events?.recoveries ?? 0,
      path,
      records,
      ...maintenance,
      queries: this.#queries?.stats() ?? null,
      residentBytes: rss,
      heapBytes: heapUsed,
    };
  }

  /** A ping means that the main loop and every thread of the data paths answer (HOST-22). */
  async #answers(waitMs: number): Promise<boolean> {
    const [events, records] = await Promise.all([
      this.#events?.answers(waitMs, this.stopBoundMs) ?? true,
      this.#records?.answers(waitMs) ?? true,
    ]);
    return events && records;
  }

  /** eventd's own figures go straight into the metric store. */
  async #reportHealth(): Promise<void> {
    const survey = await this.#survey(FIGURES_WAIT_MS);
    const files = storeFiles(this.#settings, this.#path.shards);
    for (const datagram of this.#health.datagrams(native.realtimeNs(), survey, files))
      this.#records?.store(datagram);
  }

  get #settings(): Settings {
    return present(this.#configuration, 'configuration').settings;
  }

  get #path(): EventPath {
    return present(this.#events, 'event path');
  }

  get #identity(): BootId {
    return present(this.#bootId, 'boot id');
  }
}
