/** The ring as its readers see it: bytes, mappings, writing, replacement (KMES parts 1 to 5, 9, 11, 14). */
import assert from 'node:assert/strict';
import { closeSync, openSync, readdirSync, readFileSync, readlinkSync, statSync, writeSync } from 'node:fs';
import { Worker } from 'node:worker_threads';
import { readRing } from '../../src/kmesd/ringReader.js';
import { addonPath, native } from '../../src/native/addon.js';
import { inWorld, numbered, type Row, TYPE, until } from '../fixtures/nativeRing.js';
import { RingLoad } from '../fixtures/ringload.js';

const PAGE = 4096;
const NEED_WAKE = 4096;
const EVENT_BYTES = 77 + TYPE.length + numbered(1).length;

function poke(path: string, offset: number, bytes: readonly number[]): void {
  const fd = openSync(path, 'r+');
  writeSync(fd, Uint8Array.from(bytes), 0, bytes.length, offset);
  closeSync(fd);
}

interface Mapping {
  readonly start: bigint;
  readonly bytes: number;
  readonly protection: string;
  readonly offset: number;
}

/** What this process has mapped of a file, by address. */
function mappingsOf(path: string): Mapping[] {
  return readFileSync('/proc/self/maps', 'utf8')
    .split('\n')
    .filter((line) => line.endsWith(` ${path}`))
    .map((line) => {
      const [range = '', protection = '', offset = ''] = line.split(' ');
      const [start = 0n, end = 0n] = range.split('-').map((text) => BigInt(`0x${text}`));
      return { start, bytes: Number(end - start), protection, offset: Number.parseInt(offset, 16) };
    });
}

function descriptorsOf(path: string): number {
  return readdirSync('/proc/self/fd').filter((fd) => {
    try {
      return readlinkSync(`/proc/self/fd/${fd}`) === path;
    } catch {
      return false;
    }
  }).length;
}

// ---- Mapping ----

inWorld(
  '[KMES-94] [KMES-95] [KMES-97] [ING-5] [ING-6] a consumer maps 8192 + 2C bytes and can write its own page only',
  (world) => {
    const capacity = 131_072;
    native.producerClose(native.producerCreate(world.path(), 0, capacity));
    const { ring } = native.ringOpen(world.path());
    const parts = mappingsOf(world.path());
    assert.deepEqual(
      parts.map(({ bytes, protection, offset }) => [offset, bytes, protection]),
      [
        [0, PAGE, 'r--s'],
        [PAGE, PAGE, 'rw-s'],
        [2 * PAGE, capacity, 'r--s'],
        [2 * PAGE, capacity, 'r--s'],
      ],
    );
    const base = parts[0]?.start ?? 0n;
    assert.deepEqual(
      parts.map(({ start }) => Number(start - base)),
      [0, PAGE, 2 * PAGE, 2 * PAGE + capacity],
      'one contiguous region',
    );
    assert.equal(statSync(world.path()).mode & 0o077, 0, 'nobody else can open the file');
    native.ringClose(ring);
    assert.deepEqual(mappingsOf(world.path()), []);
  },
);

inWorld(
  '[KMES-162] a ring costs its capacity, an attach one descriptor, and both are given back',
  (world) => {
    const capacity = 262_144;
    native.producerClose(native.producerCreate(world.path(), 0, capacity));
    assert.equal(statSync(world.path()).size, 2 * PAGE + capacity);
    const rings = [1, 2, 3].map((count) => {
      const { ring } = native.ringOpen(world.path());
      assert.equal(descriptorsOf(world.path()), count);
      return ring;
    });
    for (const ring of rings) native.ringClose(ring);
    assert.equal(descriptorsOf(world.path()), 0);
  },
);

inWorld('[KMES-7] every integer of metadata and header is little-endian', (world) => {
  const producer = world.create(65536, 0x0102);
  world.emit(producer, 0x0103);
  const bytes = readFileSync(world.path(0x0102));
  const hex = (offset: number, length: number) => bytes.toString('hex', offset, offset + length);
  assert.equal(hex(8, 4), '01000000', 'version');
  assert.equal(hex(12, 2), '0201', 'cpu_id');
  assert.equal(hex(16, 8), '0000010000000000', 'capacity');
  assert.equal(hex(24, 8), '0020000000000000', 'data_offset');
  const written = BigInt(0x0103 * EVENT_BYTES);
  const reversed = written.toString(16).padStart(16, '0').match(/../g)?.reverse().join('');
  assert.equal(hex(64, 8), reversed, 'write_pos');
  const last = 8192 + 0x0102 * EVENT_BYTES;
  assert.equal(hex(last, 8), `${EVENT_BYTES.toString(16)}000000${(77 + TYPE.length).toString(16)}000000`);
  assert.equal(hex(last + 16, 8), '0301000000000000', 'sequence');
  assert.equal(hex(last + 24, 2), '0201', 'cpu_id');
  assert.equal(hex(last + 75, 2), `${TYPE.length.toString(16).padStart(2, '0')}00`, 'type_len');
});

