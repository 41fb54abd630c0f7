/**
 * Records one by one out of batches. `next` answers at once while there are records of a batch left; an async
 * generator would take several turns of the microtask queue for each.
 */

/** What a query gives: its records, one by one or in batches. */
export interface Records<T> extends AsyncGenerator<T, void, undefined>, AsyncDisposable {
  /**
   * The records as they arrive: arrays of some hundreds, a message of eventd each, never empty. Much faster
   * where there are many records. Goes on behind what was taken one by one.
   *
   * @example
   * for await (const records of query('EVENTS').batches()) for (const record of records) count(record);
   */
  batches(): AsyncGenerator<readonly T[], void, undefined>;
}

/** Where batches come from; `return` ends the query even when nothing was asked for yet. */
export type BatchSource<T> = Pick<AsyncGenerator<readonly T[], void, undefined>, 'next' | 'return'>;

/** Asks for a batch only when the one before is used up. Safe for several `next` at a time, as generators are. */
export class RecordIteration<T> implements Records<T> {
  readonly #source: BatchSource<T>;
  readonly #signal: AbortSignal | undefined;
  /** The current batch, and which of it comes next. */
  #batch: readonly T[] = [];
  #at = 0;
  #ended = false;
  /** Calls that wait for the source, one behind the other. */
  #waiting = 0;
  #last: Promise<unknown> = Promise.resolve();

  /** @param signal ends the iteration between two records of a batch, too */
  constructor(source: BatchSource<T>, signal: AbortSignal | undefined) {
    this.#source = source;
    this.#signal = signal;
  }

  next(): Promise<IteratorResult<T, void>> {
    if (this.#waiting === 0 && this.#at < this.#batch.length && this.#signal?.aborted !== true)
      return Promise.resolve({ done: false, value: this.#batch[this.#at++] as T });
    return this.#inTurn(() => this.#advance());
  }

  return(value?: void | PromiseLike<void>): Promise<IteratorResult<T, void>> {
    return this.#inTurn(async () => {
      await this.#end();
      return { done: true, value: await value };
    });
  }

  throw(error: unknown): Promise<never> {
    return this.#inTurn(async () => {
      await this.#end();
      throw error;
    });
  }

  /** An object, not a generator: that would not hear of a `return` before its first `next`. */
  batches(): AsyncGenerator<readonly T[], void, undefined> {
    const batches: AsyncGenerator<readonly T[], void, undefined> & AsyncDisposable = {
      next: async () => {
        const batch = await this.#rest();
        return batch.length > 0 ? { done: false, value: batch } : { done: true, value: undefined };
      },
      return: async (value) => {
        await this.return();
        return { done: true, value: await value };
      },
      throw: (error) => this.throw(error),
      [Symbol.asyncIterator]: () => batches,
      [Symbol.asyncDispose]: () => this[Symbol.asyncDispose](),
    };
    return batches;
  }

  [Symbol.asyncIterator](): this {
    return this;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.return();
  }

  /** What is left of the batch, or the next one; empty at the end. */
  #rest(): Promise<readonly T[]> {
    return this.#inTurn(async () => {
      if (!(await this.#fill())) return [];
      const rest = this.#at === 0 ? this.#batch : this.#batch.slice(this.#at);
      this.#batch = [];
      return rest;
    });
  }

  async #advance(): Promise<IteratorResult<T, void>> {
    if (!(await this.#fill())) return { done: true, value: undefined };
    return { done: false, value: this.#batch[this.#at++] as T };
  }

  /** Sees to it that there is a record; false at the end. */
  async #fill(): Promise<boolean> {
    if (this.#ended) return false;
    if (this.#signal?.aborted === true) {
      await this.#end();
      throw this.#signal.reason;
    }
    while (this.#at >= this.#batch.length) {
      const { done, value } = await this.#source.next();
      if (done === true) {
        this.#ended = true;
        return false;
      }
      this.#batch = value;
      this.#at = 0;
    }
    return true;
  }

  async #end(): Promise<void> {
    this.#ended = true;
    this.#batch = [];
    this.#at = 0;
    await this.#source.return();
  }

  async #inTurn<Result>(call: () => Promise<Result>): Promise<Result> {
    const before = this.#last;
    this.#waiting++;
    const own = before.then(call, call).finally(() => {
      this.#waiting--;
    });
    this.#last = own;
    return own;
  }
}
