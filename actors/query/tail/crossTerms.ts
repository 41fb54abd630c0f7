/**
 * Cross-type terms of streams: their truth for a committed batch, against what the other stores hold now
 * (STR-20..25). Belongs to the tail thread.
 */
import type { NativeAddon } from '../../../src/native/addon.js';
import type { CrossFilter, MetricTest } from '../../../src/query/ast.js';
import { metricFilterText } from '../../../src/query/crossFilter.js';
import { QueryError } from '../../../src/query/errors.js';
import type { Statement } from '../../../src/query/job.js';
import type { TailTerm } from '../../../src/query/predicateProgram.js';
import { Fragment } from '../../../src/query/sqlFragment.js';
import { seriesStatement, spanStatement } from '../../../src/query/sqlRanges.js';
import { EventDatabases } from '../../../src/stores/eventDatabases.js';
import { LOG_SCHEMA } from '../../../src/stores/logSchema.js';
import { METRIC_SCHEMA } from '../../../src/stores/metricSchema.js';
import { type ReadableFile, ReadConnection } from '../../../src/stores/readConnection.js';
import { readableFiles } from '../../../src/stores/singleStore.js';
import { sqliteCode } from '../../../src/stores/storeError.js';
import { MAX_SERIES, tooManySeries } from '../stages/ranges.js';
import type { TailWorkerData } from './protocol.js';

type MetricFilter = Extract<CrossFilter, { kind: 'metricFilter' }>;
type StoreName = 'events' | 'logs' | 'metrics';

/** New files are noticed after this time, ms. */
const LISTING_MS = 1000;

/** `series.type` of histograms, which have no scalar value (QL-102). */
const HISTOGRAM = 2n;

/** Behind it the newest sample of a series stands in one step of the index (STR-25). */
const NEWEST_SAMPLE =
  'SELECT timestamp, value FROM samples WHERE series_id = ? AND timestamp <= ? ORDER BY timestamp DESC, rowid DESC LIMIT 1';

/** Changes when a series is added; none is ever changed. */
const SERIES_MARK = 'SELECT ifnull(max(id), 0) FROM series';

/** What one term of one stream may take. */
export interface TermLimits {
  /** Series it takes in. */
  readonly series: number;
  /** Time to judge it once, ms: all streams wait for it. */
  readonly ms: number;
}

const TERM_LIMITS: TermLimits = { series: MAX_SERIES, ms: 250 };

interface Listing {
  readonly files: readonly ReadableFile[];
  readonly at: number;
}

interface Series {
  readonly id: bigint;
  readonly name: string;
  readonly labels: string;
}

/** The terms of one stream. */
export interface StreamTerms {
  /** One byte per term, 0 or 1, for a batch whose newest record has this timestamp, ns. */
  truths(timestamp: bigint): Uint8Array;
}

export class CrossTerms {
  readonly #native: NativeAddon;
  readonly #limits: TermLimits;
  readonly #list: Readonly<Record<StoreName, () => ReadableFile[]>>;
  readonly #listings = new Map<StoreName, Listing>();
  readonly #connections = new Map<string, ReadConnection>();

