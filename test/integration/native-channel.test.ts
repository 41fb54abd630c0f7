import assert from 'node:assert/strict';
import { native } from '../../src/native/addon.js';
import { inWorld, numbered, type Row, shape, TYPE, until } from '../fixtures/nativeRing.js';

// ---- Backpressure ----

inWorld(
  '[ING-42][ING-44][ING-45][ING-47] a full channel pauses the reader and nothing is lost',
  async (world) => {
    const producer = world.create(1 << 20);
    const channel = world.channel(100);
    world.emit(producer, 1000);
    const drain = world.drain([channel]);
    await until('throttled', () => drain.of('throttled').length > 0);
    assert.equal(native.channelStatus(channel).rows, 100);
    await until('blocked', () => native.channelStatus(channel).blocked === 1);
    const rows: Row[] = [];
    while (rows.length < 1000) {
      await until('rows', () => native.channelStatus(channel).rows > 0);
      const segment = world.take(channel);
      assert.ok(segment.rows <= 100);
      rows.push(...world.rows(segment.segment));
      native.segmentCommitted(segment.segment);
    }
    assert.equal(shape(rows), '1..1000');
    await until('resumed', () => drain.of('resumed').length > 0);
  },
);

inWorld('[ING-52][ING-54] half of the bytes is reported as half of the rows is', async (world) => {
  const producer = world.create(1 << 20);
  const channel = world.channel(10_000, 100_000);
  const drain = world.drain([channel]);
  world.emit(producer, 10, 1, 1000);
  await drain.reached(10n);
  await until('the first events', () => drain.of('available').length > 0);
  assert.ok(drain.of('available').every(({ halfFull }) => !halfFull));
  world.emit(producer, 50, 11, 1000);
  await until('half of the bytes', () => drain.of('available').some(({ halfFull }) => halfFull));
  assert.equal(native.channelStatus(channel).halfFull, true);
  assert.ok(native.channelStatus(channel).rows <= 60);
});

inWorld('[ING-43] while one segment is out the next fills, and a second take waits', async (world) => {
  const producer = world.create(1 << 20);
  const channel = world.channel(100);
  const drain = world.drain([channel]);
  world.emit(producer, 10);
  await drain.reached(10n);
  const out = world.take(channel);
  world.emit(producer, 10, 11);
  await drain.reached(20n);
  assert.equal(native.channelTake(channel), null);
  native.segmentCommitted(out.segment);
  assert.throws(() => native.segmentCommitted(out.segment), { code: 'ERR_HANDLE' });
  assert.equal(shape(world.store(channel)), '11..20');
});

inWorld(
  '[ING-55][ING-57] a lowered limit keeps what is queued and bounds the next segments',
  async (world) => {
    const producer = world.create(1 << 20);
    const channel = world.channel(500);
    const drain = world.drain([channel]);
    world.emit(producer, 250);
    await drain.reached(250n);
    native.channelLimit(channel, 100);
    world.emit(producer, 10, 251);
    await until('throttled', () => drain.of('throttled').length > 0);
    const sizes: number[] = [];
    const rows: Row[] = [];
    while (rows.length < 260) {
      await until('rows', () => native.channelStatus(channel).rows > 0);
      const segment = world.take(channel);
      sizes.push(segment.rows);
      rows.push(...world.rows(segment.segment));
      const [mark] = native.segmentWatermarks(segment.segment);
      assert.equal(mark?.last, BigInt(rows.length));
      assert.ok(mark.settled >= mark.last);
      native.segmentCommitted(segment.segment);
    }
    assert.deepEqual(sizes.slice(0, 2), [100, 100]);
    assert.ok(sizes.every((size) => size <= 100));
    assert.equal(shape(rows), '1..260');
  },
);

inWorld('[ING-42] the byte bound blocks, yet one event above it passes alone', async (world) => {
  const producer = world.create(1 << 20);
  const channel = world.channel(1000, 2000);
  const drain = world.drain([channel]);
  world.emit(producer, 3, 1, 10_000);
  await until('throttled', () => drain.of('throttled').length > 0);
  const rows: Row[] = [];
  while (rows.length < 3) {
    const segment = native.channelTake(channel);
    if (segment === null) {
      await until('rows', () => native.channelStatus(channel).rows > 0);
      continue;
    }
    assert.equal(segment.rows, 1);
    rows.push(...world.rows(segment.segment));
    native.segmentCommitted(segment.segment);
  }
  assert.equal(shape(rows), '1..3');
});

