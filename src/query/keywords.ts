/** The word tables of the language and the search for what a misspelt word may have meant. */
export type Mode = 'EVENTS' | 'LOGS' | 'METRIC';

export const MODES: readonly string[] = ['EVENTS', 'LOGS', 'METRIC'];

const COMMON_CLAUSES = ['SINCE', 'UNTIL', 'WHERE', 'SELECT', 'SORT', 'SKIP', 'TAKE'] as const;
const AGGREGATIONS = ['COUNT', 'TOP', 'DISTINCT', 'GROUP', 'SUM', 'AVG', 'MIN', 'MAX'] as const;
const LOG_CLAUSES = ['FROM', 'ERROR', 'CONTAINING'] as const;
const VALUE_FUNCTIONS = ['RATE', 'DELTA', 'P50', 'P95', 'P99', 'AVG', 'MIN', 'MAX', 'SUM'] as const;
const WINDOW_FUNCTIONS = ['AVG_OVER', 'MIN_OVER', 'MAX_OVER'] as const;

/** The words that may begin a clause, per mode. */
export const CLAUSES: Readonly<Record<Mode, readonly string[]>> = {
  EVENTS: [...COMMON_CLAUSES, 'STREAM', ...AGGREGATIONS],
  LOGS: [...LOG_CLAUSES, ...COMMON_CLAUSES, 'STREAM', ...AGGREGATIONS],
  METRIC: [...COMMON_CLAUSES, ...VALUE_FUNCTIONS, ...WINDOW_FUNCTIONS],
};

/** Every word that is a clause or function in some mode: none is an unquoted event type (QL-6). */
export const CLAUSE_WORDS: ReadonlySet<string> = new Set([
  'INDEX',
  ...CLAUSES.EVENTS,
  ...CLAUSES.LOGS,
  ...CLAUSES.METRIC,
]);

/** What clauses are called elsewhere. */
export const FOREIGN_WORDS: ReadonlyMap<string, string> = new Map([
  ['LIMIT', 'TAKE'],
  ['LAST', 'TAKE'],
  ['OFFSET', 'SKIP'],
  ['ORDER', 'SORT'],
]);

/** Operators spelled as words. */
export const OPERATOR_WORDS: readonly string[] = [
  'STARTS_WITH',
  'ENDS_WITH',
  'CONTAINS',
  'IN',
  'NOT_IN',
  'IS',
];

/** Optimal string alignment distance: edits and swaps of neighbours cost one each. */
function distance(a: string, b: string): number {
  let beforeLast: number[] = [];
  let last = Array.from({ length: b.length + 1 }, (_, j) => j);
  for (let i = 1; i <= a.length; i++) {
    const row = [i];
    for (let j = 1; j <= b.length; j++) {
      const substitution = (last[j - 1] ?? 0) + (a[i - 1] === b[j - 1] ? 0 : 1);
      let best = Math.min((last[j] ?? 0) + 1, (row[j - 1] ?? 0) + 1, substitution);
      if (i > 1 && j > 1 && a[i - 1] === b[j - 2] && a[i - 2] === b[j - 1]) {
        best = Math.min(best, (beforeLast[j - 2] ?? 0) + 1);
      }
      row.push(best);
    }
    beforeLast = last;
    last = row;
  }
  return last[b.length] ?? 0;
}

/** The candidate a misspelt word most probably meant, ignoring case; null when none is near. */
export function nearest(word: string, candidates: Iterable<string>): string | null {
  if (word.length < 2 || word.length > 32) return null;
  const wanted = word.toUpperCase();
  let found: string | null = null;
  let best = Number.POSITIVE_INFINITY;
  for (const candidate of candidates) {
    // A short word has many neighbours: allow one slip in it, two in a long one.
    const allowed = candidate.length <= 2 ? 0 : candidate.length <= 5 ? 1 : 2;
    const cost = distance(wanted, candidate.toUpperCase());
    if (cost <= allowed && cost < best) {
      best = cost;
      found = candidate;
    }
  }
  return found;
}
