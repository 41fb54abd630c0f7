/**
 * Questions about which names a store holds, asked before a query whose caller may not see all of them
 * alike (QX-5). Plain data: they cross to the query workers as messages.
 */
import type { PresentFields } from '../access/accessSession.js';
import type { FieldPath } from '../access/fieldLists.js';
import type { Selector } from './ast.js';
import type { Statement, StoreName } from './job.js';
import { translateSelector } from './metricFields.js';
import { Fragment, joinBalanced, sql } from './sqlFragment.js';
import { translatePattern, translatePredicate } from './sqlPredicate.js';

/** A name pattern without its place in the text. */
export interface Pattern {
  readonly kind: 'equal' | 'prefix' | 'glob';
  readonly text: string;
}

/** Timestamps in ns, both ends included; without a beginning it goes back to the oldest record. */
export interface TimeRange {
  readonly from: bigint | null;
  readonly to: bigint;
}

export type Survey =
  /**
   * Event types or origins that a pattern names: at least all that are there now in the range, and maybe
   * others; with `spellings`, those that differ in case alone each.
   */
  | {
      readonly kind: 'names';
      readonly store: 'events' | 'logs';
      readonly pattern: Pattern | null;
      readonly range: TimeRange;
      readonly spellings: boolean;
    }
  /** Payload fields that the records of these types have, at least those in the range. */
  | {
      readonly kind: 'fields';
      readonly store: 'events';
      readonly names: readonly string[];
      readonly range: TimeRange;
    }
  /** The rows of one SELECT over all databases: a name, and maybe the canonical labels of a series. */
  | { readonly kind: 'select'; readonly store: StoreName; readonly statement: Statement };

/** A name that was found, with its fields as far as they were asked for. */
export type Found = readonly (readonly [name: string, fields: readonly FieldPath[]])[];

/** Several answers as one: names once, with all their fields. */
export function merged(found: Iterable<readonly [string, readonly FieldPath[]]>): PresentFields {
  const present = new Map<string, Map<string, FieldPath>>();
  for (const [name, fields] of found) {
    let known = present.get(name);
    if (known === undefined) {
      known = new Map();
      present.set(name, known);
    }
    for (const path of fields) known.set(JSON.stringify(path), path);
  }
  return new Map([...present].map(([name, fields]) => [name, [...fields.values()]]));
}

const FROM = {
  events: { table: 'events', name: 'event_type' },
  logs: { table: 'logs', name: 'origin' },
} as const;

/** Metric names that a pattern names; with `labels`, the label keys of these names' series. */
export function seriesSurvey(pattern: Pattern, labels: readonly string[] | null): Survey {
  const name = new Fragment('r.name');
  const conditions = [
    ...optional(translatePattern(pattern, name)),
    ...(labels === null ? [] : [isIn(labels, name)]),
  ];
  const columns = new Fragment(labels === null ? 'r.name' : 'r.name, r.labels');
  const statement = sql`SELECT DISTINCT ${columns} FROM series AS r WHERE ${joinBalanced(conditions, 'AND')}`;
  return { kind: 'select', store: 'metrics', statement };
}

/** Which of these names have records in a time range, in ns, both ends included (ACL-34). */
export function rangeSurvey(
  store: StoreName,
  names: readonly string[],
  range: TimeRange,
  brackets: readonly Selector[] = [],
): Survey {
  const time = (column: Fragment) => [
    ...(range.from === null ? [] : [sql`${column} >= ${range.from}`]),
    sql`${column} <= ${range.to}`,
  ];
  if (store === 'metrics') {
    const inRange = joinBalanced([sql`s.series_id = r.id`, ...time(new Fragment('s.timestamp'))], 'AND');
    const conditions = [
      isIn(names, new Fragment('r.name')),
      ...brackets.map(translateSelector),
      sql`EXISTS (SELECT 1 FROM samples AS s WHERE ${inRange})`,
    ];
    const statement = sql`SELECT DISTINCT r.name FROM series AS r WHERE ${joinBalanced(conditions, 'AND')}`;
    return { kind: 'select', store, statement };
  }
  const { table, name } = FROM[store];
  const conditions = joinBalanced(
    [isIn(names, new Fragment(name)), ...time(new Fragment('timestamp'))],
    'AND',
  );
  const statement = sql`SELECT DISTINCT ${new Fragment(`${name} COLLATE BINARY`)} FROM ${new Fragment(table)} WHERE ${conditions}`;
  return { kind: 'select', store, statement };
}

/** A condition for names of a list, in any case. */
export function isIn(names: readonly string[], column: Fragment): Fragment {
  if (names.length === 0) return new Fragment('0');
  const field = { kind: 'expression', name: column.sql, sql: column.sql, type: 'text' } as const;
  return translatePredicate({ kind: 'in', field, negated: false, values: names });
}

function optional<Value>(value: Value | null): Value[] {
  return value === null ? [] : [value];
}
