/** Who sees what, through the query socket: fields, refusals, streams, and real users. */
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { type TestContext, test } from 'node:test';
import { promisify } from 'node:util';
import { EmbeddedCaller } from '../../src/access/embeddedCaller.js';
import { fieldGuid } from '../../src/access/fieldGuid.js';
import { formatPlainGuid } from '../../src/host/guid.js';
import { CommitFeed } from '../../src/stores/commitFeed.js';
import { encodeRequest } from '../../src/wire/messages.js';
import { FakeSecurity, patternsOf, tell, userToken } from '../fixtures/access.js';
import type { EventRow } from '../fixtures/eventShards.js';
import { series, write as writeMetrics } from '../fixtures/metricService.js';
import { LIMITS, makeStore, startService } from '../fixtures/queryService.js';
import { ask, eventually } from '../fixtures/rawQueryClient.js';
import { LiveLogs, LiveShard, StreamClient } from '../fixtures/streams.js';

const run = promisify(execFile);
const guid = (name: string) => formatPlainGuid(fieldGuid(name));
const SYSTEM = 'O:SYG:SYD:(A;;0x1;;;SY)';
const OPEN = `${SYSTEM}(A;;0x1;;;AU)`;
const without = (...names: string[]) =>
  `${SYSTEM}${names.map((name) => `(OD;;0x1;${guid(name)};;AU)`).join('')}(A;;0x1;;;AU)`;
const granting = (...names: string[]) =>
  `${SYSTEM}${names.map((name) => `(OA;;0x1;${guid(name)};;AU)`).join('')}`;

/** Stores with live writers, and a service whose callers are an ordinary user; `restricted` false: the real peer. */
async function world(t: TestContext, values: Readonly<Record<string, string>>, restricted = true) {
  const store = makeStore(t);
  const commits = CommitFeed.allocate();
  const shard = new LiveShard(t, store.directory, 0, commits);
  const logs = new LiveLogs(t, store.directory, commits);
  const security = new FakeSecurity();
  const standard = { 'Events\\*': SYSTEM, 'Logs\\*': SYSTEM, 'Metrics\\*': SYSTEM };
  for (const [path, sddl] of Object.entries({ ...standard, ...values })) security.set(path, sddl);
  const patterns = await patternsOf(security);
  await startService(t, store, {
    commits,
    patterns,
    ...(restricted ? { callers: () => new EmbeddedCaller(userToken(), null) } : {}),
  });
  const change = (path: string, sddl: string) => tell(patterns, security.set(path, sddl));
  const recordsOf = async (query: string) => {
    const { records, error } = await ask(store.socketPath, query);
    assert.equal(error, null, query);
    return records;
  };
  return { store, path: store.socketPath, shard, logs, change, recordsOf };
}

let clock = 1000n;
const event = (type: string, payload: object = {}): EventRow => {
  clock += 1n;
  return { timestamp: clock, type, sequence: clock, payload };
};

test('[ACL-20] [ACL-21] [ACL-23] [ACL-29] [ACL-30] records show the granted fields and no others', async (t) => {
  const { shard, logs, store, recordsOf } = await world(t, {
    'Events\\three': granting('timestamp', 'event_type', 'src.name'),
    'Events\\hush': without('src.port', 'secret'),
    'Logs\\app': without('message'),
    'Metrics\\cpu': without('core'),
  });
  shard.commit([
    event('three', { x: 1, src: { name: 'n', port: 2 } }),
    event('hush', { x: 1, secret: 2, src: { port: 3 }, list: [{ secret: 1 }] }),
    event('closed', { x: 1 }),
  ]);
  const [hush, three, ...more] = await recordsOf('EVENTS');
  assert.deepEqual(more, []);
  assert.deepEqual(three, { timestamp: three?.timestamp, event_type: 'three', src: { name: 'n' } });
  assert.deepEqual(Object.keys(hush ?? {}).slice(9), ['x', 'list']);
  assert.deepEqual(hush?.list, [{ secret: 1 }]);
  assert.deepEqual(await recordsOf('EVENTS three SELECT x, src.name, cpu_id, src'), [
    { 'src.name': 'n', src: { name: 'n' } },
  ]);
  logs.commit([{ timestamp: 5n, origin: 'app', message: 'hidden' }]);
  const [line, ...rest] = await recordsOf('LOGS');
  assert.deepEqual(rest, []);
  assert.deepEqual(Object.keys(line ?? {}), ['timestamp', 'origin', 'is_error', 'boot_id']);
  writeMetrics(store, [series('cpu', { core: '0', host: 'h' }, 1, [[1, 5]])]);
  const [sample] = await recordsOf('METRIC cpu[]');
  assert.deepEqual(Object.keys(sample ?? {}), ['timestamp', 'name', 'host', 'value']);
});

