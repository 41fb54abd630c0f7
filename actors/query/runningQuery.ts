/** What a worker holds of a query it runs. */
import type { CursorHandle, SqlValue } from '../../src/native/addon.js';
import type { JobParam, QueryJob, ReadSource, StoreName } from '../../src/query/job.js';
import type { Survey } from '../../src/query/survey.js';
import type { ReadConnection } from '../../src/stores/readConnection.js';
import type { MemoryShare } from './memory.js';
import type { Scratch } from './scratch.js';

/** What a query does: its job, or a survey before it. */
export type Work =
  | { readonly kind: 'job'; readonly job: QueryJob }
  | { readonly kind: 'survey'; readonly survey: Survey };

/** A query while a worker has it. */
export interface RunningQuery {
  readonly id: number;
  readonly work: Work;
  /** The stores it reads. */
  readonly stores: readonly StoreName[];
  readonly deadline: bigint;
  /** The store of which a stream's initial set is read. */
  readonly seam: 'events' | 'logs' | null;
  readonly abort: AbortController;
  readonly memory: MemoryShare;
  readonly connections: Map<StoreName, readonly ReadConnection[]>;
  scratch: Scratch | null;
  /** What is left to do before the read; null once it has begun. */
  steps: Generator<void, void, void> | null;
  readonly ranges: Map<number, Uint8Array>;
  /** The SELECT by slot, where it differs from database to database. */
  readonly texts: Map<number, string>;
  /** Null before it is open, and for a store without any database. */
  cursor: CursorHandle | null;
  /** It holds its connections, and may have turns. */
  opened: boolean;
  credits: number;
  /** Memory of frames that the client has: at most its credits. */
  readonly spent: ArrayBuffer[];
  frames: number;
  queued: boolean;
}

/** Everything an interrupt of the query has to reach. */
export function slotsOf(query: RunningQuery): number[] {
  const slots = [...query.connections.values()].flatMap((connections) => connections.map(({ slot }) => slot));
  return query.scratch === null ? slots : [...slots, query.scratch.slot];
}

/** The parts of a read, in the order that breaks ties (QL-71). */
export function slotsOfSource(query: RunningQuery, source: ReadSource): number[] {
  if (source === 'scratch') return query.scratch === null ? [] : [query.scratch.slot];
  return (query.connections.get(source) ?? []).map(({ slot }) => slot);
}

/** Parameters as SQLite takes them: ranges are the bytes that a stage has made. */
export function bindRanges(params: readonly JobParam[], ranges: ReadonlyMap<number, Uint8Array>): SqlValue[] {
  return params.map((param) => {
    if (typeof param !== 'object' || param === null || param instanceof Uint8Array) return param;
    const made = ranges.get(param.ranges);
    if (made === undefined) throw new Error(`the ranges ${param.ranges} are asked for before they are made`);
    return made;
  });
}
