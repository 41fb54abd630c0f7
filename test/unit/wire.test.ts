import assert from 'node:assert/strict';
import { test } from 'node:test';
import { decode, encode } from '@msgpack/msgpack';
import fc from 'fast-check';
import { encodeFrame, FrameDecoder, FrameTooLong } from '../../src/wire/frame.js';
import {
  decodeRequest,
  decodeResponse,
  ERROR_CLASSES,
  encodedRecord,
  encodeEnd,
  encodeError,
  encodeRequest,
  encodeResult,
  MalformedResponse,
  oversizeError,
} from '../../src/wire/messages.js';
import { MsgpackError, MsgpackExt, MsgpackReader } from '../../src/wire/msgpackReader.js';

const bytes = (...values: number[]) => Uint8Array.from(values);
const payloadOf = (frame: Uint8Array) => frame.subarray(4);
const read = (input: Uint8Array) => new MsgpackReader(input).value();

test('[WIRE-2] [CFG-92] a frame is a little-endian u32 byte count and the payload', () => {
  const frame = encodeFrame(new Uint8Array(0x1234));
  assert.deepEqual([...frame.subarray(0, 4)], [0x34, 0x12, 0, 0]);
  assert.equal(frame.length, 4 + 0x1234);
});

test('[WIRE-2] frames come out whole whatever the chunk borders', () => {
  fc.assert(
    fc.property(
      fc.array(fc.uint8Array({ maxLength: 40 }), { maxLength: 8 }),
      fc.infiniteStream(fc.integer({ min: 1, max: 9 })),
      (payloads, sizes) => {
        const stream = Buffer.concat(payloads.map((payload) => encodeFrame(payload)));
        const decoder = new FrameDecoder(64);
        const out: number[][] = [];
        for (let at = 0; at < stream.length; ) {
          const size = sizes.next().value ?? 1;
          decoder.push(stream.subarray(at, at + size));
          at += size;
          for (let payload = decoder.next(); payload !== null; payload = decoder.next())
            out.push([...payload]);
        }
        assert.deepEqual(
          out,
          payloads.map((payload) => [...payload]),
        );
        assert.equal(decoder.buffered, 0);
      },
    ),
    { numRuns: 300 },
  );
});

test('[WIRE-3] a payload of exactly the limit is allowed, one byte more is refused from the header alone', () => {
  const decoder = new FrameDecoder(8);
  decoder.push(encodeFrame(new Uint8Array(8)));
  assert.equal(decoder.next()?.length, 8);
  decoder.push(bytes(9, 0, 0));
  assert.equal(decoder.next(), null);
  decoder.push(bytes(0));
  assert.throws(
    () => decoder.next(),
    (error) => error instanceof FrameTooLong && error.announced === 9 && error.limit === 8,
  );
});

test('[WIRE-3] [CFG-94] an announced length costs no memory', () => {
  const decoder = new FrameDecoder(0xffffffff);
  const before = process.memoryUsage().arrayBuffers;
  decoder.push(bytes(0xff, 0xff, 0xff, 0x7f, 1, 2, 3));
  assert.equal(decoder.next(), null);
  assert.ok(process.memoryUsage().arrayBuffers - before < 1_000_000);
});

test('[WIRE-2] handed-out payloads do not change when more arrives', () => {
  const decoder = new FrameDecoder(16);
  decoder.push(encodeFrame(bytes(1, 2, 3)));
  const first = decoder.next();
  for (let i = 0; i < 50; i++) {
    decoder.push(encodeFrame(bytes(9, 9, 9)));
    decoder.next();
  }
  assert.deepEqual([...(first ?? [])], [1, 2, 3]);
});

