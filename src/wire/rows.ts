/**
 * Records as JavaScript values, for users of the client library. `EventRecord` (client.ts) keeps every
 * difference the wire makes (1 and 1.0); a {@link Row} is what a program wants to work with.
 */
import { MalformedResponse } from './messages.js';
import { KIND, type Kind, type MsgpackReader } from './msgpackReader.js';
import { RootShape } from './shapes.js';

/** A msgpack extension inside a payload; eventd passes it on untouched (WIRE-10). */
export interface Extension {
  readonly type: number;
  readonly data: Uint8Array;
}

/**
 * A value of a record.
 *
 * - integers: number up to ±(2^53 − 1), bigint beyond; no digit is lost
 * - floats: number
 * - binary: Uint8Array; GUID columns: text `{xxxxxxxx-xxxx-xxxx-xxxx-xxxxxxxxxxxx}`
 * - nested maps: objects without prototype, so keys such as `__proto__` are mere keys; a Map when a key is
 *   no string
 */
export type Value =
  | null
  | boolean
  | number
  | bigint
  | string
  | Uint8Array
  | Extension
  | readonly Value[]
  | { readonly [key: string]: Value }
  | ReadonlyMap<Value, Value>;

/** A record: an object without prototype. `timestamp` is always bigint, ns since the Unix epoch. */
export interface Row {
  readonly [field: string]: Value | undefined;
}

/** A record of EVENTS without SELECT; every other key is a top-level payload field (QL-78). */
export interface EventRow extends Row {
  readonly timestamp: bigint;
  /** The columns are null in records eventd made itself; a gap record shows its CPU (QL-47). */
  readonly cpu_id: number | null;
  readonly sequence: number | bigint | null;
  /** 0 userspace, 1 KMES, 2 KACS, 3 LCS. */
  readonly origin_class: number | null;
  readonly event_type: string;
  readonly effective_token_guid: string | null;
  readonly true_token_guid: string | null;
  readonly process_guid: string | null;
  readonly boot_id: string;
}

/** A record of LOGS without SELECT (QL-121). */
export interface LogRow extends Row {
  readonly timestamp: bigint;
  readonly origin: string;
  readonly is_error: boolean;
  readonly message: string;
  readonly boot_id: string;
}

/** A record of METRIC without SELECT; every other key is a label (QL-99). */
export interface MetricRow extends Row {
  readonly timestamp: bigint;
  readonly name: string;
  readonly value: number | HistogramValue | null;
}

/** The value of a histogram that no function was applied to (QL-102). */
export type HistogramValue = {
  readonly boundaries: readonly number[];
  /** Cumulative. */
  readonly counts: readonly (number | bigint)[];
  readonly total_count: number | bigint;
  readonly sum: number;
};

/** Events are missing here: a record of eventd's own in the place of the loss (STO-8). */
export interface GapRow extends EventRow {
  readonly event_type: 'synthetic.gap';
  readonly first_missing: number | bigint;
  readonly last_missing: number | bigint;
  readonly missing_count: number | bigint;
}

/**
 * Is the record eventd's own word that events are missing? Any program may emit a type that begins with
 * `synthetic.`, so a record counts only when `sequence` and `origin_class` are there and null.
 */
export function isGap(row: Row): row is GapRow {
  return row.event_type === 'synthetic.gap' && row.sequence === null && row.origin_class === null;
}

/** The time of a record as a Date, cut to the millisecond. */
export function toDate(timestamp: bigint): Date {
  return new Date(Number(timestamp / 1_000_000n));
}

/**
 * An object whose properties are all its own. Engines lay out what comes from one constructor alike, record for
 * record; an object that is made without a prototype is a hash table to them, several times as slow and large.
 */
class Bare {
  [key: string]: Value;
}
Object.setPrototypeOf(Bare.prototype, null);
// Else every record would seem to have a field of that name.
Reflect.deleteProperty(Bare.prototype, 'constructor');

/** Reads records as objects. One for each query, whose records are much alike. */
export class RowReader {
  readonly #shapes = new RootShape();

  /**
   * The record that begins at the reader.
   * @throws {MalformedResponse | MsgpackError} when the bytes are no record
   */
  read(reader: MsgpackReader): Row {
    if (reader.next() !== KIND.map) throw new MalformedResponse('record is not a map');
    const row = new Bare();
    let shape = this.#shapes.empty;
    for (let left = reader.count; left > 0; left--) {
      if (reader.next() !== KIND.text) throw new MalformedResponse('record has a key that is no string');
      const name = reader.key(shape.likely);
      const kind = reader.next();
      const value =
        name === 'timestamp' && kind === KIND.integer ? BigInt(reader.number) : readValue(reader, kind, 0);
      // Of equal keys the first counts (QL-44).
      if (shape.takes(name)) {
        const before = shape;
        shape = before.with(name, this.#shapes);
        if (shape !== before) row[name] = value;
      } else if (row[name] === undefined) row[name] = value;
    }
    return Object.setPrototypeOf(row, null);
  }
}

/** The value of which `reader.next()` has said the kind. */
function readValue(reader: MsgpackReader, kind: Kind, depth: number): Value {
  switch (kind) {
    case KIND.nil:
      return null;
    case KIND.false:
      return false;
    case KIND.true:
      return true;
    case KIND.integer:
    case KIND.float:
      return reader.number;
    case KIND.wide:
      return reader.wide;
    case KIND.text:
      return reader.text();
    case KIND.binary:
      return reader.binary();
    case KIND.extension: {
      const { type, data } = reader.extension();
      return { type, data };
    }
    case KIND.array: {
      reader.checkDepth(depth);
      const items: Value[] = [];
      for (let left = reader.count; left > 0; left--) items.push(readValue(reader, reader.next(), depth + 1));
      return items;
    }
    case KIND.map:
      reader.checkDepth(depth);
      return readMap(reader, reader.count, depth + 1);
  }
}

/** An object as long as all keys are strings. */
function readMap(reader: MsgpackReader, count: number, depth: number): Value {
  const object = new Bare();
  const names: string[] = [];
  for (let left = count; left > 0; left--) {
    const kind = reader.next();
    if (kind !== KIND.text) {
      const map = new Map<Value, Value>(names.map((name) => [name, object[name] ?? null]));
      return readOtherKeys(reader, map, kind, left, depth);
    }
    const name = reader.key();
    const value = readValue(reader, reader.next(), depth);
    if (object[name] !== undefined) continue;
    object[name] = value;
    names.push(name);
  }
  return Object.setPrototypeOf(object, null);
}

/** Goes on with a map at its first key that is no string, of this kind. */
function readOtherKeys(
  reader: MsgpackReader,
  map: Map<Value, Value>,
  kind: Kind,
  count: number,
  depth: number,
): Value {
  for (let left = count; left > 0; left--) {
    const key = readValue(reader, left === count ? kind : reader.next(), depth);
    const value = readValue(reader, reader.next(), depth);
    if (!map.has(key)) map.set(key, value);
  }
  return map;
}
