/**
 * Commits that fail while events flow: a full disk, and one shard that refuses every row. What was lost
 * becomes gap records before anything new is stored; the failure itself is recorded; nothing is twice.
 */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { parseGuid } from '../../src/host/guid.js';
import { accountFor, faultsOf } from '../fixtures/accounting.js';
import { BOOT_A, type EventdRun, EventdWorld, eventually } from '../fixtures/eventd.js';
import { isRoot } from '../fixtures/kmesd.js';

/** A store whose disk fills up and gets room again. */
interface Disk {
  readonly directory: string | null;
  fill(world: EventdWorld): void;
  free(world: EventdWorld): void;
}

/** A small tmpfs, where the tests may mount one. */
function smallDisk(t: TestContext): Disk {
  const directory = mkdtempSync(join(tmpdir(), 'eventd-disk-'));
  execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=3m,mode=700', 'tmpfs', directory]);
  t.after(() => {
    execFileSync('umount', ['-l', directory]);
    rmSync(directory, { recursive: true });
  });
  return {
    directory: join(directory, 'events'),
    fill: () => undefined,
    free: () => void execFileSync('mount', ['-o', 'remount,size=64m', directory]),
  };
}

/** Elsewhere every shard refuses rows, with the same consequences. */
const refusingDisk: Disk = {
  directory: null,
  fill: (world) => {
    for (const shard of world.shardFiles().keys()) refuse(world, shard);
  },
  free: (world) => {
    for (const shard of world.shardFiles().keys()) accept(world, shard);
  },
};

function refuse(world: EventdWorld, shard: number): void {
  world.change(shard, (db) =>
    db.exec("CREATE TRIGGER full BEFORE INSERT ON events BEGIN SELECT RAISE(FAIL, 'no room'); END"),
  );
}

function accept(world: EventdWorld, shard: number): void {
  world.change(shard, (db) => db.exec('DROP TRIGGER full'));
}

const failures = (run: EventdRun) => run.log().filter(({ msg }) => /could not commit/.test(String(msg)));

/** Ranges of the failures in the log, as `cpu N: first-last`. */
const loggedRanges = (run: EventdRun) => new Set(failures(run).flatMap(({ lost }) => lost as string[]));

for (const shards of [1, 2]) {
  test(`[FAIL-3] [FAIL-4] [FAIL-5] [FAIL-6] [FAIL-9] [FAIL-11] [ING-74] a full disk with StorageShards=${shards}: gap records for exactly what was lost, nothing twice`, async (t) => {
    const disk = isRoot ? smallDisk(t) : refusingDisk;
    const world = EventdWorld.for(t, {
      capacity: 8 << 20,
      settings: { StorageShards: shards, MaxBatchSize: 1000 },
      ...(disk.directory === null ? {} : { events: disk.directory }),
    });
    if (disk.directory !== null) mkdirSync(disk.directory);
    const run = await world.start();
    world.emitMany(0, 1000);
    world.emitMany(1, 1000);
    disk.fill(world);
    await eventually('a commit that fails', () => {
      world.emitMany(0, 200);
      world.emitMany(1, 200);
      return failures(run).length >= 3;
    });
    const atFailure = [world.sequence(0), world.sequence(1)];
    disk.free(world);
    await eventually('gap records', () => world.gaps().length > 0);
    world.emitMany(0, 500);
    world.emitMany(1, 500);
    await world.stored(0);
    await world.stored(1);
    await eventually('the failure recorded', () => world.synthetic('synthetic.storage_error').length > 0);
    assert.deepEqual(await run.end(), { code: 0, signal: null });

    const last = [Number(world.sequence(0)), Number(world.sequence(1))];
    const accounts = accountFor(world.events, parseGuid(BOOT_A), last);
    assert.deepEqual(faultsOf(accounts), []);
    const gaps = world.gaps();
    const recorded = new Set(gaps.map(({ cpu, first, last: end }) => `cpu ${cpu}: ${first}-${end}`));
    assert.deepEqual(recorded, loggedRanges(run), 'the log named the same ranges at once');
    for (const { cpu, last: end, id, shard, payload } of gaps) {
      assert.equal(payload.cause, 'commit_failure');
      assert.equal(payload.revealing_event_timestamp, null);
      assert.ok(end <= (atFailure[cpu] ?? 0n));
      const newer = world.rows(shard, `cpu_id = ${cpu} AND sequence > ${end} AND id < ${id}`);
      assert.deepEqual(newer, [], 'gap records come before newer events');
    }
    const errors = world.synthetic('synthetic.storage_error');
    assert.ok(errors.length <= failures(run).length, `${errors.length} storage errors`);
    for (const { payload } of errors) {
      assert.equal(payload.store_type, 'event');
      assert.match(String(payload.error), isRoot ? /SQLITE_FULL/ : /no room/);
    }
  });
}

test('[ING-72] [FAIL-11] [FAIL-17] [STO-6] one failing shard is reported in another, and its CPU is accounted for', async (t) => {
  const world = EventdWorld.for(t);
  const run = await world.start();
  world.emitMany(0, 10);
  await world.stored(0);
  refuse(world, 0);
  world.emitMany(0, 30);
  const error = await eventually('the storage error', () => world.synthetic('synthetic.storage_error')[0]);
  assert.equal(error.shard, 'shard-0001.db');
  assert.equal(error.payload.shard_index, 0);
  assert.match(String(error.payload.error), /no room/);
  world.emitMany(1, 20);
  await world.stored(1);
  // While shard 0 fails, what concerns the whole daemon goes to the next healthy one.
  await world.set('MaxBatchLatencyMs', '20');
  await eventually('the change', () => world.syntheticIn(1, 'synthetic.config_change').length === 1);
  accept(world, 0);
  await eventually('the gap record', () => world.gaps().length > 0);
  world.emitMany(0, 5);
  await world.stored(0);
  await run.end();
  assert.deepEqual(faultsOf(accountFor(world.events, parseGuid(BOOT_A), [45, 20])), []);
  assert.deepEqual(world.syntheticIn(0, 'synthetic.storage_error'), [], 'never in the shard that failed');
});

test('[FAIL-7] [LIFE-211] kill -9 before the lost ranges are recorded: the next start records the same loss', async (t) => {
  const world = EventdWorld.for(t, { cpus: 1, capacity: 65_536 });
  const first = await world.start();
  world.emitMany(0, 100);
  await world.stored(0);
  refuse(world, 0);
  // More than the ring holds, so that the failed batches cannot be read from it again.
  await eventually('failed commits', () => {
    world.emitMany(0, 100);
    return failures(first).length >= 2 && world.sequence(0) > 3000n;
  });
  await first.end('SIGKILL');
  accept(world, 0);
  const second = await world.start();
  await world.stored(0);
  await second.end();
  assert.deepEqual(faultsOf(accountFor(world.events, parseGuid(BOOT_A), [Number(world.sequence(0))])), []);
  assert.ok(world.gaps().length > 0);
});
