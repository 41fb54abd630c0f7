import assert from 'node:assert/strict';
import { test } from 'node:test';
import { encode } from '@msgpack/msgpack';
import { isGap, toDate } from '../../src/wire/index.js';
import { MsgpackReader } from '../../src/wire/msgpackReader.js';
import { type Row, RowReader } from '../../src/wire/rows.js';

const rowOf = (bytes: Uint8Array): Row => new RowReader().read(new MsgpackReader(bytes));

const row = (fields: Record<string, unknown>) =>
  rowOf(encode(fields, { useBigInt64: true, forceIntegerToFloat: true }));

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
  const raw = Uint8Array.from([
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
  ]);
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

test('[WIRE-10] [QL-44] records of different kinds in turn keep their own fields, and of equal keys the first', () => {
  const rows = new RowReader();
  const read = (...fields: readonly (readonly [string, number])[]) => {
    const pairs = fields.flatMap(([key, value]) => [0xa0 | key.length, ...Buffer.from(key), value]);
    return rows.read(new MsgpackReader(Uint8Array.from([0x80 | fields.length, ...pairs])));
  };
  for (let round = 0; round < 3; round++) {
    assert.deepEqual(Object.entries(read(['a', 1], ['b', 2], ['c', 3])), [
      ['a', 1],
      ['b', 2],
      ['c', 3],
    ]);
    assert.deepEqual(Object.entries(read(['a', 1], ['c', 2], ['a', 3], ['b', 4])), [
      ['a', 1],
      ['c', 2],
      ['b', 4],
    ]);
    assert.deepEqual(Object.entries(read(['a', 1], ['a', 2], ['b', 3])), [
      ['a', 1],
      ['b', 3],
    ]);
    assert.deepEqual(Object.entries(read(['constructor', 5], ['__proto__', 6])), [
      ['constructor', 5],
      ['__proto__', 6],
    ]);
    assert.equal(read(['a', 1]).constructor, undefined);
    assert.equal(Object.getPrototypeOf(read()), null);
  }
  // More kinds than are remembered.
  for (let kind = 0; kind < 10_000; kind++) {
    const name = `k${kind}`;
    assert.deepEqual(Object.entries(read(['a', 1], [name, 2], ['a', 3])), [
      ['a', 1],
      [name, 2],
    ]);
  }
});

test('[WIRE-10] texts that look alike, are long or are not ASCII come out as they went in', () => {
  const rows = new RowReader();
  const texts = [
    '',
    'a',
    'é',
    '\ufffd',
    '\ufffdx',
    '名',
    '\u0000',
    'x'.repeat(31),
    'x'.repeat(32),
    'ü'.repeat(33),
  ];
  for (let i = 0; i < 3000; i++) texts.push(`text-${i}`, `${'y'.repeat(i % 90)}${i}`);
  for (const s of [...texts, ...texts]) {
    const bytes = encode({ s, [s]: 1 });
    assert.deepEqual(
      Object.entries(rows.read(new MsgpackReader(bytes))),
      Object.entries({ s, ...(s === 's' ? {} : { [s]: 1 }) }),
    );
  }
  const invalid = [
    [0x81, 0xa1, 0x73, 0xa2, 0xc3, 0x28],
    [0x81, 0xa1, 0xff, 0x01],
    [0x81, 0xa1, 0x73, 0xd9, 70, ...Buffer.alloc(69, 0x61), 0xff],
    [0x81, 0xa1, 0x73, 0xa4, 0xef, 0xbf, 0xbd, 0xff],
  ];
  for (const bytes of invalid)
    assert.throws(() => rows.read(new MsgpackReader(Uint8Array.from(bytes))), /not valid UTF-8/);
  assert.throws(() => rows.read(new MsgpackReader(encode([1]))), /not a map/);
  assert.throws(() => rows.read(new MsgpackReader(Uint8Array.of(0x81, 1, 1))), /no string/);
});

test('[WIRE-10] nesting costs no more than its bytes, whatever its keys are', () => {
  const deep = (levels: number) =>
    Buffer.concat([
      Buffer.from([0x81, 0xa1, 0x6d]),
      ...Array.from({ length: levels }, () => Buffer.from([0x82, 0xa1, 0x61])),
      Buffer.from([0x01]),
      // A key that is no string ends each level.
      ...Array.from({ length: levels }, () => Buffer.from([0x05, 0x01])),
    ]);
  const read = (levels: number) => new RowReader().read(new MsgpackReader(deep(levels)));
  let value: unknown = read(100).m;
  for (let level = 0; level < 100; level++) {
    assert.ok(value instanceof Map && value.get(5) === 1);
    value = value.get('a');
  }
  assert.equal(value, 1);
  assert.throws(() => read(200), /too deep/);
});

test('[WIRE-10] [QL-44] a record of very many or very long keys costs what its keys cost in several records', () => {
  const names = Array.from({ length: 10_000 }, (_, n) => `key ${n}`);
  const bytesOf = (keys: readonly string[]) =>
    Buffer.concat([
      Buffer.from([0xde, keys.length >> 8, keys.length & 0xff]),
      ...keys.flatMap((key, n) => [encode(key), encode(n)]),
    ]);
  // Twice: one at the beginning, one at the end, one that is special to objects, one that is long.
  const twice = ['key 3', 'key 9999', '__proto__', '__proto__', 'x'.repeat(500), 'x'.repeat(500)];
  const rows = new RowReader();
  const wide = rows.read(new MsgpackReader(bytesOf([...names, ...twice])));
  assert.equal(Object.getPrototypeOf(wide), null);
  assert.deepEqual(
    Object.entries(wide),
    [...names, '__proto__', 'x'.repeat(500)].map((key, n) => [
      key,
      n < 10_000 ? n : n === 10_000 ? 10_002 : 10_004,
    ]),
  );
  /** By one reader, the better of two times. */
  const timeOf = (records: readonly Uint8Array[]) => {
    const reader = new RowReader();
    const times = [1, 2].map(() => {
      const started = performance.now();
      for (const bytes of records) reader.read(new MsgpackReader(bytes));
      return performance.now() - started;
    });
    return Math.min(...times);
  };
  const narrow = Array.from({ length: 100 }, (_, n) => bytesOf(names.slice(n * 100, (n + 1) * 100)));
  const inMany = timeOf(narrow);
  const inOne = timeOf([bytesOf(names)]);
  assert.ok(inOne < 8 * inMany, `in one record ${inOne} ms, in a hundred ${inMany} ms`);
});
