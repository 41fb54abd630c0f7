/** STREAM through the query socket, with writers that commit when the test says so. */
import assert from 'node:assert/strict';
import { type TestContext, test } from 'node:test';
import { EmbeddedCaller } from '../../src/access/embeddedCaller.js';
import { fieldGuid } from '../../src/access/fieldGuid.js';
import { formatPlainGuid } from '../../src/host/guid.js';
import { CommitFeed } from '../../src/stores/commitFeed.js';
import { FakeSecurity, HeldCaller, patternsOf, userToken } from '../fixtures/access.js';
import type { EventRow } from '../fixtures/eventShards.js';
import { LIMITS, makeStore, startService } from '../fixtures/queryService.js';
import { ask, eventually } from '../fixtures/rawQueryClient.js';
import { LiveLogs, LiveShard, StreamClient } from '../fixtures/streams.js';

const rows = (from: number, count: number, type = 'test.event'): EventRow[] =>
  Array.from({ length: count }, (_, i) => ({
    timestamp: BigInt(1000 + from + i),
    type,
    sequence: BigInt(from + i),
    payload: { n: BigInt(from + i) },
  }));

const upTo = (count: number, from = 0): bigint[] => Array.from({ length: count }, (_, i) => BigInt(from + i));
const numbers = (client: StreamClient): unknown[] => client.values('n').map((n) => BigInt(n as bigint));

type ServiceOptions = NonNullable<Parameters<typeof startService>[2]>;

async function world(t: TestContext, shards = 1, options: ServiceOptions = {}) {
  const store = makeStore(t);
  const commits = CommitFeed.allocate();
  const live = Array.from({ length: shards }, (_, n) => new LiveShard(t, store.directory, n, commits));
  const [first] = live;
  assert.ok(first);
  const service = await startService(t, store, { commits, ...options });
  return { store, commits, shards: live, shard: first, service, path: store.socketPath };
}

test('[STR-1] [STR-2] the result set comes first, then what is committed, and there is no end message', async (t) => {
  const { shard, path } = await world(t);
  shard.commit(rows(0, 3));
  const client = await StreamClient.begun(t, path, 'EVENTS SORT sequence STREAM');
  shard.commit(rows(3, 2));
  await client.has(5);
  shard.commit(rows(5, 1));
  await client.has(6);
  assert.deepEqual(numbers(client), upTo(6));
  assert.ok(client.messages.every(({ status }) => status === 'ok'));
  assert.equal(client.closed, false);
});

test('[STR-1] METRIC has no STREAM; the word stands anywhere in the other modes', async (t) => {
  const { path } = await world(t);
  assert.match((await ask(path, 'METRIC a STREAM')).error ?? '', /^parse error:/);
  await StreamClient.begun(t, path, 'EVENTS STREAM TAKE 0');
  await StreamClient.begun(t, path, 'LOGS STREAM STREAM TAKE 1');
});

test('[STR-4] [WIRE-7] [QL-53] a stream without an initial set begins with an empty result message', async (t) => {
  const { shard, path } = await world(t);
  shard.commit(rows(0, 5));
  const client = await StreamClient.begun(t, path, 'EVENTS STREAM TAKE 0');
  assert.deepEqual(client.messages, [{ status: 'ok', records: [] }]);
  shard.commit(rows(5, 2));
  await client.has(2);
  assert.deepEqual(numbers(client), upTo(2, 5));
});

test('[STR-7] conditions, pattern and SELECT hold for streamed records; SORT, TAKE and SKIP for the initial set only', async (t) => {
  const { shard, path } = await world(t);
  shard.commit([...rows(0, 4, 'a.x'), ...rows(4, 4, 'b.x')]);
  const query = 'EVENTS a.* WHERE n != 9 SELECT n SORT n DESC SKIP 1 TAKE 2 STREAM';
  const client = await StreamClient.begun(t, path, query);
  assert.deepEqual(numbers(client), [2n, 1n]);
  shard.commit([...rows(8, 4, 'a.x'), ...rows(12, 2, 'b.x')]);
  await client.has(5);
  assert.deepEqual(numbers(client), [2n, 1n, 8n, 10n, 11n]);
  assert.deepEqual(Object.keys(client.records.at(-1) ?? {}), ['n']);
});

