/** Where devhost puts things (the data directory), and the seed hive that says so to eventd. */
import { createHash } from 'node:crypto';
import { chmodSync, existsSync, lstatSync, mkdirSync, writeFileSync } from 'node:fs';
import { dirname, isAbsolute, join, resolve } from 'node:path';
import type { Environment } from '../cli/options.js';
import { MAX_SOCKET_PATH_BYTES } from '../wire/client.js';

/** Something about the machine or the data directory keeps devhost from working; one line for the user. */
export class DevHostError extends Error {
  override readonly name = 'DevHostError';
}

/** All paths are absolute. */
export interface HostPaths {
  readonly dir: string;
  readonly hive: string;
  /** Held locked while a devhost works on the directory. */
  readonly lock: string;
  readonly events: string;
  readonly logs: string;
  readonly metrics: string;
  /** Directory above `run` and `kmes`: `dir`, or a short one when `dir` is too deep for socket paths. */
  readonly socketRoot: string;
  readonly run: string;
  readonly kmes: string;
  readonly querySocket: string;
  readonly logSocket: string;
  readonly metricSocket: string;
  readonly debugSocket: string;
  readonly notifySocket: string;
  readonly emitSocket: string;
}

const LONGEST_SOCKET = 'run/metric.sock';

/**
 * The layout below `directory`. Sockets move to a short directory under $XDG_RUNTIME_DIR or /tmp,
 * named after `directory`, when their paths would exceed the 107 bytes Linux allows.
 */
export function layoutOf(directory: string, env: Environment, uid: number): HostPaths {
  const dir = resolve(directory);
  const fits = Buffer.byteLength(join(dir, LONGEST_SOCKET)) <= MAX_SOCKET_PATH_BYTES;
  const socketRoot = fits ? dir : shortRoot(dir, env, uid);
  const run = join(socketRoot, 'run');
  const kmes = join(socketRoot, 'kmes');
  return {
    dir,
    hive: join(dir, 'eventd.reg'),
    lock: join(dir, 'devhost.lock'),
    events: join(dir, 'events'),
    logs: join(dir, 'logs.db'),
    metrics: join(dir, 'metrics.db'),
    socketRoot,
    run,
    kmes,
    querySocket: join(run, 'query.sock'),
    logSocket: join(run, 'log.sock'),
    metricSocket: join(run, 'metric.sock'),
    debugSocket: join(run, 'debug.sock'),
    notifySocket: join(run, 'notify.sock'),
    emitSocket: join(kmes, 'emit.sock'),
  };
}

function shortRoot(dir: string, env: Environment, uid: number): string {
  const name = `eventd-${uid}-${createHash('sha256').update(dir).digest('hex').slice(0, 12)}`;
  const runtime = env.XDG_RUNTIME_DIR ?? '';
  for (const parent of isAbsolute(runtime) && existsSync(runtime) ? [runtime, '/tmp'] : ['/tmp']) {
    const root = join(parent, name);
    if (Buffer.byteLength(join(root, LONGEST_SOCKET)) <= MAX_SOCKET_PATH_BYTES) return root;
  }
  return join('/tmp', name);
}

/**
 * Makes the directories: the data directory, `events`, `run` and `kmes`, all 0700.
 * @throws {DevHostError} when one is in the way or belongs to somebody else
 */
export function makeDirectories(paths: HostPaths, uid: number): void {
  for (const path of new Set([paths.dir, paths.socketRoot, paths.events, paths.run, paths.kmes])) {
    try {
      makeWithParents(path);
      const stats = lstatSync(path);
      // The short directory lies where anybody can make one of that name first.
      if (!stats.isDirectory()) throw new DevHostError(`${path}: is not a directory`);
      if (stats.uid !== uid) throw new DevHostError(`${path}: belongs to uid ${stats.uid}, not to ${uid}`);
      if ((stats.mode & 0o022) !== 0) chmodSync(path, 0o700);
    } catch (error) {
      if (error instanceof DevHostError) throw error;
      throw new DevHostError(`${path}: cannot be made: ${reasonOf(error)}`);
    }
  }
}

