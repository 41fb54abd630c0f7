/**
 * The daemon's life: bootstrap phase by phase, ready, reload, and shutdown step by step (spec 09).
 *
 *     configuring → openingStores → resolvingBoot → attachingKmes → bindingSockets → startingActors
 *       → ready ⇄ reloading → shuttingDown.(one state per step) → stopped
 *     a failing phase → undoing → failed
 *     a damaged shard or a dead thread, once events flow → recoveringPath.(one state per step)
 *       → announcingReady, or ready where readiness was announced before
 */
import { assign, fromPromise, setup } from './xstate.js';

/** Where a failure happened and what it was, in one line. */
export interface DaemonFailure {
  readonly phase: string;
  readonly message: string;
}

export interface DaemonContext {
  readonly failure: DaemonFailure | null;
  /** Why the daemon stops; null while it runs. */
  readonly stopReason: string | null;
  /** A stop was asked for while a phase was under way. */
  readonly stopping: boolean;
  /** A configuration change waits until the daemon is ready (LIFE-140). */
  readonly changed: boolean;
  /** A SIGHUP is among what waits: peinit expects to hear of the reload (HOST-20). */
  readonly announce: boolean;
  readonly reloads: number;
  /** Readiness was signalled. */
  readonly announced: boolean;
  /** When the event path broke within the last `RECOVERY_WINDOW_MS`, ms of a monotonic clock. */
  readonly breaks: readonly number[];
}

export type DaemonEvent =
  /** SIGTERM, SIGINT or SIGQUIT (LIFE-230). */
  | { type: 'stop.requested'; reason: string }
  /** The registry changed. */
  | { type: 'configuration.changed' }
  /** SIGHUP: the same, but peinit hears of it (HOST-20). */
  | { type: 'reload.requested' }
  /** A thread of the event path has ended, or a shard must not be written any more. */
  | ({ type: 'path.failed' } & PathFailure);

export type DaemonOutput =
  | { readonly type: 'stopped' }
  | { readonly type: 'failed'; readonly failure: DaemonFailure };

/** The event path is started again at most this often within the window; then the daemon stops. */
export const MAX_RECOVERIES = 3;
export const RECOVERY_WINDOW_MS = 60_000;

function phase(name: string) {
  return fromPromise<void>(() => Promise.reject(new Error(`${name}: not provided`)));
}

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}

/** What broke the event path. */
export interface PathFailure {
  readonly part: string;
  readonly message: string;
  /** ms of a monotonic clock. */
  readonly atMs: number;
  /** A shard was taken out of the write path: that helps, and happens only once per shard. */
  readonly excluded?: boolean;
}

/** A broken event path is started again. */
const recoverPath = {
  target: '#daemon.recoveringPath',
  actions: (['noteBreak', 'reportBreak'] as const).map((type) => ({
    type,
    params: ({ event }: { event: PathFailure }) => event,
  })),
} as const;

/** It is, unless that has not helped lately. */
const whatBreaksPath = [
  {
    guard: {
      type: 'mayRecover',
      params: ({ event }: { event: PathFailure }) => event,
    },
    ...recoverPath,
  },
  {
    target: '#daemon.shuttingDown',
    actions: [
      {
        type: 'noteFailure',
        params: ({ event }: { event: PathFailure }) => ({ phase: event.part, message: event.message }),
      },
      { type: 'noteStop', params: ({ event }: { event: PathFailure }) => ({ reason: event.message }) },
    ],
  },
] as const;

/** What ends `ready` and `reloading` alike. */
const whatEndsService = {
  'stop.requested': {
    target: '#daemon.shuttingDown',
    actions: {
      type: 'noteStop',
      params: ({ event }: { event: { reason: string } }) => event,
    },
  },
  'path.failed': whatBreaksPath,
} as const;

