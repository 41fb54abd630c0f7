/**
 * The typed face of the native addon (`native/`).
 *
 * Handles are positive integers valid in every thread of the process; a stale or foreign handle
 * throws `ERR_HANDLE`. Failing system calls throw an Error whose `code` is the errno name
 * (`ENOENT`, `EINVAL`, ...). Positions, sequences and times in nanoseconds are bigint.
 */
import { createRequire } from 'node:module';
import { fileURLToPath } from 'node:url';
import type {
  ChannelStatus,
  DrainEvent,
  DrainOptions,
  DrainStatus,
  ProducerEvent,
  ProducerIdentity,
  RingInfo,
  RingStatus,
  SegmentInfo,
  SegmentRun,
  SegmentWatermark,
} from './eventTypes.js';
import type {
  ChannelHandle,
  CopyHandle,
  CursorHandle,
  DatagramsHandle,
  DrainHandle,
  MetricHandle,
  ProducerHandle,
  RangesHandle,
  ReceiverHandle,
  RingHandle,
  SegmentHandle,
  SeriesCacheHandle,
  TailHandle,
} from './handles.js';
import type { LcsCalls } from './lcsTypes.js';
import type {
  CopyOptions,
  CopySlice,
  CursorChunk,
  CursorOptions,
  MetricOptions,
  MetricProgress,
  RangesOptions,
  RangesSlice,
  TailScan,
  TailScanOptions,
} from './queryTypes.js';
import type {
  DatagramBatch,
  DecodedRecords,
  DecodedSamples,
  ReceiverOptions,
  ReceiverStatus,
  SeriesKey,
} from './recordTypes.js';
import type { KacsCheck, PeerCredentials } from './systemTypes.js';

/** Header columns in the order a cursor expects them. */
export { EVENT_COLUMNS } from '../stores/eventColumns.js';
export type * from './eventTypes.js';
export type * from './handles.js';
export type * from './lcsTypes.js';
export type * from './queryTypes.js';
export type * from './recordTypes.js';
export type * from './systemTypes.js';

export interface NativeAddon extends LcsCalls {
  // Rings, consumer side (KMES-86..101, KMES-117..141).
  /** Maps the ring file, verified; throws EINVAL with a reason when it is no ring. */
  ringOpen(path: string): RingInfo;
  /** The real kmes_attach; throws EPERM, EINVAL, ENOSYS, ... */
  ringAttachKernel(cpu: number): RingInfo;
  ringStatus(ring: RingHandle): RingStatus;
  /** Unmaps, then closes. A ring owned by a running drain thread throws EBUSY. */
  ringClose(ring: RingHandle): void;

  // Rings, producer side (kmesd, tests, benchmarks).
  /** Creates a ring file atomically (temporary name, rename). */
  producerCreate(path: string, cpu: number, capacity: number): ProducerHandle;
  producerOpen(path: string): ProducerHandle;
  /** Writes one event; returns its sequence, or null when it was dropped (sequence consumed). */
  producerEmit(
    producer: ProducerHandle,
    origin: number,
    event: ProducerEvent,
    identity: ProducerIdentity | null,
  ): bigint | null;
  /** Writes all events under one timestamp and identity, published at once; returns how many were written. */
  producerEmitBatch(
    producer: ProducerHandle,
    origin: number,
    events: readonly ProducerEvent[],
    identity: ProducerIdentity | null,
  ): number;
  /** Replaces the ring by one of another capacity (swap with generation change, survivors kept). */
  producerResize(producer: ProducerHandle, capacity: number): void;
  producerStatus(
    producer: ProducerHandle,
  ): RingStatus & { readonly sequence: bigint; readonly dropped: bigint };
  producerClose(producer: ProducerHandle): void;
  /** The check of KMES-47: one well-formed value filling the buffer, at most `maxDepth` containers deep. */
  msgpackValid(bytes: Uint8Array, maxDepth: number): boolean;

