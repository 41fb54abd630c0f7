import assert from 'node:assert/strict';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, beforeEach, test } from 'node:test';
import { decode, encode } from '@msgpack/msgpack';
import { KmsgCursor } from '../../src/kmesd/kmsgCursor.js';
import { type KmsgDevice, KmsgSource } from '../../src/kmesd/kmsgSource.js';
import { readRing } from '../../src/kmesd/ringReader.js';
import type { Ring } from '../../src/kmesd/rings.js';
import type { ProducerEvent } from '../../src/native/addon.js';

const CAPACITY = 65_536;
const BOOT = '11111111-2222-3333-4444-555555555555';
const directory = mkdtempSync(join(tmpdir(), 'kmesd-kmsg-'));
after(() => rmSync(directory, { recursive: true }));

let ring: FileRing;
let cursorFile: string;
let count = 0;
beforeEach(() => {
  count += 1;
  ring = new FileRing(join(directory, `${count}.ring`));
  cursorFile = join(directory, `${count}.cursor`);
});

/** A ring file written plainly: enough of the format to be read back, never overwritten. */
class FileRing implements Ring {
  readonly cpu = 0;
  readonly capacity = CAPACITY;
  generation = 1n;
  #sequence = 0n;
  #data = Buffer.alloc(0);

  constructor(readonly path: string) {
    this.#flush();
  }

