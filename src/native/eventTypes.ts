/** What rings, drain threads and the channels to the shards' writers are told and tell; see `addon.ts`. */
import type { ChannelHandle, RingHandle, SegmentHandle } from './handles.js';

/** What a ring's metadata said when it was mapped. */
export interface RingInfo {
  readonly ring: RingHandle;
  readonly cpu: number;
  /** Data bytes, a power of two. */
  readonly capacity: number;
  readonly generation: bigint;
}

/** Live positions of a ring. */
export interface RingStatus {
  readonly writePos: bigint;
  readonly tailPos: bigint;
  readonly generation: bigint;
  readonly capacity: number;
}

/** The three identity stamps of an event, 16 bytes each: effective token, true token, process. */
export interface ProducerIdentity {
  readonly effectiveToken: Uint8Array;
  readonly trueToken: Uint8Array;
  readonly process: Uint8Array;
}

/** One event to write; `type` and `payload` are stored as they are. */
export interface ProducerEvent {
  readonly type: Uint8Array;
  readonly payload: Uint8Array;
}

/** What one taken segment holds. */
export interface SegmentInfo {
  readonly segment: SegmentHandle;
  /** Rows it will insert: KMES events plus gap records. */
  readonly rows: number;
  readonly events: number;
  readonly gaps: number;
  readonly bytes: number;
  /** CLOCK_MONOTONIC ns at which its first entry was appended. */
  readonly openedAt: bigint;
}

/** A maximal contiguous run of one CPU's sequences inside a segment. */
export interface SegmentRun {
  readonly kind: 'events' | 'gap';
  readonly cpu: number;
  readonly first: bigint;
  readonly last: bigint;
  /** Header timestamp (ns) of the last event seen on that CPU before the run; null if there is none. */
  readonly previousTimestamp: bigint | null;
  /** For gaps: header timestamp of the revealing event. Null for event runs. */
  readonly revealingTimestamp: bigint | null;
  /** For gaps: CLOCK_REALTIME ns of the detection. Null for event runs. */
  readonly detectedAt: bigint | null;
  /** For gaps: why the numbers are missing (STO-8). Null for event runs. */
  readonly cause: 'ring_loss' | 'restart' | null;
}

/** Values of STO-15 that hold once the segment's transaction is committed. */
export interface SegmentWatermark {
  readonly cpu: number;
  /** Highest sequence of the CPU stored or gap-recorded by this shard. */
  readonly last: bigint;
  /** Everything of the CPU up to here is stored or gap-recorded, in whichever shard. */
  readonly settled: bigint;
}

export interface ChannelStatus {
  readonly rows: number;
  readonly bytes: number;
  readonly maxRows: number;
  /** Drain threads blocked on this channel. */
  readonly blocked: number;
  /** More than half of its room is taken, in rows or in bytes. */
  readonly halfFull: boolean;
}

/** What a drain thread reports to its actor. Never one per event. */
export type DrainEvent =
  /** The channel at `index` turned non-empty, or passed half its room, in rows or in bytes. */
  | { readonly type: 'available'; readonly index: number; readonly halfFull: boolean }
  /** The ring is empty and the thread goes to sleep on the futex. */
  | { readonly type: 'idle' }
  /** No room in the channel at `index`: reading is paused, events stay in the ring. */
  | { readonly type: 'throttled'; readonly index: number }
  | { readonly type: 'resumed'; readonly index: number }
  /** KMES overwrote unread events; reading went on at the tail. */
  | { readonly type: 'lapped'; readonly from: bigint; readonly to: bigint }
  /** An insane event prefix; reading went on at `to`. */
  | { readonly type: 'corrupt'; readonly from: bigint; readonly to: bigint }
  | { readonly type: 'gap'; readonly first: bigint; readonly last: bigint }
  /** The ring ends at sequence `newest`, but this boot is known up to `known`: it has begun anew. Once per ring. */
  | { readonly type: 'regressed'; readonly newest: bigint; readonly known: bigint }
  /** Ring fill crossed a limit: 0 normal, 1 elevated, 2 emergency. `fill` is 0..1. */
  | { readonly type: 'pressure'; readonly level: 0 | 1 | 2; readonly fill: number }
  /** The ring was replaced; the old one is drained to its end and the thread waits for `drainReattach`. */
  | { readonly type: 'generation'; readonly lastSequence: bigint }
  | { readonly type: 'reattached'; readonly generation: bigint; readonly capacity: number }
  /** The final drain cycle is over; nothing more will be appended. */
  | { readonly type: 'finished'; readonly lastSequence: bigint };

export interface DrainOptions {
  readonly ring: RingHandle;
  readonly cpu: number;
  /** The CPU's shard channels in round-robin order. */
  readonly channels: readonly ChannelHandle[];
  /** Sequence tracker to start from; 0n = nothing seen in this boot. */
  readonly lastSequence: bigint;
  /** Header timestamp (ns) of the event `lastSequence` names, if known. */
  readonly lastTimestamp: bigint | null;
  /**
   * Sorted, disjoint, inclusive [first, last] pairs above `lastSequence` that are stored or
   * gap-recorded already: first0, last0, first1, last1, ...
   */
  readonly covered: BigUint64Array;
  /** Ring fill in percent at which pressure becomes elevated and emergency. */
  readonly elevatedPercent: number;
  readonly emergencyPercent: number;
}

export interface DrainStatus {
  readonly lastSequence: bigint;
  readonly readPos: bigint;
  readonly events: bigint;
  readonly gaps: bigint;
  /** Sequences inside gap records made so far. */
  readonly lost: bigint;
  /** Highest ring fill seen since start, 0..1. */
  readonly peakFill: number;
}
