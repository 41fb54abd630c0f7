import assert from 'node:assert/strict';
import { test } from 'node:test';
import { LineSplitter, MAX_LINE_BYTES, TRUNCATED } from '../../src/wire/lineSplitter.js';

/** The lines of `bytes` read in pieces of `step`. */
function split(bytes: Uint8Array, step = bytes.length, max?: number): string[] {
  const splitter = new LineSplitter(max);
  const lines: string[] = [];
  for (let from = 0; from < bytes.length; from += step)
    lines.push(...splitter.push(bytes.subarray(from, from + step)));
  return [...lines, ...splitter.end()];
}

test('[LOG-58] a line excludes its newline and nothing else; the last one counts without it', () => {
  const bytes = Buffer.from('one\n\n two\r\nthree\n\nfo\0ur');
  const expected = ['one', '', ' two\r', 'three', '', 'fo\0ur'];
  for (const step of [1, 2, 3, 7, 100]) assert.deepEqual(split(bytes, step), expected, `pieces of ${step}`);
  assert.deepEqual(split(Buffer.from('one\n')), ['one']);
  assert.deepEqual(split(Buffer.from('')), []);
});

test('[LOG-58] invalid UTF-8 becomes U+FFFD, also where a piece ends in mid-character', () => {
  const bytes = Buffer.concat([
    Buffer.from('gr\u00fc\u00df \u{1f600}\n\ufeffmark\n'),
    Buffer.from([0x61, 0xff, 0xc3, 0x0a, 0xe2, 0x82, 0x62, 0xed, 0xa0, 0x80, 0x0a]),
  ]);
  const expected = ['gr\u00fc\u00df \u{1f600}', '\ufeffmark', 'a\ufffd\ufffd', '\ufffdb\ufffd\ufffd\ufffd'];
  for (const step of [1, 2, 3, 5, 100]) assert.deepEqual(split(bytes, step), expected, `pieces of ${step}`);
});

test('[LOG-59] 8192 bytes pass whole, one more is cut and marked, and the rest to the newline is gone', () => {
  assert.equal(MAX_LINE_BYTES, 8192);
  assert.equal(TRUNCATED, '[truncated]');
  const exact = 'x'.repeat(8192);
  const bytes = Buffer.from(`${exact}\n${exact}y\n${exact}${'z'.repeat(100_000)}\nshort\n${exact}${exact}`);
  const cut = `${exact}[truncated]`;
  for (const step of [1000, 8192, 8193, 65_536])
    assert.deepEqual(split(bytes, step), [exact, cut, cut, 'short', cut], `pieces of ${step}`);
});

test('[LOG-59] the cut falls on a character boundary', () => {
  for (const character of ['\u00fc', '\u20ac', '\u{1f600}']) {
    const size = Buffer.byteLength(character);
    // The character lies over the limit in every possible way, and just before and behind it.
    for (let before = 8 - size; before <= 8; before++) {
      const text = 'a'.repeat(before) + character;
      const kept = before + size <= 8 ? text : 'a'.repeat(before);
      for (const step of [1, 3, 100])
        assert.deepEqual(
          split(Buffer.from(`${text}bcdefghij\nnext\n`), step, 8),
          [`${kept}${'bcdefghij'.slice(0, Math.max(0, 8 - before - size))}[truncated]`, 'next'],
          `${before} + ${size}, pieces of ${step}`,
        );
    }
  }
});

test('[LOG-59] bytes that form no character are cut where the limit is', () => {
  const bytes = Buffer.from([...Array.from({ length: 12 }, () => 0x80), 0x0a, 0x62, 0x0a]);
  assert.deepEqual(split(bytes, 100, 8), [`${'\ufffd'.repeat(8)}[truncated]`, 'b']);
  // Three bytes belong to the head, so the fourth continues nothing.
  const early = Buffer.concat([Buffer.from('abcde\u20ac'), Buffer.from([0x80, 0x80, 0x0a])]);
  assert.deepEqual(split(early, 100, 8), ['abcde\u20ac[truncated]']);
});
