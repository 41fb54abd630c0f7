/** Datagrams of logs and metrics, and what becomes of them; see `addon.ts`. */
import type { DatagramsHandle } from './handles.js';

/** A datagram socket of the log or the metric path (LOG-5, MET-13). */
export interface ReceiverOptions {
  readonly path: string;
  /** Permission bits of the socket file, set right after bind (LOG-8). */
  readonly mode: number;
  /** Bytes the two buffers hold together; what finds them full is dropped and counted. */
  readonly capacityBytes: number;
}

/** Figures of a receiver since it was opened. */
export interface ReceiverStatus {
  /** Taken from the socket, dropped ones included. */
  readonly datagrams: bigint;
  readonly bytes: bigint;
  /** Found the buffer full. */
  readonly dropped: bigint;
  /** Longer than a datagram may be (LOG-12): dropped whole. */
  readonly truncated: bigint;
  /** Bytes that wait in the filling buffer. */
  readonly waiting: number;
  /** `receiverFinish` has read what was queued; nothing more will come. */
  readonly finished: boolean;
}

/** Datagrams taken out of a receiver, to be decoded in steps. */
export interface DatagramBatch {
  readonly batch: DatagramsHandle;
  readonly datagrams: number;
  readonly bytes: number;
  /** CLOCK_MONOTONIC ns at which its first datagram came. */
  readonly openedAt: bigint;
}

/** One step of decoding. Invalid records are skipped in silence (LOG-18..23, MET-21..27). */
export interface DecodedRecords {
  /** Valid records in this step. */
  readonly records: number;
  /** The batch holds more bytes to decode. */
  readonly more: boolean;
}

/** One step of metric decoding. */
export interface DecodedSamples extends DecodedRecords {
  /** Distinct series of this step that the cache does not know, numbered from 0. */
  readonly unresolved: number;
}

/** A series to look up or to create (MET-28). */
export interface SeriesKey {
  readonly name: string;
  /** Canonical label string (MET-29). */
  readonly labels: string;
  /** FNV-1a 64 of it, signed (MET-31). */
  readonly labelHash: bigint;
  /** 0 counter, 1 gauge, 2 histogram; of the first sample of this step. */
  readonly type: 0 | 1 | 2;
  /** Null for counter and gauge. */
  readonly boundariesHash: bigint | null;
}
