/**
 * The index advisor actor: gives the machine its counters, its policy and the metadata database, and turns
 * what it does into messages. Runs in a thread of its own, or in a test's.
 */
import { setImmediate as turn } from 'node:timers/promises';
import { type AdvisorFailure, type AdvisorLimits, indexAdvisorMachine } from '../../machines/indexAdvisor.js';
import { createActor, fromPromise } from '../../machines/xstate.js';
import { readAdminDescriptor } from '../../src/access/adminDescriptor.js';
import { FieldCounters } from '../../src/indexes/counters.js';
import { MetaStore, type PolicyState } from '../../src/indexes/metaStore.js';
import { decide, MAX_DESIRED, type PolicyDecision } from '../../src/indexes/policy.js';
import { verdictsNow } from '../../src/indexes/verdicts.js';
import { native } from '../../src/native/addon.js';
import { errorText, isCorruption } from '../../src/stores/storeError.js';
import { type Commanded, obey, type Surroundings, surroundedBy, tellWhenReady } from '../commanded.js';
import { plainFailure } from '../plainFailure.js';
import { Subject } from '../rx.js';
import { stateText } from '../stateText.js';
import type { AdvisorDump, FromAdvisor, ToAdvisor } from './messages.js';

/** What the thread is given. */
export interface AdvisorData {
  readonly eventStorePath: string;
  readonly limits: AdvisorLimits;
}

type Deed = 'load' | 'decide' | 'persist' | 'close';

export interface IndexAdvisorOptions
  extends AdvisorData,
    Surroundings<typeof indexAdvisorMachine, ToAdvisor, Deed> {
  /** Wall clock, ns; the real one when absent. */
  readonly now?: () => bigint;
}

export type IndexAdvisor = Commanded<typeof indexAdvisorMachine, FromAdvisor>;

const NOTHING_DECIDED: PolicyDecision = { desired: [], manual: new Map(), verdicts: [] };

/** Starts the advisor. Subscribe to `reports$` at once: it does not repeat. */
export function startIndexAdvisor(options: IndexAdvisorOptions): IndexAdvisor {
  const { eventStorePath, now = native.realtimeNs } = options;
  const reports$ = new Subject<FromAdvisor>();
  const pace = async (deed: Deed) => {
    await options.pace?.(deed);
    await turn();
  };
  const counters = new FieldCounters();
  let decided = NOTHING_DECIDED;
  let decidedAt: bigint | null = null;
  let store: MetaStore | null = null;
  let failing = false;

  const state = (): PolicyState => ({
    counters: counters.stored(),
    desired: decided.desired,
    manual: decided.manual,
  });
  const open = (): MetaStore => {
    store ??= MetaStore.open(eventStorePath, (problem) =>
      reports$.next({ type: 'recreated', problem: problem.message }),
    );
    return store;
  };
  const close = () => {
    store?.close();
    store = null;
  };
  /** Whatever the file is like, memory has all there is to know of it. */
  const save = () => {
    counters.prune(actor.getSnapshot().context.limits.windowHours, now());
    try {
      open().save(state());
    } catch (error) {
      if (!isCorruption(error)) throw failureOf(error);
      close();
      reports$.next({ type: 'recreated', problem: errorText(error) });
      try {
        store = MetaStore.recreate(eventStorePath);
        store.save(state());
      } catch (again) {
        throw failureOf(again);
      }
    }
  };

  const machine = indexAdvisorMachine.provide({
    actors: {
      load: fromPromise(async ({ input: { limits }, signal }) => {
        await pace('load');
        // A stop came meanwhile: nothing may be opened any more.
        if (signal.aborted) return;
        try {
          const loaded = open().load();
          counters.load(loaded.counters, limits.windowHours, now());
          decided = {
            desired: loaded.desired.slice(0, MAX_DESIRED),
            manual: loaded.manual,
            verdicts: [],
          };
        } catch (error) {
          throw failureOf(error);
        }
      }),
      decide: fromPromise(async ({ input: { limits, requests }, signal }) => {
        await pace('decide');
        if (signal.aborted) return;
        const nowNs = now();
        counters.prune(limits.windowHours, nowNs);
        const manual = new Map(decided.manual);
        for (const { field } of requests) manual.set(field, nowNs);
        decided = decide({ counts: counters.counts(), desired: decided.desired, manual, limits, nowNs });
        decidedAt = nowNs;
      }),
      persist: fromPromise(async ({ signal }) => {
        await pace('persist');
        if (signal.aborted) return;
        save();
        failing = false;
      }),
      close: fromPromise(async () => {
        await pace('close');
        try {
          save();
        } finally {
          close();
        }
      }),
    },
    actions: {
      publish: () => reports$.next({ type: 'desired', fields: decided.desired }),
      answer: (_, { requests }) => {
        for (const { id } of requests) reports$.next({ type: 'indexed', id });
      },
      announceFailure: (_, failure) => {
        if (!failing) reports$.next({ type: 'failed', failure });
        failing = true;
      },
    },
  });

  const actor = createActor(machine, {
    ...surroundedBy('index-advisor', options),
    input: { limits: options.limits },
  });
  /** Asked of the file each time: who changes it there need not restart anything. */
  const adminDescriptor = (): Uint8Array | null => {
    try {
      return store === null ? null : (readAdminDescriptor(store.database)?.bytes ?? null);
    } catch {
      return null;
    }
  };
  tellWhenReady(actor, reports$);
  obey(actor, {
    commands$: options.commands$,
    reports$,
    dump: ({ value, context }): AdvisorDump => {
      const counts = counters.counts();
      const desired = decided.desired.map(({ field }) => field);
      return {
        state: stateText(value),
        decisions: context.decisions,
        decidedAt,
        fields: counts.size,
        queries: [...counts.values()].reduce((sum, count) => sum + count, 0),
        verdicts: verdictsNow(decided.verdicts, desired, counts),
        limits: context.limits,
        lastFailure: context.lastFailure,
      };
    },
    hear: (command) => {
      switch (command.type) {
        case 'used':
          for (const [field, times] of command.fields) counters.add(field, times, now());
          break;
        case 'limits':
          actor.send({ type: 'limits.changed', limits: command.limits });
          break;
        case 'index':
          actor.send({ type: 'index.requested', id: command.id, field: command.field });
          break;
        case 'adminDescriptor':
          reports$.next({ type: 'adminDescriptor', id: command.id, bytes: adminDescriptor() });
          break;
        case 'stop':
          actor.send({ type: 'advisor.stop' });
          break;
      }
    },
  });
  return { actor, reports$ };
}

function failureOf(error: unknown): AdvisorFailure {
  return plainFailure(error, 'ERR_META_STORE');
}
