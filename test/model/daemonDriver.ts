/** Drives one real daemon along a path of its machine: a deed in the world for each event, a look at the store after it. */
import assert from 'node:assert/strict';
import { mock } from 'node:test';
import { setImmediate as turn } from 'node:timers/promises';
import type { ActorRefFrom } from 'xstate';
import { createDaemonActor } from '../../actors/daemon/daemon.js';
import { DaemonRuntime } from '../../actors/daemon/runtime.js';
import { type DaemonOutput, daemonMachine } from '../../machines/daemon.js';
import type { Coverage } from './coverage.js';
import {
  type Break,
  done,
  failed,
  idOf,
  LOST_WITH_THEIR_ROWS,
  leafOf,
  PHASES,
  STEPS,
} from './daemonEvents.js';
import { type Fault, PacedRuntime } from './daemonPace.js';
import { DaemonStarts } from './daemonStarts.js';
import { DaemonThreads } from './daemonThreads.js';
import { CPUS, DaemonWorld } from './daemonWorld.js';
import { Gates, keyOf, type ModelEvent, Shadow, type Step, until } from './walk.js';

export class DaemonDriver {
  readonly world: DaemonWorld;
  readonly gates = new Gates();
  readonly runtime: PacedRuntime;
  readonly threads = new DaemonThreads();
  readonly #starts = new DaemonStarts();
  readonly #clocks: { readonly mock: { restore(): void } }[] = [];
  readonly #shadow: Shadow;
  readonly #actor: ActorRefFrom<typeof daemonMachine>;
  /** A setting in the hive differs from the one in force. */
  #changed = false;
  #changes = 0;
  #announced = 0;
  /** Startup records that the store holds. */
  #startups = 0;
  #recorded = 0;
  /** Storage errors that are to be on record, one for each shard that broke. */
  #errors = 0;
  /** A shard broke when there was no recovery any more. */
  #brokenLate = false;
  #drained = false;
  #lossless = true;
  #hurried = false;
  #overdue = false;
  /** The startup record may come with the final commit, after the stop. */
  #underWay = false;
  /** The daemon stopped waiting for the shutdown record; the writer still has it. */
  #late = false;
  /** Reloads that were announced and answered. */
  #reloads = 0;
  /** Per CPU the last sequence that a destroyed shard may have held. */
  #since: readonly bigint[] = [];