export const daemonMachine = setup({
  types: { context: {} as DaemonContext, events: {} as DaemonEvent, output: {} as DaemonOutput },
  actors: {
    configure: phase('configure'),
    openStores: phase('openStores'),
    resolveBoot: phase('resolveBoot'),
    attachKmes: phase('attachKmes'),
    bindSockets: phase('bindSockets'),
    startActors: phase('startActors'),
    announceReady: phase('announceReady'),
    closePath: phase('closePath'),
    reopenStores: phase('reopenStores'),
    resolveAgain: phase('resolveAgain'),
    reattachKmes: phase('reattachKmes'),
    restartActors: phase('restartActors'),
    reload: fromPromise<void, { announce: boolean }>(() => Promise.reject(new Error('reload: not provided'))),
    stopAccepting: phase('stopAccepting'),
    drainRings: phase('drainRings'),
    commitAll: phase('commitAll'),
    recordShutdown: phase('recordShutdown'),
    closeStores: phase('closeStores'),
    releaseRings: phase('releaseRings'),
    undo: phase('undo'),
  },
  actions: {
    announceStopping: (_, _params: { reason: string }) => {
      throw new Error('announceStopping: not provided');
    },
    reportFailure: (_, _params: DaemonFailure) => {
      throw new Error('reportFailure: not provided');
    },
    reportBreak: (_, _params: PathFailure) => {
      throw new Error('reportBreak: not provided');
    },
    noteFailure: assign((_, failure: DaemonFailure) => ({ failure })),
    noteBreak: assign(({ context }, { atMs, excluded }: PathFailure) => ({
      breaks: [...recentBreaks(context.breaks, atMs), ...(excluded === true ? [] : [atMs])],
    })),
    noteAnnounced: assign({ announced: true }),
    noteStop: assign((_, params: { reason: string }) => ({ stopping: true, stopReason: params.reason })),
    noteChange: assign({ changed: true }),
    noteRequest: assign({ changed: true, announce: true }),
    noteReload: assign(({ context }) => ({ changed: false, announce: false, reloads: context.reloads + 1 })),
  },
  guards: {
    stopping: ({ context }) => context.stopping,
    announced: ({ context }) => context.announced,
    mayRecover: ({ context }, { atMs, excluded }: PathFailure) =>
      excluded === true || recentBreaks(context.breaks, atMs).length < MAX_RECOVERIES,
    changed: ({ context }) => context.changed,
    announce: ({ context }) => context.announce,
    failedAlready: ({ context }) => context.failure !== null,
  },
}).createMachine({
  id: 'daemon',
  context: {
    failure: null,
    stopReason: null,
    stopping: false,
    changed: false,
    announce: false,
    reloads: 0,
    announced: false,
    breaks: [],
  },
  initial: 'starting',
  on: {
    'configuration.changed': { actions: 'noteChange' },
    'reload.requested': { actions: 'noteRequest' },
  },
  states: {
    starting: {
      description: 'All phases succeed, or the daemon fails as a whole (LIFE-131).',
      initial: 'configuring',
      on: {
        'stop.requested': { actions: { type: 'noteStop', params: ({ event }) => event } },
      },
      states: {
        configuring: bootPhase(
          'configure',
          'Phase 1: settings, defaults, registry watch; probes the rings (LIFE-101..103, LIFE-134).',
          'configuration',
          'openingStores',
        ),
        openingStores: bootPhase(
          'openStores',
          'Phase 2: every shard checked or created (LIFE-104).',
          'storage',
          'resolvingBoot',
        ),
        resolvingBoot: bootPhase(
          'resolveBoot',
          'Phase 3: new boot or restart, and where each CPU goes on (LIFE-108..111).',
          'boot boundary',
          'attachingKmes',
        ),
        attachingKmes: bootPhase(
          'attachKmes',
          'Phase 4: rings mapped, CPUs assigned to shards (LIFE-112..114).',
          'KMES',
          'bindingSockets',
        ),
        bindingSockets: bootPhase(
          'bindSockets',
          'Phase 5: sockets bound; connections wait (LIFE-115, LIFE-137).',
          'sockets',
          'startingActors',
        ),
        startingActors: {
          ...bootPhase(
            'startActors',
            'Phase 6: writers first, then the readers that hand off to them (LIFE-119, LIFE-120, LIFE-137).',
            'threads',
            'announcingReady',
            '#daemon.shuttingDown',
          ),
          // Events may flow before the log and metric threads work: damage that is met now ends no start
          // (FAIL-15). It is the first break of all, which is never one too many.
          on: { 'path.failed': recoverPath },
        },
        announcingReady: {
          description:
            'Phase 7: the startup record is committed, then readiness is signalled (LIFE-125, LIFE-126, LIFE-138).',
          invoke: {
            src: 'announceReady',
            onDone: { target: '#daemon.ready', actions: 'noteAnnounced' },
            onError: phaseFailed('readiness', '#daemon.undoing'),
          },
          on: {
            // A store that refuses the record would hold this phase for ever; a stop need not wait for it.
            'stop.requested': {
              target: '#daemon.shuttingDown',
              actions: { type: 'noteStop', params: ({ event }) => event },
            },
            // Events flow already: what was found damaged now is left out, and the record goes elsewhere.
            'path.failed': whatBreaksPath,
          },
        },
      },
    },
    ready: {
      description: 'Events flow, queries are answered.',
      tags: 'ready',
      always: [
        { guard: 'announce', target: 'reloading.announced' },
        { guard: 'changed', target: 'reloading.quietly' },
      ],
      on: {
        'configuration.changed': 'reloading.quietly',
        'reload.requested': 'reloading.announced',
        ...whatEndsService,
      },
    },
    reloading: {
      description: 'Reads the configuration again and applies what may change at run time (LIFE-141).',
      tags: 'ready',
      entry: 'noteReload',
      initial: 'quietly',
      on: whatEndsService,
      states: {
        quietly: {
          description: 'The registry watch fired.',
          invoke: {
            src: 'reload',
            input: { announce: false },
            onDone: '#daemon.ready',
            onError: '#daemon.ready',
          },
        },
        announced: {
          description: 'SIGHUP: peinit is told before and after (HOST-20).',
          invoke: {
            src: 'reload',
            input: { announce: true },
            onDone: '#daemon.ready',
            onError: '#daemon.ready',
          },
        },
      },
    },
    recoveringPath: {
      description:
        'A shard is damaged or a thread has died: readers and writers are closed and started again as a restart would start them, while queries go on (FAIL-15..20).',
      initial: 'closingPath',
      on: { 'stop.requested': { actions: { type: 'noteStop', params: ({ event }) => event } } },
      states: {
        closingPath: {
          description: 'Readers stop where they are; writers that can still commit do so.',
          ...recovery('closePath', 'closing the event path', 'reopeningStores'),
          // The path is being closed anyway; the next step sees everything that is wrong with it.
          on: {
            'path.failed': { actions: { type: 'reportBreak', params: ({ event }) => event } },
          },
        },
        reopeningStores: recovery('reopenStores', 'storage', 'resolvingAgain'),
        resolvingAgain: recovery('resolveAgain', 'resume points', 'reattachingKmes'),
        reattachingKmes: recovery('reattachKmes', 'KMES', 'restartingActors'),
        restartingActors: {
          invoke: {
            src: 'restartActors',
            onDone: [
              { guard: 'stopping', target: '#daemon.shuttingDown' },
              { guard: 'announced', target: '#daemon.ready' },
              { target: '#daemon.starting.announcingReady' },
            ],
            onError: phaseFailed('threads', '#daemon.shuttingDown'),
          },
          on: { 'path.failed': whatBreaksPath },
        },
      },
    },
    shuttingDown: {
      description:
        'One state per step of LIFE-201..208; a step that fails does not keep the next from running.',
      entry: {
        type: 'announceStopping',
        params: ({ context }) => ({ reason: context.stopReason ?? context.failure?.message ?? 'stopped' }),
      },
      initial: 'closingSockets',
      on: {
        'configuration.changed': {},
        'reload.requested': {},
        'stop.requested': {},
        'path.failed': {
          actions: {
            type: 'reportFailure',
            params: ({ event }) => ({ phase: event.part, message: event.message }),
          },
        },
      },
      states: {
        closingSockets: step('stopAccepting', 'closing sockets', 'drainingRings'),
        drainingRings: step('drainRings', 'final drain', 'committing'),
        committing: step('commitAll', 'final commit', 'recordingShutdown'),
        recordingShutdown: step('recordShutdown', 'shutdown record', 'closingStores'),
        closingStores: step('closeStores', 'closing stores', 'releasingRings'),
        releasingRings: step('releaseRings', 'releasing rings', 'finished'),
        finished: {
          always: [{ guard: 'failedAlready', target: '#daemon.failed' }, { target: '#daemon.stopped' }],
        },
      },
    },
    undoing: {
      description: 'Closes and removes what this start has made (LIFE-132).',
      invoke: {
        src: 'undo',
        onDone: [{ guard: 'failedAlready', target: 'failed' }, { target: 'stopped' }],
        onError: [{ guard: 'failedAlready', target: 'failed' }, { target: 'stopped' }],
      },
    },
    stopped: { type: 'final' },
    failed: { type: 'final' },
  },
  output: ({ context }): DaemonOutput =>
    context.failure === null ? { type: 'stopped' } : { type: 'failed', failure: context.failure },
});

