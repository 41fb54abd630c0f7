/**
 * The client library of eventd: ask, follow, emit, log, measure. This is what `import 'eventd'` gives;
 * everything else is internal. docs/client.md shows it at work.
 */
export { EmitError } from '../kmesd/emitClient.js';
export { ConnectionFailure, QueryFailure } from './client.js';
export type { SendFailure } from './datagramSender.js';
export { ERROR_CLASSES, type ErrorClass } from './messages.js';
export {
  type EmitOutcome,
  Emitter,
  type EncodedEvent,
  MAX_BATCH,
  openLog,
  openMetrics,
  type PayloadValue,
} from './producers.js';
export { type QueryOptions, query, type Tail, tail } from './queryApi.js';
export type { Records } from './recordIteration.js';
export {
  type Histogram,
  InvalidRecord,
  type Labels,
  type LogRecord,
  LogSender,
  MetricSender,
  type Sample,
} from './recordSender.js';
export {
  type EventRow,
  type Extension,
  type GapRow,
  type HistogramValue,
  isGap,
  type LogRow,
  type MetricRow,
  type Row,
  toDate,
  type Value,
} from './rows.js';
