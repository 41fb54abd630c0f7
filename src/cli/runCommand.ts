/**
 * `evctl run NAME -- CMD ARGS...`: runs a command and sends what it prints to the log store, the way
 * the service manager captures a service (LOG-54, LOG-57..60). The command never suffers from eventd:
 * its pipes are read on when eventd is away, and the oldest lines are lost then (LOG-69).
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { constants } from 'node:os';
import type { Writable } from 'node:stream';
import { setTimeout as delay } from 'node:timers/promises';
import { OutputPipe } from '../host/outputPipe.js';
import { native } from '../native/addon.js';
import { LineSplitter } from '../wire/lineSplitter.js';
import { LogSender } from '../wire/recordSender.js';
import type { CommandContext, Streams } from './context.js';
import { UsageError } from './options.js';
import { counted, GONE_MS, sendingProblem } from './sending.js';
import { visible } from './terminal.js';

const FORWARDED = ['SIGTERM', 'SIGINT', 'SIGHUP', 'SIGQUIT', 'SIGUSR1', 'SIGUSR2'] as const;

/** Exit codes of a shell for what cannot be run. */
const NOT_FOUND = 127;
const NOT_RUNNABLE = 126;

/** How long processes that the command left behind may go on writing: until this pause, ms, at most so long. */
const QUIET_MS = 200;
const LEFTOVER_MS = 2000;
/** How long the end waits for eventd to take the last lines, ms. */
const DRAIN_MS = 2000;

/**
 * @returns the command's exit code, 128 + n when signal n ended it, 127 when there is no such command
 * @throws {ConnectionFailure | UsageError} before anything was run
 */
export async function runCommand(context: CommandContext, streams: Streams): Promise<number> {
  const { options } = context;
  const [command, ...args] = options.operands;
  const [origin, ...others] = options.positionals.slice(0, -options.operands.length);
  if (command === undefined || origin === undefined || origin === '' || others.length > 0)
    throw new UsageError('run takes a NAME, then -- and the command with its arguments');
  const sender = new LogSender({ path: options.get('log-socket') ?? '', origin });
  const capture = (isError: boolean, tee: Writable) =>
    new CapturedOutput(sender, isError, options.has('tee') ? tee : null);
  const outputs = [capture(false, streams.stdout), capture(true, streams.stderr)];
  const [out, err] = outputs.map((output) => output.pipe.writeEnd);
  const listeners = new SignalListeners();
  let code: number;
  try {
    code = await runChild(spawnQuietly(command, args, out, err), outputs, listeners, (text) =>
      streams.stderr.write(`evctl: run: ${visible(command)}: ${visible(text)}\n`),
    );
    // Whoever asks a second time, after the command has ended, wants no more waiting.
    await Promise.race([finish(outputs, sender), listeners.next()]);
  } finally {
    listeners.remove();
    for (const output of outputs) output.close();
    sender.flush();
  }
  const problem = sendingProblem(sender) ?? 'eventd was away or too slow';
  sender.close();
  if (sender.dropped > 0)
    streams.stderr.write(
      `evctl: run: ${counted(sender.dropped, 'log line')} not stored: ${visible(problem)}\n`,
    );
  return code;
}

/** spawn(2) throws what belongs to the arguments, and emits the rest; here both are emitted. */
function spawnQuietly(
  command: string,
  args: readonly string[],
  out: number | undefined,
  err: number | undefined,
): ChildProcess | Error {
  try {
    // Same process group and terminal: Ctrl-C, Ctrl-Z and passwords work as if evctl were not there.
    return spawn(command, [...args], { stdio: ['inherit', out ?? 'ignore', err ?? 'ignore'] });
  } catch (error) {
    return error instanceof Error ? error : new Error(String(error));
  }
}

/** Forwards signals until the command has ended; resolves with its exit code. */
function runChild(
  child: ChildProcess | Error,
  outputs: readonly CapturedOutput[],
  listeners: SignalListeners,
  say: (text: string) => void,
): Promise<number> {
  for (const { pipe } of outputs) pipe.handedOver();
  const failed = (error: NodeJS.ErrnoException): number => {
    const isMissing = error.code === 'ENOENT';
    say(isMissing ? 'command not found' : `cannot be run: ${error.code ?? error.message}`);
    return isMissing ? NOT_FOUND : NOT_RUNNABLE;
  };
  if (child instanceof Error) return Promise.resolve(failed(child));
  return new Promise((resolve) => {
    child.once('error', (error) => {
      if (child.pid === undefined) resolve(failed(error));
    });
    child.once('exit', (code, signal) =>
      resolve(code ?? 128 + (signal === null ? 0 : constants.signals[signal])),
    );
    listeners.forward((signal) => {
      if (child.pid !== undefined && !terminalSentIt(signal, child.pid)) child.kill(signal);
    });
  });
}

