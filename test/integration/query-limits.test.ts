import assert from 'node:assert/strict';
import { type TestContext, test } from 'node:test';
import type { InspectionEvent } from 'xstate';
import { encodeRequest } from '../../src/wire/messages.js';
import { writeShard } from '../fixtures/eventShards.js';
import { LIMITS, makeStore, startService, type TestStore } from '../fixtures/queryService.js';
import { ask, connectRaw, eventually, readAnswer } from '../fixtures/rawQueryClient.js';

/** A search that keeps one SQLite step busy for many seconds: every row fails every one of many terms. */
const LONG_QUERY = `EVENTS WHERE ${Array.from({ length: 1500 }, (_, i) => `f${i} == "x"`).join(' OR ')}`;

function writeManyRows(store: TestStore): void {
  const payload = { name: 'n', size: 1, source: { name: 'm' } };
  for (let shard = 0; shard < 2; shard++) {
    const rows = Array.from({ length: 50_000 }, (_, i) => ({ timestamp: BigInt(i + 1), payload }));
    writeShard(store.directory, `shard-000${shard}.db`, rows);
  }
}

/** 64 MB of results: far more than sockets and credits hold. */
function writeBigRows(store: TestStore): number {
  const payload = { text: 'y'.repeat(16_000) };
  const rows = Array.from({ length: 4000 }, (_, i) => ({ timestamp: BigInt(i + 1), payload }));
  writeShard(store.directory, 'shard-0000.db', rows);
  return rows.length;
}

/** A service that has answered once, since a worker's start takes its time; then the time-out holds. */
async function startWarm(t: TestContext, store: TestStore, queryTimeoutMs: number) {
  const service = await startService(t, store);
  assert.ok((await ask(store.socketPath, 'EVENTS TAKE 1')).ended);
  service.updateLimits({ ...LIMITS, queryTimeoutMs });
  return service;
}

/** Connects and asks, but reads nothing. */
async function askSilently(path: string, query: string) {
  const socket = await connectRaw(path);
  socket.pause();
  socket.write(encodeRequest(query));
  return socket;
}

test('[QX-62] [QX-65] [QX-68] [FAIL-30] a long step ends within 200 ms of QueryTimeoutMs', async (t) => {
  const store = makeStore(t);
  writeManyRows(store);
  const service = await startWarm(t, store, 400);
  const answers: number[] = [];
  // Whoever else has the cores may delay an answer, so the promptest of three counts.
  while (answers.length < 3 && !answers.some((ms) => ms < 600)) {
    const started = performance.now();
    const answer = await ask(store.socketPath, LONG_QUERY);
    answers.push(performance.now() - started);
    assert.equal(answer.error, 'timeout: the query exceeded QueryTimeoutMs (400 ms)');
  }
  assert.ok(answers.every((ms) => ms >= 390) && Math.min(...answers) < 600, `answered after ${answers} ms`);
  // The slot comes back only when the worker has let go of its connections.
  await eventually('the search has ended', () => service.stats().running === 0, 200);
  assert.equal(service.stats().failed, answers.length);
  assert.ok((await ask(store.socketPath, 'EVENTS TAKE 1')).ended, 'the connections are usable again');
});

test('[QX-64] a disconnect in the middle of a long step cancels the query', async (t) => {
  const store = makeStore(t);
  writeManyRows(store);
  const service = await startService(t, store);
  const socket = await connectRaw(store.socketPath);
  socket.write(encodeRequest(LONG_QUERY));
  await eventually('the query runs', () => service.stats().running === 1);
  await new Promise((resolve) => setTimeout(resolve, 100));
  socket.destroy();
  const left = performance.now();
  await eventually('the query has ended', () => service.stats().running === 0, 1000);
  t.diagnostic(`cancelled ${Math.round(performance.now() - left)} ms after the disconnect`);
});

test('[QX-64] [WIRE-9] a client that half-closed and then leaves cancels, too', async (t) => {
  const store = makeStore(t);
  writeManyRows(store);
  const service = await startService(t, store);
  const socket = await connectRaw(store.socketPath);
  socket.end(encodeRequest(LONG_QUERY));
  await eventually('the query runs', () => service.stats().running === 1);
  await new Promise((resolve) => setTimeout(resolve, 200));
  assert.equal(service.stats().running, 1);
  socket.destroy();
  await eventually('the query has ended', () => service.stats().running === 0, 1000);
});

