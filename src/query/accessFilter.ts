/**
 * Turns what a caller may see into restrictions of a plan, before anything is read (QX-5, QX-6, ACL-32..39,
 * ACL-52). Built from predicates the planner knows, so aggregates, paging and streams see visible records
 * only, and whoever translates or evaluates conditions needs to learn nothing new.
 */
import type { AccessSession, CountName, PresentFields } from '../access/accessSession.js';
import { type DataType, FIXED_FIELDS, type FieldPath, fieldName, isTooDeep } from '../access/fieldLists.js';
import type { Visibility } from '../access/visibility.js';
import type { FieldRef, Query } from './ast.js';
import { QueryError } from './errors.js';
import { foldAscii } from './nameMatch.js';
import type { PlanCondition, PlanField } from './plan.js';
import { impliedFields, revealingFields } from './queryFields.js';

/** What the records of one identifier show. */
export interface ShownFields {
  /** Null = all fields, whatever they are. */
  readonly granted: readonly string[] | null;
}

const SHOWS_EVERYTHING: ShownFields = { granted: null };

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
  /** Those of these identifiers that have records in the time range: no others can make a refusal (ACL-34). */
  readonly occurring: (names: readonly string[]) => Promise<readonly string[]>;
  /** Refuses the query by throwing when the caller may see too much to decide about. */
  readonly count?: CountName | undefined;
}

/** Fields that a query looks at, whatever the identifier, as often as it does. */
export function usedFields(
  query: Exclude<Query, { mode: 'INDEX' }>,
  where: PlanCondition | null,
): readonly FieldPath[] {
  const revealing = revealingFields(query).map(({ path }) => path);
  return [...conditionFields(where), ...impliedFields(query), ...revealing];
}

/**
 * Decides what a query may read and use, with one check per identifier (and set of fields).
 *
 * @param where the planned WHERE; its fields are decided as well
 * @param known what was decided about other identifiers, or about fewer fields of them, and still holds:
 * it becomes part of the answer without being asked again
 * @throws QueryError class X, prefix `access denied`, when the query groups, sorts or aggregates by a
 * field that something in its result denies. The text names the field the client wrote and nothing else.
 */
export async function restrictQuery(
  session: AccessSession,
  query: Exclude<Query, { mode: 'INDEX' }>,
  data: RestrictedData,
  where: PlanCondition | null,
  known: QueryAccess | null = null,
): Promise<QueryAccess> {
  const used = usedFields(query, where);
  const seen = await session.readable(data.type, data.present, used, data.count);
  const leftOut = await denying(seen, revealingFields(query), data);
  const present = new Map(known?.present);
  const readable = new Map(known?.readable);
  for (const [name, fields] of data.present) {
    present.set(name, fields);
    const visibility = leftOut.has(name) ? undefined : seen.get(name);
    if (visibility === undefined) readable.delete(name);
    else readable.set(name, visibility);
  }
  return new QueryAccess(data, { implied: impliedFields(query), used }, present, readable);
}

/**
 * Identifiers that deny a field by which the query reveals values, though they show something. They are
 * left out: none of them has records in the time range.
 *
 * @throws QueryError when one has (ACL-33, QX-6)
 */
async function denying(
  readable: ReadonlyMap<string, Visibility>,
  revealing: readonly FieldRef[],
  data: RestrictedData,
): Promise<ReadonlySet<string>> {
  const denies = (seen: Visibility | undefined, { path }: FieldRef): boolean =>
    seen?.mayShow(fieldName(path)) !== true;
  const names = [...readable].filter(([, seen]) => revealing.some((field) => denies(seen, field)));
  const there = names.length === 0 ? [] : await data.occurring(names.map(([name]) => name));
  for (const field of revealing) {
    if (!isTooDeep(field.path) && !there.some((name) => denies(readable.get(name), field))) continue;
    throw new QueryError(
      'X',
      'access denied',
      `the result cannot be grouped, sorted or aggregated by ${field.name}`,
    );
  }
  return new Set(names.map(([name]) => name));
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
  count?: CountName,
): Promise<readonly string[]> {
  const readable = await session.readable(type, present, needed, count);
  const usable = [...readable].filter(([, seen]) => needed.every((path) => seen.mayShow(fieldName(path))));
  return [...withoutHiddenTwins(new Map(usable), present.keys()).keys()];
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
  for (const name of present) if (!readable.has(name)) hidden.add(foldAscii(name));
  if (hidden.size === 0) return readable;
  return new Map([...readable].filter(([name]) => !hidden.has(foldAscii(name))));
}

/** Fields that a query looks at, whatever the identifier. */
interface QueryFields {
  /** What it tests outside WHERE. */
  readonly implied: readonly FieldPath[];
  /** All of them: they are decided about besides the fields an identifier has. */
  readonly used: readonly FieldPath[];
}

