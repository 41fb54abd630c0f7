/** The program devhost: command line in, exit code out. */
import { readFileSync } from 'node:fs';
import { relative } from 'node:path';
import { fileURLToPath } from 'node:url';
import { EXIT, type Streams } from '../cli/context.js';
import {
  type Environment,
  type OptionRow,
  optionHelp,
  type ParsedOptions,
  parseOptions,
  UsageError,
} from '../cli/options.js';
import { visible } from '../cli/terminal.js';
import { readableLogLine } from '../host/logLine.js';
import { packageVersion } from '../host/version.js';
import { DevHost, type DevHostOptions, type HostEnd } from './host.js';
import { DevHostError } from './layout.js';
import { ProgramFailure, type ProgramState } from './program.js';

const OPTIONS: readonly OptionRow[] = [
  { name: 'dir', value: 'DIR', help: 'data directory, made if absent', default: './.eventd' },
  { name: 'cpus', value: 'N', help: 'event rings of kmesd' },
  { name: 'capacity', value: 'BYTES', help: 'size of each ring, a power of two' },
  { name: 'no-kmsg', help: 'do not read /dev/kmsg' },
  { name: 'no-process', help: 'do not report process starts and exits' },
  { name: 'help', short: 'h', help: 'show this text' },
  { name: 'version', short: 'V', help: 'show the version' },
];

const INTRODUCTION = `Usage: devhost [OPTIONS]

Runs eventd on a developer's machine, standing in for peinit: makes a data directory with a seed hive,
starts kmesd (the embedded KMES for ordinary Linux) and eventd, waits until they are ready, shows what
they print and puts it into the log store, restarts what crashes, and stops everything in order on Ctrl-C.
SIGHUP (re-read the configuration) and SIGQUIT (diagnostic dump, then stop) go to eventd.

Options:
`;

/** Signals devhost hears; the listener learns which. */
export type SignalSource = (signal: NodeJS.Signals, listener: () => void) => void;

/** Runs devhost until it is told to stop or a program ends for good; resolves with the exit code. */
export async function devhost(
  args: readonly string[],
  env: Environment,
  streams: Streams,
  onSignal: SignalSource,
): Promise<number> {
  const say = (text: string) => streams.stderr.write(`devhost | ${text}\n`);
  streams.stderr.on('error', () => undefined);
  streams.stdout.on('error', () => undefined);
  try {
    const options = parseOptions(args, OPTIONS, null, env);
    if (options.positionals.length > 0)
      throw new UsageError(`unexpected argument '${options.positionals[0]}'`);
    if (options.has('help')) streams.stdout.write(INTRODUCTION + optionHelp(OPTIONS, null));
    else if (options.has('version')) streams.stdout.write(`devhost ${packageVersion()}\n`);
    else return await run(hostOptions(options, env, streams, say), streams, onSignal, say);
    return EXIT.done;
  } catch (error) {
    if (error instanceof UsageError) {
      streams.stderr.write(`devhost: ${visible(error.message)} (see devhost --help)\n`);
      return EXIT.usage;
    }
    if (error instanceof DevHostError || error instanceof ProgramFailure) {
      streams.stderr.write(`devhost: ${visible(error.message)}\n`);
      return EXIT.failed;
    }
    throw error;
  }
}

async function run(
  options: DevHostOptions,
  streams: Streams,
  onSignal: SignalSource,
  say: (text: string) => void,
): Promise<number> {
  const host = new DevHost(options);
  const stopRequest = new Promise<'stop'>((resolve) => {
    for (const signal of ['SIGINT', 'SIGTERM'] as const) onSignal(signal, () => resolve('stop'));
  });
  for (const signal of ['SIGHUP', 'SIGQUIT'] as const) {
    onSignal(signal, () => {
      if (!host.signal('eventd', signal)) say(`${signal} ignored: eventd does not run`);
    });
  }
  const started = host.start();
  const first = await Promise.race([started, stopRequest]);
  if (first !== 'stop') {
    streams.stdout.write(welcome(host));
    const why = await Promise.race([host.ended, stopRequest]);
    if (why !== 'stop') return endOf(host, why, say);
  }
  say('stopping');
  await stop(host, say);
  // Stopping in mid-start fails the start, as it should.
  await started.catch(() => undefined);
  return EXIT.done;
}

