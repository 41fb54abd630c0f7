/**
 * A stop in every state the real eventd can be in. Whatever it is doing, it ends within its bound, with
 * the exit code of the book, without its sockets, and the next start accounts for every event. That next
 * start is where the test behind it begins: all of them use one world.
 */
import assert from 'node:assert/strict';
import { copyFileSync, readdirSync, readlinkSync, rmSync } from 'node:fs';
import { basename, join } from 'node:path';
import { after, type TestContext, test } from 'node:test';
import { setTimeout as pause } from 'node:timers/promises';
import Database from 'better-sqlite3';
import { parseGuid } from '../../src/host/guid.js';
import { encodeRequest } from '../../src/wire/messages.js';
import { accountFor, faultsOf } from '../fixtures/accounting.js';
import { DebugReader } from '../fixtures/debugReader.js';
import { BOOT_A, type EventdEnd, type EventdRun, EventdWorld, eventually } from '../fixtures/eventd.js';
import { writeShard } from '../fixtures/eventShards.js';
import { connectRaw } from '../fixtures/rawQueryClient.js';

const CPUS = [0, 1];
const SIGNALS = ['SIGTERM', 'SIGINT', 'SIGQUIT'] as const;
const GRACEFUL: EventdEnd = { code: 0, signal: null };
/** The abort ends the process the way the service manager would (LIFE-210). */
const ABORTED: EventdEnd = { code: null, signal: 'SIGKILL' };
/** StopTimeout of these tests, s. eventd goes one second earlier (HOST-18). */
const STOP_TIMEOUT = 4;
const STOP_BOUND_MS = (STOP_TIMEOUT - 1) * 1000;

/** The world that all tests share as long as they leave it in order, and the eventd that runs in it. */
let shared: { readonly world: EventdWorld; readonly run: EventdRun } | null = null;
after(() => shared?.world.close());

/** A world in which nothing runs yet. Batches are small, so that a reader can be throttled. */
async function newWorld(t: TestContext): Promise<EventdWorld> {
  const world = new EventdWorld({ capacity: 16 << 20, settings: { MaxBatchSize: 100 } });
  t.after(() => (shared?.world === world ? undefined : world.close()));
  await world.setServiceTimeout(STOP_TIMEOUT);
  return world;
}

/** A world with an eventd that is ready, most often the one that accounted for the test before. */
async function runningWorld(t: TestContext): Promise<{ world: EventdWorld; run: EventdRun }> {
  if (shared === null) {
    const world = await newWorld(t);
    return { world, run: await world.start() };
  }
  const taken = shared;
  shared = null;
  t.after(() => (shared?.world === taken.world ? undefined : taken.world.close()));
  return taken;
}

/** The same after a graceful stop. */
async function stoppedWorld(t: TestContext): Promise<EventdWorld> {
  const { world, run } = await runningWorld(t);
  assert.deepEqual(await run.end(), GRACEFUL, run.stderr);
  return world;
}

/** Asks for a stop, in whatever way, and checks how it ends. */
async function stops(
  world: EventdWorld,
  run: EventdRun,
  end: EventdEnd,
  ask: () => void | Promise<void>,
): Promise<void> {
  const asked = performance.now();
  await ask();
  const ended = await run.exited;
  const took = performance.now() - asked;
  assert.deepEqual(ended, end, run.stderr);
  assert.ok(took < STOP_TIMEOUT * 1000, `it took ${took} ms, and the service manager would have killed it`);
  const aborts = run.stderr.match(/shutdown did not finish within \d+ ms; aborting/g) ?? [];
  assert.deepEqual(
    aborts,
    end === ABORTED ? [`shutdown did not finish within ${STOP_BOUND_MS} ms; aborting`] : [],
  );
  assert.doesNotMatch(run.stderr, /internal error|^ +at /m);
  if (end === GRACEFUL) assert.deepEqual(readdirSync(world.paths.run), ['notify.sock'], 'no socket is left');
  const order = run.messages.flatMap((fields) => [...fields.keys()]);
  assert.ok(order.filter((key) => key === 'STOPPING').length <= 1, order.join());
  if (order.includes('STOPPING')) assert.equal(order.at(-1), 'STOPPING', 'nothing is announced after it');
}

/**
 * The next start finds a sound store, and afterwards every sequence is stored or in a gap record, once.
 * The next test has it running.
 */
