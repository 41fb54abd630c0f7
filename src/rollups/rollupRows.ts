/**
 * What the computation of rollups and the metric writer agree on: up to which instant there may be rows, so
 * that the writer tells in one comparison that a sample is not late (ROL-19).
 */
import type { StoreConnection } from '../stores/storeFile.js';

/** In table `metadata`: the end of the newest window that was ever rolled up, ns. Only grows. */
const UNTIL_KEY = 'rollups_until';

/** Every sample may be late. */
export const ALWAYS = 2n ** 63n - 1n;

/** Statements over the key, of one connection. */
export class RolledUntil {
  readonly #get;
  readonly #any;
  readonly #put;

  constructor(db: StoreConnection) {
    this.#get = db.prepare(`SELECT value FROM metadata WHERE key = '${UNTIL_KEY}'`).pluck();
    this.#any = db.prepare('SELECT 1 FROM rollups LIMIT 1').pluck();
    this.#put = db.prepare(
      `INSERT INTO metadata (key, value) VALUES ('${UNTIL_KEY}', ?)
       ON CONFLICT (key) DO UPDATE SET value = excluded.value`,
    );
  }

  /** No row's window ends behind it, ns; null when there are no rows. */
  read(): bigint | null {
    if (this.#any.get() === undefined) return null;
    const text: unknown = this.#get.get();
    // Rows of somebody else's making: nothing is known of them.
    if (typeof text !== 'string' || !/^\d{1,19}$/.test(text)) return ALWAYS;
    return BigInt(text) < ALWAYS ? BigInt(text) : ALWAYS;
  }

  /** In the transaction that inserts rows whose windows end at `end` at most. */
  raise(end: bigint): void {
    const text: unknown = this.#get.get();
    if (typeof text === 'string' && /^\d{1,19}$/.test(text) && BigInt(text) >= end) return;
    this.#put.run(String(end));
  }
}

/** The start of the window that holds an instant, ns (ROL-4). */
export function windowStart(at: bigint, windowNs: bigint): bigint {
  const rest = at % windowNs;
  return at - (rest < 0n ? rest + windowNs : rest);
}
