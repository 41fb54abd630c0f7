/**
 * Standard output of evctl: pieces are joined while they come fast, written at once when they pause,
 * and a reader that went away (`evctl ... | head`) ends the work quietly.
 */
import type { Writable } from 'node:stream';

/** The reader of standard output closed it; the program ends quietly with 0. */
export class OutputClosed extends Error {
  override readonly name = 'OutputClosed';
  constructor() {
    super('standard output was closed');
  }
}

const BATCH_BYTES = 64 * 1024;

export class Output {
  #pending: (string | Uint8Array)[] = [];
  #pendingBytes = 0;
  #scheduled: NodeJS.Immediate | null = null;
  #failure: Error | null = null;
  readonly #failed: AbortController = new AbortController();

  constructor(readonly stream: Writable) {
    stream.on('error', (error: NodeJS.ErrnoException) => {
      this.#failure = error.code === 'EPIPE' ? new OutputClosed() : error;
      this.#failed.abort(this.#failure);
    });
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
    if (!this.#send() && this.#failure === null) {
      await new Promise<void>((resolve) => {
        const done = () => {
          this.stream.off('drain', done);
          this.failed.removeEventListener('abort', done);
          resolve();
        };
        this.stream.on('drain', done);
        this.failed.addEventListener('abort', done);
      });
    }
    if (this.#failure !== null) throw this.#failure;
  }

  /**
   * Writes what is pending and waits until the system has all of it; after that the process may end.
   * @throws {OutputClosed} when nobody reads any more
   */
  async finish(): Promise<void> {
    await this.flush();
    await new Promise<void>((resolve) => this.stream.write('', () => resolve()));
    if (this.#failure !== null) throw this.#failure;
  }

  #send(): boolean {
    if (this.#scheduled !== null) clearImmediate(this.#scheduled);
    this.#scheduled = null;
    if (this.#pending.length === 0) return !this.stream.writableNeedDrain;
    const pieces = this.#pending.map((piece) => (typeof piece === 'string' ? Buffer.from(piece) : piece));
    this.#pending = [];
    this.#pendingBytes = 0;
    return this.stream.write(Buffer.concat(pieces));
  }
}
