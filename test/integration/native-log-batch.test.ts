import assert from 'node:assert/strict';
import { encode } from '@msgpack/msgpack';
import { native, type ReceiverHandle } from '../../src/native/addon.js';
import { INSERT_LOGS, LOG_SCHEMA } from '../../src/stores/logSchema.js';
import { datagramLoad } from '../fixtures/dgramload.js';
import { inReceiverWorld, type LogRow, type ReceiverWorld, record } from '../fixtures/receivers.js';

const BOOT = new Uint8Array(16).fill(7);

interface StoredRow extends LogRow {
  readonly id: bigint;
  readonly boot_id: Uint8Array;
}

function createStore(world: ReceiverWorld): void {
  for (const statement of LOG_SCHEMA.statements) world.db.exec(statement);
}

function stored(world: ReceiverWorld): StoredRow[] {
  return world.db.prepare('SELECT * FROM logs ORDER BY id').all() as StoredRow[];
}

function inject(receiver: ReceiverHandle, value: unknown): void {
  assert.ok(native.receiverInject(receiver, encode(value, { useBigInt64: true })));
}

inReceiverWorld('[LOG-14][LOG-33] records become rows of the log table, each field as sent', (world) => {
  createStore(world);
  const receiver = world.open();
  const from = native.realtimeNs();
  inject(receiver, record('sent', { timestamp: 1234567890123456789n, is_error: true }));
  inject(receiver, record('received', { origin: 'jellyfin/ExecStartPre[0]' }));
  inject(receiver, record('', { origin: '' }));
  inject(
    receiver,
    record('zwei\nZeilen \u{1f41d} \0 end', { timestamp: 0n, ['__proto__']: 1, extra: [{ a: null }] }),
  );
  inject(receiver, record('last', { timestamp: 2n ** 63n - 1n }));
  const to = native.realtimeNs();
  const { batch } = world.take(receiver);
  assert.deepEqual(native.logDecode(batch, 5000), { records: 5, more: false });
  assert.equal(world.db.prepare(INSERT_LOGS).run(BOOT, batch).changes, 5);
  native.datagramsRelease(batch);
  const rows = stored(world);
  assert.deepEqual(
    rows.map((row) => [row.id, row.origin, row.is_error, row.message]),
    [
      [1n, 'svc', 1n, 'sent'],
      [2n, 'jellyfin/ExecStartPre[0]', 0n, 'received'],
      [3n, '', 0n, ''],
      [4n, 'svc', 0n, 'zwei\nZeilen \u{1f41d} \0 end'],
      [5n, 'svc', 0n, 'last'],
    ],
  );
  assert.ok(rows.every((row) => Buffer.from(row.boot_id).equals(BOOT)));
  assert.equal(rows[0]?.timestamp, 1234567890123456789n);
  assert.ok(rows[1] && rows[1].timestamp >= from && rows[1].timestamp <= to);
  assert.equal(rows[3]?.timestamp, 0n);
  assert.equal(rows[4]?.timestamp, 2n ** 63n - 1n);
  const kinds = world.db.prepare(
    'SELECT DISTINCT typeof(origin) || typeof(message) || typeof(is_error) FROM logs',
  );
  assert.deepEqual(kinds.pluck().all(), ['texttextinteger']);
});

inReceiverWorld('[LOG-18][LOG-19][LOG-20][LOG-21][LOG-22][LOG-23] only valid records are stored', (world) => {
  createStore(world);
  const receiver = world.open();
  const values: unknown[] = [
    [record('a'), 3, record('b', { is_error: 1 }), [record('nested')], record('c')],
    [],
    'text',
    { origin: 'svc', is_error: false },
    record('bytes', { origin: new Uint8Array([97]) }),
    record('nil', { timestamp: null }),
    record('fraction', { timestamp: 1.5 }),
    record('negative', { timestamp: -1n }),
    record('large', { timestamp: 2n ** 63n }),
    [record('d')],
  ];
  for (const value of values) inject(receiver, value);
  const whole = encode(record('cut'));
  assert.ok(native.receiverInject(receiver, whole.subarray(0, whole.length - 1)));
  assert.ok(native.receiverInject(receiver, new Uint8Array([...whole, 0xc0])));
  assert.ok(native.receiverInject(receiver, new Uint8Array([0xdd, 0x01, 0xff, 0xff, 0xff])));
  assert.ok(native.receiverInject(receiver, new Uint8Array()));
  assert.deepEqual(
    world.drain(world.take(receiver).batch).map((row) => row.message),
    ['a', 'c', 'd'],
  );
  assert.equal(native.receiverStatus(receiver).dropped, 0n);
});