test('[ACL-33] [ACL-34] [ACL-35] [ACL-36] [QX-6] a refusal names the field the client wrote, and comes alone', async (t) => {
  const { shard, path, recordsOf } = await world(t, {
    'Events\\open': OPEN,
    'Events\\hush': without('x'),
  });
  shard.commit([event('open', { x: 1 }), event('hush', { x: 2 }), event('closed', { x: 3 })]);
  for (const clause of [
    'COUNT BY x',
    'TOP 3 BY x',
    'DISTINCT x',
    'GROUP x COUNT',
    'GROUP y SUM x',
    'SORT x',
  ]) {
    const { error, messages } = await ask(path, `EVENTS ${clause}`);
    assert.equal(error, 'access denied: the result cannot be grouped, sorted or aggregated by x', clause);
    assert.equal(messages.length, 1);
  }
  // Naming the types leaves the others out, and so does a time range in which there are none.
  assert.deepEqual(await recordsOf('EVENTS open COUNT BY x'), [{ x: 1n, count: 1n }].map(narrow));
  assert.deepEqual(await recordsOf(`EVENTS UNTIL 1970-01-01T00:00:01 TAKE 0`), []);
  assert.deepEqual(await recordsOf('EVENTS SINCE 2100-01-01T00:00:00 COUNT BY x'), []);
});

/** Small integers arrive as numbers. */
function narrow(record: Readonly<Record<string, bigint>>): Readonly<Record<string, number>> {
  return Object.fromEntries(Object.entries(record).map(([key, value]) => [key, Number(value)]));
}

test('[ACL-37] an explicit SINCE or UNTIL tests the timestamp: where it is denied nothing matches', async (t) => {
  const { shard, recordsOf } = await world(t, { 'Events\\hush': without('timestamp') });
  shard.commit([event('hush', { x: 1 })]);
  assert.equal((await recordsOf('EVENTS')).length, 1);
  assert.equal((await recordsOf('EVENTS SINCE 1970-01-01T00:00:00')).length, 0);
  assert.equal((await recordsOf('EVENTS UNTIL 2100-01-01T00:00:00')).length, 0);
});

test('[ACL-49] [ACL-50] [STR-13] a stream decides about new types and fields, and anew when a descriptor changes', async (t) => {
  const { shard, path, change } = await world(t, {
    'Events\\open': OPEN,
    'Events\\hush': without('secret'),
    'Events\\late': SYSTEM,
  });
  shard.commit([event('open.a', { n: 0 }), event('closed', { n: 0 })]);
  const client = await StreamClient.begun(t, path, 'EVENTS SELECT n, secret, event_type STREAM');
  assert.equal(client.records.length, 1);
  shard.commit([event('open.b', { n: 1 }), event('closed.b', { n: 1 }), event('hush', { n: 2, secret: 1 })]);
  shard.commit([event('hush', { n: 3, secret: { deep: 1 }, other: 1 }), event('late', { n: 4 })]);
  shard.commit([event('open.c', { n: 5 })]);
  await client.has(5);
  change('Events\\late', OPEN);
  change('Events\\open', SYSTEM);
  shard.commit([event('open.b', { n: 6 }), event('late', { n: 7 }), event('late.x', { n: 8 })]);
  shard.commit([event('late', { n: 9 })]);
  await client.has(8);
  change('Events\\*', OPEN);
  shard.commit([event('fresh', { n: 10, secret: 2 })]);
  shard.commit([event('fresh', { n: 11 })]);
  await client.has(10);
  assert.deepEqual(client.values('n').map(Number), [0, 1, 2, 3, 5, 7, 8, 9, 10, 11]);
  assert.deepEqual(
    client
      .values('secret')
      .filter((value) => value !== undefined)
      .map(Number),
    [2],
  );
  assert.equal(client.closed, false);
});

