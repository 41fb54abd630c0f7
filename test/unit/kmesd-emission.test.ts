import assert from 'node:assert/strict';
import { test } from 'node:test';
import { encode } from '@msgpack/msgpack';
import {
  type Caller,
  checkSize,
  type EmitEntry,
  Emitter,
  type EventSink,
  MAX_BATCH_ENTRIES,
} from '../../src/kmesd/emission.js';
import { NO_IDENTITY } from '../../src/kmesd/identity.js';
import { TokenBuckets } from '../../src/kmesd/tokenBucket.js';
import type { ProducerEvent } from '../../src/native/addon.js';

const CAPACITY = 65_536;
const RATE = 300;
const VALID = encode({ a: 1 });
/** The stand-in for the native check: what it refuses is marked by its first byte. */
const INVALID = Uint8Array.of(0xc1);

const root: Caller = { mayEmit: true, rateExempt: true, process: '1:1', identity: NO_IDENTITY };
const member: Caller = { ...root, rateExempt: false };
const stranger: Caller = { ...member, mayEmit: false };

function bench(maxEventSize = 40_000) {
  const written: ProducerEvent[] = [];
  const writes: number[] = [];
  const sink: EventSink = {
    capacity: CAPACITY,
    write(_origin, events) {
      written.push(...events);
      writes.push(events.length);
      return events.length;
    },
  };
  const buckets = new TokenBuckets(RATE, () => 0);
  const limits = { maxEventSize, maxNestingDepth: 32, maxEmitRate: RATE };
  const emitter = new Emitter(limits, buckets, (payload) => payload[0] !== 0xc1 && payload.length > 0);
  const tokensLeft = (): number => {
    let left = 0;
    while (buckets.reserve('1:1', 1)) left += 1;
    return left;
  };
  return { emitter, sink, written, writes, buckets, tokensLeft };
}

const text = (value: string): Uint8Array => Buffer.from(value);
const sized = (total: number): EmitEntry => ({
  type: text('t'),
  payload: new Uint8Array(total - 78).fill(1),
});
/** Lengths are all a size check may look at; no memory stands behind these. */
const huge = { length: 2 ** 32 - 77 } as unknown as Uint8Array;
const badType = Uint8Array.of(0xff, 0xfe);

type Row = readonly [name: string, caller: Caller, entry: EmitEntry, code: string];

// Every row also breaks all later checks it can, so that only the order explains the answer.
const EMIT_ROWS: readonly Row[] = [
  ['1 no privilege', stranger, { type: text(''), payload: huge }, 'EPERM'],
  ['2 process unknown', { ...member, process: null }, { type: text(''), payload: huge }, 'EPERM'],
  ['3 empty type before the overflow', member, { type: text(''), payload: huge }, 'EINVAL'],
  ['4 overflow before ENOSPC', member, { type: text('t'), payload: huge }, 'EINVAL'],
  [
    '5 larger than MaxEventSize, before UTF-8',
    member,
    { type: badType, payload: new Uint8Array(50_000) },
    'ENOSPC',
  ],
  [
    '6 larger than half the ring, before UTF-8',
    member,
    { type: badType, payload: new Uint8Array(35_000) },
    'ENOSPC',
  ],
  ['7 payload unreadable, before UTF-8', member, { type: badType, payload: null }, 'EFAULT'],
  ['7 type not UTF-8, before msgpack', member, { type: badType, payload: INVALID }, 'EINVAL'],
  ['8 payload not msgpack', member, { type: text('t'), payload: INVALID }, 'EINVAL'],
  ['8 empty payload', member, { type: text('t'), payload: new Uint8Array(0) }, 'EINVAL'],
];

for (const [name, caller, entry, code] of EMIT_ROWS) {
  test(`[KMES-65] [KMES-70] [KMES-75] emit, row ${name}: ${code}, nothing written, no token spent`, () => {
    const { emitter, sink, written, tokensLeft } = bench();
    assert.equal(emitter.emit(sink, caller, entry)?.code, code);
    assert.equal(written.length, 0);
    assert.equal(tokensLeft(), RATE);
  });
}

