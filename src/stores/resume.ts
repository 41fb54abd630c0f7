/**
 * Boot boundary and resume points (BOOT-4..10, LIFE-108..111): is this a new boot, and if not, from
 * which sequence does each CPU go on, and what above it is stored already?
 *
 * Nothing here depends on the size of the store: metadata rows give the resume points, and only the
 * newest rows are read, back to where the last run's order is known. A shard whose metadata rows were
 * lost is the exception: its events are all that tells what it holds, so those of the boot are all read.
 *
 * Where the store is damaged, doubt goes one way: what cannot be read counts as not stored and is read
 * from the ring again. Nothing counts as stored on the word of a row its shard's watermarks contradict.
 * A good shard that cannot be opened just now is no such doubt: its events would be stored twice.
 */
import { readdirSync } from 'node:fs';
import { join } from 'node:path';
import Database from 'better-sqlite3';
import { SequenceSet } from './sequenceSet.js';
import type { ShardConnection } from './shard.js';
import { CHECKED_ROWS, rowsOfBoot } from './shardRows.js';
import { errorText, isUnrelatedToFile, StoreError } from './storeError.js';
import { CHECK_TIMEOUT_MS } from './storeFile.js';
import { readWatermarks, type StoredWatermark } from './watermarks.js';

/** Where one CPU goes on. */
export interface CpuResume {
  /** Everything up to here is stored or gap-recorded; 0n = nothing seen. */
  readonly sequence: bigint;
  /** Header timestamp (ns) of that event where it was found among the newest rows. */
  readonly timestamp: bigint | null;
  /** Sorted, disjoint, inclusive pairs above `sequence` that need no storing: first0, last0, ... */
  readonly covered: BigUint64Array;
  /** See watermarks.ts; equal to `sequence` and 0n when nothing above the resume point is stored. */
  readonly floor: bigint;
  readonly upper: bigint;
}

export interface BootResolution {
  /** True: eventd ran in this boot before (BOOT-6). */
  readonly restart: boolean;
  /** Only CPUs with stored data of this boot. */
  readonly cpus: ReadonlyMap<number, CpuResume>;
  /** Files that could not be read, or not as far back as needed, with the reason. */
  readonly unreadable: readonly { readonly file: string; readonly reason: string }[];
}

export const NOTHING_SEEN: CpuResume = {
  sequence: 0n,
  timestamp: null,
  covered: new BigUint64Array(),
  floor: 0n,
  upper: 0n,
};

/** Rows looked at for a resume point's timestamp; it only decorates a gap record. */
const TIMESTAMP_ROWS = 2000;

const MAX_SEQUENCE = 2n ** 63n - 1n;

interface ShardView {
  readonly file: string;
  readonly db: ShardConnection;
  /** Null: the shard was written in this boot, but its watermarks are lost. */
  readonly watermarks: Map<number, StoredWatermark> | null;
}

type Unreadable = { file: string; reason: string }[];

/**
 * Reads every shard file in the directory, active or historical.
 * Throws StoreError `io` where one is locked or cannot be opened: whether it holds events of this boot
 * stays unknown, and they must not be stored again (BOOT-10).
 */
export function resolveBoot(directory: string, bootId: Uint8Array): BootResolution {
  const views: ShardView[] = [];
  const unreadable: Unreadable = [];
  let restart = false;
  try {
    for (const name of readdirSync(directory)
      .filter((n) => n.endsWith('.db') && n !== 'eventd-meta.db')
      .sort()) {
      const file = join(directory, name);
      try {
        const view = openView(file, bootId);
        if (view === null) continue;
        restart = true;
        views.push(view);
      } catch (error) {
        unreadable.push({ file, reason: damageOf(error, file) });
      }
    }
    return { restart, cpus: resumePoints(views, bootId, unreadable), unreadable };
  } finally {
    for (const { db } of views) db.close();
  }
}

/** What is wrong with the file, for a log line. Throws StoreError `io` where the file may be good. */
function damageOf(error: unknown, file: string): string {
  if (isUnrelatedToFile(error)) throw new StoreError('io', file, errorText(error));
  return errorText(error);
}

/** Null when the file holds nothing of this boot (BOOT-7) or is no event shard. */
function openView(file: string, bootId: Uint8Array): ShardView | null {
  const db = new Database(file, { readonly: true, timeout: CHECK_TIMEOUT_MS });
  let keep = false;
  try {
    db.defaultSafeIntegers(true);
    const tables = db
      .prepare("SELECT count(*) AS n FROM sqlite_master WHERE name IN ('events', 'metadata')")
      .get();
    if ((tables as { n: bigint }).n !== 2n) return null;
    const watermarks = readWatermarks(db, bootId);
    if (watermarks === null && !newestRowIsOfBoot(db, bootId)) return null;
    keep = true;
    return { file, db, watermarks };
  } finally {
    if (!keep) db.close();
  }
}

/** A shard whose metadata rows were lost still counts as written in this boot when its newest row says so. */
function newestRowIsOfBoot(db: ShardConnection, bootId: Uint8Array): boolean {
  // The loop ends the statement, which an iterator left alone would keep open.
  for (const _ of rowsOfBoot(db, bootId)) return true;
  return false;
}

