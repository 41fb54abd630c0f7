import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { IDLE_LOAD, lingerMs, observeBatch, recordLingerMs } from '../../src/stores/batchPolicy.js';

const limits = { maxBatchSize: 10000, maxBatchLatencyMs: 100 };

test('[ING-53, ING-54] slow arrivals are committed at once', () => {
  assert.equal(lingerMs(IDLE_LOAD, limits), 0);
  assert.equal(lingerMs({ rate: 500, commitMs: 8 }, limits), 0);
});

test('[ING-51, ING-54] fast arrivals are batched for a few commit times', () => {
  assert.equal(lingerMs({ rate: 20000, commitMs: 5 }, limits), 20);
});

test('[ING-55] no waiting beyond half a batch', () => {
  // 500,000 rows a second fill 5,000 rows in 10 ms, however slow the commits are.
  assert.equal(lingerMs({ rate: 500000, commitMs: 50 }, limits), 10);
});

test('[ING-52, ING-54] rows that came while the last commit ran shorten the wait, half a batch ends it', () => {
  assert.equal(lingerMs({ rate: 500000, commitMs: 50 }, limits, 2500), 5);
  assert.equal(lingerMs({ rate: 500000, commitMs: 50 }, limits, 5000), 0);
  assert.equal(lingerMs({ rate: 500000, commitMs: 50 }, limits, 10000), 0);
});

test('[ING-56] a linger stays well below the latency bound for every load', () => {
  fc.assert(
    fc.property(
      fc.record({
        rate: fc.float({ min: 0, max: 1e7, noNaN: true }),
        commitMs: fc.float({ min: 0, max: 1e4, noNaN: true }),
      }),
      fc.record({
        maxBatchSize: fc.integer({ min: 100, max: 100000 }),
        maxBatchLatencyMs: fc.integer({ min: 10, max: 5000 }),
      }),
      (load, bounds) => {
        const linger = lingerMs(load, bounds);
        return linger >= 0 && linger <= bounds.maxBatchLatencyMs / 2;
      },
    ),
  );
});

test('[ING-59, ING-60] one burst does not swing the estimate to its extreme', () => {
  const calm = { rate: 3000, commitMs: 4 };
  const burst = observeBatch(calm, { rows: 10000, elapsedMs: 10, commitMs: 4 });
  assert.ok(burst.rate > calm.rate && burst.rate < 0.5 * 1_000_000, `rate ${burst.rate}`);
  let load = burst;
  for (let i = 0; i < 30; i++) load = observeBatch(load, { rows: 30, elapsedMs: 10, commitMs: 4 });
  assert.ok(Math.abs(load.rate - 3000) < 100, `settles at the steady rate, not ${load.rate}`);
});

test('[LOG-26, MET-40] a lonely record is committed at once, a stream of them waits in proportion to its rate', () => {
  const records = { maxBatchSize: 5000, maxBatchLatencyMs: 500 };
  assert.equal(recordLingerMs(IDLE_LOAD, records), 0);
  assert.equal(recordLingerMs({ rate: 5, commitMs: 1 }, records), 0);
  assert.equal(recordLingerMs({ rate: 100, commitMs: 1 }, records), 10);
  assert.equal(recordLingerMs({ rate: 1000, commitMs: 1 }, records), 100);
  assert.equal(recordLingerMs({ rate: 10_000, commitMs: 1 }, records), 200);
});

test('[LOG-27, LOG-28, MET-40] records wait no longer than until the batch is nearly full, and below the latency bound', () => {
  const records = { maxBatchSize: 5000, maxBatchLatencyMs: 500 };
  assert.equal(recordLingerMs({ rate: 100_000, commitMs: 20 }, records), 45);
  assert.equal(recordLingerMs({ rate: 100_000, commitMs: 20 }, records, 4000), 5);
  assert.equal(recordLingerMs({ rate: 100_000, commitMs: 20 }, records, 6000), 0);
  assert.equal(recordLingerMs({ rate: 2000, commitMs: 20 }, { ...records, maxBatchSize: 100_000 }), 200);
});