test('[WIRE-2] [WIRE-3] frames sent byte by byte cost no more than a small multiple of their bytes', () => {
  const size = 1 << 20;
  const frame = encodeFrame(new Uint8Array(size).fill(7));
  const decoder = new FrameDecoder(size);
  const before = process.memoryUsage().arrayBuffers;
  let most = 0;
  for (let at = 0; at < frame.length - 1; at++) {
    // Each byte in memory of its own, as a socket delivers it.
    decoder.push(Uint8Array.of(frame[at] ?? 0));
    if (at % 65536 === 0) most = Math.max(most, process.memoryUsage().arrayBuffers - before);
    assert.equal(decoder.next(), null);
  }
  // The buffer, its predecessor while it is not collected yet, and bytes not yet collected.
  assert.ok(most < 40 * size, `${most} bytes`);
  assert.equal(decoder.buffered, frame.length - 1);
  decoder.push(frame.subarray(-1));
  const payload = decoder.next();
  assert.equal(payload?.length, size);
  assert.ok(payload?.every((byte) => byte === 7));
});

test('[WIRE-2] large frames come out whole whatever the chunk sizes, and chunks are never written to', () => {
  fc.assert(
    fc.property(
      fc.array(fc.constantFrom(0, 3, 5000, 16_384, 16_385, 40_000, 70_000), { maxLength: 6 }),
      fc.array(fc.constantFrom(1, 7, 16_383, 16_384, 30_000, 65_536, 100_000), {
        minLength: 1,
        maxLength: 6,
      }),
      (lengths, sizes) => {
        const payloads = lengths.map((length, i) =>
          new Uint8Array(length).map((_, at) => (at * 31 + i) & 255),
        );
        const stream = Buffer.concat(payloads.map((payload) => encodeFrame(payload)));
        const decoder = new FrameDecoder(70_000);
        const [out, chunks]: [Uint8Array[], [Uint8Array, Uint8Array][]] = [[], []];
        for (let at = 0, turn = 0; at < stream.length; turn++) {
          const size = sizes[turn % sizes.length] ?? 1;
          const chunk = Uint8Array.from(stream.subarray(at, at + Math.max(size, stream.length / 200)));
          chunks.push([chunk, chunk.slice()]);
          decoder.push(chunk);
          at += chunk.length;
          for (let payload = decoder.next(); payload !== null; payload = decoder.next()) out.push(payload);
        }
        assert.equal(decoder.buffered, 0);
        assert.equal(out.length, payloads.length);
        assert.ok(payloads.every((payload, i) => Buffer.compare(payload, out[i] ?? new Uint8Array(1)) === 0));
        assert.ok(chunks.every(([chunk, copy]) => Buffer.compare(chunk, copy) === 0));
      },
    ),
    { numRuns: 100 },
  );
});

test('[WIRE-2] a large frame in one chunk is not copied, a small one does not keep its chunk alive', () => {
  const decoder = new FrameDecoder(1 << 20);
  const large = encodeFrame(new Uint8Array(50_000));
  decoder.push(large);
  assert.equal(decoder.next()?.buffer, large.buffer);
  const many = Buffer.concat([encodeFrame(new Uint8Array(100)), encodeFrame(new Uint8Array(20_000))]);
  decoder.push(many);
  const small = decoder.next();
  assert.equal(small?.length, 100);
  assert.notEqual(small?.buffer, many.buffer);
});

test('[WIRE-4] a request is a map with the string query; unknown keys of any kind are passed over', () => {
  assert.deepEqual(decodeRequest(payloadOf(encodeRequest('EVENTS TAKE 1 -- ü'))), {
    ok: true,
    query: 'EVENTS TAKE 1 -- ü',
  });
  const extra = encode({ before: [1, { deep: [[null]] }], query: 'LOGS', after: new Uint8Array(3) });
  assert.deepEqual(decodeRequest(extra), { ok: true, query: 'LOGS' });
  const integerKey = bytes(0x82, 0x07, 0xc0, 0xa5, ...Buffer.from('query'), 0xa1, 0x78);
  assert.deepEqual(decodeRequest(integerKey), { ok: true, query: 'x' });
});

