/** Entry of the thread of the index policy: the advisor between its database and the daemon's port. */
import { parentPort, workerData } from 'node:worker_threads';
import { native } from '../../src/native/addon.js';
import { InspectionFeed } from '../inspector/feed.js';
import { linkPort } from '../streams.js';
import { type AdvisorData, startIndexAdvisor } from './indexAdvisor.js';
import type { FromAdvisor, ToAdvisor } from './messages.js';

if (parentPort === null) throw new Error('indexAdvisor/worker.js runs as a worker thread only');
native.threadBatch();
const daemon = linkPort<ToAdvisor, FromAdvisor>(parentPort);
const advisor = startIndexAdvisor({ ...(workerData as AdvisorData), commands$: daemon.messages$ });
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
