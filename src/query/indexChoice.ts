/**
 * What a worker needs to decide, in each database, by which index the rows of an EVENTS query are found: the
 * SELECT in several spellings, and what to count before one is taken (`src/indexes/choice.ts` decides).
 *
 * SQLite knows the schema and no figures: to it each value of an indexed field has ten rows, and each time
 * range a 64th of the table. An index on a field that holds one value in most rows would make queries slower.
 */
import { isDeepStrictEqual } from 'node:util';
import type { IndexChoice, IndexSeek, Statement } from './job.js';
import type { EventsPlan, PlanCondition, PlanPredicate } from './plan.js';
import { Fragment, joinBalanced, opaque, sql } from './sqlFragment.js';
import { translatePattern, translatePredicate } from './sqlPredicate.js';

/** Conditions with more terms are left to SQLite: too many spellings. */
const MAX_TERMS = 32;
/** Searches in indexes that one term may stand for. */
const MAX_PARTS = 8;

/** One term of the conditions that all results fulfil. */
interface Term {
  readonly sql: Fragment;
  /** About the time of the record alone. */
  readonly isTime: boolean;
  readonly isOr: boolean;
  /** How an index would find its rows; null = in no way. */
  readonly parts: IndexSeek['parts'] | null;
}

export interface ChoiceOptions {
  /** The time range, as the SELECT has it, and on the column itself. */
  readonly bounds: (time: string) => readonly Fragment[];
  /** As the SELECT names it. */
  readonly time: string;
  readonly translate: (condition: PlanCondition) => Fragment;
  /** The whole SELECT under a condition; `time` is the column as its order names it. */
  readonly select: (where: Fragment, time: string) => Fragment;
}

/** Null: no index can help, or there is nothing to decide. */
export function indexChoice(plan: EventsPlan, options: ChoiceOptions): IndexChoice | null {
  const terms = termsOf(plan, options.translate);
  const seekable = distinct(terms.filter(({ parts }) => parts !== null));
  if (seekable.length === 0 || terms.length > MAX_TERMS) return null;
  const { bounds, select } = options;
  const timely = terms.filter(({ isTime }) => isTime).map((term) => term.sql);
  const inRange = joinBalanced([...bounds('timestamp'), ...timely], 'AND');
  const found = (time: string, isOpen: (term: Term) => boolean) => {
    const spelt = terms.map((term) => (isOpen(term) ? term.sql : opaque(term.sql)));
    return select(joinBalanced([...bounds(time), ...spelt], 'AND'), time).sql;
  };
  return {
    seeks: seekable.map((open) => ({
      parts: open.parts ?? [],
      // What stands behind a + is answered by no index. Searches for an OR are SQLite's to put together.
      sql: open.isOr ? null : found('+timestamp', (term) => term === open),
    })),
    time: statement(inRange),
    byTime: found(options.time, ({ isTime }) => isTime),
    early: earlyOf(plan, inRange, terms),
  };
}

/** Terms that search for the same are one to an index. */
function distinct(terms: readonly Term[]): readonly Term[] {
  return terms.filter(
    ({ parts }, index) => !terms.slice(0, index).some((other) => isDeepStrictEqual(other.parts, parts)),
  );
}

/** A search by time ends early where it meets enough rows soon. */
function earlyOf(plan: EventsPlan, inRange: Fragment, terms: readonly Term[]): IndexChoice['early'] {
  const [first] = plan.sort;
  if (plan.take === null || (first !== undefined && first.field.name !== 'timestamp')) return null;
  const order = new Fragment(first === undefined || first.descending ? 'DESC' : 'ASC');
  const all = joinBalanced(
    terms.map((term) => term.sql),
    'AND',
  );
  const hits = sql`SELECT ${opaque(all)} AS hit FROM events WHERE ${inRange} ORDER BY timestamp ${order}, id DESC`;
  return { rows: plan.skip + plan.take, hits: statement(hits) };
}

function termsOf(plan: EventsPlan, translate: ChoiceOptions['translate']): Term[] {
  const terms: Term[] = [];
  const pattern = plan.pattern === null ? null : translatePattern(plan.pattern);
  if (pattern !== null) {
    const parts = plan.pattern?.kind === 'glob' && plan.pattern.text.startsWith('*') ? null : [pattern];
    terms.push({
      sql: pattern,
      isTime: false,
      isOr: false,
      parts: parts === null ? null : parts.map(ofType),
    });
  }
  const visit = (condition: PlanCondition): void => {
    if (condition.kind === 'and') condition.terms.forEach(visit);
    else {
      const parts = partsOf(condition);
      terms.push({
        sql: translate(condition),
        isTime: isOfTime(condition),
        isOr: condition.kind === 'or',
        parts: parts !== null && parts.length <= MAX_PARTS ? parts : null,
      });
    }
  };
  if (plan.where !== null) visit(plan.where);
  return terms;
}

function ofType(condition: Fragment): IndexSeek['parts'][number] {
  return { field: 'event_type', condition: statement(condition) };
}

function isOfTime(condition: PlanCondition): boolean {
  if (condition.kind === 'ranges') return true;
  return condition.kind !== 'and' && condition.kind !== 'or' && condition.field.name === 'timestamp';
}

/** The searches that together find all rows of a condition; null when there are none. */
function partsOf(condition: PlanCondition): IndexSeek['parts'] | null {
  switch (condition.kind) {
    case 'or': {
      // SQLite searches for an OR in indexes on columns, not in those on expressions.
      const parts = condition.terms.map((term) => (hasPayload(term) ? null : partsOf(term)));
      return parts.every((each) => each !== null) ? parts.flat() : null;
    }
    case 'and':
    case 'ranges':
      return null;
    default: {
      const { field } = condition;
      if (field.kind === 'expression' || field.name === 'timestamp' || field.name === 'sequence') return null;
      if (!isSearch(condition)) return null;
      // What NULL columns take from the payload are the few rows of eventd itself.
      const own =
        field.kind === 'column' ? { ...condition, field: { ...field, nullable: false } } : condition;
      return [{ field: field.name, condition: statement(translatePredicate(own)) }];
    }
  }
}

function hasPayload(condition: PlanCondition): boolean {
  return 'field' in condition && condition.field.kind === 'payload';
}

function isSearch(predicate: PlanPredicate): boolean {
  switch (predicate.kind) {
    case 'compare':
      return predicate.operator !== '!=';
    case 'match':
      return predicate.operator === 'STARTS_WITH' && predicate.value !== '';
    case 'in':
      return !predicate.negated;
    case 'null':
      return false;
  }
}

function statement({ sql: text, params }: Fragment): Statement {
  return { sql: text, params };
}