test('[KMES-65] emit, row 2: an empty bucket masks every later failure', () => {
  const { emitter, sink, buckets } = bench();
  assert.equal(buckets.reserve('1:1', RATE), true);
  assert.equal(emitter.emit(sink, member, { type: text(''), payload: huge })?.code, 'EAGAIN');
  assert.equal(emitter.emit(sink, stranger, { type: text(''), payload: huge })?.code, 'EPERM', 'row 1 first');
});

test('[KMES-65] [HOST-76] root is not rate limited', () => {
  const { emitter, sink, written, buckets } = bench();
  assert.equal(buckets.reserve('1:1', RATE), true);
  assert.equal(emitter.emit(sink, root, { type: text('t'), payload: VALID }), null);
  assert.equal(written.length, 1);
});

test('[KMES-65] the two EINVAL of rows 3 and 4 are told apart by their message', () => {
  const { emitter, sink } = bench();
  assert.match(emitter.emit(sink, root, { type: text(''), payload: huge })?.message ?? '', /empty/);
  assert.match(emitter.emit(sink, root, { type: text('t'), payload: huge })?.message ?? '', /overflows/);
});

test('[KMES-75] a successful emit costs one token', () => {
  const { emitter, sink, tokensLeft } = bench();
  assert.equal(emitter.emit(sink, member, { type: text('t'), payload: VALID }), null);
  assert.equal(tokensLeft(), RATE - 1);
});

test('[KMES-48] [KMES-49] exactly MaxEventSize and exactly half the ring are accepted, one byte more is not', () => {
  assert.equal(checkSize(1, 40_000 - 78, 40_000, 131_072), null);
  assert.equal(checkSize(1, 40_001 - 78, 40_000, 131_072)?.code, 'ENOSPC');
  assert.equal(checkSize(1, 32_768 - 78, 65_536, 65_536), null);
  assert.equal(checkSize(1, 32_769 - 78, 65_536, 65_536)?.code, 'ENOSPC');
  const { emitter, sink } = bench(65_536);
  assert.equal(emitter.emit(sink, root, sized(CAPACITY / 2)), null);
  assert.equal(emitter.emit(sink, root, sized(CAPACITY / 2 + 1))?.code, 'ENOSPC');
});

test('[KMES-65] the 32-bit overflow is EINVAL at the first total that does not fit', () => {
  assert.equal(checkSize(1, 0xffff_ffff - 78, 0xffff_ffff, 2 ** 40), null);
  assert.equal(checkSize(1, 0xffff_ffff - 77, 0xffff_ffff, 2 ** 40)?.code, 'EINVAL');
});

test('[KMES-64] a type that a u16 length cannot express is EINVAL', () => {
  assert.equal(checkSize(65_535, 1, 2 ** 20, 2 ** 22), null);
  assert.equal(checkSize(65_536, 1, 2 ** 20, 2 ** 22)?.code, 'EINVAL');
});

test('[KMES-9] [KMES-53] a type may hold NUL; it must be UTF-8, without surrogates or overlong forms', () => {
  const { emitter, sink } = bench();
  const emit = (type: Uint8Array) => emitter.emit(sink, root, { type, payload: VALID })?.code ?? null;
  assert.equal(emit(text('a\0b')), null);
  assert.equal(emit(text('größe.€.𝄞')), null);
  assert.equal(emit(Uint8Array.of(0xed, 0xa0, 0x80)), 'EINVAL');
  assert.equal(emit(Uint8Array.of(0xc0, 0xaf)), 'EINVAL');
  assert.equal(emit(Uint8Array.of(0xf4, 0x90, 0x80, 0x80)), 'EINVAL');
  assert.equal(emit(Uint8Array.of(0x61, 0xe2, 0x82)), 'EINVAL');
});

const good: EmitEntry = { type: text('t'), payload: VALID };

type BatchRow = readonly [
  name: string,
  caller: Caller,
  entries: readonly (EmitEntry | null)[] | null,
  code: string,
  emitted: number,
];

