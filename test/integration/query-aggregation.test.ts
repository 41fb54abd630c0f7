/** Aggregations over several real shards and a real log store, through socket and workers. */
import assert from 'node:assert/strict';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { LOG_SCHEMA } from '../../src/stores/logSchema.js';
import { openStore } from '../../src/stores/storeFile.js';
import { type EventRow, gapRow, writeShard } from '../fixtures/eventShards.js';
import { makeStore, startService as startOn, type TestStore } from '../fixtures/queryService.js';
import { ask, type ResponseRecord } from '../fixtures/rawQueryClient.js';

/** 2026-05-01T00:00:00Z in ns. */
const T0 = 1_777_593_600_000_000_000n;
const at = (second: number): bigint => T0 + BigInt(second) * 1_000_000_000n;

const GUID = Uint8Array.from({ length: 16 }, (_, i) => i + 1);
const GUID_TEXT = '{04030201-0605-0807-090a-0b0c0d0e0f10}';

let clock = 0;
const event = (type: string, payload?: unknown, more: Partial<EventRow> = {}): EventRow => ({
  timestamp: at(clock++),
  type,
  payload,
  ...more,
});

/** A service over shards with these rows. */
async function serve(t: TestContext, ...shards: readonly (readonly EventRow[])[]): Promise<TestStore> {
  const store = makeStore(t);
  for (const [index, rows] of shards.entries()) writeShard(store.directory, `shard-000${index}.db`, rows);
  await startOn(t, store);
  return store;
}

async function records(store: TestStore, query: string): Promise<readonly ResponseRecord[]> {
  const answer = await ask(store.socketPath, query);
  assert.equal(answer.error, null, query);
  assert.ok(answer.ended, query);
  return answer.records;
}

function writeLogs(
  file: string,
  lines: readonly (readonly [origin: string, isError: number, message: string])[],
): void {
  const db = openStore(file, LOG_SCHEMA);
  const insert = db.prepare(
    'INSERT INTO logs (boot_id, timestamp, origin, is_error, message) VALUES (?, ?, ?, ?, ?)',
  );
  for (const [origin, isError, message] of lines) insert.run(GUID, at(clock++), origin, isError, message);
  db.close();
}

test('[QL-66] [QX-23] counts per value come from all shards, most first, ties by value ascending', async (t) => {
  const store = await serve(
    t,
    [event('b'), event('a'), event('c')],
    [event('b'), event('c'), event('B')],
    [event('b'), event('d')],
  );
  assert.deepEqual(await records(store, 'EVENTS COUNT BY event_type'), [
    { event_type: 'b', count: 3 },
    { event_type: 'c', count: 2 },
    { event_type: 'B', count: 1 },
    { event_type: 'a', count: 1 },
    { event_type: 'd', count: 1 },
  ]);
});

test('[QL-67] [QX-23] TOP cuts groups, not rows of a shard; SORT, SKIP and TAKE act on what is left', async (t) => {
  // `x` leads in no shard, but in all together.
  const store = await serve(
    t,
    [event('a'), event('a'), event('a'), event('x'), event('x')],
    [event('b'), event('b'), event('b'), event('x'), event('x')],
  );
  assert.deepEqual(await records(store, 'EVENTS TOP 1 BY event_type'), [{ event_type: 'x', count: 4 }]);
  assert.deepEqual(await records(store, 'EVENTS TOP 0 BY event_type'), []);
  assert.deepEqual(await records(store, 'EVENTS TOP 2 BY event_type SORT count'), [
    { event_type: 'a', count: 3 },
    { event_type: 'x', count: 4 },
  ]);
  assert.deepEqual(await records(store, 'EVENTS TOP 2 BY event_type SKIP 1 TAKE 5'), [
    { event_type: 'a', count: 3 },
  ]);
});

