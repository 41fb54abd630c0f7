/** What holds for METRIC around its functions: types, fields, order, files, odd values, limits. */
import assert from 'node:assert/strict';
import { join } from 'node:path';
import { test } from 'node:test';
import { LOG_SCHEMA } from '../../src/stores/logSchema.js';
import { METRIC_SCHEMA } from '../../src/stores/metricSchema.js';
import { setStoreAside } from '../../src/stores/singleStore.js';
import { openStore } from '../../src/stores/storeFile.js';
import { answer } from '../fixtures/metricQueryReference.js';
import {
  histogram,
  metricFile,
  points,
  recordsOf,
  series,
  serve,
  since,
  time,
  write,
} from '../fixtures/metricService.js';
import { makeStore, startService } from '../fixtures/queryService.js';
import { ask } from '../fixtures/rawQueryClient.js';

const SECOND = 1_000_000_000n;

test('[QL-92] [QL-102] [QL-105] [WIRE-20] a series of the wrong type rejects the query, if the query is about it', async (t) => {
  const store = await serve(t, [
    series('a.count', { k: '1' }, 0, [
      [10, 1],
      [20, 2],
    ]),
    series('a.level', { k: '1' }, 1, [[10, 1]]),
    series('a.time', { k: '2' }, 2, [[10, histogram([1], [1], 1)]]),
  ]);
  const rejected = [
    [`METRIC a.level RATE`, /^type error: RATE applies to counters, but 'a\.level' is a gauge$/],
    [`METRIC a.*[] DELTA ${since(1)}`, /^type error: DELTA applies to counters, but 'a\.level' is a gauge$/],
    [`METRIC a.* P95`, /^type error: P95 applies to histograms, but 'a\.count' is a counter$/],
    [`METRIC a.time`, /^type error: AVG applies to counters and gauges, but 'a\.time' is a histogram; P50/],
    [`METRIC a.time[] MAX`, /^type error: MAX applies .*'a\.time' is a histogram/],
    [`METRIC a.time[] MAX_OVER 1m ${since(1)}`, /^type error: MAX_OVER applies .*'a\.time'/],
    // It counts although no sample of it is in the range, and what WHERE says of samples spares none.
    [`METRIC a.* ${since(5000)}`, /^type error: AVG applies .*'a\.time'/],
    [`METRIC a.* RATE WHERE value > 100`, /^type error: RATE applies .*'a\.level'/],
    [`METRIC a.* RATE WHERE type == counter OR value > 100`, /^type error: RATE/],
  ] as const;
  for (const [query, expected] of rejected) {
    const { error, ended } = await ask(store.socketPath, query);
    assert.match(error ?? '', expected, query);
    assert.equal(ended, false);
  }
  const spared = [
    `METRIC a.* DELTA WHERE type == counter ${since(1)}`,
    `METRIC a.*[k == "1"] DELTA WHERE name ENDS_WITH "count" ${since(1)}`,
    `METRIC a.* WHERE value > 0 AND (k == "1" AND type IN (counter, histogram)) DELTA ${since(1)}`,
  ];
  for (const query of spared) assert.deepEqual(await points(store, query), [[20, 1]], query);
  assert.deepEqual(await points(store, 'METRIC nothing.here RATE'), []);
});

test('[QL-89] [QL-90] [QL-107] what the text alone shows to be wrong', async (t) => {
  const store = await serve(t, []);
  for (const query of [
    'METRIC a AVG_OVER 1m',
    'METRIC a STREAM',
    'METRIC a COUNT BY core',
    'METRIC a TOP 3 BY core',
    'METRIC a DISTINCT core',
    'METRIC a GROUP core AVG value',
    'METRIC a COUNT',
    `METRIC a RATE DELTA ${since(1)}`,
    `METRIC a MIN_OVER 1m MAX_OVER 1m ${since(1)}`,
    `METRIC a AVG_OVER 0s ${since(1)}`,
  ]) {
    const { error } = await ask(store.socketPath, query);
    assert.match(error ?? '', /^parse error: /, query);
  }
});

