/**
 * The lease that one actor of the maintenance thread has asked for: from it to a writer, and back (RET-8,
 * LOG-52, MET-58). One at a time; whoever of the two dies, nobody waits for him (FAIL-33).
 */
import type { LeaseAnswer } from '../maintenance/messages.js';
import type { Lender } from './leases.js';

interface OpenLease<Target> {
  readonly id: number;
  readonly target: Target;
}

export class LeaseDesk<Target extends { readonly file: string }> {
  readonly #lender: (target: Target) => Lender | null;
  #open: OpenLease<Target> | null = null;
  /** Lease numbers begin anew with each actor, but writers must not confuse them. */
  #generation = 0;

  /** `lender` is null while nobody may write there. */
  constructor(lender: (target: Target) => Lender | null) {
    this.#lender = lender;
  }

  /** A new actor asks from now on. */
  begin(): void {
    this.#generation++;
  }

  /** The actor asks for this lease; the answer comes when the writer has one, unless it is not waited for any more. */
  async ask(id: number, target: Target, answer: (message: LeaseAnswer) => void): Promise<void> {
    const lease = { id, target };
    this.#open = lease;
    const pressure = (await this.#lender(target)?.lease(target.file, this.#numberOf(id))) ?? null;
    // It was given back meanwhile, or who asked is gone.
    if (this.#open !== lease) return;
    if (pressure === null) this.#open = null;
    answer(pressure === null ? { type: 'leaseRefused', id } : { type: 'leaseGranted', id, pressure });
  }

  /** The actor is through. `series`: ids deleted under the lease (MET-64). */
  giveBack(id: number, series: BigInt64Array): void {
    if (this.#open?.id === id) this.#return(this.#open, series);
  }

  /** The actor is gone; `series` is null where it may have deleted some, which it cannot say any more (MET-37). */
  abandon(series: BigInt64Array | null): void {
    if (this.#open !== null) this.#return(this.#open, series);
  }

  #return({ id, target }: OpenLease<Target>, series: BigInt64Array | null): void {
    this.#open = null;
    this.#lender(target)?.returnLease(target.file, this.#numberOf(id), series);
  }

  #numberOf(id: number): number {
    return this.#generation * 2 ** 32 + id;
  }
}
