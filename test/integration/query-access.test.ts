/** Who sees what, through the query socket: fields, refusals, streams, and real users. */
import assert from 'node:assert/strict';
import { type TestContext, test } from 'node:test';
import type { Caller } from '../../src/access/caller.js';
import { EmbeddedCaller } from '../../src/access/embeddedCaller.js';
import { fieldGuid } from '../../src/access/fieldGuid.js';
import { formatPlainGuid } from '../../src/host/guid.js';
import { RegistryError } from '../../src/registry/registryError.js';
import { CommitFeed } from '../../src/stores/commitFeed.js';
import { encodeRequest } from '../../src/wire/messages.js';
import { CountingCaller, FakeSecurity, patternsOf, tell, userToken } from '../fixtures/access.js';
import { connectAs } from '../fixtures/asUser.js';
import type { EventRow } from '../fixtures/eventShards.js';
import { series, write as writeMetrics } from '../fixtures/metricService.js';
import { LIMITS, makeStore, startService } from '../fixtures/queryService.js';
import { ask, eventually } from '../fixtures/rawQueryClient.js';
import { LiveLogs, LiveShard, StreamClient } from '../fixtures/streams.js';

const guid = (name: string) => formatPlainGuid(fieldGuid(name));
const SYSTEM = 'O:SYG:SYD:(A;;0x1;;;SY)';
const OPEN = `${SYSTEM}(A;;0x1;;;AU)`;
const without = (...names: string[]) =>
  `${SYSTEM}${names.map((name) => `(OD;;0x1;${guid(name)};;AU)`).join('')}(A;;0x1;;;AU)`;
const granting = (...names: string[]) =>
  `${SYSTEM}${names.map((name) => `(OA;;0x1;${guid(name)};;AU)`).join('')}`;

const ordinary = (): Caller => new EmbeddedCaller(userToken(), null);

/** Stores with live writers, and a service whose callers are an ordinary user, or others; null: the real peer. */
async function world(
  t: TestContext,
  values: Readonly<Record<string, string>>,
  callers: (() => Caller) | null = ordinary,
) {
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
    ...(callers === null ? {} : { callers }),
  });
  const change = (path: string, sddl: string) => tell(patterns, security.set(path, sddl));
  const recordsOf = async (query: string) => {
    const { records, error } = await ask(store.socketPath, query);
    assert.equal(error, null, query);
    return records;
  };
  return { store, path: store.socketPath, shard, logs, security, patterns, change, recordsOf };
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

