/**
 * The retention actor: gives the sweeper's machine the databases and turns what it does into messages.
 * Runs in a thread of its own (RET-3), or in a test's.
 */
import { setImmediate as turn } from 'node:timers/promises';
import {
  type RetentionLimits,
  retentionSweeperMachine,
  type StoreLimits,
  SWEPT_STORES,
  type SweepFailure,
  type SweptStore,
  type Target,
} from '../../machines/retentionSweeper.js';
import { createActor, fromPromise } from '../../machines/xstate.js';
import { native } from '../../src/native/addon.js';
import { BatchTooLong } from '../../src/stores/retentionDatabase.js';
import { RetentionPace } from '../../src/stores/retentionPace.js';
import {
  checkpointAll,
  eventFiles,
  logFiles,
  metricFiles,
  StoreSweep,
  type SweepStep,
  type SweptBatch,
  type SweptFiles,
} from '../../src/stores/retentionSweep.js';
import { isDiskFull } from '../../src/stores/storeError.js';
import { type Commanded, obey, type Surroundings, surroundedBy } from '../commanded.js';
import { plainFailure } from '../plainFailure.js';
import { Subject } from '../rx.js';
import { stateText } from '../stateText.js';
import type { FromRetention, RetentionDump, StoreFigures, ToRetention } from './messages.js';

/** What the retention thread is given. */
export interface RetentionData {
  readonly eventStorePath: string;
  readonly logStorePath: string;
  readonly metricStorePath: string;
  /** 16 bytes: the running boot. */
  readonly bootId: Uint8Array;
  readonly limits: RetentionLimits;
}

type Deed = 'look' | 'delete' | 'relieve';

export interface RetentionOptions
  extends RetentionData,
    Surroundings<typeof retentionSweeperMachine, ToRetention, Deed> {
  /** Wall clock, ns; the real one when absent. */
  readonly now?: () => bigint;
}

export type Retention = Commanded<typeof retentionSweeperMachine, FromRetention>;

/** A lease that was asked for, and what is told when it is returned. */
interface Lease {
  readonly id: number;
  readonly target: Target;
  series: readonly bigint[];
}

const NOTHING: StoreFigures = { rows: 0, series: 0, usedBytes: null };

