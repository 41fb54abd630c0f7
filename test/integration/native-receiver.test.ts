import assert from 'node:assert/strict';
import { existsSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { Worker } from 'node:worker_threads';
import { encode } from '@msgpack/msgpack';
import { addonPath, native, type ReceiverHandle } from '../../src/native/addon.js';
import { datagramLoad } from '../fixtures/dgramload.js';
import { until } from '../fixtures/nativeRing.js';
import { inReceiverWorld, type LogRow, record } from '../fixtures/receivers.js';

/** Lets this thread do nothing at all for a while. */
function block(ms: number): void {
  Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, ms);
}

/** The number a message of the load generator begins with. */
function numberOf(row: LogRow): number {
  return Number(row.message.slice(0, 12));
}

// ---- Opening and closing ----

inReceiverWorld('[LOG-5][LOG-8] the socket file has the asked mode and goes with its receiver', (world) => {
  const before = process.umask(0o077);
  let receiver: ReceiverHandle;
  try {
    receiver = native.receiverOpen({ path: world.path, mode: 0o666, capacityBytes: 1 << 20 });
  } finally {
    process.umask(before);
  }
  const file = statSync(world.path);
  assert.ok(file.isSocket());
  assert.equal(file.mode & 0o777, 0o666);
  native.receiverClose(receiver);
  assert.ok(!existsSync(world.path));
  native.receiverClose(receiver);
  assert.throws(() => native.receiverStatus(receiver), { code: 'ERR_HANDLE' });
});

inReceiverWorld('[LOG-6][MET-14] a path that cannot be bound is named with its reason', (world) => {
  const open = (path: string) => () => native.receiverOpen({ path, mode: 0o600, capacityBytes: 1 << 20 });
  const long = join(world.directory, 'x'.repeat(120));
  assert.throws(open(long), (error: NodeJS.ErrnoException) => {
    assert.equal(error.code, 'EINVAL');
    assert.match(error.message, new RegExp(`${long} has ${long.length} bytes, the system allows 107`));
    return true;
  });
  assert.throws(open(''), { code: 'EINVAL', message: 'EINVAL: the socket path is empty' });
  const lost = join(world.directory, 'none', 'log.sock');
  assert.throws(open(lost), {
    code: 'ENOENT',
    message: `ENOENT: cannot bind the socket ${lost}: its directory does not exist`,
  });
  writeFileSync(world.path, 'kept');
  assert.throws(open(world.path), { code: 'EADDRINUSE' });
  assert.throws(open(join(world.path, 'x')), { code: 'ENOTDIR' });
  assert.equal(statSync(world.path).size, 4);
  rmSync(world.path);
  const exact = join(world.directory, 'x'.repeat(106 - world.directory.length));
  assert.equal(exact.length, 107);
  native.receiverClose(world.open(1 << 20, exact));
});

inReceiverWorld('[LIFE-201] a path that a successor has taken is left alone', (world) => {
  const receiver = world.open();
  rmSync(world.path);
  const successor = world.open();
  native.receiverFinish(receiver, 1 << 20, 100);
  native.receiverClose(receiver);
  assert.ok(existsSync(world.path));
  native.receiverClose(successor);
  assert.ok(!existsSync(world.path));
});

// ---- Arrival ----

inReceiverWorld('[LOG-7][LOG-30] 10,000 datagrams arrive in order, with times of receipt', async (world) => {
  const receiver = world.start(8 << 20);
  const from = native.realtimeNs();
  const rows: LogRow[] = [];
  const load = datagramLoad(world.path, { datagrams: 10_000 });
  await until('10,000 records', () => {
    const batch = native.receiverTake(receiver);
    if (batch !== null) {
      assert.ok(batch.openedAt <= native.monotonicNs());
      rows.push(...world.drain(batch.batch));
    }
    return rows.length === 10_000;
  });
  const to = native.realtimeNs();
  assert.deepEqual(
    rows.map(numberOf),
    Array.from({ length: 10_000 }, (_, i) => i),
  );
  let last = from;
  for (const row of rows) {
    assert.ok(row.timestamp >= last && row.timestamp <= to);
    last = row.timestamp;
  }
  const { bytes } = await load;
  const { waiting, ...figures } = native.receiverStatus(receiver);
  assert.equal(waiting, 0);
  assert.deepEqual(figures, {
    datagrams: 10_000n,
    bytes: BigInt(bytes),
    dropped: 0n,
    truncated: 0n,
    finished: false,
  });
});

