/** Every path of the record writer's machine, walked on the real log and metric writers with real files. */
import assert from 'node:assert/strict';
import { mock, test } from 'node:test';
import { Subject } from 'rxjs';
import { createActor, fromPromise, SimulatedClock } from 'xstate';
import { startLogWriter } from '../../actors/logWriter/logWriter.js';
import type { FromRecordWriter, ToRecordWriter } from '../../actors/messages.js';
import { startMetricWriter } from '../../actors/metricWriter/metricWriter.js';
import type { RecordWriter } from '../../actors/recordWriter.js';
import {
  FIRST_RETRY_MS,
  LEASE_BOUND_MS,
  LONGEST_REPLACEMENT_MS,
  LONGEST_RETRY_MS,
  type RecordLimits,
  type RecordStore,
  type Replacement,
  recordWriterMachine,
} from '../../machines/recordWriter.js';
import { native, type SeriesCacheHandle } from '../../src/native/addon.js';
import { HELD_CACHE } from '../../src/stores/heldHandles.js';
import { RecordCommitter } from '../../src/stores/recordCommitter.js';
import { writeAtOnce } from '../fixtures/database.js';
import { Coverage } from './coverage.js';
import { BOOT, BUFFER_BYTES, RecordWorld } from './recordWorld.js';
import { DONE, ERROR, failure, leaseWalksOf, walksOf } from './recordWriterPaths.js';
import { Gates, type ModelEvent, memoryDirectory, Shadow, type Step, until, walkAll } from './walk.js';
import { WriterLeases } from './writerLeases.js';

/** A latency of 2 ms leaves no time to linger, whatever the load (see batchPolicy.ts). */
const STEADY: RecordLimits = { maxBatchSize: 50, maxBatchLatencyMs: 2, seriesCacheSize: 1000 };
/** Batches of 3000 records at once are a load that makes the writer linger. */
const BURSTS: RecordLimits = { maxBatchSize: 4000, maxBatchLatencyMs: 1000, seriesCacheSize: 1000 };
const BURST_RECORDS = 3000;
/** A record of this size fills a quarter of the buffer. */
const BIG = 140_000;

const coverage = new Coverage(recordWriterMachine);
const root = memoryDirectory();

/** Drives one writer along one path. */
class Driver {
  readonly world: RecordWorld;
  readonly #commands$ = new Subject<ToRecordWriter>();
  readonly #clock = new SimulatedClock();
  readonly #gates = new Gates();
  readonly #shadow: Shadow;
  readonly #writer: RecordWriter;
  readonly #reports: FromRecordWriter[] = [];
  #episodes = 0;
  readonly #leases: WriterLeases;
  /** The last commits failed until the writer gave up. */
  #gaveUp = false;

  constructor(
    readonly store: RecordStore,
    readonly limits: RecordLimits,
    readonly bursts: boolean,
  ) {
    this.world = new RecordWorld(root, store);
    this.#shadow = new Shadow(recordWriterMachine, { store, limits, bufferBytes: BUFFER_BYTES }, coverage);
    this.#leases = new WriterLeases((command) => this.#commands$.next(command), this.#shadow);
    const { file, receiver, held } = this.world;
    const options = {
      file,
      receiver,
      held,
      limits,
      bufferBytes: BUFFER_BYTES,
      commands$: this.#commands$,
      clock: this.#clock,
      pace: this.#gates.hold,
      inspect: this.#shadow.inspect,
    };
    this.#writer =
      store === 'log' ? startLogWriter({ ...options, bootId: BOOT }) : startMetricWriter(options);
    this.world.muteReceiver();
    this.#writer.reports$.subscribe((report) => this.#reports.push(report));
  }

  async walk(path: readonly Step[]): Promise<void> {
    for (const step of path) {
      await this.#do(step.event);
      this.#shadow.compare(this.#writer.actor, step);
      this.#check();
      this.#checkLease();
    }
    await this.#finish();
  }

  close(): void {
    for (const deed of ['open', 'commit', 'replace', 'close']) this.#gates.drop(deed);
    this.world.close();
  }

