/**
 * One shard's committer with a filled ring before it: a drain thread hands over faster than anything
 * can be stored, so what is measured is the writer.
 */
import { once } from 'node:events';
import { setImmediate as turn } from 'node:timers/promises';
import { parentPort, workerData } from 'node:worker_threads';
import { native } from '../../src/native/addon.js';
import { ShardCommitter } from '../../src/stores/shardCommitter.js';
import { BOOT_ID, LIMITS } from './workload.js';

export interface WriterThreadData {
  readonly file: string;
  readonly ringFile: string;
  readonly cpu: number;
  readonly events: number;
}

if (parentPort === null) throw new Error('writerThread.js runs as a worker thread only');
const { file, ringFile, cpu, events } = workerData as WriterThreadData;
const channel = native.channelOpen(0, LIMITS.maxBatchSize, 1 << 24);
const committer = new ShardCommitter({ file, bootId: BOOT_ID, channel, unordered: [] });
const { ring } = native.ringOpen(ringFile);
parentPort.postMessage('ready');
await once(parentPort, 'message');

const drain = native.drainStart(
  {
    ring,
    cpu,
    channels: [channel],
    lastSequence: 0n,
    lastTimestamp: null,
    covered: new BigUint64Array(),
    elevatedPercent: 100,
    emergencyPercent: 100,
  },
  () => undefined,
);
for (let stored = 0; stored < events; ) {
  const result = committer.commit(LIMITS);
  stored += result.events;
  if (result.rows === 0) await turn();
}
parentPort.postMessage('done');
native.drainStop(drain);
committer.close();
native.channelClose(channel);
