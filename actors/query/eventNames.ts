/**
 * Which event types a database holds, and which payload fields the records of some of them have. What was
 * found is kept and only newer rows are looked at (docs/decisions/0024). It is a superset: a type stays
 * known when its last record is gone.
 */

import type { FieldPath } from '../../src/access/fieldLists.js';
import { decode } from '../../src/host/msgpack.js';
import { foldAscii } from '../../src/query/nameMatch.js';
import type { Survey, TimeRange } from '../../src/query/survey.js';
import type { ReadConnection } from '../../src/stores/readConnection.js';
import { EventRows, type Mark, START, STEP_ROWS, type Step, type Stretch } from './eventRows.js';
import { type Learned, sizeOf } from './learned.js';

/** Payload fields kept per type and database; more are shown to nobody who may not see everything. */
const MAX_FIELDS = 16_384;

/** Types kept per database; more are hidden from whoever may not see everything. */
const MAX_TYPES = 262_144;

/** Databases remembered; archives come and go. */
const MAX_DATABASES = 4096;

/** Of more names than this, or fields of a type, others are not told: each finds them for itself. */
const MAX_TOLD = 16_384;

/** A range is searched by time when it holds this many times fewer rows than the catalogue lacks. */
const RANGE_GAIN = 2n;

/** Types that rows up to a mark have. */
interface Types {
  mark: Mark;
  readonly names: Set<string>;
}

interface Fields {
  mark: Mark;
  readonly paths: Map<string, FieldPath>;
}

/** What is known of one database. */
interface Known {
  /** In every spelling. */
  readonly spelt: Types;
  /** In one spelling at least. */
  readonly folded: Types;
  /** By folded type. */
  readonly fields: Map<string, Fields>;
}

/** What is asked about types. */
type TypesWanted = Pick<Extract<Survey, { kind: 'names' }>, 'range' | 'spellings'>;

export class EventNames {
  readonly #databases = new Map<string, Known>();
  readonly #hear: (learned: Learned) => void;
  readonly #maxTypes: number;

  /** @param hear what took a longer search */
  constructor(hear: (learned: Learned) => void = () => {}, maxTypes = MAX_TYPES) {
    this.#hear = hear;
    this.#maxTypes = maxTypes;
  }

