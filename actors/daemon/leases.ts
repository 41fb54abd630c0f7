/** Asking a writer for retention's turn (RET-8): its thread answers between two batches, or never. */
import type { FromRecordWriter, FromWriter, LeaseCommand } from '../messages.js';
import type { ActorThread } from '../thread.js';
import { heard } from '../threadTalk.js';

type LendingThread = ActorThread<FromWriter | FromRecordWriter, LeaseCommand>;

/** Who can let retention write to a store's databases. */
export interface Lender {
  /**
   * Asks the writer of a database; a database without one needs nobody's leave.
   * @returns how full the writer's buffer is, 0..1, once it waits; null when nobody may allow it
   */
  lease(file: string, id: number): Promise<number | null>;
  /**
   * Retention is through, or does not wait any more.
   * @param series ids that it has deleted; null when nobody can tell
   */
  returnLease(file: string, id: number, series: BigInt64Array | null): void;
}

/** @returns the pressure, or null when the thread ends before it answers */
export async function askLease(thread: LendingThread, id: number): Promise<number | null> {
  const granted = heard(thread, (message) => message.type === 'leased' && message.id === id);
  thread.send({ type: 'lease', id });
  try {
    const answer = await granted;
    return answer.type === 'leased' ? answer.pressure : null;
  } catch {
    return null;
  }
}
