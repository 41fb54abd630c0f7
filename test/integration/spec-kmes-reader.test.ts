/** A drain thread as the ring's consumer: where it starts, sleeps, wakes and reattaches (KMES parts 12 to 14, 16). */
import assert from 'node:assert/strict';
import { closeSync, openSync, readdirSync, readFileSync, writeSync } from 'node:fs';
import { readRing } from '../../src/kmesd/ringReader.js';
import { native } from '../../src/native/addon.js';
import { Drain, inWorld, numbered, type Row, shape, TYPE, until } from '../fixtures/nativeRing.js';

const NEED_WAKE = 4096;
const EVENT_BYTES = 77 + TYPE.length + numbered(1).length;
/** Well below the finite timeout of the futex wait, so that only a real wake-up can explain it. */
const PROMPT_NS = 350_000_000n;

function poke(path: string, offset: number, bytes: Uint8Array): void {
  const fd = openSync(path, 'r+');
  writeSync(fd, bytes, 0, bytes.length, offset);
  closeSync(fd);
}

const needWake = (path: string) => readFileSync(path)[NEED_WAKE];
const asleep = (path: string) => until('sleep', () => needWake(path) === 1);

function tasks(): Set<string> {
  return new Set(readdirSync('/proc/self/task'));
}

/** Starts a drain and finds the OS threads that came with it. */
function drainAndThreads(start: () => Drain): { drain: Drain; threads: string[] } {
  const before = tasks();
  const drain = start();
  return { drain, threads: [...tasks()].filter((tid) => !before.has(tid)) };
}

// ---- Reading ----

inWorld('[KMES-118] the first attach starts at the tail', async (world) => {
  const producer = world.create();
  world.emit(producer, 4000);
  const oldest = [...readRing(world.path())][0]?.sequence ?? 0n;
  assert.ok(oldest > 1n);
  const channel = world.channel();
  const drain = world.drain([channel]);
  await drain.reached(4000n);
  assert.equal(shape(world.store(channel)), `gap 1..${oldest - 1n} ring_loss ${oldest}..4000`);
});

inWorld('[KMES-117] [KMES-92] every consumer has a position of its own', async (world) => {
  const producer = world.create(1 << 20);
  const [slow, fast] = [world.channel(5), world.channel()];
  const [stuck, free] = [world.drain([slow]), world.drain([fast])];
  world.emit(producer, 500);
  await free.reached(500n);
  assert.equal(shape(world.store(fast)), '1..500');
  await until('throttled', () => stuck.of('throttled').length > 0);
  assert.equal(native.drainStatus(stuck.handle).readPos, BigInt(5 * EVENT_BYTES));
  native.channelLimit(slow, 10_000);
  await stuck.reached(500n);
  assert.equal(shape(world.store(slow)), '1..500');
});

inWorld('[KMES-126] [ING-13] nothing of the stale bytes behind an event comes with it', async (world) => {
  const producer = world.create(65536);
  const stale = new Uint8Array(20_000).fill(0xee);
  for (let n = 0; n < 10; n++) native.producerEmit(producer, 0, { type: TYPE, payload: stale }, null);
  const channel = world.channel();
  const drain = world.drain([channel], { lastSequence: 10n });
  await asleep(world.path());
  for (let n = 11; n <= 30; n++) {
    const payload = new Uint8Array((n * 37) % 500).fill(0x11);
    native.producerEmit(producer, 0, { type: TYPE, payload }, null);
    await drain.reached(BigInt(n));
    const rows = world.store(channel);
    assert.deepEqual(
      rows.map((row) => row.kind === 'event' && [row.sequence, row.payload.length]),
      [[BigInt(n), payload.length]],
    );
    for (const row of rows) {
      assert.ok(row.kind === 'event' && row.payload.every((byte) => byte === 0x11));
    }
  }
});

inWorld(
  '[KMES-158] [KMES-161] clock steps in either direction are no gap and lose nothing',
  async (world) => {
    const producer = world.create();
    world.emit(producer, 6);
    const year = 31_536_000_000_000_000n;
    const now = native.realtimeNs();
    const stamps = [now, now + year, now - year, now - year, 1n, now];
    for (const [i, stamp] of stamps.entries()) {
      const bytes = Buffer.alloc(8);
      bytes.writeBigUInt64LE(stamp);
      poke(world.path(), 8192 + i * EVENT_BYTES + 8, bytes);
    }
    const channel = world.channel();
    const drain = world.drain([channel]);
    await drain.reached(6n);
    assert.equal(shape(world.store(channel)), '1..6');
    assert.equal(native.drainStatus(drain.handle).gaps, 0n);
  },
);