function resumePoints(
  views: readonly ShardView[],
  bootId: Uint8Array,
  unreadable: Unreadable,
): Map<number, CpuResume> {
  const cpus = new Set(views.flatMap(({ watermarks }) => [...(watermarks?.keys() ?? [])]));
  const scans = new Map<number, CpuScan>();
  for (const cpu of cpus) {
    const marks = views.flatMap(({ watermarks }) => watermarks?.get(cpu) ?? []);
    const settled = maximum(marks.map((m) => m.settled));
    const unsettled = marks.filter((m) => m.upper > settled).map((m) => m.floor);
    // Lost watermarks may have told of rows out of order.
    if (views.some((view) => view.watermarks === null) || marks.some((m) => !m.whole)) unsettled.push(0n);
    scans.set(cpu, new CpuScan(settled, minimum(unsettled, settled)));
  }
  for (const view of views) {
    try {
      if (scanNewest(view, bootId, scans)) continue;
      const reason = 'watermarks are missing in its metadata; all its events of this boot were read instead';
      unreadable.push({ file: view.file, reason });
    } catch (error) {
      // A damaged page must not keep eventd from starting (FAIL-12, FAIL-15): what was found before it
      // counts, and what it may have hidden is read from the ring again.
      unreadable.push({ file: view.file, reason: damageOf(error, view.file) });
    }
  }
  return new Map([...scans].map(([cpu, scan]) => [cpu, scan.result(newestTimestamp(views, bootId, cpu))]));
}

/** Walks one shard backwards until every CPU's floor is reached. False when it had to read the whole boot. */
function scanNewest({ db, watermarks }: ShardView, bootId: Uint8Array, scans: Map<number, CpuScan>): boolean {
  const open = new Set<number>();
  let whole = watermarks !== null;
  for (const [cpu, mark] of watermarks ?? []) {
    if (mark.last > (scans.get(cpu)?.settled ?? 0n)) open.add(cpu);
    whole &&= mark.whole;
  }
  const scanOf = (cpu: number) => {
    const known = scans.get(cpu);
    // Every commit writes the watermarks of its CPUs: a row of any other says that they were lost.
    if (watermarks?.get(cpu) === undefined) whole = false;
    if (known !== undefined) return known;
    const scan = new CpuScan(0n, 0n);
    scans.set(cpu, scan);
    return scan;
  };
  const highest = (cpu: number) => {
    const mark = watermarks?.get(cpu);
    return mark?.whole === true ? mark.last : MAX_SEQUENCE;
  };
  let seen = 0;
  for (const range of rowsOfBoot(db, bootId)) {
    if (range !== null) {
      const { cpu, first, last, isEvent } = range;
      const scan = scanOf(cpu);
      if (last <= highest(cpu)) scan.found(first, last);
      // Gap records of lost batches may stand behind newer events; the order of events is what counts.
      if (isEvent && last <= scan.floor) open.delete(cpu);
    }
    if (whole && open.size === 0 && ++seen >= CHECKED_ROWS) break;
  }
  return whole;
}

/** Header timestamp of one event, where it is among a shard's newest rows; it only decorates a gap record. */
function newestTimestamp(
  views: readonly ShardView[],
  bootId: Uint8Array,
  cpu: number,
): (sequence: bigint) => bigint | null {
  return (sequence) => {
    for (const { db, watermarks } of views) {
      // With many shards most hold nothing of this CPU, and their rows are not looked through for it.
      if (watermarks !== null && (watermarks.get(cpu)?.last ?? 0n) < sequence) continue;
      try {
        const timestamp = db
          .prepare(
            `SELECT timestamp FROM (SELECT * FROM events ORDER BY id DESC LIMIT ${TIMESTAMP_ROWS})
             WHERE cpu_id = ? AND sequence = ? AND boot_id = ?`,
          )
          .pluck()
          .get(cpu, sequence, bootId);
        if (typeof timestamp === 'bigint') return timestamp;
      } catch {
        // The walk has met the same damage and reported it.
      }
    }
    return null;
  };
}

/** What is stored of one CPU above its resume point. */
class CpuScan {
  readonly #found = new SequenceSet();

  constructor(
    readonly settled: bigint,
    readonly floor: bigint,
  ) {}

  found(first: bigint, last: bigint): void {
    if (last <= this.settled) return;
    if (first === last) this.#found.add(first);
    else this.#found.addRange(first > this.settled ? first : this.settled + 1n, last);
  }

  /** What follows the settled sequences without a hole is as good as settled. */
  result(timestampOf: (sequence: bigint) => bigint | null): CpuResume {
    const ranges = this.#found.ranges();
    const [next] = ranges;
    const adjoins = next !== undefined && next[0] <= this.settled + 1n;
    const sequence = adjoins ? next[1] : this.settled;
    const covered = adjoins ? ranges.slice(1) : ranges;
    const upper = covered.at(-1)?.[1] ?? 0n;
    return {
      sequence,
      timestamp: sequence > 0n ? timestampOf(sequence) : null,
      covered: BigUint64Array.from(covered.flat()),
      floor: upper > 0n ? this.floor : sequence,
      upper,
    };
  }
}

function maximum(values: readonly bigint[]): bigint {
  let highest = 0n;
  for (const value of values) if (value > highest) highest = value;
  return highest;
}

function minimum(values: readonly bigint[], otherwise: bigint): bigint {
  let lowest = otherwise;
  for (const value of values) if (value < lowest) lowest = value;
  return lowest;
}
