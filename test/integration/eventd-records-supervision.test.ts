/**
 * The log and the metric path while other parts break and mend, and while they break themselves: the event
 * path is started again beside them, their threads are replaced, the watchdog hears of one that hangs, and
 * an engineer sees them.
 */
import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { setTimeout as pause } from 'node:timers/promises';
import type { Worker } from 'node:worker_threads';
import { encode } from '@msgpack/msgpack';
import Database from 'better-sqlite3';
import type { ActorRefFrom } from 'xstate';
import { createDaemonActor } from '../../actors/daemon/daemon.js';
import { DaemonRuntime } from '../../actors/daemon/runtime.js';
import type { daemonMachine } from '../../machines/daemon.js';
import { native } from '../../src/native/addon.js';
import { runRegistryCommand } from '../../src/registry/edit.js';
import { SERVICE_KEY } from '../../src/registry/names.js';
import { DebugReader } from '../fixtures/debugReader.js';
import { type EventdRun, EventdWorld, eventually } from '../fixtures/eventd.js';
import {
  EventdRecords,
  line,
  numbered,
  numbersOf,
  STORES,
  type Store,
  saidBy,
} from '../fixtures/eventdRecords.js';
import { runProgram } from '../fixtures/runProgram.js';
import { DaemonWorld } from '../model/daemonWorld.js';

const LIMIT = { timeout: 90_000 };
const QUIET = { cpus: 1, settings: { HealthMetricIntervalSeconds: 0 } } as const;

test(
  '[FAIL-15, LOG-24, MET-38, LIFE-121, LIFE-122] while the event path is started again logs and metrics go on: each record stored once, the threads are the same',
  LIMIT,
  async (t) => {
    const world = EventdWorld.for(t, QUIET);
    const records = new EventdRecords(world);
    const run = await world.start();
    let over = false;
    const sent = { log: 0, metric: 0 };
    const flows = STORES.map(async (store) => {
      for (; !over; sent[store] += 20) {
        await records.sendNumbered(store, sent[store], 20, 20);
        await pause(1);
      }
    });
    world.emit(0, 'test.first');
    await world.stored(0);
    for (const suffix of ['', '-wal', '-shm']) rmSync(join(world.events, `shard-0000.db${suffix}`));
    world.emit(0, 'test.second');
    await eventually('the event path', () => saidBy(run, 30).includes('the event path works again'));
    const at = { ...sent };
    await eventually('more records', () => STORES.every((store) => sent[store] > at[store] + 200));
    over = true;
    await Promise.all(flows);
    for (const store of STORES) {
      await records.stored(store, sent[store]);
      const numbers = numbersOf(store === 'log' ? records.logs() : records.samples()).sort((a, b) => a - b);
      assert.deepEqual(
        numbers,
        numbers.map((_, i) => i),
        store,
      );
      assert.deepEqual(records.errors(store), []);
    }
    assert.equal(run.readyCount, 1);
    assert.deepEqual(
      saidBy(run).filter((text) => /writer/.test(text)),
      [],
    );
  },
);

/** A whole daemon in this process, with the threads of its record writers in reach. */
class Daemon {
  readonly #root = mkdtempSync(join(tmpdir(), 'eventd-records-'));
  readonly world = new DaemonWorld(this.#root, { HealthMetricIntervalSeconds: 0 });
  readonly actor: ActorRefFrom<typeof daemonMachine>;
  readonly #committed: { readonly worker: Worker; readonly records: number }[] = [];
  readonly #seen = (worker: Worker): void => {
    worker.on('message', ({ type, records }: { type: string; records?: number }) => {
      if (type === 'committed' && records !== undefined) this.#committed.push({ worker, records });
    });
  };

