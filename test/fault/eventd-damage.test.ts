/**
 * Shards that turn out damaged or cut under a running eventd: the same process goes on with the others,
 * the bad file is never written again, and the next start remembers it.
 */
import assert from 'node:assert/strict';
import { existsSync, readFileSync, rmSync, statSync, truncateSync, writeFileSync } from 'node:fs';
import { type TestContext, test } from 'node:test';
import type { QueryFailure } from '../../src/wire/client.js';
import { type EventdRun, EventdWorld, eventually } from '../fixtures/eventd.js';
import { Faults } from '../fixtures/faults.js';
import {
  emitUntilRecovered,
  exclusionsIn,
  fingerprint,
  overwritePages,
  recoveriesOf,
  setAside,
  settleShard,
  shardName,
  shardPath,
} from './damage.js';
import { assertAccounted, failuresOf, reportedShards } from './failedCommits.js';

const STORED = 300;
/** Sequences of the events that a world has stored before anything happens. */
const FIRST = new Set(Array.from({ length: STORED }, (_, i) => BigInt(i + 1)));

interface Damage {
  readonly name: string;
  readonly apply: (world: EventdWorld, shard: number, faults: Faults) => void;
  /** What the mark says of it. */
  readonly says: RegExp;
  /** Watermarks in the bad file can be read: what it holds counts as stored, though it may be unreadable. */
  readonly trusted: boolean;
}

const DAMAGES: readonly Damage[] = [
  {
    name: 'nonsense in its pages',
    apply: (world, shard) => overwritePages(shardPath(world, shard), 'all but the first'),
    says: /SQLITE_CORRUPT/,
    trusted: false,
  },
  {
    name: 'nonsense in the pages of its events',
    apply: (world, shard) => overwritePages(shardPath(world, shard), 'events'),
    says: /SQLITE_CORRUPT/,
    trusted: true,
  },
  {
    name: 'EIO on every read',
    apply: (_world, shard, faults) =>
      void faults.inject({ file: `*/${shardName(shard)}`, operation: 'read', error: 'EIO' }),
    says: /SQLITE_(CORRUPT|IOERR)/,
    trusted: false,
  },
  {
    name: 'its second half cut off',
    apply: (world, shard) =>
      truncateSync(shardPath(world, shard), statSync(shardPath(world, shard)).size / 2),
    says: /ERR_SHARD_TRUNCATED|SQLITE_CORRUPT/,
    trusted: false,
  },
  {
    name: 'no byte left in it',
    apply: (world, shard) => truncateSync(shardPath(world, shard), 0),
    says: /ERR_SHARD_TRUNCATED/,
    trusted: false,
  },
];

/** A running eventd with as many shards as CPUs, everything emitted so far in the database files. */
async function runningWorld(
  t: TestContext,
  shards: number,
): Promise<{ world: EventdWorld; run: EventdRun; faults: Faults }> {
  const faults = Faults.for(t);
  const world = EventdWorld.for(t, { cpus: shards });
  const run = await world.start(faults.env);
  for (let cpu = 0; cpu < shards; cpu++) world.emitMany(cpu, STORED, 200);
  for (let cpu = 0; cpu < shards; cpu++) await world.stored(cpu);
  for (let shard = 0; shard < shards; shard++) settleShard(world, shard);
  return { world, run, faults };
}

/** A query is answered or ends with a storage error; it neither hangs nor harms eventd. */
async function assertAnswered(world: EventdWorld): Promise<void> {
  const error = await world.query('EVENTS').then(
    () => null,
    (reason: unknown) => reason,
  );
  if (error !== null) assert.equal((error as QueryFailure).class, 'storage error');
}

const [, TRUSTED] = DAMAGES;
const WORLDS = [
  // Each kind by itself, then one shard for each kind at once, the last one good.
  ...DAMAGES.map((kind) => ({ kinds: [kind], bad: [0], good: 1 })),
  { kinds: DAMAGES, bad: DAMAGES.map((_, shard) => shard), good: DAMAGES.length },
  { kinds: TRUSTED === undefined ? [] : [TRUSTED], bad: [1], good: 0 },
];

