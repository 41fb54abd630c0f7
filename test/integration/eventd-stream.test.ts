/** STREAM with the real eventd: real rings, real log socket, recovery and shutdown. */
import assert from 'node:assert/strict';
import { rmSync } from 'node:fs';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { EventdWorld, eventually as settles } from '../fixtures/eventd.js';
import { EventdRecords, line } from '../fixtures/eventdRecords.js';
import { ask, eventually } from '../fixtures/rawQueryClient.js';
import { RingLoad } from '../fixtures/ringload.js';
import { StreamClient } from '../fixtures/streams.js';

const keys = (client: StreamClient): string[] =>
  client.records.map(({ cpu_id, sequence }) => `${cpu_id} ${sequence}`);

/** Every event of both rings, as `keys` names them. */
const all = (last: readonly number[]): string[] =>
  last.flatMap((sequence, cpu) => Array.from({ length: sequence }, (_, n) => `${cpu} ${n + 1}`));

const streams = (t: TestContext, world: EventdWorld, count: number, query: string) =>
  Promise.all(Array.from({ length: count }, () => StreamClient.begun(t, world.paths.querySocket, query)));

test('[STR-2] [STR-3] [STR-5] [STR-10] under load streams that come and go see every event once', async (t) => {
  const world = EventdWorld.for(t, { capacity: 8 << 20 });
  await world.start();
  const path = world.paths.querySocket;
  const [first] = await streams(t, world, 1, 'EVENTS bench.load SELECT cpu_id, sequence STREAM');
  const load = new RingLoad(world.paths.kmes, { cpus: 2, events: 60_000, ratePerSecond: 20_000 });
  const whole: StreamClient[] = [];
  for (let n = 0; n < 8; n++) {
    const client = await StreamClient.open(
      t,
      path,
      'EVENTS bench.load SELECT cpu_id, sequence SORT sequence STREAM',
    );
    await eventually('its beginning', () => client.records.length > 0);
    if (n % 2 === 0) client.socket.destroy();
    else whole.push(client);
  }
  const result = await load.done;
  assert.ok(result !== null && first !== undefined);
  const expected = all(result.last).sort();
  assert.equal(expected.length, 60_000);
  for (const client of [first, ...whole]) {
    await client.has(60_000, 20_000);
    assert.deepEqual(keys(client).sort(), expected);
  }
  assert.deepEqual(world.gaps(), [], 'and the writers were not slowed down');
});

test('[STR-6] an event is streamed about as soon as it is committed', async (t) => {
  const world = EventdWorld.for(t);
  await world.start();
  const [client] = await streams(t, world, 1, 'EVENTS test.late TAKE 0 STREAM');
  assert.ok(client);
  const delays: number[] = [];
  for (let n = 1; n <= 20; n++) {
    const emitted = performance.now();
    world.emit(n % 2, 'test.late');
    await client.has(n);
    delays.push(performance.now() - emitted);
  }
  delays.sort((a, b) => a - b);
  assert.ok(
    (delays[10] ?? 1000) < 100,
    `half of them within MaxBatchLatencyMs: ${delays.map(Math.round).join(' ')}`,
  );
});

test('[STR-2] [STR-6] log records are streamed from the log socket on', async (t) => {
  const world = EventdWorld.for(t);
  const records = new EventdRecords(world);
  await world.start();
  const [client] = await streams(t, world, 1, 'LOGS FROM svc ERROR ONLY TAKE 0 STREAM');
  assert.ok(client);
  for (let n = 0; n < 30; n++) await records.send('log', line(String(n), { is_error: n % 3 === 0 }));
  await client.has(10);
  assert.deepEqual(client.values('message'), ['0', '3', '6', '9', '12', '15', '18', '21', '24', '27']);
});

test('[STR-3] [FAIL-15] a stream lives through a recovery that puts a fresh shard in the place of a deleted one', async (t) => {
  const world = EventdWorld.for(t);
  const run = await world.start();
  const [client] = await streams(
    t,
    world,
    1,
    'EVENTS test.many SELECT cpu_id, sequence SORT sequence STREAM',
  );
  assert.ok(client);
  world.emitMany(0, 100);
  world.emitMany(1, 100);
  await client.has(200);
  for (const side of ['', '-wal', '-shm'])
    rmSync(join(world.events, `shard-0000.db${side}`), { force: true });
  world.emitMany(0, 50);
  world.emitMany(1, 50);
  await settles('the end of the recovery', () =>
    run.log().some(({ msg }) => msg === 'the event path works again') ? true : null,
  );
  world.emitMany(0, 50);
  world.emitMany(1, 50);
  await eventually('every event', () => new Set(keys(client)).size >= 400);
  assert.deepEqual([...new Set(keys(client))].sort(), all([200, 200]).sort());
  // What the deleted file held is read from the ring and stored once more; the other shard was not touched.
  const second = keys(client).filter((key) => key.startsWith('1 '));
  assert.equal(second.length, new Set(second).size);
});

test('[STR-9] MaxStreamingQueries is taken from the registry, and a change counts at once', async (t) => {
  const world = EventdWorld.for(t, { settings: { MaxStreamingQueries: 1 } });
  await world.start();
  const path = world.paths.querySocket;
  await streams(t, world, 1, 'EVENTS STREAM');
  assert.match(
    (await ask(path, 'LOGS STREAM')).error ?? '',
    /^limit exceeded: 1 streams.*MaxStreamingQueries/,
  );
  await world.set('MaxStreamingQueries', '2');
  await settles('the new limit', () => world.synthetic('synthetic.config_change').length === 1);
  await streams(t, world, 1, 'LOGS STREAM');
  assert.match((await ask(path, 'LOGS STREAM')).error ?? '', /^limit exceeded: 2 streams/);
});

test('[STR-14] [LIFE-201] a stop ends streams with an error', async (t) => {
  const world = EventdWorld.for(t);
  const run = await world.start();
  const clients = await streams(t, world, 3, 'EVENTS STREAM');
  assert.equal((await run.end()).code, 0);
  for (const client of clients) {
    await client.ended();
    assert.equal(client.error, 'shutting down: eventd is stopping');
  }
});
