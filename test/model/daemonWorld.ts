/**
 * The world of a daemon under a model-based test: a hive, two rings with their producers, a service
 * manager's notification socket, and what can be done to them; afterwards, a look for what was left behind.
 */
import assert from 'node:assert/strict';
import {
  closeSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  renameSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { createServer, type Server } from 'node:net';
import { join } from 'node:path';
import type { DaemonOptions } from '../../actors/daemon/runtime.js';
import { parseGuid } from '../../src/host/guid.js';
import { ringFileName } from '../../src/host/kmes.js';
import type { ProcessLog } from '../../src/host/processLog.js';
import { native, type ProducerHandle } from '../../src/native/addon.js';
import { DaemonStore } from './daemonStore.js';
import { until } from './walk.js';

export const BOOT_ID = '{aaaaaaaa-0000-4000-8000-00000000000a}';
const EVENT = {
  type: new TextEncoder().encode('model.event'),
  payload: Uint8Array.of(0x81, 0xa1, 0x6e, 0x01),
};
export const CPUS = 2;
const CAPACITY = 1 << 20;
const SECURITY = 'Machine\\System\\eventd\\Security';
const SDDL = 'O:SYG:SYD:(A;;0x1;;;SY)(A;;0x1;;;BA)';

export class DaemonWorld {
  readonly directory: string;
  readonly log: string[] = [];
  /** Lines that a service manager would show as errors. */
  readonly errors: string[] = [];
  readonly options: DaemonOptions;
  readonly store: DaemonStore;
  readonly #events: string;
  readonly #hive: string;
  readonly #rings: string;
  readonly #notify: number;
  readonly #producers: readonly ProducerHandle[];
  readonly #notified: string[] = [];
  readonly #before: { files: number; mappings: number };
  #settings: Record<string, string | number>;
  #stopTimeout = 30;
  #listener: Server | null = null;
  #broken = false;

  constructor(root: string, settings: Readonly<Record<string, string | number>> = {}) {
    this.directory = mkdtempSync(join(root, 'd-'));
    const path = (name: string): string => join(this.directory, name);
    this.#events = path('events');
    this.#rings = path('kmes');
    this.#hive = path('eventd.reg');
    mkdirSync(this.#rings);
    this.#producers = Array.from({ length: CPUS }, (_, cpu) =>
      native.producerCreate(join(this.#rings, ringFileName(cpu)), cpu, CAPACITY),
    );
    this.store = new DaemonStore(this.#events, parseGuid(BOOT_ID), CPUS);
    this.#settings = {
      EventStorePath: this.#events,
      LogStorePath: path('logs.db'),
      MetricStorePath: path('metrics.db'),
      QuerySocketPath: path('query.sock'),
      LogSocketPath: path('log.sock'),
      MetricSocketPath: path('metric.sock'),
      DebugSocketPath: path('debug.sock'),
      MaxBatchSize: 100,
      ...settings,
    };
    this.#writeHive();
    this.#notify = native.notifyListen(path('notify.sock'));
    this.prepare();
    const line = (message: string): void => void this.log.push(message);
    const log: ProcessLog = {
      info: line,
      warn: line,
      error: (message) => {
        line(message);
        this.errors.push(message);
      },
    };
    this.options = { registryFile: this.#hive, kmesDirectory: this.#rings, host: 'linux', log };
    this.emit(3);
    this.#before = this.#held();
  }

  /** The environment that the next runtime reads. */
  prepare(): void {
    process.env.NOTIFY_SOCKET = join(this.directory, 'notify.sock');
    process.env.PEIOS_BOOT_ID = BOOT_ID;
  }

  // Events

  /** On one ring, or on each. */
  emit(count: number, cpu?: number): void {
    const producers = cpu === undefined ? this.#producers : this.#producers.slice(cpu, cpu + 1);
    for (const producer of producers) {
      for (let i = 0; i < count; i++) native.producerEmit(producer, 0, EVENT, null);
    }
  }

  /** Last sequence of each ring. */
  get emitted(): bigint[] {
    return this.#producers.map((producer) => native.producerStatus(producer).sequence);
  }

  // The hive

  /** A shorter bound makes a step that cannot end give up soon. */
  hurry(): void {
    this.#stopTimeout = 2;
    this.#writeHive();
  }

  withoutKey(name: string): void {
    delete this.#settings[name];
    this.#writeHive();
  }

  set(name: string, value: string | number): void {
    this.#settings = { ...this.#settings, [name]: value };
    this.#writeHive();
  }

  change(): void {
    this.set('MaxBatchSize', Number(this.#settings.MaxBatchSize) + 1);
  }

  /** The hive as an editor leaves it that was interrupted; `mend` brings it back as it was. */
  garble(): void {
    this.#broken = true;
    writeFileSync(`${this.#hive}.new`, 'PEIOS-REG 1\n[Machine\n');
    renameSync(`${this.#hive}.new`, this.#hive);
  }

  mend(): void {
    this.#broken = false;
    this.#writeHive();
  }

  get querySocket(): string {
    return String(this.#settings.QuerySocketPath);
  }

  // What phases need and may not find

  withoutRing(): void {
    renameSync(join(this.#rings, ringFileName(0)), join(this.#rings, 'elsewhere'));
  }

  withRing(): void {
    renameSync(join(this.#rings, 'elsewhere'), join(this.#rings, ringFileName(0)));
  }

  fileForDirectory(): void {
    writeFileSync(this.#events, 'in the way');
  }

  withoutStore(): void {
    renameSync(this.#events, `${this.#events}.away`);
  }

  /** Undoes `withoutStore`, whatever is in the way. */
  withStore(): void {
    rmSync(this.#events, { recursive: true, force: true });
    renameSync(`${this.#events}.away`, this.#events);
  }

  /** Somebody else serves queries at our path. */
  async occupySocket(): Promise<void> {
    const listener = createServer();
    await new Promise<void>((resolve) => listener.listen(this.querySocket, resolve));
    this.#listener = listener;
  }

  async freeSocket(): Promise<void> {
    const listener = this.#listener;
    this.#listener = null;
    if (listener !== null) await new Promise((resolve) => listener.close(resolve));
  }

  // What can be seen

  /** No sequence twice, and none lost that counts as settled. */
  checkEvents(): void {
    assert.deepEqual(this.store.problems(this.emitted), []);
  }

  /** Every event ever emitted, or emitted since, is in a row or a gap record. */
  async checkComplete(since: readonly bigint[] = []): Promise<void> {
    const missing = () => this.store.missing(this.emitted, since);
    await until('every event to be stored', () => missing().length === 0).catch(() => undefined);
    assert.deepEqual(missing(), [], 'neither stored nor in a gap record');
    this.checkEvents();
  }

  /** `READY`, `STOPPING`, `RELOADING`: what the service manager heard, in order. */
  get notified(): readonly string[] {
    for (let message = native.notifyReceive(this.#notify); message !== null; ) {
      const [line] = Buffer.from(message.data).toString('utf8').split('\n');
      this.#notified.push(line?.split('=')[0] ?? '');
      message = native.notifyReceive(this.#notify);
    }
    return this.#notified;
  }

  /** Nothing of a daemon that has ended is left: sockets, locks, mappings, descriptors. */
  async checkLeftovers(): Promise<void> {
    for (const name of ['QuerySocketPath', 'LogSocketPath', 'MetricSocketPath', 'DebugSocketPath']) {
      const path = this.#settings[name];
      if (path !== undefined) assert.ok(!existsSync(String(path)), `${name} was left behind`);
    }
    const { files, mappings } = this.#before;
    await until('the rings to be unmapped', () => this.#held().mappings === mappings);
    await until('the files to be closed', () => this.#held().files === files);
    this.store.checkFree();
  }

  close(): void {
    closeSync(this.#notify);
    this.store.unlock();
    for (const producer of this.#producers) native.producerClose(producer);
    rmSync(this.directory, { recursive: true, force: true });
  }

  /** What of the world this process has open and mapped; the producers are among it. */
  #held(): { files: number; mappings: number } {
    const files = readdirSync('/proc/self/fd').filter((fd) => {
      try {
        return readlinkSync(`/proc/self/fd/${fd}`).startsWith(this.directory);
      } catch {
        return false;
      }
    });
    const maps = readFileSync('/proc/self/maps', 'latin1');
    return { files: files.length, mappings: maps.split(this.directory).length - 1 };
  }

  #writeHive(): void {
    if (this.#broken) return;
    const text = (value: string | number): string =>
      typeof value === 'number' ? `dword:${value.toString(16).padStart(8, '0')}` : JSON.stringify(value);
    const values = Object.entries(this.#settings).map(([name, value]) => `"${name}"=${text(value)}\n`);
    const draft = `${this.#hive}.new`;
    writeFileSync(
      draft,
      `PEIOS-REG 1\n[Machine\\System\\eventd]\n${values.join('')}` +
        `[Machine\\System\\Services\\eventd]\n"StopTimeout"=${text(this.#stopTimeout)}\n` +
        ['Events', 'Logs', 'Metrics'].map((type) => `[${SECURITY}\\${type}]\n"*"=sddl:"${SDDL}"\n`).join(''),
    );
    renameSync(draft, this.#hive);
  }
}
