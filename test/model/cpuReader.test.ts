/** Every path of the ring reader's machine, walked on the real actor with a real ring and its drain thread. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { type AnyMachineSnapshot, SimulatedClock } from 'xstate';
import { type CpuReader, startCpuReader } from '../../actors/cpuReader/cpuReader.js';
import type { FromReaders, ReaderToWriter } from '../../actors/messages.js';
import {
  type CpuReaderOutput,
  cpuReaderMachine,
  FIRST_ATTACH_RETRY_MS,
  type PressureLevel,
} from '../../machines/cpuReader.js';
import { newGuid } from '../../src/host/guid.js';
import { attachRing } from '../../src/host/kmes.js';
import { type DrainEvent, native } from '../../src/native/addon.js';
import { type CpuResume, NOTHING_SEEN } from '../../src/stores/resume.js';
import { Coverage } from './coverage.js';
import { BOOT, RingWorld, SHARDS } from './ringWorld.js';
import {
  Gates,
  keyOf,
  type ModelEvent,
  memoryDirectory,
  pathsOf,
  Shadow,
  type Step,
  until,
  walkAll,
} from './walk.js';

const EMERGENCY_PERCENT = 75;
const RECOVERING = '0.cpuReader.flow.recovering';
const ATTACHING = '0.cpuReader.flow.running.reattaching.attaching';
const LEVELS: readonly PressureLevel[] = ['normal', 'elevated', 'emergency'];
const input = { cpu: 0, shards: SHARDS };

const stop: ModelEvent = { type: 'reader.stop' };
const recovered: ModelEvent = { type: `xstate.done.actor.${RECOVERING}` };
const notRecovered: ModelEvent = {
  type: `xstate.error.actor.${RECOVERING}`,
  error: new Error('no resume point'),
};
const attached: ModelEvent = { type: `xstate.done.actor.${ATTACHING}`, output: { ring: 1 } };
const notAttached: ModelEvent = { type: `xstate.error.actor.${ATTACHING}`, error: new Error('no ring') };
const otherBoot: ModelEvent = {
  type: notAttached.type,
  error: Object.assign(new Error('another boot'), { code: 'ERR_KMES_BOOT' }),
};
const pauseOver: ModelEvent = {
  type: 'xstate.after.attachRetry.cpuReader.flow.running.reattaching.backingOff',
};
const drainFailed: ModelEvent = { type: 'xstate.error.actor.drain', error: new Error('refused') };
const available: ModelEvent = { type: 'ring.available', index: 0, halfFull: false };
const idle: ModelEvent = { type: 'ring.idle' };
const throttled: ModelEvent = { type: 'ring.throttled', index: 0 };
const resumed: ModelEvent = { type: 'ring.resumed', index: 0 };
const gap: ModelEvent = { type: 'ring.gap', first: 1n, last: 1n };
const lapped: ModelEvent = { type: 'ring.lapped', from: 0n, to: 1n };
const corrupt: ModelEvent = { type: 'ring.corrupt', from: 0n, to: 1n };
const replaced: ModelEvent = { type: 'ring.replaced', lastSequence: 1n };
const reattached: ModelEvent = { type: 'ring.reattached', generation: 2n, capacity: 65536 };
const finished: ModelEvent = { type: 'ring.finished', lastSequence: 1n };
const pressure = (level: PressureLevel): ModelEvent => ({ type: 'ring.pressure', level, fill: 0.5 });

interface Value {
  readonly flow: string | { readonly running: string | { readonly reattaching: string } };
  readonly pressure: PressureLevel | 'ended';
}

/** `draining`, `attaching`, `stopped`: the innermost state of the flow. */
function leafOf(value: unknown): string {
  const { flow } = value as Value;
  if (typeof flow === 'string') return flow;
  return typeof flow.running === 'string' ? flow.running : flow.running.reattaching;
}

/**
 * What the drain thread can say and the daemon can ask for in a state. A blocked thread reads nothing:
 * what it says next is about pressure, or that it goes on. A thread whose ring was replaced waits.
 */