for (const { kinds, bad, good } of WORLDS) {
  const names = kinds.map(({ name }, i) => `shard ${bad[i]} with ${name}`).join('; ');
  test(`[FAIL-12] [FAIL-13] [FAIL-15] [FAIL-16] [FAIL-17] [FAIL-20] [ING-72] ${names}: left alone, shard ${good} serves their CPUs, same process`, async (t) => {
    const shards = bad.length + 1;
    const { world, run, faults } = await runningWorld(t, shards);
    const damaged = kinds.map((kind, i) => ({ ...kind, shard: bad[i] ?? -1 }));
    for (const { apply, shard } of damaged) apply(world, shard, faults);
    const fingerprints = () => bad.map((shard) => fingerprint(world, shard));
    const before = fingerprints();
    await emitUntilRecovered(world, run, { cpus: shards, damaged: bad });
    for (let cpu = 0; cpu < shards; cpu++)
      await world.readable(good, `cpu_id = ${cpu} AND sequence = ${world.sequence(cpu)}`);
    assert.equal(run.readyCount, 1);
    await assertAnswered(world);
    const reports = world.syntheticIn(good, 'synthetic.storage_error');
    assert.deepEqual(
      reports.map(({ store_type, shard_index }) => `${store_type} ${shard_index}`).sort(),
      bad.map((shard) => `event ${shard}`),
    );
    for (const { says, shard } of damaged) {
      assert.match(String(reports.find(({ shard_index }) => Number(shard_index) === shard)?.error), says);
      const mark = readFileSync(`${shardPath(world, shard)}.excluded`, 'utf8');
      assert.match(mark, /^\d{4}-\d\d-\d\dT[\d:.]+Z [^\n]+\n$/);
      assert.match(mark, says);
    }
    assert.deepEqual(await run.end(), { code: 0, signal: null });
    assert.deepEqual(fingerprints(), before, 'not a byte of them was written');

    faults.clear();
    const again = await world.start(faults.env);
    for (const cpu of bad) {
      const last = world.emitMany(cpu, 10);
      await world.readable(good, `cpu_id = ${cpu} AND sequence = ${last}`);
    }
    await assertAnswered(world);
    assert.deepEqual(await again.end(), { code: 0, signal: null });
    for (const shard of bad) assert.ok(existsSync(`${shardPath(world, shard)}.excluded`));
    assert.deepEqual(fingerprints(), before, 'nor by the next start');
    assert.deepEqual(
      world.shardFiles(),
      Array.from({ length: shards }, (_, shard) => shardName(shard)),
    );
    setAside(world, ...bad);
    const elsewhere = damaged.find(({ trusted }) => trusted)?.shard;
    assertAccounted(
      world,
      shards,
      elsewhere === undefined ? undefined : { cpu: elsewhere, storedElsewhere: FIRST },
    );
  });
}

/** Emits until all of these files are there. */
async function emitUntilPresent(
  world: EventdWorld,
  { cpus, files }: { cpus: number; files: readonly string[] },
): Promise<void> {
  await eventually(`the files ${files.join(', ')}`, () => {
    if (files.every((file) => world.shardFiles().includes(file))) return true;
    for (let cpu = 0; cpu < cpus; cpu++) world.emitMany(cpu, 5);
    return false;
  });
}

