/**
 * One shard's transactions: what a writer actor does between BEGIN and COMMIT, and what it remembers
 * when a commit fails. Belongs to the thread that made it (STO-30).
 */
import { ShardIndexes } from '../indexes/shardIndexes.js';
import { type ChannelHandle, native, type SegmentInfo, type SegmentRun } from '../native/addon.js';
import { type BatchLoad, IDLE_LOAD, lingerMs, observeBatch } from './batchPolicy.js';
import { CommitAnnouncer, CommitFeed } from './commitFeed.js';
import { openShardWriter, type ShardConnection } from './shard.js';
import { SHARD_TRUNCATED, ShardFileGuard } from './shardFileGuard.js';
import { INSERT_SEGMENT, INSERT_SYNTHETIC } from './shardSchema.js';
import { errorText, isCorruption, sqliteCode } from './storeError.js';
import { gapEvent, type SyntheticEvent } from './synthetic.js';
import { type CheckpointFailure, WalCheckpoint } from './walCheckpoint.js';
import { WatermarkWriter } from './watermarks.js';

/** Rows of the first segment after a failed one, and how the number grows while commits succeed. */
const FIRST_TRUST = 64;
const TRUST_GROWTH = 4;

/** Bounds of one transaction, live settings. */
export interface CommitLimits {
  readonly maxBatchSize: number;
  readonly maxBatchLatencyMs: number;
}

/** What one transaction stored. */
export interface CommitResult {
  readonly rows: number;
  readonly events: number;
  readonly bytes: number;
  /** Synthetic rows among them, gap records of drain threads not counted. */
  readonly synthetic: number;
  readonly commitMs: number;
  /** More waits in the channel or among synthetic rows. */
  readonly more: boolean;
  readonly lingerMs: number;
}

/** What one transaction is to store, in this order. */
interface Batch {
  /** Lost ranges, which become gap records. */
  readonly owed: readonly SegmentRun[];
  readonly synthetic: readonly SyntheticEvent[];
  readonly segment: SegmentInfo | null;
}

/** A commit that failed and was rolled back. */
export class CommitError extends Error {
  override readonly name = 'CommitError';

  constructor(
    /** SQLite's result code, `SQLITE_FULL` and the like. */
    readonly code: string,
    message: string,
    /** The file is damaged and must not be written again (FAIL-13). */
    readonly corrupt: boolean,
    /** Event runs this failure added to the lost-batch list (FAIL-5). */
    readonly lost: readonly SegmentRun[],
  ) {
    super(message);
  }
}

export interface ShardCommitterOptions {
  readonly file: string;
  /** 16 bytes. */
  readonly bootId: Uint8Array;
  readonly channel: ChannelHandle;
  /** Where commits are told, and the number this shard has there (STR-5); null: nobody is told. */
  readonly commits?: { readonly feed: SharedArrayBuffer; readonly source: number } | null;
  /** CPUs whose stored sequences lie out of order above their resume point; see watermarks.ts. */
  readonly unordered: readonly { readonly cpu: number; readonly floor: bigint; readonly upper: bigint }[];
}

export class ShardCommitter {
  readonly #options: ShardCommitterOptions;
  readonly #db: ShardConnection;
  readonly #insertSegment;
  readonly #insertSynthetic;
  readonly #begin;
  readonly #commit;
  readonly #watermarks: WatermarkWriter;
  readonly #guard: ShardFileGuard;
  readonly #announcer: CommitAnnouncer | null;
  readonly #checkpoint: WalCheckpoint;
  /** The shard's secondary indexes; used by whoever uses the committer, between transactions (IDX-10). */
  readonly indexes: ShardIndexes;
  /** Rowid of the row inserted last. */
  #lastId = 0n;
  readonly #synthetic: SyntheticEvent[] = [];
  #lost: SegmentRun[] = [];
  /** The last transaction failed: the next one risks no segment before it has stored what is owed. */
  #proving = false;
  /** Rows of a segment that are risked at once: few after a failure, more with every success. */
  #trusted = Number.POSITIVE_INFINITY;
  #load: BatchLoad = IDLE_LOAD;
  #lastEnd = performance.now();
  /** The file must not be written again, the checkpoint at close included. */
  #damaged = false;