for (const [what, payload, text] of [
  ['zero length', bytes(), 'protocol error: request is empty'],
  ['a string', encode('EVENTS'), 'protocol error: request must be a map'],
  ['an array', encode(['query']), 'protocol error: request must be a map'],
  ['no query', encode({ q: 'EVENTS' }), "protocol error: request has no 'query'"],
  ['a number as query', encode({ query: 7 }), "protocol error: 'query' must be a string"],
  ['binary as query', encode({ query: bytes(1) }), "protocol error: 'query' must be a string"],
  ['nil as query', encode({ query: null }), "protocol error: 'query' must be a string"],
  ['a map as query', encode({ query: { a: 1 } }), "protocol error: 'query' must be a string"],
  [
    'extra bytes',
    bytes(...encode({ query: 'x' }), 0xc0, 0xc0),
    'protocol error: request has 2 extra bytes after its map',
  ],
  [
    'a cut map',
    encode({ query: 'EVENTS' }).subarray(0, 9),
    'protocol error: invalid request: msgpack value is cut short at byte 9',
  ],
  [
    'a byte that is no msgpack',
    bytes(0x81, 0xc1, 0xc0),
    'protocol error: invalid request: byte 0xc1 is not msgpack at byte 1',
  ],
  [
    'invalid UTF-8',
    bytes(0x81, 0xa5, ...Buffer.from('query'), 0xa2, 0xc3, 0x28),
    'protocol error: invalid request: string is not valid UTF-8 at byte 8',
  ],
] as const) {
  test(`[WIRE-4] [WIRE-20] ${what} is answered with a specific protocol error`, () => {
    assert.deepEqual(decodeRequest(payload), { ok: false, error: text });
  });
}

test('[WIRE-4] hostile counts and depths cost neither memory nor stack', () => {
  const started = performance.now();
  // A map of 2^32-1 entries that are not there; an unknown value 200,000 arrays deep.
  const huge = decodeRequest(bytes(0xdf, 0xff, 0xff, 0xff, 0xff));
  assert.ok(!huge.ok && huge.error.startsWith('protocol error: invalid request'));
  const deep = Buffer.alloc(200_000, 0x91);
  deep[0] = 0x81;
  deep[1] = 0x01;
  const nested = decodeRequest(deep);
  assert.ok(!nested.ok && nested.error.includes('cut short'));
  const bomb = decodeRequest(bytes(0x81, 0x01, 0xdd, 0xff, 0xff, 0xff, 0xff, 0xdd, 0xff, 0xff, 0xff, 0xff));
  assert.ok(!bomb.ok && bomb.error.includes('cut short'));
  assert.ok(performance.now() - started < 2000);
});

test('[WIRE-4] no bytes make the request reader throw', () => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 64 }), (input) => {
      const outcome = decodeRequest(input);
      assert.ok(outcome.ok || outcome.error.startsWith('protocol error: '));
    }),
    { numRuns: 3000 },
  );
});

test('[WIRE-5] [CFG-93] result, end and error carry their status and fields', () => {
  assert.deepEqual(decode(payloadOf(encodeResult([]))), { status: 'ok', records: [] });
  assert.deepEqual(decode(payloadOf(encodeEnd())), { status: 'end' });
  assert.deepEqual(decode(payloadOf(encodeError('timeout: 30000 ms'))), {
    status: 'error',
    error: 'timeout: 30000 ms',
  });
});

test('[WIRE-10] bigint is an integer, number a float64 also for whole numbers, 64-bit values keep their digits', () => {
  const frame = encodeResult([
    { count: 2n ** 64n - 1n, low: -(2n ** 63n), avg: 80, blob: bytes(1), flag: true, none: null },
  ]);
  const response = decodeResponse(payloadOf(frame), encodedRecord);
  assert.ok(response.status === 'ok');
  const record = read(response.records[0] ?? bytes());
  assert.deepEqual(
    record,
    new Map<string, unknown>([
      ['count', 2n ** 64n - 1n],
      ['low', -(2n ** 63n)],
      ['avg', 80],
      ['blob', Buffer.from([1])],
      ['flag', true],
      ['none', null],
    ]),
  );
  assert.ok(Buffer.from(frame).includes(Buffer.from([0xcb, 0x40, 0x54])), 'a float64 80 on the wire');
});

