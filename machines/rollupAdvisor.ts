/**
 * Decides for which functions and windows rollups are kept, and computes them while writes are few (ROL-9..18).
 *
 *     loading → observing → deciding → publishing → searching
 *     searching → leasing → computing → resting → searching, until nothing is missing → observing
 *     writes rise: searching, leasing, resting → paused, until they ease; a unit under way ends first
 *     any of them → closing → closed
 *
 * The machine decides when. Counters, the policy and the databases belong to the actor (actors/rollupAdvisor).
 */
import { assign, cancel, fromPromise, raise, setup } from './xstate.js';

/** Live settings (CFG-28, CFG-34..36). */
export interface RollupPolicyLimits {
  readonly windowHours: number;
  readonly intervalMinutes: number;
  readonly createThreshold: number;
  readonly dropThreshold: number;
}

export interface RollupAdvisorInput {
  readonly limits: RollupPolicyLimits;
}

/** Why something failed; plain data. */
export interface RollupFailure {
  readonly code: string;
  readonly message: string;
}

/** What one transaction has stored. */
export interface UnitReport {
  readonly rows: number;
  readonly samples: number;
  /** How long to leave the store alone, ms. */
  readonly pauseMs: number;
}

export interface RollupAdvisorContext {
  readonly limits: RollupPolicyLimits;
  /** The interval is over: the policy is to run. */
  readonly due: boolean;
  /** Writes have risen (ROL-17). */
  readonly pressed: boolean;
  /** How full the writer's buffer was when it granted the lease, 0..1. */
  readonly pressure: number;
  /** ms until the next unit. */
  readonly pauseMs: number;
  /** Since the start. */
  readonly decisions: number;
  readonly units: number;
  readonly rows: number;
  readonly samples: number;
  /** How often rising writes have stopped the computation. */
  readonly pauses: number;
  readonly lastFailure: RollupFailure | null;
}

export type RollupAdvisorEvent =
  /** CFG-70; the next run uses them. */
  | { type: 'limits.changed'; limits: RollupPolicyLimits }
  | { type: 'interval.over' }
  /** A batch of the metric writer was nearly full; later, one was small (ROL-18). */
  | { type: 'writes.rose' }
  | { type: 'writes.eased' }
  | { type: 'lease.granted'; pressure: number }
  | { type: 'lease.refused' }
  | { type: 'advisor.stop' };

/** Between two searches for windows that are completed by now, ms. */
export const SEARCH_EVERY_MS = 60_000;

/** A writer that does not grant its lease by then is busy, ms. */
export const LEASE_WAIT_MS = 10_000;

function failureOf(error: unknown): RollupFailure {
  const { code, message } = error as Partial<RollupFailure>;
  return { code: code ?? 'ERR_UNKNOWN', message: message ?? String(error) };
}

const failed = (['noteFailure', 'announceFailure'] as const).map((type) => ({
  type,
  params: ({ event }: { event: { error: unknown } }) => failureOf(event.error),
}));

const INTERVAL = 'interval';

