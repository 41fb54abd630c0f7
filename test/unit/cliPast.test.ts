import assert from 'node:assert/strict';
import { test } from 'node:test';
import { CommandFailure } from '../../src/cli/context.js';
import { Past } from '../../src/cli/past.js';
import { EventRecord } from '../../src/wire/client.js';

const numbered = (...numbers: readonly number[]) => numbers.map((n) => new EventRecord(Uint8Array.of(n)));
const numbers = (messages: Iterable<readonly EventRecord[]>) =>
  [...messages].map((records) => records.map(({ raw }) => raw[0]));

test('[STR-4] the past of a stream is turned as a whole, once its empty message has come', () => {
  const past = new Past();
  assert.deepEqual(numbers(past.add(numbered(5, 4))), []);
  assert.deepEqual(numbers(past.add(numbered(3, 2, 1))), []);
  assert.deepEqual(numbers(past.add([])), [
    [1, 2, 3],
    [4, 5],
  ]);
  assert.deepEqual(numbers(past.add(numbered(6, 7))), [[6, 7]]);
  assert.deepEqual(numbers(past.end()), []);
});

test('[STR-4] a past that ends otherwise is shown as far as it came, one that is too large is refused', () => {
  const cut = new Past();
  assert.deepEqual(numbers(cut.add(numbered(2, 1))), []);
  assert.deepEqual(numbers(cut.end()), [[1, 2]]);
  const large = new Past();
  const message = Array.from({ length: 1000 }, () => new EventRecord(new Uint8Array(0)));
  assert.throws(
    () => {
      for (let i = 0; i < 1000; i++) numbers(large.add(message));
    },
    (error: unknown) => error instanceof CommandFailure && /more than 64 MiB; .* --since/.test(error.message),
  );
  assert.deepEqual(numbers(large.end()), []);
});