test('[ACL-19] [ACL-29] [ACL-33] [ACL-35] [ACL-36] [ACL-37] [QX-6] each fixed field can be hidden by itself', async (t) => {
  const fixed = {
    events: [
      ...['timestamp', 'cpu_id', 'sequence', 'origin_class', 'event_type', 'boot_id'],
      ...['effective_token_guid', 'true_token_guid', 'process_guid'],
    ],
    logs: ['timestamp', 'origin', 'is_error', 'message', 'boot_id'],
  };
  const { shard, logs, store, path, recordsOf } = await world(t, {
    ...Object.fromEntries(fixed.events.map((field) => [`Events\\${field}`, without(field)])),
    ...Object.fromEntries(fixed.logs.map((field) => [`Logs\\${field}`, without(field)])),
    'Metrics\\label': without('core'),
    'Metrics\\value': without('value'),
    'Metrics\\timestamp': without('timestamp'),
    'Metrics\\name': without('name'),
  });
  shard.commit(fixed.events.map((field) => event(field, { here: field })));
  logs.commit(fixed.logs.map((origin, at) => ({ timestamp: BigInt(at + 1), origin, message: origin })));
  writeMetrics(
    store,
    ['label', 'value', 'timestamp', 'name'].map((name) => series(name, { core: '0' }, 1, [[1, 5]])),
  );
  const refuses = async (mode: string, field: string, clauses: readonly string[]) => {
    for (const clause of clauses) {
      const { messages } = await ask(path, `${mode} ${clause}`);
      const error = `access denied: the result cannot be grouped, sorted or aggregated by ${field}`;
      assert.deepEqual(messages, [{ status: 'error', error }], `${mode} ${clause}`);
    }
  };
  const NUMBERS = ['timestamp', 'cpu_id', 'sequence', 'origin_class'];
  for (const [mode, type] of [
    ['EVENTS', 'events'],
    ['LOGS', 'logs'],
  ] as const) {
    for (const field of fixed[type]) {
      await refuses(mode, field, [
        ...[`COUNT BY ${field}`, `TOP 2 BY ${field}`, `DISTINCT ${field}`, `GROUP ${field} COUNT`],
        ...[`SORT ${field}`, `SORT ${field} DESC SELECT message`],
        ...(NUMBERS.includes(field) ? ['SUM', 'AVG', 'MIN', 'MAX'].map((name) => `${name} ${field}`) : []),
      ]);
      // In WHERE it is NULL, in records it is missing.
      const [bare, ...more] = await recordsOf(`${mode} WHERE ${field} IS NULL`);
      assert.deepEqual(more, [], field);
      assert.deepEqual(
        Object.keys(bare ?? {}).sort(),
        [...fixed[type].filter((name) => name !== field), ...(type === 'events' ? ['here'] : [])].sort(),
      );
      assert.equal((await recordsOf(`${mode} WHERE ${field} IS NOT NULL`)).length, fixed[type].length - 1);
      assert.deepEqual(await recordsOf(`${mode} WHERE ${field} IS NULL SELECT ${field}`), [{}], field);
    }
  }
  // A pattern of names is a test of the name.
  assert.deepEqual(await recordsOf('EVENTS event_type'), []);
  assert.deepEqual(await recordsOf('LOGS FROM origin'), []);
  assert.deepEqual(await recordsOf('LOGS FROM message CONTAINING "message"'), []);
  assert.deepEqual(await recordsOf('METRIC name'), []);
  for (const field of ['value', 'timestamp', 'name', 'core'])
    await refuses('METRIC *[]', field, [`SORT ${field}`, `SORT ${field} DESC TAKE 1`]);
  assert.deepEqual(await recordsOf('METRIC label[core="0"]'), []);
  assert.deepEqual(await recordsOf('METRIC value'), []);
  assert.deepEqual(await recordsOf('METRIC *[] WHERE value == 5 SELECT name'), [
    { name: 'label' },
    {},
    { name: 'timestamp' },
  ]);
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

test('[ACL-49] [ACL-51] [STR-13] [STR-21] the other side of a stream falls silent with its descriptor, for every store', async (t) => {
  const { shard, logs, store, path, change } = await world(t, {
    'Events\\open': OPEN,
    'Events\\other': OPEN,
    'Logs\\app': OPEN,
    'Logs\\svc': OPEN,
    'Metrics\\cpu': OPEN,
  });
  const seconds = Math.floor(Date.now() / 1000);
  const at = BigInt(seconds) * 1_000_000_000n;
  logs.commit([{ timestamp: at, origin: 'svc', message: 'x' }]);
  shard.commit([{ ...event('other'), timestamp: at }]);
  writeMetrics(store, [series('cpu', {}, 1, [[seconds - 1, 5]])]);
  const since = 'SINCE 1h ago';
  const begin = (mode: string, filter: string, fields: string) =>
    StreamClient.begun(t, path, `${mode} ${since} WHERE ${filter} TAKE 0 SELECT ${fields} STREAM`);
  const streams = [
    { client: await begin('EVENTS open', 'LOG svc EXISTS', 'n'), other: 'Logs\\svc' },
    { client: await begin('EVENTS open', 'METRIC cpu > 1', 'n'), other: 'Metrics\\cpu' },
    { client: await begin('LOGS FROM app', 'EVENT other EXISTS', 'message'), other: 'Events\\other' },
  ];
  const fence = await StreamClient.begun(t, path, `EVENTS open ${since} TAKE 0 SELECT n STREAM`);
  const fenceOfLogs = await StreamClient.begun(t, path, `LOGS FROM app ${since} TAKE 0 STREAM`);
  let n = 0;
  const counts = () => streams.map(({ client }) => client.records.length);
  const commit = async () => {
    n++;
    shard.commit([{ ...event('open', { n }), timestamp: at + BigInt(n) }]);
    logs.commit([{ timestamp: at + BigInt(n), origin: 'app', message: String(n) }]);
    await Promise.all([fence.has(n), fenceOfLogs.has(n)]);
  };
  /** Commits until these streams have got something; nothing else tells that a grant is in force. */
  const go = async (which: readonly number[]) => {
    const before = counts();
    for (const deadline = Date.now() + 10_000; ; ) {
      await commit();
      const now = counts();
      if (which.every((index) => (now[index] ?? 0) > (before[index] ?? 0))) return;
      assert.ok(Date.now() < deadline, `${before} became ${now}`);
    }
  };
  const silent = async (which: readonly number[]) => {
    const before = counts();
    for (let i = 0; i < 3; i++) await commit();
    for (const index of which) assert.equal(counts()[index], before[index], `stream ${index}`);
  };
  await go([0, 1, 2]);
  for (const { other } of streams) change(other, SYSTEM);
  await silent([0, 1, 2]);
  for (const { other } of streams) change(other, OPEN);
  await go([0, 1, 2]);
  // Without what it looks at there is nothing to look at either.
  change('Metrics\\cpu', without('value'));
  change('Logs\\svc', without('timestamp'));
  await silent([0, 1]);
  await go([2]);
  assert.ok(streams.every(({ client }) => !client.closed));
});

test('[ACL-49] [STR-13] a stream that was shown nothing begins when a descriptor grants it something', async (t) => {
  const { shard, path, change } = await world(t, { 'Events\\late': SYSTEM });
  const client = await StreamClient.begun(t, path, 'EVENTS late SELECT n STREAM');
  shard.commit([event('late', { n: 0 })]);
  for (const [grants, sddl] of [OPEN, SYSTEM, OPEN].map((text) => [text === OPEN, text] as const)) {
    change('Events\\late', sddl);
    const before = client.records.length;
    await eventually('the change', () => {
      shard.commit([event('late', { n: 1 })]);
      return client.records.length > before || !grants;
    });
  }
  assert.equal(client.closed, false);
});

test('[ACL-48] [ACL-49] [STR-13] a stream goes on when descriptors that could not be read can be', async (t) => {
  const { shard, path, security, patterns, change } = await world(t, { 'Events\\open': OPEN });
  const client = await StreamClient.begun(t, path, 'EVENTS open SELECT n STREAM');
  security.failure = new RegistryError('EIO', 'the source is down');
  const { reads } = security;
  change('Events\\open', OPEN);
  await eventually('the stream has asked', () => security.reads > reads);
  // It is denied, and nothing it is shown makes it ask again.
  shard.commit([event('open', { n: 0 })]);
  const fence = await ask(path, 'EVENTS open');
  assert.deepEqual([fence.records.length, client.records.length], [0, 0]);
  security.failure = null;
  await patterns.refresh();
  await eventually('a record', () => {
    shard.commit([event('open', { n: 1 })]);
    return client.records.length > 0;
  });
  assert.equal(client.closed, false);
});

test('[ACL-40] [ACL-41] [STR-13] a check that keeps failing denies, and a stream goes on without it', async (t) => {
  const caller = new CountingCaller(userToken());
  caller.failsOn = 'events:broken';
  const { shard, path } = await world(
    t,
    { 'Events\\open': OPEN, 'Events\\broken': OPEN, 'Events\\ownerless': 'G:SYD:(A;;0x1;;;AU)' },
    () => caller,
  );
  shard.commit([event('open', { n: 0 }), event('broken', { n: -1 }), event('ownerless', { n: -2 })]);
  const client = await StreamClient.begun(t, path, 'EVENTS SELECT n STREAM');
  for (let n = 1; n <= 5; n++) {
    shard.commit([event('broken', { n: -1 }), event('ownerless', { n: -2 }), event('open', { n })]);
    await client.has(n + 1);
  }
  assert.deepEqual(client.values('n').map(Number), [0, 1, 2, 3, 4, 5]);
  // One per descriptor and name, none for the descriptor with which none can be made.
  assert.ok(caller.requests.length <= 5, `${caller.requests.length} checks`);
  assert.equal(client.closed, false);
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
    null,
  );
  shard.commit([event('team.a'), event('team.b'), event('closed')]);
  const as = async (uid: number, query: string) => {
    const socket = await connectAs(uid, path);
    socket.write(encodeRequest(query));
    const parts: Buffer[] = [];
    for await (const part of socket) parts.push(part as Buffer);
    return Buffer.concat(parts).toString('latin1');
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
