/** Entry of the metric writer's thread. */
import { workerData } from 'node:worker_threads';
import { runRecordWriterThread } from '../recordWriterThread.js';
import { type MetricWriterData, startMetricWriter } from './metricWriter.js';

const data = workerData as MetricWriterData;
runRecordWriterThread('metric-writer', (commands$) => startMetricWriter({ ...data, commands$ }));