/** Everything that was printed is read and sent, or its time is up. */
async function finish(outputs: readonly CapturedOutput[], sender: LogSender): Promise<void> {
  const deadline = performance.now() + LEFTOVER_MS;
  const isOver = () => {
    const now = performance.now();
    return outputs.every((output) => output.isOver(now - QUIET_MS)) || now > deadline;
  };
  const ended = performance.now();
  for (const output of outputs) output.lastRead = ended;
  while (!isOver()) await Promise.race([Promise.all(outputs.map((output) => output.ended)), delay(20)]);
  for (const output of outputs) output.close();
  await sender.drain(DRAIN_MS, GONE_MS);
}

/** One output of the command: read, split into lines, sent, and shown with --tee. */
class CapturedOutput {
  readonly pipe = new OutputPipe();
  /** Resolves when nobody can write any more. */
  readonly ended: Promise<void>;
  /** `performance.now` of the last bytes. */
  lastRead = 0;
  readonly #splitter = new LineSplitter();
  readonly #sender: LogSender;
  readonly #isError: boolean;
  #hasEnded = false;
  #isBusy = false;

  constructor(sender: LogSender, isError: boolean, tee: Writable | null) {
    this.#sender = sender;
    this.#isError = isError;
    const { stream } = this.pipe;
    stream.on('data', (chunk: Buffer) => {
      this.lastRead = performance.now();
      this.#send(this.#splitter.push(chunk));
      // While eventd is there and busy the pipe fills, and the command waits (LOG-63).
      stream.pause();
      this.#isBusy = true;
      void Promise.all([this.#sender.room(), tee === null ? null : copy(tee, chunk)]).then(() => {
        this.#isBusy = false;
        stream.resume();
      });
    });
    this.ended = new Promise((resolve) => {
      stream.once('close', () => {
        this.close();
        resolve();
      });
    });
  }

  /** Nothing will come, or nothing has come since `time`. */
  isOver(time: number): boolean {
    return this.#hasEnded || (!this.#isBusy && this.lastRead < time);
  }

  /** Reads no more; the last line goes out without its newline (LOG-58). Safe twice. */
  close(): void {
    if (this.#hasEnded) return;
    this.#hasEnded = true;
    this.pipe.handedOver();
    this.pipe.stream.destroy();
    this.#send(this.#splitter.end());
  }

  #send(lines: readonly string[]): void {
    const timestamp = native.realtimeNs();
    for (const line of lines) this.#sender.log(line, { isError: this.#isError, timestamp });
  }
}

/** Resolves when the bytes are written, or never can be: nobody reading the copy is no matter for the command. */
function copy(target: Writable, chunk: Buffer): Promise<void> {
  return new Promise((resolve) => target.write(chunk, () => resolve()));
}

/** From before the command starts until evctl ends, no signal ends evctl. */
class SignalListeners {
  #listener: (signal: NodeJS.Signals) => void = () => undefined;
  readonly #heard = (signal: NodeJS.Signals): void => this.#listener(signal);

  constructor() {
    for (const signal of FORWARDED) process.on(signal, this.#heard);
  }

  forward(listener: (signal: NodeJS.Signals) => void): void {
    this.#listener = listener;
  }

  /** Resolves at the next SIGTERM or SIGINT. */
  next(): Promise<void> {
    return new Promise((resolve) => {
      this.#listener = (signal) => {
        if (signal === 'SIGTERM' || signal === 'SIGINT') resolve();
      };
    });
  }

  remove(): void {
    for (const signal of FORWARDED) process.off(signal, this.#heard);
  }
}

/** Ctrl-C and Ctrl-\ go to the whole foreground group of the terminal: the command has them already. */
function terminalSentIt(signal: NodeJS.Signals, pid: number): boolean {
  if (signal !== 'SIGINT' && signal !== 'SIGQUIT') return false;
  const own = groupsOf('self');
  return own !== null && own.foreground === own.group && groupsOf(String(pid))?.group === own.group;
}

/** Process group, and foreground group of the terminal (-1: no terminal). */
function groupsOf(pid: string): { readonly group: number; readonly foreground: number } | null {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, 'latin1');
    // The name in parentheses may hold anything; behind it: state, parent, group, session, terminal, foreground.
    const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
    return { group: Number(fields[2]), foreground: Number(fields[5]) };
  } catch {
    return null;
  }
}
