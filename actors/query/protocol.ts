/**
 * What the main thread and the query workers say to each other. Frames travel as transferred memory,
 * under credits: a worker fills a frame only while it holds one for the query.
 */
import type { QueryJob } from '../../src/query/job.js';
import type { Found, Survey } from '../../src/query/survey.js';
import type { Learned } from './learned.js';
import type { Seam } from './tail/protocol.js';

/** One result message holds about this much (WIRE-7). */
export const FRAME_MAX_RECORDS = 1000;
export const FRAME_MAX_BYTES = 256 * 1024;

/** Frames of one query that are on their way at once, from the worker to the kernel. */
export const FRAME_CREDITS = 2;

/** What a worker is started with. */
export interface QueryWorkerData {
  readonly eventStorePath: string;
  readonly logStorePath: string;
  readonly metricStorePath: string;
  /** What the writers publish their commits in (STR-3). */
  readonly commits: SharedArrayBuffer;
  /** Backs the {@link InterruptGuard} of this worker. */
  readonly guard: SharedArrayBuffer;
  readonly maxConnections: number;
  /** Backs the {@link QueryMemory} of all workers. */
  readonly memory: SharedArrayBuffer;
  /** Which of its counters is this worker's. */
  readonly worker: number;
  readonly idleConnectionMs: number;
}

export type ToQueryWorker =
  | {
      readonly type: 'query.run';
      readonly id: number;
      readonly job: QueryJob;
      /** CLOCK_MONOTONIC ns at which the query has to be over (QX-62). */
      readonly deadline: bigint;
      readonly credits: number;
      /** A stream's initial set: this store is read from snapshots, and where they end is told (STR-3). */
      readonly seam: 'events' | 'logs' | null;
    }
  /** Which names there are, before the query itself. Answered by `query.surveyed`, or `query.failed`. */
  | { readonly type: 'query.survey'; readonly id: number; readonly survey: Survey; readonly deadline: bigint }
  /** `spent`: memory of a frame that the kernel has taken, for one of the next. */
  | { readonly type: 'query.credit'; readonly id: number; readonly spent: ArrayBuffer | null }
  | { readonly type: 'query.cancel'; readonly id: number }
  /** Another worker found this out. */
  | { readonly type: 'worker.learned'; readonly learned: Learned }
  /** Close everything and exit. */
  | { readonly type: 'worker.stop' };

export type FromQueryWorker =
  /** The query holds these connections now. */
  | { readonly type: 'query.executing'; readonly id: number; readonly slots: readonly number[] }
  /** Where the snapshots of a stream's initial set end; comes before its first frame. */
  | { readonly type: 'query.seam'; readonly id: number; readonly seam: Seam }
  | {
      readonly type: 'query.frame';
      readonly id: number;
      readonly records: number;
      readonly frame: Uint8Array;
    }
  /** The last word about a survey. */
  | { readonly type: 'query.surveyed'; readonly id: number; readonly found: Found }
  /** The last word about a query in either case: its connections are given back. */
  | { readonly type: 'query.finished'; readonly id: number }
  | { readonly type: 'query.failed'; readonly id: number; readonly failure: QueryFailure }
  /** Something that took a search, for the other workers. */
  | { readonly type: 'worker.learned'; readonly learned: Learned }
  | {
      readonly type: 'worker.warning';
      readonly text: string;
      readonly details: Readonly<Record<string, string>>;
    };

export type QueryFailure =
  | { readonly kind: 'cancelled' }
  | { readonly kind: 'deadline' }
  /** `text` is fit for the client (WIRE-21); `refused` is a rejection of class X. */
  | { readonly kind: 'storage' | 'refused'; readonly text: string };
