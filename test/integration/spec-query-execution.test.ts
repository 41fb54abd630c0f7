/** Order of values, order of execution, and which stores are read (06 part 6, 07 parts 1 and 3). */
import assert from 'node:assert/strict';
import { copyFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { CROSS_EVENTS, CROSS_LOGS, CROSS_SERIES } from '../fixtures/exampleRecords.js';
import {
  ago,
  SECOND,
  type Shown,
  series,
  type TaggedEvent,
  windowOf,
  writeStores,
} from '../fixtures/exampleStores.js';
import { askAll, type Example, events, logs, records } from '../fixtures/exampleTable.js';
import { LIMITS, startService } from '../fixtures/queryService.js';
import { ask } from '../fixtures/rawQueryClient.js';
import { StreamClient } from '../fixtures/streams.js';

const bytes = (...list: readonly number[]) => Uint8Array.from(list);

/** In ascending order; entries in one list are equal for SORT. */
const ASCENDING: readonly (readonly (readonly [tag: string, value: Shown | undefined])[])[] = [
  [
    ['missing', undefined],
    ['nil', null],
    ['nan', Number.NaN],
    ['map', new Map([['a', 1n]])],
  ],
  [['lowest', -(2n ** 63n)]],
  [['minus', -5.5]],
  [
    ['zero', 0n],
    ['no', false],
    ['minusZero', -0],
  ],
  [['half', 0.5]],
  [
    ['one', 1],
    ['yes', true],
  ],
  [['float53', 2 ** 53]],
  [['odd53', 2n ** 53n + 1n]],
  [['over63', 2n ** 63n + 1n]],
  [['highest', 2n ** 64n - 1n]],
  [['infinite', Number.POSITIVE_INFINITY]],
  [['empty', '']],
  [['digits', '10']],
  [['upper', 'B']],
  [['lower', 'a']],
  [['prefix', 'a\0']],
  [['replacement', '\uffff']],
  [['emoji', '\u{1f600}']],
  [['noBytes', bytes()]],
  [['byte', bytes(0x41)]],
  [['bytes', bytes(0x41, 0)]],
];

/** Timestamps fall in another order than the values; equal values are newest first in the list. */
const SORTED: readonly TaggedEvent[] = ASCENDING.flatMap((equal, rank) =>
  equal.map(([tag, value], i): TaggedEvent => {
    const at = ago(1000 + ((rank * 7) % 23) * 10 + i);
    const file = ([0, 1, 2] as const)[(rank + i) % 3] ?? 0;
    return {
      tag,
      at,
      file,
      payload: { group: BigInt(rank % 2), ...(value === undefined ? {} : { k: value }) },
    };
  }),
);

const tags = (list: typeof ASCENDING) => records(...list.flatMap((equal) => equal.map(([tag]) => ({ tag }))));
const DESCENDING = [...ASCENDING].reverse();
const inGroup = (list: typeof ASCENDING, group: number) =>
  list.filter((equal) => ASCENDING.indexOf(equal) % 2 === group);

const SORTS: readonly Example[] = [
  ['[QL-71] ascending', 'EVENTS SORT k SELECT tag', tags(ASCENDING)],
  ['[QL-70] [QL-71] descending', 'EVENTS SORT k DESC SELECT tag', tags(DESCENDING)],
  [
    '[QL-70] [QL-71] two keys',
    'EVENTS SORT group DESC, k ASC SELECT tag',
    tags([...inGroup(ASCENDING, 1), ...inGroup(ASCENDING, 0)]),
  ],
  ['[QX-23] [QL-53] a page', 'EVENTS SORT k SELECT tag SKIP 14 TAKE 3', tags(ASCENDING.slice(8, 11))],
  ['[QL-23] [QL-71] numbers only', 'EVENTS SORT k SELECT tag WHERE k >= 1.0', tags(ASCENDING.slice(5, 11))],
];

test('[QL-70] [QL-71] [QX-23] SORT orders every kind of value, over three files', (t) =>
  askAll(t, { events: SORTED }, SORTS));

test('[QL-71] integers above 2^63-1 are sorted as the floats next to them, ties by time', async (t) => {
  const values = {
    float64: 2 ** 64,
    highest: 2n ** 64n - 1n,
    next: 2n ** 64n - 2n,
    over63: 2n ** 63n + 1n,
    float63: 2 ** 63,
  };
  const huge = Object.entries(values).map(
    ([tag, k], i): TaggedEvent => ({ tag, at: ago(100 + i), file: i % 2 === 0 ? 0 : 1, payload: { k } }),
  );
  // The three next to 2^64, and the two next to 2^63, are the same key.
  const ascending = ['over63', 'float63', 'float64', 'highest', 'next'].map((tag) => ({ tag }));
  await askAll(t, { events: huge }, [['[QL-71]', 'EVENTS SORT k SELECT tag', records(...ascending)]]);
});

const CROSS: readonly Example[] = [
  [
    '[QX-4] under OR',
    'EVENTS SINCE 1h ago WHERE METRIC cpu.usage[core="0"] > 80 OR tag == "none"',
    events('none', 'late', 'justBefore80', 'middle', 'nearOther', 'atSample'),
  ],
  [
    '[QX-4] AND in OR',
    'EVENTS SINCE 1h ago WHERE tag == "none" OR (METRIC cpu.usage[core="0"] > 80 AND LOG other EXISTS)',
    events('none', 'nearOther'),
  ],
  [
    '[QL-40] [QX-4] two conditions',
    'EVENTS SINCE 1h ago WHERE METRIC cpu.usage[core="0"] > 80 WHERE METRIC cpu.usage[core="1"] <= 10',
    events('justBefore80', 'middle', 'nearOther', 'atSample'),
  ],
  [
    '[QL-111] the mean of all series',
    'EVENTS SINCE 1h ago WHERE METRIC cpu.usage > 80',
    events('late', 'onlyCore1'),
  ],
  [
    '[QX-3] [QX-5] counted',
    'EVENTS SINCE 1h ago WHERE METRIC cpu.usage > 80 GROUP event_type MAX timestamp',
    records({ event_type: 'fs.open', max: ago(1500) }),
  ],
  [
    '[QX-3] the ranges filter before TAKE',
    'EVENTS TAKE 2 SKIP 1 SINCE 1h ago WHERE METRIC cpu.usage[core="0"] > 80',
    events('justBefore80', 'middle'),
  ],
  [
    '[QL-113] nothing holds before the first sample',
    'LOGS SINCE 1h ago WHERE METRIC cpu.usage[] >= 0',
    logs('Error again', 'error'),
  ],
  [
    '[QL-111] no such series',
    'EVENTS SINCE 1h ago WHERE METRIC cpu.usage[core="7"] != 1 OR METRIC none < 5 OR METRIC none NOT_IN (1)',
    events(),
  ],
  [
    '[QL-110] [QL-6] fields called like filters',
    'EVENTS SINCE 1h ago WHERE METRIC == 1 OR LOG CONTAINS "x" OR EVENT IS NOT NULL',
    events(),
  ],
];

test('[QX-3] [QX-4] [QL-110] [QL-111] [QL-113] cross-type terms keep their place in the expression', (t) =>
  askAll(t, { events: CROSS_EVENTS, logs: CROSS_LOGS, series: CROSS_SERIES }, CROSS));

test('[QX-2] [QX-7] a query is parsed before it takes a slot, and takes one before clock and settings are asked', async (t) => {
  const { store } = writeStores(t, { events: SORTED, series: [series('load', 'gauge', {}, [ago(60), 1])] });
  const service = await startService(t, store, { limits: { maxConcurrentQueries: 1 } });
  const path = store.socketPath;
  const tooFar = 'METRIC load RATE SINCE 30d ago WHERE EVENT a EXISTS';
  const begins = async (query: string, prefix: string) => {
    const { error: text } = await ask(path, query);
    assert.ok(text?.startsWith(prefix), `${query}: ${text}`);
  };
  const stream = await StreamClient.begun(t, path, 'EVENTS TAKE 0 STREAM');
  await begins('EVENTS TAKE x', 'parse error:');
  await begins(`${tooFar} STREAM`, 'parse error:');
  await begins(tooFar, 'limit exceeded:');
  await begins('EVENTS', 'limit exceeded:');
  stream.socket.destroy();
  service.updateLimits({ ...LIMITS, maxConcurrentQueries: 16 });
  await begins(tooFar, 'range too large:');
  await begins('METRIC load RATE SINCE 1h ago WHERE EVENT a EXISTS', 'type error:');
});

test('[QX-21] [QX-25] logs and metrics come from their one store, events from every file with an events table', async (t) => {
  const contents = {
    events: SORTED.slice(0, 3),
    logs: CROSS_LOGS,
    series: [series('load', 'gauge', {}, [ago(60), 1])],
  };
  const { store } = writeStores(t, contents);
  const at = (name: string) => join(store.directory, name);
  for (const copy of [at('../logs-0001.db'), at('../logs.db.bak'), at('logs.db'), at('shard-0009.db')])
    copyFileSync(at('../logs.db'), copy);
  for (const copy of [at('../metrics-0001.db'), at('metrics.db')]) copyFileSync(at('../metrics.db'), copy);
  await startService(t, store);
  const rows = async (query: string) => {
    const answer = await ask(store.socketPath, query);
    assert.equal(answer.error, null, query);
    return answer.records;
  };
  assert.equal((await rows('LOGS')).length, CROSS_LOGS.length);
  assert.equal((await rows('METRIC *[] SINCE 1h ago')).length, 1);
  assert.deepEqual(await rows('EVENTS COUNT'), [{ count: 3 }]);
});

test('[QL-112] [QL-113] the edges of a metric condition, to the nanosecond', async (t) => {
  const base = windowOf(ago(7200), 60);
  const at = (seconds: number) => base + BigInt(seconds) * SECOND;
  const iso = (seconds: number) => new Date(Number(at(seconds) / 1_000_000n)).toISOString().slice(0, 19);
  const one = (tag: string, time: bigint): TaggedEvent => ({ tag, at: time, file: 0 });
  const contents = {
    events: [
      one('end', at(200) - 1n),
      one('next', at(150)),
      one('before', at(150) - 1n),
      one('since', at(100)),
    ],
    series: [
      // CrossTypeWindowMs before SINCE, and a nanosecond more.
      series('inTime', 'gauge', {}, [at(85), 5], [at(150), 6]),
      series('tooOld', 'gauge', {}, [at(85) - 1n, 5], [at(150), 6]),
      series('twice', 'gauge', {}, [at(85), 1], [at(85), 5], [at(150), 6], [at(200), 5]),
    ],
  };
  const range = `EVENTS SINCE ${iso(100)} UNTIL ${iso(200)} WHERE METRIC`;
  await askAll(t, contents, [
    ['[QL-113] exactly CrossTypeWindowMs', `${range} inTime == 5`, events('before', 'since')],
    ['[QL-113] a nanosecond more', `${range} tooOld == 5`, events()],
    ['[QL-112] up to the end', `${range} tooOld == 6`, events('end', 'next')],
    ['[MET-45] [QL-112] the later row of one time', `${range} twice == 5`, events('before', 'since')],
    ['[MET-45] [QL-112] the later row of one time', `${range} twice == 1`, events()],
  ]);
});

test('[QL-91] the latest sample is at or before an explicit UNTIL', async (t) => {
  const until = windowOf(ago(7200), 60);
  const contents = { series: [series('load', 'gauge', {}, [until - 1n, 1], [until, 2], [until + 1n, 3])] };
  const iso = new Date(Number(until / 1_000_000n)).toISOString().slice(0, 19);
  const latest = { timestamp: until, name: 'load', value: 2 };
  await askAll(t, contents, [['[QL-91]', `METRIC load[] UNTIL ${iso}`, records(latest)]]);
});
