/** Translates a planned EVENTS query into the SELECT that one shard runs (QX-10). */
import type { CursorField } from '../native/addon.js';
import { EVENT_COLUMNS } from '../stores/eventColumns.js';
import { READS_EVERYTHING, type ReadAccess } from './accessFilter.js';
import type { CommonClauses, EventsQuery } from './ast.js';
import { indexChoice } from './indexChoice.js';
import { plainJob, type QueryJob, type StoreRead } from './job.js';
import { type EventsPlan, type PlanCondition, type PlanField, planField } from './plan.js';
import { aggregateJob } from './sqlAggregate.js';
import { type IndexedRows, looksOnlyAt } from './sqlCount.js';
import { Fragment, joinBalanced, opaque, sql } from './sqlFragment.js';
import { fieldExpression, translatePattern, translatePredicate } from './sqlPredicate.js';
import { inRanges, scannedTime, timeBounds } from './timeBounds.js';

/** The read of a store's databases. */
export type ShardQuery = StoreRead;

const MAX_LIMIT = 2n ** 63n - 1n;

/**
 * The query of one shard. Its rows are sorted by the merge keys, then rowid descending; with TAKE it
 * yields at most SKIP + TAKE of them (QX-23). The merge breaks ties by the order of its parts, which
 * must be file name ascending (QL-71).
 */
export function translateEvents(plan: EventsPlan, shown: Uint8Array | null = null): ShardQuery {
  const keys = sortKeys(plan);
  const others = [...EVENT_COLUMNS, 'payload'];
  const order = [...keyOrder(keys), 'id DESC'].join(', ');
  const select = (where: Fragment, time = 'timestamp') =>
    sql`SELECT ${new Fragment([...keyColumns(keys, time), ...others].join(', '))} FROM events WHERE ${where} ORDER BY ${new Fragment(order)}${limit(plan)}`;
  const statement = select(eventConditions(plan));
  return {
    sql: statement.sql,
    params: statement.params,
    ...choiceOf(plan, 'timestamp', select),
    sort: keys.map(({ descending }) => ({ descending })),
    skip: plan.skip,
    take: plan.take,
    fields: plan.select === null ? null : plan.select.map(cursorField),
    ...(shown === null ? {} : { shown }),
    encoded: false,
    store: 'events',
  };
}

/** The job of an EVENTS query, which a plan is made of. */
export function eventsJob(
  query: Pick<EventsQuery, 'aggregation' | keyof CommonClauses>,
  planned: EventsPlan,
  access: ReadAccess = READS_EVERYTHING,
): QueryJob {
  const plan = { ...planned, where: access.restrict(planned.where) };
  if (query.aggregation === null) return plainJob(translateEvents(plan, access.shown));
  const time = scannedTime(query, plan.pattern !== null || plan.where !== null);
  const where = eventConditions(plan, time);
  const choice = (select: (where: Fragment) => Fragment) =>
    choiceOf({ ...plan, skip: 0n, take: null }, time, select);
  return aggregateJob(
    {
      store: 'events',
      table: 'events',
      where,
      resolve: planField,
      choice,
      indexed: indexedEvents(query, plan),
    },
    query.aggregation,
    query,
  );
}

function indexedEvents(
  { since, until }: Pick<EventsQuery, 'since' | 'until'>,
  plan: EventsPlan,
): IndexedRows | null {
  const identifier = 'event_type';
  if (!looksOnlyAt(plan.where, identifier)) return null;
  return {
    identifier,
    hasIndex: false,
    where: untimedConditions(plan),
    range: plan,
    isCut: since !== null || until !== null,
  };
}

function choiceOf(
  plan: EventsPlan,
  time: string,
  select: (where: Fragment) => Fragment,
): Pick<ShardQuery, 'choice'> {
  const choice = indexChoice(plan, {
    bounds: (column) => timeBounds(column, plan, plan.where),
    time,
    translate: (condition) => translateCondition(condition, 'top'),
    select,
  });
  return choice === null ? {} : { choice };
}

