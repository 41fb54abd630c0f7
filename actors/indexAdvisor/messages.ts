/** What the daemon and the thread of the index policy say to each other. */
import type { AdvisorFailure, AdvisorLimits } from '../../machines/indexAdvisor.js';
import type { IndexedField } from '../../src/indexes/fields.js';
import type { Verdict } from '../../src/indexes/policy.js';
import type { FromTenant, ToTenant } from '../maintenance/messages.js';

/** The policy as the diagnostic dump and the debug socket show it. */
export interface AdvisorDump {
  readonly state: string;
  readonly decisions: number;
  /** When the policy ran last, ns; null before it has. */
  readonly decidedAt: bigint | null;
  /** Fields counted now, and their queries within the window. */
  readonly fields: number;
  readonly queries: number;
  /** What was decided last, members first, with the counts as of now; the first hundred. */
  readonly verdicts: readonly Verdict[];
  readonly limits: AdvisorLimits;
  readonly lastFailure: AdvisorFailure | null;
}

/** Daemon to the thread. */
export type ToAdvisor =
  | ToTenant
  /** Fields that event queries have asked for, and how often (IDX-3). */
  | { readonly type: 'used'; readonly fields: ReadonlyMap<string, number> }
  | { readonly type: 'limits'; readonly limits: AdvisorLimits }
  /** EVENTS INDEX, answered by `indexed` (IDX-47). */
  | { readonly type: 'index'; readonly id: number; readonly field: string }
  /** Who may say EVENTS INDEX? Answered by `adminDescriptor` (IDX-44). */
  | { readonly type: 'adminDescriptor'; readonly id: number };

/** The thread to the daemon. */
export type FromAdvisor =
  /** `ready`: what the last run has left is read. */
  | FromTenant<AdvisorDump>
  /** The desired set, highest priority first (IDX-1). */
  | { readonly type: 'desired'; readonly fields: readonly IndexedField[] }
  | { readonly type: 'indexed'; readonly id: number }
  /** `admin_sd` as it is stored; null where it is missing or no BLOB. */
  | { readonly type: 'adminDescriptor'; readonly id: number; readonly bytes: Uint8Array | null }
  /** The metadata database was of no use and is made anew (IDX-46). */
  | { readonly type: 'recreated'; readonly problem: string }
  /** It cannot be written; said once per episode. */
  | { readonly type: 'failed'; readonly failure: AdvisorFailure };