// ---- Writing ----

inWorld(
  '[KMES-99] [KMES-109] [KMES-116] an event touches the positions, and the futex counter only with need_wake set',
  (world) => {
    const producer = world.create();
    const line = (number: number) =>
      readFileSync(world.path()).toString('hex', 64 * number, 64 * number + 64);
    const counter = () => readFileSync(world.path()).readUInt32LE(128);
    const [identity, positions, wake] = [line(0), line(1), line(2)];
    world.emit(producer, 3);
    assert.equal(line(0), identity);
    assert.notEqual(line(1), positions);
    assert.equal(line(2), wake, 'nobody sleeps: no bump');
    poke(world.path(), NEED_WAKE, [0x80]);
    world.emit(producer, 1);
    assert.equal(counter(), 1, 'any nonzero byte counts as set');
    const batch = Array.from({ length: 50 }, (_, n) => ({ type: TYPE, payload: numbered(n) }));
    native.producerEmitBatch(producer, 0, batch, null);
    assert.equal(counter(), 2, 'one look at need_wake per batch');
    native.producerEmit(producer, 0, { type: TYPE, payload: new Uint8Array(40_000) }, null);
    assert.equal(counter(), 2, 'a dropped event wakes nobody');
    poke(world.path(), NEED_WAKE, [0]);
    world.emit(producer, 10);
    assert.equal(counter(), 2);
    assert.equal(line(0), identity);
  },
);

inWorld('[KMES-6] a ring is written the same with no reader and with one that is stuck', async (world) => {
  const [alone, read] = [world.create(65536, 0), world.create(65536, 1)];
  const stuck = world.drain([world.channel(1)], { cpu: 1 });
  world.emit(read, 1);
  await until('the reader has taken its only row', () => native.drainStatus(stuck.handle).events === 1n);
  world.emit(alone, 1);
  world.emit(alone, 3000, 2);
  world.emit(read, 3000, 2);
  assert.deepEqual(native.producerStatus(alone), native.producerStatus(read));
  const eventsOf = (cpu: number) =>
    [...readRing(world.path(cpu))].map(({ sequence, end, payload }) => [sequence, end, payload]);
  assert.deepEqual(eventsOf(0), eventsOf(1));
});

inWorld(
  '[KMES-3] [KMES-100] an event is stored and handed over whole at pos & (C-1), across the end of the data too',
  async (world) => {
    const capacity = 65536;
    const producer = world.create(capacity);
    const channel = world.channel();
    const drain = world.drain([channel]);
    let crossings = 0;
    for (let n = 1; n <= 40; n++) {
      const payload = Uint8Array.from({ length: 9_001 }, (_, i) => (i * 7 + n) & 0xff);
      const at = native.producerStatus(producer).writePos;
      native.producerEmit(producer, 0, { type: TYPE, payload }, null);
      const size = 77 + TYPE.length + payload.length;
      const index = Number(at % BigInt(capacity));
      if (index + size > capacity) crossings++;
      if (index + 4 <= capacity) {
        assert.equal(readFileSync(world.path()).readUInt32LE(8192 + index), size);
      }
      await drain.reached(BigInt(n));
      const [row, ...more] = world.store(channel);
      assert.ok(row?.kind === 'event');
      assert.deepEqual(new Uint8Array(row.payload), payload);
      assert.deepEqual(more, []);
    }
    assert.ok(crossings >= 4, `${crossings} events crossed the end`);
    assert.ok(native.producerStatus(producer).writePos > BigInt(4 * capacity), 'positions never wrap');
  },
);

inWorld('[KMES-29] a type may be as long as the whole event may be', (world) => {
  const producer = world.create();
  const type = new Uint8Array(32_768 - 77).fill(0x61);
  const emit = (bytes: Uint8Array) =>
    native.producerEmit(producer, 1, { type: bytes, payload: new Uint8Array() }, null);
  assert.equal(emit(type), 1n);
  assert.equal(emit(new Uint8Array(32_768 - 76).fill(0x61)), null);
  const [event] = [...readRing(world.path())];
  assert.equal(event?.type.length, type.length);
  assert.equal(event.payload.length, 0);
});