test('[STR-7] after an aggregated initial set the streamed records are raw', async (t) => {
  const { shard, path } = await world(t);
  shard.commit([...rows(0, 4, 'a'), ...rows(4, 2, 'b')]);
  const client = await StreamClient.begun(t, path, 'EVENTS COUNT BY event_type STREAM');
  assert.deepEqual(
    client.records.map(({ event_type, count }) => [event_type, Number(count)]),
    [
      ['a', 4],
      ['b', 2],
    ],
  );
  shard.commit(rows(6, 1, 'a'));
  await client.has(3);
  assert.equal(client.records[2]?.event_type, 'a');
  assert.equal(client.records[2]?.count, undefined);
});

test('[STR-7] [QL-51] [QL-52] explicit bounds hold while watching; the implicit end does not exist', async (t) => {
  const { shard, path } = await world(t);
  const future = BigInt(Date.now() + 86_400_000) * 1_000_000n;
  shard.commit([{ timestamp: future, payload: { n: 1n } }]);
  const open = await StreamClient.begun(t, path, 'EVENTS STREAM');
  const bounded = await StreamClient.begun(t, path, 'EVENTS STREAM SINCE 1h ago UNTIL 1h hence');
  assert.deepEqual(numbers(open), [1n]);
  assert.deepEqual(numbers(bounded), []);
  const now = BigInt(Date.now()) * 1_000_000n;
  shard.commit([
    { timestamp: future, payload: { n: 2n } },
    { timestamp: now, payload: { n: 3n } },
    { timestamp: 5n, payload: { n: 4n } },
  ]);
  await open.has(4);
  await bounded.has(1);
  assert.deepEqual(numbers(open), [1n, 2n, 3n, 4n]);
  assert.deepEqual(numbers(bounded), [3n]);
});

test('[STR-5] [STR-8] batches of several shards come in the order of their commits, rows in that of their ids', async (t) => {
  const { shards, path } = await world(t, 3);
  const client = await StreamClient.begun(t, path, 'EVENTS STREAM');
  const expected: bigint[] = [];
  for (let batch = 0; batch < 60; batch++) {
    const size = 1 + (batch % 4);
    shards[(batch * 7) % 3]?.commit(rows(expected.length, size));
    expected.push(...upTo(size, expected.length));
  }
  await client.has(expected.length);
  assert.deepEqual(numbers(client), expected);
});

test('[STR-2] [STR-7] [QL-80] [QL-81] [QL-82] log records are streamed', async (t) => {
  const { store, commits, path } = await world(t);
  const logs = new LiveLogs(t, store.directory, commits);
  logs.commit([{ timestamp: 1n, origin: 'a', isError: true, message: 'old trouble' }]);
  const client = await StreamClient.begun(t, path, 'LOGS FROM a, b ERROR ONLY CONTAINING "TROUBLE" STREAM');
  logs.commit([
    { timestamp: 2n, origin: 'a', message: 'trouble' },
    { timestamp: 3n, origin: 'B', isError: true, message: 'new trouble' },
    { timestamp: 4n, origin: 'c', isError: true, message: 'trouble' },
  ]);
  await client.has(2);
  const boot = '{04030201-0605-0807-090a-0b0c0d0e0f10}';
  assert.deepEqual(
    client.records.map((record) => ({ ...record, timestamp: Number(record.timestamp) })),
    [
      { timestamp: 1, origin: 'a', is_error: true, message: 'old trouble', boot_id: boot },
      { timestamp: 3, origin: 'B', is_error: true, message: 'new trouble', boot_id: boot },
    ],
  );
});

test('[STR-9] MaxStreamingQueries bounds streams, is applied live, and leaves other queries alone', async (t) => {
  const { path, service, shard } = await world(t, 1, { limits: { maxStreamingQueries: 2 } });
  shard.commit(rows(0, 1));
  const first = await StreamClient.begun(t, path, 'EVENTS STREAM');
  await StreamClient.begun(t, path, 'EVENTS STREAM');
  const refused = await ask(path, 'EVENTS STREAM');
  assert.equal(refused.error, 'limit exceeded: 2 streams are running, as many as MaxStreamingQueries allows');
  assert.equal((await ask(path, 'EVENTS')).records.length, 1);
  assert.equal(service.stats().streaming, 2);
  first.socket.destroy();
  await eventually('the place of a stream that left', () => service.stats().streaming === 1);
  await StreamClient.begun(t, path, 'EVENTS STREAM');
  assert.match((await ask(path, 'LOGS STREAM')).error ?? '', /^limit exceeded:/);
  service.updateLimits({ ...LIMITS, maxStreamingQueries: 3 });
  await StreamClient.begun(t, path, 'LOGS STREAM');
});

