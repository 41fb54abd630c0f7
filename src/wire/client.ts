/**
 * The client library of the query socket.
 *
 * One connection per query (WIRE-8). The socket is read only while somebody takes records, so a
 * slow consumer makes eventd wait (or, in a stream, makes eventd drop it) instead of filling memory.
 */
import { connect, type Socket } from 'node:net';
import { FrameDecoder, FrameTooLong } from './frame.js';
import {
  decodeResponse,
  ERROR_CLASSES,
  type ErrorClass,
  encodedRecord,
  encodeRequest,
  MalformedResponse,
  type RecordReader,
} from './messages.js';
import { MsgpackError, MsgpackReader, type MsgpackValue } from './msgpackReader.js';

/**
 * Largest response accepted, in bytes. Results come in pieces of about 256 KiB (WIRE-7); one group
 * or record can be bigger, never by two orders of magnitude.
 */
export const MAX_RESPONSE_BYTES = 64 * 1024 * 1024;

/** Longest socket path Linux can bind or connect to, in bytes. */
export const MAX_SOCKET_PATH_BYTES = 107;

/** One record of a result: the encoded map, and its fields in the order they were sent. */
export class EventRecord {
  #fields: ReadonlyMap<string, MsgpackValue> | undefined;

  /** @param raw the record as received, one msgpack map */
  constructor(readonly raw: Uint8Array) {}

  /**
   * Top-level fields. Integers are bigint, floats number, nested maps Map.
   * @throws {MalformedResponse} when the bytes are no map with string keys
   */
  get fields(): ReadonlyMap<string, MsgpackValue> {
    this.#fields ??= readFields(this.raw);
    return this.#fields;
  }

  /** One field; undefined when the record does not have it, null when it is nil. */
  get(name: string): MsgpackValue | undefined {
    return this.fields.get(name);
  }
}

function readFields(raw: Uint8Array): ReadonlyMap<string, MsgpackValue> {
  const reader = new MsgpackReader(raw);
  try {
    const entries = reader.tryMap();
    if (entries === null) throw new MalformedResponse('record is not a map');
    const fields = new Map<string, MsgpackValue>();
    for (let i = 0; i < entries; i++) {
      const name = reader.tryString();
      if (name === null) throw new MalformedResponse('record has a key that is no string');
      const value = reader.value();
      if (!fields.has(name)) fields.set(name, value);
    }
    return fields;
  } catch (error) {
    if (error instanceof MsgpackError) throw new MalformedResponse(`record is malformed: ${error.message}`);
    throw error;
  }
}

/** eventd answered with an error message (WIRE-20). */
export class QueryFailure extends Error {
  override readonly name = 'QueryFailure';
  /** The class the text begins with; null when this client does not know it. */
  readonly class: ErrorClass | null;
  /** What is wrong: the text behind the class, its colon and the position. */
  readonly detail: string;
  /** For parse errors: 1-based character position in the query text. */
  readonly position: number | null;

  constructor(text: string) {
    super(text);
    this.class = ERROR_CLASSES.find((name) => text.startsWith(`${name}:`)) ?? null;
    const rest = this.class === null ? text : text.slice(this.class.length + 1).trim();
    const found = this.class === 'parse error' ? /^character (\d{1,9}): /.exec(rest) : null;
    this.position = found === null ? null : Number(found[1]);
    this.detail = found === null ? rest : rest.slice(found[0].length);
  }
}

/** No answer could be had: no connection, a broken one, or a peer that is no eventd. */
export class ConnectionFailure extends Error {
  override readonly name = 'ConnectionFailure';
  constructor(
    message: string,
    readonly path: string,
    /** errno name, `CLOSED` (ended before the end message) or `MALFORMED`. */
    readonly code: string,
  ) {
    super(message);
  }
}

export interface QueryOptions {
  /** Ends the query: the connection closes and the iteration throws the signal's reason. */
  readonly signal?: AbortSignal;
  /** Largest accepted response in bytes; {@link MAX_RESPONSE_BYTES} by default. */
  readonly maxResponseBytes?: number;
}

/**
 * Runs one query and yields its records as they arrive. Leaving the loop early closes the connection,
 * which cancels the query (QX-64).
 *
 * @throws {QueryFailure} when eventd answers with an error, which may follow earlier records (WIRE-7)
 * @throws {ConnectionFailure} when there is no connection, or it ends before the end message
 * @example
 * for await (const record of query('/run/eventd/query.sock', 'EVENTS TAKE 20')) {
 *   console.log(record.get('event_type'));
 * }
 */
