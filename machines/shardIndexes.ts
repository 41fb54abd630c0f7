/**
 * One shard's indexes beside its writer: built in quiet moments, given up for events, shed under pressure.
 *
 *     converged → waiting.(restless ⇄ quiet) → building → converged or waiting
 *                                    building → resting → waiting
 *     any of them → shedding.(dropping → holding) → waiting or converged
 *     any of them → ended
 *
 * The machine decides when; statements, and which index comes next, belong to the actor
 * (actors/shardWriter/indexes.ts). SQLite builds in the writer's own thread, so nothing is heard while it
 * does: whoever needs the writer ends the build from outside (IDX-12, src/indexes/buildSignal.ts).
 */

import type { PressureLevel } from './cpuReader.js';
import { assign, fromPromise, setup } from './xstate.js';

/** Live settings (CFG-22, CFG-31). */
export interface ShardIndexLimits {
  /** How long the first event may wait for a build that nobody else presses. */
  readonly maxBatchLatencyMs: number;
  readonly sheddingWindowSeconds: number;
}

export interface ShardIndexesInput {
  readonly limits: ShardIndexLimits;
}

/** How an attempt at one step went. */
export interface BuildReport {
  /**
   * `disturbed`: events waited before it began. `yielded`: events came and had waited long enough.
   * `pressed`: there was pressure, or somebody else needed the writer at once.
   */
  readonly result: 'done' | 'disturbed' | 'yielded' | 'pressed';
  /** The shard still has other indexes than desired. */
  readonly differs: boolean;
}

/** Why a statement failed; plain data. */
export interface IndexFailure {
  readonly code: string;
  readonly message: string;
}

export interface ShardIndexesContext {
  readonly limits: ShardIndexLimits;
  /** The writer has nothing to store. */
  readonly idle: boolean;
  readonly differs: boolean;
  /** CPUs whose rings are about to lap (IDX-24). */
  readonly emergencies: readonly number[];
  /** All secondary indexes are to go, not one (IDX-23). */
  readonly all: boolean;
  /** Events that ended a quiet moment since the last build. */
  readonly disturbances: number;
  /** Builds given up in a row, and what events have to wait for the next one. */
  readonly givenUp: number;
  readonly patienceMs: number;
  /** Failed statements in a row. */
  readonly failures: number;
}

export type ShardIndexesEvent =
  /** The desired set, or what the shard has, is another. */
  | { type: 'desired.changed'; differs: boolean }
  | { type: 'limits.changed'; limits: ShardIndexLimits }
  | { type: 'writer.idle' }
  | { type: 'writer.busy' }
  /** `lasting`: batches have been oversized for a whole window (IDX-21). */
  | { type: 'batch.stored'; oversized: boolean; lasting: boolean }
  | { type: 'ring.pressure'; cpu: number; level: PressureLevel }
  | { type: 'indexes.stop' };

/** A moment without events before a build begins, ms. */
export const QUIET_MS = 250;
/** So many moments may be broken; then a build begins as soon as nothing waits: some machines never rest. */
export const BROKEN_MOMENTS = 40;
/** First pause after a build was given up, ms; doubles up to the longest. */
export const FIRST_REST_MS = 1000;
export const LONGEST_REST_MS = 60_000;
/** The same after a statement failed: a full disk is not empty a second later. */
export const FIRST_FAILURE_REST_MS = 60_000;
export const LONGEST_FAILURE_REST_MS = 600_000;
/** Patience doubles each time events alone have ended a build, or large shards would never be done. */
export const LONGEST_PATIENCE_MS = 600_000;

function failureOf(error: unknown): IndexFailure {
  const { code, message } = error as Partial<IndexFailure>;
  return { code: code ?? 'ERR_UNKNOWN', message: message ?? String(error) };
}

const failed = (['noteFailure', 'announceFailure'] as const).map((type) => ({
  type,
  params: ({ event }: { event: { error: unknown } }) => failureOf(event.error),
}));

const noteDiffers = {
  type: 'noteDiffers',
  params: ({ event }: { event: { differs: boolean } }) => ({ differs: event.differs }),
} as const;

