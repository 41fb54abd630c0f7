/** One cross-type term of a stream, as whoever judges all of them sees it. */
import type { StoreName } from '../../../src/query/job.js';
import type { ReadConnection } from '../../../src/stores/readConnection.js';

/** Throws when the time of the stream's terms is over. */
export type CheckTime = () => void;

export interface Term {
  /** The store it looks into. */
  readonly store: StoreName;
  /** As error texts name it. */
  readonly text: string;
  /** Its truth at a time, ns, by the databases of its store. It looks at the clock between its statements. */
  holds(at: bigint, connections: readonly ReadConnection[], checkTime: CheckTime): boolean;
}