async function accountedByNextStart(world: EventdWorld): Promise<void> {
  world.writeHive();
  await world.setServiceTimeout(STOP_TIMEOUT);
  const run = await world.start();
  for (const cpu of CPUS) world.emitMany(cpu, 5);
  for (const cpu of CPUS) await world.stored(cpu);
  for (const file of world.shardFiles())
    assert.equal(
      world.read(file, (db) => db.pragma('integrity_check', { simple: true })),
      'ok',
      file,
    );
  const last = CPUS.map((cpu) => Number(world.sequence(cpu)));
  assert.deepEqual(faultsOf(accountFor(world.events, parseGuid(BOOT_A), last)), []);
  shared = { world, run };
}

/** How many events a CPU has stored behind a sequence. */
const storedSince = (world: EventdWorld, cpu: number, sequence: bigint): number =>
  world.sequences(cpu).filter((stored) => stored > sequence).length;

const says = (run: EventdRun, text: RegExp) => run.log().some(({ msg }) => text.test(String(msg)));

/** A shard whose every row is refused, and how it accepts again. */
function refuse(world: EventdWorld, shard: number): () => void {
  world.change(shard, (db) =>
    db.exec("CREATE TRIGGER full BEFORE INSERT ON events BEGIN SELECT RAISE(FAIL, 'no room'); END"),
  );
  return () => world.change(shard, (db) => db.exec('DROP TRIGGER full'));
}

/** Nobody but the returned function's caller can even read the shard until it is called. */
function occupy(world: EventdWorld, shard: number): () => void {
  const db = new Database(join(world.events, `shard-${String(shard).padStart(4, '0')}.db`));
  db.pragma('locking_mode = EXCLUSIVE');
  db.exec('BEGIN IMMEDIATE');
  return () => db.close();
}

/** Names of the files the process has open. */
function openFiles({ pid }: EventdRun): string[] {
  const directory = `/proc/${pid}/fd`;
  return readdirSync(directory).flatMap((fd) => {
    try {
      return [basename(readlinkSync(join(directory, fd)))];
    } catch {
      return []; // Closed meanwhile.
    }
  });
}

// While it starts

test('[LIFE-230] [LIFE-131] [LIFE-132] SIGTERM, SIGINT and SIGQUIT at any instant of the start end it with 0 and cost no event', {
  timeout: 240_000,
}, async (t) => {
  const world = await newWorld(t);
  const rehearsal = world.spawn();
  await rehearsal.hasLogged('the start', () => true);
  const begun = performance.now();
  await rehearsal.ready;
  const startMs = performance.now() - begun;
  await rehearsal.end();
  for (const signal of SIGNALS) {
    const steps = signal === 'SIGTERM' ? 5 : 3;
    for (let step = 0; step <= steps; step++) {
      world.emitMany(step % 2, 50);
      const run = world.spawn();
      await run.hasLogged('the start', () => true);
      // The instant is what this is about, not a state to wait for.
      await pause((startMs * step) / steps);
      await stops(world, run, GRACEFUL, () => run.kill(signal));
    }
  }
  await accountedByNextStart(world);
});

// SIGINT takes the same way as SIGTERM from here on; SIGQUIT makes its dump first.
test('[LIFE-210] [LIFE-138] SIGTERM and SIGQUIT while a start waits for a locked shard are obeyed when the lock goes, and abort when it stays', {
  timeout: 120_000,
}, async (t) => {
  const world = await stoppedWorld(t);
  for (const signal of ['SIGTERM', 'SIGQUIT'] as const) {
    for (const end of [GRACEFUL, ABORTED]) {
      world.emitMany(0, 50);
      const release = world.lock(0);
      t.after(release);
      const run = world.spawn();
      await eventually('the start has reached its threads', () => says(run, /restart within the boot/));
      world.emit(1, 'test.flows');
      await world.stored(1);
      await stops(world, run, end, async () => {
        run.kill(signal);
        if (end === GRACEFUL) {
          await eventually('STOPPING', () => run.messages.some((fields) => fields.has('STOPPING')));
          release();
        }
      });
      release();
      assert.equal(run.readyCount, 0);
    }
  }
  await accountedByNextStart(world);
});

