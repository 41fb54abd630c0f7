/** The daemon actor: binds the machine to its runtime, to the signals of the process, and to a stop bound. */
import type { ActorRefFrom, InspectionEvent } from 'xstate';
import { type DaemonOutput, daemonMachine } from '../../machines/daemon.js';
import { createActor, fromPromise } from '../../machines/xstate.js';
import type { ProcessLog } from '../../src/host/processLog.js';
import { type DaemonOptions, DaemonRuntime } from './runtime.js';

/** Exit code of an abort at the stop bound where SIGKILL has no power, as for a container's first process (LIFE-210). */
const EXIT_ABORTED = 1;

export interface DaemonActorOptions {
  /** Ends the process at the stop bound, if the shutdown has not. */
  readonly abort?: () => void;
  readonly inspect?: (event: InspectionEvent) => void;
  /** When a stop was asked for that the machine does not know of yet, ms of `performance.now()`. */
  readonly stopAskedAt?: () => number | null;
}

/** Binds the machine to a runtime. The actor is not started; the signals are `runDaemon`'s. */
export function createDaemonActor(
  runtime: DaemonRuntime,
  log: ProcessLog,
  { abort = abortNow, inspect, stopAskedAt = () => null }: DaemonActorOptions = {},
): ActorRefFrom<typeof daemonMachine> {
  let overdue: NodeJS.Timeout | undefined;
  const machine = daemonMachine.provide({
    actors: {
      configure: fromPromise(() => runtime.configure()),
      openStores: fromPromise(() => runtime.openStores()),
      resolveBoot: fromPromise(() => runtime.resolveBoot()),
      attachKmes: fromPromise(() => runtime.attachKmes()),
      bindSockets: fromPromise(() => runtime.bindSockets()),
      startActors: fromPromise(() => runtime.startActors()),
      announceReady: fromPromise(() => runtime.announceReady()),
      closePath: fromPromise(() => runtime.closePath()),
      reopenStores: fromPromise(() => runtime.openStores()),
      resolveAgain: fromPromise(() => runtime.resolveBoot()),
      reattachKmes: fromPromise(() => runtime.reattachKmes()),
      restartActors: fromPromise(() => runtime.startActors()),
      reload: fromPromise(({ input }) => runtime.reload(input.announce)),
      stopAccepting: fromPromise(() => runtime.stopAccepting()),
      drainRings: fromPromise(() => runtime.drainRings()),
      commitAll: fromPromise(() => runtime.commitAll()),
      recordShutdown: fromPromise(() => runtime.recordShutdown()),
      closeStores: fromPromise(() => runtime.closeStores()),
      releaseRings: fromPromise(() => runtime.release()),
      undo: fromPromise(() => runtime.undo()),
    },
    actions: {
      announceStopping: (_, { reason }) => runtime.announceStopping(reason),
      reportBreak: (_, { part, message }) =>
        log.error(`${part}: ${message}; the event path is started again`),
      reportFailure: (_, { phase, message }) => log.error(`${phase}: ${message}`),
    },
  });
  const actor = createActor(machine, {
    id: 'daemon',
    systemId: 'daemon',
    ...(inspect === undefined ? {} : { inspect }),
  });
  actor.subscribe({
    // From the first word of an end, in whatever state: a phase that hangs must not outlast the bound.
    next: ({ context }) => {
      if (overdue !== undefined || !(context.stopping || context.failure !== null)) return;
      const { stopBoundMs } = runtime;
      const now = performance.now();
      const leftMs = Math.max(stopBoundMs - (now - (stopAskedAt() ?? now)), 0);
      // Past the bound the service manager would kill the whole group anyway; go first, with a reason.
      overdue = setTimeout(() => {
        log.error(`shutdown did not finish within ${stopBoundMs} ms; aborting`);
        abort();
      }, leftMs).unref();
    },
    complete: () => clearTimeout(overdue),
    error: () => clearTimeout(overdue),
  });
  runtime.onPathFailed = (part, message, excluded = false) =>
    actor.send({ type: 'path.failed', part, message, atMs: performance.now(), excluded });
  runtime.onConfigurationChanged = () => actor.send({ type: 'configuration.changed' });
  return actor;
}

/** exit() would wait for threads, and one inside SQLite may not end for seconds. */
function abortNow(): void {
  process.kill(process.pid, 'SIGKILL');
  process.exit(EXIT_ABORTED);
}

/**
 * Runs eventd in this process until it has stopped.
 *
 * @returns what the process should exit with, and why
 */
export async function runDaemon(options: DaemonOptions): Promise<DaemonOutput> {
  const runtime = new DaemonRuntime(options);
  // A dump comes first, and its time counts.
  let askedAt: number | null = null;
  const actor = createDaemonActor(runtime, options.log, { stopAskedAt: () => askedAt });
  let dumping = false;
  const signals = {
    SIGTERM: () => actor.send({ type: 'stop.requested', reason: 'SIGTERM' }),
    SIGINT: () => actor.send({ type: 'stop.requested', reason: 'SIGINT' }),
    SIGQUIT: () => {
      // Whoever asks while a dump is made gets that one.
      if (dumping) return;
      dumping = true;
      askedAt ??= performance.now();
      const stop = () => {
        dumping = false;
        actor.send({ type: 'stop.requested', reason: 'SIGQUIT' });
      };
      runtime
        .dump()
        .then((text) => process.stderr.write(text))
        .then(stop, stop);
    },
    SIGHUP: () => actor.send({ type: 'reload.requested' }),
  } as const;
  for (const [signal, handler] of Object.entries(signals)) process.on(signal, handler);

  const done = new Promise<DaemonOutput>((resolve, reject) => {
    actor.subscribe({ complete: () => resolve(actor.getSnapshot().output as DaemonOutput), error: reject });
  });
  actor.start();
  runtime.watch(actor);
  try {
    return await done;
  } finally {
    for (const [signal, handler] of Object.entries(signals)) {
      // Until the process is gone a signal must not kill it: its exit code is settled (LIFE-231).
      process.on(signal, () => undefined);
      process.off(signal, handler);
    }
  }
}