/** The restrictions of one query. Nothing in it changes. A stream keeps it for as long as it runs. */
export class QueryAccess {
  /** All identifiers that were decided about, with the fields they have. */
  readonly present: PresentFields;
  /** Those with something to see, names that SQL cannot tell from hidden ones included. */
  readonly readable: ReadonlyMap<string, Visibility>;
  readonly #data: Pick<RestrictedData, 'type' | 'identifier' | 'resolve'>;
  readonly #query: QueryFields;
  /** Those that may be read. */
  readonly #visible: ReadonlyMap<string, Visibility>;
  readonly #granting = new Map<string, readonly string[] | null>();

  constructor(
    data: Pick<RestrictedData, 'type' | 'identifier' | 'resolve'>,
    query: QueryFields,
    present: PresentFields,
    readable: ReadonlyMap<string, Visibility>,
  ) {
    this.#data = data;
    this.#query = query;
    this.present = present;
    this.readable = readable;
    this.#visible = withoutHiddenTwins(readable, present.keys());
  }

  /** Identifiers that may be read, with what they show, in the order they were given. No others may be read. */
  get shown(): ReadonlyMap<string, ShownFields> {
    return new Map([...this.#visible].map(([name, seen]) => [name, this.#shownBy(name, seen)]));
  }

  #shownBy(name: string, seen: Visibility): ShownFields {
    if (seen.everything) return SHOWS_EVERYTHING;
    const fields = [...FIXED_FIELDS[this.#data.type], ...this.#fieldsOf(name).map(fieldName)];
    return { granted: [...new Set(fields)].filter((field) => seen.mayShow(field)) };
  }

  /**
   * A WHERE condition as this caller may have it: only records with something to see, and a field is
   * NULL where it is denied (ACL-37).
   */
  restrict(where: PlanCondition | null): PlanCondition {
    const tested = this.#query.implied.flatMap((path): PlanCondition[] => {
      const granting = this.#namesGranting(path);
      return granting === null ? [] : [this.#isOneOf(granting)];
    });
    const rewritten = where === null ? [] : [this.#rewrite(where)];
    return joined('and', [this.#hasSomething(), ...tested, ...rewritten]);
  }

  /** Where it is denied a field is NULL: no predicate holds but IS NULL (QL-31). */
  #rewrite(condition: PlanCondition): PlanCondition {
    if (condition.kind === 'and' || condition.kind === 'or')
      return { kind: condition.kind, terms: condition.terms.map((term) => this.#rewrite(term)) };
    const granting = this.#namesGranting(pathOf(fieldOf(condition)));
    if (granting === null) return condition;
    if (condition.kind === 'null' && !condition.negated)
      return { kind: 'or', terms: [condition, this.#isOneOf(granting, true)] };
    return { kind: 'and', terms: [this.#isOneOf(granting), condition] };
  }

  /**
   * Records with at least one field to see (ACL-30). A fixed field is always there; where none of them is
   * granted, a record must have one of the others that are.
   */
  #hasSomething(): PlanCondition {
    const fixed = FIXED_FIELDS[this.#data.type];
    const always: string[] = [];
    const sometimes: PlanCondition[] = [];
    for (const [name, seen] of this.#visible) {
      if (seen.everything || fixed.some((field) => seen.mayShow(field))) always.push(name);
      else sometimes.push(...this.#hasGranted(name, seen));
    }
    const isAlways = always.length > 0 || sometimes.length === 0 ? [this.#isOneOf(always)] : [];
    return joined('or', [...isAlways, ...sometimes]);
  }

  /** Records of one identifier with a granted field besides the fixed ones; none if it has no such field. */
  #hasGranted(name: string, seen: Visibility): readonly PlanCondition[] {
    const granted = this.#fieldsOf(name).filter((path) => seen.mayShow(fieldName(path)));
    if (granted.length === 0) return [];
    const has = granted.map((path): PlanCondition => {
      const field = this.#data.resolve({ name: fieldName(path), path });
      return { kind: 'null', field, negated: true };
    });
    return [{ kind: 'and', terms: [this.#isOneOf([name]), { kind: 'or', terms: has }] }];
  }

  /** Identifiers that grant a field; null = all that may be read do. */
  #namesGranting(path: FieldPath): readonly string[] | null {
    const field = fieldName(path);
    let granting = this.#granting.get(field);
    if (granting === undefined) {
      const denies = [...this.#visible].filter(([, seen]) => !seen.mayShow(field));
      const denying = new Set(denies.map(([name]) => foldAscii(name)));
      const names = [...this.#visible.keys()];
      granting = denying.size === 0 ? null : names.filter((name) => !denying.has(foldAscii(name)));
      this.#granting.set(field, granting);
    }
    return granting;
  }

  /** Those that were decided about. */
  #fieldsOf(name: string): readonly FieldPath[] {
    return [...(this.present.get(name) ?? []), ...this.#query.used];
  }

  #isOneOf(names: readonly string[], negated = false): PlanCondition {
    const field = this.#data.identifier;
    return names.length === 0 ? isNever(field, negated) : { kind: 'in', field, negated, values: names };
  }
}

/** Without a frame where there is but one term. */
function joined(kind: 'and' | 'or', terms: readonly PlanCondition[]): PlanCondition {
  const [only, ...more] = terms;
  return only !== undefined && more.length === 0 ? only : { kind, terms };
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
