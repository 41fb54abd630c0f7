/**
 * The lease that one actor of the maintenance thread has asked for: from it to a writer, and back (RET-8,
 * LOG-52, MET-58). One at a time; whoever of the two dies, nobody waits for him (FAIL-33).
 */
import type { LeaseId } from '../../src/stores/lease.js';
import type { LeaseAnswer } from '../maintenance/messages.js';
import type { Lender } from './leases.js';

interface OpenLease<Target> {
  readonly id: LeaseId;
  /** How the actor numbers it. */
  readonly request: number;
  readonly target: Target;
}

/** Of all desks: their leases meet at the writers. */
let issued = 0;

export class LeaseDesk<Target extends { readonly file: string }> {
  readonly #lender: (target: Target) => Lender | null;
  #open: OpenLease<Target> | null = null;

  /** `lender` is null while nobody may write there. */
  constructor(lender: (target: Target) => Lender | null) {
    this.#lender = lender;
  }

  /** The actor asks for a lease; the answer comes when the writer has one, unless it is not waited for any more. */
  async ask(request: number, target: Target, answer: (message: LeaseAnswer) => void): Promise<void> {
    const id = ++issued as LeaseId;
    const lease = { id, request, target };
    this.#open = lease;
    const pressure = (await this.#lender(target)?.lease(target.file, id)) ?? null;
    // It was given back meanwhile, or who asked is gone.
    if (this.#open !== lease) return;
    if (pressure === null) this.#open = null;
    answer(
      pressure === null
        ? { type: 'leaseRefused', id: request }
        : { type: 'leaseGranted', id: request, pressure },
    );
  }

  /** The actor is through. `series`: ids deleted under the lease (MET-64). */
  giveBack(request: number, series: BigInt64Array): void {
    if (this.#open?.request === request) this.#return(this.#open, series);
  }

  /** The actor is gone; `series` is null where it may have deleted some, which it cannot say any more (MET-37). */
  abandon(series: BigInt64Array | null): void {
    if (this.#open !== null) this.#return(this.#open, series);
  }

  #return({ id, target }: OpenLease<Target>, series: BigInt64Array | null): void {
    this.#open = null;
    this.#lender(target)?.returnLease(target.file, id, series);
  }
}