/** Starts the sweeper. Subscribe to `reports$` at once: it does not repeat. */
export function startRetention(options: RetentionOptions): Retention {
  const { now = native.realtimeNs } = options;
  const reports$ = new Subject<FromRetention>();
  const pace = async (deed: Deed) => options.pace?.(deed);
  const figures: Record<SweptStore, StoreFigures> = { event: NOTHING, log: NOTHING, metric: NOTHING };
  /** Databases whose trouble has been told: those of the last sweep, and those of this one. */
  let told = new Set<string>();
  let troubled = new Set<string>();
  let lastFailure: SweepFailure | null = null;
  let speed = new RetentionPace();
  let sweep: StoreSweep | null = null;
  let swept: SweptStore = 'event';
  let step: SweepStep | null = null;
  let lease: Lease | null = null;
  let leases = 0;
  let begunAt = performance.now();

  const filesOf = (store: SweptStore): SweptFiles => {
    if (store === 'event') return eventFiles(options.eventStorePath, options.bootId);
    return store === 'log' ? logFiles(options.logStorePath) : metricFiles(options.metricStorePath);
  };
  const tell = (what: string, error: unknown) => {
    const isNews = !told.has(what) && !troubled.has(what);
    troubled.add(what);
    lastFailure = failureOf(error);
    if (isNews) reports$.next({ type: 'failed', failure: lastFailure });
  };
  const begin = (store: SweptStore, { days, maxBytes }: StoreLimits, urgent: boolean): StoreSweep => {
    if (store === 'event') begunAt = performance.now();
    swept = store;
    speed = new RetentionPace();
    return new StoreSweep(filesOf(store), { days, maxBytes, nowNs: now(), urgent, onProblem: tell });
  };
  const closeStore = () => {
    const closing = sweep;
    sweep = null;
    step = null;
    if (closing === null) return;
    const { rows, series } = figures[swept];
    figures[swept] = {
      rows: rows + closing.rows,
      series: series + closing.series,
      usedBytes: closing.usedBytes,
    };
    closing.close();
  };
  const returnLease = () => {
    if (lease === null) return;
    const { id, target, series } = lease;
    lease = null;
    reports$.next({ type: 'leaseReturn', id, target, series: BigInt64Array.from(series) });
  };
  /** A batch that takes too long, or finds no room in the WAL, is tried smaller, in a lease of its own. */
  const deleteSome = (urgent: boolean): SweptBatch => {
    if (step === null || lease === null) throw new Error('the lease was given back');
    try {
      return step.run(speed.rowsFor(urgent));
    } catch (error) {
      const isTooLarge = error instanceof BatchTooLong || isDiskFull(error);
      if (isTooLarge && speed.shrink()) return { rows: 0, series: [] };
      throw error;
    }
  };

  const machine = retentionSweeperMachine.provide({
    actors: {
      look: fromPromise(async ({ input: { store, limits, urgent }, signal }) => {
        await pace('look');
        await turn();
        // A stop came meanwhile: nothing may be opened any more.
        if (signal.aborted) return null;
        try {
          sweep ??= begin(store, limits, urgent);
          step = sweep.next();
        } catch (error) {
          throw failureOf(error);
        }
        return step === null ? null : { store, file: step.file };
      }),
      deleteBatch: fromPromise(async ({ input: { pressure, urgent } }) => {
        await pace('delete');
        await turn();
        const started = performance.now();
        try {
          const { rows, series } = deleteSome(urgent);
          if (lease !== null) lease.series = series;
          const ms = performance.now() - started;
          return { rows, pauseMs: speed.observe({ rows, ms, pressure, urgent }) };
        } catch (error) {
          throw failureOf(error);
        }
      }),
      relieve: fromPromise(async ({ signal }) => {
        await pace('relieve');
        await turn();
        if (signal.aborted) return;
        for (const store of SWEPT_STORES) checkpointAll(filesOf(store), tell);
      }),
    },
    actions: {
      requestLease: (_, { target }) => {
        if (target === null) return;
        lease = { id: ++leases, target, series: [] };
        reports$.next({ type: 'leaseRequest', id: lease.id, target });
      },
      returnLease,
      giveUp: () => sweep?.giveUp(),
      closeStore,
      announceFailure: (_, failure) => tell(failure.message, failure),
      announceSweep: ({ context }) => {
        told = troubled;
        troubled = new Set();
        const ms = performance.now() - begunAt;
        reports$.next({ type: 'swept', urgent: context.urgent, ms, stores: { ...figures } });
      },
    },
  });

  const actor = createActor(machine, {
    ...surroundedBy('retention', options),
    input: { limits: options.limits },
  });
  const isAwaited = (id: number) => lease?.id === id;
  obey(actor, {
    commands$: options.commands$,
    reports$,
    dump: ({ value, context }): RetentionDump => ({
      state: stateText(value),
      sweeps: context.sweeps,
      lastFailure,
    }),
    hear: (command) => {
      switch (command.type) {
        case 'limits':
          actor.send({ type: 'limits.changed', limits: command.limits });
          break;
        case 'diskFull':
          actor.send({ type: 'disk.full', atMs: performance.now() });
          break;
        case 'leaseGranted':
          if (isAwaited(command.id)) actor.send({ type: 'lease.granted', pressure: command.pressure });
          break;
        case 'leaseRefused':
          if (!isAwaited(command.id)) break;
          lease = null;
          actor.send({ type: 'lease.refused' });
          break;
        case 'stop':
          actor.send({ type: 'sweeper.stop' });
          break;
      }
    },
  });
  // There is nothing to load; whoever subscribes at once still hears it.
  queueMicrotask(() => reports$.next({ type: 'ready' }));
  return { actor, reports$ };
}

function failureOf(error: unknown): SweepFailure {
  return plainFailure(error, 'ERR_RETENTION');
}
