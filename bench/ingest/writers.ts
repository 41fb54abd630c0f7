/** eventd's shard writers alone, one thread each. */
import { once } from 'node:events';
import { Worker } from 'node:worker_threads';
import type { WriterThreadData } from './writerThread.js';

/** Stores one filled ring per shard file; returns the seconds until the last of them was done. */
export async function storeWithWriters(parts: readonly WriterThreadData[]): Promise<number> {
  const workers = parts.map(
    (part) => new Worker(new URL('./writerThread.js', import.meta.url), { workerData: part }),
  );
  await Promise.all(workers.map((worker) => once(worker, 'message')));
  const started = performance.now();
  const done = workers.map((worker) => once(worker, 'message'));
  const ended = workers.map((worker) => once(worker, 'exit'));
  for (const worker of workers) worker.postMessage('go');
  await Promise.all(done);
  const seconds = (performance.now() - started) / 1000;
  await Promise.all(ended);
  return seconds;
}
