/** Retention of the real eventd: what goes, what stays, in all three stores, while everything else goes on. */
import assert from 'node:assert/strict';
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { native } from '../../src/native/addon.js';
import { markOf } from '../../src/stores/exclusion.js';
import { DebugReader } from '../fixtures/debugReader.js';
import { EventdWorld, eventually } from '../fixtures/eventd.js';
import { EventdRecords, gauge } from '../fixtures/eventdRecords.js';
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
  usedBytes,
} from '../fixtures/retentionStores.js';

const MINUTE_NS = 60_000_000_000n;
const timestamps = (file: string) => ask<bigint>(file, 'SELECT timestamp FROM events ORDER BY id');
const logTimes = (file: string) => ask<bigint>(file, 'SELECT timestamp FROM logs ORDER BY id');
const sampleTimes = (file: string, name: string) =>
  ask<bigint>(
    file,
    'SELECT timestamp FROM samples JOIN series ON series.id = series_id WHERE name = ? ORDER BY timestamp',
    name,
  );

test('[RET-1][RET-2][RET-4][RET-6][RET-10][RET-12][LOG-50][LOG-53][MET-60][MET-62][MET-63][MET-64][ROL-35][ROL-36][CFG-38][CFG-40][CFG-42][CFG-70] what is older than the days of its store goes, of whatever kind, in every shard file that may be written, and nothing else', async (t) => {
  const world = EventdWorld.for(t);
  const { logs, metrics } = world.paths;
  mkdirSync(world.events, { recursive: true, mode: 0o700 });
  const now = native.realtimeNs();
  const old = now - 20n * DAY_NS;
  const kept = now - 9n * DAY_NS;
  const mixed = () => [
    ...eventsSince(now, 20, 2500),
    { ...gapRow(old, 0, 10n, 12n), bootId: OLD_BOOT },
    { timestamp: old, type: 'synthetic.startup', cpu: null, sequence: null, origin: null, bootId: OLD_BOOT },
    ...eventsSince(now, 9, 40),
  ];
  // Active, active, of an earlier configuration, excluded, and a file that somebody keeps here.
  for (const name of ['shard-0000.db', 'shard-0001.db', 'shard-0007.db', 'shard-0008.db', 'archive-2020.db'])
    seedShard(world.events, name, mixed());
  writeFileSync(markOf(shardPath(world.events, 8)), 'damaged\n');
  const untouched = ['shard-0008.db', 'archive-2020.db'].map((name) => join(world.events, name));
  const before = untouched.map((file) => readFileSync(file));
  const size = readFileSync(shardPath(world.events, 7)).length;
  seedLogs(logs, [old, kept, old, kept + 1n, ...Array.from({ length: 1200 }, (_, n) => old + BigInt(n))]);
  seedSamples(
    metrics,
    { gone: [old, old + 1n], both: [old, kept, kept + MINUTE_NS], fresh: [kept] },
    { gone: [old - 1n], both: [old - 1n, kept], fresh: [kept] },
  );
  const run = await world.start();
  await world.set('LogRetentionDays', '10');
  await world.set('MetricRetentionDays', '10');
  await world.set('EventRetentionDays', '10');
  for (const shard of [0, 1, 7]) {
    const file = shardPath(world.events, shard);
    await eventually(`shard ${shard} to be swept`, () =>
      timestamps(file).every((time) => time >= now - 10n * DAY_NS),
    );
    const left = ask<bigint>(file, 'SELECT timestamp FROM events WHERE boot_id = ? ORDER BY id', OLD_BOOT);
    assert.equal(left.length, 40);
    assert.equal(left[0], kept);
  }
  await eventually('the logs', () => logTimes(logs).length === 2);
  assert.deepEqual(logTimes(logs), [kept, kept + 1n]);
  await eventually('the series', () => ask(metrics, "SELECT 1 FROM series WHERE name = 'gone'").length === 0);
  assert.deepEqual(sampleTimes(metrics, 'gone'), []);
  assert.deepEqual(sampleTimes(metrics, 'both'), [kept, kept + MINUTE_NS]);
  assert.deepEqual(sampleTimes(metrics, 'fresh'), [kept]);
  assert.deepEqual(ask(metrics, 'SELECT window_start FROM rollups ORDER BY id'), [kept, kept]);
  assert.deepEqual(
    untouched.map((file) => readFileSync(file)),
    before,
    'an excluded shard and a foreign file are as they were',
  );
  assert.deepEqual(await run.end(), { code: 0, signal: null }, run.stderr);
  const historical = shardPath(world.events, 7);
  assert.equal(readFileSync(historical).length, size, 'no VACUUM: the pages are there for later rows');
  assert.ok(usedBytes(historical) < size / 4);
});