  /** @throws StoreError when the file must not be written. */
  constructor(options: ShardCommitterOptions) {
    this.#options = options;
    this.#db = openShardWriter(options.file);
    this.#insertSegment = this.#db.prepare(INSERT_SEGMENT);
    this.#insertSynthetic = this.#db.prepare(INSERT_SYNTHETIC);
    this.#begin = this.#db.prepare('BEGIN IMMEDIATE');
    this.#commit = this.#db.prepare('COMMIT');
    this.#watermarks = new WatermarkWriter(this.#db, options.bootId);
    this.#guard = new ShardFileGuard(this.#db, options.file);
    this.#announcer = announcerOf(this.#db, options.commits ?? null);
    this.indexes = new ShardIndexes(this.#db);
    this.#checkpoint = new WalCheckpoint(this.#db, options.file);
  }

  /** Takes a synthetic row for the next transaction (ING-71). Never blocks. */
  queue(event: SyntheticEvent): void {
    this.#synthetic.push(event);
  }

  /** Event runs lost to failed commits whose gap records are not stored yet (FAIL-5). */
  get lost(): readonly SegmentRun[] {
    return this.#lost;
  }

  /** Last committed sequence per CPU of this shard in this boot. */
  lastSequences(): Map<number, bigint> {
    return this.#watermarks.last();
  }

  /**
   * One transaction: gap records for lost ranges, then synthetic rows, then one segment (FAIL-5).
   * At most `maxBatchSize` rows, provided the channel is bounded by it (ING-55).
   *
   * @throws CommitError after rolling back; the segment's ranges are on the lost list then.
   */
  commit(limits: CommitLimits): CommitResult {
    const started = performance.now();
    if (this.#waiting() === 0) return this.#nothing(0);
    this.#checkFile();
    const batch = this.#plan(limits);
    const rows = rowsOf(batch);
    if (rows === 0) return this.#nothing(this.#waiting());
    try {
      this.#begin.run();
      this.#store(batch);
      this.#commit.run();
    } catch (error) {
      throw this.#undo(error, batch.segment);
    }
    this.#settle(batch);
    this.#announcer?.committed(this.#lastId, rows);
    const commitMs = this.#measure(rows, started);
    this.#checkpoint.committed();
    const waiting = this.#waiting();
    return {
      rows,
      events: batch.segment?.events ?? 0,
      bytes: batch.segment?.bytes ?? 0,
      synthetic: batch.synthetic.length,
      commitMs,
      more: waiting > 0,
      lingerMs: this.#isPressed() ? 0 : lingerMs(this.#load, limits, waiting),
    };
  }

  /** Why a checkpoint failed: the first failure of a row of them, once (FAIL-11). */
  takeCheckpointFailure(): CheckpointFailure | null {
    return this.#checkpoint.takeFailure();
  }

  /** Closes the connection; SQLite checkpoints the WAL (LIFE-207), but never into a damaged file (FAIL-13). */
  close(): void {
    if (this.#damaged) this.#keepWal();
    this.#db.close();
  }

  #keepWal(): void {
    try {
      this.#db.prepare('SELECT eventd_keep_wal()').get();
    } catch {
      // The statement touches no page; what fails here failed because the connection is beyond use.
    }
  }

  /** Takes what comes next; while gap records do not fit, or the store must prove itself, no segment (FAIL-5, FAIL-10). */
  #plan({ maxBatchSize }: CommitLimits): Batch {
    const owed = this.#lost.slice(0, maxBatchSize);
    const synthetic = this.#synthetic.slice(0, maxBatchSize - owed.length);
    const others = owed.length + synthetic.length;
    const owes = owed.length < this.#lost.length || (this.#proving && others > 0);
    const room = Math.min(maxBatchSize - others, this.#trusted);
    return { owed, synthetic, segment: owes ? null : this.#take(room, maxBatchSize) };
  }

  /** The next segment, cut to what the other rows leave of the batch: those count, too (ING-55). */
  #take(room: number, maxBatchSize: number): SegmentInfo | null {
    const { channel } = this.#options;
    if (room >= maxBatchSize) return native.channelTake(channel);
    if (room === 0) return null;
    const { maxRows } = native.channelStatus(channel);
    native.channelLimit(channel, Math.min(room, maxRows));
    try {
      return native.channelTake(channel);
    } finally {
      native.channelLimit(channel, maxRows);
    }
  }

  /** SQLite would go on writing to a file that has no name any more, and the rows would be gone with it. */
  #checkFile(): void {
    const problem = this.#guard.problem();
    if (problem === null) return;
    this.#damaged = problem.code === SHARD_TRUNCATED;
    throw new CommitError(problem.code, `${this.#options.file}: ${problem.detail}`, true, []);
  }

  #nothing(waiting: number): CommitResult {
    this.#proving = false;
    return {
      rows: 0,
      events: 0,
      bytes: 0,
      synthetic: 0,
      commitMs: 0,
      more: waiting > 0,
      lingerMs: 0,
    };
  }

