import assert from 'node:assert/strict';
import { test } from 'node:test';
import Database from 'better-sqlite3';
import { type EventRow, gapRow, insertRows, writeShard } from '../fixtures/eventShards.js';
import { makeStore, startService } from '../fixtures/queryService.js';
import { ask, type ResponseRecord } from '../fixtures/rawQueryClient.js';

/** 2026-05-01T00:00:00Z in ns. */
const T0 = 1_777_593_600_000_000_000n;

const at = (second: number): bigint => T0 + BigInt(second) * 1_000_000_000n;
const timestamps = (records: readonly ResponseRecord[]): unknown[] =>
  records.map(({ timestamp }) => timestamp);
const names = (records: readonly ResponseRecord[]): unknown[] => records.map(({ name }) => name);

/** Rows of one shard: every third second, so that three shards interleave. */
function thirds(shard: number, count: number): EventRow[] {
  return Array.from({ length: count }, (_, i) => ({
    timestamp: at(i * 3 + shard),
    cpu: shard,
    payload: { name: `s${shard}-${i}`, size: BigInt(i), source: { name: shard === 1 ? 'login' : 'other' } },
  }));
}

test('[QX-20] [QX-23] [QX-28] [QL-70] [WIRE-5] three shards are merged, newest first', async (t) => {
  const store = makeStore(t);
  for (let shard = 0; shard < 3; shard++)
    writeShard(store.directory, `shard-000${shard}.db`, thirds(shard, 40));
  await startService(t, store);
  const answer = await ask(store.socketPath, 'EVENTS');
  assert.equal(answer.error, null);
  assert.ok(answer.ended);
  assert.deepEqual(
    timestamps(answer.records),
    Array.from({ length: 120 }, (_, i) => at(119 - i)),
  );
});

test('[QL-78] [QL-120] [WIRE-6] [WIRE-10] a record has all columns and its top-level payload fields', async (t) => {
  const store = makeStore(t);
  writeShard(store.directory, 'shard-0000.db', [
    {
      timestamp: at(0),
      cpu: 2,
      sequence: 7n,
      origin: 2,
      type: 'kacs.denied',
      payload: { user: 'Ö', deep: { a: [1] }, ratio: 1.5 },
    },
  ]);
  await startService(t, store);
  const { records } = await ask(store.socketPath, 'EVENTS');
  const guid = '{a3a2a1a0-a5a4-a7a6-a8a9-aaabacadaeaf}';
  assert.deepEqual(records, [
    {
      timestamp: at(0),
      cpu_id: 2,
      sequence: 7,
      origin_class: 2,
      event_type: 'kacs.denied',
      effective_token_guid: guid,
      true_token_guid: guid,
      process_guid: guid,
      boot_id: '{04030201-0605-0807-090a-0b0c0d0e0f10}',
      user: 'Ö',
      deep: { a: [1] },
      ratio: 1.5,
    },
  ]);
});

test('[QL-53] [QX-23] SKIP and TAKE cut the merged order, not the shards', async (t) => {
  const store = makeStore(t);
  for (let shard = 0; shard < 3; shard++)
    writeShard(store.directory, `shard-000${shard}.db`, thirds(shard, 40));
  await startService(t, store);
  const page = await ask(store.socketPath, 'EVENTS SKIP 5 TAKE 4');
  assert.deepEqual(timestamps(page.records), [at(114), at(113), at(112), at(111)]);
  const beyond = await ask(store.socketPath, 'EVENTS SKIP 118');
  assert.deepEqual(timestamps(beyond.records), [at(1), at(0)]);
  const none = await ask(store.socketPath, 'EVENTS TAKE 0');
  assert.deepEqual(none.messages, [{ status: 'ok', records: [] }, { status: 'end' }]);
});

test('[QL-71] ties: timestamp descending, file name ascending, rowid descending', async (t) => {
  const store = makeStore(t);
  const tied = (shard: string): EventRow[] => [
    { timestamp: at(1), payload: { name: `${shard}-first`, size: 1n } },
    { timestamp: at(1), payload: { name: `${shard}-second`, size: 1n } },
    { timestamp: at(2), payload: { name: `${shard}-later`, size: 1n } },
  ];
  for (const shard of ['b', 'a', 'c']) writeShard(store.directory, `${shard}.db`, tied(shard));
  await startService(t, store);
  const { records } = await ask(store.socketPath, 'EVENTS SORT size');
  assert.deepEqual(names(records), [
    'a-later',
    'b-later',
    'c-later',
    'a-second',
    'a-first',
    'b-second',
    'b-first',
    'c-second',
    'c-first',
  ]);
});

test('[QL-70] [QL-71] SORT orders across shards, NULL before numbers before strings', async (t) => {
  const store = makeStore(t);
  writeShard(store.directory, 'shard-0000.db', [
    { timestamp: at(1), payload: { name: 'two', k: 2n } },
    { timestamp: at(2), payload: { name: 'text', k: 'B' } },
  ]);
  writeShard(store.directory, 'shard-0001.db', [
    { timestamp: at(3), payload: { name: 'half', k: 2.5 } },
    { timestamp: at(4), payload: { name: 'none' } },
    { timestamp: at(5), payload: { name: 'lower', k: 'a' } },
  ]);
  await startService(t, store);
  const up = await ask(store.socketPath, 'EVENTS SORT k');
  assert.deepEqual(names(up.records), ['none', 'two', 'half', 'text', 'lower']);
  const down = await ask(store.socketPath, 'EVENTS SORT k DESC');
  assert.deepEqual(names(down.records), ['lower', 'text', 'half', 'two', 'none']);
});

