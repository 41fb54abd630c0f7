/**
 * What queries hold in memory: bounded by QueryMemoryBytes, given back, and none for what streams through.
 * Takes some seconds: a time-out passes, threads break, and results must be large to prove anything.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { QueryMemory } from '../../actors/query/memory.js';
import { encodeRequest } from '../../src/wire/messages.js';
import { writeManyEvents } from '../fixtures/manyEvents.js';
import { LIMITS, makeStore, startService, type TestStore } from '../fixtures/queryService.js';
import { ask, connectRaw, eventually, readAnswer } from '../fixtures/rawQueryClient.js';
import { drain } from '../fixtures/resultDrain.js';

const MIB = 1024 * 1024;

/** 40,000 distinct names in two shards: megabytes of groups and of results. */
function writeNames(store: TestStore): void {
  for (let shard = 0; shard < 2; shard++) {
    writeManyEvents(store.directory, `shard-000${shard}.db`, { count: 40_000, names: 40_000 });
  }
}

async function askSilently(path: string, query: string) {
  const socket = await connectRaw(path);
  socket.pause();
  socket.write(encodeRequest(query));
  return socket;
}

test('[CFG-3] [QX-24] a query that needs more than QueryMemoryBytes ends, and the limit applies at once', async (t) => {
  const store = makeStore(t);
  writeNames(store);
  const service = await startService(t, store, { limits: { queryMemoryBytes: MIB } });
  const refused = await ask(store.socketPath, 'EVENTS COUNT BY name');
  assert.equal(
    refused.error,
    'limit exceeded: the running queries need more memory than the 1048576 bytes of QueryMemoryBytes; ' +
      'narrow SINCE and UNTIL, or group by a field of fewer values',
  );
  assert.equal(refused.records.length, 0);
  assert.equal(service.stats().memoryBytes, 0);
  // Few groups over the same rows need little.
  const small = await ask(store.socketPath, 'EVENTS COUNT BY event_type');
  assert.deepEqual(
    small.records.map(({ count }) => count),
    Array.from({ length: 10 }, () => 8_000),
  );
  service.updateLimits({ ...LIMITS, queryMemoryBytes: 64 * MIB });
  const whole = await ask(store.socketPath, 'EVENTS COUNT BY name');
  assert.equal(whole.error, null);
  assert.equal(whole.records.length, 40_000);
  assert.equal(service.stats().memoryBytes, 0);
});

test('[CFG-3] [QX-68] [QX-64] memory comes back however a query ends', async (t) => {
  const store = makeStore(t);
  writeNames(store);
  const service = await startService(t, store, {
    limits: { queryTimeoutMs: 10_000 },
    workerEntry: new URL('../fixtures/faultyQueryWorker.js', import.meta.url),
  });
  const held = () => service.stats().memoryBytes;
  const nothing = () => held() === 0 && service.stats().running === 0;
  const hold = async () => {
    const before = held();
    const socket = await askSilently(store.socketPath, 'EVENTS COUNT BY name');
    await eventually('it holds memory', () => held() > before + MIB);
    return socket;
  };
  const reader = await hold();
  assert.equal((await readAnswer(reader)).records.length, 40_000);
  assert.equal(held(), 0, 'delivered');

  const leaver = await hold();
  leaver.destroy();
  await eventually('the client has left', nothing);

  service.updateLimits({ ...LIMITS, queryTimeoutMs: 1000 });
  const slow = await askSilently(store.socketPath, 'EVENTS COUNT BY name');
  await eventually('it holds memory', () => held() > MIB);
  await eventually('it has timed out', nothing);
  slow.destroy();

  service.updateLimits(LIMITS);
  // One on each worker; then both threads break.
  const lost = [await hold(), await hold()];
  const answers = await Promise.all([0, 1].map(() => ask(store.socketPath, 'EVENTS TAKE 666')));
  for (const { error } of answers) assert.match(error ?? '', /^storage error: the query was lost/);
  await eventually('the workers are replaced', nothing);
  for (const socket of lost) socket.destroy();
  assert.deepEqual((await ask(store.socketPath, 'EVENTS COUNT')).records, [{ count: 80_000 }]);
});

