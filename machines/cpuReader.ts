/**
 * One CPU's ring reader. The reading itself is a native drain thread; the machine follows what it
 * reports and decides about reattaching and stopping.
 *
 *     recovering → running.(draining ⇄ waiting, throttled, reattaching) → finalDrain → stopped
 *
 * Beside the flow a second region keeps the ring's pressure: normal, elevated, emergency.
 */
import type { NonReducibleUnknown } from 'xstate';
import type { KmesError } from '../src/host/kmes.js';
import { assign, fromCallback, fromPromise, raise, sendTo, setup } from './xstate.js';

export type PressureLevel = 'normal' | 'elevated' | 'emergency';

export interface CpuReaderInput {
  readonly cpu: number;
  /** Shards the CPU feeds, in round-robin order (ING-31). */
  readonly shards: readonly number[];
}

export interface CpuReaderContext {
  readonly cpu: number;
  readonly shards: readonly number[];
  /** Position in `shards` of the full channel while throttled. */
  readonly blockedOn: number | null;
  readonly gaps: number;
  /** Sequences inside those gap records. */
  readonly lost: bigint;
  readonly lapped: number;
  readonly corrupt: number;
  readonly reattached: number;
  readonly attachFailures: number;
  /** Known once the last drain is over. */
  readonly lastSequence: bigint | null;
  readonly failure: string | null;
  /** A stop was asked for before the drain thread ran. */
  readonly stopping: boolean;
}

/** Facts from the drain thread. */
export type RingEvent =
  | { type: 'ring.available'; index: number; halfFull: boolean }
  | { type: 'ring.idle' }
  | { type: 'ring.throttled'; index: number }
  | { type: 'ring.resumed'; index: number }
  | { type: 'ring.lapped'; from: bigint; to: bigint }
  | { type: 'ring.corrupt'; from: bigint; to: bigint }
  | { type: 'ring.gap'; first: bigint; last: bigint }
  /** It ends at `newest`, though `known` was read before: what it holds is taken for stored. */
  | { type: 'ring.regressed'; newest: bigint; known: bigint }
  | { type: 'ring.pressure'; level: PressureLevel; fill: number }
  | { type: 'ring.replaced'; lastSequence: bigint }
  | { type: 'ring.reattached'; generation: bigint; capacity: number }
  | { type: 'ring.finished'; lastSequence: bigint };

/** Commands to the drain thread. */
export type DrainCommand = { type: 'drain.reattach'; ring: number } | { type: 'drain.finish' };

export type CpuReaderEvent =
  | RingEvent
  /** Drain what is there now, then stop (LIFE-203). */
  | { type: 'reader.stop' }
  /** The flow region is over; ends the pressure region with it. */
  | { type: 'flow.ended' };

export type CpuReaderOutput =
  | { readonly type: 'stopped'; readonly lastSequence: bigint }
  | { readonly type: 'failed'; readonly failure: string };

/** First pause after a failed attach, ms; doubles up to the longest. */
export const FIRST_ATTACH_RETRY_MS = 50;
export const LONGEST_ATTACH_RETRY_MS = 2000;

/** Code of an attach that found a ring of another boot. */
const OTHER_BOOT: KmesError['code'] = 'ERR_KMES_BOOT';

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String((error as { message?: unknown })?.message ?? error);
}

