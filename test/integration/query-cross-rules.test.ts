/** The rules around cross-type filters: refusals, settings, type errors, rollups, bounds; over the socket. */
import assert from 'node:assert/strict';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import Database from 'better-sqlite3';
import { type World, type WorldSeries, writeWorld } from '../fixtures/crossReference.js';
import { LIMITS, makeStore, startService, type TestStore } from '../fixtures/queryService.js';
import { type Answer, ask } from '../fixtures/rawQueryClient.js';

const SECOND = 1_000_000_000n;
const NOW = BigInt(Date.now()) * 1_000_000n;
const ago = (seconds: number): bigint => NOW - BigInt(seconds) * SECOND;

const gauge = (
  name: string,
  labels: string,
  ...samples: readonly (readonly [number, number])[]
): WorldSeries => ({
  name,
  labels,
  type: 1,
  samples: samples.map(([seconds, value]) => ({ time: ago(seconds), value })),
});

/** Ages in seconds, far enough from the edges of the ranges below for a slow test. */
const WORLD: World = {
  events: [3000, 2000, 1000, 500].map((seconds) => ({
    time: ago(seconds),
    type: seconds === 2000 ? 'kacs.denied' : 'fs.open',
    x: 1,
    id: seconds,
    shard: seconds % 3,
  })),
  logs: [
    { time: ago(2005), origin: 'loregd', isError: true, message: 'an ERROR' },
    { time: ago(1000), origin: 'loregd', isError: false, message: 'fine' },
    { time: ago(400), origin: 'peinit', isError: false, message: 'fine too' },
  ],
  series: [
    gauge('cpu.usage', 'core=0', [3100, 90], [1500, 10], [700, 90]),
    gauge('cpu.usage', 'core=1', [3100, 0], [600, 81]),
    gauge('mem.usage', '', [2002, 95], [1990, 40], [900, 50]),
    { name: 'req.time', labels: '', type: 2, samples: [{ time: ago(900), value: 0 }] },
  ],
};

async function serve(t: TestContext, limits: Partial<typeof LIMITS> = {}) {
  const store = makeStore(t);
  writeWorld(store, WORLD);
  const service = await startService(t, store, { limits });
  return { store, service };
}

const ids = (answer: Answer): unknown[] => {
  assert.equal(answer.error, null);
  return answer.records.map(({ id, message, value }) => Number(id ?? value) || message);
};

/** Of section 12, on the stores above. A string is the beginning of the error. */
const EXAMPLES: readonly (readonly [string, readonly unknown[] | string])[] = [
  [
    'LOGS WHERE LOG a EXISTS SINCE 1h ago',
    'parse error: character 12: LOG filters are not available in LOGS',
  ],
  ['LOGS FROM loregd WHERE METRIC mem.usage > 90', 'parse error: '],
  ['LOGS FROM loregd WHERE METRIC mem.usage > 90 SINCE 1h ago', []],
  ['LOGS SINCE 30d ago WHERE EVENT kacs.* EXISTS', 'range too large: '],
  ['EVENTS SINCE 1h ago WHERE METRIC cpu.usage[core="0"] > 80', [500, 2000, 3000]],
  ['EVENTS SINCE 1h ago WHERE METRIC cpu.usage[core="0"] >= 10 AND METRIC cpu.usage[core="1"] == 81', [500]],
  ['EVENTS SINCE 1h ago WHERE METRIC cpu.usage[] > 80', [500, 2000, 3000]],
  ['EVENTS SINCE 1h ago WHERE METRIC cpu.usage > 80', [500]],
  ['EVENTS SINCE 1h ago WHERE EVENT a EXISTS', 'parse error: '],
  ['EVENTS SINCE 1h ago WHERE LOG loregd CONTAINING "error" EXISTS', [2000]],
  ['METRIC mem.usage[] WHERE EVENT *.denied EXISTS SINCE 2h ago', [95]],
  ['LOGS SINCE 1h ago WHERE EVENT kacs.denied EXISTS', ['an ERROR']],
];

test('[QL-110, QL-111, QL-112, QL-114, QL-115, QL-116, QL-117] the examples 39 to 45 and 58 of the language', async (t) => {
  const { store } = await serve(t);
  for (const [query, expected] of EXAMPLES) {
    const answer = await ask(store.socketPath, query);
    if (typeof expected === 'string')
      assert.ok(answer.error?.startsWith(expected), `${query}: ${answer.error}`);
    else assert.deepEqual(ids(answer), expected, query);
  }
});

test('[QL-113] the last sample before SINCE counts for CrossTypeWindowMs and no longer', async (t) => {
  const { store, service } = await serve(t);
  const text = 'EVENTS SINCE 3050s ago WHERE METRIC cpu.usage[core="0"] > 80 AND timestamp < 1600s ago';
  assert.deepEqual(ids(await ask(store.socketPath, text)), []);
  service.updateLimits({ ...LIMITS, crossTypeWindowMs: 300_000 });
  assert.deepEqual(ids(await ask(store.socketPath, text)), [2000, 3000]);
});

