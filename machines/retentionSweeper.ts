/**
 * Deletes what is too old or too much, in all stores, one bounded batch after the other (RET-3).
 *
 *     sleeping → sweepingEvents → sweepingLogs → sweepingMetrics → sleeping
 *     a full disk: sleeping → urgent → sweepingEvents
 *     in each store: looking → waitingForLease → deleting → pausing → looking
 *
 * The machine decides when to sweep and when to let the writers have their turn. What is to be deleted,
 * and the SQLite connections, belong to the actor (actors/retention).
 */
import { assign, fromPromise, setup } from './xstate.js';

/** The stores in the order of a sweep (RET-3, LOG-49, MET-59). */
export const SWEPT_STORES = ['event', 'log', 'metric'] as const;
export type SweptStore = (typeof SWEPT_STORES)[number];

/** What one store may hold; a row that breaks either limit goes (RET-2). */
export interface StoreLimits {
  readonly days: number;
  /** 0n = no limit. */
  readonly maxBytes: bigint;
}

/** Live settings (CFG-38..44). */
export interface RetentionLimits extends Readonly<Record<SweptStore, StoreLimits>> {
  readonly intervalMinutes: number;
}

export interface RetentionInput {
  readonly limits: RetentionLimits;
}

/** The database that the next batch is in. */
export interface Target {
  readonly store: SweptStore;
  readonly file: string;
}

/** What one transaction deleted. */
export interface BatchReport {
  /** Events, log records or samples. */
  readonly rows: number;
  /** How long the writer is left alone before the next batch, ms (RET-9). */
  readonly pauseMs: number;
}

/** Why a database could not be swept; plain data. */
export interface SweepFailure {
  readonly code: string;
  readonly message: string;
}

export interface RetentionContext {
  readonly limits: RetentionLimits;
  /** The disk is full: this sweep makes no pauses. */
  readonly urgent: boolean;
  /** When the last urgent sweep began, ms of a monotonic clock. */
  readonly urgentAtMs: number | null;
  /** Limits changed during the sweep: another one follows. */
  readonly again: boolean;
  /** Of the writer that granted the lease: how full its buffer was, 0..1. */
  readonly pressure: number;
  readonly pauseMs: number;
  /** Databases of the present store that are left alone for the rest of the sweep. */
  readonly givenUp: number;
  /** Since the start. */
  readonly sweeps: number;
  readonly rows: number;
}

export type RetentionEvent =
  /** CFG-70: in force at once. */
  | { type: 'limits.changed'; limits: RetentionLimits }
  /** A commit found no room (RET-11, FAIL-8). */
  | { type: 'disk.full'; atMs: number }
  /** The writer pauses between two batches (RET-8). */
  | { type: 'lease.granted'; pressure: number }
  /** Nobody may allow it: the database has no writer that works. */
  | { type: 'lease.refused' }
  | { type: 'sweeper.stop' };

/** The first sweep does not wait longer, whatever the interval: a machine may never be up that long. */
export const FIRST_SWEEP_MINUTES = 5;
/** A writer in a long commit answers behind it; one that does not answer at all is left for the next sweep. */
export const LEASE_WAIT_MS = 10_000;
/** From the begin of one urgent sweep to that of the next, at least. */
export const URGENT_REST_MS = 10_000;

function failureOf(error: unknown): SweepFailure {
  const { code, message } = error as Partial<SweepFailure>;
  return { code: code ?? 'ERR_UNKNOWN', message: message ?? String(error) };
}

function isSame(a: StoreLimits, b: StoreLimits): boolean {
  return a.days === b.days && a.maxBytes === b.maxBytes;
}

/** What every failure does: tell it, leave that database alone until the next sweep. */
const failed = [
  {
    type: 'announceFailure' as const,
    params: ({ event }: { event: { error: unknown } }) => failureOf(event.error),
  },
  ...(['giveUp', 'noteGivenUp'] as const),
];