export const cpuReaderMachine = setup({
  types: {
    input: {} as CpuReaderInput,
    context: {} as CpuReaderContext,
    events: {} as CpuReaderEvent,
    output: {} as CpuReaderOutput,
  },
  actors: {
    /** Finds the ring and the place to go on; resolves when the drain thread may start. */
    recover: fromPromise<void, { cpu: number }>(() => Promise.reject(new Error('recover: not provided'))),
    /** Runs the native drain thread; reports RingEvents, takes DrainCommands. */
    drain: fromCallback<DrainCommand, NonReducibleUnknown>(() => {
      throw new Error('drain: not provided');
    }),
    /** Attaches to the CPU's current ring; its handle goes to the drain thread. */
    attach: fromPromise<{ ring: number }, { cpu: number }>(() =>
      Promise.reject(new Error('attach: not provided')),
    ),
  },
  actions: {
    forwardAvailable: (_, _params: { index: number; halfFull: boolean }) => {
      throw new Error('forwardAvailable: not provided');
    },
    forwardPressure: (_, _params: { level: PressureLevel; fill: number }) => {
      throw new Error('forwardPressure: not provided');
    },
    reportLoss: (_, _params: RingEvent) => {
      throw new Error('reportLoss: not provided');
    },
    reportRegressed: (_, _params: { newest: bigint; known: bigint }) => {
      throw new Error('reportRegressed: not provided');
    },
    reportAttachFailure: (_, _params: { message: string; failures: number }) => {
      throw new Error('reportAttachFailure: not provided');
    },
    noteGap: assign(({ context }, { first, last }: { first: bigint; last: bigint }) => ({
      gaps: context.gaps + 1,
      lost: context.lost + (last - first + 1n),
    })),
    noteLapped: assign(({ context }) => ({ lapped: context.lapped + 1 })),
    noteCorrupt: assign(({ context }) => ({ corrupt: context.corrupt + 1 })),
    noteBlocked: assign((_, params: { index: number | null }) => ({ blockedOn: params.index })),
    noteReattached: assign(({ context }) => ({ reattached: context.reattached + 1, attachFailures: 0 })),
    noteAttachFailure: assign(({ context }) => ({ attachFailures: context.attachFailures + 1 })),
    noteFinished: assign((_, params: { lastSequence: bigint }) => ({ lastSequence: params.lastSequence })),
    noteStop: assign({ stopping: true }),
    noteFailure: assign((_, params: { message: string }) => ({ failure: params.message })),
    handOver: sendTo(
      'drain',
      (_, params: { ring: number }): DrainCommand => ({ type: 'drain.reattach', ring: params.ring }),
    ),
    finish: sendTo('drain', (): DrainCommand => ({ type: 'drain.finish' })),
  },
  guards: {
    stopping: ({ context }) => context.stopping,
    /** No ring of this boot will come any more: sequences begin anew, and mean other events. */
    otherBoot: (_, { error }: { error: unknown }) =>
      (error as { readonly code?: unknown } | null)?.code === OTHER_BOOT,
  },
  delays: {
    attachRetry: ({ context }) =>
      Math.min(FIRST_ATTACH_RETRY_MS * 2 ** Math.max(context.attachFailures - 1, 0), LONGEST_ATTACH_RETRY_MS),
  },
}).createMachine({
  id: 'cpuReader',
  type: 'parallel',
  context: ({ input }) => ({
    cpu: input.cpu,
    shards: input.shards,
    blockedOn: null,
    gaps: 0,
    lost: 0n,
    lapped: 0,
    corrupt: 0,
    reattached: 0,
    attachFailures: 0,
    lastSequence: null,
    failure: null,
    stopping: false,
  }),
  on: {
    'ring.gap': {
      actions: [
        { type: 'noteGap', params: ({ event }) => event },
        { type: 'reportLoss', params: ({ event }) => event },
      ],
    },
    'ring.lapped': { actions: ['noteLapped', { type: 'reportLoss', params: ({ event }) => event }] },
    'ring.corrupt': { actions: ['noteCorrupt', { type: 'reportLoss', params: ({ event }) => event }] },
    'ring.regressed': { actions: { type: 'reportRegressed', params: ({ event }) => event } },
  },
  states: {
    flow: {
      initial: 'recovering',
      states: {
        recovering: {
          description: 'Takes over the resume point of the CPU (LIFE-111, BOOT-8).',
          on: { 'reader.stop': { actions: 'noteStop' } },
          invoke: {
            src: 'recover',
            input: ({ context }) => ({ cpu: context.cpu }),
            onDone: [{ guard: 'stopping', target: 'running.finalDrain' }, { target: 'running' }],
            onError: {
              target: 'failed',
              actions: { type: 'noteFailure', params: ({ event }) => ({ message: messageOf(event.error) }) },
            },
          },
        },
        running: {
          initial: 'draining',
          invoke: {
            id: 'drain',
            src: 'drain',
            onError: {
              target: 'failed',
              actions: { type: 'noteFailure', params: ({ event }) => ({ message: messageOf(event.error) }) },
            },
          },
          on: {
            'ring.available': { actions: { type: 'forwardAvailable', params: ({ event }) => event } },
            'ring.throttled': {
              target: '.throttled',
              actions: { type: 'noteBlocked', params: ({ event }) => ({ index: event.index }) },
            },
            'ring.replaced': '.reattaching',
            'ring.finished': {
              target: 'stopped',
              actions: {
                type: 'noteFinished',
                params: ({ event }) => ({ lastSequence: event.lastSequence }),
              },
            },
            'reader.stop': '.finalDrain',
          },
          states: {
            draining: {
              description: 'Copies runs of events from the ring into the shard channels.',
              on: { 'ring.idle': 'waiting' },
            },
            waiting: {
              description: 'The ring is empty; the drain thread sleeps on the futex (ING-10).',
              on: {
                'ring.available': {
                  target: 'draining',
                  actions: { type: 'forwardAvailable', params: ({ event }) => event },
                },
              },
            },
            throttled: {
              description: 'No credit: the channel is full and events stay in the ring (ING-44..47).',
              tags: 'throttled',
              on: {
                'ring.resumed': {
                  target: 'draining',
                  actions: { type: 'noteBlocked', params: { index: null } },
                },
              },
            },
            reattaching: {
              description: 'The ring was replaced; the old one is drained to its end (ING-14..17).',
              initial: 'attaching',
              states: {
                attaching: {
                  invoke: {
                    src: 'attach',
                    input: ({ context }) => ({ cpu: context.cpu }),
                    onDone: {
                      target: 'switching',
                      actions: { type: 'handOver', params: ({ event }) => event.output },
                    },
                    onError: [
                      {
                        guard: { type: 'otherBoot', params: ({ event }) => ({ error: event.error }) },
                        target: '#cpuReader.flow.failed',
                        actions: {
                          type: 'noteFailure',
                          params: ({ event }) => ({ message: messageOf(event.error) }),
                        },
                      },
                      {
                        target: 'backingOff',
                        actions: [
                          'noteAttachFailure',
                          {
                            type: 'reportAttachFailure',
                            params: ({ context, event }) => ({
                              message: messageOf(event.error),
                              failures: context.attachFailures + 1,
                            }),
                          },
                        ],
                      },
                    ],
                  },
                },
                backingOff: {
                  description: 'Keeps the old mapping and tries again.',
                  after: { attachRetry: 'attaching' },
                },
                switching: {
                  on: {
                    'ring.reattached': {
                      target: '#cpuReader.flow.running.draining',
                      actions: 'noteReattached',
                    },
                  },
                },
              },
            },
            finalDrain: {
              description: 'One last cycle up to the write position of this moment (LIFE-203).',
              entry: 'finish',
              on: {
                'ring.throttled': {
                  actions: { type: 'noteBlocked', params: ({ event }) => ({ index: event.index }) },
                },
                'ring.resumed': { actions: { type: 'noteBlocked', params: { index: null } } },
                // The writers are stopped next; a ring replaced in this moment is read at the next start.
                'ring.replaced': {},
                'reader.stop': {},
              },
            },
          },
        },
        stopped: { type: 'final', entry: raise({ type: 'flow.ended' }) },
        failed: { type: 'final', entry: raise({ type: 'flow.ended' }) },
      },
    },
    pressure: {
      initial: 'normal',
      on: {
        'flow.ended': '.ended',
        'ring.pressure': [
          {
            guard: ({ event }) => event.level === 'emergency',
            target: '.emergency',
            actions: { type: 'forwardPressure', params: ({ event }) => event },
          },
          {
            guard: ({ event }) => event.level === 'elevated',
            target: '.elevated',
            actions: { type: 'forwardPressure', params: ({ event }) => event },
          },
          { target: '.normal', actions: { type: 'forwardPressure', params: ({ event }) => event } },
        ],
      },
      states: {
        normal: { description: 'Ring fill is low.' },
        elevated: { description: 'A quarter of the ring is unread: index builds must yield (IDX-15).' },
        emergency: { description: 'The ring is about to lap: indexes must go (IDX-24).' },
        ended: { type: 'final' },
      },
    },
  },
  output: ({ context }): CpuReaderOutput =>
    context.failure === null
      ? { type: 'stopped', lastSequence: context.lastSequence ?? 0n }
      : { type: 'failed', failure: context.failure },
});
