/**
 * Translates an aggregation into a job: the rows of every database are grouped where they are read, the
 * partial groups meet in a table of the scratch database, whose rows are the result (QL-64..69, QX-23,
 * QX-24).
 *
 * Keys are BLOBs (native/group_key.h): their bytes are equal where the language takes values for equal,
 * and sort as it sorts (QL-66, QL-71).
 */

import type { GroupOptions } from '../native/addon.js';
import type { Aggregation, CommonClauses, FieldRef } from './ast.js';
import type { ChosenStatement, CopyStage, QueryJob, StoreName } from './job.js';
import { aggregateKeys } from './parser.js';
import type { FieldResolver, PlanField } from './plan.js';
import { countRows, type IndexedRows, weighRows } from './sqlCount.js';
import { Fragment, sql } from './sqlFragment.js';
import { payloadArguments } from './sqlPredicate.js';

/** The rows to aggregate. */
export interface AggregateSource {
  readonly store: StoreName;
  /** The table of each database. */
  readonly table: string;
  readonly where: Fragment;
  /** How indexes may find the rows of the SELECT. */
  readonly choice?: (select: (where: Fragment) => Fragment) => Pick<ChosenStatement, 'choice'>;
  readonly resolve: FieldResolver;
  /** The same rows as an index has them; null where one is not enough. */
  readonly indexed: IndexedRows | null;
}

type Clauses = Pick<CommonClauses, 'select' | 'sort' | 'skip' | 'take'>;

/** The functions, with how their values are made, joined, sorted and shown. */
type AggregateName = 'COUNT' | 'SUM' | 'AVG' | 'MIN' | 'MAX';

interface AggregateSql {
  /** What the rows of a group become. */
  readonly partial: GroupOptions['function'];
  /** Two partial values of one group as one. */
  readonly join: string;
  /** What sorting goes by. */
  readonly order: string;
  /** The argument of record_map. */
  readonly shown: string;
  /** The partial value of no rows at all (QL-69). */
  readonly nothing: string;
}

const AGGREGATES: Readonly<Record<AggregateName, AggregateSql>> = {
  COUNT: { partial: 'count', join: 'v + excluded.v', order: 'v', shown: 'v', nothing: '0' },
  SUM: sumSql('sum_value(v)'),
  AVG: sumSql('avg_value(v)'),
  MIN: extremeSql('min'),
  MAX: extremeSql('max'),
};

function sumSql(value: string): AggregateSql {
  return {
    partial: 'sum',
    join: 'sum_join(v, excluded.v)',
    order: value,
    shown: value,
    nothing: 'NULL',
  };
}

/** Number keys compare as numbers, and keep whether they are integers or floats (QL-69). */
function extremeSql(name: 'min' | 'max'): AggregateSql {
  return {
    partial: name,
    join: `coalesce(${name}(v, excluded.v), v, excluded.v)`,
    order: 'key_base(v)',
    shown: 'wire_key(v, 0, 0)',
    nothing: 'NULL',
  };
}

/** How wire_key shows a group key. */
const SHAPES = { plain: 0, guid: 1, boolean: 2 } as const;

interface Group {
  readonly name: string;
  readonly field: PlanField;
  readonly index: number;
}

/** The job of a query with an aggregation, which the parser has found right (QL-65, QL-68). */
export function aggregateJob(source: AggregateSource, aggregation: Aggregation, clauses: Clauses): QueryJob {
  const { groups: fields, key } = aggregateKeys(aggregation);
  const groups = fields.map((field, index) => ({
    name: field.name,
    field: source.resolve(field),
    index,
  }));
  const called = functionOf(aggregation);
  const aggregate = called === null ? null : AGGREGATES[called.name];
  const argument = called?.argument == null ? null : numberExpression(source.resolve(called.argument));
  const weighed = weighedGroups(source, groups, aggregate);
  // Values that stand for themselves are counted as well, to tell which are left.
  const kept = weighed === null ? aggregate : AGGREGATES.COUNT;
  return {
    stages: [
      {
        kind: 'copy',
        ...(weighed ?? partialGroups(source, groups, aggregate, argument)),
        into: { create: createTable(groups, kept), insert: upsert(groups, kept) },
      },
    ],
    read: {
      store: 'scratch',
      ...finalRead(groups, aggregate, key, aggregation, clauses, weighed !== null),
      sort: [],
      skip: clauses.skip ?? 0n,
      take: clauses.take,
      fields: null,
      encoded: true,
    },
  };
}

