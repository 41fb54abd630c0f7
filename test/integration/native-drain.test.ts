import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { closeSync, openSync, readFileSync, writeSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { test } from 'node:test';
import { Worker } from 'node:worker_threads';
import { addonPath, native } from '../../src/native/addon.js';
import { inWorld, numbered, type Row, shape, TYPE, until } from '../fixtures/nativeRing.js';

const ringload = join(dirname(addonPath), 'ringload');

// ---- Draining ----

inWorld(
  '[ING-8][ING-10][ING-11] every event of the ring arrives once, in order, byte for byte',
  async (world) => {
    const producer = world.create(1 << 20);
    world.emit(producer, 300);
    const channel = world.channel();
    const drain = world.drain([channel]);
    await drain.reached(300n);
    await until('idle', () => drain.of('idle').length > 0);
    const rows = world.store(channel);
    assert.equal(shape(rows), '1..300');
    for (const [i, row] of rows.entries()) {
      assert.ok(row.kind === 'event');
      assert.deepEqual(new Uint8Array(row.payload), numbered(i + 1));
    }
    world.emit(producer, 5, 301);
    await drain.reached(305n);
    assert.equal(shape(world.store(channel)), '301..305');
    assert.equal(native.channelTake(channel), null);
  },
);

inWorld(
  '[ING-20][ING-23][KMES-156] on a fresh boot the first event k reveals the gap 1..k-1',
  async (world) => {
    const producer = world.create(65536);
    world.emit(producer, 5000);
    const channel = world.channel();
    const drain = world.drain([channel]);
    await drain.reached(5000n);
    const [gap, first, ...rest] = world.store(channel);
    assert.ok(gap?.kind === 'gap' && first?.kind === 'event');
    assert.equal(gap.first, 1n);
    assert.equal(gap.last, first.sequence - 1n);
    assert.equal(gap.cause, 'ring_loss');
    assert.equal(gap.previous, null);
    assert.ok(gap.revealing !== null && gap.revealing > 0n);
    assert.equal(rest.at(-1)?.kind, 'event');
    await until('gap report', () => drain.of('gap').length > 0);
    assert.deepEqual(drain.of('gap'), [{ type: 'gap', first: 1n, last: gap.last }]);
    assert.equal(native.drainStatus(drain.handle).lost, gap.last);
  },
);

inWorld(
  '[ING-21][ING-25][KMES-120] a lapped reader goes on at the tail and records the loss',
  async (world) => {
    const producer = world.create(65536);
    const channel = world.channel(10);
    const drain = world.drain([channel]);
    world.emit(producer, 10);
    await drain.reached(10n);
    world.emit(producer, 5000, 11);
    await until('throttled', () => drain.of('throttled').length > 0);
    const rows = world.store(channel);
    native.channelLimit(channel, 10_000);
    await drain.reached(5010n);
    rows.push(...world.store(channel));
    assert.equal(shape(rows.slice(0, 10)), '1..10');
    const gap = rows[10];
    assert.ok(gap?.kind === 'gap');
    assert.equal(gap.first, 11n);
    assert.ok(gap.previous !== null && gap.revealing !== null && gap.previous <= gap.revealing);
    assert.equal(shape(rows.slice(11)), `${gap.last + 1n}..5010`);
    await until('lapped', () => drain.of('lapped').length > 0);
  },
);

inWorld(
  '[BOOT-10][ING-19] after a restart stored events are skipped and only unknown numbers are gaps',
  async (world) => {
    const producer = world.create(1 << 20);
    world.emit(producer, 5);
    // Sequences 6 and 7 are dropped by the producer, 8 and 9 stored, 10 and 11 dropped.
    const drop = (): void => {
      assert.equal(native.producerEmit(producer, 0, { type: new Uint8Array(), payload: TYPE }, null), null);
    };
    drop();
    drop();
    world.emit(producer, 2, 8);
    drop();
    drop();
    world.emit(producer, 1, 12);
    drop();
    world.emit(producer, 1, 14);
    const channel = world.channel();
    const drain = world.drain([channel], { lastSequence: 5n, covered: BigUint64Array.from([8n, 9n]) });
    await drain.reached(14n);
    assert.equal(
      shape(world.store(channel)),
      'gap 6..7 restart gap 10..11 restart 12 gap 13..13 ring_loss 14',
    );
  },
);

inWorld('[BOOT-9] covered numbers are neither stored again nor part of a gap', async (world) => {
  const producer = world.create(1 << 20);
  world.emit(producer, 100);
  const odd = Array.from({ length: 40 }, (_, i) => BigInt(21 + 2 * i));
  const channel = world.channel();
  const drain = world.drain([channel], {
    lastSequence: 19n,
    covered: BigUint64Array.from(odd.flatMap((n) => [n, n])),
  });
  await drain.reached(100n);
  const even = Array.from({ length: 41 }, (_, i) => `${20 + 2 * i}`);
  assert.equal(shape(world.store(channel)), even.join(' '));
  assert.throws(() => world.drain([channel], { covered: BigUint64Array.from([5n, 4n]) }), { code: 'EINVAL' });
});

inWorld(
  '[ING-31] with several shards per CPU events go round-robin, each gap before its revealer',
  async (world) => {
    const producer = world.create(1 << 20);
    const channels = [world.channel(), world.channel(), world.channel()];
    world.emit(producer, 4);
    native.producerEmit(producer, 0, { type: new Uint8Array(), payload: TYPE }, null);
    world.emit(producer, 3, 6);
    const drain = world.drain(channels);
    await drain.reached(8n);
    assert.deepEqual(
      channels.map((channel) => shape(world.store(channel))),
      ['1 4 8', '2 gap 5..5 ring_loss 6', '3 7'],
    );
  },
);

inWorld('[KMES-124] a corrupt event is jumped over forwards and its loss recorded', async (world) => {
  const producer = world.create(65536);
  world.emit(producer, 10);
  const size = 77 + TYPE.length + numbered(1).length;
  const fd = openSync(world.path(), 'r+');
  writeSync(fd, Uint8Array.from([0xff, 0xff, 0xff, 0xff]), 0, 4, 8192 + 4 * size);
  closeSync(fd);
  const channel = world.channel();
  const drain = world.drain([channel]);
  await until('corrupt', () => drain.of('corrupt').length > 0);
  assert.deepEqual(drain.of('corrupt'), [{ type: 'corrupt', from: BigInt(4 * size), to: BigInt(10 * size) }]);
  world.emit(producer, 2, 11);
  await drain.reached(12n);
  assert.equal(shape(world.store(channel)), '1..4 gap 5..10 ring_loss 11..12');
});

// ---- Finish, stop, processes ----

inWorld('[ING-10] finish drains to the position of the call, through back pressure', async (world) => {
  const producer = world.create(1 << 20);
  const channel = world.channel(100);
  world.emit(producer, 500);
  const drain = world.drain([channel]);
  native.drainFinish(drain.handle);
  const rows: Row[] = [];
  await until('finished', () => {
    rows.push(...world.store(channel));
    return drain.of('finished').length > 0;
  });
  rows.push(...world.store(channel));
  assert.equal(shape(rows), '1..500');
  assert.deepEqual(drain.of('finished'), [{ type: 'finished', lastSequence: 500n }]);
  world.emit(producer, 5, 501);
  native.drainStop(drain.handle);
  native.drainStop(drain.handle);
  assert.equal(native.channelTake(channel), null);
});

inWorld('[HOST-78] stop is prompt for an idle and for a blocked thread', async (world) => {
  const idleRing = world.create(65536);
  world.emit(idleRing, 1);
  const idle = world.drain([world.channel()]);
  await until('idle', () => idle.of('idle').length > 0);
  world.emit(world.create(65536, 1), 50);
  const blocked = world.drain([world.channel(5)], { cpu: 1 });
  await until('throttled', () => blocked.of('throttled').length > 0);
  for (const drain of [idle, blocked]) {
    const before = native.monotonicNs();
    native.drainStop(drain.handle);
    assert.ok(native.monotonicNs() - before < 400_000_000n);
  }
});

inWorld('[KMES-131][HOST-78] an event wakes a sleeping drain thread at once', async (world) => {
  const producer = world.create(65536);
  world.emit(producer, 1);
  const drain = world.drain([world.channel()]);
  await until('idle', () => drain.of('idle').length > 0);
  await until('armed', () => readFileSync(world.path())[4096] === 1);
  const before = native.monotonicNs();
  world.emit(producer, 1, 2);
  await drain.reached(2n);
  assert.ok(native.monotonicNs() - before < 300_000_000n);
});

inWorld(
  '[KMES-60][HOST-75] killing producers at any moment leaves an intact ring with known losses',
  async (world) => {
    const producer = world.create(262144);
    const channel = world.channel(100_000);
    const drain = world.drain([channel]);
    const rows: Row[] = [];
    for (let round = 0; round < 8; round++) {
      const before = native.producerStatus(producer).sequence;
      const child = spawn(ringload, [world.directory, '--cpus', '1', '--events', '0', '--batch', '16'], {
        stdio: 'ignore',
      });
      const exited = once(child, 'exit');
      await until('events', () => {
        rows.push(...world.store(channel));
        return native.producerStatus(producer).sequence > before + 1000n;
      });
      child.kill('SIGKILL');
      await exited;
      world.emit(producer, 1);
    }
    const last = native.producerStatus(producer).sequence;
    await until('the end', () => {
      rows.push(...world.store(channel));
      return drain.last >= last;
    });
    rows.push(...world.store(channel));
    let next = 1n;
    for (const row of rows) {
      if (row.kind === 'gap') {
        assert.equal(row.first, next);
        next = row.last + 1n;
      } else {
        assert.equal(row.sequence, next);
        next++;
      }
    }
    assert.equal(next, last + 1n);
  },
);

inWorld('[ING-8] terminating the thread that started a drain thread ends it cleanly', async (world) => {
  world.emit(world.create(65536), 10);
  const channel = world.channel(5);
  const source = `
    const { parentPort, workerData } = require('node:worker_threads');
    const native = require(workerData.addon);
    const ring = native.ringOpen(workerData.path).ring;
    native.drainStart({ ring, cpu: 0, channels: [workerData.channel], lastSequence: 0n, lastTimestamp: null,
      covered: new BigUint64Array(), elevatedPercent: 50, emergencyPercent: 80 },
      (report) => { if (report.type === 'throttled') parentPort.postMessage(ring); });`;
  const worker = new Worker(source, {
    eval: true,
    workerData: { addon: addonPath, path: world.path(), channel },
  });
  const [ring] = await once(worker, 'message');
  await worker.terminate();
  assert.throws(() => native.ringStatus(ring), { code: 'ERR_HANDLE' });
  assert.equal(native.channelStatus(channel).blocked, 0);
  assert.equal(shape(world.store(channel)), '1..5');
});

test('[ING-12] handles of one kind are no handles of another', () => {
  const channel = native.channelOpen(0, 1, 1);
  assert.throws(() => native.ringStatus(channel as never), { code: 'ERR_HANDLE' });
  native.channelClose(channel);
  assert.throws(() => native.channelStatus(channel), { code: 'ERR_HANDLE' });
  assert.throws(() => native.channelTake(-1 as never), { code: 'ERR_HANDLE' });
  assert.throws(() => native.channelTake(Number.NaN as never), { code: 'ERR_HANDLE' });
});
