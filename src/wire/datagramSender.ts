/**
 * The sending end of a datagram socket of eventd. Records are joined into array datagrams and sent
 * without ever blocking; what cannot be sent yet waits in a bounded buffer (LOG-68..70).
 */
import { setTimeout as delay } from 'node:timers/promises';
import { native } from '../native/addon.js';
import { checkPath } from './client.js';
import { RecordQueue } from './recordQueue.js';

/** The outbound buffer, as large as that of the service manager (LOG-69). */
export const BUFFER_BYTES = 1024 * 1024;
/** Records are joined up to this size, well below what a datagram may have. */
export const DATAGRAM_BYTES = 128 * 1024;
/** What Linux sends by default: 212992 bytes of socket buffer less its own head. */
export const MAX_DATAGRAM_BYTES = 212_960;

/** Datagrams sent before other work of this thread gets its turn. */
const MAX_PER_TURN = 16;
/** Pauses while the receiver's queue is full, ms. It empties quickly unless eventd hangs. */
const FULL_PAUSE = { first: 1, most: 16 } as const;
/** Pauses while nobody has the socket open, ms. */
const GONE_PAUSE = { first: 50, most: 2000 } as const;
/** A queue that stays full for so long, in ms, is as good as gone: nobody should wait for it. */
const STALLED_MS = 1000;

/** Sends one datagram or throws an Error with an errno `code`; must not block. */
export type SendDatagram = (path: string, datagram: Uint8Array) => void;

export interface SenderOptions {
  /** Path of the socket; a leading '@' means the abstract namespace. */
  readonly path: string;
  readonly bufferBytes?: number;
  readonly datagramBytes?: number;
  /** In place of the real socket. */
  readonly send?: SendDatagram;
}

/** Why the last attempt failed, e.g. EAGAIN (queue full), ENOENT or ECONNREFUSED (nobody there). */
export interface SendFailure {
  readonly code: string;
  readonly message: string;
}

/**
 * Sends records, one msgpack map each. Delivery is best effort, as the paths of eventd are (LOG-2,
 * MET-12): while eventd is away or too slow the newest records are kept and the oldest are counted in
 * `dropped`. Its timers do not keep a process alive: call {@link drain} before the end.
 */
export class DatagramSender {
  readonly path: string;
  readonly #queue: RecordQueue;
  readonly #transport: SendDatagram;
  #datagramBytes: number;
  #dropped = 0;
  #failure: SendFailure | null = null;
  /** Since when the queue has been full without a break, in ms of `performance.now`. */
  #fullSince: number | null = null;
  #pause = 0;
  #held = false;
  #closed = false;
  #scheduled: NodeJS.Immediate | null = null;
  #retry: NodeJS.Timeout | null = null;

  /** @throws {ConnectionFailure} when no socket can have such a path */
  constructor({ path, bufferBytes = BUFFER_BYTES, datagramBytes = DATAGRAM_BYTES, send }: SenderOptions) {
    checkPath(path);
    this.path = path;
    this.#queue = new RecordQueue(bufferBytes);
    this.#datagramBytes = datagramBytes;
    this.#transport = send ?? native.sendDatagram;
  }

  /** Records given up: the buffer was full, they were too big for a datagram, or the sender was closed. */
  get dropped(): number {
    return this.#dropped;
  }

  /** Records that wait in the buffer. */
  get waiting(): number {
    return this.#queue.records;
  }

  /** Why the records that wait could not be sent; null when the last attempt succeeded. */
  get failure(): SendFailure | null {
    return this.#failure;
  }

