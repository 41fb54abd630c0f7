/**
 * Gives a query session machine its socket, its parser and its worker: everything the machine orders
 * happens here, and everything that happens to the socket becomes an event.
 */

import { writeSync } from 'node:fs';
import type { Socket } from 'node:net';
import {
  type QueryPlanVerdict,
  type QuerySessionOutcome,
  querySessionMachine,
} from '../../machines/querySession.js';
import { createActor, fromPromise } from '../../machines/xstate.js';
import type { AccessSession } from '../../src/access/accessSession.js';
import type { Caller } from '../../src/access/caller.js';
import { descriptorOf, tryDescriptorOf } from '../../src/host/socketDescriptor.js';
import { QueryError } from '../../src/query/errors.js';
import type { QueryJob } from '../../src/query/job.js';
import type { Found, Survey } from '../../src/query/survey.js';
import { FrameDecoder, FrameTooLong } from '../../src/wire/frame.js';
import {
  decodeRequest,
  encodeEnd,
  encodeError,
  encodeResult,
  oversizeError,
} from '../../src/wire/messages.js';
import type { ParsedQuery, PlannedQuery, PlannedTail } from './interpret.js';
import { FRAME_CREDITS, type QueryFailure } from './protocol.js';
import type { QuerySessionHost, QuerySlot, SessionLimits } from './sessionHost.js';
import { StreamDelivery } from './streamDelivery.js';
import type { QueryRun, QueryRunListener } from './workerPool.js';

/** Time a client has to take an error before its socket is closed on it, in ms. */
const CLOSE_GRACE_MS = 1000;

/** How often a client that ended its sending half is asked whether it is still there, in ms. */
const PRESENCE_INTERVAL_MS = 50;

const INTERNAL_ERROR = 'storage error: the query could not be processed';
const NO_BYTES = Buffer.alloc(0);

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

/** A survey failed; the message is fit for the client. */
class SurveyFailed extends Error {}

type SessionActor = ReturnType<Connection['createActor']>;
type SessionEvent = Parameters<SessionActor['send']>[0];

