import assert from 'node:assert/strict';
import { closeSync, openSync, readFileSync, renameSync, truncateSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { native } from '../../src/native/addon.js';
import { inWorld, numbered, type Row, shape, TYPE, until } from '../fixtures/nativeRing.js';

// ---- Files and mapping ----

inWorld('[KMES-98][KMES-101][HOST-74] a created ring has the documented layout', (world) => {
  const producer = world.create(65536, 3);
  world.emit(producer, 1);
  const bytes = readFileSync(world.path(3));
  assert.equal(bytes.length, 8192 + 65536);
  assert.equal(bytes.toString('latin1', 0, 8), 'KMESRING');
  assert.equal(bytes.readUInt32LE(8), 1);
  assert.equal(bytes.readUInt16LE(12), 3);
  assert.equal(bytes.readBigUInt64LE(16), 65536n);
  assert.equal(bytes.readBigUInt64LE(24), 8192n);
  assert.equal(bytes.readBigUInt64LE(32), 1n);
  const size = 77 + TYPE.length + numbered(1).length;
  assert.equal(bytes.readBigUInt64LE(64), BigInt(size));
  assert.equal(bytes.readBigUInt64LE(72), 0n);
  assert.equal(
    bytes.subarray(4096, 8192).every((byte) => byte === 0),
    true,
  );
  const event = bytes.subarray(8192);
  assert.equal(event.readUInt32LE(0), size);
  assert.equal(event.readUInt32LE(4), 77 + TYPE.length);
  assert.equal(event.readBigUInt64LE(16), 1n);
  assert.equal(event.readUInt16LE(24), 3);
  assert.equal(event.readUInt16LE(75), TYPE.length);
  assert.deepEqual(new Uint8Array(event.subarray(77, 77 + TYPE.length)), TYPE);
});

inWorld('[KMES-102][KMES-103][KMES-8] a file that is no ring is refused with its reason', (world) => {
  native.producerClose(native.producerCreate(world.path(1), 1, 65536));
  const spoil = (offset: number, bytes: number[]): void => {
    const fd = openSync(world.path(1), 'r+');
    writeSync(fd, Uint8Array.from(bytes), 0, bytes.length, offset);
    closeSync(fd);
  };
  const refused = (message: RegExp): void => {
    assert.throws(() => native.ringOpen(world.path(1)), { code: 'EINVAL', message });
  };
  spoil(0, [0x6b]);
  refused(/magic/);
  spoil(0, [0x4b]);
  spoil(8, [2]);
  refused(/version/);
  spoil(8, [1]);
  spoil(25, [0x10]);
  refused(/data offset/);
  spoil(25, [0x20]);
  truncateSync(world.path(1), 8192 + 131072);
  refused(/capacity/);
  truncateSync(world.path(1), 8192 + 70000);
  refused(/size/);
  assert.throws(() => native.ringOpen(world.path(9)), { code: 'ENOENT' });
  for (const capacity of [32768, 65537, 536870912]) {
    assert.throws(() => native.producerCreate(world.path(2), 2, capacity), { code: 'EINVAL' });
  }
});

test('[HOST-2][HOST-51] without KMES in the kernel the real attach answers ENOSYS', () => {
  assert.equal(native.probeSyscall(1091, 0xffffffffn), 'ENOSYS');
  assert.throws(() => native.ringAttachKernel(0), { code: 'ENOSYS' });
});

// ---- Producer ----

inWorld('[KMES-49][KMES-55] an event above half the ring is dropped and consumes its sequence', (world) => {
  const producer = world.create(65536);
  const fits = 32768 - 77 - TYPE.length;
  assert.equal(native.producerEmit(producer, 0, { type: TYPE, payload: new Uint8Array(fits) }, null), 1n);
  assert.equal(
    native.producerEmit(producer, 0, { type: TYPE, payload: new Uint8Array(fits + 1) }, null),
    null,
  );
  assert.equal(native.producerEmit(producer, 1, { type: new Uint8Array(), payload: TYPE }, null), null);
  assert.equal(world.emit(producer, 1), 4n);
  const status = native.producerStatus(producer);
  assert.equal(status.sequence, 4n);
  assert.equal(status.dropped, 2n);
});

inWorld('[KMES-110][KMES-112] the tail moves over whole events and writing never fails', (world) => {
  const producer = world.create(65536);
  world.emit(producer, 5000);
  const status = native.producerStatus(producer);
  const size = BigInt(77 + TYPE.length + numbered(1).length);
  assert.equal(status.writePos, size * 5000n);
  assert.equal(status.tailPos % size, 0n);
  assert.ok(status.writePos - status.tailPos <= 65536n);
  assert.ok(status.writePos - status.tailPos > 65536n - size);
});

inWorld(
  '[KMES-58][KMES-84] a batch shares timestamp and identity and each event has its sequence',
  (world) => {
    const producer = world.create(65536);
    const identity = {
      effectiveToken: new Uint8Array(16).fill(1),
      trueToken: new Uint8Array(16).fill(2),
      process: new Uint8Array(16).fill(3),
    };
    const events = [1, 2, 3].map((n) => ({ type: TYPE, payload: numbered(n) }));
    assert.equal(native.producerEmitBatch(producer, 2, events, identity), 3);
    const data = readFileSync(world.path()).subarray(8192);
    const size = data.readUInt32LE(0);
    for (let i = 0; i < 3; i++) {
      const event = data.subarray(i * size);
      assert.equal(event.readBigUInt64LE(8), data.readBigUInt64LE(8));
      assert.equal(event.readBigUInt64LE(16), BigInt(i + 1));
      assert.equal(event[26], 2);
      assert.equal(event[27], 1);
      assert.equal(event[43], 2);
      assert.equal(event[59], 3);
    }
  },
);

test('[KMES-47] msgpack validity and nesting depth', () => {
  assert.equal(native.msgpackValid(Uint8Array.from([0x91, 0x91, 0xc0]), 2), true);
  assert.equal(native.msgpackValid(Uint8Array.from([0x91, 0x91, 0xc0]), 1), false);
  assert.equal(native.msgpackValid(Uint8Array.from([0xc0, 0xc0]), 2), false);
});

// ---- Generation change ----

for (const [name, from, to] of [
  ['growing', 65536, 262144],
  ['shrinking', 262144, 65536],
] as const) {
  inWorld(`[ING-14][ING-15][ING-17][KMES-144] ${name} a ring loses and repeats nothing`, async (world) => {
    const producer = world.create(from);
    const channel = world.channel();
    const drain = world.drain([channel]);
    world.emit(producer, 200);
    native.producerResize(producer, to);
    world.emit(producer, 100, 201);
    await until('generation', () => drain.of('generation').length > 0);
    assert.equal(drain.of('generation')[0]?.lastSequence, 200n);
    const fresh = native.ringOpen(world.path());
    assert.equal(fresh.capacity, to);
    assert.equal(fresh.generation, 2n);
    native.drainReattach(drain.handle, fresh.ring);
    assert.throws(() => native.ringClose(fresh.ring), { code: 'EBUSY' });
    await drain.reached(300n);
    assert.equal(shape(world.store(channel)), '1..300');
    await until('reattached', () => drain.of('reattached').length > 0);
    assert.deepEqual(drain.of('reattached'), [{ type: 'reattached', generation: 2n, capacity: to }]);
    assert.throws(() => native.drainReattach(drain.handle, native.ringOpen(world.path()).ring), {
      code: 'EBUSY',
    });
  });
}

inWorld(
  '[KMES-137][ING-17] a shrink under a blocked reader loses nothing: the old ring is drained first',
  async (world) => {
    const producer = world.create(262144);
    const channel = world.channel(10);
    const drain = world.drain([channel]);
    world.emit(producer, 2000);
    await until('throttled', () => drain.of('throttled').length > 0);
    native.producerResize(producer, 65536);
    world.emit(producer, 100, 2001);
    const rows: Row[] = [];
    await until('generation', () => {
      rows.push(...world.store(channel));
      return drain.of('generation').length > 0;
    });
    assert.deepEqual(drain.of('generation'), [{ type: 'generation', lastSequence: 2000n }]);
    native.drainReattach(drain.handle, native.ringOpen(world.path()).ring);
    await until('the end', () => {
      rows.push(...world.store(channel));
      return rows.length >= 2100;
    });
    assert.equal(shape(rows), '1..2100');
  },
);

inWorld('[KMES-140][KMES-144] survivors that fit the new ring stay, oldest go first', async (world) => {
  const producer = world.create(262144);
  world.emit(producer, 2000);
  native.producerResize(producer, 65536);
  const status = native.producerStatus(producer);
  assert.equal(status.tailPos, 0n);
  assert.equal(status.generation, 2n);
  assert.equal(status.sequence, 2000n);
  const channel = world.channel();
  const drain = world.drain([channel]);
  await drain.reached(2000n);
  const size = 77 + TYPE.length + numbered(1).length;
  const kept = Math.floor(65536 / size);
  assert.equal(shape(world.store(channel)), `gap 1..${2000 - kept} ring_loss ${2001 - kept}..2000`);
  assert.throws(() => native.producerResize(producer, 65536), { code: 'EINVAL' });
  assert.throws(() => native.producerResize(producer, 65537), { code: 'EINVAL' });
});

inWorld('[KMES-146] a producer with the replaced ring mapped goes on in the new one', async (world) => {
  const producer = world.create(65536);
  const other = native.producerOpen(world.path());
  world.emit(producer, 5);
  native.producerResize(producer, 131072);
  assert.equal(world.emit(other, 5, 6), 10n);
  native.producerClose(other);
  const channel = world.channel();
  const drain = world.drain([channel]);
  await drain.reached(10n);
  assert.equal(shape(world.store(channel)), '1..10');
});

inWorld('[ING-14] a ring replaced between attach and first look is noticed by its path', async (world) => {
  const producer = world.create(65536);
  world.emit(producer, 3);
  // The mapped file vanishes from the path without a word in its own metadata.
  const channel = world.channel();
  const drain = world.drain([channel]);
  await drain.reached(3n);
  native.producerClose(native.producerCreate(join(world.directory, 'other.ring'), 0, 131072));
  renameSync(join(world.directory, 'other.ring'), world.path());
  await until('generation', () => drain.of('generation').length > 0);
});