test('[QX-67] [QX-64] queries interleave, and a cancel hits only its own', async (t) => {
  const store = makeStore(t);
  const expected = writeBigRows(store);
  const service = await startService(t, store);
  // More readers than workers: each waits for its client, none holds up the others.
  const silent = await Promise.all(Array.from({ length: 6 }, () => askSilently(store.socketPath, 'EVENTS')));
  await eventually('all run', () => service.stats().running === 6);
  assert.equal((await ask(store.socketPath, 'EVENTS TAKE 3')).records.length, 3);
  for (const socket of silent.slice(0, 3)) socket.destroy();
  await eventually('three are cancelled', () => service.stats().running === 3);
  const answers = await Promise.all(silent.slice(3).map((socket) => readAnswer(socket)));
  for (const answer of answers) {
    assert.equal(answer.error, null);
    assert.equal(answer.records.length, expected);
  }
});

test('[QX-67] [QX-64] searches that find nothing for long let others through, and can be cancelled', async (t) => {
  const store = makeStore(t);
  writeManyRows(store);
  const service = await startWarm(t, store, 60_000);
  const searches = await Promise.all(
    Array.from({ length: 4 }, () => askSilently(store.socketPath, LONG_QUERY)),
  );
  await eventually('all run', () => service.stats().running === 4);
  for (let round = 0; round < 6; round++) {
    const started = performance.now();
    assert.equal((await ask(store.socketPath, 'EVENTS TAKE 3')).records.length, 3);
    t.diagnostic(`answered after ${Math.round(performance.now() - started)} ms`);
  }
  assert.equal(service.stats().running, 4, 'the searches still run');
  for (const socket of searches) socket.destroy();
  await eventually('the searches have ended', () => service.stats().running === 0, 1000);
  assert.ok((await ask(store.socketPath, 'EVENTS TAKE 1')).ended, 'the connections are usable again');
});

test('[QX-26] [QX-63] a slow reader holds up a few frames, not the result', async (t) => {
  const store = makeStore(t);
  const expected = writeBigRows(store);
  let arrived = 0;
  const onInspect = {
    next: (event: InspectionEvent) => {
      if (event.type === '@xstate.event' && event.event.type === 'frame.arrived') arrived++;
    },
  };
  await startService(t, store, { onInspect });
  const before = process.memoryUsage().rss;
  const socket = await askSilently(store.socketPath, 'EVENTS');
  await eventually('the first frames are there', () => arrived >= 2);
  await new Promise((resolve) => setTimeout(resolve, 300));
  // Two under credit, and what the socket buffers of kernel and client took.
  assert.ok(arrived <= 6, `${arrived} frames of 256 KiB arrived without a reader`);
  const grown = (process.memoryUsage().rss - before) / 2 ** 20;
  assert.ok(grown < 32, `memory grew by ${grown} MiB`);
  const answer = await readAnswer(socket);
  assert.equal(answer.records.length, expected);
  assert.ok(answer.ended);
});

test('[QX-63] waiting for a slow reader counts: its query times out and the connection closes', async (t) => {
  const store = makeStore(t);
  writeBigRows(store);
  const service = await startService(t, store, { limits: { queryTimeoutMs: 300 } });
  const socket = await askSilently(store.socketPath, 'EVENTS');
  await eventually('it times out', () => service.stats().failed === 1, 3000);
  assert.equal(service.stats().running, 0);
  socket.destroy();
});

test('[QX-63] [WIRE-9] a reader that wakes up after the timeout still gets the error behind its frames', async (t) => {
  const store = makeStore(t);
  writeBigRows(store);
  const service = await startWarm(t, store, 700);
  const socket = await askSilently(store.socketPath, 'EVENTS');
  await eventually('the search runs', () => service.stats().running === 1);
  await new Promise((resolve) => setTimeout(resolve, 1000));
  const answer = await readAnswer(socket);
  assert.ok(answer.records.length > 0);
  assert.match(answer.error ?? '', /^timeout:/);
});

