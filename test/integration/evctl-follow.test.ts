/** evctl --follow: what it asks, what it shows, and how it ends. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { encodeError, encodeResult, type WireRecord } from '../../src/wire/messages.js';
import { EventdWorld } from '../fixtures/eventd.js';
import { runProgram } from '../fixtures/runProgram.js';
import { startWireServer, until } from '../fixtures/wireServer.js';

const T = 1_777_636_801_123_456_789n;
const event = (n: bigint): WireRecord => ({
  timestamp: T + n * 1000n,
  cpu_id: 0n,
  sequence: n,
  origin_class: 0n,
  event_type: 'demo.tick',
});
const places = (text: string) => [...text.matchAll(/ 0\/(\d+) /g)].map((match) => match[1]);

for (const [given, args, asked] of [
  ['nothing', [], 'EVENTS a\nTAKE 10 STREAM'],
  ['a limit', ['-n', '5'], 'EVENTS a\nTAKE 5 STREAM'],
  ['a beginning', ['--since', '1h ago'], 'EVENTS a\nSINCE 1h ago SORT timestamp STREAM'],
] as const)
  test(`[STR-1] --follow adds STREAM, and a little of the past in order, given ${given}`, async () => {
    await using server = await startWireServer((_, socket) => {
      socket.end(encodeError('limit exceeded: MaxStreamingQueries (1) streams are running'));
    });
    const result = await runProgram('evctl', ['-s', server.path, '-f', ...args, 'EVENTS a']).done;
    assert.deepEqual(server.queries, [asked]);
    assert.deepEqual(
      [result.code, result.stderr],
      [1, 'evctl: limit exceeded: MaxStreamingQueries (1) streams are running\n'],
    );
  });

test('[STR-1] --follow leaves a query with STREAM as it is, and one with a SORT its order', async () => {
  await using server = await startWireServer((_, socket) => {
    socket.end(Buffer.concat([encodeResult([event(2n), event(1n)]), encodeError('timeout: x')]));
  });
  const shown = async (query: string) =>
    places((await runProgram('evctl', ['-s', server.path, '-f', query]).done).stdout.toString());
  assert.deepEqual(await shown('EVENTS stream TAKE 2'), ['2', '1']);
  assert.deepEqual(await shown('EVENTS SORT n TAKE 2'), ['2', '1']);
  assert.deepEqual(await shown('EVENTS TAKE 2'), ['1', '2']);
  assert.deepEqual(server.queries, [
    'EVENTS stream TAKE 2',
    'EVENTS SORT n TAKE 2\nSTREAM',
    'EVENTS TAKE 2\nSTREAM',
  ]);
});

test('[STR-2] records of a stream are shown at once; SIGINT ends it with 0 and closes the connection', {
  timeout: 20_000,
}, async () => {
  let send: (record: WireRecord) => void = () => undefined;
  await using server = await startWireServer((_, socket) => {
    send = (record) => socket.write(encodeResult([record]));
    socket.write(Buffer.concat([encodeResult([event(3n), event(2n)]), encodeResult([event(1n)])]));
    socket.write(encodeResult([]));
  });
  const evctl = runProgram('evctl', ['-s', server.path, '-f', 'EVENTS']);
  await until(() => places(evctl.stdout()).length === 3, 'the past');
  send(event(4n));
  await until(() => places(evctl.stdout()).length === 4, 'what comes');
  assert.deepEqual(places(evctl.stdout()), ['1', '2', '3', '4']);
  evctl.child.kill('SIGINT');
  const result = await evctl.done;
  assert.deepEqual([result.code, result.signal, result.stderr], [0, null, '']);
  await server.closed(0);
});

for (const [frame, words] of [
  [
    encodeError('backpressure: the client reads too slowly'),
    /dropped because it was not read fast enough \(backpressure: the client reads too slowly\)\n$/,
  ],
  [
    encodeError('shutting down: eventd stops'),
    /the stream ended because eventd stops \(shutting down: eventd stops\)\n$/,
  ],
  [null, /eventd closed the stream without a word: it ended, or the stream was not read fast enough\n$/],
] as const)
  test(`[STR-15] [STR-14] [STR-16] a stream that eventd ends says why, exit 1: ${words.source.slice(0, 20)}`, async () => {
    await using server = await startWireServer((_, socket) => {
      socket.write(encodeResult([event(1n)]));
      if (frame === null) socket.end();
      else socket.end(frame);
    });
    const result = await runProgram('evctl', ['-s', server.path, '-f', '-o', 'jsonl', 'EVENTS']).done;
    assert.equal(result.code, 1);
    assert.match(result.stderr, words);
    assert.equal(result.stdout.toString().split('\n').length, 2);
  });

test('[STR-7] [STR-4] the groups a stream begins with are a table, the records behind them ordinary lines', async () => {
  const group: WireRecord = { event_type: 'demo.tick', count: 2n };
  await using server = await startWireServer((query, socket) => {
    const raw = query.startsWith('LOGS')
      ? { timestamp: T, origin: 'loregd', is_error: false, message: 'hello', boot_id: null }
      : { ...event(3n), pid: 42n };
    const first = query.startsWith('LOGS') ? { origin: 'loregd', count: 2n } : group;
    const frames = [encodeResult([first]), encodeResult([]), encodeResult([raw]), encodeError('timeout: x')];
    socket.end(Buffer.concat(frames));
  });
  const shown = async (query: string, ...args: string[]) =>
    (await runProgram('evctl', ['-s', server.path, '-f', ...args, query]).done).stdout.toString();
  const time = '2026-05-01T12:00:01.123456';
  assert.equal(
    await shown('EVENTS COUNT BY event_type'),
    `event_type  count\ndemo.tick       2\n${time}Z  0/3  demo.tick  pid=42\n`.replace('456Z', '459Z'),
  );
  assert.equal(
    await shown('LOGS COUNT BY origin'),
    `origin  count\nloregd      2\n${time}Z  loregd   hello\n`,
  );
  assert.equal(
    await shown('EVENTS COUNT BY event_type', '-o', 'csv'),
    'event_type,count,timestamp,cpu_id,sequence,origin_class,effective_token_guid,true_token_guid,process_guid,boot_id,*\r\n' +
      'demo.tick,2,,,,,,,,,\r\n' +
      `demo.tick,,${time}789Z,0,3,0,,,,,"{""pid"":42}"\r\n`.replace('456789Z', '459789Z'),
  );
  assert.equal(
    await shown('LOGS COUNT BY origin', '-o', 'csv'),
    `origin,count,timestamp,is_error,message,boot_id\r\nloregd,2,,,,\r\nloregd,,${time}789Z,false,hello,\r\n`,
  );
  assert.match(
    await shown('EVENTS COUNT BY event_type', '-o', 'jsonl'),
    /^{[^}]*"count":2}\n{"timestamp".*"pid":42}\n$/,
  );
});

test('[STR-11] a stopped reader of evctl does not hold up the stream', { timeout: 20_000 }, async () => {
  const many = encodeResult(Array.from({ length: 1000 }, (_, i) => event(BigInt(i))));
  const frames = 40;
  let sent = 0;
  await using server = await startWireServer((_, socket) => {
    const pump = () => {
      while (sent < frames && socket.write(many)) sent++;
    };
    socket.on('drain', pump);
    pump();
  });
  const evctl = runProgram('evctl', ['-s', server.path, '-f', '-o', 'jsonl', 'EVENTS']);
  evctl.child.stdout.pause();
  // 40 × 1000 records are several times what the pipe and both sockets hold.
  await until(() => sent === frames, 'everything sent', 15_000);
  evctl.child.kill('SIGKILL');
  await evctl.done;
});

test('[STR-2] [STR-14] --follow against eventd: a little of the past, then what is stored, until eventd stops', {
  timeout: 60_000,
}, async (t) => {
  const world = EventdWorld.for(t, { cpus: 1 });
  const run = await world.start();
  for (let n = 0; n < 2600; n++) world.emit(0, 'demo.tick');
  await world.stored(0);
  const first = runProgram('evctl', ['-s', world.paths.querySocket, '-f', 'EVENTS demo.*']);
  const second = runProgram('evctl', [
    ...['-s', world.paths.querySocket, '-f', '-o', 'csv', '--limit', '0'],
    'EVENTS demo.* SELECT sequence',
  ]);
  const third = runProgram('evctl', ['-s', world.paths.querySocket, '-f', '-n', '2500', 'EVENTS demo.*']);
  for (const { child } of [first, second, third]) t.after(() => child.kill('SIGKILL'));
  await until(() => places(first.stdout()).length === 10, 'the newest ten');
  const newest = (count: number) => Array.from({ length: count }, (_, i) => String(2601 - count + i));
  const past = newest(10);
  assert.deepEqual(places(first.stdout()), past);
  await until(() => places(third.stdout()).length === 2500, 'as many as asked for');
  assert.deepEqual(places(third.stdout()), newest(2500));
  third.child.kill('SIGKILL');
  world.emit(0, 'other.tick');
  // The other stream may not watch yet: it has nothing to show for it.
  await until(() => {
    world.emit(0, 'demo.tick');
    return second.stdout().includes('\r\n2');
  }, 'something new');
  const last = String(world.sequence(0));
  await until(() => places(first.stdout()).includes(last), 'all that is new');
  const shown = places(first.stdout());
  assert.deepEqual(shown, [
    ...past,
    ...Array.from({ length: shown.length - 10 }, (_, i) => String(2602 + i)),
  ]);
  first.child.kill('SIGINT');
  const ended = await first.done;
  assert.deepEqual([ended.code, ended.stderr], [0, '']);
  await run.end();
  const stopped = await second.done;
  assert.equal(stopped.code, 1);
  assert.match(stopped.stderr, /^evctl: the stream ended because eventd stops \(shutting down: [^\n]+\)\n$/);
  assert.match(stopped.stdout.toString(), /^sequence\r\n\d+\r\n/);
});
