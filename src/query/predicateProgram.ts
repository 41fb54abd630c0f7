/**
 * What a stream looks for in newly committed rows, in the form native/predicate.h and native/tail.h
 * evaluate. It is made of everything that filters or shapes records (STR-7): pattern, FROM, ERROR ONLY,
 * CONTAINING, explicit SINCE and UNTIL, WHERE and SELECT.
 */
import { encode } from '../host/msgpack.js';
import { EVENT_COLUMNS } from '../stores/eventColumns.js';
import { READS_EVERYTHING, type ReadAccess } from './accessFilter.js';
import type {
  CompareOperator,
  CrossFilter,
  EventsQuery,
  FieldRef,
  LogsQuery,
  NamePattern,
  StringOperator,
} from './ast.js';
import { crossFilterKey, type ReadableRows } from './crossFilter.js';
import type { Statement } from './job.js';
import {
  type FieldResolver,
  type PlanCondition,
  type PlanPredicate,
  planCondition,
  planField,
  STORAGE,
} from './plan.js';
import { logField as plannedLogField } from './sqlLogs.js';
import type { Pattern } from './survey.js';
import { resolveTime } from './time.js';

/** A stream's part in every batch. Plain data: it crosses to the tail thread as a message. */
export interface TailProgram {
  readonly store: 'events' | 'logs';
  /** For `tailAdd`. */
  readonly spec: Uint8Array;
  /** The terms about other stores; a scan wants the truth of each, by index (STR-21). */
  readonly terms: readonly TailTerm[];
  /** Names whose records were decided about; rows of others wait for it (ACL-50). Null = all are alike. */
  readonly decided: DecidedNames | null;
}

/** A cross-type filter with what its caller may use of the other store; null = everything (ACL-51). */
export interface TailTerm {
  readonly filter: CrossFilter;
  readonly readable: Statement | null;
}

export interface DecidedNames {
  /** What the stream looks for; other names need no decision. */
  readonly patterns: readonly Pattern[];
  /** Event types or origins; where their fields matter, with those that were decided about, as JSON of paths. */
  readonly names: ReadonlyMap<string, ReadonlySet<string> | null>;
}

/** The columns of a log record in the order in which it shows them; the tail knows them by number. */
const LOG_FIELDS = ['timestamp', 'origin', 'is_error', 'message', 'boot_id'];

/** What a stream's caller may read. */
export interface TailAccess extends ReadAccess {
  readonly readable: ReadableRows;
  readonly decided: DecidedNames | null;
}

/** Nothing is hidden. */
export const UNRESTRICTED: TailAccess = { ...READS_EVERYTHING, readable: () => null, decided: null };

type Encoded = bigint | number | string | Uint8Array | null | readonly Encoded[];

const ALL = 0n;
const ANY = 1n;
const TRUTH = 2n;

const OPERATION: Readonly<Record<CompareOperator | StringOperator | 'GLOB', bigint>> = {
  '==': 3n,
  '!=': 4n,
  '>': 5n,
  '>=': 6n,
  '<': 7n,
  '<=': 8n,
  STARTS_WITH: 9n,
  ENDS_WITH: 10n,
  CONTAINS: 11n,
  GLOB: 12n,
};
const IN = 13n;
const NOT_IN = 14n;
const IS_NULL = 15n;
const IS_NOT_NULL = 16n;

/** How a column's NULL is made good, by the payload key of its name (QL-45, QL-46). */
const PLAIN = 0n;
const FALLBACK = 1n;
const GUID_FALLBACK = 2n;

type Name = Pick<FieldRef, 'name' | 'path'>;

/** The program of an EVENTS stream; `now` (ns) is the one clock reading of the query (QL-12). */
export function eventsTail(query: EventsQuery, now: bigint, access: TailAccess = UNRESTRICTED): TailProgram {
  const conditions = new Conditions(now, eventField, planField, access);
  const type = query.pattern === null ? null : conditions.pattern(query.pattern, 'event_type');
  const where = conditions.whole(query, type === null ? [] : [type]);
  const select =
    query.select?.map((field): Encoded => {
      const planned = planField(field);
      if (planned.kind !== 'column') return [field.name, -1n, ...field.path];
      return [field.name, BigInt(EVENT_COLUMNS.indexOf(planned.name)), field.name];
    }) ?? null;
  return conditions.program('events', where, select);
}

/** The same for LOGS. */
export function logsTail(query: LogsQuery, now: bigint, access: TailAccess = UNRESTRICTED): TailProgram {
  const conditions = new Conditions(now, logField, plannedLogField, access);
  const origins = query.from?.map(({ value }) => value) ?? null;
  const where = conditions.whole(query, [
    ...(origins === null ? [] : [[IN, logField(column('origin')), ...origins]]),
    ...(query.errorOnly ? [[OPERATION['=='], logField(column('is_error')), 1n]] : []),
    ...query.containing.map(({ value }) => [OPERATION.CONTAINS, logField(column('message')), value]),
  ]);
  const select = query.select?.map((field): Encoded => [field.name, logColumn(field.name)]) ?? null;
  return conditions.program('logs', where, select);
}

