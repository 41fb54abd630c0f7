/**
 * Sends log records and metric samples to eventd, from any process that may write to its sockets.
 * No connection, no handshake, no blocking (LOG-16, LOG-68).
 *
 * @example
 * import { LogSender, MetricSender } from './recordSender.js';
 *
 * const logs = new LogSender({ path: '/run/eventd/log.sock', origin: 'thermostat' });
 * logs.log('heating on');
 * logs.log('sensor 3 does not answer', { isError: true });
 *
 * const metrics = new MetricSender({ path: '/run/eventd/metric.sock' });
 * metrics.gauge('room.temperature', 21.5, { room: 'kitchen' });
 * metrics.counter('heating.switched.total', 17);
 * metrics.histogram('sensor.latency', {
 *   boundaries: [0.1, 0.5, 1],
 *   counts: [20, 28, 30],
 *   totalCount: 31,
 *   sum: 6.25,
 * });
 *
 * // Before the process ends; two seconds at most.
 * await Promise.all([logs.drain(2000), metrics.drain(2000)]);
 */
import { Encoder } from '../host/msgpack.js';
import { DatagramSender, type SenderOptions } from './datagramSender.js';

/** A line of output (LOG-14). */
export interface LogRecord {
  /** The service or component it comes from. */
  readonly origin: string;
  /** Standard error, or an error by its sender's own word. */
  readonly isError: boolean;
  readonly message: string;
  /** ns since the Unix epoch; absent: eventd takes the time of receipt. */
  readonly timestamp?: bigint;
}

export type Labels = Readonly<Record<string, string>>;

/** Cumulative counts per upper bound (MET-8, MET-18). */
export interface Histogram {
  /** Upper bounds, strictly increasing; the same in all samples of a series (MET-9). */
  readonly boundaries: readonly number[];
  /** Observations up to each bound, as many as there are bounds. */
  readonly counts: readonly (number | bigint)[];
  /** All observations, those above the last bound included. */
  readonly totalCount: number | bigint;
  /** Total of the observed values. */
  readonly sum: number;
}

/** A data point (MET-17). */
export type Sample = {
  readonly name: string;
  readonly labels?: Labels;
  /** ns since the Unix epoch; absent: eventd takes the time of receipt. */
  readonly timestamp?: bigint;
} & (
  | { readonly type: 'counter' | 'gauge'; readonly value: number }
  | { readonly type: 'histogram'; readonly value: Histogram }
);

/** eventd would drop the record in silence (LOG-20, MET-23); the message says what is wrong with it. */
export class InvalidRecord extends RangeError {
  override readonly name = 'InvalidRecord';
}

const MAX_TIMESTAMP = 2n ** 63n - 1n;
const MAX_UINT64 = 2n ** 64n - 1n;

/** bigint becomes a msgpack integer, number a float64. */
const encoder = new Encoder({ useBigInt64: true, forceIntegerToFloat: true });

/**
 * The msgpack map of a log record. Halves of surrogate pairs become U+FFFD.
 * @throws {InvalidRecord} for a timestamp outside 0 … 2^63 − 1
 * @example
 * encodeLog({ origin: 'web', isError: false, message: 'started', timestamp: 1_777_636_801_000_000_000n });
 */
export function encodeLog(record: LogRecord): Uint8Array {
  return logMap(record).slice();
}

/**
 * The msgpack map of a sample.
 * @throws {InvalidRecord} see {@link sampleProblem}
 * @example
 * encodeSample({ name: 'room.temperature', type: 'gauge', value: 21.5, labels: { room: 'kitchen' } });
 */
export function encodeSample(sample: Sample): Uint8Array {
  return sampleMap(sample).slice();
}

/** Why eventd would not take the sample (MET-3, MET-6, MET-24, MET-27); null when it would. */
export function sampleProblem(sample: Sample): string | null {
  return (
    timestampProblem(sample.timestamp) ??
    labelsProblem(sample.labels ?? {}) ??
    (sample.type === 'histogram' ? histogramProblem(sample.value) : scalarProblem(sample.type, sample.value))
  );
}

/** Sends log lines to eventd's log socket. */
export class LogSender extends DatagramSender {
  readonly #origin: string;

  /** @param options.origin of lines that name none; default empty */
  constructor(options: SenderOptions & { readonly origin?: string }) {
    super(options);
    this.#origin = options.origin ?? '';
  }

