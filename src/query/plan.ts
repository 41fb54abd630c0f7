/**
 * Turns a parsed EVENTS query into what is left to do once the clock is read: literals become
 * values, names become columns or payload paths.
 */
import { EVENT_COLUMNS, type EventColumn } from '../stores/eventColumns.js';
import type {
  CommonClauses,
  CompareOperator,
  Condition,
  CrossFilter,
  EventsQuery,
  FieldRef,
  Literal,
  NamePattern,
  StringOperator,
} from './ast.js';
import { MAX_TIME, resolveTime } from './time.js';

/** How a column is stored. Nullable ones fall back to the payload key of the same name (QL-45). */
export const STORAGE: Readonly<
  Record<EventColumn, { readonly type: 'integer' | 'text' | 'guid'; readonly nullable: boolean }>
> = {
  timestamp: { type: 'integer', nullable: false },
  cpu_id: { type: 'integer', nullable: true },
  sequence: { type: 'integer', nullable: true },
  origin_class: { type: 'integer', nullable: true },
  event_type: { type: 'text', nullable: false },
  effective_token_guid: { type: 'guid', nullable: true },
  true_token_guid: { type: 'guid', nullable: true },
  process_guid: { type: 'guid', nullable: true },
  boot_id: { type: 'guid', nullable: false },
};

/** A header column or a payload path (QL-41); in LOGS and METRIC the SQL that gives the field (QL-42, QL-43). */
export type PlanField =
  | {
      readonly kind: 'column';
      readonly name: EventColumn;
      readonly type: 'integer' | 'text' | 'guid';
      readonly nullable: boolean;
    }
  | { readonly kind: 'payload'; readonly name: string; readonly path: readonly string[] }
  | {
      readonly kind: 'expression';
      readonly name: string;
      readonly sql: string;
      readonly type: 'integer' | 'real' | 'text' | 'guid';
      /** Shown as true and false (QL-121). */
      readonly isBoolean?: boolean;
    };

/** Takes in a cross-type filter; returns the index of the stage that makes its time ranges. */
export interface CrossFilterSink {
  add(filter: CrossFilter): number;
}

/** Which field of its mode a name means. */
export type FieldResolver = (field: Pick<FieldRef, 'name' | 'path'>) => PlanField;

/** A number, a string, or the 16 bytes of a GUID; booleans are 1n and 0n (QL-26). */
export type Operand = bigint | number | string | Uint8Array;

export type PlanPredicate =
  | {
      readonly kind: 'compare';
      readonly field: PlanField;
      readonly operator: CompareOperator;
      readonly value: Operand;
    }
  | {
      readonly kind: 'match';
      readonly field: PlanField;
      readonly operator: StringOperator;
      readonly value: string;
    }
  | {
      readonly kind: 'in';
      readonly field: PlanField;
      readonly negated: boolean;
      readonly values: readonly Operand[];
    }
  | { readonly kind: 'null'; readonly field: PlanField; readonly negated: boolean };

export type PlanCondition =
  | { readonly kind: 'and'; readonly terms: readonly PlanCondition[] }
  | { readonly kind: 'or'; readonly terms: readonly PlanCondition[] }
  /** The record's time lies in the ranges that the stage `index` makes of a cross-type filter (QX-4). */
  | { readonly kind: 'ranges'; readonly index: number; readonly time: PlanField }
  | PlanPredicate;

export interface EventsPlan {
  readonly pattern: Pick<NamePattern, 'kind' | 'text'> | null;
  /** Lowest timestamp in ns, inclusive; null = no lower bound. */
  readonly from: bigint | null;
  /** Highest timestamp in ns, inclusive: `now` by default, UNTIL - 1 otherwise (QL-51). */
  readonly to: bigint;
  readonly where: PlanCondition | null;
  /** Null = all header columns and all top-level payload fields (QL-78). */
  readonly select: readonly PlanField[] | null;
  readonly sort: readonly { readonly field: PlanField; readonly descending: boolean }[];
  readonly skip: bigint;
  /** Null = no limit (QL-54). */
  readonly take: bigint | null;
  /** Fields this query counts for in the index policy, each once (QX-41). */
  readonly trackedFields: readonly string[];
}

