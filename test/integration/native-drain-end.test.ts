/** How drain threads end: asked to finish, stopped, or because the thread that started them is gone. */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';
import { setTimeout as delay } from 'node:timers/promises';
import { Worker } from 'node:worker_threads';
import { addonPath, type DrainHandle, native, type RingHandle } from '../../src/native/addon.js';
import { type Drain, inWorld, RingWorld, type Row, shape, until } from '../fixtures/nativeRing.js';

const ROUNDS = 20;

/** Brings a drain thread into one phase of its life; `maxRows` bounds its channel. */
const phases = {
  throttled: {
    maxRows: 5,
    report: 'throttled',
    enter: (world: RingWorld) => void world.emit(world.create(65536), 20),
  },
  'asleep on the futex': {
    maxRows: 100,
    report: 'idle',
    enter: (world: RingWorld) => void world.emit(world.create(65536), 20),
  },
  'awaiting the new ring': {
    maxRows: 100,
    report: 'generation',
    enter: (world: RingWorld) => {
      const producer = world.create(65536);
      world.emit(producer, 20);
      return () => native.producerResize(producer, 131072);
    },
  },
} as const;

const WORKER = `
  const { parentPort, workerData } = require('node:worker_threads');
  const native = require(workerData.addon);
  const ring = native.ringOpen(workerData.path).ring;
  const drain = native.drainStart({ ring, cpu: 0, channels: [workerData.channel], lastSequence: 0n,
    lastTimestamp: null, covered: new BigUint64Array(), elevatedPercent: 50, emergencyPercent: 80 },
    (report) => parentPort.postMessage({ type: report.type, ring, drain }));
  parentPort.postMessage({ type: 'started', ring, drain });`;

interface FromWorker {
  readonly type: string;
  readonly ring: RingHandle;
  readonly drain: DrainHandle;
}

/** Whole numbers covered by rows without hole or repetition, from 1; fails otherwise. */
function contiguous(rows: readonly Row[]): bigint {
  let next = 1n;
  for (const row of rows) {
    assert.equal(row.kind === 'event' ? row.sequence : row.first, next);
    next = (row.kind === 'event' ? row.sequence : row.last) + 1n;
  }
  return next - 1n;
}

for (const [phase, { maxRows, report, enter }] of Object.entries(phases)) {
  test(`[ING-8] [ING-17] terminating the thread of a drain thread that is ${phase} loses nothing, ${ROUNDS} times`, async () => {
    for (let round = 0; round < ROUNDS; round++) {
      const world = new RingWorld();
      try {
        const channel = world.channel(maxRows);
        const then = enter(world);
        const worker = new Worker(WORKER, {
          eval: true,
          workerData: { addon: addonPath, path: world.path(), channel },
        });
        const seen: FromWorker[] = [];
        worker.on('message', (message: FromWorker) => seen.push(message));
        await until('the thread', () => seen.length > 0);
        then?.();
        // Every other round meets the thread on its way into the phase instead of inside it.
        if (round % 2 === 0) await until(report, () => seen.some(({ type }) => type === report));
        await worker.terminate();
        const [{ ring, drain }] = seen as [FromWorker];
        assert.throws(() => native.ringStatus(ring), { code: 'ERR_HANDLE' });
        assert.throws(() => native.drainStatus(drain), { code: 'ERR_HANDLE' });
        assert.equal(native.channelStatus(channel).blocked, 0);

        const rows = world.store(channel);
        const stored = contiguous(rows);
        const next = world.drain([channel], { lastSequence: stored });
        await until('the rest', () => {
          rows.push(...world.store(channel));
          return contiguous(rows) >= 20n;
        });
        assert.equal(contiguous(rows), 20n);
        native.drainStop(next.handle);
      } finally {
        world.close();
      }
    }
  });
}

test(`[ING-8] a stop from one thread and the end of another may coincide, ${ROUNDS} times`, async () => {
  for (let round = 0; round < ROUNDS; round++) {
    const world = new RingWorld();
    try {
      const channel = world.channel(5);
      world.emit(world.create(65536), 20);
      const worker = new Worker(WORKER, {
        eval: true,
        workerData: { addon: addonPath, path: world.path(), channel },
      });
      const [{ drain, ring }] = (await once(worker, 'message')) as [FromWorker];
      const ended = worker.terminate();
      try {
        native.drainStop(drain);
      } catch (error) {
        assert.equal((error as { code?: string }).code, 'ERR_HANDLE');
      }
      await ended;
      assert.throws(() => native.ringStatus(ring), { code: 'ERR_HANDLE' });
      assert.throws(() => native.drainStop(drain), { code: 'ERR_HANDLE' });
    } finally {
      world.close();
    }
  }
});

