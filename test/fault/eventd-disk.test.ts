/**
 * Commits that fail while events flow: a full disk, and one shard that refuses every row. What was lost
 * becomes gap records before anything new is stored; the failure itself is recorded; nothing is twice.
 */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { closeSync, mkdirSync, mkdtempSync, openSync, rmSync, writeSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { parseGuid } from '../../src/host/guid.js';
import { accountFor, faultsOf } from '../fixtures/accounting.js';
import { BOOT_A, EventdWorld, eventually } from '../fixtures/eventd.js';
import { Faults } from '../fixtures/faults.js';
import { isRoot } from '../fixtures/kmesd.js';
import {
  assertAccounted,
  assertLossRecorded,
  emitUntilFailed,
  failuresOf,
  reportedShards,
} from './failedCommits.js';

/** A store whose disk fills up and gets room again. */
interface Disk {
  /** Environment of the program that works on it. */
  readonly env: Readonly<Record<string, string>>;
  /** Where the event store lies; elsewhere than usual when defined. */
  readonly events?: string;
  fill(): void;
  free(): void;
}

/** A small file system of its own, filled by somebody else's file. */
function smallFileSystem(t: TestContext): Disk {
  const directory = mkdtempSync(join(tmpdir(), 'eventd-disk-'));
  execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=8m,mode=700', 'tmpfs', directory]);
  t.after(() => {
    execFileSync('umount', ['-l', directory]);
    rmSync(directory, { recursive: true });
  });
  const events = join(directory, 'events');
  const ballast = join(directory, 'ballast');
  mkdirSync(events);
  return {
    env: {},
    events,
    fill: () => {
      const fd = openSync(ballast, 'w');
      try {
        for (;;) writeSync(fd, Buffer.alloc(65_536));
      } catch (error) {
        assert.equal((error as NodeJS.ErrnoException).code, 'ENOSPC');
      } finally {
        closeSync(fd);
      }
    },
    free: () => rmSync(ballast),
  };
}

/** A file system that is read-only between `fill` and `free`. */
function remountedReadOnly(t: TestContext): Disk {
  const { events = '' } = smallFileSystem(t);
  const remount = (mode: string) => execFileSync('mount', ['-o', `remount,${mode}`, dirname(events)]);
  return { env: {}, events, fill: () => void remount('ro'), free: () => void remount('rw') };
}

function refusedByShim(t: TestContext): Disk {
  const faults = Faults.for(t);
  const operation = ['write', 'openForWriting', 'unlink', 'rename', 'truncate'] as const;
  return {
    env: faults.env,
    fill: () => void faults.inject({ file: '*/events/*', operation, error: 'EROFS' }),
    free: () => faults.clear(),
  };
}

/** Elsewhere the same answers from the shim. */
function shimmedDisk(t: TestContext): Disk {
  const faults = Faults.for(t);
  return {
    env: faults.env,
    fill: () => void faults.inject({ file: '*/shard-*', operation: ['write', 'allocate'], error: 'ENOSPC' }),
    free: () => faults.clear(),
  };
}

function mayMount(): boolean {
  if (!isRoot) return false;
  const directory = mkdtempSync(join(tmpdir(), 'eventd-disk-'));
  try {
    execFileSync('mount', ['-t', 'tmpfs', 'tmpfs', directory], { stdio: 'ignore' });
    execFileSync('umount', [directory]);
    return true;
  } catch {
    return false;
  } finally {
    rmSync(directory, { recursive: true });
  }
}

const DISKS = mayMount() ? { 'a full file system': smallFileSystem } : {};

for (const [kind, disk] of Object.entries({ ...DISKS, 'writes that answer ENOSPC': shimmedDisk })) {
  for (const shards of [1, 2, 4]) {
    test(`[FAIL-3] [FAIL-4] [FAIL-5] [FAIL-6] [FAIL-9] [FAIL-11] [ING-74] ${kind} with StorageShards=${shards}: gap records for exactly what was lost, nothing twice`, async (t) => {
      const { env, events, fill, free } = disk(t);
      const world = EventdWorld.for(t, {
        settings: { StorageShards: shards, MaxBatchSize: 1000 },
        ...(events === undefined ? {} : { events }),
      });
      const run = await world.start(env);
      world.emitMany(0, 1000);
      world.emitMany(1, 1000);
      await world.stored(0);
      await world.stored(1);
      fill();
      const all = Array.from({ length: shards }, (_, shard) => shard);
      await emitUntilFailed(world, run, { cpus: 2, shards: all, failures: 2 });
      assert.equal((await world.query('EVENTS test.many TAKE 1000')).length, 1000, 'queries are answered');
      const atFailure = [world.sequence(0), world.sequence(1)];
      free();
      await eventually('the failures recorded', () => new Set(reportedShards(world)).size === shards);
      world.emitMany(0, 500);
      world.emitMany(1, 500);
      await world.stored(0);
      await world.stored(1);
      assert.deepEqual(await run.end(), { code: 0, signal: null });

      assertAccounted(world, 2);
      assertLossRecorded(world, run);
      for (const { cpu, last } of world.gaps()) assert.ok(last <= (atFailure[cpu] ?? 0n));
      for (const shard of all) {
        const reports = reportedShards(world).filter((reported) => reported === shard).length;
        assert.ok(reports <= failuresOf(run, shard).length, `shard ${shard}: ${reports} storage errors`);
      }
      for (const { payload } of world.synthetic('synthetic.storage_error')) {
        assert.match(String(payload.error), /SQLITE_FULL|SQLITE_IOERR_/);
      }
    });
  }
}

function refuse(world: EventdWorld, shard: number): void {
  world.change(shard, (db) =>
    db.exec("CREATE TRIGGER full BEFORE INSERT ON events BEGIN SELECT RAISE(FAIL, 'no room'); END"),
  );
}

function accept(world: EventdWorld, shard: number): void {
  world.change(shard, (db) => db.exec('DROP TRIGGER full'));
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
    return failuresOf(first).length >= 2 && world.sequence(0) > 3000n;
  });
  await first.end('SIGKILL');
  accept(world, 0);
  const second = await world.start();
  await world.stored(0);
  await second.end();
  assert.deepEqual(faultsOf(accountFor(world.events, parseGuid(BOOT_A), [Number(world.sequence(0))])), []);
  assert.ok(world.gaps().length > 0);
});

test('[LIFE-130] [LIFE-131] a store on a read-only file system fails the start with one line; writable again, it goes on', async (t) => {
  const readOnly = mayMount() ? remountedReadOnly(t) : refusedByShim(t);
  const world = EventdWorld.for(t, readOnly.events === undefined ? {} : { events: readOnly.events });
  const first = await world.start(readOnly.env);
  world.emitMany(0, 50);
  await world.stored(0);
  await first.end();
  readOnly.fill();
  const refused = world.spawn([], readOnly.env);
  assert.deepEqual(await refused.exited, { code: 1, signal: null });
  assert.equal(refused.readyCount, 0);
  assert.match(refused.stderr.trimEnd().split('\n').at(-1) ?? '', /^eventd: storage: /);
  assert.doesNotMatch(refused.stderr, /\n\s+at /, 'no stack trace');
  readOnly.free();
  const again = await world.start(readOnly.env);
  world.emitMany(0, 5);
  await world.stored(0);
  assert.deepEqual(await again.end(), { code: 0, signal: null });
  assertAccounted(world, 2);
  assert.deepEqual(world.gaps(), []);
});
