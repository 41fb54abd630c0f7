/** The metric writer: a record writer over the metric store (MET-38, MET-56). */
import { openMetricCommitter } from '../../src/stores/metricCommitter.js';
import {
  type RecordWriter,
  type RecordWriterData,
  type RecordWriterOptions,
  startRecordWriter,
} from '../recordWriter.js';

export type MetricWriterData = RecordWriterData;

/** Entries of the series cache where no limit is given (document 05, section 16). */
const DEFAULT_CACHE_SIZE = 50_000;

export function startMetricWriter(
  options: MetricWriterData & Omit<RecordWriterOptions, 'store' | 'open'>,
): RecordWriter {
  const { file, held } = options;
  return startRecordWriter({
    ...options,
    store: 'metric',
    open: (source, { seriesCacheSize }) =>
      openMetricCommitter({ file, source, held, cacheSize: seriesCacheSize ?? DEFAULT_CACHE_SIZE }),
  });
}
