/** The client library as its users meet it: its own calls against a server, its examples against a real host. */
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import {
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { DevHost } from '../../src/devhost/host.js';
import {
  ConnectionFailure,
  Emitter,
  type EventRow,
  QueryFailure,
  query,
  tail,
} from '../../src/wire/index.js';
import { encodeEnd, encodeError, encodeResult } from '../../src/wire/messages.js';
import { startWireServer, until } from '../fixtures/wireServer.js';

const ROOT = fileURLToPath(new URL('../../../', import.meta.url));
const EXAMPLES = join(ROOT, 'docs/examples');

test('[WIRE-5] [WIRE-20] query yields rows, and fails with class, detail and position', async () => {
  await using server = await startWireServer((text, socket) => {
    socket.write(encodeResult([{ n: 1n }, { n: 2n ** 60n }]));
    socket.end(text.includes('bad') ? encodeError('parse error: character 8: no') : encodeEnd());
  });
  const rows: unknown[] = [];
  for await (const { n } of query('EVENTS', { socket: server.path })) rows.push(n);
  assert.deepEqual(rows, [1, 2n ** 60n]);
  await assert.rejects(
    async () => {
      for await (const _ of query('EVENTS bad', { socket: server.path }));
    },
    (error) =>
      error instanceof QueryFailure &&
      error.class === 'parse error' &&
      error.position === 8 &&
      /no$/.test(error.detail),
  );
  await assert.rejects(
    query('EVENTS', { socket: `${server.path}.none` }).next(),
    (error) => error instanceof ConnectionFailure && error.code === 'ENOENT',
  );
});

test('[QX-64] an aborted signal and a left loop close the connection', { timeout: 20_000 }, async () => {
  await using server = await startWireServer((_, socket) => {
    socket.write(encodeResult([{ n: 1n }, { n: 2n }]));
  });
  const abort = new AbortController();
  const reason = new Error('enough');
  await assert.rejects(
    async () => {
      for await (const _ of query('EVENTS', { socket: server.path, signal: abort.signal }))
        abort.abort(reason);
    },
    (error) => error === reason,
  );
  await server.closed(0);
  for await (const _ of query('EVENTS', { socket: server.path })) break;
  await server.closed(1);
});

test('[STR-2] [STR-4] tail adds STREAM, is ready with the first message, and goes on until it is closed', {
  timeout: 20_000,
}, async () => {
  let send: (n: bigint) => void = () => undefined;
  await using server = await startWireServer((_, socket) => {
    send = (n) => socket.write(encodeResult([{ n }]));
  });
  const events = tail('EVENTS a -- no TAKE', { socket: server.path });
  let isReady = false;
  void events.ready.then(() => {
    isReady = true;
  });
  await until(() => server.queries.length === 1, 'the query');
  assert.deepEqual([server.queries, isReady], [['EVENTS a -- no TAKE\nSTREAM'], false]);
  send(1n);
  await events.ready;
  const seen: unknown[] = [];
  const loop = (async () => {
    for await (const { n } of events) {
      seen.push(n);
      send(BigInt(seen.length + 1));
    }
  })();
  await until(() => seen.length >= 5, 'five records');
  assert.deepEqual(seen.slice(0, 5), [1, 2, 3, 4, 5]);
  await events.close();
  await loop;
  await server.closed(0);
});

test('[STR-15] [STR-14] a stream that eventd ends throws its class, in the loop and at ready', async () => {
  await using server = await startWireServer((text, socket) => {
    if (!text.includes('LOGS')) socket.write(encodeResult([{ n: 1n }]));
    socket.end(encodeError(text.includes('LOGS') ? 'shutting down: bye' : 'backpressure: too slow'));
  });
  const seen: unknown[] = [];
  await assert.rejects(
    async () => {
      for await (const { n } of tail('EVENTS STREAM', { socket: server.path })) seen.push(n);
    },
    (error) => error instanceof QueryFailure && error.class === 'backpressure',
  );
  assert.deepEqual([seen, server.queries], [[1], ['EVENTS STREAM']]);
  const logs = tail('LOGS', { socket: server.path });
  await assert.rejects(
    logs.ready,
    (error) => error instanceof QueryFailure && error.class === 'shutting down',
  );
  await logs.close();
  await using unanswered = tail('EVENTS', { socket: `${server.path}.none` });
  await assert.rejects(unanswered.ready, ConnectionFailure);
});

test('[QX-64] a tail that nobody loops over ends with its signal', { timeout: 20_000 }, async () => {
  await using server = await startWireServer((_, socket) => {
    socket.write(encodeResult([]));
  });
  const abort = new AbortController();
  const events = tail('EVENTS', { socket: server.path, signal: abort.signal });
  await events.ready;
  abort.abort(new Error('over'));
  await server.closed(0);
  await assert.rejects(events[Symbol.asyncIterator]().next(), { message: 'over' });
});

test('[WIRE-7] batches are what arrived together, never empty, and go on behind single records', async () => {
  await using server = await startWireServer((_, socket) => {
    for (const numbers of [[], [1n, 2n, 3n], [], [4n], [5n, 6n]])
      socket.write(encodeResult(numbers.map((n) => ({ n }))));
    socket.end(encodeEnd());
  });
  const seen: unknown[] = [];
  for await (const rows of query('EVENTS', { socket: server.path }).batches())
    seen.push(rows.map(({ n }) => n));
  assert.deepEqual(seen, [[1, 2, 3], [4], [5, 6]]);
  const records = query('EVENTS', { socket: server.path });
  assert.deepEqual((await records.next()).value?.n, 1);
  const rest: unknown[] = [];
  for await (const rows of records.batches()) rest.push(rows.map(({ n }) => n));
  assert.deepEqual(rest, [[2, 3], [4], [5, 6]]);
  assert.deepEqual(await records.next(), { done: true, value: undefined });
});

test('[WIRE-7] calls of next that do not wait for each other get the records in order, then the end', async () => {
  await using server = await startWireServer((_, socket) => {
    for (const numbers of [[1n], [2n, 3n]]) socket.write(encodeResult(numbers.map((n) => ({ n }))));
    socket.end(encodeEnd());
  });
  const records = query('EVENTS', { socket: server.path });
  const results = await Promise.all(Array.from({ length: 5 }, () => records.next()));
  assert.deepEqual(
    results.map(({ done, value }) => (done === true ? 'end' : value.n)),
    [1, 2, 3, 'end', 'end'],
  );
});

test('[QX-64] leaving batches, returning and throwing close the connection, and nothing comes any more', {
  timeout: 20_000,
}, async () => {
  await using server = await startWireServer((_, socket) => {
    socket.write(encodeResult([{ n: 1n }, { n: 2n }]));
  });
  const options = { socket: server.path };
  const left = query('EVENTS', options);
  for await (const rows of left.batches()) {
    assert.equal(rows.length, 2);
    break;
  }
  await server.closed(0);
  assert.deepEqual(await left.next(), { done: true, value: undefined });
  const returned = query('EVENTS', options);
  await returned.next();
  assert.deepEqual(await returned.return(), { done: true, value: undefined });
  await server.closed(1);
  assert.deepEqual(await returned.next(), { done: true, value: undefined });
  const reason = new Error('enough');
  const thrown = query('EVENTS', options);
  await thrown.next();
  await assert.rejects(thrown.throw(reason), (error) => error === reason);
  await server.closed(2);
  {
    await using disposed = query('EVENTS', options);
    await disposed.next();
  }
  await server.closed(3);
  const abort = new AbortController();
  const aborted = query('EVENTS', { ...options, signal: abort.signal });
  await aborted.next();
  abort.abort(reason);
  await assert.rejects(aborted.next(), (error) => error === reason);
  await server.closed(4);
  // Nothing was asked, so nothing is connected.
  await query('EVENTS', options).return();
  assert.equal(server.queries.length, 5);
});

test('[QX-64] return gives what it is given, and batches that are closed before their first next end the query', {
  timeout: 20_000,
}, async () => {
  await using server = await startWireServer((_, socket) => {
    socket.write(encodeResult([{ n: 1n }]));
  });
  const options = { socket: server.path };
  const given = { done: true, value: 5 };
  const withValue = (records: { return: unknown }) =>
    (records as { return(value: unknown): Promise<unknown> }).return(Promise.resolve(5));
  const unasked = query('EVENTS', options);
  assert.deepEqual(await withValue(unasked), given);
  const begun = query('EVENTS', options);
  await begun.next();
  const batches = begun.batches();
  assert.deepEqual(await withValue(batches), given);
  await server.closed(0);
  for (const ended of [unasked, begun, batches])
    assert.deepEqual(await ended.next(), { done: true, value: undefined });
  const thrown = query('EVENTS', options);
  const reason = new Error('enough');
  await assert.rejects(thrown.batches().throw(reason), (error) => error === reason);
  assert.equal((await thrown.next()).done, true);
  // A tail is connected before anybody loops.
  const watched = tail('EVENTS', options);
  await watched.ready;
  await watched.batches().return();
  await server.closed(1);
  await using _loop = await (async () => {
    const left = tail('EVENTS', options);
    await left.ready;
    await left[Symbol.asyncIterator]().return?.();
    return left;
  })();
  await server.closed(2);
});

for (const how of ['records', 'batches'] as const) {
  test(`[WIRE-7] whoever takes ${how} slowly makes the server wait: nothing is read ahead`, {
    timeout: 20_000,
  }, async () => {
    const total = 32 * 1024 * 1024;
    const frame = encodeResult([
      { n: 1n, pad: 'x'.repeat(30_000) },
      { n: 2n, pad: 'y'.repeat(30_000) },
    ]);
    let [sent, isBlocked] = [0, false];
    await using server = await startWireServer((_, socket) => {
      const pump = () => {
        isBlocked = false;
        while (sent < total) {
          sent += frame.length;
          if (socket.write(frame)) continue;
          isBlocked = true;
          socket.once('drain', pump);
          return;
        }
        socket.end(encodeEnd());
      };
      pump();
    });
    const records = query('EVENTS', { socket: server.path });
    const batches = records.batches();
    await (how === 'records' ? records : batches).next();
    await until(() => isBlocked, 'back pressure');
    assert.ok(sent < 4 * 1024 * 1024, `${sent} bytes left the server`);
    let seen = how === 'records' ? 1 : 2;
    if (how === 'records') for await (const _ of records) seen++;
    else for await (const rows of batches) seen += rows.length;
    assert.equal(seen, Math.ceil(total / frame.length) * 2);
  });
}

test('[STR-2] [STR-4] a tail gives batches as well, until it is closed', { timeout: 20_000 }, async () => {
  await using server = await startWireServer((_, socket) => {
    socket.write(encodeResult([{ n: 1n }, { n: 2n }]));
  });
  const events = tail('EVENTS', { socket: server.path });
  for await (const rows of events.batches()) {
    assert.deepEqual(
      rows.map(({ n }) => n),
      [1, 2],
    );
    await events.close();
  }
  await server.closed(0);
});

test('docs/client.md shows the examples as they are', () => {
  const text = readFileSync(join(ROOT, 'docs/client.md'), 'utf8');
  const shown = [...text.matchAll(/```js\n\/\/ examples\/([a-z]+\.mjs)\n([^`]*(?:`[^`]+`[^`]*)*?)```/g)];
  assert.deepEqual(shown.map(([, name]) => name).sort(), readdirSync(EXAMPLES).sort());
  for (const [, name, code] of shown) assert.equal(code, readFileSync(join(EXAMPLES, name ?? ''), 'utf8'));
});

/** A folder in which `import 'eventd'` finds this package. */
function userFolder(): string {
  const folder = mkdtempSync(join(tmpdir(), 'client-'));
  const installed = join(folder, 'node_modules/eventd');
  mkdirSync(installed, { recursive: true });
  const manifest = JSON.parse(readFileSync(join(ROOT, 'package.json'), 'utf8'));
  const { name, type, exports } = manifest;
  writeFileSync(join(installed, 'package.json'), JSON.stringify({ name, type, exports }));
  symlinkSync(join(ROOT, 'dist'), join(installed, 'dist'));
  for (const example of readdirSync(EXAMPLES))
    writeFileSync(join(folder, example), readFileSync(join(EXAMPLES, example)));
  return folder;
}

test('[HOST-76] every example of docs/client.md runs against a real eventd and kmesd', {
  timeout: 60_000,
}, async (t) => {
  const folder = userFolder();
  const host = new DevHost({ dir: join(folder, 'data'), kmsg: false, process: false });
  t.after(async () => {
    await host.stop();
    rmSync(folder, { recursive: true, force: true });
  });
  await host.start();
  const { querySocket, logSocket, metricSocket, kmes } = host.paths;
  const start = (name: string) => {
    const child = spawn(process.execPath, [name], {
      cwd: folder,
      env: {
        PATH: process.env.PATH,
        EVENTD_SOCKET: querySocket,
        EVENTD_LOG_SOCKET: logSocket,
        EVENTD_METRIC_SOCKET: metricSocket,
        EVENTD_KMES_DIR: kmes,
      },
    });
    t.after(() => child.kill('SIGKILL'));
    let out = '';
    child.stdout.on('data', (text) => {
      out += text;
    });
    child.stderr.on('data', (text) => {
      out += text;
    });
    return { out: () => out, done: new Promise((resolve) => child.once('close', resolve)).then(() => out) };
  };
  const stored = async (text: string, count: number) => {
    const deadline = performance.now() + 15_000;
    for (;;) {
      const rows: unknown[] = [];
      for await (const row of query(text, { socket: querySocket })) rows.push(row);
      if (rows.length >= count) return rows;
      assert.ok(performance.now() < deadline, `${text}: ${rows.length} of ${count}`);
    }
  };

  assert.equal(await start('emit.mjs').done, '1 emitted, then EINVAL\ntoo big: ENOSPC\n');
  assert.equal(await start('send.mjs').done, 'given up: 0 lines, 0 samples\n');
  const [backup] = await stored('EVENTS demo.backup SELECT id, bytes', 1);
  assert.deepEqual({ ...(backup as object) }, { id: 2n ** 64n - 1n, bytes: 81920 });
  const [error] = await stored('LOGS FROM thermostat ERROR ONLY SELECT message', 1);
  assert.deepEqual({ ...(error as object) }, { message: 'sensor 3 does not answer' });
  const samples = await stored('METRIC *[] WHERE name IN ("room.temperature", "sensor.latency")', 2);
  assert.deepEqual(
    (samples as EventRow[]).map(({ name, room }) => [name, room]),
    [
      ['room.temperature', 'kitchen'],
      ['sensor.latency', undefined],
    ],
  );
  assert.match(
    await start('query.mjs').done,
    /^\d{4}-\d\d-\d\dT[\d:.]+Z demo\.step on CPU 0\n[\s\S]* demo\.backup on CPU 0\n/,
  );
  assert.match(await start('errors.mjs').done, /^3 records\nparse error at 13: expected [^\n]+\n$/);

  const following = start('tail.mjs');
  await until(() => following.out().includes('watching'), 'the stream');
  const emitter = await Emitter.connect({ directory: kmes });
  for (const n of [1, 2, 3]) await emitter.emit('demo.tick', { n });
  emitter.close();
  assert.equal(await following.done, 'watching\ndemo.tick 1\ndemo.tick 2\ndemo.tick 3\n');
});
