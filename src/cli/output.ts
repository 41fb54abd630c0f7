/**
 * Standard output of evctl: pieces are joined while they come fast, written at once when they pause,
 * and a reader that went away (`evctl ... | head`) ends the work quietly.
 */
import type { Writable } from 'node:stream';
import type { Pager } from './pager.js';

/** The reader of standard output closed it; the program ends quietly with 0. */
export class OutputClosed extends Error {
  override readonly name = 'OutputClosed';
  constructor() {
    super('standard output was closed');
  }
}

const BATCH_BYTES = 64 * 1024;

/** What may wait for a reader who takes its time: a pager, or one whom eventd would not wait for. */
export const PATIENT_BYTES = 64 * 1024 * 1024;

export class Output {
  #stream: Writable;
  #pager: Pager | null = null;
  /** Bytes the stream may hold back before a write waits. */
  #slack = 0;
  #pending: (string | Uint8Array)[] = [];
  #pendingBytes = 0;
  #scheduled: NodeJS.Immediate | null = null;
  #failure: Error | null = null;
  readonly #failed: AbortController = new AbortController();

  constructor(stream: Writable) {
    this.#stream = stream;
    this.#watch(stream);
  }

  #watch(stream: Writable): void {
    stream.on('error', (error: NodeJS.ErrnoException) => {
      this.#failure ??= error.code === 'EPIPE' ? new OutputClosed() : error;
      this.#failed.abort(this.#failure);
    });
  }

  /** Writes no longer wait before {@link PATIENT_BYTES} are held back. */
  bePatient(): void {
    this.#slack = PATIENT_BYTES;
  }

  /** From now on everything goes through a pager; before the first write only. */
  page(pager: Pager): void {
    this.#pager = pager;
    this.#stream = pager;
    this.#watch(pager);
    this.bePatient();
  }

  /** Aborts with {@link OutputClosed} (or the write error) as soon as writing has failed. */
  get failed(): AbortSignal {
    return this.#failed.signal;
  }

  /**
   * Appends a piece; resolves when the stream can take more.
   * @throws {OutputClosed} when nobody reads any more
   */
  async write(piece: string | Uint8Array): Promise<void> {
    if (this.#failure !== null) throw this.#failure;
    this.#pending.push(piece);
    this.#pendingBytes += piece.length;
    if (this.#pendingBytes >= BATCH_BYTES) await this.flush();
    else this.#scheduled ??= setImmediate(() => this.#send());
  }

  /** Writes what is pending and waits until the stream can take more. */
  async flush(): Promise<void> {
    this.#send();
    const stream = this.#stream;
    if (stream.writableNeedDrain && stream.writableLength > this.#slack && this.#failure === null) {
      await new Promise<void>((resolve) => {
        const done = () => {
          stream.off('drain', done);
          this.failed.removeEventListener('abort', done);
          resolve();
        };
        stream.on('drain', done);
        this.failed.addEventListener('abort', done);
      });
    }
    if (this.#failure !== null) throw this.#failure;
  }

  /**
   * Writes what is pending and waits until the system has all of it, and a pager has ended; after that the
   * process may end.
   * @throws {OutputClosed} when nobody reads any more
   */
  async finish(): Promise<void> {
    try {
      await this.flush();
      await new Promise<void>((resolve) => this.#stream.write('', () => resolve()));
      if (this.#failure !== null) throw this.#failure;
    } finally {
      if (this.#pager !== null) {
        this.#pager.end();
        await this.#pager.ended;
      }
    }
  }

  #send(): void {
    if (this.#scheduled !== null) clearImmediate(this.#scheduled);
    this.#scheduled = null;
    if (this.#pending.length === 0) return;
    const pieces = this.#pending.map((piece) => (typeof piece === 'string' ? Buffer.from(piece) : piece));
    this.#pending = [];
    this.#pendingBytes = 0;
    this.#stream.write(Buffer.concat(pieces));
  }
}
