/** The log path over a real socket: from the datagram to the row, with its own thread. */
import assert from 'node:assert/strict';
import {
  closeSync,
  existsSync,
  openSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import { dirname } from 'node:path';
import { test } from 'node:test';
import { decode } from '@msgpack/msgpack';
import Database from 'better-sqlite3';
import { RecordPipeline } from '../../actors/daemon/recordPipeline.js';
import { native } from '../../src/native/addon.js';
import { LOG_PAGE_SIZE, LOG_SCHEMA } from '../../src/stores/logSchema.js';
import { openStore } from '../../src/stores/storeFile.js';
import { CHECKPOINT_BYTES } from '../../src/stores/walCheckpoint.js';
import { BOOT, eventually, LIMITS, PipelineFixture } from '../fixtures/recordPipelines.js';

interface LogRow {
  readonly id: bigint;
  readonly boot_id: Buffer;
  readonly timestamp: bigint;
  readonly origin: string;
  readonly is_error: bigint;
  readonly message: string;
}

const ALL = 'SELECT * FROM logs ORDER BY id';

const line = (message: string, more: Record<string, unknown> = {}) => ({
  origin: 'svc',
  is_error: false,
  message,
  ...more,
});

const messages = (rows: readonly LogRow[]): string[] => rows.map(({ message }) => message);

test('[LOG-5, LOG-7, LOG-8, LOG-13, LOG-14, LOG-24, LOG-30, LOG-33] single records and batches are stored in order, unchanged, under the boot', async (t) => {
  const path = new PipelineFixture(t, 'log');
  await path.start();
  assert.equal(statSync(path.socketPath).mode & 0o777, 0o666);
  const last = 2n ** 63n - 1n;
  await path.send(line('one', { timestamp: 5 }));
  await path.send([
    line('zwei\nLinien ✓', { is_error: true, timestamp: last }),
    line('', { origin: '', timestamp: 0 }),
    line('older', { timestamp: 1, level: 'ignored' }),
  ]);
  const rows = await path.rowsWhen<LogRow>(4, ALL);
  assert.deepEqual(
    rows.map(({ timestamp, origin, is_error, message }) => [timestamp, origin, is_error, message]),
    [
      [5n, 'svc', 0n, 'one'],
      [last, 'svc', 1n, 'zwei\nLinien ✓'],
      [0n, '', 0n, ''],
      [1n, 'svc', 0n, 'older'],
    ],
  );
  assert.ok(rows.every(({ boot_id }) => boot_id.equals(BOOT)));
  assert.deepEqual(
    rows.map(({ id }) => id),
    [1n, 2n, 3n, 4n],
  );
});

test('[LOG-14, LOG-30] without a timestamp the time of receipt counts, one for all records of a datagram', async (t) => {
  const path = new PipelineFixture(t, 'log');
  await path.start();
  const before = native.realtimeNs();
  await path.send([line('a'), line('b')]);
  const rows = await path.rowsWhen<LogRow>(2, ALL);
  const after = native.realtimeNs();
  assert.equal(rows[0]?.timestamp, rows[1]?.timestamp);
  assert.ok(rows.every(({ timestamp }) => before <= timestamp && timestamp <= after));
});

test('[LOG-17, LOG-18, LOG-19, LOG-20, LOG-21, LOG-22, LOG-23] malformed input goes in silence, and takes nothing else along', async (t) => {
  const path = new PipelineFixture(t, 'log');
  const pipeline = await path.start();
  const malformed = [[], [0xc1], [0xdd, 1, 0xff, 0xff, 0xff], [0x81, 0xa1], [0xc0], [0x80, 0x80]];
  for (const bytes of malformed) await path.sendRaw(Uint8Array.from(bytes));
  for (const record of [
    'text',
    7,
    [],
    {},
    line('int', { is_error: 0 }),
    { origin: 'svc', message: 'no flag' },
    line('nil', { timestamp: null }),
    line('negative', { timestamp: -1 }),
    line('float', { timestamp: 1.5 }),
    line('bin', { message: new Uint8Array(1) }),
  ])
    await path.send(record);
  await path.send([line('kept 1'), 3, line('bad', { origin: 7 }), null, line('kept 2')]);
  assert.deepEqual(messages(await path.rowsWhen<LogRow>(2, ALL)), ['kept 1', 'kept 2']);
  await path.reported('commit');
  assert.deepEqual(
    path.reports.map(({ type }) => type),
    ['commit'],
  );
  const { receiver } = await pipeline.survey(2000);
  assert.deepEqual([receiver?.datagrams, receiver?.dropped, receiver?.truncated], [17n, 0n, 0n]);
});

test('[LOG-28, LOG-26] one datagram may span several transactions, none above LogMaxBatchSize', async (t) => {
  const path = new PipelineFixture(t, 'log');
  const pipeline = await path.start({ maxBatchSize: 100 });
  const all = Array.from({ length: 1050 }, (_, n) => `line ${n}`);
  await path.send(all.map((message) => line(message)));
  assert.deepEqual(messages(await path.rowsWhen<LogRow>(1050, ALL)), all);
  await path.reported('commit', 11);
  const sizes = path.reportsOf('commit').map(({ records }) => records);
  assert.deepEqual(sizes, [...Array.from({ length: 10 }, () => 100), 50]);
  pipeline.setLimits({ ...LIMITS, maxBatchSize: 1000 });
  // The answer comes after what was sent before the question has been dealt with.
  assert.equal(await pipeline.answers(10_000), true);
  await path.send(all.map((message) => line(message)));
  await path.reported('commit', 13);
  assert.deepEqual(
    path
      .reportsOf('commit')
      .slice(11)
      .map(({ records }) => records),
    [1000, 50],
  );
});

test('[LOG-26, LOG-27] a lonely record is stored well within LogMaxBatchLatencyMs', async (t) => {
  const path = new PipelineFixture(t, 'log');
  await path.start({ maxBatchLatencyMs: 5000 });
  const sent = performance.now();
  await path.send(line('lonely'));
  await path.rowsWhen(1, ALL);
  assert.ok(performance.now() - sent < 5000);
});

test('[LOG-45, LOG-42] a WAL of more than 16 MiB is checkpointed, beside a reader, and used again', async (t) => {
  const path = new PipelineFixture(t, 'log');
  await path.start();
  const wal = `${path.file}-wal`;
  const reader = new Database(path.file, { readonly: true });
  t.after(() => reader.close());
  const text = 'x'.repeat(2000);
  const size = () => statSync(path.file).size;
  const fresh = size();
  let sent = 0;
  const sendMany = async (pages: number): Promise<void> => {
    for (const target = sent + pages * 4; sent < target; ) {
      // No more than the buffer holds: what does not fit is dropped.
      for (let n = 0; n < 10; n++, sent += 80) await path.send(Array.from({ length: 80 }, () => line(text)));
      await path.stored(sent);
    }
  };
  const limit = CHECKPOINT_BYTES / LOG_PAGE_SIZE;
  await sendMany(3 * limit);
  assert.ok(size() - fresh > CHECKPOINT_BYTES, `the database has grown by ${size() - fresh} bytes only`);
  const length = statSync(wal).size;
  assert.ok(length < 3 * CHECKPOINT_BYTES, `the WAL has ${length} bytes`);
  // A reader in the middle of a query keeps the checkpoint from finishing, and the writer does not wait.
  reader.prepare('BEGIN').run();
  reader.prepare('SELECT count(*) FROM logs').get();
  await sendMany(limit);
  assert.deepEqual(path.reportsOf('failed'), []);
  reader.prepare('COMMIT').run();
});

test('[LIFE-201, LIFE-202, LIFE-204, LIFE-207, LOG-48] a stop stores what is queued at any size, refuses the rest and leaves a closed file', async (t) => {
  const path = new PipelineFixture(t, 'log');
  const pipeline = await path.start();
  await path.send(line('before'));
  await path.rowsWhen(1, ALL);
  // The writer cannot commit, the receiver goes on: all of this is queued when the stop comes.
  const lock = new Database(path.file);
  lock.exec('BEGIN IMMEDIATE');
  for (let n = 0; n < 50; n++) await path.send([line(`queued ${n}`), line('too')]);
  const finished = pipeline.finish(8000);
  assert.equal(existsSync(path.socketPath), false);
  assert.throws(() => native.sendDatagram(path.socketPath, new Uint8Array(1)), { code: 'ENOENT' });
  lock.exec('ROLLBACK');
  lock.close();
  await finished;
  await pipeline.close(5000);
  assert.equal(existsSync(`${path.file}-wal`), false, 'the WAL is checkpointed and gone');
  assert.equal(path.rows(ALL).length, 101);
  await pipeline.release();
});

test('[LOG-36, LOG-41, LOG-47, FAIL-11, FAIL-21, LOG-11] an unknown version: records are dropped, no sender stalls, the file stays as it was, one storage error', async (t) => {
  const path = new PipelineFixture(t, 'log');
  openStore(path.file, LOG_SCHEMA).close();
  path.edit('PRAGMA journal_mode = DELETE', "UPDATE metadata SET value = '7' WHERE key = 'schema_version'");
  const bytes = readFileSync(path.file);
  const pipeline = await path.start();
  const big = [line('x'.repeat(150_000))];
  for (let n = 0; n < 100; n++) await path.send(big);
  const [report] = await path.reported('discarding');
  assert.match(report?.reason ?? '', /schema version '7' is unknown/);
  assert.equal((await pipeline.survey(2000)).dump?.state, 'discarding');
  assert.equal(path.reportsOf('storageError').length, 1);
  await path.stop();
  assert.deepEqual(readFileSync(path.file), bytes);
});

test('[LOG-47, FAIL-11, FAIL-16, FAIL-18, FAIL-19] a store found corrupt at the start is set aside, with one storage error for the log store', async (t) => {
  const path = new PipelineFixture(t, 'log');
  openStore(path.file, LOG_SCHEMA).close();
  path.edit('DROP INDEX idx_logs_origin');
  await path.start();
  const [replaced] = path.reportsOf('replaced');
  assert.match(replaced?.aside ?? '', /store\.corrupt-[-0-9TZ]+\.db$/);
  assert.match(replaced?.reason ?? '', /index idx_logs_origin is missing/);
  const [error, ...others] = path.reportsOf('storageError');
  assert.equal(others.length, 0);
  assert.equal(error?.event.type, 'synthetic.storage_error');
  const details = decode(error?.event.payload ?? new Uint8Array()) as Record<string, unknown>;
  assert.equal(details.store_type, 'log');
  assert.equal(details.shard_index, null);
  assert.match(String(details.error), /idx_logs_origin/);
  await path.send(line('fresh'));
  assert.deepEqual(messages(await path.rowsWhen<LogRow>(1, ALL)), ['fresh']);
});

test('[LOG-46, LOG-47, FAIL-12, FAIL-13, FAIL-18, FAIL-19] a store that turns out corrupt while it is written is set aside as it is, and the next records go into a fresh one', async (t) => {
  const path = new PipelineFixture(t, 'log');
  await path.start();
  await path.send(line('old'));
  await path.rowsWhen(1, ALL);
  const db = new Database(path.file);
  db.pragma('wal_checkpoint(TRUNCATE)');
  const page = db
    .prepare("SELECT rootpage FROM sqlite_master WHERE name = 'idx_logs_timestamp'")
    .pluck()
    .get();
  const fd = openSync(path.file, 'r+');
  writeSync(fd, new Uint8Array(8192).fill(0xff), 0, 8192, (Number(page) - 1) * 8192);
  closeSync(fd);
  db.exec("INSERT INTO metadata VALUES ('touched', 'yes')");
  db.close();
  const bytes = readFileSync(path.file);
  await path.send(line('lost'));
  const [replaced] = await path.reported('replaced');
  assert.deepEqual(readFileSync(replaced?.aside ?? ''), bytes);
  assert.ok(existsSync(`${replaced?.aside}-wal`));
  await path.send(line('new'));
  assert.deepEqual(messages(await path.rowsWhen<LogRow>(1, ALL)), ['new']);
  assert.equal(path.reportsOf('failed')[0]?.failure.code, 'SQLITE_CORRUPT');
  assert.equal(path.reportsOf('storageError').length, 1);
  const [recovered] = await path.reported('recovered');
  assert.equal(recovered?.lost, 1);
});

for (const [what, deed] of [
  ['deleted', (file: string) => rmSync(file)],
  ['moved away', (file: string) => renameSync(file, `${file}.moved`)],
  [
    'deleted with its WAL',
    (file: string) => {
      for (const suffix of ['', '-wal', '-shm']) rmSync(`${file}${suffix}`);
    },
  ],
  [
    'replaced by another store',
    (file: string) => {
      openStore(`${file}.other`, LOG_SCHEMA).close();
      renameSync(`${file}.other`, file);
    },
  ],
] as const) {
  test(`[LOG-44, LOG-47, FAIL-19] a file that is ${what} under the writer costs nothing that comes later, and no WAL is mixed up`, async (t) => {
    const path = new PipelineFixture(t, 'log');
    await path.start();
    await path.send(line('old'));
    await path.rowsWhen(1, ALL);
    deed(path.file);
    await path.send(line('new'));
    const [replaced] = await path.reported('replaced');
    assert.equal(replaced?.aside, null);
    assert.deepEqual(messages(await path.rowsWhen<LogRow>(1, ALL)), ['new']);
    assert.equal(path.reportsOf('failed')[0]?.failure.code, 'ERR_STORE_GONE');
    assert.equal((await path.reported('recovered'))[0]?.lost, 0);
    const orphans = readdirSync(dirname(path.file)).filter((name) => name.includes('.orphan-'));
    assert.equal(orphans.length > 0, what !== 'deleted with its WAL');
  });
}

test('[FAIL-12, FAIL-13, FAIL-18] a file that was cut counts as corrupt', async (t) => {
  const path = new PipelineFixture(t, 'log');
  await path.start();
  await path.send(Array.from({ length: 100 }, () => line('x'.repeat(500))));
  await path.rowsWhen(100, ALL);
  path.edit('PRAGMA wal_checkpoint(TRUNCATE)');
  const bytes = readFileSync(path.file).subarray(0, 8192);
  writeFileSync(path.file, bytes);
  await path.send(line('new'));
  const [replaced] = await path.reported('replaced');
  assert.deepEqual(readFileSync(replaced?.aside ?? ''), bytes);
  assert.equal(path.reportsOf('failed')[0]?.failure.code, 'ERR_STORE_TRUNCATED');
  assert.deepEqual(messages(await path.rowsWhen<LogRow>(1, ALL)), ['new']);
});

test('[LOG-46, LOG-47, FAIL-10, FAIL-11, LOG-3] however many batches fail in a row, one failure and one storage error are told, and what they cost at the end', async (t) => {
  const path = new PipelineFixture(t, 'log');
  const pipeline = await path.start();
  path.edit("CREATE TRIGGER refuse BEFORE INSERT ON logs BEGIN SELECT RAISE(ABORT, 'refused'); END");
  const failures = async () => (await pipeline.survey(2000)).dump?.failures ?? 0;
  for (let n = 1; n <= 3; n++) {
    await path.send(line(`lost ${n}`));
    for (const deadline = Date.now() + 10_000; (await failures()) < n; )
      assert.ok(Date.now() < deadline, `failure ${n} did not come`);
  }
  path.edit('DROP TRIGGER refuse');
  await path.send(line('stored'));
  assert.deepEqual(messages(await path.rowsWhen<LogRow>(1, ALL)), ['stored']);
  const [recovered] = await path.reported('recovered');
  assert.equal(recovered?.lost, 3);
  assert.equal(path.reportsOf('failed').length, 1);
  assert.match(path.reportsOf('failed')[0]?.failure.message ?? '', /refused/);
  assert.equal(path.reportsOf('storageError').length, 1);
});

test('[LOG-41, FAIL-12] a table that is dropped under the writer is noticed, and the store replaced', async (t) => {
  const path = new PipelineFixture(t, 'log');
  await path.start();
  path.edit('DROP TABLE logs');
  await path.send(line('lost'));
  await path.reported('replaced');
  await path.send(line('new'));
  assert.deepEqual(messages(await path.rowsWhen<LogRow>(1, ALL)), ['new']);
});

test('[LOG-11, LOG-24, HOST-22] a writer’s thread that dies with a batch in hand is replaced while the socket stays', async (t) => {
  const path = new PipelineFixture(t, 'log');
  const pipeline = await path.start();
  await path.send(line('first'));
  await path.rowsWhen(1, ALL);
  const { ino } = statSync(path.socketPath);
  const lock = new Database(path.file);
  lock.exec('BEGIN IMMEDIATE');
  await path.send(line('in hand'));
  for (const deadline = Date.now() + 10_000; ; ) {
    const { receiver } = await pipeline.survey(0);
    if (receiver?.datagrams === 2n && receiver.waiting === 0) break;
    assert.ok(Date.now() < deadline, `${receiver?.datagrams} datagrams, ${receiver?.waiting} bytes waiting`);
  }
  const ended = path.worker.terminate();
  lock.exec('ROLLBACK');
  lock.close();
  await ended;
  await path.send(line('next'));
  const rows = await eventually(
    () => messages(path.rows<LogRow>(ALL)),
    (all) => all.includes('next'),
    'the next record',
  );
  assert.ok(rows.every((message) => ['first', 'in hand', 'next'].includes(message)));
  assert.equal(statSync(path.socketPath).ino, ino);
  assert.equal(path.reportsOf('threadFailed').length, 1);
  assert.equal(await pipeline.answers(5000), true);
  await path.worker.terminate();
  await path.send(line('again'));
  await eventually(
    () => messages(path.rows<LogRow>(ALL)),
    (all) => all.includes('again'),
    'a record after the second restart',
  );
  assert.equal(path.reportsOf('threadFailed').length, 1, 'told once per episode');
  await path.stop();
});

test('[LIFE-116, LIFE-132] a left-over socket file is taken over; one that is read, and anything else, is not', async (t) => {
  const first = new PipelineFixture(t, 'log');
  await first.start();
  const options = { store: 'log', file: first.file, bootId: BOOT, limits: LIMITS } as const;
  const second = new RecordPipeline({ ...options, socketPath: first.socketPath });
  assert.throws(() => second.bind(), /in\.sock: another process answers on this socket/);
  writeFileSync(`${first.directory}/file`, 'kept');
  const third = new RecordPipeline({ ...options, socketPath: `${first.directory}/file` });
  assert.throws(() => third.bind(), /exists and is no socket/);
  assert.equal(readFileSync(`${first.directory}/file`, 'utf8'), 'kept');
  const fourth = new RecordPipeline({ ...options, socketPath: `${first.directory}/${'x'.repeat(120)}` });
  assert.throws(() => fourth.bind(), /bytes/);
  // A process that dies leaves its file: here the path of a socket that is closed under another name.
  renameSync(first.socketPath, `${first.socketPath}.moved`);
  await first.pipeline.release();
  renameSync(`${first.socketPath}.moved`, first.socketPath);
  await first.start();
  await first.send(line('served'));
  await first.rowsWhen(1, ALL);
});

test('[LIFE-132, LIFE-105] a start that fails says why in one line and leaves nothing open', async (t) => {
  const path = new PipelineFixture(t, 'log');
  writeFileSync(`${path.directory}/data`, 'in the way');
  await assert.rejects(path.start(), /data/);
  assert.equal(existsSync(path.socketPath), false);
});
