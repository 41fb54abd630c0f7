/**
 * The stores that queries are measured over: events in shards, log records and samples, as a busy machine
 * leaves them. SQLite makes them itself, several rows a microsecond, each store in a process of its own.
 */
import { createHash } from 'node:crypto';
import { existsSync, mkdirSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { encode } from '@msgpack/msgpack';
import type Database from 'better-sqlite3';
import { LOG_SCHEMA } from '../../src/stores/logSchema.js';
import { METRIC_SCHEMA } from '../../src/stores/metricSchema.js';
import { EVENT_SCHEMA } from '../../src/stores/shardSchema.js';
import { openStore, type StoreSchema } from '../../src/stores/storeFile.js';
import { printed } from '../records/processes.js';

export interface DatasetSize {
  readonly events: number;
  readonly shards: number;
  readonly logs: number;
  readonly samples: number;
}

export interface Dataset extends DatasetSize {
  /** The event store: a directory of shards. */
  readonly store: string;
  readonly shardPaths: readonly string[];
  readonly logPath: string;
  readonly metricPath: string;
}

/** Different values of the payload field `name`. */
export const NAMES = 10_000;
export const ORIGINS = 200;
export const SERIES = 50;

/** Different payloads, but for a number in each: four to a name. */
const TEMPLATES = NAMES * 4;

/** All records lie in the time before this. */
const BEFORE_NOW_NS = 60_000_000_000n;
/** Of samples in one series. */
const INTERVAL_NS = 15_000_000_000n;
/** Between events of one shard, and between log records. */
const EVENT_NS = 20_000n;
const LOG_NS = 40_000n;

/** Event types by how often they come: as kernels have them, few make up most. */
const TYPES: readonly (readonly [type: string, weight: number])[] = [
  ['kmes.fs.open', 300],
  ['kmes.fs.close', 180],
  ['kmes.net.send', 120],
  ['kmes.net.recv', 120],
  ['kacs.access.granted', 90],
  ['kacs.access.denied', 10],
  ['kmes.process.exec', 40],
  ['kmes.process.exit', 40],
  ['kmes.process.fork', 40],
  ['service.state.changed', 20],
  ['service.health.report', 20],
  ['app.request.finished', 15],
  ...Array.from({ length: 8 }, (_, i) => [`app.module${i}.note`, 1] as const),
];

/** Number of event types in the data. */
export const EVENT_TYPES = TYPES.length;

/** Makes the stores, or takes those that an earlier run left in the directory. */
export async function makeDataset(directory: string, size: DatasetSize): Promise<Dataset> {
  const mark = join(directory, `complete-${[size.events, size.shards, size.logs, size.samples].join('-')}`);
  const store = join(directory, 'events');
  const shards = Array.from({ length: size.shards }, (_, shard) => join(store, `shard-000${shard}.db`));
  const dataset = {
    ...size,
    events: Math.floor(size.events / size.shards) * size.shards,
    samples: Math.floor(size.samples / SERIES) * SERIES,
    store,
    shardPaths: shards,
    logPath: join(directory, 'logs.db'),
    metricPath: join(directory, 'metrics.db'),
  };
  if (existsSync(mark)) return dataset;
  rmSync(store, { recursive: true, force: true });
  mkdirSync(store, { recursive: true });
  const program = fileURLToPath(new URL('./fill.js', import.meta.url));
  const fill = (kind: FillKind, path: string, rows: number, shard: number) =>
    printed(process.execPath, [program, kind, path, String(rows), String(shard)]);
  await Promise.all([
    ...shards.map((path, shard) => fill('events', path, size.events / size.shards, shard)),
    fill('logs', dataset.logPath, size.logs, 0).then(() =>
      fill('metrics', dataset.metricPath, size.samples, 0),
    ),
  ]);
  writeFileSync(mark, '');
  return dataset;
}

export type FillKind = 'events' | 'logs' | 'metrics';

/** Writes one database. @param shard which of the event shards */
export function fillStore(kind: FillKind, path: string, rows: number, shard: number): void {
  const [schema, write] = FILLERS[kind];
  for (const suffix of ['', '-wal', '-shm']) rmSync(`${path}${suffix}`, { force: true });
  const db = openStore(path, schema);
  db.pragma('synchronous = OFF');
  db.pragma('cache_size = -65536');
  const end = BigInt(Date.now()) * 1_000_000n - BEFORE_NOW_NS;
  db.transaction(() => write(db, BigInt(Math.floor(rows)), end, shard)).immediate();
  db.pragma('wal_checkpoint(TRUNCATE)');
  db.close();
}

type Fill = (db: Database.Database, rows: bigint, end: bigint, shard: number) => void;

const FILLERS: Readonly<Record<FillKind, readonly [StoreSchema, Fill]>> = {
  events: [EVENT_SCHEMA, fillEvents],
  logs: [LOG_SCHEMA, fillLogs],
  metrics: [METRIC_SCHEMA, fillMetrics],
};

const NUMBERS = 'WITH RECURSIVE n(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i + 1 < :rows)';

function fillEvents(db: Database.Database, rows: bigint, end: bigint, shard: number): void {
  db.exec(`CREATE TEMP TABLE template
    (id INTEGER PRIMARY KEY, type TEXT, class INTEGER, effective BLOB, true BLOB, process BLOB, payload BLOB)`);
  const insert = db.prepare('INSERT INTO template VALUES (?, ?, ?, ?, ?, ?, ?)');
  for (let id = 0; id < TEMPLATES; id++) insert.run(template(id));
  db.prepare(
    `${NUMBERS} INSERT INTO events (boot_id, timestamp, cpu_id, sequence, origin_class, event_type,
       effective_token_guid, true_token_guid, process_guid, payload)
     SELECT :boot, :first + i * :step, :cpu + (i & 1), i / 2 + 1, class, type, effective, true, process,
       CAST(payload || unhex(printf('%08x', i)) AS BLOB)
     FROM n JOIN template ON id = i * 7919 % ${TEMPLATES}`,
  ).run({
    rows,
    boot: guidOf('boot'),
    first: end - rows * EVENT_NS + BigInt(shard),
    step: EVENT_NS,
    cpu: shard * 2,
  });
}

/** An event but for its times and its last four bytes, which are the value of `n`. */
function template(id: number): (string | number | Uint8Array)[] {
  const number = createHash('md5').update(String(id)).digest().readUInt32BE();
  const type = typeOf(number);
  const name = `unit-${String(id % NAMES).padStart(5, '0')}`;
  const payload = encode({
    name,
    path: `/usr/lib/${name}/${'abcdefgh'.slice(0, number % 8)}/data`,
    pid: 300 + (number % 30_000),
    result: number % 17 === 0 ? -13 : 0,
    bytes: number % 65_536,
    took_ms: (number % 9973) / 16,
    flags: { read: true, write: number % 3 === 0 },
    n: 2 ** 32 - 1,
  });
  const guids = ['effective', 'true', 'process'].map((kind) => guidOf(`${kind} ${number % 64}`));
  return [id, type, number % 3, ...guids, payload.subarray(0, payload.length - 4)];
}

function typeOf(number: number): string {
  let left = number % TYPES.reduce((sum, [, weight]) => sum + weight, 0);
  for (const [type, weight] of TYPES) {
    left -= weight;
    if (left < 0) return type;
  }
  throw new RangeError('the weights end early');
}

function guidOf(text: string): Uint8Array {
  return createHash('md5').update(text).digest();
}

function fillLogs(db: Database.Database, rows: bigint, end: bigint): void {
  db.prepare(
    `${NUMBERS} INSERT INTO logs (boot_id, timestamp, origin, is_error, message)
     SELECT :boot, :first + i * :step, 'service-' || (i * i % ${ORIGINS}), i % 50 = 0,
       printf('request %d from client %d finished after %d ms with status %d', i, i % 977, i % 251, 200 + i % 3)
     FROM n`,
  ).run({ rows, boot: guidOf('boot'), first: end - rows * LOG_NS, step: LOG_NS });
}

function fillMetrics(db: Database.Database, rows: bigint, end: bigint): void {
  const insert = db.prepare('INSERT INTO series (id, name, labels, type, label_hash) VALUES (?, ?, ?, 0, 0)');
  for (let id = 1; id <= SERIES; id++) insert.run(id, 'load', `core=${id}`);
  const ticks = rows / BigInt(SERIES);
  db.prepare(
    `${NUMBERS} INSERT INTO samples
     SELECT r.id, :first + i * :step + r.id * 1000, (i * r.id) % 5761, NULL FROM n CROSS JOIN series AS r`,
  ).run({ rows: ticks, first: end - ticks * INTERVAL_NS, step: INTERVAL_NS });
}
