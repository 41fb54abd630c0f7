/**
 * Shards that are found bad when eventd starts: who takes over with several shards, start after start,
 * and that a bad file and its WAL are never touched.
 */
import assert from 'node:assert/strict';
import { copyFileSync, mkdirSync, rmSync, statSync, truncateSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import Database from 'better-sqlite3';
import { EventdWorld, eventually } from '../fixtures/eventd.js';
import { Faults } from '../fixtures/faults.js';
import { exclusionsIn, fingerprint, overwritePages, setAside, shardName, shardPath } from './damage.js';
import { assertAccounted, reportedShards } from './failedCommits.js';

/** A world with one CPU per shard, 50 events of each stored. */
async function usedWorld(t: TestContext, shards: number): Promise<EventdWorld> {
  const world = EventdWorld.for(t, { cpus: shards });
  const run = await world.start();
  for (let cpu = 0; cpu < shards; cpu++) world.emitMany(cpu, 50);
  for (let cpu = 0; cpu < shards; cpu++) await world.stored(cpu);
  await run.end();
  return world;
}

const sql = (statement: string) => (world: EventdWorld, shard: number) =>
  world.change(shard, (db) => db.exec(statement));

const unknownVersion = sql("UPDATE metadata SET value = '2' WHERE key = 'schema_version'");

const DAMAGES: readonly {
  name: string;
  damage: (world: EventdWorld, shard: number) => void;
  says: RegExp;
  /** What becomes of the 50 events in it: still found there, read from the ring again, or out of reach. */
  old: 'found' | 'read again' | 'unreachable';
}[] = [
  {
    name: '[FAIL-12] without its events table',
    damage: sql('DROP TABLE events'),
    says: /table events is missing/,
    old: 'read again',
  },
  {
    name: '[FAIL-12] without its metadata table',
    damage: sql('DROP TABLE metadata'),
    says: /table metadata is missing/,
    old: 'read again',
  },
  {
    name: '[STO-14] [STO-25] that does not say its version',
    damage: sql("DELETE FROM metadata WHERE key = 'schema_version'"),
    says: /no schema_version/,
    old: 'found',
  },
  {
    name: '[FAIL-12] without a column',
    damage: sql('ALTER TABLE events DROP COLUMN process_guid'),
    says: /column events\.process_guid is missing/,
    old: 'unreachable',
  },
  {
    name: '[FAIL-12] with nonsense in every page',
    damage: (world, shard) => overwritePages(shardPath(world, shard), 'every page'),
    says: /not a database/,
    old: 'read again',
  },
  {
    name: '[FAIL-12] cut in the middle of its first page',
    damage: (world, shard) => truncateSync(shardPath(world, shard), 3000),
    says: /malformed|not a database/,
    old: 'read again',
  },
];

test(`[FAIL-13] [FAIL-15] [FAIL-16] shards ${DAMAGES.map(({ name }) => name).join('; ')}: left alone at two starts, each reported at each, the rest goes on`, async (t) => {
  const cpus = DAMAGES.length + 1;
  const world = await usedWorld(t, cpus);
  // Shard 0 stays good, and serves the CPUs of all others.
  const bad = DAMAGES.map((kind, i) => ({ ...kind, shard: i + 1, cpu: i + 1 }));
  const files = world.shardFiles();
  for (const { damage, shard } of bad) damage(world, shard);
  const before = bad.map(({ shard }) => fingerprint(world, shard));
  for (const starts of [1, 2]) {
    const run = await world.start();
    for (const { cpu } of bad) world.emitMany(cpu, 5);
    for (const { cpu } of bad)
      await world.readable(0, `cpu_id = ${cpu} AND sequence = ${world.sequence(cpu)}`);
    const exclusions = exclusionsIn(run);
    assert.equal(exclusions.length, bad.length);
    const reported = world
      .syntheticIn(0, 'synthetic.storage_error')
      .map(({ shard_index }) => Number(shard_index));
    assert.deepEqual(reported, Array.from({ length: starts }, () => bad.map(({ shard }) => shard)).flat());
    for (const { shard, cpu, says, old, name } of bad) {
      assert.match(exclusions.find((text) => text.startsWith(`shard ${shard} `)) ?? '', says);
      const found = await world.query(`EVENTS test.many WHERE cpu_id == ${cpu}`);
      const sequences = new Set(found.map((record) => record.get('sequence')));
      assert.equal(sequences.size, (old === 'unreachable' ? 0 : 50) + 5 * starts, name);
    }
    assert.deepEqual(await run.end(), { code: 0, signal: null });
    assert.deepEqual(world.shardFiles(), files);
  }
  for (const [i, { shard, name }] of bad.entries())
    assert.deepEqual(fingerprint(world, shard), before[i], `not a byte of the shard ${name} was written`);
  // What could not be read was stored again elsewhere; the others still count.
  setAside(world, ...bad.filter(({ old }) => old === 'read again').map(({ shard }) => shard));
  assertAccounted(world, cpus);
});

test('[FAIL-17] [FAIL-20] [ING-72] of four shards the next good one, cyclically, serves the CPUs of a bad one', async (t) => {
  const world = await usedWorld(t, 4);
  for (const shard of [0, 1, 3]) unknownVersion(world, shard);
  // 3 is bad: its CPU goes past the end to the first good one; so do those of 0 and 1.
  for (const { bad, servants } of [
    { bad: [0, 1, 3], servants: [2, 2, 2, 2] },
    { bad: [1, 3], servants: [0, 2, 2, 0] },
    { bad: [3], servants: [0, 1, 2, 0] },
  ]) {
    const before = bad.map((shard) => fingerprint(world, shard));
    const run = await world.start();
    for (let cpu = 0; cpu < 4; cpu++) {
      const sequence = world.emitMany(cpu, 3);
      await world.readable(servants[cpu] ?? -1, `cpu_id = ${cpu} AND sequence = ${sequence}`);
    }
    const reporter = Math.min(...servants);
    const reports = world
      .syntheticIn(reporter, 'synthetic.storage_error')
      .map(({ shard_index }) => shard_index);
    assert.deepEqual(reports.slice(-bad.length), bad, 'all in the lowest good shard');
    assert.deepEqual(await run.end(), { code: 0, signal: null });
    assert.equal(exclusionsIn(run).length, bad.length);
    assert.deepEqual(
      bad.map((shard) => fingerprint(world, shard)),
      before,
    );
    // An administrator repairs the lowest of them.
    sql("UPDATE metadata SET value = '1' WHERE key = 'schema_version'")(world, bad[0] ?? -1);
  }
  assertAccounted(world, 4);
  assert.deepEqual(world.gaps(), []);
});

test('[FAIL-13] [STO-14] [STO-25] an unknown version that only its WAL tells: neither the file nor the WAL is written', async (t) => {
  const world = await usedWorld(t, 2);
  const path = shardPath(world, 1);
  const kept = join(world.dir, 'kept.db');
  const db = new Database(path);
  db.pragma('wal_autocheckpoint = 0');
  db.exec("UPDATE metadata SET value = '2' WHERE key = 'schema_version'");
  // As a crash leaves them: nobody closes the database that wrote this WAL.
  for (const suffix of ['', '-wal']) copyFileSync(`${path}${suffix}`, `${kept}${suffix}`);
  db.close();
  for (const suffix of ['', '-wal']) copyFileSync(`${kept}${suffix}`, `${path}${suffix}`);
  const before = fingerprint(world, 1);
  const run = await world.start();
  world.emitMany(1, 5);
  await world.readable(0, 'cpu_id = 1 AND sequence = 55');
  assert.equal((await world.query('EVENTS test.many WHERE cpu_id == 1')).length, 55);
  assert.deepEqual(await run.end(), { code: 0, signal: null });
  assert.match(exclusionsIn(run)[0] ?? '', /schema version '2' is unknown/);
  assert.deepEqual(fingerprint(world, 1), before);
});

test('[FAIL-18] [FAIL-19] [FAIL-20] every shard bad, some repaired, some not: fresh files once, and used as long as needed', async (t) => {
  const world = await usedWorld(t, 3);
  for (const shard of [0, 1, 2]) unknownVersion(world, shard);
  const before = [0, 1, 2].map((shard) => fingerprint(world, shard));
  for (let starts = 1; starts <= 3; starts++) {
    const run = await world.start();
    for (let cpu = 0; cpu < 3; cpu++) {
      const sequence = world.emitMany(cpu, 3);
      await world.readable(3 + cpu, `cpu_id = ${cpu} AND sequence = ${sequence}`);
    }
    assert.equal(
      (await world.query('EVENTS test.many')).length,
      150 + 9 * starts,
      'old data are still found',
    );
    await run.end(starts === 2 ? 'SIGKILL' : 'SIGTERM');
    assert.deepEqual(world.shardFiles(), [0, 1, 2, 3, 4, 5].map(shardName));
  }
  assert.deepEqual(
    [0, 1, 2].map((shard) => fingerprint(world, shard)),
    before,
  );
  assert.deepEqual(reportedShards(world), [0, 0, 0, 1, 1, 1, 2, 2, 2]);
  assertAccounted(world, 3);
  assert.deepEqual(world.gaps(), []);
});

test('[FAIL-18] [FAIL-19] [LIFE-130] every shard bad and no room for fresh ones: the start fails with one line; with room it goes on', async (t) => {
  const faults = Faults.for(t);
  const world = await usedWorld(t, 2);
  for (const shard of [0, 1]) unknownVersion(world, shard);
  const before = [0, 1].map((shard) => fingerprint(world, shard));
  faults.inject({ file: '*/shard-000[2-9].db*', operation: ['write', 'allocate'], error: 'ENOSPC' });
  const STARTS = 3;
  for (let starts = 1; starts <= STARTS; starts++) {
    const run = world.spawn([], faults.env);
    assert.deepEqual(await run.exited, { code: 1, signal: null });
    assert.match(run.stderr.trimEnd().split('\n').at(-1) ?? '', /^eventd: .*shard-000\d\.db: .*full/);
  }
  faults.clear();
  const run = await world.start(faults.env);
  // A failed start leaves the name it meant to use, and the next one takes it.
  assert.equal(world.shardFiles().length, 4, world.shardFiles().join(' '));
  const last = world.emitMany(1, 5);
  await eventually('both kinds of files found', async () => {
    return (await world.query(`EVENTS WHERE cpu_id == 1 AND sequence == ${last}`)).length === 1;
  });
  assert.equal((await world.query('EVENTS test.many')).length, 105);
  await run.end();
  const files = world.shardFiles();
  const again = await world.start();
  await again.end();
  assert.deepEqual(world.shardFiles(), files);
  assert.deepEqual(
    [0, 1].map((shard) => fingerprint(world, shard)),
    before,
  );
  for (const name of files.filter((file) => statSync(join(world.events, file)).size === 0)) {
    rmSync(join(world.events, name));
  }
  assertAccounted(world, 2);
});

test('[LIFE-131] a shard path that can hold no database fails the start with one line and harms nothing', async (t) => {
  const world = await usedWorld(t, 2);
  const path = shardPath(world, 1);
  const kept = join(world.dir, 'kept.db');
  copyFileSync(path, kept);
  rmSync(path);
  mkdirSync(path);
  const run = world.spawn();
  assert.deepEqual(await run.exited, { code: 1, signal: null });
  assert.match(run.stderr.trimEnd().split('\n').at(-1) ?? '', /^eventd: .*shard-0001\.db: /);
  rmSync(path, { recursive: true });
  copyFileSync(kept, path);
  const again = await world.start();
  world.emitMany(1, 5);
  await world.stored(1);
  await again.end();
  assertAccounted(world, 2);
});

test('[STO-24] [LIFE-104] a shard file of zero bytes, as a crash at its creation leaves it, is new', async (t) => {
  const world = await usedWorld(t, 2);
  rmSync(shardPath(world, 1));
  writeFileSync(shardPath(world, 1), '');
  const run = await world.start();
  world.emitMany(1, 5);
  await world.readable(1, 'cpu_id = 1 AND sequence = 55');
  assert.deepEqual(exclusionsIn(run), []);
  await run.end();
  assertAccounted(world, 2);
});
