/**
 * Random walks of a whole daemon: real hive, rings, sockets, threads and shards. Bursts of events, shards
 * locked, damaged, cut, taken away, rows refused, settings changed, a hive that turns to garbage, threads
 * that die, a stop at any time. Afterwards every sequence is stored or recorded as lost, once.
 */
import assert from 'node:assert/strict';
import { after, test } from 'node:test';
import { setTimeout as pause } from 'node:timers/promises';
import Database from 'better-sqlite3';
import fc from 'fast-check';
import type { ActorRefFrom } from 'xstate';
import { createDaemonActor } from '../../actors/daemon/daemon.js';
import { DaemonRuntime } from '../../actors/daemon/runtime.js';
import type { daemonMachine } from '../../machines/daemon.js';
import { acceptRows, refuseRows } from '../fixtures/database.js';
import { leafOf } from './daemonEvents.js';
import { DaemonThreads } from './daemonThreads.js';
import { CPUS, DaemonWorld } from './daemonWorld.js';
import { walkRandomly } from './random.js';
import { memoryDirectory, until } from './walk.js';

type Command =
  | { readonly do: 'emit'; readonly cpu: number; readonly count: number }
  | { readonly do: 'wait'; readonly ms: number }
  | { readonly do: 'change' | 'garble' | 'mend' | 'reload' | 'settle' }
  | { readonly do: 'lock'; readonly shard: number; readonly ms: number }
  /** To one of the shards that are written. */
  | {
      readonly do: 'damage' | 'cut' | 'remove' | 'removeOnly' | 'removeWal' | 'refuse';
      readonly shard: number;
    }
  | { readonly do: 'accept' }
  | { readonly do: 'killWriter'; readonly shard: number }
  | { readonly do: 'killReaders' | 'killQuery' | 'stop' };

const cpu = fc.nat(CPUS - 1);
const shard = fc.nat(1);
const command = fc.oneof<fc.WeightedArbitrary<Command>[]>(
  {
    weight: 8,
    arbitrary: fc.record({ do: fc.constant('emit' as const), cpu, count: fc.integer({ min: 1, max: 200 }) }),
  },
  { weight: 3, arbitrary: fc.record({ do: fc.constant('wait' as const), ms: fc.nat(30) }) },
  {
    weight: 4,
    arbitrary: fc.record({
      do: fc.constantFrom(
        'change' as const,
        'garble' as const,
        'mend' as const,
        'reload' as const,
        'settle' as const,
      ),
    }),
  },
  { weight: 2, arbitrary: fc.record({ do: fc.constant('lock' as const), shard, ms: fc.nat(60) }) },
  {
    weight: 3,
    arbitrary: fc.record({
      do: fc.constantFrom(
        'damage' as const,
        'cut' as const,
        'remove' as const,
        'removeOnly' as const,
        'removeWal' as const,
      ),
      shard,
    }),
  },
  { weight: 2, arbitrary: fc.record({ do: fc.constant('refuse' as const), shard }) },
  { weight: 2, arbitrary: fc.record({ do: fc.constant('accept' as const) }) },
  { weight: 1, arbitrary: fc.record({ do: fc.constant('killWriter' as const), shard }) },
  {
    weight: 1,
    arbitrary: fc.record({
      do: fc.constantFrom('killReaders' as const, 'killQuery' as const, 'stop' as const),
    }),
  },
);

const root = memoryDirectory();
after(() => {
  delete process.env.PEIOS_BOOT_ID;
});

class Walk {
  readonly #world = new DaemonWorld(root);
  readonly #threads = new DaemonThreads();
  #actor: ActorRefFrom<typeof daemonMachine>;
  /** Per CPU the last sequence that a shard may have held which nobody can read any more. */
  #since: readonly bigint[] = [];
  #stopped = false;
  #starts = 0;

  constructor() {
    this.#actor = this.#start();
  }

