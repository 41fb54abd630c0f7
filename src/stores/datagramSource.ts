/**
 * What waits to be stored: the receiver's buffer, and the batch that was taken out of it last. It
 * outlives the connection to the store, so that the rest of a batch goes into a fresh file.
 */
import { type DatagramBatch, native, type ReceiverHandle, type ReceiverStatus } from '../native/addon.js';
import { HELD_BATCH, type HeldHandles, heldHandles } from './heldHandles.js';

export class DatagramSource {
  readonly #receiver: ReceiverHandle;
  readonly #held: HeldHandles;
  #batch: DatagramBatch | null = null;

  constructor(receiver: ReceiverHandle, held: HeldHandles = heldHandles()) {
    this.#receiver = receiver;
    this.#held = held;
  }

  get status(): ReceiverStatus {
    return native.receiverStatus(this.#receiver);
  }

  /** A batch is out and not decoded to its end. */
  get holds(): boolean {
    return this.#batch !== null;
  }

  /** The batch to go on with: the one in hand, else the next; null when nothing waits. */
  take(): DatagramBatch | null {
    if (this.#batch === null) {
      this.#batch = native.receiverTake(this.#receiver);
      this.#held[HELD_BATCH] = this.#batch?.batch ?? 0;
    }
    return this.#batch;
  }

  /** The batch in hand is done. */
  release(): void {
    if (this.#batch === null) return;
    native.datagramsRelease(this.#batch.batch);
    this.#held[HELD_BATCH] = 0;
    this.#batch = null;
  }

  /** Drops what waits, undecoded (FAIL-21). */
  discard(): void {
    if (this.take() !== null) this.release();
  }
}
