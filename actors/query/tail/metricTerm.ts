/** A METRIC term of a stream: the newest samples of the series it selects, put to its test (STR-25, QL-111). */
import type { CrossFilter, MetricTest } from '../../../src/query/ast.js';
import { crossFilterText } from '../../../src/query/crossFilter.js';
import { QueryError } from '../../../src/query/errors.js';
import type { Fragment } from '../../../src/query/sqlFragment.js';
import { seriesStatement } from '../../../src/query/sqlRanges.js';
import type { ReadConnection } from '../../../src/stores/readConnection.js';
import { SERIES_MARK, type SeriesMark } from '../../../src/stores/seriesMark.js';
import type { CheckTime, Term } from './term.js';

export type MetricFilter = Extract<CrossFilter, { kind: 'metricFilter' }>;

/** `series.type` of histograms, which have no scalar value (QL-102). */
const HISTOGRAM = 2n;

/**
 * The newest sample of a series stands in one step of the index (STR-25). The id may have become another
 * series', of which the caller may know nothing: what it was listed for has to hold still.
 */
const NEWEST_SAMPLE = `SELECT s.timestamp, s.value
  FROM series AS r CROSS JOIN samples AS s ON s.series_id = r.id
  WHERE r.id = ? AND r.name = ? AND r.labels = ? AND r.type <> ${HISTOGRAM} AND s.timestamp <= ?
  ORDER BY s.timestamp DESC, s.rowid DESC LIMIT 1`;

/** Series that the METRIC terms of one stream may still take in, all together. */
export interface SeriesRoom {
  readonly limit: number;
  left: number;
}

interface Series {
  readonly id: bigint;
  readonly name: string;
  readonly labels: string;
}

interface Sample {
  readonly timestamp: bigint;
  readonly value: number;
}

/** What a database holds of the series that are looked for. */
interface Listed {
  readonly mark: SeriesMark;
  readonly series: readonly Series[];
}

export class MetricTerm implements Term {
  readonly store = 'metrics';
  readonly text: string;
  readonly #filter: MetricFilter;
  readonly #readable: Fragment | null;
  readonly #room: SeriesRoom;
  readonly #listed = new Map<ReadConnection, Listed>();

  /** @param readable what the caller may use of the store; null = everything (ACL-51) */
  constructor(filter: MetricFilter, readable: Fragment | null, room: SeriesRoom) {
    this.text = crossFilterText(filter);
    this.#filter = filter;
    this.#readable = readable;
    this.#room = room;
  }

  /**
   * Looks up which series it selects, where that is not known.
   *
   * @throws QueryError `limit exceeded` when the stream takes in too many
   */
  list(connections: readonly ReadConnection[], checkTime: CheckTime): void {
    for (const connection of this.#listed.keys()) {
      if (!connections.includes(connection)) this.#forget(connection);
    }
    for (const connection of connections) this.#listIn(connection, checkTime);
  }

  holds(at: bigint, connections: readonly ReadConnection[], checkTime: CheckTime): boolean {
    // A series may have samples in a database that was set aside, and newer ones in its successor.
    const newest = new Map<string, Sample & { readonly name: string }>();
    this.list(connections, checkTime);
    for (const connection of connections) {
      const statement = connection.prepare(NEWEST_SAMPLE);
      for (const { id, name, labels } of this.#listed.get(connection)?.series ?? []) {
        checkTime();
        const sample = statement.get(id, name, labels, at) as Sample | undefined;
        const key = `${name}\n${labels}`;
        if (sample === undefined || (newest.get(key)?.timestamp ?? -1n) > sample.timestamp) continue;
        newest.set(key, { name, ...sample });
      }
    }
    return unitValues(this.#filter, [...newest.values()]).some((value) => passes(this.#filter.test, value));
  }

  #listIn(connection: ReadConnection, checkTime: CheckTime): void {
    // The mark first: what changes behind it is seen by the next batch.
    const mark = connection.prepare(SERIES_MARK).get() as SeriesMark;
    const known = this.#listed.get(connection);
    if (known?.mark.newest === mark.newest && known.mark.deletions === mark.deletions) return;
    this.#forget(connection);
    const series: Series[] = [];
    const { sql, params } = seriesStatement(this.#filter, this.#readable);
    const rows = connection.prepare(sql).iterate(...params);
    for (const { type, ...each } of rows as Iterable<Series & { readonly type: bigint }>) {
      checkTime();
      if (type === HISTOGRAM) continue;
      if (series.length === this.#room.left) throw tooManySeries(this.text, this.#room.limit);
      series.push(each);
    }
    this.#room.left -= series.length;
    this.#listed.set(connection, { mark, series });
  }

  #forget(connection: ReadConnection): void {
    this.#room.left += this.#listed.get(connection)?.series.length ?? 0;
    this.#listed.delete(connection);
  }
}

function tooManySeries(text: string, limit: number): QueryError {
  const problem = `with ${text} the METRIC conditions of the stream take in more than ${limit} series; narrow them by names or by labels`;
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
