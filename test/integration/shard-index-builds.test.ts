/** A shard writer's thread and its indexes: builds give way to events, to retention and to pressure. */
import assert from 'node:assert/strict';
import { type TestContext, test } from 'node:test';
import { MessageChannel } from 'node:worker_threads';
import Database from 'better-sqlite3';
import { BuildWatch } from '../../actors/cpuReader/buildWatch.js';
import type { FromWriter, ReaderToWriter, ToWriter } from '../../actors/messages.js';
import type { ShardWriterThreadData } from '../../actors/shardWriter/worker.js';
import { startThread } from '../../actors/thread.js';
import { BuildSignal } from '../../src/indexes/buildSignal.js';
import type { IndexedField } from '../../src/indexes/fields.js';
import { native } from '../../src/native/addon.js';
import type { LeaseId } from '../../src/stores/lease.js';
import { seedEvents } from '../fixtures/indexedShards.js';
import { BOOT, ShardWorld } from '../model/shardWorld.js';
import { memoryDirectory, until } from '../model/walk.js';

const USER: readonly IndexedField[] = [{ field: 'user', isExpression: true }];
const THREE: readonly IndexedField[] = [
  { field: 'event_type', isExpression: false },
  ...USER,
  { field: 'source.name', isExpression: true },
];
/** An index on so many takes a few hundred milliseconds. */
const MANY = 150_000;
const LEASE = 7 as LeaseId;
const SHEDDING = { windowSeconds: 30, batchPercent: 75 };

const root = memoryDirectory();

/** One writer's thread on a shard with many events. */
class Bench {
  readonly world = new ShardWorld(root);
  readonly signal: BuildSignal;
  readonly reports: FromWriter[] = [];
  readonly watch: BuildWatch;
  readonly #ports = new MessageChannel();
  readonly #thread;

  constructor(t: TestContext, events: number, desired: readonly IndexedField[], latencyMs: number) {
    seedEvents(this.world.file, events, BOOT);
    const building = BuildSignal.allocate();
    this.signal = new BuildSignal(building);
    this.watch = new BuildWatch(this.world.channel, this.signal);
    const data: ShardWriterThreadData = {
      shard: 0,
      file: this.world.file,
      bootId: BOOT,
      channel: this.world.channel,
      unordered: [],
      limits: { maxBatchSize: 1000, maxBatchLatencyMs: latencyMs },
      readers: this.#ports.port2,
      indexes: { signal: building, desired, shedding: SHEDDING },
    };
    const entry = new URL('../../actors/shardWriter/worker.js', import.meta.url);
    this.#thread = startThread<FromWriter, ToWriter>('writer-0', entry, { ...data }, [this.#ports.port2]);
    this.#thread.messages$.subscribe((report) => this.reports.push(report));
    t.after(async () => {
      this.watch.close();
      this.signal.press();
      this.send({ type: 'stop' });
      this.send({ type: 'close' });
      await this.#thread.ended;
      this.world.close();
    });
  }

  send(message: ToWriter): void {
    this.#thread.send(message);
  }

  tell(message: ReaderToWriter): void {
    this.#ports.port1.postMessage(message);
  }

  /** Events are in the channel, unless a build that just ended has had them taken, and the reader says so. */
  async event(count = 1): Promise<void> {
    const commits = this.count('committed');
    this.world.emitMany(count);
    const { waitingRows, channel } = this.world;
    await until(
      'events in the channel',
      () => native.channelStatus(channel).rows >= waitingRows || this.count('committed') > commits,
    );
    this.tell({ type: 'batch.available', halfFull: false });
    this.watch.arrived();
  }

  count(type: FromWriter['type'], kind?: string): number {
    return this.reports.filter(
      (report) =>
        report.type === type &&
        (kind === undefined || (report.type === 'indexes' && report.change.kind === kind)),
    ).length;
  }

  get indexes(): unknown[] {
    const db = new Database(this.world.file, { readonly: true });
    try {
      return db
        .prepare("SELECT name FROM sqlite_master WHERE type = 'index' AND tbl_name = 'events' ORDER BY name")
        .pluck()
        .all();
    } finally {
      db.close();
    }
  }
}

test('[IDX-12][IDX-13][IDX-14][IDX-15][FAIL-32] an event that comes during a build waits no longer than its patience and SQLite’s answer, and the build is made up for later', async (t) => {
  const bench = new Bench(t, MANY, USER, 10);
  await until('a build', () => bench.signal.building);
  const before = performance.now();
  await bench.event();
  await until('its commit', () => bench.count('committed') > 0);
  const ms = performance.now() - before;
  t.diagnostic(`committed ${ms.toFixed(0)} ms after the first event`);
  assert.equal(bench.count('indexes', 'yielded'), 1, 'the build had not ended by itself');
  assert.deepEqual(bench.indexes, ['idx_events_timestamp'], 'SQLite takes the partial index back');
  assert.ok(ms < 1000, `${ms} ms`);
  await until('the index', () => bench.count('indexes', 'built') === 1, 30_000);
  assert.deepEqual(bench.indexes, ['idx_events_payload_user', 'idx_events_timestamp']);
});

