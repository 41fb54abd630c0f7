/**
 * One turn at a time for those who write to the metric store beside its writer: retention and rollups
 * (MET-58). Each asks as if it were alone; the writer knows of one lease only.
 */
import { LEASE_BOUND_MS } from '../../machines/recordWriter.js';
import type { Lender } from './leases.js';

/** The writer takes its turn back by itself before, ms; then the next one may ask. */
const BOUND_MS = 2 * LEASE_BOUND_MS;

interface Turn {
  readonly number: number;
  /** He has it, and no longer than the bound. */
  readonly begin: () => void;
  readonly end: () => void;
}

export class LeaseQueue {
  readonly #lender: () => Lender | null;
  /** Resolves when everybody who has asked so far has had his turn. */
  #last: Promise<void> = Promise.resolve();
  #numbers = 0;

  constructor(lender: () => Lender | null) {
    this.#lender = lender;
  }

  /** A lender for one of them; numbers are his own. */
  user(): Lender {
    const turns = new Map<number, Turn>();
    const waiting = new Set<number>();
    return {
      lease: async (file, id) => {
        waiting.add(id);
        const turn = await this.#turn();
        // Given up meanwhile.
        if (!waiting.delete(id)) {
          turn.end();
          return null;
        }
        turns.set(id, turn);
        const pressure = (await this.#lender()?.lease(file, turn.number)) ?? null;
        if (pressure !== null && turns.has(id)) {
          turn.begin();
          return pressure;
        }
        turns.delete(id);
        turn.end();
        return null;
      },
      returnLease: (file, id, series) => {
        waiting.delete(id);
        const turn = turns.get(id);
        if (turn === undefined) return;
        turns.delete(id);
        this.#lender()?.returnLease(file, turn.number, series);
        turn.end();
      },
    };
  }

  /** Waits for those who came before. */
  async #turn(): Promise<Turn> {
    const before = this.#last;
    let end: () => void = () => undefined;
    this.#last = new Promise((resolve) => {
      end = resolve;
    });
    await before;
    let timer: NodeJS.Timeout | null = null;
    return {
      number: ++this.#numbers,
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
