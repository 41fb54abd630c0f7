/** The frame of an actor in the maintenance thread: its link to the daemon, and what it shows of itself. */
import type { AnyActorRef } from 'xstate';
import { InspectionFeed } from '../inspector/feed.js';
import { merge, type Observable, Subject } from '../rx.js';
import { linkPort } from '../streams.js';
import type { FromTenant, ToTenant } from './messages.js';
import type { Tenant } from './tenant.js';

/** The tenant that `start` makes, as its module exports it. `name` is the thread's on the debug socket. */
export function tenantOf<Data, Command extends { readonly type: string }, Report>(
  name: string,
  start: (
    data: Data,
    commands$: Observable<Command>,
  ) => { readonly actor: AnyActorRef; readonly reports$: Observable<Report> },
): Tenant {
  return (data, port) => {
    const daemon = linkPort<Command | ToTenant, Report | FromTenant<never>>(port);
    // Without a daemon nobody else stops it, and the thread may go on for others.
    const orphaned$ = new Subject<ToTenant>();
    const commands$ = merge(daemon.messages$, orphaned$) as Observable<Command>;
    const { actor, reports$ } = start(data as Data, commands$);
    const feed = new InspectionFeed(name, (message) => daemon.send({ type: 'inspection', message }));
    feed.watch(actor);
    daemon.messages$.subscribe({
      next: (message) => {
        if (isInspect(message)) feed.enable(message.on);
      },
      complete: () => orphaned$.next({ type: 'stop' }),
    });
    reports$.subscribe({
      next: (report) => daemon.send(report),
      // The feed tells of the actor's end after everybody else has heard of it.
      complete: () => queueMicrotask(() => daemon.close()),
    });
  };
}

function isInspect(message: { readonly type: string }): message is Extract<ToTenant, { type: 'inspect' }> {
  return message.type === 'inspect';
}