test('[STR-9] [QX-61] a stream holds a slot of MaxConcurrentQueries as long as it lasts', async (t) => {
  const { path, service } = await world(t, 1, { limits: { maxConcurrentQueries: 1 } });
  const client = await StreamClient.begun(t, path, 'EVENTS STREAM');
  assert.match((await ask(path, 'EVENTS')).error ?? '', /MaxConcurrentQueries/);
  assert.match((await ask(path, 'EVENTS STREAM')).error ?? '', /MaxConcurrentQueries/);
  client.socket.destroy();
  await eventually('the slot of the stream', () => service.stats().running === 0);
  assert.equal((await ask(path, 'EVENTS')).error, null);
});

test('[STR-9] [QX-64] [QX-68] who leaves while its stream is planned keeps no place, and is checked no further', async (t) => {
  const security = new FakeSecurity();
  const hidden = formatPlainGuid(fieldGuid('secret'));
  security.set('Events\\*', `O:SYG:SYD:(OD;;0x1;${hidden};;AU)(A;;0x1;;;AU)`);
  const callers: HeldCaller[] = [];
  const { path, service, shard } = await world(t, 1, {
    limits: { maxStreamingQueries: 1 },
    patterns: await patternsOf(security),
    callers: () => {
      const caller = new HeldCaller(userToken());
      callers.push(caller);
      return caller;
    },
  });
  const many = Array.from({ length: 100 }, (_, n) => rows(n, 1, `many.${n}`));
  shard.commit([...rows(0, 1, 'one'), ...many.flat()]);
  const hasty = [
    await StreamClient.open(t, path, 'EVENTS one STREAM'),
    await StreamClient.open(t, path, 'EVENTS many.* STREAM'),
  ];
  const checks = () => callers.slice(0, 2).map(({ requests }) => requests.length);
  await eventually('checks for both', () => checks().length === 2 && !checks().includes(0));
  const before = checks();
  for (const { socket } of hasty) socket.destroy();
  await eventually('their ends', () => service.stats().connections === 0);
  for (const caller of callers) caller.letGo();
  const patient = await StreamClient.open(t, path, 'EVENTS one STREAM');
  await eventually('its caller', () => callers.length === 3);
  callers[2]?.letGo();
  await patient.has(1);
  const { connections, running, streaming } = service.stats();
  assert.deepEqual({ connections, running, streaming }, { connections: 1, running: 1, streaming: 1 });
  assert.deepEqual(checks(), before);
});

test('[STR-14] a stop ends streams with an error', async (t) => {
  const { path, service, shard } = await world(t);
  shard.commit(rows(0, 2));
  const client = await StreamClient.begun(t, path, 'EVENTS STREAM');
  await service.stop();
  await client.ended();
  assert.equal(client.error, 'shutting down: eventd is stopping');
});

test('[STR-11] [STR-15] [STR-16] who does not read is dropped, the others go on', async (t) => {
  const { path, service, shard } = await world(t);
  const lazy = await StreamClient.begun(t, path, 'EVENTS STREAM');
  const eager = await StreamClient.begun(t, path, 'EVENTS STREAM');
  await eventually('both watch', () => service.stats().streaming === 2);
  shard.commit(rows(0, 1));
  await Promise.all([lazy.has(1), eager.has(1)]);
  lazy.socket.pause();
  const big = 'x'.repeat(1_000_000);
  // The kernel takes some MB for a client that does not read; the batch after the one that fills it is too many.
  for (let n = 1; n < 16; n++) {
    shard.commit([{ timestamp: BigInt(n), payload: { n: BigInt(n), big } }]);
    await eager.has(n + 1);
  }
  lazy.socket.resume();
  await lazy.ended();
  const got = lazy.records.length;
  assert.ok(got < 14, `${got} records of 1 MB were kept for a client that did not read`);
  // It is told if it takes it in time, else just cut off.
  const told = lazy.error ?? 'backpressure:';
  assert.match(told, /^backpressure:/);
  assert.deepEqual(numbers(lazy), upTo(got), 'what came before is whole and in order');
  await eventually('its place', () => service.stats().streaming === 1);
  shard.commit(rows(16, 1));
  await eager.has(17);
  assert.deepEqual(numbers(eager), upTo(17));
});

test('[STR-16] a dropped client that takes nothing more is just cut off', async (t) => {
  const { path, service, shard } = await world(t);
  const lazy = await StreamClient.begun(t, path, 'EVENTS STREAM');
  shard.commit(rows(0, 1));
  await lazy.has(1);
  lazy.socket.pause();
  const big = 'x'.repeat(12_000_000);
  shard.commit([{ timestamp: 1n, payload: { n: 1n, big } }]);
  shard.commit([{ timestamp: 2n, payload: { n: 2n, big } }]);
  await eventually('the end of the stream', () => service.stats().streaming === 0);
  assert.equal(lazy.closed, false, 'it has not looked yet');
});