inWorld('[IDX-15] ring pressure is reported while the reader is blocked, with hysteresis', async (world) => {
  const producer = world.create(65536);
  const channel = world.channel(1);
  const drain = world.drain([channel]);
  world.emit(producer, 1);
  await drain.reached(1n);
  world.emit(producer, 400, 2);
  await until('elevated', () => drain.of('pressure').at(-1)?.level === 1);
  world.emit(producer, 200, 402);
  await until('emergency', () => drain.of('pressure').at(-1)?.level === 2);
  native.channelLimit(channel, 10_000);
  await until('normal', () => drain.of('pressure').at(-1)?.level === 0);
  assert.ok(native.drainStatus(drain.handle).peakFill > 0.8);
});

// ---- Watermarks ----

inWorld(
  '[STO-15][BOOT-8] with one shard the watermark is the last sequence of the segment',
  async (world) => {
    const producer = world.create(1 << 20);
    const channel = world.channel();
    const drain = world.drain([channel]);
    world.emit(producer, 10);
    await drain.reached(10n);
    const first = world.take(channel);
    world.emit(producer, 10, 11);
    await drain.reached(20n);
    assert.deepEqual(native.segmentWatermarks(first.segment), [{ cpu: 0, last: 10n, settled: 10n }]);
    native.segmentCommitted(first.segment);
    const second = world.take(channel);
    assert.deepEqual(native.segmentWatermarks(second.segment), [{ cpu: 0, last: 20n, settled: 20n }]);
  },
);

inWorld(
  '[STO-15][BOOT-9] with two shards nothing counts as settled that the other still holds',
  async (world) => {
    const producer = world.create(1 << 20);
    const [a, b] = [world.channel(), world.channel()];
    const drain = world.drain([a, b]);
    world.emit(producer, 10);
    await drain.reached(10n);
    const fromA = world.take(a);
    assert.deepEqual(native.segmentWatermarks(fromA.segment), [{ cpu: 0, last: 9n, settled: 1n }]);
    native.segmentCommitted(fromA.segment);
    const fromB = world.take(b);
    assert.deepEqual(native.segmentWatermarks(fromB.segment), [{ cpu: 0, last: 10n, settled: 10n }]);
    const runs = native.segmentLost(fromB.segment);
    assert.deepEqual(
      runs.map((run) => [run.kind, run.first, run.last]),
      [2n, 4n, 6n, 8n, 10n].map((n) => ['events', n, n]),
    );
    // The loss holds the watermark down until its gap records are committed.
    world.emit(producer, 2, 11);
    await drain.reached(12n);
    const next = world.take(a);
    assert.deepEqual(native.segmentWatermarks(next.segment), [{ cpu: 0, last: 11n, settled: 1n }]);
    native.segmentCommitted(next.segment);
    native.channelLossRecorded(b);
    const last = world.take(b);
    assert.deepEqual(native.segmentWatermarks(last.segment), [{ cpu: 0, last: 12n, settled: 12n }]);
  },
);

inWorld(
  '[STO-15] with five shards every committed watermark is a lower bound of what is stored',
  async (world) => {
    const producer = world.create(1 << 20);
    const channels = Array.from({ length: 5 }, () => world.channel(50));
    const drain = world.drain(channels);
    const stored = new Set<bigint>();
    let highest = 0n;
    let seed = 1;
    const total = 3000;
    let emitted = 0;
    while (stored.size < total) {
      if (emitted < total) {
        world.emit(producer, 100, emitted + 1);
        emitted += 100;
      }
      seed = (seed * 75 + 74) % 65537;
      const channel = channels[seed % 5];
      assert.ok(channel !== undefined);
      const segment = native.channelTake(channel);
      if (segment === null) {
        await until('anything', () => channels.some((each) => native.channelStatus(each).rows > 0));
        continue;
      }
      const [mark] = native.segmentWatermarks(segment.segment);
      assert.ok(mark !== undefined);
      for (const row of world.rows(segment.segment)) if (row.kind === 'event') stored.add(row.sequence);
      for (let n = highest + 1n; n <= mark.settled; n++) assert.ok(stored.has(n), `${n} <= ${mark.settled}`);
      if (mark.settled > highest) highest = mark.settled;
      native.segmentCommitted(segment.segment);
    }
    assert.equal(drain.last, BigInt(total));
    assert.ok(highest > 0n);
  },
);

inWorld('[ING-31][STO-15] two CPUs in one channel keep their own watermarks and lost runs', async (world) => {
  const producers = [world.create(65536, 0), world.create(65536, 1)] as const;
  const channel = world.channel();
  const drains = [
    world.drain([channel], { cpu: 0 }),
    world.drain([channel], { cpu: 1, lastSequence: 3n }),
  ] as const;
  world.emit(producers[0], 4);
  world.emit(producers[1], 7);
  await drains[0].reached(4n);
  await drains[1].reached(7n);
  const segment = world.take(channel);
  const marks = native.segmentWatermarks(segment.segment).sort((x, y) => x.cpu - y.cpu);
  assert.deepEqual(marks, [
    { cpu: 0, last: 4n, settled: 4n },
    { cpu: 1, last: 7n, settled: 7n },
  ]);
  const runs = native.segmentLost(segment.segment).sort((x, y) => x.cpu - y.cpu);
  assert.deepEqual(
    runs.map((run) => [run.cpu, run.first, run.last, run.previousTimestamp]),
    [
      [0, 1n, 4n, null],
      [1, 4n, 7n, null],
    ],
  );
});

