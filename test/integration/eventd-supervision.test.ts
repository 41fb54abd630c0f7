/**
 * Threads that die and threads that hang: the event path is started again in the same process, queries go
 * on, a path that keeps breaking ends the daemon, and the watchdog's pings tell of a writer that does not
 * answer.
 */
import assert from 'node:assert/strict';
import { existsSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import type { Worker } from 'node:worker_threads';
import type { ActorRefFrom } from 'xstate';
import { createDaemonActor } from '../../actors/daemon/daemon.js';
import { DaemonRuntime } from '../../actors/daemon/runtime.js';
import { type DaemonOutput, type daemonMachine, MAX_RECOVERIES } from '../../machines/daemon.js';
import { runRegistryCommand } from '../../src/registry/edit.js';
import { SERVICE_KEY } from '../../src/registry/names.js';
import { query } from '../../src/wire/client.js';
import { type EventdRun, EventdWorld, eventually } from '../fixtures/eventd.js';
import { DaemonThreads } from '../model/daemonThreads.js';
import { DaemonWorld } from '../model/daemonWorld.js';

/** A whole daemon in this process: the real runtime, its threads in reach. */
class Daemon {
  readonly #root = mkdtempSync(join(existsSync('/dev/shm') ? '/dev/shm' : tmpdir(), 'eventd-supervision-'));
  readonly world = new DaemonWorld(this.#root);
  readonly threads = new DaemonThreads();
  readonly actor: ActorRefFrom<typeof daemonMachine>;
  /** Every state it was in, without repetitions in a row. */
  readonly states: string[] = [];

  constructor() {
    const runtime = new DaemonRuntime(this.world.options);
    this.actor = createDaemonActor(runtime, this.world.options.log);
    this.actor.subscribe(({ value }) => {
      const state = typeof value === 'string' ? value : (Object.keys(value)[0] ?? '');
      if (this.states.at(-1) !== state) this.states.push(state);
    });
    this.actor.start();
    runtime.watch(this.actor);
  }

  static async for(t: TestContext): Promise<Daemon> {
    const daemon = new Daemon();
    t.after(() => daemon.close());
    await daemon.ready();
    await daemon.world.checkComplete();
    return daemon;
  }

  /** Waits until the daemon is ready for the n-th time. */
  async ready(times = 1): Promise<void> {
    await eventually(`ready ${times} times`, () => this.states.filter((s) => s === 'ready').length >= times);
    await eventually('the writers to be known', () => this.threads.writers.length === 2);
  }

  async events(): Promise<number> {
    let count = 0;
    for await (const _ of query(this.world.querySocket, 'EVENTS model.event')) count++;
    return count;
  }

  async stop(): Promise<DaemonOutput> {
    this.actor.send({ type: 'stop.requested', reason: 'test' });
    return this.end();
  }

  async end(): Promise<DaemonOutput> {
    await eventually('the end', () => this.actor.getSnapshot().status !== 'active');
    return this.actor.getSnapshot().output as DaemonOutput;
  }

  async close(): Promise<void> {
    if (this.actor.getSnapshot().status === 'active') await this.stop();
    this.threads.close();
    this.world.close();
    rmSync(this.#root, { recursive: true, force: true });
  }
}

const VICTIMS: Readonly<Record<string, (threads: DaemonThreads) => Worker | undefined>> = {
  'a writer’s thread': ({ writers }) => writers[0],
  'another writer’s thread': ({ writers }) => writers[1],
  'the readers’ thread': ({ readers }) => readers,
};

for (const [name, victim] of Object.entries(VICTIMS)) {
  test(`[LIFE-221] [LIFE-223] [ING-17] [ING-46] ${name} that dies is replaced in the same process: nothing is lost, nothing twice, and queries go on`, async (t) => {
    const daemon = await Daemon.for(t);
    const { world, threads } = daemon;
    const answers: number[] = [];
    let over = false;
    const asking = (async () => {
      while (!over) answers.push(await daemon.events());
    })();
    for (let i = 0; i < 20; i++) world.emit(20);
    // In the midst of its work, with reports of the drain threads on their way.
    await victim(threads)?.terminate();
    for (let i = 0; i < 20; i++) world.emit(20);
    await daemon.ready(2);
    world.emit(20);
    await world.checkComplete();
    over = true;
    await asking;

    assert.equal(world.store.gapped, 0, 'nothing had to be recorded as lost');
    assert.equal(world.store.count('synthetic.startup'), 1, 'it is the same start');
    assert.equal(world.store.count('synthetic.storage_error'), 0, 'no store was at fault');
    assert.deepEqual(
      answers,
      answers.toSorted((a, b) => a - b),
      'every query was answered, none with less than the one before',
    );
    const [first, second] = world.emitted;
    assert.equal(await daemon.events(), Number(first) + Number(second));
    assert.equal(world.errors.length, 1);
    assert.match(
      world.errors[0] ?? '',
      /^thread (writer-[01]|readers): .* ended with code 1; the event path is started again$/,
    );
    assert.deepEqual(await daemon.stop(), { type: 'stopped' });
    assert.deepEqual(daemon.states, [
      'starting',
      'ready',
      'recoveringPath',
      'ready',
      'shuttingDown',
      'stopped',
    ]);
    await world.checkLeftovers();
  });
}

test('[FAIL-30] a query worker that dies concerns nobody but its queries: the event path does not stop, and the next queries are answered', async (t) => {
  const daemon = await Daemon.for(t);
  const { world, threads } = daemon;
  await daemon.events();
  assert.ok(threads.queryWorkers.length > 0);
  for (const worker of threads.queryWorkers) await worker.terminate();
  world.emit(5);
  await world.checkComplete();
  const [first, second] = world.emitted;
  const all = Number(first) + Number(second);
  assert.equal(await eventually('an answer', () => daemon.events().catch(() => null)), all);
  assert.deepEqual(daemon.states, ['starting', 'ready'], 'the daemon itself has not noticed');
  assert.deepEqual(await daemon.stop(), { type: 'stopped' });
  await world.checkLeftovers();
});

test('[LIFE-130] [LIFE-208] a path that breaks a fourth time within the window ends the daemon as failed, in order, and nothing is left', async (t) => {
  const daemon = await Daemon.for(t);
  const { world, threads } = daemon;
  for (let death = 1; death <= MAX_RECOVERIES; death++) {
    await threads.writers[0]?.terminate();
    await daemon.ready(death + 1);
  }
  world.emit(3);
  await threads.writers[0]?.terminate();
  assert.deepEqual(await daemon.end(), {
    type: 'failed',
    failure: { phase: 'thread writer-0', message: 'thread writer-0 ended with code 1' },
  });
  const again = world.errors.filter((line) => line.endsWith('; the event path is started again'));
  assert.equal(again.length, MAX_RECOVERIES);
  assert.deepEqual(
    world.notified.filter((word) => word === 'READY' || word === 'STOPPING'),
    ['READY', 'STOPPING'],
  );
  await world.checkLeftovers();
  world.checkEvents();
});

test('[LIFE-130] [FAIL-13] a program whose shards keep disappearing exits with 1 and says why in one line', async (t) => {
  const world = EventdWorld.for(t, { cpus: 1 });
  const run = await world.start();
  world.emit(0, 'test.first');
  for (let times = 1; times <= MAX_RECOVERIES + 1; times++) {
    await world.stored(0);
    for (const suffix of ['', '-wal', '-shm'])
      rmSync(join(world.events, `shard-0000.db${suffix}`), { force: true });
    world.emit(0, 'test.lost');
    if (times > MAX_RECOVERIES) break;
    const works = () => run.log().filter(({ msg }) => msg === 'the event path works again').length === times;
    await eventually('the path to work again', works);
  }
  assert.deepEqual(await run.exited, { code: 1, signal: null });
  const plain = run.stderr.split('\n').filter((line) => line !== '' && !line.startsWith('{'));
  assert.equal(plain.length, 1, run.stderr);
  assert.match(
    plain[0] ?? '',
    /^eventd: shard 0: .*shard-0000\.db: the file was deleted; it is not written any more$/,
  );
  assert.equal(run.readyCount, 1, 'ready is not signalled again by a recovery');
});

const PING_MS = 333;

/** When each ping came, ms of a monotonic clock. */
function pings(world: EventdWorld, run: EventdRun): number[] {
  const times: number[] = [];
  const seen = (): number => run.messages.filter((fields) => fields.get('WATCHDOG') === '1').length;
  const look = setInterval(() => {
    while (times.length < seen()) times.push(performance.now());
  }, 5);
  void run.exited.then(() => clearInterval(look));
  assert.ok(world.notifications !== undefined);
  return times;
}

test('[HOST-22] [HOST-55] pings come at a third of WatchdogTimeout, stop while a writer hangs, and come back when it answers', async (t) => {
  const world = EventdWorld.for(t, { cpus: 1 });
  await runRegistryCommand(world.paths.hive, 'set', [SERVICE_KEY, 'WatchdogTimeout', 'dword:00000001']);
  const run = await world.start();
  const times = pings(world, run);
  await eventually('some pings', () => times.length >= 5);
  const gaps = times.slice(1).map((time, i) => time - (times[i] ?? 0));
  const mean = gaps.reduce((sum, gap) => sum + gap, 0) / gaps.length;
  assert.ok(mean > PING_MS * 0.8 && mean < PING_MS * 2, `every ${Math.round(mean)} ms`);

  // The writer sits inside SQLite, waiting for a lock, and hears nothing.
  const unlock = world.lock(0);
  world.emit(0, 'test.hangs');
  const since = (): number => performance.now() - (times.at(-1) ?? 0);
  await eventually('the pings to stop', () => since() > 1000 + PING_MS, 4500);
  const silent = times.length;
  unlock();
  await eventually('the pings to come back', () => times.length > silent);
  await world.stored(0);
  assert.deepEqual(world.gaps(), [], 'it hung, and lost nothing');
  assert.deepEqual(await run.end(), { code: 0, signal: null });
});

test('[HOST-22] [HOST-55] WATCHDOG_USEC decides where it is set for this process, and a stop ends the pings', async (t) => {
  const world = EventdWorld.for(t, { cpus: 1 });
  const run = await world.start({ WATCHDOG_USEC: '150000' });
  const count = (): number => run.messages.filter((fields) => fields.get('WATCHDOG') === '1').length;
  await eventually('pings', () => count() >= 5);
  assert.deepEqual(await run.end(), { code: 0, signal: null });
  const words = run.messages.map((fields) => [...fields.keys()][0]);
  assert.equal(words.lastIndexOf('WATCHDOG') < words.indexOf('STOPPING'), true, 'no ping behind STOPPING');

  const other = await world.start({ WATCHDOG_USEC: '30000', WATCHDOG_PID: '1' });
  world.emit(0, 'test.one');
  await world.stored(0);
  assert.deepEqual(await other.end(), { code: 0, signal: null });
  assert.ok(!other.messages.some((fields) => fields.has('WATCHDOG')), 'meant for another process');
});
