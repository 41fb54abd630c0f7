import assert from 'node:assert/strict';
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, test } from 'node:test';
import Database from 'better-sqlite3';
import { inspectEventStore, openEventStore } from '../../src/stores/eventStore.js';
import { openShardWriter, verifyShard } from '../../src/stores/shard.js';
import { StoreError } from '../../src/stores/storeError.js';
import { edit } from '../fixtures/database.js';

let directory: string;
beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'shard-store-'));
});
afterEach(() => rmSync(directory, { recursive: true, force: true }));

const isStoreError = (kind: StoreError['kind'], pattern: RegExp) => (error: unknown) =>
  error instanceof StoreError && error.kind === kind && pattern.test(error.message);

test('[STO-1, STO-11, STO-12, STO-13, STO-24] a new shard has exactly the schema of the specification', () => {
  const file = join(directory, 'shard-0000.db');
  openShardWriter(file).close();
  const db = new Database(file, { readonly: true });
  const columns = db
    .prepare("SELECT name, type, [notnull] AS required, pk FROM pragma_table_info('events')")
    .all();
  assert.deepEqual(columns, [
    { name: 'id', type: 'INTEGER', required: 0, pk: 1 },
    { name: 'boot_id', type: 'BLOB', required: 1, pk: 0 },
    { name: 'timestamp', type: 'INTEGER', required: 1, pk: 0 },
    { name: 'cpu_id', type: 'INTEGER', required: 0, pk: 0 },
    { name: 'sequence', type: 'INTEGER', required: 0, pk: 0 },
    { name: 'origin_class', type: 'INTEGER', required: 0, pk: 0 },
    { name: 'event_type', type: 'TEXT', required: 1, pk: 0 },
    { name: 'effective_token_guid', type: 'BLOB', required: 0, pk: 0 },
    { name: 'true_token_guid', type: 'BLOB', required: 0, pk: 0 },
    { name: 'process_guid', type: 'BLOB', required: 0, pk: 0 },
    { name: 'payload', type: 'BLOB', required: 0, pk: 0 },
  ]);
  const metadata = db
    .prepare("SELECT name, type, [notnull] AS required, pk FROM pragma_table_info('metadata')")
    .all();
  assert.deepEqual(metadata, [
    { name: 'key', type: 'TEXT', required: 0, pk: 1 },
    { name: 'value', type: 'TEXT', required: 1, pk: 0 },
  ]);
  const indexes = db
    .prepare("SELECT name, sql FROM sqlite_master WHERE type = 'index' AND sql IS NOT NULL")
    .all();
  assert.deepEqual(indexes, [
    { name: 'idx_events_timestamp', sql: 'CREATE INDEX idx_events_timestamp ON events(timestamp)' },
  ]);
  const rows = new Map(db.prepare('SELECT key, value FROM metadata').raw().all() as [string, string][]);
  assert.equal(rows.get('schema_version'), '1');
  assert.match(rows.get('created_at') ?? '', /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/);
  db.close();
});

test('[ING-49, ING-50, STO-25, STO-29] a writer connection is in WAL mode with synchronous FULL', () => {
  const file = join(directory, 'shard-0000.db');
  for (const round of ['new', 'existing']) {
    const db = openShardWriter(file);
    assert.equal(db.pragma('journal_mode', { simple: true }), 'wal', round);
    assert.equal(db.pragma('synchronous', { simple: true }), 2n, round);
    assert.equal(db.pragma('wal_autocheckpoint', { simple: true }), 0n, round);
    db.close();
  }
});

test('[STO-14, STO-25] an unknown schema version is refused and the file stays as it was', () => {
  const file = join(directory, 'shard-0000.db');
  openShardWriter(file).close();
  edit(file, "UPDATE metadata SET value = '2' WHERE key = 'schema_version'");
  assert.throws(
    () => openShardWriter(file),
    isStoreError('schema', /shard-0000\.db: schema version '2' is unknown/),
  );
  assert.throws(() => verifyShard(file), isStoreError('schema', /version '2'/));
  const db = new Database(file, { readonly: true });
  assert.equal(db.prepare("SELECT value FROM metadata WHERE key = 'schema_version'").pluck().get(), '2');
  db.close();
});

