import assert from 'node:assert/strict';
import { test } from 'node:test';
import { encode } from '@msgpack/msgpack';
import { EventRecord } from '../../src/wire/client.js';
import { isGap, toDate } from '../../src/wire/index.js';
import { rowOf } from '../../src/wire/rows.js';

const row = (fields: Record<string, unknown>) =>
  rowOf(new EventRecord(encode(fields, { useBigInt64: true, forceIntegerToFloat: true })));

test('[WIRE-10] integers are numbers as far as numbers go, and bigint beyond; timestamps always bigint', () => {
  const safe = BigInt(Number.MAX_SAFE_INTEGER);
  const got = row({
    timestamp: 5n,
    a: safe,
    b: safe + 1n,
    c: -safe,
    d: -safe - 1n,
    e: 2n ** 64n - 1n,
    f: 1.5,
    g: 2,
  });
  assert.deepEqual(
    { ...got },
    {
      timestamp: 5n,
      a: Number.MAX_SAFE_INTEGER,
      b: safe + 1n,
      c: Number.MIN_SAFE_INTEGER,
      d: -safe - 1n,
      e: 2n ** 64n - 1n,
      f: 1.5,
      g: 2,
    },
  );
  assert.deepEqual({ ...row({ timestamp: 1.5 }) }, { timestamp: 1.5 });
});

test('[WIRE-10] nested maps are objects that no key can harm, binary and extensions stay', () => {
  const raw = new EventRecord(
    Uint8Array.from([
      0x83,
      0xa1,
      0x6d,
      0x81,
      0xa9,
      ...Buffer.from('__proto__'),
      0x91,
      0x01,
      0xa1,
      0x6e,
      0x81,
      0x05,
      0xc3,
      0xa1,
      0x65,
      0xd4,
      0x07,
      0x09,
    ]),
  );
  const { m, n, e } = rowOf(raw);
  assert.equal(Object.getPrototypeOf(m), null);
  assert.deepEqual(Object.entries(m as object), [['__proto__', [1]]]);
  assert.deepEqual(n, new Map([[5, true]]));
  assert.deepEqual(e, { type: 7, data: Buffer.from([9]) });
  assert.deepEqual(row({ b: new Uint8Array([1, 255]), z: null }).b, Buffer.from([1, 255]));
});

test('[STO-8] [QL-45] a gap is told from an event that only says so', () => {
  const gap = { timestamp: 1n, event_type: 'synthetic.gap', sequence: null, origin_class: null, cpu_id: 3n };
  assert.ok(isGap(row(gap)));
  assert.ok(!isGap(row({ ...gap, sequence: 1n })));
  assert.ok(!isGap(row({ timestamp: 1n, event_type: 'synthetic.gap' })));
  assert.ok(!isGap(row({ ...gap, event_type: 'synthetic.startup' })));
  assert.equal(toDate(1_777_636_801_123_456_789n).toISOString(), '2026-05-01T12:00:01.123Z');
});
