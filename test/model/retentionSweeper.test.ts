/** Every path of the retention sweeper's machine, walked on the real actor with real files of all stores. */
import assert from 'node:assert/strict';
import { mock, test } from 'node:test';
import { Subject } from 'rxjs';
import { type AnyMachineSnapshot, SimulatedClock } from 'xstate';
import type { FromRetention, ToRetention } from '../../actors/retention/messages.js';
import { type Retention, startRetention } from '../../actors/retention/retention.js';
import {
  FIRST_SWEEP_MINUTES,
  LEASE_WAIT_MS,
  type RetentionContext,
  type RetentionLimits,
  retentionSweeperMachine,
  SWEPT_STORES,
  type SweptStore,
  URGENT_REST_MS,
} from '../../machines/retentionSweeper.js';
import { StoreSweep } from '../../src/stores/retentionSweep.js';
import { Coverage } from './coverage.js';
import { BOOT, NOW, RetentionWorld, SHARDS } from './retentionWorld.js';
import { Gates, type ModelEvent, memoryDirectory, pathsOf, Shadow, type Step, walkAll } from './walk.js';

const limitsOf = (days: number, intervalMinutes = 60): RetentionLimits => ({
  intervalMinutes,
  event: { days, maxBytes: 0n },
  log: { days, maxBytes: 0n },
  metric: { days, maxBytes: 0n },
});
const LIMITS = limitsOf(30);

const STATES: Readonly<Record<SweptStore, string>> = {
  event: 'sweepingEvents',
  log: 'sweepingLogs',
  metric: 'sweepingMetrics',
};
const FILES: Readonly<Record<SweptStore, number>> = { event: SHARDS, log: 1, metric: 1 };
const done = (path: string) => `xstate.done.actor.0.retentionSweeper.${path}`;
const error = (path: string) => `xstate.error.actor.0.retentionSweeper.${path}`;
const after = (delay: string, path: string) => `xstate.after.${delay}.retentionSweeper.${path}`;
const FAILURE = { code: 'SQLITE_X', message: 'x' };

/** Everything the world can do to the sweeper. */
const EVENTS: readonly ModelEvent[] = [
  { type: 'limits.changed', limits: limitsOf(31) },
  { type: 'limits.changed', limits: limitsOf(30, 90) },
  { type: 'disk.full', atMs: 0 },
  { type: 'disk.full', atMs: URGENT_REST_MS },
  { type: 'sweeper.stop' },
  { type: 'lease.granted', pressure: 0 },
  { type: 'lease.refused' },
  { type: after('interval', 'sleeping') },
  { type: done('urgent') },
  { type: error('urgent'), error: FAILURE },
  ...SWEPT_STORES.flatMap((store): ModelEvent[] => {
    const state = STATES[store];
    return [
      { type: done(`${state}.looking`), output: null },
      { type: done(`${state}.looking`), output: { store, file: 'x' } },
      { type: error(`${state}.looking`), error: FAILURE },
      { type: after('leaseWait', `${state}.waitingForLease`) },
      // There is no pause on a full disk.
      { type: done(`${state}.deleting`), output: { rows: 1, pauseMs: 0 } },
      { type: done(`${state}.deleting`), output: { rows: 1, pauseMs: 5 } },
      { type: error(`${state}.deleting`), error: FAILURE },
      { type: after('pause', `${state}.pausing`) },
    ];
  }),
];

interface Place {
  /** `sleeping`, `sweepingLogs.looking`. */
  readonly path: string;
  readonly leaf: string;
  readonly store: SweptStore | null;
}

function placeOf(value: unknown): Place {
  if (typeof value === 'string') return { path: value, leaf: value, store: null };
  const [[state, leaf] = ['', '']] = Object.entries(value as Record<string, string>);
  return { path: `${state}.${leaf}`, leaf, store: SWEPT_STORES.find((one) => STATES[one] === state) ?? null };
}

