/**
 * Random walks of the real ring reader on a real ring: whatever happens in whatever order, the account is
 * exact and nothing is given up that could have been read. A failure prints a seed and a path; with
 * FC_SHRINK it is made shorter first, as far as the threads repeat it.
 *
 *     FC_SEED=… FC_PATH=… FC_SHRINK=1 node --test dist/test/model/cpuReader-walk.test.js
 *     WALKS=2000 FC_SEED=$RANDOM node --test dist/test/model/cpuReader-walk.test.js
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { setImmediate as turn } from 'node:timers/promises';
import fc from 'fast-check';
import { type CpuReader, startCpuReader } from '../../actors/cpuReader/cpuReader.js';
import type { FromReaders } from '../../actors/messages.js';
import { cpuReaderMachine } from '../../machines/cpuReader.js';
import { attachRing } from '../../src/host/kmes.js';
import type { CpuResume } from '../../src/stores/resume.js';
import { Coverage } from './coverage.js';
import { CAPACITIES, DAMAGES, WalkWorld } from './cpuReaderWalkWorld.js';
import { BOOT, SHARDS } from './ringWorld.js';
import { memoryDirectory, Shadow, until } from './walk.js';

const SEED = Number(process.env.FC_SEED ?? 20_260_101);
const WALKS = Number(process.env.WALKS ?? 30);
const PATH = process.env.FC_PATH;
const SHRINK = process.env.FC_SHRINK !== undefined;
const LONGEST = 25;
/** Rounds of walks beyond the first, at most, until each kind of thing has happened to some reader. */
const MORE_WALKS = 8;
const SETTLED_MS = 5000;

type Deed =
  | { readonly do: 'emit'; readonly count: number; readonly bytes: number }
  | { readonly do: 'drop' | 'overrun' | 'garbage' | 'stall' | 'unstall' | 'settle' | 'restart' }
  | { readonly do: 'damage'; readonly back: number; readonly kind: number }
  | { readonly do: 'replace'; readonly capacity: (typeof CAPACITIES)[number] }
  | { readonly do: 'limit'; readonly rows: number }
  | { readonly do: 'failAttach'; readonly times: number };

const simple = (name: 'drop' | 'overrun' | 'garbage' | 'stall' | 'unstall' | 'settle' | 'restart') =>
  fc.constant<Deed>({ do: name });

const deed: fc.Arbitrary<Deed> = fc.oneof(
  {
    weight: 6,
    arbitrary: fc.record({
      do: fc.constant('emit' as const),
      count: fc.integer({ min: 1, max: 60 }),
      bytes: fc.oneof(fc.integer({ min: 0, max: 200 }), fc.integer({ min: 0, max: 20_000 })),
    }),
  },
  { weight: 1, arbitrary: simple('drop') },
  { weight: 2, arbitrary: simple('overrun') },
  { weight: 1, arbitrary: simple('garbage') },
  {
    weight: 2,
    arbitrary: fc.record({
      do: fc.constant('damage' as const),
      back: fc.oneof(fc.constant(0), fc.nat(40)),
      kind: fc.nat(DAMAGES.length - 1),
    }),
  },
  {
    weight: 2,
    arbitrary: fc.record({
      do: fc.constant('replace' as const),
      capacity: fc.constantFrom(...CAPACITIES),
    }),
  },
  { weight: 2, arbitrary: simple('stall') },
  { weight: 2, arbitrary: simple('unstall') },
  {
    weight: 1,
    arbitrary: fc.record({ do: fc.constant('limit' as const), rows: fc.integer({ min: 1, max: 50 }) }),
  },
  {
    weight: 1,
    arbitrary: fc.record({
      do: fc.constant('failAttach' as const),
      times: fc.integer({ min: 1, max: 2 }),
    }),
  },
  { weight: 1, arbitrary: simple('settle') },
  { weight: 1, arbitrary: simple('restart') },
);

const coverage = new Coverage(cpuReaderMachine);
const happened = { gaps: 0, lapped: 0, corrupt: 0, reattached: 0, throttled: 0, attachFailures: 0 };
const root = memoryDirectory();

/** One reader after the other on one ring. */
class Walk {
  readonly world = new WalkWorld(root);
  #failures = 0;
  #closed = false;
  #reader: CpuReader;
  #shadow: Shadow;

  constructor() {
    [this.#reader, this.#shadow] = this.#start(this.world.ring.ring, this.world.resume());
  }

  #start(ring: typeof this.world.ring.ring, resume: CpuResume): [CpuReader, Shadow] {
    const shadow = new Shadow(cpuReaderMachine, { cpu: 0, shards: SHARDS }, coverage);
    const reader = startCpuReader({
      cpu: 0,
      ring,
      resume,
      shards: this.world.channels.map((channel, shard) => ({ shard, channel, send: () => undefined })),
      emergencyPercent: 75,
      attach: async (cpu) => {
        await turn();
        if (this.#failures > 0) {
          this.#failures--;
          throw new Error('no ring for now');
        }
        return attachRing(this.world.source, cpu, BOOT);
      },
      inspect: (event) => {
        if (event.type === '@xstate.event') this.#heard(event.event);
        shadow.inspect(event);
      },
    });
    reader.reports$.subscribe((report) => this.#ended(report));
    this.world.reads();
    return [reader, shadow];
  }

  #heard(event: { readonly type: string; readonly generation?: bigint }): void {
    if (event.type === 'ring.reattached' && event.generation !== undefined)
      this.world.reads(event.generation);
    if (event.type === 'ring.throttled') happened.throttled++;
    assert.notEqual(event.type, 'ring.regressed', 'no ring begins anew here');
  }