for (const { shards, which } of [
  { shards: 1, which: 'all but the first' },
  { shards: 2, which: 'all but the first' },
  { shards: 4, which: 'events' },
] as const) {
  test(`[FAIL-11] [FAIL-17] [FAIL-18] [FAIL-19] [FAIL-20] pages of every shard of ${shards} (${which}) damaged under a running eventd: fresh ones take over, and stay in use`, async (t) => {
    const { world, run } = await runningWorld(t, shards);
    const all = Array.from({ length: shards }, (_, shard) => shard);
    for (const shard of all) overwritePages(shardPath(world, shard), which);
    const before = all.map((shard) => fingerprint(world, shard));
    const files = Array.from({ length: 2 * shards }, (_, shard) => shardName(shard));
    await emitUntilPresent(world, { cpus: shards, files });
    for (const cpu of all) {
      const last = world.emitMany(cpu, 5);
      await eventually(`CPU ${cpu} up to ${last}`, () => isStored(world, shards + cpu, cpu, last));
    }
    assert.deepEqual(world.shardFiles(), files);
    assert.deepEqual(await run.end(), { code: 0, signal: null });
    const again = await world.start();
    for (const cpu of all) {
      const last = world.emitMany(cpu, 10);
      await world.readable(shards + cpu, `cpu_id = ${cpu} AND sequence = ${last}`);
    }
    assert.equal(recoveriesOf(again), 0, 'the last start knows all of them');
    assert.deepEqual(await again.end(), { code: 0, signal: null });
    assert.deepEqual(world.shardFiles(), files, 'and makes no more files');
    assert.deepEqual(
      all.map((shard) => fingerprint(world, shard)),
      before,
    );
    setAside(world, ...all);
    if (which === 'all but the first') assertAccounted(world, shards);
    assert.deepEqual([...new Set(reportedShards(world))], all);
  });
}

/** False also while the shard is being made. */
function isStored(world: EventdWorld, shard: number, cpu: number, sequence: bigint): boolean {
  try {
    return world.rows(shard, `cpu_id = ${cpu} AND sequence = ${sequence}`).length > 0;
  } catch {
    return false;
  }
}

for (const shards of [1, 2]) {
  test(`[FAIL-13] [FAIL-14] [FAIL-16] [LIFE-138] with StorageShards=${shards}, damage that the check at start does not see: met by the startup record, ready all the same`, async (t) => {
    const world = EventdWorld.for(t, { cpus: shards });
    const first = await world.start();
    for (let cpu = 0; cpu < shards; cpu++) world.emitMany(cpu, STORED, 200);
    for (let cpu = 0; cpu < shards; cpu++) await world.stored(cpu);
    await first.end();
    overwritePages(shardPath(world, 0), 'events');
    const before = fingerprint(world, 0);
    for (const starts of [1, 2]) {
      const run = await world.start();
      assert.equal(run.readyCount, 1);
      const last = world.emitMany(0, 5);
      await world.readable(1, `cpu_id = 0 AND sequence = ${last}`);
      assert.deepEqual(await run.end(), { code: 0, signal: null });
      assert.equal(recoveriesOf(run), starts === 1 ? 1 : 0, 'the second start knows');
    }
    assert.deepEqual(fingerprint(world, 0), before);
    assert.deepEqual(world.shardFiles(), ['shard-0000.db', 'shard-0001.db']);
    assert.equal(world.syntheticIn(1, 'synthetic.startup').length, 2);
    setAside(world, 0);
    assertAccounted(world, shards, { cpu: 0, storedElsewhere: FIRST });
  });
}

for (const which of ['events', 'all but the first'] as const) {
  test(`[FAIL-4] [FAIL-13] [FAIL-20] [ING-31] one of four shards of two CPUs damaged (${which}) while events flow: nothing missing but what it held, nothing twice`, async (t) => {
    const world = EventdWorld.for(t, { capacity: 4 << 20, settings: { StorageShards: 4 } });
    const run = await world.start();
    world.emitMany(0, 2 * STORED, 200);
    world.emitMany(1, 2 * STORED, 200);
    await world.stored(0);
    await world.stored(1);
    settleShard(world, 2);
    // Shard 2 serves CPU 0 together with shard 0, in turn.
    const held = new Set(world.rows(2, 'sequence IS NOT NULL').map(({ sequence }) => sequence ?? 0n));
    assert.equal(held.size, STORED);
    overwritePages(shardPath(world, 2), which);
    const before = fingerprint(world, 2);
    await emitUntilRecovered(world, run, { cpus: 2, damaged: [2] });
    world.emitMany(0, 200);
    world.emitMany(1, 200);
    for (const cpu of [0, 1]) {
      const last = world.sequence(cpu);
      await eventually(`CPU ${cpu} up to ${last}`, () =>
        [0, 1, 3].some((shard) => world.rows(shard, `cpu_id = ${cpu} AND sequence = ${last}`).length > 0),
      );
    }
    assert.deepEqual(await run.end(), { code: 0, signal: null });
    assert.deepEqual(fingerprint(world, 2), before);
    setAside(world, 2);
    assertAccounted(world, 2, { cpu: 0, storedElsewhere: held });
  });
}