  async run(commands: readonly Command[]): Promise<void> {
    await this.#settled();
    for (const one of commands) {
      await this.#do(one);
      if (!this.#active) break;
      this.#check();
    }
    await this.#makeGood();
    if (!this.#active) await this.#endedWell();
    // Whatever an end left in the rings belongs to the next start.
    if (!this.#active) this.#actor = this.#start();
    await this.#settled();
    this.#world.emit(3);
    await this.#complete();
    this.#check();
    this.#stop();
    await until('the end', () => !this.#active);
    assert.equal(this.#actor.getSnapshot().value, 'stopped');
    await this.#world.checkComplete(this.#since);
    await this.#endedWell();
  }

  async close(): Promise<void> {
    this.#world.store.unlock();
    this.#stop();
    await until('the end of a failed walk', () => !this.#active).catch(() => undefined);
    this.#threads.close();
    this.#world.close();
  }

  async #do(one: Command): Promise<void> {
    const { store } = this.#world;
    switch (one.do) {
      case 'emit':
        this.#world.emit(one.count, one.cpu);
        return;
      case 'wait':
        await pause(one.ms);
        return;
      case 'change':
        this.#world.change();
        return;
      case 'garble':
        this.#world.garble();
        return;
      case 'mend':
        this.#world.mend();
        return;
      case 'reload':
        this.#actor.send({ type: 'reload.requested' });
        return;
      case 'settle':
        return this.#settled();
      case 'accept':
        this.#accept();
        return;
      case 'killReaders':
        await this.#threads.readers?.terminate();
        return;
      case 'killQuery':
        await this.#threads.queryWorkers[0]?.terminate();
        return;
      case 'killWriter':
        await this.#threads.writers[one.shard]?.terminate();
        return;
      case 'stop':
        this.#stop();
        return;
      case 'lock': {
        const file = store.writable[one.shard];
        if (file === undefined || !this.#isWhole(file)) return;
        store.lock(file);
        await pause(one.ms);
        store.unlock();
        return;
      }
      default: {
        const file = store.writable[one.shard];
        // A file that is taken away already, or being made, cannot be broken.
        if (file === undefined || !this.#isWhole(file)) return;
        this.#break(one.do, file);
        return;
      }
    }
  }

  #break(how: 'damage' | 'cut' | 'remove' | 'removeOnly' | 'removeWal' | 'refuse', file: string): void {
    const { store } = this.#world;
    switch (how) {
      case 'damage':
        store.damage(file);
        return;
      case 'cut':
        this.#since = this.#world.emitted;
        store.cut(file);
        return;
      case 'remove':
        store.remove(file, { wal: true });
        return;
      case 'removeOnly':
        store.remove(file, { wal: false });
        return;
      case 'removeWal':
        store.removeWal(file);
        return;
      case 'refuse':
        refuseRows(file, 'events');
    }
  }

  #accept(): void {
    for (const file of this.#world.store.writable) {
      if (this.#isWhole(file)) acceptRows(file);
    }
  }

  /** With its tables, and with all of its pages where its writer has not found otherwise yet. */
  #isWhole(file: string): boolean {
    try {
      const db = new Database(file, { readonly: true });
      try {
        return (
          db.prepare("SELECT 1 FROM sqlite_master WHERE name = 'idx_events_timestamp'").get() !== undefined
        );
      } finally {
        db.close();
      }
    } catch {
      return false;
    }
  }

  /** A WAL that was taken away took the repair with it: rows are refused until it is done again. */
  async #complete(): Promise<void> {
    const { store, emitted } = this.#world;
    const deadline = Date.now() + 15_000;
    while (store.missing(emitted, this.#since).length > 0 && Date.now() < deadline) {
      await this.#settled();
      this.#accept();
      await pause(20);
    }
    await this.#world.checkComplete(this.#since);
  }

  /** No more faults from here on. */
  async #makeGood(): Promise<void> {
    this.#world.store.unlock();
    this.#world.mend();
    if (!this.#stopped) await this.#settled();
    else await until('the end', () => !this.#active);
    this.#accept();
  }

  #start(): ActorRefFrom<typeof daemonMachine> {
    this.#starts++;
    this.#world.prepare();
    const runtime = new DaemonRuntime(this.#world.options);
    const actor = createDaemonActor(runtime, this.#world.options.log, {
      abort: () => assert.fail('the shutdown did not end in time'),
    });
    actor.start();
    runtime.watch(actor);
    return actor;
  }

  #stop(): void {
    this.#stopped = true;
    if (this.#active) this.#actor.send({ type: 'stop.requested', reason: 'walk' });
  }

  /** Ready, or ended. */
  #settled(): Promise<void> {
    return until('the daemon to settle', () => !this.#active || this.#leaf === 'ready', 20_000);
  }

  #check(): void {
    const { store } = this.#world;
    if (!store.anyDestroyed && this.#settledNow) this.#world.checkEvents();
    assert.ok(store.count('synthetic.startup') <= this.#starts, 'a startup record for each start');
  }

  /** A file is not looked at while it is being made. */
  get #settledNow(): boolean {
    return this.#leaf === 'ready';
  }

  /** An end is a stop that was asked for, or the break that was one too many; nothing is left of it. */
  async #endedWell(): Promise<void> {
    const { value, context } = this.#actor.getSnapshot();
    assert.ok(value === 'stopped' ? this.#stopped : context.failure !== null);
    await this.#world.checkLeftovers();
  }

  get #active(): boolean {
    return this.#actor.getSnapshot().status === 'active';
  }

  get #leaf(): string {
    return leafOf(this.#actor.getSnapshot().value);
  }
}

test('[ING-17][ING-46][BOOT-10][LIFE-130][LIFE-200][LIFE-221][LIFE-223][FAIL-3][FAIL-5][FAIL-13][FAIL-15][FAIL-18][FAIL-20][FAIL-25] on random walks no event is lost unrecorded and none is stored twice, whatever happens to files, threads and settings', async (t) => {
  const sequences = fc.array(command, { minLength: 3, maxLength: 18 });
  await walkRandomly(t, sequences, 4, () => new Walk());
});
