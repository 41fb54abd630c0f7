/**
 * Queries over very many events, through socket, session and workers: the whole store streamed out, with
 * what memory that takes, and aggregations beside SQLite's own GROUP BY over the same shards in the same
 * run. Exits 1 when a count is wrong or streaming takes more memory than it may.
 *
 *   node dist/bench/query.js [--events N] [--shards N] [--rounds N]
 */
import assert from 'node:assert/strict';
import { mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import Database from 'better-sqlite3';
import { QueryService } from '../actors/query/service.js';
import { addonPath } from '../src/native/addon.js';
import { writeManyEvents } from '../test/fixtures/manyEvents.js';
import { LIMITS } from '../test/fixtures/queryService.js';
import { drain } from '../test/fixtures/resultDrain.js';
import { table } from './table.js';

const { values: options } = parseArgs({
  options: {
    events: { type: 'string', default: '10000000' },
    shards: { type: 'string', default: '2' },
    rounds: { type: 'string', default: '3' },
  },
});

const EVENTS = Number(options.events);
const SHARDS = Number(options.shards);
const ROUNDS = Number(options.rounds);
const NAMES = 10_000;

/** What streaming all of it may add to the process: connections' page caches, frames, and V8's slack. */
const MAX_GROWTH_MIB = 128;

const AGGREGATIONS = [
  {
    query: 'COUNT BY event_type',
    sql: 'SELECT event_type, count(*) FROM events WHERE timestamp <= ? GROUP BY event_type COLLATE BINARY',
    groups: 10,
  },
  {
    query: 'COUNT BY name',
    sql: "SELECT msgpack_extract(payload, '$.name') AS k, count(*) FROM events WHERE timestamp <= ? GROUP BY k",
    groups: NAMES,
  },
  {
    query: 'GROUP name MAX sequence',
    sql: "SELECT msgpack_extract(payload, '$.name') AS k, max(sequence) FROM events WHERE timestamp <= ? GROUP BY k",
    groups: NAMES,
  },
] as const;

const directory = mkdtempSync(join(tmpdir(), 'eventd-bench-query-'));
try {
  await run();
} finally {
  rmSync(directory, { recursive: true, force: true });
}

async function run(): Promise<void> {
  const store = join(directory, 'events');
  const socketPath = join(directory, 'query.sock');
  mkdirSync(store);
  const each = Math.floor(EVENTS / SHARDS);
  const files = Array.from({ length: SHARDS }, (_, shard) => `shard-000${shard}.db`);
  for (const [shard, file] of files.entries()) {
    writeManyEvents(store, file, { count: each, first: shard * each, names: NAMES, fillBytes: 64 });
  }
  const quiet = { info: () => {}, warn: console.error, error: console.error };
  const service = await QueryService.start({
    socketPath,
    eventStorePath: store,
    logStorePath: join(directory, 'logs.db'),
    metricStorePath: join(directory, 'metrics.db'),
    limits: { ...LIMITS, queryTimeoutMs: 3_600_000 },
    logger: quiet,
  });
  service.accept();
  try {
    assert.equal((await drain(socketPath, 'EVENTS TAKE 1')).records, 1);
    await stream(socketPath, each * SHARDS);
    await compare(socketPath, store, files);
  } finally {
    await service.stop();
  }
}

async function stream(socketPath: string, expected: number): Promise<void> {
  const { records, bytes, ms, grownBytes } = await drain(socketPath, 'EVENTS');
  assert.equal(records, expected);
  const grown = grownBytes / 2 ** 20;
  console.log(
    `${records} events streamed: ${Math.round(records / ms)}k/s, ${Math.round(bytes / ms / 1000)} MB/s, ` +
      `memory grew by ${grown.toFixed(0)} MiB (at most ${MAX_GROWTH_MIB})\n`,
  );
  if (grown > MAX_GROWTH_MIB) process.exitCode = 1;
}

/** The best of some rounds, turn about. */
async function compare(socketPath: string, store: string, files: readonly string[]): Promise<void> {
  const rows: (string | number)[][] = [];
  for (const { query, sql, groups } of AGGREGATIONS) {
    let ours = Number.POSITIVE_INFINITY;
    let peers = Number.POSITIVE_INFINITY;
    for (let round = 0; round < ROUNDS; round++) {
      const answer = await drain(socketPath, `EVENTS ${query}`);
      assert.equal(answer.records, groups, query);
      ours = Math.min(ours, answer.ms);
      peers = Math.min(peers, groupBySqlite(store, files, sql));
    }
    rows.push([query, Math.round(ours), Math.round(peers), (peers / ours).toFixed(2)]);
  }
  console.log(table(['aggregation', 'eventd ms', 'GROUP BY ms', 'ratio'], rows));
}

/** SQLite grouping one shard after the other, without merging: what the query costs at least that way. */
function groupBySqlite(store: string, files: readonly string[], sql: string): number {
  const started = performance.now();
  for (const file of files) {
    const db = new Database(join(store, file), { readonly: true });
    db.loadExtension(addonPath);
    db.prepare(sql).all(2n ** 62n);
    db.close();
  }
  return performance.now() - started;
}
