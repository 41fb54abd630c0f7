/**
 * What one query's caller may read, found out before anything is read (QX-5, QX-6, docs/decisions/0024).
 * Where all names of a store are alike to the caller, nobody is asked which there are; else a query worker
 * is, and each name is decided about.
 */
import type { AccessSession, PresentFields } from '../../src/access/accessSession.js';
import type { DataType, FieldPath } from '../../src/access/fieldLists.js';
import { type ReadAccess, restrictQuery, usableIdentifiers } from '../../src/query/accessFilter.js';
import type { CrossFilter, EventsQuery, LogsQuery, MetricQuery } from '../../src/query/ast.js';
import { crossFiltersOf, type ReadableRows } from '../../src/query/crossFilter.js';
import { QueryError } from '../../src/query/errors.js';
import type { StoreName } from '../../src/query/job.js';
import { foldAscii } from '../../src/query/nameMatch.js';
import {
  type FieldResolver,
  type PlanCondition,
  planCondition,
  planField,
  planRange,
} from '../../src/query/plan.js';
import type { DecidedNames, TailAccess } from '../../src/query/predicateProgram.js';
import { encodeShown } from '../../src/query/shown.js';
import { Fragment } from '../../src/query/sqlFragment.js';
import { logField } from '../../src/query/sqlLogs.js';
import { storedField } from '../../src/query/sqlMetric.js';
import {
  type Found,
  isIn,
  merged,
  type Pattern,
  rangeSurvey,
  type Survey,
  seriesSurvey,
  type TimeRange,
} from '../../src/query/survey.js';

export type ReadQuery = EventsQuery | LogsQuery | MetricQuery;

/** Puts a survey to a query worker. */
export type Ask = (survey: Survey) => Promise<Found>;

interface Side {
  readonly type: DataType;
  readonly store: StoreName;
  /** The field that names the records, and as conditions of other stores know it. */
  readonly identifier: string;
  readonly column: string;
  readonly resolve: FieldResolver;
}

const SIDES: Readonly<Record<ReadQuery['mode'], Side>> = {
  EVENTS: {
    type: 'events',
    store: 'events',
    identifier: 'event_type',
    column: 'event_type',
    resolve: planField,
  },
  LOGS: { type: 'logs', store: 'logs', identifier: 'origin', column: 'origin', resolve: logField },
  METRIC: { type: 'metrics', store: 'metrics', identifier: 'name', column: 'r.name', resolve: storedField },
};

/** Fields of its records that a cross-type filter looks at, and so must be granted (ACL-52). */
interface CrossSide {
  readonly mode: ReadQuery['mode'];
  readonly patterns: readonly Pattern[];
  readonly needed: readonly FieldPath[];
}

/** Decides for one query, and again for its stream. Holds what was found so far. */
export class QueryReader {
  readonly #session: AccessSession;
  readonly #query: ReadQuery;
  readonly #now: bigint;
  readonly #ask: Ask;
  /** Names of the store that were decided about, with their fields; null where all are alike. */
  #present: PresentFields | null = null;
  #cross: ReadableRows = () => null;

  constructor(session: AccessSession, query: ReadQuery, now: bigint, ask: Ask) {
    this.#session = session;
    this.#query = query;
    this.#now = now;
    this.#ask = ask;
  }