inReceiverWorld(
  '[LOG-9][LOG-11][MET-16] a blocking sender goes on though nobody takes; drops are counted exactly',
  async (world) => {
    const receiver = world.start(64 * 1024);
    const load = datagramLoad(world.path, { datagrams: 20_000, message: 200 });
    block(300);
    const sent = await load;
    assert.equal(sent.datagrams, 20_000);
    assert.ok(sent.p99us < 250_000, `p99 of a send: ${sent.p99us} µs`);
    await world.received(receiver, 20_000);
    const { dropped, waiting } = native.receiverStatus(receiver);
    const first = world.take(receiver);
    const kept = world.drain(first.batch);
    const second = world.take(receiver);
    kept.push(...world.drain(second.batch));
    assert.equal(first.bytes + second.bytes, waiting);
    assert.equal(kept.length + Number(dropped), 20_000);
    assert.ok(dropped > 10_000n);
    // What came first is kept, without a hole.
    assert.deepEqual(
      kept.map(numberOf),
      Array.from({ length: kept.length }, (_, i) => i),
    );
    assert.equal(native.receiverTake(receiver), null);
    await datagramLoad(world.path, { datagrams: 10 });
    await world.received(receiver, 20_010);
    assert.equal(world.drain(world.take(receiver).batch).length, 10);
  },
);

inReceiverWorld('[LOG-12] the longest datagram passes, a longer one is dropped whole', async (world) => {
  const receiver = world.start(2 << 20);
  const sndbuf = 212_992;
  await datagramLoad(world.path, { datagrams: 1, size: 212_992, sndbuf });
  await datagramLoad(world.path, { datagrams: 3, size: 212_993, sndbuf });
  await datagramLoad(world.path, { datagrams: 1 });
  await world.received(receiver, 5);
  const status = native.receiverStatus(receiver);
  assert.equal(status.truncated, 3n);
  assert.equal(status.dropped, 0n);
  const batch = world.take(receiver);
  assert.equal(batch.datagrams, 2);
  assert.equal(world.drain(batch.batch).length, 1);
});

inReceiverWorld('[LOG-26] a thread that is busy is woken once for all that came', async (world) => {
  const receiver = world.start(8 << 20);
  const load = datagramLoad(world.path, { datagrams: 5000 });
  const deadline = Date.now() + 10_000;
  while (native.receiverStatus(receiver).datagrams < 5000n && Date.now() < deadline) block(5);
  assert.equal(world.wakes, 0);
  await load;
  await until('a wake-up', () => world.wakes === 1);
  assert.equal(world.drain(world.take(receiver).batch).length, 5000);
  await world.send(record('one more'));
  await until('another wake-up', () => world.wakes === 2);
});

inReceiverWorld('[LOG-24] an idle receiver uses no processor time', async (world) => {
  const receiver = world.start();
  await world.send(record('x'));
  await world.received(receiver, 1);
  const before = process.cpuUsage();
  block(500);
  const used = process.cpuUsage(before);
  assert.ok(used.user + used.system < 50_000, `${used.user + used.system} µs`);
});

inReceiverWorld(
  '[LOG-30] an injected datagram takes its place among the received ones while there is room',
  async (world) => {
    const receiver = world.start(16_384);
    await world.send(record('first'));
    await world.received(receiver, 1);
    assert.ok(native.receiverInject(receiver, encode(record('second'))));
    await world.send(record('third'));
    await world.received(receiver, 2);
    assert.equal(native.receiverStatus(receiver).datagrams, 2n);
    let injected = 0;
    while (native.receiverInject(receiver, encode(record('more')))) injected++;
    assert.ok(injected > 100);
    assert.equal(native.receiverStatus(receiver).dropped, 0n);
    const rows = world.drain(world.take(receiver).batch);
    rows.push(...world.drain(world.take(receiver).batch));
    assert.equal(rows.length, injected + 3);
    assert.deepEqual(
      rows.slice(0, 4).map((row) => row.message),
      ['first', 'second', 'third', 'more'],
    );
    assert.throws(() => native.receiverInject(receiver, new Uint8Array(212_993)), { code: 'EMSGSIZE' });
  },
);

// ---- Taking ----

