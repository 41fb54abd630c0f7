/**
 * Samples that come after their window was rolled up (ROL-19): the rows that do not hold any more go in the
 * very transaction that stores the samples, so no query ever sees the one without the other. So does the note
 * from where on windows are to be looked at again: a late sample may also lie where there was none before.
 */
import type { DatagramsHandle, NativeAddon } from '../native/addon.js';
import type { StoreConnection } from '../stores/storeFile.js';
import { ROLLUP_FUNCTIONS } from './pairs.js';
import { Reopened, RolledUntil, windowStart } from './rollupRows.js';

const SECOND_NS = 1_000_000_000n;
/** Longest that a sample may live (CFG-42): older ones are never rolled up, whatever clock they come from. */
const LONGEST_LIFE_NS = 3650n * 86_400n * SECOND_NS;
const FIRST_DELTA = BigInt(ROLLUP_FUNCTIONS.indexOf('rate'));

/** Function and window size of rows that a series has. */
interface Kind {
  readonly function: bigint;
  readonly seconds: bigint;
}

export class LateSamples {
  readonly #native: Pick<NativeAddon, 'metricOldest' | 'realtimeNs'>;
  readonly #rolledUntil: RolledUntil;
  readonly #reopened: Reopened;
  readonly #late;
  readonly #nextKind;
  readonly #nextSample;
  readonly #delete;
  /** Null: nothing was rolled up. */
  #until: bigint | null = null;

  constructor(db: StoreConnection, native: Pick<NativeAddon, 'metricOldest' | 'realtimeNs'>) {
    this.#native = native;
    this.#rolledUntil = new RolledUntil(db);
    this.#reopened = new Reopened(db);
    this.#late = db
      .prepare('SELECT DISTINCT series_id, timestamp FROM metric_batch(?) WHERE timestamp < ? ORDER BY 1, 2')
      .raw();
    this.#nextKind = db.prepare(
      `SELECT function, window_seconds AS seconds FROM rollups
       WHERE series_id = ? AND (function, window_seconds) > (?, ?) ORDER BY function, window_seconds LIMIT 1`,
    );
    this.#nextSample = db
      .prepare(
        'SELECT timestamp FROM samples WHERE series_id = ? AND timestamp > ? ORDER BY timestamp LIMIT 1',
      )
      .pluck();
    this.#delete = db.prepare(
      'DELETE FROM rollups WHERE series_id = ? AND function = ? AND window_seconds = ? AND window_start = ?',
    );
    this.refresh();
  }

  /** Somebody else has written. */
  refresh(): void {
    this.#until = this.#rolledUntil.read();
  }

  /** The samples of the batch's slice are inserted, in the transaction that is open. */
  inserted(batch: DatagramsHandle): void {
    const until = this.#until;
    if (until === null || this.#native.metricOldest(batch) >= until) return;
    const oldest = this.#native.realtimeNs() - LONGEST_LIFE_NS;
    let reopened: bigint | null = null;
    let series: bigint | null = null;
    let kinds: readonly Kind[] = [];
    for (const [id, timestamp] of this.#late.all(batch, until) as [bigint, bigint][]) {
      if (id !== series) kinds = this.#kinds(id);
      series = id;
      for (const kind of kinds) this.#invalidate(id, timestamp, kind);
      if (timestamp >= oldest && (reopened === null || timestamp < reopened)) reopened = timestamp;
    }
    if (reopened !== null) this.#reopened.lower(reopened);
  }

  /** A step in the index per kind, however many rows there are. */
  #kinds(series: bigint): Kind[] {
    const kinds: Kind[] = [];
    for (let at: Kind = { function: -1n, seconds: 0n }; ; ) {
      const next = this.#nextKind.get(series, at.function, at.seconds) as Kind | undefined;
      if (next === undefined) return kinds;
      if (next.seconds > 0n) kinds.push(next);
      at = next;
    }
  }

  /** The window of the sample, and that of its successor, whose delta is another one now. */
  #invalidate(series: bigint, timestamp: bigint, kind: Kind): void {
    const drop = (at: bigint) =>
      this.#delete.run(series, kind.function, kind.seconds, windowStart(at, kind.seconds * SECOND_NS));
    drop(timestamp);
    if (kind.function < FIRST_DELTA) return;
    const next = this.#nextSample.get(series, timestamp) as bigint | undefined;
    if (next !== undefined) drop(next);
  }
}
