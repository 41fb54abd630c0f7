/**
 * Gives a query session machine its socket, its parser and its worker: everything the machine orders
 * happens here, and everything that happens to the socket becomes an event.
 */

import { writeSync } from 'node:fs';
import type { Socket } from 'node:net';
import { createActor, fromPromise, type InspectionEvent, type Observer } from 'xstate';
import { type QuerySessionOutcome, querySessionMachine } from '../../machines/querySession.js';
import type { EventReader } from '../../src/access/eventReadGate.js';
import { descriptorOf, tryDescriptorOf } from '../../src/host/socketDescriptor.js';
import { QueryError } from '../../src/query/errors.js';
import { FrameDecoder, FrameTooLong } from '../../src/wire/frame.js';
import {
  decodeRequest,
  encodeEnd,
  encodeError,
  encodeResult,
  oversizeError,
} from '../../src/wire/messages.js';
import type { QueryLogger } from './logger.js';
import type { StoreRead } from './protocol.js';
import type { QueryRun, QueryRunListener } from './workerPool.js';

/** Time a client has to take an error before its socket is closed on it, in ms. */
const CLOSE_GRACE_MS = 1000;

/** How often a client that ended its sending half is asked whether it is still there, in ms. */
const PRESENCE_INTERVAL_MS = 50;

const INTERNAL_ERROR = 'storage error: the query could not be processed';
const NO_BYTES = Buffer.alloc(0);

/** What the session asks of the service around it. */
export interface QuerySessionHost {
  readonly logger: QueryLogger;
  readonly onInspect: Observer<InspectionEvent> | null;
  /** Token of the peer behind an accepted socket (QX-8). Throws when there is none. */
  readonly identify: (fd: number) => EventReader;
  /** Whether the caller sees events at all. */
  readonly mayRead: (reader: EventReader) => boolean;
  /** Throws {@link QueryError} (class P). */
  readonly parse: (text: string) => ParsedQuery;
  /** Takes a query slot; throws {@link QueryError} when there is none (QX-61). */
  readonly takeSlot: () => QuerySlot;
  /** Runs the read on a worker. */
  readonly run: (read: StoreRead, deadline: bigint, listener: QueryRunListener) => QueryRun;
  readonly monotonicNs: () => bigint;
}

/** A syntax tree, ready to be checked against the clock. */
export interface ParsedQuery {
  /** Throws {@link QueryError} (class V). */
  plan(): StoreRead;
}

/** One of the MaxConcurrentQueries. */
export interface QuerySlot {
  /** Safe twice. */
  release(): void;
}

/** The limits in force when the connection was accepted (QX-64). */
export interface SessionLimits {
  readonly maxQueryMessageBytes: number;
  readonly queryTimeoutMs: number;
}

export interface QuerySession {
  /** Ends the session with an error, unless it is ending already. */
  stop(text: string): void;
  /** Resolves when the socket is closed and the slot is given back. Never rejects. */
  readonly closed: Promise<QuerySessionOutcome>;
}

/** Serves one connection (QX-2). The socket is paused and becomes the session's. */
export function startQuerySession(
  id: string,
  socket: Socket,
  limits: SessionLimits,
  host: QuerySessionHost,
): QuerySession {
  const connection = new Connection(id, socket, limits, host);
  return { stop: (text) => connection.send({ type: 'service.stop', text }), closed: connection.closed };
}

type SessionActor = ReturnType<Connection['createActor']>;
type SessionEvent = Parameters<SessionActor['send']>[0];

class Connection {
  readonly #socket: Socket;
  readonly #limits: SessionLimits;
  readonly #host: QuerySessionHost;
  readonly #actor: SessionActor;
  readonly closed: Promise<QuerySessionOutcome>;
  #reader: EventReader | null = null;
  #text = '';
  #parsed: ParsedQuery | null = null;
  #read: StoreRead | null = null;
  #deadline = 0n;
  #slot: QuerySlot | null = null;
  #run: QueryRun | null = null;
  /** Frames the worker sent and the machine has not ordered written: at most its credits. */
  readonly #frames: Uint8Array[] = [];
  #presence: NodeJS.Timeout | null = null;

