import { isUtf8 } from 'node:buffer';
import { messageOf } from '../host/errorMessage.js';
import type { ProducerEvent, ProducerIdentity } from '../native/addon.js';
import type { EmitLimits } from './limits.js';
import type { TokenBuckets } from './tokenBucket.js';

/** Bytes of an event header before the type (KMES-24). */
export const HEADER_BYTES = 77;
/** Most entries of one batch call (KMES-78). */
export const MAX_BATCH_ENTRIES = 256;
const MAX_TYPE_BYTES = 0xffff;
const U32_MAX = 0xffff_ffff;
/** Origin class of everything emitted through the calls (KMES-35). */
export const ORIGIN_USERSPACE = 0;

/** Why a call failed; `code` is the errno name. */
export interface Rejection {
  readonly code: 'EPERM' | 'EAGAIN' | 'EINVAL' | 'ENOSPC' | 'EFAULT' | 'ENOMEM' | 'EIO';
  readonly message: string;
}

/** The emitting process as kmesd sees it, fixed when its connection is accepted. */
export interface Caller {
  /** Holds what stands for SeAuditPrivilege: root or a member of an admin group (HOST-76). */
  readonly mayEmit: boolean;
  /** Holds what stands for SeTcbPrivilege: root is not rate limited. */
  readonly rateExempt: boolean;
  /** Key of the process's token bucket; null when the process could not be identified. */
  readonly process: string | null;
  readonly identity: ProducerIdentity;
}

/** One event as a caller hands it in; a null part could not be read (a bad pointer of the real call). */
export interface EmitEntry {
  readonly type: Uint8Array | null;
  readonly payload: Uint8Array | null;
}

/** The ring a call writes to. */
export interface EventSink {
  readonly capacity: number;
  /** Writes all events under one stamp, published at once; returns how many were written. */
  write(origin: number, events: readonly ProducerEvent[], identity: ProducerIdentity | null): number;
}

/** The well-formedness check of KMES-47. */
export type PayloadCheck = (payload: Uint8Array, maxDepth: number) => boolean;

export interface BatchResult {
  readonly emitted: number;
  readonly rejection: Rejection | null;
}

/** A size check from lengths alone: nothing is copied before it has passed (KMES-65 rows 4 to 6, KMES-78 rows 6 and 7). */
export function checkSize(
  typeBytes: number,
  payloadBytes: number,
  maxEventSize: number,
  capacity: number,
): Rejection | null {
  // The real length is a u16: a longer type cannot even be asked for.
  if (typeBytes > MAX_TYPE_BYTES)
    return reject('EINVAL', `the event type is longer than ${MAX_TYPE_BYTES} bytes`);
  const total = HEADER_BYTES + typeBytes + payloadBytes;
  if (total > U32_MAX) return reject('EINVAL', 'the event size overflows 32 bits');
  if (total > maxEventSize)
    return reject('ENOSPC', `the event has ${total} bytes, MaxEventSize is ${maxEventSize}`);
  if (total > capacity / 2) {
    return reject('ENOSPC', `the event has ${total} bytes, more than half the ring's ${capacity}`);
  }
  return null;
}

/** kmes_emit and kmes_emit_batch: the checks in their order, the rate limit and the write. */
export class Emitter {
  readonly #limits: EmitLimits;
  readonly #buckets: TokenBuckets;
  readonly #payloadValid: PayloadCheck;

  constructor(limits: EmitLimits, buckets: TokenBuckets, payloadValid: PayloadCheck) {
    this.#limits = limits;
    this.#buckets = buckets;
    this.#payloadValid = payloadValid;
  }

  /** kmes_emit (KMES-65): null on success, else the first check that failed. */
  emit(sink: EventSink, caller: Caller, entry: EmitEntry): Rejection | null {
    const refused = checkPrivilege(caller) ?? this.#reserve(caller, 1);
    if (refused !== null) return refused;
    const event = this.#checkSingle(entry, sink.capacity);
    const rejection = 'code' in event ? event : write(sink, [event], caller.identity).rejection;
    if (rejection !== null) this.#refund(caller, 1);
    return rejection;
  }