  write(
    origin: number,
    events: readonly ProducerEvent[],
    identity: { effectiveToken: Uint8Array } | null,
  ): number {
    for (const { type, payload } of events) {
      const header = Buffer.alloc(77);
      header.writeUInt32LE(77 + type.length + payload.length, 0);
      header.writeUInt32LE(77 + type.length, 4);
      this.#sequence += 1n;
      header.writeBigUInt64LE(this.#sequence, 16);
      header.writeUInt8(origin, 26);
      header.set(identity?.effectiveToken ?? new Uint8Array(16), 27);
      header.writeUInt16LE(type.length, 75);
      this.#data = Buffer.concat([this.#data, header, type, payload]);
    }
    this.#flush();
    return events.length;
  }

  status() {
    const writePos = BigInt(this.#data.length);
    const { generation, capacity } = this;
    return { writePos, tailPos: 0n, generation, capacity, sequence: this.#sequence, dropped: 0n };
  }

  #flush(): void {
    const page = Buffer.alloc(8192);
    page.writeBigUInt64LE(BigInt(CAPACITY), 16);
    page.writeBigUInt64LE(this.generation, 32);
    page.writeBigUInt64LE(BigInt(this.#data.length), 64);
    writeFileSync(this.path, Buffer.concat([page, this.#data, Buffer.alloc(CAPACITY - this.#data.length)]));
  }
}

/** A kernel log holding records `first` to `last`; a read of what is gone is 'overwritten' first. */
function kernelLog(first: number, last: number): KmsgDevice & { first: number; last: number } {
  let next = first;
  return {
    first,
    last,
    read() {
      if (next < this.first) {
        next = this.first;
        return 'overwritten';
      }
      if (next > this.last) return null;
      next += 1;
      return Buffer.from(`6,${next - 1},${next},-;line ${next - 1}\n`);
    },
    watch: () => () => undefined,
    close: () => undefined,
  };
}

const quiet = { info: () => undefined, warn: () => undefined, error: (text: string) => assert.fail(text) };

function source(device: KmsgDevice, boot = BOOT): KmsgSource {
  return new KmsgSource(device, ring, KmsgCursor.open(cursorFile, ring, boot), quiet);
}

function drainAll(from: KmsgSource): void {
  while (from.drain() > 0);
}

/** What the ring holds: record numbers, and losses as 'first-last'. */
function emitted(): (number | string)[] {
  return [...readRing(ring.path)].map(({ type, payload }) => {
    const value = decode(payload) as { sequence: number; first: number; last: number; count: number };
    if (type === 'linux.kmsg') return value.sequence;
    assert.equal(type, 'linux.kmsg.lost');
    assert.equal(value.count, value.last - value.first + 1);
    return `${value.first}-${value.last}`;
  });
}

test('[KMES-1] a fresh boot begins with the oldest record', () => {
  drainAll(source(kernelLog(0, 3)));
  assert.deepEqual(emitted(), [0, 1, 2, 3]);
});

test('[KMES-44] records that were overwritten before the first read are reported as lost', () => {
  drainAll(source(kernelLog(5, 6)));
  assert.deepEqual(emitted(), ['0-4', 5, 6]);
});

test('[KMES-44] records overwritten while reading are counted by the next number', () => {
  const device = kernelLog(0, 1);
  const kmsg = source(device);
  drainAll(kmsg);
  device.last = 20;
  device.first = 18;
  drainAll(kmsg);
  assert.deepEqual(emitted(), [0, 1, '2-17', 18, 19, 20]);
});

test('[HOST-75] a restart goes on behind the last record: none twice, none skipped', () => {
  drainAll(source(kernelLog(0, 3)));
  drainAll(source(kernelLog(0, 5)));
  drainAll(source(kernelLog(9, 9)));
  assert.deepEqual(emitted(), [0, 1, 2, 3, 4, 5, '6-8', 9]);
});

test('[HOST-75] dying between ring and cursor repeats nothing: the ring is read back', () => {
  drainAll(source(kernelLog(0, 1)));
  const before = readFileSync(cursorFile);
  drainAll(source(kernelLog(0, 3)));
  writeFileSync(cursorFile, before);
  drainAll(source(kernelLog(0, 4)));
  assert.deepEqual(emitted(), [0, 1, 2, 3, 4]);
});

test('[HOST-75] a damaged or missing cursor file is recovered from the ring', () => {
  drainAll(source(kernelLog(0, 3)));
  writeFileSync(cursorFile, 'garbage');
  drainAll(source(kernelLog(0, 4)));
  rmSync(cursorFile);
  drainAll(source(kernelLog(0, 5)));
  assert.deepEqual(emitted(), [0, 1, 2, 3, 4, 5]);
});

test('[HOST-75] a swapped ring is searched from its tail', () => {
  drainAll(source(kernelLog(0, 1)));
  const before = readFileSync(cursorFile);
  drainAll(source(kernelLog(0, 3)));
  writeFileSync(cursorFile, before);
  ring.generation = 2n;
  drainAll(source(kernelLog(0, 4)));
  assert.deepEqual(emitted(), [0, 1, 2, 3, 4]);
});

test('[HOST-77] an event of the same type from a client does not move the cursor', () => {
  drainAll(source(kernelLog(0, 1)));
  const forged = { type: Buffer.from('linux.kmsg'), payload: encode({ sequence: 1000 }) };
  ring.write(0, [forged], { effectiveToken: new Uint8Array(16).fill(7) });
  drainAll(source(kernelLog(0, 2)));
  assert.deepEqual(emitted(), [0, 1, 1000, 2]);
});

test('another run of the kernel under the same boot ID starts anew', () => {
  drainAll(source(kernelLog(0, 3)));
  drainAll(source(kernelLog(0, 1), '99999999-2222-3333-4444-555555555555'));
  drainAll(source(kernelLog(0, 2), '99999999-2222-3333-4444-555555555555'));
  assert.deepEqual(emitted(), [0, 1, 2, 3, 0, 1, 2]);
});

test('a long backlog is emitted in bounded batches', () => {
  const kmsg = source(kernelLog(0, 399));
  assert.equal(kmsg.drain() <= 256, true);
  const first = emitted().length;
  assert.ok(first > 0 && first <= 256, `${first} records at one go`);
  drainAll(kmsg);
  assert.equal(emitted().length, 400);
});

test('[KMES-44] after an overrun the log is watched anew, because the event loop gave up on it', () => {
  const device = kernelLog(0, 1);
  const watchers: (() => void)[] = [];
  let stopped = 0;
  device.watch = (callback) => {
    watchers.push(callback);
    return () => {
      stopped += 1;
    };
  };
  const kmsg = source(device);
  kmsg.start();
  watchers[0]?.();
  assert.equal(watchers.length, 1);
  device.last = 9;
  device.first = 5;
  watchers[0]?.();
  assert.deepEqual([watchers.length, stopped], [2, 1]);
  kmsg.stop();
  assert.equal(stopped, 2);
  assert.deepEqual(emitted(), [0, 1, '2-4', 5, 6, 7, 8, 9]);
});

test('a malformed record is left out with one warning', () => {
  const lines = ['6,0,1,-;a\n', 'nonsense', 'nonsense', '6,1,1,-;b\n'];
  const device = {
    ...kernelLog(0, 0),
    read: () => (lines.length > 0 ? Buffer.from(lines.shift() ?? '') : null),
  };
  const warnings: string[] = [];
  const report = { ...quiet, warn: (text: string) => warnings.push(text) };
  drainAll(new KmsgSource(device, ring, KmsgCursor.open(cursorFile, ring, BOOT), report));
  assert.deepEqual(emitted(), [0, 1]);
  assert.equal(warnings.length, 1);
});
