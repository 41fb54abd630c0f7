/**
 * What the main thread and the query workers say to each other. Frames travel as transferred memory,
 * under credits: a worker fills a frame only while it holds one for the query.
 */
import type { ShardQuery } from '../../src/query/sql.js';

/** One result message holds about this much (WIRE-7). */
export const FRAME_MAX_RECORDS = 1000;
export const FRAME_MAX_BYTES = 256 * 1024;

/** Frames of one query that are on their way at once, from the worker to the kernel. */
export const FRAME_CREDITS = 2;

/** A read over all databases of a store: the same SELECT on each, merged (QX-23). */
export type StoreRead = ShardQuery;

/** What a worker is started with. */
export interface QueryWorkerData {
  readonly eventStorePath: string;
  readonly logStorePath: string;
  readonly metricStorePath: string;
  /** Backs the {@link InterruptGuard} of this worker. */
  readonly guard: SharedArrayBuffer;
  readonly maxConnections: number;
  readonly idleConnectionMs: number;
}

export type ToQueryWorker =
  | {
      readonly type: 'query.run';
      readonly id: number;
      readonly read: StoreRead;
      /** CLOCK_MONOTONIC ns at which the query has to be over (QX-62). */
      readonly deadline: bigint;
      readonly credits: number;
    }
  | { readonly type: 'query.credit'; readonly id: number }
  | { readonly type: 'query.cancel'; readonly id: number }
  /** Close everything and exit. */
  | { readonly type: 'worker.stop' };

export type FromQueryWorker =
  /** The query holds these connections now. */
  | { readonly type: 'query.executing'; readonly id: number; readonly slots: readonly number[] }
  | {
      readonly type: 'query.frame';
      readonly id: number;
      readonly records: number;
      readonly frame: Uint8Array;
    }
  /** The last word about a query in either case: its connections are given back. */
  | { readonly type: 'query.finished'; readonly id: number }
  | { readonly type: 'query.failed'; readonly id: number; readonly failure: QueryFailure }
  | {
      readonly type: 'worker.warning';
      readonly text: string;
      readonly details: Readonly<Record<string, string>>;
    };

export type QueryFailure =
  | { readonly kind: 'cancelled' }
  | { readonly kind: 'deadline' }
  /** `text` is fit for the client (WIRE-21). */
  | { readonly kind: 'storage'; readonly text: string };
