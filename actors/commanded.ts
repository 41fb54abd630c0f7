/**
 * Actors that the daemon commands from another thread: what it says comes as a stream, what it hears goes out
 * as one, and it can ask each of them for a dump (LIFE-230) and for a sign of life (HOST-22).
 */
import type {
  Actor,
  ActorOptions,
  ActorRefFrom,
  AnyStateMachine,
  InspectionEvent,
  SnapshotFrom,
} from 'xstate';
import type { Observable, Subscription } from './rx.js';

interface Message {
  readonly type: string;
}

/** What surrounds such an actor: the daemon, or a test. */
export interface Surroundings<Machine extends AnyStateMachine, Command, Deed extends string> {
  /** Commands of the daemon. */
  readonly commands$: Observable<Command>;
  readonly inspect?: (event: InspectionEvent) => void;
  /** Runs what the machine waits for; the real time when absent. */
  readonly clock?: NonNullable<ActorOptions<Machine>['clock']>;
  /** Awaited before each deed: a test holds the actor in a state with it. The daemon leaves it out. */
  readonly pace?: (deed: Deed) => Promise<void>;
}

export interface Commanded<Machine extends AnyStateMachine, Report> {
  readonly actor: ActorRefFrom<Machine>;
  /** What the daemon hears. Completes when the actor is closed. */
  readonly reports$: Observable<Report>;
}

/** What `obey` answers by itself. */
type Asked = { readonly type: 'dump' } | { readonly type: 'ping' };

/** What it says by itself. */
type Told<Dump> =
  | { readonly type: 'closed' }
  | { readonly type: 'dumped'; readonly dump: Dump }
  | { readonly type: 'pong' };

interface Obedience<Machine extends AnyStateMachine, Command, Dump> {
  readonly commands$: Observable<Command>;
  readonly reports$: { next(report: Told<Dump>): void; complete(): void };
  readonly dump: (snapshot: SnapshotFrom<Machine>) => Dump;
  /** Turns a command into an event for the machine. */
  readonly hear: (command: Exclude<Command, Asked>) => void;
}

/** Options of `createActor` for the actor of this name. */
export function surroundedBy<Machine extends AnyStateMachine>(
  name: string,
  { inspect, clock }: Pick<Surroundings<Machine, never, never>, 'inspect' | 'clock'>,
): Pick<ActorOptions<Machine>, 'id' | 'systemId' | 'inspect' | 'clock'> {
  return {
    id: name,
    systemId: name,
    ...(inspect === undefined ? {} : { inspect }),
    ...(clock === undefined ? {} : { clock }),
  };
}

/** Starts the actor, and has it hear what is commanded until it is done. */
export function obey<Machine extends AnyStateMachine, Command extends Message, Dump>(
  actor: Actor<Machine>,
  { commands$, reports$, dump, hear }: Obedience<Machine, Command, Dump>,
): void {
  let commands: Subscription | null = null;
  actor.subscribe({
    complete: () => {
      commands?.unsubscribe();
      reports$.next({ type: 'closed' });
      reports$.complete();
    },
  });
  actor.start();
  commands = commands$.subscribe((command) => {
    if (command.type === 'dump') reports$.next({ type: 'dumped', dump: dump(actor.getSnapshot()) });
    else if (command.type === 'ping') reports$.next({ type: 'pong' });
    else hear(command as Exclude<Command, Asked>);
  });
}

/** Says `ready` once the actor has loaded what the last run has left, or has found that it cannot. */
export function tellWhenReady<Machine extends AnyStateMachine>(
  actor: Actor<Machine>,
  reports$: { next(report: { readonly type: 'ready' }): void },
): void {
  const loading = actor.subscribe(({ value }) => {
    if (value === 'loading') return;
    loading.unsubscribe();
    reports$.next({ type: 'ready' });
  });
}