test('[QL-66] 1, 1.0 and true are one key; strings, bytes, nil and exact 64-bit integers are their own', async (t) => {
  const one = (value: unknown): EventRow => event('e', { x: value });
  const store = await serve(
    t,
    [one(1n), one(true), one('1'), one(2n ** 64n - 1n), one(2n ** 64n - 2n), one(null)],
    [one(1.5), one('a'), one('A'), one(Uint8Array.of(0x31)), one([1]), event('e')],
    // 1.0 as a float64, which an encoder of JavaScript would make an integer.
    [event('e', Uint8Array.from([0x81, 0xa1, 0x78, 0xcb, 0x3f, 0xf0, 0, 0, 0, 0, 0, 0])), one(Number.NaN)],
  );
  assert.deepEqual(await records(store, 'EVENTS COUNT BY x SORT x'), [
    { x: null, count: 4 },
    { x: 1, count: 3 },
    { x: 1.5, count: 1 },
    { x: 2n ** 64n - 2n, count: 1 },
    { x: 2n ** 64n - 1n, count: 1 },
    { x: '1', count: 1 },
    { x: 'A', count: 1 },
    { x: 'a', count: 1 },
    { x: Buffer.of(0x31), count: 1 },
  ]);
});

test('[QL-66] DISTINCT is ascending and holds nil', async (t) => {
  const store = await serve(
    t,
    [event('e', { x: 2 }), event('e')],
    [event('e', { x: 'a' }), event('e', { x: 2 })],
  );
  assert.deepEqual(await records(store, 'EVENTS DISTINCT x'), [{ x: null }, { x: 2 }, { x: 'a' }]);
  assert.deepEqual(await records(store, 'EVENTS DISTINCT x SORT x DESC TAKE 1'), [{ x: 'a' }]);
});

test('[QL-64] [QL-69] functions skip what is no number; a group without any gives NULL', async (t) => {
  const store = await serve(
    t,
    [event('a', { x: 1 }), event('a', { x: '5' }), event('b', { x: 'no' }), event('a', { x: 2.5 })],
    [event('a', { x: null }), event('b'), event('a', { x: true }), event('c', { x: 7n })],
  );
  const by = (fn: string) => records(store, `EVENTS GROUP event_type ${fn} x`);
  assert.deepEqual(await by('SUM'), [
    { event_type: 'c', sum: 7 },
    { event_type: 'a', sum: 4.5 },
    { event_type: 'b', sum: null },
  ]);
  assert.deepEqual(await by('AVG'), [
    { event_type: 'c', avg: 7 },
    { event_type: 'a', avg: 1.5 },
    { event_type: 'b', avg: null },
  ]);
  assert.deepEqual(await by('MIN'), [
    { event_type: 'c', min: 7 },
    { event_type: 'a', min: 1 },
    { event_type: 'b', min: null },
  ]);
  assert.deepEqual(await by('MAX'), [
    { event_type: 'c', max: 7 },
    { event_type: 'a', max: 2.5 },
    { event_type: 'b', max: null },
  ]);
  // Example 26 of the specification: ascending, NULL first.
  assert.deepEqual(
    (await records(store, 'EVENTS GROUP event_type AVG x SORT avg')).map(({ event_type }) => event_type),
    ['b', 'a', 'c'],
  );
});

test('[QL-69] sums are exact int64, and float64 beyond it: no overflow of a part shows', async (t) => {
  const big = 2n ** 63n - 1n;
  const store = await serve(
    t,
    [event('fits', { x: big }), event('fits', { x: big }), event('over', { x: big })],
    [event('fits', { x: -big }), event('over', { x: 1n }), event('fits', { x: -5n })],
    [event('huge', { x: 2n ** 63n }), event('huge', { x: -1n })],
  );
  assert.deepEqual(await records(store, 'EVENTS GROUP event_type SUM x SORT event_type'), [
    { event_type: 'fits', sum: big - 5n },
    { event_type: 'huge', sum: big },
    { event_type: 'over', sum: 2 ** 63 },
  ]);
});