test('[QL-99] [QL-100] [QL-102] [QL-121] [QL-122] fields of results, with and without SELECT', async (t) => {
  const store = await serve(t, [
    series('m', { core: '0', type: 'hidden', zone: 'ä' }, 0, [
      [10, 1],
      [20, 3],
    ]),
    series('m', { core: '1' }, 1, [[10, 2]]),
    series('h', { k: 'v' }, 2, [[10, histogram([1], [2], 3)]]),
  ]);
  const until = `UNTIL ${time(99)}`;
  const at = (seconds: number) => BigInt(seconds) * SECOND;
  const cases: readonly [string, object[]][] = [
    [`METRIC m[core="0"] ${until}`, [{ timestamp: at(20), name: 'm', core: '0', zone: 'ä', value: 3 }]],
    [`METRIC m[core="0"] DELTA ${until} SELECT value, type, zone, rack`, [{ value: 2, type: 0, zone: 'ä' }]],
    [
      `METRIC m[] ${since(1, 15)} SELECT core, zone SELECT timestamp`,
      [
        { core: '0', zone: 'ä', timestamp: at(10) },
        { core: '1', timestamp: at(10) },
      ],
    ],
    [`METRIC m ${until}`, [{ timestamp: at(20), name: 'm', value: 2.5 }]],
    // The series differ in type, and labels belong to one series only.
    [`METRIC m ${until} SELECT type, core, name`, [{ type: null, name: 'm' }]],
    [`METRIC m[] ${until} WHERE type == gauge SELECT type`, [{ type: 1 }]],
    [
      `METRIC h[] ${until} SELECT value, k`,
      [{ value: { boundaries: [1], counts: [2], total_count: 3, sum: 1 }, k: 'v' }],
    ],
    [`METRIC h[] ${until} WHERE value IS NULL SELECT name`, [{ name: 'h' }]],
  ];
  for (const [query, expected] of cases) assert.deepEqual(await recordsOf(store, query), expected, query);
});

test('[QX-3] [QL-53] [QL-63] [QL-104] WHERE comes before functions, SORT, SKIP and TAKE after them', async (t) => {
  const store = await serve(t, [
    series('c', { k: 'b' }, 0, [
      [10, 0],
      [20, 5],
      [30, 6],
    ]),
    series('c', { k: 'a' }, 0, [
      [10, 0],
      [20, 9],
      [30, 11],
    ]),
    series('b', { k: 'c' }, 0, [
      [10, 0],
      [20, 7],
    ]),
  ]);
  const column = async (query: string) =>
    (await recordsOf(store, query)).map(({ k, value }) => `${k}${value}`);
  assert.deepEqual(await column(`METRIC *[] DELTA ${since(1)}`), ['c7', 'a9', 'b5', 'a2', 'b1']);
  assert.deepEqual(await column(`METRIC *[] DELTA ${since(1)} SORT value DESC TAKE 2`), ['a9', 'c7']);
  assert.deepEqual(await column(`METRIC *[] DELTA ${since(1)} SORT k DESC, value SKIP 1 TAKE 3`), [
    'b1',
    'b5',
    'a2',
  ]);
  assert.deepEqual(await column(`METRIC *[] DELTA ${since(1)} WHERE value != 5 SORT value`), [
    'a2',
    'b6',
    'c7',
    'a9',
  ]);
  assert.deepEqual(await column(`METRIC *[] DELTA ${since(1)} TAKE 0`), []);
  assert.deepEqual(await column(`METRIC *[] SUM ${since(1)} SORT name, value SELECT k, value`), [
    'c7',
    'b11',
    'a20',
  ]);
  assert.deepEqual(await column(`METRIC *[] DELTA ${since(1)} WHERE timestamp >= ${time(20)} `), [
    'a2',
    'b1',
  ]);
});

