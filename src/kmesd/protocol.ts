import { constants } from 'node:os';
import { Decoder, Encoder } from '../host/msgpack.js';
import { type EmitEntry, MAX_BATCH_ENTRIES, type PayloadCheck } from './emission.js';

/** Largest request body; 256 events of the default 64 KiB fit. */
export const MAX_REQUEST_BYTES = 16 * 1024 * 1024;
/** Largest request body of a caller that may not emit: enough to be told so. */
export const MAX_REFUSED_REQUEST_BYTES = 64 * 1024;

/** A request in its decoded, still unjudged form. */
export type Request =
  | { readonly op: 'emit'; readonly entry: EmitEntry }
  | { readonly op: 'emit_batch'; readonly entries: readonly (EmitEntry | null)[] | null }
  | { readonly op: 'status' }
  | {
      readonly op: 'kernel_emit';
      readonly origin: unknown;
      readonly anonymous: boolean;
      readonly entries: readonly (EmitEntry | null)[] | null;
    }
  | { readonly op: 'configure'; readonly key: string; readonly value: unknown }
  | { readonly op: 'unknown'; readonly name: string };

/** A body that is no request at all. */
export class RequestError extends Error {
  override readonly name = 'RequestError';
}

/** Map in array in map. */
const REQUEST_DEPTH = 3;
/** Room for one entry too many, so that the count check of the call can answer. */
const MAX_ARRAY = 65_536;

// Strings stay bytes: the UTF-8 check of an event type needs what was really sent.
const decoder = new Decoder({ rawStrings: true, maxArrayLength: MAX_ARRAY, maxMapLength: 64 });
const encoder = new Encoder({ useBigInt64: true });

type Fields = Readonly<Record<string, unknown>>;

/**
 * Decodes one request body. `wellFormed` runs first and bounds the work: counts it accepts are
 * backed by bytes, so the decoder never allocates for what was merely declared.
 *
 * Throws RequestError when the body is not one msgpack map of at most three levels.
 */
export function decodeRequest(body: Uint8Array, wellFormed: PayloadCheck): Request {
  if (!wellFormed(body, REQUEST_DEPTH)) {
    throw new RequestError(`the request is not one msgpack value of at most ${REQUEST_DEPTH} levels`);
  }
  let value: unknown;
  try {
    value = decoder.decode(body);
  } catch (error) {
    throw new RequestError(
      `the request cannot be decoded: ${error instanceof Error ? error.message : error}`,
    );
  }
  if (!isMap(value)) throw new RequestError('the request is not a map');
  return toRequest(value);
}

function toRequest(fields: Fields): Request {
  const op = text(fields.op);
  switch (op) {
    case 'emit':
      return { op, entry: toEntry(fields) };
    case 'emit_batch':
      return { op, entries: toEntries(fields.entries) };
    case 'status':
      return { op };
    case 'kernel_emit':
      return {
        op,
        origin: fields.origin,
        anonymous: fields.anonymous === true,
        entries: toEntries(fields.entries),
      };
    case 'resize':
      return { op: 'configure', key: 'BufferCapacity', value: fields.capacity };
    case 'configure':
      return { op, key: text(fields.key), value: fields.value };
    default:
      return { op: 'unknown', name: op.slice(0, 64) };
  }
}

function toEntries(value: unknown): (EmitEntry | null)[] | null {
  if (!Array.isArray(value)) return null;
  // Beyond the limit only the count matters.
  if (value.length > MAX_BATCH_ENTRIES) return new Array<null>(value.length).fill(null);
  return value.map((entry: unknown) => (isMap(entry) ? toEntry(entry) : null));
}

function toEntry(fields: Fields): EmitEntry {
  return { type: bytes(fields.type), payload: bytes(fields.payload) };
}

function bytes(value: unknown): Uint8Array | null {
  return value instanceof Uint8Array ? value : null;
}

function text(value: unknown): string {
  return value instanceof Uint8Array ? Buffer.from(value).toString('utf8') : '';
}

function isMap(value: unknown): value is Fields {
  return typeof value === 'object' && value !== null && Object.getPrototypeOf(value) === Object.prototype;
}

/** Names of the errors a response can carry. */
export type ErrorCode =
  | 'EPERM'
  | 'EIO'
  | 'EAGAIN'
  | 'ENOMEM'
  | 'EFAULT'
  | 'EINVAL'
  | 'ENOSPC'
  | 'ENOSYS'
  | 'EBADMSG'
  | 'EMSGSIZE';

/** The answer to one request. */
export type Response = Readonly<Record<string, unknown>> & { readonly errno: number };

/** A success, with what the operation returns. */
export function success(fields: Readonly<Record<string, unknown>> = {}): Response {
  return { errno: 0, ...fields };
}

/** A failure, numbered as on this machine. */
export function failure(
  code: ErrorCode,
  message: string,
  fields: Readonly<Record<string, unknown>> = {},
): Response {
  return { errno: constants.errno[code], code, message, ...fields };
}

/** The msgpack body of a response; bigints become 64-bit integers. */
export function encodeResponse(response: Response): Uint8Array {
  return encoder.encode(response);
}