const notePressure = {
  type: 'notePressure',
  params: ({ event }: { event: { cpu: number; level: PressureLevel } }) => event,
} as const;

/** Where pressure leads from everywhere. */
const emergency = {
  guard: {
    type: 'isEmergency',
    params: ({ event }: { event: { level: PressureLevel } }) => ({ level: event.level }),
  },
  target: '#shardIndexes.shedding.dropping',
  reenter: true,
  actions: [notePressure, 'shedAll'],
} as const;

const lasting = {
  guard: {
    type: 'isLasting',
    params: ({ event }: { event: { lasting: boolean } }) => ({ lasting: event.lasting }),
  },
  target: '#shardIndexes.shedding.dropping',
  actions: 'shedOne',
} as const;

export const shardIndexesMachine = setup({
  types: {
    input: {} as ShardIndexesInput,
    context: {} as ShardIndexesContext,
    events: {} as ShardIndexesEvent,
  },
  actors: {
    /** The next statement towards the desired set, if nothing waits to be stored (IDX-16). */
    build: fromPromise<BuildReport, { patienceMs: number }>(() =>
      Promise.reject(new Error('build: not provided')),
    ),
    /** Drops the least important index, or all of them. */
    shed: fromPromise<{ differs: boolean }, { all: boolean }>(() =>
      Promise.reject(new Error('shed: not provided')),
    ),
  },
  actions: {
    announceFailure: (_, _params: IndexFailure) => {
      throw new Error('announceFailure: not provided');
    },
    rememberLimits: assign((_, limits: ShardIndexLimits) => ({ limits })),
    noteIdle: assign({ idle: true }),
    noteBusy: assign({ idle: false }),
    noteDiffers: assign((_, { differs }: { differs: boolean }) => ({ differs })),
    notePressure: assign(({ context }, { cpu, level }: { cpu: number; level: PressureLevel }) => {
      const others = context.emergencies.filter((one) => one !== cpu);
      return { emergencies: level === 'emergency' ? [...others, cpu] : others };
    }),
    noteDisturbance: assign(({ context }) => ({ disturbances: context.disturbances + 1 })),
    forgetDisturbances: assign({ disturbances: 0 }),
    shedAll: assign({ all: true }),
    shedOne: assign({ all: false }),
    noteSuccess: assign(({ context }) => ({
      givenUp: 0,
      failures: 0,
      patienceMs: context.limits.maxBatchLatencyMs,
    })),
    noteGivenUp: assign(({ context }) => ({ givenUp: context.givenUp + 1 })),
    growPatience: assign(({ context }) => ({
      patienceMs: Math.min(context.patienceMs * 2, LONGEST_PATIENCE_MS),
    })),
    noteFailure: assign(({ context }) => ({ failures: context.failures + 1 })),
  },
  guards: {
    idle: ({ context }) => context.idle,
    busy: ({ context }) => !context.idle,
    differs: ({ context }) => context.differs,
    agrees: ({ context }) => !context.differs,
    isEmergency: (_, { level }: { level: PressureLevel }) => level === 'emergency',
    isLasting: (_, params: { lasting: boolean }) => params.lasting,
    isOversized: (_, { oversized }: { oversized: boolean }) => oversized,
    emergencies: ({ context }) => context.emergencies.length > 0,
    ended: (_, { report, how }: { report: BuildReport; how: BuildReport['result'] }) => report.result === how,
  },
  delays: {
    quiet: ({ context }) => (context.disturbances < BROKEN_MOMENTS ? QUIET_MS : 1),
    rest: ({ context: { givenUp, failures } }) =>
      failures > 0
        ? Math.min(FIRST_FAILURE_REST_MS * 2 ** (failures - 1), LONGEST_FAILURE_REST_MS)
        : Math.min(FIRST_REST_MS * 2 ** Math.max(givenUp - 1, 0), LONGEST_REST_MS),
    sheddingWindow: ({ context }) => context.limits.sheddingWindowSeconds * 1000,
  },
}).createMachine({
  id: 'shardIndexes',
  context: ({ input }) => ({
    limits: input.limits,
    idle: false,
    differs: false,
    emergencies: [],
    all: false,
    disturbances: 0,
    givenUp: 0,
    patienceMs: input.limits.maxBatchLatencyMs,
    failures: 0,
  }),
  initial: 'converged',
  on: {
    'desired.changed': { actions: noteDiffers },
    'limits.changed': { actions: { type: 'rememberLimits', params: ({ event }) => event.limits } },
    'writer.idle': { actions: 'noteIdle' },
    'writer.busy': { actions: 'noteBusy' },
    'ring.pressure': [emergency, { actions: notePressure }],
    'batch.stored': lasting,
    'indexes.stop': '.ended',
  },
  states: {
    converged: {
      description: 'The shard has the desired indexes, as far as they can be had (IDX-10).',
      always: { guard: 'differs', target: 'waiting' },
    },
    waiting: {
      description: 'It has not; a quiet moment is waited for.',
      always: { guard: 'agrees', target: 'converged' },
      initial: 'restless',
      states: {
        restless: {
          description: 'The writer has something to store, or just had.',
          always: { guard: 'idle', target: 'quiet' },
        },
        quiet: {
          description: 'Nothing has come for a moment.',
          always: { guard: 'busy', target: 'restless', actions: 'noteDisturbance' },
          after: { quiet: '#shardIndexes.building' },
        },
      },
    },
    building: {
      description: 'One statement: drops first, then builds, the most important first (IDX-16).',
      entry: 'forgetDisturbances',
      // Events came before SQLite was called.
      always: { guard: 'busy', target: 'waiting' },
      invoke: {
        src: 'build',
        input: ({ context }) => ({ patienceMs: context.patienceMs }),
        onDone: [
          {
            guard: { type: 'ended', params: ({ event }) => ({ report: event.output, how: 'done' }) },
            target: 'converged',
            actions: [
              'noteSuccess',
              { type: 'noteDiffers', params: ({ event }) => ({ differs: event.output.differs }) },
            ],
          },
          {
            guard: { type: 'ended', params: ({ event }) => ({ report: event.output, how: 'yielded' }) },
            target: 'resting',
            actions: ['noteGivenUp', 'growPatience'],
          },
          {
            guard: { type: 'ended', params: ({ event }) => ({ report: event.output, how: 'pressed' }) },
            target: 'resting',
            actions: 'noteGivenUp',
          },
          { target: 'waiting' },
        ],
        onError: { target: 'resting', actions: failed },
      },
    },
    resting: {
      description: 'A build was given up, or failed; the next one waits longer each time (IDX-13).',
      after: { rest: 'waiting' },
      always: { guard: 'agrees', target: 'converged' },
    },
    shedding: {
      description: 'Events come faster than indexes allow: these go, and none is built (IDX-20..25).',
      tags: 'shedding',
      initial: 'dropping',
      states: {
        dropping: {
          description: 'The least important index, or all of them if a ring is about to lap.',
          invoke: {
            src: 'shed',
            input: ({ context }) => ({ all: context.all }),
            onDone: {
              target: 'holding',
              actions: { type: 'noteDiffers', params: ({ event }) => ({ differs: event.output.differs }) },
            },
            onError: { target: 'holding', actions: failed },
          },
          // The drop under way is what this would ask for.
          on: { 'batch.stored': {} },
        },
        holding: {
          description:
            'Until a whole window has passed without an oversized batch or a ring signal (IDX-27).',
          on: {
            'batch.stored': [
              lasting,
              {
                guard: {
                  type: 'isOversized',
                  params: ({ event }) => ({ oversized: event.oversized }),
                },
                target: 'holding',
                reenter: true,
              },
            ],
            // The window begins when the ring is well again.
            'ring.pressure': [emergency, { target: 'holding', reenter: true, actions: notePressure }],
          },
          after: {
            sheddingWindow: [
              { guard: 'emergencies', target: 'holding', reenter: true },
              { target: '#shardIndexes.converged' },
            ],
          },
        },
      },
    },
    ended: { type: 'final' },
  },
});
