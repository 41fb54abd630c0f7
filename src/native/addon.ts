/**
 * The typed face of the native addon (`native/`).
 *
 * Handles are positive integers valid in every thread of the process; a stale or foreign handle
 * throws `ERR_HANDLE`. Failing system calls throw an Error whose `code` is the errno name
 * (`ENOENT`, `EINVAL`, ...). Positions, sequences and times in nanoseconds are bigint.
 */
import { createRequire } from 'node:module';
import { fileURLToPath } from 'node:url';

declare const handle: unique symbol;
/** A process-wide reference to a native object of one kind. */
export type Handle<Kind extends string> = number & { readonly [handle]: Kind };
export type RingHandle = Handle<'ring'>;
export type ProducerHandle = Handle<'producer'>;
export type ChannelHandle = Handle<'channel'>;
export type SegmentHandle = Handle<'segment'>;
export type DrainHandle = Handle<'drain'>;
export type CursorHandle = Handle<'cursor'>;
export type CopyHandle = Handle<'copy'>;
export type TailHandle = Handle<'tail'>;
export type ReceiverHandle = Handle<'receiver'>;
export type DatagramsHandle = Handle<'datagrams'>;
export type SeriesCacheHandle = Handle<'seriesCache'>;
export type MetricHandle = Handle<'metric'>;
export type RangesHandle = Handle<'ranges'>;

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
}

/** What a drain thread reports to its actor. Never one per event. */
export type DrainEvent =
  /** The channel at `index` turned non-empty, or passed half its room. */
  | { readonly type: 'available'; readonly index: number; readonly rows: number }
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

/** A value bound to SQL: bigint INTEGER, number REAL, string TEXT, bytes BLOB. */
export type SqlValue = bigint | number | string | Uint8Array | null;

/** One database of a fan-out: a prepared SELECT on the connection with this slot number. */
export interface CursorPart {
  readonly slot: number;
  readonly sql: string;
  readonly params: readonly SqlValue[];
}

/** One field of a SELECT list: a header column or a payload path. */
export interface CursorField {
  readonly name: string;
  /** Index into EVENT_COLUMNS, or -1 for a payload path. */
  readonly column: number;
  /** Path segments, for a payload path and for the fallback of a NULL column. */
  readonly path: readonly string[];
}

/**
 * A merged read over several databases. Every part's SELECT yields, in this order: one column per
 * sort key, then EVENT_COLUMNS and the payload, or, where `encoded`, the record itself as a msgpack
 * map; its rows are sorted by the sort keys.
 */
export interface CursorOptions {
  readonly parts: readonly CursorPart[];
  readonly sort: readonly { readonly descending: boolean }[];
  readonly skip: bigint;
  /** Null = no limit. */
  readonly take: bigint | null;
  /** Null = all header columns and all top-level payload fields. Without meaning where `encoded`. */
  readonly fields: readonly CursorField[] | null;
  /** What each event type shows (`encodeShown`); null, or left out, = everything. Not where `encoded`. */
  readonly shown?: Uint8Array | null;
  readonly encoded: boolean;
}

export interface CursorChunk {
  readonly records: number;
  /** True when nothing is left. */
  readonly done: boolean;
  /** One complete wire frame `{status: "ok", records: [...]}` with its length prefix. */
  readonly frame: Uint8Array;
}

/** The numeric condition of a METRIC filter (QL-111): one number, or a list for IN and NOT_IN. */
export interface RangesTest {
  readonly operator: '==' | '!=' | '>' | '>=' | '<' | '<=' | 'IN' | 'NOT_IN';
  /** Integers as bigint, -2^63 to 2^64-1. */
  readonly numbers: readonly (bigint | number)[];
}

/**
 * Makes time ranges of the rows of SELECTs with two columns, merging the databases (QL-112, QL-114).
 * Spans: a row is a range, from and to, sorted by from. Samples: a row is a timestamp and a value.
 */
