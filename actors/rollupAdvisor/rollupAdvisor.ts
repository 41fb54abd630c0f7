/**
 * The rollup advisor actor: gives the machine its counters, its policy and the metric store, and turns what it
 * does into messages. Runs in a thread of its own, or in a test's.
 */
import { setImmediate as turn } from 'node:timers/promises';
import type { ActorOptions, ActorRefFrom, InspectionEvent } from 'xstate';
import { type RollupFailure, rollupAdvisorMachine } from '../../machines/rollupAdvisor.js';
import { createActor, fromPromise } from '../../machines/xstate.js';
import { FieldCounters } from '../../src/indexes/counters.js';
import { decide, type Verdict } from '../../src/indexes/policy.js';
import { native } from '../../src/native/addon.js';
import {
  RollupComputation,
  type RollupUnit,
  SEARCH_START,
  type SearchPlace,
} from '../../src/rollups/computation.js';
import { pairOf, type RollupPair } from '../../src/rollups/pairs.js';
import { loadRegistry, saveRegistry } from '../../src/rollups/registryFile.js';
import { BatchTooLong } from '../../src/stores/retentionDatabase.js';
import { errorText, sqliteCode } from '../../src/stores/storeError.js';
import { type Observable, Subject, type Subscription } from '../rx.js';
import { stateText } from '../stateText.js';
import type { FromRollups, RollupDump, RollupSettings, ToRollups } from './messages.js';

/** What the thread is given. */
export interface RollupData {
  readonly eventStorePath: string;
  readonly metricStorePath: string;
  readonly settings: RollupSettings;
}

type Deed = 'load' | 'decide' | 'persist' | 'search' | 'compute' | 'close';

export interface RollupAdvisorOptions extends RollupData {
  /** Commands of the daemon. */
  readonly commands$: Observable<ToRollups>;
  /** Wall clock, ns; the real one when absent. */
  readonly now?: () => bigint;
  readonly inspect?: (event: InspectionEvent) => void;
  /** Runs interval, pauses and waits; the real time when absent. */
  readonly clock?: NonNullable<ActorOptions<typeof rollupAdvisorMachine>['clock']>;
  /** Awaited before each deed: a test holds the actor in a state with it. The daemon leaves it out. */
  readonly pace?: (deed: Deed) => Promise<void>;
}

export interface RollupAdvisor {
  readonly actor: ActorRefFrom<typeof rollupAdvisorMachine>;
  /** What the daemon hears. Completes when the advisor is closed. */
  readonly reports$: Observable<FromRollups>;
}

/** A unit takes a few ms; the writer gets at least as long for itself, and longer as its buffer fills, ms. */
const LEAST_PAUSE_MS = 2;
const PRESSURE_PAUSE_MS = 500;

/** Verdicts a dump shows. */
const SHOWN_VERDICTS = 100;

const SECOND_NS = 1_000_000_000n;