function functionOf(
  aggregation: Aggregation,
): { readonly name: AggregateName; readonly argument: FieldRef | null } | null {
  switch (aggregation.kind) {
    case 'distinct':
      return null;
    case 'countBy':
    case 'top':
      return { name: 'COUNT', argument: null };
    case 'group':
    case 'bare': {
      const { function: called } = aggregation;
      return { name: called.kind, argument: called.kind === 'COUNT' ? null : called.argument };
    }
  }
}

// --- in each database ----------------------------------------------------------------------------

/** What an index knows of the rows of each value; null where that is not enough. */
function weighedGroups(
  { store, table, indexed }: AggregateSource,
  groups: readonly Group[],
  aggregate: AggregateSql | null,
): Pick<CopyStage, 'from' | 'group'> | null {
  const [group] = groups;
  if (indexed === null || groups.length !== 1 || group?.field.name !== indexed.identifier) return null;
  if (aggregate !== null && aggregate !== AGGREGATES.COUNT) return null;
  const rows = weighRows(table, indexed);
  if (rows === null) return null;
  const { sql: text, params } = rows;
  return { from: { store, sql: text, params }, group: { keys: [{ encoded: false }], function: 'total' } };
}

/** The rows to group: their keys, then the argument. SQLite counts all rows faster than we could. */
function partialGroups(
  { store, table, where, choice, indexed }: AggregateSource,
  groups: readonly Group[],
  aggregate: AggregateSql | null,
  argument: string | null,
): Pick<CopyStage, 'from' | 'group'> {
  const countsAll = groups.length === 0 && argument === null;
  const counted = countsAll && indexed !== null ? countRows(table, indexed) : null;
  if (counted !== null) return { from: { store, sql: counted.sql, params: counted.params } };
  const columns = groups.map(({ field }) => groupExpression(field));
  if (argument !== null) columns.push(argument);
  if (countsAll) columns.push('COUNT(*)');
  const select = (condition: Fragment) =>
    sql`SELECT ${new Fragment(columns.join(', '))} FROM ${new Fragment(table)} WHERE ${condition}`;
  const { sql: text, params } = select(where);
  const from = { store, sql: text, params, ...choice?.(select) };
  if (countsAll) return { from };
  const keys = groups.map(({ field }) => ({ encoded: readsPayload(field) }));
  return { from, group: { keys, function: aggregate?.partial ?? 'distinct' } };
}

function readsPayload(field: PlanField): boolean {
  return field.kind === 'payload' || (field.kind === 'column' && field.nullable);
}

/** A group field: the column itself, or the key of what may come from the payload (QL-45). */
function groupExpression(field: PlanField): string {
  switch (field.kind) {
    case 'payload':
      return `msgpack_key(${payloadArguments(field.path)})`;
    case 'expression':
      return field.sql;
    case 'column': {
      const { name, nullable } = field;
      if (!nullable) return name;
      return `CASE WHEN ${name} IS NULL THEN msgpack_key(${payloadArguments([name])}) ELSE value_key(${name}) END`;
    }
  }
}

