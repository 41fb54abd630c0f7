/**
 * The effects of the daemon machine: one method per bootstrap phase and shutdown step, and the
 * resources they open. The machine decides the order; this class knows how.
 */
import { readFileSync } from 'node:fs';
import type { AnyActorRef } from 'xstate';
import type { WriterLimits } from '../../machines/shardWriter.js';
import { type BootId, readBootId } from '../../src/host/bootId.js';
import { formatPlainGuid } from '../../src/host/guid.js';
import { attachAllRings, checkKmesSource, type KmesSource } from '../../src/host/kmes.js';
import { Notifier, watchdogPingMs } from '../../src/host/notify.js';
import { foreignRootProblem, resolveAdminGroups } from '../../src/host/peerIdentity.js';
import { choosePlatform, type HostChoice } from '../../src/host/platform.js';
import type { ProcessLog } from '../../src/host/processLog.js';
import { native, type RingInfo } from '../../src/native/addon.js';
import { openEmbeddedRegistry } from '../../src/registry/embedded.js';
import type { Settings, SettingValue } from '../../src/registry/settings.js';
import { type EventStorePlan, openEventStore } from '../../src/stores/eventStore.js';
import { type BootResolution, NOTHING_SEEN, resolveBoot } from '../../src/stores/resume.js';
import { shardCount } from '../../src/stores/shardFiles.js';
import { lockEventStore } from '../../src/stores/storeLock.js';
import {
  configChangeEvent,
  shutdownEvent,
  startupEvent,
  storageErrorEvent,
} from '../../src/stores/synthetic.js';
import { InspectionFeed, type InspectionMessage } from '../inspector/feed.js';
import { InspectorServer } from '../inspector/server.js';
import { type QueryLimits, QueryService } from '../query/service.js';
import type { Subscription } from '../rx.js';
import { Configuration, DEFAULT_SERVICE } from './configuration.js';
import { EventPipeline, type PipelineReport } from './eventPipeline.js';

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

/** ms a thread has to answer for the diagnostic dump: longer than a large commit, far below the stop bound. */
const DUMP_WAIT_MS = 500;

export class DaemonRuntime {
  readonly #options: DaemonOptions;
  readonly #log: ProcessLog;
  readonly #notifier: Notifier;
  readonly #environment = { ...process.env };
  readonly #feed = new InspectionFeed('main', (message) => this.#inspect(message));
  readonly #subscriptions: Subscription[] = [];
  #configuration: Configuration | null = null;
  #kmes: KmesSource;
  #bootId: BootId | null = null;
  #rings: RingInfo[] = [];
  #stores: EventStorePlan | null = null;
  #unlockStore: (() => void) | null = null;
  #boot: BootResolution | null = null;
  #queries: QueryService | null = null;
  #inspector: InspectorServer | null = null;
  #pipeline: EventPipeline | null = null;
  #watchdog: NodeJS.Timeout | null = null;
  readonly #lastSequences = new Map<number, bigint>();
  #daemonSession = '';
  #stopping = false;
  /** What the daemon tells its machine about: the threads' ends and registry changes. */
  onThreadFailed: (thread: string, message: string) => void = () => undefined;
  onConfigurationChanged: () => void = () => undefined;

  constructor(options: DaemonOptions) {
    this.#options = options;
    this.#log = options.log;
    this.#kmes = { kind: 'embedded', directory: options.kmesDirectory };
    this.#notifier = Notifier.fromEnvironment(process.env, native.sendDatagram, options.log);
  }

  /** Shows the daemon's own actor on the debug socket; every other actor appears below it. */
  watch(actor: AnyActorRef): void {
    this.#daemonSession = this.#feed.session(actor);
    this.#feed.watch(actor);
  }

  #inspect(message: InspectionMessage): void {
    if (this.#inspector === null) return;
    const isOrphan = message.type === '@xstate.actor' && message.parentId === undefined;
    const adopted = isOrphan && message.sessionId !== this.#daemonSession;
    this.#inspector.publish(adopted ? { ...message, parentId: this.#daemonSession } : message);
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
    const registry = await openEmbeddedRegistry(this.#options.registryFile, this.#log);
    this.#configuration = await Configuration.load(registry, this.#log).catch(async (error: unknown) => {
      await registry.close();
      throw error;
    });
    this.#subscriptions.push(this.#configuration.changed$.subscribe(() => this.onConfigurationChanged()));
    this.#bootId = readBootId(this.#environment);
    checkKmesSource(this.#kmes, this.#bootId.guid);
    this.#rings = attachAllRings(this.#kmes);
  }