  #ended(report: FromReaders): void {
    // A walk that failed leaves its reader in the middle of something.
    if (report.type !== 'finished' || this.#closed) return;
    assert.equal(report.output.type, 'stopped');
    if (report.output.type === 'stopped') this.world.ended(report.output.lastSequence);
  }

  async take(step: Deed): Promise<void> {
    const { world } = this;
    switch (step.do) {
      case 'emit':
        world.emitSized(step.count, step.bytes);
        break;
      case 'drop':
        world.dropOne();
        break;
      case 'overrun':
        world.overrun();
        break;
      case 'garbage':
        world.garbage();
        break;
      case 'damage':
        world.damage(step.back, step.kind);
        break;
      case 'replace':
        world.replaceBy(step.capacity);
        break;
      case 'stall':
        world.stall();
        break;
      case 'unstall':
        world.widen();
        break;
      case 'limit':
        if (!world.narrow) world.limit(step.rows);
        break;
      case 'failAttach':
        this.#failures += step.times;
        break;
      case 'settle':
        if (!world.narrow) await this.#settle();
        break;
      case 'restart':
        await this.#stop();
        [this.#reader, this.#shadow] = this.#start(attachRing(world.source, 0, BOOT).ring, world.resume());
        break;
    }
    await turn();
    this.#check();
  }

  /** The shards agree with the ring, and the actor with the pure machine. */
  #check(): void {
    this.world.check();
    const snapshot = this.#reader.actor.getSnapshot();
    assert.deepEqual(snapshot.value, this.#shadow.model.value, 'the actor left the model');
    assert.deepEqual(snapshot.context, this.#shadow.model.context, 'the context left the model');
    assert.equal(snapshot.context.failure, null);
  }

  /** Until everything emitted is read. Only a further event shows that the ones before it are lost. */
  async #settle(): Promise<void> {
    const { world } = this;
    const end = Date.now() + SETTLED_MS;
    while (world.read < world.emitted) {
      assert.ok(Date.now() < end, `read up to ${world.read} of ${world.emitted}, and no further`);
      world.emitSized(1, 10);
      const last = world.emitted;
      const deadline = Date.now() + 200;
      await until(`sequence ${last}`, () => {
        world.commit();
        return world.read >= last || Date.now() > deadline;
      });
    }
  }

  /** A stopped reader has read all that was in its ring, and stored all that it has read. */
  async #stop(): Promise<void> {
    const { actor } = this.#reader;
    actor.send({ type: 'reader.stop' });
    if (this.world.narrow) this.world.widen();
    await until('the end of the reader', () => {
      this.world.commit();
      return actor.getSnapshot().status !== 'active';
    });
    const { context } = actor.getSnapshot();
    for (const key of ['gaps', 'lapped', 'corrupt', 'reattached', 'attachFailures'] as const) {
      happened[key] += context[key];
    }
    this.world.check(context.lastSequence ?? 0n);
  }

  /** Nothing is in the way any more: the account must be exact up to the newest event. */
  async finish(): Promise<void> {
    if (this.world.narrow) this.world.widen();
    await this.#settle();
    const { emitted } = this.world;
    await this.#stop();
    assert.equal(this.world.read, emitted);
  }

  close(): void {
    this.#closed = true;
    this.#reader.actor.stop();
    this.world.close();
  }
}

test(`[ING-17][ING-21][ING-22][ING-25][ING-44][ING-45][ING-46][KMES-124][LIFE-144][LIFE-203] ${WALKS} random walks: each sequence is stored once or in one gap, and lost only where it was overwritten or damaged`, async (t) => {
  const property = fc.asyncProperty(fc.array(deed, { minLength: 3, maxLength: LONGEST }), async (deeds) => {
    const walk = new Walk();
    try {
      for (const step of deeds) await walk.take(step);
      await walk.finish();
    } finally {
      walk.close();
    }
  });
  const walk = (seed: number): Promise<void> =>
    fc.assert(property, {
      seed,
      numRuns: WALKS,
      endOnFailure: !SHRINK,
      includeErrorInReport: true,
      ...(PATH === undefined ? {} : { path: PATH }),
    });
  await walk(SEED);
  // What a walk meets depends on how fast the drain thread is beside it: go on until each thing has happened.
  const missing = () => Object.entries(happened).flatMap(([what, count]) => (count > 0 ? [] : [what]));
  for (let more = 1; PATH === undefined && missing().length > 0 && more <= MORE_WALKS; more++)
    await walk(SEED + more);
  t.diagnostic(`seed ${SEED}, ${coverage.report()}`);
  t.diagnostic(JSON.stringify(happened));
  if (PATH !== undefined) return;
  assert.deepEqual(missing(), [], 'no walk had any of these');
});
