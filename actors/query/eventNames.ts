/**
 * Which event types a database holds, and which payload fields the records of some of them have. No index
 * tells either, so what was found is kept and only newer rows are looked at (docs/decisions/0024). It is
 * a superset: a type stays known when its last record is gone.
 */
import { decode } from '@msgpack/msgpack';
import type { FieldPath } from '../../src/access/fieldLists.js';
import { foldAscii } from '../../src/query/nameMatch.js';
import type { ReadConnection } from '../../src/stores/readConnection.js';

/** Rows of one step: some ms. */
const STEP_ROWS = 20_000;

/** Payload fields kept per type and database; more are shown to nobody who may not see everything. */
const MAX_FIELDS = 16_384;

/** Types kept per database; more are hidden from whoever may not see everything. */
const MAX_TYPES = 262_144;

/** Databases remembered; archives come and go. */
const MAX_DATABASES = 4096;

type Step = <Result>(call: () => Result) => Result;

/** How far the rows of a table were looked at: a row and what it says, to notice that ids began anew. */
interface Mark {
  readonly id: bigint;
  readonly timestamp: bigint | null;
}

interface Fields {
  mark: Mark;
  readonly paths: Map<string, FieldPath>;
}

const START: Mark = { id: 0n, timestamp: null };

/** What is known of one database. */
interface Known {
  mark: Mark;
  readonly types: Set<string>;
  /** By folded type. */
  readonly fields: Map<string, Fields>;
}

export class EventNames {
  readonly #databases = new Map<string, Known>();

  /** All types of a database. Each yield is a turn for others. */
  *types(connection: ReadConnection, step: Step): Generator<void, ReadonlySet<string>, void> {
    const known = this.#take(connection);
    const statement = connection.prepare(
      'SELECT DISTINCT event_type COLLATE BINARY FROM events WHERE id > ? AND id <= ?',
    );
    for (const { from, to } of this.#rows(connection, known.mark, step)) {
      for (const type of step(() => statement.pluck().all(from.id, to.id) as string[])) {
        if (known.types.size < MAX_TYPES) known.types.add(type);
      }
      known.mark = to;
      yield;
    }
    return known.types;
  }

  /** Paths of the payload fields in records of each of these types, by folded type. */
  *fields(
    connection: ReadConnection,
    types: readonly string[],
    step: Step,
  ): Generator<void, ReadonlyMap<string, Iterable<FieldPath>>, void> {
    const known = this.#take(connection);
    const asked = new Map(
      types.map((type) => {
        const folded = foldAscii(type);
        const fields = known.fields.get(folded) ?? { mark: START, paths: new Map() };
        known.fields.set(folded, fields);
        return [folded, fields] as const;
      }),
    );
    const all = [...asked.values()];
    const first = all.map(({ mark }) => mark).reduce((least, mark) => (mark.id < least.id ? mark : least));
    const statement = connection.prepare(
      'SELECT DISTINCT event_type COLLATE BINARY AS type, payload_paths(payload) AS paths FROM events' +
        ' WHERE id > ? AND id <= ? AND event_type COLLATE NOCASE IN (SELECT value FROM json_each(?))',
    );
    const names = JSON.stringify(types);
    for (const { from, to } of this.#rows(connection, first, step)) {
      const rows = step(() => statement.all(from.id, to.id, names) as { type: string; paths: Uint8Array }[]);
      for (const { type, paths } of rows) keep(asked.get(foldAscii(type)), paths);
      for (const fields of all) if (fields.mark.id < to.id || from.id === 0n) fields.mark = to;
      yield;
    }
    return new Map([...asked].map(([type, { paths }]) => [type, paths.values()]));
  }

  /** The stretches of rows behind a mark, oldest first; from the start where it is no row any more. */
  *#rows(
    connection: ReadConnection,
    mark: Mark,
    step: Step,
  ): Generator<{ readonly from: Mark; readonly to: Mark }, void, void> {
    const at = connection.prepare('SELECT timestamp FROM events WHERE id = ?').pluck();
    const next = connection.prepare(
      'SELECT max(id) FROM (SELECT id FROM events WHERE id > ? ORDER BY id LIMIT ?)',
    );
    const timestampOf = (id: bigint): bigint | null => step(() => at.get(id) as bigint | undefined) ?? null;
    let from = mark.id > 0n && timestampOf(mark.id) === mark.timestamp ? mark : START;
    for (;;) {
      const last = step(() => next.pluck().get(from.id, STEP_ROWS) as bigint | null);
      if (last === null) return;
      const to = { id: last, timestamp: timestampOf(last) };
      yield { from, to };
      from = to;
    }
  }

  #take({ file }: ReadConnection): Known {
    const key = `${file.identity} ${file.path}`;
    let known = this.#databases.get(key);
    this.#databases.delete(key);
    known ??= { mark: START, types: new Set(), fields: new Map() };
    this.#databases.set(key, known);
    for (const oldest of this.#databases.keys()) {
      if (this.#databases.size <= MAX_DATABASES) break;
      this.#databases.delete(oldest);
    }
    return known;
  }
}

function keep(fields: Fields | undefined, encoded: Uint8Array): void {
  if (fields === undefined) return;
  for (const path of decodePaths(encoded)) {
    if (fields.paths.size >= MAX_FIELDS) return;
    fields.paths.set(JSON.stringify(path), path);
  }
}

/** What `payload_paths` gives. */
export function decodePaths(encoded: Uint8Array): readonly FieldPath[] {
  return decode(encoded) as FieldPath[];
}