async function endOf(host: DevHost, end: HostEnd, say: (text: string) => void): Promise<number> {
  say(`${end.program} ${end.detail}; stopping`);
  await stop(host, say);
  return end.ok ? EXIT.done : EXIT.failed;
}

async function stop(host: DevHost, say: (text: string) => void): Promise<void> {
  await host.stop();
  if (host.droppedLines > 0) say(`${host.droppedLines} lines of output did not get into the log store`);
}

function hostOptions(
  options: ParsedOptions,
  env: Environment,
  streams: Streams,
  say: (text: string) => void,
): DevHostOptions {
  const cpus = positive(options, 'cpus');
  const capacity = positive(options, 'capacity');
  return {
    dir: options.get('dir') ?? '',
    env,
    kmsg: !options.has('no-kmsg'),
    process: !options.has('no-process'),
    ...(cpus === undefined ? {} : { cpus }),
    ...(capacity === undefined ? {} : { capacity }),
    onLine: (program, { text }) =>
      streams.stderr.write(`${program.padEnd(7)} | ${readableLogLine(text, false)}\n`),
    onState: (program, state: ProgramState, detail) =>
      say(`${program}: ${state}${detail === '' ? '' : ` (${detail})`}`),
  };
}

function positive(options: ParsedOptions, name: string): number | undefined {
  const text = options.get(name);
  if (text === undefined) return undefined;
  if (!/^[1-9]\d{0,9}$/.test(text))
    throw new UsageError(`--${name}: must be a positive integer, not '${text.slice(0, 40)}'`);
  return Number(text);
}

function welcome(host: DevHost): string {
  const { paths } = host;
  const script = relative(process.cwd(), fileURLToPath(new URL('../../bin/evctl.js', import.meta.url)));
  const evctl = `node ${quoted(script)}`;
  const lines = [
    '',
    'eventd is ready.',
    `  data          ${paths.dir}`,
    `  hive          ${paths.hive}${host.seeded ? ' (new)' : ''}`,
    `  query socket  ${paths.querySocket}`,
    `  log socket    ${paths.logSocket}`,
    `  metric socket ${paths.metricSocket}`,
    `  debug socket  ${paths.debugSocket}`,
    `  rings         ${paths.kmes}`,
  ];
  if (paths.socketRoot !== paths.dir)
    lines.push(
      `  The data directory is too deep for socket paths (107 bytes): sockets and rings are in ${paths.socketRoot}.`,
    );
  if (!host.seeded && !namesSocket(paths.hive, paths.querySocket))
    lines.push(`  The hive was not made for this directory: it does not name ${paths.querySocket}.`);
  lines.push(
    '',
    'Try, in another terminal:',
    `  ${evctl} -s ${quoted(paths.querySocket)} 'EVENTS TAKE 20'`,
    `  ${evctl} emit --kmes ${quoted(paths.kmes)} demo.hello '{"answer": 42}'`,
    `  ${evctl} log --log-socket ${quoted(paths.logSocket)} demo 'a line of text'`,
    `  ${evctl} run --log-socket ${quoted(paths.logSocket)} demo -- ls -l`,
    `  ${evctl} -s ${quoted(paths.querySocket)} 'LOGS TAKE 20'`,
    `  ${evctl} metric --metric-socket ${quoted(paths.metricSocket)} room.temperature 21.5 room=kitchen`,
    `  ${evctl} -s ${quoted(paths.querySocket)} 'METRIC room.temperature[]'`,
    `  ${evctl} inspect --debug-socket ${quoted(paths.debugSocket)}`,
    `  ${evctl} registry --registry ${quoted(paths.hive)} ls 'Machine\\System\\eventd'`,
    '',
    'Ctrl-C stops everything.',
    '',
  );
  return `${lines.join('\n')}\n`;
}

function namesSocket(hive: string, socket: string): boolean {
  try {
    return readFileSync(hive, 'utf8').includes(`"${socket.replace(/[\\"]/g, '\\$&')}"`);
  } catch {
    return false;
  }
}

/** For a shell: in single quotes when needed. */
function quoted(text: string): string {
  return /^[\w./:@%+=-]+$/.test(text) ? text : `'${text.replaceAll("'", "'\\''")}'`;
}