function encoded(spec: Encoded): Uint8Array {
  // Every JavaScript number is a float of the query; all integers, ours included, are bigint.
  return encode(spec, { useBigInt64: true, forceIntegerToFloat: true });
}

const column = (name: string): Name => ({ name, path: [name] });

function eventField(field: Name): Encoded {
  const planned = planField(field);
  if (planned.kind !== 'column') return [-1n, PLAIN, ...field.path];
  const index = BigInt(EVENT_COLUMNS.indexOf(planned.name));
  const { nullable, type } = STORAGE[planned.name];
  if (!nullable) return [index, PLAIN];
  return [index, type === 'guid' ? GUID_FALLBACK : FALLBACK, planned.name];
}

/** The parser has seen to it that there is no other name (QL-42). */
function logColumn(name: string): bigint {
  return BigInt(LOG_FIELDS.indexOf(name));
}

function logField({ name }: Name): Encoded {
  return [logColumn(name), PLAIN];
}

class Conditions {
  readonly #now: bigint;
  readonly #field: (field: Name) => Encoded;
  readonly #resolve: FieldResolver;
  readonly #access: TailAccess;
  /** In the order of their indexes; filters that say the same share a term. */
  readonly #terms = new Map<string, { readonly index: number; readonly filter: CrossFilter }>();

  constructor(now: bigint, field: (field: Name) => Encoded, resolve: FieldResolver, access: TailAccess) {
    this.#now = now;
    this.#field = field;
    this.#resolve = resolve;
    this.#access = access;
  }

  program(store: TailProgram['store'], where: Encoded, select: Encoded): TailProgram {
    const { shown, decided, readable } = this.#access;
    const terms = [...this.#terms.values()].map(({ filter }) => {
      const usable = readable(filter);
      return { filter, readable: usable === null ? null : { sql: usable.sql, params: usable.params } };
    });
    return { store, spec: encoded([where, select, shown]), terms, decided };
  }

  /** Takes in a cross-type filter; returns the index of its truth. */
  add(filter: CrossFilter): number {
    const key = crossFilterKey(filter);
    const known = this.#terms.get(key);
    if (known !== undefined) return known.index;
    const index = this.#terms.size;
    this.#terms.set(key, { index, filter });
    return index;
  }

  /** Time range, `primary` conditions and WHERE as the caller may have it, ANDed; null = every row. */
  whole(query: Pick<EventsQuery, 'since' | 'until' | 'where'>, primary: readonly Encoded[]): Encoded {
    const timestamp = this.#field(column('timestamp'));
    const all: Encoded[] = [...primary];
    if (query.since !== null) all.push([OPERATION['>='], timestamp, resolveTime(query.since, this.#now)]);
    if (query.until !== null) all.push([OPERATION['<'], timestamp, resolveTime(query.until, this.#now)]);
    const planned = query.where === null ? null : planCondition(query.where, this.#now, this.#resolve, this);
    const where = this.#access.restrict(planned);
    if (where !== null) all.push(this.#condition(where));
    return all.length === 0 ? null : [ALL, ...all];
  }

  /** A name pattern (QL-60); null if every name fits. */
  pattern({ kind, text }: NamePattern, name: string): Encoded {
    const field = this.#field(column(name));
    if (kind === 'prefix') return text === '' ? null : [OPERATION.STARTS_WITH, field, text];
    return [kind === 'equal' ? OPERATION['=='] : OPERATION.GLOB, field, text];
  }

  #condition(condition: PlanCondition): Encoded {
    switch (condition.kind) {
      case 'and':
      case 'or':
        return [
          condition.kind === 'and' ? ALL : ANY,
          ...condition.terms.map((term) => this.#condition(term)),
        ];
      case 'ranges':
        return [TRUTH, BigInt(condition.index)];
      default:
        return this.#predicate(condition);
    }
  }

  #predicate(predicate: PlanPredicate): Encoded {
    const { name } = predicate.field;
    const path = predicate.field.kind === 'payload' ? predicate.field.path : [name];
    const field = this.#field({ name, path });
    switch (predicate.kind) {
      case 'null':
        return [predicate.negated ? IS_NOT_NULL : IS_NULL, field];
      case 'match':
      case 'compare':
        return [OPERATION[predicate.operator], field, predicate.value];
      case 'in':
        return [predicate.negated ? NOT_IN : IN, field, ...predicate.values];
    }
  }
}
