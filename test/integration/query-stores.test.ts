import assert from 'node:assert/strict';
import {
  closeSync,
  openSync,
  renameSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import Database from 'better-sqlite3';
import { EventDatabases } from '../../src/stores/eventDatabases.js';
import { ReadConnectionPool } from '../../src/stores/readConnection.js';
import { encodeRequest } from '../../src/wire/messages.js';
import { writeShard } from '../fixtures/eventShards.js';
import { makeStore, startService } from '../fixtures/queryService.js';
import { ask, connectRaw, eventually, readAnswer } from '../fixtures/rawQueryClient.js';

const rows = (count: number, from = 1) =>
  Array.from({ length: count }, (_, i) => ({ timestamp: BigInt(from + i), payload: { n: from + i } }));

function sqliteFile(path: string, ...statements: string[]): void {
  const db = new Database(path);
  for (const statement of statements) db.exec(statement);
  db.close();
}

test('[QX-20] [QX-27] [STO-27] [STO-32] every .db with an events table is read, found anew for each query', async (t) => {
  const store = makeStore(t);
  writeShard(store.directory, 'shard-0000.db', rows(1));
  writeShard(store.directory, 'archive-2025.db', rows(2, 10));
  writeShard(store.directory, 'eventd-meta.db', rows(9, 90));
  writeShard(store.directory, 'shard-0000.db.bak', rows(9, 90));
  sqliteFile(join(store.directory, 'logs.db'), 'CREATE TABLE logs (id INTEGER PRIMARY KEY)');
  await startService(t, store);
  const count = async () => (await ask(store.socketPath, 'EVENTS')).records.length;
  assert.equal(await count(), 3);
  writeShard(store.directory, 'shard-0007.db', rows(4, 20));
  assert.equal(await count(), 7);
  rmSync(join(store.directory, 'archive-2025.db'));
  assert.equal(await count(), 5);
  assert.deepEqual(store.log, [], 'files of other stores are no reason to complain');
});

test('[QX-21] [STO-32] a file becomes an event database when its table is committed, be it in the WAL', (t) => {
  const store = makeStore(t);
  const skipped: string[] = [];
  const databases = new EventDatabases(store.directory, (name) => skipped.push(name));
  const path = join(store.directory, 'shard-0000.db');
  const db = new Database(path);
  t.after(() => db.close());
  db.pragma('journal_mode = WAL');
  db.pragma('wal_autocheckpoint = 0');
  assert.deepEqual(databases.scan(), []);
  writeShard(store.directory, 'model.db', []);
  const model = new Database(join(store.directory, 'model.db'));
  const sql = model.prepare("SELECT sql FROM sqlite_master WHERE name = 'events'").pluck().get() as string;
  model.close();
  db.exec(sql);
  assert.deepEqual(
    databases.scan().map((file) => file.path),
    [join(store.directory, 'model.db'), path],
  );
  assert.deepEqual(skipped, []);
});

test('[QX-21] [FAIL-15] a file that is no database, or lacks columns, is skipped and logged once', async (t) => {
  const store = makeStore(t);
  writeShard(store.directory, 'shard-0000.db', rows(3));
  writeFileSync(join(store.directory, 'shard-0001.db'), Buffer.alloc(20_000, 'garbage'));
  sqliteFile(
    join(store.directory, 'shard-0002.db'),
    'CREATE TABLE events (id INTEGER PRIMARY KEY, timestamp INTEGER)',
  );
  symlinkSync('/nowhere/at/all.db', join(store.directory, 'dangling.db'));
  await startService(t, store);
  for (let i = 0; i < 4; i++) {
    const answer = await ask(store.socketPath, 'EVENTS');
    assert.equal(answer.records.length, 3);
    assert.ok(answer.ended);
  }
  for (const name of ['shard-0001.db', 'shard-0002.db']) {
    const lines = store.log.filter(({ level, details }) => level === 'warn' && details.subject === name);
    // Each of the two workers looks for itself.
    assert.ok(lines.length >= 1 && lines.length <= 2, `${name}: ${lines.length} lines`);
  }
});

test('[FAIL-15] [STO-25] unknown schema version or missing index: still readable', async (t) => {
  const store = makeStore(t);
  const future = writeShard(store.directory, 'shard-0000.db', rows(3));
  sqliteFile(future, "UPDATE metadata SET value = '99' WHERE key = 'schema_version'");
  const bare = writeShard(store.directory, 'shard-0001.db', rows(3, 100));
  sqliteFile(bare, 'DROP INDEX idx_events_timestamp', 'DROP TABLE metadata');
  await startService(t, store);
  const { records } = await ask(store.socketPath, 'EVENTS SELECT n');
  assert.deepEqual(
    records.map(({ n }) => n),
    [102, 101, 100, 3, 2, 1],
  );
});

test('[QX-21] [WIRE-20] [WIRE-21] a damaged page ends the query with an error that names no file', async (t) => {
  const store = makeStore(t);
  writeShard(store.directory, 'shard-0001.db', rows(10));
  const path = writeShard(store.directory, 'shard-0000.db', rows(20_000));
  const fd = openSync(path, 'r+');
  const size = statSync(path).size;
  for (let page = 10; page * 8192 < size; page++)
    writeSync(fd, Buffer.alloc(8192, 0xee), 0, 8192, page * 8192);
  closeSync(fd);
  const service = await startService(t, store);
  const answer = await ask(store.socketPath, 'EVENTS');
  assert.match(
    answer.error ?? '',
    /^storage error: the event store could not be read \(SQLITE_CORRUPT[A-Z_]*\)$/,
  );
  assert.ok(store.log.some(({ level }) => level === 'warn'));
  await eventually('nothing is held', () => service.stats().running === 0);
  assert.equal((await ask(store.socketPath, 'EVENTS TAKE 0')).error, null);
});

test('[QX-21] a store directory that cannot be listed is a storage error', async (t) => {
  const store = makeStore(t);
  await startService(t, store);
  renameSync(store.directory, `${store.directory}.away`);
  const answer = await ask(store.socketPath, 'EVENTS');
  assert.equal(answer.error, 'storage error: the event store could not be read');
});

test('[QX-65] [WIRE-20] a broken worker fails its queries, is replaced, and harms nobody else', async (t) => {
  const store = makeStore(t);
  writeShard(store.directory, 'shard-0000.db', rows(3));
  const workerEntry = new URL('../fixtures/faultyQueryWorker.js', import.meta.url);
  const service = await startService(t, store, { workerEntry });
  for (let round = 0; round < 3; round++) {
    const answer = await ask(store.socketPath, 'EVENTS TAKE 666');
    // The answer may have been complete before the thread went down, never a broken one.
    if (answer.error !== null)
      assert.equal(answer.error, 'storage error: the query was lost because its worker failed');
    await eventually(
      'the failure is logged',
      () => store.log.filter(({ level }) => level === 'error').length === round + 1,
    );
    const next = await ask(store.socketPath, 'EVENTS TAKE 5');
    assert.deepEqual([next.error, next.records.length], [null, 3]);
  }
  assert.equal(store.log[0]?.details.cause, 'broken on purpose');
  assert.equal(service.stats().running, 0);
});

test('[QX-66] the connection pool is bounded, serves in line, reuses, and closes what is idle or gone', async (t) => {
  const store = makeStore(t);
  const a = { path: writeShard(store.directory, 'a.db', rows(1)), identity: 'a' };
  const b = { path: writeShard(store.directory, 'b.db', rows(1)), identity: 'b' };
  const failures: string[] = [];
  const pool = new ReadConnectionPool({
    maxOpen: 3,
    idleMs: 1000,
    onUnopenable: ({ path }) => failures.push(path),
  });
  t.after(() => pool.close());
  const forever = new AbortController().signal;

  const first = await pool.acquire([a, b], forever);
  assert.equal(first.length, 2);
  const order: string[] = [];
  const impatient = new AbortController();
  const noted = async (name: string, files: (typeof a)[]) => {
    const taken = await pool.acquire(files, forever);
    order.push(name);
    return taken;
  };
  const wide = noted('wide', [a, b]);
  const dropped = pool.acquire([a], impatient.signal);
  const narrow = noted('narrow', [a]);
  await Promise.resolve();
  assert.deepEqual(
    pool.size,
    { open: 2, busy: 2, waiting: 3 },
    'a small request does not overtake a big one',
  );
  impatient.abort(new Error('gone'));
  await assert.rejects(dropped, /gone/);
  pool.release(first);
  const [wideTaken, narrowTaken] = await Promise.all([wide, narrow]);
  assert.deepEqual(order, ['wide', 'narrow']);
  assert.deepEqual(
    wideTaken.map(({ slot }) => slot),
    first.map(({ slot }) => slot),
    'connections are reused',
  );
  assert.deepEqual(pool.size, { open: 3, busy: 3, waiting: 0 });

  pool.release([...wideTaken, ...narrowTaken]);
  const many = await pool.acquire([a, a, b, b, b], forever);
  assert.equal(many.length, 5, 'a query alone gets what it needs');
  pool.release(many);
  pool.retain([b]);
  assert.equal(pool.size.open, 3, 'those of the deleted file are closed');
  pool.retain([{ ...b, identity: 'another file' }]);
  assert.equal(pool.size.open, 0);

  pool.release(await pool.acquire([a], forever));
  pool.closeIdle(performance.now() + 500);
  assert.equal(pool.size.open, 1);
  pool.closeIdle(performance.now() + 1500);
  assert.equal(pool.size.open, 0);

  const missing = { path: join(store.directory, 'none.db'), identity: 'x' };
  const partial = await pool.acquire([missing, a], forever);
  assert.deepEqual(
    partial.map(({ file }) => file),
    [a],
  );
  assert.deepEqual(failures, [missing.path]);
  pool.close();
  pool.release(partial);
  assert.equal(pool.size.open, 0);
  await assert.rejects(pool.acquire([a], forever), /closed/);
});

test('[QX-66] many queries on one worker each get their own connections', async (t) => {
  const store = makeStore(t);
  const payload = { text: 'z'.repeat(8000) };
  for (const name of ['shard-0000.db', 'shard-0001.db']) {
    writeShard(
      store.directory,
      name,
      Array.from({ length: 400 }, (_, i) => ({ timestamp: BigInt(i + 1), payload })),
    );
  }
  await startService(t, store);
  const sockets = await Promise.all(Array.from({ length: 20 }, () => connectRaw(store.socketPath)));
  for (const socket of sockets) socket.write(encodeRequest('EVENTS'));
  const answers = await Promise.all(sockets.map((socket) => readAnswer(socket)));
  for (const answer of answers) assert.equal(answer.records.length, 800);
});
