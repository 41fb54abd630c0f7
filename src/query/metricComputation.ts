/** What a METRIC query computes, as the words of the native computation (QL-85..109). */
import type { MetricComputation, MetricFold } from '../native/addon.js';
import type { MetricQuery, ValueFunction, WindowFunction } from './ast.js';
import { QueryError } from './errors.js';
import { quote } from './lexer.js';
import { MAX_TIME } from './time.js';

type Clauses = Pick<MetricQuery, 'brackets' | 'since' | 'valueFunction' | 'window'>;

const QUANTILES = { P50: 0.5, P95: 0.95, P99: 0.99 } as const;
const FOLDS = { AVG: 'avg', MIN: 'min', MAX: 'max', SUM: 'sum' } as const;
const WINDOWS = { AVG_OVER: 'avg', MIN_OVER: 'min', MAX_OVER: 'max' } as const;

/** Types of series, in the order of their ids (MET-46). */
const TYPES = ['a counter', 'a gauge', 'a histogram'] as const;

const COUNTERS = 0b001;
const SCALARS = 0b011;
const HISTOGRAMS = 0b100;
const ALL_TYPES = 0b111;

/**
 * Whether the answer is the stored samples themselves: each in-range sample of each series, without a
 * function. Nothing has to be computed then.
 */
export function isPlainMetric(query: Clauses): boolean {
  return (
    query.brackets !== null && query.since !== null && query.valueFunction === null && query.window === null
  );
}

/**
 * The computation of a query; the range is in ns, both ends included. `ofSample`: a filter works on single
 * samples, so that nothing may stand for them.
 */
export function metricComputation(
  query: Clauses,
  range: { readonly from: bigint | null; readonly to: bigint },
  ofSample: boolean,
): MetricComputation {
  const { valueFunction, window } = query;
  const windowNs = window === null ? 1n : window.ns;
  return {
    function: sampleFunction(valueFunction),
    quantile: isQuantile(valueFunction) ? QUANTILES[valueFunction] : 0,
    shape: shapeOf(query),
    bySeries: query.brackets !== null,
    combine: foldOf(valueFunction) ?? 'avg',
    window: window === null ? 'avg' : WINDOWS[window.function],
    rollup: ofSample ? 'none' : rollupOf(query),
    windowNs: windowNs > MAX_TIME ? MAX_TIME : windowNs,
    types: typesOf(query),
    from: range.from ?? 0n,
    to: range.to,
  };
}

function isQuantile(name: ValueFunction | null): name is keyof typeof QUANTILES {
  return name !== null && Object.hasOwn(QUANTILES, name);
}

function isDelta(name: ValueFunction | null): boolean {
  return name === 'RATE' || name === 'DELTA';
}

function foldOf(name: ValueFunction | null): MetricFold | null {
  return name !== null && Object.hasOwn(FOLDS, name) ? FOLDS[name as keyof typeof FOLDS] : null;
}

function sampleFunction(name: ValueFunction | null): MetricComputation['function'] {
  if (isQuantile(name)) return 'quantile';
  if (name === 'RATE') return 'rate';
  return name === 'DELTA' ? 'delta' : 'sample';
}

function shapeOf({ since, valueFunction, window }: Clauses): MetricComputation['shape'] {
  if (since === null) return 'latest';
  if (window === null) return foldOf(valueFunction) === null ? 'each' : 'total';
  return isDelta(valueFunction) && window.function === 'AVG_OVER' ? 'deltaWindows' : 'windows';
}

/**
 * Which rollups hold what the query asks for (ROL-31, ROL-33, QX-52): those of the function that makes its
 * values and its windows, where series do not mix before the windows end. A time line of several series
 * (QL-97) and the extremes of rates need single samples.
 */
function rollupOf(query: Clauses): MetricComputation['rollup'] {
  const { valueFunction, window, brackets } = query;
  const shape = shapeOf(query);
  if (shape === 'deltaWindows') return valueFunction === 'RATE' ? 'rate' : 'delta';
  if (shape === 'total') return foldOf(valueFunction) ?? 'none';
  if (shape !== 'windows' || brackets === null || window === null) return 'none';
  const fold = WINDOWS[window.function];
  return valueFunction === null || foldOf(valueFunction) === fold ? fold : 'none';
}

/** Types of series the query applies to (QL-92, QL-102). */
function typesOf(query: Clauses): number {
  if (isDelta(query.valueFunction)) return COUNTERS;
  if (isQuantile(query.valueFunction)) return HISTOGRAMS;
  const showsSamples = query.brackets !== null && query.valueFunction === null && query.window === null;
  return showsSamples ? ALL_TYPES : SCALARS;
}

/** The function that a series of a wrong type is named with; without any, series are averaged (QL-87). */
export function metricFunctionName({
  valueFunction,
  window,
}: Pick<Clauses, 'valueFunction' | 'window'>): ValueFunction | WindowFunction {
  return valueFunction ?? window?.function ?? 'AVG';
}

/** The refusal of a query that meets a series its function does not apply to (QL-92, QL-102, WIRE-20). */
export function metricTypeError(name: string, series: { name: string; type: number }): QueryError {
  const is = `but ${quote(series.name)} is ${TYPES[series.type] ?? 'of another type'}`;
  if (isDelta(name as ValueFunction)) {
    return new QueryError('X', 'type error', `${name} applies to counters, ${is}`);
  }
  if (isQuantile(name as ValueFunction)) {
    return new QueryError('X', 'type error', `${name} applies to histograms, ${is}`);
  }
  const hint = 'P50, P95 and P99 give it values, and [] shows it as it is';
  return new QueryError('X', 'type error', `${name} applies to counters and gauges, ${is}; ${hint}`);
}
