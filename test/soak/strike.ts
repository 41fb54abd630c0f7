/** Hits eventd at the instant a round asks for. */
import { type FSWatcher, watch } from 'node:fs';
import { setTimeout as pause } from 'node:timers/promises';
import type { EventdEnd, EventdRun } from '../fixtures/eventd.js';
import type { Round } from './plan.js';

/** A file that is never written must not hold up the round. */
const FILE_WAIT_MS = 2500;
const READY_WINDOW_MS = 6;
const RUN_WINDOW_MS = 700;
const SHUTDOWN_WINDOW_MS = 120;

const WAL_FILE = /^shard-\d+\.db-wal$/;
const SHARD_FILE = /^shard-\d+\.db$/;

/** Reports writes to files of a directory. */
export class FileWatch {
  readonly #watcher: FSWatcher;
  #seen: (name: string) => void = () => undefined;

  constructor(directory: string) {
    this.#watcher = watch(directory, (_, name) => {
      if (name !== null) this.#seen(name);
    });
  }

  /** Resolves at the next write to a file of this name; after `FILE_WAIT_MS` without one all the same. */
  next(name: RegExp): Promise<void> {
    return new Promise((resolve) => {
      const timer = setTimeout(resolve, FILE_WAIT_MS);
      this.#seen = (seen) => {
        if (!name.test(seen)) return;
        this.#seen = () => undefined;
        clearTimeout(timer);
        resolve();
      };
    });
  }

  close(): void {
    this.#watcher.close();
  }
}

export interface StrikeWorld {
  readonly files: FileWatch;
  /** ms that starts have taken so far, typically. */
  readonly typicalStartMs: number;
  /** Called once while eventd runs, at a time of its own. */
  readonly meanwhile: () => void;
  /** kill -9 of kmesd, at once. */
  readonly killKmesd: () => void;
  /** So much load that a checkpoint comes soon. */
  readonly flood: () => void;
}

/**
 * Waits for the instant, kills, and resolves to how the process ended: by the kill, or with 0 where it
 * had been asked to stop and was faster. Rejects when it ended otherwise.
 */
export async function strike(run: EventdRun, round: Round, world: StrikeWorld): Promise<EventdEnd> {
  let asked = false;
  const ended = run.exited.then(({ code, signal }) => {
    if (asked && code === 0) return;
    throw new Error(`eventd ended by itself (${code ?? signal}): ${run.stderr.slice(-2000)}`);
  });
  const askToStop = () => {
    asked = true;
    run.kill('SIGTERM');
  };
  await Promise.race([ended, untilInstant(run, round, world, askToStop)]);
  // The kill itself must not look like an end of its own.
  ended.catch(() => undefined);
  run.kill('SIGKILL');
  if (round.kind === 'both') world.killKmesd();
  return run.exited;
}

async function untilInstant(
  run: EventdRun,
  round: Round,
  world: StrikeWorld,
  askToStop: () => void,
): Promise<void> {
  const { kind, instant, checkpointAt } = round;
  if (kind === 'startup') {
    await Promise.race([run.ready, pause(instant * world.typicalStartMs)]);
    return;
  }
  if (kind === 'checkpoint' && checkpointAt === 'start') {
    await world.files.next(SHARD_FILE);
    return;
  }
  await run.ready;
  world.meanwhile();
  switch (kind) {
    case 'ready':
      return pause(instant * READY_WINDOW_MS);
    case 'commit':
      await pause(instant * RUN_WINDOW_MS);
      return world.files.next(WAL_FILE);
    case 'checkpoint':
      if (checkpointAt === 'run') {
        world.flood();
        return world.files.next(SHARD_FILE);
      }
      await pause(instant * RUN_WINDOW_MS);
      askToStop();
      return world.files.next(SHARD_FILE);
    case 'shutdown':
      await pause(instant * RUN_WINDOW_MS);
      askToStop();
      return pause(instant * SHUTDOWN_WINDOW_MS);
    default:
      return pause(instant * RUN_WINDOW_MS);
  }
}
