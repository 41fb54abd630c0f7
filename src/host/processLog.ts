/**
 * The log of a program of ours: one JSON line per entry on stderr, or one readable line on a terminal. The service
 * manager feeds stderr back into the log store, so repeated lines are rate-limited.
 */
import { pino } from 'pino';
import { readableLogLine } from './logLine.js';

export interface ProcessLog {
  info(message: string, fields?: Readonly<Record<string, unknown>>): void;
  warn(message: string, fields?: Readonly<Record<string, unknown>>): void;
  error(message: string, fields?: Readonly<Record<string, unknown>>): void;
}

/** Entries of one message text per second; the rest is counted and said with the next one. */
const REPEATS_PER_SECOND = 10;

/** Texts remembered for rate limiting; the oldest is forgotten. */
const REMEMBERED_TEXTS = 200;

export function openLog(name: string): ProcessLog {
  const sink = pino(
    { name, base: { name }, timestamp: pino.stdTimeFunctions.isoTime, serializers: {} },
    stderrLines(),
  );
  const limiter = new RateLimiter();
  const write =
    (level: 'info' | 'warn' | 'error') =>
    (message: string, fields: Readonly<Record<string, unknown>> = {}) => {
      const dropped = limiter.admit(message);
      if (dropped === null) return;
      const plain = Object.fromEntries(Object.entries(fields).map(([k, v]) => [k, plainField(v)]));
      sink[level](dropped > 0 ? { ...plain, repeated: dropped } : plain, message);
    };
  return { info: write('info'), warn: write('warn'), error: write('error') };
}

function plainField(value: unknown): unknown {
  if (typeof value === 'bigint') return String(value);
  if (value instanceof Error) return value.message;
  return value;
}

/** A pino destination: JSON to a pipe or file, `12:00:01 warn text key=value` to a terminal. */
function stderrLines(): { write(line: string): void } {
  if (!process.stderr.isTTY) return { write: (line) => void process.stderr.write(line) };
  return { write: (line) => void process.stderr.write(`${readableLogLine(line.trimEnd(), true)}\n`) };
}

class RateLimiter {
  readonly #texts = new Map<string, { second: number; count: number; dropped: number }>();

  /** Null = drop this one; else how many of its kind were dropped before it. */
  admit(text: string): number | null {
    const second = Math.floor(Date.now() / 1000);
    const entry = this.#texts.get(text) ?? { second, count: 0, dropped: 0 };
    if (entry.second !== second) {
      entry.second = second;
      entry.count = 0;
    }
    this.#texts.delete(text);
    this.#texts.set(text, entry);
    const [oldest] = this.#texts.keys();
    if (this.#texts.size > REMEMBERED_TEXTS && oldest !== undefined) this.#texts.delete(oldest);
    if (++entry.count > REPEATS_PER_SECOND) {
      entry.dropped++;
      return null;
    }
    const { dropped } = entry;
    entry.dropped = 0;
    return dropped;
  }
}
