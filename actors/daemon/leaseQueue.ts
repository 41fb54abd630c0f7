/**
 * One turn at a time for those who write to the metric store beside its writer: retention and rollups
 * (MET-58). Each asks as if it were alone; the writer knows of one lease only.
 */
import { LEASE_BOUND_MS } from '../../machines/recordWriter.js';
import type { LeaseId } from '../../src/stores/lease.js';
import type { Lender } from './leases.js';

/** The writer takes its turn back by itself before, ms; then the next one may ask. */
const BOUND_MS = 2 * LEASE_BOUND_MS;

interface Turn {
  /** He has it, and no longer than the bound. */
  readonly begin: () => void;
  readonly end: () => void;
}

export class LeaseQueue implements Lender {
  readonly #lender: () => Lender | null;
  /** Resolves when everybody who has asked so far has had his turn. */
  #last: Promise<void> = Promise.resolve();
  /** Leases that are not back, also those whose turn is over; null until the turn has come. */
  readonly #turns = new Map<LeaseId, Turn | null>();

  constructor(lender: () => Lender | null) {
    this.#lender = lender;
  }

  async lease(file: string, id: LeaseId): Promise<number | null> {
    this.#turns.set(id, null);
    const turn = await this.#next();
    // Given up meanwhile.
    if (!this.#turns.has(id)) {
      turn.end();
      return null;
    }
    this.#turns.set(id, turn);
    const pressure = (await this.#lender()?.lease(file, id)) ?? null;
    if (pressure !== null && this.#turns.has(id)) {
      turn.begin();
      return pressure;
    }
    this.#turns.delete(id);
    turn.end();
    return null;
  }

  /** The writer also hears of a lease that comes back after its turn: series may be gone (MET-37). */
  returnLease(file: string, id: LeaseId, series: BigInt64Array | null): void {
    const turn = this.#turns.get(id) ?? null;
    this.#turns.delete(id);
    if (turn === null) return;
    this.#lender()?.returnLease(file, id, series);
    turn.end();
  }

  /** Waits for those who came before. */
  async #next(): Promise<Turn> {
    const before = this.#last;
    let end: () => void = () => undefined;
    this.#last = new Promise((resolve) => {
      end = resolve;
    });
    await before;
    let timer: NodeJS.Timeout | null = null;
    return {
      begin: () => {
        timer = setTimeout(end, BOUND_MS).unref();
      },
      end: () => {
        if (timer !== null) clearTimeout(timer);
        end();
      },
    };
  }
}