  async #do(event: ModelEvent): Promise<void> {
    switch (event.type) {
      case 'batch.available':
        return this.#arrive(Number(event.bytes) > 3);
      case 'limits.changed':
        return this.#changeLimits(event.limits as RecordLimits);
      case 'lease.requested':
        this.#leases.request();
        return;
      case 'lease.returned':
        return this.#leases.giveBack();
      case 'writer.stop':
        this.#commands$.next({ type: 'finish' });
        return;
      case 'writer.close':
        this.#commands$.next({ type: 'close' });
        return;
      case `${DONE}.recovering`:
        this.world.unblock();
        return this.#settle('open', event.type);
      case `${ERROR}.recovering`:
        return this.#failToOpen(event.type, (event.error as { damage: string }).damage);
      case `${DONE}.committing`:
      case `${DONE}.draining`: {
        const { more, finished } = event.output as { more: boolean; finished?: boolean };
        return this.#commit(event.type, more, finished ?? false);
      }
      case `${ERROR}.committing`:
      case `${ERROR}.draining`:
        return this.#failToCommit(event.type, (event.error as { damage: string }).damage);
      case `${DONE}.replacing`:
        return this.#replace(event.type);
      case `${ERROR}.replacing`:
        return this.#failToReplace(event.type);
      case `${DONE}.closing`:
        return this.#settle('close', event.type);
      case `${ERROR}.closing`:
        return this.#withFailingClose(() => this.#settle('close', event.type));
      case 'xstate.after.linger.recordWriter.batching':
        return this.#shadow.passes(this.#clock, this.#context.lingerMs);
      case 'xstate.after.retry.recordWriter.degraded': {
        const { file, failures, replacements } = this.#context;
        return this.#shadow.passes(
          this.#clock,
          FIRST_RETRY_MS * 2 ** (file === 'corrupt' ? replacements : failures - 1),
        );
      }
      case 'xstate.after.leaseBound.recordWriter.yielding':
        return this.#shadow.passes(this.#clock, LEASE_BOUND_MS);
      default:
        assert.fail(`no deed for ${event.type}`);
    }
  }

  /** What the receiver's wake-up does; it may come late, when everything is in hand already. */
  #arrive(big: boolean): void {
    if (big) for (let n = 0; n < 2; n++) this.world.send(1, BIG);
    else if (this.world.recordsInHand === 0 && !this.#isFinished) this.world.send(2);
    const bytes = this.world.waitingBytes;
    if (this.#value === 'batching') assert.equal(bytes * 2 >= BUFFER_BYTES, big);
    this.#writer.actor.send({ type: 'batch.available', bytes });
    if (this.#value === 'discarding') this.world.discarded();
  }

  /** Retention has been told of its lease, and the file is free for it. */
  #checkLease(): void {
    if (!this.#context.leased) return;
    this.#leases.checkTold(this.#reports);
    if (this.#context.file === 'open') writeAtOnce(this.world.file);
  }

  #changeLimits(limits: RecordLimits): void {
    this.#commands$.next({ type: 'limits', limits });
    assert.deepEqual(this.#context.limits, limits);
  }

  async #failToOpen(type: string, damage: string): Promise<void> {
    if (damage === 'none') this.world.block();
    else if (damage === 'corrupt') this.world.plantGarbage();
    else this.world.plantUnknownVersion();
    await this.#fail('open', type, damage !== 'version');
    if (damage !== 'version') return;
    this.world.discarded();
    assert.equal(this.#reports.filter((report) => report.type === 'discarding').length, 1);
  }

  async #commit(type: string, more: boolean, finished: boolean): Promise<void> {
    this.world.repair();
    const { maxBatchSize } = this.limits;
    const short = this.bursts ? BURST_RECORDS - this.world.waitingRecords : 0;
    if (short > 0 && this.world.recordsInHand === 0) this.world.send(short);
    this.world.ensureWaiting();
    this.world.ensureRest(more, maxBatchSize);
    if (finished) await this.world.finishReceiver();
    await this.#settle('commit', type);
    this.world.committed(maxBatchSize);
    assert.equal(this.#reports.filter((report) => report.type === 'committed').at(-1), this.#lastOrDrained());
  }

  async #failToCommit(type: string, damage: string): Promise<void> {
    this.world.repair();
    this.world.ensureWaiting();
    const { lost } = this.#context;
    if (damage === 'none') this.world.sabotage();
    else if (damage === 'gone') this.world.remove();
    else this.world.damage();
    await this.#fail('commit', type, true);
    const codes = { none: 'SQLITE_CONSTRAINT_TRIGGER', gone: 'ERR_STORE_GONE', corrupt: 'SQLITE_CORRUPT' };
    assert.equal(this.#context.lastFailure?.code, codes[damage as keyof typeof codes]);
    // A file that is gone is noticed before anything is taken.
    const gone = damage === 'gone' ? 0 : this.world.lost(this.limits.maxBatchSize);
    assert.equal(this.#context.lost, lost + gone);
    this.#gaveUp = this.#value === 'drained';
  }

  async #replace(type: string): Promise<void> {
    const corrupt = this.#context.file === 'corrupt';
    await this.#settle('replace', type);
    const report = this.#reports.at(-1);
    assert.ok(report?.type === 'replaced' && (report.aside !== null) === corrupt);
    if (report.aside !== null) this.world.setAside(report.aside);
  }

  /** A damaged file that cannot be renamed; for one that is gone, the injected failure of a close. */
  async #failToReplace(type: string): Promise<void> {
    if (this.#context.file === 'corrupt') {
      const show = this.world.hide();
      await this.#fail('replace', type, true);
      show();
    } else {
      await this.#withFailingClose(() => this.#fail('replace', type, true));
    }
  }

  /** No deed makes SQLite refuse here: the connection is closed, and then the injected failure is thrown. */
  async #withFailingClose(deed: () => Promise<void>): Promise<void> {
    const close = RecordCommitter.prototype.close;
    const failing = mock.method(RecordCommitter.prototype, 'close', function (this: RecordCommitter) {
      close.call(this);
      throw new Error('injected');
    });
    try {
      await deed();
    } finally {
      failing.mock.restore();
    }
  }

  /** LOG-47: of the failures of one episode only the first is told. */
  async #fail(deed: string, type: string, isFailure: boolean): Promise<void> {
    if (isFailure && this.#context.failures === 0) this.#episodes++;
    await this.#settle(deed, type);
    assert.equal(this.#reports.filter((report) => report.type === 'failed').length, this.#episodes);
  }

  /** Lets the deed go and waits until the machine has heard how it ended. */
  #settle(deed: string, type: string): Promise<void> {
    return this.#shadow.hears(
      type,
      () => this.#gates.release(deed),
      () => this.#context.lastFailure?.message,
    );
  }

  #check(): void {
    const { file } = this.#context;
    this.world.check(file === 'open' && this.#writer.actor.getSnapshot().status === 'active');
    const cache = this.world.held[HELD_CACHE] ?? 0;
    if (this.store === 'log' || cache === 0) return;
    const { entries } = native.seriesCacheStatus(cache as SeriesCacheHandle);
    assert.ok(entries <= 1, `${entries} series in the cache`);
  }

  /** From wherever the path ended: the disk works again, the daemon stops the writer. */
  async #finish(): Promise<void> {
    const { actor } = this.#writer;
    for (let deeds = 0; actor.getSnapshot().status === 'active'; deeds++) {
      assert.ok(deeds < 20, `the writer stays in ${this.#value}`);
      await this.#do(await this.#nextOfStop());
      this.#check();
    }
    assert.equal(this.#reports.at(-1)?.type, 'closed');
    const told = this.#reports.reduce((sum, r) => sum + (r.type === 'committed' ? r.records : 0), 0);
    assert.equal(told, this.#context.records);
    // A close that did not wait for the receiver leaves what it brings later.
    if (this.#context.file !== 'open' || this.#gaveUp || !this.#isFinished) return;
    assert.ok(this.world.nothingWaits, 'something was not stored');
  }

  async #nextOfStop(): Promise<ModelEvent> {
    switch (this.#value) {
      case 'recovering':
        return { type: `${DONE}.recovering` };
      case 'committing':
        return { type: `${DONE}.committing`, output: { more: this.#restIsSure } };
      case 'draining':
        return { type: `${DONE}.draining`, output: { more: this.#restIsSure, finished: !this.#restIsSure } };
      case 'replacing':
        return { type: `${DONE}.replacing` };
      case 'awaitingEnd':
        await this.world.finishReceiver();
        return { type: 'batch.available', bytes: 3 };
      case 'drained':
        return { type: 'writer.close' };
      case 'closing':
        return { type: `${DONE}.closing` };
      default:
        return { type: 'writer.stop' };
    }
  }

  /** Two batches wait: the next commit cannot be the last. */
  get #restIsSure(): boolean {
    return this.world.recordsInHand > 0 && this.world.waitingRecords > 0;
  }

  get #isFinished(): boolean {
    return native.receiverStatus(this.world.receiver).finished;
  }

  #lastOrDrained(): FromRecordWriter | undefined {
    return this.#reports.filter(({ type }) => type !== 'drained' && type !== 'leased').at(-1);
  }

  get #value(): string {
    return String(this.#writer.actor.getSnapshot().value);
  }

  get #context() {
    return this.#writer.actor.getSnapshot().context;
  }
}