/** Starts the advisor. Subscribe to `reports$` at once: it does not repeat. */
export function startRollupAdvisor(options: RollupAdvisorOptions): RollupAdvisor {
  const { eventStorePath, metricStorePath, now = native.realtimeNs } = options;
  const reports$ = new Subject<FromRollups>();
  const pace = async (deed: Deed) => {
    await options.pace?.(deed);
    await turn();
  };
  const counters = new FieldCounters();
  let settings = options.settings;
  /** Highest priority first. */
  let desired: readonly RollupPair[] = [];
  let verdicts: readonly Verdict[] = [];
  let decidedAt: bigint | null = null;
  let computation: RollupComputation | null = null;
  /** The pass that is under way; null: the next search begins one. */
  let place: SearchPlace | null = null;
  let searched: readonly RollupPair[] = [];
  /** Up to when windows of a pair were completed at its last pass, by key. */
  const passed = new Map<string, bigint>();
  let unit: RollupUnit | null = null;
  let leases = 0;
  let lease: number | null = null;
  let failing = false;
  let commands: Subscription | null = null;

  const returnLease = () => {
    if (lease === null) return;
    reports$.next({ type: 'leaseReturn', id: lease });
    lease = null;
  };
  const closeStore = () => {
    const closing = computation;
    computation = null;
    place = null;
    unit = null;
    closing?.close();
  };
  /** Whatever fails, the next search begins with a fresh connection: the file may have been replaced. */
  const inStore = <T>(work: () => T): T => {
    try {
      return work();
    } catch (error) {
      closeStore();
      // What the pass has not come to is still to be done.
      passed.clear();
      throw failureOf(error);
    }
  };
  const inRegistry = <T>(work: () => T): T => {
    try {
      return work();
    } catch (error) {
      throw failureOf(error);
    }
  };
  const save = () =>
    inRegistry(() => {
      counters.prune(settings.policy.windowHours, now());
      saveRegistry(eventStorePath, {
        counters: counters.stored(),
        desired: desired.map(({ key }) => key),
      });
    });
  /** The pairs of which windows were completed since the last pass. */
  const ripe = (whole: boolean): RollupPair[] => {
    const completed = now() - settings.computation.completionDelayNs;
    return desired.filter(({ key, windowSeconds }) => {
      const upTo = completed / (BigInt(windowSeconds) * SECOND_NS);
      const isRipe = whole || upTo !== passed.get(key);
      if (isRipe) passed.set(key, upTo);
      return isRipe;
    });
  };
  const begin = (whole: boolean) => {
    searched = ripe(whole);
    if (searched.length === 0) return;
    computation ??= new RollupComputation(metricStorePath);
    place = SEARCH_START;
  };
  /** One bounded step of the search; null: go on. */
  const step = (whole: boolean): boolean | null => {
    if (unit !== null) return true;
    if (place === null) begin(whole);
    if (place === null || computation === null) return false;
    const limits = settings.computation;
    const found = computation.search(searched, place, { whole, nowNs: now(), limits });
    unit = found.unit;
    place = found.next;
    if (unit !== null) return true;
    if (place !== null) return null;
    closeStore();
    return false;
  };
  const compute = (): { rows: number; samples: number } => {
    if (unit === null || computation === null || lease === null)
      throw new Error('there is nothing to compute');
    const { pair, from } = unit;
    try {
      const done = computation.compute(unit, now(), settings.computation);
      if (place !== null) place = { ...place, from: done.next };
      return done;
    } catch (error) {
      // One window alone is too much for a transaction: its samples will do.
      if (!(error instanceof BatchTooLong) || place === null) throw error;
      place = { ...place, from: from + BigInt(pair.windowSeconds) * SECOND_NS };
      return { rows: 0, samples: 0 };
    } finally {
      unit = null;
    }
  };

  const machine = rollupAdvisorMachine.provide({
    actors: {
      load: fromPromise(async ({ input: { limits }, signal }) => {
        await pace('load');
        if (signal.aborted) return;
        const loaded = inRegistry(() => loadRegistry(eventStorePath));
        counters.load(loaded.counters, limits.windowHours, now());
        desired = pairsOf(loaded.desired);
      }),
      decide: fromPromise(async ({ input: { limits }, signal }) => {
        await pace('decide');
        if (signal.aborted) return;
        const nowNs = now();
        counters.prune(limits.windowHours, nowNs);
        const decision = decide({
          counts: counters.counts(),
          desired: desired.map(({ key }) => ({ field: key, isExpression: true })),
          manual: new Map(),
          limits,
          nowNs,
        });
        desired = pairsOf(decision.desired.map(({ field }) => field));
        verdicts = decision.verdicts;
        decidedAt = nowNs;
        // The pass that was under way has another order now.
        closeStore();
      }),
      persist: fromPromise(async ({ signal }) => {
        await pace('persist');
        if (!signal.aborted) save();
        failing = false;
      }),
      search: fromPromise(async ({ input: { whole }, signal }) => {
        for (;;) {
          await pace('search');
          if (signal.aborted) return false;
          const found = inStore(() => step(whole));
          if (found !== null) return found;
        }
      }),
      compute: fromPromise(async ({ input: { pressure } }) => {
        await pace('compute');
        const started = performance.now();
        const { rows, samples } = inStore(compute);
        failing = false;
        const ms = performance.now() - started;
        return { rows, samples, pauseMs: Math.ceil(LEAST_PAUSE_MS + ms + pressure * PRESSURE_PAUSE_MS) };
      }),
      close: fromPromise(async () => {
        returnLease();
        await pace('close');
        closeStore();
        save();
      }),
    },
    actions: {
      publish: () => reports$.next({ type: 'desired', pairs: desired.map(({ key }) => key) }),
      requestLease: () => {
        lease = ++leases;
        reports$.next({ type: 'leaseRequest', id: lease });
      },
      returnLease,
      announceFailure: (_, failure) => {
        if (!failing) reports$.next({ type: 'failed', failure });
        failing = true;
      },
    },
  });

  const actor = createActor(machine, {
    id: 'rollup-advisor',
    systemId: 'rollup-advisor',
    input: { limits: settings.policy },
    ...(options.inspect === undefined ? {} : { inspect: options.inspect }),
    ...(options.clock === undefined ? {} : { clock: options.clock }),
  });
  let ready = false;
  actor.subscribe({
    next: ({ value }) => {
      if (ready || value === 'loading') return;
      ready = true;
      reports$.next({ type: 'ready' });
    },
    complete: () => {
      commands?.unsubscribe();
      reports$.next({ type: 'closed' });
      reports$.complete();
    },
  });
  const dump = (): RollupDump => {
    const { value, context } = actor.getSnapshot();
    const { decisions, units, rows, samples, pauses, limits, lastFailure } = context;
    const counts = counters.counts();
    const shown = verdictsNow(verdicts, desired, counts);
    return {
      state: stateText(value),
      decisions,
      decidedAt,
      verdicts: shown,
      units,
      rows,
      samples,
      pauses,
      limits,
      lastFailure,
    };
  };
  actor.start();
  commands = options.commands$.subscribe((message) => {
    switch (message.type) {
      case 'used':
        for (const [key, times] of message.pairs) if (pairOf(key) !== null) counters.add(key, times, now());
        break;
      case 'settings':
        settings = message.settings;
        actor.send({ type: 'limits.changed', limits: settings.policy });
        break;
      case 'writes':
        actor.send({ type: message.rose ? 'writes.rose' : 'writes.eased' });
        break;
      case 'leaseGranted':
        if (message.id === lease) actor.send({ type: 'lease.granted', pressure: message.pressure });
        break;
      case 'leaseRefused':
        if (message.id !== lease) break;
        lease = null;
        actor.send({ type: 'lease.refused' });
        break;
      case 'stop':
        actor.send({ type: 'advisor.stop' });
        break;
      case 'dump':
        reports$.next({ type: 'dumped', dump: dump() });
        break;
      case 'ping':
        reports$.next({ type: 'pong' });
        break;
    }
  });
  return { actor, reports$ };
}

