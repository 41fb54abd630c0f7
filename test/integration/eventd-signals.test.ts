/** Signals of the real eventd: graceful ends, the diagnostic dump, configuration changes at run time. */
import assert from 'node:assert/strict';
import { existsSync, readdirSync } from 'node:fs';
import { test } from 'node:test';
import { parseGuid } from '../../src/host/guid.js';
import { query } from '../../src/wire/client.js';
import { accountFor, faultsOf } from '../fixtures/accounting.js';
import { BOOT_A, EventdWorld, eventually } from '../fixtures/eventd.js';

const STOP_BOUND_MS = 9000;

for (const signal of ['SIGTERM', 'SIGINT'] as const) {
  test(`[LIFE-200] [LIFE-201] [LIFE-203] [LIFE-204] [LIFE-206] [LIFE-207] [LIFE-209] [LIFE-230] [HOST-13] ${signal} stores what is in the rings and ends with 0`, async (t) => {
    const world = EventdWorld.for(t, { capacity: 4 << 20 });
    const run = await world.start();
    // Far more than one batch: the signal arrives while most of it is still in the rings.
    const last = [world.emitMany(0, 25_000), world.emitMany(1, 15_000)];
    const asked = performance.now();
    assert.deepEqual(await run.end(signal), { code: 0, signal: null });
    assert.ok(performance.now() - asked < STOP_BOUND_MS, 'within the stop bound');
    const wals = readdirSync(world.events).filter((name) => /-(wal|shm)$/.test(name));
    assert.deepEqual(wals, [], 'closing checkpointed every shard');
    assert.deepEqual(faultsOf(accountFor(world.events, parseGuid(BOOT_A), last.map(Number))), []);
    assert.deepEqual(world.gaps(), []);
    assert.deepEqual(world.synthetic('synthetic.shutdown')[0]?.payload.last_sequences, {
      0: 25_000,
      1: 15_000,
    });
    assert.ok(run.messages.some((fields) => fields.get('STOPPING') === '1'));
    assert.deepEqual(readdirSync(world.paths.run), ['notify.sock'], 'the sockets are gone');
  });
}

test('[LIFE-210] [LIFE-231] further signals during shutdown change nothing', async (t) => {
  const world = EventdWorld.for(t, { capacity: 4 << 20 });
  const run = await world.start();
  world.emitMany(0, 20_000);
  for (const signal of ['SIGTERM', 'SIGTERM', 'SIGINT', 'SIGHUP', 'SIGQUIT'] as const) run.kill(signal);
  assert.deepEqual(await run.exited, { code: 0, signal: null });
  assert.equal(world.synthetic('synthetic.shutdown').length, 1);
  assert.equal(run.messages.filter((fields) => fields.get('STOPPING') === '1').length, 1);
  assert.equal(world.sequences(0).length, 20_000);
});

test('[LIFE-210] [HOST-17] [HOST-18] a shutdown that cannot finish is aborted one second before StopTimeout', async (t) => {
  const world = EventdWorld.for(t);
  world.writeHive();
  await world.setServiceTimeout(3);
  const run = await world.start();
  const release = world.lock(0);
  const asked = performance.now();
  const { code, signal } = await run.end();
  const took = performance.now() - asked;
  release();
  assert.ok(took < 3000, `ended after ${took} ms`);
  assert.notEqual(code, 0, `ended by ${signal}`);
  assert.match(run.stderr, /shutdown did not finish within 2000 ms; aborting/);
  assert.deepEqual(world.synthetic('synthetic.shutdown'), [], 'the record could not be stored');
});

test('[LIFE-201] [LIFE-140] a stop during start ends with 0 and leaves nothing', async (t) => {
  const world = EventdWorld.for(t);
  const run = world.spawn();
  await run.hasLogged('the start', () => true);
  assert.deepEqual(await run.end(), { code: 0, signal: null });
  assert.ok(!existsSync(world.paths.querySocket));
});