test('[STO-26, FAIL-12, FAIL-13] a missing table, index or column is corruption, names what is missing, and nothing is written', () => {
  const damages: [string, RegExp][] = [
    ['DROP TABLE metadata', /table metadata is missing/],
    ['DROP INDEX idx_events_timestamp', /index idx_events_timestamp is missing/],
    ['ALTER TABLE events RENAME TO gone', /table events is missing/],
    ['ALTER TABLE events DROP COLUMN payload', /column events\.payload is missing/],
    ["DELETE FROM metadata WHERE key = 'schema_version'", /metadata holds no schema_version/],
  ];
  for (const [index, [statement, message]] of damages.entries()) {
    const file = join(directory, `shard-000${index}.db`);
    openShardWriter(file).close();
    const writer = new Database(file);
    writer.exec(statement);
    const [bytes, wal] = [readFileSync(file), readFileSync(`${file}-wal`)];
    assert.throws(() => openShardWriter(file), isStoreError('corrupt', message), statement);
    assert.deepEqual([readFileSync(file), readFileSync(`${file}-wal`)], [bytes, wal], statement);
    writer.close();
  }
});

test('[FAIL-12] a file that is no database is corruption, and is left as it is', () => {
  const file = join(directory, 'shard-0000.db');
  writeFileSync(file, 'this is not SQLite'.repeat(1000));
  assert.throws(() => openShardWriter(file), isStoreError('corrupt', /shard-0000\.db: /));
  assert.equal(readFileSync(file, 'utf8').slice(0, 18), 'this is not SQLite');
});

test('[STO-20, STO-21, STO-22, STO-23, ING-36] the directory and the missing shards are created, others left alone', () => {
  const store = join(directory, 'deep/events');
  const first = openEventStore(store, 3);
  assert.deepEqual(
    first.shards.map(({ file }) => file.slice(store.length + 1)),
    ['shard-0000.db', 'shard-0001.db', 'shard-0002.db'],
  );
  const again = openEventStore(store, 1);
  assert.equal(again.shards.length, 1);
  assert.deepEqual(
    readdirSync(store).filter((name) => name.endsWith('.db')),
    ['shard-0000.db', 'shard-0001.db', 'shard-0002.db'],
  );
});

test('[STO-20] a store path that is a file fails with its name', () => {
  const path = join(directory, 'events');
  writeFileSync(path, '');
  assert.throws(() => openEventStore(path, 1), /events/);
});

test('[FAIL-15, FAIL-20] a bad shard is left out, the others are used', () => {
  openEventStore(directory, 2);
  edit(join(directory, 'shard-0000.db'), 'DROP INDEX idx_events_timestamp');
  const { shards, excluded } = openEventStore(directory, 2);
  assert.deepEqual(
    shards.map(({ shard }) => shard),
    [1],
  );
  assert.deepEqual(
    excluded.map(({ shard, error }) => [shard, error.kind]),
    [[0, 'corrupt']],
  );
});

test('[FAIL-18, FAIL-19] with every shard bad, fresh files above all existing ones take over', () => {
  openEventStore(directory, 2);
  edit(join(directory, 'shard-0000.db'), 'DROP TABLE metadata');
  edit(join(directory, 'shard-0001.db'), "UPDATE metadata SET value = '9' WHERE key = 'schema_version'");
  openShardWriter(join(directory, 'shard-0007.db')).close();
  const { shards, excluded } = openEventStore(directory, 2);
  assert.equal(excluded.length, 2);
  assert.deepEqual(
    shards.map(({ shard, file }) => [shard, file.slice(directory.length + 1)]),
    [
      [0, 'shard-0008.db'],
      [1, 'shard-0009.db'],
    ],
  );
});

test('[LIFE-104] a check says what a start would do and creates nothing', () => {
  openShardWriter(join(directory, 'shard-0001.db')).close();
  const found = inspectEventStore(directory, 2).map(({ state }) => state);
  assert.deepEqual(found, ['missing', 'good']);
  assert.equal(existsSync(join(directory, 'shard-0000.db')), false);
});
