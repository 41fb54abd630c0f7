/** Shards the real eventd must not write: left alone, still read, reported, replaced by others. */
import assert from 'node:assert/strict';
import { closeSync, openSync, readFileSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { EventdWorld } from '../fixtures/eventd.js';

/** A world whose two shards hold 50 events of one CPU each. */
async function usedWorld(t: TestContext): Promise<EventdWorld> {
  const world = EventdWorld.for(t);
  const run = await world.start();
  world.emitMany(0, 50);
  world.emitMany(1, 50);
  await run.end();
  return world;
}

const bytesOf = (world: EventdWorld, shard: number) =>
  readFileSync(join(world.events, `shard-000${shard}.db`));

function overwriteHead(world: EventdWorld, shard: number): void {
  const fd = openSync(join(world.events, `shard-000${shard}.db`), 'r+');
  writeSync(fd, Buffer.alloc(4096, 0xee), 0, 4096, 0);
  closeSync(fd);
}

const CASES = [
  {
    name: '[STO-14] [STO-25] [LIFE-104] of an unknown schema version',
    damage: (world: EventdWorld, shard: number) =>
      world.change(shard, (db) => db.exec("UPDATE metadata SET value = '7' WHERE key = 'schema_version'")),
    says: /schema version '7' is unknown/,
    readable: true,
  },
  {
    name: '[STO-26] [FAIL-12] without its index',
    damage: (world: EventdWorld, shard: number) =>
      world.change(shard, (db) => db.exec('DROP INDEX idx_events_timestamp')),
    says: /index idx_events_timestamp is missing/,
    readable: true,
  },
  {
    name: '[FAIL-12] with a destroyed header',
    damage: overwriteHead,
    says: /not a database/,
    readable: false,
  },
] as const;

for (const { name, damage, says, readable } of CASES) {
  for (const shard of [0, 1]) {
    test(`[FAIL-13] [FAIL-15] [FAIL-16] [FAIL-17] [FAIL-20] [ING-72] shard ${shard} ${name} is excluded and reported`, async (t) => {
      const world = await usedWorld(t);
      damage(world, shard);
      const before = bytesOf(world, shard);
      const healthy = 1 - shard;
      const run = await world.start();
      world.emitMany(0, 5);
      world.emitMany(1, 5);
      for (const cpu of [0, 1]) {
        await world.readable(healthy, `cpu_id = ${cpu} AND sequence = 55`);
      }
      await run.hasLogged('the damage', ({ level, msg }) => level === 50 && says.test(String(msg)));
      const errors = world.syntheticIn(healthy, 'synthetic.storage_error');
      assert.equal(errors.length, 1);
      assert.equal(errors[0]?.store_type, 'event');
      assert.equal(errors[0]?.shard_index, shard);
      assert.match(String(errors[0]?.error), says);
      assert.equal(world.syntheticIn(healthy, 'synthetic.startup').length, healthy === 0 ? 2 : 1);
      const found = await world.query(`EVENTS test.many WHERE cpu_id == ${shard}`);
      // What cannot be read was stored, or so the resume point of that file would have said: it is read from the ring again.
      assert.ok(found.length >= (readable ? 55 : 5), `${found.length} events`);
      await run.end();
      assert.equal(world.syntheticIn(healthy, 'synthetic.shutdown').at(-1) !== undefined, true);
      assert.deepEqual(bytesOf(world, shard), before, 'not a byte of it was written');
    });
  }
}

test('[FAIL-18] [FAIL-19] [FAIL-20] when every shard is bad, fresh ones above them take over', async (t) => {
  const world = await usedWorld(t);
  CASES[0].damage(world, 0);
  overwriteHead(world, 1);
  const before = [bytesOf(world, 0), bytesOf(world, 1)];
  const run = await world.start();
  world.emitMany(0, 5);
  world.emitMany(1, 5);
  await world.readable(2, 'cpu_id = 0 AND sequence = 55');
  await world.readable(3, 'cpu_id = 1 AND sequence = 55');
  assert.deepEqual(world.shardFiles(), ['shard-0000.db', 'shard-0001.db', 'shard-0002.db', 'shard-0003.db']);
  assert.deepEqual(
    world.syntheticIn(2, 'synthetic.storage_error').map(({ shard_index }) => shard_index),
    [0, 1],
  );
  assert.equal(
    (await world.query('EVENTS test.many WHERE cpu_id == 0')).length,
    55,
    'old rows are still read',
  );
  await run.end();
  assert.deepEqual([bytesOf(world, 0), bytesOf(world, 1)], before);

  // The next start finds the same files again, and does not make more of them.
  const again = await world.start();
  world.emitMany(0, 1);
  await world.readable(2, 'cpu_id = 0 AND sequence = 56');
  assert.equal((await again.end()).code, 0);
  assert.equal(world.shardFiles().length, 4);
});
