/** Entry of a shard writer's thread: one writer actor between the daemon's port and the readers' port. */
import { type MessagePort, parentPort, workerData } from 'node:worker_threads';
import type { WriterLimits } from '../../machines/shardWriter.js';
import { native } from '../../src/native/addon.js';
import type { ShardCommitterOptions } from '../../src/stores/shardCommitter.js';
import { InspectionFeed } from '../inspector/feed.js';
import type { FromWriter, ReaderToWriter, ToWriter } from '../messages.js';
import { linkPort } from '../streams.js';
import { startShardWriter, type WriterIndexes } from './shardWriter.js';

export interface ShardWriterThreadData extends ShardCommitterOptions {
  readonly shard: number;
  readonly limits: WriterLimits;
  readonly readers: MessagePort;
  readonly indexes?: WriterIndexes | null;
}

if (parentPort === null) throw new Error('shardWriter/worker.js runs as a worker thread only');
native.threadBatch();
const data = workerData as ShardWriterThreadData;
const daemon = linkPort<ToWriter, FromWriter>(parentPort);
const readers = linkPort<ReaderToWriter, never>(data.readers);

const writer = startShardWriter({ ...data, readers$: readers.messages$, commands$: daemon.messages$ });
const feed = new InspectionFeed(`writer-${data.shard}`, (message) =>
  daemon.send({ type: 'inspection', message }),
);
feed.watch(writer.actor);
if (writer.indexes !== null) feed.watch(writer.indexes.actor);
daemon.messages$.subscribe((message) => {
  if (message.type === 'inspect') feed.enable(message.on);
});
writer.reports$.subscribe({
  next: (report) => daemon.send(report),
  complete: () => {
    // The feed tells of the actor's end after everybody else has heard of it.
    queueMicrotask(() => {
      readers.close();
      daemon.close();
    });
  },
});
