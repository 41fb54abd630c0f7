/** Every path of the machine of a shard's indexes, walked on the real actor with a real shard file. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { setImmediate as turn } from 'node:timers/promises';
import { type AnyMachineSnapshot, SimulatedClock } from 'xstate';
import {
  type IndexChange,
  type ShardIndexesActor,
  startShardIndexes,
} from '../../actors/shardWriter/indexes.js';
import type { PressureLevel } from '../../machines/cpuReader.js';
import {
  type BuildReport,
  FIRST_FAILURE_REST_MS,
  FIRST_REST_MS,
  QUIET_MS,
  type ShardIndexesContext,
  type ShardIndexesEvent,
  type ShardIndexLimits,
  shardIndexesMachine,
} from '../../machines/shardIndexes.js';
import { BuildSignal } from '../../src/indexes/buildSignal.js';
import { indexNameOf } from '../../src/indexes/fields.js';
import { ShardIndexes } from '../../src/indexes/shardIndexes.js';
import { native } from '../../src/native/addon.js';
import { openShardWriter } from '../../src/stores/shard.js';
import { Coverage } from './coverage.js';
import { ShardWorld } from './shardWorld.js';
import {
  Gates,
  keyOf,
  type ModelEvent,
  memoryDirectory,
  pathsOf,
  Shadow,
  type Step,
  walkAll,
} from './walk.js';

const LIMITS: ShardIndexLimits = { maxBatchLatencyMs: 1, sheddingWindowSeconds: 30 };
const SHORTER: ShardIndexLimits = { maxBatchLatencyMs: 2, sheddingWindowSeconds: 10 };
const FAILURE = { code: 'SQLITE_X', message: 'x' };
const BUILD = 'actor.0.shardIndexes.building';
const SHED = 'actor.0.shardIndexes.shedding.dropping';
const QUIET = 'xstate.after.quiet.shardIndexes.waiting.quiet';
const REST = 'xstate.after.rest.shardIndexes.resting';
const WINDOW = 'xstate.after.sheddingWindow.shardIndexes.shedding.holding';

const EVENTS: readonly ModelEvent[] = [
  { type: 'desired.changed', differs: true },
  { type: 'desired.changed', differs: false },
  { type: 'limits.changed', limits: SHORTER },
  { type: 'writer.idle' },
  { type: 'writer.busy' },
  { type: 'batch.stored', oversized: true, lasting: false },
  { type: 'batch.stored', oversized: true, lasting: true },
  { type: 'ring.pressure', cpu: 0, level: 'elevated' },
  { type: 'ring.pressure', cpu: 0, level: 'emergency' },
  { type: 'indexes.stop' },
  { type: QUIET },
  { type: REST },
  { type: WINDOW },
  ...(['done', 'disturbed', 'yielded', 'pressed'] as const).map((result) => ({
    type: `xstate.done.${BUILD}`,
    output: { result, differs: result !== 'done' },
  })),
  { type: `xstate.error.${BUILD}`, error: FAILURE },
  { type: `xstate.done.${SHED}`, output: { differs: true } },
  { type: `xstate.error.${SHED}`, error: FAILURE },
];

/** What the world can do: a value that is in force already is said by nobody. */
function possible(state: AnyMachineSnapshot): readonly ModelEvent[] {
  const place = keyOf(state.value).replaceAll(/[{}"]/g, '').replace(':', '.');
  const { idle, differs, limits, emergencies, failures, givenUp } = state.context as ShardIndexesContext;
  const isShedding = place.startsWith('shedding');
  return EVENTS.filter(({ type, ...event }) => {
    if (type.startsWith('xstate.')) return type.endsWith(`.${place}`);
    // A second failure waits longer; what else may happen then is what may happen after the first.
    if (failures + givenUp > 0 && place !== 'resting' && type !== 'indexes.stop') return false;
    switch (type) {
      case 'desired.changed':
        // While a statement is under way the shard is not compared, and after pressure nothing agrees at once.
        return event.differs !== differs && !isShedding && place !== 'building';
      case 'limits.changed':
        return limits === LIMITS && place === 'converged' && !idle;
      case 'writer.idle':
        return !idle && !isShedding;
      case 'writer.busy':
        return idle && !isShedding;
      case 'ring.pressure':
        return (
          event.level === 'emergency' ||
          emergencies.length > 0 ||
          place === 'shedding.holding' ||
          place === 'converged'
        );
      default:
        return true;
    }
  });
}

const coverage = new Coverage(shardIndexesMachine);
const root = memoryDirectory();
/** Goes on until it is interrupted. */
const ENDLESS = 'WITH RECURSIVE n(x) AS (VALUES (1) UNION ALL SELECT x + 1 FROM n) SELECT count(*) FROM n';

/** Drives the indexes of one shard along one path. */
class Driver {
  readonly #world = new ShardWorld(root);
  readonly #db = openShardWriter(this.#world.file);
  readonly #opened = new ShardIndexes(this.#db);
  readonly #signal = new BuildSignal(BuildSignal.allocate());
  readonly #clock = new SimulatedClock();
  readonly #gates = new Gates();
  readonly #shadow = new Shadow(shardIndexesMachine, { limits: LIMITS }, coverage);
  readonly #indexes: ShardIndexesActor;
  readonly #changes: IndexChange[] = [];
  /** How SQLite's next statement ends. */
  #how: BuildReport['result'] | 'failed' = 'done';
  #names = 0;

  constructor() {
    const run = this.#db.exec.bind(this.#db);
    this.#db.exec = (sql: string) => {
      if (this.#how === 'failed') throw Object.assign(new Error('injected'), { code: 'SQLITE_FULL' });
      if (this.#how === 'pressed') this.#signal.press();
      if (this.#how === 'yielded') this.#signal.arrived();
      return run(this.#how === 'done' ? sql : ENDLESS);
    };
    this.#build('event_type');
    this.#indexes = startShardIndexes({
      shard: 0,
      channel: this.#world.channel,
      limits: { maxBatchSize: 100, maxBatchLatencyMs: 1, shedding: { windowSeconds: 30, batchPercent: 75 } },
      desired: [{ field: 'event_type', isExpression: false }],
      signal: this.#signal,
      onChange: (change) => this.#changes.push(change),
      clock: this.#clock,
      pace: this.#gates.hold,
      inspect: this.#shadow.inspect,
    });
    this.#indexes.opened(this.#opened);
  }

  async walk(path: readonly Step[]): Promise<void> {
    for (const step of path) {
      await this.#do(step.event);
      this.#shadow.compare(this.#indexes.actor, step);
      this.#check();
    }
  }

  async close(): Promise<void> {
    this.#indexes.stop();
    for (const deed of ['build', 'shed']) this.#gates.drop(deed);
    await turn();
    this.#db.close();
    this.#world.close();
  }

  async #do(event: ModelEvent): Promise<void> {
    const { type } = event;
    const { failures, givenUp, limits } = this.#context;
    switch (type) {
      case 'desired.changed':
        return event.differs ? this.#differ() : this.#agree();
      case 'limits.changed':
        this.#indexes.setLimits({ maxBatchLatencyMs: 2, shedding: { windowSeconds: 10, batchPercent: 75 } });
        return;
      case 'writer.idle':
      case 'writer.busy':
        this.#indexes.setIdle(type === 'writer.idle');
        return this.#forget('build');
      case 'batch.stored':
        this.#indexes.actor.send(event as ShardIndexesEvent);
        return this.#forget('build');
      case 'ring.pressure':
        if (event.level === 'emergency') this.#gates.drop('shed');
        this.#indexes.pressure(Number(event.cpu), event.level as PressureLevel);
        return this.#forget('build');
      case 'indexes.stop':
        this.#indexes.stop();
        this.#gates.drop('shed');
        return this.#forget('build');
      case QUIET:
        return this.#shadow.passes(this.#clock, QUIET_MS);
      case REST:
        return this.#shadow.passes(
          this.#clock,
          failures > 0 ? FIRST_FAILURE_REST_MS * 2 ** (failures - 1) : FIRST_REST_MS * 2 ** (givenUp - 1),
        );
      case WINDOW:
        return this.#shadow.passes(this.#clock, limits.sheddingWindowSeconds * 1000);
    }
    const { result } = (event.output ?? {}) as { result?: BuildReport['result'] };
    const failing = type.startsWith('xstate.error');
    if (type.endsWith('dropping')) {
      // There is something to drop, or it could not fail.
      if (this.#fields.length === 0) this.#build('event_type');
      this.#how = failing ? 'failed' : 'done';
      await this.#hears('shed', type);
      if (!failing) assert.equal(this.#fields.length < (this.#context.all ? 1 : 3), true);
      return;
    }
    if (result === 'disturbed') await this.#world.handOff();
    this.#how = failing ? 'failed' : (result ?? 'done');
    const before = this.#fields;
    await this.#hears('build', type);
    if (result === 'done') assert.equal(this.#fields.length, before.length + 1);
    else assert.deepEqual(this.#fields, before, '[IDX-12] what was built of an index is taken back');
    // What waited is stored: the channel is empty again.
    const taken = result === 'disturbed' ? native.channelTake(this.#world.channel) : null;
    if (taken !== null) native.segmentCommitted(taken.segment);
  }

  async #hears(deed: 'build' | 'shed', type: string): Promise<void> {
    await this.#shadow.hears(
      type,
      () => this.#gates.release(deed),
      () => JSON.stringify(this.#changes),
    );
    this.#how = 'done';
  }

  /** A deed whose state was left comes to nothing. */
  async #forget(deed: 'build' | 'shed'): Promise<void> {
    if (this.#value === '"building"') return;
    this.#gates.drop(deed);
    const before = this.#fields;
    await turn();
    await turn();
    if (!this.#value.includes('shedding')) assert.deepEqual(this.#fields, before);
  }

  #differ(): void {
    const wanted = [...this.#fields, `f${this.#names++}`];
    this.#indexes.setDesired(wanted.map((field) => ({ field, isExpression: field !== 'event_type' })));
  }

  #agree(): void {
    if (this.#fields.length === 0) this.#build('event_type');
    this.#indexes.setDesired(this.#fields.map((field) => ({ field, isExpression: field !== 'event_type' })));
  }

  #build(field: string): void {
    const step = { kind: 'create', index: indexNameOf(field), field } as const;
    assert.equal(
      this.#opened.converge(step, this.#signal, 1000, () => true),
      'done',
    );
  }

  /** Nothing runs, nothing is interrupted later, and the one index that is never shed is there. */
  #check(): void {
    assert.equal(this.#signal.building, false);
    const names = this.#db.prepare("SELECT name FROM sqlite_master WHERE type = 'index'").pluck().all();
    assert.ok(names.includes('idx_events_timestamp'), '[IDX-25]');
    assert.deepEqual(
      this.#opened.existing.map(({ name }) => name).sort(),
      names
        .filter((name) => String(name).startsWith('idx_events_') && name !== 'idx_events_timestamp')
        .sort(),
    );
  }

  get #fields(): string[] {
    return this.#opened.existing.flatMap(({ field }) => field ?? []);
  }

  get #value(): string {
    return keyOf(this.#indexes.actor.getSnapshot().value);
  }

  get #context(): ShardIndexesContext {
    return this.#indexes.actor.getSnapshot().context;
  }
}

test('[IDX-10][IDX-12][IDX-16][IDX-20][IDX-23][IDX-25][IDX-26][IDX-27] on every path the shard has whole indexes only, and none is built while the writer works or the pressure lasts', async (t) => {
  const paths = pathsOf(shardIndexesMachine, {
    input: { limits: LIMITS },
    events: possible,
    project: ({ context }) => {
      const { idle, differs, emergencies, failures, givenUp } = context as ShardIndexesContext;
      return [idle, differs, emergencies.length, Math.min(failures, 2), Math.min(givenUp, 2)];
    },
  });
  await walkAll(paths, () => new Driver());
  t.diagnostic(`${paths.length} paths`);
});

test('[IDX-10][IDX-20] the walks entered every state of the indexes of a shard and took every transition', (t) => {
  t.diagnostic(coverage.close());
});