/** The argument of a function as a number or the key of one; NULL where it is none (QL-64, QL-69). */
function numberExpression(field: PlanField): string {
  if (field.kind === 'payload') return `msgpack_number(${payloadArguments(field.path)})`;
  if (field.type === 'text' || field.type === 'guid') return 'NULL';
  if (field.kind === 'expression') return field.sql;
  const { name, nullable } = field;
  if (!nullable) return name;
  return `CASE WHEN ${name} IS NULL THEN msgpack_number(${payloadArguments([name])}) ELSE ${name} END`;
}

// --- in the scratch database ---------------------------------------------------------------------

/** `kN` is a key without its type, `tN` its type: where 1 and 1.0 meet, the integer is shown. */
function createTable(groups: readonly Group[], aggregate: AggregateSql | null): string {
  if (groups.length === 0) {
    const nothing = aggregate?.nothing ?? 'NULL';
    return `CREATE TABLE groups (id INTEGER PRIMARY KEY, v); INSERT INTO groups VALUES (0, ${nothing})`;
  }
  const columns = groups.flatMap(({ index }) => [`k${index} NOT NULL`, `t${index}`]);
  if (aggregate !== null) columns.push('v');
  const key = groups.map(({ index }) => `k${index}`).join(', ');
  return `CREATE TABLE groups (${columns.join(', ')}, PRIMARY KEY (${key})) WITHOUT ROWID`;
}

function upsert(groups: readonly Group[], aggregate: AggregateSql | null): string {
  const places = groups.length * 2 + (aggregate === null ? 0 : 1);
  const values = Array.from({ length: places }, () => '?');
  const updates = [
    ...groups.map(({ index }) => `t${index} = min(t${index}, excluded.t${index})`),
    ...(aggregate === null ? [] : [`v = ${aggregate.join}`]),
  ];
  if (groups.length === 0) values.unshift('0');
  return `INSERT INTO groups VALUES (${values.join(', ')}) ON CONFLICT DO UPDATE SET ${updates.join(', ')}`;
}

function finalRead(
  groups: readonly Group[],
  aggregate: AggregateSql | null,
  key: string | null,
  aggregation: Aggregation,
  { select, sort }: Clauses,
  isWeighed: boolean,
): Fragment {
  const shown = new Map(groups.map((group) => [group.name, shownKey(group)]));
  if (aggregate !== null && key !== null) shown.set(key, aggregate.shown);
  const names = select?.map(({ name }) => name) ?? [...shown.keys()];
  const record = names.map((name) => `'${name.replaceAll("'", "''")}', ${shown.get(name) ?? 'NULL'}`);
  const keysAscending = groups.map(({ index }) => `k${index}`);
  const byDefault = aggregate === null ? keysAscending : [`${aggregate.order} DESC`, ...keysAscending];
  const bySort = sort.map(({ field, descending }) => {
    const group = groups.find(({ name }) => name === field.name);
    const expression = group === undefined ? (aggregate?.order ?? 'NULL') : `k${group.index}`;
    return `${expression} ${descending ? 'DESC' : 'ASC'}`;
  });
  const order = sort.length === 0 ? byDefault : [...bySort, ...keysAscending];
  const top =
    aggregation.kind === 'top'
      ? sql` ORDER BY ${new Fragment(byDefault.join(', '))} LIMIT ${aggregation.limit}`
      : new Fragment('');
  const ordered = groups.length === 0 ? '' : ` ORDER BY ${order.join(', ')}`;
  const left = new Fragment(isWeighed ? ' WHERE v > 0' : '');
  return sql`SELECT record_map(${new Fragment(record.join(', '))}) FROM (SELECT * FROM groups${left}${top})${new Fragment(ordered)}`;
}

function shownKey({ field, index }: Group): string {
  return `wire_key(k${index}, t${index}, ${shapeOf(field)})`;
}

function shapeOf(field: PlanField): number {
  if (field.kind === 'payload') return SHAPES.plain;
  if (field.type === 'guid') return SHAPES.guid;
  return field.kind === 'expression' && field.isBoolean === true ? SHAPES.boolean : SHAPES.plain;
}
