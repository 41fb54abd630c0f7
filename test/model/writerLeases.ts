/** Retention's turns at a writer under a model-based test, as the daemon would hand them on (RET-8). */
import assert from 'node:assert/strict';
import type { FromRecordWriter, FromWriter, LeaseCommand } from '../../actors/messages.js';
import { type LeaseId, NO_LEASE } from '../../src/stores/lease.js';
import type { Shadow } from './walk.js';

export class WriterLeases {
  readonly #send: (command: LeaseCommand) => void;
  readonly #shadow: Shadow;
  #id = NO_LEASE;

  constructor(send: (command: LeaseCommand) => void, shadow: Shadow) {
    this.#send = send;
    this.#shadow = shadow;
  }

  request(): void {
    this.#id = (this.#id + 1) as LeaseId;
    this.#send({ type: 'lease', id: this.#id });
  }

  /** A number of an earlier lease ends nothing. */
  giveBack(): void {
    const before = this.#shadow.seen.length;
    const series = new BigInt64Array();
    this.#send({ type: 'leaseReturn', id: (this.#id - 1) as LeaseId, series });
    assert.equal(this.#shadow.seen.length, before);
    this.#send({ type: 'leaseReturn', id: this.#id, series });
  }

  /** Retention has been told of the lease it holds. */
  checkTold(reports: readonly (FromWriter | FromRecordWriter)[]): void {
    const granted = reports.filter((report) => report.type === 'leased').at(-1);
    assert.ok(granted?.type === 'leased' && granted.id === this.#id, 'nobody was told of the lease');
    assert.ok(granted.pressure >= 0 && granted.pressure <= 1);
  }
}
