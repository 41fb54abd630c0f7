/**
 * What a query worker executes: stages that run one after the other, then one read whose rows are the
 * result records (QX-3). A query without stages is one read over the databases of one store.
 *
 * Everything here is plain data: a job crosses to the worker thread as a message.
 */
import type {
  CursorOptions,
  GroupOptions,
  MetricComputation,
  RangesTest,
  SqlValue,
} from '../native/addon.js';

/** The stores on disk. A job takes connections in this order, so that no two jobs wait for each other. */
export const STORES = ['events', 'logs', 'metrics'] as const;
export type StoreName = (typeof STORES)[number];

/** Where a read takes its rows from: a store, or the query's own database in memory. */
export type ReadSource = StoreName | 'scratch';

/** Stands for the BLOB of time ranges that the `ranges` stage of this index makes. */
export interface RangesParam {
  readonly ranges: number;
}

/** A bound value of a job's statement. */
export type JobParam = SqlValue | RangesParam;

/** SQL with the values of its `?`, in the order of the text (QX-11). */
export interface Statement {
  readonly sql: string;
  readonly params: readonly JobParam[];
}

/** A way to find the rows of a SELECT over events: by indexes on fields. */
export interface IndexSeek {
  /** All of their rows together hold the result. The conditions are for the index on the field alone. */
  readonly parts: readonly { readonly field: string; readonly condition: Statement }[];
  /** The SELECT, spelt so that SQLite goes this way; same parameters. Null: SQLite does by itself. */
  readonly sql: string | null;
}

/** The ways to find the rows of a SELECT over events; which is best differs from database to database (QX-13). */
export interface IndexChoice {
  readonly seeks: readonly IndexSeek[];
  /** The condition on `timestamp`. */
  readonly time: Statement;
  /** The SELECT, spelt so that SQLite goes by time, or reads everything; same parameters. */
  readonly byTime: string;
  /** Where so many rows end the SELECT: rows of `hit`, 1 or 0, in the order in which it goes by time. */
  readonly early: { readonly rows: bigint; readonly hits: Statement } | null;
}

/** A SELECT for each database of a store. */
export interface ChosenStatement extends Statement {
  /** Left out: the text as it is, everywhere. */
  readonly choice?: IndexChoice;
}

/**
 * The SELECT that each database of the source runs, and how their sorted rows are merged into records
 * (QX-23). What its columns must be, `CursorOptions` says.
 */
export interface StoreRead
  extends ChosenStatement,
    Pick<CursorOptions, 'sort' | 'skip' | 'take' | 'fields' | 'shown' | 'encoded'> {
  readonly store: ReadSource;
}

/**
 * Runs a SELECT on every database of a store and puts its rows into a table of the scratch database, so
 * that shards hand over partial aggregates and SQL merges them (QX-24).
 */
export interface CopyStage {
  readonly kind: 'copy';
  readonly from: ChosenStatement & { readonly store: StoreName };
  readonly into: {
    /** `CREATE TABLE` and what else the table needs; run once, before the first row. */
    readonly create: string;
    /** An INSERT with as many `?` as the SELECT has columns, or as `group` says. */
    readonly insert: string;
  };
  /** Rows become groups on their way; left out: every row is copied. */
  readonly group?: GroupOptions;
}

/**
 * A cross-type condition, turned into the time ranges in which it holds: sorted, disjoint, both ends
 * included, as little-endian pairs of int64 ns (QL-112, QL-114). Later statements name it by
 * {@link RangesParam}.
 */
export type RangesStage = SpanRangesStage | SampleRangesStage;

/** Ranges of the events or log records themselves: their union over all databases. */
export interface SpanRangesStage {
  readonly kind: 'ranges';
  readonly index: number;
  /** The store the condition looks into. */
  readonly store: 'events' | 'logs';
  /** Two columns, from and to, sorted by from. */
  readonly spans: Statement;
}

/** Ranges in which the newest values of some series fulfil a test (QL-111). */
export interface SampleRangesStage {
  readonly kind: 'ranges';
  readonly index: number;
  readonly store: 'metrics';
  /** As error texts name it. */
  readonly filter: string;
  /** Rows of id, type, name, labels. */
  readonly series: Statement;
  /** What is tested: each series by itself, the mean over the series of each name, or over all of them. */
  readonly unit: 'series' | 'name' | 'all';
  /** Of the query, in ns, both ends included; the ranges are cut to it. */
  readonly range: { readonly from: bigint; readonly to: bigint };
  /** Timestamp of the oldest sample that still counts at the start of the range (QL-113). */
  readonly oldest: bigint;
  readonly test: RangesTest;
}

/** A METRIC computation over series and their samples; its rows go into the scratch database. */
export interface MetricStage {
  readonly kind: 'metric';
  /** As error texts name it: RATE, AVG_OVER ... */
  readonly function: string;
  readonly computation: MetricComputation;
  /** What is computed with; for columns and last parameters see `MetricOptions`. */
  readonly series: Statement;
  readonly samples: Statement;
  readonly same: Statement | null;
  readonly into: {
    /** `CREATE TABLE` statements, run once, before the first row. */
    readonly create: string;
    /** The INSERTs of `MetricOptions`. */
    readonly unit: string;
    readonly row: string;
  };
}

export type Stage = CopyStage | RangesStage | MetricStage;

export interface QueryJob {
  /** Run in this order, before the read. */
  readonly stages: readonly Stage[];
  readonly read: StoreRead;
}

/** A query that needs no preparation. */
export function plainJob(read: StoreRead): QueryJob {
  return { stages: [], read };
}

/** The stores a job needs connections to, in the order in which they are taken. */
export function storesOf(job: QueryJob): StoreName[] {
  const used = new Set<ReadSource>([job.read.store, ...job.stages.map(stageStore)]);
  return STORES.filter((store) => used.has(store));
}

/** Whether a job needs a scratch database. */
export function needsScratch(job: QueryJob): boolean {
  return job.read.store === 'scratch' || job.stages.some(({ kind }) => kind !== 'ranges');
}

function stageStore(stage: Stage): StoreName {
  switch (stage.kind) {
    case 'copy':
      return stage.from.store;
    case 'ranges':
      return stage.store;
    case 'metric':
      return 'metrics';
  }
}
