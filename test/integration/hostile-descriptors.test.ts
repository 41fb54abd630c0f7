/**
 * Out of descriptors, and things in the place of sockets: eventd and kmesd go on with what they have
 * open, serve again when there is room, and touch nothing that is not theirs (docs/security.md).
 */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { lstatSync, readFileSync, symlinkSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { join } from 'node:path';
import { test } from 'node:test';
import { encode } from '@msgpack/msgpack';
import { EventdWorld, eventually } from '../fixtures/eventd.js';
import { EventdRecords } from '../fixtures/eventdRecords.js';
import {
  besiege,
  frameOf,
  HonestSenders,
  leave,
  MSGPACK_BOMBS,
  recovered,
  vitals,
} from '../fixtures/hostile.js';
import { frame, scratchDirectory, startKmesd } from '../fixtures/kmesd.js';
import { ask } from '../fixtures/rawQueryClient.js';

const LIMIT = { timeout: 60_000 };

/** Sets RLIMIT_NOFILE of a running process. */
function limitDescriptors(pid: number, limit: number): void {
  execFileSync('prlimit', ['--pid', String(pid), `--nofile=${limit}:`]);
}

test(
  '[FAIL-23] [FAIL-25] out of descriptors: events, logs and metrics are stored all the same, the configuration stays, and when there is room clients are served again',
  LIMIT,
  async (t) => {
    const world = EventdWorld.for(t, { cpus: 1, settings: { HealthMetricIntervalSeconds: 1 } });
    const records = new EventdRecords(world);
    const run = await world.start();
    const { querySocket, logs } = world.paths;
    const honest = new HonestSenders(world, records);
    await honest.goesOn();
    const before = vitals(run.pid);
    limitDescriptors(run.pid, before.descriptors + before.databases + 6);

    const clients = await besiege(querySocket, 200);
    for (const { socket } of clients) socket.write(Buffer.from([1]));
    await eventually('no descriptor is left', () => {
      const { descriptors, databases } = vitals(run.pid);
      return descriptors + databases >= before.descriptors + before.databases + 5;
    });
    await honest.goesOn();
    // Reading the hive takes a descriptor, too.
    await world.set('MaxBatchLatencyMs', '50');
    run.kill('SIGHUP');
    await eventually('the reload is answered, whatever came of it', () => run.readyCount === 2);
    await honest.goesOn();

    await leave(clients);
    // What cannot be opened is no reason for a short answer: a query has all records, or says why not.
    const some = await ask(querySocket, 'LOGS COUNT');
    assert.ok(some.error !== null || Number(some.records[0]?.count) > 0, JSON.stringify(some));
    limitDescriptors(run.pid, 4096);
    await eventually('queries are answered', async () => {
      const answer = await ask(querySocket, 'LOGS COUNT').catch(() => null);
      return answer?.error === null && Number(answer.records[0]?.count) > 0;
    });
    await eventually('the change is applied after all, once', () => {
      return world.synthetic('synthetic.config_change').length === 1;
    });
    await recovered(run.pid, before, 120);
    await honest.goesOn();
    await honest.allStored();
    assert.ok(lstatSync(logs).isFile());
    assert.deepEqual(await run.end(), { code: 0, signal: null });
    assert.equal(world.synthetic('synthetic.config_change').length, 1);
  },
);

test(
  '[KMES-65] [KMES-81] kmesd: bombs, crowds and want of descriptors cost its honest emitters nothing',
  LIMIT,
  async (t) => {
    const directory = scratchDirectory();
    t.after(() => directory.remove());
    const kmesd = await startKmesd(directory.path);
    t.after(() => kmesd.end('SIGKILL'));
    const emitted: number[] = [];
    /** Emits one numbered event over a connection of its own. */
    const emit = async () => {
      const [client] = await besiege(kmesd.socket, 1);
      assert.ok(client);
      client.socket.write(frame({ op: 'emit', type: 'test.honest', payload: encode(emitted.length) }));
      await eventually('an answer', () => client.received > 0 || client.closed);
      const stored = client.text.includes('errno\u0000');
      if (stored) emitted.push(emitted.length);
      await leave([client]);
      return stored;
    };
    assert.ok(await emit());
    const before = vitals(kmesd.pid);

    for (const [what, bytes] of MSGPACK_BOMBS) {
      const clients = await besiege(kmesd.socket, 4);
      for (const { socket } of clients) socket.write(frameOf(bytes.length, bytes));
      await Promise.all(clients.map(({ ended }) => ended));
      for (const { text } of clients) assert.match(text, /EBADMSG/, what);
    }
    assert.ok(await emit());
    const crowd = await besiege(kmesd.socket, 1500);
    await eventually('the bound holds', () => crowd.filter(({ closed }) => closed).length >= 1500 - 256);
    assert.ok(vitals(kmesd.pid).descriptors < before.descriptors + 256 + 64);
    await leave(crowd);
    await eventually('a place is free', emit);

    limitDescriptors(kmesd.pid, before.descriptors + 8);
    const few = await besiege(kmesd.socket, 60);
    await leave(few);
    await eventually('emitters are served again', () => emit().catch(() => false));
    limitDescriptors(kmesd.pid, 4096);
    await recovered(kmesd.pid, before, 80);
    assert.ok(await emit());
    assert.equal(await kmesd.end('SIGTERM'), 0);
    const honest = kmesd.events().filter(({ type }) => Buffer.from(type).toString() === 'test.honest');
    assert.equal(honest.length, emitted.length);
  },
);

// The debug socket is bound by the code of the query socket, the log socket by that of the metric socket.
for (const socket of ['query', 'metric'] as const)
  test(
    `[LIFE-115] [LIFE-116] [LIFE-117] what stands in the place of the ${socket} socket is left alone, a link above all`,
    LIMIT,
    async (t) => {
      const world = EventdWorld.for(t, { cpus: 1 });
      const path = join(world.paths.run, `${socket}.sock`);
      const victim = join(world.dir, 'victim');
      writeFileSync(victim, 'precious', { mode: 0o640 });
      symlinkSync(victim, path);
      const file = world.spawn();
      assert.equal((await file.exited).code, 1);
      assert.match(file.stderr, new RegExp(`^eventd: [^\\n]*${socket}\\.sock[^\\n]*\\n$`, 'm'));
      assert.equal(readFileSync(victim, 'utf8'), 'precious');
      assert.equal(lstatSync(victim).mode & 0o777, 0o640);
      assert.ok(lstatSync(path).isSymbolicLink());
      if (socket !== 'query') return;

      // A link to a socket that somebody serves is no stale socket of ours either.
      const server = createServer().listen(`${victim}.sock`);
      t.after(() => server.close());
      execFileSync('ln', ['-sfn', `${victim}.sock`, path]);
      const link = world.spawn();
      assert.equal((await link.exited).code, 1);
      assert.ok(lstatSync(`${victim}.sock`).isSocket());
    },
  );