  /**
   * Sends one line; never blocks.
   * @throws {InvalidRecord} for a timestamp outside 0 … 2^63 − 1
   * @example
   * const logs = new LogSender({ path: '/run/eventd/log.sock', origin: 'backup' });
   * logs.log('disk is full', { isError: true });
   * await logs.drain(1000);
   */
  log(message: string, fields: Partial<Omit<LogRecord, 'message'>> = {}): void {
    this.push(logMap({ origin: this.#origin, isError: false, ...fields, message }));
  }
}

/** Sends samples to eventd's metric socket. */
export class MetricSender extends DatagramSender {
  /**
   * A value that only rises and begins at zero when its process does (MET-6).
   * @throws {InvalidRecord}
   */
  counter(name: string, value: number, labels?: Labels): void {
    this.sample({ type: 'counter', name, value, ...(labels === undefined ? {} : { labels }) });
  }

  /**
   * A value that moves freely (MET-7).
   * @throws {InvalidRecord}
   */
  gauge(name: string, value: number, labels?: Labels): void {
    this.sample({ type: 'gauge', name, value, ...(labels === undefined ? {} : { labels }) });
  }

  /**
   * A distribution (MET-8).
   * @throws {InvalidRecord}
   */
  histogram(name: string, value: Histogram, labels?: Labels): void {
    this.sample({ type: 'histogram', name, value, ...(labels === undefined ? {} : { labels }) });
  }

  /**
   * Any sample, also one with a time of its own; never blocks.
   * @throws {InvalidRecord}
   * @example
   * const metrics = new MetricSender({ path: '/run/eventd/metric.sock' });
   * metrics.sample({ type: 'gauge', name: 'queue.length', value: 3, timestamp: 1_777_636_801_000_000_000n });
   * await metrics.drain(1000);
   */
  sample(sample: Sample): void {
    this.push(sampleMap(sample));
  }
}

/** Valid until the next record is encoded. */
function logMap({ origin, isError, message, timestamp }: LogRecord): Uint8Array {
  const problem = timestampProblem(timestamp);
  if (problem !== null) throw new InvalidRecord(problem);
  const time = timestamp === undefined ? {} : { timestamp };
  return encoder.encodeSharedRef({
    origin: wellFormed(origin),
    is_error: isError,
    message: wellFormed(message),
    ...time,
  });
}

/** Valid until the next record is encoded. */
function sampleMap(sample: Sample): Uint8Array {
  const problem = sampleProblem(sample);
  if (problem !== null) throw new InvalidRecord(`${sample.name}: ${problem}`);
  const { name, labels, type, timestamp } = sample;
  return encoder.encodeSharedRef({
    name: wellFormed(name),
    ...(labels === undefined ? {} : { labels }),
    type,
    ...(timestamp === undefined ? {} : { timestamp }),
    value: sample.type === 'histogram' ? histogramMap(sample.value) : sample.value,
  });
}

function histogramMap({ boundaries, counts, totalCount, sum }: Histogram): Record<string, unknown> {
  return { boundaries, counts: counts.map(BigInt), total_count: BigInt(totalCount), sum };
}

function timestampProblem(timestamp: bigint | undefined): string | null {
  if (timestamp === undefined || (timestamp >= 0n && timestamp <= MAX_TIMESTAMP)) return null;
  return `timestamp ${timestamp} is not within 0 and 2^63 - 1`;
}

function labelsProblem(labels: Labels): string | null {
  for (const [key, value] of Object.entries(labels)) {
    if (key === '') return 'a label has no key';
    if (value === '') return `label ${key} has no value`;
    if (/[=,]/.test(key)) return `label key '${key}' contains '=' or ','`;
    if (/[=,]/.test(value)) return `value '${value}' of label ${key} contains '=' or ','`;
    if (key !== wellFormed(key) || value !== wellFormed(value)) return `label ${key} is not valid Unicode`;
  }
  return null;
}

function scalarProblem(type: 'counter' | 'gauge', value: number): string | null {
  if (!Number.isFinite(value)) return `the value of a ${type} must be a finite number, not ${value}`;
  if (type === 'counter' && value < 0) return `the value of a counter must not be negative, as ${value} is`;
  return null;
}

function histogramProblem({ boundaries, counts, totalCount, sum }: Histogram): string | null {
  if (boundaries.length !== counts.length)
    return `a histogram of ${boundaries.length} boundaries must have as many counts, not ${counts.length}`;
  for (const [index, bound] of boundaries.entries()) {
    if (Number.isNaN(bound)) return `boundary ${index + 1} of the histogram is not a number`;
    if (index > 0 && bound <= (boundaries[index - 1] ?? 0))
      return `boundary ${index + 1} of the histogram, ${bound}, is not above the one before it`;
  }
  if (![...counts, totalCount].every(isCount))
    return 'counts of a histogram must be whole numbers from 0 to 2^64 - 1';
  return Number.isNaN(sum) ? 'the sum of the histogram is not a number' : null;
}

function isCount(count: number | bigint): boolean {
  if (typeof count === 'number' && !Number.isSafeInteger(count)) return false;
  return count >= 0 && count <= MAX_UINT64;
}

/** Invalid UTF-8 would cost the whole record (LOG-17). */
function wellFormed(text: string): string {
  return /\p{Cs}/u.test(text) ? Buffer.from(text).toString() : text;
}
