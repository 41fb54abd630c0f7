/** Every path of the daemon's machine, walked on the real actor: real hive, ring, sockets, threads, shards. */
import assert from 'node:assert/strict';
import { existsSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import type { ActorRefFrom, AnyMachineSnapshot } from 'xstate';
import { createDaemonActor } from '../../actors/daemon/daemon.js';
import { type DaemonOutput, daemonMachine } from '../../machines/daemon.js';
import { DaemonWorld, PacedRuntime } from './daemonWorld.js';
import {
  Coverage,
  Gates,
  keyOf,
  type ModelEvent,
  pathsOf,
  Shadow,
  type Step,
  until,
  WalkError,
} from './walk.js';

const PHASES = [
  'configuring',
  'openingStores',
  'resolvingBoot',
  'attachingKmes',
  'bindingSockets',
  'startingActors',
  'announcingReady',
];
const STEPS = [
  'closingSockets',
  'drainingRings',
  'committing',
  'recordingShutdown',
  'closingStores',
  'releasingRings',
];

/** Why a phase or step fails; the driver makes it so. */
const CAUSES: Readonly<Record<string, readonly string[]>> = {
  configuring: ['no EventStorePath', 'malformed boot id', 'no ring'],
  openingStores: ['a file where the directory should be'],
  resolvingBoot: ['the directory is gone'],
  bindingSockets: ['a live listener'],
  startingActors: ['a shard that is no database'],
  drainingRings: ['a locked shard'],
  committing: ['a locked shard'],
  recordingShutdown: ['a locked shard'],
};

const stop: ModelEvent = { type: 'stop.requested', reason: 'test' };
const change: ModelEvent = { type: 'configuration.changed' };
const reload: ModelEvent = { type: 'reload.requested' };
const threadFailed: ModelEvent = { type: 'thread.failed', thread: 'writer-0', message: 'shard 0 is damaged' };

/** `openingStores`, `quietly`, `ready`: the innermost state. */
function leafOf(value: unknown): string {
  return typeof value === 'string' ? value : leafOf(Object.values(value as Record<string, unknown>)[0]);
}

function idOf(leaf: string): string {
  if (PHASES.includes(leaf)) return `0.daemon.starting.${leaf}`;
  if (STEPS.includes(leaf)) return `0.daemon.shuttingDown.${leaf}`;
  return leaf === 'undoing' ? '0.daemon.undoing' : `0.daemon.reloading.${leaf}`;
}

const done = (leaf: string): ModelEvent => ({ type: `xstate.done.actor.${idOf(leaf)}` });
const failures = (leaf: string): ModelEvent[] =>
  (CAUSES[leaf] ?? []).map((cause) => ({
    type: `xstate.error.actor.${idOf(leaf)}`,
    error: new Error(cause),
    cause,
  }));

/** What can happen to a daemon in a state. Its threads can fail as long as they run. */
function possible({ value, context }: AnyMachineSnapshot): ModelEvent[] {
  const leaf = leafOf(value);
  if (PHASES.includes(leaf)) {
    if (context.stopping) return [done(leaf)];
    const news = leaf === 'resolvingBoot' && !context.changed ? [change, reload] : [];
    const running = leaf === 'announcingReady' ? [threadFailed] : [];
    return [done(leaf), ...(context.changed ? [] : [...failures(leaf), stop]), ...news, ...running];
  }
  if (leaf === 'ready') return [stop, change, reload, threadFailed];
  if (leaf === 'quietly' || leaf === 'announced') {
    return [done(leaf), stop, threadFailed, ...(context.changed ? [] : [change])];
  }
  if (STEPS.includes(leaf)) {
    const unheard = leaf === 'closingSockets' ? [change, reload, stop, threadFailed] : [];
    return context.failure === null ? [done(leaf), ...failures(leaf), ...unheard] : [done(leaf)];
  }
  return leaf === 'undoing' ? [done(leaf)] : [];
}

function walks(): Step[][] {
  return pathsOf(daemonMachine, {
    events: possible,
    project: ({ value, context }) => {
      const ending = STEPS.includes(leafOf(value)) || leafOf(value) === 'undoing';
      return [context.failure !== null, context.stopping, !ending && context.changed];
    },
  });
}

const coverage = new Coverage(daemonMachine);
let root = '';
before(() => {
  root = mkdtempSync(join(existsSync('/dev/shm') ? '/dev/shm' : tmpdir(), 'eventd-model-'));
});
after(() => {
  rmSync(root, { recursive: true, force: true });
  delete process.env.PEIOS_BOOT_ID;
});

/** Drives one daemon along one path. */
class Driver {
  readonly world = new DaemonWorld(root);
  readonly #gates = new Gates();
  readonly #shadow = new Shadow(daemonMachine, undefined, coverage);
  readonly #actor: ActorRefFrom<typeof daemonMachine>;
  /** A setting in the hive differs from the one in force. */
  #changed = false;
  #changes = 0;
  #announced = 0;
  #recorded = 0;
  #drained = false;
  #hurried = false;
  #overdue = false;
  /** The startup record may come with the final commit, after the stop. */
  #underWay = false;
  /** The daemon stopped waiting for the shutdown record; the writer still has it. */
  #late = false;

  constructor(path: readonly Step[]) {
    if (path.some(({ event }) => event.cause === 'a locked shard')) {
      this.world.hurry();
      this.#hurried = true;
    }
    if (path.some(({ event }) => event.cause === 'malformed boot id'))
      process.env.PEIOS_BOOT_ID = '{nonsense}';
    const runtime = new PacedRuntime(this.world.options, this.#gates);
    this.#actor = createDaemonActor(runtime, this.world.options.log, {
      inspect: this.#shadow.inspect,
      abort: () => {
        this.#overdue = true;
      },
    });
    this.#actor.start();
    runtime.watch(this.#actor);
  }

  async walk(path: readonly Step[]): Promise<void> {
    for (const [i, step] of path.entries()) {
      await this.#do(step, path[i + 1]?.event ?? null);
      this.#shadow.compare(this.#actor, step);
      await this.#check();
    }
    await this.#finish();
  }

  async close(): Promise<void> {
    this.world.unlock();
    for (let deeds = 0; this.#active && deeds < 30; deeds++) {
      if (this.#leaf === 'ready') this.#actor.send({ type: 'stop.requested', reason: 'test' });
      else await this.#gates.release(this.#leaf);
      await until(
        'the next state',
        () => !this.#active || this.#leaf === 'ready' || this.#gates.holds(this.#leaf),
      );
    }
    this.world.close();
  }

  async #do({ event, value }: Step, next: ModelEvent | null): Promise<void> {
    const leaf = this.#leaf;
    const there = (): boolean => keyOf(this.#actor.getSnapshot().value) === value;
    switch (event.type) {
      case 'stop.requested':
        if (event.underWay === true) await this.#begin(leaf);
        this.#actor.send({ type: 'stop.requested', reason: 'test' });
        return;
      case 'reload.requested':
        this.#actor.send({ type: 'reload.requested' });
        return;
      case 'configuration.changed':
        this.world.change();
        this.#changed = true;
        return this.#heard(event.type);
      case 'thread.failed':
        this.world.damage();
        return this.#heard(event.type);
      case `xstate.done.actor.${idOf(leaf)}`:
        if (leaf === 'drainingRings' && next?.cause !== undefined) {
          // The last drain ends; the writer cannot store what it brings.
          this.world.lock();
          this.world.emit(5);
        }
        await this.#settle(leaf, event.type);
        return this.#happened(leaf);
      case `xstate.error.actor.${idOf(leaf)}`:
        await this.#provoke(String(event.cause), leaf);
        await this.#gates.release(leaf);
        // A failing thread may be heard of before the phase that waits for it.
        await until(`${leaf} to fail`, there);
        await this.world.freeSocket();
        this.#late ||= leaf === 'recordingShutdown';
        this.world.unlock();
        return;
      default:
        assert.fail(`no deed for ${event.type} in ${leaf}`);
    }
  }

  /** The phase is really under way, and cannot end before the lock is gone. */
  async #begin(leaf: string): Promise<void> {
    this.world.lock();
    await this.#gates.release(leaf);
    this.#underWay = true;
  }

  async #provoke(cause: string, leaf: string): Promise<void> {
    switch (cause) {
      case 'no EventStorePath':
        return this.world.withoutKey('EventStorePath');
      case 'malformed boot id':
        return;
      case 'no ring':
        return this.world.withoutRing();
      case 'a file where the directory should be':
        return this.world.fileForDirectory();
      case 'the directory is gone':
        return this.world.withoutStore();
      case 'a live listener':
        return this.world.occupySocket();
      case 'a shard that is no database':
        return this.world.garbageForShard();
      case 'a locked shard':
        if (leaf !== 'committing') this.world.lock();
        // More than the segment in the writer's hands and the channel can hold.
        if (leaf === 'drainingRings') this.world.emit(500);
        return;
      default:
        assert.fail(`no deed for ${cause}`);
    }
  }

  /** What a phase or step that went well leaves in the store. */
  async #happened(leaf: string): Promise<void> {
    if (leaf === 'announcingReady') this.#announced = 1;
    if (leaf === 'drainingRings') this.#drained = true;
    if (leaf === 'recordingShutdown') this.#recorded = 1;
    if (leaf === 'quietly' || leaf === 'announced') {
      // However often the value changed before it was read: one change is applied, one recorded.
      if (this.#changed) this.#changes++;
      this.#changed = false;
      if (this.world.damaged) return;
      const recorded = (): number => this.world.count('synthetic.config_change');
      await until('the change to be recorded', () => recorded() >= this.#changes);
    }
    if (leaf === 'announcingReady') this.world.emit(2);
  }

  async #check(): Promise<void> {
    if (this.world.damaged) return;
    const startups = this.world.count('synthetic.startup');
    assert.ok(
      startups === this.#announced || (this.#underWay && startups === 1),
      `${startups} startup records`,
    );
    const shutdowns = this.world.count('synthetic.shutdown');
    assert.ok(
      shutdowns === this.#recorded || (this.#late && shutdowns === 1),
      `${shutdowns} shutdown records`,
    );
    assert.equal(this.world.count('synthetic.config_change'), this.#changes, 'records of changes');
    await this.world.checkEvents(false);
  }

  async #settle(leaf: string, type: string): Promise<void> {
    const heard = this.#shadow.seen.length;
    await this.#gates.release(leaf);
    await until(type, () => this.#shadow.seen.slice(heard).some((event) => event.type === type));
  }

  async #heard(type: string): Promise<void> {
    const before = this.#shadow.seen.length;
    await until(type, () => this.#shadow.seen.slice(before).some((event) => event.type === type));
  }

  /** From wherever the path ended: a stop, and nothing may be left behind. */
  async #finish(): Promise<void> {
    for (let deeds = 0; this.#active; deeds++) {
      assert.ok(deeds < 30, `the daemon stays in ${this.#leaf}`);
      const leaf = this.#leaf;
      const event = leaf === 'ready' ? stop : done(leaf);
      if (leaf === 'drainingRings') this.world.unlock();
      await this.#do({ event, value: '' }, null);
      await this.#check();
    }
    // A phase that a stop did not wait for ends now, on a runtime that has closed everything.
    for (const leaf of [...PHASES, 'quietly']) this.#gates.drop(leaf);
    const output = this.#actor.getSnapshot().output as DaemonOutput;
    assert.equal(output.type, this.#actor.getSnapshot().value);
    const { failure } = this.#actor.getSnapshot().context;
    assert.equal(output.type, failure === null ? 'stopped' : 'failed');
    if (!this.#hurried) assert.equal(this.#overdue, false);
    await this.world.checkEvents(this.#drained && !this.#hurried);
    await this.world.checkLeftovers();
    this.#checkNotified();
  }

  /** READY once and only after the startup record, STOPPING once, nothing after it (LIFE-130, LIFE-138). */
  #checkNotified(): void {
    const reloads = this.#shadow.seen.filter(({ type }) =>
      type.endsWith('daemon.reloading.announced'),
    ).length;
    const { notified } = this.world;
    const count = (what: string): number => notified.filter((word) => word === what).length;
    assert.equal(count('READY'), this.#announced + reloads);
    const stopped = this.#shadow.seen.some(({ type }) => type.endsWith('shuttingDown.closingSockets'));
    assert.equal(count('STOPPING'), stopped ? 1 : 0);
    if (stopped) assert.equal(notified.at(-1), 'STOPPING');
  }

  get #active(): boolean {
    return this.#actor.getSnapshot().status === 'active';
  }

  get #leaf(): string {
    return leafOf(this.#actor.getSnapshot().value);
  }
}

async function walk(path: readonly Step[]): Promise<void> {
  const driver = new Driver(path);
  try {
    await driver.walk(path);
  } catch (error) {
    throw new WalkError(path, error);
  } finally {
    await driver.close();
  }
}

test('[LIFE-101][LIFE-104][LIFE-108][LIFE-125][LIFE-126][LIFE-130][LIFE-131][LIFE-132][LIFE-133][LIFE-138][LIFE-140][LIFE-141][LIFE-142][LIFE-200][LIFE-201][LIFE-203][LIFE-204][LIFE-205][LIFE-206][LIFE-207][LIFE-208][LIFE-231] on every path the store holds what the phases and steps have done, and an ended daemon leaves nothing behind', async (t) => {
  const paths = walks();
  for (const path of paths) await walk(path);
  t.diagnostic(`${paths.length} paths`);
});

test('[LIFE-126][LIFE-138][LIFE-200] a stop does not wait for the startup record, and readiness is not signalled behind it', async () => {
  const path = PHASES.slice(0, -1).map((leaf, i) => ({
    event: done(leaf),
    value: keyOf({ starting: PHASES[i + 1] }),
  }));
  const event = { ...stop, underWay: true };
  await walk([...path, { event, value: keyOf({ shuttingDown: 'closingSockets' }) }]);
});

test('[LIFE-131][LIFE-200] the walks took every transition of the daemon', (t) => {
  const step = (leaf: string): string => `daemon.shuttingDown.${leaf} xstate.error.actor.${idOf(leaf)} #0`;
  const phase = (leaf: string, outcome: string): string =>
    `daemon.starting.${leaf} xstate.${outcome}.actor.${idOf(leaf)} #0`;
  const reread = 'whatever is wrong with the registry, the configuration in force stays (FAIL-25)';
  const undone = 'closes what is open and asks nothing that can refuse';
  t.diagnostic(
    coverage.close('daemon', {
      [phase('attachingKmes', 'error')]:
        'the rings are mapped in phase 1 (LIFE-134); dividing them cannot fail',
      [phase('announcingReady', 'done')]:
        'a stop before this phase leads past it, and one within ends it at once',
      [phase('announcingReady', 'error')]: 'fails only with the thread of a writer, whose end is heard first',
      'daemon.reloading.quietly xstate.error.actor.0.daemon.reloading.quietly #0': reread,
      'daemon.reloading.announced xstate.error.actor.0.daemon.reloading.announced #0': reread,
      [step('closingSockets')]: 'a listening socket closes in any case',
      [step('closingStores')]: 'a thread that does not close its shard in time is ended',
      [step('releasingRings')]: undone,
      'daemon.undoing xstate.error.actor.0.daemon.undoing #0': undone,
      'daemon.undoing xstate.error.actor.0.daemon.undoing #1': undone,
    }),
  );
});