function possible({ value, context }: AnyMachineSnapshot): ModelEvent[] {
  const level = (value as Value).pressure;
  const blocked = context.blockedOn !== null;
  const jumped = context.lapped + context.corrupt > 0;
  const rising = LEVELS.filter((other) => other !== level && other !== 'normal').map(pressure);
  switch (leafOf(value)) {
    case 'recovering':
      return [stop, recovered, notRecovered];
    case 'draining':
      if (level !== 'normal') return [pressure('normal'), stop];
      return [available, idle, throttled, gap, replaced, stop, ...(jumped ? [] : [lapped, corrupt])];
    case 'waiting':
      return [available, throttled, gap, replaced, stop, ...(jumped ? [] : [lapped, corrupt])];
    case 'throttled':
      if (jumped) return [resumed, stop];
      return [resumed, stop, ...rising, corrupt, ...(level === 'emergency' ? [lapped] : [])];
    case 'attaching':
      return [attached, notAttached, otherBoot, stop];
    case 'backingOff':
      return [pauseOver, stop];
    case 'switching':
      return [reattached, drainFailed, stop];
    case 'finalDrain':
      if (blocked) return [resumed, finished, stop, ...(jumped ? [] : rising)];
      // Also while its ring was replaced: the thread has drained the old one and waits.
      if (level !== 'normal' || context.attachFailures > 0) return [finished, stop];
      if (context.stopping) return [available, throttled, gap, finished, stop];
      return [available, throttled, gap, replaced, finished, stop];
    default:
      return [];
  }
}

function walks(): Step[][] {
  return pathsOf(cpuReaderMachine, {
    input,
    events: possible,
    project: ({ context }) => [
      context.blockedOn !== null,
      context.stopping,
      Math.min(context.attachFailures, 3),
      context.lapped + context.corrupt > 0,
    ],
  });
}

const coverage = new Coverage(cpuReaderMachine);
const root = memoryDirectory();

/** Drives one reader along one path. */
class Driver {
  readonly world = new RingWorld(root);
  readonly #clock = new SimulatedClock();
  readonly #gates = new Gates();
  readonly #shadow = new Shadow(cpuReaderMachine, input, coverage);
  readonly #sent: ReaderToWriter[][] = SHARDS.map(() => []);
  readonly #reports: FromReaders[] = [];
  readonly #reader: CpuReader;
  #resume: { resolve(value: CpuResume): void; reject(error: Error): void } | null = null;
  /** The next attach gives a handle that is closed already. */
  #stale = false;