/** Plans an EVENTS query. `now` (ns) is the one clock reading of the query (QL-12). */
export function planEvents(
  query: EventsQuery,
  now: bigint,
  cross: CrossFilterSink | null = null,
): EventsPlan {
  const where = query.where === null ? null : planCondition(query.where, now, planField, cross);
  return {
    pattern: query.pattern === null ? null : { kind: query.pattern.kind, text: query.pattern.text },
    ...planRange(query, now),
    where,
    select: query.select === null ? null : query.select.map(planField),
    sort: planSort(query, planField),
    skip: query.skip ?? 0n,
    take: query.take,
    trackedFields: trackedFields(query.pattern !== null, where),
  };
}

/**
 * The bounds of a query's time range in ns, both inclusive (QL-50, QL-51). A STREAM has no implicit end
 * (QL-52); the latest values of a METRIC query are those at or before UNTIL (QL-91).
 */
export function planRange(
  query: Pick<CommonClauses, 'since' | 'until'> & { readonly mode?: string; readonly stream?: boolean },
  now: bigint,
): { readonly from: bigint | null; readonly to: bigint } {
  const isLatest = query.mode === 'METRIC' && query.since === null;
  const end = query.stream === true || now > MAX_TIME ? MAX_TIME : now;
  return {
    from: query.since === null ? null : resolveTime(query.since, now),
    to: query.until === null ? end : resolveTime(query.until, now) - (isLatest ? 0n : 1n),
  };
}

/** Resolves a name to its column or payload path (QL-41); `id` and `payload` are no columns. */
export function planField(field: Pick<FieldRef, 'name' | 'path'>): PlanField {
  const column = EVENT_COLUMNS.find((name) => name === field.name);
  if (column === undefined) return { kind: 'payload', name: field.name, path: field.path };
  return { kind: 'column', name: column, ...STORAGE[column] };
}

/** A field sorted by twice counts where it stands first: later it can no longer decide. */
export function planSort(query: Pick<CommonClauses, 'sort'>, resolve: FieldResolver): EventsPlan['sort'] {
  const seen = new Set<string>();
  return query.sort
    .filter(({ field }) => !seen.has(field.name) && seen.add(field.name))
    .map(({ field, descending }) => ({ field: resolve(field), descending }));
}

/** A WHERE condition with its literals and names resolved; `cross` takes in its cross-type filters. */
export function planCondition(
  condition: Condition,
  now: bigint,
  resolve: FieldResolver,
  cross: CrossFilterSink | null = null,
): PlanCondition {
  switch (condition.kind) {
    case 'and':
    case 'or':
      return {
        kind: condition.kind,
        terms: condition.terms.map((term) => planCondition(term, now, resolve, cross)),
      };
    case 'compare':
      return {
        kind: 'compare',
        field: resolve(condition.field),
        operator: condition.operator,
        value: operandOf(condition.value, now),
      };
    case 'match':
      return {
        kind: 'match',
        field: resolve(condition.field),
        operator: condition.operator,
        value: condition.value.value,
      };
    case 'in':
      return {
        kind: 'in',
        field: resolve(condition.field),
        negated: condition.negated,
        values: condition.values.map((value) => operandOf(value, now)),
      };
    case 'null':
      return { kind: 'null', field: resolve(condition.field), negated: condition.negated };
    default:
      if (cross === null) throw new Error('a cross-type filter was planned without its stage');
      return {
        kind: 'ranges',
        index: cross.add(condition),
        time: resolve({ name: 'timestamp', path: ['timestamp'] }),
      };
  }
}

/** The value a literal of a predicate stands for. */
export function operandOf(literal: Literal, now: bigint): Operand {
  switch (literal.kind) {
    case 'time':
      return resolveTime(literal.time, now);
    case 'boolean':
      return literal.value ? 1n : 0n;
    case 'guid':
      return literal.bytes;
    default:
      return literal.value;
  }
}

function trackedFields(hasPattern: boolean, where: PlanCondition | null): readonly string[] {
  const names = new Set<string>(hasPattern ? ['event_type'] : []);
  const visit = (condition: PlanCondition): void => {
    if (condition.kind === 'and' || condition.kind === 'or') condition.terms.forEach(visit);
    else if (condition.kind !== 'ranges') names.add(condition.field.name);
  };
  if (where !== null) visit(where);
  names.delete('timestamp');
  names.delete('sequence');
  return [...names];
}
