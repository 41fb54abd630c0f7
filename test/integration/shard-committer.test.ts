/** What a committer keeps over a failed transaction, and what it says of rows out of order. */
import assert from 'node:assert/strict';
import { join } from 'node:path';
import Database from 'better-sqlite3';
import { native } from '../../src/native/addon.js';
import { CommitError, ShardCommitter } from '../../src/stores/shardCommitter.js';
import { storageErrorEvent } from '../../src/stores/synthetic.js';
import { readWatermarks } from '../../src/stores/watermarks.js';
import { inWorld, numbered } from '../fixtures/nativeRing.js';

const LIMITS = { maxBatchSize: 100, maxBatchLatencyMs: 100 };
const BOOT = new Uint8Array(16);
const BROKEN = "CREATE TRIGGER broken BEFORE INSERT ON events BEGIN SELECT RAISE(ABORT, 'broken'); END";

const typesIn = (db: Database.Database): unknown[] =>
  db.prepare('SELECT CAST(event_type AS TEXT) FROM events ORDER BY id').pluck().all();

inWorld('[FAIL-5] gap records that did not fit into one batch still precede new events', async (world) => {
  const producer = world.create();
  const channel = world.channel();
  world.emit(producer, 1);
  for (let i = 0; i < 2; i++) {
    native.producerEmit(producer, 0, { type: new Uint8Array(), payload: numbered(0) }, null);
    world.emit(producer, 1);
  }
  const drain = world.drain([channel], { lastSequence: 1n });
  await drain.reached(5n);
  const file = join(world.directory, 'shard-0000.db');
  const committer = new ShardCommitter({ file, bootId: BOOT, channel, unordered: [] });
  const other = new Database(file);
  try {
    other.exec(BROKEN);
    assert.throws(() => committer.commit(LIMITS), CommitError);
    other.exec('DROP TRIGGER broken');
    assert.equal(committer.lost.length, 4);
    assert.equal(committer.commit({ ...LIMITS, maxBatchSize: 3 }).rows, 3);
    world.emit(producer, 1);
    await drain.reached(6n);
    assert.equal(committer.commit(LIMITS).rows, 2, 'the last gap record and the event, in one transaction');
    const sequences = other.prepare('SELECT sequence FROM events ORDER BY id').pluck().all();
    assert.deepEqual(sequences, [null, null, null, null, 6]);
  } finally {
    other.close();
    committer.close();
  }
});

inWorld(
  '[FAIL-9] [ING-71] synthetic rows of a failed batch are stored by a later one, once',
  async (world) => {
    const file = join(world.directory, 'shard-0000.db');
    const committer = new ShardCommitter({ file, bootId: BOOT, channel: world.channel(), unordered: [] });
    const other = new Database(file);
    try {
      committer.queue(storageErrorEvent(native.realtimeNs(), { store: 'log', shard: null, error: 'full' }));
      other.exec(BROKEN);
      for (let attempt = 0; attempt < 2; attempt++)
        assert.throws(() => committer.commit(LIMITS), CommitError);
      other.exec('DROP TRIGGER broken');
      assert.deepEqual([committer.commit(LIMITS).synthetic, committer.commit(LIMITS).synthetic], [1, 0]);
      assert.deepEqual(typesIn(other), ['synthetic.storage_error']);
    } finally {
      other.close();
      committer.close();
    }
  },
);

inWorld(
  '[ING-47] [ING-52] [ING-54] a batch lingers, unless its bytes fill half the channel or somebody waits for room',
  async (world) => {
    const SMALL = 3000;
    const LARGE = 60;
    const limits = { maxBatchSize: SMALL, maxBatchLatencyMs: 1000 };
    const producer = world.create(8 << 20);
    const status = native.channelStatus;
    for (const { payload, blocked, lingers } of [
      { payload: 1000, blocked: 0, lingers: true },
      { payload: 40_000, blocked: 0, lingers: false },
      { payload: 1000, blocked: 1, lingers: false },
    ]) {
      const channel = world.channel(2 * SMALL, 4 << 20);
      const emitted = world.emit(producer, SMALL, 1, 0);
      const drain = world.drain([channel], { lastSequence: emitted - BigInt(SMALL) });
      world.emit(producer, LARGE, 1, payload);
      await drain.reached(emitted + BigInt(LARGE));
      native.drainStop(drain.handle);
      // The large ones are what is left for the next batch.
      native.channelLimit(channel, SMALL);
      const file = join(world.directory, 'shard-0000.db');
      const committer = new ShardCommitter({ file, bootId: BOOT, channel, unordered: [] });
      native.channelStatus = (handle) => ({ ...status.call(native, handle), blocked });
      try {
        const { rows, more, lingerMs } = committer.commit(limits);
        assert.deepEqual([rows, more], [SMALL, true]);
        assert.equal(lingerMs > 0, lingers, `${LARGE} events of ${payload} bytes: ${lingerMs} ms`);
      } finally {
        native.channelStatus = status;
        committer.close();
      }
    }
  },
);

inWorld('[BOOT-9] [STO-15] a commit after a restart says where the order of rows ends', async (world) => {
  const producer = world.create();
  const channel = world.channel();
  world.emit(producer, 5);
  const drain = world.drain([channel], { lastSequence: 3n, covered: BigUint64Array.of(5n, 5n) });
  await drain.reached(4n);
  const file = join(world.directory, 'shard-0000.db');
  const unordered = [{ cpu: 0, floor: 2n, upper: 5n }];
  const committer = new ShardCommitter({ file, bootId: BOOT, channel, unordered });
  const other = new Database(file);
  try {
    assert.equal(committer.commit(LIMITS).events, 1);
    const mark = readWatermarks(other, BOOT)?.get(0);
    assert.deepEqual([mark?.floor, mark?.upper], [2n, 5n]);
  } finally {
    other.close();
    committer.close();
  }
});
