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
import { UPSERT_METADATA } from './shardSchema.js';

export interface CpuWatermark {
  /** 0n = this shard holds nothing of the CPU. */
  last: bigint;
  settled: bigint;
  floor: bigint;
  upper: bigint;
}

const COUNTERS = {
  last: 'last_seq',
  settled: 'settled_seq',
  floor: 'floor_seq',
  upper: 'upper_seq',
} as const;
type Counter = keyof typeof COUNTERS;
const ROW = /^(last|settled|floor|upper)_seq\.(\d{1,5})$/;

/** What one shard's metadata says: null when it was last written in another boot, or never. */
export function readWatermarks(db: ShardConnection, bootId: Uint8Array): Map<number, CpuWatermark> | null {
  const rows = db.prepare('SELECT key, value FROM metadata').all() as { key: string; value: string }[];
  if (rows.find(({ key }) => key === 'last_boot_id')?.value !== formatGuid(bootId)) return null;
  const watermarks = new Map<number, CpuWatermark>();
  for (const { key, value } of rows) {
    const match = ROW.exec(key);
    if (match === null || !/^\d{1,20}$/.test(value)) continue;
    const cpu = Number(match[2]);
    const entry = watermarks.get(cpu) ?? { last: 0n, settled: 0n, floor: 0n, upper: 0n };
    entry[match[1] as Counter] = BigInt(value);
    watermarks.set(cpu, entry);
  }
  return watermarks;
}

/** Writes watermarks inside the caller's transaction, and only what changed. */
export class WatermarkWriter {
  readonly #db: ShardConnection;
  readonly #bootId: Uint8Array;
  readonly #upsert;
  readonly #current: Map<number, CpuWatermark>;
  #bootWritten: boolean;

  constructor(db: ShardConnection, bootId: Uint8Array) {
    this.#db = db;
    this.#bootId = bootId;
    this.#upsert = db.prepare(UPSERT_METADATA);
    const stored = readWatermarks(db, bootId);
    this.#bootWritten = stored !== null;
    this.#current = stored ?? new Map();
  }

  /**
   * Raises the CPU's rows; values never fall. `floor` and `upper` stay as they are when absent.
   * Call `committed` or `rolledBack` after the transaction.
   */
  write(cpu: number, mark: { last: bigint; settled: bigint; floor?: bigint; upper?: bigint }): void {
    this.#claimBoot();
    const entry = { ...(this.#current.get(cpu) ?? { last: 0n, settled: 0n, floor: 0n, upper: 0n }) };
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

  readonly #pending = new Map<number, CpuWatermark>();

  committed(): void {
    for (const [cpu, entry] of this.#pending) this.#current.set(cpu, entry);
    this.#pending.clear();
    this.#bootWritten ||= this.#bootClaimed;
  }

  rolledBack(): void {
    this.#pending.clear();
    this.#bootClaimed = false;
  }

  /** Last committed sequence per CPU of this shard. */
  last(): Map<number, bigint> {
    return new Map([...this.#current].map(([cpu, { last }]) => [cpu, last]));
  }

  #bootClaimed = false;

  /** The first commit of a new boot removes what an older boot left behind. */
  #claimBoot(): void {
    if (this.#bootWritten || this.#bootClaimed) return;
    this.#db.exec("DELETE FROM metadata WHERE key GLOB '*_seq.*'");
    this.#upsert.run('last_boot_id', formatGuid(this.#bootId));
    this.#bootClaimed = true;
  }

  /** Marks the shard as written in this boot even when no CPU has anything to record. */
  claim(): void {
    this.#claimBoot();
  }
}
