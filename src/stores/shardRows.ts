/** The newest rows of a shard, read for the sequences they stand for and nothing else. */
import { decode } from '../host/msgpack.js';
import type { ShardConnection } from './shard.js';

/** Rows looked at where nothing asks for more: do the shard's watermarks know all its CPUs? */
export const CHECKED_ROWS = 500;

const MAX_CPU = 65_535;

/** What one row accounts for: an event, or all that a gap record names. */
export interface RowRange {
  readonly cpu: number;
  readonly first: bigint;
  readonly last: bigint;
  readonly isEvent: boolean;
}

interface NewestRow {
  readonly boot_id: unknown;
  readonly cpu_id: unknown;
  readonly sequence: unknown;
  readonly gap: unknown;
}

/**
 * The rows of a boot, newest first, up to the first one of another boot; null for a row that accounts
 * for no sequence. Throws SQLite's error at a page that cannot be read.
 */
export function* rowsOfBoot(db: ShardConnection, bootId: Uint8Array): Generator<RowRange | null> {
  const rows = db
    .prepare(
      `SELECT boot_id, cpu_id, sequence, CASE WHEN sequence IS NULL AND origin_class IS NULL
         AND event_type = 'synthetic.gap' THEN payload END AS gap FROM events ORDER BY id DESC`,
    )
    .iterate() as IterableIterator<NewestRow>;
  for (const row of rows) {
    if (!isBoot(row.boot_id, bootId)) return;
    yield rangeOf(row);
  }
}

function isBoot(value: unknown, bootId: Uint8Array): boolean {
  return value instanceof Uint8Array && Buffer.compare(value, bootId) === 0;
}

function rangeOf({ cpu_id: cpu, sequence, gap }: NewestRow): RowRange | null {
  if (typeof cpu === 'bigint' && typeof sequence === 'bigint')
    return checked({ cpu: Number(cpu), first: sequence, last: sequence, isEvent: true });
  return gap instanceof Uint8Array ? gapRange(gap) : null;
}

/** The range a gap record names, or null when its payload is not one of ours, or no longer. */
function gapRange(payload: Uint8Array): RowRange | null {
  try {
    const map = decode(payload, { useBigInt64: true }) as Record<string, number | bigint>;
    const { cpu_id: cpu, first_missing: first, last_missing: last, missing_count: count } = map;
    if (cpu === undefined || first === undefined || last === undefined || count === undefined) return null;
    const range = { cpu: Number(cpu), first: BigInt(first), last: BigInt(last), isEvent: false };
    return BigInt(count) === range.last - range.first + 1n ? checked(range) : null;
  } catch {
    return null;
  }
}

function checked(range: RowRange): RowRange | null {
  const { cpu, first, last } = range;
  return Number.isInteger(cpu) && cpu >= 0 && cpu <= MAX_CPU && first >= 1n && last >= first ? range : null;
}
