/** Audit records of the embedded AccessCheck become events of origin class 2 in the embedded rings (ACL-85). */

import { join } from 'node:path';
import type { AuditSink } from '../access/embeddedCaller.js';
import { type NativeAddon, native, type ProducerHandle, type ProducerIdentity } from '../native/addon.js';
import { messageOf } from './errorMessage.js';
import { ringFileName } from './kmes.js';
import type { WarningLog } from './log.js';

/** Events of the access control subsystem (CFG-87). */
const ORIGIN_KACS = 2;

type ProducerCalls = Pick<NativeAddon, 'producerOpen' | 'producerEmit' | 'producerClose'>;

/**
 * Writes into the ring of CPU 0, beside whoever else produces there: a ring's lock is shared between
 * processes, and a resize is followed. Audit is best effort: what cannot be written is told once and lost,
 * the verdict stands.
 */
export class RingAuditSink implements AuditSink {
  #producer: ProducerHandle | null = null;
  #isClosed = false;
  #failure = '';

  constructor(
    private readonly ringDirectory: string,
    /** Stamps of eventd itself: it is the process that checks (HOST-77). */
    private readonly identity: ProducerIdentity,
    private readonly log: WarningLog,
    private readonly calls: ProducerCalls = native,
  ) {}

  emit(type: string, payload: Uint8Array): void {
    if (this.#isClosed) return;
    try {
      this.#producer ??= this.calls.producerOpen(join(this.ringDirectory, ringFileName(0)));
      const event = { type: Buffer.from(type, 'utf8'), payload };
      this.calls.producerEmit(this.#producer, ORIGIN_KACS, event, this.identity);
      this.#failure = '';
    } catch (error) {
      this.#giveUp();
      const reason = messageOf(error);
      if (reason === this.#failure) return;
      this.#failure = reason;
      this.log.warn(`an access audit record was lost: ${reason}`);
    }
  }

  /** Safe twice. */
  close(): void {
    this.#isClosed = true;
    this.#giveUp();
  }

  #giveUp(): void {
    if (this.#producer !== null) this.calls.producerClose(this.#producer);
    this.#producer = null;
  }
}
