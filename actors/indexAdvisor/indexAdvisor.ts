/**
 * The index advisor actor: gives the machine its counters, its policy and the metadata database, and turns
 * what it does into messages. Runs in a thread of its own, or in a test's.
 */
import { setImmediate as turn } from 'node:timers/promises';
import type { ActorOptions, ActorRefFrom, InspectionEvent } from 'xstate';
import { type AdvisorFailure, type AdvisorLimits, indexAdvisorMachine } from '../../machines/indexAdvisor.js';
import { createActor, fromPromise } from '../../machines/xstate.js';
import { readAdminDescriptor } from '../../src/access/adminDescriptor.js';
import { FieldCounters } from '../../src/indexes/counters.js';
import { MetaStore, type PolicyState } from '../../src/indexes/metaStore.js';
import { decide, MAX_DESIRED, type PolicyDecision, type Verdict } from '../../src/indexes/policy.js';
import { native } from '../../src/native/addon.js';
import { errorText, isCorruption, sqliteCode } from '../../src/stores/storeError.js';
import { type Observable, Subject, type Subscription } from '../rx.js';
import { stateText } from '../stateText.js';
import type { AdvisorDump, FromAdvisor, ToAdvisor } from './messages.js';

/** What the thread is given. */
export interface AdvisorData {
  readonly eventStorePath: string;
  readonly limits: AdvisorLimits;
}

export interface IndexAdvisorOptions extends AdvisorData {
  /** Commands of the daemon. */
  readonly commands$: Observable<ToAdvisor>;
  /** Wall clock, ns; the real one when absent. */
  readonly now?: () => bigint;
  readonly inspect?: (event: InspectionEvent) => void;
  /** Runs the interval; the real time when absent. */
  readonly clock?: NonNullable<ActorOptions<typeof indexAdvisorMachine>['clock']>;
  /** Awaited before each deed: a test holds the actor in a state with it. The daemon leaves it out. */
  readonly pace?: (deed: 'load' | 'decide' | 'persist' | 'close') => Promise<void>;
}

export interface IndexAdvisor {
  readonly actor: ActorRefFrom<typeof indexAdvisorMachine>;
  /** What the daemon hears. Completes when the advisor is closed. */
  readonly reports$: Observable<FromAdvisor>;
}

/** Verdicts a dump shows; the rest is only counted. */
const SHOWN_VERDICTS = 100;

const NOTHING_DECIDED: PolicyDecision = { desired: [], manual: new Map(), verdicts: [] };

/** Starts the advisor. Subscribe to `reports$` at once: it does not repeat. */
export function startIndexAdvisor(options: IndexAdvisorOptions): IndexAdvisor {
  const { eventStorePath, now = native.realtimeNs } = options;
  const reports$ = new Subject<FromAdvisor>();
  const pace = async (deed: 'load' | 'decide' | 'persist' | 'close') => {
    await options.pace?.(deed);
    await turn();
  };
  const counters = new FieldCounters();
  let decided = NOTHING_DECIDED;
  let decidedAt: bigint | null = null;
  let store: MetaStore | null = null;
  let failing = false;
  let commands: Subscription | null = null;

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
    id: 'index-advisor',
    systemId: 'index-advisor',
    input: { limits: options.limits },
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
  const dump = (): AdvisorDump => {
    const { value, context } = actor.getSnapshot();
    const counts = counters.counts();
    return {
      state: stateText(value),
      decisions: context.decisions,
      decidedAt,
      fields: counts.size,
      queries: [...counts.values()].reduce((sum, count) => sum + count, 0),
      verdicts: shown(decided, counts),
      limits: context.limits,
      lastFailure: context.lastFailure,
    };
  };
  /** Asked of the file each time: who changes it there need not restart anything. */
  const adminDescriptor = (): Uint8Array | null => {
    try {
      return store === null ? null : (readAdminDescriptor(store.database)?.bytes ?? null);
    } catch {
      return null;
    }
  };
  actor.start();
  commands = options.commands$.subscribe((message) => {
    switch (message.type) {
      case 'used':
        for (const [field, times] of message.fields) counters.add(field, times, now());
        break;
      case 'limits':
        actor.send({ type: 'limits.changed', limits: message.limits });
        break;
      case 'index':
        actor.send({ type: 'index.requested', id: message.id, field: message.field });
        break;
      case 'adminDescriptor':
        reports$.next({ type: 'adminDescriptor', id: message.id, bytes: adminDescriptor() });
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

/** The last decision with the counts as they are now, and what has been counted since. */
function shown({ desired, verdicts }: PolicyDecision, counts: ReadonlyMap<string, number>): Verdict[] {
  // Before the first run there is only what the last start has decided.
  const known: readonly Verdict[] =
    verdicts.length > 0
      ? verdicts
      : desired.map(({ field }, index) => ({ field, count: 0, priority: index + 1, why: 'stays' as const }));
  const names = new Set(known.map(({ field }) => field));
  const fresh = [...counts]
    .filter(([field]) => !names.has(field))
    .sort(([, a], [, b]) => b - a)
    .map(([field, count]): Verdict => ({ field, count, priority: null, why: 'rare' }));
  return [...known.map((verdict) => ({ ...verdict, count: counts.get(verdict.field) ?? 0 })), ...fresh].slice(
    0,
    SHOWN_VERDICTS,
  );
}

/** Plain data for the machine and for other threads. */
function failureOf(error: unknown): AdvisorFailure {
  return { code: sqliteCode(error) ?? 'ERR_META_STORE', message: errorText(error) };
}
