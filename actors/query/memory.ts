/**
 * The memory that all running queries share (`QueryMemoryBytes`): one counter per worker thread in
 * shared memory, so that a thread that breaks takes nothing with it.
 */

/** Index of the limit; the counters of the workers follow. */
const LIMIT = 0;

export class QueryMemory {
  readonly shared: SharedArrayBuffer;
  readonly #cells: BigInt64Array<SharedArrayBuffer>;

  /** @param shared of another thread's instance */
  constructor(shared: SharedArrayBuffer) {
    this.shared = shared;
    this.#cells = new BigInt64Array(shared);
  }

  static allocate(workers: number, limitBytes: number): QueryMemory {
    const shared = new SharedArrayBuffer((workers + 1) * BigInt64Array.BYTES_PER_ELEMENT);
    const memory = new QueryMemory(shared);
    memory.setLimit(limitBytes);
    return memory;
  }

  /** Holds for reservations from now on; what queries have, they keep. */
  setLimit(bytes: number): void {
    Atomics.store(this.#cells, LIMIT, BigInt(bytes));
  }

  get limit(): number {
    return Number(Atomics.load(this.#cells, LIMIT));
  }

  /** Bytes that the queries of all workers hold. */
  get used(): number {
    let sum = 0n;
    for (let index = LIMIT + 1; index < this.#cells.length; index++) sum += Atomics.load(this.#cells, index);
    return Number(sum);
  }

  /** Takes `bytes` for a query of this worker; false when the limit would be passed. */
  reserve(worker: number, bytes: number): boolean {
    Atomics.add(this.#cells, worker + 1, BigInt(bytes));
    if (this.used <= this.limit) return true;
    this.release(worker, bytes);
    return false;
  }

  release(worker: number, bytes: number): void {
    Atomics.sub(this.#cells, worker + 1, BigInt(bytes));
  }

  /** The worker's thread is gone, and its memory with it. */
  forget(worker: number): void {
    Atomics.store(this.#cells, worker + 1, 0n);
  }
}

/** What one query holds of the {@link QueryMemory}. */
export class MemoryShare {
  readonly #memory: QueryMemory;
  readonly #worker: number;
  #held = 0;

  constructor(memory: QueryMemory, worker: number) {
    this.#memory = memory;
    this.#worker = worker;
  }

  get held(): number {
    return this.#held;
  }

  get limit(): number {
    return this.#memory.limit;
  }

  /** False when all queries together would pass the limit; nothing is taken then. */
  reserve(bytes: number): boolean {
    if (!this.#memory.reserve(this.#worker, bytes)) return false;
    this.#held += bytes;
    return true;
  }

  /** Gives a part of it back. */
  give(bytes: number): void {
    this.#memory.release(this.#worker, bytes);
    this.#held -= bytes;
  }

  /** Gives everything back. Safe twice. */
  release(): void {
    this.#memory.release(this.#worker, this.#held);
    this.#held = 0;
  }
}
