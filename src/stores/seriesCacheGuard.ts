/**
 * Sees to it that the metric writer remembers nothing that somebody else has changed: its cache must not
 * know a series that is deleted, for the id may be a stranger's by now (MET-37).
 */
import type { LeaseId } from './lease.js';

export interface SeriesCacheGuardOptions {
  /** SQLite's `PRAGMA data_version`: another one when another connection has written. */
  readonly dataVersion: () => unknown;
  /** Somebody has written, and nobody says what: everything that is remembered goes. */
  readonly forgetAll: () => void;
}

export class SeriesCacheGuard {
  readonly #options: SeriesCacheGuardOptions;
  /** What was written up to here is known; null when nothing is. */
  #version: unknown;
  /** Leases that have not come back: more than one where a holder is late. */
  readonly #out = new Set<LeaseId>();
  /** The lease granted last, if it was the only one out; null once it has come back, or another is out beside it. */
  #alone: LeaseId | null = null;

  constructor(options: SeriesCacheGuardOptions) {
    this.#options = options;
    this.#version = options.dataVersion();
  }

  /** A transaction has begun: nobody else writes now. */
  begun(): void {
    const { dataVersion, forgetAll } = this.#options;
    const version = dataVersion();
    if (version === this.#version) return;
    forgetAll();
    this.#version = version;
  }

  /** The holder of this lease writes from now on; whoever has written before is somebody else. */
  lent(id: LeaseId): void {
    this.begun();
    this.#alone = this.#out.size === 0 ? id : null;
    this.#out.add(id);
  }

  /**
   * The holder of a lease is through, perhaps long after his time, and what he has told of is forgotten.
   * That was all there is to know if he was alone. A lease that overlapped another, or was never granted,
   * answers for nobody's writes: `begun` finds them.
   * @param isTold false when he has died, perhaps behind a COMMIT, and with him whoever holds a lease now
   */
  returned(id: LeaseId, isTold: boolean): void {
    this.#out.delete(id);
    if (!isTold) {
      this.#out.clear();
      this.#alone = null;
      this.#version = null;
    } else if (this.#alone === id) {
      this.#alone = null;
      this.#version = this.#options.dataVersion();
    }
  }
}
