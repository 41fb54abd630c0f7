import assert from 'node:assert/strict';
import { beforeEach, test } from 'node:test';
import { TokenBuckets } from '../../src/kmesd/tokenBucket.js';

let now = 0;
beforeEach(() => {
  now = 1000;
});
const buckets = (rate: number) => new TokenBuckets(rate, () => now);

test('[KMES-72] [KMES-73] a bucket starts full with one second of tokens and refills at the rate', () => {
  const limit = buckets(100);
  assert.equal(limit.reserve('1:5', 100), true);
  assert.equal(limit.reserve('1:5', 1), false);
  now += 10;
  assert.equal(limit.reserve('1:5', 1), true);
  assert.equal(limit.reserve('1:5', 1), false);
  now += 60_000;
  assert.equal(limit.reserve('1:5', 101), false, 'never more than the burst');
  assert.equal(limit.reserve('1:5', 100), true);
});

test('[KMES-71] [KMES-73] every process has its own bucket, also behind a reused pid', () => {
  const limit = buckets(100);
  assert.equal(limit.reserve('1:5', 100), true);
  assert.equal(limit.reserve('2:5', 100), true);
  assert.equal(limit.reserve('1:9', 100), true);
  assert.equal(limit.reserve('1:5', 1), false);
});

test('[KMES-78] a reservation is all or nothing', () => {
  const limit = buckets(100);
  assert.equal(limit.reserve('p', 60), true);
  assert.equal(limit.reserve('p', 41), false);
  assert.equal(limit.reserve('p', 40), true);
});

test('[KMES-75] [KMES-82] refunded tokens can be taken again, but never exceed the burst', () => {
  const limit = buckets(100);
  assert.equal(limit.reserve('p', 100), true);
  limit.refund('p', 30);
  assert.equal(limit.reserve('p', 31), false);
  assert.equal(limit.reserve('p', 30), true);
  now += 1000;
  limit.refund('p', 50);
  assert.equal(limit.reserve('p', 101), false);
});

test('[KMES-74] a lower rate clamps the count at once', () => {
  const limit = buckets(1000);
  assert.equal(limit.reserve('p', 1), true);
  limit.setRate(100);
  assert.equal(limit.reserve('p', 101), false);
  assert.equal(limit.reserve('p', 100), true);
});

test('[KMES-74] a higher rate raises burst and refill, not the count', () => {
  const limit = buckets(100);
  assert.equal(limit.reserve('p', 100), true);
  limit.setRate(1000);
  assert.equal(limit.reserve('p', 1), false);
  now += 10;
  assert.equal(limit.reserve('p', 10), true);
  now += 1000;
  assert.equal(limit.reserve('p', 1000), true);
});

test('[KMES-73] buckets nobody could tell from new ones are dropped, used ones stay', () => {
  const limit = buckets(100);
  for (let index = 0; index < 1024; index += 1) limit.reserve(`old:${index}`, 1);
  now += 1000;
  limit.reserve('busy', 100);
  assert.ok(limit.size < 10, `${limit.size} buckets are left`);
  assert.equal(limit.reserve('busy', 1), false);
});