test('[QX-63] an incomplete request is given up in the same time', async (t) => {
  const store = makeStore(t);
  const service = await startService(t, store, { limits: { queryTimeoutMs: 200 } });
  const socket = await connectRaw(store.socketPath);
  socket.write(encodeRequest('EVENTS').subarray(0, 6));
  const answer = await readAnswer(socket);
  assert.match(answer.error ?? '', /^timeout: the request was not complete/);
  await eventually('the connection is gone', () => service.stats().connections === 0);
});

test('[QX-61] [WIRE-20] one more than MaxConcurrentQueries is refused, and a slot comes back', async (t) => {
  const store = makeStore(t);
  writeBigRows(store);
  const service = await startService(t, store, { limits: { maxConcurrentQueries: 2 } });
  const holders = [
    await askSilently(store.socketPath, 'EVENTS'),
    await askSilently(store.socketPath, 'EVENTS'),
  ];
  await eventually('both run', () => service.stats().running === 2);
  const refused = await ask(store.socketPath, 'EVENTS');
  assert.match(refused.error ?? '', /^limit exceeded: .*MaxConcurrentQueries/);
  assert.equal(refused.messages.length, 1);
  assert.match((await ask(store.socketPath, 'EVENTS TAKE x')).error ?? '', /^parse error:/);
  holders[0]?.destroy();
  await eventually('a slot is free', () => service.stats().running === 1);
  assert.ok((await ask(store.socketPath, 'EVENTS TAKE 1')).ended);
  holders[1]?.destroy();
});

test('[QX-64] [CFG-73] changed limits hold for queries started later', async (t) => {
  const store = makeStore(t);
  writeBigRows(store);
  const service = await startService(t, store);
  const holder = await askSilently(store.socketPath, 'EVENTS');
  await eventually('it runs', () => service.stats().running === 1);
  service.updateLimits({
    ...LIMITS,
    maxConcurrentQueries: 1,
    maxQueryMessageBytes: 1024,
    queryTimeoutMs: 1000,
  });
  assert.match((await ask(store.socketPath, 'EVENTS')).error ?? '', /^limit exceeded:/);
  assert.match((await ask(store.socketPath, `EVENTS ${' '.repeat(2000)}`)).error ?? '', /^protocol error:/);
  const answer = await readAnswer(holder);
  assert.ok(answer.ended, 'the query started before is not touched');
});

test('[QX-61] the number of open connections is bounded as well', async (t) => {
  const store = makeStore(t);
  const service = await startService(t, store, { limits: { maxConcurrentQueries: 1 } });
  const idle = await Promise.all(Array.from({ length: 66 }, () => connectRaw(store.socketPath)));
  await eventually('all are accepted', () => service.stats().connections === 66);
  const answer = await ask(store.socketPath, 'EVENTS');
  assert.match(answer.error ?? '', /^limit exceeded: 66 connections/);
  for (const socket of idle) socket.destroy();
  await eventually('all are gone', () => service.stats().connections === 0);
  assert.ok((await ask(store.socketPath, 'EVENTS')).ended);
});

test('[STR-14] [LIFE-201] [LIFE-207] [LIFE-210] the stop ends queries with an error, in bounded time', async (t) => {
  const store = makeStore(t);
  writeManyRows(store);
  const service = await startService(t, store);
  const searching = ask(store.socketPath, LONG_QUERY);
  const socket = await connectRaw(store.socketPath);
  const waiting = readAnswer(socket);
  const deaf = await askSilently(store.socketPath, 'EVENTS');
  await eventually('both run', () => service.stats().running === 2 && service.stats().connections === 3);
  const started = performance.now();
  await service.stop();
  assert.ok(performance.now() - started < 3000);
  assert.match((await searching).error ?? '', /^shutting down:/);
  assert.match((await waiting).error ?? '', /^shutting down:/);
  assert.deepEqual([service.stats().running, service.stats().connections], [0, 0]);
  deaf.destroy();
  await assert.rejects(connectRaw(store.socketPath), /ENOENT/);
});
