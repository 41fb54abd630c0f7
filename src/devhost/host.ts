/**
 * The development host as a library: a data directory, kmesd and eventd, started, watched and
 * stopped as peinit would. The program `devhost` and the integration tests are made of it.
 *
 * @example
 * const host = new DevHost({ dir: '/tmp/try' });
 * await host.start();
 * for await (const record of query(host.paths.querySocket, 'EVENTS TAKE 5')) console.log(record.fields);
 * await host.stop();
 */
import { closeSync, openSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { native } from '../native/addon.js';
import { LogSender } from '../wire/recordSender.js';
import {
  DevHostError,
  type HostPaths,
  layoutOf,
  makeDirectories,
  reasonOf,
  SERVICE_TIMEOUTS,
  type SeedSettings,
  seedHive,
  writeSeedHive,
} from './layout.js';
import { NotifyReceiver } from './notifyReceiver.js';
import { type OutputLine, Program, type ProgramSpec, type ProgramState } from './program.js';
import { DEFAULT_RESTART_LIMITS, type RestartLimits } from './restartPolicy.js';

export type ProgramName = 'kmesd' | 'eventd';

/** Start order; stopping goes the other way. */
export const PROGRAMS: readonly ProgramName[] = ['kmesd', 'eventd'];

/** Path of the script that runs a program instead of the built one. */
export type ProgramScripts = Readonly<Partial<Record<ProgramName, string>>>;

export interface DevHostOptions {
  /** The data directory; made if absent. */
  readonly dir: string;
  /** Rings of kmesd, and bytes of each. */
  readonly cpus?: number;
  readonly capacity?: number;
  /** Read /dev/kmsg, report processes; both true by default. */
  readonly kmsg?: boolean;
  readonly process?: boolean;
  /** More or other values for a seed hive that is yet to be written. */
  readonly settings?: SeedSettings;
  /** Environment of the programs and the place of short socket directories; default process.env. */
  readonly env?: Readonly<Record<string, string | undefined>>;
  /** Scripts run by Node in place of dist/bin/*.js. */
  readonly scripts?: ProgramScripts;
  readonly startTimeoutMs?: number;
  readonly stopTimeoutMs?: number;
  readonly restart?: RestartLimits;
  /** One line of output of a program; it also goes into the log store. */
  readonly onLine?: (program: ProgramName, line: OutputLine) => void;
  /** A program changed its state. */
  readonly onState?: (program: ProgramName, state: ProgramState, detail: string) => void;
}

/** How the host ended without being asked to: a program ended by itself, or was given up. */
export interface HostEnd {
  readonly program: ProgramName;
  readonly ok: boolean;
  readonly detail: string;
}

const BUILT: Readonly<Record<ProgramName, string>> = {
  kmesd: fileURLToPath(new URL('../../bin/kmesd.js', import.meta.url)),
  eventd: fileURLToPath(new URL('../../bin/eventd.js', import.meta.url)),
};

export class DevHost {
  readonly paths: HostPaths;
  /** Resolves when a program ended by itself or was given up; the others still run then. */
  readonly ended: Promise<HostEnd>;
  readonly #options: DevHostOptions;
  readonly #programs: Readonly<Record<ProgramName, Program>>;
  readonly #uid: number;
  readonly #end: (end: HostEnd) => void;
  /** What the programs print, on its way into the log store (LOG-64, LOG-67, LOG-69, LOG-70). */
  readonly #logs: LogSender;
  #receiver: NotifyReceiver | null = null;
  #lock: number | null = null;
  #seeded = false;
  /** Programs being stopped or started on request: their end is no news. */
  readonly #requested = new Set<ProgramName>();

  constructor(options: DevHostOptions) {
    this.#options = options;
    this.#uid = process.getuid?.() ?? 0;
    const env = options.env ?? process.env;
    this.paths = layoutOf(options.dir, env, this.#uid);
    let end: (end: HostEnd) => void = () => undefined;
    this.ended = new Promise((resolve) => {
      end = resolve;
    });
    this.#end = end;
    this.#logs = new LogSender({ path: this.paths.logSocket });
    this.#logs.hold();
    this.#programs = { kmesd: this.#program('kmesd'), eventd: this.#program('eventd') };
  }

  /** Did this start write the seed hive? */
  get seeded(): boolean {
    return this.#seeded;
  }

  /** Lines of output that the log store never got: its buffer was full while eventd was away. */
  get droppedLines(): number {
    return this.#logs.dropped;
  }

  state(name: ProgramName): ProgramState {
    return this.#programs[name].state;
  }

  /** What the program last said of itself (STATUS=). */
  status(name: ProgramName): string {
    return this.#programs[name].status;
  }

  pid(name: ProgramName): number | null {
    return this.#programs[name].pid;
  }

  /**
   * Makes what is missing in the data directory, starts kmesd and eventd and resolves when both are
   * ready. On failure everything started is stopped again.
   * @throws {DevHostError | ProgramFailure}
   */
  async start(): Promise<void> {
    this.prepare();
    try {
      for (const name of PROGRAMS) await this.startProgram(name);
    } catch (error) {
      await this.stop();
      throw error;
    }
  }

  /**
   * The directory, its lock, the seed hive and the notification socket, without any program. Part of `start`.
   * @throws {DevHostError}
   */
  prepare(): void {
    if (this.#receiver !== null) return;
    const { paths } = this;
    makeDirectories(paths, this.#uid);
    this.#takeLock();
    try {
      this.#seeded = writeSeedHive(paths.hive, seedHive(paths, this.#uid, this.#options.settings));
      this.#receiver = new NotifyReceiver(paths.notifySocket, (message) => {
        for (const name of PROGRAMS) this.#programs[name].notify(message);
      });
    } catch (error) {
      this.#dropLock();
      throw error instanceof DevHostError
        ? error
        : new DevHostError(`${paths.notifySocket}: ${reasonOf(error)}`);
    }
  }

  /** Stops eventd, then kmesd, and releases the directory. Safe twice. */
  async stop(): Promise<void> {
    for (const name of [...PROGRAMS].reverse()) await this.stopProgram(name);
    this.#receiver?.close();
    this.#receiver = null;
    this.#dropLock();
  }

  /** Starts one program and resolves when it is ready. */
  async startProgram(name: ProgramName): Promise<void> {
    this.prepare();
    this.#requested.add(name);
    try {
      await this.#programs[name].start();
    } finally {
      this.#requested.delete(name);
    }
  }

  /** Stops one program the graceful way, bounded by the stop timeout. */
  async stopProgram(name: ProgramName): Promise<void> {
    this.#requested.add(name);
    try {
      await this.#programs[name].stop();
    } finally {
      this.#requested.delete(name);
    }
  }

  async restartProgram(name: ProgramName): Promise<void> {
    await this.stopProgram(name);
    await this.startProgram(name);
  }

  /** kill -9: the program is gone when this resolves, and its restart is on the way. */
  kill(name: ProgramName): Promise<void> {
    return this.#programs[name].kill();
  }

  /** Sends a signal; false when the program does not run. */
  signal(name: ProgramName, signal: NodeJS.Signals): boolean {
    return this.#programs[name].signal(signal);
  }

  /** Resolves when the program is ready, also through restarts. */
  ready(name: ProgramName): Promise<void> {
    return this.#programs[name].ready();
  }

  #program(name: ProgramName): Program {
    const options = this.#options;
    return new Program(
      this.#spec(name),
      {
        startTimeoutMs: options.startTimeoutMs ?? SERVICE_TIMEOUTS.start * 1000,
        stopTimeoutMs: options.stopTimeoutMs ?? SERVICE_TIMEOUTS.stop * 1000,
        restart: options.restart ?? DEFAULT_RESTART_LIMITS,
      },
      {
        line: (_, line) => {
          this.#logs.log(line.text, { ...line, origin: name });
          options.onLine?.(name, line);
        },
        state: (_, state, detail) => {
          if (name === 'eventd') this.#handOff(state);
          options.onState?.(name, state, detail);
          if (this.#requested.has(name)) return;
          if (state === 'failed' || state === 'stopped')
            this.#end({ program: name, ok: state === 'stopped', detail });
        },
      },
    );
  }

  /** Lines go to eventd from READY=1 on, while it takes its leave too; otherwise they wait (LOG-64, LOG-70). */
  #handOff(state: ProgramState): void {
    if (state === 'ready') this.#logs.release();
    else if (state !== 'stopping') this.#logs.hold();
  }

  #spec(name: ProgramName): ProgramSpec {
    const { paths } = this;
    return {
      name,
      command: process.execPath,
      args: [
        this.#options.scripts?.[name] ?? BUILT[name],
        ...(name === 'kmesd' ? this.#kmesdArguments() : []),
      ],
      env: {
        ...(this.#options.env ?? process.env),
        NOTIFY_SOCKET: paths.notifySocket,
        EVENTD_REGISTRY: paths.hive,
        EVENTD_KMES_DIR: paths.kmes,
      },
    };
  }

  #kmesdArguments(): string[] {
    const { cpus, capacity, kmsg, process: processes } = this.#options;
    return [
      ...(cpus === undefined ? [] : ['--cpus', String(cpus)]),
      ...(capacity === undefined ? [] : ['--capacity', String(capacity)]),
      ...(kmsg === false ? ['--no-kmsg'] : []),
      ...(processes === false ? ['--no-process'] : []),
      // Only root and admin groups may emit; on the own machine the own group may.
      ...(this.#uid === 0 ? [] : ['--admin-group', String(process.getgid?.() ?? 0)]),
    ];
  }

  #takeLock(): void {
    const { lock, dir } = this.paths;
    let fd: number;
    try {
      fd = openSync(lock, 'a', 0o600);
    } catch (error) {
      throw new DevHostError(`${lock}: ${reasonOf(error)}`);
    }
    if (!native.lockFile(fd)) {
      closeSync(fd);
      throw new DevHostError(`${dir}: another devhost works here`);
    }
    this.#lock = fd;
  }

  #dropLock(): void {
    if (this.#lock !== null) closeSync(this.#lock);
    this.#lock = null;
  }
}
