/**
 * eventd under pressure: writers that cannot commit while the rings overrun, damaged bytes in a live ring,
 * rings replaced meanwhile. Afterwards the account must be exact: each sequence stored once or in one gap
 * record, and nothing lost that the ring still had.
 */
import assert from 'node:assert/strict';
import { closeSync, openSync, writeSync } from 'node:fs';
import { type TestContext, test } from 'node:test';
import { setTimeout as pause } from 'node:timers/promises';
import { parseGuid } from '../../src/host/guid.js';
import { native } from '../../src/native/addon.js';
import { accountFor, faultsOf } from '../fixtures/accounting.js';
import { BOOT_A, type EventdRun, EventdWorld, eventually } from '../fixtures/eventd.js';
import { RingLoad } from '../fixtures/ringload.js';

const CAPACITY = 65_536;
const DATA_OFFSET = 8192;
/** What channel and segment of one shard hold at most: two batches. */
const BATCH = 100;
const PAYLOAD = 32;
/** Header, type `test.many`, msgpack binary of 32 bytes. */
const EVENT_BYTES = 77 + 9 + PAYLOAD + 5;
/** Whole events of that size in a ring. */
const RING_EVENTS = Math.floor(CAPACITY / EVENT_BYTES);

/** No writer commits until the returned function is called. */
function lockAll(t: TestContext, world: EventdWorld): () => void {
  const releases = world.shardFiles().map((_, shard) => world.lock(shard));
  const release = (): void => {
    for (const unlock of releases.splice(0)) unlock();
  };
  t.after(release);
  return release;
}

/** Fills both halves of every channel, so that the reader of the CPU is blocked. */
async function block(world: EventdWorld, cpu: number, shards: number): Promise<void> {
  for (let round = 0; round <= 3; round++) {
    world.emitMany(cpu, (BATCH * shards * 2) / 3, PAYLOAD);
    await pause(30);
  }
}

/** Emits until an event arrives: only a further one shows that those before it are lost. */
async function settle(world: EventdWorld, cpu: number): Promise<void> {
  await eventually(`CPU ${cpu} is read to its end`, async () => {
    const last = world.emitMany(cpu, 1, PAYLOAD);
    const deadline = Date.now() + 500;
    while (Date.now() < deadline) {
      if (world.sequences(cpu).at(-1) === last) return true;
      await pause(10);
    }
    return false;
  });
}

function assertAccount(world: EventdWorld, cpus: number): void {
  const last = Array.from({ length: cpus }, (_, cpu) => Number(world.sequence(cpu)));
  assert.deepEqual(faultsOf(accountFor(world.events, parseGuid(BOOT_A), last)), []);
}

async function end(run: EventdRun): Promise<void> {
  assert.deepEqual(await run.end(), { code: 0, signal: null });
}

const TOPOLOGIES = [
  { cpus: 1, shards: 1 },
  { cpus: 3, shards: 1 },
  { cpus: 1, shards: 3 },
  { cpus: 2, shards: 3 },
];

for (const { cpus, shards } of TOPOLOGIES) {
  test(`[ING-22] [ING-31] [ING-44] [ING-45] [ING-46] [ING-47] stalled writers, ${cpus} CPUs on ${shards} shards: the oldest are lost, in one gap record each`, {
    timeout: 60_000,
  }, async (t) => {
    const world = EventdWorld.for(t, {
      cpus,
      capacity: CAPACITY,
      settings: { StorageShards: shards, MaxBatchSize: BATCH },
    });
    const run = await world.start();
    const all = Array.from({ length: cpus }, (_, cpu) => cpu);
    for (const cpu of all) world.emitMany(cpu, 30, PAYLOAD);
    for (const cpu of all) await world.stored(cpu);
    const release = lockAll(t, world);
    for (const cpu of all) await block(world, cpu, shards);
    const blocked = all.map((cpu) => world.sequence(cpu));
    for (const cpu of all) world.emitMany(cpu, 4 * RING_EVENTS, PAYLOAD);
    const overrun = all.map((cpu) => world.sequence(cpu));
    release();
    for (const cpu of all) await world.stored(cpu);
    assertAccount(world, cpus);
    for (const cpu of all) {
      const gaps = world.gaps().filter((gap) => gap.cpu === cpu);
      assert.equal(gaps.length, 1, 'one stretch of the ring was overwritten');
      const [gap] = gaps;
      assert.ok(gap !== undefined);
      assert.equal(gap.payload.cause, 'ring_loss');
      assert.ok(gap.first > 30n && gap.first <= (blocked[cpu] ?? 0n) + 1n, 'what was handed over is stored');
      const survivors = (overrun[cpu] ?? 0n) - gap.last;
      assert.equal(survivors, BigInt(RING_EVENTS), 'all that the ring still had was read');
    }
    await end(run);
  });
}