  /**
   * kmes_emit_batch (KMES-78, KMES-79): the entries before the first bad one are emitted.
   * `entries` is null when there is no array; an element is null when it is no entry at all.
   */
  emitBatch(sink: EventSink, caller: Caller, entries: readonly (EmitEntry | null)[] | null): BatchResult {
    const count = entries?.length ?? 0;
    const refused =
      checkPrivilege(caller) ??
      (count < 1 || count > MAX_BATCH_ENTRIES
        ? reject('EINVAL', `a batch has 1 to ${MAX_BATCH_ENTRIES} entries, not ${count}`)
        : this.#reserve(caller, count));
    if (refused !== null || entries === null) return { emitted: 0, rejection: refused };
    const unreadable = entries.indexOf(null);
    const checked =
      unreadable >= 0
        ? { events: [], rejection: reject('EFAULT', `entry ${unreadable} is not a map`) }
        : this.#checkEntries(entries, sink.capacity);
    const written = write(sink, checked.events, caller.identity);
    this.#refund(caller, count - written.emitted);
    return { emitted: written.emitted, rejection: written.rejection ?? checked.rejection };
  }

  #checkEntries(entries: readonly (EmitEntry | null)[], capacity: number) {
    const events: ProducerEvent[] = [];
    for (const [index, entry] of entries.entries()) {
      const event = this.#checkBatched(entry ?? { type: null, payload: null }, capacity);
      if ('code' in event) {
        return { events, rejection: reject(event.code, `entry ${index}: ${event.message}`) };
      }
      events.push(event);
    }
    return { events, rejection: null };
  }

  /** Rows 3 to 8 of KMES-65: an empty type is found before the size. */
  #checkSingle(entry: EmitEntry, capacity: number): ProducerEvent | Rejection {
    if ((entry.type?.length ?? 0) === 0) return EMPTY_TYPE;
    return this.#checkLengths(entry, capacity) ?? this.#checkContent(entry);
  }

  /** Rows 6 to 9 of KMES-78: an empty type is found only after size and copy. */
  #checkBatched(entry: EmitEntry, capacity: number): ProducerEvent | Rejection {
    return this.#checkLengths(entry, capacity) ?? this.#checkContent(entry);
  }

  #checkLengths(entry: EmitEntry, capacity: number): Rejection | null {
    return checkSize(
      entry.type?.length ?? 0,
      entry.payload?.length ?? 0,
      this.#limits.maxEventSize,
      capacity,
    );
  }

  #checkContent({ type, payload }: EmitEntry): ProducerEvent | Rejection {
    if (type === null) return reject('EFAULT', 'the event type is missing or not a byte string');
    if (payload === null) return reject('EFAULT', 'the payload is missing or not a byte string');
    if (type.length === 0) return EMPTY_TYPE;
    if (!isUtf8(type)) return reject('EINVAL', 'the event type is not valid UTF-8');
    const depth = this.#limits.maxNestingDepth;
    if (!this.#payloadValid(payload, depth)) {
      return reject('EINVAL', `the payload is not one msgpack value of at most ${depth} levels`);
    }
    return { type, payload };
  }

  #reserve(caller: Caller, count: number): Rejection | null {
    if (caller.rateExempt) return null;
    if (caller.process === null) return reject('EPERM', 'the calling process could not be identified');
    if (this.#buckets.reserve(caller.process, count)) return null;
    return reject('EAGAIN', `more than ${this.#limits.maxEmitRate} events per second from this process`);
  }

  #refund(caller: Caller, count: number): void {
    if (count > 0 && !caller.rateExempt && caller.process !== null)
      this.#buckets.refund(caller.process, count);
  }
}

function reject(code: Rejection['code'], message: string): Rejection {
  return { code, message };
}

const EMPTY_TYPE = reject('EINVAL', 'the event type is empty');

function checkPrivilege(caller: Caller): Rejection | null {
  return caller.mayEmit ? null : reject('EPERM', 'only root and members of an admin group may emit');
}

function write(sink: EventSink, events: readonly ProducerEvent[], identity: ProducerIdentity): BatchResult {
  if (events.length === 0) return { emitted: 0, rejection: null };
  try {
    const emitted = sink.write(ORIGIN_USERSPACE, events, identity);
    return {
      emitted,
      rejection: emitted === events.length ? null : reject('EIO', 'the ring refused the event'),
    };
  } catch (error) {
    const text = messageOf(error);
    const outOfMemory = error instanceof Error && 'code' in error && error.code === 'ENOMEM';
    return { emitted: 0, rejection: reject(outOfMemory ? 'ENOMEM' : 'EIO', text) };
  }
}
