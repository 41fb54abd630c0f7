/** When METRIC reads rollups, and when it must not: rows that lie tell which windows were read from them. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import Database from 'better-sqlite3';
import { metricFile, points, series, serve, since } from '../fixtures/metricService.js';
import type { TestStore } from '../fixtures/queryService.js';
import { computeRollups, pairs } from '../fixtures/rollups.js';

const NS = 1_000_000_000n;

/** The counter of the specification's example, and one sample more. */
const COUNTER = series('c', {}, 0, [
  [590, 100],
  [610, 130],
  [630, 10],
  [650, 25],
  [670, 45],
  [690, 60],
  [700, 5],
]);

/** The gauge of the example: 20 samples with mean 10, then 10 with mean 40. */
const GAUGE = series('g', {}, 1, [
  ...Array.from({ length: 20 }, (_, n) => [n * 15, n === 0 ? 4 : n === 1 ? 15 : n === 2 ? 11 : 10] as const),
  ...Array.from(
    { length: 10 },
    (_, n) => [300 + n * 30, n === 0 ? 30 : n === 1 ? 55 : n === 2 ? 35 : 40] as const,
  ),
]);

const compute = (store: TestStore, until: number, ...keys: string[]) =>
  computeRollups(metricFile(store), pairs(...keys), BigInt(until) * NS);

function edit(store: TestStore, sql: string): number {
  const db = new Database(metricFile(store));
  try {
    return db.prepare(sql).run().changes;
  } finally {
    db.close();
  }
}

/** The rows of rollups, as one sees them. */
function rowsOf(store: TestStore, name: string): unknown[] {
  const db = new Database(metricFile(store), { readonly: true });
  try {
    return db
      .prepare(
        `SELECT function, window_seconds, window_start / 1000000000, value, sample_count FROM rollups
         JOIN series ON series.id = series_id WHERE name = ? ORDER BY 1, 2, 3`,
      )
      .raw()
      .all(name);
  } finally {
    db.close();
  }
}

test('[ROL-2] [ROL-4] [ROL-5] [ROL-20] [ROL-21] [ROL-22] [ROL-23] rows hold what the specification works out', async (t) => {
  const store = await serve(t, [COUNTER, GAUGE]);
  compute(store, 720, 'rate_60', 'delta_60', 'rate_120');
  assert.deepEqual(rowsOf(store, 'c'), [
    [4, 60, 600, 55, 3],
    [4, 60, 660, 40, 3],
    [4, 120, 600, 95, 6],
    [5, 60, 600, 55, 3],
    [5, 60, 660, 40, 3],
  ]);
  compute(store, 660, 'avg_300', 'min_300', 'max_300', 'sum_300');
  assert.deepEqual(rowsOf(store, 'g'), [
    [0, 300, 0, 10, 20],
    [0, 300, 300, 40, 10],
    [1, 300, 0, 4, 20],
    [1, 300, 300, 30, 10],
    [2, 300, 0, 15, 20],
    [2, 300, 300, 55, 10],
    [3, 300, 0, 200, 20],
    [3, 300, 300, 400, 10],
  ]);
});

test('[ROL-24] [ROL-25] [ROL-26] [ROL-27] [ROL-28] [ROL-31] [QX-51] larger windows are put together as the specification works out', async (t) => {
  const store = await serve(t, [COUNTER, GAUGE]);
  compute(store, 720, 'rate_60', 'delta_60', 'avg_300', 'min_300', 'max_300');
  assert.deepEqual(await points(store, `METRIC c[] ${since(500)} RATE AVG_OVER 1m`), [
    [600, 0.91667],
    [660, 0.8],
  ]);
  assert.deepEqual(await points(store, `METRIC c[] ${since(500)} RATE AVG_OVER 2m`), [[600, 0.86364]]);
  assert.deepEqual(await points(store, `METRIC c[] ${since(500)} DELTA AVG_OVER 2m`), [[600, 15.83333]]);
  assert.deepEqual(await points(store, `METRIC c[] ${since(600)} RATE AVG_OVER 2m`), [[600, 0.72222]]);
  assert.deepEqual(await points(store, `METRIC c[] ${since(600)} DELTA AVG_OVER 2m`), [[600, 13]]);
  assert.deepEqual(await points(store, `METRIC g[] ${since(0, 600)} AVG_OVER 10m`), [[0, 20]]);
  assert.deepEqual(await points(store, `METRIC g[] ${since(0, 600)} MAX_OVER 10m`), [[0, 55]]);
  assert.deepEqual(await points(store, `METRIC g[] ${since(0, 600)} MIN_OVER 10m`), [[0, 4]]);
});