export interface RangesOptions {
  /**
   * One per database. Of samples the parameters are not given here: they are series id, lowest and highest
   * timestamp; rows are sorted by timestamp, then age.
   */
  readonly parts: readonly CursorPart[];
  /** Bytes of the ranges at most, 16 each; beyond it rangesStep throws ERR_TOO_LARGE. */
  readonly maxBytes: number;
  /** Null: the rows are spans. */
  readonly samples: SamplesOptions | null;
}

/** The ranges are the times at which the mean of the newest values of a unit's series fulfils the test, for any unit. */
export interface SamplesOptions {
  /** The ranges are cut to these, both included. */
  readonly from: bigint;
  readonly to: bigint;
  /** Timestamp of the oldest sample that still counts at `from`. */
  readonly oldest: bigint;
  readonly test: RangesTest;
  /** The unit of each series: ascending from 0 without holes. */
  readonly units: readonly number[];
  /** Of equal timestamps in one series that of the source named first is the newest. */
  readonly sources: readonly SamplesSource[];
}

/** One series in one database. */
export interface SamplesSource {
  /** Index into `parts`. */
  readonly database: number;
  /** Its id there. */
  readonly id: bigint;
  /** Index into `units`. */
  readonly series: number;
  /** Ranges within which no sample of it fulfils the test: of each only the first need be read. */
  readonly skip: Uint8Array | null;
}

export interface RangesSlice {
  /** Of the ranges found so far. */
  readonly bytes: number;
  /** Sorted disjoint pairs of little-endian int64, both ends included; null until all rows are used. */
  readonly ranges: Uint8Array | null;
}

/** A copy between two connections of the calling thread: one SELECT, one INSERT. */
export interface CopyOptions {
  readonly from: CursorPart;
  /** The INSERT takes as many parameters as there are values. */
  readonly into: Pick<CursorPart, 'slot' | 'sql'>;
  /** Null: each row as it is. */
  readonly group: (GroupOptions & { readonly maxBytes: number }) | null;
}

/**
 * Rows become groups on their way. A row has its keys, then the argument of sum, min and max. The INSERT
 * gets for every key its base and its type (native/group_key.h), then the number of rows, a partial sum
 * for `sum_join`, or the key of a number; for `distinct` nothing more. Groups come in several pieces when
 * their table passes `maxBytes`, so the INSERT joins what it gets to what it has.
 */
export interface GroupOptions {
  /** Whether a column holds a key, as `msgpack_key` makes them, or the value itself. */
  readonly keys: readonly { readonly encoded: boolean }[];
  readonly function: 'distinct' | 'count' | 'sum' | 'min' | 'max';
}

export interface CopySlice {
  /** Read into groups, and inserted. */
  readonly rows: number;
  /** Size of the row that did not fit into `maxBytes` any more, to be inserted first by the next step; else 0. */
  readonly waitingBytes: number;
  /** True when nothing is left. */
  readonly done: boolean;
}

/** How series or values are made one; also what a window function does. */
export type MetricFold = 'avg' | 'min' | 'max' | 'sum';

/** A METRIC computation (QL-85..109); `native/metric_eval.h` says what the words mean. */
export interface MetricComputation {
  readonly function: 'sample' | 'rate' | 'delta' | 'quantile';
  /** Between 0 and 1, for `quantile`; else 0. */
  readonly quantile: number;
  readonly shape: 'latest' | 'each' | 'total' | 'windows' | 'deltaWindows';
  /** Each logical series by itself; else one result per name. */
  readonly bySeries: boolean;
  readonly combine: MetricFold;
  readonly window: MetricFold;
  /**
   * Which rows of `rollups` may stand for their samples (QX-50): of a fold for `total` and `windows` by
   * series, of `rate` and `delta` for `deltaWindows`.
   */
  readonly rollup: MetricFold | 'rate' | 'delta' | 'none';
  /** At least 1. */
  readonly windowNs: bigint;
  /** Types of series this applies to: bits `1 << type`. */
  readonly types: number;
  /** Time range in ns, both ends included; `latest` looks at its end alone. */
  readonly from: bigint;
  readonly to: bigint;
}

