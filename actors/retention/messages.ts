/** What the daemon and the retention thread say to each other. */
import type { RetentionLimits, SweepFailure, SweptStore, Target } from '../../machines/retentionSweeper.js';
import type { FromTenant, LeaseAnswer, ToTenant } from '../maintenance/messages.js';

/** Deleted since the start of the thread, by store. */
export interface StoreFigures {
  readonly rows: number;
  readonly series: number;
  /** Bytes in use at the end of the last sweep; null before there was one. */
  readonly usedBytes: bigint | null;
}

/** The sweeper as the diagnostic dump shows it. */
export interface RetentionDump {
  readonly state: string;
  readonly sweeps: number;
  readonly lastFailure: SweepFailure | null;
}

/** Daemon to the retention thread. */
export type ToRetention =
  | ToTenant
  | LeaseAnswer
  | { readonly type: 'limits'; readonly limits: RetentionLimits }
  /** A commit found no room (FAIL-8). */
  | { readonly type: 'diskFull' };

/** The retention thread to the daemon. */
export type FromRetention =
  | FromTenant<RetentionDump>
  /** May it write to this database? Numbers are never used twice. */
  | { readonly type: 'leaseRequest'; readonly id: number; readonly target: Target }
  /** The writer goes on, once it has forgotten these series (MET-37, MET-64). */
  | {
      readonly type: 'leaseReturn';
      readonly id: number;
      readonly target: Target;
      readonly series: BigInt64Array;
    }
  /** A sweep has ended. */
  | {
      readonly type: 'swept';
      readonly urgent: boolean;
      readonly ms: number;
      readonly stores: Readonly<Record<SweptStore, StoreFigures>>;
    }
  /** A database was left alone; said once per episode. */
  | { readonly type: 'failed'; readonly failure: SweepFailure };