  /** @throws QueryError class X, prefix `access denied` (QX-6) */
  async decide(): Promise<TailAccess> {
    await this.#decideCross();
    const side = SIDES[this.#query.mode];
    if ((await this.#session.uniformity(side.type)) === 'everything') return this.#everything();
    this.#present = await this.#survey(side, patternsOf(this.#query), planRange(this.#query, this.#now));
    return this.#restricted(side);
  }

  /** The same for the next batch of a stream, with names and fields that it brought (ACL-49, ACL-50). */
  async decideAgain(news: Found): Promise<TailAccess> {
    await this.#session.nextBatch();
    await this.#decideCross();
    const side = SIDES[this.#query.mode];
    if ((await this.#session.uniformity(side.type)) === 'everything') return this.#everything();
    this.#present = merged([...(this.#present ?? []), ...news]);
    return this.#restricted(side);
  }

  #everything(): TailAccess {
    this.#present = null;
    return { restrict: (where) => where, shown: null, readable: this.#cross, decided: null };
  }

  async #restricted(side: Side): Promise<TailAccess> {
    const access = await this.#restrict(side, this.#present ?? new Map());
    return { ...access, readable: this.#cross, decided: this.#decided(side) };
  }

  async #restrict(side: Side, present: PresentFields): Promise<ReadAccess> {
    const where = plannedWhere(this.#query, this.#now, side.resolve);
    const identifier = side.resolve({ name: side.identifier, path: [side.identifier] });
    const restricted = (names: PresentFields) =>
      restrictQuery(
        this.#session,
        this.#query,
        { type: side.type, identifier, present: names, resolve: side.resolve },
        where,
      );
    let access: Awaited<ReturnType<typeof restricted>>;
    try {
      access = await restricted(present);
    } catch (error) {
      if (!(error instanceof QueryError) || present.size === 0) throw error;
      // Only what is there in the time range can make a refusal (ACL-34).
      access = await restricted(await this.#inRange(side, present));
    }
    return { restrict: (condition) => access.restrict(condition), shown: encodeShown(access.shown) };
  }

  async #inRange(side: Side, present: PresentFields): Promise<PresentFields> {
    const brackets = this.#query.mode === 'METRIC' ? (this.#query.brackets ?? []) : [];
    const range = planRange(this.#query, this.#now);
    const found = await this.#ask(rangeSurvey(side.store, [...present.keys()], range, brackets));
    const there = new Set(found.map(([name]) => foldAscii(name)));
    return new Map([...present].filter(([name]) => there.has(foldAscii(name))));
  }

  #decided({ type }: Side): DecidedNames {
    const names = new Map<string, ReadonlySet<string> | null>();
    for (const [name, fields] of this.#present ?? []) {
      const matter = type === 'events' && this.#session.tellsFieldsApart(type, name);
      names.set(name, matter ? new Set(fields.map((path) => JSON.stringify(path))) : null);
    }
    return { patterns: patternsOf(this.#query) ?? [], names };
  }

  // The other side of cross-type filters

  async #decideCross(): Promise<void> {
    const filters = this.#query.where === null ? [] : crossFiltersOf(this.#query.where);
    const readable = new Map<CrossFilter, Fragment | null>();
    for (const filter of filters) readable.set(filter, await this.#usable(crossSide(filter)));
    this.#cross = (filter) => (readable.has(filter) ? (readable.get(filter) ?? null) : new Fragment('0'));
  }

  async #usable({ mode, patterns, needed }: CrossSide): Promise<Fragment | null> {
    const side = SIDES[mode];
    const uniformity = await this.#session.uniformity(side.type);
    if (uniformity === 'everything') return null;
    if (uniformity === 'nothing') return new Fragment('0');
    const present = await this.#survey(side, patterns, ALWAYS);
    const usable = await usableIdentifiers(this.#session, side.type, present, needed);
    return isIn(usable, new Fragment(side.column));
  }

  // What there is

  /** Names of a store that the patterns select (null: all), in the range at least, each with the fields that matter. */
  async #survey(side: Side, patterns: readonly Pattern[] | null, range: TimeRange): Promise<PresentFields> {
    if ((await this.#session.uniformity(side.type)) === 'nothing') return new Map();
    const found: Found[] = [];
    for (const pattern of patterns ?? [null]) found.push(await this.#names(side, pattern, range));
    const names = merged(found.flat());
    const apart = [...names.keys()].filter((name) => this.#session.tellsFieldsApart(side.type, name));
    return apart.length === 0 ? names : this.#withFields(side, names, apart, range);
  }

  async #names({ type, store }: Side, pattern: Pattern | null, range: TimeRange): Promise<Found> {
    // A name in full needs no search, unless its spelling matters.
    const whole = pattern?.kind === 'equal' ? pattern.text : null;
    if (whole !== null && !this.#session.tellsSpellingsApart(type, whole)) return [[whole, []]];
    if (store === 'metrics') return this.#ask(seriesSurvey(pattern ?? ANYTHING, null));
    const spellings = this.#session.tellsSpellingsApart(type);
    return this.#ask({ kind: 'names', store, pattern, range, spellings });
  }

  async #withFields(
    { store }: Side,
    names: PresentFields,
    apart: readonly string[],
    range: TimeRange,
  ): Promise<PresentFields> {
    if (store === 'logs') return names;
    const survey: Survey =
      store === 'metrics' ? seriesSurvey(ANYTHING, apart) : { kind: 'fields', store, names: apart, range };
    const fields = merged((await this.#ask(survey)).map(([name, paths]) => [foldAscii(name), paths]));
    return new Map([...names.keys()].map((name) => [name, fields.get(foldAscii(name)) ?? []]));
  }
}

const ANYTHING: Pattern = { kind: 'prefix', text: '' };
const ALWAYS: TimeRange = { from: null, to: (1n << 63n) - 1n };

/** What the query's own records are named; null = anything. */
function patternsOf(query: ReadQuery): readonly Pattern[] | null {
  switch (query.mode) {
    case 'EVENTS':
      return query.pattern === null ? null : [plain(query.pattern)];
    case 'LOGS':
      return query.from?.map(({ value }) => ({ kind: 'equal', text: value })) ?? null;
    case 'METRIC':
      return [plain(query.name)];
  }
}

function plain({ kind, text }: Pattern): Pattern {
  return { kind, text };
}

/** WHERE with its fields resolved; what its cross-type filters make does not matter here. */
function plannedWhere(query: ReadQuery, now: bigint, resolve: FieldResolver): PlanCondition | null {
  return query.where === null ? null : planCondition(query.where, now, resolve, { add: () => 0 });
}

function crossSide(filter: CrossFilter): CrossSide {
  const time: FieldPath = ['timestamp'];
  switch (filter.kind) {
    case 'eventFilter':
      return { mode: 'EVENTS', patterns: [plain(filter.pattern)], needed: [time, ['event_type']] };
    case 'logFilter': {
      const patterns: Pattern[] = [{ kind: 'equal', text: filter.origin }];
      const message: FieldPath[] = filter.containing === null ? [] : [['message']];
      return { mode: 'LOGS', patterns, needed: [time, ['origin'], ...message] };
    }
    case 'metricFilter': {
      const labels = (filter.brackets ?? []).map(({ label }): FieldPath => [label.name]);
      return {
        mode: 'METRIC',
        patterns: [plain(filter.name)],
        // A histogram is refused, which tells the type.
        needed: [time, ['name'], ['value'], ['type'], ...labels],
      };
    }
  }
}
