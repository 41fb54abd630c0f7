/**
 * What the daemon makes of what the event path tells: lines in its log, figures, the exclusion of a
 * damaged shard, and the word that the path has to be started again.
 */
import { basename } from 'node:path';
import type { CommitFailure } from '../../machines/shardWriter.js';
import type { ProcessLog } from '../../src/host/processLog.js';
import { native } from '../../src/native/addon.js';
import { exclude, setStrayWalAside } from '../../src/stores/exclusion.js';
import { describeLostRanges } from '../../src/stores/lostRanges.js';
import { SHARD_GONE, SHARD_WAL_GONE } from '../../src/stores/shardFileGuard.js';
import { shardFileName } from '../../src/stores/shardFiles.js';
import { errorText, isDiskFull } from '../../src/stores/storeError.js';
import { type SyntheticEvent, storageErrorEvent } from '../../src/stores/synthetic.js';
import type { InspectionMessage } from '../inspector/feed.js';
import type { IndexChange } from '../shardWriter/indexes.js';
import type { PipelineReport } from './eventPipeline.js';

export interface PathReportsOptions {
  readonly log: ProcessLog;
  readonly onCommit: (shard: number, rows: number, commitMs: number) => void;
  readonly onCommitFailed: (shard: number) => void;
  /** A commit found no room (FAIL-8). */
  readonly onDiskFull: () => void;
  /** What else is to be on record in the store (FAIL-11). */
  readonly onStorageError: (event: SyntheticEvent) => void;
  readonly onInspection: (message: InspectionMessage) => void;
  /** The path must be started again; `excluded`: because a shard was taken out of it, which helps once. */
  readonly onFailed: (part: string, message: string, excluded?: boolean) => void;
}

export class PathReports {
  readonly #options: PathReportsOptions;
  /** Shards whose exclusion is on record since this start (FAIL-11, FAIL-16). */
  readonly #onRecord = new Set<string>();
  /** Commits that have failed since the last that did not, of each shard that has such. */
  readonly #failing = new Map<number, { commits: number; events: number }>();
  /** Shard files that were taken away under their writer. */
  readonly #gone: string[] = [];

  constructor(options: PathReportsOptions) {
    this.#options = options;
  }

  heard(report: PipelineReport): void {
    const { log, onCommit, onCommitFailed, onDiskFull, onInspection, onFailed } = this.#options;
    switch (report.type) {
      case 'commitFailed': {
        const { code, message, lost } = report.failure;
        onCommitFailed(report.shard);
        this.#countFailure(report.shard, lost);
        if (isDiskFull(report.failure)) onDiskFull();
        log.error(`shard ${report.shard} could not commit: ${message}`, {
          code,
          lost: describeLostRanges(lost),
          ranges: lost.length,
        });
        break;
      }
      case 'checkpointFailed':
        log.error(`shard ${report.shard}: ${report.message}; it is tried again`, { code: report.code });
        break;
      case 'readOnly':
        this.excluded(report);
        break;
      case 'loss':
        log.warn(`cpu ${report.cpu}: ${report.what}`, report.detail);
        break;
      case 'regressed':
        this.#regressed(report);
        break;
      case 'threadFailed':
        onFailed(`thread ${report.thread}`, report.message);
        break;
      case 'inspection':
        onInspection(report.message as InspectionMessage);
        break;
      case 'indexes':
        this.#indexChanged(report.shard, report.change);
        break;
      case 'commit':
        onCommit(report.shard, report.rows, report.commitMs);
        this.#endFailures(report.shard);
        break;
    }
  }

  #countFailure(shard: number, lost: CommitFailure['lost']): void {
    const { commits, events } = this.#failing.get(shard) ?? { commits: 0, events: 0 };
    const now = lost.reduce((sum, { first, last }) => sum + Number(last - first) + 1, 0);
    this.#failing.set(shard, { commits: commits + 1, events: events + now });
  }

  #endFailures(shard: number): void {
    const failing = this.#failing.get(shard);
    if (failing === undefined) return;
    this.#failing.delete(shard);
    this.#options.log.info(`shard ${shard} commits again`, {
      failures: failing.commits,
      lost: failing.events,
    });
  }

  /** A shard whose damage showed at run time: nobody may write it again, not even after a restart (FAIL-13). */
  excluded({ shard, file, failure }: Extract<PipelineReport, { type: 'readOnly' }>): void {
    // A file that is gone has no use for a mark: the next one of that name is another.
    const isTakenAway = failure.code === SHARD_GONE || failure.code === SHARD_WAL_GONE;
    if (failure.code === SHARD_GONE) this.#gone.push(file);
    let isMarked = false;
    if (!isTakenAway) {
      // Its storage error is what the failed commit made already.
      this.#onRecord.add(file);
      try {
        exclude(file, `${failure.code}: ${failure.message}`);
        isMarked = true;
      } catch (error) {
        this.#options.log.error(`the exclusion of ${file} cannot be remembered: ${errorText(error)}`);
      }
    }
    const message = `${failure.message}; it is not written any more`;
    // A disk that ruins each new file could go on for ever: what replaces a shard is not counted out so easily.
    const isBounded = isMarked && basename(file) === shardFileName(shard);
    this.#options.onFailed(`shard ${shard}`, message, isBounded);
  }

  /**
   * A ring made anew within the boot: its sequences are taken for those stored before, and no gap record
   * could name what is lost, for it has the numbers of other events.
   */
  #regressed({ cpu, newest, known }: Extract<PipelineReport, { type: 'regressed' }>): void {
    const { log, onStorageError } = this.#options;
    const error = `the ring of CPU ${cpu} has begun anew in the same boot: its newest event is number ${newest}, but ${known} are known; what it holds up to number ${known} is not stored`;
    log.error(error, { cpu, newest, known });
    onStorageError(storageErrorEvent(native.realtimeNs(), { store: 'event', shard: null, error }));
  }

  #indexChanged(shard: number, { kind, index, ms, failure }: IndexChange): void {
    const { log } = this.#options;
    const fields = { index, ms: Math.round(ms) };
    if (failure !== null) {
      log.warn(`shard ${shard}: an index could not be changed: ${failure.message}`, {
        ...fields,
        code: failure.code,
      });
    } else if (kind === 'shed') log.warn(`shard ${shard}: an index is dropped for want of time`, fields);
    // A build that was given up is tried again, and again: no news.
    else if (kind !== 'yielded') log.info(`shard ${shard}: an index is ${kind}`, fields);
  }

  /** True the first time the exclusion of this shard file comes up. */
  isNews(file: string): boolean {
    if (this.#onRecord.has(file)) return false;
    this.#onRecord.add(file);
    return true;
  }

  /** Nothing of a shard that is gone may get into the next one of its name. Call it while all are closed. */
  setStraysAside(): void {
    for (const file of this.#gone.splice(0)) {
      for (const aside of setStrayWalAside(file))
        this.#options.log.warn(`${aside}: left over from a shard that is gone`);
    }
  }
}
