/**
 * Disks that answer EIO, EROFS or EDQUOT to a running eventd, for a moment or for long: the batch is
 * lost and recorded, the other shard and the queries go on, and the account is exact afterwards.
 */
import assert from 'node:assert/strict';
import { statSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { EventdWorld, eventually } from '../fixtures/eventd.js';
import { type Fault, Faults } from '../fixtures/faults.js';
import { failureOf } from '../fixtures/queryFailure.js';
import {
  assertAccounted,
  assertLossRecorded,
  emitUntilFailed,
  failuresOf,
  reportedShards,
} from './failedCommits.js';

const WAL = '*/shard-0000.db-wal';
const DATABASE = '*/shard-0000.db';

const count = async (world: EventdWorld, cpu: number) =>
  (await world.query(`EVENTS test.many WHERE cpu_id == ${cpu}`)).length;

const LASTING: readonly { name: string; fault: Fault; says: RegExp }[] = [
  {
    name: 'EIO on WAL writes',
    fault: { file: WAL, operation: 'write', error: 'EIO' },
    says: /SQLITE_IOERR_WRITE/,
  },
  {
    name: 'EIO in the middle of a WAL frame',
    fault: { file: WAL, operation: 'write', error: 'EIO', after: 1, torn: true },
    says: /SQLITE_IOERR_WRITE/,
  },
  {
    name: 'EIO on the fsync of COMMIT',
    fault: { file: WAL, operation: 'sync', error: 'EIO' },
    says: /SQLITE_IOERR_FSYNC/,
  },
  {
    name: 'EDQUOT on WAL writes',
    fault: { file: WAL, operation: ['write', 'allocate'], error: 'EDQUOT' },
    says: /SQLITE_IOERR_WRITE/,
  },
  {
    name: 'a file system that turned read-only',
    fault: {
      file: '*/shard-0000.db*',
      operation: ['write', 'openForWriting', 'truncate', 'allocate', 'unlink', 'rename'],
      error: 'EROFS',
    },
    says: /SQLITE_IOERR_WRITE/,
  },
];

const KINDS = LASTING.map(({ name }) => name).join('; ');

test(`[FAIL-3] [FAIL-4] [FAIL-5] [FAIL-6] [FAIL-11] [FAIL-17] [ING-72] ${KINDS}, each of one shard until it ends: recorded in the other, nothing twice`, async (t) => {
  const faults = Faults.for(t);
  const world = EventdWorld.for(t);
  const run = await world.start(faults.env);
  world.emitMany(0, 50);
  world.emitMany(1, 50);
  await world.stored(0);
  await world.stored(1);
  for (const { name, fault, says } of LASTING) {
    const before = {
      gaps: world.gaps().length,
      errors: reportedShards(world).length,
      failures: failuresOf(run).length,
      seen: await count(world, 0),
    };
    faults.inject(fault);
    await emitUntilFailed(world, run, { cpus: 1, shards: [0], failures: before.failures + 3 });
    world.emitMany(1, 20);
    await world.stored(1);
    await eventually('the storage error', () => reportedShards(world).length > before.errors);
    const emitted = Number(world.sequence(1));
    assert.equal(await count(world, 1), emitted, `${name}: the healthy shard takes events and answers`);
    assert.equal(await count(world, 0), before.seen, `${name}: nothing of a failed commit is seen`);
    faults.clear();
    await eventually('gap records', () => world.gaps().length > before.gaps);
    world.emitMany(0, 5);
    await world.stored(0);
    const errors = world.synthetic('synthetic.storage_error').slice(before.errors);
    for (const { shard, payload } of errors) {
      assert.equal(shard, 'shard-0001.db');
      assert.match(String(payload.error), says, name);
    }
  }
  assert.deepEqual(await run.end(), { code: 0, signal: null });

  assertAccounted(world, 2);
  assertLossRecorded(world, run);
  assert.deepEqual(failuresOf(run, 1), []);
  assert.deepEqual([...new Set(reportedShards(world))], [0]);
  assert.ok(reportedShards(world).length <= failuresOf(run).length);
});

for (const operation of ['write', 'sync'] as const) {
  for (const shards of [1, 2]) {
    test(`[FAIL-4] [FAIL-5] [FAIL-9] [FAIL-11] [FAIL-17] one EIO on a WAL ${operation} with StorageShards=${shards}: one batch lost, one storage error`, async (t) => {
      const faults = Faults.for(t);
      const world = EventdWorld.for(t, { settings: { StorageShards: shards } });
      const run = await world.start(faults.env);
      world.emitMany(0, 50);
      await world.stored(0);
      const fault = faults.inject({ file: WAL, operation, error: 'EIO', times: 1 });
      world.emitMany(0, 30);
      await eventually('gap records', () => world.gaps().length > 0);
      world.emitMany(0, 5);
      await world.stored(0);
      await eventually('the storage error', () => reportedShards(world).length > 0);
      await run.end();
      assert.equal(fault.hits, 1);
      assert.equal(failuresOf(run).length, 1);
      assertAccounted(world, 2);
      assertLossRecorded(world, run);
      assert.deepEqual(reportedShards(world), [0]);
      const [error] = world.synthetic('synthetic.storage_error');
      assert.equal(error?.shard, shards === 1 ? 'shard-0000.db' : 'shard-0001.db');
    });
  }
}

test('[FAIL-9] an EIO on the commit of the gap records too: they are kept and stored once', async (t) => {
  const faults = Faults.for(t);
  const world = EventdWorld.for(t, { settings: { StorageShards: 1 } });
  const run = await world.start(faults.env);
  const fault = faults.inject({ file: WAL, operation: 'sync', error: 'EIO', times: 3 });
  world.emitMany(0, 30);
  await eventually('gap records', () => world.gaps().length > 0);
  world.emitMany(0, 5);
  await world.stored(0);
  await eventually('the storage error', () => reportedShards(world).length > 0);
  await run.end();
  assert.equal(fault.hits, 3);
  assertAccounted(world, 2);
  assertLossRecorded(world, run);
  const lost = world.gaps().reduce((sum, gap) => sum + Number(gap.last) - Number(gap.first) + 1, 0);
  assert.deepEqual(
    run
      .log()
      .filter(({ msg }) => msg === 'shard 0 commits again')
      .map((line) => [line.level, line.failures, line.lost]),
    [[30, failuresOf(run, 0).length, lost]],
    'the end of the failures is told, once',
  );
  assert.deepEqual(reportedShards(world), [0], 'failing to store it makes no other (FAIL-11)');
});

/** More than one checkpoint's worth of events. */
const CHECKPOINT_EVENTS = 700;
const PAYLOAD_BYTES = 30_000;

for (const operation of ['write', 'sync'] as const) {
  for (const end of ['SIGTERM', 'SIGKILL'] as const) {
    test(`[FAIL-3] [ING-63] [ING-65] [LIFE-221] EIO on every ${operation} of a checkpoint, then ${end}: the WAL keeps all, a later checkpoint succeeds`, async (t) => {
      const faults = Faults.for(t);
      const world = EventdWorld.for(t, { cpus: 1, capacity: 64 << 20 });
      const run = await world.start(faults.env);
      const fault = faults.inject({ file: DATABASE, operation, error: 'EIO' });
      const database = join(world.events, 'shard-0000.db');
      world.emitMany(0, CHECKPOINT_EVENTS, PAYLOAD_BYTES);
      await eventually('a checkpoint that fails', () => fault.hits > 0);
      await world.stored(0);
      assert.equal((await world.query('EVENTS test.many TAKE 5')).length, 5);
      assert.ok(statSync(`${database}-wal`).size > CHECKPOINT_EVENTS * PAYLOAD_BYTES);
      if (end === 'SIGTERM') {
        // Tried again while it runs: the file grows to what the WAL held.
        fault.remove();
        world.emitMany(0, CHECKPOINT_EVENTS, PAYLOAD_BYTES);
        await world.stored(0);
        await eventually(
          'a checkpoint that succeeds',
          () => statSync(database).size > CHECKPOINT_EVENTS * PAYLOAD_BYTES,
        );
      }
      await run.end(end);
      if (end === 'SIGKILL') {
        const again = await world.start();
        world.emit(0, 'test.last');
        await world.stored(0);
        assert.deepEqual(await again.end(), { code: 0, signal: null });
        assert.ok(statSync(database).size > CHECKPOINT_EVENTS * PAYLOAD_BYTES);
      }
      assertAccounted(world, 1);
      assert.deepEqual(world.gaps(), []);
    });
  }
}

test('[LIFE-204] [LIFE-210] [LIFE-211] a stop while every commit fails ends in time; the next start accounts for all of it', async (t) => {
  const faults = Faults.for(t);
  const world = EventdWorld.for(t, { settings: { StorageShards: 1 } });
  const run = await world.start(faults.env);
  world.emitMany(0, 50);
  await world.stored(0);
  faults.inject({ file: WAL, operation: 'sync', error: 'EIO' });
  await emitUntilFailed(world, run, { cpus: 2, shards: [0], failures: 2 });
  const began = performance.now();
  const { signal } = await run.end();
  assert.equal(signal, null);
  assert.ok(performance.now() - began < 9000, 'within StopTimeout less a second');
  assert.deepEqual(world.synthetic('synthetic.shutdown'), []);
  const again = await world.start();
  await world.stored(0);
  await world.stored(1);
  await again.end();
  // Stored or gap-recorded, as far as the bytes of the failed commits did reach the WAL.
  assertAccounted(world, 2);
});

test('[LIFE-130] [LIFE-131] a shard that cannot be read or opened for writing fails the start with one line', async (t) => {
  const faults = Faults.for(t);
  const world = EventdWorld.for(t);
  const first = await world.start();
  world.emitMany(0, 50);
  world.emitMany(1, 50);
  await first.end();
  for (const fault of [
    { operation: 'read', error: 'EIO' },
    { operation: ['openForWriting', 'write'], error: 'EROFS' },
    { operation: 'openForWriting', error: 'EACCES' },
  ] as const) {
    const injected = faults.inject({ file: '*/shard-0001.db*', ...fault });
    const run = world.spawn([], faults.env);
    assert.deepEqual(await run.exited, { code: 1, signal: null }, run.stderr);
    assert.ok(injected.hits > 0);
    injected.remove();
    assert.equal(run.readyCount, 0);
    assert.match(run.stderr.trimEnd().split('\n').at(-1) ?? '', /^eventd: .*shard-0001\.db: /);
    assert.doesNotMatch(run.stderr, /\n\s+at /, 'no stack trace');
  }
  const last = await world.start(faults.env);
  world.emitMany(1, 5);
  await world.stored(1);
  await last.end();
  assertAccounted(world, 2);
  assert.deepEqual(world.gaps(), []);
});

test('[QX-21] [WIRE-20] EIO in the middle of a query: an error of class storage error, and the next query is answered', async (t) => {
  const faults = Faults.for(t);
  const world = EventdWorld.for(t, { capacity: 8 << 20 });
  // More than a query connection caches, so that it has to read.
  const run = await world.start(faults.env);
  world.emitMany(0, 1500, 2000);
  world.emitMany(1, 1500, 2000);
  await world.stored(0);
  await world.stored(1);
  assert.equal((await world.query('EVENTS test.many TAKE 1')).length, 1);
  const fault = faults.inject({ file: '*/shard-0000.db*', operation: 'read', error: 'EIO', after: 200 });
  const failure = await failureOf(world.query('EVENTS test.many'));
  assert.equal(failure.class, 'storage error');
  // SQLite takes EIO on a read for a corrupt file system.
  assert.match(failure.detail, /SQLITE_CORRUPT/);
  assert.ok(fault.hits > 0);
  faults.clear();
  assert.equal((await world.query('EVENTS test.many')).length, 3000);
  world.emitMany(0, 5);
  await world.stored(0);
  assert.deepEqual(await run.end(), { code: 0, signal: null });
  assertAccounted(world, 2);
  assert.deepEqual(reportedShards(world), [], 'a read is no failed write');
});