test('[STR-12] one large batch is one unit of several messages, and no reason to drop anybody', async (t) => {
  const { path, shard } = await world(t);
  const client = await StreamClient.begun(t, path, 'EVENTS STREAM');
  shard.commit(rows(0, 1));
  await client.has(1);
  const before = client.messages.length;
  shard.commit(rows(1, 9000));
  await client.has(9001);
  assert.deepEqual(numbers(client), upTo(9001));
  assert.ok(client.messages.length - before >= 9, 'messages are split');
  assert.equal(client.closed, false);
});

test('[STR-4] [QX-62] the initial phase has the time limit, the watch phase has none', async (t) => {
  const { path, shard } = await world(t, 1, { limits: { queryTimeoutMs: 1000 } });
  const client = await StreamClient.begun(t, path, 'EVENTS STREAM');
  shard.commit(rows(0, 1));
  await client.has(1);
  const slow = await StreamClient.open(t, path, 'EVENTS STREAM');
  slow.socket.pause();
  shard.commit(rows(1, 40_000));
  const stuck = await StreamClient.open(t, path, 'EVENTS SORT n STREAM');
  stuck.socket.pause();
  const started = performance.now();
  await eventually('more time than QueryTimeoutMs', () => performance.now() - started > 1500);
  stuck.socket.resume();
  await stuck.ended();
  assert.match(stuck.error ?? '', /^timeout: the query exceeded QueryTimeoutMs/);
  shard.commit(rows(40_001, 1));
  await client.has(40_002);
  assert.equal(client.closed, false);
});

test('[STR-13] [ACL-49] [ACL-50] [STR-4] a stream older than QueryTimeoutMs still asks what the other store has', async (t) => {
  const security = new FakeSecurity();
  for (const name of ['Events\\*', 'Logs\\*']) security.set(name, 'O:SYG:SYD:(A;;0x1;;;SY)');
  for (const name of ['Events\\kacs', 'Logs\\app']) security.set(name, 'O:SYG:SYD:(A;;0x1;;;AU)');
  const { path, shard, store, commits } = await world(t, 1, {
    limits: { queryTimeoutMs: 1000 },
    patterns: await patternsOf(security),
    callers: () => new EmbeddedCaller(userToken(), null),
  });
  const logs = new LiveLogs(t, store.directory, commits);
  const now = BigInt(Date.now()) * 1_000_000n;
  shard.commit([{ timestamp: now, type: 'kacs.denied' }]);
  const client = await StreamClient.begun(t, path, 'LOGS SINCE 1h ago WHERE EVENT kacs.* EXISTS STREAM');
  const begun = performance.now();
  await eventually('more time than QueryTimeoutMs', () => performance.now() - begun > 1050);
  logs.commit([{ timestamp: now, origin: 'app.one', message: 'one' }]);
  await client.has(1, 3000);
  logs.commit([{ timestamp: now, origin: 'app.two', message: 'two' }]);
  await client.has(2, 3000);
  assert.deepEqual(client.values('message'), ['one', 'two']);
});

test('[STR-13] [ACL-31] a caller who may read nothing gets an empty result, and nothing while watching', async (t) => {
  const { path, shard, service } = await world(t, 1, {
    callers: () => new EmbeddedCaller(userToken(), null),
  });
  shard.commit(rows(0, 3));
  const client = await StreamClient.begun(t, path, 'EVENTS STREAM');
  shard.commit(rows(3, 3));
  assert.deepEqual(client.messages, [{ status: 'ok', records: [] }]);
  assert.equal(service.stats().streaming, 1);
  assert.equal(client.closed, false);
});

test('[STR-10] while no stream is open a commit is not even told', async (t) => {
  const { path, shard, commits, service } = await world(t);
  const feed = new CommitFeed(commits);
  shard.commit(rows(0, 1));
  assert.equal(feed.next, 0n);
  const client = await StreamClient.begun(t, path, 'EVENTS STREAM');
  shard.commit(rows(1, 1));
  assert.equal(feed.next, 1n);
  await client.has(2);
  client.socket.destroy();
  await eventually('the end of the stream', () => service.stats().streaming === 0);
  await eventually('silence', () => {
    const before = feed.next;
    shard.commit(rows(2, 1));
    return feed.next === before;
  });
});
