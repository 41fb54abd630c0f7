/** The rollup advisor in the maintenance thread, between its databases and the daemon's port. */
import { InspectionFeed } from '../inspector/feed.js';
import type { Tenant } from '../maintenance/tenant.js';
import { linkPort } from '../streams.js';
import type { FromRollups, ToRollups } from './messages.js';
import { type RollupData, startRollupAdvisor } from './rollupAdvisor.js';

export const tenant: Tenant = (data, port) => {
  const daemon = linkPort<ToRollups, FromRollups>(port);
  const advisor = startRollupAdvisor({ ...(data as RollupData), commands$: daemon.messages$ });
  const feed = new InspectionFeed('rollup-advisor', (message) =>
    daemon.send({ type: 'inspection', message }),
  );
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
