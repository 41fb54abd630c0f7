/** What retention does in the tables of one database; `retentionSweep.ts` decides when. */
import { LOG_SCHEMA } from './logSchema.js';
import { RetentionDatabase } from './retentionDatabase.js';
import { type Probe, scaled } from './retentionLimits.js';
import { EVENT_SCHEMA, TIMESTAMP_INDEX } from './shardSchema.js';
import type { StoreSchema } from './storeFile.js';

/** Rows looked at in one database to find a cutoff by size. */
const PROBES = 1024;

/** One database under retention. */
export interface RetentionTable {
  readonly database: RetentionDatabase;
  /** True when rows up to the cutoff, itself included, may be deleted; reads only. */
  hasUpTo(cutoff: bigint): boolean;
  /** Deletes the oldest rows up to the cutoff, at most so many; returns their number. Inside a transaction. */
  deleteUpTo(cutoff: bigint, maxRows: number): number;
  /** Rows from all over the table, each with its share of the bytes in use. */
  probes(): Probe[];
}

/** What a table's rows are found and weighed by. */
interface ProbedTable {
  readonly table: string;
  /** Column that numbers the rows as they came. */
  readonly row: string;
  /** SQL: bytes of a row, indexes and overhead included, as far as known. */
  readonly bytes: string;
}

/** Probes at even distances between the first and the last row; all rows of a small table. */
export function probesOf(database: RetentionDatabase, { table, row, bytes }: ProbedTable): Probe[] {
  const { db } = database;
  const edge = (which: 'min' | 'max') => db.prepare(`SELECT ${which}(${row}) FROM ${table}`).pluck().get();
  const first = edge('min') as bigint | null;
  const last = edge('max') as bigint | null;
  if (first === null || last === null) return [];
  const select = `SELECT timestamp, ${bytes} AS bytes FROM ${table}`;
  const probes: Probe[] = [];
  const take = (found: { timestamp: bigint; bytes: bigint } | undefined) => {
    if (found !== undefined) probes.push({ timestamp: found.timestamp, bytes: Number(found.bytes) });
  };
  const distance = (last - first) / BigInt(PROBES);
  if (distance === 0n) for (const found of db.prepare(select).iterate()) take(found as never);
  else {
    const at = db.prepare(`${select} WHERE ${row} >= ? ORDER BY ${row} LIMIT 1`);
    // The middle of each stretch stands for it.
    for (let n = 0; n < PROBES; n++) take(at.get(first + distance * BigInt(n) + distance / 2n) as never);
  }
  return scaled(probes, Number(database.usedBytes()));
}

/** A table with an index on `timestamp`, whose rows go in the order of that index. */
class TimestampTable implements RetentionTable {
  readonly #probed: ProbedTable;
  readonly #has;
  readonly #delete;

  /** @param condition SQL: which rows up to the cutoff may go */
  constructor(
    readonly database: RetentionDatabase,
    probed: ProbedTable,
    index: string,
    condition: string,
    readonly parameters: readonly Uint8Array[] = [],
  ) {
    this.#probed = probed;
    const oldest = `SELECT id FROM ${probed.table} INDEXED BY ${index}
      WHERE timestamp <= ? AND (${condition}) ORDER BY timestamp`;
    this.#has = database.db.prepare(`${oldest} LIMIT 1`).pluck();
    this.#delete = database.db.prepare(`DELETE FROM ${probed.table} WHERE id IN (${oldest} LIMIT ?)`);
  }

  hasUpTo(cutoff: bigint): boolean {
    return this.#has.get(cutoff, ...this.parameters) !== undefined;
  }

  deleteUpTo(cutoff: bigint, maxRows: number): number {
    return this.#delete.run(cutoff, ...this.parameters, maxRows).changes;
  }

  probes(): Probe[] {
    return probesOf(this.database, this.#probed);
  }
}

/** The log store. @throws StoreError */
export function openLogTable(file: string): RetentionTable {
  return opened(file, LOG_SCHEMA, (database) => {
    const bytes = '60 + length(CAST(origin AS BLOB)) * 2 + length(CAST(message AS BLOB))';
    return new TimestampTable(database, { table: 'logs', row: 'id', bytes }, 'idx_logs_timestamp', 'TRUE');
  });
}

/** What a restart of eventd in the running boot must not miss; see docs/exactly-once.md. */
export interface SettledSequences {
  /** 16 bytes: the running boot. */
  readonly bootId: Uint8Array;
  /** By CPU: everything up to here is stored or gap-recorded, and a restart knows it without the rows. */
  readonly sequences: ReadonlyMap<number, bigint>;
}

/**
 * Rows of the running boot above the settled sequences are what a restart reads to tell what is stored:
 * without them it would store those events again, or record them as lost.
 */
const IS_SETTLED = `boot_id <> ? OR CASE
  WHEN sequence IS NOT NULL THEN sequence <= (SELECT upto FROM temp.settled WHERE cpu = cpu_id)
  WHEN origin_class IS NULL AND event_type = 'synthetic.gap' THEN msgpack_extract(payload, '$.last_missing')
    <= (SELECT upto FROM temp.settled WHERE cpu = msgpack_extract(payload, '$.cpu_id'))
  ELSE TRUE END`;

/** An event shard. @throws StoreError */
export function openEventTable(file: string, { bootId, sequences }: SettledSequences): RetentionTable {
  return opened(file, EVENT_SCHEMA, (database) => {
    const { db } = database;
    db.exec('CREATE TEMP TABLE settled (cpu INTEGER PRIMARY KEY, upto INTEGER NOT NULL)');
    const insert = db.prepare('INSERT INTO temp.settled VALUES (?, ?)');
    for (const [cpu, upto] of sequences) insert.run(BigInt(cpu), upto);
    const bytes = '110 + length(CAST(event_type AS BLOB)) + coalesce(length(payload), 0)';
    const probed = { table: 'events', row: 'id', bytes };
    return new TimestampTable(database, probed, TIMESTAMP_INDEX, IS_SETTLED, [bootId]);
  });
}

/** Opens the database and prepares what is done in it; nothing stays open when that fails. */
export function opened<T>(file: string, schema: StoreSchema, prepare: (database: RetentionDatabase) => T): T {
  const database = new RetentionDatabase(file, schema);
  try {
    return prepare(database);
  } catch (error) {
    database.close();
    throw error;
  }
}
