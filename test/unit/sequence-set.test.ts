import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { SequenceSet } from '../../src/stores/sequenceSet.js';

test('[BOOT-9] a set of sequences gives back exactly what was put in, as ranges that never touch', () => {
  const single = fc.oneof(
    fc.bigInt(1n, 300n),
    fc.bigInt(65_500n, 65_600n),
    fc.bigInt(2n ** 63n - 40n, 2n ** 63n - 1n),
  );
  const range = fc.tuple(single, fc.bigInt(0n, 70n)).map(([first, more]) => [first, first + more] as const);
  fc.assert(
    fc.property(fc.array(single, { maxLength: 60 }), fc.array(range, { maxLength: 6 }), (singles, ranges) => {
      const set = new SequenceSet();
      const expected = new Set<bigint>(singles);
      for (const sequence of singles) set.add(sequence);
      for (const [first, last] of ranges) {
        set.addRange(first, last);
        for (let sequence = first; sequence <= last; sequence++) expected.add(sequence);
      }
      const found = set.ranges();
      const listed = found.flatMap(([first, last]) =>
        Array.from({ length: Number(last - first + 1n) }, (_, i) => first + BigInt(i)),
      );
      assert.deepEqual(new Set(listed), expected);
      assert.equal(listed.length, expected.size);
      for (const [i, [first]] of found.entries()) {
        const before = found[i - 1];
        assert.ok(before === undefined || before[1] + 1n < first);
      }
    }),
    { numRuns: 200 },
  );
});
