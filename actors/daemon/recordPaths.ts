/** The log path and the metric path together: what the daemon does to both, and what it says of them. */
import type { RecordStore } from '../../machines/recordWriter.js';
import type { ProcessLog } from '../../src/host/processLog.js';
import type { Settings } from '../../src/registry/settings.js';
import { isDiskFull } from '../../src/stores/storeError.js';
import type { SyntheticEvent } from '../../src/stores/synthetic.js';
import type { Lender } from './leases.js';
import { logLimits, metricLimits } from './limits.js';
import { RecordPipeline, type RecordPipelineReport, type RecordSurvey } from './recordPipeline.js';

export interface RecordPathsOptions {
  readonly settings: Settings;
  /** 16 bytes. */
  readonly bootId: Uint8Array;
  /** Where the log writer tells of its commits (STR-5). */
  readonly commits?: SharedArrayBuffer;
  readonly log: ProcessLog;
  readonly onStorageError: (event: SyntheticEvent) => void;
  /** A commit found no room (FAIL-8). */
  readonly onDiskFull: () => void;
  readonly onCommit: (store: RecordStore, records: number, commitMs: number) => void;
  readonly onInspection: (message: unknown) => void;
  readonly onThreadEnded: (thread: string) => void;
}

export class RecordPaths {
  readonly #options: RecordPathsOptions;
  readonly #logs: RecordPipeline;
  readonly #metrics: RecordPipeline;
  readonly #both: readonly RecordPipeline[];
  #ready: Promise<unknown> | null = null;
  #finished: readonly Promise<void>[] = [];

  constructor(options: RecordPathsOptions) {
    this.#options = options;
    const { settings, bootId, commits } = options;
    this.#logs = new RecordPipeline({
      store: 'log',
      file: settings.LogStorePath,
      socketPath: settings.LogSocketPath,
      bootId,
      ...(commits === undefined ? {} : { commits }),
      limits: logLimits(settings),
    });
    this.#metrics = new RecordPipeline({
      store: 'metric',
      file: settings.MetricStorePath,
      socketPath: settings.MetricSocketPath,
      bootId,
      limits: metricLimits(settings),
    });
    this.#both = [this.#logs, this.#metrics];
    for (const path of this.#both) path.reports$.subscribe((report) => this.#reported(report));
  }

  /** LIFE-105, LIFE-106. */
  openStores(): void {
    for (const path of this.#both) path.openStore();
  }

  /** LIFE-116..118. */
  bind(): void {
    for (const path of this.#both) path.bind();
  }

  /**
   * LIFE-121, LIFE-122: resolves when they work; the second time, too, for a recovery of the event path
   * leaves these threads alone.
   */
  async start(): Promise<void> {
    this.#ready ??= Promise.all(this.#both.map((path) => path.start()));
    await this.#ready;
  }

  /** Who lets retention write to a store. */
  lender(store: RecordStore): Lender {
    return store === 'log' ? this.#logs : this.#metrics;
  }

  setLimits(settings: Settings): void {
    this.#logs.setLimits(logLimits(settings));
    this.#metrics.setLimits(metricLimits(settings));
  }

  inspect(on: boolean): void {
    for (const path of this.#both) path.inspect(on);
  }

  /** HOST-22. */
  async answers(waitMs: number): Promise<boolean> {
    return (await Promise.all(this.#both.map((path) => path.answers(waitMs)))).every(Boolean);
  }

  async survey(waitMs: number): Promise<readonly RecordSurvey[]> {
    return Promise.all(this.#both.map((path) => path.survey(waitMs)));
  }

  /** Stores samples of eventd's own; false when there is no room for them. */
  store(samples: Uint8Array): boolean {
    return this.#metrics.inject(samples);
  }

  /** Shutdown steps 1 and 2: the sockets are gone at once, what was queued is read and committed (LIFE-201, LIFE-202). */
  finish(deadlineMs: number): void {
    this.#finished = this.#both.map((path) => path.finish(deadlineMs));
    for (const done of this.#finished) done.catch(() => undefined);
  }

  /**
   * Shutdown step 4 (LIFE-204).
   * @throws Error naming what could not be committed
   */
  async committed(): Promise<void> {
    const problems = (await Promise.allSettled(this.#finished)).flatMap((result) =>
      result.status === 'rejected' ? [result.reason instanceof Error ? result.reason.message : ''] : [],
    );
    if (problems.length > 0) throw new Error(problems.join('; '));
  }

  /** Shutdown step 7 (LIFE-207). */
  async close(deadlineMs: number): Promise<void> {
    await Promise.all(this.#both.map((path) => path.close(deadlineMs)));
  }

  /** Safe at any time, and twice. */
  async release(): Promise<void> {
    await Promise.all(this.#both.map((path) => path.release()));
  }

  #reported(report: RecordPipelineReport): void {
    const { log, onStorageError, onDiskFull, onCommit, onInspection, onThreadEnded } = this.#options;
    switch (report.type) {
      case 'commit':
        onCommit(report.store, report.records, report.commitMs);
        break;
      case 'failed':
        log.error(`the ${report.store} store cannot be written: ${report.failure.message}`, {
          code: report.failure.code,
        });
        if (isDiskFull(report.failure)) onDiskFull();
        break;
      case 'recovered':
        log.info(`the ${report.store} store works again`, { lost: report.lost });
        break;
      case 'replaced':
        log.error(`${report.file} was replaced: ${report.reason}`, { aside: report.aside });
        break;
      case 'discarding':
        log.error(`${report.store} records are dropped: ${report.reason}`);
        break;
      case 'storageError':
        onStorageError(report.event);
        break;
      case 'threadFailed':
        log.error(`thread ${report.thread} ended and is started again: ${report.message}`);
        break;
      case 'threadEnded':
        onThreadEnded(report.thread);
        break;
      case 'inspection':
        onInspection(report.message);
        break;
    }
  }
}
