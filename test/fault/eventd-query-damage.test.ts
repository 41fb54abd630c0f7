/**
 * Damage that only queries meet, in files nobody writes: the client hears of it, everybody else goes on,
 * and what can be read is read.
 */
import assert from 'node:assert/strict';
import { rmSync, statSync, truncateSync } from 'node:fs';
import { type TestContext, test } from 'node:test';
import { type EventdRun, EventdWorld } from '../fixtures/eventd.js';
import { Faults } from '../fixtures/faults.js';
import { failureOf } from '../fixtures/queryFailure.js';
import { fingerprint, overwritePages, recoveriesOf, shardPath } from './damage.js';
import { assertAccounted } from './failedCommits.js';

const OLD = 2000;

/** One active shard, and 2000 events of CPU 1 in a file of an earlier configuration. */
async function worldWithOldShard(
  t: TestContext,
): Promise<{ world: EventdWorld; run: EventdRun; faults: Faults }> {
  const faults = Faults.for(t);
  const world = EventdWorld.for(t, { capacity: 4 << 20 });
  const first = await world.start();
  world.emitMany(0, 100);
  world.emitMany(1, OLD, 1000);
  await world.stored(0);
  await world.stored(1);
  await first.end();
  world.writeHive({ StorageShards: 1 });
  return { world, run: await world.start(faults.env), faults };
}

const count = async (world: EventdWorld, query: string) => (await world.query(query)).length;

/** Events go on being stored and found in the active shard; the file with the damage stays as it is. */
async function assertGoesOn(world: EventdWorld, run: EventdRun): Promise<void> {
  for (const cpu of [0, 1]) {
    const last = world.emitMany(cpu, 20);
    await world.readable(0, `cpu_id = ${cpu} AND sequence = ${last}`);
  }
  assert.deepEqual(world.syntheticIn(0, 'synthetic.storage_error'), [], 'a read is no failed write');
  assert.equal(recoveriesOf(run), 0);
}

test('[QX-21] [FAIL-12] [FAIL-15] [WIRE-20] an old shard with nonsense in its pages: storage error to the client, a line in the log, ingestion goes on', async (t) => {
  const { world, run } = await worldWithOldShard(t);
  const path = shardPath(world, 1);
  assert.equal(await count(world, 'EVENTS test.many'), 100 + OLD);
  overwritePages(path, 'events');
  const before = fingerprint(world, 1);
  const failure = await failureOf(world.query('EVENTS test.many'));
  assert.equal(failure.class, 'storage error');
  assert.match(failure.detail, /SQLITE_CORRUPT/);
  await run.hasLogged(
    'the damage',
    ({ level, reason }) => level === 40 && /SQLITE_CORRUPT/.test(String(reason)),
  );
  await assertGoesOn(world, run);
  assert.deepEqual(fingerprint(world, 1), before);
  // The administrator takes it away: everything else is found without a restart.
  rmSync(path);
  assert.equal(await count(world, 'EVENTS test.many WHERE cpu_id == 0'), 120);
  assert.equal(await count(world, 'EVENTS test.many WHERE cpu_id == 1'), 20);
  assert.deepEqual(await run.end(), { code: 0, signal: null });
});

test('[QX-21] [FAIL-12] [FAIL-15] an old shard with its second half cut off: left out with a line in the log, the others are read', async (t) => {
  const { world, run } = await worldWithOldShard(t);
  const path = shardPath(world, 1);
  truncateSync(path, statSync(path).size / 2);
  const before = fingerprint(world, 1);
  assert.equal(await count(world, 'EVENTS test.many'), 100);
  await run.hasLogged(
    'the damage',
    ({ level, subject, reason }) =>
      level === 40 && String(subject).includes('shard-0001.db') && String(reason).includes('SQLITE_CORRUPT'),
  );
  await assertGoesOn(world, run);
  assert.deepEqual(await run.end(), { code: 0, signal: null });
  assert.deepEqual(fingerprint(world, 1), before);
});

test('[FAIL-15] [QX-21] damage among the oldest rows of a shard does not keep the newer ones from being read', async (t) => {
  const { world, run } = await worldWithOldShard(t);
  const [middle] = world.rows(1, `cpu_id = 1 AND sequence = ${OLD / 2}`);
  overwritePages(shardPath(world, 1), 'the oldest rows');
  const newer = `EVENTS test.many WHERE cpu_id == 1 AND timestamp > ${middle?.timestamp}`;
  assert.equal(await count(world, newer), OLD / 2);
  assert.equal((await failureOf(world.query('EVENTS test.many'))).class, 'storage error');
  await assertGoesOn(world, run);
  assert.deepEqual(await run.end(), { code: 0, signal: null });
});

test('[QX-21] [QX-27] an old shard that cannot be opened for a moment is found by the next query', async (t) => {
  const { world, run, faults } = await worldWithOldShard(t);
  const fault = faults.inject({ file: '*/shard-0001.db', operation: 'open', error: 'EIO' });
  assert.equal(await count(world, 'EVENTS test.many'), 100, 'left out while it cannot be opened');
  assert.ok(fault.hits > 0);
  await run.hasLogged('the shard', ({ level, msg }) => level === 40 && String(msg).includes('left out'));
  faults.clear();
  assert.equal(await count(world, 'EVENTS test.many'), 100 + OLD);
  await assertGoesOn(world, run);
  assert.deepEqual(await run.end(), { code: 0, signal: null });
  assertAccounted(world, 2);
});