  /** @param onSkipped told of files that should be readable and are not */
  constructor(
    data: Omit<TailWorkerData, 'commits'>,
    native: NativeAddon,
    onSkipped: (path: string, reason: string) => void,
    limits: TermLimits = TERM_LIMITS,
  ) {
    this.#native = native;
    this.#limits = limits;
    const events = new EventDatabases(data.eventStorePath, onSkipped);
    this.#list = {
      events: () => events.scan(),
      logs: () => readableFiles(data.logStorePath, LOG_SCHEMA, onSkipped),
      metrics: () => readableFiles(data.metricStorePath, METRIC_SCHEMA, onSkipped),
    };
  }

  /**
   * What is returned throws QueryError `limit exceeded`, too, when the stores have grown too large for it.
   *
   * @param windowMs `CrossTypeWindowMs` as it was when the stream began (QX-64)
   * @throws QueryError `limit exceeded` when a METRIC term takes in too many series
   */
  forStream(filters: readonly TailTerm[], windowMs: number): StreamTerms {
    const terms = filters.map(({ filter, readable }) => {
      // Messages carry no classes.
      const usable = readable === null ? null : new Fragment(readable.sql, readable.params);
      return filter.kind === 'metricFilter'
        ? this.#metricTerm(filter, usable)
        : this.#windowTerm(filter, windowMs, usable);
    });
    return { truths: (timestamp) => Uint8Array.from(terms, (holds) => (holds(timestamp) ? 1 : 0)) };
  }

  close(): void {
    for (const connection of this.#connections.values()) connection.close();
    this.#connections.clear();
    this.#listings.clear();
  }

  /** EVENT and LOG: a match in the window around the time (STR-23, QL-114). */
  #windowTerm(
    filter: Exclude<CrossFilter, MetricFilter>,
    windowMs: number,
    readable: Fragment | null,
  ): (at: bigint) => boolean {
    const store = filter.kind === 'eventFilter' ? 'events' : 'logs';
    const text = filterText(filter);
    return (at) => {
      const { sql, params } = spanStatement(filter, { from: at, to: at }, windowMs, readable);
      return this.#inTime(store, text, (connections, checkTime) =>
        connections.some((connection) => {
          checkTime();
          const row = connection.prepare(`${sql} LIMIT 1`).get(...bound(params));
          return row !== undefined;
        }),
      );
    };
  }

  /** METRIC: the newest samples at or before the time (STR-25, QL-111). */
  #metricTerm(filter: MetricFilter, readable: Fragment | null): (at: bigint) => boolean {
    const selected = new Map<ReadConnection, { readonly mark: bigint; readonly series: readonly Series[] }>();
    const text = filterText(filter);
    const seriesOf = (connection: ReadConnection, checkTime: () => void): readonly Series[] => {
      const mark = connection.prepare(SERIES_MARK).pluck().get() as bigint;
      const known = selected.get(connection);
      if (known?.mark === mark) return known.series;
      selected.delete(connection);
      let room = this.#limits.series;
      for (const other of selected.values()) room -= other.series.length;
      const series: Series[] = [];
      for (const each of seriesIn(connection, filter, readable)) {
        if (series.length === room) throw tooManySeries(filterName(filter), this.#limits.series);
        checkTime();
        series.push(each);
      }
      selected.set(connection, { mark, series });
      return series;
    };
    this.#inTime('metrics', text, (connections, checkTime) => {
      for (const connection of connections) seriesOf(connection, checkTime);
    });
    const holds = (at: bigint, connections: readonly ReadConnection[], checkTime: () => void): boolean => {
      // A series may have samples in a database that was set aside, and newer ones in its successor.
      const newest = new Map<
        string,
        { readonly name: string; readonly timestamp: bigint; readonly value: number }
      >();
      for (const known of selected.keys()) if (!connections.includes(known)) selected.delete(known);
      for (const connection of connections) {
        const statement = connection.prepare(NEWEST_SAMPLE);
        for (const { id, name, labels } of seriesOf(connection, checkTime)) {
          checkTime();
          const sample = statement.get(id, at) as { timestamp: bigint; value: number } | undefined;
          const key = `${name}\n${labels}`;
          if (sample === undefined || (newest.get(key)?.timestamp ?? -1n) > sample.timestamp) continue;
          newest.set(key, { name, ...sample });
        }
      }
      return unitValues(filter, [...newest.values()]).some((value) => passes(filter.test, value));
    };
    return (at) =>
      this.#inTime('metrics', text, (connections, checkTime) => holds(at, connections, checkTime));
  }

  /**
   * Judges a term with the databases of a store. Statements that run for long are interrupted; between
   * short ones the work itself looks at the clock.
   *
   * @throws QueryError `limit exceeded`
   */
  #inTime<Result>(
    store: StoreName,
    text: string,
    work: (connections: readonly ReadConnection[], checkTime: () => void) => Result,
  ): Result {
    const { ms } = this.#limits;
    const connections = this.#connected(store);
    const end = performance.now() + ms;
    const checkTime = (): void => {
      if (performance.now() > end) throw tooSlow(text, ms);
    };
    try {
      for (const { slot } of connections) this.#native.slotDeadline(slot, ms);
      return work(connections, checkTime);
    } catch (error) {
      throw sqliteCode(error) === 'SQLITE_INTERRUPT' ? tooSlow(text, ms) : error;
    } finally {
      for (const { slot } of connections) this.#native.slotDeadline(slot, 0);
    }
  }

  #connected(store: StoreName): ReadConnection[] {
    return this.#files(store).map((file) => {
      const known = this.#connections.get(file.path);
      if (known?.file.identity === file.identity) return known;
      known?.close();
      this.#connections.delete(file.path);
      const connection = new ReadConnection(file);
      this.#connections.set(file.path, connection);
      return connection;
    });
  }

  #files(store: StoreName): readonly ReadableFile[] {
    const known = this.#listings.get(store);
    const now = performance.now();
    if (known !== undefined && now - known.at < LISTING_MS) return known.files;
    const listing = { files: this.#list[store](), at: now };
    this.#listings.set(store, listing);
    return listing.files;
  }
}

