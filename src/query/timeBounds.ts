/** How the SELECT of a query narrows its scan to times: its own range, and ranges made for it (QX-4, QX-15). */
import type { EventsQuery } from './ast.js';
import type { PlanCondition } from './plan.js';
import { Fragment, sql } from './sqlFragment.js';

/** Bounds in ns, both included. */
export interface TimeRange {
  readonly from: bigint;
  readonly to: bigint;
}

/**
 * `timestamp` as the bounds of a query name it. Where an aggregation is over all times the index on it
 * would lead to every row in turn, which takes longer than reading the table from end to end: SQLite
 * leaves the index alone behind a `+`. Rows that are only counted are counted in the index.
 *
 * @param isFiltered whether rows are left out for other reasons than their time
 */
export function scannedTime(
  { since, until, aggregation }: Pick<EventsQuery, 'since' | 'until' | 'aggregation'>,
  isFiltered: boolean,
): string {
  if (aggregation === null || since !== null || until !== null) return 'timestamp';
  const isCount = aggregation.kind === 'bare' && aggregation.function.kind === 'COUNT';
  return isCount && !isFiltered ? 'timestamp' : '+timestamp';
}

/** Whether a time lies in the ranges made by the stage of this index. */
export function inRanges(time: string, index: number): Fragment {
  return sql`in_ranges(${new Fragment(time)}, ${{ ranges: index }})`;
}

/**
 * The bounds of a scan over `time`. Where a cross-type condition is ANDed at the top they close in on its
 * ranges, and an empty set leaves nothing to scan (QX-4).
 */
export function timeBounds(
  time: string,
  range: { readonly from: bigint | null; readonly to: bigint },
  where: PlanCondition | null,
): Fragment[] {
  const column = new Fragment(time);
  const narrowing = where === null ? [] : topRanges(where);
  if (narrowing.length > 0 && range.from !== null) {
    const ranges = narrowing.map((index) => ({ ranges: index }));
    const start = new Fragment(`max(?${', ranges_start(?)'.repeat(ranges.length)})`, [range.from, ...ranges]);
    const end = new Fragment(`min(?${', ranges_end(?)'.repeat(ranges.length)})`, [range.to, ...ranges]);
    return [sql`${column} >= ${start}`, sql`${column} <= ${end}`];
  }
  const upper = sql`${column} <= ${range.to}`;
  return range.from === null ? [upper] : [sql`${column} >= ${range.from}`, upper];
}

/** The cross-type conditions that every result fulfils. */
function topRanges(condition: PlanCondition): number[] {
  if (condition.kind === 'ranges') return [condition.index];
  return condition.kind === 'and' ? condition.terms.flatMap(topRanges) : [];
}
