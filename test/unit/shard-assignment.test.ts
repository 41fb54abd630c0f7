import assert from 'node:assert/strict';
import { test } from 'node:test';
import { assignShards } from '../../src/stores/assignment.js';
import { shardCount, shardFileIndex, shardFileName, shardsOfCpu } from '../../src/stores/shardFiles.js';

test('[ING-37, STO-22] shard files carry the index in four digits', () => {
  assert.equal(shardFileName(0), 'shard-0000.db');
  assert.equal(shardFileName(255), 'shard-0255.db');
  assert.equal(shardFileIndex('shard-0255.db'), 255);
  for (const other of ['eventd-meta.db', 'shard-1.db', 'shard-0001.db-wal', 'logs.db']) {
    assert.equal(shardFileIndex(other), null, other);
  }
});

test('[ING-29] StorageShards 0 means one shard per CPU, without a bound', () => {
  assert.equal(shardCount(0, 4), 4);
  assert.equal(shardCount(0, 400), 400);
  assert.equal(shardCount(3, 4), 3);
});

test('[ING-30, ING-31, ING-32] every shard has a CPU and every CPU a shard, at any ratio', () => {
  for (const [cpus, shards] of [
    [1, 1],
    [2, 1],
    [2, 2],
    [2, 5],
    [4, 3],
    [3, 8],
    [16, 256],
  ] as const) {
    const assignment = Array.from({ length: cpus }, (_, cpu) => shardsOfCpu(cpu, cpus, shards));
    assert.ok(
      assignment.every((own) => own.length > 0),
      `${cpus} CPUs, ${shards} shards`,
    );
    const used = new Set(assignment.flat());
    assert.equal(used.size, shards);
    if (shards > cpus) {
      assert.equal(assignment.flat().length, shards, 'no shard belongs to two CPUs');
      assert.ok(assignment.every((own, cpu) => own.every((shard) => shard % cpus === cpu)));
    }
  }
  assert.deepEqual(shardsOfCpu(1, 2, 5), [1, 3]);
  assert.deepEqual(shardsOfCpu(0, 2, 5), [0, 2, 4]);
  assert.deepEqual(shardsOfCpu(3, 4, 3), [0]);
});

test('[FAIL-20] the next writable shard serves the CPUs of an excluded one, cyclically', () => {
  assert.deepEqual(assignShards(1, 4, 4, [0, 2, 3]), [2]);
  assert.deepEqual(assignShards(3, 4, 4, [0, 1, 2]), [0]);
  assert.deepEqual(assignShards(0, 2, 5, [0, 1, 3, 4]), [0, 3, 4]);
  assert.deepEqual(assignShards(0, 1, 3, [2]), [2]);
});
