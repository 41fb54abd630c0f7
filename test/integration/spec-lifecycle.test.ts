/** Bootstrap and configuration of the running daemon, as documents 09 and 11 want them. */
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import {
  closeSync,
  existsSync,
  openSync,
  readdirSync,
  readFileSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { promisify } from 'node:util';
import { encodeRequest } from '../../src/wire/messages.js';
import { EventdWorld, eventually } from '../fixtures/eventd.js';
import { writeShard } from '../fixtures/eventShards.js';
import { makeStore, startService } from '../fixtures/queryService.js';

const run = promisify(execFile);

/** Takes the security keys out of the hive, as on a machine that never ran eventd. */
function withoutSecurity(world: EventdWorld): void {
  const parts = readFileSync(world.paths.hive, 'utf8').split(/^(?=\[)/m);
  writeFileSync(world.paths.hive, parts.filter((part) => !part.includes('\\Security\\')).join(''));
}

/** Types with a default descriptor in the hive. */
const securityTypes = (world: EventdWorld) =>
  [...readFileSync(world.paths.hive, 'utf8').matchAll(/\\Security\\(\w+)\]\n"\*"=/g)].map(([, type]) => type);

test('[LIFE-103] [LIFE-136] [HOST-44] one watch tells of every change, also on a first start that writes defaults itself', {
  timeout: 30_000,
}, async (t) => {
  const world = EventdWorld.for(t);
  withoutSecurity(world);
  assert.deepEqual(securityTypes(world), []);
  const run = await world.start();
  assert.deepEqual(securityTypes(world).sort(), ['Events', 'Logs', 'Metrics']);
  const changes = () => world.synthetic('synthetic.config_change').map(({ payload }) => payload.new_value);
  for (const [index, size] of [500, 600, 700].entries()) {
    await world.set('MaxBatchSize', String(size));
    await eventually(`change ${index + 1} recorded`, () => changes().length === index + 1, 5000);
  }
  assert.deepEqual(changes(), [500, 600, 700]);
  assert.ok(run.messages.every((fields) => !fields.has('RELOADING')));
});

test('[LIFE-136] missing security defaults are created before any store is opened', async (t) => {
  const world = EventdWorld.for(t);
  withoutSecurity(world);
  writeFileSync(world.paths.events, 'not a directory');
  const run = world.spawn();
  assert.equal((await run.exited).code, 1);
  assert.match(run.stderr, /^eventd: storage: /m);
  assert.deepEqual(securityTypes(world).sort(), ['Events', 'Logs', 'Metrics']);
});

test('[HOST-44] [LIFE-140] a change during the start is applied after it, and recorded behind the startup record', {
  timeout: 30_000,
}, async (t) => {
  const world = EventdWorld.for(t);
  await (await world.start()).end();
  const release = world.lock(0);
  const run = world.spawn();
  world.emit(1, 'test.other');
  await world.stored(1);
  await world.set('MaxBatchSize', '500');
  assert.equal(run.readyCount, 0);
  release();
  await run.ready;
  const change = await eventually('the change recorded', () => world.synthetic('synthetic.config_change')[0]);
  const startup = world.synthetic('synthetic.startup').at(-1);
  assert.equal(change.shard, startup?.shard);
  assert.ok(change.id > (startup?.id ?? change.id));
  assert.deepEqual([change.payload.old_value, change.payload.new_value], [10_000, 500]);
});

test('[LIFE-134] with StorageShards 0 the rings are counted before the first shard is made', {
  timeout: 30_000,
}, async (t) => {
  const world = EventdWorld.for(t, { cpus: 3, settings: { StorageShards: 0 } });
  await world.start();
  assert.deepEqual(world.shardFiles(), ['shard-0000.db', 'shard-0001.db', 'shard-0002.db']);
  assert.equal(world.synthetic('synthetic.startup')[0]?.payload.shard_count, 3);

  const ringless = EventdWorld.for(t, { cpus: 0, settings: { StorageShards: 2 } });
  assert.equal((await ringless.spawn().exited).code, 1);
  assert.equal(existsSync(ringless.events), false);
});

/** Bytes of the address space that a process maps from a file. */
function mappedBytes(pid: number, path: string): number {
  return readFileSync(`/proc/${pid}/maps`, 'utf8')
    .split('\n')
    .filter((line) => line.endsWith(` ${path}`))
    .map(
      (line) =>
        line
          .split(' ')[0]
          ?.split('-')
          .map((address) => Number.parseInt(address, 16)) ?? [],
    )
    .reduce((sum, [from = 0, to = 0]) => sum + to - from, 0);
}

test('[LIFE-113] [LIFE-119] each ring is mapped, its data twice, and drained by a thread of its own', {
  timeout: 30_000,
}, async (t) => {
  const capacity = 1 << 18;
  for (const cpus of [1, 4]) {
    const world = EventdWorld.for(t, { cpus, capacity, settings: { StorageShards: 1 } });
    const { pid } = await world.start();
    for (let cpu = 0; cpu < cpus; cpu++) {
      assert.equal(mappedBytes(pid, world.ringPath(cpu)), 8192 + 2 * capacity, `ring ${cpu}`);
      world.emitMany(cpu, 5);
      await world.stored(cpu);
    }
    const names = readdirSync(`/proc/${pid}/task`).map((task) =>
      readFileSync(`/proc/${pid}/task/${task}/comm`, 'utf8').trim(),
    );
    assert.deepEqual(
      names.filter((name) => name.startsWith('drain-')).sort(),
      Array.from({ length: cpus }, (_, cpu) => `drain-${cpu}`),
    );
  }
});

test('[HOST-50] [HOST-14] the query socket is a stream socket made by eventd, whatever LISTEN_FDS promises', async (t) => {
  const world = EventdWorld.for(t);
  await world.start({ LISTEN_FDS: '3', LISTEN_FDNAMES: 'query:log:metric' });
  const sockets = readFileSync('/proc/net/unix', 'utf8').split('\n');
  const listening = sockets.filter((line) => line.endsWith(` ${world.paths.querySocket}`));
  // Columns: number, references, protocol, flags (accepting), type (1 = stream), state, inode, path.
  assert.deepEqual(
    listening.map((line) => line.split(/\s+/).slice(3, 5)),
    [['00010000', '0001']],
  );
  assert.equal((await world.query('EVENTS synthetic.startup')).length, 1);
});

test('[FAIL-14] [FAIL-12] a damaged page inside a shard delays no start: nobody looks until it is read', {
  timeout: 30_000,
}, async (t) => {
  const world = EventdWorld.for(t, { settings: { StorageShards: 1 } });
  const first = await world.start();
  world.emitMany(0, 3000, 200);
  await first.end();
  const leaves = world.read(0, (db) =>
    db
      .prepare("SELECT pageno FROM dbstat WHERE name = 'events' AND pagetype = 'leaf' ORDER BY path")
      .pluck()
      .all(),
  ) as bigint[];
  assert.ok(leaves.length > 20, `${leaves.length} pages`);
  const pageSize = world.read(0, (db) => Number(db.pragma('page_size', { simple: true })));
  const fd = openSync(join(world.events, 'shard-0000.db'), 'r+');
  writeSync(
    fd,
    Buffer.alloc(pageSize, 0xee),
    0,
    pageSize,
    (Number(leaves[leaves.length >> 1]) - 1) * pageSize,
  );
  closeSync(fd);
  const verdict = world.read(0, (db) => db.pragma('integrity_check(1)', { simple: true }));
  assert.notEqual(verdict, 'ok', 'the check eventd must not make would have found it');

  const second = await world.start();
  world.emitMany(0, 5);
  await world.readable(0, 'id > 3000 AND cpu_id = 0 AND sequence = 3005');
  assert.deepEqual(world.shardFiles(), ['shard-0000.db'], 'the shard is in use, no other takes its place');
  const late = world.rows(0, "id > 3000 AND event_type IN ('synthetic.storage_error', 'synthetic.gap')");
  assert.deepEqual(late, []);
  assert.ok(!second.log().some(({ msg }) => /malformed/.test(String(msg))), 'the start did not look there');
});

test('[HOST-69] what a client is, is settled when it connects', async (t) => {
  const store = makeStore(t);
  writeShard(store.directory, 'shard-0000.db', [{ timestamp: 1n }, { timestamp: 2n }]);
  await startService(t, store);
  // Root becomes nobody between connecting and asking; who is no root cannot become anybody else.
  const script = `
    const socket = require('net').connect(process.argv[1], () => {
      if (process.getuid() === 0) { process.setgroups([]); process.setgid(65534); process.setuid(65534); }
      socket.write(Buffer.from(process.argv[2], 'hex'));
    });
    const parts = [];
    socket.on('data', (part) => parts.push(part));
    socket.on('end', () => { socket.end(); process.stdout.write(Buffer.concat(parts).toString('latin1')); });`;
  const request = Buffer.from(encodeRequest('EVENTS')).toString('hex');
  const { stdout } = await run(process.execPath, ['-e', script, store.socketPath, request], {
    cwd: '/',
    encoding: 'latin1',
  });
  assert.ok(stdout.endsWith('end'));
  assert.equal(stdout.split('test.event').length - 1, 2);
});
