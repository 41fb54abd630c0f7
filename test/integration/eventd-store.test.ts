/** What the real eventd stores: the schema to the letter, every byte of every event. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { decode, encode } from '@msgpack/msgpack';
import { formatPlainGuid, parseGuid } from '../../src/host/guid.js';
import { readRing } from '../../src/kmesd/ringReader.js';
import { BOOT_A, EventdWorld } from '../fixtures/eventd.js';

const guid = (fill: number) => new Uint8Array(16).fill(fill);

test('[STO-1] [STO-4] [STO-11] [STO-12] [STO-13] [STO-22] [STO-24] [ING-37] [ING-49] a new shard has the prescribed schema and nothing else', async (t) => {
  const world = EventdWorld.for(t);
  await world.start();
  assert.deepEqual(world.shardFiles(), ['shard-0000.db', 'shard-0001.db']);
  for (const shard of [0, 1]) {
    world.read(shard, (db) => {
      const columns = db
        .prepare('SELECT name, type, "notnull", pk FROM pragma_table_info(\'events\')')
        .raw()
        .all();
      assert.deepEqual(columns, [
        ['id', 'INTEGER', 0n, 1n],
        ['boot_id', 'BLOB', 1n, 0n],
        ['timestamp', 'INTEGER', 1n, 0n],
        ['cpu_id', 'INTEGER', 0n, 0n],
        ['sequence', 'INTEGER', 0n, 0n],
        ['origin_class', 'INTEGER', 0n, 0n],
        ['event_type', 'TEXT', 1n, 0n],
        ['effective_token_guid', 'BLOB', 0n, 0n],
        ['true_token_guid', 'BLOB', 0n, 0n],
        ['process_guid', 'BLOB', 0n, 0n],
        ['payload', 'BLOB', 0n, 0n],
      ]);
      const metadata = db
        .prepare('SELECT name, type, "notnull", pk FROM pragma_table_info(\'metadata\')')
        .raw();
      assert.deepEqual(metadata.all(), [
        ['key', 'TEXT', 0n, 1n],
        ['value', 'TEXT', 1n, 0n],
      ]);
      const objects = db.prepare(
        "SELECT type, name, tbl_name FROM sqlite_master WHERE name NOT LIKE 'sqlite_%'",
      );
      assert.deepEqual(objects.raw().all().sort(), [
        ['index', 'idx_events_timestamp', 'events'],
        ['table', 'events', 'events'],
        ['table', 'metadata', 'metadata'],
      ]);
      const indexed = db.prepare("SELECT name FROM pragma_index_info('idx_events_timestamp')").pluck().all();
      assert.deepEqual(indexed, ['timestamp']);
      const value = db.prepare('SELECT value FROM metadata WHERE key = ?').pluck();
      assert.equal(value.get('schema_version'), '1');
      assert.match(String(value.get('created_at')), /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z$/);
      assert.equal(db.pragma('journal_mode', { simple: true }), 'wal');
    });
  }
});

test('[ING-11] [ING-33] [STO-1] [STO-2] [STO-3] every header field and payload byte arrives as emitted', async (t) => {
  const world = EventdWorld.for(t);
  await world.start();
  const identity = { effectiveToken: guid(0x11), trueToken: guid(0x22), process: guid(0x33) };
  const everyByte = Uint8Array.from({ length: 256 }, (_, i) => i);
  const emitted: {
    type: Uint8Array;
    payload: Uint8Array;
    origin: number;
    identity: typeof identity | null;
  }[] = [
    { type: Buffer.from('plain'), payload: encode({ a: 1 }), origin: 0, identity },
    { type: Buffer.from('no.payload'), payload: new Uint8Array(), origin: 1, identity },
    { type: Buffer.from('no.identity'), payload: encode(null), origin: 2, identity: null },
    { type: Buffer.from('with\0nul'), payload: encode('x'), origin: 3, identity },
    { type: Uint8Array.of(0x62, 0xff, 0xfe, 0xc0, 0x80), payload: encode(1), origin: 0, identity },
    { type: Buffer.from('наблюдение'), payload: everyByte, origin: 255, identity },
    { type: Buffer.from('x'.repeat(255)), payload: new Uint8Array(40_000).fill(0xc1), origin: 0, identity },
    { type: Buffer.from('synthetic.startup'), payload: encode({ fake: true }), origin: 0, identity },
  ];
  for (const [i, { type, payload, origin, identity: who }] of emitted.entries()) {
    world.emit(i % 2, type, payload, who, origin);
  }
  for (const cpu of [0, 1]) {
    await world.stored(cpu);
    const headers = [...readRing(world.ringPath(cpu))];
    const rows = world.rows(cpu, 'sequence IS NOT NULL');
    const mine = emitted.filter((_, i) => i % 2 === cpu);
    assert.equal(rows.length, mine.length);
    for (const [i, row] of rows.entries()) {
      const sent = mine[i];
      assert.ok(sent !== undefined);
      assert.deepEqual(row.type, Buffer.from(sent.type));
      assert.deepEqual(row.payload, sent.payload.length === 0 ? null : Buffer.from(sent.payload));
      assert.equal(row.origin_class, BigInt(sent.origin));
      assert.deepEqual(row.effective_token_guid, Buffer.from(sent.identity?.effectiveToken ?? guid(0)));
      assert.deepEqual(row.true_token_guid, Buffer.from(sent.identity?.trueToken ?? guid(0)));
      assert.deepEqual(row.process_guid, Buffer.from(sent.identity?.process ?? guid(0)));
      assert.equal(row.cpu_id, BigInt(cpu));
      assert.equal(row.sequence, BigInt(i + 1));
      assert.equal(row.timestamp, headers[i]?.timestamp);
      assert.deepEqual(row.boot_id, Buffer.from(parseGuid(BOOT_A)));
    }
    const types = world.read(cpu, (db) =>
      db.prepare('SELECT DISTINCT typeof(event_type) FROM events').pluck().all(),
    );
    assert.deepEqual(types, ['text'], 'also a type that is no valid text is stored as TEXT');
  }
  const startups = await world.query('EVENTS synthetic.startup WHERE sequence IS NULL');
  assert.equal(startups.length, 1, 'a KMES event of that type is not taken for a record of eventd');
});

test('[ING-67] [ING-71] [ING-77] [STO-6] [STO-8] [LIFE-206] startup and shutdown records say what they must', async (t) => {
  const world = EventdWorld.for(t, { settings: { StorageShards: 3 } });
  const before = BigInt(Date.now()) * 1_000_000n;
  const run = await world.start();
  const last = [world.emitMany(0, 5), world.emitMany(1, 7)];
  await run.end();
  const [startup, ...more] = world.synthetic('synthetic.startup');
  assert.deepEqual(more, []);
  assert.deepEqual(startup?.payload, {
    boot_id: formatPlainGuid(parseGuid(BOOT_A)),
    restart: false,
    shard_count: 3,
    resume_points: { 0: 0, 1: 0 },
    cpu_count: 2,
  });
  const [shutdown, ...others] = world.synthetic('synthetic.shutdown');
  assert.deepEqual(others, []);
  assert.deepEqual(shutdown?.payload, { last_sequences: { 0: Number(last[0]), 1: Number(last[1]) } });
  for (const record of [startup, shutdown]) {
    assert.equal(record?.shard, 'shard-0000.db');
    assert.ok(record !== undefined && record.timestamp >= before);
    const [row] = world.rows(0, `id = ${record.id}`);
    const { cpu_id, sequence, origin_class, effective_token_guid, true_token_guid, process_guid } = row ?? {};
    assert.deepEqual(
      { cpu_id, sequence, origin_class, effective_token_guid, true_token_guid, process_guid },
      {
        cpu_id: null,
        sequence: null,
        origin_class: null,
        effective_token_guid: null,
        true_token_guid: null,
        process_guid: null,
      },
    );
    assert.deepEqual(row?.boot_id, Buffer.from(parseGuid(BOOT_A)));
    assert.equal(typeof decode(row?.payload ?? new Uint8Array()), 'object');
  }
  assert.equal(world.rows(0).at(-1)?.id, shutdown?.id, 'nothing is stored behind the shutdown record');
});

test('[ING-31] [ING-30] with more shards than CPUs a CPU goes round its shards, with fewer they share one', async (t) => {
  const world = EventdWorld.for(t, { settings: { StorageShards: 5 } });
  const run = await world.start();
  world.emitMany(0, 30);
  await world.stored(0);
  await run.end();
  for (const [shard, remainder] of [
    [0, 1],
    [2, 2],
    [4, 0],
  ] as const) {
    const sequences = world.rows(shard, 'cpu_id = 0').map(({ sequence }) => Number(sequence));
    assert.deepEqual(
      sequences,
      Array.from({ length: 30 }, (_, i) => i + 1).filter((sequence) => sequence % 3 === remainder),
    );
  }
  assert.deepEqual([...world.rows(1, 'cpu_id = 0'), ...world.rows(3, 'cpu_id = 0')], []);

  world.writeHive({ StorageShards: 1 });
  await world.start();
  const last = [world.emitMany(0, 3), world.emitMany(1, 3)];
  await world.stored(0);
  await world.stored(1);
  const late = world.rows(0, `(cpu_id = 0 AND sequence > 30) OR cpu_id = 1`);
  assert.equal(late.length, 6);
  assert.deepEqual(last, [33n, 3n]);
});
