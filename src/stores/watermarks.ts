/**
 * The per-CPU rows a writer keeps in its shard's `metadata` (STO-15), in the same transaction as the
 * events they speak of, so that they are exact after a crash.
 *
 * - `last_boot_id`: boot the rows below belong to.
 * - `last_seq.<cpu>`: highest sequence of the CPU this shard stored or gap-recorded.
 * - `settled_seq.<cpu>`: everything up to here is stored or gap-recorded, in whichever shard.
 * - `floor_seq.<cpu>`, `upper_seq.<cpu>`: only after a restart that found sequences above the resume
 *   point already stored. From then on ids no longer follow sequences between floor and upper, so the
 *   next restart has to look back as far as `floor_seq` until everything up to `upper_seq` is settled.
 */
import { formatGuid } from '../host/guid.js';
import type { ShardConnection } from './shard.js';
import { CHECKED_ROWS, rowsOfBoot } from './shardRows.js';
import { UPSERT_METADATA } from './shardSchema.js';
import { isUnrelatedToFile } from './storeError.js';

export interface CpuWatermark {
  /** 0n = this shard holds nothing of the CPU. */
  last: bigint;
  settled: bigint;
  floor: bigint;
  upper: bigint;
}

/** A watermark as it was found. */
export interface StoredWatermark extends CpuWatermark {
  /**
   * False when rows of the CPU are missing or unreadable that a writer always keeps together: nothing
   * but the shard's events can tell then what it holds.
   */
  whole: boolean;
}

const COUNTERS = {
  last: 'last_seq',
  settled: 'settled_seq',
  floor: 'floor_seq',
  upper: 'upper_seq',
} as const;
type Counter = keyof typeof COUNTERS;
const ROW = /^(last|settled|floor|upper)_seq\.(\d{1,5})$/;
const VALUE = /^\d{1,19}$/;
const MAX_SEQUENCE = 2n ** 63n - 1n;

const NOTHING: CpuWatermark = { last: 0n, settled: 0n, floor: 0n, upper: 0n };

type MetadataRow = { readonly key: string; readonly value: unknown };

/** Rows on a damaged page are as good as lost (FAIL-12): the next commit meets the page, and reports it. */
function metadataRows(db: ShardConnection): MetadataRow[] {
  try {
    return db.prepare('SELECT key, value FROM metadata').all() as MetadataRow[];
  } catch (error) {
    if (isUnrelatedToFile(error)) throw error;
    return [];
  }
}

/** What one shard's metadata says: null when it was last written in another boot, or never, or is lost. */
export function readWatermarks(db: ShardConnection, bootId: Uint8Array): Map<number, StoredWatermark> | null {
  const rows = metadataRows(db);
  if (rows.find(({ key }) => key === 'last_boot_id')?.value !== formatGuid(bootId)) return null;
  const found = new Map<number, Map<Counter, bigint>>();
  const unreadable = new Set<number>();
  for (const { key, value } of rows) {
    const match = ROW.exec(key);
    if (match === null) continue;
    const cpu = Number(match[2]);
    const counters = found.get(cpu) ?? new Map<Counter, bigint>();
    const sequence = typeof value === 'string' && VALUE.test(value) ? BigInt(value) : MAX_SEQUENCE + 1n;
    if (sequence <= MAX_SEQUENCE) counters.set(match[1] as Counter, sequence);
    else unreadable.add(cpu);
    found.set(cpu, counters);
  }
  return new Map([...found].map(([cpu, counters]) => [cpu, watermarkOf(counters, unreadable.has(cpu))]));
}

/** `settled` is absent until it is above 0; `last` never is, and `floor` and `upper` come together. */
function watermarkOf(counters: ReadonlyMap<Counter, bigint>, isUnreadable: boolean): StoredWatermark {
  return {
    last: counters.get('last') ?? 0n,
    settled: counters.get('settled') ?? 0n,
    floor: counters.get('floor') ?? 0n,
    upper: counters.get('upper') ?? 0n,
    whole: !isUnreadable && counters.has('last') && counters.has('floor') === counters.has('upper'),
  };
}

/**
 * Highest sequence per CPU of a shard whose watermarks are not whole, from its events of this boot;
 * empty where nothing was lost. Reads all of them only in the former case.
 */
