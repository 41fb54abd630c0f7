/** The sweeper in the maintenance thread, between its databases and the daemon's port. */
import { InspectionFeed } from '../inspector/feed.js';
import type { Tenant } from '../maintenance/tenant.js';
import { linkPort } from '../streams.js';
import type { FromRetention, ToRetention } from './messages.js';
import { type RetentionData, startRetention } from './retention.js';

export const tenant: Tenant = (data, port) => {
  const daemon = linkPort<ToRetention, FromRetention>(port);
  const retention = startRetention({ ...(data as RetentionData), commands$: daemon.messages$ });
  const feed = new InspectionFeed('retention', (message) => daemon.send({ type: 'inspection', message }));
  feed.watch(retention.actor);
  daemon.messages$.subscribe((message) => {
    if (message.type === 'inspect') feed.enable(message.on);
  });
  daemon.send({ type: 'ready' });
  retention.reports$.subscribe({
    next: (report) => daemon.send(report),
    // The feed tells of the actor's end after everybody else has heard of it.
    complete: () => queueMicrotask(() => daemon.close()),
  });
};
