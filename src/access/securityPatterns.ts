/**
 * Which security descriptor governs an identifier: patterns of the registry, the most specific first
 * (ACL-5..12), kept across queries and given up as soon as the registry tells of a change (ACL-45..48).
 */
import { messageOf } from '../host/errorMessage.js';
import type { WarningLog } from '../host/log.js';
import { foldName, foldPath, MAX_NAME_BYTES, SECURITY_KEY } from '../registry/names.js';
import type { Registry, RegistryEvent } from '../registry/registry.js';
import { RegistryError } from '../registry/registryError.js';
import { REG, type RegistryValue } from '../registry/value.js';
import { type StoredDescriptor, storedDescriptor } from './caller.js';
import type { DataType } from './fieldLists.js';
import { SecurityDescriptorError } from './securityDescriptor.js';

/** What governs an identifier. A null descriptor denies (ACL-9, ACL-12, ACL-48). */
export interface Governing {
  readonly pattern: string | null;
  readonly descriptor: StoredDescriptor | null;
}

/** Everything known about one data type at one moment; never changes. */
export interface PatternView {
  governing(identifier: string): Governing;
  /** Everything that can govern an identifier; denials without a descriptor included. */
  readonly all: readonly Governing[];
}

/** The registry key of a data type below `Security`. */
export const SECURITY_KEYS: Readonly<Record<DataType, string>> = {
  events: `${SECURITY_KEY}\\Events`,
  logs: `${SECURITY_KEY}\\Logs`,
  metrics: `${SECURITY_KEY}\\Metrics`,
};

const DATA_TYPES = ['events', 'logs', 'metrics'] as const satisfies readonly DataType[];
const EVERYTHING = '*';
const DENIED: Governing = { pattern: null, descriptor: null };

/** Identifiers whose pattern is remembered per view; senders choose them. */
const MAX_RESOLVED = 8192;
/** A change during every one of these reads leaves what changed denied until the next query. */
const MAX_READS = 3;

/** 'stale': it changed and has not been read again. */
type Entry = Governing | 'stale';

class View implements PatternView {
  readonly #resolved = new Map<string, Governing>();

  constructor(readonly entries: ReadonlyMap<string, Entry>) {}

  get all(): readonly Governing[] {
    const standard = this.entries.get(EVERYTHING);
    if (standard === undefined || standard === 'stale') return [DENIED];
    return [...this.entries.values()].map((entry) => (entry === 'stale' ? DENIED : entry));
  }

  governing(identifier: string): Governing {
    const known = this.#resolved.get(identifier);
    if (known !== undefined) return known;
    const found = this.#resolve(identifier);
    if (identifier.length > MAX_NAME_BYTES) return found;
    if (this.#resolved.size >= MAX_RESOLVED) this.#resolved.clear();
    this.#resolved.set(identifier, found);
    return found;
  }

  #resolve(identifier: string): Governing {
    const standard = this.entries.get(EVERYTHING);
    // Without `*` nothing may be read, narrower patterns or not (ACL-12).
    if (standard === undefined || standard === 'stale') return DENIED;
    for (const name of candidates(identifier)) {
      const entry = this.entries.get(foldName(name));
      if (entry !== undefined) return entry === 'stale' ? DENIED : entry;
    }
    return standard;
  }

  /** The same with these values, or all of them, to be read again. */
  without(names: ReadonlySet<string> | 'all'): View {
    const entries = new Map(this.entries);
    if (names === 'all') return new View(new Map());
    // A value that appeared may be narrower than what governed so far.
    for (const name of names) entries.set(name, 'stale');
    return new View(entries);
  }
}

/**
 * The identifier, then each prefix that ends before a dot, longest first (ACL-6, ACL-7), as far as they
 * can be names of values at all (ACL-11).
 */
