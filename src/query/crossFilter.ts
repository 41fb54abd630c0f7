/**
 * Cross-type filters (section 9 of the language): WHERE terms that look into another store. Each becomes a
 * stage that runs once before the query's own read and yields the time ranges in which the term is true
 * (QL-112); in the condition the term then stands for "timestamp within these ranges" (QX-4).
 */
import type { RangesTest } from '../native/addon.js';
import type {
  Condition,
  CrossFilter,
  EventsQuery,
  LogsQuery,
  MetricQuery,
  MetricTest,
  NamePattern,
  Selector,
} from './ast.js';
import { QueryError } from './errors.js';
import type { QueryJob, RangesStage } from './job.js';
import { planRange } from './plan.js';
import type { Fragment } from './sqlFragment.js';
import { seriesStatement, spanStatement } from './sqlRanges.js';
import { resolveTime } from './time.js';
import type { TimeRange } from './timeBounds.js';

const NS_PER_SECOND = 1_000_000_000n;
const NS_PER_MS = 1_000_000n;
const SECONDS_PER_DAY = 86_400;

/** The settings of cross-type filters, as they are when the query is planned (QX-64). */
export interface CrossSettings {
  /** Width of the window around a record in which EVENT and LOG filters look (QL-114). */
  readonly crossTypeWindowMs: number;
  /** Longest time range of a query with such filters (QL-117). */
  readonly crossTypeMaxLookbackSeconds: number;
}

/**
 * What the caller may use of the store that a filter looks into: a condition on `event_type` of events,
 * `origin` of logs, `r.name` of series; null = everything. What it leaves out does not exist for the
 * filter, not even as a histogram (QL-118).
 */
export type ReadableRows = (filter: CrossFilter) => Fragment | null;

const ALL_READABLE: ReadableRows = () => null;

/** Whether a condition has a cross-type filter anywhere. */
export function hasCrossFilter(condition: Condition): boolean {
  return crossFiltersOf(condition).length > 0;
}

/** The cross-type filters of a condition, in the order of the text. */
export function crossFiltersOf(condition: Condition): readonly CrossFilter[] {
  switch (condition.kind) {
    case 'and':
    case 'or':
      return condition.terms.flatMap(crossFiltersOf);
    case 'metricFilter':
    case 'eventFilter':
    case 'logFilter':
      return [condition];
    default:
      return [];
  }
}

/**
 * The fields of the event store that the filters of a query count for in the index policy: an EVENT filter
 * is a predicate on `event_type`; METRIC and LOG filters count for nothing (QX-42).
 */
export function crossTrackedFields(where: Condition | null): readonly string[] {
  const hasEvents = where !== null && crossFiltersOf(where).some(({ kind }) => kind === 'eventFilter');
  return hasEvents ? ['event_type'] : [];
}

/** The same for filters that say the same, wherever in the text they stand. */
export function crossFilterKey(filter: CrossFilter): string {
  return JSON.stringify(filter, (name, value: unknown) => {
    if (name === 'span') return undefined;
    // JSON has neither; a literal beyond all floats is an infinity, and `null` would make both the same.
    if (typeof value === 'number' && !Number.isFinite(value)) return String(value);
    return typeof value === 'bigint' ? `${value}n` : value;
  });
}

/** Collects the stages of one query's filters while its condition is planned. */
export class CrossFilters {
  readonly #range: TimeRange;
  readonly #settings: CrossSettings;
  readonly #readable: ReadableRows;
  readonly #stages: RangesStage[] = [];
  /** Filters that say the same share a stage. */
  readonly #known = new Map<string, number>();

  /** @param range of the query, both ends included */
  constructor(range: TimeRange, settings: CrossSettings, readable: ReadableRows = ALL_READABLE) {
    this.#range = range;
    this.#settings = settings;
    this.#readable = readable;
  }

  /** In the order of their indexes. */
  get stages(): readonly RangesStage[] {
    return this.#stages;
  }

