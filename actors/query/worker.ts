/** Entry point of a query worker thread. */
import { parentPort, workerData } from 'node:worker_threads';
import { native } from '../../src/native/addon.js';
import { QueryExecutor } from './executor.js';
import { InterruptGuard } from './interruptGuard.js';
import type { FromQueryWorker, QueryWorkerData, ToQueryWorker } from './protocol.js';

if (parentPort === null) throw new Error('the query worker runs in a worker thread only');
const port = parentPort;
const data = workerData as QueryWorkerData;

const executor = new QueryExecutor(
  data,
  native,
  new InterruptGuard(data.guard),
  (message: FromQueryWorker, transfer: readonly ArrayBuffer[] = []) => port.postMessage(message, transfer),
);

port.on('message', (message: ToQueryWorker) => {
  if (message.type !== 'worker.stop') return executor.receive(message);
  executor.stop();
  port.close();
});
