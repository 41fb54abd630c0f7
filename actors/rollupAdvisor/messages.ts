/** What the daemon and the rollup thread say to each other. */
import type { RollupFailure, RollupPolicyLimits } from '../../machines/rollupAdvisor.js';
import type { Verdict } from '../../src/indexes/policy.js';
import type { ComputationLimits } from '../../src/rollups/computation.js';
import type { FromTenant, LeaseAnswer, ToTenant } from '../maintenance/messages.js';

/** The advisor as the diagnostic dump and the debug socket show it. */
export interface RollupDump {
  readonly state: string;
  readonly decisions: number;
  /** When the policy ran last, ns; null before it has. */
  readonly decidedAt: bigint | null;
  /** What was decided last, members first, with the counts as of now; `field` is the key of a pair. */
  readonly verdicts: readonly Verdict[];
  /** Transactions, rows and samples since the start of the thread. */
  readonly units: number;
  readonly rows: number;
  readonly samples: number;
  /** How often rising writes have stopped the computation. */
  readonly pauses: number;
  readonly limits: RollupPolicyLimits;
  readonly lastFailure: RollupFailure | null;
}

/** Settings that the thread works by. */
export interface RollupSettings {
  readonly policy: RollupPolicyLimits;
  readonly computation: ComputationLimits;
}

/** Daemon to the thread. */
export type ToRollups =
  | ToTenant
  | LeaseAnswer
  /** Pairs that queries have asked for, by key, and how often (ROL-10). */
  | { readonly type: 'used'; readonly pairs: ReadonlyMap<string, number> }
  | { readonly type: 'settings'; readonly settings: RollupSettings }
  /** The batches of the metric writer have become large, or small again (ROL-18). */
  | { readonly type: 'writes'; readonly rose: boolean };

/** The thread to the daemon. */
export type FromRollups =
  | FromTenant<RollupDump>
  /** Keys of the pairs that are kept, highest priority first. */
  | { readonly type: 'desired'; readonly pairs: readonly string[] }
  /** May it write to the metric store? Numbers are never used twice. */
  | { readonly type: 'leaseRequest'; readonly id: number }
  | { readonly type: 'leaseReturn'; readonly id: number }
  /** Said once per episode. */
  | { readonly type: 'failed'; readonly failure: RollupFailure };