test('[LIFE-104] [LIFE-130] [LIFE-210] a stop while a shard cannot even be opened: the start fails or is undone, in time', {
  timeout: 60_000,
}, async (t) => {
  const world = await stoppedWorld(t);
  await world.setServiceTimeout(10);
  world.emitMany(0, 50);
  for (const isReleased of [true, false]) {
    const release = occupy(world, 0);
    t.after(release);
    const run = world.spawn();
    await eventually('eventd waits for the shard', () => openFiles(run).includes('shard-0000.db'));
    const asked = performance.now();
    run.kill('SIGTERM');
    if (isReleased) release();
    const ended = await run.exited;
    assert.ok(performance.now() - asked < 9000, 'within the stop bound');
    release();
    // What was asked for first counts: a start that fails is a failure, whoever else wants it to end.
    assert.deepEqual(ended, isReleased ? GRACEFUL : { code: 1, signal: null }, run.stderr);
    if (!isReleased) assert.match(run.stderr, /^eventd: storage: \S+shard-0000\.db: .*locked.*\n/m);
    assert.deepEqual(readdirSync(world.paths.run), ['notify.sock']);
  }
  await accountedByNextStart(world);
});

test('[LIFE-109] [LIFE-131] a stop while a start reads hundreds of old shards is obeyed', {
  timeout: 60_000,
}, async (t) => {
  const world = await stoppedWorld(t);
  const old = Array.from({ length: 200 }, (_, i) => `shard-0${100 + i}.db`);
  const [first = '', ...others] = old;
  writeShard(world.events, first, [{ timestamp: 1n, sequence: 1n }]);
  for (const name of others) copyFileSync(join(world.events, first), join(world.events, name));
  world.emitMany(0, 50);
  const run = world.spawn();
  await run.hasLogged('the start', () => true);
  await stops(world, run, GRACEFUL, () => run.kill('SIGTERM'));
  assert.equal(run.readyCount, 0);
  // They have done their part, and would only make the account slow.
  for (const name of old) rmSync(join(world.events, name));
  await accountedByNextStart(world);
});

// While it works

for (const signal of ['SIGTERM', 'SIGQUIT'] as const) {
  test(`[FAIL-5] [FAIL-7] [LIFE-204] ${signal} while a writer is degraded: ends with 0, and the next start records what was lost`, {
    timeout: 60_000,
  }, async (t) => {
    const { world, run } = await runningWorld(t);
    const shutdowns = () => world.syntheticIn(1, 'synthetic.shutdown').length;
    const before = { shutdowns: shutdowns(), sequence: world.sequence(1) };
    const accept = refuse(world, 0);
    world.emitMany(0, 100);
    world.emitMany(1, 100);
    await eventually('a failed commit', () => says(run, /shard 0 could not commit/));
    await stops(world, run, GRACEFUL, () => run.kill(signal));
    assert.equal(shutdowns(), before.shutdowns + 1, 'the record went to the healthy shard');
    assert.equal(storedSince(world, 1, before.sequence), 100);
    accept();
    await accountedByNextStart(world);
  });
}

test('[LIFE-210] [LIFE-211] a writer that hangs at the stop: aborted at the bound with one line, and nothing is lost or doubled', {
  timeout: 60_000,
}, async (t) => {
  const { world, run } = await runningWorld(t);
  const release = world.lock(0);
  t.after(release);
  world.emitMany(0, 100);
  world.emitMany(1, 100);
  await world.stored(1);
  const asked = performance.now();
  await stops(world, run, ABORTED, () => run.kill('SIGTERM'));
  assert.ok(performance.now() - asked >= STOP_BOUND_MS - 100, 'not before the bound');
  release();
  await accountedByNextStart(world);
});

for (const outcome of ['goes on', 'hangs'] as const) {
  test(`[LIFE-203] [LIFE-211] a stop while a reader is throttled by a writer that ${outcome}`, {
    timeout: 60_000,
  }, async (t) => {
    const { world, run } = await runningWorld(t);
    const before = world.sequence(0);
    const reader = new DebugReader(world.paths.debugSocket);
    t.after(() => reader.close());
    await reader.ready();
    const release = world.lock(0);
    t.after(release);
    world.emitMany(0, 2000);
    await eventually('reader 0 throttled', () =>
      /"throttled"/.test(JSON.stringify(reader.states().get('reader-0') ?? null)),
    );
    await stops(world, run, outcome === 'goes on' ? GRACEFUL : ABORTED, async () => {
      run.kill('SIGTERM');
      await eventually('STOPPING', () => run.messages.some((fields) => fields.has('STOPPING')));
      if (outcome === 'goes on') release();
    });
    release();
    if (outcome === 'goes on')
      assert.equal(storedSince(world, 0, before), 2000, 'the last drain took what the reader was kept from');
    await accountedByNextStart(world);
  });
}

