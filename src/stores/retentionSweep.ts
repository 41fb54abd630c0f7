/**
 * What retention has to do in one store, as a row of bounded steps: first everything that is too old, then
 * the oldest of what is too much (RET-4, RET-5, LOG-50, LOG-51, MET-60..62). Whoever carries the steps out
 * takes the lease of the file's writer for each of them.
 */
import { readdirSync } from 'node:fs';
import { basename, join } from 'node:path';
import { exclusionOf } from './exclusion.js';
import { ageCutoff, type Probe, sizeCutoff } from './retentionLimits.js';
import { MetricTable, openMetricTable } from './retentionMetrics.js';
import { settledSequences } from './retentionSettled.js';
import { openEventTable, openLogTable, type RetentionTable } from './retentionTables.js';
import { shardFileIndex } from './shardFiles.js';
import { CHECKPOINT_BYTES } from './walCheckpoint.js';

/** What one transaction deleted. */
export interface SweptBatch {
  /** Events, log records or samples. */
  readonly rows: number;
  /** Series that are gone; the metric writer must forget them (MET-37). */
  readonly series: readonly bigint[];
}

/** One bounded piece of work. */
export interface SweepStep {
  /** The database it is in. */
  readonly file: string;
  /**
   * One transaction of at most so many rows; under the lease of the file's writer only.
   * @throws BatchTooLong when fewer rows should be tried
   */
  readonly run: (maxRows: number) => SweptBatch;
}

export interface SweepOptions {
  readonly days: number;
  /** 0n = no limit. */
  readonly maxBytes: bigint;
  /** ns since the Unix epoch. */
  readonly nowNs: bigint;
  /** The disk is full: each batch goes into the database before the next, so that the WAL need not grow. */
  readonly urgent: boolean;
  /** A database that cannot be swept; it is left alone and does not count. */
  readonly onProblem: (file: string, error: unknown) => void;
}

/** The files of a store and how each is opened for retention. */
export interface SweptFiles {
  readonly files: readonly string[];
  readonly open: (file: string) => RetentionTable;
}

/**
 * Shard files that are written or were (RET-12): not excluded ones, and no file that somebody keeps in
 * the directory under a name of his own.
 */
export function eventFiles(directory: string, bootId: Uint8Array): SweptFiles {
  const files = readdirSync(directory)
    .filter((name) => shardFileIndex(name) !== null)
    .sort()
    .map((name) => join(directory, name))
    .filter((file) => exclusionOf(file) === null);
  const settled = settledSequences(files, bootId);
  return { files, open: (file) => openEventTable(file, settled) };
}

export function logFiles(file: string): SweptFiles {
  return { files: [file], open: openLogTable };
}

export function metricFiles(file: string): SweptFiles {
  return { files: [file], open: openMetricTable };
}

/** Moves every WAL of a store into its database, as far as readers let it: the next DELETE needs its room. */
export function checkpointAll({ files, open }: SweptFiles, onProblem: SweepOptions['onProblem']): void {
  for (const file of files) {
    try {
      const { database } = open(file);
      database.checkpointWhenDue(1);
      database.close();
    } catch (error) {
      onProblem(basename(file), error);
    }
  }
}

/**
 * The sweep of one store. It holds at most one connection at a time (RET-3); call `close` in any case.
 */
export class StoreSweep {
  readonly #files: SweptFiles;
  readonly #options: SweepOptions;
  readonly #steps: Generator<SweepStep, void, void>;
  /** Bytes in use by file, as last measured; files that were given up are not in it. */
  readonly #sizes = new Map<string, bigint>();
  readonly #givenUp = new Set<string>();
  #file: string | null = null;
  /** Rows and series of the present round of deletion by size. */
  #roundDeleted = 0;
  #rows = 0;
  #series = 0;

  constructor(files: SweptFiles, options: SweepOptions) {
    this.#files = files;
    this.#options = options;
    this.#steps = this.#work();
  }

  /** The next step; null when the store keeps its limits, as far as it can be made to. */
  next(): SweepStep | null {
    const { value } = this.#steps.next();
    return value ?? null;
  }

  /** The file of the last step is left alone from now on, and does not count. */
  giveUp(): void {
    if (this.#file === null) return;
    this.#givenUp.add(this.#file);
    this.#sizes.delete(this.#file);
  }

  /** Deleted so far. */
  get rows(): number {
    return this.#rows;
  }

  get series(): number {
    return this.#series;
  }

  /** Bytes in use of all files that were not given up (RET-12). */
  get usedBytes(): bigint {
    return [...this.#sizes.values()].reduce((sum, bytes) => sum + bytes, 0n);
  }

  close(): void {
    this.#steps.return();
  }

  *#work(): Generator<SweepStep, void, void> {
    const { days, nowNs, maxBytes } = this.#options;
    const cutoff = ageCutoff(nowNs, days);
    yield* this.#each((table) => this.#deleteUpTo(table, cutoff));
    if (maxBytes > 0n) yield* this.#shrink(maxBytes);
  }

  *#shrink(maxBytes: bigint): Generator<SweepStep, void, void> {
    for (;;) {
      const total = this.usedBytes;
      if (total <= maxBytes) return;
      const probes: Probe[] = [];
      yield* this.#each((table) => {
        probes.push(...table.probes());
        return [];
      });
      const cutoff = sizeCutoff(probes, Number(total - maxBytes), Number(total));
      if (cutoff === null) return;
      this.#roundDeleted = 0;
      yield* this.#each((table) => this.#deleteUpTo(table, cutoff));
      // Nothing more can go: what is left are rows a restart needs, or pages without rows.
      if (this.#roundDeleted === 0) return;
    }
  }

  /** Series go right behind their samples: as long as they are there, it looks as if too little had gone. */
  *#deleteUpTo(table: RetentionTable, cutoff: bigint): Generator<SweepStep, void, void> {
    yield* this.#while(
      table,
      () => table.hasUpTo(cutoff),
      (maxRows) => ({ rows: table.deleteUpTo(cutoff, maxRows), series: [] }),
    );
    if (!(table instanceof MetricTable)) return;
    yield* this.#while(
      table,
      () => table.hasEmptySeries(),
      (maxRows) => ({ rows: 0, series: table.deleteEmptySeries(maxRows) }),
    );
  }

  *#while(
    { database }: RetentionTable,
    hasMore: () => boolean,
    remove: (maxRows: number) => SweptBatch,
  ): Generator<SweepStep, void, void> {
    const file = this.#file;
    const run = (maxRows: number) => {
      const batch = database.batch(() => remove(maxRows));
      this.#rows += batch.rows;
      this.#series += batch.series.length;
      this.#roundDeleted += batch.rows + batch.series.length;
      return batch;
    };
    while (file !== null && !this.#givenUp.has(file) && hasMore()) {
      yield { file, run };
      database.checkpointWhenDue(this.#options.urgent ? 1 : CHECKPOINT_BYTES);
    }
  }

  /** Opens one file after the other; what is wrong with one does not keep the others from being swept. */
  *#each(work: (table: RetentionTable) => Iterable<SweepStep>): Generator<SweepStep, void, void> {
    for (const file of this.#files.files) {
      if (this.#givenUp.has(file)) continue;
      this.#file = file;
      let table: RetentionTable | null = null;
      try {
        table = this.#files.open(file);
        yield* work(table);
        if (!this.#givenUp.has(file)) this.#sizes.set(file, table.database.usedBytes());
      } catch (error) {
        table?.database.met(error);
        this.giveUp();
        this.#options.onProblem(basename(file), error);
      } finally {
        table?.database.close();
        this.#file = null;
      }
    }
  }
}
