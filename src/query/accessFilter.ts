/**
 * Turns what a caller may see into restrictions of a plan, before anything is read (QX-5, QX-6, ACL-32..39,
 * ACL-52). Built from predicates the planner knows, so aggregates, paging and streams see visible records
 * only, and whoever translates or evaluates conditions needs to learn nothing new.
 */
import type { AccessSession, PresentFields, Visibility } from '../access/accessSession.js';
import { type DataType, FIXED_FIELDS, type FieldPath, fieldName } from '../access/fieldLists.js';
import type { Query } from './ast.js';
import { QueryError } from './errors.js';
import type { PlanCondition, PlanField } from './plan.js';
import { impliedFields, revealingFields } from './queryFields.js';

/** What the records of one identifier show. */
export interface ShownFields {
  /** Null = all fields, whatever they are. */
  readonly granted: readonly string[] | null;
}

/** The restrictions of one query. Plain data but for the functions; nothing in it changes. */
export interface QueryAccess {
  /** Readable identifiers with what they show, in the order they were given. No others may be read. */
  readonly shown: ReadonlyMap<string, ShownFields>;
  /**
   * A WHERE condition as this caller may have it: only records with something to see, and a field is
   * NULL where it is denied (ACL-37).
   */
  restrict(where: PlanCondition | null): PlanCondition;
}

/** What the makers of jobs and stream programs take in: a condition, and what records show. */
export interface ReadAccess {
  restrict(where: PlanCondition | null): PlanCondition | null;
  /** For native/shown.h; null = everything. */
  readonly shown: Uint8Array | null;
}

/** Nothing is hidden. */
export const READS_EVERYTHING: ReadAccess = { restrict: (where) => where, shown: null };

/** What a query is restricted over. */
export interface RestrictedData {
  readonly type: DataType;
  /** The field that holds the identifier: event_type, origin, or name. */
  readonly identifier: PlanField;
  /** Identifiers in the store that match the query's selector and time range, with the fields they have. */
  readonly present: PresentFields;
  /** Resolves a field as the plan does, for conditions on fields that must be present. */
  readonly resolve: (field: { readonly name: string; readonly path: readonly string[] }) => PlanField;
}

/**
 * Decides what a query may read and use, with one check per identifier (and set of fields).
 *
 * @param where the planned WHERE; its fields are decided as well
 * @throws QueryError class X, prefix `access denied`, when the query groups, sorts or aggregates by a
 * field that something in its result denies. The text names the field the client wrote and nothing else.
 */
export async function restrictQuery(
  session: AccessSession,
  query: Exclude<Query, { mode: 'INDEX' }>,
  data: RestrictedData,
  where: PlanCondition | null,
): Promise<QueryAccess> {
  const revealing = revealingFields(query);
  const implied = impliedFields(query);
  const used = [...conditionFields(where), ...implied, ...revealing.map(({ path }) => path)];
  const present = withFields(data.present, used);
  for (const field of revealing) {
    if (await session.mayUseField(data.type, field.path, present)) continue;
    throw new QueryError(
      'X',
      'access denied',
      `the result cannot be grouped, sorted or aggregated by ${field.name}`,
    );
  }
  const readable = withoutHiddenTwins(await session.readable(data.type, present), present.keys());
  return accessOf(readable, data, present, implied);
}

/**
 * Identifiers of which the caller may use all of these fields: what the other side of a cross-type
 * condition may look at (ACL-51, ACL-52), and the series an implicit aggregation counts (ACL-39). With no
 * fields, those of which it sees anything.
 */
export async function usableIdentifiers(
  session: AccessSession,
  type: DataType,
  present: PresentFields,
  needed: readonly FieldPath[],
): Promise<readonly string[]> {
  const asked = withFields(present, needed);
  const readable = withoutHiddenTwins(await session.readable(type, asked), asked.keys());
  const usable = [...readable].filter(([, seen]) => needed.every((path) => seen.mayShow(fieldName(path))));
  return [...withoutHiddenTwins(new Map(usable), asked.keys()).keys()];
}

function withFields(present: PresentFields, more: readonly FieldPath[]): PresentFields {
  if (more.length === 0) return present;
  return new Map([...present].map(([name, fields]) => [name, [...fields, ...more]]));
}

/**
 * Names are compared without ASCII case in SQL (QX-13). Patterns are as well, so names that differ in case
 * alone have equal verdicts as a rule; where they do not, none of them counts.
 */
function withoutHiddenTwins(
  readable: ReadonlyMap<string, Visibility>,
  present: Iterable<string>,
): ReadonlyMap<string, Visibility> {
  const hidden = new Set<string>();
  for (const name of present) if (!readable.has(name)) hidden.add(asciiLower(name));
  return new Map([...readable].filter(([name]) => !hidden.has(asciiLower(name))));
}

function asciiLower(name: string): string {
  return name.replace(/[A-Z]+/g, (letters) => letters.toLowerCase());
}

