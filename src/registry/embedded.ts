/**
 * The embedded registry: a hive file kept in memory and watched for changes (HOST-56..63). Reads
 * answer from the last good snapshot; a file that is broken or missing after the start leaves that
 * snapshot in place and makes the registry unavailable until the file is good again.
 */

import { existsSync, type FSWatcher, watch } from 'node:fs';
import { basename, dirname, resolve } from 'node:path';
import { messageOf } from '../host/errorMessage.js';
import type { WarningLog } from '../host/log.js';
import { Availability } from './availability.js';
import { type Hive, type HiveKey, HiveParseError } from './hive.js';
import { diffHives, eventFor, type HiveChange } from './hiveDiff.js';
import { editHive, type FileSignature, hiveSignature, loadHive, sameSignature } from './hiveFile.js';
import { checkValueName, foldName, foldPath } from './names.js';
import type { Registry, RegistryAvailability, RegistryEvent, RegistryWatch } from './registry.js';
import { RegistryError } from './registryError.js';
import type { RegistryData, RegistryValue } from './value.js';
import { WatchQueue } from './watchQueue.js';

/** Editors write in several steps; the file is read when it has been quiet for this long. */
const DEBOUNCE_MS = 50;
/** inotify loses events on some file systems, so the file's signature is compared as well. */
const POLL_MS = 2000;

/**
 * Opens a hive file.
 *
 * @throws an error with a message fit for the operator when the file is missing, unsafe or malformed
 */
export async function openEmbeddedRegistry(file: string, log: WarningLog): Promise<EmbeddedRegistry> {
  const path = resolve(file);
  try {
    const { hive, signature } = await loadHive(path);
    for (const warning of hive.warnings) log.warn(warning);
    return new EmbeddedRegistry(path, hive, signature, log);
  } catch (error) {
    if (error instanceof Error && 'code' in error && error.code === 'ENOENT') {
      throw new RegistryError('ENOENT', `registry file ${path} does not exist`);
    }
    throw error;
  }
}

/** See `openEmbeddedRegistry`. */
export class EmbeddedRegistry implements Registry {
  readonly #watches = new Set<HiveWatch>();
  readonly #availability: Availability;
  #watcher: FSWatcher | null = null;
  #debounce: NodeJS.Timeout | null = null;
  readonly #poll: NodeJS.Timeout;
  #closed = false;
  /** Reads and writes of the file happen one after the other. */
  #turn: Promise<unknown> = Promise.resolve();
  #reload: Promise<void> | null = null;

  /** @internal */
  constructor(
    readonly file: string,
    private hive: Hive,
    private signature: FileSignature | null,
    private readonly log: WarningLog,
  ) {
    this.#availability = new Availability(log);
    this.#observe();
    this.#poll = setInterval(() => void this.#checkSignature(), POLL_MS);
    this.#poll.unref();
  }

