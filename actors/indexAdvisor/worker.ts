/** The index advisor in the maintenance thread, between its database and the daemon's port. */
import { InspectionFeed } from '../inspector/feed.js';
import type { Tenant } from '../maintenance/tenant.js';
import { linkPort } from '../streams.js';
import { type AdvisorData, startIndexAdvisor } from './indexAdvisor.js';
import type { FromAdvisor, ToAdvisor } from './messages.js';

export const tenant: Tenant = (data, port) => {
  const daemon = linkPort<ToAdvisor, FromAdvisor>(port);
  const advisor = startIndexAdvisor({ ...(data as AdvisorData), commands$: daemon.messages$ });
  const feed = new InspectionFeed('index-advisor', (message) => daemon.send({ type: 'inspection', message }));
  feed.watch(advisor.actor);
  daemon.messages$.subscribe((message) => {
    if (message.type === 'inspect') feed.enable(message.on);
  });
  advisor.reports$.subscribe({
    next: (report) => daemon.send(report),
    // The feed tells of the actor's end after everybody else has heard of it.
    complete: () => queueMicrotask(() => daemon.close()),
  });
};