function accessOf(
  readable: ReadonlyMap<string, Visibility>,
  data: RestrictedData,
  present: PresentFields,
  implied: readonly FieldPath[],
): QueryAccess {
  const isOneOf = (names: readonly string[], negated = false): PlanCondition =>
    names.length === 0
      ? isNever(data.identifier, negated)
      : { kind: 'in', field: data.identifier, negated, values: names };
  const names = [...readable.keys()];
  /** Identifiers that grant a field; null = all readable ones do. */
  const granting = (field: string): readonly string[] | null => {
    const denying = new Set(
      [...readable].filter(([, seen]) => !seen.mayShow(field)).map(([name]) => asciiLower(name)),
    );
    return denying.size === 0 ? null : names.filter((name) => !denying.has(asciiLower(name)));
  };
  const cache = new Map<string, readonly string[] | null>();
  const grantingOnce = (field: string): readonly string[] | null => {
    let known = cache.get(field);
    if (known === undefined) {
      known = granting(field);
      cache.set(field, known);
    }
    return known;
  };
  const rewrite = (condition: PlanCondition): PlanCondition => {
    if (condition.kind === 'and' || condition.kind === 'or')
      return { kind: condition.kind, terms: condition.terms.map(rewrite) };
    const granted = grantingOnce(fieldName(pathOf(fieldOf(condition))));
    if (granted === null) return condition;
    // Where it is denied the field is NULL: no predicate holds but IS NULL (QL-31).
    if (condition.kind === 'null' && !condition.negated)
      return { kind: 'or', terms: [condition, isOneOf(granted, true)] };
    return { kind: 'and', terms: [isOneOf(granted), condition] };
  };
  const shown = new Map(
    [...readable].map(([name, seen]) => [name, shownBy(seen, data.type, present.get(name) ?? [])]),
  );
  const tested = implied.flatMap((path): PlanCondition[] => {
    const granted = grantingOnce(fieldName(path));
    return granted === null ? [] : [isOneOf(granted)];
  });
  const visible = [visibleRecords(readable, data, present, isOneOf), ...tested];
  return {
    shown,
    restrict: (where) => allOf(where === null ? visible : [...visible, rewrite(where)]),
  };
}

function allOf(terms: readonly PlanCondition[]): PlanCondition {
  const [only, ...more] = terms;
  return only !== undefined && more.length === 0 ? only : { kind: 'and', terms };
}

function shownBy(seen: Visibility, type: DataType, present: readonly FieldPath[]): ShownFields {
  if (seen.everything) return { granted: null };
  return { granted: allNames(type, present).filter((name) => seen.mayShow(name)) };
}

function allNames(type: DataType, present: readonly FieldPath[]): readonly string[] {
  return [...new Set([...FIXED_FIELDS[type], ...present.map(fieldName)])];
}

/**
 * Records with at least one field to see (ACL-30). A fixed field is always there; where none of them is
 * granted, a record must have one of the others that are.
 */
function visibleRecords(
  readable: ReadonlyMap<string, Visibility>,
  data: RestrictedData,
  present: PresentFields,
  isOneOf: (names: readonly string[]) => PlanCondition,
): PlanCondition {
  const fixed = FIXED_FIELDS[data.type];
  const always: string[] = [];
  const terms: PlanCondition[] = [];
  for (const [name, seen] of readable) {
    if (seen.everything || fixed.some((field) => seen.mayShow(field))) {
      always.push(name);
      continue;
    }
    const granted = (present.get(name) ?? []).filter((path) => seen.mayShow(fieldName(path)));
    const has = granted.map(
      (path): PlanCondition => ({
        kind: 'null',
        field: data.resolve({ name: fieldName(path), path }),
        negated: true,
      }),
    );
    if (has.length > 0) terms.push({ kind: 'and', terms: [isOneOf([name]), { kind: 'or', terms: has }] });
  }
  if (always.length > 0 || terms.length === 0) terms.unshift(isOneOf(always));
  const [only, ...more] = terms;
  return only !== undefined && more.length === 0 ? only : { kind: 'or', terms };
}

/** True for no record, or for every one: an identifier is never NULL. */
function isNever(identifier: PlanField, negated: boolean): PlanCondition {
  return { kind: 'null', field: identifier, negated };
}

function conditionFields(condition: PlanCondition | null): readonly FieldPath[] {
  if (condition === null) return [];
  if (condition.kind === 'and' || condition.kind === 'or') return condition.terms.flatMap(conditionFields);
  return [pathOf(fieldOf(condition))];
}

type Leaf = Exclude<PlanCondition, { kind: 'and' | 'or' }>;

/** A cross-type condition looks at the record's own time. */
function fieldOf(leaf: Leaf): PlanField {
  return leaf.kind === 'ranges' ? leaf.time : leaf.field;
}

function pathOf(field: PlanField): FieldPath {
  return field.kind === 'payload' ? field.path : [field.name];
}