inReceiverWorld('[LOG-28][LOG-30] one datagram spans transactions; ids rise in its order', (world) => {
  createStore(world);
  const receiver = world.open();
  inject(receiver, record('before'));
  inject(
    receiver,
    Array.from({ length: 1000 }, (_, i) => record(`n${i}`)),
  );
  inject(receiver, record('after'));
  const { batch } = world.take(receiver);
  const insert = world.db.prepare(INSERT_LOGS);
  const sizes: number[] = [];
  let more = true;
  while (more) {
    const step = native.logDecode(batch, 300);
    more = step.more;
    sizes.push(world.db.transaction(() => insert.run(BOOT, batch).changes)());
    assert.equal(sizes.at(-1), step.records);
  }
  native.datagramsRelease(batch);
  assert.deepEqual(sizes, [300, 300, 300, 102]);
  const rows = stored(world);
  const expected = ['before', ...Array.from({ length: 1000 }, (_, i) => `n${i}`), 'after'];
  assert.deepEqual(
    rows.map((row) => row.message),
    expected,
  );
  assert.equal(new Set(rows.slice(1, 1001).map((row) => row.timestamp)).size, 1);
});

inReceiverWorld(
  '[LOG-46] a transaction that was rolled back can be tried again with the same step',
  (world) => {
    createStore(world);
    const receiver = world.open();
    inject(receiver, [record('a'), record('b'), record('c')]);
    const { batch } = world.take(receiver);
    native.logDecode(batch, 2);
    const insert = world.db.prepare(INSERT_LOGS);
    assert.throws(
      world.db.transaction(() => {
        insert.run(BOOT, batch);
        throw new Error('disk full');
      }),
      /disk full/,
    );
    assert.equal(stored(world).length, 0);
    assert.equal(insert.run(BOOT, batch).changes, 2);
    assert.deepEqual(native.logDecode(batch, 2), { records: 1, more: false });
    assert.equal(insert.run(BOOT, batch).changes, 1);
    native.datagramsRelease(batch);
    assert.equal(world.db.prepare('SELECT group_concat(message) FROM logs').pluck().get(), 'a,b,c');
  },
);

inReceiverWorld('[LOG-33] a batch that is being read is neither decoded nor freed', (world) => {
  const receiver = world.open();
  inject(receiver, [record('a'), record('b'), record('c')]);
  const { batch } = world.take(receiver);
  native.logDecode(batch, 2);
  const rows = world.db.prepare('SELECT message FROM log_batch(?)').pluck().iterate(batch);
  assert.equal(rows.next().value, 'a');
  assert.throws(() => native.logDecode(batch, 2), { code: 'EBUSY' });
  native.datagramsRelease(batch);
  assert.equal(native.receiverTake(receiver), null);
  assert.equal(rows.next().value, 'b');
  assert.equal(rows.next().done, true);
  const select = world.db.prepare('SELECT * FROM log_batch(?)');
  assert.throws(() => select.all(batch), /names no taken batch/);
  assert.throws(() => world.db.prepare('SELECT * FROM log_batch').all(), /argument is missing/);
});

inReceiverWorld('[LOG-28] decoding needs a positive number of records', (world) => {
  const receiver = world.open();
  inject(receiver, record('a'));
  const { batch } = world.take(receiver);
  for (const bad of [0, -1, 1.5, Number.NaN]) assert.throws(() => native.logDecode(batch, bad), /maxRecords/);
  assert.throws(() => native.logDecode(receiver as unknown as typeof batch, 1), { code: 'ERR_HANDLE' });
  assert.throws(() => native.receiverTake(batch as unknown as typeof receiver), { code: 'ERR_HANDLE' });
});

inReceiverWorld('[LOG-13][LOG-34] batches of a real sender fill the indexed table', async (world) => {
  createStore(world);
  const receiver = world.start(8 << 20);
  const sent = await datagramLoad(world.path, { datagrams: 200, batch: 50, series: 5, stamped: true });
  await world.received(receiver, 200);
  const insert = world.db.prepare(INSERT_LOGS);
  let changes = 0;
  for (let batch = native.receiverTake(receiver); batch !== null; batch = native.receiverTake(receiver)) {
    while (native.logDecode(batch.batch, 1000).records > 0) changes += insert.run(BOOT, batch.batch).changes;
    native.datagramsRelease(batch.batch);
  }
  assert.equal(changes, sent.records);
  const rows = stored(world);
  assert.deepEqual(
    rows.map((row) => Number(row.message.slice(0, 12))),
    Array.from({ length: 10_000 }, (_, i) => i),
  );
  const count = world.db
    .prepare('SELECT count(*) FROM logs INDEXED BY idx_logs_origin WHERE origin = ?')
    .pluck();
  assert.equal(count.get('load-3'), 2000n);
  assert.deepEqual(world.db.pragma('integrity_check', { simple: true }), 'ok');
});
