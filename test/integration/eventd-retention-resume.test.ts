/**
 * Retention and exactly-once: whatever has been deleted, a restart neither stores it again nor takes it
 * for lost; and a kill at any instant of a sweep leaves sound stores.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { setTimeout as pause } from 'node:timers/promises';
import { parseGuid } from '../../src/host/guid.js';
import { native } from '../../src/native/addon.js';
import { resolveBoot } from '../../src/stores/resume.js';
import { settledSequences } from '../../src/stores/retentionSettled.js';
import { StoreSweep } from '../../src/stores/retentionSweep.js';
import { openEventTable } from '../../src/stores/retentionTables.js';
import { edit } from '../fixtures/database.js';
import { BOOT_A, type EventdRun, EventdWorld, eventually } from '../fixtures/eventd.js';
import { gapRow } from '../fixtures/eventShards.js';
import {
  ask,
  DAY_NS,
  eventsSince,
  OLD_BOOT,
  seedLogs,
  seedSamples,
  seedShard,
  shardPath,
} from '../fixtures/retentionStores.js';

const BOOT = parseGuid(BOOT_A);
const SMALLEST = 'qword:0000000000000001';

const swept = (run: EventdRun) => run.log().filter(({ msg }) => msg === 'retention').length;

for (const shards of [1, 3]) {
  test(`[BOOT-8][BOOT-9][BOOT-10][RET-5][STO-15] events of the running boot that retention has deleted are neither stored again nor recorded as lost after a kill; StorageShards=${shards}`, async (t) => {
    const world = EventdWorld.for(t, { cpus: 1, settings: { StorageShards: shards } });
    const first = await world.start();
    // Many commits: what is settled follows what is stored.
    for (let round = 0; round < 10; round++) {
      world.emitMany(0, 300);
      await world.stored(0);
    }
    const count = () => world.sequences(0).length;
    await world.set('EventRetentionMaxBytes', SMALLEST);
    await eventually('a sweep of everything that may go', () => swept(first) > 0 && count() < 2000);
    const left = new Set(world.sequences(0));
    await first.end('SIGKILL');
    const second = await world.start();
    // The ring still holds all of them.
    const last = world.emitMany(0, 20);
    await eventually(
      'the new events',
      () => world.sequences(0).filter((sequence) => sequence > 3000n).length === 20,
    );
    const now = world.sequences(0);
    assert.deepEqual(
      now.filter((sequence) => sequence <= 3000n && !left.has(sequence)),
      [],
      'a deleted event came back',
    );
    assert.equal(new Set(now).size, now.length, 'an event is stored twice');
    assert.deepEqual(world.gaps(), [], 'a deleted event counts as lost');
    assert.equal(now.at(-1), last);
    assert.deepEqual(await second.end(), { code: 0, signal: null }, second.stderr);
  });
}

test('[BOOT-9][RET-4][RET-5] rows of the running boot that a restart reads to know what is stored are kept, however old, and the resume points do not change', (t) => {
  const world = EventdWorld.for(t, { cpus: 0 });
  const now = native.realtimeNs();
  const row = (sequence: bigint, cpu = 0) => ({
    timestamp: now - 50n * DAY_NS + sequence,
    bootId: BOOT,
    cpu,
    sequence,
  });
  // Settled up to 100; of what comes behind, 102, 105 and a gap record 103..104 are stored here.
  const file = seedShard(world.events, 'shard-0000.db', [
    ...eventsSince(now, 50, 10),
    ...Array.from({ length: 100 }, (_, n) => row(BigInt(n + 1))),
    { ...gapRow(now - 50n * DAY_NS, 0, 90n, 95n), bootId: BOOT },
    row(102n),
    { ...gapRow(now - 50n * DAY_NS, 0, 103n, 104n), bootId: BOOT },
    row(105n),
    {
      timestamp: now - 50n * DAY_NS,
      type: 'synthetic.startup',
      cpu: null,
      sequence: null,
      origin: null,
      bootId: BOOT,
    },
    // A program that calls its event a gap record has a sequence, and that counts.
    { ...row(106n), type: 'synthetic.gap' },
  ]);
  edit(
    file,
    `INSERT INTO metadata VALUES ('last_boot_id', '${BOOT_A}'), ('last_seq.0', '106'), ('settled_seq.0', '100')`,
  );
  const before = resolveBoot(world.events, BOOT);
  const settled = settledSequences([file], BOOT);
  assert.deepEqual([...settled.sequences], [[0, 100n]]);
  for (const maxBytes of [0n, 1n]) {
    const sweep = new StoreSweep(
      { files: [file], open: (path) => openEventTable(path, settled) },
      { days: 30, maxBytes, nowNs: now, urgent: false, onProblem: (_, error) => assert.fail(String(error)) },
    );
    for (let step = sweep.next(); step !== null; step = sweep.next()) step.run(10);
    sweep.close();
  }
  assert.deepEqual(ask(file, 'SELECT sequence FROM events WHERE boot_id = ? ORDER BY id', BOOT), [
    102n,
    null,
    105n,
    106n,
  ]);
  assert.deepEqual(ask(file, 'SELECT 1 FROM events WHERE boot_id = ?', OLD_BOOT), []);
  const after = resolveBoot(world.events, BOOT);
  assert.deepEqual(
    [...after.cpus].map(([cpu, { sequence, covered }]) => [cpu, sequence, covered]),
    [...[...before.cpus].map(([cpu, { sequence, covered }]) => [cpu, sequence, covered])],
  );
});

test('[RET-6][RET-7][RET-8][LIFE-220][LIFE-221][LIFE-223][FAIL-22] killed at any instant of a sweep the stores are sound, and the next sweep ends the work; nothing of the running boot is lost', async (t) => {
  const world = EventdWorld.for(t, { cpus: 1, settings: { StorageShards: 2 } });
  const { logs, metrics } = world.paths;
  const now = native.realtimeNs();
  const rows = () => eventsSince(now, 40, 8000);
  const shards = ['shard-0000.db', 'shard-0005.db'].map((name) => seedShard(world.events, name, rows()));
  const times = Array.from({ length: 5000 }, (_, n) => now - 40n * DAY_NS + BigInt(n));
  seedLogs(logs, times);
  seedSamples(
    metrics,
    Object.fromEntries(Array.from({ length: 80 }, (_, n) => [`s${n}`, times.slice(0, 100)])),
  );
  const left = () => [
    ...shards.map((file) =>
      Number(ask<bigint>(file, 'SELECT count(*) FROM events WHERE boot_id = ?', OLD_BOOT)[0]),
    ),
    ask(logs, 'SELECT id FROM logs').length,
    ask(metrics, "SELECT 1 FROM series WHERE name GLOB 's[0-9]*'").length,
  ];
  const sum = () => left().reduce((total, count) => total + count, 0);
  world.writeHive({ EventRetentionDays: 35, LogRetentionDays: 35, MetricRetentionDays: 35 });
  let inside = 0;
  for (let kill = 0; kill < 3; kill++) {
    const run = await world.start();
    world.emitMany(0, 100);
    // A limit that changes starts a sweep.
    const before = sum();
    await world.set('EventRetentionDays', String(20 + kill));
    await world.set('LogRetentionDays', String(20 + kill));
    await world.set('MetricRetentionDays', String(20 + kill));
    await eventually('the sweep to begin', () => sum() < before);
    await pause(kill * 15);
    await run.end('SIGKILL');
    if (sum() > 0) inside++;
    for (const file of [...shards, logs, metrics])
      assert.deepEqual(ask(file, 'PRAGMA integrity_check'), ['ok'], file);
    assert.deepEqual(
      ask(metrics, 'SELECT count(*) FROM samples WHERE series_id NOT IN (SELECT id FROM series)'),
      [0n],
    );
  }
  assert.ok(inside > 0, 'no kill met a sweep');
  const run = await world.start();
  const last = world.emitMany(0, 10);
  await world.stored(0, last);
  await world.set('EventRetentionDays', '15');
  await world.set('LogRetentionDays', '15');
  await world.set('MetricRetentionDays', '15');
  await eventually('the rest to go', () => sum() === 0);
  assert.deepEqual(
    world.sequences(0),
    Array.from({ length: Number(last) }, (_, n) => BigInt(n + 1)),
  );
  assert.deepEqual(world.gaps(), []);
  assert.deepEqual(await run.end(), { code: 0, signal: null }, run.stderr);
});

test('[RET-8][LIFE-200][LIFE-204][LIFE-210] a stop in the midst of a sweep does not wait for its end, and every event is stored', async (t) => {
  const world = EventdWorld.for(t, { cpus: 1 });
  seedShard(world.events, 'shard-0000.db', eventsSince(native.realtimeNs(), 40, 30_000));
  const file = shardPath(world.events, 0);
  const run = await world.start();
  await world.set('EventRetentionDays', '20');
  const old = () => Number(ask<bigint>(file, 'SELECT count(*) FROM events WHERE boot_id = ?', OLD_BOOT)[0]);
  await eventually('the sweep to begin', () => old() < 30_000);
  const last = world.emitMany(0, 500);
  assert.deepEqual(await run.end(), { code: 0, signal: null }, run.stderr);
  assert.ok(old() > 0, 'the sweep had ended before');
  assert.equal(world.sequences(0).length, Number(last));
  assert.equal(world.syntheticIn(0, 'synthetic.shutdown').length, 1);
});

test('[RET-8][FAIL-33] a batch that somebody else keeps from its lock costs the writer no event', async (t) => {
  const world = EventdWorld.for(t, { cpus: 1 });
  const file = seedShard(world.events, 'shard-0000.db', eventsSince(native.realtimeNs(), 40, 3000));
  const run = await world.start();
  // Somebody else's lock keeps the batch waiting under its lease, until it gives up.
  const unlock = world.lock(0);
  await world.set('EventRetentionDays', '20');
  await pause(300);
  world.emitMany(0, 50);
  unlock();
  await world.stored(0, 50n);
  await eventually(
    'the sweep',
    () => ask(file, 'SELECT 1 FROM events WHERE boot_id = ?', OLD_BOOT).length === 0,
  );
  assert.deepEqual(await run.end(), { code: 0, signal: null }, run.stderr);
});
