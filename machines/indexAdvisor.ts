/**
 * Decides which fields of events have an index, for all shards alike (IDX-1, IDX-5).
 *
 *     loading → observing → deciding → publishing → observing
 *     EVENTS INDEX: observing → deciding at once
 *     any of them → closing → closed
 *
 * The machine decides when. Counters, the policy itself and the metadata database belong to the actor
 * (actors/indexAdvisor).
 */
import { assign, fromPromise, setup } from './xstate.js';

/** Live settings (CFG-27..30). */
export interface AdvisorLimits {
  readonly windowHours: number;
  readonly intervalMinutes: number;
  readonly createThreshold: number;
  readonly dropThreshold: number;
}

export interface AdvisorInput {
  readonly limits: AdvisorLimits;
}

/** An EVENTS INDEX that waits for its answer (IDX-47). */
export interface IndexRequest {
  readonly id: number;
  readonly field: string;
}

/** Why the metadata database could not be used; plain data. */
export interface AdvisorFailure {
  readonly code: string;
  readonly message: string;
}

export interface AdvisorContext {
  readonly limits: AdvisorLimits;
  /** Not yet decided about. */
  readonly waiting: readonly IndexRequest[];
  /** Decided about, not yet answered. */
  readonly deciding: readonly IndexRequest[];
  /** Policy runs since the start. */
  readonly decisions: number;
  /** Of the last time the state was to be kept; null when it was. */
  readonly lastFailure: AdvisorFailure | null;
}

export type AdvisorEvent =
  /** CFG-70; the next run uses them. */
  | { type: 'limits.changed'; limits: AdvisorLimits }
  | { type: 'index.requested'; id: number; field: string }
  | { type: 'advisor.stop' };

function failureOf(error: unknown): AdvisorFailure {
  const { code, message } = error as Partial<AdvisorFailure>;
  return { code: code ?? 'ERR_UNKNOWN', message: message ?? String(error) };
}

const failed = (['noteFailure', 'announceFailure'] as const).map((type) => ({
  type,
  params: ({ event }: { event: { error: unknown } }) => failureOf(event.error),
}));

export const indexAdvisorMachine = setup({
  types: {
    input: {} as AdvisorInput,
    context: {} as AdvisorContext,
    events: {} as AdvisorEvent,
  },
  actors: {
    /** Opens the metadata database and reads what the last run has left (IDX-46). */
    load: fromPromise<void, { limits: AdvisorLimits }>(() => Promise.reject(new Error('load: not provided'))),
    /** One run of the policy, with the fields that EVENTS INDEX has named. */
    decide: fromPromise<void, { limits: AdvisorLimits; requests: readonly IndexRequest[] }>(() =>
      Promise.reject(new Error('decide: not provided')),
    ),
    /** Writes counters and the set, in one transaction (IDX-2, IDX-5). */
    persist: fromPromise<void>(() => Promise.reject(new Error('persist: not provided'))),
    /** Writes the counters once more, and closes (IDX-48). */
    close: fromPromise<void>(() => Promise.reject(new Error('close: not provided'))),
  },
  actions: {
    /** Hands the set to the writers (IDX-7). */
    publish: () => {
      throw new Error('publish: not provided');
    },
    /** The caller of EVENTS INDEX hears that its field is in the set. */
    answer: (_, _params: { requests: readonly IndexRequest[] }) => {
      throw new Error('answer: not provided');
    },
    announceFailure: (_, _params: AdvisorFailure) => {
      throw new Error('announceFailure: not provided');
    },
    rememberLimits: assign((_, limits: AdvisorLimits) => ({ limits })),
    noteRequest: assign(({ context }, request: IndexRequest) => ({
      waiting: [...context.waiting, { id: request.id, field: request.field }],
    })),
    takeRequests: assign(({ context }) => ({ deciding: context.waiting, waiting: [] })),
    forgetRequests: assign({ deciding: [] }),
    noteDecision: assign(({ context }) => ({ decisions: context.decisions + 1 })),
    noteSuccess: assign({ lastFailure: null }),
    noteFailure: assign((_, failure: AdvisorFailure) => ({ lastFailure: failure })),
  },
  guards: {
    requested: ({ context }) => context.waiting.length > 0,
    intervalChanges: ({ context }, { limits }: { limits: AdvisorLimits }) =>
      limits.intervalMinutes !== context.limits.intervalMinutes,
  },
  delays: {
    interval: ({ context }) => context.limits.intervalMinutes * 60_000,
  },
}).createMachine({
  id: 'indexAdvisor',
  context: ({ input }) => ({
    limits: input.limits,
    waiting: [],
    deciding: [],
    decisions: 0,
    lastFailure: null,
  }),
  initial: 'loading',
  on: {
    'limits.changed': { actions: { type: 'rememberLimits', params: ({ event }) => event.limits } },
    'index.requested': { actions: { type: 'noteRequest', params: ({ event }) => event } },
    'advisor.stop': '.closing',
  },
  states: {
    loading: {
      description: 'What the last run has counted and decided goes on from there (IDX-46).',
      invoke: {
        src: 'load',
        input: ({ context }) => ({ limits: context.limits }),
        onDone: { target: 'observing', actions: 'publish' },
        // Nothing is known then, and nothing published: the shards keep the indexes they have until a decision.
        onError: { target: 'observing', actions: failed },
      },
    },
    observing: {
      description: 'Queries are counted until the interval is over (IDX-5).',
      always: { guard: 'requested', target: 'deciding' },
      after: { interval: 'deciding' },
      on: {
        'limits.changed': [
          {
            guard: { type: 'intervalChanges', params: ({ event }) => ({ limits: event.limits }) },
            target: 'observing',
            reenter: true,
            actions: { type: 'rememberLimits', params: ({ event }) => event.limits },
          },
          { actions: { type: 'rememberLimits', params: ({ event }) => event.limits } },
        ],
      },
    },
    deciding: {
      description: 'The policy makes the desired set from the counters and the set so far (IDX-6).',
      entry: 'takeRequests',
      invoke: {
        src: 'decide',
        input: ({ context }) => ({ limits: context.limits, requests: context.deciding }),
        onDone: { target: 'publishing', actions: 'noteDecision' },
        onError: { target: 'publishing', actions: failed },
      },
    },
    publishing: {
      description:
        'The writers get the set, then it is written down; an INDEX is answered after that (IDX-48).',
      entry: 'publish',
      exit: [{ type: 'answer', params: ({ context }) => ({ requests: context.deciding }) }, 'forgetRequests'],
      invoke: {
        src: 'persist',
        onDone: { target: 'observing', actions: 'noteSuccess' },
        onError: { target: 'observing', actions: failed },
      },
    },
    closing: {
      description: 'The counters are written once more (IDX-48).',
      on: { 'advisor.stop': {}, 'limits.changed': {}, 'index.requested': {} },
      invoke: {
        src: 'close',
        onDone: 'closed',
        onError: { target: 'closed', actions: failed },
      },
    },
    closed: { type: 'final' },
  },
});