/** One store's part of a sweep; when nothing is left it goes on to `next`. */
function sweeping<Next extends string>(store: SweptStore, description: string, next: Next) {
  return {
    description,
    initial: 'looking',
    entry: 'noteStore',
    exit: ['returnLease', 'closeStore'],
    states: {
      looking: {
        description: 'Reads what is to be deleted next; needs no lease.',
        invoke: {
          src: 'look',
          input: ({ context }: { context: RetentionContext }) => ({
            store,
            limits: context.limits[store],
            urgent: context.urgent,
          }),
          onDone: [
            {
              guard: {
                type: 'nothingLeft',
                params: ({ event }: { event: { output: Target | null } }) => ({ target: event.output }),
              },
              target: next,
            },
            {
              target: 'waitingForLease',
              actions: {
                type: 'requestLease',
                params: ({ event }: { event: { output: Target | null } }) => ({ target: event.output }),
              },
            },
          ],
          // The store as a whole cannot be looked at.
          onError: { target: next, actions: failed },
        },
      },
      waitingForLease: {
        description: 'The writer grants it between two of its batches (RET-8).',
        on: {
          'lease.granted': {
            target: 'deleting',
            actions: {
              type: 'notePressure',
              params: ({ event }: { event: { pressure: number } }) => ({ pressure: event.pressure }),
            },
          },
          'lease.refused': { target: 'looking', actions: ['giveUp', 'noteGivenUp'] },
        },
        after: { leaseWait: { target: 'looking', actions: ['returnLease', 'giveUp', 'noteGivenUp'] } },
      },
      deleting: {
        description: 'One bounded transaction (RET-7); the writer goes on right behind it.',
        exit: 'returnLease',
        invoke: {
          src: 'deleteBatch',
          input: ({ context }: { context: RetentionContext }) => ({
            pressure: context.pressure,
            urgent: context.urgent,
          }),
          onDone: {
            target: 'pausing',
            actions: {
              type: 'noteBatch',
              params: ({ event }: { event: { output: BatchReport } }) => event.output,
            },
          },
          onError: { target: 'looking', actions: failed },
        },
      },
      pausing: {
        description: 'The writer has the store to itself, the longer the more it has to do (RET-9).',
        always: { guard: 'noPause', target: 'looking' },
        after: { pause: 'looking' },
      },
    },
  } as const;
}