test('[IDX-12][IDX-15] pressure, in the channel or the ring, ends a build at once, whatever its patience', async (t) => {
  const bench = new Bench(t, MANY, [], 60_000);
  const built = () => bench.count('indexes', 'built');
  const yielded = () => bench.count('indexes', 'yielded');
  let fields = 0;
  /** On a machine that stood still a build may have ended before the pressure came: then the next one counts. */
  async function yieldsTo(press: () => Promise<void> | void): Promise<void> {
    const before = yielded();
    while (yielded() === before) {
      if (built() === fields) {
        assert.ok(fields < THREE.length, 'no build gave way');
        bench.send({ type: 'indexes', desired: THREE.slice(0, ++fields), shedding: SHEDDING });
      }
      const ended = built() + before;
      await until('a build', () => bench.signal.building || built() + yielded() > ended, 15_000);
      await press();
      await until('its end', () => built() + yielded() > ended, 3000);
    }
    assert.equal(yielded(), before + 1);
  }

  await yieldsTo(async () => {
    // A handful may wait: a machine that never rests would never have an index.
    await bench.event();
    // A quarter of the channel's 20,000 rows may not.
    await bench.event(5000);
  });
  await until('the commits', () => bench.count('committed') > 0, 3000);
  await yieldsTo(() => bench.watch.pressed());
});

test('[STO-31][RET-8][IDX-13] while retention has its lease, its connection is the only one that writes: no build begins', async (t) => {
  const bench = new Bench(t, 2000, [], 10);
  await until('the writer', () => bench.count('ready') > 0);
  bench.send({ type: 'lease', id: LEASE });
  await until('the lease', () => bench.count('leased') > 0);
  bench.send({ type: 'indexes', desired: USER, shedding: SHEDDING });
  const retention = new Database(bench.world.file, { timeout: 0 });
  retention.exec('BEGIN IMMEDIATE');
  // Longer than a quiet moment, shorter than the lease may last.
  const end = performance.now() + 350;
  await until('a quiet moment to pass', () => performance.now() > end);
  assert.equal(bench.signal.building, false);
  assert.equal(bench.count('indexes'), 0, 'nobody waited for a lock');
  retention.exec('COMMIT');
  retention.close();
  bench.send({ type: 'leaseReturn', id: LEASE, series: new BigInt64Array() });
  await until('the build', () => bench.count('indexes', 'built') === 1);
});

test('[IDX-20][IDX-23][IDX-24][IDX-25] a ring about to lap takes all secondary indexes at once and keeps them away; the one on timestamp stays', async (t) => {
  const bench = new Bench(t, 5000, THREE, 10);
  await until('three indexes', () => bench.count('indexes', 'built') === 3, 20_000);
  bench.tell({ type: 'pressure', cpu: 0, level: 'emergency', fill: 0.8 });
  await until('them to go', () => bench.count('indexes', 'shed') === 3);
  assert.deepEqual(bench.indexes, ['idx_events_timestamp']);
  const end = performance.now() + 600;
  await until('a quiet moment to pass', () => performance.now() > end);
  assert.equal(bench.signal.building, false);
  assert.deepEqual(bench.indexes, ['idx_events_timestamp'], '[IDX-27] none comes back within the window');
});

test('[IDX-21][IDX-22] a window of oversized batches takes one index, the least important first', async (t) => {
  const bench = new Bench(t, 2000, THREE, 2);
  await until('three indexes', () => bench.count('indexes', 'built') === 3, 20_000);
  bench.send({ type: 'indexes', desired: THREE, shedding: { windowSeconds: 1, batchPercent: 75 } });
  const deadline = performance.now() + 8000;
  while (bench.count('indexes', 'shed') < 2) {
    assert.ok(performance.now() < deadline, 'no index was shed');
    const commits = bench.count('committed');
    await bench.event(900);
    await until('a commit', () => bench.count('committed') > commits);
    bench.world.committed();
  }
  const shed = bench.reports.flatMap((report) =>
    report.type === 'indexes' && report.change.kind === 'shed' ? [report.change.index] : [],
  );
  assert.deepEqual(shed, ['idx_events_payload_source_name', 'idx_events_payload_user']);
  // The pressure is over: they come back after a window, the more important first (IDX-26).
  await until('them to be back', () => bench.count('indexes', 'built') === 5, 20_000);
  const built = bench.reports.flatMap((report) =>
    report.type === 'indexes' && report.change.kind === 'built' ? [report.change.index] : [],
  );
  assert.deepEqual(built.slice(3), ['idx_events_payload_user', 'idx_events_payload_source_name'], '[IDX-26]');
});
