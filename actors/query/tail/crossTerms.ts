/**
 * Cross-type terms of streams: their truth for a committed batch, against what the other stores hold now
 * (STR-20..25). Belongs to the tail thread.
 */
import type { NativeAddon } from '../../../src/native/addon.js';
import type { CrossFilter } from '../../../src/query/ast.js';
import { crossFilterText } from '../../../src/query/crossFilter.js';
import { QueryError } from '../../../src/query/errors.js';
import type { StoreName } from '../../../src/query/job.js';
import type { TailTerm } from '../../../src/query/predicateProgram.js';
import { Fragment } from '../../../src/query/sqlFragment.js';
import { spanStatement } from '../../../src/query/sqlRanges.js';
import { EventDatabases } from '../../../src/stores/eventDatabases.js';
import { LOG_SCHEMA } from '../../../src/stores/logSchema.js';
import { METRIC_SCHEMA } from '../../../src/stores/metricSchema.js';
import { type ReadableFile, ReadConnection } from '../../../src/stores/readConnection.js';
import { readableFiles } from '../../../src/stores/singleStore.js';
import { sqliteCode } from '../../../src/stores/storeError.js';
import { MAX_SERIES } from '../stages/ranges.js';
import { type MetricFilter, MetricTerm, type SeriesRoom } from './metricTerm.js';
import type { TailWorkerData } from './protocol.js';
import type { CheckTime, Term } from './term.js';

/** New files are noticed after this time, ms. */
const LISTING_MS = 1000;

/** What all terms of one stream together may take. */
export interface TermLimits {
  /** Series they take in. */
  readonly series: number;
  /** Time to judge them once, ms: all streams wait for it. */
  readonly ms: number;
}

const TERM_LIMITS: TermLimits = { series: MAX_SERIES, ms: 250 };

interface Listing {
  readonly files: readonly ReadableFile[];
  readonly at: number;
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
   * @throws QueryError `limit exceeded` when the METRIC terms take in too many series
   */
  forStream(filters: readonly TailTerm[], windowMs: number): StreamTerms {
    const room: SeriesRoom = { limit: this.#limits.series, left: this.#limits.series };
    const terms = filters.map(({ filter, readable }): Term => {
      // Messages carry no classes.
      const usable = readable === null ? null : new Fragment(readable.sql, readable.params);
      return filter.kind === 'metricFilter'
        ? new MetricTerm(filter, usable, room)
        : windowTerm(filter, windowMs, usable);
    });
    this.#inTime(
      terms.filter((term) => term instanceof MetricTerm),
      (term, connections, checkTime) => term.list(connections, checkTime),
    );
    const truths = (at: bigint): boolean[] =>
      this.#inTime(terms, (term, connections, checkTime) => term.holds(at, connections, checkTime));
    return { truths: (timestamp) => Uint8Array.from(truths(timestamp), Number) };
  }

  close(): void {
    for (const connection of this.#connections.values()) connection.close();
    this.#connections.clear();
    this.#listings.clear();
  }

  /**
   * Works on the terms of a stream, one after the other, with the databases of their stores. Statements that
   * run for long are interrupted; between short ones the work itself looks at the clock.
   *
   * @throws QueryError `limit exceeded`
   */
  #inTime<Each extends Term, Result>(
    terms: readonly Each[],
    work: (term: Each, connections: readonly ReadConnection[], checkTime: CheckTime) => Result,
  ): Result[] {
    const { ms } = this.#limits;
    const stores = new Set(terms.map(({ store }) => store));
    const connections = new Map([...stores].map((store) => [store, this.#connected(store)] as const));
    const slots = [...connections.values()].flat().map(({ slot }) => slot);
    const end = performance.now() + ms;
    let current = '';
    const checkTime = (): void => {
      if (performance.now() > end) throw tooSlow(current, ms);
    };
    try {
      for (const slot of slots) this.#native.slotDeadline(slot, ms);
      return terms.map((term) => {
        current = term.text;
        checkTime();
        return work(term, connections.get(term.store) ?? [], checkTime);
      });
    } catch (error) {
      throw sqliteCode(error) === 'SQLITE_INTERRUPT' ? tooSlow(current, ms) : error;
    } finally {
      for (const slot of slots) this.#native.slotDeadline(slot, 0);
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

/** EVENT and LOG: a match in the window around the time (STR-23, QL-114). */
function windowTerm(
  filter: Exclude<CrossFilter, MetricFilter>,
  windowMs: number,
  readable: Fragment | null,
): Term {
  return {
    store: filter.kind === 'eventFilter' ? 'events' : 'logs',
    text: crossFilterText(filter),
    holds: (at, connections, checkTime) => {
      const { sql, params } = spanStatement(filter, { from: at, to: at }, windowMs, readable);
      return connections.some((connection) => {
        checkTime();
        return connection.prepare(`${sql} LIMIT 1`).get(...params) !== undefined;
      });
    },
  };
}

function tooSlow(text: string, ms: number): QueryError {
  const problem = `the conditions of the stream about other stores take longer than ${ms} ms to judge for a batch, which ended in ${text}; a stream needs fewer or narrower ones`;
  return new QueryError('X', 'limit exceeded', problem);
}
