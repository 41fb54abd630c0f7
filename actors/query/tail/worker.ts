/** Entry point of the tail thread. */
import { parentPort, workerData } from 'node:worker_threads';
import { native } from '../../../src/native/addon.js';
import type { FromTail, TailWorkerData, ToTail } from './protocol.js';
import { Tailer } from './tailer.js';

if (parentPort === null) throw new Error('the tail worker runs in a worker thread only');
const port = parentPort;

const tailer = new Tailer(
  workerData as TailWorkerData,
  native,
  (message: FromTail, transfer: readonly ArrayBuffer[] = []) => port.postMessage(message, transfer),
);

port.on('message', (message: ToTail) => {
  if (message.type !== 'worker.stop') return tailer.receive(message);
  tailer.stop();
  port.close();
});