test('[QL-41] [QL-62] [QX-10] WHERE and SELECT reach into payload maps', async (t) => {
  const store = makeStore(t);
  for (let shard = 0; shard < 3; shard++)
    writeShard(store.directory, `shard-000${shard}.db`, thirds(shard, 10));
  await startService(t, store);
  const { records } = await ask(
    store.socketPath,
    'EVENTS WHERE source.name STARTS_WITH "LOG" WHERE size >= 8 SELECT name, source.name',
  );
  assert.deepEqual(records, [
    { name: 's1-9', 'source.name': 'login' },
    { name: 's1-8', 'source.name': 'login' },
  ]);
});

test('[QL-50] [QL-51] [QL-60] a pattern and a half-open time range', async (t) => {
  const store = makeStore(t);
  writeShard(store.directory, 'shard-0000.db', [
    { timestamp: at(0), type: 'kacs.denied' },
    { timestamp: at(60), type: 'KACS.granted' },
    { timestamp: at(86400), type: 'kacs.denied' },
    { timestamp: at(30), type: 'kacs' },
  ]);
  await startService(t, store);
  const { records } = await ask(store.socketPath, 'EVENTS kacs.* SINCE 2026-05-01 UNTIL 2026-05-02');
  assert.deepEqual(timestamps(records), [at(60), at(0)]);
});

test('[QL-47] [STO-9] [QX-28] cpu_id finds the gap records of that CPU, in whichever shard', async (t) => {
  const store = makeStore(t);
  writeShard(store.directory, 'shard-0000.db', [
    { timestamp: at(1), cpu: 3 },
    { timestamp: at(2), cpu: 1 },
  ]);
  writeShard(store.directory, 'shard-0001.db', [gapRow(at(3), 3, 5n, 9n), gapRow(at(4), 1, 1n, 2n)]);
  await startService(t, store);
  const { records } = await ask(
    store.socketPath,
    'EVENTS WHERE cpu_id == 3 SELECT event_type, cpu_id, missing_count',
  );
  assert.deepEqual(records, [
    { event_type: 'synthetic.gap', cpu_id: 3, missing_count: 5 },
    { event_type: 'test.event', cpu_id: 3 },
  ]);
  const orphans = await ask(store.socketPath, 'EVENTS WHERE cpu_id IS NULL');
  assert.deepEqual(orphans.records, []);
});

test('[QX-60] [STO-28] a query reads what a writer committed, beside the open writer', async (t) => {
  const store = makeStore(t);
  const path = writeShard(store.directory, 'shard-0000.db', [{ timestamp: at(0) }]);
  const writer = new Database(path);
  t.after(() => writer.close());
  await startService(t, store);
  assert.equal((await ask(store.socketPath, 'EVENTS')).records.length, 1);
  insertRows(writer, [{ timestamp: at(1) }]);
  writer.exec('BEGIN IMMEDIATE');
  assert.equal((await ask(store.socketPath, 'EVENTS')).records.length, 2);
  writer.exec('COMMIT');
});

test('[WIRE-7] results are split near 1000 records and 256 KiB', async (t) => {
  const store = makeStore(t);
  writeShard(
    store.directory,
    'shard-0000.db',
    Array.from({ length: 2500 }, (_, i) => ({ timestamp: at(i) })),
  );
  writeShard(
    store.directory,
    'shard-0001.db',
    Array.from({ length: 40 }, (_, i) => ({
      timestamp: at(10_000 + i),
      payload: { text: 'x'.repeat(20_000) },
    })),
  );
  await startService(t, store);
  const { messages } = await ask(store.socketPath, 'EVENTS');
  const sizes = messages.flatMap((message) => (message.status === 'ok' ? [message.records.length] : []));
  assert.equal(
    sizes.reduce((sum, size) => sum + size),
    2540,
  );
  assert.ok(Math.max(...sizes) <= 1000, `largest message: ${Math.max(...sizes)} records`);
  assert.ok((sizes[0] ?? 0) <= 14, `first message: ${sizes[0]} records of 20 kB`);
  assert.ok(sizes.every((size) => size > 0));
});

test('[WIRE-7] a result that ends with a full message gets no empty one behind it', async (t) => {
  const store = makeStore(t);
  writeShard(
    store.directory,
    'shard-0000.db',
    Array.from({ length: 1000 }, (_, i) => ({ timestamp: at(i) })),
  );
  await startService(t, store);
  const { messages } = await ask(store.socketPath, 'EVENTS SELECT timestamp');
  assert.deepEqual(
    messages.map((message) => message.status),
    ['ok', 'end'],
  );
});

test('[WIRE-7] [QX-20] a store without any database answers an empty result', async (t) => {
  const store = makeStore(t);
  await startService(t, store);
  const { messages } = await ask(store.socketPath, 'EVENTS');
  assert.deepEqual(messages, [{ status: 'ok', records: [] }, { status: 'end' }]);
});
