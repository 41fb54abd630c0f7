import { connect, type Socket } from 'node:net';
import { messageOf } from '../host/errorMessage.js';
import { Decoder, Encoder } from '../host/msgpack.js';
import { encodeFrame, FrameDecoder } from '../wire/frame.js';

/** A call kmesd refused, or a broken connection. `code` is the errno name, such as EPERM or EAGAIN. */
export class EmitError extends Error {
  override readonly name = 'EmitError';
  constructor(
    readonly code: string,
    message: string,
    /** Events of the call that were emitted all the same: a batch stops at its first bad entry. */
    readonly emitted = 0,
  ) {
    super(message);
  }
}

/** One event of a batch; `payload` is one msgpack value. */
export interface EmitClientEntry {
  readonly type: string;
  readonly payload: Uint8Array;
}

interface Waiter {
  resolve(response: Readonly<Record<string, unknown>>): void;
  reject(error: EmitError): void;
}

const MAX_RESPONSE_BYTES = 1024 * 1024;

/**
 * A connection to kmesd's emit socket. Calls may overlap: they are sent at once and answered in
 * order. After a broken connection every call rejects; connect anew.
 *
 * @example
 * const client = await EmitClient.connect('/run/kmes/emit.sock');
 * await client.emit('backup.finished', encode({ volume: 'home', bytes: 81920 }));
 * client.close();
 */
export class EmitClient {
  readonly #socket: Socket;
  readonly #frames = new FrameDecoder(MAX_RESPONSE_BYTES);
  readonly #decoder = new Decoder({ useBigInt64: true });
  readonly #encoder = new Encoder({ useBigInt64: true });
  readonly #waiting: Waiter[] = [];
  #broken: EmitError | null = null;

  private constructor(socket: Socket) {
    this.#socket = socket;
    socket.on('data', (chunk: Buffer) => this.#received(chunk));
    socket.on('error', (error) => this.#fail(toEmitError(error)));
    socket.on('close', () => this.#fail(new EmitError('ECONNRESET', 'kmesd closed the connection')));
  }

  /** Connects; rejects with EmitError (ENOENT, ECONNREFUSED, EACCES, ...) naming the path. */
  static connect(path: string): Promise<EmitClient> {
    return new Promise((resolve, reject) => {
      const socket = connect(path);
      const failed = (error: Error) => reject(toEmitError(error));
      socket.once('error', failed);
      socket.once('connect', () => {
        socket.off('error', failed);
        resolve(new EmitClient(socket));
      });
    });
  }

  /** Emits one event (kmes_emit). Rejects with EmitError carrying the errno name. */
  async emit(type: string, payload: Uint8Array): Promise<void> {
    await this.request({ op: 'emit', type, payload });
  }

  /**
   * Emits 1 to 256 events under one timestamp (kmes_emit_batch) and resolves to their number.
   * Rejects with EmitError at the first bad entry; its `emitted` says how many went before it.
   */
  async emitBatch(entries: readonly EmitClientEntry[]): Promise<number> {
    const response = await this.request({ op: 'emit_batch', entries });
    return typeof response.emitted === 'number' ? response.emitted : entries.length;
  }

  /** kmesd's own account of its rings, limits and sources; see docs/kmesd.md. */
  status(): Promise<Readonly<Record<string, unknown>>> {
    return this.request({ op: 'status' });
  }

  /** Sends any request map and resolves to its answer. Rejects with EmitError when `errno` is not 0. */
  async request(fields: Readonly<Record<string, unknown>>): Promise<Readonly<Record<string, unknown>>> {
    if (this.#broken !== null) throw this.#broken;
    const response = await new Promise<Readonly<Record<string, unknown>>>((resolve, reject) => {
      this.#waiting.push({ resolve, reject });
      this.#socket.write(encodeFrame(this.#encoder.encode(fields)));
    });
    if (response.errno === 0) return response;
    const { code, message, emitted } = response;
    throw new EmitError(
      typeof code === 'string' ? code : 'EIO',
      typeof message === 'string' ? message : 'kmesd refused the call without a reason',
      typeof emitted === 'number' ? emitted : 0,
    );
  }

  /** Closes the connection; calls still waiting reject. */
  close(): void {
    this.#fail(new EmitError('ECANCELED', 'the connection was closed'));
    this.#socket.end();
    this.#socket.destroySoon();
  }

  #received(chunk: Buffer): void {
    try {
      this.#frames.push(chunk);
      for (let body = this.#frames.next(); body !== null; body = this.#frames.next()) {
        const response: unknown = this.#decoder.decode(body);
        if (typeof response !== 'object' || response === null) throw new Error('an answer is not a map');
        this.#waiting.shift()?.resolve({ ...response });
      }
    } catch (error) {
      this.#fail(new EmitError('EBADMSG', messageOf(error)));
      this.#socket.destroy();
    }
  }

  #fail(error: EmitError): void {
    this.#broken ??= error;
    for (const waiter of this.#waiting.splice(0)) waiter.reject(error);
  }
}

function toEmitError(error: Error): EmitError {
  const code = 'code' in error && typeof error.code === 'string' ? error.code : 'EIO';
  return new EmitError(code, error.message);
}
