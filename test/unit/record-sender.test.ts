import assert from 'node:assert/strict';
import { test } from 'node:test';
import { decode } from '@msgpack/msgpack';
import { DatagramSender, MAX_DATAGRAM_BYTES } from '../../src/wire/datagramSender.js';
import { RecordQueue } from '../../src/wire/recordQueue.js';
import {
  encodeLog,
  encodeSample,
  InvalidRecord,
  LogSender,
  MetricSender,
  type Sample,
  sampleProblem,
} from '../../src/wire/recordSender.js';
import { until } from '../fixtures/wireServer.js';

const TIME = 1_777_636_801_123_456_789n;
const decoded = (bytes: Uint8Array) => decode(bytes, { useBigInt64: true });

/** A socket that answers as told, and keeps what it took. */
class FakeSocket {
  readonly taken: Uint8Array[] = [];
  attempts = 0;
  error: string | null = null;
  mostBytes = Number.POSITIVE_INFINITY;
  /** Datagrams until the queue is full. */
  room = Number.POSITIVE_INFINITY;

  readonly send = (_: string, datagram: Uint8Array): void => {
    this.attempts++;
    const code =
      this.error ?? (datagram.length > this.mostBytes ? 'EMSGSIZE' : this.room === 0 ? 'EAGAIN' : null);
    if (code !== null) throw Object.assign(new Error(code), { code });
    this.room--;
    this.taken.push(Uint8Array.from(datagram));
  };

  /** The records of all datagrams, in order. */
  get records(): unknown[] {
    return this.taken.flatMap(decoded);
  }
}

const numbers = (from: number, to: number) => Array.from({ length: to - from }, (_, i) => `line ${from + i}`);
const messages = (socket: FakeSocket) =>
  socket.records.map((record) => (record as { message: string }).message);
const turn = () => new Promise((resolve) => setImmediate(resolve));

function logs(socket: FakeSocket, options: { bufferBytes?: number; datagramBytes?: number } = {}): LogSender {
  return new LogSender({ path: '/fake', origin: 'o', send: socket.send, ...options });
}

test('[LOG-14] a log record has its fields with the types of the table', () => {
  const bytes = encodeLog({ origin: 'web', isError: true, message: 'm\u{1f600}', timestamp: TIME });
  assert.deepEqual(decoded(bytes), { origin: 'web', is_error: true, message: 'm\u{1f600}', timestamp: TIME });
  assert.ok(Buffer.from(bytes).includes(Buffer.from([0xcf])), 'the time is an unsigned 64-bit integer');
  assert.deepEqual(decoded(encodeLog({ origin: '', isError: false, message: '' })), {
    origin: '',
    is_error: false,
    message: '',
  });
});

test('[LOG-17] what would cost the record is mended or refused: half characters, impossible times', () => {
  const { message, origin } = decoded(
    encodeLog({ origin: '\udc00', isError: false, message: `a\ud800${'b'.repeat(100)}` }),
  ) as { message: string; origin: string };
  assert.equal(origin, '\ufffd');
  assert.equal(message, `a\ufffd${'b'.repeat(100)}`);
  for (const timestamp of [-1n, 2n ** 63n])
    assert.throws(() => encodeLog({ origin: 'o', isError: false, message: '', timestamp }), InvalidRecord);
  assert.doesNotThrow(() =>
    encodeLog({ origin: 'o', isError: false, message: '', timestamp: 2n ** 63n - 1n }),
  );
});

test('[MET-17] [MET-18] samples have their fields with the types of the tables, whole numbers as float64', () => {
  const gauge = encodeSample({ name: 'g', type: 'gauge', value: 42, labels: { core: '0' }, timestamp: TIME });
  assert.deepEqual(decoded(gauge), {
    name: 'g',
    labels: { core: '0' },
    type: 'gauge',
    timestamp: TIME,
    value: 42,
  });
  assert.equal(gauge[gauge.length - 9], 0xcb);
  assert.deepEqual(decoded(encodeSample({ name: 'c', type: 'counter', value: 0 })), {
    name: 'c',
    type: 'counter',
    value: 0,
  });
  const value = {
    boundaries: [0, 1, Number.POSITIVE_INFINITY],
    counts: [1, 2n, 2n ** 64n - 1n],
    totalCount: 7,
    sum: 3,
  };
  assert.deepEqual(decoded(encodeSample({ name: 'h', type: 'histogram', value })), {
    name: 'h',
    type: 'histogram',
    value: {
      boundaries: value.boundaries,
      counts: [1n, 2n, 2n ** 64n - 1n],
      total_count: 7n,
      sum: 3,
    },
  });
});

