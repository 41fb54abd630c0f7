/**
 * The registry of the Peios kernel, LCS (HOST-27..47): every read goes to the kernel, every watch is a
 * descriptor of its own. Calls are made one after the other, off this thread, because each may hang for
 * half a minute.
 */

import { closeSync } from 'node:fs';
import { messageOf } from '../host/errorMessage.js';
import type { WarningLog } from '../host/log.js';
import { type LcsCalls, type LcsRecord, type NativeAddon, native } from '../native/addon.js';
import { LcsAvailability } from './lcsAvailability.js';
import { checkValueName, foldName, MAX_VALUE_BYTES, splitKeyPath } from './names.js';
import type { Registry, RegistryAvailability, RegistryEvent, RegistryWatch } from './registry.js';
import { RegistryError, type RegistryErrorCode } from './registryError.js';
import { RetryPause } from './retryPause.js';
import type { RegistryData, RegistryValue } from './value.js';
import { WatchQueue } from './watchQueue.js';

/** What messages call it. */
export const LCS_NAME = 'the registry of the kernel (LCS)';

type Calls = LcsCalls & Pick<NativeAddon, 'watchReadable'>;

const CODES: ReadonlySet<string> = new Set<RegistryErrorCode>([
  'ENOENT',
  'EACCES',
  'EIO',
  'EINVAL',
  'ENAMETOOLONG',
  'ENOSPC',
  'EAGAIN',
  'ETIMEDOUT',
]);

/** Types of watch records (HOST-42). */
const CHANGE = {
  valueSet: 1,
  valueDeleted: 2,
  subkeyCreated: 3,
  subkeyDeleted: 4,
  descriptorChanged: 5,
  keyDeleted: 6,
} as const;

/** See the head of this file. Opening it asks the kernel nothing. */
export class LcsRegistry implements Registry {
  readonly #watches = new Set<LcsWatch>();
  readonly #availability: LcsAvailability;
  #turn: Promise<unknown> = Promise.resolve();
  #closed = false;

