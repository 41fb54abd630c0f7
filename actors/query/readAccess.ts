/**
 * What one query's caller may read, found out before anything is read (QX-5, QX-6, docs/decisions/0024).
 * Where all names of a store are alike to the caller, nobody is asked which there are; else a query worker
 * is, and each name is decided about.
 */
import type { AccessSession, CountName, PresentFields } from '../../src/access/accessSession.js';
import type { DataType, FieldPath } from '../../src/access/fieldLists.js';
import {
  type QueryAccess,
  restrictQuery,
  usableIdentifiers,
  usedFields,
} from '../../src/query/accessFilter.js';
import type { CrossFilter, EventsQuery, LogsQuery, MetricQuery } from '../../src/query/ast.js';
import { crossFiltersOf, type ReadableRows } from '../../src/query/crossFilter.js';
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
import { DecisionTally, refuseTooMany } from './decisionLimit.js';

export type ReadQuery = EventsQuery | LogsQuery | MetricQuery;

/** Puts a survey to a query worker. */
export type Ask = (survey: Survey) => Promise<Found>;

interface Side {
  readonly type: DataType;
  readonly store: StoreName;
  /** What a client calls a name. */
  readonly noun: string;
  /** The field that names the records, and as conditions of other stores know it. */
  readonly identifier: string;
  readonly column: string;
  readonly resolve: FieldResolver;
}

const SIDES: Readonly<Record<ReadQuery['mode'], Side>> = {
  EVENTS: {
    type: 'events',
    store: 'events',
    noun: 'type',
    identifier: 'event_type',
    column: 'event_type',
    resolve: planField,
  },
  LOGS: {
    type: 'logs',
    store: 'logs',
    noun: 'origin',
    identifier: 'origin',
    column: 'origin',
    resolve: logField,
  },
  METRIC: {
    type: 'metrics',
    store: 'metrics',
    noun: 'metric',
    identifier: 'name',
    column: 'r.name',
    resolve: storedField,
  },
};

/** Fields of its records that a cross-type filter looks at, and so must be granted (ACL-52). */
interface CrossSide {
  readonly mode: ReadQuery['mode'];
  readonly patterns: readonly Pattern[];
  readonly needed: readonly FieldPath[];
}

/** What was decided about names of the query's own store, one by one. */
interface Decided {
  /** With their fields, as far as those matter. */
  readonly present: PresentFields;
  /** Those whose fields do. */
  readonly apart: ReadonlySet<string>;
  /** The same for the tail thread. */
  readonly names: DecidedNames['names'];
  readonly access: QueryAccess;
}

/** Decides for one query, and again for its stream. Holds what was decided so far. */
export class QueryReader {
  readonly #session: AccessSession;
  readonly #query: ReadQuery;
  readonly #side: Side;
  readonly #where: PlanCondition | null;
  readonly #now: bigint;
  readonly #ask: Ask;
  readonly #isStream: boolean;
  /** Null where all names are alike. */
  #decided: Decided | null = null;
  #cross: ReadableRows = () => null;

  constructor(session: AccessSession, query: ReadQuery, now: bigint, ask: Ask) {
    this.#session = session;
    this.#query = query;
    this.#side = SIDES[query.mode];
    this.#where = plannedWhere(query, now, this.#side.resolve);
    this.#now = now;
    this.#ask = ask;
    this.#isStream = query.mode !== 'METRIC' && query.stream;
  }

