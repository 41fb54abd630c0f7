/**
 * Counts records in an index alone (QX-24). Where nothing but their time and their type or origin chooses them,
 * what an index holds is enough if the time is left aside: so the records of all times are counted there, and
 * those outside of the query's range, which are few as a rule, are taken away again. The difference is exact
 * whatever the estimate says.
 */
import type { PlanCondition } from './plan.js';
import { Fragment, joinBalanced, opaque, sql } from './sqlFragment.js';
import type { TimeRange } from './timeBounds.js';

/** Records to count. */
export interface IndexedRows {
  /** What names them: the only field in `where`. */
  readonly identifier: string;
  /** Every database has an index on it, collated BINARY. */
  readonly hasIndex: boolean;
  /** Conditions beside the time; none = all records. */
  readonly where: readonly Fragment[];
  readonly range: { readonly from: bigint | null; readonly to: TimeRange['to'] };
  /** SINCE or UNTIL is given, so that much may lie outside. */
  readonly isCut: boolean;
}

/** Whether a condition looks at no field but one. */
export function looksOnlyAt(where: PlanCondition | null, identifier: string): boolean {
  if (where === null) return true;
  if (where.kind === 'and' || where.kind === 'or')
    return where.terms.every((term) => looksOnlyAt(term, identifier));
  return where.kind !== 'ranges' && where.field.name === identifier;
}

/** The SELECT that counts the records; null where it would be no faster. */
export function countRows(table: string, rows: IndexedRows): Fragment | null {
  const { where, range, isCut } = rows;
  // Nothing lies inside, and what lies before and after overlaps.
  if (range.from !== null && range.from > range.to) return null;
  if (where.length === 0) return countRange(new Fragment(table), rows);
  return isCut ? null : countFiltered(table, rows);
}

/** Records that conditions choose, of all times up to the end of the range. */
function countFiltered(table: string, rows: IndexedRows): Fragment {
  const from = new Fragment(table);
  const condition = joinBalanced(rows.where, 'AND');
  return sql`SELECT
    (SELECT count(*) FROM ${from} WHERE ${ofAllTimes(table, rows)})
    - (SELECT count(*) FROM ${from} WHERE timestamp > ${rows.range.to} AND ${opaque(condition)})`;
}

/**
 * All records of a range. Without a condition SQLite counts the entries of an index page by page. Ids grow with
 * time, nearly: they tell which side of the range is the smaller one, and only that is read.
 */
function countRange(table: Fragment, { range: { from, to }, isCut }: IndexedRows): Fragment {
  const count = (time: Fragment) => sql`(SELECT count(*) FROM ${table} WHERE ${time})`;
  const idAt = (time: Fragment) => sql`(SELECT id FROM ${table} WHERE ${time} ORDER BY timestamp LIMIT 1)`;
  const after = sql`timestamp > ${to}`;
  const before = from === null ? new Fragment('') : sql` - ${count(sql`timestamp < ${from}`)}`;
  const others = sql`(SELECT count(*) FROM ${table})${before} - ${count(after)}`;
  if (!isCut) return sql`SELECT ${others}`;
  const start = from === null ? new Fragment('lowest') : idAt(sql`timestamp >= ${from}`);
  const inside = from === null ? sql`timestamp <= ${to}` : sql`timestamp BETWEEN ${from} AND ${to}`;
  return sql`SELECT CASE
    WHEN 2 * (coalesce(${idAt(after)}, highest) - ${start}) > highest - lowest
    THEN ${others}
    ELSE ${count(inside)} END
    FROM (SELECT (SELECT min(id) FROM ${table}) AS lowest, (SELECT max(id) FROM ${table}) AS highest)`;
}

/**
 * The SELECT of the records' identifiers, each with 1, and those outside of the range again with -1: for the
 * group function `total`. Null where it would be no faster.
 */
export function weighRows(table: string, rows: IndexedRows): Fragment | null {
  const { identifier, where, range, isCut } = rows;
  if (isCut) return null;
  const [name, from] = [new Fragment(identifier), new Fragment(table)];
  const condition = joinBalanced(where, 'AND');
  return sql`SELECT ${name}, 1 FROM ${from} WHERE ${ofAllTimes(table, rows)}
    UNION ALL
    SELECT ${name}, -1 FROM ${from} WHERE timestamp > ${range.to} AND ${opaque(condition)}`;
}

/**
 * The condition, as an index answers it best. Comparisons ignore case, and an index that does not is no help for
 * them: but it tells which identifiers there are, one step for each, and where those are that fit.
 */
function ofAllTimes(table: string, { identifier, hasIndex, where }: IndexedRows): Fragment {
  const condition = joinBalanced(where, 'AND');
  if (!hasIndex || where.length === 0) return condition;
  const [name, from] = [new Fragment(identifier), new Fragment(table)];
  return sql`${name} IN (
    WITH RECURSIVE present(${name}) AS (
      SELECT min(${name}) FROM ${from}
      UNION ALL
      SELECT (SELECT min(a.${name}) FROM ${from} AS a WHERE a.${name} > present.${name})
      FROM present WHERE present.${name} IS NOT NULL
    )
    SELECT ${name} FROM present WHERE ${condition})`;
}