  constructor(root: string, coverage: Coverage, path: readonly Step[]) {
    const causes = path.map(({ event }) => event.cause);
    this.world = new DaemonWorld(root);
    if (causes.includes('a locked shard')) {
      this.world.hurry();
      this.#hurried = true;
      this.#lossless = false;
    }
    const unreadable = path.some(({ event }) => event.type === failed('restartingActors', '').type);
    if (unreadable) this.world.hurry();
    if (causes.includes('malformed boot id')) process.env.PEIOS_BOOT_ID = '{nonsense}';
    this.#shadow = new Shadow(daemonMachine, undefined, coverage);
    this.runtime = new PacedRuntime(this.world.options, this.gates);
    this.#actor = createDaemonActor(this.runtime, this.world.options.log, {
      inspect: this.#shadow.inspect,
      abort: () => {
        this.#overdue = true;
      },
    });
    this.#actor.start();
    this.runtime.watch(this.#actor);
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
    this.world.store.unlock();
    this.#starts.close();
    for (let deeds = 0; this.#active && deeds < 60; deeds++) {
      if (this.#leaf === 'ready') this.#actor.send({ type: 'stop.requested', reason: 'test' });
      else await this.gates.release(this.#leaf);
      await until('the next state', () => !this.#active || this.#leaf === 'ready' || this.#isHeld);
    }
    for (const leaf of ['startingActors', 'restartingActors']) this.gates.drop(`${leaf} done`);
    for (const clock of this.#clocks.reverse()) clock.mock.restore();
    this.threads.close();
    this.world.close();
  }

  async #do({ event, value }: Step, next: ModelEvent | null): Promise<void> {
    const leaf = this.#leaf;
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
      case 'path.failed':
        return this.#breakPath(event, leaf);
      case `xstate.done.actor.${idOf(leaf)}`:
        if (leaf === 'drainingRings' && next?.cause === 'a locked shard') {
          // The last drain ends; the writer cannot store what it brings.
          this.#lock();
          this.world.emit(5);
        }
        if (event.secondBreak === true) await this.#breakBehindLock();
        if (event.tellsPath === true) await this.#tellPath();
        await this.#settle(leaf, event);
        if (typeof event.thenEnds === 'string') await this.#endUnheard(event.thenEnds);
        return this.#happened(leaf);
      case `xstate.error.actor.${idOf(leaf)}`:
        return this.#fail(String(event.cause), leaf, value);
      default:
        assert.fail(`no deed for ${event.type} in ${leaf}`);
    }
  }

  #lock(): void {
    const [file] = this.world.store.writable;
    if (file !== undefined) this.world.store.lock(file);
  }

  /** The phase is really under way, and cannot end before the lock is gone. */
  async #begin(leaf: string): Promise<void> {
    this.#lock();
    await this.gates.release(leaf);
    this.#underWay = true;
  }

  async #fail(cause: string, leaf: string, value: string): Promise<void> {
    await this.#provoke(cause, leaf);
    await this.gates.release(leaf);
    // A failing thread may be heard of before the phase that waits for it.
    await until(`${leaf} to fail`, () => keyOf(this.#actor.getSnapshot().value) === value);
    await this.world.freeSocket();
    if (cause === 'the directory is gone' && leaf !== 'resolvingBoot') this.world.withStore();
    if (cause === 'a file where the directory should be' && leaf === 'reopeningStores')
      this.world.withStore();
    if (cause === 'no ring' && leaf === 'reattachingKmes') this.world.withRing();
    if (cause === 'injected after its work') await this.#happened(leaf);
    this.#late ||= leaf === 'recordingShutdown' && cause === 'a locked shard';
    this.world.store.unlock();
  }

  async #provoke(cause: string, leaf: string): Promise<void> {
    const { world } = this;
    switch (cause) {
      case 'no EventStorePath':
        return world.withoutKey('EventStorePath');
      case 'malformed boot id':
        return;
      case 'no ring':
        return world.withoutRing();
      case 'a file where the directory should be':
        if (leaf === 'reopeningStores') world.withoutStore();
        return world.fileForDirectory();
      case 'the directory is gone':
        return world.withoutStore();
      case 'a live listener':
        return world.occupySocket();
      case 'a shard that is no database': {
        const [file] = world.store.writable;
        assert.ok(file !== undefined);
        this.#since = world.emitted;
        this.#errors++;
        return world.store.overwriteByGarbage(file);
      }
      case 'a locked shard':
        if (leaf !== 'committing') this.#lock();
        // More than the segment in the writer's hands and the channel can hold.
        if (leaf === 'drainingRings') world.emit(500);
        return;
      case 'injected instead of its work':
      case 'injected after its work': {
        const fault: Fault = cause === 'injected after its work' ? 'after' : 'instead';
        this.runtime.faults.set(leaf, fault);
        return;
      }
      default:
        assert.fail(`no deed for ${cause}`);
    }
  }

  /** A real break of the event path: found by a writer's next commit, or by the end of a thread. */
  async #breakPath(event: ModelEvent, leaf: string): Promise<void> {
    const cause = event.cause as Break;
    if (typeof event.afterMs === 'number') this.#elapse(event.afterMs);
    const { store } = this.world;
    const before = this.#shadow.seen.length;
    const reloading = leaf === 'quietly' || leaf === 'announced';
    const starting = leaf === 'startingActors' || leaf === 'restartingActors';
    if (event.whileStarting === true) {
      // Events flow, and the phase goes on.
      this.#starts.hold();
      await this.gates.release(leaf);
      await until('the first commit', () => store.highest.size === CPUS);
    } else if (starting) {
      // What is found while the threads start is heard before the phase has ended.
      this.runtime.lingering.add(leaf);
      await this.gates.release(leaf);
      await until('the threads to run', () => this.gates.holds(`${leaf} done`));
    }
    if (event.recordUnderWay === true) await this.#begin(leaf);
    // A second one is another than the first, which bears its mark already.
    const file = event.recordUnderWay === true ? store.writable[1] : store.first;
    assert.ok(file !== undefined);
    this.#brokenLate ||= STEPS.includes(leaf);
    const errors = this.#errors;
    // The record of the first break is stored before the second one comes.
    if (leaf === 'closingPath')
      await until('the first record', () => store.count('synthetic.storage_error') >= errors);
    if (LOST_WITH_THEIR_ROWS.includes(cause)) {
      // The lowest shard, which holds the daemon's own records.
      this.#startups = 0;
      this.#changes = 0;
    }
    if (cause === 'a damaged page' || LOST_WITH_THEIR_ROWS.includes(cause)) this.#errors++;
    switch (cause) {
      case 'a damaged page':
        store.damage(file);
        break;
      case 'a shard cut short':
        this.#since = this.world.emitted;
        store.cut(file);
        break;
      case 'a shard removed':
        store.remove(file, { wal: true });
        break;
      case 'a shard removed without its WAL':
        store.remove(file, { wal: false });
        break;
      case 'a dead writer':
        await until('the writers to be known', () => this.threads.writers.length === CPUS);
        await this.threads.writers[0]?.terminate();
        break;
      case 'a dead readers’ thread':
        await this.threads.readers?.terminate();
        break;
    }
    // The startup record meets the damage first where it can.
    const begun = event.recordUnderWay === true || cause.startsWith('a dead');
    if (leaf === 'announcingReady' && !begun) await this.gates.release(leaf);
    if (event.byChange === true) {
      // The record of a change is what the writer cannot store.
      await this.gates.release(leaf);
      this.#reloaded(leaf);
    } else this.world.emit(1);
    await until('the break to be heard', () => this.#heardSince(before, 'path.failed'));
    if (reloading && event.endsLater !== true && event.byChange !== true) await this.#endUnheard(leaf);
    if (starting) this.gates.drop(`${leaf} done`);
  }

  /** The clock that breaks are dated by goes forward. */
  #elapse(ms: number): void {
    const now = performance.now.bind(performance);
    this.#clocks.push(mock.method(performance, 'now', () => now() + ms));
  }

  /** What broke hears that its threads work: that is no recovery. */
  async #tellPath(): Promise<void> {
    this.#starts.tellPath();
    await turn();
    assert.equal(this.#recoveries, 0);
  }

  /** The new path works, and the step goes on until the rest of phase 6 does. */
  async #startRecords(leaf: string): Promise<void> {
    await until('the path to work', () => this.#recoveries > 0);
    assert.equal(this.#leaf, leaf, 'log and metric threads have not started');
    this.#starts.startRecords();
  }

  /** Another shard's damage, which its writer meets in its last commit only. */
  async #breakBehindLock(): Promise<void> {
    const { store } = this.world;
    const [file] = store.writable;
    assert.ok(file !== undefined);
    this.#errors++;
    store.damage(file);
    store.lock(file);
    this.world.emit(3);
    for (let text = ''; !text.includes('no answer'); text = await this.runtime.dump());
  }

  /** The state was left, and its work goes on all the same. */
  async #endUnheard(leaf: string): Promise<void> {
    const times = (): number => this.runtime.ended.filter((state) => state === leaf).length;
    const before = times();
    await this.gates.release(leaf);
    await until(`${leaf} to end`, () => times() > before);
    this.#reloaded(leaf);
  }

  /** What a phase or step that went well leaves in the store. */
  async #happened(leaf: string): Promise<void> {
    if (leaf === 'announcingReady') {
      this.#announced = 1;
      this.#startups = 1;
    }
    if (leaf === 'drainingRings') this.#drained = true;
    if (leaf === 'recordingShutdown' && this.world.store.count('synthetic.shutdown') > 0) this.#recorded = 1;
    if (leaf === 'quietly' || leaf === 'announced') {
      this.#reloaded(leaf);
      const recorded = (): number => this.world.store.count('synthetic.config_change');
      await until('the change to be recorded', () => recorded() >= this.#changes);
    }
    if (leaf === 'announcingReady' || leaf === 'restartingActors') this.world.emit(2);
    if (this.#leaf !== 'ready') return;
    // Whatever has happened: once the path works, nothing is missing and every failure is on record.
    await this.world.checkComplete(this.#since);
    const errors = (): number => this.world.store.count('synthetic.storage_error');
    await until('the storage errors to be recorded', () => errors() >= this.#errors);
  }

  #reloaded(leaf: string): void {
    if (leaf === 'announced') this.#reloads++;
    // However often the value changed before it was read: one change is applied, one recorded.
    if (this.#changed) this.#changes++;
    this.#changed = false;
  }

  async #check(): Promise<void> {
    const { store } = this.world;
    const tally = store.tally();
    const count = (type: string): number => tally.get(`synthetic.${type}`) ?? 0;
    const startups = count('startup');
    assert.ok(
      startups === this.#startups || (this.#underWay && startups === 1),
      `${startups} startup records`,
    );
    const shutdowns = count('shutdown');
    assert.ok(
      shutdowns === this.#recorded || (this.#late && shutdowns === 1),
      `${shutdowns} shutdown records`,
    );
    const changes = count('config_change');
    // Away from a path that works, a record may wait for the next one.
    const settled = this.#leaf === 'ready' || !this.#active;
    assert.ok(
      changes === this.#changes || (!settled && changes < this.#changes),
      `${changes} records of ${this.#changes} changes`,
    );
    const errors = count('storage_error');
    assert.ok(errors <= this.#errors || !this.#lossless, `${errors} storage errors`);
    if (this.#leaf === 'ready') assert.equal(errors, this.#errors, 'storage errors');
    if (!store.anyDestroyed) this.world.checkEvents();
    if (this.#lossless && !store.anyDestroyed) assert.equal(store.gapped, 0, 'nothing was lost');
  }

  async #settle(leaf: string, { type, startsRecords }: ModelEvent): Promise<void> {
    const heard = this.#shadow.seen.length;
    await this.gates.release(leaf);
    // What is locked now goes on while the path is being closed.
    if (leaf === 'closingPath') this.world.store.unlock();
    if (startsRecords === true) await this.#startRecords(leaf);
    await until(type, () => this.#heardSince(heard, type));
    // What announces readiness without a path fails, and nobody listens.
    if (leaf === 'closingPath') this.gates.drop('announcingReady');
  }

  async #heard(type: string): Promise<void> {
    const before = this.#shadow.seen.length;
    await until(type, () => this.#heardSince(before, type));
  }

  #heardSince(before: number, type: string): boolean {
    return this.#shadow.seen.slice(before).some((event) => event.type === type);
  }

  /** From wherever the path ended: a stop, and nothing may be left behind. */
  async #finish(): Promise<void> {
    for (let deeds = 0; this.#active; deeds++) {
      assert.ok(deeds < 60, `the daemon stays in ${this.#leaf}`);
      await this.#goOn();
      await this.#check();
    }
    // A phase that a stop did not wait for ends now, on a runtime that has closed everything.
    for (const leaf of [...PHASES, 'quietly']) this.gates.drop(leaf);
    const snapshot = this.#actor.getSnapshot();
    const output = snapshot.output as DaemonOutput;
    assert.equal(output.type, snapshot.value);
    assert.equal(output.type, snapshot.context.failure === null ? 'stopped' : 'failed');
    if (!this.#hurried) assert.equal(this.#overdue, false);
    if (!this.world.store.anyDestroyed) this.world.checkEvents();
    await this.world.checkLeftovers();
    this.#checkNotified();
    const orderly = this.#drained && output.type === 'stopped' && !this.#hurried && !this.#brokenLate;
    if (orderly) await this.world.checkComplete(this.#since);
    else if (this.#startups > 0 || this.#errors > 0) await this.#startAgain();
  }

  /** One step towards the end. What has been broken on the way may make it fail. */
  async #goOn(): Promise<void> {
    const leaf = this.#leaf;
    if (leaf === 'ready') {
      this.#actor.send({ type: 'stop.requested', reason: 'test' });
      return;
    }
    if (leaf === 'drainingRings') this.world.store.unlock();
    const before = this.#shadow.seen.length;
    await this.gates.release(leaf);
    await until(`the end of ${leaf}`, () => this.#leaf !== leaf);
    if (this.#heardSince(before, done(leaf).type)) await this.#happened(leaf);
    else this.#late ||= leaf === 'recordingShutdown';
  }

  /** What an end left in the rings is not lost: the next start stores it. */
  async #startAgain(): Promise<void> {
    this.world.prepare();
    const runtime = new DaemonRuntime(this.world.options);
    const actor = createDaemonActor(runtime, this.world.options.log);
    actor.start();
    runtime.watch(actor);
    try {
      await until('the next start', () => leafOf(actor.getSnapshot().value) === 'ready');
      await this.world.checkComplete(this.#since);
    } finally {
      actor.send({ type: 'stop.requested', reason: 'test' });
      await until('its end', () => actor.getSnapshot().status !== 'active');
    }
    await this.world.checkLeftovers();
  }

  /** READY once and only after the startup record, STOPPING once, nothing after it (LIFE-130, LIFE-138). */
  #checkNotified(): void {
    const { notified } = this.world;
    const count = (what: string): number => notified.filter((word) => word === what).length;
    assert.equal(count('READY'), this.#announced + this.#reloads);
    const stopped = this.#shadow.seen.some(({ type }) => type.includes('shuttingDown.closingSockets'));
    assert.equal(count('STOPPING'), stopped ? 1 : 0);
    if (stopped) assert.equal(notified.at(-1), 'STOPPING');
  }

  get #recoveries(): number {
    return this.world.log.filter((line) => line === 'the event path works again').length;
  }

  get #isHeld(): boolean {
    return this.gates.holds(this.#leaf);
  }

  get #active(): boolean {
    return this.#actor.getSnapshot().status === 'active';
  }

  get #leaf(): string {
    return leafOf(this.#actor.getSnapshot().value);
  }
}