export const rollupAdvisorMachine = setup({
  types: {
    input: {} as RollupAdvisorInput,
    context: {} as RollupAdvisorContext,
    events: {} as RollupAdvisorEvent,
  },
  actors: {
    /** Reads what the last run has left (ROL-38). */
    load: fromPromise<void, { limits: RollupPolicyLimits }>(() =>
      Promise.reject(new Error('load: not provided')),
    ),
    /** One run of the policy (ROL-11). */
    decide: fromPromise<void, { limits: RollupPolicyLimits }>(() =>
      Promise.reject(new Error('decide: not provided')),
    ),
    /** Writes counters and pairs down, in one transaction (ROL-38). */
    persist: fromPromise<void>(() => Promise.reject(new Error('persist: not provided'))),
    /** Looks for windows that lack their row; false: there are none. */
    search: fromPromise<boolean>(() => Promise.reject(new Error('search: not provided'))),
    /** One transaction (ROL-18). */
    compute: fromPromise<UnitReport, { pressure: number }>(() =>
      Promise.reject(new Error('compute: not provided')),
    ),
    close: fromPromise<void>(() => Promise.reject(new Error('close: not provided'))),
  },
  actions: {
    /** Says which pairs are kept. */
    publish: () => {
      throw new Error('publish: not provided');
    },
    requestLease: () => {
      throw new Error('requestLease: not provided');
    },
    returnLease: () => {
      throw new Error('returnLease: not provided');
    },
    announceFailure: (_, _params: RollupFailure) => {
      throw new Error('announceFailure: not provided');
    },
    rememberLimits: assign((_, limits: RollupPolicyLimits) => ({ limits })),
    awaitInterval: raise({ type: 'interval.over' }, { delay: 'interval', id: INTERVAL }),
    forgetInterval: cancel(INTERVAL),
    noteDue: assign({ due: true }),
    notePressed: assign({ pressed: true }),
    noteEased: assign({ pressed: false }),
    notePause: assign(({ context }) => ({ pauses: context.pauses + 1 })),
    notePressure: assign((_, pressure: number) => ({ pressure })),
    noteDecision: assign(({ context }) => ({ decisions: context.decisions + 1, due: false })),
    noteUndecided: assign({ due: false }),
    noteUnit: assign(({ context }, { rows, samples, pauseMs }: UnitReport) => ({
      units: context.units + 1,
      rows: context.rows + rows,
      samples: context.samples + samples,
      pauseMs,
    })),
    noteSuccess: assign({ lastFailure: null }),
    noteFailure: assign((_, failure: RollupFailure) => ({ lastFailure: failure })),
  },
  guards: {
    due: ({ context }) => context.due,
    pressed: ({ context }) => context.pressed,
    eased: ({ context }) => !context.pressed,
    found: (_, params: { found: boolean }) => params.found,
    intervalChanges: ({ context }, { limits }: { limits: RollupPolicyLimits }) =>
      limits.intervalMinutes !== context.limits.intervalMinutes,
  },
  delays: {
    interval: ({ context }) => context.limits.intervalMinutes * 60_000,
    pause: ({ context }) => context.pauseMs,
    searchEvery: SEARCH_EVERY_MS,
    leaseWait: LEASE_WAIT_MS,
  },
}).createMachine({
  id: 'rollupAdvisor',
  context: ({ input }) => ({
    limits: input.limits,
    due: false,
    pressed: false,
    pressure: 0,
    pauseMs: 0,
    decisions: 0,
    units: 0,
    rows: 0,
    samples: 0,
    pauses: 0,
    lastFailure: null,
  }),
  initial: 'loading',
  entry: 'awaitInterval',
  on: {
    'limits.changed': [
      {
        guard: { type: 'intervalChanges', params: ({ event }) => ({ limits: event.limits }) },
        actions: [
          { type: 'rememberLimits', params: ({ event }) => event.limits },
          'forgetInterval',
          'awaitInterval',
        ],
      },
      { actions: { type: 'rememberLimits', params: ({ event }) => event.limits } },
    ],
    'interval.over': { actions: ['noteDue', 'forgetInterval', 'awaitInterval'] },
    'writes.rose': { actions: 'notePressed' },
    'writes.eased': { actions: 'noteEased' },
    'advisor.stop': '.closing',
  },
  states: {
    loading: {
      description: 'What the last run has counted and decided goes on from there (ROL-38).',
      invoke: {
        src: 'load',
        input: ({ context }) => ({ limits: context.limits }),
        onDone: { target: 'searching', actions: 'publish' },
        // Without its file the policy works on, and forgets at the end.
        onError: { target: 'searching', actions: [...failed, 'publish'] },
      },
    },
    observing: {
      description: 'Queries are counted; every minute some windows may have been completed (ROL-16).',
      always: { guard: 'due', target: 'deciding' },
      after: { searchEvery: 'searching' },
    },
    deciding: {
      description: 'The policy makes the set of pairs from the counters and the set so far (ROL-11).',
      invoke: {
        src: 'decide',
        input: ({ context }) => ({ limits: context.limits }),
        onDone: { target: 'publishing', actions: 'noteDecision' },
        onError: { target: 'publishing', actions: [...failed, 'noteUndecided'] },
      },
    },
    publishing: {
      description: 'The set is told and written down.',
      entry: 'publish',
      invoke: {
        src: 'persist',
        onDone: { target: 'searching', actions: 'noteSuccess' },
        onError: { target: 'searching', actions: failed },
      },
    },
    searching: {
      description: 'Looks for completed windows that have samples and no row (ROL-15).',
      always: [
        { guard: 'due', target: 'deciding' },
        { guard: 'pressed', target: 'paused' },
      ],
      invoke: {
        src: 'search',
        onDone: [
          { guard: { type: 'found', params: ({ event }) => ({ found: event.output }) }, target: 'leasing' },
          { target: 'observing' },
        ],
        onError: { target: 'observing', actions: failed },
      },
    },
    leasing: {
      description: 'Asks the metric writer for its turn (MET-58).',
      entry: 'requestLease',
      on: {
        'lease.granted': {
          target: 'computing',
          actions: { type: 'notePressure', params: ({ event }) => event.pressure },
        },
        'lease.refused': 'observing',
        'writes.rose': { target: 'paused', actions: ['notePressed', 'returnLease'] },
      },
      after: { leaseWait: { target: 'observing', actions: 'returnLease' } },
    },
    computing: {
      description: 'Some windows of one series, read and inserted in one transaction (ROL-18).',
      exit: 'returnLease',
      invoke: {
        src: 'compute',
        input: ({ context }) => ({ pressure: context.pressure }),
        onDone: {
          target: 'resting',
          actions: [{ type: 'noteUnit', params: ({ event }) => event.output }, 'noteSuccess'],
        },
        onError: { target: 'observing', actions: failed },
      },
    },
    resting: {
      description: 'Lets the writer work, the longer the more it has to do.',
      always: { guard: 'pressed', target: 'paused' },
      after: { pause: 'searching' },
    },
    paused: {
      description: 'Writes have risen: nothing is computed until they ease (ROL-17).',
      entry: 'notePause',
      always: [
        { guard: 'due', target: 'deciding' },
        { guard: 'eased', target: 'searching' },
      ],
    },
    closing: {
      description: 'The counters are written once more (ROL-38).',
      on: {
        'advisor.stop': {},
        'limits.changed': {},
        'interval.over': {},
        'writes.rose': {},
        'writes.eased': {},
      },
      invoke: {
        src: 'close',
        onDone: 'closed',
        onError: { target: 'closed', actions: failed },
      },
    },
    closed: { type: 'final' },
  },
});