export const retentionSweeperMachine = setup({
  types: {
    input: {} as RetentionInput,
    context: {} as RetentionContext,
    events: {} as RetentionEvent,
  },
  actors: {
    /** What the next batch is in; null when the store keeps its limits. Begins the store's part when called first. */
    look: fromPromise<Target | null, { store: SweptStore; limits: StoreLimits; urgent: boolean }>(() =>
      Promise.reject(new Error('look: not provided')),
    ),
    /** The batch that `look` found. */
    deleteBatch: fromPromise<BatchReport, { pressure: number; urgent: boolean }>(() =>
      Promise.reject(new Error('deleteBatch: not provided')),
    ),
    /** Makes the room in WALs usable again, which DELETE needs, too. */
    relieve: fromPromise<void>(() => Promise.reject(new Error('relieve: not provided'))),
  },
  actions: {
    requestLease: (_, _params: { target: Target | null }) => {
      throw new Error('requestLease: not provided');
    },
    /** Also for a lease that was asked for and not granted. */
    returnLease: () => {
      throw new Error('returnLease: not provided');
    },
    /** The database of the last `look` is left alone for the rest of the sweep. */
    giveUp: () => {
      throw new Error('giveUp: not provided');
    },
    closeStore: () => {
      throw new Error('closeStore: not provided');
    },
    announceSweep: () => {
      throw new Error('announceSweep: not provided');
    },
    announceFailure: (_, _params: SweepFailure) => {
      throw new Error('announceFailure: not provided');
    },
    rememberLimits: assign((_, limits: RetentionLimits) => ({ limits })),
    noteAgain: assign({ again: true }),
    noteUrgent: assign({ urgent: true }),
    noteUrgentBegin: assign((_, { atMs }: { atMs: number }) => ({ urgent: true, urgentAtMs: atMs })),
    notePressure: assign((_, { pressure }: { pressure: number }) => ({ pressure })),
    noteBatch: assign(({ context }, { rows, pauseMs }: BatchReport) => ({
      rows: context.rows + rows,
      pauseMs,
    })),
    noteBegin: assign({ again: false }),
    noteStore: assign({ givenUp: 0 }),
    noteGivenUp: assign(({ context }) => ({ givenUp: context.givenUp + 1 })),
    noteSweep: assign(({ context }) => ({ sweeps: context.sweeps + 1, urgent: false })),
  },
  guards: {
    nothingLeft: (_, { target }: { target: Target | null }) => target === null,
    noPause: ({ context }) => context.pauseMs === 0,
    again: ({ context }) => context.again,
    /** More than the interval has changed. */
    boundsChange: ({ context }, { limits }: { limits: RetentionLimits }) =>
      SWEPT_STORES.some((store) => !isSame(limits[store], context.limits[store])),
    rested: ({ context: { urgentAtMs } }, { atMs }: { atMs: number }) =>
      urgentAtMs === null || atMs - urgentAtMs >= URGENT_REST_MS,
  },
  delays: {
    interval: ({ context: { sweeps, limits } }) =>
      60_000 *
      (sweeps === 0 ? Math.min(limits.intervalMinutes, FIRST_SWEEP_MINUTES) : limits.intervalMinutes),
    leaseWait: LEASE_WAIT_MS,
    pause: ({ context }) => context.pauseMs,
  },
}).createMachine({
  id: 'retentionSweeper',
  context: ({ input }) => ({
    limits: input.limits,
    urgent: false,
    urgentAtMs: null,
    again: false,
    pressure: 0,
    pauseMs: 0,
    givenUp: 0,
    sweeps: 0,
    rows: 0,
  }),
  initial: 'sleeping',
  on: {
    'limits.changed': {
      actions: ['noteAgain', { type: 'rememberLimits', params: ({ event }) => event.limits }],
    },
    'disk.full': { actions: 'noteUrgent' },
    // A batch is done in one go: none is under way when this is heard (LIFE-200).
    'sweeper.stop': '.stopped',
  },
  states: {
    sleeping: {
      description: 'Until RetentionCheckIntervalMinutes are over, or a limit changes.',
      after: { interval: 'sweepingEvents' },
      on: {
        'limits.changed': [
          {
            guard: { type: 'boundsChange', params: ({ event }) => ({ limits: event.limits }) },
            target: 'sweepingEvents',
            actions: { type: 'rememberLimits', params: ({ event }) => event.limits },
          },
          // The timer begins anew (LIFE-144).
          {
            target: 'sleeping',
            reenter: true,
            actions: { type: 'rememberLimits', params: ({ event }) => event.limits },
          },
        ],
        'disk.full': [
          {
            guard: { type: 'rested', params: ({ event }) => ({ atMs: event.atMs }) },
            target: 'urgent',
            actions: { type: 'noteUrgentBegin', params: ({ event }) => ({ atMs: event.atMs }) },
          },
          // What the last sweep could not free, another one could not either.
          {},
        ],
      },
    },
    urgent: {
      description:
        'The disk is full: WALs go into their databases first, so that DELETE finds room (FAIL-8).',
      invoke: { src: 'relieve', onDone: 'sweepingEvents', onError: 'sweepingEvents' },
    },
    sweepingEvents: {
      ...sweeping(
        'event',
        'Every shard file that is written or was, one at a time.',
        '#retentionSweeper.sweepingLogs',
      ),
      entry: ['noteBegin', 'noteStore'],
    },
    sweepingLogs: sweeping('log', 'The log store.', '#retentionSweeper.sweepingMetrics'),
    sweepingMetrics: sweeping(
      'metric',
      'The metric store: samples, rollups, then empty series.',
      '#retentionSweeper.swept',
    ),
    swept: {
      description: 'Through with all stores.',
      entry: ['announceSweep', 'noteSweep'],
      always: [{ guard: 'again', target: 'sweepingEvents' }, { target: 'sleeping' }],
    },
    stopped: { type: 'final' },
  },
});
