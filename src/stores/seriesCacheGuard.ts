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
  /**
   * The lease granted last, until it comes back; `alone` when the one granted before it had come back by then. An
   * older one may be out still. That does no harm: all holders live in one thread, so that one had committed before
   * the later one came back, and `lent` finds what it wrote by the version.
   */
  #lent: { readonly id: LeaseId; readonly alone: boolean } | null = null;

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
    this.#lent = { id, alone: this.#lent === null };
  }

  /**
   * The holder of a lease is through, perhaps long after his time, and what he has told of is forgotten.
   * That was all there is to know if he was alone. A lease that overlapped another, or was never granted,
   * answers for nobody's writes: `begun` finds them.
   * @param isTold false when he has died, perhaps behind a COMMIT, and with him whoever holds a lease now
   */
  returned(id: LeaseId, isTold: boolean): void {
    const lent = this.#lent;
    if (!isTold) {
      this.#lent = null;
      this.#version = null;
    } else if (lent?.id === id) {
      this.#lent = null;
      if (lent.alone) this.#version = this.#options.dataVersion();
    }
  }
}
