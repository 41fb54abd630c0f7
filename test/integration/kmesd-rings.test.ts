import assert from 'node:assert/strict';
import { join } from 'node:path';
import { afterEach, beforeEach, test } from 'node:test';
import { decode, encode } from '@msgpack/msgpack';
import { parseGuid } from '../../src/host/guid.js';
import { Configuration } from '../../src/kmesd/configuration.js';
import { NO_IDENTITY } from '../../src/kmesd/identity.js';
import { claimRingDirectory, type RingDirectory } from '../../src/kmesd/ringFiles.js';
import { newestTimestamp, readRing } from '../../src/kmesd/ringReader.js';
import { type ProducerAddon, RingSet } from '../../src/kmesd/rings.js';
import { TokenBuckets } from '../../src/kmesd/tokenBucket.js';
import { native } from '../../src/native/addon.js';
import { BOOT_A, scratchDirectory } from '../fixtures/kmesd.js';

const messages: string[] = [];
const note = (text: string) => void messages.push(text);
const report = { info: note, warn: note, error: note };
let scratch: { path: string; remove(): void };
let directory: RingDirectory;
let rings: RingSet;

beforeEach(() => {
  messages.length = 0;
  scratch = scratchDirectory();
  directory = claimRingDirectory(native, scratch.path, parseGuid(BOOT_A), report);
});
afterEach(() => {
  rings.close();
  directory.release();
  scratch.remove();
});

test('[KMES-102] [KMES-157] when one ring cannot be replaced all keep their size, and an event says so', () => {
  let resizes = 0;
  const failing: ProducerAddon = {
    ...native,
    producerResize(producer, capacity) {
      resizes += 1;
      if (resizes === 2)
        throw Object.assign(new Error('ENOSPC: cannot replace the ring'), { code: 'ENOSPC' });
      native.producerResize(producer, capacity);
    },
  };
  rings = RingSet.open(failing, directory, 2, 65_536, report);
  rings.first.write(0, [{ type: Buffer.from('test.kept'), payload: encode(1) }], NO_IDENTITY);
  const limits = { maxEventSize: 65_536, maxNestingDepth: 32, maxEmitRate: 100 };
  const configuration = new Configuration(limits, rings, new TokenBuckets(100, () => 0), report);
  const result = configuration.apply('BufferCapacity', 131_072);
  assert.equal(result.outcome, 'failed');
  assert.deepEqual(
    rings.rings.map(({ capacity }) => capacity),
    [65_536, 65_536],
  );
  const events = [...readRing(join(scratch.path, 'cpu-0000.ring'))];
  assert.deepEqual(
    events.map(({ type, origin }) => [type, origin]),
    [
      ['test.kept', 0],
      ['kmes.resize_failed', 1],
    ],
  );
  assert.deepEqual(decode(events[1]?.payload ?? new Uint8Array(0)), {
    reason: 'ENOSPC: cannot replace the ring',
    requested: 131_072,
    retained: 65_536,
  });
});

test('[KMES-68] [KMES-110] [KMES-112] a full ring never refuses: the oldest events go, what is left reads back whole', () => {
  rings = RingSet.open(native, directory, 1, 65_536, report);
  const payload = encode('x'.repeat(1000));
  for (let index = 0; index < 200; index += 1) {
    assert.equal(rings.first.write(0, [{ type: Buffer.from(`t${index}`), payload }], NO_IDENTITY), 1);
  }
  const events = [...readRing(rings.first.path)];
  assert.ok(events.length >= 50 && events.length < 65, `${events.length} events survive`);
  assert.deepEqual(
    events.map(({ sequence }) => Number(sequence)),
    events.map((_, index) => 201 - events.length + index),
  );
  assert.ok(events.every((event) => Buffer.from(event.payload).equals(payload)));
});

test('[KMES-112] a wrapped ring larger than what is read of it at once reads back whole, up to its newest event', () => {
  rings = RingSet.open(native, directory, 2, 1 << 20, report);
  assert.equal(rings.newestTimestamp(), null);
  const event = { type: Buffer.from('t'), payload: encode('x'.repeat(10_000)) };
  for (let index = 0; index < 150; index += 1) rings.first.write(0, [event], NO_IDENTITY);
  const events = [...readRing(rings.first.path)];
  assert.deepEqual(
    events.map(({ sequence }) => Number(sequence)),
    events.map((_, index) => 151 - events.length + index),
  );
  assert.ok(events.every(({ payload }) => Buffer.from(payload).equals(event.payload)));
  const newest = events.at(-1)?.timestamp;
  assert.equal(newestTimestamp(rings.first.path), newest);
  assert.equal(rings.newestTimestamp(), newest, 'the other ring is empty');
});

test('a reader may start at a position it noted earlier', () => {
  rings = RingSet.open(native, directory, 1, 65_536, report);
  const write = (type: string) =>
    rings.first.write(0, [{ type: Buffer.from(type), payload: encode(1) }], NO_IDENTITY);
  write('a');
  const noted = rings.first.status().writePos;
  write('b');
  assert.deepEqual(
    [...readRing(rings.first.path, noted)].map(({ type }) => type),
    ['b'],
  );
  assert.deepEqual(
    [...readRing(rings.first.path)].map(({ type }) => type),
    ['a', 'b'],
  );
});