  // Handoff (ING-42..47).
  channelOpen(shard: number, maxRows: number, maxBytes: number): ChannelHandle;
  channelLimit(channel: ChannelHandle, maxRows: number): void;
  /** Swaps the filling segment out; null when it is empty or the previous one is still out. */
  channelTake(channel: ChannelHandle): SegmentInfo | null;
  channelStatus(channel: ChannelHandle): ChannelStatus;
  channelClose(channel: ChannelHandle): void;
  segmentWatermarks(segment: SegmentHandle): SegmentWatermark[];
  /** The segment's transaction is committed: its memory goes back to the channel. */
  segmentCommitted(segment: SegmentHandle): void;
  /** The segment could not be stored: returns what it held and releases it. */
  segmentLost(segment: SegmentHandle): SegmentRun[];
  /** The gap records for everything `segmentLost` returned on this channel are committed. */
  channelLossRecorded(channel: ChannelHandle): void;

  // Drain threads (ING-8..25): one OS thread per ring, reports on the calling JS thread.
  drainStart(options: DrainOptions, report: (event: DrainEvent) => void): DrainHandle;
  /** Hands over the new ring after a `generation` report; the old one is closed by the thread. */
  drainReattach(drain: DrainHandle, ring: RingHandle): void;
  drainLimits(drain: DrainHandle, elevatedPercent: number, emergencyPercent: number): void;
  /** One last cycle up to the write position of this moment, then a `finished` report. */
  drainFinish(drain: DrainHandle): void;
  /** Ends the thread now, without draining; joins it and closes its ring. Safe twice. */
  drainStop(drain: DrainHandle): void;
  drainStatus(drain: DrainHandle): DrainStatus;

  // SQLite: connections register under a slot when the extension is loaded into them.
  /** sqlite3_interrupt from any thread; false when the slot's connection is closed. */
  slotInterrupt(slot: number): boolean;
  /** Interrupts the slot's connection after `ms`; 0 clears the deadline. */
  slotDeadline(slot: number, ms: number): void;
  /**
   * Begins work on the connection that others may end, an index build; it is interrupted after `boundMs` at
   * the latest (IDX-12). The connection's own thread calls this and the end.
   */
  slotYieldableBegin(slot: number, boundMs: number): void;
  /** Its end; whether it was asked to yield. Nothing interrupts the connection any more. */
  slotYieldableEnd(slot: number): boolean;
  /** From any thread: interrupts yieldable work after `ms`, if not before; false when there is none. */
  slotYield(slot: number, ms: number): boolean;
  cursorOpen(options: CursorOptions): CursorHandle;
  /**
   * Works at what `cursorFetch` gives out next, of this size, for about `ms`; whether it is ready. Until it is,
   * nothing else may use the connections. A failure is left to `cursorFetch`.
   */
  cursorAdvance(cursor: CursorHandle, maxRecords: number, maxBytes: number, ms: number): boolean;
  /**
   * At most this many records and about this many bytes. Throws code SQLITE_INTERRUPT when interrupted.
   * @param spent memory of an earlier frame, which the new one takes where it fits
   */
  cursorFetch(
    cursor: CursorHandle,
    maxRecords: number,
    maxBytes: number,
    spent?: ArrayBuffer | null,
  ): CursorChunk;
  cursorClose(cursor: CursorHandle): void;

  // Tails (STR-2..8): the rows of a committed batch, tested and encoded for many streams at once.
  tailOpen(store: 'events' | 'logs'): TailHandle;
  /** Adds what a stream looks for (src/query/predicateProgram.ts); returns its number. */
  tailAdd(tail: TailHandle, spec: Uint8Array): number;
  tailRemove(tail: TailHandle, program: number): void;
  /** Throws SQLite's code when the database cannot be read. */
  tailScan(tail: TailHandle, options: TailScanOptions): TailScan;
  tailClose(tail: TailHandle): void;
  /** Asks the kernel for a send buffer of this size, and returns what it gave (twice that, or its limit). */
  socketSendBuffer(fd: number, bytes: number): number;
  /** Prepares all statements. */
  rangesOpen(options: RangesOptions): RangesHandle;
  /** Uses up at most `maxRows` rows. Throws SQLITE_INTERRUPT when a connection is interrupted. */
  rangesStep(ranges: RangesHandle, maxRows: number): RangesSlice;
  /** Before its connections are closed. */
  rangesClose(ranges: RangesHandle): void;
  /** Prepares both statements; code SQLITE_MISUSE when they do not fit each other. */
  copyOpen(options: CopyOptions): CopyHandle;
  /** How many copies {@link copyRead} reads at once, by the number of processors. */
  copyWidth(): number;
  /**
   * Reads on in several different copies at the same time, on threads of the addon, without inserting: about
   * `maxRows` rows in all go into their groups. Says of each whether {@link copyStep} must go on with it, be it
   * to insert, to end or to throw what went wrong.
   * @param ms when this time is over the search for a row goes on the next time
   */
  copyRead(copies: readonly CopyHandle[], maxRows: number, ms?: number): boolean[];
  /**
   * Copies until `maxRows` are read or inserted, or the next to insert would take all of the slice past
   * `maxBytes` (values, plus 16 bytes per value). Throws SQLITE_INTERRUPT when either connection is interrupted.
   * @param ms when this time is over the slice is empty, and the next call goes on with the limits of this one
   */
  copyStep(copy: CopyHandle, maxRows: number, maxBytes: number, ms?: number): CopySlice;
  /** Before its connections are closed. */
  copyClose(copy: CopyHandle): void;

