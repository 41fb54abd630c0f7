/** Entry of the log writer's thread. */
import { workerData } from 'node:worker_threads';
import { runRecordWriterThread } from '../recordWriterThread.js';
import { type LogWriterData, startLogWriter } from './logWriter.js';

const data = workerData as LogWriterData;
runRecordWriterThread('log-writer', (commands$) => startLogWriter({ ...data, commands$ }));
