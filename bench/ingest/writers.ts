/** eventd's shard writers alone, one thread each. */
import { once } from 'node:events';
import { Worker } from 'node:worker_threads';
import { type Elapsed, startWatch } from './stopwatch.js';
import type { WriterThreadData } from './writerThread.js';

/** Stores one filled ring per shard file, until the last of them is done. */
export async function storeWithWriters(parts: readonly WriterThreadData[]): Promise<Elapsed> {
  const workers = parts.map(
    (part) => new Worker(new URL('./writerThread.js', import.meta.url), { workerData: part }),
  );
  await Promise.all(workers.map((worker) => once(worker, 'message')));
  const done = workers.map((worker) => once(worker, 'message'));
  const ended = workers.map((worker) => once(worker, 'exit'));
  const watch = startWatch();
  for (const worker of workers) worker.postMessage('go');
  await Promise.all(done);
  const elapsed = watch();
  await Promise.all(ended);
  return elapsed;
}