function lostSequences(
  db: ShardConnection,
  bootId: Uint8Array,
  stored: ReadonlyMap<number, StoredWatermark> | null,
): Map<number, bigint> {
  const highest = new Map<number, bigint>();
  let whole = stored !== null && [...stored.values()].every((mark) => mark.whole);
  let seen = 0;
  try {
    for (const range of rowsOfBoot(db, bootId)) {
      if (range !== null) {
        whole &&= stored?.has(range.cpu) === true;
        if (range.last > (highest.get(range.cpu) ?? 0n)) highest.set(range.cpu, range.last);
      }
      if (whole && ++seen >= CHECKED_ROWS) break;
    }
  } catch {
    // A page cannot be read: the rows in front of it are the newer ones, and all there is to know.
  }
  return whole ? new Map() : highest;
}

/** Writes watermarks inside the caller's transaction, and only what changed. */
export class WatermarkWriter {
  readonly #db: ShardConnection;
  readonly #bootId: Uint8Array;
  readonly #upsert;
  readonly #current: Map<number, CpuWatermark>;
  readonly #pending = new Map<number, CpuWatermark>();
  /** The shard's metadata say that it was written in this boot. */
  #bootWritten: boolean;
  /** What the shard holds and its watermarks do not tell; written anew by the next commit. */
  #lost: Map<number, bigint>;
  /** Both are done in the open transaction. */
  #claimed = false;

  constructor(db: ShardConnection, bootId: Uint8Array) {
    this.#db = db;
    this.#bootId = bootId;
    this.#upsert = db.prepare(UPSERT_METADATA);
    const stored = readWatermarks(db, bootId);
    this.#bootWritten = stored !== null;
    this.#current = new Map(stored ?? []);
    this.#lost = lostSequences(db, bootId, stored);
  }

  /**
   * Raises the CPU's rows; values never fall. `floor` and `upper` stay as they are when absent.
   * Call `committed` or `rolledBack` after the transaction.
   */
  write(cpu: number, mark: { last: bigint; settled: bigint; floor?: bigint; upper?: bigint }): void {
    this.claim();
    const entry: CpuWatermark = { ...(this.#pending.get(cpu) ?? this.#current.get(cpu) ?? NOTHING) };
    for (const counter of ['last', 'settled'] as const) {
      if (mark[counter] <= entry[counter]) continue;
      entry[counter] = mark[counter];
      this.#upsert.run(`${COUNTERS[counter]}.${cpu}`, String(mark[counter]));
    }
    if (mark.upper !== undefined && mark.floor !== undefined && mark.upper !== entry.upper) {
      entry.floor = mark.floor;
      entry.upper = mark.upper;
      this.#upsert.run(`${COUNTERS.floor}.${cpu}`, String(mark.floor));
      this.#upsert.run(`${COUNTERS.upper}.${cpu}`, String(mark.upper));
    }
    this.#pending.set(cpu, entry);
  }

  committed(): void {
    for (const [cpu, entry] of this.#pending) this.#current.set(cpu, entry);
    this.#pending.clear();
    if (!this.#claimed) return;
    this.#bootWritten = true;
    this.#lost = new Map();
    this.#claimed = false;
  }

  rolledBack(): void {
    this.#pending.clear();
    this.#claimed = false;
  }

  /** Last committed sequence per CPU of this shard. */
  last(): Map<number, bigint> {
    return new Map([...this.#current].map(([cpu, { last }]) => [cpu, last]));
  }

  /**
   * Marks the shard as written in this boot, even when no CPU has anything to record. The first commit
   * of a new boot removes what an older boot left behind; the first one after a loss says again what the
   * shard holds, and that nothing is known of the order of its rows.
   */
  claim(): void {
    if (this.#claimed || (this.#bootWritten && this.#lost.size === 0)) return;
    if (!this.#bootWritten) {
      this.#db.exec("DELETE FROM metadata WHERE key GLOB '*_seq.*'");
      this.#upsert.run('last_boot_id', formatGuid(this.#bootId));
    }
    for (const [cpu, last] of this.#lost) {
      const settled = this.#current.get(cpu)?.settled ?? 0n;
      this.#pending.set(cpu, { last, settled, floor: 0n, upper: last });
      for (const [counter, value] of [
        ['last', last],
        ['settled', settled],
        ['floor', 0n],
        ['upper', last],
      ] as const) {
        this.#upsert.run(`${COUNTERS[counter]}.${cpu}`, String(value));
      }
    }
    this.#claimed = true;
  }
}