test('[LIFE-230] SIGQUIT writes a dump of every reader and writer to stderr, then stops gracefully', async (t) => {
  const world = EventdWorld.for(t, { settings: { StorageShards: 3 } });
  const run = await world.start();
  world.emitMany(0, 12);
  world.emitMany(1, 34);
  await world.stored(0);
  await world.stored(1);
  assert.deepEqual(await run.end('SIGQUIT'), { code: 0, signal: null });
  const dump = run.stderr.split('\n');
  const line = (start: string) => dump.find((text) => text.startsWith(start)) ?? '';
  assert.match(line('eventd '), new RegExp(`^eventd ${run.pid} boot \\{aaaaaaaa-`));
  assert.match(
    line('  reader 0:'),
    /flow\.running\.(waiting|draining).* last sequence 12, 12 events, 0 gaps, 0 lost, peak fill 0\.0/,
  );
  assert.match(line('  reader 1:'), /last sequence 34, 34 events/);
  assert.match(
    line('  writer 1:'),
    /idle, good, 0\/10000 rows waiting, 0 readers blocked, 34 rows in \d+ commits, 0 failed in a row, stored up to cpu 1 34, 0 lost ranges/,
  );
  assert.match(line('  writer 2:'), /stored up to cpu 0 \d+/);
  assert.match(line('  queries:'), /running 0/);
  assert.match(line('  memory:'), /\d+ MiB/);
  assert.equal(world.synthetic('synthetic.shutdown').length, 1);
});

test('[LIFE-230] [LIFE-141] [LIFE-142] [LIFE-143] [LIFE-144] [HOST-20] [ING-68] a setting changes at run time, by the watch and by SIGHUP', async (t) => {
  const world = EventdWorld.for(t);
  const run = await world.start();
  const changes = () => world.synthetic('synthetic.config_change').map(({ payload }) => payload);
  const reloads = () => run.messages.filter((fields) => fields.get('RELOADING') === '1').length;

  await world.set('MaxBatchSize', '500');
  await eventually('the change recorded', () => changes().length === 1);
  assert.deepEqual(changes(), [{ key_name: 'MaxBatchSize', old_value: 10_000, new_value: 500 }]);
  assert.equal(reloads(), 0, 'only SIGHUP is announced');

  run.kill('SIGHUP');
  await eventually('RELOADING and READY', () => reloads() === 1 && run.readyCount === 2);
  const order = run.messages.map((fields) => [...fields.keys()][0]);
  assert.deepEqual(order, ['READY', 'RELOADING', 'READY']);
  assert.match(run.messages[1]?.get('MONOTONIC_USEC') ?? '', /^\d+$/);
  assert.equal(changes().length, 1, 'equal values are no change');

  // Invalid: the old value stays in force and nothing is recorded.
  world.writeHive({ MaxBatchSize: 5, MaxBatchLatencyMs: 50 });
  run.kill('SIGHUP');
  await eventually('the valid half applied', () => changes().length === 2);
  await eventually('the second reload announced', () => run.readyCount === 3);
  assert.deepEqual(changes()[1], { key_name: 'MaxBatchLatencyMs', old_value: 100, new_value: 50 });
  await run.hasLogged(
    'the wrong value',
    ({ level, msg }) => level === 40 && /MaxBatchSize/.test(String(msg)),
  );

  // The limit is in force: no transaction above it.
  world.emitMany(0, 5000);
  await world.stored(0);
  await run.end('SIGQUIT');
  assert.match(run.stderr, /writer 0: .* 0\/500 rows waiting/);
  assert.equal(changes().length, 2, 'each change is recorded once');
});

test('[LIFE-140] [LIFE-231] SIGHUP during start waits until eventd is ready', async (t) => {
  const world = EventdWorld.for(t);
  const run = world.spawn();
  await run.hasLogged('the start', () => true);
  run.kill('SIGHUP');
  await run.ready;
  world.emit(0, 'test.after');
  await world.stored(0);
  assert.equal((await run.end()).code, 0);
});

test('[LIFE-201] running queries end with an error when eventd stops', async (t) => {
  const world = EventdWorld.for(t, { capacity: 16 << 20 });
  const run = await world.start();
  // More than sockets and credits can hold, so that the query is still running at the stop.
  world.emitMany(0, 12_000, 1000);
  await world.stored(0);
  const records = query(world.paths.querySocket, 'EVENTS test.many');
  assert.equal((await records.next()).done, false);
  run.kill('SIGTERM');
  await assert.rejects(async () => {
    // A client that goes on reading hears why its result is cut.
    await eventually('STOPPING', () => run.messages.some((fields) => fields.has('STOPPING')));
    for await (const _ of records);
  }, /shutting down/);
  assert.equal((await run.exited).code, 0);
});
