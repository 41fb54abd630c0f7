/**
 * Whether the kernel's registry answers, and which of its keys alone do not (HOST-38, HOST-47). What does not
 * answer is looked for from here: the kernel says itself when its registry is back (HOST-43), but after a
 * time-out, say, it need not, and of a single key it says nothing at all.
 */
import type { WarningLog } from '../host/log.js';
import { Availability } from './availability.js';
import type { RegistryAvailability } from './registry.js';
import { LONGEST_PAUSE_MS, RetryPause } from './retryPause.js';

/** What it needs of the registry. */
export interface LcsHost {
  /** Paths of the keys that are watched. */
  watched(): readonly string[];
  /** Asks the kernel about a key, which comes back as `answered` or `silent`; never rejects. */
  ask(path: string): Promise<void>;
  /** Whoever watches has to read everything again. */
  readAgain(): void;
}

/** Beyond so many, keys that fail are no longer told from a registry that does. */
const MAX_BROKEN = 64;

/** Of the keys that answered last so many are remembered: one of them may be the next to fail. */
const WITNESSES = 2;

/** A key that fails while others answer. */
interface BrokenKey {
  /** By the last call about it. */
  answers: boolean;
  /** Somebody was refused after everything was read again: nothing else would make him ask. */
  missed: boolean;
}

export class LcsAvailability {
  readonly #state: Availability;
  readonly #pause = new RetryPause();
  /** By path. A key stays for one pause at least, so that one that comes and goes is not news each time. */
  readonly #broken = new Map<string, BrokenKey>();
  /** Paths of keys that answered last, newest first: they tell a key that fails from a registry that does. */
  #witnesses: readonly string[] = [];
  /** The key whose silence made the registry unavailable; null when it was something else. */
  #lostBy: string | null = null;
  #timer: NodeJS.Timeout | null = null;
  #looking = false;
  #closed = false;

  constructor(
    log: WarningLog,
    private readonly host: LcsHost,
  ) {
    this.#state = new Availability(log);
  }

  onChange(listener: (state: RegistryAvailability) => void): () => void {
    return this.#state.onChange(listener);
  }

  /** The kernel has said something about this key, if only that there is none. */
  answered(path: string): void {
    const broken = this.#broken.get(path);
    if (broken !== undefined) broken.answers = true;
    else if (this.#witnesses[0] !== path)
      this.#witnesses = [path, ...this.#witnesses.filter((other) => other !== path)].slice(0, WITNESSES);
    if (this.#closed || this.#state.reason === null) return;
    // It may be that key alone; where all of it was gone, the key is found to answer again.
    if (this.#lostBy !== null && this.#lostBy !== path && this.#broken.size < MAX_BROKEN)
      this.#broken.set(this.#lostBy, { answers: false, missed: false });
    this.#state.found();
    this.#pause.succeeded();
    this.#plan();
    // What was asked for meanwhile was not answered, and what changed may not have been told (HOST-47).
    this.host.readAgain();
  }

  /** No answer came about this key. */
  silent(path: string, reason: string): void {
    const broken = this.#broken.get(path);
    if (broken === undefined) {
      this.#lost(reason, path);
      return;
    }
    broken.answers = false;
    broken.missed = true;
  }

  /** A watch can no longer be read. */
  watchFailed(reason: string): void {
    this.#lost(reason, null);
  }

  /** Looks for nothing and tells nobody any more. */
  close(): void {
    this.#closed = true;
    this.#plan();
    this.#state.close();
  }

  #lost(reason: string, path: string | null): void {
    if (this.#closed) return;
    // Before the first watch nothing has been read that could stay in force.
    if (!this.#state.lost(reason, this.host.watched().length > 0)) return;
    this.#lostBy = path;
    this.#pause.failed();
    this.#plan();
  }

  /** Makes the next look at what does not answer, if there is such. */
  #plan(): void {
    if (this.#timer !== null) clearTimeout(this.#timer);
    this.#timer = null;
    if (this.#closed || this.#looking) return;
    const isLost = this.#state.reason !== null;
    const paths = isLost ? this.#telling() : [...this.#broken.keys()];
    if (paths.length === 0) return;
    // Who fails alone shows only beside one that answers; and where nobody else asks, the end of all does, too.
    const witness = this.#witnesses.find((path) => path !== this.#lostBy && !this.#broken.has(path));
    if (witness !== undefined && !paths.includes(witness)) paths.push(witness);
    const pauseMs = isLost ? this.#pause.next() : LONGEST_PAUSE_MS;
    this.#timer = setTimeout(() => void this.#look(paths), pauseMs).unref();
  }

  /** The key whose answer shows that the registry is back: a watched one, unless that fails by itself. */
  #telling(): string[] {
    const [path = this.#lostBy] = this.host.watched().filter((watched) => !this.#broken.has(watched));
    return path === null ? [] : [path];
  }

  async #look(paths: readonly string[]): Promise<void> {
    this.#looking = true;
    for (const path of paths) await this.host.ask(path);
    this.#looking = false;
    this.#forgetHealed();
    this.#plan();
  }

  #forgetHealed(): void {
    const healed = [...this.#broken].filter(([, { answers }]) => answers);
    for (const [path] of healed) this.#broken.delete(path);
    if (!this.#closed && healed.some(([, { missed }]) => missed)) this.host.readAgain();
  }
}
