/** METRIC with functions, windows and combined series, over the socket, on stores with the real schema. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { Histogram } from '../fixtures/metricQueryReference.js';
import { histogram, points, recordsOf, series, serve, since, time } from '../fixtures/metricService.js';

const SECOND = 1_000_000_000n;

const EXAMPLE = [
  [590, 100],
  [610, 130],
  [630, 10],
  [650, 25],
  [670, 45],
  [690, 60],
  [700, 5],
] as const;

test('[QL-93] [QL-106] [ROL-21] [ROL-26] [ROL-27] [ROL-28] [ROL-34] resets, and pairs across the edges of windows', async (t) => {
  const store = await serve(t, [series('c', {}, 0, EXAMPLE)]);
  const cases = [
    [
      `METRIC c[] ${since(540)} DELTA`,
      [30, 10, 15, 20, 15, 5].map((d, i) => [[610, 630, 650, 670, 690, 700][i], d]),
    ],
    [
      `METRIC c[] ${since(540)} RATE AVG_OVER 60s`,
      [
        [600, 0.91667],
        [660, 0.8],
      ],
    ],
    [`METRIC c[] ${since(540)} RATE AVG_OVER 120s`, [[600, 0.86364]]],
    [
      `METRIC c[] ${since(540)} DELTA AVG_OVER 60s`,
      [
        [600, 18.33333],
        [660, 13.33333],
      ],
    ],
    [`METRIC c[] ${since(540)} DELTA AVG_OVER 2m`, [[600, 15.83333]]],
    [`METRIC c[] ${since(600)} RATE AVG_OVER 120s`, [[600, 0.72222]]],
    [`METRIC c[] ${since(600)} DELTA AVG_OVER 120s`, [[600, 13]]],
    [
      `METRIC c[] ${since(540)} DELTA MAX_OVER 60s`,
      [
        [600, 30],
        [660, 20],
      ],
    ],
    [
      `METRIC c[] ${since(540)} RATE MIN_OVER 60s`,
      [
        [600, 0.5],
        [660, 0.5],
      ],
    ],
    // The window of 590 has one sample without a predecessor, hence no delta and no record.
    [`METRIC c[] RATE AVG_OVER 10s ${since(540, 615)}`, [[610, 1.5]]],
  ] as const;
  for (const [query, expected] of cases) assert.deepEqual(await points(store, query), expected, query);
});

test('[QL-93] [QL-94] RATE takes no pair without elapsed time, and both take the newest two without SINCE', async (t) => {
  const store = await serve(t, [
    series('c', { k: 'two' }, 0, [
      [10, 5],
      [20, 8],
      [30, 14],
    ]),
    series('c', { k: 'one' }, 0, [[30, 1]]),
    series('c', { k: 'same' }, 0, [
      [30, 1],
      [30, 4],
    ]),
    series('c', { k: 'reset' }, 0, [
      [28, 100],
      [32, 4],
    ]),
  ]);
  const until = `UNTIL ${time(100)}`;
  assert.deepEqual(await points(store, `METRIC c[] RATE ${until}`), [
    [30, 0.6],
    [32, 1],
  ]);
  assert.deepEqual(await points(store, `METRIC c[] DELTA ${until}`), [
    [30, 3],
    [30, 6],
    [32, 4],
  ]);
  // Series without two samples give nothing to the average of the others.
  assert.deepEqual(await points(store, `METRIC c RATE ${until}`), [[32, 0.8]]);
  assert.deepEqual(await points(store, `METRIC c[k="same"] RATE ${since(1)}`), []);
  assert.deepEqual(await points(store, `METRIC c[k="same"] DELTA ${since(1)}`), [[30, 3]]);
  assert.deepEqual(await points(store, `METRIC c[k="same"] RATE AVG_OVER 1m ${since(1)}`), []);
  // The two newest are chosen before WHERE, which then leaves one of them.
  assert.deepEqual(await points(store, `METRIC c[k="two"] DELTA WHERE value > 8 ${until}`), []);
  assert.deepEqual(await points(store, `METRIC c[k="two"] DELTA WHERE value < 10 ${since(1)}`), [[20, 3]]);
});

test('[QL-95] percentiles at the edges of histograms', async (t) => {
  const infinite = Number.POSITIVE_INFINITY;
  const cases: readonly [string, Histogram, number | null, number | null][] = [
    ['even', histogram([10, 20], [50, 100], 100), 10, 19.8],
    ['first from zero', histogram([10], [100], 100), 5, 9.9],
    ['first below zero', histogram([-4, 6], [100, 100], 100), -4, -4],
    ['second from below zero', histogram([-4, 6], [50, 100], 100), -4, 5.8],
    ['beyond the last', histogram([1, 2], [1, 2], 100), 2, 2],
    ['empty buckets', histogram([1, 2, 3, 4], [0, 0, 0, 10], 10), 3.5, 3.99],
    ['nothing observed', histogram([1, 2], [0, 0], 0), null, null],
    ['no buckets', histogram([], [], 3), null, null],
    ['up to infinity', histogram([1, infinite], [2, 10], 10), 1, 1],
    ['from minus infinity', histogram([-infinite, 3], [0, 10], 10), 3, 3],
    ['falling counts', histogram([1, 2, 3], [6, 4, 10], 10), 0.83333, 2.98333],
  ];
  const stored = cases.map(([k, value], index) => series('h', { k }, 2, [[10 + index, value]]));
  const store = await serve(t, stored);
  for (const [column, name] of [
    [2, 'P50'],
    [3, 'P99'],
  ] as const) {
    for (const each of cases) {
      const expected = each[column] === null ? [] : [each[column]];
      for (const range of [`UNTIL ${time(99)}`, since(1)]) {
        const found = await points(store, `METRIC h[k="${each[0]}"] ${name} ${range}`);
        assert.deepEqual(
          found.map(([, value]) => value),
          expected,
          `${each[0]} ${name} ${range}`,
        );
      }
    }
  }
  assert.deepEqual(
    await points(store, `METRIC h[k IN ("even", "first from zero")] P95 ${since(1)} MAX_OVER 1m`),
    [
      [0, 19],
      [0, 9.5],
    ],
  );
  // The newest sample has no percentile, so the series has no latest value.
  const latest = await serve(t, [
    series('h', {}, 2, [
      [5, histogram([1], [1], 1)],
      [6, histogram([1], [0], 0)],
    ]),
  ]);
  assert.deepEqual(await points(latest, `METRIC h P50 UNTIL ${time(99)}`), []);
});

const LOAD = [
  series('load', { core: '0' }, 1, [
    [100, 1],
    [110, 3],
    [130, 5],
  ]),
  series('load', { core: '1' }, 1, [
    [105, 10],
    [130, 20],
    [130, 30],
  ]),
  series('Load', { core: '2' }, 1, [[101, 7]]),
];

test('[QL-86] [QL-87] [QL-96] [QL-97] [QL-109] series are combined per name', async (t) => {
  const store = await serve(t, LOAD);
  const until = `UNTIL ${time(200)}`;
  const named = async (query: string) =>
    (await recordsOf(store, query)).map(({ timestamp, name, value, ...labels }) => {
      assert.deepEqual(labels, {}, query);
      return [Number((timestamp as bigint) / SECOND), name, value];
    });
  assert.deepEqual(await named(`METRIC load ${until}`), [
    [101, 'Load', 7],
    [130, 'load', 17.5],
  ]);
  assert.deepEqual(await named(`METRIC load MAX ${until}`), [
    [101, 'Load', 7],
    [130, 'load', 30],
  ]);
  assert.deepEqual(await named(`METRIC load SUM ${since(1)} WHERE name != "x"`), [
    [101, 'Load', 7],
    [130, 'load', 69],
  ]);
  assert.deepEqual(await named(`METRIC load ${since(1)} WHERE core != "2"`), [
    [100, 'load', 1],
    [105, 'load', 5.5],
    [110, 'load', 6.5],
    [130, 'load', 17.5],
  ]);
  assert.deepEqual(await named(`METRIC load ${since(105)} WHERE core != "2"`), [
    [105, 'load', 10],
    [110, 'load', 6.5],
    [130, 'load', 17.5],
  ]);
  // The value function beside a window combines the series, then the window works on the line.
  assert.deepEqual(await named(`METRIC load SUM AVG_OVER 10s ${since(1)} WHERE core != "2"`), [
    [100, 'load', 6],
    [110, 'load', 13],
    [130, 'load', 35],
  ]);
  assert.deepEqual(await named(`METRIC load MIN MAX_OVER 1m ${since(1)} WHERE core != "2"`), [
    [60, 'load', 3],
    [120, 'load', 5],
  ]);
});

test('[QL-96] [QL-98] [QL-106] [QL-108] [QL-109] per series over the range and in clipped windows', async (t) => {
  const store = await serve(t, LOAD);
  const only = '[core IN ("0", "1")]';
  assert.deepEqual(await points(store, `METRIC load${only} AVG ${since(1)}`), [
    [130, 3],
    [130, 20],
  ]);
  assert.deepEqual(await points(store, `METRIC load${only} MIN ${since(1, 120)}`), [
    [105, 10],
    [110, 1],
  ]);
  assert.deepEqual(await points(store, `METRIC load${only} SUM UNTIL ${time(120)}`), [
    [105, 10],
    [110, 3],
  ]);
  for (const extra of ['', 'SUM ', 'MIN ']) {
    assert.deepEqual(await points(store, `METRIC load${only} ${extra}AVG_OVER 10s ${since(1)}`), [
      [100, 1],
      [100, 10],
      [110, 3],
      [130, 5],
      [130, 25],
    ]);
  }
  // The window starts before SINCE; what lies there does not count.
  assert.deepEqual(await points(store, `METRIC load[core="0"] AVG_OVER 1m ${since(105, 130)}`), [[60, 3]]);
  assert.deepEqual(await points(store, `METRIC load[core="0"] AVG_OVER 100000d ${since(1)}`), [[0, 3]]);
  assert.deepEqual(await points(store, `METRIC load[] AVG_OVER 1m ${since(110, 105)}`), []);
});
