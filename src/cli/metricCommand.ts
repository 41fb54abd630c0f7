/** `evctl metric NAME VALUE [label=value...]`: sends one sample to the metric store. */
import { native } from '../native/addon.js';
import {
  type Histogram,
  type Labels,
  MetricSender,
  type Sample,
  sampleProblem,
} from '../wire/recordSender.js';
import { type CommandContext, CommandFailure } from './context.js';
import { JsonInputError, type JsonValue, parseJson } from './jsonInput.js';
import { UsageError } from './options.js';
import { DRAIN_MS, failWhenGone, sendingProblem } from './sending.js';

const NUMBER = /^[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?$/;
/** JSON has no infinite numbers, and a histogram's last bound may be one. */
const INFINITE: Readonly<Record<string, number>> = {
  Infinity: Number.POSITIVE_INFINITY,
  '+Inf': Number.POSITIVE_INFINITY,
  '-Infinity': Number.NEGATIVE_INFINITY,
  '-Inf': Number.NEGATIVE_INFINITY,
};
const HISTOGRAM_KEYS = ['boundaries', 'counts', 'total_count', 'sum'];

/** @throws {CommandFailure | ConnectionFailure | UsageError} what to tell the user */
export async function runMetric(context: CommandContext): Promise<void> {
  const { options } = context;
  const sample = sampleOf(options.positionals, options.get('type') ?? 'gauge');
  const sender = new MetricSender({ path: options.get('metric-socket') ?? '' });
  sender.sample(sample);
  if (sender.flush()) return;
  try {
    failWhenGone(sender);
    if (!(await sender.drain(DRAIN_MS, 0)))
      throw new CommandFailure(`not sent: ${sendingProblem(sender) ?? 'the sample is too large'}`);
  } finally {
    sender.close();
  }
}

/**
 * The sample that the arguments describe; eventd would take it.
 * @throws {UsageError}
 */
export function sampleOf(args: readonly string[], type: string): Sample {
  const [name, value, ...labels] = args;
  if (name === undefined || value === undefined) throw new UsageError('metric takes a NAME and a VALUE');
  if (name === '') throw new UsageError('NAME must not be empty');
  const common = { name, labels: labelsOf(labels), timestamp: native.realtimeNs() };
  const sample: Sample =
    type === 'histogram'
      ? { ...common, type, value: histogramOf(value) }
      : { ...common, type: type === 'counter' ? type : 'gauge', value: numberOf(value) };
  const problem = sampleProblem(sample);
  if (problem !== null) throw new UsageError(problem);
  return sample;
}

function numberOf(text: string): number {
  if (!NUMBER.test(text)) throw new UsageError(`VALUE must be a number, not '${text.slice(0, 40)}'`);
  return Number(text);
}

function labelsOf(args: readonly string[]): Labels {
  // No prototype: a label called __proto__ is a label like any other.
  const labels: Record<string, string> = Object.create(null);
  for (const arg of args) {
    const at = arg.indexOf('=');
    if (at === -1) throw new UsageError(`'${arg.slice(0, 40)}' is no label=value`);
    const key = arg.slice(0, at);
    if (key in labels) throw new UsageError(`label ${key} is given twice`);
    labels[key] = arg.slice(at + 1);
  }
  return labels;
}

function histogramOf(text: string): Histogram {
  let parsed: JsonValue;
  try {
    parsed = parseJson(text);
  } catch (error) {
    if (error instanceof JsonInputError) throw new UsageError(`histogram: ${error.message}`);
    throw error;
  }
  const fields = new Map(isObject(parsed) ? Object.entries(parsed) : []);
  const missing = HISTOGRAM_KEYS.find((key) => !fields.has(key));
  if (missing !== undefined)
    throw new UsageError(
      `a histogram is a JSON object with ${HISTOGRAM_KEYS.join(', ')}; ${missing} is missing`,
    );
  const unknown = [...fields.keys()].find((key) => !HISTOGRAM_KEYS.includes(key));
  if (unknown !== undefined) throw new UsageError(`histogram: unknown key ${unknown}`);
  return {
    boundaries: listOf(fields.get('boundaries'), 'boundaries').map((item) => boundOf(item, 'boundaries')),
    counts: listOf(fields.get('counts'), 'counts').map((item) => countOf(item, 'counts')),
    totalCount: countOf(fields.get('total_count'), 'total_count'),
    sum: boundOf(fields.get('sum'), 'sum'),
  };
}

function isObject(value: JsonValue): value is { readonly [key: string]: JsonValue } {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

function listOf(value: JsonValue | undefined, key: string): readonly JsonValue[] {
  if (!Array.isArray(value)) throw new UsageError(`histogram: ${key} must be a list`);
  return value;
}

function boundOf(value: JsonValue | undefined, key: string): number {
  const number = typeof value === 'string' ? INFINITE[value] : value;
  if (typeof number !== 'number' && typeof number !== 'bigint')
    throw new UsageError(`histogram: ${key} must hold numbers, or "+Inf" and "-Inf"`);
  return Number(number);
}

function countOf(value: JsonValue | undefined, key: string): number | bigint {
  if (typeof value !== 'number' && typeof value !== 'bigint')
    throw new UsageError(`histogram: ${key} must hold whole numbers`);
  return value;
}
