/**
 * What the computation of rollups and the metric writer agree on, in table `metadata` of the store: up to which
 * instant windows were looked at, so that the writer tells in one comparison that a sample is not late (ROL-19);
 * and from where on they are to be looked at again.
 */
import type { StoreConnection } from '../stores/storeFile.js';

/** The end of the newest window that was ever looked at, ns. Only grows. */
const UNTIL_KEY = 'rollups_until';
/** The oldest sample that came late since the computation has asked, ns. */
const REOPENED_KEY = 'rollups_reopened';
const TIME = /^\d{1,19}$/;

/** Every sample may be late. */
export const ALWAYS = 2n ** 63n - 1n;

/** Statements of one connection over the end of what was looked at. */
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

  /** No row's window ends behind it, ns; null when nothing was looked at. */
  read(): bigint | null {
    const known = timeOf(this.#get.get());
    if (known !== null) return known;
    // Rows of somebody else's making: nothing is known of them.
    return this.#any.get() === undefined ? null : ALWAYS;
  }

  /** In the transaction that looked at windows which end at `end` at most, and inserted their rows. */
  raise(end: bigint): void {
    const known = timeOf(this.#get.get());
    if (known === null || known < end) this.#put.run(String(end));
  }
}

/** Statements of one connection over what came late. */
export class Reopened {
  readonly #get;
  readonly #lower;
  readonly #clear;

  constructor(db: StoreConnection) {
    this.#get = db.prepare(`SELECT value FROM metadata WHERE key = '${REOPENED_KEY}'`).pluck();
    this.#lower = db.prepare(
      `INSERT INTO metadata (key, value) VALUES ('${REOPENED_KEY}', ?) ON CONFLICT (key)
       DO UPDATE SET value = excluded.value WHERE CAST(value AS INTEGER) > CAST(excluded.value AS INTEGER)`,
    );
    this.#clear = db.prepare(`DELETE FROM metadata WHERE key = '${REOPENED_KEY}'`);
  }

  /** Windows from that of this instant on may lack their row; null: none was reopened. */
  read(): bigint | null {
    const text: unknown = this.#get.get();
    // What says nothing is taken for everything.
    return text === undefined ? null : (timeOf(text) ?? 0n);
  }

  /** In the transaction that stores a late sample. */
  lower(at: bigint): void {
    this.#lower.run(String(at));
  }

  clear(): void {
    this.#clear.run();
  }
}

function timeOf(text: unknown): bigint | null {
  if (typeof text !== 'string' || !TIME.test(text)) return null;
  return BigInt(text) < ALWAYS ? BigInt(text) : ALWAYS;
}

/** The start of the window that holds an instant, ns (ROL-4). */
export function windowStart(at: bigint, windowNs: bigint): bigint {
  const rest = at % windowNs;
  return at - (rest < 0n ? rest + windowNs : rest);
}