  // METRIC queries.
  metricOpen(options: MetricOptions): MetricHandle;
  /**
   * Works until about `maxSamples` rows are read, or result rows of `maxBytes` added, or more memory than
   * `memoryBytes` in all is needed. Throws code SQLITE_INTERRUPT when interrupted.
   */
  metricStep(metric: MetricHandle, maxSamples: number, maxBytes: number, memoryBytes: number): MetricProgress;
  /** Before its connections are closed. */
  metricClose(metric: MetricHandle): void;

  // Datagram sockets of logs and metrics (LOG-5..12, MET-13..16).
  /** Binds and sets the mode; datagrams wait in the kernel until the thread runs. EADDRINUSE when the path exists. */
  receiverOpen(options: ReceiverOptions): ReceiverHandle;
  /**
   * Starts the thread that does nothing but empty the socket. `available` is called on this thread when
   * the buffer turns non-empty, passes half its size, and at the end.
   */
  receiverStart(receiver: ReceiverHandle, available: () => void): void;
  /** Swaps the filling buffer out; null when it is empty or the previous one is still out. */
  receiverTake(receiver: ReceiverHandle): DatagramBatch | null;
  /** Appends a datagram as if it had been received; false when the buffer is full. */
  receiverInject(receiver: ReceiverHandle, datagram: Uint8Array): boolean;
  /** Removes the path, refuses new traffic and reads what is queued, within `maxBytes` and `ms` (LIFE-201, LIFE-202). */
  receiverFinish(receiver: ReceiverHandle, maxBytes: number, ms: number): void;
  receiverStatus(receiver: ReceiverHandle): ReceiverStatus;
  /** Ends the thread, closes the socket. The path is removed if it is still this socket's. Safe twice. */
  receiverClose(receiver: ReceiverHandle): void;
  /** The batch's memory goes back to its receiver. */
  datagramsRelease(batch: DatagramsHandle): void;
  /** Decodes the next log records of the batch in place of the last ones; `log_batch(batch)` yields them in SQL. */
  logDecode(batch: DatagramsHandle, maxRecords: number): DecodedRecords;

