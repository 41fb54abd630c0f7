/** Every path of the shard writer's machine, walked on the real actor with real rings and a real file. */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { after, before, mock, test } from 'node:test';
import { Subject } from 'rxjs';
import { type AnyMachineSnapshot, createActor, fromPromise, SimulatedClock } from 'xstate';
import type { FromWriter, ReaderToWriter, ToWriter } from '../../actors/messages.js';
import { type ShardWriter, startShardWriter } from '../../actors/shardWriter/shardWriter.js';
import {
  type CommitReport,
  FINAL_ATTEMPTS,
  FIRST_RETRY_MS,
  LEASE_BOUND_MS,
  type ShardWriterContext,
  shardWriterMachine,
  type WriterLimits,
} from '../../machines/shardWriter.js';
import { native } from '../../src/native/addon.js';
import { ShardCommitter } from '../../src/stores/shardCommitter.js';
import { configChangeEvent } from '../../src/stores/synthetic.js';
import { writeAtOnce } from '../fixtures/database.js';
import { Coverage } from './coverage.js';
import { BOOT, Intruder, ShardWorld } from './shardWorld.js';
import {
  Gates,
  type ModelEvent,
  memoryDirectory,
  pathsOf,
  Shadow,
  type Step,
  until,
  walkAll,
} from './walk.js';
import { WriterLeases } from './writerLeases.js';

/** A latency of 2 ms leaves no time to linger, whatever the load (see batchPolicy.ts). */
const STEADY: WriterLimits = { maxBatchSize: 400, maxBatchLatencyMs: 2 };
/** Batches of 3000 rows at once are a load that makes the writer linger. */
const BURSTS: WriterLimits = { maxBatchSize: 4000, maxBatchLatencyMs: 1000 };
const BURST_ROWS = 3000;

const DONE = 'xstate.done.actor.0.shardWriter';
const ERROR = 'xstate.error.actor.0.shardWriter';

const failure = (corrupt: boolean) => ({ code: 'SQLITE_X', message: 'x', corrupt, lost: [] });

/** Everything the world can do to a writer. */
function worldEvents(limits: WriterLimits, lingerMs: number): readonly ModelEvent[] {
  const report = (more: boolean) => ({ rows: 1, events: 1, bytes: 1, commitMs: 1, more, lingerMs });
  return [
    { type: 'batch.available', halfFull: false },
    { type: 'batch.available', halfFull: true },
    { type: 'synthetic.queued' },
    { type: 'limits.changed', limits: { ...limits, maxBatchSize: limits.maxBatchSize + 100 } },
    { type: 'lease.requested' },
    { type: 'lease.returned' },
    { type: 'writer.stop' },
    { type: 'writer.close' },
    { type: `${DONE}.recovering` },
    { type: `${ERROR}.recovering`, error: failure(true) },
    ...['committing', 'finalCommit'].flatMap((state) => [
      { type: `${DONE}.${state}`, output: report(false) },
      { type: `${DONE}.${state}`, output: report(true) },
      { type: `${ERROR}.${state}`, error: failure(false) },
      { type: `${ERROR}.${state}`, error: failure(true) },
    ]),
    { type: `${DONE}.closing` },
    { type: `${ERROR}.closing`, error: failure(false) },
    { type: 'xstate.after.linger.shardWriter.batching' },
    { type: 'xstate.after.retry.shardWriter.degraded' },
    { type: 'xstate.after.leaseBound.shardWriter.yielding' },
  ];
}

/** Only what the writer's present state can be told: a promise of another state cannot settle. */
function possible(events: readonly ModelEvent[], state: AnyMachineSnapshot): ModelEvent[] {
  const value = String(state.value);
  return events.filter(({ type, halfFull }) => {
    if (type.startsWith('lease.')) return mayLease(type, value, state.context);
    if (type.startsWith('xstate.')) return type.endsWith(`.${value}`);
    if (type !== 'batch.available') return true;
    // Elsewhere it decides nothing how much has come.
    return halfFull === true ? ['idle', 'batching', 'yielding'].includes(value) : value !== 'batching';
  });
}

/** One sweeper, which asks once at a time, and is stopped before the writers are. */
function mayLease(type: string, value: string, context: ShardWriterContext): boolean {
  const { leaseWanted, leased, stopping, failures } = context;
  if (type === 'lease.returned') return leaseWanted || leased;
  if (leaseWanted || leased || stopping) return false;
  // Failures in a row change nothing for it, nor does what else is being waited for.
  return failures === 0 ? ['idle', 'batching', 'committing'].includes(value) : value === 'degraded';
}

