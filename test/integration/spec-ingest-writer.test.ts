/** One shard's transactions on a real file: atomic, bounded, durable, checkpointed (ING parts 8 to 11). */
import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import Database from 'better-sqlite3';
import { native } from '../../src/native/addon.js';
import { readSettings } from '../../src/registry/configuration.js';
import { checkSetting } from '../../src/registry/settingCheck.js';
import { settingOf } from '../../src/registry/settings.js';
import { dwordData, szData } from '../../src/registry/value.js';
import { CommitError, ShardCommitter } from '../../src/stores/shardCommitter.js';
import { WAL_KEPT_BYTES } from '../../src/stores/storeFile.js';
import { configChangeEvent } from '../../src/stores/synthetic.js';
import { CHECKPOINT_BYTES, TRICKLE_CHECKPOINT_BYTES } from '../../src/stores/walCheckpoint.js';
import { type Drain, numbered, RingWorld, TYPE } from '../fixtures/nativeRing.js';

const BOOT = Uint8Array.from({ length: 16 }, (_, i) => i + 1);
const LIMITS = { maxBatchSize: 100, maxBatchLatencyMs: 100 };

/** A ring, a drain thread, a channel and the committer of one shard file. */
class Writer {
  readonly world = new RingWorld();
  readonly directory = mkdtempSync(join(tmpdir(), 'shard-'));
  readonly file = join(this.directory, 'shard-0000.db');
  readonly producer;
  readonly channel;
  readonly committer: ShardCommitter;
  readonly drain: Drain;

  constructor(t: TestContext, options: { capacity?: number; maxRows?: number; maxBytes?: number } = {}) {
    this.producer = this.world.create(options.capacity ?? 1 << 20);
    this.channel = this.world.channel(options.maxRows ?? 10_000, options.maxBytes ?? 1 << 24);
    this.committer = new ShardCommitter({
      file: this.file,
      bootId: BOOT,
      channel: this.channel,
      unordered: [],
    });
    this.drain = this.world.drain([this.channel]);
    t.after(() => {
      this.committer.close();
      this.world.close();
      rmSync(this.directory, { recursive: true, force: true });
    });
  }

  /** Emits and waits until all of it is in the channel. */
  async hand(count: number, padding = 0): Promise<void> {
    await this.drain.reached(this.world.emit(this.producer, count, 1, padding));
  }

  reader(t: TestContext): Database.Database {
    const db = new Database(this.file, { readonly: true });
    t.after(() => db.close());
    return db;
  }
}

const countOf = (db: Database.Database): number =>
  db.prepare('SELECT count(*) FROM events').pluck().get() as number;

const TRAPS = {
  'in the middle of its rows': 'BEFORE INSERT ON events WHEN new.sequence = 250',
  'behind its last row': "BEFORE INSERT ON metadata WHEN new.key LIKE 'last\\_seq.%' ESCAPE '\\'",
};
for (const [place, trigger] of Object.entries(TRAPS)) {
  test(`[ING-48] a batch is one transaction: failing ${place} leaves nothing of it`, async (t) => {
    const writer = new Writer(t);
    const trap = new Database(writer.file);
    t.after(() => trap.close());
    trap.exec(`CREATE TRIGGER trap ${trigger} BEGIN SELECT RAISE(ABORT, 'trap'); END`);
    await writer.hand(300);
    const reader = writer.reader(t);
    assert.throws(() => writer.committer.commit({ ...LIMITS, maxBatchSize: 1000 }), CommitError);
    assert.equal(countOf(reader), 0);
    const marks = reader.prepare("SELECT key FROM metadata WHERE key LIKE '%seq%'").pluck();
    assert.deepEqual(marks.all(), [], 'nor does a watermark claim any of it');
    trap.exec('DROP TRIGGER trap');
    while (writer.committer.commit({ ...LIMITS, maxBatchSize: 1000 }).more);
    assert.equal(countOf(reader), 1, 'the gap record of the lost batch');
    assert.deepEqual(marks.all(), ['last_seq.0']);
  });
}

test('[ING-58] between batches no transaction is open: another connection may write at once', async (t) => {
  const writer = new Writer(t);
  const other = new Database(writer.file, { timeout: 0 });
  t.after(() => other.close());
  const writes = () => other.exec('BEGIN IMMEDIATE; UPDATE metadata SET value = value; COMMIT');
  writes();
  await writer.hand(50);
  // Rows wait in the channel; the transaction begins with the commit, not before.
  writes();
  assert.equal(writer.committer.commit(LIMITS).rows, 50);
  writes();
  assert.equal(writer.committer.commit(LIMITS).rows, 0);
  writes();
});

test('[ING-55] [ING-73] synthetic rows count towards the batch and share its transactions', async (t) => {
  const writer = new Writer(t, { maxRows: 100 });
  for (let n = 0; n < 250; n++) {
    writer.committer.queue(configChangeEvent(BigInt(n + 1), { key: 'K', oldValue: n, newValue: n + 1 }));
  }
  await writer.hand(100);
  const sizes: number[] = [];
  let more = true;
  while (more) {
    const result = writer.committer.commit(LIMITS);
    sizes.push(result.rows);
    more = result.more;
  }
  assert.equal(
    sizes.reduce((sum, size) => sum + size, 0),
    350,
  );
  const reader = writer.reader(t);
  const stored = reader
    .prepare("SELECT timestamp FROM events WHERE event_type = 'synthetic.config_change' ORDER BY id")
    .pluck()
    .all();
  assert.deepEqual(
    stored,
    Array.from({ length: 250 }, (_, n) => n + 1),
    'in the order they were queued, none lost',
  );
  assert.deepEqual(sizes.slice(0, 2), [100, 100], 'full batches, none above MaxBatchSize');
});

