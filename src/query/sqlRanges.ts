/**
 * The SQL that makes time ranges of another store's rows (QL-112..115). How a query's own SELECT takes them
 * up, timeBounds.ts says.
 */
import type { CrossFilter } from './ast.js';
import type { Statement } from './job.js';
import { translateSelector } from './metricFields.js';
import { Fragment, joinBalanced, sql } from './sqlFragment.js';
import { translatePattern, translatePredicate } from './sqlPredicate.js';
import type { TimeRange } from './timeBounds.js';

type SpanFilter = Exclude<CrossFilter, { kind: 'metricFilter' }>;
type MetricFilter = Extract<CrossFilter, { kind: 'metricFilter' }>;

const NS_PER_MS = 1_000_000n;

/**
 * An EVENT or LOG filter as a SELECT of spans: around each match a window of `windowMs` in all, cut to the
 * query's own range, sorted (QL-114). `readable` is what the caller may see of the store, null = all of it.
 */
export function spanStatement(
  filter: SpanFilter,
  { from, to }: TimeRange,
  windowMs: number,
  readable: Fragment | null,
): Statement {
  // Whole: a millisecond is a million ns.
  const half = (BigInt(windowMs) * NS_PER_MS) / 2n;
  const conditions = [
    sql`timestamp >= ${from - half}`,
    sql`timestamp <= ${bindable(to + half)}`,
    ...(filter.kind === 'eventFilter' ? eventConditions(filter) : logConditions(filter)),
    ...(readable === null ? [] : [readable]),
  ];
  const table = new Fragment(filter.kind === 'eventFilter' ? 'events' : 'logs');
  // The sum must not pass int64, where SQLite would go on with a float.
  const cut = to < half ? sql`min(timestamp + ${half}, ${to})` : sql`min(timestamp, ${to - half}) + ${half}`;
  return sql`SELECT max(timestamp - ${half}, ${from}), ${cut} FROM ${table} WHERE ${joinBalanced(conditions, 'AND')} ORDER BY timestamp`;
}

function eventConditions(filter: Extract<CrossFilter, { kind: 'eventFilter' }>): Fragment[] {
  const pattern = translatePattern(filter.pattern);
  return pattern === null ? [] : [pattern];
}

function logConditions({ origin, containing }: Extract<CrossFilter, { kind: 'logFilter' }>): Fragment[] {
  const column = (name: string) => ({ kind: 'expression', name, sql: name, type: 'text' }) as const;
  const isOrigin = translatePredicate({
    kind: 'compare',
    field: column('origin'),
    operator: '==',
    value: origin,
  });
  if (containing === null) return [isOrigin];
  const contains = translatePredicate({
    kind: 'match',
    field: column('message'),
    operator: 'CONTAINS',
    value: containing,
  });
  return [isOrigin, contains];
}

/** The series a METRIC filter looks at: rows of id, type, name, labels (QL-111). */
export function seriesStatement(filter: MetricFilter, readable: Fragment | null): Statement {
  const pattern = translatePattern(filter.name, new Fragment('r.name'));
  const conditions = [
    ...(pattern === null ? [] : [pattern]),
    ...(filter.brackets ?? []).map(translateSelector),
    ...(readable === null ? [] : [readable]),
  ];
  return sql`SELECT r.id, r.type, r.name, r.labels FROM series AS r WHERE ${joinBalanced(conditions, 'AND')} ORDER BY r.name, r.labels`;
}

/** The samples of one series, oldest first. Parameters: series id, lowest and highest timestamp. */
export const SAMPLES =
  'SELECT timestamp, value FROM samples WHERE series_id = ? AND timestamp >= ? AND timestamp <= ? ORDER BY timestamp, rowid';

/** How a rollup shows that no sample of its window passes: the largest or smallest one does not. */
const ROLLUP_TEST = {
  '>': { function: 2n, fails: 'value <= ?' },
  '>=': { function: 2n, fails: 'value < ?' },
  '<': { function: 1n, fails: 'value >= ?' },
  '<=': { function: 1n, fails: 'value > ?' },
} as const;

/** Shorter windows are not worth a row each: this many seconds hold some forty samples. */
const SHORTEST_ROLLUP = 600n;

/**
 * The windows of one series without a sample that passes the test, as spans, from MAX or MIN rollups
 * (QL-119); null when rollups cannot tell. `limit` must fit an SQLite integer or be a float.
 */
export function failingWindows(
  series: bigint,
  operator: string,
  limit: bigint | number,
  range: TimeRange,
): Statement | null {
  if (!Object.hasOwn(ROLLUP_TEST, operator)) return null;
  if (typeof limit === 'bigint' && limit >= 2n ** 63n) return null;
  const test = ROLLUP_TEST[operator as keyof typeof ROLLUP_TEST];
  return {
    sql: `SELECT window_start, window_start + window_seconds * 1000000000 - 1 FROM rollups WHERE series_id = ? AND function = ? AND window_seconds >= ? AND window_start <= ? AND window_start + window_seconds * 1000000000 > ? AND ${test.fails} ORDER BY window_start`,
    params: [series, test.function, SHORTEST_ROLLUP, range.to, range.from, limit],
  };
}

function bindable(time: bigint): bigint {
  const max = 2n ** 63n - 1n;
  return time > max ? max : time;
}
