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
import type { Moment } from '../../src/rollups/computation.js';
import { pairOf, type RollupPair } from '../../src/rollups/pairs.js';
import { loadRegistry, saveRegistry } from '../../src/rollups/registryFile.js';
import { RollupPass } from '../../src/rollups/rollupPass.js';
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
  const pass = new RollupPass(metricStorePath);
  let leases = 0;
  let lease: number | null = null;
  let failing = false;

  const returnLease = () => {
    if (lease === null) return;
    reports$.next({ type: 'leaseReturn', id: lease });
    lease = null;
  };
  const moment = (): Moment => ({ nowNs: now(), limits: settings.computation });
  /** Whatever fails, the next search begins with a fresh connection: the file may have been replaced. */
  const inStore = <T>(work: () => T): T => {
    try {
      return work();
    } catch (error) {
      pass.close();
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

  const machine = rollupAdvisorMachine.provide({
    actors: {
      load: fromPromise(async ({ input: { limits }, signal }) => {
        await pace('load');
        if (signal.aborted) return;
        const loaded = inRegistry(() => loadRegistry(eventStorePath));
        counters.load(loaded.counters, limits.windowHours, now());
        desired = pairsOf(loaded.desired);
        pass.want(desired);
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
        pass.want(desired);
      }),
      persist: fromPromise(async ({ signal }) => {
        await pace('persist');
        if (!signal.aborted) save();
        failing = false;
      }),
      search: fromPromise(async ({ signal }) => {
        for (;;) {
          await pace('search');
          if (signal.aborted) return false;
          const found = inStore(() => pass.step(moment()));
          if (found !== null) return found;
        }
      }),
      compute: fromPromise(async ({ input: { pressure } }) => {
        await pace('compute');
        const started = performance.now();
        const { rows, samples } = inStore(() => {
          if (lease === null) throw new Error('the lease was given back');
          return pass.compute(moment());
        });
        failing = false;
        const ms = performance.now() - started;
        return { rows, samples, pauseMs: Math.ceil(LEAST_PAUSE_MS + ms + pressure * PRESSURE_PAUSE_MS) };
      }),
      close: fromPromise(async () => {
        returnLease();
        await pace('close');
        pass.close();
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