test('[LOG-28, LOG-29, LOG-30, LOG-33, LOG-46, LOG-47, LOG-48, FAIL-10, FAIL-11, FAIL-13, FAIL-18, FAIL-19, FAIL-21, LIFE-204, LIFE-207] after every step of every path the log store holds each record once, those of failed commits excepted', async (t) => {
  const paths = walksOf(STEADY, 0);
  await walkAll(paths, () => new Driver('log', STEADY, false));
  t.diagnostic(`${paths.length} paths`);
});

test('[MET-39, MET-40, MET-43, MET-44, MET-45, MET-55, FAIL-10, FAIL-13, FAIL-18, FAIL-19, FAIL-21, LIFE-204] the same for the metric store', async (t) => {
  // The machine is the same: every third path will do.
  const paths = walksOf(STEADY, 0).filter((_, n) => n % 3 === 0);
  await walkAll(paths, () => new Driver('metric', STEADY, false));
  t.diagnostic(`${paths.length} paths`);
});

test('[LOG-52, MET-58, FAIL-33] the same while retention has its turns: nothing is written meanwhile, and a turn has an end', async (t) => {
  const paths = leaseWalksOf(STEADY);
  await walkAll(paths, () => new Driver('log', STEADY, false));
  await walkAll(paths.slice(0, 30), () => new Driver('metric', STEADY, false));
  t.diagnostic(`${paths.length} paths`);
});