function* candidates(identifier: string): Generator<string> {
  // A character is at least one byte, so longer prefixes are out of the question.
  let name = identifier;
  if (name.length > MAX_NAME_BYTES) name = name.slice(0, Math.max(0, name.lastIndexOf('.', MAX_NAME_BYTES)));
  while (name !== '') {
    if (!name.includes('\0') && Buffer.byteLength(name) <= MAX_NAME_BYTES) yield name;
    name = name.slice(0, Math.max(0, name.lastIndexOf('.')));
  }
}

/** The patterns of all data types, over one registry. */
export class SecurityPatterns {
  readonly #views = new Map<DataType, View>();
  readonly #stale = new Set<DataType>(DATA_TYPES);
  /** Still stale behind a refresh: whoever saw them denied is told when they have been read. */
  readonly #owed = new Set<DataType>();
  /** The last refresh met a registry that does not answer, or a key that cannot be read: asking again waits for a change. */
  #isAway = false;
  readonly #reported = new Map<DataType, string>();
  #generation = 0;
  #refreshing: Promise<void> | null = null;
  readonly #listeners = new Set<() => void>();

  /** Nothing is read yet: everything is denied until the first `refresh`. */
  constructor(
    private readonly registry: Pick<Registry, 'readValues'>,
    private readonly log: WarningLog,
  ) {}

  /** Grows with every change; equal numbers mean equal answers of `view`. */
  get generation(): number {
    return this.#generation;
  }

  /** Something changed and has not been read, though the registry answers: `refresh` has something to do. */
  get isUnread(): boolean {
    return this.#stale.size > 0 && !this.#isAway;
  }

  /**
   * Calls back with every change that is told of, maybe several times for one edit, and when one that
   * could not be read has been read after all: who waits for nothing else, such as a stream, would not ask.
   * Returns the end of it.
   */
  onChange(listener: () => void): () => void {
    this.#listeners.add(listener);
    return () => void this.#listeners.delete(listener);
  }

  /** What holds now. Later changes do not reach it. */
  view(type: DataType): PatternView {
    return this.#views.get(type) ?? EMPTY;
  }

  /**
   * Takes the events of a watch on `Machine\System\eventd` (HOST-44) or on a key above or below it.
   * What they name is denied from this moment until it is read again, which `refresh` does (ACL-46).
   *
   * @param watched path of the key the watch was armed on
   */
  apply(events: readonly RegistryEvent[], watched: string): void {
    for (const event of events) {
      // A lost event could have been about anything (HOST-43).
      if (event.type === 'overflow' || event.type === 'keyDeleted') {
        this.invalidate();
        return;
      }
      this.#changed(event, watched);
    }
  }

  /** Gives up everything, as after lost events. */
  invalidate(): void {
    for (const type of DATA_TYPES) this.#give(type, 'all');
  }