inWorld('[KMES-96] rubbish in the consumer page costs wake-ups, never events', async (world) => {
  const producer = world.create(1 << 20);
  const channel = world.channel();
  const drain = world.drain([channel]);
  await asleep(world.path());
  const rubbish = Uint8Array.from({ length: 4096 }, (_, i) => (i * 131 + 7) & 0xff);
  const rows: Row[] = [];
  for (let round = 0; round < 20; round++) {
    poke(world.path(), NEED_WAKE, rubbish);
    const last = world.emit(producer, 100, round * 100 + 1);
    assert.equal(last, BigInt(round * 100 + 100));
    await drain.reached(last);
    rows.push(...world.store(channel));
  }
  assert.equal(shape(rows), '1..2000');
});

// ---- Waiting ----

inWorld(
  '[KMES-127] [KMES-132] need_wake is set while the reader sleeps and clear while it is at work',
  async (world) => {
    const producer = world.create();
    const channel = world.channel(1);
    const drain = world.drain([channel]);
    await asleep(world.path());
    world.emit(producer, 3);
    await until('throttled', () => drain.of('throttled').length > 0);
    assert.equal(needWake(world.path()), 0, 'blocked on its channel, not on the futex');
    const counter = readFileSync(world.path()).readUInt32LE(128);
    world.emit(producer, 3, 4);
    assert.equal(readFileSync(world.path()).readUInt32LE(128), counter, 'so nobody pays for a wake-up');
    native.channelLimit(channel, 100);
    await drain.reached(6n);
    await asleep(world.path());
  },
);

inWorld('[KMES-128] [KMES-129] no moment of going to sleep loses a wake-up', async (world) => {
  const producer = world.create(1 << 20);
  const channel = world.channel();
  const drain = world.drain([channel]);
  let late = 0;
  for (let n = 1; n <= 400; n++) {
    // From before the reader polls to well after it sleeps, in steps of a few microseconds.
    const emitAt = native.monotonicNs() + BigInt(n) * 5_000n;
    while (native.monotonicNs() < emitAt);
    const before = native.monotonicNs();
    world.emit(producer, 1, n);
    await drain.reached(BigInt(n));
    if (native.monotonicNs() - before > PROMPT_NS) late++;
  }
  assert.equal(shape(world.store(channel)), '1..400');
  // A busy machine may hold up one or two; a lost wake-up repeats.
  assert.ok(late <= 2, `${late} events waited for the timeout`);
});

inWorld('[KMES-133] a stale need_wake costs one bump and changes nothing else', async (world) => {
  const producer = world.create();
  const channel = world.channel(1);
  const drain = world.drain([channel]);
  world.emit(producer, 2);
  await until('throttled', () => drain.of('throttled').length > 0);
  poke(world.path(), NEED_WAKE, Uint8Array.of(1));
  const counter = readFileSync(world.path()).readUInt32LE(128);
  world.emit(producer, 1, 3);
  assert.equal(readFileSync(world.path()).readUInt32LE(128), counter + 1);
  native.channelLimit(channel, 100);
  await drain.reached(3n);
  assert.equal(shape(world.store(channel)), '1..3');
  await asleep(world.path());
});

inWorld(
  '[KMES-160] [ING-9] a quiet ring has one thread, asleep without CPU time, that still wakes',
  async (world) => {
    const producer = world.create();
    const channel = world.channel();
    const { drain, threads } = drainAndThreads(() => world.drain([channel]));
    assert.equal(threads.length, 1);
    const thread = `/proc/self/task/${threads[0]}`;
    const switches = () =>
      Number(/^voluntary_ctxt_switches:\s+(\d+)/m.exec(readFileSync(`${thread}/status`, 'utf8'))?.[1]);
    /** User and system time in clock ticks of 10 ms: fields 14 and 15, behind the name in parentheses. */
    const ticks = () => {
      const stat = readFileSync(`${thread}/stat`, 'utf8');
      const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
      return Number(fields[11]) + Number(fields[12]);
    };
    await asleep(world.path());
    const [slept, used] = [switches(), ticks()];
    await until('two more timeouts', () => switches() >= slept + 2);
    assert.ok(ticks() - used <= 1, `${ticks() - used} ticks of CPU time for nothing`);
    await asleep(world.path());
    const before = native.monotonicNs();
    world.emit(producer, 1);
    await drain.reached(1n);
    assert.ok(native.monotonicNs() - before < PROMPT_NS);
  },
);

