import { chmodSync, lstatSync, unlinkSync } from 'node:fs';
import { createServer, type Server, type Socket } from 'node:net';
import { descriptorOf } from '../host/socketDescriptor.js';
import type { NativeAddon } from '../native/addon.js';
import { encodeFrame, FrameDecoder, FrameTooLong } from '../wire/frame.js';
import type { Admission } from './admission.js';
import { errnoOf, KmesdError, reasonOf } from './failure.js';
import {
  encodeResponse,
  failure,
  MAX_REFUSED_REQUEST_BYTES,
  MAX_REQUEST_BYTES,
  type Response,
} from './protocol.js';
import type { Report } from './report.js';
import type { RequestHandler, SocketCaller } from './requestHandler.js';
import type { Ring, RingSet } from './rings.js';

/** Bounds on what clients can hold of kmesd. */
export interface EmitServerBounds {
  readonly maxConnections: number;
  /** Connections of callers that may not emit anyway; they never crowd out those that may. */
  readonly maxRefusedConnections: number;
  /** Time a client has to complete a frame it began, to take its answers, and, without the right to emit, to leave. */
  readonly patienceMs: number;
  /** Bytes of incomplete frames over all connections; a frame that would exceed it is answered ENOMEM. */
  readonly maxStagedBytes: number;
}

export const DEFAULT_BOUNDS: EmitServerBounds = {
  maxConnections: 256,
  maxRefusedConnections: 32,
  patienceMs: 10_000,
  maxStagedBytes: 64 * 1024 * 1024,
};

/** A connection may always stage this much, so that small requests work while big ones crowd. */
const FREE_STAGED_BYTES = 64 * 1024;
/** Waiting for answers to leave at shutdown. */
const CLOSE_GRACE_MS = 500;

/** What answers a request: the handler's one method. */
export type AnswerSource = Pick<RequestHandler, 'answer'>;

export interface EmitServerOptions {
  readonly path: string;
  readonly native: Pick<NativeAddon, 'peerCredentials'>;
  readonly admission: Pick<Admission, 'caller'>;
  readonly handler: AnswerSource;
  readonly rings: Pick<RingSet, 'assign'>;
  readonly report: Report;
  readonly bounds?: EmitServerBounds;
}

/** The emit socket: frames in, frames out, in order, for a bounded number of bounded clients. */
export class EmitServer {
  readonly #options: EmitServerOptions;
  readonly #bounds: EmitServerBounds;
  readonly #server: Server;
  readonly #connections = new Set<Connection>();
  #staged = 0;
  #warnedFull = false;

  private constructor(options: EmitServerOptions) {
    this.#options = options;
    this.#bounds = options.bounds ?? DEFAULT_BOUNDS;
    this.#server = createServer({ allowHalfOpen: true }, (socket) => this.#accept(socket));
  }

  /** Binds the socket, mode 0666: the calls themselves decide who may emit. Throws KmesdError. */
  static async listen(options: EmitServerOptions): Promise<EmitServer> {
    removeStaleSocket(options.path);
    const server = new EmitServer(options);
    await server.#listen();
    return server;
  }

  get connections(): number {
    return this.#connections.size;
  }

  /** Stops accepting, lets answers leave, then drops whoever is still there. */
  async close(): Promise<void> {
    const closed = new Promise<void>((resolve) => this.#server.close(() => resolve()));
    for (const connection of this.#connections) connection.finish();
    const force = setTimeout(() => {
      for (const connection of this.#connections) connection.destroy();
    }, CLOSE_GRACE_MS);
    await closed;
    clearTimeout(force);
  }

  #listen(): Promise<void> {
    const { path, report } = this.#options;
    return new Promise((resolve, reject) => {
      const fail = (error: Error) => reject(new KmesdError(`${path}: cannot listen: ${reasonOf(error)}`));
      this.#server.once('error', fail);
      this.#server.listen({ path, backlog: 128 }, () => {
        this.#server.off('error', fail);
        this.#server.on('error', (error) => report.error(`${path}: ${reasonOf(error)}`));
        chmodSync(path, 0o666);
        resolve();
      });
    });
  }

  #accept(socket: Socket): void {
    // Without a listener a reset by the peer would end the process; 'close' follows and cleans up.
    socket.on('error', () => socket.destroy());
    const caller = this.#identify(socket);
    if (caller === null) {
      socket.destroy();
      return;
    }
    if (this.#full(caller)) {
      socket.end(encodeFrame(encodeResponse(failure('EAGAIN', 'too many connections'))));
      socket.destroySoon();
      return;
    }
    const { handler, rings } = this.#options;
    const connection = new Connection(socket, caller, rings.assign(), handler, this.#bounds, (change) => {
      this.#staged += change;
      return this.#staged <= this.#bounds.maxStagedBytes;
    });
    this.#connections.add(connection);
    socket.once('close', () => {
      connection.release();
      this.#connections.delete(connection);
    });
  }

  #identify(socket: Socket): SocketCaller | null {
    try {
      return this.#options.admission.caller(this.#options.native.peerCredentials(descriptorOf(socket)));
    } catch (error) {
      this.#options.report.warn(`a client could not be identified: ${reasonOf(error)}`);
      return null;
    }
  }

  #full(caller: SocketCaller): boolean {
    const { maxConnections, maxRefusedConnections } = this.#bounds;
    let alike = 0;
    for (const connection of this.#connections) if (connection.caller.mayEmit === caller.mayEmit) alike += 1;
    const full = alike >= (caller.mayEmit ? maxConnections : maxRefusedConnections);
    if (full && caller.mayEmit && !this.#warnedFull) {
      this.#warnedFull = true;
      this.#options.report.warn(`${maxConnections} connections are open; refusing more`);
    }
    return full;
  }
}

