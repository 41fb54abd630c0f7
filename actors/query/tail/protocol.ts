/** What the main thread and the tail thread say to each other. */
import type { TailProgram } from '../../../src/query/predicateProgram.js';
import type { Found } from '../../../src/query/survey.js';
import type { QueryFailure } from '../protocol.js';

/** What the tail thread is started with. */
export interface TailWorkerData {
  readonly eventStorePath: string;
  readonly logStorePath: string;
  readonly metricStorePath: string;
  /** Backs the {@link CommitFeed} that the writers publish in. */
  readonly commits: SharedArrayBuffer;
}

/**
 * Where the initial set of a stream ends (STR-3): per database the highest rowid in the snapshot that it
 * was read from.
 */
export interface Seam {
  /** Ticket of the commit feed before the databases were listed: later files are not in the list. */
  readonly listed: bigint;
  /** Ticket before the snapshots were taken: all lower ones are in them. */
  readonly ticket: bigint;
  readonly databases: readonly { readonly path: string; readonly last: bigint }[];
}

/** Rows of one database with `after` < id <= `upTo`. */
export interface RowRange {
  readonly source: number;
  readonly after: bigint;
  readonly upTo: bigint;
}

export type ToTail =
  /** A stream is about to read its initial set: keep account of commits from now on. */
  | {
      readonly type: 'tail.open';
      readonly id: number;
      readonly program: TailProgram;
      /** For its conditions on events and logs (QL-114). */
      readonly crossTypeWindowMs: number;
    }
  /** Its initial set is out: catch up from the seam, then watch. `credits` frames may be sent at once. */
  | { readonly type: 'tail.attach'; readonly id: number; readonly seam: Seam; readonly credits: number }
  | { readonly type: 'tail.credit'; readonly id: number }
  /** Stop where it is; answered by `tail.held`, unless it is held already. */
  | { readonly type: 'tail.hold'; readonly id: number }
  /** A held stream goes on with another program: first over these rows again, then where it stopped. */
  | {
      readonly type: 'tail.resume';
      readonly id: number;
      readonly program: TailProgram;
      readonly rows: readonly RowRange[];
    }
  | { readonly type: 'tail.close'; readonly id: number }
  /** So many bytes of units have arrived. */
  | { readonly type: 'tail.ack'; readonly bytes: number }
  | { readonly type: 'worker.stop' };

export type FromTail =
  /** Commits are noted: the initial set may be read. */
  | { readonly type: 'tail.opened'; readonly id: number }
  /** What was committed since the seam, under credits. */
  | {
      readonly type: 'tail.frame';
      readonly id: number;
      /** What was looked at. */
      readonly rows: RowRange;
      readonly records: number;
      readonly frames: Uint8Array;
    }
  /** Caught up; from here on units come. */
  | { readonly type: 'tail.live'; readonly id: number }
  /** The records of one committed batch, for every stream that looks for the same (STR-12). */
  | {
      readonly type: 'tail.unit';
      readonly ids: readonly number[];
      readonly rows: RowRange;
      readonly records: number;
      readonly frames: Uint8Array;
    }
  /**
   * The stream stands still until it is resumed: it was asked to, or there are records of these names, or
   * with these fields, about which its program knows nothing (ACL-50).
   */
  | { readonly type: 'tail.held'; readonly id: number; readonly news: Found }
  /** The stream is over. */
  | { readonly type: 'tail.failed'; readonly id: number; readonly failure: QueryFailure }
  | {
      readonly type: 'worker.warning';
      readonly text: string;
      readonly details: Readonly<Record<string, string>>;
    };
