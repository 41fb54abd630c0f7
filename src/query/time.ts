/** Calendar and clock arithmetic on bigint nanoseconds since the Unix epoch, UTC only. */
import type { TimeLiteral, TimeUnit } from './ast.js';

const SECOND = 1_000_000_000n;
const DAY = 86_400n * SECOND;

/** Last time the language knows: 2^63-1 ns (QL-12). */
export const MAX_TIME = 2n ** 63n - 1n;

export const unitNanoseconds: Readonly<Record<TimeUnit, bigint>> = {
  s: SECOND,
  m: 60n * SECOND,
  h: 3600n * SECOND,
  d: DAY,
};

function daysInMonth(year: number, month: number): number {
  if (month === 2) return (year % 4 === 0 && year % 100 !== 0) || year % 400 === 0 ? 29 : 28;
  return month === 4 || month === 6 || month === 9 || month === 11 ? 30 : 31;
}

/** The instant of a UTC date and time, not clamped; null if the calendar has no such second. */
export function instantOf(
  year: number,
  month: number,
  day: number,
  hour: number,
  minute: number,
  second: number,
): bigint | null {
  if (month < 1 || month > 12 || day < 1 || day > daysInMonth(year, month)) return null;
  if (hour > 23 || minute > 59 || second > 59) return null;
  // setUTCFullYear, since Date.UTC reads the years 0 to 99 as 1900 to 1999.
  const milliseconds = new Date(0).setUTCFullYear(year, month - 1, day);
  return BigInt(milliseconds) * 1_000_000n + BigInt(hour * 3600 + minute * 60 + second) * SECOND;
}

function clamp(ns: bigint): bigint {
  if (ns < 0n) return 0n;
  return ns > MAX_TIME ? MAX_TIME : ns;
}

/**
 * The instant a literal means, in ns, clamped to 0..2^63-1. `now` is the one clock reading of the
 * query, shared by all its literals and defaults (QL-12).
 */
export function resolveTime(time: TimeLiteral, now: bigint): bigint {
  switch (time.kind) {
    case 'relative': {
      const distance = time.amount * unitNanoseconds[time.unit];
      return clamp(time.direction === 'ago' ? now - distance : now + distance);
    }
    case 'day': {
      const midnight = now - (now % DAY);
      return clamp(time.day === 'today' ? midnight : midnight - DAY);
    }
    case 'instant':
      return clamp(time.ns);
  }
}