/** What bears upon the sweeper where it is; what has been said once changes nothing when it is said again. */
function possible(state: AnyMachineSnapshot): readonly ModelEvent[] {
  const { path, leaf, store } = placeOf(state.value);
  const { again, urgent, urgentAtMs, sweeps, givenUp, limits, rows } = state.context as RetentionContext;
  // The second sweep is there to be seen, not to be walked once more.
  const isOver = sweeps > 1 || (sweeps === 1 && path !== 'sleeping');
  return EVENTS.filter((event) => {
    const { type, output } = event;
    if (type.startsWith('xstate.')) {
      if (!type.endsWith(`.${path}`)) return false;
      if (leaf === 'looking') {
        if (type.startsWith('xstate.error')) return sweeps === 0 && givenUp === 0;
        if (output !== null) return !isOver && store !== null && givenUp < FILES[store] && rows < 2;
      }
      return (
        leaf !== 'deleting' || output === undefined || (output as { pauseMs: number }).pauseMs > 0 === !urgent
      );
    }
    if (isOver) return false;
    if (type === 'limits.changed') {
      const bounds = (event.limits as RetentionLimits).event.days;
      if (path === 'sleeping') return bounds !== limits.event.days || limits.intervalMinutes === 60;
      return path === 'sweepingLogs.looking' && !again && bounds === 31;
    }
    if (type === 'disk.full') {
      if (path !== 'sleeping')
        return !urgent && path === 'sweepingEvents.waitingForLease' && event.atMs === 0;
      return urgentAtMs === null ? event.atMs === 0 : true;
    }
    return type === 'sweeper.stop' ? sweeps === 0 : leaf === 'waitingForLease';
  });
}

function walks(): Step[][] {
  return pathsOf(retentionSweeperMachine, {
    input: { limits: LIMITS },
    events: possible,
    project: ({ context, value }) => {
      const { again, urgent, urgentAtMs, sweeps, givenUp, limits, rows } = context as RetentionContext;
      // What began a sweep has no bearing on how it goes.
      const begin = value === 'sleeping' ? [limits.intervalMinutes, limits.event.days] : [];
      return [again, urgent, urgentAtMs, Math.min(sweeps, 2), givenUp, rows, ...begin];
    },
  });
}

const coverage = new Coverage(retentionSweeperMachine);
const root = memoryDirectory();

/** Drives one sweeper along one path. */
class Driver {
  readonly world = new RetentionWorld(root);
  readonly #commands$ = new Subject<ToRetention>();
  readonly #clock = new SimulatedClock();
  readonly #gates = new Gates();
  readonly #shadow: Shadow;
  readonly #retention: Retention;
  readonly #reports: FromRetention[] = [];
  #refused = 0;