class Connection {
  readonly #socket: Socket;
  readonly #limits: SessionLimits;
  readonly #host: QuerySessionHost;
  readonly #actor: SessionActor;
  readonly closed: Promise<QuerySessionOutcome>;
  #caller: Caller | null = null;
  #access: AccessSession | null = null;
  #text = '';
  #parsed: ParsedQuery | null = null;
  #planned: PlannedQuery | null = null;
  #deadline = 0n;
  readonly #slots: QuerySlot[] = [];
  #run: QueryRun | null = null;
  /** What access control asks the workers before the query runs, one after the other. */
  #survey: QueryRun | null = null;
  #stream: StreamDelivery | null = null;
  /** Who fills the next frames: the worker, and behind a stream's initial set the tail thread. */
  #source: Pick<QueryRun, 'credit'> | null = null;
  /** Frames the worker sent and the machine has not ordered written: at most its credits. */
  readonly #frames: Uint8Array[] = [];
  /** Frames written that the kernel has not taken. */
  #unflushed = 0;
  /** The last frame it has taken, whose memory goes back to the worker. */
  #spent: Uint8Array | null = null;
  #presence: NodeJS.Timeout | null = null;
  /** Aborted when nobody waits for the result any more. */
  readonly #over = new AbortController();

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
        cancelExecution: () => this.#cancelExecution(),
        writeFrame: () => this.#writeFrame(),
        writeNothing: () => this.#socket.write(encodeResult([])),
        startWatching: () => this.#startWatching(),
        writeBatch: () => this.#stream?.writeUnit(),
        grantCredit: () => {
          this.#source?.credit(this.#spent);
          this.#spent = null;
        },
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
      this.#caller = this.#host.identify(descriptorOf(this.#socket));
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
    this.#deadline = this.#deadlineFromNow();
    return { type: 'request.received' };
  }

  #unreadable(error: unknown): string {
    if (error instanceof FrameTooLong) return oversizeError(error.announced, error.limit);
    this.#host.logger.error({ cause: String(error) }, 'a request could not be read');
    return 'protocol error: the request could not be read';
  }

  async #parse(): Promise<void> {
    this.#parsed = await this.#inWireWords('parse', () => this.#host.parse(this.#text));
    this.#text = '';
  }

  /** A query that ends meanwhile takes nothing more: what it holds has been given back by then (QX-68). */
  #plan(): Promise<QueryPlanVerdict> {
    return this.#inWireWords('plan', async () => {
      this.#slots.push(this.#host.takeSlot());
      if (this.#parsed === null || this.#caller === null) throw new Error('planned out of turn');
      const parsed = this.#parsed;
      this.#parsed = null;
      if (parsed.kind === 'index') {
        await this.#host.index(this.#caller, parsed.field);
        return 'nothing';
      }
      const over = this.#over.signal;
      this.#access = await this.#host.openAccess(this.#caller, over);
      over.throwIfAborted();
      this.#planned = await parsed.plan(this.#access, (survey) => this.#ask(survey));
      over.throwIfAborted();
      const { tail } = this.#planned;
      if (tail !== null) this.#slots.push(this.#host.takeStream());
      // Whatever is refused is refused by now (QX-41).
      this.#host.used(this.#planned.trackedFields, this.#planned.rollup ?? null);
      return tail === null ? 'read' : 'stream';
    });
  }

  /**
   * Planning shares the time of the query; a stream that runs has that much for each question (STR-4).
   * Never settles when the session ends first: there is nobody to tell then.
   */
  #ask(survey: Survey): Promise<Found> {
    const isStreaming = this.#stream !== null;
    const deadline = isStreaming ? this.#deadlineFromNow() : this.#deadline;
    return new Promise((resolve, reject) => {
      if (this.#over.signal.aborted) return;
      this.#survey = this.#host.survey(survey, deadline, {
        onSurveyed: resolve,
        onFailed: (failure) => {
          if ('text' in failure) reject(new SurveyFailed(failure.text));
          else if (failure.kind === 'cancelled') return;
          else if (isStreaming) reject(new SurveyFailed(this.#undecidedInTime()));
          else this.send({ type: 'deadline.passed' });
        },
      });
    });
  }

  #deadlineFromNow(): bigint {
    return this.#host.monotonicNs() + BigInt(this.#limits.queryTimeoutMs) * 1_000_000n;
  }

  #undecidedInTime(): string {
    const limit = `QueryTimeoutMs (${this.#limits.queryTimeoutMs} ms)`;
    return `timeout: what the stream may show was not found out within ${limit}`;
  }

  /** Errors a client may read keep their text; any other is a fault of ours and goes to the log. Once it is over nobody hears. */
  async #inWireWords<Result>(step: string, work: () => Result | Promise<Result>): Promise<Result> {
    try {
      return await work();
    } catch (error) {
      if (this.#over.signal.aborted) throw error;
      if (error instanceof QueryError) throw new Error(error.text);
      if (error instanceof SurveyFailed) throw new Error(error.message);
      this.#host.logger.error({ step, cause: String(error) }, 'a query could not be processed');
      throw new Error(INTERNAL_ERROR);
    }
  }

  #startExecution(): void {
    if (this.#planned === null) throw new Error('executed without a plan');
    const { job, tail } = this.#planned;
    this.#planned = null;
    if (tail === null) this.#read(job, null);
    else this.#stream = this.#watchFor(job, tail);
  }

  #watchFor(job: QueryJob, tail: PlannedTail): StreamDelivery {
    if (this.#access === null) throw new Error('watched by nobody');
    return new StreamDelivery({
      socket: this.#socket,
      host: this.#host,
      access: this.#access,
      program: tail.program,
      again: (news) => this.#inWireWords('decide', () => tail.again(news)),
      onOpened: () => this.#read(job, tail.program.store),
      onFrame: (frame, records) => this.#frameArrived(frame, records),
      onLive: () => this.send({ type: 'stream.live' }),
      onUnit: (records, blocked) => this.send({ type: 'batch.arrived', records, blocked }),
      onFailed: (failure) => this.#executionFailed(failure),
    });
  }

  /** @param seam the store of a stream, whose initial set this is */
  #read(job: QueryJob, seam: PlannedTail['program']['store'] | null): void {
    const listener: QueryRunListener = {
      onSeam: (told) => this.#stream?.endsAt(told),
      onFrame: (frame, records) => this.#frameArrived(frame, records),
      onFinished: () => this.send({ type: 'execution.finished' }),
      onFailed: (failure) => this.#executionFailed(failure),
    };
    this.#run = this.#host.run(job, this.#deadline, listener, seam);
    this.#source = this.#run;
  }

  #frameArrived(frame: Uint8Array, records: number): void {
    this.#frames.push(frame);
    this.send({ type: 'frame.arrived', records });
  }

  #executionFailed(failure: QueryFailure): void {
    if (failure.kind === 'deadline') {
      this.send({ type: 'deadline.passed' });
      return;
    }
    this.send({ type: 'execution.failed', text: 'text' in failure ? failure.text : INTERNAL_ERROR });
  }

  #cancelExecution(): void {
    this.#over.abort();
    this.#survey?.cancel();
    this.#run?.cancel();
    this.#stream?.close();
  }

  /** Frames that the kernel has not taken yet keep their credits, so at most as many as before are under way. */
  #startWatching(): void {
    this.#stream?.catchUp(FRAME_CREDITS - this.#unflushed);
    this.#source = this.#stream;
  }

  #writeFrame(): void {
    const frame = this.#frames.shift();
    if (frame === undefined) throw new Error('no frame waits');
    this.#unflushed++;
    this.#socket.write(frame, (error) => {
      this.#unflushed--;
      this.#spent = frame;
      if (!error) this.send({ type: 'frame.flushed' });
    });
  }

  /**
   * The last message; our side of the stream ends behind it (WIRE-9). A client turned away before its
   * request was read may be about to send it, and would be reset over the answer: it may finish first,
   * within the grace time.
   */
  #finish(frame: Uint8Array): void {
    const flushed = (): void => this.send({ type: 'output.flushed' });
    if (this.#caller !== null) {
      this.#socket.end(frame, flushed);
      return;
    }
    this.#socket.on('end', flushed);
    this.#socket.end(frame);
    this.#socket.resume();
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
    this.#cancelExecution();
    this.#frames.length = 0;
    this.#socket.destroy();
    if (this.#access === null) this.#caller?.close();
    else this.#access.close();
  }

  /** The slot is free only when the worker holds nothing of the query any more (QX-61, QX-68). */
  async #released(): Promise<void> {
    await this.#survey?.released;
    await this.#run?.released;
    for (const slot of this.#slots) slot.release();
  }
}