  /** Takes an encoded record. It goes out with all others of this turn of the event loop. */
  push(record: Uint8Array): void {
    if (this.#closed || record.length > MAX_DATAGRAM_BYTES) {
      this.#dropped++;
      return;
    }
    this.#dropped += this.#queue.push(record);
    if (this.#held || this.#retry !== null) return;
    // A long turn should not overflow the buffer while the socket takes everything.
    if (this.#queue.bytes >= this.#datagramBytes) this.#send(1);
    if (this.#retry === null) this.#schedule();
  }

  /** Tries to send all that waits, now; true when nothing is left. Also ends the pause after a failure. */
  flush(): boolean {
    if (!this.#held && !this.#closed) this.#send(Number.POSITIVE_INFINITY);
    return this.#queue.records === 0;
  }

  /**
   * Sends what waits; resolves with whether all of it went out within `ms`.
   * @param goneMs gives up so soon when nobody has the socket open
   */
  async drain(ms: number, goneMs = ms): Promise<boolean> {
    const start = performance.now();
    while (!this.flush()) {
      const left = (this.#isGone ? goneMs : ms) - (performance.now() - start);
      if (left <= 0 || this.#held || this.#closed) return false;
      await delay(Math.min(left, Math.max(1, this.#pause)));
    }
    return true;
  }

  /**
   * Resolves when half of the buffer is free, for a source that can wait (a pipe, LOG-63). At once when
   * waiting would not help: eventd is away, or has taken nothing for a second.
   */
  async room(): Promise<void> {
    while (this.#isCrowded) await delay(Math.max(1, this.#pause));
  }

  /** Keeps everything in the buffer until `release` (LOG-64). */
  hold(): void {
    this.#held = true;
    this.#unschedule();
  }

  /** Sends what was held, oldest first, and goes on (LOG-67). */
  release(): void {
    this.#held = false;
    this.#pause = 0;
    this.flush();
  }

  /** Gives up what waits, and counts it. Safe twice. */
  close(): void {
    this.#closed = true;
    this.#dropped += this.#queue.records;
    this.#queue.drop(this.#queue.records);
    this.#unschedule();
  }

  get #isGone(): boolean {
    return this.#failure !== null && this.#fullSince === null;
  }

  get #isCrowded(): boolean {
    if (this.#held || this.#closed || this.#isGone) return false;
    if (this.#fullSince !== null && performance.now() - this.#fullSince > STALLED_MS) return false;
    return this.#queue.bytes > this.#queue.limitBytes / 2;
  }

  #schedule(): void {
    this.#scheduled ??= setImmediate(() => {
      this.#scheduled = null;
      this.#send(MAX_PER_TURN);
    });
  }

  #unschedule(): void {
    if (this.#scheduled !== null) clearImmediate(this.#scheduled);
    if (this.#retry !== null) clearTimeout(this.#retry);
    this.#scheduled = null;
    this.#retry = null;
  }

  #send(maxDatagrams: number): void {
    this.#unschedule();
    for (let sent = 0; ; sent++) {
      const packed = this.#queue.peek(this.#datagramBytes);
      if (packed === null) break;
      if (sent >= maxDatagrams) {
        this.#schedule();
        break;
      }
      try {
        this.#transport(this.path, packed.datagram);
      } catch (error) {
        if (this.#split(error, packed.records, packed.datagram.length)) continue;
        this.#failed(error);
        break;
      }
      this.#queue.drop(packed.records);
      this.#succeeded();
    }
  }

  #succeeded(): void {
    this.#failure = null;
    this.#fullSince = null;
    this.#pause = 0;
  }

  /** EMSGSIZE: the socket's buffer is smaller than usual. Datagrams of this sender stay smaller from now on. */
  #split(error: unknown, records: number, bytes: number): boolean {
    if (codeOf(error) !== 'EMSGSIZE') return false;
    if (records > 1) this.#datagramBytes = Math.ceil(bytes / 2);
    else {
      this.#queue.drop(1);
      this.#dropped++;
    }
    return true;
  }

  #failed(error: unknown): void {
    const code = codeOf(error);
    const isFull = code === 'EAGAIN' || code === 'ENOBUFS' || code === 'ENOMEM';
    const limits = isFull ? FULL_PAUSE : GONE_PAUSE;
    if (isFull) this.#fullSince ??= performance.now();
    else this.#fullSince = null;
    this.#failure = { code, message: error instanceof Error ? error.message : String(error) };
    this.#pause = Math.min(limits.most, Math.max(limits.first, 2 * this.#pause));
    this.#retry = setTimeout(() => this.#send(MAX_PER_TURN), this.#pause);
    this.#retry.unref();
  }
}

function codeOf(error: unknown): string {
  return error instanceof Error && 'code' in error && typeof error.code === 'string' ? error.code : 'EIO';
}