  /** Forgets databases that are not among these. */
  retain(connections: readonly ReadConnection[]): void {
    const keys = new Set(connections.map(keyOf));
    for (const key of this.#databases.keys()) if (!keys.has(key)) this.#databases.delete(key);
  }

  /** Takes over what somebody else knows, where that is more. */
  adopt(learned: Learned): void {
    const known = this.#take(learned.database);
    if (learned.what === 'fields') {
      const fields = fieldsOf(known, learned.type);
      if (learned.mark.id <= fields.mark.id) return;
      for (const path of learned.paths) addPath(fields, path);
      fields.mark = learned.mark;
      return;
    }
    const types = known[learned.what];
    if (learned.mark.id <= types.mark.id) return;
    for (const name of learned.names) this.#add(types.names, name);
    types.mark = learned.mark;
  }

  /** Types of a database, at least those in the range. Each yield is a turn for others. */
  *types(
    connection: ReadConnection,
    { range, spellings }: TypesWanted,
    step: Step,
  ): Generator<void, Iterable<string>, void> {
    const rows = new EventRows(connection, step);
    const newest = rows.newest();
    const database = keyOf(connection);
    const known = this.#take(database);
    const isIndexed = !spellings && rows.hasTypeIndex;
    const what = isIndexed ? 'folded' : 'spelt';
    const types = known[what];
    const learned = (): Learned => ({ what, database, mark: types.mark, names: [...types.names] });
    if (newest === null) return types.names;
    types.mark = rows.sound(types.mark);
    const behind = newest.id - types.mark.id;
    if (behind > STEP_ROWS) {
      const indexed = isIndexed ? yield* rows.indexedTypes(this.#maxTypes) : null;
      if (indexed !== null) {
        for (const name of indexed) this.#add(types.names, name);
        types.mark = newest;
        this.#tell(learned());
        return types.names;
      }
      if (rows.estimate(range) * RANGE_GAIN < behind) {
        const found = new Set<string>();
        for (const stretch of rows.byTime(range)) {
          for (const name of distinctTypes(connection, stretch, step)) this.#add(found, name);
          yield;
        }
        return found;
      }
    }
    for (const stretch of rows.byId(types.mark, newest)) {
      for (const name of distinctTypes(connection, stretch, step)) this.#add(types.names, name);
      types.mark = stretch.mark;
      yield;
    }
    if (behind > STEP_ROWS) this.#tell(learned());
    return types.names;
  }

  /** Paths of the payload fields in records of each of these types, at least those in the range; by folded type. */
  *fields(
    connection: ReadConnection,
    types: readonly string[],
    range: TimeRange,
    step: Step,
  ): Generator<void, ReadonlyMap<string, Iterable<FieldPath>>, void> {
    const rows = new EventRows(connection, step);
    const newest = rows.newest();
    const database = keyOf(connection);
    const known = this.#take(database);
    const asked = new Map(
      types.map((type) => {
        const folded = foldAscii(type);
        return [folded, fieldsOf(known, folded)] as const;
      }),
    );
    const answer = (found: ReadonlyMap<string, Pick<Fields, 'paths'>>) =>
      new Map([...found].map(([type, { paths }]) => [type, paths.values()]));
    if (newest === null) return answer(asked);
    const all = [...asked.values()];
    for (const fields of all) fields.mark = rows.sound(fields.mark);
    const first = all.map(({ mark }) => mark).reduce((least, mark) => (mark.id < least.id ? mark : least));
    const behind = newest.id - first.id;
    if (behind > STEP_ROWS && rows.estimate(range) * RANGE_GAIN < behind) {
      const found = new Map([...asked.keys()].map((type) => [type, { paths: new Map<string, FieldPath>() }]));
      for (const stretch of rows.byTime(range)) {
        for (const { type, paths } of distinctFields(connection, stretch, types, step))
          keep(found.get(foldAscii(type)), paths);
        yield;
      }
      return answer(found);
    }
    for (const stretch of rows.byId(first, newest)) {
      for (const { type, paths } of distinctFields(connection, stretch, types, step))
        keep(asked.get(foldAscii(type)), paths);
      for (const fields of all) if (fields.mark.id < stretch.mark.id) fields.mark = stretch.mark;
      yield;
    }
    for (const [type, { mark, paths }] of behind > STEP_ROWS ? asked : [])
      this.#tell({ what: 'fields', type, database, mark, paths: [...paths.values()] });
    return answer(asked);
  }

  #add(names: Set<string>, name: string): void {
    if (names.size < this.#maxTypes) names.add(name);
  }

  #tell(learned: Learned): void {
    if (sizeOf(learned) <= MAX_TOLD) this.#hear(learned);
  }

  #take(key: string): Known {
    let known = this.#databases.get(key);
    this.#databases.delete(key);
    known ??= {
      spelt: { mark: START, names: new Set() },
      folded: { mark: START, names: new Set() },
      fields: new Map(),
    };
    this.#databases.set(key, known);
    for (const oldest of this.#databases.keys()) {
      if (this.#databases.size <= MAX_DATABASES) break;
      this.#databases.delete(oldest);
    }
    return known;
  }
}

function distinctTypes(
  connection: ReadConnection,
  { where, bounds }: Stretch,
  step: Step,
): readonly string[] {
  const statement = connection.prepare(
    `SELECT DISTINCT event_type COLLATE BINARY FROM events WHERE ${where}`,
  );
  return step(() => statement.pluck().all(...bounds) as string[]);
}

interface TypeFields {
  readonly type: string;
  readonly paths: Uint8Array;
}

function distinctFields(
  connection: ReadConnection,
  { where, bounds }: Stretch,
  types: readonly string[],
  step: Step,
): readonly TypeFields[] {
  const statement = connection.prepare(
    'SELECT DISTINCT event_type COLLATE BINARY AS type, payload_paths(payload) AS paths FROM events' +
      ` WHERE ${where} AND +event_type COLLATE NOCASE IN (SELECT value FROM json_each(?))`,
  );
  return step(() => statement.all(...bounds, JSON.stringify(types)) as TypeFields[]);
}

function fieldsOf(known: Known, folded: string): Fields {
  const fields = known.fields.get(folded) ?? { mark: START, paths: new Map() };
  known.fields.set(folded, fields);
  return fields;
}

function keep(fields: Pick<Fields, 'paths'> | undefined, encoded: Uint8Array): void {
  if (fields !== undefined) for (const path of decodePaths(encoded)) addPath(fields, path);
}

function addPath({ paths }: Pick<Fields, 'paths'>, path: FieldPath): void {
  if (paths.size < MAX_FIELDS) paths.set(JSON.stringify(path), path);
}

/** A file that is replaced is another database. */
function keyOf({ file }: ReadConnection): string {
  return `${file.identity} ${file.path}`;
}

/** What `payload_paths` gives. */
export function decodePaths(encoded: Uint8Array): readonly FieldPath[] {
  return decode(encoded) as FieldPath[];
}