export interface MetricOptions extends MetricComputation {
  /**
   * One per database. `series` selects id, name, labels, type; `samples` and `same` rowid, timestamp, value
   * and histogram_data of one series, in order. Their last three parameters are bound here, whatever is given
   * for them. `samples`: series id, a timestamp before the first, the last timestamp. `same`, for the rest of
   * the samples at one timestamp: series id, timestamp, a rowid before the first. For `latest` there is no
   * `same`, and `samples` goes backwards, with whether the sample fulfils WHERE as fifth column; it takes
   * series id, last timestamp, count.
   */
  readonly parts: readonly {
    readonly series: CursorPart;
    readonly samples: CursorPart;
    readonly same: CursorPart | null;
  }[];
  /** INSERTs of (id, name, labels, type) and of (timestamp, unit, n, value, histogram). */
  readonly into: { readonly slot: number; readonly unit: string; readonly row: string };
}

export interface MetricProgress {
  readonly done: boolean;
  /** A series of a type this does not apply to; nothing was computed. */
  readonly rejected: { readonly name: string; readonly type: number } | null;
  /** Rows of the store looked at so far. */
  readonly samples: number;
  /** What the next row takes, if that is why the step ended; else 0. */
  readonly waitingBytes: number;
  /** Memory in all that the next step must be allowed, if it needs more; else 0. */
  readonly waitingMemory: number;
}

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

export interface PeerCredentials {
  readonly pid: number;
  readonly uid: number;
  readonly gid: number;
  readonly groups: readonly number[];
}

/** Which rows of a database a tail reads, and who is to see them. */
export interface TailScanOptions {
  /** A connection of the calling thread. */
  readonly slot: number;
  /** Rows with `after` < id <= `upTo`. */
  readonly after: bigint;
  readonly upTo: bigint;
  /** Stops behind this many rows, or when a part has this many bytes. */
  readonly maxRows: number;
  readonly maxBytes: number;
  readonly parts: readonly {
    readonly program: number;
    /** One byte per term about another store, 0 or 1 (STR-21); null when the program has none. */
    readonly truths: Uint8Array | null;
  }[];
}

/** What a scan found. */
export interface TailScan {
  /** Id of the last row read, or `after`. */
  readonly last: bigint;
  readonly rows: number;
  /** There were no more rows in the range. */
  readonly done: boolean;
  /** The parts with matching rows: index in the options, and whole result messages, one behind the other. */
  readonly matches: readonly {
    readonly part: number;
    readonly records: number;
    readonly frames: Uint8Array;
  }[];
}

/** One access check by the Peios kernel; every part is copied before the call returns. */
export interface KacsCheck {
  /** Descriptor of the caller's token. */
  readonly token: number;
  /** Self-relative security descriptor. */
  readonly descriptor: Uint8Array;
  readonly desired: number;
  readonly mapping: {
    readonly read: number;
    readonly write: number;
    readonly execute: number;
    readonly all: number;
  };
  /** Entries of 20 bytes (u16 level, u16 zero, GUID); empty = no list. */
  readonly nodes: Uint8Array;
  /** Claim array; empty = none. */
  readonly claims: Uint8Array;
  /** UTF-8; empty = none. */
  readonly context: Uint8Array;
}

/** Header columns in the order a cursor expects them. */
export { EVENT_COLUMNS } from '../stores/eventColumns.js';

export interface NativeAddon {
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
  /** At most this many records and about this many bytes. Throws code SQLITE_INTERRUPT when interrupted. */
  cursorFetch(cursor: CursorHandle, maxRecords: number, maxBytes: number): CursorChunk;
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
   */
  copyRead(copies: readonly CopyHandle[], maxRows: number): boolean[];
  /**
   * Copies until `maxRows` are read or inserted, or the next to insert would take all of the slice past
   * `maxBytes` (values, plus 16 bytes per value). Throws SQLITE_INTERRUPT when either connection is interrupted.
   */
  copyStep(copy: CopyHandle, maxRows: number, maxBytes: number): CopySlice;
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