const BATCH_ROWS: readonly BatchRow[] = [
  ['1 no privilege, before the count', stranger, [], 'EPERM', 0],
  ['2 no entries', member, [], 'EINVAL', 0],
  ['2 no array', member, null, 'EINVAL', 0],
  [
    '2 too many, before the bucket',
    { ...member, process: null },
    new Array(MAX_BATCH_ENTRIES + 1).fill(good),
    'EINVAL',
    0,
  ],
  ['3 process unknown, before the entries', { ...member, process: null }, [null], 'EPERM', 0],
  ['5 a descriptor that cannot be copied stops all', member, [good, good, null], 'EFAULT', 0],
  ['6 overflow before an empty type', member, [good, { type: text(''), payload: huge }], 'EINVAL', 1],
  [
    '7 ENOSPC before an empty type',
    member,
    [good, good, { type: text(''), payload: new Uint8Array(50_000) }],
    'ENOSPC',
    2,
  ],
  [
    '8 unreadable payload before an empty type',
    member,
    [good, { type: text(''), payload: null }],
    'EFAULT',
    1,
  ],
  ['9 empty type', member, [good, { type: text(''), payload: VALID }, good], 'EINVAL', 1],
  ['9 type not UTF-8', member, [{ type: badType, payload: VALID }], 'EINVAL', 0],
  ['9 payload not msgpack', member, [good, good, good, { type: text('t'), payload: INVALID }], 'EINVAL', 3],
];

for (const [name, caller, entries, code, emitted] of BATCH_ROWS) {
  test(`[KMES-78] [KMES-79] [KMES-82] batch, row ${name}: ${code} after ${emitted}, charged for ${emitted}`, () => {
    const { emitter, sink, written, tokensLeft } = bench();
    const result = emitter.emitBatch(sink, caller, entries);
    assert.equal(result.rejection?.code, code);
    assert.equal(result.emitted, emitted);
    assert.equal(written.length, emitted);
    assert.equal(tokensLeft(), RATE - emitted);
  });
}

test('[KMES-78] batch, row 3: fewer tokens than entries is EAGAIN, before any look at an entry', () => {
  const { emitter, sink, buckets, tokensLeft } = bench();
  assert.equal(buckets.reserve('1:1', RATE - 1), true);
  const result = emitter.emitBatch(sink, member, [null, null]);
  assert.deepEqual([result.rejection?.code, result.emitted], ['EAGAIN', 0]);
  assert.equal(tokensLeft(), 1, 'a refused reservation takes nothing');
});

test('[KMES-78] the sizes of rows 6 and 9 both say EINVAL; the order shows in the message', () => {
  const { emitter, sink } = bench();
  const result = emitter.emitBatch(sink, root, [{ type: text(''), payload: huge }]);
  assert.match(result.rejection?.message ?? '', /^entry 0: .*overflows/);
});

test('[KMES-80] [KMES-84] a full batch is one write and reports its count', () => {
  const { emitter, sink, writes } = bench();
  const result = emitter.emitBatch(sink, member, new Array(MAX_BATCH_ENTRIES).fill(good));
  assert.deepEqual(result, { emitted: MAX_BATCH_ENTRIES, rejection: null });
  assert.deepEqual(writes, [MAX_BATCH_ENTRIES]);
});

test('[KMES-71] both calls draw from one bucket', () => {
  const { emitter, sink } = bench();
  assert.equal(emitter.emitBatch(sink, member, new Array(200).fill(good)).emitted, 200);
  for (let sent = 200; sent < RATE; sent += 1) assert.equal(emitter.emit(sink, member, good), null);
  assert.equal(emitter.emit(sink, member, good)?.code, 'EAGAIN');
});

test('[KMES-81] [KMES-82] a write that runs out of memory is ENOMEM and costs nothing', () => {
  const { emitter, tokensLeft } = bench();
  const sink: EventSink = {
    capacity: CAPACITY,
    write() {
      throw Object.assign(new Error('ENOMEM: staging'), { code: 'ENOMEM' });
    },
  };
  assert.equal(emitter.emit(sink, member, good)?.code, 'ENOMEM');
  assert.deepEqual(emitter.emitBatch(sink, member, [good, good]).rejection?.code, 'ENOMEM');
  assert.equal(tokensLeft(), RATE);
});