function pairsOf(keys: readonly string[]): RollupPair[] {
  return keys.map(pairOf).filter((pair) => pair !== null);
}

/** The last decision with the counts as they are now; before there was one, what the last run has left. */
function verdictsNow(
  verdicts: readonly Verdict[],
  desired: readonly RollupPair[],
  counts: ReadonlyMap<string, number>,
): Verdict[] {
  const judged = new Set(verdicts.map(({ field }) => field));
  const kept = desired
    .filter(({ key }) => !judged.has(key))
    .map(({ key }, index): Verdict => ({ field: key, count: 0, priority: index + 1, why: 'stays' }));
  const known = new Set([...judged, ...kept.map(({ field }) => field)]);
  const counted = [...counts.keys()]
    .filter((key) => !known.has(key))
    .map((key): Verdict => ({ field: key, count: 0, priority: null, why: 'rare' }));
  return [...verdicts, ...kept, ...counted]
    .slice(0, SHOWN_VERDICTS)
    .map((verdict) => ({ ...verdict, count: counts.get(verdict.field) ?? 0 }));
}

/** Plain data for the machine and for other threads. */
function failureOf(error: unknown): RollupFailure {
  const { code } = error as { code?: unknown };
  return {
    code: sqliteCode(error) ?? (typeof code === 'string' ? code : 'ERR_ROLLUPS'),
    message: errorText(error),
  };
}
