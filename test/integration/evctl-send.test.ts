import assert from 'node:assert/strict';
import { join } from 'node:path';
import { test } from 'node:test';
import { decode } from '@msgpack/msgpack';
import { native } from '../../src/native/addon.js';
import { LogSender, MetricSender } from '../../src/wire/recordSender.js';
import { RecordSink } from '../fixtures/recordSink.js';
import { runProgram } from '../fixtures/runProgram.js';
import { until } from '../fixtures/wireServer.js';

const LIMIT = { timeout: 60_000 };
const numbers = (count: number) => Array.from({ length: count }, (_, i) => `line ${i}`);

test(
  '[LOG-14] [LOG-16] lines of the command line are in the log store, with origin, class and the time they were read',
  LIMIT,
  async (t) => {
    const sink = new RecordSink(t, 'log').bind().read();
    const before = native.realtimeNs();
    const plain = await runProgram('evctl', [
      'log',
      '--log-socket',
      sink.path,
      'web',
      'one\ntwo',
      '',
      'gr\u00fc\u00df',
    ]).done;
    const error = await runProgram('evctl', ['log', '--error', 'web', 'bad'], {
      env: { EVENTD_LOG_SOCKET: sink.path },
    }).done;
    assert.deepEqual([plain.code, plain.stderr, error.code, error.stderr], [0, '', 0, '']);
    const lines = sink.lines();
    assert.deepEqual(
      lines.map(({ origin, isError, message }) => [origin, isError, message]),
      [
        ['web', 0n, 'one'],
        ['web', 0n, 'two'],
        ['web', 0n, ''],
        ['web', 0n, 'gr\u00fc\u00df'],
        ['web', 1n, 'bad'],
      ],
    );
    for (const { timestamp } of lines) assert.ok(timestamp >= before && timestamp <= native.realtimeNs());
  },
);

test(
  '[LOG-57] [LOG-58] [LOG-59] standard input goes line by line into the store, joined into few datagrams, none lost',
  LIMIT,
  async (t) => {
    const sink = new RecordSink(t, 'log').bind().read();
    const lines = numbers(50_000);
    const input = Buffer.concat([
      Buffer.from(`${lines.join('\n')}\n${'x'.repeat(10_000)}\n`),
      Buffer.from([0xff, 0x0a]),
      Buffer.from('last'),
    ]);
    const result = await runProgram('evctl', ['log', '--log-socket', sink.path, 'batch'], { input }).done;
    assert.deepEqual([result.code, result.stderr], [0, '']);
    assert.deepEqual(
      sink.lines().map(({ message }) => message),
      [...lines, `${'x'.repeat(8192)}[truncated]`, '\ufffd', 'last'],
    );
    assert.ok(sink.datagrams < 500n, `${sink.datagrams} datagrams`);
  },
);

test(
  '[LOG-68] [LOG-69] a queue that is full at first loses nothing of an input larger than the buffer',
  LIMIT,
  async (t) => {
    const sink = new RecordSink(t, 'log').bind();
    const lines = Array.from({ length: 60_000 }, (_, i) => `${i} ${'x'.repeat(100)}`);
    const program = runProgram('evctl', ['log', '--log-socket', sink.path, 'batch'], {
      input: lines.join('\n'),
    });
    // Nobody reads: probes find the queue full as soon as the program has filled it.
    await until(() => isFull(sink.path), 'the queue to be full');
    sink.read();
    const result = await program.done;
    assert.deepEqual([result.code, result.stderr], [0, '']);
    assert.deepEqual(
      sink.lines().map(({ message }) => message),
      lines,
    );
  },
);

/** An empty array is a datagram without records. */
function isFull(path: string): boolean {
  try {
    native.sendDatagram(path, new Uint8Array([0x90]));
    return false;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === 'EAGAIN';
  }
}

test(
  '[LOG-70] lines written while nobody has the socket are sent when somebody opens it anew',
  LIMIT,
  async (t) => {
    const sink = new RecordSink(t, 'log').bind().read();
    const program = runProgram('evctl', ['log', '--log-socket', sink.path, 'patient']);
    t.after(() => program.child.kill('SIGKILL'));
    program.child.stdin.write('before\n');
    await until(() => sink.datagrams === 1n, 'the first line');
    assert.equal(sink.lines().length, 1);
    sink.close();
    program.child.stdin.write('between\n');
    // The pipe is empty when the program has read the line.
    await until(() => program.child.stdin.writableLength === 0, 'the line to be read');
    sink.bind().read();
    program.child.stdin.write('after\n');
    await until(() => sink.datagrams > 0n, 'the socket to be found again');
    program.child.stdin.end();
    assert.deepEqual([(await program.done).code, program.stderr()], [0, '']);
    assert.deepEqual(
      sink.lines().map(({ message }) => message),
      ['before', 'between', 'after'],
    );
  },
);

test('without eventd: one line that says so, exit 1, at once', LIMIT, async (t) => {
  const sink = new RecordSink(t, 'log');
  const none = join(sink.directory, 'none.sock');
  for (const args of [
    ['log', '--log-socket', none, 'web', 'line'],
    ['metric', '--metric-socket', none, 'm', '1'],
  ]) {
    const { code, stderr } = await runProgram('evctl', args).done;
    assert.equal(code, 1);
    assert.match(stderr, /^evctl: .*none\.sock: no such socket; is it running\?\n$/);
  }
  // Standard input stays open: the first line is enough to find out.
  const piped = runProgram('evctl', ['log', '--log-socket', none, 'web']);
  piped.child.stdin.write('line\n');
  assert.equal((await piped.done).code, 1);
});