test('[WIRE-5] answers of something that is no eventd are refused with a reason', () => {
  for (const payload of [
    bytes(),
    encode('ok'),
    encode({ status: 'ok' }),
    encode({ status: 'ok', records: 1 }),
    encode({ status: 'what' }),
    encode({ status: 'error' }),
    bytes(...encode({ status: 'end' }), 0),
  ])
    assert.throws(() => decodeResponse(payload, encodedRecord), MalformedResponse);
});

test('[WIRE-20] the ten classes of error texts are known to the client', () => {
  for (const name of [
    'protocol error',
    'parse error',
    'access denied',
    'limit exceeded',
    'range too large',
    'type error',
    'timeout',
    'backpressure',
    'storage error',
    'shutting down',
  ])
    assert.ok(
      ERROR_CLASSES.some((known) => known === name),
      name,
    );
});

test('[WIRE-3] [WIRE-20] the oversize text names the setting and its value', () => {
  assert.equal(
    oversizeError(70000, 65536),
    'protocol error: request of 70000 bytes exceeds MaxQueryMessageBytes (65536)',
  );
});

test('[WIRE-10] every msgpack form is read without loss', () => {
  assert.equal(read(bytes(0x7f)), 127n);
  assert.equal(read(bytes(0xe0)), -32n);
  assert.equal(read(bytes(0xcc, 0xff)), 255n);
  assert.equal(read(bytes(0xcd, 1, 0)), 256n);
  assert.equal(read(bytes(0xce, 1, 0, 0, 0)), 16777216n);
  assert.equal(read(bytes(0xcf, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff)), 2n ** 64n - 1n);
  assert.equal(read(bytes(0xd0, 0x80)), -128n);
  assert.equal(read(bytes(0xd1, 0x80, 0)), -32768n);
  assert.equal(read(bytes(0xd2, 0x80, 0, 0, 0)), -2147483648n);
  assert.equal(read(bytes(0xd3, 0x80, 0, 0, 0, 0, 0, 0, 0)), -(2n ** 63n));
  assert.equal(read(bytes(0xca, 0x3f, 0x80, 0, 0)), 1);
  assert.deepEqual(read(bytes(0xd5, 5, 1, 2)), new MsgpackExt(5, Buffer.from([1, 2])));
  assert.deepEqual(read(bytes(0xc7, 1, 0xff, 9)), new MsgpackExt(-1, Buffer.from([9])));
  assert.deepEqual(read(bytes(0xde, 0, 1, 0xa1, 0x61, 0xdc, 0, 1, 0xc2)), new Map([['a', [false]]]));
});

test('[QL-44] of duplicate keys the first wins, and keys that are no identifiers are mere keys', () => {
  const key = [0xa9, ...Buffer.from('__proto__')];
  const value = read(bytes(0x83, ...key, 1, ...key, 2, 7, 3));
  assert.deepEqual(
    value,
    new Map<unknown, unknown>([
      ['__proto__', 1n],
      [7n, 3n],
    ]),
  );
});

test('[WIRE-10] the reader agrees with the encoder on arbitrary values', () => {
  const scalar = fc.oneof(
    fc.constant(null),
    fc.boolean(),
    fc.bigInt({ min: -(2n ** 63n), max: 2n ** 64n - 1n }),
    fc.string({ unit: 'grapheme' }),
  );
  fc.assert(
    fc.property(fc.array(fc.oneof(scalar, fc.array(scalar))), (value) => {
      assert.deepEqual(read(encode(value, { useBigInt64: true })), value);
    }),
    { numRuns: 500 },
  );
});

test('[WIRE-4] nesting beyond the bound is an error, not a stack overflow', () => {
  assert.throws(() => read(Buffer.alloc(1_000_000, 0x91)), MsgpackError);
  assert.throws(() => new MsgpackReader(Buffer.alloc(1_000_000, 0x91)).skip(), MsgpackError);
});