inReceiverWorld('[LOG-32] while a batch is out the next one fills; handles die once', async (world) => {
  const receiver = world.start();
  assert.equal(native.receiverTake(receiver), null);
  await world.send(record('a'));
  await world.received(receiver, 1);
  const first = world.take(receiver);
  await world.send(record('b'));
  await world.received(receiver, 2);
  assert.equal(native.receiverTake(receiver), null);
  assert.equal(world.drain(first.batch)[0]?.message, 'a');
  assert.throws(() => native.datagramsRelease(first.batch), { code: 'ERR_HANDLE' });
  assert.throws(() => native.logDecode(first.batch, 1), { code: 'ERR_HANDLE' });
  assert.equal(world.drain(world.take(receiver).batch)[0]?.message, 'b');
});

// ---- Ending ----

inReceiverWorld(
  '[LIFE-201][LIFE-202][LOG-48] finishing refuses new traffic, reads the queue and says when it is done',
  async (world) => {
    const receiver = world.open();
    for (let i = 0; i < 5; i++) native.sendDatagram(world.path, new Uint8Array([0x80]));
    let calls = 0;
    native.receiverFinish(receiver, 1 << 20, 5000);
    native.receiverStart(receiver, () => calls++);
    assert.ok(!existsSync(world.path));
    assert.throws(() => native.sendDatagram(world.path, new Uint8Array([0x80])), { code: 'ENOENT' });
    await until('the end', () => native.receiverStatus(receiver).finished && calls > 0);
    assert.equal(native.receiverStatus(receiver).datagrams, 5n);
    assert.equal(world.take(receiver).datagrams, 5);
  },
);

inReceiverWorld('[LIFE-202] finishing keeps its bound under a sender that never stops', async (world) => {
  const receiver = world.start(4 << 20);
  const load = datagramLoad(world.path, { datagrams: 0, seconds: 30 });
  const refused = assert.rejects(load, /send: /);
  await world.received(receiver, 100);
  native.receiverFinish(receiver, 1 << 20, 5000);
  await until('the end', () => native.receiverStatus(receiver).finished, 5000);
  await refused;
  const { datagrams } = native.receiverStatus(receiver);
  block(20);
  assert.equal(native.receiverStatus(receiver).datagrams, datagrams);
});

// ---- Threads ----

const LISTENER = `
  const { parentPort, workerData } = require('node:worker_threads');
  const native = require(workerData.addonPath);
  native.receiverStart(workerData.receiver, () => parentPort.postMessage('available'));
  parentPort.postMessage('started');
  parentPort.on('message', () => parentPort.postMessage('pong'));
`;

/** A worker thread that listens to the receiver. */
class Listener {
  readonly #worker: Worker;
  calls = 0;
  started = false;

  constructor(receiver: ReceiverHandle) {
    this.#worker = new Worker(LISTENER, { eval: true, workerData: { addonPath, receiver } });
    this.#worker.on('message', (message: string) => {
      if (message === 'available') this.calls++;
      if (message === 'started') this.started = true;
    });
  }

  async end(): Promise<void> {
    await this.#worker.terminate();
  }
}

inReceiverWorld(
  '[LOG-11][LOG-24] a writer thread that dies leaves the socket being emptied, and its successor is woken',
  async (world) => {
    const receiver = world.open(1 << 20);
    const first = new Listener(receiver);
    await until('the first thread', () => first.started);
    await world.send(record('one'));
    await until('its wake-up', () => first.calls === 1);
    await first.end();
    const sent = await datagramLoad(world.path, { datagrams: 1000 });
    assert.equal(sent.datagrams, 1000);
    await world.received(receiver, 1001);
    const second = new Listener(receiver);
    await until('the wake-up of the second thread', () => second.calls === 1);
    assert.equal(world.drain(world.take(receiver).batch).length, 1001);
    await world.send(record('two'));
    await until('its second wake-up', () => second.calls === 2);
    assert.equal(first.calls, 1);
    native.receiverClose(receiver);
    await second.end();
  },
);

inReceiverWorld('[LOG-24] a thread takes over while the other lives, under load', async (world) => {
  const receiver = world.open(1 << 20);
  const load = datagramLoad(world.path, { datagrams: 0, seconds: 2, ratePerSecond: 5000 });
  const listeners: Listener[] = [];
  for (let i = 0; i < 4; i++) {
    const listener = new Listener(receiver);
    listeners.push(listener);
    await until('the thread', () => listener.started);
    await until('its wake-up', () => {
      const batch = native.receiverTake(receiver);
      if (batch !== null) native.datagramsRelease(batch.batch);
      return listener.calls > 0;
    });
    if (i % 2 === 0) await listener.end();
  }
  native.receiverClose(receiver);
  await assert.rejects(load, /send: /);
  await Promise.all(listeners.map((listener) => listener.end()));
});