test('[MET-3] [MET-6] [MET-24] [MET-27] a sample that eventd would drop in silence is refused with the reason', () => {
  const gauge = (fields: object) => ({ name: 'n', type: 'gauge', value: 1, ...fields }) as Sample;
  const histogram = (fields: object) =>
    ({
      name: 'n',
      type: 'histogram',
      value: { boundaries: [1, 2], counts: [1, 2], totalCount: 2, sum: 1, ...fields },
    }) as Sample;
  const refused: [Sample, RegExp][] = [
    [gauge({ labels: { '': 'x' } }), /no key/],
    [gauge({ labels: { a: '' } }), /label a has no value/],
    [gauge({ labels: { 'a=b': 'x' } }), /'a=b' contains/],
    [gauge({ labels: { 'a,b': 'x' } }), /'a,b' contains/],
    [gauge({ labels: { a: 'x=y' } }), /'x=y' of label a contains/],
    [gauge({ labels: { a: 'x,y' } }), /'x,y' of label a contains/],
    [gauge({ labels: { a: '\ud800' } }), /not valid Unicode/],
    [gauge({ value: Number.NaN }), /finite number, not NaN/],
    [gauge({ value: Number.NEGATIVE_INFINITY }), /finite number/],
    [gauge({ type: 'counter', value: -0.5 }), /must not be negative/],
    [gauge({ timestamp: -1n }), /timestamp -1/],
    [histogram({ counts: [1] }), /2 boundaries must have as many counts, not 1/],
    [histogram({ boundaries: [1, 1] }), /boundary 2 .* not above/],
    [histogram({ boundaries: [2, 1] }), /boundary 2 .* not above/],
    [histogram({ boundaries: [Number.NaN, 1] }), /boundary 1 .* not a number/],
    [histogram({ counts: [0.5, 1] }), /whole numbers/],
    [histogram({ counts: [-1, 1] }), /whole numbers/],
    [histogram({ totalCount: 2n ** 64n }), /whole numbers/],
  ];
  const socket = new FakeSocket();
  const sender = new MetricSender({ path: '/fake', send: socket.send });
  for (const [sample, reason] of refused) {
    assert.match(sampleProblem(sample) ?? '', reason);
    assert.throws(() => sender.sample(sample), InvalidRecord);
  }
  assert.ok(sender.flush());
  assert.equal(socket.attempts, 0);
  for (const sample of [
    gauge({ value: -1 }),
    gauge({ type: 'counter', value: 0 }),
    histogram({ boundaries: [Number.NEGATIVE_INFINITY, Number.POSITIVE_INFINITY] }),
    histogram({ boundaries: [], counts: [] }),
    histogram({ counts: [5, 1], totalCount: 0 }),
  ])
    assert.equal(sampleProblem(sample), null);
});

test('[LOG-13] [MET-15] records of one turn go out together, as one array; one alone as a map', async () => {
  const socket = new FakeSocket();
  const sender = logs(socket);
  for (const line of numbers(0, 3)) sender.log(line);
  assert.equal(socket.attempts, 0);
  await turn();
  assert.equal(socket.taken.length, 1);
  assert.deepEqual(messages(socket), numbers(0, 3));
  sender.log('line 3', { isError: true, origin: 'other' });
  await turn();
  assert.deepEqual(decoded(socket.taken[1] ?? new Uint8Array()), {
    origin: 'other',
    is_error: true,
    message: 'line 3',
  });
  const metricSocket = new FakeSocket();
  const metrics = new MetricSender({ path: '/fake', send: metricSocket.send });
  metrics.counter('c', 1);
  metrics.gauge('g', -1, { a: 'b' });
  metrics.histogram('h', { boundaries: [1], counts: [1], totalCount: 1, sum: 1 });
  await turn();
  assert.deepEqual(
    metricSocket.taken.map((datagram) => (decoded(datagram) as { type: string }[]).map(({ type }) => type)),
    [['counter', 'gauge', 'histogram']],
  );
});