test('[QX-3] [QX-4] [QL-105] cross-type filters choose the samples that functions see, and no series', async (t) => {
  const store = makeStore(t);
  write(store, [
    series('c', { k: '1' }, 0, [
      [10, 1],
      [20, 3],
      [30, 9],
      [40, 10],
    ]),
    series('g', { k: '1' }, 1, [[500, 1]]),
  ]);
  const logs = openStore(join(store.directory, '..', 'logs.db'), LOG_SCHEMA);
  logs
    .prepare('INSERT INTO logs (boot_id, timestamp, origin, is_error, message) VALUES (?, ?, ?, 0, ?)')
    .run(Buffer.alloc(16), 25n * SECOND, 'svc', 'near 20 and 30');
  logs.close();
  await startService(t, store);
  const near = 'LOG svc EXISTS';
  assert.deepEqual(await points(store, `METRIC c[] DELTA ${since(1)} WHERE ${near}`), [[30, 6]]);
  assert.deepEqual(await points(store, `METRIC c[] SUM ${since(1)} WHERE ${near} OR value == 10`), [
    [40, 22],
  ]);
  assert.deepEqual(await points(store, `METRIC c RATE AVG_OVER 1h ${since(1)} WHERE ${near}`), [[0, 0.6]]);
  // The gauge has no sample near the log line, but it is not the filter that could rule it out.
  const { error } = await ask(store.socketPath, `METRIC * DELTA ${since(1)} WHERE ${near}`);
  assert.match(error ?? '', /^type error: DELTA applies to counters, but 'g' is a gauge$/);
});

test('[QL-101] [FAIL-18] parts of a series, also in a file that was set aside, are one in the order of time', async (t) => {
  const store = makeStore(t);
  const narrow = (count: number) => histogram([1], [count], count);
  const wide = (count: number) => histogram([1, 2], [0, count], count);
  write(store, [
    series('c', { k: '1' }, 0, [
      [10, 5],
      [30, 9],
    ]),
    series('h', {}, 2, [
      [10, narrow(1)],
      [40, narrow(2)],
    ]),
    series('h', {}, 2, [[20, wide(3)]]),
    series('d', {}, 0, [
      [50, 10],
      [60, 11],
    ]),
  ]);
  setStoreAside(metricFile(store));
  write(store, [
    series('c', { k: '1' }, 0, [
      [20, 8],
      [40, 2],
    ]),
    series('c', { k: '2' }, 0, [[15, 1]]),
    series('d', {}, 0, [
      [50, 1],
      [50, 5],
    ]),
  ]);
  await startService(t, store);
  const until = `UNTIL ${time(99)}`;
  assert.deepEqual(await points(store, `METRIC c[k="1"] DELTA ${since(1)}`), [
    [20, 3],
    [30, 1],
    [40, 2],
  ]);
  assert.deepEqual(await points(store, `METRIC c[k="1"] AVG_OVER 15s ${since(1)}`), [
    [0, 5],
    [15, 8],
    [30, 5.5],
  ]);
  assert.deepEqual(await points(store, `METRIC c[k="1"] RATE AVG_OVER 15s ${since(1)}`), [
    [15, 0.3],
    [30, 0.15],
  ]);
  assert.deepEqual(await points(store, `METRIC c[] ${until}`), [
    [15, 1],
    [40, 2],
  ]);
  assert.deepEqual(await points(store, `METRIC c[k="1"] DELTA ${until}`), [[40, 2]]);
  assert.deepEqual(await points(store, `METRIC h[] P50 ${since(1)}`), [
    [10, 0.5],
    [20, 1.5],
    [40, 0.5],
  ]);
  assert.deepEqual(await points(store, `METRIC h P50 ${since(1)} MAX_OVER 1h`), [[0, 1.5]]);
  // At one timestamp the order is that of the files, then of storing.
  assert.deepEqual(await points(store, `METRIC d[] DELTA ${since(1)}`), [
    [50, 4],
    [50, 5],
    [60, 1],
  ]);
  assert.deepEqual(await points(store, `METRIC d[] DELTA ${until}`), [[60, 1]]);
  assert.deepEqual(await points(store, `METRIC d[] UNTIL ${time(55)}`), [[50, 10]]);
  const latest = await recordsOf(store, `METRIC h[] ${until}`);
  assert.deepEqual(
    latest.map(({ timestamp }) => timestamp),
    [40n * SECOND],
  );
});

test('[QL-101] [QL-87] series of one name and labels but of another type are series of their own', async (t) => {
  const store = await serve(t, [
    series('m', {}, 1, [
      [10, 4],
      [30, 6],
    ]),
    series('m', {}, 0, [[20, 8]]),
    series('m', {}, 2, [[25, histogram([1], [1], 1)]]),
  ]);
  const until = `UNTIL ${time(99)}`;
  const latest = await recordsOf(store, `METRIC m[] ${until} SELECT type, timestamp`);
  assert.deepEqual(latest, [
    { type: 0, timestamp: 20n * SECOND },
    { type: 2, timestamp: 25n * SECOND },
    { type: 1, timestamp: 30n * SECOND },
  ]);
  assert.deepEqual(await points(store, `METRIC m WHERE type != histogram ${until}`), [[30, 7]]);
});

