import assert from 'node:assert/strict';
import { test } from 'node:test';
import { decode } from '@msgpack/msgpack';
import {
  configChangeEvent,
  gapEvent,
  shutdownEvent,
  startupEvent,
  storageErrorEvent,
} from '../../src/stores/synthetic.js';

const at = 1_700_000_000_123_456_789n;
const failed = { revealingTimestamp: null, cause: 'commit_failure' } as const;
const open = (payload: Uint8Array) => decode(payload, { useBigInt64: true });

test('[STO-8, ING-68] the startup record names boot, restart, shards and resume points', () => {
  const event = startupEvent(at, {
    bootId: '04030201-0605-0807-090a-0b0c0d0e0f10',
    restart: true,
    shardCount: 2,
    cpuCount: 2,
    resumePoints: new Map([
      [1, 0n],
      [0, 2n ** 40n],
    ]),
  });
  assert.equal(event.type, 'synthetic.startup');
  assert.equal(event.timestamp, at);
  assert.deepEqual(open(event.payload), {
    boot_id: '04030201-0605-0807-090a-0b0c0d0e0f10',
    restart: true,
    shard_count: 2,
    resume_points: { '0': 2n ** 40n, '1': 0 },
    cpu_count: 2,
  });
});

test('[STO-8] the shutdown record holds the last persisted sequence per CPU', () => {
  assert.deepEqual(open(shutdownEvent(at, new Map([[0, 7n]])).payload), { last_sequences: { '0': 7 } });
});

test('[STO-8, FAIL-5] a gap of a failed commit has no revealing event and says why', () => {
  const { type, payload } = gapEvent(at, {
    cpu: 3,
    first: 10n,
    last: 19n,
    previousTimestamp: null,
    ...failed,
  });
  assert.equal(type, 'synthetic.gap');
  assert.deepEqual(open(payload), {
    cpu_id: 3,
    first_missing: 10,
    last_missing: 19,
    missing_count: 10,
    last_event_timestamp: null,
    revealing_event_timestamp: null,
    cause: 'commit_failure',
  });
});

test('[STO-8] sequences beyond 2^53 keep every digit', () => {
  const { payload } = gapEvent(at, {
    cpu: 0,
    first: 2n ** 60n,
    last: 2n ** 60n,
    previousTimestamp: at,
    ...failed,
  });
  const map = open(payload) as Record<string, unknown>;
  assert.equal(map.first_missing, 2n ** 60n);
  assert.equal(map.last_event_timestamp, at);
});

test('[STO-8, STO-10, ING-74] config changes and storage errors', () => {
  assert.deepEqual(
    open(configChangeEvent(at, { key: 'MaxBatchSize', oldValue: 10000, newValue: 500 }).payload),
    {
      key_name: 'MaxBatchSize',
      old_value: 10000,
      new_value: 500,
    },
  );
  assert.deepEqual(open(storageErrorEvent(at, { store: 'event', shard: 1, error: 'disk is full' }).payload), {
    store_type: 'event',
    shard_index: 1,
    error: 'disk is full',
  });
});