test('[RET-2][RET-5][RET-12][RET-13][CFG-39] above the limit of bytes the oldest rows go first, over all shards as one, until used pages fit', async (t) => {
  const world = EventdWorld.for(t, { cpus: 1 });
  const now = native.realtimeNs();
  // Three files whose times overlap: an equal share of each would be wrong.
  seedShard(world.events, 'shard-0000.db', eventsSince(now, 3, 3000));
  seedShard(world.events, 'shard-0003.db', eventsSince(now, 4, 3000));
  seedShard(world.events, 'shard-0004.db', eventsSince(now, 3, 500, 4000));
  const files = [0, 3, 4].map((shard) => shardPath(world.events, shard));
  const all = files.flatMap(timestamps);
  const limit = Math.floor(usedBytes(...files) * 0.6);
  const run = await world.start();
  await world.set('EventRetentionMaxBytes', `qword:${limit.toString(16).padStart(16, '0')}`);
  await eventually('the bytes to fit', () => usedBytes(...files) <= limit);
  await run.hasLogged('the sweep', ({ msg }) => msg === 'retention');
  const left = new Set(files.flatMap(timestamps));
  const gone = all.filter((time) => !left.has(time));
  const oldestLeft = [...left].reduce((a, b) => (a < b ? a : b));
  assert.ok(gone.length > 0 && gone.every((time) => time <= oldestLeft), 'something younger went');
  assert.ok(usedBytes(...files) > limit * 0.85, 'more went than had to');
  assert.deepEqual(await run.end(), { code: 0, signal: null }, run.stderr);
});

test('[LOG-51][LOG-53][MET-61][MET-62][CFG-41][CFG-43] the same for logs and samples, each by its own limit; the stricter of days and bytes wins', async (t) => {
  const world = EventdWorld.for(t, { cpus: 1 });
  const { logs, metrics } = world.paths;
  const now = native.realtimeNs();
  // Not quite in the order of their times, as senders are.
  const times = Array.from({ length: 4000 }, (_, n) => now - 5n * DAY_NS + BigInt(n ^ 31) * MINUTE_NS);
  seedLogs(logs, times, ' '.repeat(200));
  const byAge = [...times].sort((a, b) => (a < b ? -1 : 1));
  seedSamples(metrics, { early: byAge.slice(0, 400), whole: byAge, late: byAge.slice(3000) });
  const logLimit = Math.floor(usedBytes(logs) / 2);
  const metricLimit = Math.floor(usedBytes(metrics) / 2);
  const run = await world.start();
  const asHex = (bytes: number) => `qword:${bytes.toString(16).padStart(16, '0')}`;
  await world.set('LogRetentionMaxBytes', asHex(logLimit));
  await world.set('MetricRetentionMaxBytes', asHex(metricLimit));
  await eventually('the logs to fit', () => usedBytes(logs) <= logLimit);
  await eventually('the metrics to fit', () => usedBytes(metrics) <= metricLimit);
  await eventually(
    'the empty series to go',
    () => ask(metrics, "SELECT 1 FROM series WHERE name = 'early'").length === 0,
  );
  const rest = logTimes(logs).sort((a, b) => (a < b ? -1 : 1));
  assert.deepEqual(
    rest,
    byAge.slice(-rest.length),
    'the newest records are left, whatever the order they came in',
  );
  assert.ok(usedBytes(logs) > logLimit * 0.8, `${rest.length} records are left`);
  const samples = sampleTimes(metrics, 'whole');
  assert.deepEqual(samples, byAge.slice(-samples.length));
  assert.deepEqual(sampleTimes(metrics, 'late'), byAge.slice(3000).slice(-samples.length));
  assert.ok(usedBytes(metrics) > metricLimit * 0.8, `${samples.length} samples are left`);
  assert.deepEqual(await run.end(), { code: 0, signal: null }, run.stderr);
});

