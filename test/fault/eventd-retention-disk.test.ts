/** A full disk and retention: what is too old makes room at once, without anybody freeing any (FAIL-8). */
import assert from 'node:assert/strict';
import { join } from 'node:path';
import { test } from 'node:test';
import { parseGuid } from '../../src/host/guid.js';
import { native } from '../../src/native/addon.js';
import { accountFor, faultsOf } from '../fixtures/accounting.js';
import { edit } from '../fixtures/database.js';
import { smallDisk } from '../fixtures/disks.js';
import { BOOT_A, EventdWorld, eventually } from '../fixtures/eventd.js';
import { ask, eventsSince, OLD_BOOT, seedShard, shardPath } from '../fixtures/retentionStores.js';

test('[RET-9][RET-11][FAIL-8] a commit that finds the disk full starts a sweep at once, in tiny batches, and events are stored again while the disk stays full', async (t) => {
  const disk = smallDisk(t);
  const events = join(disk.directory, 'events');
  const world = EventdWorld.for(t, { events, cpus: 1, settings: { MaxBatchSize: 500 } });
  const now = native.realtimeNs();
  seedShard(events, 'shard-0000.db', eventsSince(now, 40, 20_000));
  const file = shardPath(events, 0);
  // Earlier sweeps have left free pages: new rows do not make the database longer.
  edit(file, 'DELETE FROM events WHERE id > 10000', 'PRAGMA wal_checkpoint(TRUNCATE)');
  const run = await world.start(disk.env);
  // The WAL gets as long as it may be from now on.
  for (let round = 0; round < 2; round++) {
    world.emitMany(0, 1000);
    await world.stored(0);
  }
  const old = () => ask<bigint>(file, 'SELECT count(*) FROM events WHERE boot_id = ?', OLD_BOOT)[0];
  assert.equal(old(), 10_000n, 'nothing is swept yet');
  disk.fill();
  const failures = () => run.log().filter(({ code }) => String(code).startsWith('SQLITE_FULL')).length;
  await eventually('a commit to fail', () => {
    world.emitMany(0, 400);
    return failures() > 0;
  });
  await eventually('the old rows to go', () => old() === 0n, 20_000);
  const last = world.emitMany(0, 10);
  await world.stored(0, last);
  await run.hasLogged('it', ({ msg }) => msg === 'retention after a full disk');
  disk.free();
  assert.deepEqual(await run.end(), { code: 0, signal: null }, run.stderr);
  assert.deepEqual(faultsOf(accountFor(events, parseGuid(BOOT_A), [Number(last)])), []);
  assert.deepEqual(ask(file, 'PRAGMA integrity_check'), ['ok']);
});
