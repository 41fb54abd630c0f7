/** A policy's decision as it looks later: for the diagnostic dump and the debug socket. */
import type { Verdict } from './policy.js';

/** Verdicts shown; the rest is only counted. */
const SHOWN_VERDICTS = 100;

/**
 * The last verdicts with the counts as they are now, then what was kept before there were any, then what has
 * been counted since, the most frequent first; the first hundred.
 *
 * @param desired names of what is kept, highest priority first
 */
export function verdictsNow(
  verdicts: readonly Verdict[],
  desired: readonly string[],
  counts: ReadonlyMap<string, number>,
): Verdict[] {
  const judged = new Set(verdicts.map(({ field }) => field));
  const kept = desired
    .filter((field) => !judged.has(field))
    .map((field, index): Verdict => ({ field, count: 0, priority: index + 1, why: 'stays' }));
  const known = new Set([...judged, ...kept.map(({ field }) => field)]);
  const fresh = [...counts]
    .filter(([field]) => !known.has(field))
    .sort(([, a], [, b]) => b - a)
    .map(([field]): Verdict => ({ field, count: 0, priority: null, why: 'rare' }));
  return [...verdicts, ...kept, ...fresh]
    .slice(0, SHOWN_VERDICTS)
    .map((verdict) => ({ ...verdict, count: counts.get(verdict.field) ?? 0 }));
}
