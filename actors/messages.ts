/** What actors in different threads say to each other. Batches, gaps, credits and commands; never events. */
import type { CpuReaderOutput, PressureLevel } from '../machines/cpuReader.js';
import type { RecordFailure, RecordLimits } from '../machines/recordWriter.js';
import type { CommitFailure, LostRange, WriterLimits } from '../machines/shardWriter.js';
import type { SheddingLimits } from '../src/indexes/batchWindow.js';
import type { IndexedField } from '../src/indexes/fields.js';
import type { DrainStatus } from '../src/native/addon.js';
import type { LeaseId } from '../src/stores/lease.js';
import type { SyntheticEvent } from '../src/stores/synthetic.js';
import type { IndexChange, IndexesDump } from './shardWriter/indexes.js';

/** One ring reader as the diagnostic dump shows it. */
export interface ReaderDump {
  readonly cpu: number;
  /** State of each region of its machine. */
  readonly state: string;
  /** Null while no drain thread runs. */
  readonly drain: DrainStatus | null;
  /** How full its ring is now, 0..1; null while none is mapped. */
  readonly fill: number | null;
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
  /** Null where indexes are not managed. */
  readonly indexes: IndexesDump | null;
}

/** Reader to writer, over their own port. Credit needs no message back: it is the room in their channel. */
export type ReaderToWriter =
  | { readonly type: 'batch.available'; readonly halfFull: boolean }
  | { readonly type: 'pressure'; readonly cpu: number; readonly level: PressureLevel; readonly fill: number };

/** Retention's turn between two batches of a writer (RET-8, LOG-52, MET-58). */
export type LeaseCommand =
  /** Let retention write once; answered by `leased`. */
  | { readonly type: 'lease'; readonly id: LeaseId }
  /**
   * It has, or does not want to any more. The metric writer must know the series no more (MET-37); null:
   * nobody can tell which are gone.
   */
  | { readonly type: 'leaseReturn'; readonly id: LeaseId; readonly series: BigInt64Array | null };

/** The answer, once the writer can do without the store. `pressure`: how full its buffer is, 0..1. */
export interface LeaseGrant {
  readonly type: 'leased';
  readonly id: LeaseId;
  readonly pressure: number;
}

/** Daemon to a writer thread. */
export type ToWriter =
  | LeaseCommand
  | { readonly type: 'synthetic'; readonly event: SyntheticEvent }
  | { readonly type: 'limits'; readonly limits: WriterLimits }
  /** The desired set, highest priority first (IDX-7), and when indexes go again. */
  | {
      readonly type: 'indexes';
      readonly desired: readonly IndexedField[] | null;
      readonly shedding: SheddingLimits;
    }
  /** Commit what is left and answer `drained`; shutdown step 4. */
  | { readonly type: 'stop' }
  /** Close the connection and answer `closed`; shutdown step 7. */
  | { readonly type: 'close' }
  | { readonly type: 'inspect'; readonly on: boolean }
  | { readonly type: 'dump' }
  /** Are you alive? Answered by `pong` (HOST-22). */
  | { readonly type: 'ping' };

/** A writer thread to the daemon. */
export type FromWriter =
  | LeaseGrant
  | { readonly type: 'ready' }
  | {
      readonly type: 'committed';
      readonly rows: number;
      readonly events: number;
      readonly commitMs: number;
      /** Synthetic rows stored by this commit. */
      readonly synthetic: number;
      /** Why the checkpoint behind this commit failed, the first of several; else null. */
      readonly checkpointFailure: { readonly code: string; readonly message: string } | null;
    }
  | { readonly type: 'failed'; readonly failure: CommitFailure }
  /** An index was built, dropped or given up; and which the shard has now. */
  | { readonly type: 'indexes'; readonly change: IndexChange; readonly existing: readonly string[] }
  /** The file is damaged: nothing more is written to it. */
  | { readonly type: 'readOnly' }
  /** Everything is committed; the connection stays open for the shutdown record. */
  | { readonly type: 'drained'; readonly lastSequences: ReadonlyMap<number, bigint> }
  | { readonly type: 'closed' }
  | { readonly type: 'inspection'; readonly message: unknown }
  | { readonly type: 'dumped'; readonly dump: WriterDump }
  | { readonly type: 'pong' };

/** Daemon to the reader thread. */
export type ToReaders =
  /** The writers are ready: start the readers (LIFE-137). */
  | { readonly type: 'start' }
  | { readonly type: 'stop' }
  | { readonly type: 'emergency'; readonly percent: number }
  | { readonly type: 'inspect'; readonly on: boolean }
  | { readonly type: 'dump' }
  | { readonly type: 'ping' };

/** The reader thread to the daemon. */
export type FromReaders =
  | { readonly type: 'ready' }
  | {
      readonly type: 'loss';
      readonly cpu: number;
      readonly what: string;
      readonly detail: Record<string, unknown>;
    }
  /** The ring counts anew: it ends at `newest`, below what was read of this boot. */
  | { readonly type: 'regressed'; readonly cpu: number; readonly newest: bigint; readonly known: bigint }
  | { readonly type: 'finished'; readonly cpu: number; readonly output: CpuReaderOutput }
  | { readonly type: 'inspection'; readonly message: unknown }
  | { readonly type: 'dumped'; readonly dump: readonly ReaderDump[] }
  | { readonly type: 'pong' };

/** A log or metric writer as the diagnostic dump shows it. */
export interface RecordWriterDump {
  readonly state: string;
  readonly commits: number;
  readonly records: number;
  /** Failures since the last commit that stored records, and the records they cost. */
  readonly failures: number;
  readonly lost: number;
  /** Damaged files set aside since the start. */
  readonly replacements: number;
}

/** Daemon to the log or the metric writer's thread. */
export type ToRecordWriter =
  | LeaseCommand
  | { readonly type: 'limits'; readonly limits: RecordLimits }
  /** The receiver has been told to end: commit everything it still brings and answer `drained`. */
  | { readonly type: 'finish' }
  /** Close the connection and answer `closed`. */
  | { readonly type: 'close' }
  | { readonly type: 'inspect'; readonly on: boolean }
  | { readonly type: 'dump' }
  | { readonly type: 'ping' };

/** A log or metric writer's thread to the daemon. */
export type FromRecordWriter =
  | LeaseGrant
  /** The store is open; said again after a file was replaced. */
  | { readonly type: 'ready' }
  | {
      readonly type: 'committed';
      readonly records: number;
      readonly bytes: number;
      readonly commitMs: number;
      /** Records lost in the failures that this commit has ended. */
      readonly lost: number;
    }
  /** The first failure of an episode, which ends with the next commit; the others are not told (LOG-47). */
  | { readonly type: 'failed'; readonly failure: RecordFailure }
  /** A fresh file has the place of a damaged one, which is `aside` now, or of one that was gone. */
  | { readonly type: 'replaced'; readonly aside: string | null }
  /** Unknown schema version: nothing is stored until a restart. */
  | { readonly type: 'discarding'; readonly failure: RecordFailure }
  /** Everything is committed or given up. */
  | { readonly type: 'drained' }
  | { readonly type: 'closed' }
  | { readonly type: 'inspection'; readonly message: unknown }
  | { readonly type: 'dumped'; readonly dump: RecordWriterDump }
  | { readonly type: 'pong' };
