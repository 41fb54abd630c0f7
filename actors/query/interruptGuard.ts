/**
 * Makes an interrupt hit the query it is meant for.
 *
 * A worker runs many queries in turn, and a connection serves another query as soon as it is given
 * back. The worker therefore shows which query it is executing, and cannot leave that query's native
 * call while the main thread interrupts it.
 */

const NOTHING = 0;
const HELD = -1;

export class InterruptGuard {
  readonly #executing: Int32Array<SharedArrayBuffer>;

  /** @param shared 4 bytes, the same for the worker and the main thread */
  constructor(shared: SharedArrayBuffer) {
    this.#executing = new Int32Array(shared);
  }

  static allocate(): SharedArrayBuffer {
    return new SharedArrayBuffer(Int32Array.BYTES_PER_ELEMENT);
  }

  /** Worker: runs a native call for query `id` (a positive 32-bit integer). */
  execute<Result>(id: number, call: () => Result): Result {
    Atomics.store(this.#executing, 0, id);
    try {
      return call();
    } finally {
      while (Atomics.compareExchange(this.#executing, 0, id, NOTHING) !== id) {
        Atomics.wait(this.#executing, 0, HELD);
      }
    }
  }

  /**
   * Main thread: calls `interrupt` if the worker is executing query `id` right now, and returns
   * whether it was. An interrupt that comes a moment before the first step is lost in SQLite, so the
   * caller repeats until the worker reports the query's end.
   */
  interrupt(id: number, interrupt: () => void): boolean {
    if (Atomics.compareExchange(this.#executing, 0, id, HELD) !== id) return false;
    try {
      interrupt();
    } finally {
      Atomics.store(this.#executing, 0, id);
      Atomics.notify(this.#executing, 0);
    }
    return true;
  }
}
