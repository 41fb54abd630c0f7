/**
 * One supervised program, run the way peinit runs a service: own process group, readiness by
 * notification, bounded start and stop, restart after a crash (HOST-12, HOST-13, HOST-16, HOST-24).
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { OutputPipe } from '../host/outputPipe.js';
import { native } from '../native/addon.js';
import { LineSplitter } from '../wire/lineSplitter.js';
import { reasonOf } from './layout.js';
import type { NotifyMessage } from './notifyReceiver.js';
import { type RestartLimits, RestartPolicy } from './restartPolicy.js';

/**
 * `waiting`: crashed, to be restarted after a pause; `stopped`: not started, stopped, or ended by itself with 0;
 * `failed`: given up.
 */
export type ProgramState = 'stopped' | 'starting' | 'ready' | 'stopping' | 'waiting' | 'failed';

/** What to run. */
export interface ProgramSpec {
  readonly name: string;
  readonly command: string;
  readonly args: readonly string[];
  readonly env: Readonly<Record<string, string | undefined>>;
}

export interface ProgramTiming {
  readonly startTimeoutMs: number;
  readonly stopTimeoutMs: number;
  readonly restart: RestartLimits;
}

/** One line of a program's output, without its line end (LOG-55). */
export interface OutputLine {
  readonly text: string;
  /** From standard error. */
  readonly isError: boolean;
  /** When the pipe was read, CLOCK_REALTIME ns (LOG-57). */
  readonly timestamp: bigint;
}

/** What a program tells its host. */
export interface ProgramHooks {
  readonly line: (program: string, line: OutputLine) => void;
  /** A new state, with the reason in words where there is one. */
  readonly state: (program: string, state: ProgramState, detail: string) => void;
}

/** The program ended or was given up before it was ready. */
export class ProgramFailure extends Error {
  override readonly name = 'ProgramFailure';
}

/** EXTEND_TIMEOUT_USEC reaches at most this many times the base timeout (HOST-12). */
const MAX_EXTENSION = 4;

type Outcome = { readonly ok: true } | { readonly ok: false; readonly reason: string };

