/**
 * The indexing policy: which fields have an index, and why (IDX-5, IDX-6, IDX-47, IDX-48). A pure
 * function of counters, the set so far, manual wishes, thresholds and the time.
 */
import { candidacyOf, type IndexedField } from './fields.js';

/** Live settings (CFG-27, CFG-29, CFG-30). */
export interface PolicyLimits {
  readonly windowHours: number;
  readonly createThreshold: number;
  /** Below `createThreshold` (CFG-6). */
  readonly dropThreshold: number;
}

/** When EVENTS INDEX named a field, ns, by field (IDX-48). */
export type ManualWishes = ReadonlyMap<string, bigint>;

export interface PolicyInput {
  /** Queries within the window, by field. */
  readonly counts: ReadonlyMap<string, number>;
  /** The set so far. */
  readonly desired: readonly IndexedField[];
  readonly manual: ManualWishes;
  readonly limits: PolicyLimits;
  readonly nowNs: bigint;
}

/** Why a field is in the set or is not. */
export type Why =
  /** EVENTS INDEX named it less than a window ago. */
  | 'manual'
  /** Its queries have reached the create threshold. */
  | 'entered'
  /** In the set before, and still asked for often enough. */
  | 'stays'
  /** Its queries have fallen below the drop threshold. */
  | 'left'
  /** Not in the set, and not asked for often enough. */
  | 'rare'
  /** Others are asked for more often, and there is no room for more. */
  | 'noRoom';

/** What was decided about one field. */
export interface Verdict {
  readonly field: string;
  readonly count: number;
  /** 1 = most important; null: not in the set. */
  readonly priority: number | null;
  readonly why: Why;
}

export interface PolicyDecision {
  /** Highest priority first (IDX-1). */
  readonly desired: readonly IndexedField[];
  /** Wishes that still hold. */
  readonly manual: ManualWishes;
  /** Of every field that is counted, was in the set or is asked for; members first, then by count. */
  readonly verdicts: readonly Verdict[];
}

/**
 * Fields the set can have: an index costs every insert something, and more of them than this would cost
 * more than all queries gain. Past it the least asked for wait.
 */
export const MAX_DESIRED = 32;

const HOUR_NS = 3_600_000_000_000n;

export function decide({ counts, desired, manual, limits, nowNs }: PolicyInput): PolicyDecision {
  const members = new Set(desired.map(({ field }) => field));
  const wishes = holding(manual, limits.windowHours, nowNs);
  const known = new Set([...wishes.keys(), ...members, ...counts.keys()]);
  const judged = [...known]
    .filter((field) => candidacyOf(field).kind === 'candidate')
    .map((field) => judge(field, counts.get(field) ?? 0, members.has(field), wishes.has(field), limits));
  const wanted = judged.filter(({ why }) => isWanted(why)).sort((a, b) => compare(a, b, wishes));
  const chosen = wanted.slice(0, MAX_DESIRED);
  const verdicts = [
    ...chosen.map((verdict, index) => ({ ...verdict, priority: index + 1 })),
    ...wanted.slice(MAX_DESIRED).map((verdict) => ({ ...verdict, why: 'noRoom' as const })),
    ...judged.filter(({ why }) => !isWanted(why)).sort((a, b) => compare(a, b, wishes)),
  ];
  return {
    desired: chosen.map(({ field }) => ({ field, isExpression: isExpression(field) })),
    manual: wishes,
    verdicts,
  };
}

function judge(
  field: string,
  count: number,
  isMember: boolean,
  isWished: boolean,
  { createThreshold, dropThreshold }: PolicyLimits,
): Verdict {
  return { field, count, priority: null, why: reason() };

  function reason(): Why {
    if (isWished) return 'manual';
    if (isMember) return count < dropThreshold ? 'left' : 'stays';
    return count >= createThreshold ? 'entered' : 'rare';
  }
}

function isWanted(why: Why): boolean {
  return why === 'manual' || why === 'stays' || why === 'entered';
}

/** Wishes first, the newest on top (IDX-47); then by use, ties by name (IDX-8). */
function compare(a: Verdict, b: Verdict, wishes: ManualWishes): number {
  const [wishA, wishB] = [wishes.get(a.field) ?? -1n, wishes.get(b.field) ?? -1n];
  if (wishA !== wishB) return wishA > wishB ? -1 : 1;
  if (a.count !== b.count) return b.count - a.count;
  return a.field < b.field ? -1 : a.field > b.field ? 1 : 0;
}

/** Those less than a full window old (IDX-48). What a clock that was ahead has stamped counts from now on. */
function holding(manual: ManualWishes, windowHours: number, nowNs: bigint): ManualWishes {
  const oldest = nowNs - BigInt(windowHours) * HOUR_NS;
  return new Map(
    [...manual].filter(([, at]) => at > oldest).map(([field, at]) => [field, at > nowNs ? nowNs : at]),
  );
}

function isExpression(field: string): boolean {
  const candidacy = candidacyOf(field);
  return candidacy.kind === 'candidate' && candidacy.isExpression;
}