/** Not by `recursive`: Node 20 spins for ever where the parent exists and mkdir says ENOENT, as in /proc. */
function makeWithParents(path: string): void {
  if (existsSync(path)) return;
  const parent = dirname(path);
  if (parent !== path) makeWithParents(parent);
  mkdirSync(path, { mode: 0o700 });
}

/** A value of the seed hive beyond the required ones: string REG_SZ, number REG_DWORD, bigint REG_QWORD. */
export type SeedSettings = Readonly<Record<string, string | number | bigint>>;

/** Seconds; eventd reads StopTimeout to bound its own shutdown (HOST-18). */
export const SERVICE_TIMEOUTS = { start: 60, stop: 30 } as const;

/**
 * The text of a seed hive (HOST-49): the required paths, the debug socket, the default security and
 * the service key. Root gets the defaults as they are; anybody else, being no Administrator, is
 * granted reading of what the own machine says.
 */
export function seedHive(paths: HostPaths, uid: number, settings: SeedSettings = {}): string {
  const own = uid === 0 ? '' : `(A;;0x1;;;S-1-22-1-${uid})`;
  const values: SeedSettings = {
    EventStorePath: paths.events,
    LogStorePath: paths.logs,
    MetricStorePath: paths.metrics,
    QuerySocketPath: paths.querySocket,
    LogSocketPath: paths.logSocket,
    MetricSocketPath: paths.metricSocket,
    DebugSocketPath: paths.debugSocket,
    ...settings,
  };
  const security = (type: string, extra: string) =>
    `[Machine\\System\\eventd\\Security\\${type}]\n"*"=sddl:"O:SYG:SYD:(A;;0x1;;;SY)(A;;0x1;;;BA)${extra}${own}"\n`;
  const service: SeedSettings = {
    Type: 0,
    ErrorControl: 1,
    Readiness: 0,
    StartTimeout: SERVICE_TIMEOUTS.start,
    StopTimeout: SERVICE_TIMEOUTS.stop,
    RestartPolicy: 1,
  };
  return [
    'PEIOS-REG 1\n; Made by devhost, which never overwrites it. eventd sees changes at once.\n',
    `[Machine\\System\\eventd]\n${valueLines(values)}`,
    security('Events', ''),
    security('Logs', '(A;;0x1;;;AU)'),
    security('Metrics', '(A;;0x1;;;AU)'),
    `[Machine\\System\\Services\\eventd]\n${valueLines(service)}`,
  ].join('');
}

function valueLines(values: SeedSettings): string {
  return Object.entries(values)
    .map(([name, value]) => `${quoted(name)}=${valueText(value)}\n`)
    .join('');
}

function valueText(value: string | number | bigint): string {
  if (typeof value === 'string') return quoted(value);
  const digits = value.toString(16);
  return typeof value === 'number' ? `dword:${digits.padStart(8, '0')}` : `qword:${digits.padStart(16, '0')}`;
}

function quoted(text: string): string {
  // The format knows these two escapes only; a line end inside quotes cannot be said.
  if (/[\n\r\0]/.test(text))
    throw new DevHostError(`'${JSON.stringify(text)}' has a line end and cannot stand in a hive`);
  return `"${text.replace(/[\\"]/g, '\\$&')}"`;
}

/** Writes the seed hive unless there is one; true when it was written. */
export function writeSeedHive(path: string, text: string): boolean {
  try {
    writeFileSync(path, text, { flag: 'wx', mode: 0o600 });
    return true;
  } catch (error) {
    if (error instanceof Error && 'code' in error && error.code === 'EEXIST') return false;
    throw new DevHostError(`${path}: cannot be written: ${reasonOf(error)}`);
  }
}

export function reasonOf(error: unknown): string {
  return error instanceof Error ? (error.message.split('\n')[0] ?? error.name) : String(error);
}
