/**
 * Boot boundary and resume points (BOOT-4..10, LIFE-108..111): is this a new boot, and if not, from
 * which sequence does each CPU go on, and what above it is stored already?
 *
 * Nothing here depends on the size of the store: metadata rows give the resume points, and only the
 * newest rows are read, back to where the last run's order is known.
 */
import { readdirSync } from 'node:fs';
import { join } from 'node:path';
import { decode } from '@msgpack/msgpack';
import Database from 'better-sqlite3';
import type { ShardConnection } from './shard.js';
import { errorText } from './storeError.js';
import { type CpuWatermark, readWatermarks } from './watermarks.js';

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
const TIMESTAMP_SCAN_ROWS = 2000;

interface ShardView {
  readonly file: string;
  readonly db: ShardConnection;
  readonly watermarks: Map<number, CpuWatermark>;
}

/** Reads every shard file in the directory, active or historical. */
export function resolveBoot(directory: string, bootId: Uint8Array): BootResolution {
  const views: ShardView[] = [];
  const unreadable: { file: string; reason: string }[] = [];
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
        unreadable.push({ file, reason: errorText(error) });
      }
    }
    return { restart, cpus: resumePoints(views, bootId, unreadable), unreadable };
  } finally {
    for (const { db } of views) db.close();
  }
}

/** Null when the file holds nothing of this boot (BOOT-7) or is no event shard. */
function openView(file: string, bootId: Uint8Array): ShardView | null {
  const db = new Database(file, { readonly: true });
  let keep = false;
  try {
    db.defaultSafeIntegers(true);
    const tables = db
      .prepare("SELECT count(*) AS n FROM sqlite_master WHERE name IN ('events', 'metadata')")
      .get();
    if ((tables as { n: bigint }).n !== 2n) return null;
    const watermarks = readWatermarks(db, bootId) ?? newestRowIsOfBoot(db, bootId);
    if (watermarks === null) return null;
    keep = true;
    return { file, db, watermarks };
  } finally {
    if (!keep) db.close();
  }
}

/** A shard whose metadata rows were lost still counts as written in this boot when its newest row says so. */
function newestRowIsOfBoot(db: ShardConnection, bootId: Uint8Array): Map<number, CpuWatermark> | null {
  const row = db.prepare('SELECT boot_id FROM events ORDER BY id DESC LIMIT 1').get() as
    | { boot_id: Buffer }
    | undefined;
  return row?.boot_id.equals(bootId) === true ? new Map() : null;
}

function resumePoints(
  views: readonly ShardView[],
  bootId: Uint8Array,
  unreadable: { file: string; reason: string }[],
): Map<number, CpuResume> {
  const cpus = new Set(views.flatMap(({ watermarks }) => [...watermarks.keys()]));
  const scans = new Map<number, CpuScan>();
  for (const cpu of cpus) {
    const marks = views.flatMap(({ watermarks }) => watermarks.get(cpu) ?? []);
    const settled = maximum(marks.map((m) => m.settled));
    const unsettled = marks.filter((m) => m.upper > settled).map((m) => m.floor);
    scans.set(cpu, new CpuScan(settled, maximum(marks.map((m) => m.last)), minimum(unsettled, settled)));
  }
  for (const view of views) {
    try {
      scanNewest(view, bootId, scans);
    } catch (error) {
      // A damaged page must not keep eventd from starting (FAIL-12, FAIL-15): what was found before it
      // counts, and what it may have hidden is read from the ring again.
      unreadable.push({ file: view.file, reason: errorText(error) });
    }
  }
  return new Map([...scans].map(([cpu, scan]) => [cpu, scan.result()]));
}

/** Walks one shard backwards until every CPU's floor is reached. */
function scanNewest({ db, watermarks }: ShardView, bootId: Uint8Array, scans: Map<number, CpuScan>): void {
  const open = new Set<number>();
  for (const [cpu, { last }] of watermarks) {
    const scan = scans.get(cpu);
    if (scan !== undefined && last > scan.settled) open.add(cpu);
  }
  const rows = db
    .prepare(
      `SELECT boot_id, cpu_id, sequence, timestamp, CASE WHEN sequence IS NULL AND origin_class IS NULL
         AND event_type = 'synthetic.gap' THEN payload END AS gap FROM events ORDER BY id DESC`,
    )
    .iterate() as IterableIterator<{
    boot_id: Buffer;
    cpu_id: bigint | null;
    sequence: bigint | null;
    timestamp: bigint;
    gap: Buffer | null;
  }>;
  let seen = 0;
  for (const row of rows) {
    if (!row.boot_id.equals(bootId)) break;
    if (row.cpu_id !== null && row.sequence !== null) {
      const scan = scans.get(Number(row.cpu_id));
      scan?.stored(row.sequence, row.timestamp);
      if (scan !== undefined && row.sequence <= scan.floor) open.delete(Number(row.cpu_id));
    } else if (row.gap !== null) {
      const gap = gapRange(row.gap);
      if (gap !== null) scans.get(gap.cpu)?.recorded(gap.first, gap.last);
    }
    if (open.size === 0 && ++seen >= TIMESTAMP_SCAN_ROWS) break;
  }
}

/** What is stored of one CPU above its resume point. */
class CpuScan {
  readonly #ranges: [bigint, bigint][] = [];
  #timestamp: bigint | null = null;

  constructor(
    readonly settled: bigint,
    readonly last: bigint,
    readonly floor: bigint,
  ) {}

  stored(sequence: bigint, timestamp: bigint): void {
    if (sequence === this.settled) this.#timestamp = timestamp;
    this.recorded(sequence, sequence);
  }

  recorded(first: bigint, last: bigint): void {
    if (last > this.settled) this.#ranges.push([first > this.settled ? first : this.settled + 1n, last]);
  }

  result(): CpuResume {
    const merged: [bigint, bigint][] = [];
    for (const [first, last] of this.#ranges.sort(([a], [b]) => (a < b ? -1 : a > b ? 1 : 0))) {
      const previous = merged.at(-1);
      if (previous !== undefined && first <= previous[1] + 1n) {
        if (last > previous[1]) previous[1] = last;
      } else merged.push([first, last]);
    }
    const upper = merged.at(-1)?.[1] ?? 0n;
    return {
      sequence: this.settled,
      timestamp: this.#timestamp,
      covered: BigUint64Array.from(merged.flat()),
      floor: upper > 0n ? this.floor : this.settled,
      upper,
    };
  }
}

/** The range a gap record names, or null when its payload is not ours. */
function gapRange(payload: Buffer): { cpu: number; first: bigint; last: bigint } | null {
  try {
    const map = decode(payload, { useBigInt64: true }) as Record<string, number | bigint>;
    const { cpu_id: cpu, first_missing: first, last_missing: last } = map;
    if (cpu === undefined || first === undefined || last === undefined) return null;
    return { cpu: Number(cpu), first: BigInt(first), last: BigInt(last) };
  } catch {
    return null;
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
