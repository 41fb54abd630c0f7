/** The metric writer keeps rollups right: random samples come late, and no row is left that does not hold. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { native } from '../../src/native/addon.js';
import { RollupPass } from '../../src/rollups/rollupPass.js';
import { METRIC_SCHEMA } from '../../src/stores/metricSchema.js';
import { openStore } from '../../src/stores/storeFile.js';
import { Dice } from '../fixtures/metricQuestions.js';
import { PipelineFixture } from '../fixtures/recordPipelines.js';
import { computeRollups, finish, pairs, ROLLUP_LIMITS } from '../fixtures/rollups.js';

const SECOND = 1_000_000_000n;
const DAY = 86_400n * SECOND;
/** Some time ago: of the distant past nothing is rolled up. */
const START = (native.realtimeNs() / DAY - 30n) * DAY;
const KEYS = ['avg_10', 'max_60', 'sum_20', 'rate_10', 'delta_60'];

interface Row {
  readonly name: string;
  readonly function: bigint;
  readonly window_seconds: bigint;
  readonly window_start: bigint;
  readonly value: number;
  readonly sample_count: bigint;
}
interface Sample {
  readonly name: string;
  readonly timestamp: bigint;
  readonly value: number;
}

const ROWS =
  'SELECT name, function, window_seconds, window_start, value, sample_count FROM rollups JOIN series ON series.id = series_id';
const SAMPLES =
  'SELECT name, timestamp, value FROM samples JOIN series ON series.id = series_id ORDER BY timestamp, samples.rowid';

/** What the row ought to hold, by the words of section 12 of the metric document; null: no row at all. */
function expected({ name, ...row }: Row, samples: readonly Sample[]): readonly [number, bigint] | null {
  const own = samples.filter((sample) => sample.name === name);
  const end = row.window_start + row.window_seconds * SECOND;
  const inside = own.filter(({ timestamp }) => timestamp >= row.window_start && timestamp < end);
  const values = inside.map(({ value }) => value);
  const count = BigInt(values.length);
  const sum = values.reduce((a, b) => a + b, 0);
  switch (row.function) {
    case 0n:
      return [sum / values.length, count];
    case 2n:
      return [Math.max(...values), count];
    case 3n:
      return [sum, count];
  }
  let last = own.filter(({ timestamp }) => timestamp < row.window_start).at(-1)?.value;
  if (last === undefined) return null;
  let deltas = 0;
  for (const value of values) {
    deltas += value < last ? value : value - last;
    last = value;
  }
  return [deltas, count];
}

test('[ROL-5] [ROL-16] [ROL-18] [ROL-19] [ROL-20] [ROL-21] [ROL-22] [ROL-23] [MET-58] rows are what their samples say, after every batch of late samples, and come again when they were computed anew', async (t) => {
  const path = new PipelineFixture(t, 'metric');
  await path.start({ maxBatchLatencyMs: 10 });
  const dice = new Dice(5);
  let sent = 0;
  const send = async (count: number) => {
    const datagram = Array.from({ length: count }, () => {
      const type = dice.pick(['counter', 'gauge']);
      return {
        name: `${type}.${dice.below(2)}`,
        type,
        timestamp: START + (BigInt(dice.below(600)) * SECOND) / 2n,
        value: dice.below(1000) / 4,
      };
    });
    await path.send(datagram);
    sent += count;
    await path.stored(sent);
  };
  const check = (): number => {
    const samples = path.rows<Sample>(SAMPLES);
    const rows = path.rows<Row>(ROWS);
    for (const row of rows) {
      const right = expected(row, samples);
      const text = `${row.name} ${row.function} ${row.window_seconds} ${row.window_start}`;
      assert.ok(right !== null, text);
      assert.equal(row.sample_count, right[1], text);
      assert.ok(Math.abs(row.value - right[0]) <= 1e-9 * Math.max(1, Math.abs(right[0])), text);
      assert.ok(row.function < 4n || row.name.startsWith('counter'), text);
    }
    return rows.length;
  };
  const pass = new RollupPass(path.file);
  t.after(() => pass.close());
  /** What the advisor does between two batches, once an hour. */
  const compute = () => {
    pass.want(pairs(...KEYS));
    finish(pass, { nowNs: START + 250n * SECOND, limits: ROLLUP_LIMITS });
    const rows = check();
    for (const { window_start, window_seconds } of path.rows<Row>(ROWS))
      assert.ok(
        window_start + window_seconds * SECOND <= START + 250n * SECOND,
        'a window that is not completed',
      );
    return rows;
  };
  await send(400);
  let invalidated = 0;
  for (let round = 0; round < 12; round++) {
    const before = compute();
    assert.ok(before > 100, `${before} rows`);
    await send(1 + dice.below(8));
    const left = check();
    invalidated += before - left;
  }
  assert.ok(invalidated > 60, `${invalidated} rows were invalidated`);
  const once = compute();
  const again = computeRollups(path.file, pairs(...KEYS), START + 250n * SECOND);
  assert.deepEqual([again, check()], [0, once], 'nothing is computed twice, and nothing was forgotten');
});