test('[LOG-13] datagrams stay below their bound, with array heads of all sizes', () => {
  for (const [count, datagramBytes, datagrams] of [
    [15, 1 << 20, 1],
    [16, 1 << 20, 1],
    [65_536, 1 << 22, 1],
    [5000, 8192, null],
  ] as const) {
    const socket = new FakeSocket();
    const sender = logs(socket, { bufferBytes: 1 << 23, datagramBytes });
    for (const line of numbers(0, count)) sender.log(line);
    assert.ok(sender.flush());
    if (datagrams !== null) assert.equal(socket.taken.length, datagrams);
    for (const datagram of socket.taken) assert.ok(datagram.length <= datagramBytes, `${datagram.length}`);
    assert.deepEqual(messages(socket), numbers(0, count));
  }
});

test('[LOG-69] one turn may send more than the buffer holds while the socket takes it', async () => {
  const socket = new FakeSocket();
  const sender = logs(socket, { bufferBytes: 10_000, datagramBytes: 2000 });
  for (const line of numbers(0, 2000)) sender.log(line);
  await turn();
  assert.equal(sender.dropped, 0);
  assert.deepEqual(messages(socket), numbers(0, 2000));
});

test('[LOG-69] a full buffer loses the oldest records, and counts them', () => {
  const socket = new FakeSocket();
  socket.error = 'ENOENT';
  const sender = logs(socket, { bufferBytes: 10_000 });
  for (const line of numbers(0, 1000)) sender.log(line);
  sender.flush();
  assert.equal(sender.dropped + sender.waiting, 1000);
  assert.ok(sender.waiting > 150 && sender.waiting < 250, `${sender.waiting} wait`);
  socket.error = null;
  assert.ok(sender.flush());
  assert.deepEqual(messages(socket), numbers(sender.dropped, 1000));
});

test('[LOG-69] the default buffer is 1 MiB', () => {
  const socket = new FakeSocket();
  socket.error = 'ENOENT';
  const sender = new DatagramSender({ path: '/fake', send: socket.send });
  const record = encodeLog({ origin: 'o', isError: false, message: 'x'.repeat(1000) });
  const fits = Math.floor((1024 * 1024) / (record.length + 4));
  for (let i = 0; i < fits; i++) sender.push(record);
  assert.equal(sender.dropped, 0);
  sender.push(record);
  assert.equal(sender.dropped, 1);
});

test('[LOG-68] [LOG-69] a full queue (EAGAIN) keeps the records, and the sender soon tries again by itself', async () => {
  const socket = new FakeSocket();
  socket.room = 2;
  const sender = logs(socket, { datagramBytes: 1000 });
  for (const line of numbers(0, 200)) sender.log(line);
  await turn();
  assert.equal(sender.failure?.code, 'EAGAIN');
  const waiting = sender.waiting;
  assert.ok(waiting > 100);
  socket.room = Number.POSITIVE_INFINITY;
  await until(() => sender.waiting === 0, 'the rest to go out', 2000);
  assert.equal(sender.failure, null);
  assert.equal(sender.dropped, 0);
  assert.deepEqual(messages(socket), numbers(0, 200));
});

for (const error of ['ENOENT', 'ECONNREFUSED', 'EACCES'])
  test(`[LOG-70] nobody there (${error}): the records wait, attempts become rare, and all go out when somebody is`, async () => {
    const socket = new FakeSocket();
    socket.error = error;
    const sender = logs(socket);
    sender.log('line 0');
    await until(() => socket.attempts === 3, 'three attempts');
    // Pauses of 50, 100 and 200 ms: nothing is sent for records that come meanwhile.
    sender.log('line 1');
    await turn();
    assert.equal(socket.attempts, 3);
    assert.equal(sender.failure?.code, error);
    socket.error = null;
    await until(() => sender.waiting === 0, 'the rest to go out');
    assert.deepEqual(messages(socket), ['line 0', 'line 1']);
    assert.equal(socket.taken.length, 1);
  });