test('[ROL-29] [ROL-30] [ROL-31] [ROL-32] [ROL-33] [ROL-34] [QX-50] [QX-52] [QL-103] rows stand for whole windows in the range and for nothing else', async (t) => {
  const steady = series(
    'g',
    {},
    1,
    Array.from({ length: 60 }, (_, n) => [n * 10, 1] as const),
  );
  const rising = series(
    'c',
    {},
    0,
    Array.from({ length: 60 }, (_, n) => [n * 10, n * 10] as const),
  );
  const store = await serve(t, [steady, rising]);
  compute(store, 480, 'avg_60', 'max_60', 'sum_60', 'rate_60', 'delta_60');
  edit(store, 'UPDATE rollups SET value = value + 1000');
  const values = async (query: string) => (await points(store, query)).map(([, value]) => value);
  const row = 1001;
  // Up to 480 s there are rows; the window that is cut by UNTIL, and the one that was not computed, are raw.
  assert.deepEqual(await values(`METRIC g[] ${since(0, 600)} AVG_OVER 1m`), [
    row,
    row,
    row,
    row,
    row,
    row,
    row,
    row,
    1,
    1,
  ]);
  assert.deepEqual(await values(`METRIC g[] ${since(30, 200)} AVG_OVER 1m`), [1, row, row, 1]);
  assert.deepEqual(await values(`METRIC g[] ${since(60, 180)} AVG_OVER 1m`), [row, row]);
  // A value function that is that of the window, one that is not, and a smaller window than there are rows.
  assert.deepEqual(await values(`METRIC g[] ${since(60, 180)} MAX MAX_OVER 1m`), [row, row]);
  assert.deepEqual(await values(`METRIC g[] ${since(60, 180)} AVG MAX_OVER 1m`), [1, 1]);
  assert.deepEqual(await values(`METRIC g[] ${since(60, 120)} AVG_OVER 30s`), [1, 1]);
  assert.deepEqual(
    await values(`METRIC g[] ${since(0, 300)} AVG_OVER 100s`),
    [1, 1, 1],
    '60 does not divide 100',
  );
  // A filter on samples, several series in a time line, a function that needs single samples.
  assert.deepEqual(await values(`METRIC g[] ${since(60, 180)} WHERE value > 0 AVG_OVER 1m`), [1, 1]);
  assert.deepEqual(await values(`METRIC g[] ${since(60, 180)} WHERE type == 1 AVG_OVER 1m`), [row, row]);
  assert.deepEqual(await values(`METRIC g ${since(60, 180)} AVG_OVER 1m`), [1, 1]);
  assert.deepEqual(await values(`METRIC c[] ${since(60, 180)} RATE MAX_OVER 1m`), [1, 1]);
  // Rates: the sample before the window has to be in the range.
  assert.deepEqual(await values(`METRIC c[] ${since(60, 240)} RATE AVG_OVER 1m`), [1, 17.66667, 17.66667]);
  assert.deepEqual(
    await values(`METRIC c[] ${since(50, 240)} RATE AVG_OVER 1m`),
    [17.66667, 17.66667, 17.66667],
  );
  assert.deepEqual(await values(`METRIC c ${since(50, 180)} RATE AVG_OVER 2m`), [17.66667, 17.66667]);
  // Without a window: rows inside, samples at both ends.
  assert.deepEqual(await values(`METRIC g ${since(30, 200)} SUM`), [2017]);
  assert.deepEqual(await points(store, `METRIC g[] ${since(30, 200)} MAX`), [[190, 1001]]);
  assert.deepEqual(await points(store, `METRIC g[] ${since(60, 180)} MAX`), [[170, 1001]]);
  assert.deepEqual(await values(`METRIC g[] ${since(30, 200)} MIN`), [1]);
});

test('[ROL-32] [QX-50] a row that cannot be right is as if it were not there', async (t) => {
  const steady = series(
    'g',
    {},
    1,
    Array.from({ length: 60 }, (_, n) => [n * 10, 1] as const),
  );
  const rising = series(
    'c',
    {},
    0,
    Array.from({ length: 60 }, (_, n) => [n * 10, n * 10] as const),
  );
  const gaps = series('h', {}, 0, [
    [10, 1],
    [200, 20],
    [210, 30],
  ]);
  const store = await serve(t, [steady, rising, gaps]);
  compute(store, 600, 'avg_60', 'rate_60', 'max_60');
  const asked = () =>
    Promise.all([
      points(store, `METRIC g[] ${since(0, 600)} AVG_OVER 1m`),
      points(store, `METRIC c[] ${since(0, 600)} RATE AVG_OVER 2m`),
      points(store, `METRIC h[] ${since(0, 600)} RATE AVG_OVER 1m`),
      points(store, `METRIC g ${since(0, 590)} MAX`),
    ]);
  const right = await asked();
  for (const damage of [
    "UPDATE rollups SET value = 'much'",
    "UPDATE rollups SET value = x'00'",
    'UPDATE rollups SET value = 9e999',
    'UPDATE rollups SET sample_count = 0, value = 77',
    'UPDATE rollups SET sample_count = -4, value = 77',
    "UPDATE rollups SET sample_count = 'x', value = 77",
    'UPDATE rollups SET window_start = window_start + 1, value = 77',
    'UPDATE rollups SET window_seconds = 0, value = 77',
    'UPDATE rollups SET window_seconds = -60, value = 77',
    'UPDATE rollups SET window_seconds = 9223372036854775807, value = 77',
    'UPDATE rollups SET value = -3 WHERE function = 4',
    // Of windows that have no samples: nobody can say what the delta was to.
    `INSERT INTO rollups (series_id, function, window_seconds, window_start, value, sample_count)
       SELECT id, 4, 60, 60000000000, 77, 3 FROM series WHERE name = 'h'`,
    `INSERT INTO rollups (series_id, function, window_seconds, window_start, value, sample_count)
       SELECT id, 2, 60, 600000000000, 77, 3 FROM series WHERE name = 'g'`,
  ]) {
    assert.ok(edit(store, damage) > 0, damage);
    assert.deepEqual(await asked(), right, damage);
    edit(store, 'DELETE FROM rollups');
    compute(store, 600, 'avg_60', 'rate_60', 'max_60');
  }
});

test('[ROL-3] [QX-51] percentiles always come from the samples', async (t) => {
  const store = await serve(t, [GAUGE]);
  assert.equal(compute(store, 660, 'avg_300') > 0, true);
  edit(store, 'UPDATE series SET type = 2');
  edit(store, 'UPDATE rollups SET value = 77');
  assert.deepEqual(await points(store, `METRIC g[] ${since(0, 600)} P95 AVG_OVER 5m`), []);
});