inWorld(
  '[KMES-137] [ING-17] a ring that shrinks below what is unread is drained to its end first',
  async (world) => {
    const producer = world.create(262144);
    world.emit(producer, 100, 1, 1000);
    const channel = world.channel(2);
    const drain = world.drain([channel]);
    await until('throttled', () => drain.of('throttled').length > 0);
    native.producerResize(producer, 65536);
    const rows: Row[] = [];
    await until('generation', () => {
      rows.push(...world.store(channel));
      return drain.of('generation').length > 0;
    });
    native.drainReattach(drain.handle, native.ringOpen(world.path()).ring);
    world.emit(producer, 1, 101, 1000);
    await until('the end', () => {
      rows.push(...world.store(channel));
      return drain.last >= 101n;
    });
    rows.push(...world.store(channel));
    assert.equal(shape(rows), '1..101');
  },
);

const finished = (drain: Drain) => until('finished', () => drain.of('finished').length > 0);

inWorld(
  '[ING-17] a finish while the new ring is awaited ends the thread; no ring is taken then',
  async (world) => {
    const producer = world.create(65536);
    world.emit(producer, 3);
    const channel = world.channel();
    const drain = world.drain([channel]);
    await drain.reached(3n);
    native.producerResize(producer, 131072);
    world.emit(producer, 2, 4);
    await until('generation', () => drain.of('generation').length > 0);
    native.drainFinish(drain.handle);
    await finished(drain);
    assert.deepEqual(drain.of('finished'), [{ type: 'finished', lastSequence: 3n }]);
    const { ring } = native.ringOpen(world.path());
    assert.throws(() => native.drainReattach(drain.handle, ring), { code: 'EBUSY' });
    native.ringClose(ring);
    // What the new ring holds is for the next start.
    const next = world.drain([channel], { lastSequence: 3n });
    await next.reached(5n);
    assert.equal(shape(world.store(channel)), '1..5');
  },
);

inWorld(
  '[ING-17] [ING-16] a finish right behind the hand-over of a new ring includes that ring',
  async (world) => {
    const producer = world.create(65536);
    world.emit(producer, 3);
    const channel = world.channel(2);
    const drain = world.drain([channel]);
    await until('throttled', () => drain.of('throttled').length > 0);
    native.producerResize(producer, 131072);
    const rows = world.store(channel);
    await until('generation', () => drain.of('generation').length > 0);
    native.channelLimit(channel, 1000);
    world.emit(producer, 60, 4);
    // The thread may look up from its wait before the finish or after it; the new ring counts in both cases.
    native.drainReattach(drain.handle, native.ringOpen(world.path()).ring);
    native.drainFinish(drain.handle);
    await finished(drain);
    rows.push(...world.store(channel));
    assert.equal(shape(rows), '1..63');
  },
);

inWorld(
  '[ING-46] with its channel closed a thread still answers a finish, before or after',
  async (world) => {
    for (const [cpu, early] of [
      [0, true],
      [1, false],
    ] as const) {
      const producer = world.create(65536, cpu);
      world.emit(producer, 10);
      const channel = native.channelOpen(cpu, 4, 1 << 20);
      const drain = world.drain([channel], { cpu });
      await until('throttled', () => drain.of('throttled').length > 0);
      if (early) native.drainFinish(drain.handle);
      native.channelClose(channel);
      if (!early) {
        // Longer than a blocked thread waits before it looks again: nobody asked, nothing is reported.
        await delay(120);
        assert.deepEqual(drain.of('finished'), []);
        native.drainFinish(drain.handle);
      }
      await finished(drain);
      assert.deepEqual(drain.of('finished'), [{ type: 'finished', lastSequence: 4n }]);
      native.drainStop(drain.handle);
    }
  },
);

inWorld('[HOST-78] stop is prompt in every phase, and safe twice', async (world) => {
  const idle = world.create(65536, 0);
  world.emit(idle, 1);
  world.emit(world.create(65536, 1), 50);
  const replaced = world.create(65536, 2);
  world.emit(world.create(65536, 3), 50);
  const closed = native.channelOpen(3, 5, 1 << 20);
  const drains = [
    world.drain([world.channel()], { cpu: 0 }),
    world.drain([world.channel(5)], { cpu: 1 }),
    world.drain([world.channel()], { cpu: 2 }),
    world.drain([closed], { cpu: 3 }),
  ] as const;
  native.producerResize(replaced, 131072);
  await until('idle', () => drains[0].of('idle').length > 0);
  await until('asleep', () => readFileSync(world.path(0))[4096] === 1);
  await until('throttled', () => drains[1].of('throttled').length > 0);
  await until('generation', () => drains[2].of('generation').length > 0);
  await until('throttled', () => drains[3].of('throttled').length > 0);
  native.channelClose(closed);
  for (const drain of drains) {
    const before = native.monotonicNs();
    native.drainStop(drain.handle);
    native.drainStop(drain.handle);
    native.drainFinish(drain.handle);
    assert.ok(native.monotonicNs() - before < 400_000_000n);
  }
});
