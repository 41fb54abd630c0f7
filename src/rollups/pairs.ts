/**
 * Pairs of a function and a window size, for which rollups are kept (ROL-2, ROL-9, ROL-38). A pair goes by its
 * key: `avg_3600` is the mean over an hour.
 */
import type { MetricQuery } from '../query/ast.js';

/** In the order of their ids in `rollups.function` (ROL-2). */
export const ROLLUP_FUNCTIONS = ['avg', 'min', 'max', 'sum', 'rate', 'delta'] as const;
export type RollupFunction = (typeof ROLLUP_FUNCTIONS)[number];

export interface RollupPair {
  readonly key: string;
  readonly function: RollupFunction;
  readonly windowSeconds: number;
}

/**
 * Longest window that is worth a row, s: a year. Longer ones, which may exceed what a timestamp can hold,
 * are put together from shorter ones.
 */
export const MAX_WINDOW_SECONDS = 366 * 86_400;

const SECOND_NS = 1_000_000_000n;

/** The pair behind a key; null when the key is none, or its window is not to be kept. */
export function pairOf(key: string): RollupPair | null {
  const [, name, seconds] = /^([a-z]+)_([1-9]\d{0,8})$/.exec(key) ?? [];
  const found = ROLLUP_FUNCTIONS.find((each) => each === name);
  const windowSeconds = Number(seconds);
  if (found === undefined || windowSeconds > MAX_WINDOW_SECONDS) return null;
  return { key, function: found, windowSeconds };
}

/** Whether the function is about what counters rise by (ROL-5). */
export function isDeltaFunction(name: RollupFunction): boolean {
  return name === 'rate' || name === 'delta';
}

/**
 * Key of the pair that a query asks for (ROL-10, ROL-14, QX-53): the value function, else that of the window.
 * Null without a window, with a percentile, and for windows that are no whole seconds.
 */
export function recordedPair({
  valueFunction,
  window,
}: Pick<MetricQuery, 'valueFunction' | 'window'>): string | null {
  if (window === null || window.ns % SECOND_NS !== 0n) return null;
  const name = (valueFunction ?? window.function.replace('_OVER', '')).toLowerCase();
  return pairOf(`${name}_${window.ns / SECOND_NS}`)?.key ?? null;
}