test(
  '[MET-2] [MET-17] [MET-18] samples of all three types are in the metric store under their series',
  LIMIT,
  async (t) => {
    const sink = new RecordSink(t, 'metric').bind().read();
    const metric = (...args: string[]) =>
      runProgram('evctl', ['metric', '--metric-socket', sink.path, ...args]).done;
    const before = native.realtimeNs();
    const histogram = { boundaries: [0.5, '+Inf'], counts: [1, 3], total_count: 3, sum: 2.5 };
    const results = [
      await metric('room.temperature', '-21.5', 'room=kitchen', 'floor=1', '__proto__=x'),
      await metric('--type', 'counter', 'requests.total', '1042'),
      await metric('--type', 'histogram', 'latency', JSON.stringify(histogram)),
    ];
    for (const { code, stderr } of results) assert.deepEqual([code, stderr], [0, '']);
    const samples = await sink.storedSamples(3);
    assert.deepEqual(
      samples.map(({ name, labels, type, value }) => [name, labels, type, value]),
      [
        ['room.temperature', '__proto__=x,floor=1,room=kitchen', 1n, -21.5],
        ['requests.total', '', 0n, 1042],
        ['latency', '', 2n, 0],
      ],
    );
    for (const { timestamp } of samples) assert.ok(timestamp >= before && timestamp <= native.realtimeNs());
    assert.deepEqual(decode(samples[2]?.histogram ?? new Uint8Array()), {
      boundaries: [0.5, Number.POSITIVE_INFINITY],
      counts: [1, 3],
      total_count: 3,
      sum: 2.5,
    });
  },
);

for (const [ids, args, message] of [
  ['[MET-3]', ['m', '1', 'a=b=c'], "value 'b=c' of label a contains '=' or ','"],
  ['[MET-3]', ['m', '1', 'a='], 'label a has no value'],
  ['[MET-3]', ['m', '1', '=b'], 'a label has no key'],
  ['[MET-3]', ['m', '1', 'a,b=c'], "label key 'a,b' contains '=' or ','"],
  ['[MET-3]', ['m', '1', 'plain'], "'plain' is no label=value"],
  ['[MET-3]', ['m', '1', 'a=b', 'a=c'], 'label a is given twice'],
  ['[MET-6]', ['--type', 'counter', 'm', '-1'], 'the value of a counter must not be negative, as -1 is'],
  ['[MET-27]', ['m', 'NaN'], "VALUE must be a number, not 'NaN'"],
  ['[MET-27]', ['m', '1e999'], 'the value of a gauge must be a finite number, not Infinity'],
  ['[MET-17]', ['--type', 'summary', 'm', '1'], "--type: must be gauge, counter or histogram, not 'summary'"],
  ['[MET-17]', ['m'], 'metric takes a NAME and a VALUE'],
  [
    '[MET-18]',
    ['--type', 'histogram', 'm', '{"boundaries": [1], "counts": [1], "sum": 1}'],
    'a histogram is a JSON object with boundaries, counts, total_count, sum; total_count is missing',
  ],
  [
    '[MET-24]',
    ['--type', 'histogram', 'm', '{"boundaries": [2, 1], "counts": [1, 2], "total_count": 2, "sum": 1}'],
    'boundary 2 of the histogram, 1, is not above the one before it',
  ],
] as const)
  test(
    `${ids} evctl metric ${args.join(' ')}: wrong usage, told before anything is sent`,
    LIMIT,
    async (t) => {
      const sink = new RecordSink(t, 'metric').bind();
      const result = await runProgram('evctl', ['metric', '--metric-socket', sink.path, ...args]).done;
      assert.equal(result.code, 2);
      assert.equal(result.stderr, `evctl: ${message} (see evctl metric --help)\n`);
      sink.read();
      assert.deepEqual(sink.samples(), []);
      assert.equal(sink.datagrams, 0n);
    },
  );

test('log wants an ORIGIN, and the help shows how to call it', LIMIT, async () => {
  assert.equal((await runProgram('evctl', ['log']).done).code, 2);
  for (const command of ['log', 'metric', 'run']) {
    const { code, stdout } = await runProgram('evctl', [command, '--help']).done;
    assert.equal(code, 0);
    assert.match(stdout.toString(), new RegExp(`^Usage: evctl ${command} [^]*\n {2}evctl ${command} `));
  }
});

test(
  '[LOG-13] [LOG-21] [MET-25] what the library sends, eventd takes: every record of every datagram',
  LIMIT,
  async (t) => {
    const logSink = new RecordSink(t, 'log').bind().read();
    const logs = new LogSender({ path: logSink.path, origin: 'lib' });
    const texts = ['', 'x'.repeat(31), 'x'.repeat(32), 'x'.repeat(256), 'x'.repeat(70_000), '\ud800', 'a\nb'];
    for (const [index, text] of texts.entries()) logs.log(text, { timestamp: BigInt(index) });
    assert.ok(await logs.drain(10_000));
    await until(() => logSink.lines().length === texts.length, 'the lines');
    assert.deepEqual(
      logSink.lines().map(({ timestamp, message }) => [timestamp, message]),
      texts.map((text, index) => [BigInt(index), text === '\ud800' ? '\ufffd' : text]),
    );
    const metricSink = new RecordSink(t, 'metric').bind().read();
    const metrics = new MetricSender({ path: metricSink.path });
    for (let i = 0; i < 1000; i++) metrics.gauge('g', i, { core: String(i % 4) });
    assert.ok(await metrics.drain(10_000));
    await until(() => metricSink.samples().length === 1000, 'the samples');
    assert.deepEqual(
      metricSink
        .samples()
        .map(({ value }) => value)
        .sort((a, b) => a - b),
      Array.from({ length: 1000 }, (_, i) => i),
    );
  },
);