  async readValues(key: string): Promise<readonly RegistryValue[]> {
    return [...this.#key(key).values.values()];
  }

  async readValue(key: string, name: string): Promise<RegistryValue> {
    checkValueName(name);
    const value = this.#key(key).values.get(foldName(name));
    if (value === undefined) throw new RegistryError('ENOENT', `no value "${name}" in ${key}`);
    return value;
  }

  async listSubkeys(key: string): Promise<readonly string[]> {
    const parent = this.#key(key);
    const id = foldPath(parent.path);
    const depth = parent.path.length;
    return [...this.hive.keys.values()]
      .filter(({ path }) => path.length === depth + 1 && foldPath(path.slice(0, depth)) === id)
      .map(({ path }) => path.at(-1) ?? '');
  }

  async setValue(
    key: string,
    name: string,
    data: RegistryData,
    options: { readonly onlyIfAbsent?: boolean } = {},
  ): Promise<void> {
    await this.#edit((hive) => {
      if (options.onlyIfAbsent && hive.key(key)?.values.has(foldName(name))) {
        throw new RegistryError('EAGAIN', `value "${name}" in ${key} exists`);
      }
      return hive.withValue(key, name, data);
    });
  }

  async deleteValue(key: string, name: string): Promise<void> {
    await this.#edit((hive) => hive.withoutValue(key, name));
  }

  async createKey(key: string): Promise<'created' | 'existed'> {
    let disposition: 'created' | 'existed' = 'existed';
    await this.#edit((hive) => {
      const edited = hive.withKey(key);
      if (edited !== hive) disposition = 'created';
      return edited;
    });
    return disposition;
  }

  async watch(key: string, notify: () => void): Promise<RegistryWatch> {
    const armed = new HiveWatch(this.#key(key).path, notify, () => this.#watches.delete(armed));
    this.#watches.add(armed);
    return armed;
  }

  async refresh(): Promise<void> {
    await this.#reloadSoon();
    const { reason } = this.#availability;
    if (reason !== null) throw new RegistryError('EIO', reason);
  }

  onAvailability(listener: (state: RegistryAvailability) => void): () => void {
    return this.#availability.onChange(listener);
  }

  async close(): Promise<void> {
    this.#closed = true;
    clearInterval(this.#poll);
    if (this.#debounce !== null) clearTimeout(this.#debounce);
    this.#unobserve();
    for (const armed of [...this.#watches]) armed.close();
    this.#availability.close();
    await this.#turn;
  }

  #key(path: string): HiveKey {
    const key = this.hive.key(path);
    if (key === undefined) throw new RegistryError('ENOENT', `no key ${path}`);
    return key;
  }

  #inTurn<T>(work: () => Promise<T>): Promise<T> {
    const result = this.#turn.then(work);
    this.#turn = result.catch(() => undefined);
    return result;
  }

  async #edit(edit: (hive: Hive) => Hive): Promise<void> {
    await this.#inTurn(async () => {
      try {
        await editHive(this.file, edit);
      } catch (error) {
        if (error instanceof RegistryError) throw error;
        throw new RegistryError(errnoFor(error), messageOf(error));
      }
    });
    await this.#reloadSoon();
  }

  /**
   * Watches the file itself, anew before each reading: one that replaces it is another file. Its directory
   * is watched only while it is missing, for there every write to a neighbour, such as a store, would tell.
   */
  #observe(): void {
    if (this.#closed) return;
    this.#unobserve();
    const isThere = existsSync(this.file);
    try {
      const watcher = watch(isThere ? this.file : dirname(this.file), { persistent: false }, (_, changed) => {
        if (isThere || changed === null || changed === basename(this.file)) this.#schedule();
      });
      watcher.on('error', () => {
        watcher.close();
        if (this.#watcher === watcher) this.#watcher = null;
      });
      this.#watcher = watcher;
    } catch {
      // The directory is gone, or inotify is exhausted: the poll goes on and tries again.
    }
  }

  #unobserve(): void {
    this.#watcher?.close();
    this.#watcher = null;
  }

  #schedule(): void {
    if (this.#closed) return;
    if (this.#debounce !== null) {
      this.#debounce.refresh();
      return;
    }
    this.#debounce = setTimeout(() => {
      this.#debounce = null;
      void this.#reloadSoon();
    }, DEBOUNCE_MS);
    this.#debounce.unref();
  }

  async #checkSignature(): Promise<void> {
    if (this.#watcher === null) this.#observe();
    const now = await hiveSignature(this.file).catch(() => null);
    const same =
      now === null ? this.signature === null : this.signature !== null && sameSignature(now, this.signature);
    if (!same) this.#schedule();
  }

  /** One reload at a time; a request during a running one waits for a fresh one after it. */
  #reloadSoon(): Promise<void> {
    this.#reload ??= this.#inTurn(async () => {
      this.#reload = null;
      if (!this.#closed) await this.#load();
    });
    return this.#reload;
  }

  async #load(): Promise<void> {
    this.#observe();
    const signature = await hiveSignature(this.file).catch(() => null);
    try {
      const loaded = await loadHive(this.file);
      this.signature = loaded.signature;
      this.#adopt(loaded.hive);
    } catch (error) {
      // A mistake inside goes away only with the file; for want of descriptors or for a directory that others
      // may write to, the same file may be good the next time.
      this.signature = error instanceof HiveParseError ? signature : null;
      const missing = error instanceof Error && 'code' in error && error.code === 'ENOENT';
      const reason = missing ? `registry file ${this.file} is missing` : messageOf(error);
      this.#availability.lost(reason, true);
    }
  }

  #adopt(hive: Hive): void {
    const changes = diffHives(this.hive, hive);
    const returned = this.#availability.reason !== null;
    if (changes.length > 0 || returned) for (const warning of hive.warnings) this.log.warn(warning);
    this.hive = hive;
    this.#availability.found();
    for (const armed of [...this.#watches]) armed.deliver(changes, returned);
  }
}

class HiveWatch implements RegistryWatch {
  readonly #queue: WatchQueue;
  #ended = false;

  constructor(
    private readonly watched: readonly string[],
    notify: () => void,
    private readonly closed: () => void,
  ) {
    this.#queue = new WatchQueue(notify);
  }

  deliver(changes: readonly HiveChange[], returned: boolean): void {
    // After a failure what changed is unknown to a watcher on the platform, too: it gets an overflow.
    const told = returned ? changes.filter(({ type }) => type === 'subkeyDeleted') : changes;
    const events: RegistryEvent[] = returned ? [{ type: 'overflow' }] : [];
    for (const change of told) {
      const event = eventFor(change, this.watched);
      if (event === null || (returned && event.type !== 'keyDeleted')) continue;
      events.push(event);
      if (event.type === 'keyDeleted') {
        this.#ended = true;
        this.closed();
        break;
      }
    }
    this.#queue.push(events);
  }

  take(): readonly RegistryEvent[] {
    return this.#queue.take();
  }

  close(): void {
    this.#queue.clear();
    if (this.#ended) return;
    this.#ended = true;
    this.closed();
  }
}

/** Own reads and writes of the file fail with file system errors, which are not the registry's. */
function errnoFor(error: unknown): 'EACCES' | 'EIO' {
  const code = error instanceof Error && 'code' in error ? error.code : undefined;
  return code === 'EACCES' || code === 'EPERM' || code === 'EROFS' ? 'EACCES' : 'EIO';
}
