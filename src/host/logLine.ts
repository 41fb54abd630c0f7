/** Log entries of our programs for human eyes: `12:00:01 warn  text key=value` instead of the JSON line. */
import { visible } from '../cli/terminal.js';

const LABELS: Readonly<Record<string, string>> = { 30: 'info ', 40: 'warn ', 50: 'error' };

/**
 * The readable form of a JSON log line, without line end and safe for a terminal; any other line as it
 * is, made safe.
 * @param named false where the program's name stands before the line already
 */
export function readableLogLine(line: string, named: boolean): string {
  const entry = parseEntry(line);
  if (entry === null) return visible(line);
  const { level, time, name, msg, pid: _pid, hostname: _host, ...fields } = entry;
  const head = [
    String(time).slice(11, 19),
    ...(named ? [String(name)] : []),
    LABELS[String(level)] ?? String(level),
  ];
  const rest = Object.entries(fields).map(([key, value]) => ` ${key}=${textOf(value)}`);
  return visible(`${head.join(' ')} ${msg}${rest.join('')}`);
}

function parseEntry(line: string): Readonly<Record<string, unknown>> | null {
  if (!line.startsWith('{')) return null;
  try {
    const entry = JSON.parse(line) as Readonly<Record<string, unknown>>;
    const isOurs =
      typeof entry.level === 'number' && typeof entry.time === 'string' && typeof entry.msg === 'string';
    return isOurs ? entry : null;
  } catch {
    return null;
  }
}

function textOf(value: unknown): string {
  return typeof value === 'string' ? value : JSON.stringify(value);
}