test('[LIFE-231] [HOST-20] a stop during reloads ends with 0, and no READY=1 follows STOPPING=1', {
  timeout: 60_000,
}, async (t) => {
  const { world, run: first } = await runningWorld(t);
  for (let round = 0; round < 3; round++) {
    const run = round === 0 ? first : await world.start();
    world.emitMany(0, 200);
    world.writeHive({ MaxBatchSize: 500 + round });
    await world.setServiceTimeout(STOP_TIMEOUT);
    await stops(world, run, GRACEFUL, async () => {
      run.kill('SIGHUP');
      if (round > 0)
        await eventually('RELOADING', () => run.messages.some((fields) => fields.has('RELOADING')));
      run.kill('SIGHUP');
      run.kill('SIGTERM');
      run.kill('SIGHUP');
    });
  }
  await accountedByNextStart(world);
});

test('[FAIL-15] [LIFE-200] a stop while the event path is started again ends with 0, and the next start accounts for everything', {
  timeout: 90_000,
}, async (t) => {
  const { world, run: first } = await runningWorld(t);
  for (const wait of [false, true]) {
    const run = wait ? await world.start() : first;
    world.emitMany(0, 300);
    world.emitMany(1, 300);
    await world.stored(0);
    await world.stored(1);
    rmSync(join(world.events, 'shard-0000.db'));
    await eventually('the path breaks', () => {
      world.emit(0, 'test.breaks');
      return says(run, /the event path is started again/);
    });
    if (wait) await eventually('the path works', () => says(run, /the event path works again/));
    await stops(world, run, GRACEFUL, () => run.kill('SIGTERM'));
  }
  await accountedByNextStart(world);
});

test('[LIFE-201] [QX-64] a stop with a query running and clients that do not read', {
  timeout: 60_000,
}, async (t) => {
  const { world, run } = await runningWorld(t);
  const before = world.sequence(1);
  // More than sockets and credits hold: the queries cannot come to their end.
  world.emitMany(0, 12_000, 1000);
  await world.stored(0);
  for (let i = 0; i < 4; i++) {
    const client = await connectRaw(world.paths.querySocket);
    t.after(() => client.destroy());
    client.on('error', () => undefined);
    client.pause();
    client.write(encodeRequest('EVENTS test.many'));
  }
  const silent = await connectRaw(world.paths.querySocket);
  t.after(() => silent.destroy());
  silent.on('error', () => undefined);
  const lookOn = new DebugReader(world.paths.debugSocket);
  t.after(() => lookOn.close());
  await lookOn.ready();
  await eventually('the queries run', () =>
    [...lookOn.states()].some(([name, value]) => /^querySession/.test(name) && value === 'delivering'),
  );
  lookOn.socket.pause();
  world.emitMany(1, 500);
  await stops(world, run, GRACEFUL, () => run.kill('SIGTERM'));
  assert.equal(storedSince(world, 1, before), 500);
  await accountedByNextStart(world);
});

// While it stops

test('[LIFE-231] [LIFE-210] signals without end do not change a stop: not its bound, not its one line', {
  timeout: 60_000,
}, async (t) => {
  const { world, run: first } = await runningWorld(t);
  for (const end of [GRACEFUL, ABORTED]) {
    const run = end === GRACEFUL ? first : await world.start();
    world.emitMany(0, 2000);
    world.emitMany(1, 2000);
    const release = end === ABORTED ? world.lock(0) : () => undefined;
    t.after(release);
    if (end === ABORTED) world.emitMany(0, 100);
    let stopped = false;
    void run.exited.then(() => {
      stopped = true;
    });
    await stops(world, run, end, async () => {
      while (!stopped) {
        for (const signal of [...SIGNALS, 'SIGHUP'] as const) run.kill(signal);
        await pause(20);
      }
    });
    release();
  }
  await accountedByNextStart(world);
});