export class Program {
  #state: ProgramState = 'stopped';
  #child: ChildProcess | null = null;
  #policy: RestartPolicy;
  /** Was it ready once since `start`? Until then a crash is no matter for a restart. */
  #wasReady = false;
  #announcedStop = false;
  /** Why the running incarnation is being killed, for the message after its end. */
  #killedFor: string | null = null;
  /** Why the program is in its state, in words. */
  #lastDetail = 'not started';
  #deadline: {
    readonly since: number;
    readonly baseMs: number;
    readonly reason: string;
    timer: NodeJS.Timeout;
  } | null = null;
  #restartTimer: NodeJS.Timeout | null = null;
  #status = '';
  readonly #waiters = new Set<() => void>();

  constructor(
    readonly spec: ProgramSpec,
    readonly timing: ProgramTiming,
    readonly hooks: ProgramHooks,
  ) {
    this.#policy = new RestartPolicy(timing.restart);
  }

  get state(): ProgramState {
    return this.#state;
  }

  /** The tracked main pid; null while it does not run. */
  get pid(): number | null {
    return this.#child?.pid ?? null;
  }

  /** The last STATUS= text. */
  get status(): string {
    return this.#status;
  }

  /**
   * Starts the program and resolves when it is ready. A program that fails before it was ever ready
   * is not tried again: that is a mistake in its configuration, not a crash.
   * @throws {ProgramFailure}
   */
  async start(): Promise<void> {
    if (this.#state !== 'stopped' && this.#state !== 'failed') return this.ready();
    this.#policy = new RestartPolicy(this.timing.restart);
    this.#wasReady = false;
    this.#spawn();
    return this.ready();
  }

  /**
   * Resolves when the program is ready, also through restarts.
   * @throws {ProgramFailure} once it is stopped or given up
   */
  async ready(): Promise<void> {
    const outcome = await this.#until((): Outcome | null => {
      if (this.#state === 'ready') return { ok: true };
      if (this.#state === 'failed' || this.#state === 'stopped')
        return { ok: false, reason: this.#lastDetail };
      return null;
    });
    if (!outcome.ok) throw new ProgramFailure(`${this.spec.name}: ${outcome.reason}`);
  }

  /** SIGTERM, then SIGKILL to the whole group after the stop timeout; resolves when it is gone. */
  async stop(): Promise<void> {
    if (this.#restartTimer !== null) {
      clearTimeout(this.#restartTimer);
      this.#restartTimer = null;
      this.#enter('stopped', 'stopped while waiting for its restart');
    }
    const child = this.#child;
    if (child === null) return;
    if (this.#state !== 'stopping') {
      const announced = this.#announcedStop;
      this.#enter('stopping', '');
      this.#arm(this.timing.stopTimeoutMs, 'did not stop in time');
      // STOPPING=1 says it is on its way already (HOST-13).
      if (!announced) child.kill('SIGTERM');
    }
    await this.#until(() => (this.#child === child ? null : true));
  }

  /** Sends a signal to the program; false when it does not run. */
  signal(signal: NodeJS.Signals): boolean {
    return this.#child?.kill(signal) ?? false;
  }

  /** SIGKILL to the whole group, as a crash; resolves when this incarnation is gone. */
  async kill(): Promise<void> {
    const child = this.#child;
    if (child === null) return;
    this.#killGroup();
    await this.#until(() => (this.#child === child ? null : true));
  }

  /** Takes a notification; only the tracked main process is listened to (HOST-9). */
  notify(message: NotifyMessage): void {
    if (message.pid !== this.pid) return;
    const { fields } = message;
    this.#status = fields.get('STATUS') ?? this.#status;
    if (fields.get('STOPPING') === '1') this.#announcedStop = true;
    const extension = fields.get('EXTEND_TIMEOUT_USEC');
    if (extension !== undefined && /^\d{1,15}$/.test(extension)) this.#extend(Number(extension) / 1000);
    if (fields.get('READY') === '1') this.#becomeReady();
  }

  #spawn(): void {
    this.#announcedStop = false;
    this.#killedFor = null;
    this.#status = '';
    this.#enter('starting', '');
    // A group of its own: Ctrl-C at the terminal must reach devhost alone, which stops things in order.
    const pipes = [new OutputPipe(), new OutputPipe()] as const;
    const child = spawn(this.spec.command, [...this.spec.args], {
      env: { ...this.spec.env },
      stdio: ['ignore', pipes[0].writeEnd, pipes[1].writeEnd],
      detached: true,
    });
    this.#child = child;
    for (const pipe of pipes) {
      pipe.handedOver();
      this.#passLines(pipe, pipe === pipes[1]);
    }
    let spawnError: string | null = null;
    child.once('error', (error) => {
      spawnError = `cannot be started: ${reasonOf(error)}`;
      if (child.pid === undefined) this.#ended(child, null, null, spawnError);
    });
    child.once('exit', (code, signal) => this.#ended(child, code, signal, spawnError));
    this.#arm(this.timing.startTimeoutMs, 'was not ready in time');
  }

  #becomeReady(): void {
    if (this.#state !== 'starting') return;
    this.#disarm();
    this.#wasReady = true;
    this.#enter('ready', '');
  }

  #ended(
    child: ChildProcess,
    code: number | null,
    signal: NodeJS.Signals | null,
    error: string | null,
  ): void {
    if (this.#child !== child) return;
    this.#child = null;
    this.#disarm();
    const how = error ?? (signal === null ? `ended with exit code ${code}` : `was ended by ${signal}`);
    const detail = this.#killedFor === null ? how : `${this.#killedFor} and was killed`;
    if (this.#state === 'stopping') this.#enter('stopped', this.#killedFor === null ? '' : detail);
    else if (!this.#wasReady) this.#enter('failed', `${detail} before it was ready`);
    else if (code === 0) this.#enter('stopped', detail);
    else this.#crashed(detail);
  }

  #crashed(detail: string): void {
    const delay = this.#policy.crashed(performance.now());
    if (delay === null) {
      this.#enter('failed', `${detail}; too many restarts, given up`);
      return;
    }
    this.#restartTimer = setTimeout(() => {
      this.#restartTimer = null;
      this.#spawn();
    }, delay);
    this.#enter('waiting', `${detail}; restart in ${delay / 1000} s`);
  }

  #killGroup(): void {
    const { pid } = this;
    if (pid === null) return;
    try {
      process.kill(-pid, 'SIGKILL');
    } catch {
      // The group is gone already.
    }
  }

  #arm(baseMs: number, reason: string): void {
    this.#disarm();
    this.#deadline = {
      since: performance.now(),
      baseMs,
      reason,
      timer: setTimeout(() => this.#expired(reason), baseMs),
    };
  }

  /** Replaces the running deadline: `ms` from now, but never past four times the base (HOST-12). */
  #extend(ms: number): void {
    const deadline = this.#deadline;
    if (deadline === null) return;
    clearTimeout(deadline.timer);
    const left = deadline.since + MAX_EXTENSION * deadline.baseMs - performance.now();
    deadline.timer = setTimeout(() => this.#expired(deadline.reason), Math.max(0, Math.min(ms, left)));
  }

  #expired(reason: string): void {
    this.#killedFor = reason;
    this.#killGroup();
  }

  #disarm(): void {
    if (this.#deadline !== null) clearTimeout(this.#deadline.timer);
    this.#deadline = null;
  }

  #enter(state: ProgramState, detail: string): void {
    this.#state = state;
    this.#lastDetail = detail === '' ? state : detail;
    this.hooks.state(this.spec.name, state, detail);
    for (const check of [...this.#waiters]) check();
  }

  /** Waits until `test` gives something; it is asked at every change of state. */
  #until<T>(test: () => T | null): Promise<T> {
    return new Promise((resolve) => {
      const check = () => {
        const result = test();
        if (result === null) return;
        this.#waiters.delete(check);
        resolve(result);
      };
      this.#waiters.add(check);
      check();
    });
  }

  #passLines({ stream }: OutputPipe, isError: boolean): void {
    const splitter = new LineSplitter();
    const pass = (lines: readonly string[]) => {
      const timestamp = native.realtimeNs();
      for (const text of lines) this.hooks.line(this.spec.name, { text, isError, timestamp });
    };
    stream.on('data', (chunk: Buffer) => pass(splitter.push(chunk)));
    stream.once('close', () => pass(splitter.end()));
  }
}
