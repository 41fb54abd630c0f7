/** The pager: long results on a terminal go through the program the user likes to read in. */
import { type ChildProcess, spawn } from 'node:child_process';
import { Writable } from 'node:stream';
import type { Environment } from './options.js';

/** less: end at once when all fits on the screen, keep colours, leave the text on the screen. */
const LESS = 'FRX';

/** Characters only a shell understands; without them the pager is run as it stands. */
const SHELL = /[|&;<>()$`\\"'*?#~=%]/;

/** The command of the pager: `$EVCTL_PAGER`, else `$PAGER`, else less; null: none is wanted. */
export function pagerCommand(env: Environment): string | null {
  const command = (env.EVCTL_PAGER ?? env.PAGER ?? 'less').trim();
  return command === '' || command === 'cat' || env.TERM === 'dumb' ? null : command;
}

/**
 * A stream into a pager that starts with the first output, so that an error before it is seen plainly.
 * Where the pager cannot be started everything goes to `fallback`. A pager that was quit fails the stream
 * with EPIPE, as a closed pipe does.
 */
export class Pager extends Writable {
  /** Resolves when the pager has ended; at once when none was started. */
  ended: Promise<void> = Promise.resolve();
  readonly #command: string;
  readonly #env: Environment;
  readonly #fallback: Writable;
  #target: Promise<Writable> | null = null;
  #child: ChildProcess | null = null;

  constructor(command: string, env: Environment, fallback: Writable) {
    super();
    this.#command = command;
    this.#env = env;
    this.#fallback = fallback;
  }

  override _write(chunk: Buffer, _encoding: BufferEncoding, callback: (error?: Error | null) => void): void {
    // Nothing to show is no reason for a pager.
    if (chunk.length === 0) {
      callback();
      return;
    }
    this.#target ??= this.#start();
    void this.#target.then((target) => target.write(chunk, () => callback()));
  }

  override _final(callback: (error?: Error | null) => void): void {
    this.#child?.stdin?.end();
    void this.ended.then(() => callback());
  }

  #start(): Promise<Writable> {
    const environment = { LESS, LV: '-c', ...this.#env };
    const words = SHELL.test(this.#command) ? ['sh', '-c', this.#command] : this.#command.split(/\s+/);
    const [program = 'less', ...args] = words;
    const child = spawn(program, args, { stdio: ['pipe', 'inherit', 'inherit'], env: environment });
    // Ctrl-C belongs to the pager, and evctl must not end before it: the shell would take the terminal.
    const ignore = () => undefined;
    process.on('SIGINT', ignore);
    this.ended = new Promise((resolve) => {
      const end = () => {
        process.off('SIGINT', ignore);
        resolve();
      };
      child.once('error', end);
      child.once('exit', end);
    });
    child.stdin.on('error', (error) => this.destroy(error));
    return new Promise((resolve) => {
      child.once('error', () => resolve(this.#fallback));
      child.once('spawn', () => {
        this.#child = child;
        resolve(child.stdin);
      });
    });
  }
}
