/**
 * Translates a METRIC query: either the SELECT that each metric database runs, or a computation over series
 * and samples whose rows are then read from the scratch database (QX-3, QX-10).
 */
import { READS_EVERYTHING, type ReadAccess } from './accessFilter.js';
import type { FieldRef, MetricQuery } from './ast.js';
import type { CrossFilters } from './crossFilter.js';
import { type MetricStage, plainJob, type QueryJob, type Statement, type StoreRead } from './job.js';
import { isPlainMetric, metricComputation, metricFunctionName } from './metricComputation.js';
import { sampleCondition, seriesCondition } from './metricCondition.js';
import { type MetricColumns, type MetricField, metricField, translateSelector } from './metricFields.js';
import { type EventsPlan, type PlanCondition, planCondition, planRange, planSort } from './plan.js';
import { keyColumns, keyOrder, limit, translateCondition } from './sql.js';
import { Fragment, joinBalanced, sql } from './sqlFragment.js';
import { translatePattern } from './sqlPredicate.js';
import { timeBounds } from './timeBounds.js';

/** A histogram has no scalar value (QL-102). */
const VALUE = 'CASE WHEN r.type <> 2 THEN s.value END';

/** The fields of a stored sample. */
const STORED: MetricColumns = {
  timestamp: { sql: 's.timestamp', type: 'integer' },
  name: { sql: 'r.name', type: 'text' },
  type: { sql: 'r.type', type: 'integer' },
  value: { sql: VALUE, type: 'real' },
};

/** The fields of a computed result. */
const COMPUTED: MetricColumns = {
  timestamp: { sql: 'v.timestamp', type: 'integer' },
  name: { sql: 'u.name', type: 'text' },
  type: { sql: 'u.type', type: 'integer' },
  value: { sql: 'v.value', type: 'real' },
};

/** Units are numbered in the order of names and labels, so the key of the rows is the default order (QL-104). */
const INTO: MetricStage['into'] = {
  create:
    'CREATE TABLE metric_units (id INTEGER PRIMARY KEY, name TEXT NOT NULL, labels TEXT NOT NULL, type INTEGER);' +
    'CREATE TABLE metric_rows (timestamp INTEGER, unit INTEGER, n INTEGER, value REAL, histogram BLOB,' +
    ' PRIMARY KEY (timestamp, unit, n)) WITHOUT ROWID',
  unit: 'INSERT INTO metric_units VALUES (?, ?, ?, ?)',
  row: 'INSERT INTO metric_rows VALUES (?, ?, ?, ?, ?)',
};

/**
 * The job of a METRIC query; `now` (ns) is the one clock reading of the query (QL-12). `cross` takes in its
 * cross-type filters.
 */
export function metricJob(
  query: MetricQuery,
  now: bigint,
  cross: CrossFilters | null = null,
  access: ReadAccess = READS_EVERYTHING,
): QueryJob {
  const where = access.restrict(
    query.where === null ? null : planCondition(query.where, now, storedField, cross),
  );
  const range = planRange(query, now);
  const ofSeries = seriesConditions(query, where);
  const ofSample = where === null ? null : sampleCondition(where);
  if (isPlainMetric(query)) {
    const inRange = joinBalanced(timeBounds('s.timestamp', range, where), 'AND');
    return plainJob(storedRead(query, inRange, ofSeries, ofSample, access.shown));
  }
  const computation = metricComputation(query, range, ofSample !== null);
  const isLatest = computation.shape === 'latest';
  const stage: MetricStage = {
    kind: 'metric',
    function: metricFunctionName(query),
    computation,
    series: sql`SELECT r.id, r.name, r.labels, r.type FROM series AS r WHERE ${ofSeries}`,
    samples: isLatest ? latestStatement(ofSample) : samplesStatement(ofSample, BETWEEN),
    same: isLatest ? null : samplesStatement(ofSample, AT),
    into: INTO,
  };
  return { stages: [stage], read: computedRead(query, access.shown) };
}

/** Which series a query looks at, up to what only their samples tell. */
function seriesConditions(query: MetricQuery, where: PlanCondition | null): Fragment {
  const pattern = translatePattern(query.name, new Fragment('r.name'));
  const condition = where === null ? null : seriesCondition(where);
  return joinBalanced(
    [
      ...(pattern === null ? [] : [pattern]),
      ...(query.brackets ?? []).map(translateSelector),
      ...(condition === null ? [] : [translateCondition(condition, 'top')]),
    ],
    'AND',
  );
}

// --- reads ---------------------------------------------------------------------------------------

/** Every in-range sample of every series, as it is stored. */
function storedRead(
  query: MetricQuery,
  inRange: Fragment,
  ofSeries: Fragment,
  ofSample: PlanCondition | null,
  shown: Uint8Array | null,
): StoreRead {
  const named = planSort(query, storedField);
  const keys = [...named, ...defaultKeys(named)];
  const fields = ['s.timestamp', 'r.name', 'r.labels', VALUE, 's.histogram_data'];
  const record = shownOf(recordOf(query, fields, 'r.type'), 'r.name', shown);
  const columns = new Fragment(keyColumns(keys).join(', '));
  const order = new Fragment([...keyOrder(keys), 's.rowid'].join(', '));
  const condition = ofSample === null ? new Fragment('1') : translateCondition(ofSample, 'top');
  const paging = pagingOf(query);
  const statement = sql`SELECT ${columns}, ${record} FROM series AS r JOIN samples AS s ON s.series_id = r.id AND ${inRange} WHERE ${ofSeries} AND ${condition} ORDER BY ${order}${limit(paging)}`;
  const sort = keys.map(({ descending }) => ({ descending }));
  return { ...statement, sort, ...paging, fields: null, encoded: true, store: 'metrics' };
}