test('[MET-37][MET-58][MET-64][RET-8] a series that went with its last sample is made anew by the next one, and samples of the others keep theirs', async (t) => {
  const world = EventdWorld.for(t, { cpus: 1 });
  const records = new EventdRecords(world);
  const { metrics } = world.paths;
  const old = native.realtimeNs() - 5n * DAY_NS;
  const run = await world.start();
  const send = (name: string, value: number, timestamp?: bigint) =>
    records.send('metric', gauge(name, value, timestamp === undefined ? {} : { timestamp }));
  const idOf = (name: string) => ask<bigint>(metrics, 'SELECT id FROM series WHERE name = ?', name)[0];
  await send('stays', 1);
  for (const name of ['goes.1', 'goes.2', 'goes.3']) await send(name, 1, old);
  await eventually('the samples', () => sampleTimes(metrics, 'goes.3').length === 1);
  const before = idOf('stays');
  await world.set('MetricRetentionDays', '2');
  await eventually(
    'the series to go',
    () => ask(metrics, "SELECT 1 FROM series WHERE name GLOB 'goes.*'").length === 0,
  );
  // The highest ids are free again: what the writer remembers of them would be somebody else's now.
  await send('new', 7);
  await send('goes.2', 8);
  await send('stays', 9);
  await eventually('the new samples', () => sampleTimes(metrics, 'stays').length === 2);
  const values = (name: string) =>
    ask<number>(
      metrics,
      'SELECT value FROM samples JOIN series ON series.id = series_id WHERE name = ? ORDER BY timestamp',
      name,
    );
  assert.deepEqual([values('new'), values('goes.2'), values('stays')], [[7], [8], [1, 9]]);
  assert.equal(idOf('stays'), before);
  assert.deepEqual(
    ask(metrics, 'SELECT count(*) FROM samples WHERE series_id NOT IN (SELECT id FROM series)'),
    [0n],
  );
  assert.deepEqual(await run.end(), { code: 0, signal: null }, run.stderr);
});

test('[RET-3][LIFE-123][LIFE-230] dump, debug socket and health metrics tell what retention does', async (t) => {
  const world = EventdWorld.for(t, { cpus: 1, settings: { HealthMetricIntervalSeconds: 1 } });
  seedShard(world.events, 'shard-0000.db', eventsSince(native.realtimeNs(), 40, 700));
  const run = await world.start();
  const reader = new DebugReader(world.paths.debugSocket);
  t.after(() => reader.close());
  await reader.ready();
  assert.equal(reader.states().get('retention'), 'sleeping', 'it has a thread of its own');
  await world.set('EventRetentionDays', '20');
  await run.hasLogged('a sweep', ({ msg, events }) => msg === 'retention' && events === 700);
  await reader.sees(
    ({ snapshot }) => JSON.stringify(snapshot?.value ?? '') === '{"sweepingEvents":"deleting"}',
  );
  await reader.sees(({ figures }) => figures?.retention?.events === 700 && figures.retention.sweeps === 1);
  const sample = () =>
    ask<number>(
      world.paths.metrics,
      `SELECT value FROM samples JOIN series ON series.id = series_id
       WHERE name = 'eventd.retention.deleted.total' AND labels = 'store=event' ORDER BY timestamp DESC LIMIT 1`,
    )[0];
  await eventually('the health metric', () => sample() === 700);
  await run.end('SIGQUIT');
  const words = /^ {2}retention: sleeping, 1 sweep, deleted 700 events, 0 log records, 0 samples, 0 series$/m;
  assert.match(run.stderr, words);
});