inWorld(
  '[FAIL-9] [STO-8] a lost gap keeps its cause, its timestamps and when it was detected',
  async (world) => {
    const producer = world.create(65536);
    const channel = world.channel();
    const before = native.realtimeNs();
    const emitLost = (): void => {
      assert.equal(
        native.producerEmit(producer, 0, { type: new Uint8Array(), payload: numbered(1) }, null),
        null,
      );
    };
    world.emit(producer, 1);
    emitLost();
    world.emit(producer, 1);
    emitLost();
    world.emit(producer, 1);
    // Sequence 2 was lost while nobody read (a restart), 4 is lost to this run like any other.
    const resumed = world.drain([channel], { lastSequence: 1n, lastTimestamp: 77n });
    await resumed.reached(5n);
    const runs = native.segmentLost(world.take(channel).segment);
    assert.deepEqual(
      runs.map(({ kind, first, last, cause }) => [kind, first, last, cause]),
      [
        ['gap', 2n, 2n, 'restart'],
        ['events', 3n, 3n, null],
        ['gap', 4n, 4n, 'ring_loss'],
        ['events', 5n, 5n, null],
      ],
    );
    const [restart, event, loss] = runs;
    assert.ok(restart?.detectedAt && loss?.detectedAt);
    assert.ok(restart.detectedAt >= before && restart.detectedAt <= loss.detectedAt);
    assert.ok(loss.detectedAt <= native.realtimeNs());
    assert.equal(event?.detectedAt, null);
    assert.equal(event?.revealingTimestamp, null);
    assert.ok(loss.previousTimestamp !== null && loss.revealingTimestamp !== null);
  },
);

inWorld('[FAIL-9] 10,000 alternate sequences are listed fast, one run each', async (world) => {
  const producer = world.create(1 << 22);
  const [odd, even] = [world.channel(), world.channel()];
  const drain = world.drain([odd, even]);
  for (let i = 0; i < 20; i++) {
    native.producerEmitBatch(
      producer,
      0,
      Array.from({ length: 1000 }, () => ({ type: TYPE, payload: numbered(i) })),
      null,
    );
  }
  await drain.reached(20_000n);
  const segment = world.take(odd);
  assert.equal(segment.rows, 10_000);
  const before = native.monotonicNs();
  const runs = native.segmentLost(segment.segment);
  assert.ok(native.monotonicNs() - before < 300_000_000n);
  assert.equal(runs.length, 10_000);
  assert.ok(runs.every(({ first, last }, i) => first === BigInt(2 * i + 1) && last === first));
});

inWorld(
  '[ING-55] [STO-15] a limit lowered twice splits a segment into takes with exact watermarks',
  async (world) => {
    const producers = [world.create(1 << 18, 0), world.create(1 << 18, 1)] as const;
    const channel = world.channel(1000);
    const drains = [world.drain([channel], { cpu: 0 }), world.drain([channel], { cpu: 1 })] as const;
    for (let i = 0; i < 10; i++) {
      world.emit(producers[0], 10);
      world.emit(producers[1], 5);
      await drains[0].reached(BigInt(10 * (i + 1)));
      await drains[1].reached(BigInt(5 * (i + 1)));
    }
    const stored: [bigint, bigint] = [0n, 0n];
    const settled: [bigint, bigint] = [0n, 0n];
    for (const limit of [70, 70, 3, 3, 3]) {
      native.channelLimit(channel, limit);
      const segment = native.channelTake(channel);
      if (segment === null) break;
      assert.ok(segment.rows <= limit);
      for (const row of world.rows(segment.segment)) {
        assert.ok(row.kind === 'event' && row.sequence === stored[row.cpu as 0 | 1] + 1n);
        stored[row.cpu as 0 | 1] = row.sequence;
      }
      for (const mark of native.segmentWatermarks(segment.segment)) {
        assert.equal(mark.last, stored[mark.cpu as 0 | 1]);
        assert.equal(mark.settled, mark.last, 'everything up to the last row of this take, nothing after it');
        settled[mark.cpu as 0 | 1] = mark.settled;
      }
      native.segmentCommitted(segment.segment);
    }
    assert.deepEqual(settled, stored);
    assert.equal(stored[0] + stored[1], 149n);
    assert.equal(native.channelStatus(channel).rows, 1);
  },
);
