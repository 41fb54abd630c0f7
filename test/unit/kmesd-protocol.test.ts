import assert from 'node:assert/strict';
import { constants } from 'node:os';
import { test } from 'node:test';
import { decode, encode } from '@msgpack/msgpack';
import { decodeRequest, encodeResponse, failure, RequestError, success } from '../../src/kmesd/protocol.js';

const accept = () => true;
const request = (value: unknown) => decodeRequest(encode(value), accept);
const bytes = (value: string) => new Uint8Array(Buffer.from(value));

test('a type may be str or bin; its bytes arrive as they were sent', () => {
  const payload = encode(1);
  for (const type of ['a.b', bytes('a.b')]) {
    const decoded = request({ op: 'emit', type, payload });
    assert.equal(decoded.op, 'emit');
    if (decoded.op !== 'emit') return;
    assert.deepEqual(Buffer.from(decoded.entry.type ?? []), Buffer.from('a.b'));
    assert.deepEqual(Buffer.from(decoded.entry.payload ?? []), Buffer.from(payload));
  }
  // A str with invalid UTF-8: 0xa2 announces two bytes.
  const raw = Buffer.concat([encode({ op: 'emit' }), Buffer.from('a474797065a2fffe', 'hex')]);
  raw[0] = 0x82;
  const decoded = decodeRequest(raw, accept);
  assert.deepEqual(
    decoded.op === 'emit' ? Buffer.from(decoded.entry.type ?? []) : null,
    Buffer.from('fffe', 'hex'),
  );
});

test('missing or foreign parts of an entry become null, not an entry a null', () => {
  assert.deepEqual(request({ op: 'emit', type: 7 }), { op: 'emit', entry: { type: null, payload: null } });
  assert.deepEqual(request({ op: 'emit_batch', entries: [1, {}] }), {
    op: 'emit_batch',
    entries: [null, { type: null, payload: null }],
  });
  assert.deepEqual(request({ op: 'emit_batch', entries: 3 }), { op: 'emit_batch', entries: null });
});

test('[KMES-78] an oversize batch keeps its count', () => {
  const decoded = request({ op: 'emit_batch', entries: new Array(300).fill({}) });
  assert.equal(decoded.op === 'emit_batch' ? decoded.entries?.length : null, 300);
});

test('resize is a configure of BufferCapacity', () => {
  assert.deepEqual(request({ op: 'resize', capacity: 65_536 }), {
    op: 'configure',
    key: 'BufferCapacity',
    value: 65_536,
  });
});

test('what is no map, not well-formed or too long an array is a RequestError', () => {
  for (const value of [7, 'emit', [1], null]) assert.throws(() => request(value), RequestError);
  assert.throws(() => decodeRequest(encode({ op: 'status' }), () => false), RequestError);
  // array32 with 2^31 announced elements: refused by its count, before room for it is made.
  const bomb = Buffer.from('81a161dd80000000', 'hex');
  assert.throws(() => decodeRequest(bomb, accept), RequestError);
});

test('requests are judged with three levels: a map of an array of maps', () => {
  const depths: number[] = [];
  decodeRequest(encode({ op: 'status' }), (_body, depth) => depths.push(depth) > 0);
  assert.deepEqual(depths, [3]);
});

test('an unknown operation keeps its name, shortened', () => {
  assert.deepEqual(request({ op: 'x'.repeat(500) }), { op: 'unknown', name: 'x'.repeat(64) });
  assert.deepEqual(request({}), { op: 'unknown', name: '' });
});

test('answers carry the errno number of this machine', () => {
  assert.deepEqual(decode(encodeResponse(success({ emitted: 2 }))), { errno: 0, emitted: 2 });
  assert.deepEqual(decode(encodeResponse(failure('ENOSPC', 'big', { emitted: 1 }))), {
    errno: constants.errno.ENOSPC,
    code: 'ENOSPC',
    message: 'big',
    emitted: 1,
  });
});