  constructor(t: TestContext) {
    process.on('worker', this.#seen);
    const runtime = new DaemonRuntime(this.world.options);
    this.actor = createDaemonActor(runtime, this.world.options.log);
    t.after(() => this.#close());
    this.actor.start();
    runtime.watch(this.actor);
  }

  get state(): string {
    return JSON.stringify(this.actor.getSnapshot().value);
  }

  file(store: Store): string {
    return join(this.world.directory, `${store}s.db`);
  }

  send(store: Store, records: number): void {
    const all = Array.from({ length: records }, (_, n) => numbered(store, n));
    native.sendDatagram(join(this.world.directory, `${store}.sock`), encode(all));
  }

  count(store: Store): number {
    const db = new Database(this.file(store), { readonly: true });
    try {
      return Number(
        db
          .prepare(`SELECT count(*) FROM ${store === 'log' ? 'logs' : 'samples'}`)
          .pluck()
          .get(),
      );
    } finally {
      db.close();
    }
  }

  /** The thread that stores what is sent to a store now; known by a number of records nobody else sends. */
  async writer(store: Store, records: number): Promise<Worker> {
    this.send(store, records);
    return eventually(
      `the ${store} writer`,
      () => this.#committed.find((commit) => commit.records === records)?.worker,
    );
  }

  async stop(): Promise<void> {
    this.actor.send({ type: 'stop.requested', reason: 'test' });
    await eventually('the end', () => this.actor.getSnapshot().status !== 'active');
  }

  async #close(): Promise<void> {
    if (this.actor.getSnapshot().status === 'active') await this.stop();
    process.off('worker', this.#seen);
    this.world.close();
    rmSync(this.#root, { recursive: true, force: true });
  }
}

test(
  '[LOG-11, LOG-24, MET-38, LIFE-221, FAIL-10] a log or metric writer’s thread that dies is replaced: one line, what was committed stays, what is sent meanwhile is stored, nobody else notices',
  LIMIT,
  async (t) => {
    const daemon = new Daemon(t);
    await eventually('ready', () => daemon.state === '"ready"');
    const reader = new DebugReader(join(daemon.world.directory, 'debug.sock'));
    t.after(() => reader.close());
    await reader.ready();
    for (const [i, store] of STORES.entries()) {
      const [first, second, third] = [100 + i, 110 + i, 120 + i];
      const worker = await daemon.writer(store, first);
      assert.equal(daemon.count(store), first);
      await worker.terminate();
      for (let n = 1; n <= 5; n++) daemon.send(store, 1);
      const stored = first + 5;
      await eventually(`what was sent to the ${store} store meanwhile`, () => daemon.count(store) === stored);
      const next = await daemon.writer(store, second);
      assert.notEqual(next, worker, 'it is another thread');
      // Within a minute it is the same episode, which is not told again.
      await next.terminate();
      assert.notEqual(await daemon.writer(store, third), next);
      assert.equal(daemon.count(store), stored + second + third);
      await eventually(`the end of two ${store} writers on the debug socket`, () => {
        const sessions = reader.sessionsOf(`${store}-writer`);
        return sessions.length === 3 && sessions.filter((session) => reader.isOver(session)).length === 2;
      });
      assert.equal(reader.states().has(`${store}-writer`), true, 'the third is shown');
    }
    const others = ['reader-0', 'writer-0', 'retention', 'index-advisor', 'rollup-advisor'];
    assert.deepEqual(
      others.filter((name) => reader.sessionsOf(name).some((session) => reader.isOver(session))),
      [],
      'nobody else is over',
    );
    daemon.world.emit(3);
    await daemon.world.checkComplete();
    assert.equal(daemon.state, '"ready"');
    assert.deepEqual(
      daemon.world.errors.map((text) => text.replace(/:.*/, '')),
      STORES.map((store) => `thread ${store}-writer ended and is started again`),
    );
    await daemon.stop();
    await daemon.world.checkLeftovers();
  },
);

test(
  '[LIFE-202, LIFE-204] a stop while a writer’s thread waits for its restart stores what the socket has brought meanwhile',
  LIMIT,
  async (t) => {
    const daemon = new Daemon(t);
    await eventually('ready', () => daemon.state === '"ready"');
    // Each death of an episode is followed by a longer pause; none by a word after the first.
    let stored = 0;
    for (let records = 101; records <= 104; records++) {
      await (await daemon.writer('log', records)).terminate();
      stored += records;
    }
    daemon.send('log', 7);
    await daemon.stop();
    assert.equal(daemon.count('log'), stored + 7);
    assert.equal(daemon.world.errors.length, 1, daemon.world.errors.join('\n'));
    await daemon.world.checkLeftovers();
  },
);

const pings = (run: EventdRun) => run.messages.filter((fields) => fields.get('WATCHDOG') === '1').length;

test('[HOST-22, HOST-55] the watchdog waits for the log and the metric writer, too', LIMIT, async (t) => {
  const world = EventdWorld.for(t, QUIET);
  await runRegistryCommand(world.paths.hive, 'set', [SERVICE_KEY, 'WatchdogTimeout', 'dword:00000001']);
  const records = new EventdRecords(world);
  const run = await world.start();
  for (const store of STORES) {
    const before = pings(run);
    await eventually('pings', () => pings(run) > before);
    const unlock = records.lock(store);
    await records.send(store, numbered(store, 1));
    // One may be on its way already.
    await pause(400);
    const held = pings(run);
    await pause(900);
    assert.ok(pings(run) <= held, `a ping while the ${store} writer hangs`);
    unlock();
    await eventually('pings again', () => pings(run) > held);
    await records.stored(store, 1);
  }
  assert.deepEqual(
    STORES.flatMap((store) => records.errors(store)),
    [],
  );
});

test(
  '[LIFE-230, LOG-24, MET-38] evctl inspect and the dump of SIGQUIT show both writers with what they have stored',
  LIMIT,
  async (t) => {
    const world = EventdWorld.for(t, QUIET);
    const records = new EventdRecords(world);
    const run = await world.start();
    await records.send('log', [line('a'), line('b'), line('c')]);
    await records.send('metric', numbered('metric', 1));
    await records.stored('log', 3);
    await records.stored('metric', 1);
    const shown = await eventually('the figures', async () => {
      const { stdout } = await runProgram('evctl', ['inspect', '--debug-socket', world.paths.debugSocket])
        .done;
      return /log-writer .*(3 rows|records 3)\b/.test(stdout.toString()) && stdout.toString();
    });
    assert.match(shown, /─ log-writer +idle +.*(3 rows|records 3)\b/);
    assert.match(shown, /─ metric-writer +idle +.*(1 rows|records 1)\b/);
    run.kill('SIGQUIT');
    assert.deepEqual(await run.exited, { code: 0, signal: null });
    const lines = run.stderr.split('\n').filter((text) => / writer/.test(text));
    const dumped = (start: string) => lines.find((text) => text.includes(start)) ?? '';
    assert.match(
      dumped('log writer'),
      /idle, +good, +3 records, +1 commits, +1 datagrams, +0 dropped, +0 bytes waiting/,
    );
    assert.match(
      dumped('metric writer'),
      /idle, +good, +1 records, +1 commits, +1 datagrams, +0 dropped, +0 bytes waiting/,
    );
    assert.ok(
      lines.every((text) => text.startsWith('  ')),
      'as columns of the block',
    );
  },
);