  /** The index of the stage that makes the filter's time ranges. */
  add(filter: CrossFilter): number {
    const key = crossFilterKey(filter);
    const known = this.#known.get(key);
    if (known !== undefined) return known;
    const index = this.#stages.length;
    this.#stages.push(this.#stage(filter, index));
    this.#known.set(key, index);
    return index;
  }

  #stage(filter: CrossFilter, index: number): RangesStage {
    const range = this.#range;
    const window = this.#settings.crossTypeWindowMs;
    switch (filter.kind) {
      case 'eventFilter':
      case 'logFilter': {
        const store = filter.kind === 'eventFilter' ? 'events' : 'logs';
        const spans = spanStatement(filter, range, window, this.#readable(filter));
        return { kind: 'ranges', index, store, spans };
      }
      case 'metricFilter': {
        const oldest = range.from - BigInt(window) * NS_PER_MS;
        return {
          kind: 'ranges',
          index,
          store: 'metrics',
          filter: crossFilterText(filter),
          series: seriesStatement(filter, this.#readable(filter)),
          unit: filter.brackets !== null ? 'series' : filter.name.kind === 'equal' ? 'all' : 'name',
          range,
          oldest: oldest < 0n ? 0n : oldest,
          test: rangesTest(filter.test),
        };
      }
    }
  }
}

/** A job behind the stages of the filters that its statements name. */
export function withRanges(job: QueryJob, cross: CrossFilters | null): QueryJob {
  return cross === null ? job : { ...job, stages: [...cross.stages, ...job.stages] };
}

function rangesTest(test: MetricTest): RangesTest {
  if (test.kind === 'compare') return { operator: test.operator, numbers: [test.value.value] };
  return { operator: test.negated ? 'NOT_IN' : 'IN', numbers: test.values.map(({ value }) => value) };
}

/** A filter as error texts name it. */
export function crossFilterText(filter: CrossFilter): string {
  switch (filter.kind) {
    case 'metricFilter':
      return `METRIC ${metricFilterText(filter.name, filter.brackets)}`;
    case 'eventFilter':
      return `EVENT ${metricFilterText(filter.pattern, null)}`;
    case 'logFilter':
      return `LOG ${filter.origin}`;
  }
}

function metricFilterText({ text, kind }: NamePattern, brackets: readonly Selector[] | null): string {
  const name = kind === 'prefix' ? `${text}*` : text;
  if (brackets === null) return name;
  return brackets.length === 0 ? `${name}[]` : `${name}[...]`;
}

/**
 * What collects the filters of a query; null when it has none. `now` (ns) is the clock reading of the
 * query; without UNTIL it ends the range that is measured, also in a stream.
 *
 * @throws QueryError class V, prefix `range too large` (QL-117, QL-123)
 */
export function crossFilters(
  query: EventsQuery | LogsQuery | MetricQuery,
  now: bigint,
  settings: CrossSettings,
  readable: ReadableRows = ALL_READABLE,
): CrossFilters | null {
  // Without SINCE the parser has refused the filters (QL-116).
  if (query.where === null || query.since === null || !hasCrossFilter(query.where)) return null;
  const since = resolveTime(query.since, now);
  checkLookback((query.until === null ? now : resolveTime(query.until, now)) - since, settings);
  return new CrossFilters({ from: since, to: planRange(query, now).to }, settings, readable);
}

function checkLookback(length: bigint, { crossTypeMaxLookbackSeconds: limit }: CrossSettings): void {
  if (length <= BigInt(limit) * NS_PER_SECOND) return;
  const asked = (length + NS_PER_SECOND - 1n) / NS_PER_SECOND;
  throw new QueryError(
    'V',
    'range too large',
    `the query spans ${asked} s, but with METRIC, EVENT or LOG filters at most ${limit} s` +
      `${inDays(limit)} are allowed (CrossTypeMaxLookbackSeconds); narrow SINCE and UNTIL`,
  );
}

function inDays(seconds: number): string {
  if (seconds < 2 * SECONDS_PER_DAY || seconds % SECONDS_PER_DAY !== 0) return '';
  return ` (${seconds / SECONDS_PER_DAY} days)`;
}