  /**
   * @throws QueryError class X, prefix `access denied` (QX-6); `limit exceeded` for a query that
   * would have to decide too much, or a stream about too many names
   */
  decide(): Promise<TailAccess> {
    const range = planRange(this.#query, this.#now);
    return this.#decide(() => this.#survey(this.#side, patternsOf(this.#query), range));
  }

  /**
   * The same for the next batch of a stream, with names and fields that it brought (ACL-49, ACL-50). What
   * was decided stays, unless descriptors changed or failed checks are made again.
   */
  async decideAgain(news: Found): Promise<TailAccess> {
    const before = this.#decided;
    const kept = (await this.#session.nextBatch()) ? null : before;
    const known = before?.present ?? NO_NAMES;
    const find = async () => {
      const fresh = this.#concerned(known, news);
      return kept === null ? joined(known, fresh) : fresh;
    };
    return this.#decide(find, kept);
  }

  /**
   * Names that news are about, with the fields they had and the new ones. What is asked for in full may be
   * known in another spelling than it is stored in: that makes a name of its own only where it matters.
   */
  #concerned(known: PresentFields, news: Found): PresentFields {
    const told = new Set(news.map(([name]) => foldAscii(name)));
    const before = [...known].filter(([name]) => told.has(foldAscii(name)));
    const names = new Set(before.map(([name]) => name));
    const spelt = new Set([...names].map(foldAscii));
    for (const [name] of news) {
      const folded = foldAscii(name);
      if (spelt.has(folded) && !this.#session.tellsSpellingsApart(this.#side.type, name)) continue;
      spelt.add(folded);
      names.add(name);
    }
    return withSharedFields(names, [...before, ...news]);
  }

  /**
   * @param find those to decide about, where they are not all alike
   * @param kept what stays as it was decided
   */
  async #decide(find: () => Promise<PresentFields>, kept: Decided | null = null): Promise<TailAccess> {
    this.#decided = null;
    const tally = new DecisionTally();
    await this.#decideCross(tally);
    switch (await this.#session.uniformity(this.#side.type)) {
      case 'everything':
        return { restrict: (where) => where, shown: null, readable: this.#cross, decided: null };
      case 'nothing':
        return this.#tailAccess(await this.#restrict(NO_NAMES, null), null);
      case 'various': {
        const asked = await find();
        const present = joined(kept?.present ?? NO_NAMES, asked);
        if (this.#isStream) refuseTooMany(present, this.#side.noun);
        const apart = new Set([...(kept?.apart ?? []), ...this.#apart(this.#side, asked)]);
        const used = usedFields(this.#query, this.#where);
        // Where nobody's fields matter, none is denied, and no condition on one lists names.
        const decision = { ...this.#side, apart, used, lists: used.length, listsOnlyApart: true };
        const count = tally.begin(decision);
        for (const name of kept?.access.readable.keys() ?? [])
          if (!asked.has(name)) count(name, present.get(name) ?? []);
        const access = await this.#restrict(asked, kept?.access ?? null, count);
        const names = joined(kept?.names ?? new Map(), this.#tailNames(asked, apart));
        this.#decided = { present, apart, names, access };
        return this.#tailAccess(access, { patterns: patternsOf(this.#query) ?? [], names });
      }
    }
  }

  #tailAccess(access: QueryAccess, decided: DecidedNames | null): TailAccess {
    return {
      restrict: (where) => access.restrict(where),
      shown: encodeShown(access.shown),
      readable: this.#cross,
      decided,
    };
  }

  /** Decides about these names; `known` is what was decided about others. */
  #restrict(present: PresentFields, known: QueryAccess | null, count?: CountName): Promise<QueryAccess> {
    const { type, identifier, resolve } = this.#side;
    const data = {
      type,
      identifier: resolve({ name: identifier, path: [identifier] }),
      present,
      resolve,
      occurring: (names: readonly string[]) => this.#occurring(names),
      count,
    };
    return restrictQuery(this.#session, this.#query, data, this.#where, known);
  }

  async #occurring(names: readonly string[]): Promise<readonly string[]> {
    const brackets = this.#query.mode === 'METRIC' ? (this.#query.brackets ?? []) : [];
    const range = planRange(this.#query, this.#now);
    const found = await this.#ask(rangeSurvey(this.#side.store, names, range, brackets));
    const there = new Set(found.map(([name]) => foldAscii(name)));
    return names.filter((name) => there.has(foldAscii(name)));
  }

  #tailNames(present: PresentFields, apart: ReadonlySet<string>): DecidedNames['names'] {
    const names = new Map<string, ReadonlySet<string> | null>();
    for (const [name, fields] of present) {
      const matter = this.#side.type === 'events' && apart.has(name);
      names.set(name, matter ? new Set(fields.map((path) => JSON.stringify(path))) : null);
    }
    return names;
  }

  // The other side of cross-type filters

  async #decideCross(tally: DecisionTally): Promise<void> {
    const filters = this.#query.where === null ? [] : crossFiltersOf(this.#query.where);
    const readable = new Map<CrossFilter, Fragment | null>();
    for (const filter of filters) readable.set(filter, await this.#usable(crossSide(filter), tally));
    this.#cross = (filter) => (readable.has(filter) ? (readable.get(filter) ?? null) : new Fragment('0'));
  }

  async #usable({ mode, patterns, needed }: CrossSide, tally: DecisionTally): Promise<Fragment | null> {
    const side = SIDES[mode];
    const uniformity = await this.#session.uniformity(side.type);
    if (uniformity === 'everything') return null;
    if (uniformity === 'nothing') return new Fragment('0');
    const present = await this.#survey(side, patterns, ALWAYS);
    if (this.#isStream) refuseTooMany(present, side.noun);
    const apart = this.#apart(side, present);
    const count = tally.begin({ ...side, apart, used: needed, lists: 1, listsOnlyApart: false });
    const usable = await usableIdentifiers(this.#session, side.type, present, needed, count);
    return isIn(usable, new Fragment(side.column));
  }

  // What there is

  /** Names of a store that the patterns select (null: all), in the range at least, each with the fields that matter. */
  async #survey(side: Side, patterns: readonly Pattern[] | null, range: TimeRange): Promise<PresentFields> {
    if ((await this.#session.uniformity(side.type)) === 'nothing') return new Map();
    const found: Found[] = [];
    for (const pattern of patterns ?? [null]) found.push(await this.#names(side, pattern, range));
    const names = merged(found.flat());
    const apart = this.#apart(side, names);
    return apart.size === 0 ? names : this.#withFields(side, names, [...apart], range);
  }

  /** Names whose fields matter to what may be seen of them. */
  #apart({ type }: Side, names: PresentFields): ReadonlySet<string> {
    return new Set([...names.keys()].filter((name) => this.#session.tellsFieldsApart(type, name)));
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
    return withSharedFields(names.keys(), await this.#ask(survey));
  }
}

/** Names with what was found for any spelling of them: SQL tells none apart, nor do the fields shown. */
function withSharedFields(names: Iterable<string>, found: Found): PresentFields {
  const fields = merged(found.map(([name, paths]) => [foldAscii(name), paths]));
  return new Map([...names].map((name) => [name, fields.get(foldAscii(name)) ?? []]));
}

/** What is in both counts as `more` says. */
function joined<Value>(
  known: ReadonlyMap<string, Value>,
  more: ReadonlyMap<string, Value>,
): ReadonlyMap<string, Value> {
  const both = new Map(known);
  for (const [name, value] of more) both.set(name, value);
  return both;
}

const NO_NAMES: PresentFields = new Map();
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
