/** What the stages of a query get from the worker that runs them. */
import type { NativeAddon, SqlValue } from '../../../src/native/addon.js';
import type { JobParam, Stage, StoreName } from '../../../src/query/job.js';
import type { ReadConnection } from '../../../src/stores/readConnection.js';
import type { MemoryShare } from '../memory.js';
import type { Scratch } from '../scratch.js';

export interface StageContext {
  /**
   * The query's connections to a store its job names, in the order of the databases (QL-71). Each has a
   * slot for native calls and `select` for rows in JavaScript; its deadline is set.
   */
  connections(store: StoreName): readonly ReadConnection[];
  /** The query's database in memory; only for jobs that need one (`needsScratch`). */
  readonly scratch: Scratch;
  /** For memory outside the scratch database: reserve before it is allocated, in steps of some 100 KB. */
  readonly memory: MemoryShare;
  readonly native: NativeAddon;
  /** Values to bind, with the BLOBs of ranges in their places. */
  bind(params: readonly JobParam[]): SqlValue[];
  /**
   * Runs a call into SQLite, or one step of an iteration over rows: only inside it do a cancelled
   * query's interrupts arrive. An interrupted call throws SQLITE_INTERRUPT; let it pass.
   */
  execute<Result>(call: () => Result): Result;
  /** Keeps what a `ranges` stage made, for the statements after it. */
  setRanges(index: number, ranges: Uint8Array): void;
}

/**
 * Runs a stage. Every `yield` gives the other queries of the worker a turn: come to one every 10 ms or
 * so, outside of SQLite. A query that ends early ends the generator at its last `yield`, so what must be
 * closed is closed in `finally`. A QueryError reaches the client with its text.
 */
export type StageRunner<S extends Stage> = (stage: S, context: StageContext) => Generator<void, void, void>;