  #changed(event: Exclude<RegistryEvent, { type: 'overflow' | 'keyDeleted' }>, watched: string): void {
    const key = foldPath([...watched.split(/[\\/]/), ...event.path]);
    if (event.type === 'subkeyCreated' || event.type === 'subkeyDeleted') {
      const subkey = `${key}\\${foldName(event.name)}`;
      for (const type of DATA_TYPES) {
        if (isAtOrAbove(subkey, foldName(SECURITY_KEYS[type]))) this.#give(type, 'all');
      }
      return;
    }
    const type = DATA_TYPES.find((candidate) => foldName(SECURITY_KEYS[candidate]) === key);
    if (type !== undefined) this.#give(type, new Set([foldName(event.name)]));
  }

  #give(type: DataType, names: ReadonlySet<string> | 'all'): void {
    this.#generation++;
    this.#stale.add(type);
    const view = this.#views.get(type);
    if (view !== undefined) this.#views.set(type, view.without(names));
    this.#tell();
  }

  #tell(): void {
    for (const listener of [...this.#listeners]) listener();
  }

  /**
   * Reads again what has changed. Never fails: while the registry is away, what was read stays and what
   * changed is denied (ACL-48, HOST-47). Call it before every query; it costs nothing when all is known.
   */
  refresh(): Promise<void> {
    if (this.#stale.size === 0) return Promise.resolve();
    this.#refreshing ??= this.#readStale().finally(() => {
      this.#refreshing = null;
    });
    return this.#refreshing;
  }

  async #readStale(): Promise<void> {
    this.#isAway = !(await this.#answered());
    for (const type of this.#stale) this.#owed.add(type);
  }

  async #answered(): Promise<boolean> {
    let answered = true;
    for (let round = 0; answered && round < MAX_READS && this.#stale.size > 0; round++) {
      for (const type of [...this.#stale]) {
        const failure = await this.#read(type);
        if (failure === null) continue;
        // Each key may take half a minute not to answer; one that fails at once says nothing of the others.
        if (failure === 'ETIMEDOUT') return false;
        answered = false;
      }
    }
    return answered;
  }

  /** The code of the failure when the key could not be read; null otherwise. */
  async #read(type: DataType): Promise<string | null> {
    this.#stale.delete(type);
    let values: readonly RegistryValue[];
    try {
      values = await this.registry.readValues(SECURITY_KEYS[type]);
    } catch (error) {
      if (!(error instanceof RegistryError && error.code === 'ENOENT')) {
        this.#stale.add(type);
        this.#report(type, `cannot read ${SECURITY_KEYS[type]}: ${messageOf(error)}`);
        return error instanceof RegistryError ? error.code : 'EIO';
      }
      values = [];
    }
    // It changed while it was read: what was read may be older than the change.
    if (this.#stale.has(type)) return null;
    const previous = this.#views.get(type);
    this.#views.set(type, this.#viewOf(type, values, previous));
    this.#generation++;
    if (this.#owed.delete(type)) this.#tell();
    return null;
  }

  #viewOf(type: DataType, values: readonly RegistryValue[], previous: View | undefined): View {
    const entries = new Map<string, Entry>();
    const problems: string[] = [];
    for (const value of values) {
      // The unnamed value is no pattern (ACL-11).
      if (value.name === '') continue;
      const folded = foldName(value.name);
      const before = previous?.entries.get(folded);
      const same =
        before !== undefined &&
        before !== 'stale' &&
        value.type === REG.BINARY &&
        before.descriptor !== null &&
        Buffer.compare(before.descriptor.bytes, value.data) === 0;
      entries.set(folded, same ? before : governingOf(value, problems));
    }
    if (!entries.has(EVERYTHING)) problems.unshift('there is no "*", so all of it is denied');
    this.#report(type, problems.length === 0 ? '' : `${SECURITY_KEYS[type]}: ${problems.join('; ')}`);
    return new View(entries);
  }

  /** Each state of affairs is told once. */
  #report(type: DataType, problem: string): void {
    if ((this.#reported.get(type) ?? '') === problem) return;
    this.#reported.set(type, problem);
    if (problem !== '') this.log.warn(problem.slice(0, MAX_REPORT));
  }
}

const EMPTY: PatternView = { governing: () => DENIED, all: [DENIED] };
const MAX_REPORT = 1000;

/** A wrong type or malformed bytes deny; a broader pattern does not step in (ACL-9). */
function governingOf(value: RegistryValue, problems: string[]): Governing {
  const denied: Governing = { pattern: value.name, descriptor: null };
  if (value.type !== REG.BINARY) {
    problems.push(`"${value.name}" is not REG_BINARY, so it denies`);
    return denied;
  }
  try {
    return { pattern: value.name, descriptor: storedDescriptor(value.data) };
  } catch (error) {
    if (!(error instanceof SecurityDescriptorError)) throw error;
    problems.push(`"${value.name}" denies: ${error.message}`);
    return denied;
  }
}

function isAtOrAbove(key: string, other: string): boolean {
  return other === key || other.startsWith(`${key}\\`);
}
