/**
 * The rollup advisor actor: gives the machine its counters, its policy and the metric store, and turns what it
 * does into messages. Runs in a thread of its own, or in a test's.
 */
import { setImmediate as turn } from 'node:timers/promises';
import { type RollupFailure, rollupAdvisorMachine } from '../../machines/rollupAdvisor.js';
import { createActor, fromPromise } from '../../machines/xstate.js';
import { FieldCounters } from '../../src/indexes/counters.js';
import { decide, type Verdict } from '../../src/indexes/policy.js';
import { verdictsNow } from '../../src/indexes/verdicts.js';
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
import { type Commanded, obey, type Surroundings, surroundedBy, tellWhenReady } from '../commanded.js';
import { plainFailure } from '../plainFailure.js';
import { Subject } from '../rx.js';
import { stateText } from '../stateText.js';
import type { FromRollups, RollupDump, RollupSettings, ToRollups } from './messages.js';

/** What the thread is given. */
export interface RollupData {
  readonly eventStorePath: string;
  readonly metricStorePath: string;
  readonly settings: RollupSettings;
}

type Deed = 'load' | 'decide' | 'persist' | 'search' | 'compute' | 'close';

export interface RollupAdvisorOptions
  extends RollupData,
    Surroundings<typeof rollupAdvisorMachine, ToRollups, Deed> {
  /** Wall clock, ns; the real one when absent. */
  readonly now?: () => bigint;
}

export type RollupAdvisor = Commanded<typeof rollupAdvisorMachine, FromRollups>;

/** A unit takes a few ms; the writer gets at least as long for itself, and longer as its buffer fills, ms. */
const LEAST_PAUSE_MS = 2;
const PRESSURE_PAUSE_MS = 500;

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
    ...surroundedBy('rollup-advisor', options),
    input: { limits: settings.policy },
  });
  tellWhenReady(actor, reports$);
  obey(actor, {
    commands$: options.commands$,
    reports$,
    dump: ({ value, context }): RollupDump => {
      const { decisions, units, rows, samples, pauses, limits, lastFailure } = context;
      const keys = desired.map(({ key }) => key);
      return {
        state: stateText(value),
        decisions,
        decidedAt,
        verdicts: verdictsNow(verdicts, keys, counters.counts()),
        units,
        rows,
        samples,
        pauses,
        limits,
        lastFailure,
      };
    },
    hear: (command) => {
      switch (command.type) {
        case 'used':
          for (const [key, times] of command.pairs) if (pairOf(key) !== null) counters.add(key, times, now());
          break;
        case 'settings':
          settings = command.settings;
          actor.send({ type: 'limits.changed', limits: settings.policy });
          break;
        case 'writes':
          actor.send({ type: command.rose ? 'writes.rose' : 'writes.eased' });
          break;
        case 'leaseGranted':
          if (command.id === lease) actor.send({ type: 'lease.granted', pressure: command.pressure });
          break;
        case 'leaseRefused':
          if (command.id !== lease) break;
          lease = null;
          actor.send({ type: 'lease.refused' });
          break;
        case 'stop':
          actor.send({ type: 'advisor.stop' });
          break;
      }
    },
  });
  return { actor, reports$ };
}

function pairsOf(keys: readonly string[]): RollupPair[] {
  return keys.map(pairOf).filter((pair) => pair !== null);
}

function failureOf(error: unknown): RollupFailure {
  return plainFailure(error, 'ERR_ROLLUPS');
}