/** Fields of an event header that a broken emitter or broken memory could leave behind. */
const DAMAGES = [
  { what: 'a size of 0', offset: 0, bytes: [0, 0, 0, 0] },
  { what: 'a size below the header', offset: 0, bytes: [20, 0, 0, 0] },
  { what: 'a size beyond the ring', offset: 0, bytes: [0xff, 0xff, 0xff, 0xff] },
  { what: 'a header larger than the event', offset: 4, bytes: [0, 0x10, 0, 0] },
  { what: 'a type that reaches beyond the header', offset: 75, bytes: [0xff, 0xff] },
];

for (const { what, offset, bytes } of DAMAGES) {
  test(`[KMES-124] [KMES-126] [ING-10] [ING-22] ${what} in a live ring costs what stands behind it, and reading goes on`, {
    timeout: 60_000,
  }, async (t) => {
    const world = EventdWorld.for(t, { cpus: 1, capacity: CAPACITY, settings: { MaxBatchSize: BATCH } });
    const run = await world.start();
    const release = lockAll(t, world);
    await block(world, 0, 1);
    const intact = world.sequence(0);
    const at = Number(native.producerStatus(world.producer(0)).writePos % BigInt(CAPACITY));
    world.emitMany(0, 5, PAYLOAD);
    const fd = openSync(world.ringPath(0), 'r+');
    writeSync(fd, Uint8Array.from(bytes), 0, bytes.length, DATA_OFFSET + at + offset);
    closeSync(fd);
    release();
    await settle(world, 0);
    assertAccount(world, 1);
    const [gap, ...more] = world.gaps();
    assert.deepEqual(more, []);
    assert.equal(gap?.first, intact + 1n, 'what stands before the damage is stored');
    assert.ok(gap.last >= intact + 5n);
    assert.equal(gap.payload.cause, 'ring_loss');
    await run.hasWritten(/cpu 0: ring\.corrupt/);
    await end(run);
  });
}

test('[ING-15] [ING-17] [ING-46] [KMES-140] [KMES-142] rings replaced by larger and smaller ones under load while writers stall', {
  timeout: 90_000,
}, async (t) => {
  const world = EventdWorld.for(t, {
    cpus: 2,
    capacity: CAPACITY,
    settings: { StorageShards: 3, MaxBatchSize: 1000 },
  });
  const run = await world.start();
  const load = new RingLoad(world.paths.kmes, {
    cpus: 2,
    events: 120_000,
    ratePerSecond: 40_000,
    payload: 100,
  });
  t.after(() => load.kill());
  let loading = true;
  void load.done.then(() => {
    loading = false;
  });
  // Forwards for one ring, backwards for the other; neighbours differ.
  const capacities = [131_072, 65_536, 262_144, 65_536, 1_048_576, 65_536];
  let swaps = 0;
  for (let round = 0; loading; round++) {
    const release = lockAll(t, world);
    for (const cpu of [0, 1]) {
      native.producerResize(
        world.producer(cpu),
        capacities.at((cpu === 0 ? round : -round) % capacities.length) ?? CAPACITY,
      );
      swaps++;
      await pause(60);
    }
    release();
    await pause(120);
  }
  assert.ok((await load.done) !== null);
  assert.ok(swaps > 10, `${swaps} swaps`);
  for (const cpu of [0, 1]) await settle(world, cpu);
  for (const cpu of [0, 1]) await world.stored(cpu);
  assertAccount(world, 2);
  assert.deepEqual(
    world.gaps().filter(({ payload }) => payload.cause !== 'ring_loss'),
    [],
  );
  await end(run);
});

test('[LIFE-144] [ING-42] [ING-45] [ING-55] MaxBatchSize lowered while a reader is blocked: what is queued stays, and batches shrink', {
  timeout: 60_000,
}, async (t) => {
  const world = EventdWorld.for(t, { cpus: 2, settings: { MaxBatchSize: 2000 } });
  const run = await world.start();
  const release = world.lock(1);
  t.after(release);
  world.emitMany(1, 10, PAYLOAD);
  await pause(100);
  // More than the channel takes, and less than the ring holds.
  world.emitMany(1, 5000, PAYLOAD);
  await pause(100);
  await world.set('MaxBatchSize', String(BATCH));
  await eventually('the change is recorded', () => world.synthetic('synthetic.config_change').length === 1);
  release();
  await world.stored(1);
  assert.deepEqual(world.gaps(), []);
  assertAccount(world, 2);
  // The channel has shrunk with the batches.
  const release2 = world.lock(1);
  t.after(release2);
  for (let i = 0; i < 3; i++) {
    world.emitMany(1, 300, PAYLOAD);
    await pause(50);
  }
  release2();
  await world.stored(1);
  assertAccount(world, 2);
  assert.deepEqual(world.gaps(), []);
  assert.deepEqual(await run.end('SIGQUIT'), { code: 0, signal: null });
  const [, limit, rows, commits] =
    /writer 1:.* 0\/(\d+) rows waiting.* (\d+) rows in (\d+) commits/.exec(run.stderr) ?? [];
  assert.deepEqual([limit, rows], [String(BATCH), '5910']);
  // The last 900 alone took nine.
  assert.ok(Number(commits) >= 10, `${commits} commits`);
});
