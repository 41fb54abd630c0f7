import type { ProducerEvent } from '../native/addon.js';
import type { Configuration } from './configuration.js';
import type { Caller, EmitEntry, Emitter, EventSink, PayloadCheck, Rejection } from './emission.js';
import { reasonOf } from './failure.js';
import { decodeRequest, failure, type Request, RequestError, type Response, success } from './protocol.js';

/** A connection's caller: what the calls judge by, plus the user for the kernel path. */
export interface SocketCaller extends Caller {
  readonly uid: number;
}

export interface RequestHandlerOptions {
  readonly emitter: Emitter;
  readonly configuration: Configuration;
  readonly wellFormed: PayloadCheck;
  /** Whether root may use `kernel_emit`, `resize` and `configure`. */
  readonly allowKernelPath: boolean;
  /** What `status` answers, without `errno`. */
  readonly status: () => Readonly<Record<string, unknown>>;
}

/** An answer, and whether the stream can still be trusted to hold requests after it. */
export interface Answer {
  readonly response: Response;
  readonly close: boolean;
}

const EMPTY = new Uint8Array(0);

/** Turns one request body into one answer; synchronous, so that answers keep the order of requests. */
export class RequestHandler {
  constructor(private readonly options: RequestHandlerOptions) {}

  /** Judges the body for `caller` and writes to `sink`, the ring of the caller's connection. */
  answer(body: Uint8Array, caller: SocketCaller, sink: EventSink): Answer {
    // The privilege check precedes every look at the arguments (KMES-65 row 1).
    if (!caller.mayEmit) {
      const refused = failure('EPERM', 'only root and members of an admin group may emit');
      return { response: refused, close: false };
    }
    try {
      const request = decodeRequest(body, this.options.wellFormed);
      return { response: this.#dispatch(request, caller, sink), close: false };
    } catch (error) {
      if (error instanceof RequestError) return { response: failure('EBADMSG', error.message), close: true };
      return { response: failure('EIO', reasonOf(error)), close: false };
    }
  }

  #dispatch(request: Request, caller: SocketCaller, sink: EventSink): Response {
    const { emitter, status } = this.options;
    switch (request.op) {
      case 'emit':
        return outcome(emitter.emit(sink, caller, request.entry), {});
      case 'emit_batch': {
        const { emitted, rejection } = emitter.emitBatch(sink, caller, request.entries);
        return outcome(rejection, { emitted });
      }
      case 'status':
        return success(status());
      case 'kernel_emit':
        return this.#refuseKernelPath(caller) ?? kernelEmit(request, caller, sink);
      case 'configure':
        return this.#refuseKernelPath(caller) ?? this.#configure(request.key, request.value);
      case 'unknown':
        return failure('ENOSYS', `no such operation: '${request.name}'`);
    }
  }

  #refuseKernelPath(caller: SocketCaller): Response | null {
    if (this.options.allowKernelPath && caller.uid === 0) return null;
    return failure('EPERM', 'the kernel path is for root, and only with --allow-kernel-path');
  }

  #configure(key: string, value: unknown): Response {
    const result = this.options.configuration.apply(key, value);
    if (result.outcome === 'applied') return success();
    return failure(result.outcome === 'failed' ? 'ENOMEM' : 'EINVAL', result.reason);
  }
}

function outcome(rejection: Rejection | null, fields: Readonly<Record<string, unknown>>): Response {
  return rejection === null ? success(fields) : failure(rejection.code, rejection.message, fields);
}

/**
 * The kernel batch of KMES-57..59: nothing but the structure is checked, and the ring itself drops
 * what fails there, consuming its sequence number. Only what a function signature rules out is
 * refused here.
 */
function kernelEmit(
  request: Extract<Request, { op: 'kernel_emit' }>,
  caller: SocketCaller,
  sink: EventSink,
): Response {
  const { origin, entries } = request;
  if (typeof origin !== 'number' || !Number.isInteger(origin) || origin < 0 || origin > 255) {
    return failure('EINVAL', 'origin must be an integer from 0 to 255');
  }
  if (entries === null || entries.length === 0 || entries.includes(null)) {
    return failure('EINVAL', 'entries must be an array of 1 to 256 maps');
  }
  const events = entries.map(toEvent);
  return success({ emitted: sink.write(origin, events, request.anonymous ? null : caller.identity) });
}

function toEvent(entry: EmitEntry | null): ProducerEvent {
  return { type: entry?.type ?? EMPTY, payload: entry?.payload ?? EMPTY };
}
