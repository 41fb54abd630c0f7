/** A gap record that a failed commit took along is stored later as what it was. */
import assert from 'node:assert/strict';
import { join } from 'node:path';
import { decode } from '@msgpack/msgpack';
import Database from 'better-sqlite3';
import { native } from '../../src/native/addon.js';
import { CommitError, ShardCommitter } from '../../src/stores/shardCommitter.js';
import { inWorld, numbered } from '../fixtures/nativeRing.js';

const LIMITS = { maxBatchSize: 100, maxBatchLatencyMs: 100 };

inWorld(
  '[FAIL-9] [STO-8] a lost gap keeps cause and time, lost events become a commit_failure',
  async (world) => {
    const producer = world.create();
    const channel = world.channel();
    const drop = (): void => {
      native.producerEmit(producer, 0, { type: new Uint8Array(), payload: numbered(0) }, null);
    };
    world.emit(producer, 1);
    drop();
    world.emit(producer, 1);
    drop();
    world.emit(producer, 1);
    const drain = world.drain([channel], { lastSequence: 1n });
    await drain.reached(5n);
    const detected = native.realtimeNs();

    const file = join(world.directory, 'shard-0000.db');
    const committer = new ShardCommitter({ file, bootId: new Uint8Array(16), channel, unordered: [] });
    const other = new Database(file);
    try {
      other.defaultSafeIntegers(true);
      other.exec("CREATE TRIGGER broken BEFORE INSERT ON events BEGIN SELECT RAISE(ABORT, 'broken'); END");
      for (let attempt = 0; attempt < 3; attempt++)
        assert.throws(() => committer.commit(LIMITS), CommitError);
      other.exec('DROP TRIGGER broken');
      assert.equal(committer.commit(LIMITS).rows, 4);
      const rows = other.prepare('SELECT timestamp, payload FROM events ORDER BY id').all() as {
        timestamp: bigint;
        payload: Uint8Array;
      }[];
      const records = rows.map(({ timestamp, payload }) => {
        const { first_missing, last_missing, cause } = decode(payload) as Record<string, unknown>;
        return [first_missing, last_missing, cause, timestamp <= detected];
      });
      assert.deepEqual(records, [
        [2, 2, 'restart', true],
        [3, 3, 'commit_failure', false],
        [4, 4, 'ring_loss', true],
        [5, 5, 'commit_failure', false],
      ]);
    } finally {
      other.close();
      committer.close();
    }
  },
);