  /** Phase 2 (LIFE-104). */
  async openStores(): Promise<void> {
    const { EventStorePath, StorageShards } = this.#settings;
    this.#unlockStore = lockEventStore(EventStorePath);
    this.#stores = openEventStore(EventStorePath, shardCount(StorageShards, this.#rings.length));
    for (const { shard, error } of this.#stores.excluded) {
      this.#log.error(`shard ${shard} is not written: ${error.message}; it stays readable for queries`);
    }
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
    const stores = present(this.#stores, 'stores');
    this.#pipeline = new EventPipeline({
      shards: stores.shards,
      shardCount: shardCount(this.#settings.StorageShards, this.#rings.length),
      kmes: this.#kmes,
      rings: this.#rings,
      resume: present(this.#boot, 'boot'),
      bootId: this.#identity.guid,
      limits: writerLimits(this.#settings),
      emergencyPercent: this.#settings.EmergencySheddingBufferPercent,
    });
    this.#subscriptions.push(this.#pipeline.reports$.subscribe((report) => this.#reported(report)));
  }

  /** Phase 5 (LIFE-115). */
  async bindSockets(): Promise<void> {
    const settings = this.#settings;
    const adminGids = await resolveAdminGroups(settings.AdminGroups, this.#log);
    this.#queries = await QueryService.start({
      socketPath: settings.QuerySocketPath,
      eventStorePath: settings.EventStorePath,
      limits: queryLimits(settings),
      logger: {
        info: (details, text) => this.#log.info(text, { ...details }),
        warn: (details, text) => this.#log.warn(text, { ...details }),
        error: (details, text) => this.#log.error(text, { ...details }),
      },
      adminGids,
      onInspect: { next: this.#feed.discover },
    });
    if (settings.DebugSocketPath !== null) {
      this.#inspector = await InspectorServer.listen({
        path: settings.DebugSocketPath,
        log: this.#log,
        adminGids,
        enable: (on) => {
          this.#feed.enable(on);
          this.#pipeline?.inspect(on);
        },
      });
    }
  }