test('[CFG-3] [QL-112] of a cross-type filter only its time ranges are held: a query may have many', async (t) => {
  const store = makeStore(t);
  writeManyEvents(store.directory, 'shard-0000.db', { count: 10, names: 1 });
  const service = await startService(t, store, { limits: { queryMemoryBytes: 2 * MIB } });
  const filters = Array.from({ length: 20 }, (_, n) => `METRIC m${n} > ${n}`);
  const { error, ended } = await ask(
    store.socketPath,
    `EVENTS SINCE 1h ago WHERE ${filters.join(' OR ')} OR LOG a EXISTS`,
  );
  assert.deepEqual([error, ended], [null, true]);
  assert.equal(service.stats().memoryBytes, 0);
});

test('[QX-62] [QX-65] [QX-67] grouping is cut short by the time-out and lets others through', async (t) => {
  const store = makeStore(t);
  for (let shard = 0; shard < 2; shard++) {
    writeManyEvents(store.directory, `shard-000${shard}.db`, { count: 80_000, names: 1000 });
  }
  const service = await startService(t, store);
  assert.ok((await ask(store.socketPath, 'EVENTS TAKE 1')).ended);
  // More groupings than workers, each of some hundred turns: a small query need not wait for their end.
  let grouped = 0;
  const groupings = Array.from({ length: 6 }, async () => {
    const { records } = await ask(store.socketPath, 'EVENTS GROUP name, event_type MAX sequence');
    grouped++;
    return records.length;
  });
  await eventually('all are running', () => service.stats().running === 6);
  assert.equal((await ask(store.socketPath, 'EVENTS TAKE 3')).records.length, 3);
  assert.equal(grouped, 0, 'the small query came first');
  assert.deepEqual(
    await Promise.all(groupings),
    Array.from({ length: 6 }, () => 1000),
  );
  service.updateLimits({ ...LIMITS, queryTimeoutMs: 30 });
  const { error, records } = await ask(store.socketPath, 'EVENTS GROUP name, event_type MAX sequence');
  assert.equal(error, 'timeout: the query exceeded QueryTimeoutMs (30 ms)');
  assert.equal(records.length, 0);
  await eventually('it has ended', () => service.stats().running === 0 && service.stats().memoryBytes === 0);
});

test('[CFG-3] the memory of a broken worker is forgotten, that of the others is not', () => {
  const memory = QueryMemory.allocate(2, 1000);
  const other = new QueryMemory(memory.shared);
  assert.ok(memory.reserve(0, 600) && other.reserve(1, 400));
  assert.ok(!other.reserve(1, 1));
  assert.equal(memory.used, 1000);
  memory.forget(0);
  assert.equal(other.used, 400);
  memory.setLimit(500);
  assert.ok(!other.reserve(1, 101) && other.reserve(1, 100));
  other.release(1, 500);
  assert.equal(memory.used, 0);
});

test('[QX-26] [QL-54] [QX-23] 200,000 events stream out in the memory of a few frames', async (t) => {
  const store = makeStore(t);
  for (let shard = 0; shard < 2; shard++) {
    writeManyEvents(store.directory, `shard-000${shard}.db`, {
      count: 100_000,
      first: shard * 50_000,
      names: 10,
      fillBytes: 400,
    });
  }
  await startService(t, store);
  assert.equal((await drain(store.socketPath, 'EVENTS TAKE 1000')).records, 1000);
  const { records, bytes, grownBytes } = await drain(store.socketPath, 'EVENTS');
  assert.equal(records, 200_000);
  assert.ok(bytes > 140e6, `${bytes} bytes`);
  assert.ok(grownBytes < 64 * MIB, `memory grew by ${grownBytes} bytes`);
});