// ---- Rings side by side ----

inWorld(
  '[ING-9] [ING-2] a stalled reader leaves its events in the ring and holds up no other',
  async (world) => {
    const producers = [world.create(1 << 20, 0), world.create(1 << 20, 1)] as const;
    const [full, free] = [world.channel(10), world.channel()];
    const [stalled, other] = [world.drain([full]), world.drain([free], { cpu: 1 })];
    world.emit(producers[0], 2000);
    await until('throttled', () => stalled.of('throttled').length > 0);
    const out = world.take(full);
    await until('the next segment is full', () => native.channelStatus(full).rows === 10);
    await until('blocked', () => native.channelStatus(full).blocked === 1);
    world.emit(producers[1], 2000);
    await other.reached(2000n);
    assert.equal(shape(world.store(free)), '1..2000');
    const { events, readPos } = native.drainStatus(stalled.handle);
    assert.equal(events, 20n, 'one segment with the writer, one filling, nothing beyond');
    assert.equal(readPos, BigInt(20 * EVENT_BYTES));
    native.segmentCommitted(out.segment);
  },
);

inWorld(
  '[KMES-136] [ING-16] a sleeping reader learns of the swap at once, and reattaches without the others',
  async (world) => {
    const producers = [world.create(65536, 0), world.create(65536, 1)] as const;
    const channels = [world.channel(), world.channel()] as const;
    const drains = [world.drain([channels[0]]), world.drain([channels[1]], { cpu: 1 })] as const;
    await asleep(world.path(0));
    await asleep(world.path(1));
    const before = native.monotonicNs();
    native.producerResize(producers[0], 131_072);
    await until('generation', () => drains[0].of('generation').length > 0);
    assert.ok(native.monotonicNs() - before < PROMPT_NS);
    // CPU 0 waits for its ring; CPU 1 goes on.
    world.emit(producers[0], 20);
    world.emit(producers[1], 100);
    await drains[1].reached(100n);
    assert.deepEqual(drains[1].of('generation'), []);
    assert.equal(drains[0].last, 0n);
    const foreign = native.ringOpen(world.path(1)).ring;
    assert.throws(() => native.drainReattach(drains[0].handle, foreign), { code: 'EINVAL' });
    native.ringClose(foreign);
    native.drainReattach(drains[0].handle, native.ringOpen(world.path(0)).ring);
    await drains[0].reached(20n);
    assert.equal(shape(world.store(channels[0])), '1..20');
  },
);

inWorld(
  '[KMES-138] [KMES-139] [ING-18] after a swap the reader finds its place by sequence and lets the old ring go',
  async (world) => {
    const producer = world.create(131_072);
    const channel = world.channel();
    const drain = world.drain([channel]);
    world.emit(producer, 3000);
    await drain.reached(3000n);
    world.store(channel);
    const old = native.drainStatus(drain.handle).readPos;
    // A number that nobody stores: the tracker must carry over for the gap to be seen.
    native.producerEmit(producer, 0, { type: new Uint8Array(), payload: TYPE }, null);
    native.producerResize(producer, 65536);
    world.emit(producer, 5, 3002);
    await until('generation', () => drain.of('generation').length > 0);
    native.drainReattach(drain.handle, native.ringOpen(world.path()).ring);
    await drain.reached(3006n);
    const rows = world.store(channel);
    assert.equal(shape(rows), 'gap 3001..3001 ring_loss 3002..3006');
    const { readPos } = native.drainStatus(drain.handle);
    assert.equal(readPos, native.producerStatus(producer).writePos);
    assert.ok(readPos < old, 'positions of the old ring mean nothing in the new one');
    await until('reattached', () => drain.of('reattached').length > 0);
    const mapped = readFileSync('/proc/self/maps', 'utf8');
    assert.ok(!mapped.includes(`${world.path()} (deleted)`), 'the old ring is unmapped');
  },
);

inWorld('[ING-9] a mapped ring belongs to one drain thread', (world) => {
  world.create();
  const { ring } = native.ringOpen(world.path());
  const channel = world.channel();
  const first = new Drain({ ring, channels: [channel] });
  assert.throws(() => new Drain({ ring, channels: [channel] }), { code: 'EBUSY' });
  native.drainStop(first.handle);
});