/** One client. Reading stops while it does not take its answers. */
class Connection {
  readonly #socket: Socket;
  readonly #ring: Ring;
  readonly #handler: AnswerSource;
  #decoder: FrameDecoder;
  readonly #patienceMs: number;
  readonly #stage: (change: number) => boolean;
  #patience: NodeJS.Timeout | null = null;
  #staged = 0;
  #blocked = false;
  #ended = false;
  #closing = false;

  constructor(
    socket: Socket,
    readonly caller: SocketCaller,
    ring: Ring,
    handler: AnswerSource,
    bounds: EmitServerBounds,
    /** Accounts staged bytes; false when all connections together hold too many. */
    stage: (change: number) => boolean,
  ) {
    this.#socket = socket;
    this.#ring = ring;
    this.#handler = handler;
    this.#patienceMs = bounds.patienceMs;
    this.#stage = stage;
    this.#decoder = new FrameDecoder(caller.mayEmit ? MAX_REQUEST_BYTES : MAX_REFUSED_REQUEST_BYTES);
    socket.on('data', (chunk: Buffer) => this.#received(chunk));
    socket.on('drain', () => this.#unblock());
    socket.on('end', () => {
      this.#ended = true;
      this.#serve();
    });
    if (!caller.mayEmit) this.#wait();
  }

  /**
   * Half-closes after the answers given so far, and discards what still arrives: closing outright
   * would make the client's next write fail before it has read why.
   */
  finish(): void {
    this.#closing = true;
    this.#unstage();
    this.#decoder = new FrameDecoder(0);
    this.#wait();
    this.#socket.end();
    this.#socket.resume();
  }

  destroy(): void {
    this.#socket.destroy();
  }

  /** Gives back what the connection held; called once it is closed. */
  release(): void {
    this.#stopWaiting();
    this.#unstage();
  }

  #received(chunk: Buffer): void {
    if (this.#closing) return;
    this.#decoder.push(chunk);
    this.#serve();
  }

  #serve(): void {
    if (this.#closing || this.#blocked) return;
    this.#socket.cork();
    const served = this.#serveFrames();
    this.#socket.uncork();
    if (this.#closing) return;
    if (!this.#account()) {
      this.#hangUp(failure('ENOMEM', 'too much is being sent to kmesd at once; try again'));
    } else if (this.#blocked) {
      this.#socket.pause();
      this.#rewind();
    } else if (this.#ended) {
      this.finish();
    } else if (this.#decoder.buffered === 0) {
      if (this.caller.mayEmit) this.#stopWaiting();
    } else if (served > 0) {
      this.#rewind();
    } else {
      this.#wait();
    }
  }

  /** Answers complete frames until there is none or the client is slow to read; returns how many. */
  #serveFrames(): number {
    let served = 0;
    try {
      for (let body = this.#decoder.next(); body !== null; body = this.#decoder.next()) {
        const { response, close } = this.#handler.answer(body, this.caller, this.#ring);
        served += 1;
        if (close) this.#hangUp(response);
        else this.#blocked = !this.#socket.write(encodeFrame(encodeResponse(response)));
        if (this.#blocked || this.#closing) break;
      }
    } catch (error) {
      // What follows an oversize header cannot be told apart from its body.
      if (!(error instanceof FrameTooLong)) throw error;
      this.#hangUp(failure(this.caller.mayEmit ? 'EMSGSIZE' : 'EPERM', error.message));
    }
    return served;
  }

  #unblock(): void {
    if (!this.#blocked) return;
    this.#blocked = false;
    if (this.caller.mayEmit) this.#stopWaiting();
    this.#serve();
    if (!this.#blocked && !this.#closing) this.#socket.resume();
  }

  #hangUp(response: Response): void {
    this.#socket.write(encodeFrame(encodeResponse(response)));
    this.finish();
  }

  #account(): boolean {
    const change = this.#decoder.buffered - this.#staged;
    this.#staged = this.#decoder.buffered;
    return this.#stage(change) || change <= 0 || this.#staged <= FREE_STAGED_BYTES;
  }

  #unstage(): void {
    this.#stage(-this.#staged);
    this.#staged = 0;
  }

  /** Starts the patience timer unless it runs: a client cannot win time by trickling bytes. */
  #wait(): void {
    this.#patience ??= setTimeout(() => this.destroy(), this.#patienceMs);
  }

  #rewind(): void {
    // For a caller without the right to emit it bounds the whole connection.
    if (this.caller.mayEmit) this.#stopWaiting();
    this.#wait();
  }

  #stopWaiting(): void {
    if (this.#patience !== null) clearTimeout(this.#patience);
    this.#patience = null;
  }
}

/** Under the directory's lock nobody serves an existing socket. Anything else in its place is not ours to remove. */
function removeStaleSocket(path: string): void {
  try {
    if (!lstatSync(path).isSocket()) throw new KmesdError(`${path}: exists and is no socket`);
    unlinkSync(path);
  } catch (error) {
    if (error instanceof KmesdError) throw error;
    if (errnoOf(error) !== 'ENOENT') throw new KmesdError(`${path}: ${reasonOf(error)}`);
  }
}