function walksOf(limits: WriterLimits, lingerMs: number): Step[][] {
  const failing = ({ type }: ModelEvent): boolean => type.startsWith(ERROR);
  // After a failure batches begin small again, and small ones do not linger.
  const events = worldEvents(limits, lingerMs).filter(
    (event) => !isLease(event) && (lingerMs === 0 || !failing(event)),
  );
  return pathsFrom(events, limits);
}

/** Paths on which retention asks for its turn, with what bears upon it. */
function leaseWalksOf(limits: WriterLimits): Step[][] {
  const events = worldEvents(limits, 0).filter((event) => {
    const { type, error } = event;
    if (type.startsWith(ERROR))
      return type.endsWith('.committing') && !(error as { corrupt: boolean }).corrupt;
    if (['batch.available', 'synthetic.queued', 'writer.stop'].includes(type) || type.startsWith(DONE))
      return true;
    return isLease(event) || type.endsWith('.degraded');
  });
  return pathsFrom(events, limits).filter((path) => path.some(({ event }) => isLease(event)));
}

function isLease({ type }: ModelEvent): boolean {
  return type.startsWith('lease.') || type.endsWith('.yielding');
}

function pathsFrom(events: readonly ModelEvent[], limits: WriterLimits): Step[][] {
  return pathsOf(shardWriterMachine, {
    input: { shard: 0, limits },
    events: (state) => possible(events, state),
    project: ({ context }) => {
      const { arrived, stopping, closing, failures, finalFailures, lingerMs: linger } = context;
      const { leaseWanted, leased } = context;
      const tried = Math.min(finalFailures, FINAL_ATTEMPTS);
      // A second failure in a row waits longer than the first; more of them only repeat it.
      return [arrived, stopping, closing, Math.min(failures, 2), tried, linger > 0, leaseWanted, leased];
    },
  });
}

const coverage = new Coverage(shardWriterMachine);
const intruder = new Intruder();
const root = memoryDirectory();
before(() => intruder.online());
after(() => intruder.close());

/** Drives one writer along one path. */
class Driver {
  readonly world = new ShardWorld(root);
  readonly #readers$ = new Subject<ReaderToWriter>();
  readonly #commands$ = new Subject<ToWriter>();
  readonly #clock = new SimulatedClock();
  readonly #gates = new Gates();
  readonly #shadow: Shadow;
  readonly #writer: ShardWriter;
  readonly #reports: FromWriter[] = [];
  /** The file holds what the ledger says: it was opened, and nothing outside changed it. */
  #open = false;
  readonly #leases: WriterLeases;
  #damaged = false;
  #gaveUp = false;