  constructor() {
    this.#reader = startCpuReader({
      cpu: 0,
      ring: this.world.ring.ring,
      resume: new Promise((resolve, reject) => {
        this.#resume = { resolve, reject };
      }),
      shards: this.world.channels.map((channel, shard) => ({
        shard,
        channel,
        send: (message: ReaderToWriter) => this.#sent[shard]?.push(message),
      })),
      emergencyPercent: EMERGENCY_PERCENT,
      attach: async (cpu) => {
        await this.#gates.hold('attach');
        const info = attachRing(this.world.source, cpu, BOOT);
        if (this.#stale) native.ringClose(info.ring);
        return info;
      },
      clock: this.#clock,
      inspect: this.#shadow.inspect,
    });
    this.#reader.reports$.subscribe((report) => this.#reports.push(report));
  }

  async walk(path: readonly Step[]): Promise<void> {
    for (const [i, step] of path.entries()) {
      const rest = path.slice(i + 1);
      if (leafOf(JSON.parse(step.value)) === 'finalDrain' && this.#leaf !== 'finalDrain') this.#foresee(rest);
      await this.#do(step, rest[0]?.event ?? null);
      // The thread refuses in the moment it is asked: the actor is one step ahead of the path.
      if (rest[0]?.event.type === drainFailed.type) continue;
      this.#shadow.compare(this.#reader.actor, step);
      this.world.check();
    }
    await this.#finish();
  }

  close(): void {
    this.#resume?.resolve(NOTHING_SEEN);
    this.#reader.actor.stop();
    this.#gates.drop('attach');
    this.world.close();
  }

  /** What is to happen in the last drain must be in the ring before it begins. */
  #foresee(rest: readonly Step[]): void {
    for (const { event } of rest) {
      if (event.type === 'ring.available') this.world.emit();
      if (event.type === 'ring.gap') this.world.drop();
      if (event.type === 'ring.throttled') this.world.overfill();
      if (event.type === 'ring.replaced') this.world.replaceRing();
    }
  }

  async #do(step: Step, next: ModelEvent | null): Promise<void> {
    const { event } = step;
    const last = this.#leaf === 'finalDrain';
    switch (event.type) {
      case stop.type:
        if (next?.type === replaced.type) await this.#said('generation');
        if (next?.type === throttled.type) await this.#said('throttled');
        this.#reader.actor.send({ type: 'reader.stop' });
        return;
      case recovered.type:
        if (next?.type === drainFailed.type) this.world.closeChannels();
        return this.#shadow.hears(event.type, () => this.#resume?.resolve(NOTHING_SEEN));
      case notRecovered.type:
        return this.#shadow.hears(event.type, () => this.#resume?.reject(new Error('no resume point')));
      case attached.type:
        this.#stale = next?.type === drainFailed.type;
        return this.#shadow.hears(event.type, () => this.#gates.release('attach'));
      case notAttached.type:
        if (event.error === otherBoot.error) {
          this.world.nameBoot(newGuid());
          return this.#shadow.hears(event.type, () => this.#gates.release('attach'));
        }
        this.world.hideRing();
        await this.#shadow.hears(event.type, () => this.#gates.release('attach'));
        this.world.showRing();
        return;
      case pauseOver.type:
        return this.#shadow.passes(
          this.#clock,
          FIRST_ATTACH_RETRY_MS * 2 ** (this.#context.attachFailures - 1),
        );
      case drainFailed.type:
        return;
      case available.type:
        if (!last && !this.#holds('available')) this.world.emit();
        return this.#deliver(step, 'available');
      case idle.type:
        return this.#deliver(step, 'idle');
      case throttled.type:
        if (!last) this.world.overfill();
        return this.#deliver(step, 'throttled');
      case resumed.type:
        this.world.widen();
        return this.#deliver(step, 'resumed');
      case gap.type:
        if (!last) this.world.drop();
        return this.#deliver(step, 'gap');
      case lapped.type:
        this.world.lap();
        if (this.world.narrow) this.world.widen();
        return this.#deliver(step, 'lapped');
      case corrupt.type:
        if (this.world.narrow) {
          this.world.damageNextUnread();
          this.world.widen();
        } else {
          this.world.publishGarbage();
          await this.#said('corrupt');
          // The jump may have gone over the event behind the garbage; the next one shows it.
          this.world.emit();
        }
        return this.#deliver(step, 'corrupt');
      case replaced.type:
        if (!last) this.world.replaceRing();
        return this.#deliver(step, 'generation');
      case reattached.type:
        return this.#deliver(step, 'reattached');
      case finished.type:
        if (this.world.narrow) this.world.widen();
        return this.#deliver(step, 'finished');
      case 'ring.pressure':
        return this.#press(step, event.level as PressureLevel);
      default:
        assert.fail(`no deed for ${event.type}`);
    }
  }

  /** A blocked thread still measures; its ring fills, or what counts as an emergency changes. */
  #press(step: Step, level: PressureLevel): Promise<void> {
    if (level === 'emergency') {
      this.#reader.setEmergency(EMERGENCY_PERCENT);
      this.world.fillTo(85);
    }
    if (level === 'elevated') {
      if (this.#level === 'emergency') this.#reader.setEmergency(99);
      this.world.fillTo(35);
    }
    return this.#deliver(
      step,
      'pressure',
      (report) => report.type === 'pressure' && LEVELS[report.level] === level,
    );
  }

  #deliver(
    step: Step,
    type: DrainEvent['type'],
    wanted: (event: DrainEvent) => boolean = (event) => event.type === type,
  ): Promise<void> {
    const there = (): boolean => keyOf(this.#reader.actor.getSnapshot().value) === step.value;
    return this.world.deliver(type, wanted, there);
  }

  #holds(type: DrainEvent['type']): boolean {
    return this.world.held.some(({ event }) => event.type === type);
  }

  #said(type: DrainEvent['type']): Promise<void> {
    return until(type, () => this.#holds(type));
  }

  /** From wherever the path ended: the daemon stops the reader, and the shards hold all it read. */
  async #finish(): Promise<void> {
    const { actor } = this.#reader;
    if (this.#leaf !== 'failed') {
      if (this.#leaf === 'recovering') this.#resume?.resolve(NOTHING_SEEN);
      if (actor.getSnapshot().status === 'active') actor.send({ type: 'reader.stop' });
      if (this.world.narrow) this.world.widen();
      const over = (): boolean => actor.getSnapshot().status !== 'active';
      if (!over()) await this.world.deliver('finished', ({ type }) => type === 'finished', over);
    }
    const end = this.#reports.at(-1);
    assert.ok(end?.type === 'finished');
    this.#checkOutput(end.output);
    this.#checkForwarded();
  }

  #checkOutput(output: CpuReaderOutput): void {
    const { context } = this.#reader.actor.getSnapshot();
    assert.equal(output.type, this.#leaf);
    if (output.type === 'stopped') this.world.check(output.lastSequence);
    const losses = this.#reports.filter((report) => report.type === 'loss');
    const count = (what: string): number => losses.filter((loss) => loss.what === what).length;
    assert.equal(count('ring.gap'), context.gaps);
    assert.equal(count('ring.lapped'), context.lapped);
    assert.equal(count('ring.corrupt'), context.corrupt);
  }

  /** Each writer heard of its batches and of every change of pressure. */
  #checkForwarded(): void {
    const seen = (type: string): ModelEvent[] => this.#shadow.seen.filter((event) => event.type === type);
    for (const [shard, messages] of this.#sent.entries()) {
      const batches = messages.filter(({ type }) => type === 'batch.available');
      assert.equal(batches.length, seen('ring.available').filter(({ index }) => index === shard).length);
      const levels = messages.flatMap((message) => (message.type === 'pressure' ? [message.level] : []));
      assert.deepEqual(
        levels,
        seen('ring.pressure').map(({ level }) => level),
      );
    }
  }

  get #leaf(): string {
    return leafOf(this.#reader.actor.getSnapshot().value);
  }

  get #level(): string {
    return (this.#reader.actor.getSnapshot().value as unknown as Value).pressure;
  }

  get #context() {
    return this.#reader.actor.getSnapshot().context;
  }
}