test('[ROL-19] rows of whatever making, also those that say nothing of themselves, go with a late sample', async (t) => {
  const path = new PipelineFixture(t, 'metric');
  await path.start();
  await path.send({ name: 'load', type: 'gauge', timestamp: START, value: 1 });
  await path.stored(1);
  // Far ahead of every clock, and nobody has noted up to where rows go.
  path.edit(
    `INSERT INTO rollups VALUES (1, 1, 0, 60, ${(START / (60n * SECOND)) * (60n * SECOND)}, 1, 1)`,
    `INSERT INTO rollups VALUES (2, 1, 1, 7, ${(4_000_000_000n / 7n) * 7n * SECOND}, 1, 1)`,
  );
  await path.send({ name: 'load', type: 'gauge', timestamp: 4_000_000_000n * SECOND, value: 1 });
  await path.stored(2);
  assert.deepEqual(
    path.rows<{ id: bigint }>('SELECT id FROM rollups').map(({ id }) => id),
    [1n],
  );
  const reopened = () =>
    path.rows<{ value: string }>("SELECT value FROM metadata WHERE key = 'rollups_reopened'");
  await path.send([
    { name: 'load', type: 'gauge', timestamp: START + 1n, value: 2 },
    { name: 'load', type: 'gauge', timestamp: 5n, value: 2 },
  ]);
  await path.stored(4);
  assert.deepEqual(path.rows('SELECT id FROM rollups'), []);
  // A clock that begins in 1970 has nothing looked through from there on.
  assert.deepEqual(reopened(), [{ value: String(START + 1n) }]);
});

test('[ROL-36] windows that begin before the cutoff are not computed, and with a limit of bytes not the first of a series', async (t) => {
  const path = new PipelineFixture(t, 'metric');
  await path.start();
  const db = openStore(path.file, METRIC_SCHEMA);
  db.exec("INSERT INTO series (id, name, labels, type, label_hash) VALUES (1, 'load', '', 1, 0)");
  const insert = db.prepare('INSERT INTO samples VALUES (1, ?, 1, NULL)');
  for (let hour = 0n; hour < 72n; hour++) insert.run(START + hour * 3600n * SECOND);
  db.close();
  const now = START + 3n * DAY;
  const limits = { completionDelayNs: 0n, retentionDays: 2, sizeLimited: false };
  computeRollups(path.file, pairs('avg_3600'), now, limits);
  const starts = () =>
    path.rows<Row>(`${ROWS} ORDER BY window_start`).map(({ window_start }) => window_start);
  assert.ok(starts().length >= 47 && starts().every((start) => start >= now - 2n * DAY));
  path.edit('DELETE FROM rollups');
  computeRollups(path.file, pairs('avg_3600'), now, {
    ...limits,
    retentionDays: 90,
    sizeLimited: true,
  });
  assert.ok(starts().length >= 70 && starts().every((start) => start > START));
});
