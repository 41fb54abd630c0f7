import assert from 'node:assert/strict';
import { test } from 'node:test';
import { decode, encode } from '@msgpack/msgpack';
import { kmsgPayload, parseKmsgRecord } from '../../src/kmesd/kmsgRecord.js';

const parse = (text: string) => parseKmsgRecord(Buffer.from(text, 'latin1'));

/** The payload as a consumer gets it. */
function payload(text: string): unknown {
  const record = parse(text);
  assert.ok(record !== null, 'the record must parse');
  return decode(encode(kmsgPayload(record)));
}

test('a plain record', () => {
  assert.deepEqual(payload('6,339,5140900,-;NET: Registered protocol family 10\n'), {
    priority: 6,
    facility: 0,
    level: 6,
    sequence: 339,
    monotonic_us: 5_140_900,
    message: 'NET: Registered protocol family 10',
  });
});

test('facility and level come out of the priority, the caller out of the prefix', () => {
  const given = payload('30,7,81,-,caller=T142;systemd[1]: Started\n');
  assert.deepEqual(given, {
    priority: 30,
    facility: 3,
    level: 6,
    sequence: 7,
    monotonic_us: 81,
    caller: 'T142',
    message: 'systemd[1]: Started',
  });
});

test('continuation lines become dictionary fields under their own names', () => {
  const text =
    '7,160,424069,-;pci_root PNP0A03:00: host bridge window\n SUBSYSTEM=acpi\n DEVICE=+acpi:PNP0A03:00\n';
  assert.deepEqual(payload(text), {
    priority: 7,
    facility: 0,
    level: 7,
    sequence: 160,
    monotonic_us: 424_069,
    message: 'pci_root PNP0A03:00: host bridge window',
    SUBSYSTEM: 'acpi',
    DEVICE: '+acpi:PNP0A03:00',
  });
});

test('dictionary fields never replace a name of ours, and __proto__ is a field like any other', () => {
  const record = parse('6,1,1,-;real\n message=forged\n sequence=9\n __proto__=x\n K=a=b\n');
  assert.ok(record !== null);
  const own = kmsgPayload(record);
  assert.equal(own.message, 'real');
  assert.equal(own.sequence, 1);
  assert.equal(own.K, 'a=b');
  assert.equal(Object.getPrototypeOf(own), Object.prototype);
});

test('escaped bytes are restored, in the message and in fields', () => {
  assert.equal(parse('6,1,1,-;tab\\x09 back\\x5cslash \\x0anext\n')?.message, 'tab\t back\\slash \nnext');
  assert.equal(parse('6,1,1,-;gr\\xc3\\xb6\\xc3\\x9fe\n')?.message, 'größe');
  assert.deepEqual(parse('6,1,1,-;m\n K=\\x41\n')?.fields, [['K', 'A']]);
});

test('what only looks like an escape stays', () => {
  for (const text of ['\\x', '\\xg0', '\\x4', '\\n', 'end\\']) {
    assert.equal(parse(`6,1,1,-;${text}\n`)?.message, text);
  }
});

test('bytes that are no UTF-8 are replaced, not refused', () => {
  assert.equal(parse('6,1,1,-;a\\xffb\n')?.message, 'a\ufffdb');
});

test('pieces of a line are marked', () => {
  assert.equal((payload('6,1,1,c;part\n') as Record<string, unknown>).continuation, true);
  assert.equal((payload('6,1,1,+;part\n') as Record<string, unknown>).continuation, true);
});

test('an empty message, a missing newline and unknown prefix values are fine', () => {
  assert.equal(parse('6,1,1,-;\n')?.message, '');
  assert.equal(parse('6,1,1,-;cut')?.message, 'cut');
  assert.equal(parse('6,1,1,-,color=red,caller=C3,x;m\n')?.caller, 'C3');
});

test('semicolons belong to the message after the first', () => {
  assert.equal(parse('6,1,1,-;a;b;c\n')?.message, 'a;b;c');
});

for (const text of [
  '',
  'no prefix',
  '6,1;m',
  '6,x,1,-;m',
  '-6,1,1,-;m',
  '6,99999999999999999999,1,-;m',
  '6,,1,-;m',
]) {
  test(`'${text}' is no record`, () => {
    assert.equal(parse(text), null);
  });
}

test('fields are bounded in number and name; lines that are no fields are left out', () => {
  const many = Array.from({ length: 100 }, (_, index) => ` K${index}=v`).join('\n');
  assert.equal(parse(`6,1,1,-;m\n${many}\n`)?.fields.length, 64);
  assert.deepEqual(parse(`6,1,1,-;m\n ${'N'.repeat(65)}=v\n =v\nnospace=v\n bare\n OK=1\n`)?.fields, [
    ['OK', '1'],
  ]);
});
