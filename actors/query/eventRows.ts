/**
 * Ways through the rows of an event database in short steps: by id from where one stopped before, by time,
 * or from one event type to the next where an index has them (docs/decisions/0024).
 */
import { existingIndex, indexNameOf } from '../../src/indexes/fields.js';
import type { TimeRange } from '../../src/query/survey.js';
import type { ReadConnection } from '../../src/stores/readConnection.js';

/** Rows of one step: some ms. */
export const STEP_ROWS = 20_000n;

/** Types looked up in the index between two turns. */
const STEP_TYPES = 500;

/** Runs a call into SQLite; only inside it a cancelled query is interrupted. */
export type Step = <Result>(call: () => Result) => Result;

/** How far the rows of a table were looked at: a row and what it says, to notice that ids began anew. */
export interface Mark {
  readonly id: bigint;
  readonly timestamp: bigint | null;
}

/** Nothing was looked at yet. */
export const START: Mark = { id: 0n, timestamp: null };

/** A condition for the rows of one step, and its two parameters. */
export interface Stretch {
  readonly where: string;
  readonly bounds: readonly [bigint, bigint];
}

const BY_ID = 'id > ? AND id <= ?';
const BY_TIME = 'timestamp >= ? AND timestamp <= ?';

export class EventRows {
  readonly #connection: ReadConnection;
  readonly #step: Step;

  constructor(connection: ReadConnection, step: Step) {
    this.#connection = connection;
    this.#step = step;
  }

  /** The newest row; null in an empty database. */
  newest(): Mark | null {
    return this.#atOrBefore(null);
  }

  /** A mark as it may be used: the start where its row is gone or another. */
  sound(mark: Mark): Mark {
    const timestamp = this.#one('SELECT timestamp FROM events WHERE id = ?', mark.id);
    return mark.id > 0n && timestamp === mark.timestamp ? mark : START;
  }

  /** Stretches of rows behind a mark up to another, oldest first; each with the mark after it. */
  *byId(mark: Mark, newest: Mark): Generator<Stretch & { readonly mark: Mark }, void, void> {
    for (let from = mark.id; from < newest.id; ) {
      // Retention leaves a hole before the oldest row.
      const first = this.#one('SELECT min(id) FROM events WHERE id > ?', from);
      if (first === null || first > newest.id) return;
      const last = first + STEP_ROWS - 1n;
      const to = last < newest.id ? this.#atOrBefore(last) : newest;
      if (to === null || to.id < first) {
        // Between the two questions retention deleted them all.
        from = last;
        continue;
      }
      yield { where: BY_ID, bounds: [first - 1n, to.id], mark: to };
      from = to.id;
    }
  }

  /** Stretches of time with records in them. */
  *byTime({ from, to }: TimeRange): Generator<Stretch, void, void> {
    for (let next = from ?? -(1n << 63n); next <= to; ) {
      const first = this.#one('SELECT min(timestamp) FROM events WHERE timestamp >= ?', next);
      if (first === null || first > to) return;
      // Records of one moment stay together, however many they are.
      const end = this.#one(
        'SELECT timestamp FROM events WHERE timestamp > ? ORDER BY timestamp LIMIT 1 OFFSET ?',
        first,
        STEP_ROWS,
      );
      const last = end === null || end > to ? to : end;
      yield { where: BY_TIME, bounds: [first, last] };
      next = last + 1n;
    }
  }

  /** About how many rows a range holds, told by its first and last; rows come about in the order of time. */
  estimate({ from, to }: TimeRange): bigint {
    const first = this.#one(
      'SELECT id FROM events WHERE timestamp >= ? ORDER BY timestamp LIMIT 1',
      from ?? -(1n << 63n),
    );
    const last = this.#one('SELECT id FROM events WHERE timestamp <= ? ORDER BY timestamp DESC LIMIT 1', to);
    if (first === null || last === null) return 0n;
    return (last > first ? last - first : first - last) + 1n;
  }

  /** Whether types can be followed from one to the next by their index. */
  get hasTypeIndex(): boolean {
    const sql = this.#step(() =>
      this.#connection
        .prepare("SELECT sql FROM sqlite_master WHERE type = 'index' AND name = ?")
        .pluck()
        .get(indexNameOf('event_type')),
    ) as string | undefined;
    return existingIndex(indexNameOf('event_type'), sql ?? null)?.field === 'event_type';
  }

  /**
   * All types, whatever their number of records, or the first of more than `most`: each in one of its
   * spellings, for the index knows them without case. Null where the index is not there, or goes meanwhile,
   * or does not tell all types apart: without case SQLite compares them up to a U+0000.
   */
  *indexedTypes(most: number): Generator<void, readonly string[] | null, void> {
    // Types are bytes, and need not be text that JavaScript gives back as it was.
    const next = this.#connection.prepare(
      `WITH RECURSIVE t(type, n) AS (
         SELECT (SELECT event_type FROM events WHERE event_type COLLATE NOCASE > CAST(:last AS TEXT)
           ORDER BY event_type COLLATE NOCASE LIMIT 1), 1
         UNION ALL SELECT (SELECT event_type FROM events WHERE event_type COLLATE NOCASE > t.type
           ORDER BY event_type COLLATE NOCASE LIMIT 1), n + 1 FROM t WHERE type IS NOT NULL AND n < :count)
       SELECT type, CAST(type AS BLOB) AS bytes FROM t WHERE type IS NOT NULL`,
    );
    const empty = this.#connection.prepare(
      "SELECT event_type FROM events WHERE event_type COLLATE NOCASE = '' LIMIT 1",
    );
    const found: string[] = [];
    if (!this.hasTypeIndex) return null;
    found.push(...this.#step(() => empty.pluck().all() as string[]));
    for (let last: Uint8Array = new Uint8Array(); ; ) {
      if (!this.hasTypeIndex) return null;
      const types = this.#step(
        () =>
          next.all({ last, count: STEP_TYPES }) as { readonly type: string; readonly bytes: Uint8Array }[],
      );
      for (const { type } of types) {
        if (type.includes('\0')) return null;
        if (found.length >= most) return found;
        found.push(type);
      }
      const end = types.at(-1);
      if (end === undefined || types.length < STEP_TYPES) return found;
      last = end.bytes;
      yield;
    }
  }

  #atOrBefore(id: bigint | null): Mark | null {
    const row = this.#step(() =>
      this.#connection
        .prepare('SELECT id, timestamp FROM events WHERE id <= ? ORDER BY id DESC LIMIT 1')
        .get(id ?? (1n << 63n) - 1n),
    ) as Mark | undefined;
    return row ?? null;
  }

  #one(sql: string, ...values: bigint[]): bigint | null {
    const found = this.#step(() =>
      this.#connection
        .prepare(sql)
        .pluck()
        .get(...values),
    );
    return (found as bigint | null | undefined) ?? null;
  }
}