inWorld('[KMES-61] a batch becomes visible all at once', async (world) => {
  world.create(1 << 20);
  const { ring } = native.ringOpen(world.path());
  const [batch, payload] = [16, 43];
  const load = new RingLoad(world.directory, {
    cpus: 1,
    events: 2_400_000,
    ratePerSecond: 0,
    payload,
    batch,
  });
  const size = BigInt(batch * (77 + 'bench.load'.length + payload));
  const seen = new Set<bigint>();
  const end = size * 150_000n;
  await until('the end of the load', () => {
    for (let look = 0; look < 500; look++) {
      const { writePos } = native.ringStatus(ring);
      assert.equal(writePos % size, 0n, 'a part of a batch was visible');
      seen.add(writePos);
    }
    return seen.has(end);
  });
  await load.done;
  native.ringClose(ring);
  assert.ok(seen.size > 3, `looked ${seen.size} times while the load ran`);
});

inWorld(
  '[KMES-56] timestamp and sequence are drawn in one step: neither overtakes the other',
  async (world) => {
    world.create(1 << 22);
    const options = { cpus: 1, events: 12_000, ratePerSecond: 0, payload: 32, batch: 1 };
    const loads = [new RingLoad(world.directory, options), new RingLoad(world.directory, options)];
    await Promise.all(loads.map(({ done }) => done));
    let [sequence, timestamp] = [0n, 0n];
    for (const event of readRing(world.path())) {
      assert.equal(event.sequence, sequence + 1n);
      assert.ok(event.timestamp >= timestamp, `${event.sequence} is older than its predecessor`);
      ({ sequence, timestamp } = event);
    }
    assert.equal(sequence, 24_000n);
  },
);

inWorld('[KMES-115] whoever sees a position sees the whole event, also while being lapped', async (world) => {
  world.create(65536);
  const channel = world.channel(100_000);
  const drain = world.drain([channel]);
  const load = new RingLoad(world.directory, {
    cpus: 1,
    events: 300_000,
    ratePerSecond: 0,
    payload: 200,
    batch: 4,
  });
  const rows: Row[] = [];
  let running = true;
  void load.done.finally(() => {
    running = false;
  });
  await until('the end of the load', () => {
    rows.push(...world.store(channel));
    return !running;
  });
  await load.done;
  await drain.reached(300_000n);
  rows.push(...world.store(channel));
  const pad = Uint8Array.from({ length: 200 - 21 }, (_, i) => (i * 31) & 0xff);
  let events = 0;
  for (const row of rows) {
    if (row.kind !== 'event') continue;
    const payload = Buffer.from(row.payload);
    assert.equal(payload.length, 200);
    assert.equal(payload.readBigUInt64BE(4), row.sequence);
    assert.equal(payload.subarray(21).equals(pad), true, `event ${row.sequence} is torn`);
    events++;
  }
  assert.ok(events > 1000, `${events} events were read`);
});

// ---- Replacement ----

inWorld('[KMES-141] the replaced ring stays readable for whoever has it mapped', (world) => {
  const producer = world.create(65536);
  world.emit(producer, 10);
  const { ring } = native.ringOpen(world.path());
  native.producerResize(producer, 131_072);
  world.emit(producer, 10, 11);
  assert.deepEqual(native.ringStatus(ring), {
    writePos: BigInt(10 * EVENT_BYTES),
    tailPos: 0n,
    generation: 2n,
    capacity: 65536,
  });
  native.ringClose(ring);
});

inWorld('[KMES-143] a new ring is complete, survivors included, before anybody can see it', async (world) => {
  const producer = world.create(65536);
  world.emit(producer, 100);
  const source = `
    const { workerData } = require('node:worker_threads');
    const native = require(workerData.addon);
    const producer = native.producerOpen(workerData.path);
    for (let round = 0; round < 150; round++) native.producerResize(producer, round % 2 ? 65536 : 131072);
    native.producerClose(producer);`;
  const worker = new Worker(source, { eval: true, workerData: { addon: addonPath, path: world.path() } });
  const failed = new Promise<never>((_, reject) => worker.once('error', reject));
  const generations = new Set<bigint>();
  const watch = until('the last swap', () => {
    const { ring, generation } = native.ringOpen(world.path());
    const status = native.ringStatus(ring);
    native.ringClose(ring);
    assert.equal(status.writePos - status.tailPos, BigInt(100 * EVENT_BYTES));
    assert.equal(status.tailPos, 0n);
    generations.add(generation);
    return generation === 151n;
  });
  await Promise.race([watch, failed]);
  await worker.terminate();
  assert.ok(generations.size > 5, `${generations.size} generations were seen`);
  assert.deepEqual(readdirSync(world.directory), ['cpu-0000.ring']);
});
