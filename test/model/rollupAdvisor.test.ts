/** Every path of the rollup advisor's machine, walked on the real actor with real databases. */
import assert from 'node:assert/strict';
import { cpSync, mkdirSync, mkdtempSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import Database from 'better-sqlite3';
import { Subject } from 'rxjs';
import { type AnyMachineSnapshot, SimulatedClock } from 'xstate';
import type { FromRollups, RollupSettings, ToRollups } from '../../actors/rollupAdvisor/messages.js';
import { type RollupAdvisor, startRollupAdvisor } from '../../actors/rollupAdvisor/rollupAdvisor.js';
import {
  LEASE_WAIT_MS,
  type RollupAdvisorContext,
  type RollupPolicyLimits,
  rollupAdvisorMachine,
  SEARCH_EVERY_MS,
} from '../../machines/rollupAdvisor.js';
import { saveRegistry } from '../../src/rollups/registryFile.js';
import { METRIC_SCHEMA } from '../../src/stores/metricSchema.js';
import { openStore } from '../../src/stores/storeFile.js';
import { ROLLUP_LIMITS } from '../fixtures/rollups.js';
import { AdvisorDriver } from './advisorDriver.js';
import { Coverage } from './coverage.js';
import { Gates, type ModelEvent, memoryDirectory, pathsOf, Shadow, walkAll } from './walk.js';

const LIMITS: RollupPolicyLimits = {
  windowHours: 48,
  intervalMinutes: 60,
  createThreshold: 50,
  dropThreshold: 5,
};
const LONGER: RollupPolicyLimits = { ...LIMITS, intervalMinutes: 90 };
const LOWER: RollupPolicyLimits = { ...LIMITS, createThreshold: 20 };
const HOUR_NS = 3_600_000_000_000n;
const START = 500_000n * HOUR_NS;
const HOURS = 60;
const FAILURE = { code: 'ERR_X', message: 'x' };

const done = (state: string) => `xstate.done.actor.0.rollupAdvisor.${state}`;
const error = (state: string) => `xstate.error.actor.0.rollupAdvisor.${state}`;
const after = (delay: string, state: string) => `xstate.after.${delay}.rollupAdvisor.${state}`;
const SEARCH = after('searchEvery', 'observing');
const WAITED = after('leaseWait', 'leasing');
const PAUSED = after('pause', 'resting');

const EVENTS: readonly ModelEvent[] = [
  { type: 'limits.changed', limits: LONGER },
  { type: 'limits.changed', limits: LOWER },
  { type: 'interval.over' },
  { type: 'writes.rose' },
  { type: 'writes.eased' },
  { type: 'lease.granted', pressure: 0 },
  { type: 'lease.refused' },
  { type: 'advisor.stop' },
  { type: SEARCH },
  { type: WAITED },
  { type: PAUSED },
  { type: done('searching'), output: true },
  { type: done('searching'), output: false },
  { type: done('computing'), output: { rows: 1, samples: 2, pauseMs: 3 } },
  ...['loading', 'deciding', 'publishing', 'closing'].map((state) => ({ type: done(state) })),
  ...['loading', 'deciding', 'publishing', 'searching', 'computing', 'closing'].map((state) => ({
    type: error(state),
    error: FAILURE,
  })),
];

/** One policy run and one change of limits: more of them only repeat. */
function possible(state: AnyMachineSnapshot): readonly ModelEvent[] {
  const value = String(state.value);
  const { due, pressed, decisions, limits, lastFailure } = state.context as RollupAdvisorContext;
  return EVENTS.filter(({ type, ...event }) => {
    if (type.startsWith('xstate.')) {
      if (!type.endsWith(`.${value}`)) return false;
      // Without its file it knows of no pairs before the policy has run.
      return event.output !== true || lastFailure === null || decisions > 0;
    }
    if (type === 'limits.changed') {
      return (
        /^(observing|closing)$/.test(value) && limits === LIMITS && decisions === 0 && event.limits !== limits
      );
    }
    if (type === 'interval.over') return !due && decisions === 0;
    if (type === 'writes.rose') return !pressed;
    if (type === 'writes.eased') return pressed;
    if (type.startsWith('lease.')) return value === 'leasing';
    return true;
  });
}

const coverage = new Coverage(rollupAdvisorMachine);
const root = memoryDirectory();

/** A gauge with two samples an hour, and a pair that is kept. */
function makeStores(directory: string): void {
  const events = join(directory, 'events');
  const metrics = join(directory, 'metrics.db');
  mkdirSync(events);
  saveRegistry(events, {
    counters: [{ field: 'avg_3600', count: 500, windowStart: START }],
    desired: ['avg_3600'],
  });
  const db = openStore(metrics, METRIC_SCHEMA);
  db.exec("INSERT INTO series (id, name, labels, type, label_hash) VALUES (1, 'load', '', 1, 0)");
  const insert = db.prepare('INSERT INTO samples VALUES (1, ?, ?, NULL)');
  for (let n = 0; n < HOURS * 2; n++) insert.run(START + (BigInt(n) * HOUR_NS) / 2n, n);
  db.close();
}

const TEMPLATE = mkdtempSync(join(root, 'template-'));
makeStores(TEMPLATE);

/** Drives one advisor along one path. */
class Driver extends AdvisorDriver<RollupAdvisorContext> {
  readonly #directory = mkdtempSync(join(root, 'rollups-'));
  readonly #stores = {
    events: join(this.#directory, 'events'),
    metrics: join(this.#directory, 'metrics.db'),
  };
  readonly #commands$ = new Subject<ToRollups>();
  readonly #clock = new SimulatedClock();
  readonly #gates = new Gates();
  protected override readonly shadow = new Shadow(rollupAdvisorMachine, { limits: LIMITS }, coverage);
  protected override readonly actor: RollupAdvisor['actor'];
  protected override readonly closed = { type: done('closing') };
  protected override readonly reports: FromRollups[] = [];
  #fails = false;
  #isBlocked = false;
  /** Hours of samples that are over. */
  #over = 1n;
  #nothing = false;

  constructor() {
    super();
    cpSync(TEMPLATE, this.#directory, { recursive: true });
    const { actor, reports$ } = startRollupAdvisor({
      eventStorePath: this.#stores.events,
      metricStorePath: this.#stores.metrics,
      settings: settingsOf(LIMITS),
      commands$: this.#commands$,
      now: () => {
        if (this.#fails) throw new Error('injected');
        return this.#nothing ? START : START + this.#over * HOUR_NS;
      },
      clock: this.#clock,
      pace: this.#gates.hold,
      inspect: this.shadow.inspect,
    });
    this.actor = actor;
    reports$.subscribe((report) => this.reports.push(report));
  }

  override close(): void {
    for (const deed of ['load', 'decide', 'persist', 'search', 'compute', 'close']) this.#gates.drop(deed);
    rmSync(this.#directory, { recursive: true, force: true });
  }

  protected override async perform(event: ModelEvent): Promise<void> {
    const { type } = event;
    switch (type) {
      case 'limits.changed':
        this.#commands$.next({ type: 'settings', settings: settingsOf(event.limits as RollupPolicyLimits) });
        return;
      case 'interval.over':
        this.#leave('search');
        this.actor.send({ type });
        return;
      case 'writes.rose':
      case 'writes.eased':
        this.#leave('search');
        this.#commands$.next({ type: 'writes', rose: type === 'writes.rose' });
        return;
      case 'lease.granted':
        // An answer to an earlier question counts for nothing.
        this.#commands$.next({ type: 'leaseGranted', id: this.#lease - 1, pressure: 1 });
        this.#commands$.next({ type: 'leaseGranted', id: this.#lease, pressure: 0 });
        return;
      case 'lease.refused':
        this.#commands$.next({ type: 'leaseRefused', id: this.#lease });
        return;
      case 'advisor.stop':
        for (const deed of ['load', 'decide', 'persist', 'search', 'compute']) this.#gates.drop(deed);
        this.#commands$.next({ type: 'stop' });
        return;
      case SEARCH:
        return this.shadow.passes(this.#clock, SEARCH_EVERY_MS);
      case WAITED:
        return this.shadow.passes(this.#clock, LEASE_WAIT_MS);
      case PAUSED:
        return this.shadow.passes(this.#clock, this.context.pauseMs);
    }
    await this.#deed(event);
  }

  /** Lets the deed of the state go, and has it end as the event says. */
  async #deed({ type, output }: ModelEvent): Promise<void> {
    const failing = type.startsWith('xstate.error');
    const value = this.value;
    const deed = { loading: 'load', deciding: 'decide', publishing: 'persist', closing: 'close' }[value];
    if (deed === undefined) {
      this.#fails = failing;
      this.#nothing = output === false;
      if (output === true) this.#over++;
      await this.shadow.hears(type, () => this.#gates.release(value === 'searching' ? 'search' : 'compute'));
      this.#fails = this.#nothing = false;
      return;
    }
    if (deed === 'decide') {
      this.#commands$.next({ type: 'used', pairs: new Map([['avg_3600', 500]]) });
      this.#fails = failing;
    } else this.#block(failing);
    await this.shadow.hears(type, () => this.#gates.release(deed));
    this.#fails = false;
    this.#block(false);
  }

  /** The search under way is over when its state is left. */
  #leave(deed: string): void {
    if (this.value === 'searching') this.#gates.drop(deed);
  }

  /** Its directory is gone: the registry can neither be read nor written. */
  #block(on: boolean): void {
    if (on === this.#isBlocked) return;
    this.#isBlocked = on;
    const { events } = this.#stores;
    if (on) {
      renameSync(events, `${events}.away`);
      writeFileSync(events, '');
    } else {
      rmSync(events);
      renameSync(`${events}.away`, events);
    }
  }

  /** What is stored is what the machine has counted, and every row is right. */
  protected override check(): void {
    const db = new Database(this.#stores.metrics, { readonly: true });
    const rows = db
      .prepare('SELECT window_start, value, sample_count FROM rollups ORDER BY 1')
      .safeIntegers(true)
      .raw()
      .all() as [bigint, number, bigint][];
    db.close();
    assert.equal(rows.length, this.context.rows);
    for (const [start, value, count] of rows) {
      const hour = Number((start - START) / HOUR_NS);
      assert.deepEqual([value, count], [hour * 2 + 0.5, 2n]);
    }
    const asked = this.reports.filter(({ type }) => type === 'leaseRequest').length;
    const returned = this.reports.filter(({ type }) => type === 'leaseReturn').length;
    assert.ok(asked - returned >= 0 && returned <= asked);
  }

  /** The last question for a lease. */
  get #lease(): number {
    const asked = this.reports.filter((report) => report.type === 'leaseRequest').at(-1);
    return asked?.type === 'leaseRequest' ? asked.id : 0;
  }
}

function settingsOf(policy: RollupPolicyLimits): RollupSettings {
  return { policy, computation: ROLLUP_LIMITS };
}

test('[ROL-13] [ROL-15] [ROL-16] [ROL-17] [ROL-18] [ROL-38] [LIFE-124] on every path the advisor stores right rows only, under a lease, and stops for rising writes', async (t) => {
  const paths = pathsOf(rollupAdvisorMachine, {
    input: { limits: LIMITS },
    events: possible,
    project: ({ context }) => {
      const { due, pressed, decisions, lastFailure } = context as RollupAdvisorContext;
      return [due, pressed, Math.min(decisions, 1), lastFailure !== null];
    },
  });
  await walkAll(paths, () => new Driver());
  t.diagnostic(`${paths.length} paths`);
});

test('[ROL-17] the walks entered every state of the rollup advisor and took every transition', (t) => {
  t.diagnostic(coverage.close());
});