test('[QL-96] [QL-97] an infinity in the store leaves no trace once it is over', async (t) => {
  const infinite = Number.POSITIVE_INFINITY;
  const store = await serve(t, [
    series('m', { k: '1' }, 1, [
      [10, infinite],
      [20, 1],
    ]),
    series('m', { k: '2' }, 1, [
      [10, -infinite],
      [30, 2],
    ]),
  ]);
  // The sum of both is no number, and shown as nil.
  assert.deepEqual(await points(store, `METRIC m ${since(1)}`), [
    [10, null],
    [20, -infinite],
    [30, 1.5],
  ]);
  assert.deepEqual(await points(store, `METRIC m[] MIN ${since(1)}`), [
    [20, 1],
    [30, -infinite],
  ]);
});

test('[MET-45] [QL-93] more samples at one timestamp than are read at once keep their order', async (t) => {
  const run = Array.from({ length: 1500 }, (_, index) => [50, index * 2] as const);
  const store = await serve(t, [series('c', {}, 0, [[40, 0], ...run, [60, 5]])]);
  const records = await recordsOf(store, `METRIC c[] DELTA ${since(1)}`);
  const expected = [0, ...run.slice(1).map(() => 2), 5];
  assert.deepEqual(
    records.map(({ value }) => value),
    expected,
  );
  assert.deepEqual(await points(store, `METRIC c[] DELTA AVG_OVER 1h ${since(1)}`), [
    [0, Number((3003 / 1501).toFixed(5))],
  ]);
});

test('[QL-97] [QL-106] thousands of series are combined', async (t) => {
  const stored = Array.from({ length: 3000 }, (_, index) =>
    series('c', { k: String(index) }, 0, [
      [10, index],
      [20, index + (index % 7)],
      [30 + (index % 2), 3 * index],
    ]),
  );
  const store = await serve(t, stored);
  const question = { name: 'c', brackets: null, since: 1, until: 100, where: [] };
  for (const [valueFunction, window] of [
    ['RATE', null],
    [null, { function: 'AVG_OVER', seconds: 15 }],
    ['RATE', { function: 'AVG_OVER', seconds: 15 }],
  ] as const) {
    const expected = answer(stored, { ...question, valueFunction, window });
    const text = `METRIC c ${valueFunction ?? ''} ${window === null ? '' : 'AVG_OVER 15s'} ${since(1, 100)}`;
    const found = await points(store, text);
    assert.ok(expected.rejected === null);
    assert.deepEqual(
      found,
      expected.rows.map(({ timestamp, value }) => [
        Number(timestamp) / 1e9,
        Number((value as number).toFixed(5)),
      ]),
      text,
    );
  }
});

test('[QX-62] [QX-65] a computation ends at the query timeout, and within the memory for queries', async (t) => {
  const store = makeStore(t);
  const db = openStore(metricFile(store), METRIC_SCHEMA);
  db.exec("INSERT INTO series VALUES (1, 'm', '', 1, 0, NULL)");
  db.exec(
    'WITH RECURSIVE n(i) AS (VALUES(1) UNION ALL SELECT i + 1 FROM n WHERE i < 200000) INSERT INTO samples SELECT 1, i * 1000000, i, NULL FROM n',
  );
  db.close();
  const service = await startService(t, store, {
    limits: { queryTimeoutMs: 25, queryMemoryBytes: 64 << 20 },
  });
  const late = await ask(store.socketPath, `METRIC m ${since(0)}`);
  assert.match(late.error ?? '', /^timeout: /);
  await service.stop();
  await startService(t, store, { limits: { queryMemoryBytes: 2 << 20 } });
  const large = await ask(store.socketPath, `METRIC m ${since(0)}`);
  assert.match(large.error ?? '', /^limit exceeded: .*QueryMemoryBytes/);
  // One that gives few rows needs little, however many samples it reads; what the others had is free again.
  assert.deepEqual(await points(store, `METRIC m AVG_OVER 1m ${since(0)}`), [
    [0, 30_000],
    [60, 89_999.5],
    [120, 149_999.5],
    [180, 190_000],
  ]);
});
