/**
 * The messages of the query socket (WIRE-4, WIRE-5): what a request may look like, what eventd
 * answers, and the classes of its error texts (WIRE-20).
 */
import { Encoder } from '../host/msgpack.js';
import { encodeFrame } from './frame.js';
import { MsgpackError, MsgpackReader, type MsgpackValue } from './msgpackReader.js';

/** The stable first words of an error text, without the colon (WIRE-20); `unsupported` is our own addition. */
export const ERROR_CLASSES = [
  'protocol error',
  'parse error',
  'access denied',
  'limit exceeded',
  'range too large',
  'type error',
  'timeout',
  'backpressure',
  'storage error',
  'shutting down',
  'unsupported',
] as const;
export type ErrorClass = (typeof ERROR_CLASSES)[number];

/** A request as the server sees it: the query text, or the complete error text to answer with. */
export type RequestOutcome =
  | { readonly ok: true; readonly query: string }
  | { readonly ok: false; readonly error: string };

/**
 * A value a server puts into a record (WIRE-10): bigint becomes a msgpack integer, number always a
 * float64, also for whole numbers.
 */
export type WireValue =
  | null
  | boolean
  | bigint
  | number
  | string
  | Uint8Array
  | readonly WireValue[]
  | { readonly [key: string]: WireValue };
export type WireRecord = { readonly [field: string]: WireValue };

/** A response as the client sees it. */
export type WireResponse<T> =
  | { readonly status: 'ok'; readonly records: readonly T[] }
  | { readonly status: 'end' }
  | { readonly status: 'error'; readonly error: string };

/** eventd, or what answers in its place, broke the protocol. */
export class MalformedResponse extends Error {
  override readonly name = 'MalformedResponse';
}

const encoder = new Encoder({ useBigInt64: true, forceIntegerToFloat: true });

/** The frame a client sends. */
export function encodeRequest(query: string): Uint8Array {
  return encodeFrame(encoder.encodeSharedRef({ query }));
}

/** One `result` frame. An empty list is the answer to a query that matched nothing (WIRE-7). */
export function encodeResult(records: readonly WireRecord[]): Uint8Array {
  return encodeFrame(encoder.encodeSharedRef({ status: 'ok', records }));
}

/** The frame after the last result of a query that is no stream. */
export function encodeEnd(): Uint8Array {
  return encodeFrame(encoder.encodeSharedRef({ status: 'end' }));
}

/** An `error` frame; `text` begins with an {@link ErrorClass} and a colon. */
export function encodeError(text: string): Uint8Array {
  return encodeFrame(encoder.encodeSharedRef({ status: 'error', error: Buffer.from(text).toString() }));
}

/** The answer to a request whose header announces too many bytes (WIRE-3). */
export function oversizeError(announced: number, limit: number): string {
  return `protocol error: request of ${announced} bytes exceeds MaxQueryMessageBytes (${limit})`;
}

/**
 * Reads the payload of a request frame (WIRE-4). Unknown keys are passed over, the first `query`
 * counts. Work and memory are bounded by the payload's length, whatever counts it declares.
 */
export function decodeRequest(payload: Uint8Array): RequestOutcome {
  if (payload.length === 0) return refused('request is empty');
  const reader = new MsgpackReader(payload);
  try {
    const entries = reader.tryMap();
    if (entries === null) {
      reader.skip();
      return refused('request must be a map');
    }
    let query: string | null | undefined;
    for (let i = 0; i < entries; i++) {
      const key = reader.tryString();
      if (key === null) reader.skip();
      if (key !== 'query' || query !== undefined) {
        reader.skip();
        continue;
      }
      query = reader.tryString();
      if (query === null) reader.skip();
    }
    if (!reader.atEnd)
      return refused(`request has ${payload.length - reader.offset} extra bytes after its map`);
    if (query === undefined) return refused("request has no 'query'");
    if (query === null) return refused("'query' must be a string");
    return { ok: true, query };
  } catch (error) {
    if (error instanceof MsgpackError) return refused(`invalid request: ${error.message}`);
    throw error;
  }
}

function refused(reason: string): RequestOutcome {
  return { ok: false, error: `protocol error: ${reason}` };
}

/** Makes something of the record that begins at the reader, and leaves the reader behind it. */
export type RecordReader<T> = (reader: MsgpackReader) => T;

/** The encoded record: one msgpack map, as a view of the response. */
export const encodedRecord: RecordReader<Uint8Array> = (reader) => reader.skip();

/**
 * Reads the payload of a response frame.
 * @throws {MalformedResponse} when it is none
 */
export function decodeResponse<T>(payload: Uint8Array, readRecord: RecordReader<T>): WireResponse<T> {
  const reader = new MsgpackReader(payload);
  try {
    const entries = reader.tryMap();
    if (entries === null) throw new MalformedResponse('response is not a map');
    let status: MsgpackValue | undefined;
    let error: MsgpackValue | undefined;
    let records: T[] | undefined;
    for (let i = 0; i < entries; i++) {
      const key = reader.tryString();
      if (key === null) reader.skip();
      if (key === 'status') status = reader.value();
      else if (key === 'error') error = reader.value();
      else if (key === 'records') records = readRecords(reader, readRecord);
      else reader.skip();
    }
    if (!reader.atEnd) throw new MalformedResponse('response has extra bytes after its map');
    if (status === 'end') return { status };
    if (status === 'ok' && records !== undefined) return { status, records };
    if (status === 'error' && typeof error === 'string') return { status, error };
    throw new MalformedResponse('response has no known status');
  } catch (cause) {
    if (cause instanceof MsgpackError) throw new MalformedResponse(`response is malformed: ${cause.message}`);
    throw cause;
  }
}

function readRecords<T>(reader: MsgpackReader, readRecord: RecordReader<T>): T[] {
  const count = reader.tryArray();
  if (count === null) throw new MalformedResponse("'records' is not an array");
  const records: T[] = [];
  for (let i = 0; i < count; i++) records.push(readRecord(reader));
  return records;
}
