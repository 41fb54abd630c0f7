/**
 * Translates a METRIC query without functions into the SELECT that each metric database runs: the latest
 * sample of each series, or every sample in the range (QL-86, QL-91, QX-10).
 */
import type { FieldRef, MetricQuery, Selector } from './ast.js';
import { QueryError } from './errors.js';
import {
  type EventsPlan,
  type PlanField,
  planCondition,
  planRange,
  planSort,
  unsupportedReason,
} from './plan.js';
import { keyColumns, keyOrder, limit, type ShardQuery, translateCondition } from './sql.js';
import { Fragment, joinBalanced, sql } from './sqlFragment.js';
import { translatePattern, translatePredicate } from './sqlPredicate.js';

type MetricField = Extract<PlanField, { kind: 'expression' }>;

/** A histogram has no scalar value (QL-102). */
const VALUE = 'CASE WHEN r.type <> 2 THEN s.value END';

const COLUMNS: Readonly<Record<string, Pick<MetricField, 'sql' | 'type'>>> = {
  timestamp: { sql: 's.timestamp', type: 'integer' },
  name: { sql: 'r.name', type: 'text' },
  type: { sql: 'r.type', type: 'integer' },
  value: { sql: VALUE, type: 'real' },
};

/** QL-99. */
const RECORD = `sample_record(s.timestamp, r.name, r.labels, ${VALUE}, s.histogram_data)`;

/** QL-104. */
const DEFAULT_ORDER: readonly MetricField[] = [
  metricField({ name: 'timestamp' }),
  metricField({ name: 'name' }),
  { kind: 'expression', name: 'labels', sql: 'r.labels', type: 'text' },
];

/**
 * The query of one metric database; `now` (ns) is the one clock reading of the query (QL-12).
 *
 * @throws QueryError class V, prefix `unsupported`, for what this version lacks
 */
export function translateMetric(query: MetricQuery, now: bigint): ShardQuery {
  const reason = unsupportedReason(query);
  if (reason !== null) throw new QueryError('V', 'unsupported', reason);
  const keys = sortKeys(query);
  const selected = [...keyColumns(keys), RECORD].join(', ');
  const order = [...keyOrder(keys), 's.rowid'].join(', ');
  const paging = { skip: query.skip ?? 0n, take: query.take };
  const statement = sql`SELECT ${new Fragment(selected)} FROM series AS r JOIN samples AS s ON ${samples(query, now)} WHERE ${conditions(query, now)} ORDER BY ${new Fragment(order)}${limit(paging)}`;
  return {
    sql: statement.sql,
    params: statement.params,
    sort: keys.map(({ descending }) => ({ descending })),
    ...paging,
    fields: null,
    encoded: true,
    store: 'metrics',
  };
}

function sortKeys(query: MetricQuery): EventsPlan['sort'] {
  const keys = planSort(query, metricField);
  const named = new Set(keys.map(({ field }) => field.name));
  const rest = DEFAULT_ORDER.filter(({ name }) => !named.has(name));
  return [...keys, ...rest.map((field) => ({ field, descending: false }))];
}

/** Which samples of a series: those in the range, or the newest one up to its end (QL-91). */
function samples(query: MetricQuery, now: bigint): Fragment {
  const { from, to } = planRange(query, now);
  if (from !== null) return sql`s.series_id = r.id AND s.timestamp >= ${from} AND s.timestamp <= ${to}`;
  return sql`s.rowid = (SELECT n.rowid FROM samples AS n WHERE n.series_id = r.id AND n.timestamp <= ${to} ORDER BY n.timestamp DESC, n.rowid DESC LIMIT 1)`;
}

function conditions(query: MetricQuery, now: bigint): Fragment {
  const pattern = translatePattern(query.name, new Fragment('r.name'));
  return joinBalanced(
    [
      ...(pattern === null ? [] : [pattern]),
      ...(query.brackets ?? []).map(selector),
      ...(query.where === null
        ? []
        : [translateCondition(planCondition(query.where, now, metricField), 'top')]),
    ],
    'AND',
  );
}

/** A column, or else a label (QL-43, QL-100). */
function metricField({ name }: Pick<FieldRef, 'name'>): MetricField {
  const column = COLUMNS[name];
  return column === undefined ? label(name) : { kind: 'expression', name, ...column };
}

function label(name: string): MetricField {
  const sqlText = `label_value(r.labels, '${name.replaceAll("'", "''")}')`;
  return { kind: 'expression', name, sql: sqlText, type: 'text' };
}

/** Inside brackets a key is always a label (QL-84). */
function selector(condition: Selector): Fragment {
  const field = label(condition.label.name);
  switch (condition.kind) {
    case 'null':
      return translatePredicate({ kind: 'null', field, negated: condition.negated });
    case 'in':
      return translatePredicate({
        kind: 'in',
        field,
        negated: condition.negated,
        values: condition.values.map(({ value }) => value),
      });
    case 'compare': {
      const { operator, value } = condition;
      if (operator === '==' || operator === '!=')
        return translatePredicate({ kind: 'compare', field, operator, value: value.value });
      return translatePredicate({ kind: 'match', field, operator, value: value.value });
    }
  }
}