  constructor(
    readonly limits: WriterLimits,
    readonly bursts: boolean,
  ) {
    this.#shadow = new Shadow(shardWriterMachine, { shard: 0, limits }, coverage);
    this.#leases = new WriterLeases((command) => this.#commands$.next(command), this.#shadow);
    this.#writer = startShardWriter({
      shard: 0,
      file: this.world.file,
      bootId: BOOT,
      channel: this.world.channel,
      unordered: [],
      limits,
      readers$: this.#readers$,
      commands$: this.#commands$,
      clock: this.#clock,
      pace: this.#gates.hold,
      inspect: this.#shadow.inspect,
    });
    this.#writer.reports$.subscribe((report) => this.#reports.push(report));
  }

  async walk(path: readonly Step[]): Promise<void> {
    for (const step of path) {
      await this.#do(step.event);
      this.#shadow.compare(this.#writer.actor, step);
      if (this.#open) this.world.check();
      this.#checkLease();
    }
    await this.#finish();
  }

  close(): void {
    for (const deed of ['open', 'commit', 'close']) this.#gates.drop(deed);
    this.world.close();
  }

  async #do(event: ModelEvent): Promise<void> {
    switch (event.type) {
      case 'batch.available': {
        const halfFull = event.halfFull === true;
        await (halfFull ? this.#handOffMany() : this.world.handOff());
        this.#readers$.next({ type: 'batch.available', halfFull });
        return;
      }
      case 'synthetic.queued': {
        const key = this.world.synthetic();
        const change = configChangeEvent(native.realtimeNs(), { key, oldValue: 1, newValue: 2 });
        this.#commands$.next({ type: 'synthetic', event: change });
        return;
      }
      case 'limits.changed': {
        const limits = event.limits as WriterLimits;
        this.#commands$.next({ type: 'limits', limits });
        assert.equal(native.channelStatus(this.world.channel).maxRows, limits.maxBatchSize);
        return;
      }
      case 'lease.requested':
        this.#leases.request();
        return;
      case 'lease.returned':
        return this.#leases.giveBack();
      case 'writer.stop':
        this.#commands$.next({ type: 'stop' });
        return;
      case 'writer.close':
        this.#commands$.next({ type: 'close' });
        return;
      case `${DONE}.recovering`:
        await this.#settle('open', event.type);
        this.#open = true;
        return;
      case `${ERROR}.recovering`:
        return this.#failToOpen(event.type);
      case `${DONE}.committing`:
      case `${DONE}.finalCommit`:
        return this.#commit(event.type, (event.output as { more: boolean }).more);
      case `${ERROR}.committing`:
      case `${ERROR}.finalCommit`:
        return this.#failToCommit(event.type, (event.error as { corrupt: boolean }).corrupt);
      case `${DONE}.closing`:
        return this.#settle('close', event.type);
      case `${ERROR}.closing`:
        return this.#failToClose(event.type);
      case 'xstate.after.linger.shardWriter.batching':
        return this.#shadow.passes(this.#clock, this.#context.lingerMs);
      case 'xstate.after.retry.shardWriter.degraded':
        return this.#shadow.passes(this.#clock, FIRST_RETRY_MS * 2 ** (this.#context.failures - 1));
      case 'xstate.after.leaseBound.shardWriter.yielding':
        return this.#shadow.passes(this.#clock, LEASE_BOUND_MS);
      default:
        assert.fail(`no deed for ${event.type}`);
    }
  }

  /** Retention has been told of its lease, and the file is free for it. */
  #checkLease(): void {
    if (!this.#context.leased) return;
    this.#leases.checkTold(this.#reports);
    if (!this.#damaged) writeAtOnce(this.world.file);
  }

  async #failToOpen(type: string): Promise<void> {
    this.world.replaceByGarbage();
    const bytes = readFileSync(this.world.file);
    await this.#settle('open', type);
    assert.deepEqual(readFileSync(this.world.file), bytes, '[FAIL-13] a foreign file was written to');
  }

  async #commit(type: string, more: boolean): Promise<void> {
    this.world.repair();
    const short = this.bursts ? BURST_ROWS - this.world.waitingRows : 0;
    if (short > 0) await this.world.handOffMany(short);
    const hindered = more && !this.world.owes;
    if (more && this.world.waitingRows === 0) await this.world.handOff();
    const lock = hindered ? this.world.obstruct(intruder, 5) : null;
    await this.#settle('commit', type);
    if (lock === null) this.world.committed();
    else await lock.over();
    this.#gaveUp = false;
  }

  async #failToCommit(type: string, corrupt: boolean): Promise<void> {
    if (this.world.waitingRows === 0 && !this.world.owes) await this.world.handOff();
    this.world.repair();
    if (corrupt) this.world.damage();
    else this.world.sabotage();
    this.#damaged ||= corrupt;
    await this.#settle('commit', type);
    this.world.failed();
    const reported = this.#reports.filter((report) => report.type === 'failed').at(-1);
    assert.ok(reported?.type === 'failed');
    assert.equal(reported.failure.code, corrupt ? 'SQLITE_CORRUPT' : 'SQLITE_CONSTRAINT_TRIGGER');
    this.#gaveUp = this.#context.finalFailures >= FINAL_ATTEMPTS;
  }

  /** No deed makes SQLite refuse here: the connection is closed, and then the injected failure is thrown. */
  async #failToClose(type: string): Promise<void> {
    const close = ShardCommitter.prototype.close;
    const failing = mock.method(ShardCommitter.prototype, 'close', function (this: ShardCommitter) {
      close.call(this);
      throw new Error('injected');
    });
    try {
      await this.#settle('close', type);
    } finally {
      failing.mock.restore();
    }
  }

  /** Lets the deed go and waits until the machine has heard how it ended. */
  #settle(deed: string, type: string): Promise<void> {
    return this.#shadow.hears(type, () => this.#gates.release(deed));
  }

  async #handOffMany(): Promise<number> {
    const half = this.limits.maxBatchSize / 2;
    return this.world.handOffMany(Math.max(half - this.world.waitingRows, 1));
  }

  /** From wherever the path ended: the disk works again, the daemon stops the writer, nothing may be missing. */
  async #finish(): Promise<void> {
    const { actor } = this.#writer;
    for (let deeds = 0; actor.getSnapshot().status === 'active'; deeds++) {
      assert.ok(deeds < 20, `the writer stays in ${this.#value}`);
      await this.#do(this.#nextOfStop());
      if (this.#open) this.world.check();
    }
    const { events, synthetic } = this.world.storedRows;
    assert.equal(this.#reports.at(-1)?.type, 'closed');
    assert.equal(this.#sum('events'), events, 'reported events');
    assert.equal(this.#sum('synthetic') >= synthetic, true, 'reported synthetic rows');
    if (!this.#open || this.#damaged) return;
    const drained = this.#reports.filter((report) => report.type === 'drained').at(-1);
    assert.ok(drained?.type === 'drained');
    assert.deepEqual(drained.lastSequences, this.world.lastSequences);
    if (this.#gaveUp) return;
    assert.ok(!this.world.owes && this.world.waitingRows === 0, 'something was not stored');
  }

  #nextOfStop(): ModelEvent {
    switch (this.#value) {
      case 'recovering':
        return { type: `${DONE}.recovering` };
      case 'committing':
      case 'finalCommit':
        if (this.#damaged) return { type: `${ERROR}.${this.#value}`, error: failure(true) };
        return { type: `${DONE}.${this.#value}`, output: { more: false } };
      case 'drained':
        return { type: 'writer.close' };
      case 'closing':
        return { type: `${DONE}.closing` };
      default:
        return { type: 'writer.stop' };
    }
  }

  #sum(what: 'events' | 'synthetic'): number {
    return this.#reports.reduce((sum, report) => sum + (report.type === 'committed' ? report[what] : 0), 0);
  }

  get #value(): string {
    return String(this.#writer.actor.getSnapshot().value);
  }

  get #context() {
    return this.#writer.actor.getSnapshot().context;
  }
}

test('[ING-48][ING-53][ING-58][ING-71][FAIL-3][FAIL-4][FAIL-5][FAIL-9][FAIL-10][FAIL-13][STO-15][LIFE-204][LIFE-207] after every step of every path the shard holds each sequence once, as a row or inside a gap record', async (t) => {
  const paths = walksOf(STEADY, 0);
  await walkAll(paths, () => new Driver(STEADY, false));
  t.diagnostic(`${paths.length} paths`);
});

test('[RET-8][FAIL-33] the same while retention has its turns: nothing is written meanwhile, and a turn has an end', async (t) => {
  const paths = leaseWalksOf(STEADY);
  await walkAll(paths, () => new Driver(STEADY, false));
  t.diagnostic(`${paths.length} paths`);
});

test('[ING-51][ING-54][ING-55][ING-56] the same for the paths on which the writer lets a batch grow', async (t) => {
  const paths = walksOf(BURSTS, 5).filter((path) => path.some(({ value }) => value === '"batching"'));
  await walkAll(paths, () => new Driver(BURSTS, true));
  t.diagnostic(`${paths.length} paths`);
});

test('[ING-47][ING-52] half a channel waits for nothing, wherever the writer stands when it hears of it', async () => {
  const LINGER_MS = 40;
  const deeds: ((report: CommitReport) => void)[] = [];
  const nothing = () => undefined;
  const clock = new SimulatedClock();
  const writer = createActor(
    shardWriterMachine.provide({
      actors: {
        open: fromPromise(() => Promise.resolve()),
        commit: fromPromise(() => new Promise<CommitReport>((resolve) => deeds.push(resolve))),
      },
      actions: { announceReady: nothing, announceCommit: nothing, grantLease: nothing },
    }),
    { input: { shard: 0, limits: STEADY }, clock },
  ).start();
  const stands = (state: string) => until(state, () => writer.getSnapshot().value === state);
  const commits = (more: boolean) =>
    deeds.shift()?.({ rows: 1, events: 1, bytes: 1, commitMs: 1, more, lingerMs: LINGER_MS });
  const hears = (halfFull: boolean) => writer.send({ type: 'batch.available', halfFull });
  try {
    await stands('idle');
    hears(false);
    commits(true);
    await stands('batching');
    hears(false);
    assert.equal(writer.getSnapshot().value, 'batching', 'it lingers');
    hears(true);
    assert.equal(writer.getSnapshot().value, 'committing', 'a linger ends');

    commits(false);
    await stands('idle');
    hears(true);
    assert.equal(writer.getSnapshot().value, 'committing', 'one event that is half the channel');

    commits(false);
    await stands('idle');
    for (const [halfFull, next] of [
      [false, 'batching'],
      [true, 'committing'],
    ] as const) {
      writer.send({ type: 'lease.requested' });
      hears(halfFull);
      assert.equal(writer.getSnapshot().value, 'yielding');
      writer.send({ type: 'lease.returned' });
      assert.equal(writer.getSnapshot().value, next, 'what came during a turn of retention');
      clock.increment(LINGER_MS);
      commits(false);
      await stands('idle');
    }
  } finally {
    writer.stop();
  }
});

test('[ING-48][LIFE-204] the walks entered every state of the shard writer and took every transition', (t) => {
  t.diagnostic(coverage.close());
});