test('[LOG-69] EMSGSIZE splits the batch; a record that is too big alone is counted, the others go out', () => {
  const socket = new FakeSocket();
  socket.mostBytes = 500;
  const sender = logs(socket);
  for (const line of [...numbers(0, 50), 'x'.repeat(600), ...numbers(50, 100)]) sender.log(line);
  assert.ok(sender.flush());
  assert.equal(sender.dropped, 1);
  assert.deepEqual(messages(socket), numbers(0, 100));
  // The sender has learnt: no datagram is too big any more.
  const before = { tries: socket.attempts, taken: socket.taken.length };
  for (const line of numbers(0, 50)) sender.log(line);
  assert.ok(sender.flush());
  assert.equal(socket.attempts - before.tries, socket.taken.length - before.taken);
  const big = logs(new FakeSocket());
  big.log('x'.repeat(MAX_DATAGRAM_BYTES));
  assert.deepEqual([big.dropped, big.waiting], [1, 0]);
});

test('drain says whether everything went out in time, and does not wait for a socket nobody has open', async () => {
  const socket = new FakeSocket();
  socket.room = 0;
  const sender = logs(socket);
  sender.log('line 0');
  const start = performance.now();
  assert.equal(await sender.drain(60), false);
  assert.ok(performance.now() - start >= 55);
  const drained = sender.drain(10_000);
  socket.room = 1;
  assert.equal(await drained, true);
  socket.error = 'ENOENT';
  sender.log('line 1');
  assert.equal(await sender.drain(60_000, 0), false);
  assert.equal(sender.waiting, 1);
  sender.close();
  assert.deepEqual([sender.waiting, sender.dropped], [0, 1]);
  sender.log('line 2');
  assert.equal(sender.dropped, 2);
});

test('[LOG-63] [LOG-68] room makes a source wait for a busy eventd, and neither for one that is away nor one that hangs', async () => {
  const socket = new FakeSocket();
  socket.room = 0;
  const sender = logs(socket, { bufferBytes: 10_000, datagramBytes: 1000 });
  for (const line of numbers(0, 150)) sender.log(line);
  await turn();
  let waits = true;
  const room = sender.room().then(() => {
    waits = false;
  });
  await turn();
  assert.ok(waits);
  socket.room = Number.POSITIVE_INFINITY;
  await room;
  assert.equal(sender.dropped, 0);
  socket.error = 'ECONNREFUSED';
  for (const line of numbers(0, 150)) sender.log(line);
  sender.flush();
  await sender.room();
  assert.ok(sender.waiting > 100);
  socket.error = null;
  socket.room = 0;
  sender.flush();
  const start = performance.now();
  await sender.room();
  const waited = performance.now() - start;
  assert.ok(waited > 900 && waited < 5000, `${waited} ms`);
  assert.ok(sender.waiting > 100);
});

test('[LOG-64] [LOG-67] what is held waits in the buffer and goes out first, in order, with its times', async () => {
  const socket = new FakeSocket();
  const sender = logs(socket);
  sender.hold();
  sender.log('line 0', { timestamp: 1n });
  sender.log('line 1', { timestamp: 2n });
  assert.equal(sender.flush(), false);
  await turn();
  assert.equal(socket.attempts, 0);
  sender.release();
  assert.deepEqual(socket.records, [
    { origin: 'o', is_error: false, message: 'line 0', timestamp: 1n },
    { origin: 'o', is_error: false, message: 'line 1', timestamp: 2n },
  ]);
});

test('[LOG-66] [LOG-69] the ring of records keeps the newest through every wrap, for records of all sizes', () => {
  const queue = new RecordQueue(1000);
  const expected: number[][] = [];
  let lost = 0;
  for (let round = 0; round < 2000; round++) {
    const record = Uint8Array.from({ length: 1 + ((round * 7) % 90) }, () => round % 128);
    const dropped = queue.push(record);
    lost += dropped;
    expected.splice(0, dropped);
    expected.push([...record]);
    if (round % 13 === 0) {
      queue.drop(2);
      expected.splice(0, 2);
    }
    assert.equal(queue.records, expected.length);
    assert.ok(queue.bytes <= 1000);
    const packed = queue.peek(10_000);
    if (packed === null) assert.equal(expected.length, 0);
    else {
      const head = packed.records === 1 ? 0 : packed.records < 16 ? 1 : 3;
      assert.deepEqual([...packed.datagram.subarray(head)], expected.flat());
    }
  }
  assert.ok(lost > 1000);
  assert.equal(queue.push(new Uint8Array(997)), 1);
  assert.equal(queue.records, expected.length);
});
