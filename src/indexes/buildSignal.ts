/**
 * How an index build is ended from other threads: its own is inside SQLite and hears nothing (IDX-12, IDX-15).
 * One piece of shared memory per shard says whether a build runs, on which connection, and how long events
 * may wait for it. The native slot takes care that nothing but the build is interrupted.
 */
import { native } from '../native/addon.js';

/** A build is ended after this time whatever happens, ms: its thread cannot answer meanwhile. */
export const BUILD_BOUND_MS = 30 * 60_000;

const SLOT_BYTES = 8;
const PATIENCE = 0;
const PRESSED = 1;

export class BuildSignal {
  /** The slot of the connection while it builds, else 0. */
  readonly #slot: BigInt64Array;
  readonly #words: Int32Array;

  constructor(buffer: SharedArrayBuffer) {
    this.#slot = new BigInt64Array(buffer, 0, 1);
    this.#words = new Int32Array(buffer, SLOT_BYTES, 2);
  }

  static allocate(): SharedArrayBuffer {
    return new SharedArrayBuffer(SLOT_BYTES + 8);
  }

  /** A build runs just now. */
  get building(): boolean {
    return Atomics.load(this.#slot, 0) !== 0n;
  }

  /** The writer begins a build. */
  begin(slot: number, patienceMs: number): void {
    native.slotYieldableBegin(slot, BUILD_BOUND_MS);
    Atomics.store(this.#words, PATIENCE, patienceMs);
    Atomics.store(this.#words, PRESSED, 0);
    Atomics.store(this.#slot, 0, BigInt(slot));
  }

  /** It has ended: nothing is interrupted any more. */
  end(): 'undisturbed' | 'yielded' | 'pressed' {
    const slot = Number(Atomics.exchange(this.#slot, 0, 0n));
    const isYielded = native.slotYieldableEnd(slot);
    if (!isYielded) return 'undisturbed';
    return Atomics.load(this.#words, PRESSED) === 0 ? 'yielded' : 'pressed';
  }

  /** Events wait: the build has its patience left, and no more. False when there is none. */
  arrived(): boolean {
    const slot = Number(Atomics.load(this.#slot, 0));
    return slot !== 0 && native.slotYield(slot, Atomics.load(this.#words, PATIENCE));
  }

  /** The writer is needed at once. False when there is no build. */
  press(): boolean {
    const slot = Number(Atomics.load(this.#slot, 0));
    if (slot === 0) return false;
    Atomics.store(this.#words, PRESSED, 1);
    return native.slotYield(slot, 0);
  }
}
