/** Rollups in the real eventd: computed in the background, right after late samples, crashes and retention. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { native } from '../../src/native/addon.js';
import { loadRegistry, saveRegistry } from '../../src/rollups/registryFile.js';
import { METRIC_SCHEMA } from '../../src/stores/metricSchema.js';
import { openStore } from '../../src/stores/storeFile.js';
import { DebugReader } from '../fixtures/debugReader.js';
import { EventdWorld, eventually } from '../fixtures/eventd.js';
import { EventdRecords } from '../fixtures/eventdRecords.js';
import { ask } from '../fixtures/retentionStores.js';
import { runProgram } from '../fixtures/runProgram.js';

const MINUTE_NS = 60_000_000_000n;

/** The pairs of an earlier run, as they lie in the event store. */
function keep(directory: string, ...desired: readonly string[]): void {
  const windowStart = native.realtimeNs();
  saveRegistry(directory, {
    counters: desired.map((field) => ({ field, count: 100, windowStart })),
    desired,
  });
}

/** A sample every ten seconds, of so many gauges, that end two hours before now. */
function seed(file: string, series: number, samples: number): bigint {
  const start =
    ((native.realtimeNs() - 120n * MINUTE_NS) / MINUTE_NS) * MINUTE_NS - BigInt(samples) * (MINUTE_NS / 6n);
  const db = openStore(file, METRIC_SCHEMA);
  db.prepare(
    `WITH RECURSIVE n(i) AS (VALUES(1) UNION ALL SELECT i + 1 FROM n WHERE i < ?)
     INSERT INTO series (id, name, labels, type, label_hash) SELECT i, 'load', 'core=' || i, 1, 0 FROM n`,
  ).run(series);
  db.prepare(
    `WITH RECURSIVE n(i) AS (VALUES(0) UNION ALL SELECT i + 1 FROM n WHERE i + 1 < ?)
     INSERT INTO samples SELECT series.id, ? + i * ?, (i * 7 + series.id) % 101, NULL FROM series CROSS JOIN n`,
  ).run(samples, start, MINUTE_NS / 6n);
  db.close();
  return start;
}

const OF_LOAD = "series_id IN (SELECT id FROM series WHERE name = 'load')";
/** eventd's own figures are rolled up, too, sooner or later. */
const rowCount = (file: string) =>
  ask<bigint>(file, `SELECT count(*) FROM rollups WHERE ${OF_LOAD}`)[0] ?? 0n;

/** Rows of `avg_60` and `max_60` that are not what SQL says of the samples; and windows without a row. */
const WRONG = `WITH w AS (
    SELECT series_id, timestamp / ${MINUTE_NS} * ${MINUTE_NS} AS start, avg(value) AS mean, max(value) AS top, count(*) AS n
    FROM samples WHERE ${OF_LOAD} GROUP BY 1, 2
  )
  SELECT count(*) FROM w LEFT JOIN rollups AS r ON r.series_id = w.series_id AND r.window_start = w.start
  WHERE r.id IS NULL OR r.sample_count <> n
     OR abs(r.value - CASE r.function WHEN 0 THEN mean WHEN 2 THEN top END) > 1e-9 * abs(r.value) + 1e-12`;

test('[ROL-9] [ROL-15] [ROL-37] [ROL-38] [ROL-39] [LIFE-107] [LIFE-124] pairs that an earlier run has kept are computed for all series, whatever instant eventd is killed at', async (t) => {
  const world = EventdWorld.for(t, { cpus: 1 });
  const { metrics } = world.paths;
  const series = 60;
  const minutes = 100;
  seed(metrics, series, minutes * 6);
  keep(world.events, 'avg_60', 'max_60');
  const expected = BigInt(series * minutes * 2);
  let killed = 0;
  for (let at = 0n; ; at = rowCount(metrics)) {
    const run = await world.start();
    await eventually('more rows', () => rowCount(metrics) > at || rowCount(metrics) === expected);
    if (killed === 3) {
      await eventually('all rows', () => rowCount(metrics) === expected);
      assert.deepEqual(ask(metrics, WRONG), [0n]);
      assert.deepEqual(await run.end(), { code: 0, signal: null }, run.stderr);
      break;
    }
    await run.end('SIGKILL');
    killed++;
    // What is there is right, and no window has two rows.
    const wrong = `${WRONG.replace('r.id IS NULL OR', 'r.id IS NOT NULL AND (')})`;
    assert.deepEqual(ask(metrics, wrong), [0n]);
  }
  assert.deepEqual(loadRegistry(world.events).desired, ['avg_60', 'max_60']);
});