test('[QL-69] functions without groups give one record, over nothing too', async (t) => {
  const store = await serve(t, [event('a', { x: 3 })], [event('b', { x: 4 })]);
  assert.deepEqual(await records(store, 'EVENTS COUNT'), [{ count: 2 }]);
  assert.deepEqual(await records(store, 'EVENTS SUM x'), [{ sum: 7 }]);
  assert.deepEqual(await records(store, 'EVENTS AVG x'), [{ avg: 3.5 }]);
  assert.deepEqual(await records(store, 'EVENTS MIN x'), [{ min: 3 }]);
  assert.deepEqual(await records(store, 'EVENTS none COUNT'), [{ count: 0 }]);
  assert.deepEqual(await records(store, 'EVENTS none SUM x'), [{ sum: null }]);
  assert.deepEqual(await records(store, 'EVENTS none MAX x'), [{ max: null }]);
  // Strings and GUIDs are known to be no numbers.
  assert.deepEqual(await records(store, 'EVENTS SUM event_type'), [{ sum: null }]);
  assert.deepEqual(await records(store, 'EVENTS MAX boot_id'), [{ max: null }]);
  const empty = await serve(t);
  assert.deepEqual(await records(empty, 'EVENTS COUNT'), [{ count: 0 }]);
  assert.deepEqual(await records(empty, 'EVENTS COUNT BY x'), []);
});

test('[QL-45] [QL-47] grouping by a header column falls back to the payload of synthetic records', async (t) => {
  const store = await serve(
    t,
    [event('a', undefined, { cpu: 3, process: GUID }), gapRow(at(900), 3, 1n, 5n)],
    [
      event('a', undefined, { cpu: 1, process: GUID }),
      gapRow(at(901), 1, 1n, 5n),
      gapRow(at(902), 3, 9n, 9n),
    ],
  );
  assert.deepEqual(await records(store, 'EVENTS COUNT BY cpu_id'), [
    { cpu_id: 3, count: 3 },
    { cpu_id: 1, count: 2 },
  ]);
  assert.deepEqual(await records(store, 'EVENTS GROUP event_type MAX cpu_id SORT event_type'), [
    { event_type: 'a', max: 3 },
    { event_type: 'synthetic.gap', max: 3 },
  ]);
  assert.deepEqual(await records(store, 'EVENTS COUNT BY process_guid'), [
    { process_guid: null, count: 3 },
    { process_guid: GUID_TEXT, count: 2 },
  ]);
});

test('[QL-63] [QL-68] [QL-53] WHERE sees all fields; SELECT only shapes groups, SORT and paging order them', async (t) => {
  const rows = Array.from({ length: 30 }, (_, i) => event(`t${i % 3}`, { n: i, k: i % 5 }));
  const store = await serve(t, rows.slice(0, 11), rows.slice(11));
  assert.deepEqual(
    await records(store, 'EVENTS WHERE n >= 15 GROUP event_type, k COUNT SORT k DESC, event_type TAKE 2'),
    [
      { event_type: 't0', k: 4, count: 1 },
      { event_type: 't1', k: 4, count: 1 },
    ],
  );
  assert.deepEqual(await records(store, 'EVENTS COUNT BY k SELECT count TAKE 2'), [
    { count: 6 },
    { count: 6 },
  ]);
  assert.deepEqual(await records(store, 'EVENTS GROUP k COUNT SKIP 4'), [{ k: 4, count: 6 }]);
});

test('[QL-83] [QL-121] LOGS aggregate as events do; is_error is a boolean', async (t) => {
  const store = makeStore(t);
  writeLogs(join(store.directory, '..', 'logs.db'), [
    ['a', 0, 'x'],
    ['b', 1, 'x'],
    ['a', 1, 'y'],
    ['A', 1, 'z'],
  ]);
  await startOn(t, store);
  assert.deepEqual(await records(store, 'LOGS COUNT BY is_error'), [
    { is_error: true, count: 3 },
    { is_error: false, count: 1 },
  ]);
  assert.deepEqual(await records(store, 'LOGS TOP 1 BY origin'), [{ origin: 'a', count: 2 }]);
  assert.deepEqual(await records(store, 'LOGS DISTINCT message ERROR ONLY'), [
    { message: 'x' },
    { message: 'y' },
    { message: 'z' },
  ]);
  assert.deepEqual(await records(store, 'LOGS GROUP origin SUM is_error SORT origin'), [
    { origin: 'A', sum: 1 },
    { origin: 'a', sum: 1 },
    { origin: 'b', sum: 1 },
  ]);
  assert.deepEqual(await records(store, 'LOGS COUNT'), [{ count: 4 }]);
});