  /** Takes the batch into the smoothed load; returns how long its commit took, ms. */
  #measure(rows: number, started: number): number {
    const ended = performance.now();
    const commitMs = ended - started;
    this.#load = observeBatch(this.#load, { rows, elapsedMs: ended - this.#lastEnd, commitMs });
    this.#lastEnd = ended;
    return commitMs;
  }

  /** A drain thread waits for room, or soon will: every further moment fills its ring (ING-47, ING-52). */
  #isPressed(): boolean {
    const { halfFull, blocked } = native.channelStatus(this.#options.channel);
    return halfFull || blocked > 0;
  }

  /** Rows the next transaction could store. */
  #waiting(): number {
    const { rows } = native.channelStatus(this.#options.channel);
    return this.#lost.length + this.#synthetic.length + rows;
  }

  #store({ owed, synthetic, segment }: Batch): void {
    const { bootId, unordered } = this.#options;
    this.#watermarks.claim();
    for (const run of owed) {
      const gap = gapEvent(run.detectedAt ?? native.realtimeNs(), {
        cpu: run.cpu,
        first: run.first,
        last: run.last,
        previousTimestamp: run.previousTimestamp,
        revealingTimestamp: run.revealingTimestamp,
        cause: run.cause ?? 'commit_failure',
      });
      this.#inserted(this.#insertSynthetic.run(bootId, gap.timestamp, gap.type, gap.payload));
      this.#watermarks.write(run.cpu, { last: run.last, settled: 0n });
    }
    for (const event of synthetic) {
      this.#inserted(this.#insertSynthetic.run(bootId, event.timestamp, event.type, event.payload));
    }
    if (segment === null) return;
    this.#inserted(this.#insertSegment.run(bootId, segment.segment));
    for (const mark of native.segmentWatermarks(segment.segment)) {
      const order = unordered.find(({ cpu }) => cpu === mark.cpu);
      this.#watermarks.write(
        mark.cpu,
        order === undefined ? mark : { ...mark, floor: order.floor, upper: order.upper },
      );
    }
  }

  #inserted({ lastInsertRowid }: { readonly lastInsertRowid: number | bigint }): void {
    this.#lastId = BigInt(lastInsertRowid);
  }

  #settle({ owed, synthetic, segment }: Batch): void {
    this.#watermarks.committed();
    this.#proving = false;
    this.#synthetic.splice(0, synthetic.length);
    if (owed.length > 0) {
      this.#lost.splice(0, owed.length);
      if (this.#lost.length === 0) native.channelLossRecorded(this.#options.channel);
    }
    if (segment === null) return;
    native.segmentCommitted(segment.segment);
    this.#trusted *= TRUST_GROWTH;
  }

  /** Rolls back and puts the segment's ranges on the lost list: the ring no longer offers them (FAIL-4, FAIL-9). */
  #undo(error: unknown, segment: SegmentInfo | null): CommitError {
    try {
      if (this.#db.inTransaction) this.#db.exec('ROLLBACK');
    } catch {
      // SQLite rolled back by itself, or will at close; the first error is the one that matters.
    }
    this.#watermarks.rolledBack();
    this.#proving = true;
    // A nearly full disk still takes a gap record and then fails the next big segment: risk little.
    if (segment !== null) this.#trusted = FIRST_TRUST;
    const lost = segment === null ? [] : native.segmentLost(segment.segment);
    this.#lost.push(...lost);
    this.#damaged ||= isCorruption(error);
    return new CommitError(
      sqliteCode(error) ?? 'ERR_COMMIT',
      `${this.#options.file}: ${errorText(error)}`,
      isCorruption(error),
      lost,
    );
  }
}

function rowsOf({ owed, synthetic, segment }: Batch): number {
  return owed.length + synthetic.length + (segment?.rows ?? 0);
}

function announcerOf(
  db: ShardConnection,
  commits: NonNullable<ShardCommitterOptions['commits']> | null,
): CommitAnnouncer | null {
  if (commits === null) return null;
  return new CommitAnnouncer(new CommitFeed(commits.feed), commits.source, newestId(db));
}

/** The newest row's id; a damaged page shows again in the first commit, which knows what is to be done (FAIL-13). */
function newestId(db: ShardConnection): bigint {
  try {
    return BigInt(db.prepare('SELECT ifnull(max(id), 0) FROM events').pluck().get() as number | bigint);
  } catch (error) {
    if (isCorruption(error)) return 0n;
    throw error;
  }
}