  constructor() {
    this.#shadow = new Shadow(retentionSweeperMachine, { limits: LIMITS }, coverage);
    this.#retention = startRetention({
      eventStorePath: this.world.events,
      logStorePath: this.world.file('log', 0).path,
      metricStorePath: this.world.file('metric', 0).path,
      bootId: BOOT,
      limits: LIMITS,
      commands$: this.#commands$,
      now: () => NOW,
      clock: this.#clock,
      pace: this.#gates.hold,
      inspect: this.#shadow.inspect,
    });
    this.#retention.reports$.subscribe((report) => this.#reports.push(report));
  }

  async walk(path: readonly Step[]): Promise<void> {
    for (const step of path) {
      await this.#do(step.event);
      // Numbers of rows and lengths of pauses are the real ones here; where the actor is, is the path's.
      this.#shadow.compare(this.#retention.actor, step);
      this.world.check();
      this.#checkLease();
    }
    if (this.#retention.actor.getSnapshot().status === 'active') this.#commands$.next({ type: 'stop' });
    this.world.check();
    this.#checkLease();
    assert.equal(this.#reports.at(-1)?.type, 'closed');
  }

  close(): void {
    for (const deed of ['look', 'delete', 'relieve']) this.#gates.drop(deed);
    this.world.close();
  }

  /** Each lease is returned, once, unless it was refused; at the end, too. */
  #checkLease(): void {
    const count = (type: string) => this.#reports.filter((report) => report.type === type).length;
    const { leaf } = this.#place;
    const isOpen = leaf === 'waitingForLease' || leaf === 'deleting';
    assert.equal(count('leaseRequest') - count('leaseReturn') - this.#refused, isOpen ? 1 : 0);
  }

  async #do(event: ModelEvent): Promise<void> {
    const { leaf, store } = this.#place;
    const { type } = event;
    if (type.startsWith('xstate.after')) return this.#pass(leaf);
    const failing = type.startsWith('xstate.error');
    switch (type.startsWith('xstate.') ? leaf : type) {
      case 'limits.changed':
        return this.#commands$.next({ type: 'limits', limits: event.limits as RetentionLimits });
      case 'disk.full':
        // By the daemon's word it would come with the real time.
        return this.#retention.actor.send({ type: 'disk.full', atMs: Number(event.atMs) });
      case 'sweeper.stop':
        return this.#commands$.next({ type: 'stop' });
      case 'lease.granted':
        return this.#grant();
      case 'lease.refused':
        this.#refused++;
        return this.#commands$.next({ type: 'leaseRefused', id: this.#lastLease });
      case 'looking':
        return this.#look(event, store ?? 'event', failing);
      case 'deleting':
        return this.#delete(type, store ?? 'event', failing);
      case 'urgent': {
        const relieve = () => this.#settle('relieve', type);
        return failing ? this.world.hiding(relieve) : relieve();
      }
      default:
        assert.fail(`no deed for ${type}`);
    }
  }

  /** A number of an earlier lease begins nothing. */
  #grant(): void {
    const before = this.#shadow.seen.length;
    this.#commands$.next({ type: 'leaseGranted', id: this.#lastLease - 1, pressure: 0 });
    this.#commands$.next({ type: 'leaseRefused', id: this.#lastLease - 1 });
    assert.equal(this.#shadow.seen.length, before);
    this.#commands$.next({ type: 'leaseGranted', id: this.#lastLease, pressure: 0 });
  }

  #pass(leaf: string): void {
    const { sweeps, limits, pauseMs } = this.#context;
    const { intervalMinutes } = limits;
    const minutes = sweeps === 0 ? Math.min(FIRST_SWEEP_MINUTES, intervalMinutes) : intervalMinutes;
    const waits: Readonly<Record<string, number>> = {
      sleeping: minutes * 60_000,
      waitingForLease: LEASE_WAIT_MS,
      pausing: pauseMs,
    };
    this.#shadow.passes(this.#clock, waits[leaf] ?? 0);
  }

  async #look(event: ModelEvent, store: SweptStore, failing: boolean): Promise<void> {
    const { givenUp } = this.#context;
    const look = () => this.#settle('look', event.type);
    if (failing) return this.#withFailingLook(look);
    const rest = this.world.files(store).slice(givenUp);
    if (event.output === null) for (const file of rest) file.clean();
    else if (rest.every(({ old }) => old === 0)) rest[0]?.addOld();
    await look();
  }

  /** No deed makes a whole store fail in every place where it could: the failure is injected. */
  async #withFailingLook(look: () => Promise<void>): Promise<void> {
    const failing = mock.method(StoreSweep.prototype, 'next', () => {
      throw new Error('injected');
    });
    try {
      await look();
    } finally {
      failing.mock.restore();
    }
  }

  async #delete(type: string, store: SweptStore, failing: boolean): Promise<void> {
    const file = this.world.file(store, this.#context.givenUp);
    const before = file.old;
    const remove = () => this.#settle('delete', type);
    if (failing) return file.refusing(remove);
    await remove();
    const rows = before - file.old;
    assert.ok(rows > 0, 'nothing was deleted');
    file.deleted(rows);
  }

  #settle(deed: string, type: string): Promise<void> {
    return this.#shadow.hears(
      type,
      () => this.#gates.release(deed),
      () => JSON.stringify(this.#reports.filter((report) => report.type === 'failed')),
    );
  }

  get #lastLease(): number {
    const asked = this.#reports.filter((report) => report.type === 'leaseRequest').at(-1);
    assert.ok(asked?.type === 'leaseRequest', 'no lease was asked for');
    return asked.id;
  }

  get #place(): Place {
    return placeOf(this.#retention.actor.getSnapshot().value);
  }

  get #context(): RetentionContext {
    return this.#retention.actor.getSnapshot().context;
  }
}

test('[RET-3][RET-7][RET-8][RET-11][FAIL-8][FAIL-33][LOG-49][LOG-52][MET-58][MET-59][CFG-44][CFG-70][LIFE-144] after every step of every path each store holds what it must, and deletes only under a lease', async (t) => {
  const paths = walks();
  await walkAll(paths, () => new Driver());
  t.diagnostic(`${paths.length} paths`);
});

test('[RET-3][LOG-49][MET-59] the walks entered every state of the sweeper and took every transition', (t) => {
  t.diagnostic(coverage.close());
});