test('[FAIL-5] [FAIL-7] a shard deleted while gap records are owed, its ring overwritten meanwhile: the loss is recorded all the same', async (t) => {
  const faults = Faults.for(t);
  const world = EventdWorld.for(t, { cpus: 1, capacity: 65_536 });
  const run = await world.start(faults.env);
  world.emitMany(0, 50);
  await world.stored(0);
  const fault = faults.inject({ file: '*/shard-0000.db-wal', operation: 'sync', error: 'EIO' });
  await eventually('failed commits and a ring that has wrapped', () => {
    world.emitMany(0, 100);
    return failuresOf(run).length >= 2 && world.sequence(0) > 3000n;
  });
  rmSync(shardPath(world, 0));
  fault.remove();
  await emitUntilRecovered(world, run, { cpus: 1, damaged: [0] });
  const last = world.emitMany(0, 5);
  await world.readable(0, `cpu_id = 0 AND sequence = ${last}`);
  assert.deepEqual(await run.end(), { code: 0, signal: null });
  assertAccounted(world, 1);
  assert.ok(world.gaps().length > 0);
});

test('[FAIL-7] [FAIL-13] [LIFE-223] kill -9 on a shard whose damage nobody has met yet: the next start meets it', async (t) => {
  const { world, run } = await runningWorld(t, 2);
  overwritePages(shardPath(world, 1), 'events');
  const before = fingerprint(world, 1);
  await run.end('SIGKILL');
  const again = await world.start();
  await emitUntilRecovered(world, again, { cpus: 2, damaged: [1] });
  await world.readable(0, `cpu_id = 1 AND sequence = ${world.sequence(1)}`);
  assert.deepEqual(await again.end(), { code: 0, signal: null });
  assert.deepEqual(fingerprint(world, 1), before);
  setAside(world, 1);
  assertAccounted(world, 2, { cpu: 1, storedElsewhere: FIRST });
});

test('[FAIL-13] [FAIL-15] a shard that an administrator has taken away for repair is made anew, its mark goes', async (t) => {
  const { world, run } = await runningWorld(t, 2);
  overwritePages(shardPath(world, 0), 'all but the first');
  await emitUntilRecovered(world, run, { cpus: 2, damaged: [0] });
  await run.end();
  const mark = `${shardPath(world, 0)}.excluded`;
  const kept = readFileSync(mark);
  setAside(world, 0);
  writeFileSync(mark, kept);
  const again = await world.start();
  const last = world.emitMany(0, 10);
  await world.readable(0, `cpu_id = 0 AND sequence = ${last}`);
  assert.equal(existsSync(mark), false);
  await again.end();
  assertAccounted(world, 2);
});

test('[FAIL-13] [FAIL-15] a shard whose mark an administrator has removed is written again', async (t) => {
  const { world, run, faults } = await runningWorld(t, 2);
  faults.inject({ file: `*/${shardName(0)}`, operation: 'read', error: 'EIO' });
  await emitUntilRecovered(world, run, { cpus: 2, damaged: [0] });
  await run.end();
  rmSync(`${shardPath(world, 0)}.excluded`);
  const again = await world.start();
  const last = world.emitMany(0, 10);
  await world.readable(0, `cpu_id = 0 AND sequence = ${last}`);
  assert.deepEqual(exclusionsIn(again), []);
  assert.deepEqual(await again.end(), { code: 0, signal: null });
});