test('[ACL-49] [STR-13] what was committed while a stream caught up falls under the descriptors of then', async (t) => {
  const { shard, path, change } = await world(t, { 'Events\\open': OPEN, 'Events\\*': OPEN });
  shard.commit(Array.from({ length: 3000 }, (_, n) => event('open', { n })));
  const client = await StreamClient.open(t, path, 'EVENTS SORT n SELECT n STREAM');
  await client.has(1);
  change('Events\\open', SYSTEM);
  shard.commit([event('open', { n: -1 }), event('other', { n: -2 })]);
  await eventually('the record of an open type', () => client.values('n').map(Number).includes(-2));
  assert.equal(client.values('n').map(Number).includes(-1), false);
});

test('[ACL-50] [ACL-49] LOGS streams do the same by origin', async (t) => {
  const { logs, path, change } = await world(t, { 'Logs\\app': OPEN });
  const client = await StreamClient.begun(t, path, 'LOGS STREAM');
  logs.commit([
    { timestamp: 1n, origin: 'sshd', message: 'no' },
    { timestamp: 2n, origin: 'app', message: 'one' },
    { timestamp: 3n, origin: 'app.part', message: 'two' },
  ]);
  await client.has(2);
  change('Logs\\app', without('message'));
  logs.commit([{ timestamp: 4n, origin: 'app', message: 'three' }]);
  await client.has(3);
  assert.deepEqual(client.values('message'), ['one', 'two', undefined]);
});

test('[ACL-3] [ACL-26] [ACL-32] [HOST-65] users are told apart by the kernel, and everything is stored for all of them', {
  skip: process.getuid?.() === 0 ? false : 'only root can become somebody else',
}, async (t) => {
  const { shard, path, recordsOf } = await world(
    t,
    { 'Events\\team': `${SYSTEM}(A;;0x1;;;S-1-22-1-12345)` },
    false,
  );
  shard.commit([event('team.a'), event('team.b'), event('closed')]);
  const script = `
    process.setegid(Number(process.argv[3])); process.setgroups([]); process.seteuid(Number(process.argv[3]));
    const socket = require('net').connect(process.argv[1]);
    const parts = [];
    socket.on('data', (part) => parts.push(part));
    socket.on('end', () => { socket.end(); process.stdout.write(Buffer.concat(parts).toString('hex')); });
    socket.write(Buffer.from(process.argv[2], 'hex'));`;
  const as = async (uid: number, query: string) => {
    const request = Buffer.from(encodeRequest(query)).toString('hex');
    const { stdout } = await run(process.execPath, ['-e', script, path, request, String(uid)], { cwd: '/' });
    return Buffer.from(stdout, 'hex').toString('latin1');
  };
  assert.equal((await recordsOf('EVENTS')).length, 3);
  const team = await as(12345, 'EVENTS');
  assert.match(team, /team\.a/);
  assert.match(team, /team\.b/);
  assert.doesNotMatch(team, /closed/);
  // The same bytes as over a store that never had them.
  assert.equal(await as(12345, 'EVENTS closed'), await as(12345, 'EVENTS absent'));
  assert.equal(await as(12346, 'EVENTS'), await as(12346, 'EVENTS absent'));
  assert.equal(await as(12346, 'EVENTS COUNT'), await as(12345, 'EVENTS absent COUNT'));
  assert.equal(LIMITS.maxConcurrentQueries, 128);
});
