/** How long evctl waits for eventd: it says so after a while, and gives up after `--timeout`. */
import { ConnectionFailure } from '../wire/client.js';
import type { CommandContext } from './context.js';
import { type ParsedOptions, UsageError } from './options.js';

/** A wait for the first word that is longer is told, ms. */
const NOTICE_MS = 5000;

/** Waits for what one connection brings. */
export class Patience {
  /** For the connection: aborts with the command, and with a {@link ConnectionFailure} when the time is up. */
  readonly signal: AbortSignal;
  readonly #path: string;
  readonly #warn: CommandContext['warn'];
  /** `--timeout` in ms; null: without end. */
  readonly #limit: number | null;
  readonly #expired = new AbortController();

  /** @throws {UsageError} for a `--timeout` that is no time */
  constructor({ options, signal, warn }: Pick<CommandContext, 'options' | 'signal' | 'warn'>, path: string) {
    this.signal = AbortSignal.any([signal, this.#expired.signal]);
    this.#path = path;
    this.#warn = warn;
    this.#limit = timeoutOf(options);
  }

  /**
   * Passes on what comes. `--timeout` bounds the wait for the first of it, and with `each` every later one; the time
   * in which nobody asks for the next does not count.
   */
  async *watch<T>(
    source: AsyncGenerator<T, void, undefined>,
    each: boolean,
  ): AsyncGenerator<T, void, undefined> {
    try {
      let next = await this.#notingSilence(this.#within(source));
      while (next.done !== true) {
        yield next.value;
        next = await (each ? this.#within(source) : source.next());
      }
    } finally {
      await source.return();
    }
  }

  async #within<T>(source: AsyncGenerator<T, void, undefined>): Promise<IteratorResult<T, void>> {
    if (this.#limit === null) return source.next();
    const seconds = this.#limit / 1000;
    const timer = setTimeout(() => {
      const text = `${this.#path}: eventd has not answered within ${seconds} s (--timeout)`;
      this.#expired.abort(new ConnectionFailure(text, this.#path, 'ETIMEDOUT'));
    }, this.#limit);
    try {
      return await source.next();
    } finally {
      clearTimeout(timer);
    }
  }

  async #notingSilence<T>(answer: Promise<T>): Promise<T> {
    const timer = setTimeout(() => {
      this.#warn(`eventd has not answered for ${NOTICE_MS / 1000} s on ${this.#path}; waiting (Ctrl-C ends)`);
    }, NOTICE_MS);
    try {
      return await answer;
    } finally {
      clearTimeout(timer);
    }
  }
}

function timeoutOf(options: ParsedOptions): number | null {
  const text = options.get('timeout');
  if (text === undefined) return null;
  const ms = /^\d{1,6}(\.\d{1,3})?$/.test(text) ? Math.round(Number(text) * 1000) : 0;
  if (ms === 0) throw new UsageError(`--timeout: must be seconds, such as 10, not '${text.slice(0, 40)}'`);
  return ms;
}
