/** What queries and streams ask of the addon, and what it answers; see `addon.ts`. */

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
 * Rows become groups on their way. A row has its keys, then the argument of sum, min and max, or for `total`
 * the integer by which it counts. The INSERT
 * gets for every key its base and its type (native/group_key.h), then the number of rows, a partial sum
 * for `sum_join`, or the key of a number; for `distinct` nothing more. Groups come in several pieces when
 * their table passes `maxBytes`, so the INSERT joins what it gets to what it has.
 */
export interface GroupOptions {
  /** Whether a column holds a key, as `msgpack_key` makes them, or the value itself. */
  readonly keys: readonly { readonly encoded: boolean }[];
  readonly function: 'distinct' | 'count' | 'total' | 'sum' | 'min' | 'max';
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
