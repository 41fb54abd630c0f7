/** Every path of the index advisor's machine, walked on the real actor with a real metadata database. */
import assert from 'node:assert/strict';
import { mkdtempSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import Database from 'better-sqlite3';
import { Subject } from 'rxjs';
import { type AnyMachineSnapshot, SimulatedClock } from 'xstate';
import { type IndexAdvisor, startIndexAdvisor } from '../../actors/indexAdvisor/indexAdvisor.js';
import type { FromAdvisor, ToAdvisor } from '../../actors/indexAdvisor/messages.js';
import { type AdvisorContext, type AdvisorLimits, indexAdvisorMachine } from '../../machines/indexAdvisor.js';
import { MetaStore } from '../../src/indexes/metaStore.js';
import { AdvisorDriver } from './advisorDriver.js';
import { Coverage } from './coverage.js';
import { Gates, type ModelEvent, memoryDirectory, pathsOf, Shadow, walkAll } from './walk.js';

const LIMITS: AdvisorLimits = {
  windowHours: 24,
  intervalMinutes: 60,
  createThreshold: 100,
  dropThreshold: 10,
};
const LONGER: AdvisorLimits = { ...LIMITS, intervalMinutes: 90 };
const LOWER: AdvisorLimits = { ...LIMITS, createThreshold: 50 };
const NOW = 2_000_000_000_000_000_000n;
const FAILURE = { code: 'SQLITE_X', message: 'x' };
const done = (state: string) => `xstate.done.actor.0.indexAdvisor.${state}`;
const error = (state: string) => `xstate.error.actor.0.indexAdvisor.${state}`;
const INTERVAL = 'xstate.after.interval.indexAdvisor.observing';

const EVENTS: readonly ModelEvent[] = [
  { type: 'limits.changed', limits: LONGER },
  { type: 'limits.changed', limits: LOWER },
  { type: 'index.requested', id: 1, field: 'wish' },
  { type: 'advisor.stop' },
  { type: INTERVAL },
  ...['loading', 'deciding', 'publishing', 'closing'].flatMap((state) => [
    { type: done(state) },
    { type: error(state), error: FAILURE },
  ]),
];

/** One wish at a time, few policy runs: more of them only repeat. */
function possible(state: AnyMachineSnapshot): readonly ModelEvent[] {
  const value = String(state.value);
  const { waiting, deciding, decisions, limits } = state.context as AdvisorContext;
  return EVENTS.filter(({ type, ...event }) => {
    if (type.startsWith('xstate.after')) return value === 'observing' && decisions < 2;
    if (type.startsWith('xstate.')) return type.endsWith(`.${value}`);
    if (type === 'limits.changed') return limits === LIMITS && decisions === 0 && event.limits !== limits;
    if (type === 'index.requested') return waiting.length + deciding.length === 0 && decisions < 2;
    return true;
  });
}

const coverage = new Coverage(indexAdvisorMachine);
const root = memoryDirectory();

/** Drives one advisor along one path. */
class Driver extends AdvisorDriver<AdvisorContext> {
  readonly #directory = mkdtempSync(join(root, 'advisor-'));
  readonly #commands$ = new Subject<ToAdvisor>();
  readonly #clock = new SimulatedClock();
  readonly #gates = new Gates();
  protected override readonly shadow = new Shadow(indexAdvisorMachine, { limits: LIMITS }, coverage);
  protected override readonly actor: IndexAdvisor['actor'];
  protected override readonly closed = { type: done('closing') };
  protected override readonly reports: FromAdvisor[] = [];
  readonly #wishes = new Set<string>();
  #failsToDecide = false;
  #isOpen = false;
  #mend: (() => void) | null = null;
  #ids = 0;

  constructor() {
    super();
    // What an earlier run has left: a member, and a field that is asked for often.
    const store = MetaStore.open(this.#directory, () => undefined);
    store.save({
      counters: [
        { field: 'busy', count: 500, windowStart: NOW },
        { field: 'fading', count: 12, windowStart: NOW },
      ],
      desired: [{ field: 'fading', isExpression: true }],
      manual: new Map(),
    });
    store.close();
    const { actor, reports$ } = startIndexAdvisor({
      eventStorePath: this.#directory,
      limits: LIMITS,
      commands$: this.#commands$,
      now: () => {
        if (this.#failsToDecide) throw new Error('injected');
        return NOW;
      },
      clock: this.#clock,
      pace: this.#gates.hold,
      inspect: this.shadow.inspect,
    });
    this.actor = actor;
    reports$.subscribe((report) => this.reports.push(report));
  }

  override close(): void {
    for (const deed of ['load', 'decide', 'persist', 'close']) this.#gates.drop(deed);
    this.#unblock();
    rmSync(this.#directory, { recursive: true, force: true });
  }

  protected override async perform(event: ModelEvent): Promise<void> {
    const { type } = event;
    switch (type) {
      case 'limits.changed':
        this.#commands$.next({ type: 'limits', limits: event.limits as AdvisorLimits });
        return;
      case 'index.requested':
        this.#commands$.next({ type: 'index', id: ++this.#ids, field: 'wish' });
        return;
      case 'advisor.stop':
        for (const deed of ['load', 'decide', 'persist']) this.#gates.drop(deed);
        this.#commands$.next({ type: 'stop' });
        return;
      case INTERVAL:
        return this.shadow.passes(this.#clock, this.context.limits.intervalMinutes * 60_000);
    }
    const failing = type.startsWith('xstate.error');
    const deed = { loading: 'load', deciding: 'decide', publishing: 'persist', closing: 'close' }[this.value];
    assert.ok(deed !== undefined, type);
    if (failing && deed === 'decide') this.#failsToDecide = true;
    else if (failing) this.#block();
    else this.#unblock();
    if (deed === 'decide' && !failing) for (const { field } of this.context.deciding) this.#wishes.add(field);
    await this.shadow.hears(type, () => this.#gates.release(deed));
    this.#failsToDecide = false;
    if (!failing && (deed === 'load' || deed === 'persist')) this.#isOpen = true;
  }

  /** A file that is open cannot be written, or one that is not cannot be opened. */
  #block(): void {
    if (this.#mend !== null) return;
    const directory = this.#directory;
    if (this.#isOpen) {
      this.#execute('ALTER TABLE index_counters RENAME TO hidden');
      this.#mend = () => this.#execute('ALTER TABLE hidden RENAME TO index_counters');
      return;
    }
    renameSync(directory, `${directory}.away`);
    writeFileSync(directory, '');
    this.#mend = () => {
      rmSync(directory, { force: true });
      renameSync(`${directory}.away`, directory);
    };
  }

  #unblock(): void {
    this.#mend?.();
    this.#mend = null;
  }

  #execute(sql: string): void {
    const db = new Database(join(this.#directory, 'eventd-meta.db'));
    db.exec(sql);
    db.close();
  }

  /** What is published is what the policy decided; what is answered is in it, and on disk. */
  protected override check(): void {
    const ids = this.reports.flatMap((report) => (report.type === 'indexed' ? [report.id] : []));
    assert.equal(new Set(ids).size, ids.length, 'each wish is answered once');
    const published = this.reports.filter((report) => report.type === 'desired').at(-1);
    if (published?.type !== 'desired') return;
    const fields = published.fields.map(({ field }) => field);
    if (this.context.decisions === 0) assert.ok(fields.length <= 1);
    else
      assert.ok(fields.includes('busy') || this.context.lastFailure !== null, `published ${fields.join()}`);
    if (ids.length > 0 && this.#wishes.size > 0) assert.equal(fields[0], 'wish');
  }
}

test('[IDX-5][IDX-45][IDX-46][IDX-47] on every path the advisor publishes what the policy decides, answers each wish once, and works on without its file', async (t) => {
  const paths = pathsOf(indexAdvisorMachine, {
    input: { limits: LIMITS },
    events: possible,
    project: ({ context }) => {
      const { waiting, deciding, decisions, limits, lastFailure } = context as AdvisorContext;
      return [waiting.length, deciding.length, Math.min(decisions, 2), limits, lastFailure !== null];
    },
  });
  await walkAll(paths, () => new Driver());
  t.diagnostic(`${paths.length} paths`);
});

test('[IDX-5] the walks entered every state of the index advisor and took every transition', (t) => {
  t.diagnostic(coverage.close());
});

test('[IDX-2][IDX-48][IDX-8] counters reach the file with each policy run and at the end, and nothing is written between', async () => {
  const directory = mkdtempSync(join(root, 'flush-'));
  const commands$ = new Subject<ToAdvisor>();
  const clock = new SimulatedClock();
  const advisor = startIndexAdvisor({
    eventStorePath: directory,
    limits: LIMITS,
    commands$,
    now: () => NOW,
    clock,
  });
  const reports: FromAdvisor[] = [];
  advisor.reports$.subscribe((report) => reports.push(report));
  const heard = async (type: FromAdvisor['type'], count = 1) => {
    while (reports.filter((report) => report.type === type).length < count)
      await new Promise((resolve) => setImmediate(resolve));
  };
  const state = async (value: string) => {
    while (advisor.actor.getSnapshot().value !== value) await new Promise((resolve) => setImmediate(resolve));
  };
  const counters = () => {
    const db = new Database(join(directory, 'eventd-meta.db'), { readonly: true });
    const rows = db.prepare('SELECT field_path, query_count FROM index_counters ORDER BY 1').raw().all();
    db.close();
    return rows;
  };
  await heard('ready');
  commands$.next({ type: 'used', fields: new Map([['a', 99]]) });
  assert.deepEqual(counters(), []);
  clock.increment(60 * 60_000);
  await heard('desired', 2);
  await state('observing');
  assert.deepEqual(counters(), [['a', 99]]);
  commands$.next({ type: 'used', fields: new Map([['a', 1]]) });
  clock.increment(60 * 60_000);
  await heard('desired', 3);
  await state('observing');
  assert.deepEqual(reports.filter((report) => report.type === 'desired').at(-1), {
    type: 'desired',
    fields: [{ field: 'a', isExpression: true }],
  });
  commands$.next({ type: 'used', fields: new Map([['b', 7]]) });
  commands$.next({ type: 'stop' });
  await heard('closed');
  assert.deepEqual(counters(), [
    ['a', 100],
    ['b', 7],
  ]);
});
