import assert from 'node:assert/strict';
import { test } from 'node:test';
import { describeLostRanges } from '../../src/stores/lostRanges.js';

const range = (cpu: number, first: number, last = first) => ({
  cpu,
  first: BigInt(first),
  last: BigInt(last),
});

test('[FAIL-6] lost ranges name CPU and sequences, evenly spaced ones by their step', () => {
  assert.deepEqual(describeLostRanges([]), []);
  assert.deepEqual(describeLostRanges([range(0, 1, 90), range(1, 5), range(0, 92, 93)]), [
    'cpu 0: 1-90',
    'cpu 0: 92-93',
    'cpu 1: 5',
  ]);
  const odd = Array.from({ length: 500 }, (_, i) => range(1, 7 + 2 * i));
  assert.deepEqual(describeLostRanges(odd), ['cpu 1: 7-1005 step 2']);
  assert.deepEqual(describeLostRanges([...odd, range(1, 1007, 1010), range(1, 1020), range(1, 1030)]), [
    'cpu 1: 7-1005 step 2',
    'cpu 1: 1007-1010',
    'cpu 1: 1020',
    'cpu 1: 1030',
  ]);
});

test('[FAIL-6] a line about very many uneven ranges is cut and says so', () => {
  const uneven = Array.from({ length: 300 }, (_, i) => range(0, i * i * 10, i * i * 10 + 1));
  const lines = describeLostRanges(uneven);
  assert.equal(lines.length, 201);
  assert.equal(lines.at(-1), 'and 100 more ranges');
});
