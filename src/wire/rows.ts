/**
 * Records as JavaScript values, for users of the client library. {@link EventRecord} keeps every
 * difference the wire makes (1 and 1.0); a {@link Row} is what a program wants to work with.
 */
import type { EventRecord } from './client.js';
import { MalformedResponse } from './messages.js';
import { MsgpackExt, type MsgpackValue } from './msgpackReader.js';

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
 * A record as an object.
 * @throws {MalformedResponse} when its bytes are no record
 */
export function rowOf(record: EventRecord): Row {
  const row: Record<string, Value> = Object.create(null);
  for (const [name, value] of record.fields)
    row[name] = name === 'timestamp' && typeof value === 'bigint' ? value : plain(value);
  return row;
}

function plain(value: MsgpackValue): Value {
  if (typeof value === 'bigint') return isSafe(value) ? Number(value) : value;
  if (value instanceof MsgpackExt) return { type: value.type, data: value.data };
  if (value === null || typeof value !== 'object' || value instanceof Uint8Array) return value;
  if (value instanceof Map) return plainMap(value);
  if (Array.isArray(value)) return value.map(plain);
  throw new MalformedResponse('record holds a value of an unknown kind');
}

function plainMap(map: ReadonlyMap<MsgpackValue, MsgpackValue>): Value {
  const entries = [...map].map(([key, value]) => [plain(key), plain(value)] as const);
  if (!entries.every(([key]) => typeof key === 'string')) return new Map(entries);
  const object: Record<string, Value> = Object.create(null);
  for (const [key, value] of entries) object[String(key)] = value;
  return object;
}

function isSafe(value: bigint): boolean {
  return value >= BigInt(Number.MIN_SAFE_INTEGER) && value <= BigInt(Number.MAX_SAFE_INTEGER);
}