/** QL-104, as far as SORT leaves it open. */
function defaultKeys(named: EventsPlan['sort']): EventsPlan['sort'] {
  const taken = new Set(named.map(({ field }) => field.name));
  const fields = [
    storedField({ name: 'timestamp' }),
    storedField({ name: 'name' }),
    { kind: 'expression', name: 'labels', sql: 'r.labels', type: 'text' } as const,
  ];
  return fields
    .filter((field, index) => index === 2 || !taken.has(field.name))
    .map((field) => ({ field, descending: false }));
}

/** The computed rows. */
function computedRead(query: MetricQuery, shown: Uint8Array | null): StoreRead {
  const keys = planSort(query, (field) => metricField(field, COMPUTED, 'u.labels'));
  const fields = ['v.timestamp', 'u.name', 'u.labels', 'v.value', 'v.histogram'];
  const record = shownOf(recordOf(query, fields, 'u.type'), 'u.name', shown);
  const order = keys.map(
    ({ field, descending }) =>
      `${field.kind === 'expression' ? field.sql : field.name} COLLATE BINARY ${descending ? 'DESC' : 'ASC'}`,
  );
  const paging = pagingOf(query);
  // CROSS JOIN keeps the order of its tables, and with it that of the rows.
  const statement = sql`SELECT ${record} FROM metric_rows AS v CROSS JOIN metric_units AS u ON u.id = v.unit ORDER BY ${new Fragment([...order, 'v.timestamp', 'v.unit', 'v.n'].join(', '))}${limit(paging)}`;
  return { ...statement, sort: [], ...paging, fields: null, encoded: true, store: 'scratch' };
}

function pagingOf(query: MetricQuery): { readonly skip: bigint; readonly take: bigint | null } {
  return { skip: query.skip ?? 0n, take: query.take };
}

/** QL-99, or the fields of SELECT (QL-121). */
function recordOf(query: MetricQuery, fields: readonly string[], type: string): Fragment {
  const whole = new Fragment(fields.join(', '));
  if (query.select === null) return sql`sample_record(${whole})`;
  // Names hold no comma (QL-7).
  return sql`sample_record(${whole}, ${new Fragment(type)}, ${query.select.map(({ name }) => name).join(',')})`;
}

/** A record without what its metric does not show. */
function shownOf(record: Fragment, name: string, shown: Uint8Array | null): Fragment {
  return shown === null ? record : sql`shown(${record}, ${new Fragment(name)}, ${shown})`;
}

// --- samples of one series -------------------------------------------------------------------------

/**
 * The samples of one series that `place` tells, a condition on the parameters which the computation binds.
 * These come last, so that those of WHERE keep their numbers.
 */
function samplesStatement(
  condition: PlanCondition | null,
  place: (first: string, second: string) => string,
): Statement {
  const where = condition === null ? new Fragment('1') : translateCondition(condition, 'top');
  const [series = '', first = '', second = ''] = ownParams(where);
  return {
    sql: `SELECT s.rowid, s.timestamp, s.value, s.histogram_data FROM ${sampleTables(condition)} WHERE ${where.sql} AND s.series_id = ${series} AND ${place(first, second)} ORDER BY s.timestamp, s.rowid`,
    params: [...where.params, null, null, null],
  };
}

const BETWEEN = (before: string, last: string) => `s.timestamp > ${before} AND s.timestamp <= ${last}`;
const AT = (time: string, before: string) => `s.timestamp = ${time} AND s.rowid > ${before}`;

/** The newest samples of one series; WHERE is asked of them, not of all (QL-91). */
function latestStatement(condition: PlanCondition | null): Statement {
  const where = condition === null ? new Fragment('1') : translateCondition(condition, 'top');
  const [series, last, count] = ownParams(where);
  return {
    sql: `SELECT s.rowid, s.timestamp, s.value, s.histogram_data, (${where.sql}) IS TRUE FROM ${sampleTables(condition)} WHERE s.series_id = ${series} AND s.timestamp <= ${last} ORDER BY s.timestamp DESC, s.rowid DESC LIMIT ${count}`,
    params: [...where.params, null, null, null],
  };
}

/** The series is joined only where a condition may ask for it. */
function sampleTables(condition: PlanCondition | null): string {
  return condition === null ? 'samples AS s' : 'samples AS s JOIN series AS r ON r.id = s.series_id';
}

function ownParams(where: Fragment): string[] {
  return [1, 2, 3].map((number) => `?${where.params.length + number}`);
}

/** The field of a stored sample or its series. */
export function storedField(field: Pick<FieldRef, 'name'>): MetricField {
  return metricField(field, STORED, 'r.labels');
}
