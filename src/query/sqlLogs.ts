/** Translates a LOGS query into the SELECT that each log database runs (QL-80..83, QX-10). */
import { READS_EVERYTHING, type ReadAccess } from './accessFilter.js';
import type { FieldRef, LogsQuery } from './ast.js';
import type { CrossFilters } from './crossFilter.js';
import { plainJob, type QueryJob } from './job.js';
import {
  type EventsPlan,
  type PlanCondition,
  type PlanField,
  planCondition,
  planRange,
  planSort,
} from './plan.js';
import { keyColumns, keyOrder, limit, type ShardQuery, translateCondition } from './sql.js';
import { aggregateJob } from './sqlAggregate.js';
import { looksOnlyAt } from './sqlCount.js';
import { Fragment, joinBalanced, sql } from './sqlFragment.js';
import { translatePredicate } from './sqlPredicate.js';
import { scannedTime, timeBounds } from './timeBounds.js';

type LogField = Extract<PlanField, { kind: 'expression' }>;

/** The five columns, and how a record shows them (QL-42, QL-121). */
const FIELDS: Readonly<Record<string, { readonly type: LogField['type']; readonly shown: string }>> = {
  timestamp: { type: 'integer', shown: 'timestamp' },
  origin: { type: 'text', shown: 'origin' },
  is_error: { type: 'integer', shown: 'wire_bool(is_error)' },
  message: { type: 'text', shown: 'message' },
  boot_id: { type: 'guid', shown: 'wire_guid(boot_id)' },
};

/** The query of one log database; `now` (ns) is the one clock reading of the query (QL-12). */
export function translateLogs(
  query: LogsQuery,
  now: bigint,
  cross: CrossFilters | null = null,
  access: ReadAccess = READS_EVERYTHING,
): ShardQuery {
  const keys = sortKeys(query);
  const names = query.select?.map(({ name }) => name) ?? Object.keys(FIELDS);
  const pairs = names.map((name) => `'${name}', ${FIELDS[name]?.shown ?? 'NULL'}`).join(', ');
  const whole = new Fragment(`record_map(${pairs})`);
  const record = access.shown === null ? whole : sql`shown(${whole}, origin, ${access.shown})`;
  const columns = new Fragment([...keyColumns(keys), ''].join(', '));
  const order = [...keyOrder(keys), 'id DESC'].join(', ');
  const paging = { skip: query.skip ?? 0n, take: query.take };
  const statement = sql`SELECT ${columns}${record} FROM logs WHERE ${conditions(query, now, cross, access)} ORDER BY ${new Fragment(order)}${limit(paging)}`;
  return {
    sql: statement.sql,
    params: statement.params,
    sort: keys.map(({ descending }) => ({ descending })),
    ...paging,
    fields: null,
    encoded: true,
    store: 'logs',
  };
}

/** The job of a LOGS query, aggregated or not (QL-83). */
export function logsJob(
  query: LogsQuery,
  now: bigint,
  cross: CrossFilters | null = null,
  access: ReadAccess = READS_EVERYTHING,
): QueryJob {
  if (query.aggregation === null) return plainJob(translateLogs(query, now, cross, access));
  const { where, timed, untimed } = conditionsOf(query, now, cross, access);
  const { since, until, errorOnly, containing } = query;
  const identifier = 'origin';
  const isIndexed = looksOnlyAt(where, identifier) && !errorOnly && containing.length === 0;
  const range = planRange(query, now);
  const indexed = {
    identifier,
    hasIndex: true,
    where: untimed,
    range,
    isCut: since !== null || until !== null,
  };
  return aggregateJob(
    {
      store: 'logs',
      table: 'logs',
      where: joinBalanced([...timed, ...untimed], 'AND'),
      resolve: logField,
      indexed: isIndexed ? indexed : null,
    },
    query.aggregation,
    query,
  );
}

/** The parser has seen to it that there is no other name (QL-42). */
export function logField({ name }: Pick<FieldRef, 'name'>): LogField {
  const isBoolean = name === 'is_error';
  return { kind: 'expression', name, sql: name, type: FIELDS[name]?.type ?? 'text', isBoolean };
}

/** The sort fields, and timestamp descending to break ties (QL-70, QL-71). */
function sortKeys(query: LogsQuery): EventsPlan['sort'] {
  const keys = planSort(query, logField);
  if (keys.some(({ field }) => field.name === 'timestamp')) return keys;
  return [...keys, { field: logField({ name: 'timestamp' }), descending: true }];
}

function conditions(query: LogsQuery, now: bigint, cross: CrossFilters | null, access: ReadAccess): Fragment {
  const { timed, untimed } = conditionsOf(query, now, cross, access);
  return joinBalanced([...timed, ...untimed], 'AND');
}

/** What a record must fulfil: its time, and all else, of which `where` is what WHERE and the access say. */
function conditionsOf(
  query: LogsQuery,
  now: bigint,
  cross: CrossFilters | null,
  access: ReadAccess,
): { readonly where: PlanCondition | null; readonly timed: Fragment[]; readonly untimed: Fragment[] } {
  const where = access.restrict(
    query.where === null ? null : planCondition(query.where, now, logField, cross),
  );
  const origin = logField({ name: 'origin' });
  const message = logField({ name: 'message' });
  const untimed = [
    ...(query.from === null
      ? []
      : [
          translatePredicate({
            kind: 'in',
            field: origin,
            negated: false,
            values: query.from.map(({ value }) => value),
          }),
        ]),
    ...(query.errorOnly ? [sql`is_error = 1`] : []),
    ...query.containing.map(({ value }) =>
      translatePredicate({ kind: 'match', field: message, operator: 'CONTAINS', value }),
    ),
    ...(where === null ? [] : [translateCondition(where, 'top')]),
  ];
  const timed = timeBounds(scannedTime(query, untimed.length > 0), planRange(query, now), where);
  return { where, timed, untimed };
}
