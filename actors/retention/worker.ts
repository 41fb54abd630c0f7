/** Entry of the retention thread: the sweeper between its databases and the daemon's port. */
import { parentPort, workerData } from 'node:worker_threads';
import { native } from '../../src/native/addon.js';
import { InspectionFeed } from '../inspector/feed.js';
import { linkPort } from '../streams.js';
import type { FromRetention, ToRetention } from './messages.js';
import { type RetentionData, startRetention } from './retention.js';

if (parentPort === null) throw new Error('retention/worker.js runs as a worker thread only');
native.threadBatch();
const daemon = linkPort<ToRetention, FromRetention>(parentPort);
const retention = startRetention({ ...(workerData as RetentionData), commands$: daemon.messages$ });
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
