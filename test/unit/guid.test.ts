import assert from 'node:assert/strict';
import { test } from 'node:test';
import {
  formatGuid,
  formatPlainGuid,
  fromNetworkOrder,
  guidsEqual,
  isNilGuid,
  NIL_GUID,
  nameGuid,
  newGuid,
  parseGuid,
  toNetworkOrder,
} from '../../src/host/guid.js';

const bytes = (hex: string) => Uint8Array.from(Buffer.from(hex.replace(/ /g, ''), 'hex'));
const vector = bytes('04 03 02 01 06 05 08 07 09 0a 0b 0c 0d 0e 0f 10');
const vectorText = '{01020304-0506-0708-090a-0b0c0d0e0f10}';

test('[KMES-10] [KMES-13] [KMES-14] the test vector reads and prints, lower case and braced', () => {
  assert.deepEqual(parseGuid(vectorText), vector);
  assert.equal(formatGuid(vector), vectorText);
  assert.equal(formatGuid(vector).length, 38);
  assert.equal(
    formatGuid(parseGuid('{ABCDEF01-ABCD-EF01-ABCD-EF0123456789}')),
    '{abcdef01-abcd-ef01-abcd-ef0123456789}',
  );
});

test('[KMES-15] [KMES-16] [KMES-17] upper case, lower case, braces and no braces give the same bytes', () => {
  const text = 'A1B2C3D4-0001-4000-8000-00000000000F';
  const expected = bytes('d4c3b2a1 0100 0040 8000 00000000000f');
  for (const form of [text, text.toLowerCase(), `{${text}}`, `{${text.toLowerCase()}}`]) {
    assert.deepEqual(parseGuid(form), expected, form);
  }
});

test('[KMES-18] malformed text is refused with the reason', () => {
  const cases: [string, RegExp][] = [
    ['{01020304-0506-0708-090a-0b0c0d0e0f10', /closing brace is missing/],
    ['01020304-0506-0708-090a-0b0c0d0e0f10}', /opening brace is missing/],
    ['0102030-0506-0708-090a-0b0c0d0e0f10', /group 1 must have 8 hex digits, found 7/],
    ['01020304-05060-0708-090a-0b0c0d0e0f10', /group 2 must have 4 hex digits, found 5/],
    ['01020304-0506-0708-090a-0b0c0d0e0f', /group 5 must have 12 hex digits, found 10/],
    ['0102030405060708090a0b0c0d0e0f10', /expected 5 groups .* found 1/],
    ['01020304-0506-0708-090g-0b0c0d0e0f10', /"g" in group 4 is no hex digit/],
    [' 01020304-0506-0708-090a-0b0c0d0e0f10', /" " in group 1/],
    ['', /expected 5 groups/],
  ];
  for (const [text, reason] of cases)
    assert.throws(() => parseGuid(text), { code: 'ERR_GUID', message: reason }, text);
});

test('[KMES-11] [KMES-12] [KMES-19] nil is sixteen zero bytes and equality is bytewise', () => {
  assert.ok(isNilGuid(parseGuid('00000000-0000-0000-0000-000000000000')));
  assert.equal(formatGuid(NIL_GUID), '{00000000-0000-0000-0000-000000000000}');
  assert.ok(guidsEqual(parseGuid(vectorText.toUpperCase()), vector));
  assert.ok(!guidsEqual(vector, NIL_GUID));
  assert.throws(() => guidsEqual(vector, new Uint8Array(15)), /16 bytes, found 15/);
});

test('[KMES-21] [KMES-22] [KMES-23] generated GUIDs are random version 4 GUIDs', () => {
  const seen = new Set<string>();
  let varying = 0;
  for (let round = 0; round < 500; round++) {
    const guid = newGuid();
    assert.match(
      formatGuid(guid),
      /^\{[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}\}$/,
    );
    assert.equal((guid[7] ?? 0) >> 4, 4);
    assert.ok(!isNilGuid(guid));
    varying |= guid[15] ?? 0;
    seen.add(formatGuid(guid));
  }
  assert.equal(seen.size, 500);
  assert.equal(varying, 0xff);
});

test('[CFG-82] [CFG-83] field GUIDs are version 5, hashed in network order and stored mixed-endian', () => {
  const namespace = parseGuid('e7d3a1b0-5c2f-4e8a-9b1d-0a6f3c8e2d4b');
  const vectors = {
    timestamp: '341d2267-b9db-536b-b36c-94ab6cd47e4c',
    cpu_id: '890b5e13-84bd-57f3-ba27-edc3e9506c00',
    core: '2afad8ac-b2f5-523c-886c-7ac72fa4f24b',
    'source.name': '2602646b-5587-59b4-af6e-77009f3ebc3d',
  };
  for (const [name, text] of Object.entries(vectors))
    assert.equal(formatPlainGuid(nameGuid(namespace, name)), text);
  assert.deepEqual(nameGuid(namespace, 'timestamp'), bytes('67221d34dbb96b53b36c94ab6cd47e4c'));
});

test('[STO-8] payload text has hyphens, lower case and no braces', () => {
  assert.equal(formatPlainGuid(vector), '01020304-0506-0708-090a-0b0c0d0e0f10');
});

test('[KMES-10] network order and stored order convert both ways without touching the input', () => {
  const copy = vector.slice();
  assert.deepEqual(toNetworkOrder(vector), bytes('0102030405060708090a0b0c0d0e0f10'));
  assert.deepEqual(fromNetworkOrder(toNetworkOrder(vector)), vector);
  assert.deepEqual(vector, copy);
});
