/**
 * The emit rate limit: one token bucket per process, shared by both emit calls (KMES-71..75).
 * Tokens are reserved when a call is checked and given back for what it did not emit, so that the
 * charge equals the number of events emitted.
 */

/** Monotonic milliseconds. */
export type MonotonicClock = () => number;

interface Bucket {
  tokens: number;
  /** Clock value at which `tokens` was right. */
  at: number;
}

/** Buckets kept before the full ones are thrown away. */
const SWEEP_THRESHOLD = 1024;

/**
 * The buckets of all processes, by a key that no two processes of a boot share (pid and start time).
 *
 * A bucket lives as long as its process could tell: refill and burst are the same number, so one
 * second after its last use a bucket is full again and equal to a new one. Full buckets can
 * therefore be dropped at any time, which bounds the memory without watching for process exits.
 */
export class TokenBuckets {
  readonly #buckets = new Map<string, Bucket>();
  readonly #now: MonotonicClock;
  #rate: number;

  constructor(rate: number, now: MonotonicClock) {
    this.#rate = rate;
    this.#now = now;
  }

  /** Buckets held at the moment. */
  get size(): number {
    return this.#buckets.size;
  }

  /** Takes `count` tokens at once, or none: false means the process has to wait (EAGAIN). */
  reserve(process: string, count: number): boolean {
    const bucket = this.#refilled(process);
    if (bucket.tokens < count) return false;
    bucket.tokens -= count;
    return true;
  }

  /** Gives back tokens of a reservation that were not used. */
  refund(process: string, count: number): void {
    const bucket = this.#refilled(process);
    bucket.tokens = Math.min(this.#rate, bucket.tokens + count);
  }

  /** Changes refill and burst at once; counts above the new burst are clamped, none is raised (KMES-74). */
  setRate(rate: number): void {
    for (const process of this.#buckets.keys()) this.#refilled(process);
    this.#rate = rate;
    for (const bucket of this.#buckets.values()) bucket.tokens = Math.min(rate, bucket.tokens);
  }

  #refilled(process: string): Bucket {
    const now = this.#now();
    const known = this.#buckets.get(process);
    if (known !== undefined) {
      known.tokens = Math.min(this.#rate, known.tokens + ((now - known.at) * this.#rate) / 1000);
      known.at = now;
      return known;
    }
    if (this.#buckets.size >= SWEEP_THRESHOLD) this.#sweep(now);
    const fresh = { tokens: this.#rate, at: now };
    this.#buckets.set(process, fresh);
    return fresh;
  }

  #sweep(now: number): void {
    for (const [process, bucket] of this.#buckets) {
      if (bucket.tokens + ((now - bucket.at) * this.#rate) / 1000 >= this.#rate)
        this.#buckets.delete(process);
    }
  }
}