const BIG = 32_000;

/** Commits about `bytes` bytes of payload; returns the largest WAL size seen, in bytes. */
async function load(writer: Writer, bytes: number): Promise<{ largestWal: number; slowestMs: number }> {
  let [largestWal, slowestMs] = [0, 0];
  for (let left = bytes; left > 0; left -= 60 * BIG) {
    await writer.hand(60, BIG);
    let more = true;
    while (more) {
      const started = performance.now();
      more = writer.committer.commit({ ...LIMITS, maxBatchSize: 10_000 }).more;
      slowestMs = Math.max(slowestMs, performance.now() - started);
    }
    largestWal = Math.max(largestWal, statSync(`${writer.file}-wal`).size);
  }
  return { largestWal, slowestMs };
}

test('[ING-63] [ING-64] [ING-65] [ING-66] the WAL is checkpointed by size, and a reader delays that without blocking', async (t) => {
  const writer = new Writer(t, { capacity: 1 << 22 });
  await load(writer, 4 * 60 * BIG);
  assert.ok(statSync(writer.file).size < CHECKPOINT_BYTES / 4, 'below the threshold nothing is moved');
  const free = await load(writer, CHECKPOINT_BYTES * 2);
  assert.ok(free.largestWal < CHECKPOINT_BYTES * 1.5, `the WAL grew to ${free.largestWal} bytes`);
  assert.ok(statSync(writer.file).size > CHECKPOINT_BYTES, 'the pages went into the database');

  const reader = writer.reader(t);
  reader.exec('BEGIN');
  const before = countOf(reader);
  const held = await load(writer, CHECKPOINT_BYTES * 2);
  assert.ok(held.slowestMs < 2000, `a commit waited ${held.slowestMs} ms`);
  assert.equal(countOf(reader), before, 'the snapshot stays');
  assert.ok(held.largestWal > CHECKPOINT_BYTES * 1.5, 'frames the reader may need are kept');
  reader.exec('COMMIT');
  assert.ok(countOf(reader) > before);

  const grown = statSync(`${writer.file}-wal`).size;
  const after = await load(writer, CHECKPOINT_BYTES);
  assert.ok(after.largestWal <= grown + CHECKPOINT_BYTES * 1.1, 'retried: the WAL starts anew');
  const cut = statSync(`${writer.file}-wal`).size;
  assert.ok(grown > WAL_KEPT_BYTES && cut <= WAL_KEPT_BYTES, `of ${grown} bytes ${cut} are kept`);
  const probe = new Database(writer.file);
  t.after(() => probe.close());
  const [state] = probe.pragma('wal_checkpoint(PASSIVE)') as { busy: number; log: number }[];
  assert.equal(state?.busy, 0);
  assert.ok(state.log * 8192 < CHECKPOINT_BYTES * 1.5, `${state.log} frames are left`);
});

test('[ING-63] [ING-66] events that come one by one are checkpointed by what they write, which is far more than they are', async (t) => {
  const writer = new Writer(t);
  let [largest, commits] = [0, 0];
  for (; commits < 600; commits++) {
    await writer.hand(1);
    writer.committer.commit(LIMITS);
    largest = Math.max(largest, statSync(`${writer.file}-wal`).size);
  }
  assert.ok(commits * 16_384 > TRICKLE_CHECKPOINT_BYTES * 2, 'each of them wrote two pages at least');
  assert.ok(largest > TRICKLE_CHECKPOINT_BYTES * 0.9, `the WAL grew to no more than ${largest} bytes`);
  assert.ok(largest < TRICKLE_CHECKPOINT_BYTES * 1.2, `the WAL grew to ${largest} bytes`);
});

test('[ING-61] MaxBatchSize and MaxBatchLatencyMs: type, default and range', () => {
  const paths = ['EventStorePath', 'LogStorePath', 'MetricStorePath'].map((name) => ({
    name,
    ...szData(`/var/lib/${name}`),
  }));
  const sockets = ['QuerySocketPath', 'LogSocketPath', 'MetricSocketPath'].map((name) => ({
    name,
    ...szData(`/run/${name}`),
  }));
  const { settings } = readSettings([...paths, ...sockets]);
  assert.equal(settings?.MaxBatchSize, 10_000);
  assert.equal(settings.MaxBatchLatencyMs, 100);
  for (const [name, min, max] of [
    ['MaxBatchSize', 100, 100_000],
    ['MaxBatchLatencyMs', 10, 5000],
  ] as const) {
    const setting = settingOf(name);
    const valid = (value: number) => checkSetting(setting, dwordData(value)).valid;
    assert.deepEqual([valid(min - 1), valid(min), valid(max), valid(max + 1)], [false, true, true, false]);
    assert.equal(checkSetting(setting, szData(String(min))).valid, false);
  }
});

test('[ING-2] what a writer has not committed is bounded by MaxBatchSize, the rest stays in the ring', async (t) => {
  const writer = new Writer(t, { maxRows: 100 });
  writer.world.emit(writer.producer, 5000);
  await writer.drain.reached(100n);
  const size = BigInt(77 + TYPE.length + numbered(1).length);
  const { readPos } = native.drainStatus(writer.drain.handle);
  assert.equal(readPos, 100n * size);
  assert.equal(native.channelStatus(writer.channel).rows, 100);
  let stored = 0;
  while (stored < 5000) {
    const { rows } = writer.committer.commit(LIMITS);
    assert.ok(rows <= 100);
    stored += rows;
    if (rows === 0) await new Promise((resolve) => setImmediate(resolve));
  }
  assert.equal(countOf(writer.reader(t)), 5000);
});