/** Breaks that still count against the next recovery. */
function recentBreaks(breaks: readonly number[], nowMs: number): readonly number[] {
  return breaks.filter((atMs) => nowMs - atMs < RECOVERY_WINDOW_MS);
}

/** A phase that failed: its name and the reason go into the daemon's last line. */
function phaseFailed<Target extends '#daemon.undoing' | '#daemon.shuttingDown'>(
  name: string,
  target: Target,
) {
  return {
    target,
    actions: {
      type: 'noteFailure' as const,
      params: ({ event }: { event: { error: unknown } }) => ({
        phase: name,
        message: messageOf(event.error),
      }),
    },
  };
}

/**
 * One bootstrap phase. A failure undoes what was made; a stop that came meanwhile takes effect between
 * phases, by undoing too, or, once events are flowing, by a full shutdown.
 */
function bootPhase<Source extends string, Next extends string>(
  src: Source,
  description: string,
  name: string,
  next: Next,
  whenStopping: '#daemon.undoing' | '#daemon.shuttingDown' = '#daemon.undoing',
) {
  return {
    description,
    invoke: {
      src,
      onDone: [{ guard: 'stopping' as const, target: whenStopping }, { target: next }],
      onError: phaseFailed(name, '#daemon.undoing'),
    },
  };
}

/** One step of a recovery; a stop waits for its end, a failure ends the daemon. */
function recovery<Source extends string, Next extends string>(src: Source, name: string, target: Next) {
  return { invoke: { src, onDone: target, onError: phaseFailed(name, '#daemon.shuttingDown') } };
}

/** One shutdown step: does its work, reports what went wrong, goes on in any case (LIFE-200). */
function step<Source extends string, Next extends string>(src: Source, name: string, target: Next) {
  return {
    invoke: {
      src,
      onDone: target,
      onError: {
        target,
        actions: {
          type: 'reportFailure' as const,
          params: ({ event }: { event: { error: unknown } }) => ({
            phase: name,
            message: messageOf(event.error),
          }),
        },
      },
    },
  };
}