test('[ROL-19] [MET-58] a late sample takes the rows of its window with it, and the answer is that of the samples', async (t) => {
  const world = EventdWorld.for(t, { cpus: 1 });
  const { metrics } = world.paths;
  const start = seed(metrics, 2, 60);
  keep(world.events, 'avg_60');
  const run = await world.start();
  const records = new EventdRecords(world);
  await eventually('all rows', () => rowCount(metrics) === 20n);
  await records.send('metric', {
    name: 'load',
    labels: { core: '1' },
    type: 'gauge',
    timestamp: start + 3n * MINUTE_NS + 1n,
    value: 6000,
  });
  await eventually('the row to go', () => rowCount(metrics) === 19n);
  const gone = ask<bigint>(
    metrics,
    `SELECT count(*) FROM rollups WHERE series_id = 1 AND window_start = ${start + 3n * MINUTE_NS}`,
  );
  assert.deepEqual(gone, [0n]);
  const since = new Date(Number(start / 1_000_000n)).toISOString().slice(0, 19);
  const answers = await records.ask(`METRIC load[core == "1"] SINCE ${since} AVG_OVER 1m`);
  const values = answers.map(({ value }) => value);
  const expected = ask<number>(
    metrics,
    `SELECT avg(value) FROM samples WHERE series_id = 1 GROUP BY timestamp / ${MINUTE_NS} ORDER BY timestamp`,
  );
  assert.equal(values.length, expected.length);
  for (const [index, value] of values.entries()) {
    assert.ok(Math.abs(Number(value) - (expected[index] ?? 0)) < 1e-6, `window ${index}`);
  }
  assert.deepEqual(await run.end(), { code: 0, signal: null }, run.stderr);
});

test('[ROL-10] [ROL-13] [ROL-14] [QX-53] queries are counted by pair, shown with the reason why, and kept for the next run', async (t) => {
  const world = EventdWorld.for(t, { cpus: 1 });
  seed(world.paths.metrics, 1, 60);
  const run = await world.start();
  for (const query of [
    'METRIC load[] SINCE 1d ago AVG_OVER 5m',
    'METRIC load[] SINCE 1d ago MAX AVG_OVER 300s',
    'METRIC load SINCE 1d ago AVG_OVER 5m',
    'METRIC load SINCE 1d ago AVG',
    'METRIC load',
  ]) {
    await world.query(query);
  }
  const debug = new DebugReader(world.paths.debugSocket);
  t.after(() => debug.close());
  const { figures = {} } = await debug.sees((line) => line.figures?.['rollup:max_300'] !== undefined);
  assert.deepEqual(figures['rollup:avg_300'], { queries: 2, priority: null, why: 'rare' });
  assert.deepEqual(figures['rollup:max_300'], { queries: 1, priority: null, why: 'rare' });
  assert.equal(Object.keys(figures).filter((name) => name.startsWith('rollup:')).length, 2);
  const shown = await runProgram('evctl', ['inspect', 'rollups', '--debug-socket', world.paths.debugSocket])
    .done;
  assert.equal(shown.code, 0, shown.stderr);
  assert.match(String(shown.stdout), /^0 pairs kept, 0 rows of 0 samples since the start, 0 decisions$/m);
  assert.match(String(shown.stdout), /^avg_300 +2 +- +out: it enters at 50$/m);
  assert.deepEqual(await run.end(), { code: 0, signal: null }, run.stderr);
  const kept = loadRegistry(world.events).counters.map(({ field, count }) => [field, count]);
  assert.deepEqual(kept, [
    ['avg_300', 2],
    ['max_300', 1],
  ]);
});