  /** Phase 6 (LIFE-119, LIFE-120). */
  async startActors(): Promise<void> {
    const pipeline = present(this.#pipeline, 'pipeline');
    await pipeline.start();
    for (const { shard, error } of present(this.#stores, 'stores').excluded) {
      pipeline.queue(
        storageErrorEvent(native.realtimeNs(), {
          store: 'event',
          shard,
          error: `excluded at start: ${error.message}`,
        }),
      );
    }
  }

  /** Phase 7 (LIFE-125, LIFE-126, LIFE-138). */
  async announceReady(): Promise<void> {
    const { restart, cpus } = present(this.#boot, 'boot');
    const stores = present(this.#stores, 'stores');
    await present(this.#pipeline, 'pipeline').store(
      startupEvent(native.realtimeNs(), {
        bootId: formatPlainGuid(this.#identity.guid),
        restart,
        shardCount: stores.shards.length,
        cpuCount: this.#rings.length,
        resumePoints: new Map(this.#rings.map(({ cpu }) => [cpu, (cpus.get(cpu) ?? NOTHING_SEEN).sequence])),
      }),
    );
    // The record may have been stored by the final commit of a stop that did not wait for this phase.
    if (this.#stopping) return;
    this.#notifier.ready('storing events');
    this.#queries?.accept();
    this.#startWatchdog();
    this.#log.info('ready', {
      rings: this.#rings.length,
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
      this.#pipeline?.setEmergency(settings.EmergencySheddingBufferPercent);
      this.#queries?.updateLimits(queryLimits(settings));
    }
    // Groups are resolved anew with every reload: the group file may have changed (HOST-67).
    this.#queries?.updateAdminGroups(await resolveAdminGroups(settings.AdminGroups, this.#log));
    for (const { key, old, new: value } of applied) {
      this.#log.info(`${key} is now ${value}`, { was: old });
      this.#pipeline?.queue(
        configChangeEvent(native.realtimeNs(), { key, oldValue: recorded(old), newValue: recorded(value) }),
      );
    }
    if (announce && !this.#stopping) this.#notifier.ready();
  }

  // Shutdown

  announceStopping(reason: string): void {
    this.#stopping = true;
    this.#log.info(`stopping: ${reason}`);
    this.#notifier.stopping();
    if (this.#watchdog !== null) clearInterval(this.#watchdog);
  }

  /** Step 1 (LIFE-201). */
  async stopAccepting(): Promise<void> {
    await this.#queries?.stop();
  }

  /** Step 3 (LIFE-203). */
  async drainRings(): Promise<void> {
    await this.#pipeline?.drainRings(this.stopBoundMs * DRAIN_SHARE);
  }

  /** Steps 4 and 5 (LIFE-204, LIFE-205): each commit carries its sequences along. */
  async commitAll(): Promise<void> {
    await this.#pipeline?.commitAll(this.stopBoundMs * COMMIT_SHARE, this.#lastSequences);
  }

  /** Step 6 (LIFE-206). */
  async recordShutdown(): Promise<void> {
    const event = shutdownEvent(native.realtimeNs(), this.#lastSequences);
    await this.#pipeline?.recordShutdown(event, this.stopBoundMs * RECORD_SHARE);
  }

  /** Step 7 (LIFE-207). */
  async closeStores(): Promise<void> {
    await this.#pipeline?.closeStores(this.stopBoundMs * CLOSE_SHARE);
  }

  /** Step 8 (LIFE-208), and everything else that is open. */
  async release(): Promise<void> {
    await this.#pipeline?.release();
    this.#pipeline = null;
    this.#rings = [];
    for (const subscription of this.#subscriptions.splice(0)) subscription.unsubscribe();
    await this.#configuration?.close();
    await this.#inspector?.close();
    this.#inspector = null;
    this.#unlockStore?.();
    this.#unlockStore = null;
  }

  /** After a failed start (LIFE-132). */
  async undo(): Promise<void> {
    if (this.#watchdog !== null) clearInterval(this.#watchdog);
    await this.#queries?.stop();
    if (this.#pipeline === null) for (const { ring } of this.#rings) native.ringClose(ring);
    await this.release();
  }

  /** SIGQUIT: what an engineer wants to see, as one readable block (LIFE-230). */
  async dump(): Promise<string> {
    const queries = this.#queries?.stats();
    return [
      `eventd ${process.pid} boot ${this.#bootId?.text ?? 'unknown'}`,
      ...((await this.#pipeline?.describe(DUMP_WAIT_MS)) ?? ['  no event pipeline']),
      `  queries: ${
        queries === undefined
          ? 'no socket'
          : Object.entries(queries)
              .map(([k, v]) => `${k} ${v}`)
              .join(', ')
      }`,
      `  memory: ${Math.round(process.memoryUsage().rss / 1048576)} MiB resident`,
    ].join('\n');
  }

  #reported(report: PipelineReport): void {
    switch (report.type) {
      case 'commitFailed': {
        const { code, message, lost } = report.failure;
        this.#log.error(`shard ${report.shard} could not commit: ${message}`, {
          code,
          lost: lost.slice(0, 20).map(({ cpu, first, last }) => `cpu ${cpu}: ${first}-${last}`),
          ranges: lost.length,
        });
        break;
      }
      case 'readOnly':
        this.#log.error(`shard ${report.shard} is damaged and is not written any more`);
        this.onThreadFailed(`writer-${report.shard}`, `shard ${report.shard} is damaged`);
        break;
      case 'loss':
        this.#log.warn(`cpu ${report.cpu}: ${report.what}`, report.detail);
        break;
      case 'threadFailed':
        this.onThreadFailed(report.thread, report.message);
        break;
      case 'inspection':
        this.#inspect(report.message as InspectionMessage);
        break;
      case 'commit':
        break;
    }
  }

  #startWatchdog(): void {
    const service = this.#configuration?.service ?? DEFAULT_SERVICE;
    const every = watchdogPingMs(this.#environment, process.pid, service.watchdogTimeoutSeconds);
    if (every === null) return;
    this.#watchdog = setInterval(() => this.#notifier.watchdog(), every);
    this.#watchdog.unref();
  }

  get #settings(): Settings {
    return present(this.#configuration, 'configuration').settings;
  }

  get #identity(): BootId {
    return present(this.#bootId, 'boot id');
  }
}

function writerLimits({ MaxBatchSize, MaxBatchLatencyMs }: Settings): WriterLimits {
  return { maxBatchSize: MaxBatchSize, maxBatchLatencyMs: MaxBatchLatencyMs };
}

function queryLimits(settings: Settings): QueryLimits {
  return {
    maxConcurrentQueries: settings.MaxConcurrentQueries,
    maxQueryMessageBytes: settings.MaxQueryMessageBytes,
    queryTimeoutMs: settings.QueryTimeoutMs,
  };
}

/** A setting as a config_change payload shows it (STO-8). */
function recorded(value: SettingValue): bigint | number | string | null {
  return typeof value === 'object' && value !== null ? value.join(',') : value;
}

/** What an earlier phase made; the machine's order guarantees it. */
function present<T>(value: T | null, what: string): T {
  if (value === null) throw new Error(`${what}: not there yet`);
  return value;
}
