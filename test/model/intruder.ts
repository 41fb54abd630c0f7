/**
 * A second writer on a shard's file, in a thread of its own: holds the write lock while the writer
 * actor waits for it, and lets events arrive in that very moment. Entry of a worker thread.
 */
import { parentPort, workerData } from 'node:worker_threads';
import Database from 'better-sqlite3';
import {
  type ChannelHandle,
  native,
  type ProducerEvent,
  type ProducerHandle,
} from '../../src/native/addon.js';

export interface IntruderOrder {
  readonly file: string;
  readonly channel: ChannelHandle;
  readonly producer: ProducerHandle;
  readonly events: readonly ProducerEvent[];
}

if (parentPort === null) throw new Error('intruder.js runs as a worker thread only');
const port = parentPort;
/** One word: 1 = the lock is held. */
const held = new Int32Array(workerData as SharedArrayBuffer);

port.on('message', ({ file, channel, producer, events }: IntruderOrder) => {
  const db = new Database(file);
  db.exec('BEGIN IMMEDIATE');
  const { rows } = native.channelStatus(channel);
  Atomics.store(held, 0, 1);
  Atomics.notify(held, 0);
  // The actor takes its segment before it asks for the lock.
  wait(() => native.channelStatus(channel).rows < rows);
  const { rows: left } = native.channelStatus(channel);
  native.producerEmitBatch(producer, 0, events, null);
  wait(() => native.channelStatus(channel).rows >= left + events.length);
  db.exec('ROLLBACK');
  db.close();
  port.postMessage('done');
});

function wait(condition: () => boolean): void {
  const deadline = Date.now() + 4000;
  const pause = new Int32Array(new SharedArrayBuffer(4));
  while (!condition() && Date.now() < deadline) Atomics.wait(pause, 0, 0, 1);
}