  constructor(id: string, socket: Socket, limits: SessionLimits, host: QuerySessionHost) {
    this.#socket = socket;
    this.#limits = limits;
    this.#host = host;
    // A failing socket also closes, and the close is what the machine hears of; without a listener
    // the error would end the process.
    socket.on('error', () => {});
    socket.on('close', () => this.send({ type: 'client.left' }));
    socket.on('end', () => this.#watchPresence());
    this.#actor = this.createActor(id);
    this.closed = new Promise((resolve) => {
      this.#actor.subscribe({
        error: (error) => {
          host.logger.error({ session: id, cause: String(error) }, 'a query session failed');
          this.#release();
          resolve(this.#released().then(() => 'failed' as const));
        },
        complete: () => resolve(this.#released().then(() => this.#actor.getSnapshot().context.outcome)),
      });
    });
    this.#actor.start();
  }

  send(event: SessionEvent): void {
    if (this.#actor.getSnapshot().status === 'active') this.#actor.send(event);
  }

  createActor(id: string) {
    const machine = querySessionMachine.provide({
      actors: {
        identify: fromPromise(async () => this.#identify()),
        parse: fromPromise(async () => this.#parse()),
        plan: fromPromise(async () => this.#plan()),
      },
      actions: {
        readRequest: () => this.#readRequest(),
        startExecution: () => this.#startExecution(),
        cancelExecution: () => this.#run?.cancel(),
        writeFrame: () => this.#writeFrame(),
        writeNothing: () => this.#socket.write(encodeResult([])),
        grantCredit: () => this.#run?.credit(),
        writeEnd: () => this.#finish(encodeEnd()),
        writeError: (_, { text }) => this.#finish(encodeError(text)),
        release: () => this.#release(),
      },
    });
    return createActor(machine, {
      id,
      input: { queryTimeoutMs: this.#limits.queryTimeoutMs, closeGraceMs: CLOSE_GRACE_MS },
      ...(this.#host.onInspect === null ? {} : { inspect: this.#host.onInspect }),
    });
  }

  #identify(): void {
    try {
      this.#reader = this.#host.identify(descriptorOf(this.#socket));
    } catch (error) {
      this.#host.logger.warn({ cause: String(error) }, 'a query was denied: the peer has no token');
      throw new Error('access denied: the identity of the caller could not be obtained');
    }
  }

  #readRequest(): void {
    const decoder = new FrameDecoder(this.#limits.maxQueryMessageBytes);
    const settle = (event: SessionEvent): void => {
      this.#socket.off('data', receive);
      this.#socket.off('end', cut);
      // One query per connection: whatever follows is discarded (WIRE-8).
      this.#socket.on('data', () => {});
      this.send(event);
    };
    const receive = (chunk: Uint8Array): void => {
      try {
        decoder.push(chunk);
        const payload = decoder.next();
        if (payload !== null) settle(this.#requestReceived(payload));
      } catch (error) {
        // A throw in a socket handler would end the daemon, so nothing leaves this one.
        settle({ type: 'request.malformed', text: this.#unreadable(error) });
        // The payload of an oversize request is not read (WIRE-3).
        this.#socket.pause();
      }
    };
    const cut = (): void => {
      settle({
        type: 'request.malformed',
        text: 'protocol error: the stream ended before the request was complete',
      });
    };
    this.#socket.on('end', cut);
    this.#socket.on('data', receive);
    this.#socket.resume();
  }

  #requestReceived(payload: Uint8Array): SessionEvent {
    const request = decodeRequest(payload);
    if (!request.ok) return { type: 'request.malformed', text: request.error };
    this.#text = request.query;
    this.#deadline = this.#host.monotonicNs() + BigInt(this.#limits.queryTimeoutMs) * 1_000_000n;
    return { type: 'request.received' };
  }

  #unreadable(error: unknown): string {
    if (error instanceof FrameTooLong) return oversizeError(error.announced, error.limit);
    this.#host.logger.error({ cause: String(error) }, 'a request could not be read');
    return 'protocol error: the request could not be read';
  }

  #parse(): void {
    this.#parsed = this.#inWireWords('parse', () => this.#host.parse(this.#text));
    this.#text = '';
  }

  #plan(): 'read' | 'nothing' {
    return this.#inWireWords('plan', () => {
      this.#slot = this.#host.takeSlot();
      if (this.#parsed === null || this.#reader === null) throw new Error('planned out of turn');
      this.#read = this.#parsed.plan();
      this.#parsed = null;
      return this.#host.mayRead(this.#reader) ? 'read' : 'nothing';
    });
  }

  /** Errors a client may read keep their text; any other is a fault of ours and goes to the log. */
  #inWireWords<Result>(step: string, work: () => Result): Result {
    try {
      return work();
    } catch (error) {
      if (error instanceof QueryError) throw new Error(error.text);
      this.#host.logger.error({ step, cause: String(error) }, 'a query could not be processed');
      throw new Error(INTERNAL_ERROR);
    }
  }

  #startExecution(): void {
    if (this.#read === null) throw new Error('executed without a plan');
    this.#run = this.#host.run(this.#read, this.#deadline, {
      onFrame: (frame, records) => {
        this.#frames.push(frame);
        this.send({ type: 'frame.arrived', records });
      },
      onFinished: () => this.send({ type: 'execution.finished' }),
      onFailed: (failure) => {
        if (failure.kind === 'deadline') this.send({ type: 'deadline.passed' });
        else {
          const text = failure.kind === 'storage' ? failure.text : INTERNAL_ERROR;
          this.send({ type: 'execution.failed', text });
        }
      },
    });
    this.#read = null;
  }

  #writeFrame(): void {
    const frame = this.#frames.shift();
    if (frame === undefined) throw new Error('no frame waits');
    this.#socket.write(frame, (error) => {
      if (!error) this.send({ type: 'frame.flushed' });
    });
  }

  /** The last message; our side of the stream ends behind it (WIRE-9). */
  #finish(frame: Uint8Array): void {
    this.#socket.end(frame, () => this.send({ type: 'output.flushed' }));
  }

  /**
   * The client ended its sending half, which is its right (WIRE-9), or is gone altogether. The kernel
   * tells the two apart only to a writer: writing nothing fails with EPIPE when nobody can read.
   */
  #watchPresence(): void {
    const ask = (): void => {
      const fd = tryDescriptorOf(this.#socket);
      if (fd === null || this.#socket.writableEnded) return;
      try {
        writeSync(fd, NO_BYTES);
      } catch (error) {
        const code = (error as NodeJS.ErrnoException).code;
        if (code === 'EPIPE' || code === 'ECONNRESET') this.send({ type: 'client.left' });
      }
    };
    this.#presence = setInterval(ask, PRESENCE_INTERVAL_MS);
    ask();
  }

  #release(): void {
    if (this.#presence !== null) clearInterval(this.#presence);
    this.#frames.length = 0;
    this.#run?.cancel();
    this.#socket.destroy();
  }

  /** The slot is free only when the worker holds nothing of the query any more (QX-61, QX-68). */
  async #released(): Promise<void> {
    await this.#run?.released;
    this.#slot?.release();
  }
}