/** The merge keys as result columns `k0`, `k1`, ...; `time` is the column of the time as they name it. */
export function keyColumns(keys: EventsPlan['sort'], time = 'timestamp'): string[] {
  return keys.map(({ field }, index) => {
    const isTime = field.kind === 'column' && field.name === 'timestamp';
    return `${isTime ? time : fieldExpression(field)} AS k${index}`;
  });
}

/** Their order. BINARY, whatever a column is declared as: sorting tells case apart (QL-71). */
export function keyOrder(keys: EventsPlan['sort']): string[] {
  return keys.map((key, index) => `k${index} COLLATE BINARY ${key.descending ? 'DESC' : 'ASC'}`);
}

/** The sort fields, and timestamp descending to break ties (QL-70, QL-71). */
function sortKeys(plan: EventsPlan): EventsPlan['sort'] {
  if (plan.sort.some(({ field }) => field.name === 'timestamp')) return plan.sort;
  const timestamp: PlanField = { kind: 'column', name: 'timestamp', type: 'integer', nullable: false };
  return [...plan.sort, { field: timestamp, descending: true }];
}

/** What a record must fulfil: time range, type pattern, WHERE. @param time the column, as SQL bounds it */
export function eventConditions(plan: EventsPlan, time = 'timestamp'): Fragment {
  return joinBalanced([...timeBounds(time, plan, plan.where), ...untimedConditions(plan)], 'AND');
}

function untimedConditions(plan: EventsPlan): Fragment[] {
  const pattern = plan.pattern === null ? null : translatePattern(plan.pattern);
  return [
    ...(pattern === null ? [] : [pattern]),
    ...(plan.where === null ? [] : [translateCondition(plan.where, 'top')]),
  ];
}

/**
 * How far SQLite's planner may look into a condition. When it answers an OR from several indexes it
 * chains all other open AND terms into one list, which must stay well below its depth limit: so few
 * terms are left open, and none in an OR below another OR.
 */
type Scope = 'top' | 'branch' | 'opaque';

/** AND terms left open for the planner; one term gives up to three comparisons. */
const OPEN_TERMS = 50;

export function translateCondition(condition: PlanCondition, scope: Scope): Fragment {
  switch (condition.kind) {
    case 'and': {
      const terms = condition.terms.map((term) => translateCondition(term, scope));
      if (scope === 'opaque' || terms.length <= OPEN_TERMS) return joinBalanced(terms, 'AND');
      const rest = joinBalanced(terms.slice(OPEN_TERMS), 'AND');
      return joinBalanced([...terms.slice(0, OPEN_TERMS), opaque(rest)], 'AND');
    }
    case 'or': {
      const inner: Scope = scope === 'top' ? 'branch' : 'opaque';
      const terms = condition.terms.map((term) => translateCondition(term, inner));
      const whole = joinBalanced(terms, 'OR');
      return scope === 'branch' ? opaque(whole) : whole;
    }
    case 'ranges':
      return inRanges(fieldExpression(condition.time), condition.index);
    default:
      return translatePredicate(condition);
  }
}

/** As many rows as SKIP and TAKE can need of one database (QX-23). */
export function limit(plan: Pick<EventsPlan, 'skip' | 'take'>): Fragment {
  if (plan.take === null) return new Fragment('');
  const rows = plan.take === 0n ? 0n : plan.skip + plan.take;
  return sql` LIMIT ${rows > MAX_LIMIT ? MAX_LIMIT : rows}`;
}

function cursorField(field: PlanField): CursorField {
  if (field.kind === 'expression') throw new RangeError(`${field.name}: an event has no such field`);
  if (field.kind === 'payload') return { name: field.name, column: -1, path: field.path };
  return { name: field.name, column: EVENT_COLUMNS.indexOf(field.name), path: [field.name] };
}