function* seriesIn(
  connection: ReadConnection,
  filter: MetricFilter,
  readable: Fragment | null,
): Generator<Series> {
  const { sql, params } = seriesStatement(filter, readable);
  const rows = connection.prepare(sql).iterate(...bound(params));
  for (const row of rows as Iterable<Series & { readonly type: bigint }>) {
    if (row.type !== HISTOGRAM) yield row;
  }
}

function filterName({ name, brackets }: MetricFilter): string {
  return metricFilterText(name.text, name.kind, brackets);
}

/** A filter as error texts name it. */
function filterText(filter: CrossFilter): string {
  switch (filter.kind) {
    case 'metricFilter':
      return `METRIC ${filterName(filter)}`;
    case 'eventFilter':
      return `EVENT ${metricFilterText(filter.pattern.text, filter.pattern.kind, null)}`;
    case 'logFilter':
      return `LOG ${filter.origin}`;
  }
}

function tooSlow(text: string, ms: number): QueryError {
  const problem = `${text} takes longer than ${ms} ms to judge for a batch; a stream needs a narrower condition`;
  return new QueryError('X', 'limit exceeded', problem);
}

/** What the test is put to: each series, or the average of all, of each name where the name is a pattern. */
function unitValues(
  filter: MetricFilter,
  samples: readonly { readonly name: string; readonly value: number }[],
): number[] {
  if (filter.brackets !== null) return samples.map(({ value }) => value);
  const groups = new Map<string, number[]>();
  for (const { name, value } of samples) {
    const key = filter.name.kind === 'equal' ? '' : name;
    const group = groups.get(key);
    if (group === undefined) groups.set(key, [value]);
    else group.push(value);
  }
  return [...groups.values()].map((values) => values.reduce((sum, value) => sum + value, 0) / values.length);
}

/** By value, where === tells a bigint from a number; false for NaN. */
function isEqual(a: number, b: number | bigint): boolean {
  return a <= b && a >= b;
}

/** Between bigint and number JavaScript compares exact values (QL-23). */
function passes(test: MetricTest, value: number): boolean {
  if (test.kind === 'in') {
    return test.values.some((literal) => isEqual(value, literal.value)) !== test.negated;
  }
  const literal = test.value.value;
  switch (test.operator) {
    case '==':
      return isEqual(value, literal);
    case '!=':
      return !isEqual(value, literal);
    case '>':
      return value > literal;
    case '>=':
      return value >= literal;
    case '<':
      return value < literal;
    case '<=':
      return value <= literal;
  }
}

function bound(params: Statement['params']): unknown[] {
  return [...params];
}
