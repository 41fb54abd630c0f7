/**
 * Files of the event store that are deleted or replaced under a running eventd: it notices before the
 * next commit, opens what is there by then, and nothing that a ring still holds is missing.
 */
import assert from 'node:assert/strict';
import {
  copyFileSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { locksOn } from '../fixtures/database.js';
import { type EventdRun, EventdWorld, eventually } from '../fixtures/eventd.js';
import { emitUntilRecovered, exclusionsIn, recoveriesOf, shardPath } from './damage.js';
import { assertAccounted } from './failedCommits.js';

const STORED = 300;

/** A file that nobody has checkpointed: part of the shard is in its WAL. */
async function startedWorld(world: EventdWorld): Promise<EventdRun> {
  const run = await world.start();
  world.emitMany(0, STORED);
  world.emitMany(1, STORED);
  await world.stored(0);
  await world.stored(1);
  return run;
}

const NONSENSE = Buffer.alloc(50_000, 'no database');

const TAKEN: readonly {
  name: string;
  take: (path: string) => void;
  says: RegExp;
  /** Tried also with idle read connections that hold the old files. */
  askedAlso: boolean;
}[] = [
  { name: 'deleted', take: (path) => rmSync(path), says: /the file was deleted/, askedAlso: true },
  {
    name: 'deleted with its WAL and shared memory',
    take: (path) => {
      for (const suffix of ['', '-wal', '-shm']) rmSync(`${path}${suffix}`);
    },
    says: /the file was deleted/,
    askedAlso: true,
  },
  {
    name: 'replaced by an empty file',
    take: (path) => {
      writeFileSync(`${path}.new`, '');
      renameSync(`${path}.new`, path);
    },
    says: /the file was replaced/,
    askedAlso: false,
  },
  {
    name: 'bereft of its WAL',
    take: (path) => rmSync(`${path}-wal`),
    says: /its WAL was deleted/,
    askedAlso: false,
  },
];

/** One after the other: the eventd that has opened what one of them left is the one that the next meets. */
test(`[STO-22] [STO-24] [FAIL-11] [FAIL-17] a shard ${TAKEN.map(({ name }) => name).join('; ')} under a running eventd, before and after it has answered queries: opened anew, account exact, same process`, async (t) => {
  const world = EventdWorld.for(t, { capacity: 4 << 20 });
  let run = await startedWorld(world);
  let errorsBefore = 0;
  for (const { name, take, says, askedAlso } of TAKEN) {
    for (const asked of askedAlso ? [false, true] : [false]) {
      world.emitMany(0, STORED);
      await world.stored(0);
      if (asked) {
        const emitted = world.sequence(0) + world.sequence(1);
        assert.equal(BigInt((await world.query('EVENTS test.many')).length), emitted);
      }
      take(shardPath(world, 0));
      await emitUntilRecovered(world, run, { cpus: 2, damaged: [0] });
      const last = world.emitMany(0, 5);
      world.emitMany(1, 5);
      await world.readable(0, `cpu_id = 0 AND sequence = ${last}`);
      await world.stored(1);
      assert.equal(recoveriesOf(run), 1, name);
      // Else the next program that reads it, and closes it, would remove the live WAL.
      assert.ok(locksOn(shardPath(world, 1), run.pid) > 0, `${name}: SQLite holds the healthy shard`);
      assert.equal(run.readyCount, 1, name);
      assert.equal(existsSync(`${shardPath(world, 0)}.excluded`), false, 'a new file needs no mark');
      const found = await world.query('EVENTS test.many WHERE cpu_id == 0');
      assert.equal(BigInt(found.length), last, name);
      assert.deepEqual(await run.end(), { code: 0, signal: null });
      assertAccounted(world, 2);
      const errors = world.synthetic('synthetic.storage_error').slice(errorsBefore);
      assert.deepEqual(
        errors.map(({ shard, payload }) => [shard, payload.shard_index]),
        [['shard-0001.db', 0]],
        name,
      );
      errorsBefore++;
      assert.match(String(errors[0]?.payload.error), says);

      run = await world.start();
      world.emitMany(0, 5);
      await world.stored(0);
      assert.deepEqual(exclusionsIn(run), []);
      assertAccounted(world, 2);
    }
  }
  assert.deepEqual(await run.end(), { code: 0, signal: null });
});

test('[LIFE-221] [LIFE-223] a WAL deleted while queries hold the shard open: account exact, be it after a restart', async (t) => {
  const world = EventdWorld.for(t);
  const run = await startedWorld(world);
  assert.equal((await world.query('EVENTS test.many')).length, 2 * STORED);
  rmSync(`${shardPath(world, 0)}-wal`);
  let ended = false;
  void run.exited.then(() => {
    ended = true;
  });
  await eventually('the end, or a path that works again', () => {
    world.emitMany(0, 5);
    return ended || recoveriesOf(run) > 0;
  });
  if (ended) assert.match(run.stderr.trimEnd().split('\n').at(-1) ?? '', /^eventd: .*shard-0000\.db/);
  else assert.deepEqual(await run.end(), { code: 0, signal: null });
  const again = await world.start();
  world.emitMany(0, 5);
  await world.stored(0);
  await world.stored(1);
  assert.equal(BigInt((await world.query('EVENTS test.many WHERE cpu_id == 0')).length), world.sequence(0));
  assert.deepEqual(await again.end(), { code: 0, signal: null });
  assertAccounted(world, 2);
});

test('[STO-23] [ING-36] what is left of a deleted shard is kept under another name, and not played into the new one', async (t) => {
  const world = EventdWorld.for(t);
  const run = await startedWorld(world);
  const wal = `${shardPath(world, 0)}-wal`;
  const bytes = readFileSync(wal);
  assert.ok(bytes.length > 0);
  // A reader holds the shard open, so that the writer's close is not the last.
  assert.equal((await world.query('EVENTS test.many TAKE 1')).length, 1);
  rmSync(shardPath(world, 0));
  await emitUntilRecovered(world, run, { cpus: 2, damaged: [0] });
  await world.stored(0);
  await run.end();
  const aside = readdirSync(world.events).find((name) => /^shard-0000\.db\.orphan-.*-wal$/.test(name));
  assert.ok(aside !== undefined, readdirSync(world.events).join(' '));
  assert.ok(readFileSync(join(world.events, aside)).includes(bytes.subarray(0, 32)));
  assertAccounted(world, 2);
});

test('[STO-25] [FAIL-13] [FAIL-20] a shard replaced by no database: that file is left alone, the other serves its CPU', async (t) => {
  const world = EventdWorld.for(t);
  const run = await startedWorld(world);
  const path = shardPath(world, 0);
  writeFileSync(`${path}.new`, NONSENSE);
  renameSync(`${path}.new`, path);
  await emitUntilRecovered(world, run, { cpus: 2, damaged: [0] });
  const last = world.emitMany(0, 5);
  await world.readable(1, `cpu_id = 0 AND sequence = ${last}`);
  assert.equal((await world.query('EVENTS test.many WHERE cpu_id == 0')).length, Number(last));
  await run.end();
  assert.ok(readFileSync(path).equals(NONSENSE));
  rmSync(path);
  assertAccounted(world, 2);
  // Two facts: the file was taken away, and what lies in its place is no shard.
  const errors = world.syntheticIn(1, 'synthetic.storage_error').map(({ error }) => String(error));
  assert.equal(errors.length, 2);
  assert.match(errors[0] ?? '', /replaced/);
  assert.match(errors[1] ?? '', /not a database/);
});

test('[BOOT-9] [STO-15] a shard replaced by an older copy of itself goes on from what the copy holds', async (t) => {
  const world = EventdWorld.for(t);
  const first = await startedWorld(world);
  await first.end();
  const copy = join(world.dir, 'copy.db');
  copyFileSync(shardPath(world, 0), copy);
  const run = await startedWorld(world);
  renameSync(copy, shardPath(world, 0));
  await emitUntilRecovered(world, run, { cpus: 2, damaged: [0] });
  const last = world.emitMany(0, 5);
  await world.readable(0, `cpu_id = 0 AND sequence = ${last}`);
  await world.stored(1);
  assert.equal((await world.query('EVENTS test.many WHERE cpu_id == 0')).length, Number(last));
  await run.end();
  assertAccounted(world, 2);
});

test('[STO-21] [LIFE-223] the whole event store deleted under a running eventd: made anew, account exact', async (t) => {
  const world = EventdWorld.for(t);
  const run = await startedWorld(world);
  rmSync(world.events, { recursive: true });
  mkdirSync(world.events, { mode: 0o700 });
  await emitUntilRecovered(world, run, {
    cpus: 2,
    damaged: [],
  });
  await eventually('both shards anew', () => {
    world.emitMany(0, 1);
    world.emitMany(1, 1);
    return world.shardFiles().length === 2 && recoveriesOf(run) > 0;
  });
  for (const cpu of [0, 1]) {
    const last = world.emitMany(cpu, 5);
    await world.readable(cpu, `cpu_id = ${cpu} AND sequence = ${last}`);
  }
  assert.equal((await run.end()).signal, null);
  const again = await world.start();
  world.emitMany(0, 5);
  await world.stored(0);
  assert.deepEqual(await again.end(), { code: 0, signal: null });
  assertAccounted(world, 2);
});

test('[LIFE-130] [LIFE-223] a shard that is deleted again and again ends eventd with one line; the next start has all of it', async (t) => {
  const world = EventdWorld.for(t);
  const run = await startedWorld(world);
  for (let times = 1; times <= 3; times++) {
    rmSync(shardPath(world, 0));
    await emitUntilRecovered(world, run, {
      cpus: 1,
      damaged: [0],
      until: () => recoveriesOf(run) === times,
    });
    await world.readable(0, `cpu_id = 0 AND sequence = ${world.sequence(0)}`);
  }
  rmSync(shardPath(world, 0));
  world.emitMany(0, 5);
  assert.deepEqual(await run.exited, { code: 1, signal: null });
  assert.match(run.stderr.trimEnd().split('\n').at(-1) ?? '', /^eventd: .*shard 0.*the file was deleted/);
  assert.doesNotMatch(run.stderr, /\n\s+at /, 'no stack trace');
  const again = await world.start();
  world.emitMany(0, 5);
  await world.stored(0);
  assert.deepEqual(await again.end(), { code: 0, signal: null });
  assertAccounted(world, 2);
});