  constructor(
    log: WarningLog,
    private readonly calls: Calls = native,
  ) {
    this.#availability = new LcsAvailability(log, {
      watched: () => [...this.#watches].map(({ key }) => pathOf(key)),
      ask: async (path) => void (await this.readValues(path).catch(() => undefined)),
      readAgain: () => {
        for (const armed of [...this.#watches]) armed.deliver([{ type: 'overflow' }]);
      },
    });
  }

  async readValues(key: string): Promise<readonly RegistryValue[]> {
    const path = pathOf(key);
    return this.#ask(path, `key ${key}`, () => this.calls.lcsReadValues(path));
  }

  async readValue(key: string, name: string): Promise<RegistryValue> {
    checkValueName(name);
    const path = pathOf(key);
    return this.#ask(path, valueIn(key, name), () => this.calls.lcsReadValue(path, name));
  }

  async listSubkeys(key: string): Promise<readonly string[]> {
    const path = pathOf(key);
    const names = await this.#ask(path, `key ${key}`, () => this.calls.lcsListSubkeys(path));
    // Keys that come and go meanwhile shift the others (HOST-37).
    return [...new Map(names.map((name) => [foldName(name), name])).values()];
  }

  /**
   * LCS knows no write on condition that a value is absent, so `onlyIfAbsent` looks first: somebody who
   * creates it in that same moment is overwritten.
   */
  async setValue(
    key: string,
    name: string,
    data: RegistryData,
    options: { readonly onlyIfAbsent?: boolean } = {},
  ): Promise<void> {
    checkValueName(name);
    if (data.data.length > MAX_VALUE_BYTES)
      throw new RegistryError('ENOSPC', `value exceeds ${MAX_VALUE_BYTES} bytes`);
    if (options.onlyIfAbsent && (await this.#has(key, name)))
      throw new RegistryError('EAGAIN', `value "${name}" in ${key} exists`);
    const path = pathOf(key);
    await this.#ask(path, `key ${key}`, () => this.calls.lcsSetValue(path, name, data.type, data.data));
  }

  async deleteValue(key: string, name: string): Promise<void> {
    checkValueName(name);
    const path = pathOf(key);
    await this.#ask(path, valueIn(key, name), () => this.calls.lcsDeleteValue(path, name));
  }

  async createKey(key: string): Promise<'created' | 'existed'> {
    const path = pathOf(key);
    return (await this.#ask(path, `key ${key}`, () => this.calls.lcsCreateKey(path))) ? 'created' : 'existed';
  }

  async watch(key: string, notify: () => void): Promise<RegistryWatch> {
    const armed = new LcsWatch(key, notify, {
      arm: () => this.#arm(key),
      watchReadable: (fd, callback) => this.calls.watchReadable(fd, callback),
      read: (fd) => this.calls.lcsReadWatch(fd),
      failed: (reason) => this.#availability.watchFailed(reason),
      closed: () => this.#watches.delete(armed),
    });
    await armed.start();
    this.#watches.add(armed);
    return armed;
  }

  /** Reads are never older than the kernel's answer, so there is nothing to bring up to date. */
  async refresh(): Promise<void> {}

  onAvailability(listener: (state: RegistryAvailability) => void): () => void {
    return this.#availability.onChange(listener);
  }

  /** Does not wait for a call that hangs. */
  async close(): Promise<void> {
    this.#closed = true;
    this.#availability.close();
    for (const armed of [...this.#watches]) armed.close();
  }

  async #has(key: string, name: string): Promise<boolean> {
    try {
      await this.readValue(key, name);
      return true;
    } catch (error) {
      if (error instanceof RegistryError && error.code === 'ENOENT') return false;
      throw error;
    }
  }

  async #arm(key: string): Promise<number> {
    const path = pathOf(key);
    const fd = await this.#ask(path, `key ${key}`, () => this.calls.lcsWatch(path));
    if (!this.#closed) return fd;
    closeSync(fd);
    throw new RegistryError('EIO', 'the registry was closed');
  }

  /** @param what does not exist when the kernel says ENOENT */
  #ask<T>(path: string, what: string, call: () => Promise<T>): Promise<T> {
    const answer = this.#turn.then(async () => {
      if (this.#closed) throw new RegistryError('EIO', 'the registry was closed');
      try {
        const result = await call();
        this.#availability.answered(path);
        return result;
      } catch (error) {
        const failure = registryErrorOf(error, what);
        // An answer eventd cannot use is an answer: only these two mean that there is none.
        if (isAway(error)) this.#availability.silent(path, failure.message);
        else this.#availability.answered(path);
        throw failure;
      }
    });
    this.#turn = answer.catch(() => undefined);
    return answer;
  }
}

/** What a watch needs of its registry. */
interface WatchHost {
  arm(): Promise<number>;
  watchReadable(fd: number, callback: () => void): () => void;
  read(fd: number): readonly LcsRecord[];
  failed(reason: string): void;
  closed(): void;
}

/** A descriptor that breaks is replaced behind the user's back, who then gets an overflow. */
class LcsWatch implements RegistryWatch {
  readonly #queue: WatchQueue;
  #fd: number | null = null;
  #stop: () => void = () => undefined;
  #ended = false;
  readonly #pause = new RetryPause();

  constructor(
    readonly key: string,
    notify: () => void,
    private readonly host: WatchHost,
  ) {
    this.#queue = new WatchQueue(notify);
  }

  async start(): Promise<void> {
    const fd = await this.host.arm();
    if (this.#ended) {
      closeSync(fd);
      return;
    }
    this.#fd = fd;
    try {
      this.#stop = this.host.watchReadable(fd, () => this.#read(fd));
    } catch (error) {
      this.#release();
      throw error;
    }
  }

  deliver(events: readonly RegistryEvent[]): void {
    if (this.#ended) return;
    if (events.some(({ type }) => type === 'keyDeleted')) this.#end();
    this.#queue.push(events);
  }

  take(): readonly RegistryEvent[] {
    return this.#queue.take();
  }

  close(): void {
    this.#queue.clear();
    if (!this.#ended) this.#end();
  }

  #read(fd: number): void {
    let records: readonly LcsRecord[];
    try {
      records = this.host.read(fd);
    } catch (error) {
      this.#release();
      this.host.failed(messageOf(error));
      this.#pause.failed();
      this.#startAgain();
      return;
    }
    this.deliver(eventsOf(records));
  }

  #startAgain(): void {
    setTimeout(async () => {
      if (this.#ended) return;
      try {
        await this.start();
        this.#pause.succeeded();
        this.deliver([{ type: 'overflow' }]);
      } catch (error) {
        if (error instanceof RegistryError && error.code === 'ENOENT') this.deliver([{ type: 'keyDeleted' }]);
        else this.#startAgain();
      }
    }, this.#pause.next()).unref();
  }

  #release(): void {
    this.#stop();
    if (this.#fd !== null) closeSync(this.#fd);
    this.#fd = null;
    this.#stop = () => undefined;
  }

  #end(): void {
    this.#ended = true;
    this.#release();
    this.host.closed();
  }
}

/** Watch records in the terms of the port; everything behind the watched key's end is none of its business. */
function eventsOf(records: readonly LcsRecord[]): readonly RegistryEvent[] {
  const events: RegistryEvent[] = [];
  for (const record of records) {
    const event = eventOf(record);
    if (event !== null) events.push(event);
    if (event?.type === 'keyDeleted') break;
  }
  return events;
}

function eventOf({ type, path, name }: LcsRecord): RegistryEvent | null {
  switch (type) {
    case CHANGE.valueSet:
      return { type: 'valueSet', path, name };
    case CHANGE.valueDeleted:
      return { type: 'valueDeleted', path, name };
    case CHANGE.subkeyCreated:
      return { type: 'subkeyCreated', path, name };
    case CHANGE.subkeyDeleted:
      return { type: 'subkeyDeleted', path, name };
    case CHANGE.descriptorChanged:
      return null;
    case CHANGE.keyDeleted: {
      const deleted = path.at(-1);
      if (deleted === undefined) return { type: 'keyDeleted' };
      return { type: 'subkeyDeleted', path: path.slice(0, -1), name: deleted };
    }
    default:
      // An overflow, or something that only a later version knows how to read.
      return { type: 'overflow' };
  }
}

/** The path in the form the kernel certainly takes. @throws RegistryError */
function pathOf(key: string): string {
  return splitKeyPath(key).join('\\');
}

const valueIn = (key: string, name: string) => `value "${name}" in ${key}`;

/** True when the kernel itself says that its registry does not answer (HOST-38). */
function isAway(error: unknown): boolean {
  const code = error instanceof Error && 'code' in error ? error.code : null;
  return code === 'EIO' || code === 'ETIMEDOUT';
}

function registryErrorOf(error: unknown, what: string): RegistryError {
  if (error instanceof RegistryError) return error;
  const code = error instanceof Error && 'code' in error ? String(error.code) : '';
  if (code === 'ENOENT') return new RegistryError('ENOENT', `no ${what}`);
  return new RegistryError(CODES.has(code) ? (code as RegistryErrorCode) : 'EIO', messageOf(error));
}