  // Metrics: series resolution (MET-28..37).
  seriesCacheOpen(capacity: number): SeriesCacheHandle;
  seriesCacheLimit(cache: SeriesCacheHandle, capacity: number): void;
  /** Entries made since the last call of either stay (committed) or go (rolled back) (MET-37). */
  seriesCacheCommitted(cache: SeriesCacheHandle): void;
  seriesCacheRolledBack(cache: SeriesCacheHandle): void;
  /** Series that retention has deleted (MET-37). */
  seriesCacheForget(cache: SeriesCacheHandle, ids: BigInt64Array): void;
  seriesCacheStatus(cache: SeriesCacheHandle): {
    readonly entries: number;
    readonly bytes: number;
    readonly hits: bigint;
    readonly misses: bigint;
  };
  seriesCacheClose(cache: SeriesCacheHandle): void;
  /** Decodes the next samples of the batch in place of the last ones and resolves those the cache knows. */
  metricDecode(batch: DatagramsHandle, cache: SeriesCacheHandle, maxRecords: number): DecodedSamples;
  metricUnresolved(batch: DatagramsHandle, index: number): SeriesKey;
  /**
   * Names the id and the stored type of an unresolved series. Samples of another type are dropped (MET-35).
   */
  metricResolve(batch: DatagramsHandle, index: number, id: bigint, type: 0 | 1 | 2): void;
  /**
   * Everything is resolved: sorts the samples by series, then timestamp, equal ones as they came.
   * `metric_batch(batch)` yields them in SQL. Returns how many are left.
   */
  metricSort(batch: DatagramsHandle): number;
  /** From now on `metric_batch(batch)` yields the next so many of the sorted samples only. Returns their number. */
  metricSlice(batch: DatagramsHandle, maxRecords: number): number;
  /** The oldest timestamp of the slice taken last, ns. */
  metricOldest(batch: DatagramsHandle): bigint;
  /** Sorted samples that no slice has had; 0 when the last step was not sorted. */
  metricLeft(batch: DatagramsHandle): number;
  /** The series of what no slice has had are unresolved again; returns their number. `metricSort` comes next. */
  metricAgain(batch: DatagramsHandle): number;

  // System.
  peerCredentials(fd: number): PeerCredentials;
  /** Peios: the token of a connected socket's peer as a new descriptor (ACL-26). ENOSYS elsewhere. */
  kacsOpenPeerToken(fd: number): number;
  /**
   * Peios: kacs_access_check, or kacs_access_check_list where there are nodes, off this thread (ACL-60).
   * Resolves to one verdict per node, or one; rejects with the errno of a check that could not be made.
   */
  kacsAccessCheck(check: KacsCheck): Promise<readonly boolean[]>;
  /** One datagram to a Unix socket; a leading '@' means the abstract namespace. Never blocks. */
  sendDatagram(path: string, data: Uint8Array): void;
  /** Binds a datagram socket (mode 0600) whose messages carry the sender's pid; returns the descriptor (HOST-9). */
  notifyListen(path: string): number;
  /** The next waiting message and the kernel-attested pid of its sender; null when none waits. Never blocks. */
  notifyReceive(fd: number): { readonly pid: number; readonly data: Uint8Array } | null;
  /**
   * Calls back on this thread whenever the descriptor is readable, has priority data, was hung up or
   * has an error for the next read to tell, until the returned function is called.
   */
  watchReadable(fd: number, callback: () => void): () => void;
  /** Subscribes to process starts and exits (netlink); a descriptor to watch. EPERM where the kernel refuses. */
  processConnectorOpen(): number;
  /**
   * Takes up to 256 events without blocking: packed 16-byte records (u32 kind 1 exec / 2 exit, u32
   * pid, u32 wait status, u32 zero, little-endian), and how often the kernel's queue overflowed.
   */
  processConnectorReceive(fd: number): { readonly records: Uint8Array; readonly overruns: number };
  /** Unsubscribes and closes. */
  processConnectorClose(fd: number): void;
  /** Both ends of a new pipe, blocking and not inherited by child processes unless handed to them. */
  openPipe(): { readonly read: number; readonly write: number };
  /** flock(2) on a descriptor: exclusive, non-blocking; false when another process holds it. */
  lockFile(fd: number): boolean;
  /**
   * Lets the calling thread work on without pushing others aside when it wakes (SCHED_BATCH): a writer's
   * commit may wait, who sends to its socket may not (LOG-12).
   */
  threadBatch(): void;
  /** CLOCK_REALTIME and CLOCK_MONOTONIC in ns. */
  realtimeNs(): bigint;
  monotonicNs(): bigint;
  /** Resolves a raw syscall number with harmless arguments to its errno name (HOST-2). */
  probeSyscall(number: number, argument: bigint): string;
}

/** Absolute path of the addon, which is also the SQLite extension. */
export const addonPath = fileURLToPath(new URL('../../../native/build/Release/eventd.node', import.meta.url));

/** Entry point of the SQLite extension inside the addon. */
export const extensionEntry = 'sqlite3_eventd_init';

export const native: NativeAddon = createRequire(import.meta.url)(addonPath) as NativeAddon;
