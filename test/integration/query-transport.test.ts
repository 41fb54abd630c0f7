import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { chmodSync, existsSync, mkdtempSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { promisify } from 'node:util';
import { encode } from '@msgpack/msgpack';
import { QueryService } from '../../actors/query/service.js';
import { EmbeddedCaller } from '../../src/access/embeddedCaller.js';
import { encodeFrame } from '../../src/wire/frame.js';
import { encodeRequest } from '../../src/wire/messages.js';
import { userToken } from '../fixtures/access.js';
import { writeShard } from '../fixtures/eventShards.js';
import { bindService, LIMITS, makeStore, startService } from '../fixtures/queryService.js';
import { ask, connectRaw, eventually, readAnswer } from '../fixtures/rawQueryClient.js';

const run = promisify(execFile);
const rows = (count: number) => Array.from({ length: count }, (_, i) => ({ timestamp: BigInt(i + 1) }));

test('[WIRE-1] [HOST-70] the socket is there for everybody and gone after the stop', async (t) => {
  const store = makeStore(t);
  const service = await startService(t, store);
  assert.equal(statSync(store.socketPath).mode & 0o777, 0o666);
  await service.stop();
  assert.equal(existsSync(store.socketPath), false);
  await service.stop();
});

test('[LIFE-137] a connection waits until the service accepts', async (t) => {
  const store = makeStore(t);
  writeShard(store.directory, 'shard-0000.db', rows(3));
  const service = await bindService(t, store);
  const socket = await connectRaw(store.socketPath);
  socket.write(encodeRequest('EVENTS'));
  const answer = readAnswer(socket);
  await eventually('the connection is held', () => service.stats().connections === 1);
  assert.equal(service.stats().running, 0);
  let answered = false;
  void answer.then(() => {
    answered = true;
  });
  await new Promise((resolve) => setTimeout(resolve, 50));
  assert.equal(answered, false);
  service.accept();
  assert.equal((await answer).records.length, 3);
});

test('[LIFE-115] a stale socket file is replaced', async (t) => {
  const store = makeStore(t);
  // A process that died without closing: the file stays, nobody answers.
  await run(process.execPath, [
    '-e',
    `require('net').createServer().listen(${JSON.stringify(store.socketPath)}, () => process.kill(process.pid, 'SIGKILL'))`,
  ]).catch(() => {});
  assert.ok(statSync(store.socketPath).isSocket());
  await startService(t, store);
  assert.ok((await ask(store.socketPath, 'EVENTS')).ended);
});

test('[LIFE-115] a socket that answers is left alone', async (t) => {
  const store = makeStore(t);
  const other = createServer(() => {}).listen(store.socketPath);
  t.after(() => other.close());
  await assert.rejects(bindService(t, store), /query\.sock: another process answers on this socket/);
  assert.ok(existsSync(store.socketPath));
});

test('[LIFE-115] [LIFE-130] what is no socket, a long path and a missing directory fail clearly', async (t) => {
  const store = makeStore(t);
  writeFileSync(store.socketPath, 'precious');
  await assert.rejects(bindService(t, store), /query\.sock: exists and is no socket/);
  const long = join(store.directory, 'x'.repeat(108 - store.directory.length - 1));
  await assert.rejects(bindService(t, { ...store, socketPath: long }), /at most 107 bytes, this one has 108/);
  const fits = long.slice(0, 107);
  await bindService(t, { ...store, socketPath: fits });
  const nowhere = join(store.directory, 'none', 'q.sock');
  await assert.rejects(bindService(t, { ...store, socketPath: nowhere }), /q\.sock: cannot be bound: E/);
});

test('[WIRE-9] the connection is closed after the end message', async (t) => {
  const store = makeStore(t);
  writeShard(store.directory, 'shard-0000.db', rows(2));
  const service = await startService(t, store);
  const answer = await ask(store.socketPath, 'EVENTS');
  assert.deepEqual(
    answer.messages.map(({ status }) => status),
    ['ok', 'end'],
  );
  await eventually('the session is gone', () => service.stats().connections === 0);
  const { connections, running, refused, failed, delivered } = service.stats();
  assert.deepEqual([connections, running, refused, failed, delivered], [0, 0, 0, 0, 1]);
});

test('[QX-7] [WIRE-20] a parse error is answered with its position, then the connection closes', async (t) => {
  const store = makeStore(t);
  const service = await startService(t, store);
  const answer = await ask(store.socketPath, 'EVENTS TAKE many');
  assert.match(answer.error ?? '', /^parse error: character \d+: /);
  assert.equal(answer.messages.length, 1);
  await eventually('it is counted', () => service.stats().refused === 1);
});

const malformed: readonly (readonly [string, Uint8Array])[] = [
  ['zero length', encodeFrame(new Uint8Array(0))],
  ['no map', encodeFrame(encode(['query', 'EVENTS']))],
  ['no query', encodeFrame(encode({ text: 'EVENTS' }))],
  ['query is no string', encodeFrame(encode({ query: 1 }))],
  ['invalid msgpack', encodeFrame(Uint8Array.of(0xc1))],
  ['invalid UTF-8', encodeFrame(Uint8Array.of(0x81, 0xa5, ...Buffer.from('query'), 0xa2, 0xc3, 0x28))],
  ['extra bytes', encodeFrame(Buffer.concat([encode({ query: 'EVENTS' }), Uint8Array.of(0xc0)]))],
];
for (const [title, bytes] of malformed) {
  test(`[WIRE-4] [WIRE-20] a malformed request is answered: ${title}`, async (t) => {
    const store = makeStore(t);
    await startService(t, store);
    const socket = await connectRaw(store.socketPath);
    const answer = readAnswer(socket);
    socket.write(bytes);
    assert.match((await answer).error ?? '', /^protocol error: /);
  });
}

test('[WIRE-4] unknown keys are ignored, and bytes may come one by one', async (t) => {
  const store = makeStore(t);
  writeShard(store.directory, 'shard-0000.db', rows(1));
  await startService(t, store);
  const socket = await connectRaw(store.socketPath);
  const answer = readAnswer(socket);
  for (const byte of encodeFrame(encode({ version: 9, query: 'EVENTS' }))) {
    await new Promise((resolve) => socket.write(Uint8Array.of(byte), resolve));
  }
  assert.equal((await answer).records.length, 1);
});

test('[WIRE-3] an oversize request is answered from its header alone; equal is allowed', async (t) => {
  const store = makeStore(t);
  await startService(t, store, { limits: { maxQueryMessageBytes: 1024 } });
  const text = (bytes: number): string => {
    const frame = (filler: number): number => encode({ query: `EVENTS -- ${'x'.repeat(filler)}` }).length;
    return `EVENTS -- ${'x'.repeat(1000 + bytes - frame(1000))}`;
  };
  assert.equal(encode({ query: text(1024) }).length, 1024);
  assert.ok((await ask(store.socketPath, text(1024))).ended);

  const socket = await connectRaw(store.socketPath);
  const answer = readAnswer(socket);
  const header = Buffer.alloc(4);
  header.writeUInt32LE(1025);
  socket.write(header);
  assert.match(
    (await answer).error ?? '',
    /^protocol error: request of 1025 bytes exceeds MaxQueryMessageBytes \(1024\)/,
  );

  const flooding = await connectRaw(store.socketPath);
  const flooded = readAnswer(flooding);
  flooding.write(encodeFrame(new Uint8Array(4 * 1024 * 1024)));
  assert.match((await flooded).error ?? '', /^protocol error: request of 4194304 bytes/);
});

test('[WIRE-8] one query per connection: a second frame is discarded', async (t) => {
  const store = makeStore(t);
  writeShard(store.directory, 'shard-0000.db', rows(5));
  await startService(t, store);
  const socket = await connectRaw(store.socketPath);
  const answer = readAnswer(socket);
  socket.write(
    Buffer.concat([encodeRequest('EVENTS TAKE 2'), encodeRequest('EVENTS'), new Uint8Array(100_000)]),
  );
  const { messages, records } = await answer;
  assert.equal(records.length, 2);
  assert.deepEqual(
    messages.map(({ status }) => status),
    ['ok', 'end'],
  );
});

test('[WIRE-9] a half-close after the request is no disconnect', async (t) => {
  const store = makeStore(t);
  writeShard(store.directory, 'shard-0000.db', rows(50_000));
  const service = await startService(t, store);
  const socket = await connectRaw(store.socketPath);
  socket.end(encodeRequest('EVENTS'));
  await new Promise((resolve) => socket.once('finish', resolve));
  // The presence check runs several times while nothing is read.
  await new Promise((resolve) => setTimeout(resolve, 200));
  assert.equal(service.stats().running, 1);
  const answer = await readAnswer(socket);
  assert.equal(answer.records.length, 50_000);
  assert.ok(answer.ended);
});

test('[WIRE-4] a stream that ends inside the request is answered', async (t) => {
  const store = makeStore(t);
  await startService(t, store);
  const socket = await connectRaw(store.socketPath);
  const answer = readAnswer(socket);
  socket.end(encodeRequest('EVENTS').subarray(0, 9));
  assert.match(
    (await answer).error ?? '',
    /^protocol error: the stream ended before the request was complete/,
  );
});

test('[WIRE-11] [QX-8] [ACL-27] [FAIL-28] without a token the query is denied, whatever it says', async (t) => {
  const store = makeStore(t);
  await startService(t, store, {
    callers: () => {
      throw new Error('EIO: kacs_open_peer_token');
    },
  });
  for (const text of ['EVENTS', 'EVENTS TAKE many']) {
    const answer = await ask(store.socketPath, text);
    assert.equal(answer.error, 'access denied: the identity of the caller could not be obtained', text);
  }
  assert.equal(store.log.at(-1)?.level, 'warn');
});

test('[ACL-1] [ACL-13] [ACL-31] who is neither SYSTEM nor administrator gets an empty result, no error', async (t) => {
  const store = makeStore(t);
  writeShard(store.directory, 'shard-0000.db', rows(5));
  await startService(t, store, { callers: () => new EmbeddedCaller(userToken(), null) });
  const answer = await ask(store.socketPath, 'EVENTS');
  assert.deepEqual(answer.messages, [{ status: 'ok', records: [] }, { status: 'end' }]);
  assert.match((await ask(store.socketPath, 'EVENTS TAKE many')).error ?? '', /^parse error:/);
});

test('[HOST-65] [HOST-66] the kernel tells who connects: another user sees nothing, we see all', async (t) => {
  const store = makeStore(t);
  writeShard(store.directory, 'shard-0000.db', rows(5));
  await startService(t, store);
  assert.equal((await ask(store.socketPath, 'EVENTS')).records.length, 5);
  // Only root can become somebody else.
  const stranger = process.getuid?.() === 0 ? { uid: 65534, gid: 65534 } : {};
  const script = `
    const socket = require('net').connect(process.argv[1]);
    const parts = [];
    socket.on('data', (part) => parts.push(part));
    socket.on('end', () => { socket.end(); process.stdout.write(Buffer.concat(parts).toString('latin1')); });
    socket.write(Buffer.from(process.argv[2], 'hex'));`;
  const request = Buffer.from(encodeRequest('EVENTS')).toString('hex');
  const { stdout } = await run(process.execPath, ['-e', script, store.socketPath, request], {
    ...stranger,
    cwd: '/',
    encoding: 'latin1',
  });
  assert.ok(stdout.includes('status'));
  assert.ok(stdout.endsWith('end'));
  assert.equal(stdout.includes('test.event'), stranger.uid === undefined);
});

test('[HOST-70] a directory where others could swap the socket is reported', async (t) => {
  const root = mkdtempSync(join(tmpdir(), 'eventd-open-'));
  t.after(() => rmSync(root, { recursive: true, force: true }));
  chmodSync(root, 0o777);
  const lines: string[] = [];
  const service = await QueryService.start({
    socketPath: join(root, 'q.sock'),
    eventStorePath: root,
    logStorePath: join(root, 'logs.db'),
    metricStorePath: join(root, 'metrics.db'),
    limits: LIMITS,
    logger: { info: () => {}, warn: (_, text) => lines.push(text), error: () => {} },
  });
  t.after(() => service.stop());
  assert.match(lines.join('\n'), /writable by others/);
});
