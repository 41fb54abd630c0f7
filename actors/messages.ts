/** What actors in different threads say to each other. Batches, gaps, credits and commands; never events. */
import type { CpuReaderOutput, PressureLevel } from '../machines/cpuReader.js';
import type { CommitFailure, LostRange, WriterLimits } from '../machines/shardWriter.js';
import type { DrainStatus } from '../src/native/addon.js';
import type { SyntheticEvent } from '../src/stores/synthetic.js';

/** One ring reader as the diagnostic dump shows it. */
export interface ReaderDump {
  readonly cpu: number;
  /** State of each region of its machine. */
  readonly state: string;
  /** Null while no drain thread runs. */
  readonly drain: DrainStatus | null;
}

/** One shard writer as the diagnostic dump shows it. */
export interface WriterDump {
  readonly state: string;
  readonly commits: number;
  readonly rows: number;
  /** Consecutive failed commits. */
  readonly failures: number;
  /** Ranges whose gap records are not stored yet: their number, and the first few. */
  readonly owed: number;
  readonly owedRanges: readonly LostRange[];
  readonly lastSequences: ReadonlyMap<number, bigint>;
}

/** Reader to writer, over their own port. Credit needs no message back: it is the room in their channel. */
export type ReaderToWriter =
  | { readonly type: 'batch.available'; readonly rows: number }
  | { readonly type: 'pressure'; readonly cpu: number; readonly level: PressureLevel; readonly fill: number };

/** Daemon to a writer thread. */
export type ToWriter =
  | { readonly type: 'synthetic'; readonly event: SyntheticEvent }
  | { readonly type: 'limits'; readonly limits: WriterLimits }
  /** Commit what is left and answer `drained`; shutdown step 4. */
  | { readonly type: 'stop' }
  /** Close the connection and answer `closed`; shutdown step 7. */
  | { readonly type: 'close' }
  | { readonly type: 'inspect'; readonly on: boolean }
  | { readonly type: 'dump' };

/** A writer thread to the daemon. */
export type FromWriter =
  | { readonly type: 'ready' }
  | {
      readonly type: 'committed';
      readonly rows: number;
      readonly events: number;
      readonly commitMs: number;
      /** Synthetic rows stored by this commit. */
      readonly synthetic: number;
    }
  | { readonly type: 'failed'; readonly failure: CommitFailure }
  /** The file is damaged: nothing more is written to it. */
  | { readonly type: 'readOnly' }
  /** Everything is committed; the connection stays open for the shutdown record. */
  | { readonly type: 'drained'; readonly lastSequences: ReadonlyMap<number, bigint> }
  | { readonly type: 'closed' }
  | { readonly type: 'inspection'; readonly message: unknown }
  | { readonly type: 'dumped'; readonly dump: WriterDump };

/** Daemon to the reader thread. */
export type ToReaders =
  /** The writers are ready: start the readers (LIFE-137). */
  | { readonly type: 'start' }
  | { readonly type: 'stop' }
  | { readonly type: 'emergency'; readonly percent: number }
  | { readonly type: 'inspect'; readonly on: boolean }
  | { readonly type: 'dump' };

/** The reader thread to the daemon. */
export type FromReaders =
  | { readonly type: 'ready' }
  | {
      readonly type: 'loss';
      readonly cpu: number;
      readonly what: string;
      readonly detail: Record<string, unknown>;
    }
  | { readonly type: 'finished'; readonly cpu: number; readonly output: CpuReaderOutput }
  | { readonly type: 'inspection'; readonly message: unknown }
  | { readonly type: 'dumped'; readonly dump: readonly ReaderDump[] };