test('[ING-8][ING-14][ING-15][ING-17][ING-18][ING-21][ING-24][ING-25][ING-44][ING-45][ING-46][ING-47][LIFE-203][STO-15] after every step of every path the shards hold each sequence that was read once', async (t) => {
  const paths = walks();
  await walkAll(paths, () => new Driver());
  t.diagnostic(`${paths.length} paths`);
});

test('[LIFE-131] a drain thread that cannot start ends the reader, not the process', async () => {
  const failed = keyOf({ flow: 'failed', pressure: 'ended' });
  await walkAll(
    [
      [
        { event: recovered, value: keyOf({ flow: { running: 'draining' }, pressure: 'normal' }) },
        { event: drainFailed, value: failed },
      ],
    ],
    () => new Driver(),
  );
});

test('[ING-22] a ring that has begun anew within the boot is reported once, however much it goes on to hold', async () => {
  const world = new RingWorld(root, { hold: false });
  const reports: FromReaders[] = [];
  world.emit(3);
  const { actor, reports$ } = startCpuReader({
    cpu: 0,
    ring: world.ring.ring,
    resume: { ...NOTHING_SEEN, sequence: 10n },
    shards: world.channels.map((channel, shard) => ({ shard, channel, send: () => undefined })),
    emergencyPercent: EMERGENCY_PERCENT,
    attach: (cpu) => attachRing(world.source, cpu, BOOT),
    inspect: (event) => coverage.record(event),
  });
  try {
    reports$.subscribe((report) => reports.push(report));
    await until('the report', () => reports.length > 0);
    world.emit(2);
    actor.send({ type: 'reader.stop' });
    await until('the end', () => actor.getSnapshot().status === 'done');
    assert.deepEqual(reports, [
      { type: 'regressed', cpu: 0, newest: 3n, known: 10n },
      { type: 'finished', cpu: 0, output: { type: 'stopped', lastSequence: 10n } },
    ]);
  } finally {
    actor.stop();
    world.close();
  }
});

test('[ING-8] the walks took every transition of the ring reader', (t) => {
  t.diagnostic(coverage.close());
});