export async function* query(
  socketPath: string,
  text: string,
  options: QueryOptions = {},
): AsyncGenerator<EventRecord, void, undefined> {
  for await (const records of queryMessages(socketPath, text, options)) {
    for (const record of records) {
      options.signal?.throwIfAborted();
      yield record;
    }
  }
}

/**
 * The same, one result message at a time, empty ones included. The first message of a stream says that
 * eventd watches: what is committed after it will come, and the first empty one ends what was stored (STR-3, STR-4).
 *
 * @throws {QueryFailure | ConnectionFailure} as {@link query} does
 */
export function queryMessages(
  socketPath: string,
  text: string,
  options: QueryOptions = {},
): AsyncGenerator<readonly EventRecord[], void, undefined> {
  return queryBatches(socketPath, text, options, (reader) => new EventRecord(encodedRecord(reader)));
}

/**
 * The same with what `readRecord` makes of each record. A message is read as a whole, and the next one is not
 * asked of the socket before somebody wants it.
 *
 * @throws {QueryFailure | ConnectionFailure} as {@link query} does
 */
export async function* queryBatches<T>(
  socketPath: string,
  text: string,
  options: QueryOptions,
  readRecord: RecordReader<T>,
): AsyncGenerator<readonly T[], void, undefined> {
  const { signal } = options;
  signal?.throwIfAborted();
  checkPath(socketPath);
  const socket = connect({ path: socketPath });
  const abort = () => socket.destroy();
  signal?.addEventListener('abort', abort, { once: true });
  const decoder = new FrameDecoder(options.maxResponseBytes ?? MAX_RESPONSE_BYTES);
  socket.write(encodeRequest(text));
  try {
    for await (const chunk of chunks(socket, socketPath, signal)) {
      decoder.push(chunk);
      for (let payload = decoder.next(); payload !== null; payload = decoder.next()) {
        const response = decodeResponse(payload, readRecord);
        if (response.status === 'end') return;
        if (response.status === 'error') throw new QueryFailure(response.error);
        signal?.throwIfAborted();
        yield response.records;
      }
    }
    signal?.throwIfAborted();
    throw new ConnectionFailure(
      `${socketPath}: connection closed before the end of the result`,
      socketPath,
      'CLOSED',
    );
  } catch (error) {
    if (error instanceof FrameTooLong || error instanceof MalformedResponse)
      throw new ConnectionFailure(
        `${socketPath}: not an answer of eventd: ${error.message}`,
        socketPath,
        'MALFORMED',
      );
    throw error;
  } finally {
    signal?.removeEventListener('abort', abort);
    socket.destroy();
  }
}

/** The socket's bytes; an errored or aborted socket ends in the error the caller should see. */
async function* chunks(
  socket: Socket,
  path: string,
  signal: AbortSignal | undefined,
): AsyncGenerator<Uint8Array, void, undefined> {
  try {
    for await (const chunk of socket as AsyncIterable<Buffer>) yield chunk;
  } catch (error) {
    signal?.throwIfAborted();
    // eventd closes after an error message; bytes of ours it never read make that a reset.
    throw connectionFailure(path, error);
  }
}

/** @throws {ConnectionFailure} for paths the kernel would cut or refuse */
export function checkPath(path: string): void {
  const bytes = Buffer.byteLength(path);
  if (bytes === 0) throw new ConnectionFailure('socket path is empty', path, 'EINVAL');
  if (bytes > MAX_SOCKET_PATH_BYTES)
    throw new ConnectionFailure(
      `${path}: socket path of ${bytes} bytes is too long, ${MAX_SOCKET_PATH_BYTES} is the limit`,
      path,
      'ENAMETOOLONG',
    );
}

const REASONS: Readonly<Record<string, string>> = {
  ENOENT: 'no such socket; is it running?',
  EAGAIN: 'too many connections wait there; does it hang?',
  ECONNREFUSED: 'nobody listens there; is it running?',
  EACCES: 'permission denied',
  ECONNRESET: 'connection reset by the other side',
  EPIPE: 'connection closed by the other side',
  ENOTSOCK: 'not a socket',
};

/** Puts a failed connection into words. */
export function connectionFailure(path: string, error: unknown): ConnectionFailure {
  const code =
    error instanceof Error && 'code' in error && typeof error.code === 'string' ? error.code : 'EIO';
  return new ConnectionFailure(`${path}: ${REASONS[code] ?? code}`, path, code);
}