test('[QL-117] [QL-123] [QX-64] [CFG-50] the look-back in force when a query starts is its limit, to the second', async (t) => {
  const { store, service } = await serve(t);
  const query = (clauses: string) => ask(store.socketPath, `EVENTS ${clauses} WHERE LOG loregd EXISTS`);
  assert.equal((await query('SINCE 7d ago')).error, null);
  assert.equal(
    (await query('SINCE 604801s ago')).error,
    'range too large: the query spans 604801 s, but with METRIC, EVENT or LOG filters at most 604800 s (7 days) are allowed (CrossTypeMaxLookbackSeconds); narrow SINCE and UNTIL',
  );
  // UNTIL ends the range wherever it lies; what matters is the distance.
  assert.equal((await query('SINCE 30d ago UNTIL 23d ago')).error, null);
  assert.match((await query('SINCE 7d ago UNTIL 1s hence')).error ?? '', /^range too large: .* 604801 s/);
  assert.equal((await query('SINCE 1d hence')).error, null);
  service.updateLimits({ ...LIMITS, crossTypeMaxLookbackSeconds: 3600 });
  assert.match(
    (await query('SINCE 3601s ago')).error ?? '',
    /at most 3600 s are allowed .*narrow SINCE and UNTIL/,
  );
  assert.equal((await query('SINCE 1h ago')).error, null);
  assert.equal((await ask(store.socketPath, 'EVENTS SINCE 30d ago WHERE x == 1 TAKE 1')).error, null);
});

test('[QL-118] [QL-111] a METRIC filter on a histogram is a type error that names it; no data is false', async (t) => {
  const { store } = await serve(t);
  for (const metric of ['req.time', 'REQ.*', 'req.time[]', '*']) {
    const { error } = await ask(
      store.socketPath,
      `EVENTS SINCE 1h ago WHERE x == 9 AND METRIC ${metric} > 1`,
    );
    assert.match(error ?? '', /^type error: METRIC (req|REQ|\*)\S* .*req\.time is a histogram/, metric);
  }
  for (const where of [
    'METRIC req.time[core="0"] > 1',
    'METRIC nothing > 1',
    'METRIC nothing != 1',
    'METRIC nothing[] NOT_IN (1)',
  ]) {
    assert.deepEqual(ids(await ask(store.socketPath, `EVENTS SINCE 1h ago WHERE ${where}`)), [], where);
  }
});

test('[QL-119] MAX and MIN rollups spare windows that cannot match, and never change an outcome', async (t) => {
  const store = makeStore(t);
  const values = Array.from(
    { length: 240 },
    (_, index) => [3600 - index * 15, index % 60 === 7 ? 99 : index % 50] as const,
  );
  writeWorld(store, {
    ...WORLD,
    // One in every interval between two samples.
    events: values.map(([seconds], id) => ({
      time: ago(seconds - 5),
      type: 'a',
      x: 0,
      id: id + 1,
      shard: 0,
    })),
    series: [gauge('load', 'core=0', ...values), gauge('load', 'core=1', [3000, 5])],
  });
  const file = join(store.directory, '..', 'metrics.db');
  const window = 900n * SECOND;
  const db = new Database(file);
  db.defaultSafeIntegers(true);
  const rows = db
    .prepare(
      'SELECT series_id, timestamp / ? * ? AS start, min(value), max(value), count(*) FROM samples GROUP BY 1, 2',
    )
    .raw()
    .all(window, window) as [bigint, bigint, number, number, bigint][];
  const service = await startService(t, store);
  const queries = ['> 90', '>= 49', '< 2', '<= 0', '== 7', '!= 7', 'IN (1, 2)'].flatMap((test) => [
    `METRIC load[] ${test}`,
    `METRIC load[core="0"] ${test} OR METRIC load[] < 0`,
    `METRIC load ${test}`,
  ]);
  const answers = async () =>
    Promise.all(
      queries.map(async (where) => ids(await ask(store.socketPath, `EVENTS SINCE 70m ago WHERE ${where}`))),
    );
  const raw = await answers();
  const rollup = db.prepare(
    'INSERT INTO rollups (series_id, function, window_seconds, window_start, value, sample_count) VALUES (?, ?, 900, ?, ?, ?)',
  );
  for (const [series, start, min, max, count] of rows) {
    rollup.run(series, 1n, start, min, count);
    rollup.run(series, 2n, start, max, count);
  }
  assert.deepEqual(await answers(), raw);
  // That they are used shows when they lie: windows said to reach no further are passed over.
  db.exec('UPDATE rollups SET value = CASE function WHEN 1 THEN 100 ELSE -1 END');
  const lied = await answers();
  for (const [index, query] of queries.entries()) {
    if (/^METRIC load\[\] [<>]/.test(query)) {
      assert.notEqual(raw[index]?.length, 0, query);
      assert.notDeepEqual(lied[index], raw[index], query);
    } else if (!query.includes('[')) assert.deepEqual(lied[index], raw[index], query);
  }
  db.close();
  await service.stop();
});

test('[QL-114] [QX-15] a filter on a busy store is one range, and its bounds are those of the query', async (t) => {
  const { store } = await serve(t, { crossTypeWindowMs: 300_000 });
  const count = await ask(store.socketPath, 'LOGS SINCE 2h ago WHERE EVENT * EXISTS COUNT');
  assert.deepEqual(count.records, [{ count: 3 }]);
  const metric = await ask(
    store.socketPath,
    'METRIC mem.usage[] SINCE 2h ago WHERE LOG peinit EXISTS OR value == 95',
  );
  assert.deepEqual(ids(metric), [95]);
});

test('[QX-62] [QX-65] a filter that takes too long ends at the deadline of its query', async (t) => {
  const store: TestStore = makeStore(t);
  const events = Array.from({ length: 60_000 }, (_, id) => ({
    time: ago(3000 - (id % 2900)),
    type: 'a',
    x: 0,
    id,
    shard: 0,
  }));
  writeWorld(store, { events, logs: WORLD.logs, series: [] });
  await startService(t, store, { limits: { queryTimeoutMs: 1000 } });
  // Each pattern is another stage, and each looks at every event.
  const patterns = Array.from({ length: 1500 }, (_, index) => `EVENT "*b${index}*c" EXISTS`);
  const { error } = await ask(store.socketPath, `LOGS SINCE 1h ago WHERE ${patterns.join(' OR ')}`);
  assert.match(error ?? '', /^timeout: .*1000 ms/);
});
