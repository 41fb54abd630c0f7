/** Asking a writer for a turn at its store (RET-8): its thread answers between two batches, or never. */
import type { LeaseId } from '../../src/stores/lease.js';
import type { FromRecordWriter, FromWriter, LeaseCommand } from '../messages.js';
import type { ActorThread } from '../thread.js';
import { heard } from '../threadTalk.js';

type LendingThread = ActorThread<FromWriter | FromRecordWriter, LeaseCommand>;

/** Who can let others write to a store's databases, under leases that the asker has numbered (`LeaseId`). */
export interface Lender {
  /**
   * Asks the writer of a database; a database without one needs nobody's leave.
   * @returns how full the writer's buffer is, 0..1, once it waits; null when nobody may allow it
   */
  lease(file: string, id: LeaseId): Promise<number | null>;
  /**
   * The asker is through, or does not wait any more.
   * @param series ids that he has deleted; null when nobody can tell
   */
  returnLease(file: string, id: LeaseId, series: BigInt64Array | null): void;
}

/** @returns the pressure, or null when the thread ends before it answers */
export async function askLease(thread: LendingThread, id: LeaseId): Promise<number | null> {
  const granted = heard(thread, (message) => message.type === 'leased' && message.id === id);
  thread.send({ type: 'lease', id });
  try {
    const answer = await granted;
    return answer.type === 'leased' ? answer.pressure : null;
  } catch {
    return null;
  }
}
