import assert from 'node:assert/strict';
import { test } from 'node:test';
import { ConnectionFailure, QueryFailure, query } from '../../src/wire/client.js';
import { encodeFrame } from '../../src/wire/frame.js';
import { encodeEnd, encodeError, encodeResult } from '../../src/wire/messages.js';
import { startServer, startWireServer, until } from '../fixtures/wireServer.js';

async function collect(path: string, text = 'EVENTS'): Promise<unknown[]> {
  const counts: unknown[] = [];
  for await (const record of query(path, text)) counts.push(record.get('n'));
  return counts;
}

test('[WIRE-5] [WIRE-8] records of several result messages arrive in order, and one request goes out', async () => {
  await using server = await startWireServer((_, socket) => {
    socket.write(encodeResult([{ n: 1n }, { n: 2n }]));
    socket.write(encodeResult([]));
    socket.end(Buffer.concat([encodeResult([{ n: 9007199254740993n }]), encodeEnd()]));
  });
  assert.deepEqual(await collect(server.path, 'EVENTS TAKE 3'), [1n, 2n, 9007199254740993n]);
  assert.deepEqual(server.queries, ['EVENTS TAKE 3']);
});

test('[WIRE-7] [WIRE-20] an error after results ends the iteration with its class, detail and position', async () => {
  await using server = await startWireServer((_, socket) => {
    socket.write(encodeResult([{ n: 1n }]));
    socket.end(encodeError('parse error: character 8: expected a clause, found "WERE"'));
  });
  const seen: unknown[] = [];
  await assert.rejects(
    async () => {
      for await (const record of query(server.path, 'EVENTS WERE')) seen.push(record.get('n'));
    },
    (error) =>
      error instanceof QueryFailure &&
      error.class === 'parse error' &&
      error.position === 8 &&
      error.detail === 'expected a clause, found "WERE"' &&
      error.message.startsWith('parse error: character 8: expected'),
  );
  assert.deepEqual(seen, [1n]);
});

test('[WIRE-20] an unknown class is passed on whole', () => {
  const failure = new QueryFailure('something new: 7');
  assert.equal(failure.class, null);
  assert.equal(failure.detail, 'something new: 7');
  assert.equal(new QueryFailure('timeout: character 5').position, null);
});

test('[WIRE-9] a connection that closes before the end message is a failure, not an end', async () => {
  await using server = await startWireServer((_, socket) => {
    socket.end(encodeResult([{ n: 1n }]));
  });
  await assert.rejects(
    collect(server.path),
    (error) => error instanceof ConnectionFailure && error.code === 'CLOSED',
  );
});

test('[WIRE-2] what is no eventd is told from one', async () => {
  for (const bytes of [encodeFrame(Buffer.from('hello')), Buffer.from('HTTP/1.1 400 Bad Request\r\n\r\n')]) {
    await using server = await startServer((socket) => socket.end(bytes));
    await assert.rejects(
      collect(server.path),
      (error) => error instanceof ConnectionFailure && error.code === 'MALFORMED',
    );
  }
});

test('[WIRE-1] a missing socket and an impossible path are named', async () => {
  await assert.rejects(
    collect('/nonexistent/query.sock'),
    (error) =>
      error instanceof ConnectionFailure &&
      error.code === 'ENOENT' &&
      error.message.includes('/nonexistent/query.sock'),
  );
  await assert.rejects(
    collect(`/${'x'.repeat(120)}`),
    (error) => error instanceof ConnectionFailure && error.code === 'ENAMETOOLONG',
  );
});

test('[QX-64] leaving the loop early closes the connection', { timeout: 10_000 }, async () => {
  await using server = await startWireServer((_, socket) => {
    socket.write(encodeResult([{ n: 1n }, { n: 2n }]));
    socket.resume();
  });
  for await (const record of query(server.path, 'EVENTS STREAM')) {
    assert.equal(record.get('n'), 1n);
    break;
  }
  await server.closed(0);
});

test('[QX-64] an aborted query ends with the reason and closes the connection', {
  timeout: 10_000,
}, async () => {
  await using server = await startWireServer((_, socket) => {
    socket.write(encodeResult([{ n: 1n }]));
    socket.resume();
  });
  const abort = new AbortController();
  const reason = new Error('enough');
  await assert.rejects(
    async () => {
      for await (const _ of query(server.path, 'EVENTS STREAM', { signal: abort.signal }))
        setImmediate(() => abort.abort(reason));
    },
    (error) => error === reason,
  );
  await server.closed(0);
});

test('[WIRE-7] a slow reader makes the server wait instead of filling memory', {
  timeout: 20_000,
}, async () => {
  const chunk = encodeResult([{ n: 1n, pad: 'x'.repeat(60_000) }]);
  let sent = 0;
  let blocked = false;
  await using server = await startWireServer((_, socket) => {
    const pump = () => {
      while (sent < 64 * 1024 * 1024) {
        sent += chunk.length;
        if (!socket.write(chunk)) {
          blocked = true;
          socket.once('drain', () => {
            blocked = false;
            pump();
          });
          return;
        }
      }
      socket.end(encodeEnd());
    };
    pump();
  });
  const records = query(server.path, 'EVENTS')[Symbol.asyncIterator]();
  await records.next();
  await until(() => blocked, 'back pressure');
  assert.ok(sent < 4 * 1024 * 1024, `${sent} bytes left the server`);
  let count = 1;
  for (let next = await records.next(); next.done !== true; next = await records.next()) count++;
  assert.equal(count, Math.ceil((64 * 1024 * 1024) / chunk.length));
});
