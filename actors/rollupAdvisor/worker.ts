/** Entry of the rollup thread: the advisor between its databases and the daemon's port. */
import { parentPort, workerData } from 'node:worker_threads';
import { native } from '../../src/native/addon.js';
import { InspectionFeed } from '../inspector/feed.js';
import { linkPort } from '../streams.js';
import type { FromRollups, ToRollups } from './messages.js';
import { type RollupData, startRollupAdvisor } from './rollupAdvisor.js';

if (parentPort === null) throw new Error('rollupAdvisor/worker.js runs as a worker thread only');
native.threadBatch();
const daemon = linkPort<ToRollups, FromRollups>(parentPort);
const advisor = startRollupAdvisor({ ...(workerData as RollupData), commands$: daemon.messages$ });
const feed = new InspectionFeed('rollup-advisor', (message) => daemon.send({ type: 'inspection', message }));
feed.watch(advisor.actor);
daemon.messages$.subscribe((message) => {
  if (message.type === 'inspect') feed.enable(message.on);
});
advisor.reports$.subscribe({
  next: (report) => daemon.send(report),
  // The feed tells of the actor's end after everybody else has heard of it.
  complete: () => queueMicrotask(() => daemon.close()),
});
