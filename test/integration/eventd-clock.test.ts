/**
 * Clocks that step, and boots that follow one another: sequences decide, never times; what an older
 * configuration or boot left is queried and never written.
 */
import assert from 'node:assert/strict';
import { closeSync, openSync, readFileSync, readSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { parseGuid } from '../../src/host/guid.js';
import { accountFor, faultsOf } from '../fixtures/accounting.js';
import { BOOT_A, BOOT_B, EventdWorld } from '../fixtures/eventd.js';

const SECOND = 1_000_000_000n;
const DAY = 86_400n * SECOND;
/** 2026-05-01. */
const NOON = 1_777_636_800n * SECOND;
/** The largest time a query can reach: UNTIL ends before 2^63 - 1. */
const LATEST = 2n ** 63n - 2n;
const DATA_AT = 8192;

/** Sets the header timestamps of the events a ring holds; only while nobody reads or writes it. */
function stampRing(path: string, stamp: (sequence: bigint) => bigint): void {
  const fd = openSync(path, 'r+');
  try {
    const page = Buffer.alloc(128);
    readSync(fd, page, 0, page.length, 0);
    const capacity = page.readBigUInt64LE(16);
    const end = page.readBigUInt64LE(64);
    const at = (position: bigint) => DATA_AT + Number(position % capacity);
    // A header may lie across the end of the data; byte by byte there is no special case.
    const field = (position: bigint, offset: number, length: number): Buffer => {
      const bytes = Buffer.alloc(length);
      for (let i = 0; i < length; i++) readSync(fd, bytes, i, 1, at(position + BigInt(offset + i)));
      return bytes;
    };
    for (let position = page.readBigUInt64LE(72); position < end; ) {
      const size = field(position, 0, 4).readUInt32LE();
      const timestamp = Buffer.alloc(8);
      timestamp.writeBigUInt64LE(stamp(field(position, 16, 8).readBigUInt64LE()));
      for (let i = 0; i < 8; i++) writeSync(fd, timestamp, i, 1, at(position + BigInt(8 + i)));
      position += BigInt(size);
    }
  } finally {
    closeSync(fd);
  }
}

/** Stored header timestamps of a CPU by sequence, over all shards. */
function stamps(world: EventdWorld, cpu: number, boot = BOOT_A): Map<bigint, bigint> {
  const found = new Map<bigint, bigint>();
  for (const shard of world.shardFiles())
    for (const { sequence, timestamp, boot_id } of world.rows(shard, `cpu_id = ${cpu}`))
      if (sequence !== null && boot_id.equals(parseGuid(boot))) found.set(sequence, timestamp);
  return found;
}

/** Forward a day, back two, forward an hour, with the smallest and the largest time there is. */
function stepping(sequence: bigint): bigint {
  if (sequence === 7n) return 0n;
  if (sequence === 8n) return LATEST;
  const steps = [0n, DAY, -DAY, DAY / 24n];
  return NOON + (steps[Number((sequence / 25n) % 4n)] ?? 0n) + (sequence % 3n) * SECOND;
}

for (const shards of [1, 3]) {
  test(`[STO-1] [ING-18] [ING-19] [BOOT-6] [BOOT-10] [QL-51] the clock steps back and forth within and between runs, StorageShards=${shards}: times are stored as they were, and sequences alone decide where a run goes on`, async (t) => {
    const world = EventdWorld.for(t, { cpus: 1, settings: { StorageShards: shards } });
    world.emitMany(0, 100);
    stampRing(world.ringPath(0), stepping);
    const first = await world.start();
    await world.stored(0);
    await first.end('SIGKILL');
    // A day before everything that is stored: by time, these were old.
    world.emitMany(0, 100);
    stampRing(world.ringPath(0), (sequence) =>
      sequence <= 100n ? stepping(sequence) : NOON - 9n * DAY - sequence,
    );
    const second = await world.start();
    await world.stored(0);
    await second.end('SIGKILL');
    // And years ahead of it.
    world.emitMany(0, 100);
    stampRing(world.ringPath(0), (sequence) => NOON + 3650n * DAY + sequence);
    const third = await world.start();
    await world.stored(0);
    assert.equal((await world.query('EVENTS test.many')).length, 199, 'what is dated after now is left out');
    assert.equal((await world.query('EVENTS test.many UNTIL 200000d hence')).length, 300);
    assert.equal((await third.end()).code, 0);

    assert.deepEqual(faultsOf(accountFor(world.events, parseGuid(BOOT_A), [300])), []);
    assert.deepEqual(world.gaps(), []);
    for (const [sequence, timestamp] of stamps(world, 0)) {
      const expected =
        sequence <= 100n
          ? stepping(sequence)
          : sequence <= 200n
            ? NOON - 9n * DAY - sequence
            : NOON + 3650n * DAY + sequence;
      assert.equal(timestamp, expected, `event ${sequence}`);
    }
    const startups = world.synthetic('synthetic.startup').map(({ payload }) => payload);
    assert.deepEqual(
      startups.map(({ restart, resume_points }) => [restart, resume_points]),
      [
        [false, { 0: 0 }],
        [true, { 0: 100 }],
        [true, { 0: 200 }],
      ],
    );
  });
}

test('[ING-23] [ING-25] [ING-76] [STO-7] [STO-8] a gap record bears the header times on both sides of the loss, though the second is the earlier one, and its own is the time of detection', async (t) => {
  const world = EventdWorld.for(t, { cpus: 1 });
  world.emitMany(0, 5);
  // Larger than half the ring: dropped, and its number with it.
  assert.throws(() => world.emit(0, 'test.large', new Uint8Array(600_000)), /took no event/);
  world.emitMany(0, 5);
  stampRing(world.ringPath(0), (sequence) => NOON + (sequence < 6n ? DAY : -DAY) + sequence);
  const before = BigInt(Date.now()) * 1_000_000n;
  const run = await world.start();
  await world.stored(0);
  assert.equal((await run.end()).code, 0);
  const [gap, ...others] = world.synthetic('synthetic.gap');
  assert.deepEqual(others, []);
  assert.deepEqual(gap?.payload, {
    cpu_id: 0,
    first_missing: 6,
    last_missing: 6,
    missing_count: 1,
    last_event_timestamp: NOON + DAY + 5n,
    revealing_event_timestamp: NOON - DAY + 7n,
    cause: 'ring_loss',
  });
  assert.ok((gap?.timestamp ?? 0n) >= before, 'detected now');
});

for (const shards of [1, 2]) {
  test(`[ING-23] [STO-8] [BOOT-8] a gap over a restart bears the time of the last event stored before it, whatever the clock did since, StorageShards=${shards}`, async (t) => {
    const world = EventdWorld.for(t, { cpus: 1, capacity: 65_536, settings: { StorageShards: shards } });
    world.emitMany(0, 20);
    stampRing(world.ringPath(0), (sequence) => NOON + DAY * sequence);
    const first = await world.start();
    await world.stored(0);
    await first.end('SIGKILL');
    // As if shard 0 had been the one to commit last, and known little of the other.
    if (shards === 2)
      for (const shard of [0, 1])
        world.change(shard, (db) => db.exec("UPDATE metadata SET value = '9' WHERE key = 'settled_seq.0'"));
    world.emitMany(0, 3000);
    stampRing(world.ringPath(0), (sequence) => NOON - DAY * 30n + sequence);
    const second = await world.start();
    await world.stored(0);
    assert.equal((await second.end()).code, 0);
    const [gap, ...others] = world.gaps();
    assert.deepEqual(others, []);
    const first_kept = (gap?.last ?? 0n) + 1n;
    assert.ok(first_kept > 1000n, 'the ring was overrun');
    assert.deepEqual(gap?.payload, {
      cpu_id: 0,
      first_missing: 21,
      last_missing: Number(gap?.last),
      missing_count: Number(gap?.last) - 20,
      last_event_timestamp: NOON + DAY * 20n,
      revealing_event_timestamp: NOON - DAY * 30n + first_kept,
      cause: 'restart',
    });
    assert.deepEqual(faultsOf(accountFor(world.events, parseGuid(BOOT_A), [3020])), []);
  });
}

test('[BOOT-4] [BOOT-5] [BOOT-7] a clock set back between two boots: the newest times belong to the old boot, and the new one is told apart all the same', async (t) => {
  const world = EventdWorld.for(t, { settings: { StorageShards: 2 } });
  const emitAll = (count: number, base: bigint) => {
    for (const cpu of [0, 1]) {
      world.emitMany(cpu, count);
      stampRing(world.ringPath(cpu), (sequence) => base + sequence);
    }
  };
  emitAll(50, NOON + 4000n * DAY);
  const a = await world.start();
  for (const cpu of [0, 1]) await world.stored(cpu);
  await a.end('SIGKILL');

  world.createRings();
  emitAll(30, NOON - 4000n * DAY);
  const b1 = await world.start({ PEIOS_BOOT_ID: BOOT_B });
  for (const cpu of [0, 1]) await world.stored(cpu, 30n, BOOT_B);
  await b1.end('SIGKILL');
  emitAll(10, NOON - 5000n * DAY);
  const b2 = await world.start({ PEIOS_BOOT_ID: BOOT_B });
  for (const cpu of [0, 1]) await world.stored(cpu, 40n, BOOT_B);
  assert.equal((await b2.end()).code, 0);

  assert.deepEqual(faultsOf(accountFor(world.events, parseGuid(BOOT_A), [50, 50])), []);
  assert.deepEqual(faultsOf(accountFor(world.events, parseGuid(BOOT_B), [40, 40])), []);
  assert.deepEqual([...world.gaps(), ...world.gaps(BOOT_B)], []);
  const startups = world.synthetic('synthetic.startup', BOOT_B).map(({ payload }) => payload);
  assert.deepEqual(
    startups.map(({ restart, resume_points }) => [restart, resume_points]),
    [
      [false, { 0: 0, 1: 0 }],
      [true, { 0: 30, 1: 30 }],
    ],
  );
});

test('[STO-23] [STO-27] [ING-33] [ING-34] [ING-36] [BOOT-8] StorageShards goes down, up and down again over runs and boots: old shards are queried, help to resume, and are never written', async (t) => {
  const world = EventdWorld.for(t, { cpus: 2 });
  const bytes = (shard: string) => readFileSync(join(world.events, shard));
  const steps = [
    { shards: 4, boot: BOOT_A, end: 'SIGTERM' },
    { shards: 1, boot: BOOT_A, end: 'SIGKILL' },
    { shards: 3, boot: BOOT_A, end: 'SIGTERM' },
    { shards: 2, boot: BOOT_B, end: 'SIGTERM' },
    { shards: 5, boot: BOOT_B, end: 'SIGKILL' },
    { shards: 1, boot: BOOT_B, end: 'SIGTERM' },
  ] as const;
  const last = new Map<string, number>();
  let total = 0;
  let boot: string = BOOT_A;
  for (const step of steps) {
    if (step.boot !== boot) world.createRings();
    boot = step.boot;
    world.writeHive({ StorageShards: step.shards });
    // After a clean stop a shard is one file; a killed one may have to be recovered by a reader first.
    const idle = world
      .shardFiles()
      .filter((shard) => Number(shard.slice(6, 10)) >= step.shards)
      .map((shard) => ({ shard, before: bytes(shard), rows: world.rows(shard) }));
    for (const cpu of [0, 1]) world.emitMany(cpu, 60);
    total += 120;
    const sequence = BigInt((last.get(boot) ?? 0) + 60);
    last.set(boot, Number(sequence));
    const run = await world.start({ PEIOS_BOOT_ID: boot });
    for (const cpu of [0, 1]) await world.stored(cpu, sequence, boot);
    assert.equal((await world.query('EVENTS test.many')).length, total, 'every shard is queried');
    await run.end(step.end);
    for (const { shard, before, rows } of idle) {
      assert.deepEqual(world.rows(shard), rows, `${shard} has the rows it had`);
      assert.ok(bytes(shard).equals(before), `${shard} is the file it was`);
    }
  }
  for (const id of [BOOT_A, BOOT_B]) {
    const emitted = last.get(id) ?? 0;
    const accounts = accountFor(world.events, parseGuid(id), [emitted, emitted]);
    assert.deepEqual(faultsOf(accounts), []);
    assert.deepEqual(world.gaps(id), []);
  }
  assert.equal(world.shardFiles().length, 5);
});