test('[LOG-26, LOG-27, MET-40] the same for the paths on which a writer lets a batch grow', async (t) => {
  const paths = walksOf(BURSTS, 5).filter((path) => path.some(({ value }) => value === '"batching"'));
  await walkAll(paths, () => new Driver('log', BURSTS, true));
  await walkAll(paths, () => new Driver('metric', BURSTS, true));
  t.diagnostic(`2 * ${paths.length} paths`);
});

test('[LOG-46, LOG-47, MET-43, FAIL-18] pauses between attempts double up to a bound: for a failing disk, and for one that ruins each new file', async () => {
  const pausesOf = async (broken: 'none' | 'corrupt', count: number): Promise<number[]> => {
    const clock = new SimulatedClock();
    const failing = recordWriterMachine.provide({
      actors: {
        open: fromPromise(() => Promise.reject(failure(broken))),
        replace: fromPromise<Replacement, { corrupt: boolean }>(() => Promise.resolve({ aside: 'x' })),
      },
      actions: { announceFailure: () => undefined, announceReplaced: () => undefined },
    });
    const input = { store: 'log', limits: STEADY, bufferBytes: BUFFER_BYTES } as const;
    const actor = createActor(failing, { clock, input }).start();
    const pauses: number[] = [];
    while (pauses.length < count) {
      await until('the next pause', () => actor.getSnapshot().value === 'degraded');
      const began = clock.now();
      while (actor.getSnapshot().value === 'degraded') clock.increment(100);
      pauses.push(clock.now() - began);
    }
    actor.stop();
    return pauses;
  };
  assert.deepEqual(await pausesOf('none', 8), [
    100,
    200,
    400,
    800,
    1600,
    3200,
    LONGEST_RETRY_MS,
    LONGEST_RETRY_MS,
  ]);
  // The first damaged file makes way at once.
  const replacements = await pausesOf('corrupt', 14);
  assert.deepEqual(replacements.slice(0, 4), [200, 400, 800, 1600]);
  assert.deepEqual(replacements.slice(-2), [LONGEST_REPLACEMENT_MS, LONGEST_REPLACEMENT_MS]);
});

test('[LOG-24, MET-38] the walks entered every state of the record writer and took every transition', (t) => {
  t.diagnostic(coverage.close());
});
