/** Restarts within a boot after the store was damaged or changed while eventd was down. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { parseGuid } from '../../src/host/guid.js';
import { accountFor, faultsOf } from '../fixtures/accounting.js';
import { BOOT_A, EventdWorld } from '../fixtures/eventd.js';

const WATERMARKS = "DELETE FROM metadata WHERE key = 'last_boot_id' OR key GLOB '*_seq.*'";

const LOSSES: readonly (readonly [string, string])[] = [
  ['its watermarks', WATERMARKS],
  ['all its metadata', 'DELETE FROM metadata'],
];

for (const shards of [1, 3]) {
  for (const [what, sql] of LOSSES) {
    test(`[BOOT-6] [BOOT-9] [BOOT-10] [ING-17] a shard of ${shards} that lost ${what}: nothing is stored twice, and nothing is lost`, async (t) => {
      const world = EventdWorld.for(t, { cpus: 1, settings: { StorageShards: shards } });
      const first = await world.start();
      world.emitMany(0, 3000);
      await world.stored(0);
      await first.end(shards === 1 ? 'SIGTERM' : 'SIGKILL');
      world.change(0, (db) => db.exec(sql));
      // What the ring holds now is partly stored and partly new.
      world.emitMany(0, 700);
      const second = await world.start();
      await world.stored(0);
      await second.hasWritten(/watermarks are missing/);
      assert.equal((await second.end()).code, 0);
      world.emitMany(0, 300);
      const third = await world.start();
      await world.stored(0);
      assert.equal((await third.end()).code, 0);
      const accounts = accountFor(world.events, parseGuid(BOOT_A), [4000]);
      assert.deepEqual(faultsOf(accounts), []);
      assert.deepEqual([accounts[0]?.stored, accounts[0]?.gapRecords], [4000, 0]);
      const restarts = world.synthetic('synthetic.startup').map(({ payload }) => payload.restart);
      assert.deepEqual(restarts, [false, true, true]);
    });
  }
}

test("[FAIL-15] [BOOT-10] with damaged pages among a shard's newest rows eventd starts, and loses nothing", async (t) => {
  const world = EventdWorld.for(t, { cpus: 1, settings: { StorageShards: 2 } });
  const first = await world.start();
  world.emitMany(0, 2000, 200);
  await world.stored(0);
  assert.equal((await first.end()).code, 0);
  // Both shards say that less is settled than they hold, so that the newest rows are walked.
  for (const shard of [0, 1])
    world.change(shard, (db) => db.exec("UPDATE metadata SET value = '100' WHERE key = 'settled_seq.0'"));
  world.change(0, (db) => {
    // A row in the middle whose number is not a number any more.
    db.exec("UPDATE events SET sequence = 'x' || sequence WHERE id = 500");
    db.exec("UPDATE events SET cpu_id = x'00' WHERE id = 501");
  });
  const second = await world.start();
  world.emitMany(0, 50);
  await world.stored(0);
  assert.equal((await second.end()).code, 0);
  const stored = new Set(
    world
      .shardFiles()
      .flatMap((shard) =>
        world.read(
          shard,
          (db) =>
            db
              .prepare("SELECT sequence FROM events WHERE typeof(sequence) = 'integer' AND cpu_id = 0")
              .pluck()
              .all() as bigint[],
        ),
      ),
  );
  assert.equal(stored.size, 2050, 'the two unreadable rows were read from the ring again');
  assert.deepEqual(world.gaps(), []);
});
