/**
 * The world of a daemon under a model-based test: a hive, one ring with its producer, a service manager's
 * notification socket, and what can be done to them; afterwards, a look for what was left behind.
 */
import assert from 'node:assert/strict';
import {
  closeSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  renameSync,
  rmSync,
  statSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import { createServer, type Server } from 'node:net';
import { join } from 'node:path';
import Database from 'better-sqlite3';
import { type DaemonOptions, DaemonRuntime } from '../../actors/daemon/runtime.js';
import { parseGuid } from '../../src/host/guid.js';
import { ringFileName } from '../../src/host/kmes.js';
import type { ProcessLog } from '../../src/host/processLog.js';
import { native, type ProducerHandle } from '../../src/native/addon.js';
import { resolveBoot } from '../../src/stores/resume.js';
import { type Gates, until } from './walk.js';

export const BOOT_ID = '{aaaaaaaa-0000-4000-8000-00000000000a}';
const EVENT = {
  type: new TextEncoder().encode('model.event'),
  payload: Uint8Array.of(0x81, 0xa1, 0x6e, 0x01),
};
const CAPACITY = 1 << 20;
const SECURITY = 'Machine\\System\\eventd\\Security';
const SDDL = 'O:SYG:SYD:(A;;0x1;;;SY)(A;;0x1;;;BA)';

/** The real runtime; each phase and step waits until the test lets it go. */
export class PacedRuntime extends DaemonRuntime {
  readonly #gates: Gates;
  #undoing = false;

  constructor(options: DaemonOptions, gates: Gates) {
    super(options);
    this.#gates = gates;
  }

  override async configure(): Promise<void> {
    await this.#gates.hold('configuring');
    await super.configure();
  }
  override async openStores(): Promise<void> {
    await this.#gates.hold('openingStores');
    await super.openStores();
  }
  override async resolveBoot(): Promise<void> {
    await this.#gates.hold('resolvingBoot');
    await super.resolveBoot();
  }
  override async attachKmes(): Promise<void> {
    await this.#gates.hold('attachingKmes');
    await super.attachKmes();
  }
  override async bindSockets(): Promise<void> {
    await this.#gates.hold('bindingSockets');
    await super.bindSockets();
  }
  override async startActors(): Promise<void> {
    await this.#gates.hold('startingActors');
    await super.startActors();
  }
  override async announceReady(): Promise<void> {
    await this.#gates.hold('announcingReady');
    await super.announceReady();
  }
  override async reload(announce: boolean): Promise<void> {
    await this.#gates.hold(announce ? 'announced' : 'quietly');
    await super.reload(announce);
  }
  override async stopAccepting(): Promise<void> {
    await this.#gates.hold('closingSockets');
    await super.stopAccepting();
  }
  override async drainRings(): Promise<void> {
    await this.#gates.hold('drainingRings');
    await super.drainRings();
  }
  override async commitAll(): Promise<void> {
    await this.#gates.hold('committing');
    await super.commitAll();
  }
  override async recordShutdown(): Promise<void> {
    await this.#gates.hold('recordingShutdown');
    await super.recordShutdown();
  }
  override async closeStores(): Promise<void> {
    await this.#gates.hold('closingStores');
    await super.closeStores();
  }
  override async release(): Promise<void> {
    if (!this.#undoing) await this.#gates.hold('releasingRings');
    await super.release();
  }
  override async undo(): Promise<void> {
    await this.#gates.hold('undoing');
    this.#undoing = true;
    await super.undo();
  }
}

export class DaemonWorld {
  readonly directory: string;
  readonly log: string[] = [];
  readonly options: DaemonOptions;
  readonly #events: string;
  readonly #hive: string;
  readonly #rings: string;
  readonly #notify: number;
  readonly #producer: ProducerHandle;
  readonly #notified: string[] = [];
  #settings: Record<string, string | number>;
  #stopTimeout = 30;
  #emitted = 0n;
  #listener: Server | null = null;
  #lock: Database.Database | null = null;
  damaged = false;

  constructor(root: string) {
    this.directory = mkdtempSync(join(root, 'd-'));
    const path = (name: string): string => join(this.directory, name);
    this.#events = path('events');
    this.#rings = path('kmes');
    this.#hive = path('eventd.reg');
    mkdirSync(this.#rings);
    this.#producer = native.producerCreate(join(this.#rings, ringFileName(0)), 0, CAPACITY);
    this.#settings = {
      EventStorePath: this.#events,
      LogStorePath: path('logs.db'),
      MetricStorePath: path('metrics.db'),
      QuerySocketPath: path('query.sock'),
      LogSocketPath: path('log.sock'),
      MetricSocketPath: path('metric.sock'),
      DebugSocketPath: path('debug.sock'),
      MaxBatchSize: 100,
    };
    this.#writeHive();
    this.#notify = native.notifyListen(path('notify.sock'));
    process.env.NOTIFY_SOCKET = path('notify.sock');
    process.env.PEIOS_BOOT_ID = BOOT_ID;
    const line = (message: string): void => void this.log.push(message);
    const log: ProcessLog = { info: line, warn: line, error: line };
    this.options = { registryFile: this.#hive, kmesDirectory: this.#rings, host: 'linux', log };
    this.emit(3);
  }

  emit(count: number): void {
    for (let i = 0; i < count; i++) this.#emitted = native.producerEmit(this.#producer, 0, EVENT, null) ?? 0n;
  }

  /** A shorter bound makes a step that cannot end give up soon. */
  hurry(): void {
    this.#stopTimeout = 2;
    this.#writeHive();
  }

  withoutKey(name: string): void {
    delete this.#settings[name];
    this.#writeHive();
  }

  change(): void {
    this.#settings = { ...this.#settings, MaxBatchSize: Number(this.#settings.MaxBatchSize) + 1 };
    this.#writeHive();
  }

  withoutRing(): void {
    renameSync(join(this.#rings, ringFileName(0)), join(this.#rings, 'elsewhere'));
  }

  fileForDirectory(): void {
    writeFileSync(this.#events, 'in the way');
  }

  withoutStore(): void {
    rmSync(this.#events, { recursive: true });
  }

  garbageForShard(): void {
    writeFileSync(this.#shard, 'this is no database, whatever its name says. '.repeat(400));
    this.damaged = true;
  }

  /** Somebody else serves queries at our path. */
  async occupySocket(): Promise<void> {
    const listener = createServer();
    await new Promise<void>((resolve) => listener.listen(String(this.#settings.QuerySocketPath), resolve));
    this.#listener = listener;
  }

  async freeSocket(): Promise<void> {
    const listener = this.#listener;
    this.#listener = null;
    if (listener !== null) await new Promise((resolve) => listener.close(resolve));
  }

  /** The writer cannot commit as long as another connection holds its lock. */
  lock(): void {
    this.#lock = new Database(this.#shard, { timeout: 5000 });
    this.#lock.exec('BEGIN IMMEDIATE');
  }

  unlock(): void {
    this.#lock?.exec('ROLLBACK');
    this.#lock?.close();
    this.#lock = null;
  }

  /** Breaks the root page of the time index; the next commit of the writer finds it. */
  damage(): void {
    const db = new Database(this.#shard, { timeout: 5000 });
    // A commit of the writer in between would put a good copy of the page into the WAL.
    for (;;) {
      db.pragma('wal_checkpoint(TRUNCATE)');
      db.exec('BEGIN IMMEDIATE');
      if (statSync(`${this.#shard}-wal`).size === 0) break;
      db.exec('ROLLBACK');
    }
    const page = db
      .prepare("SELECT rootpage FROM sqlite_master WHERE name = 'idx_events_timestamp'")
      .pluck()
      .get() as number;
    const size = db.pragma('page_size', { simple: true }) as number;
    const fd = openSync(this.#shard, 'r+');
    writeSync(fd, new Uint8Array(size).fill(0xff), 0, size, (page - 1) * size);
    closeSync(fd);
    db.exec("INSERT OR REPLACE INTO metadata VALUES ('touched', 'yes')");
    db.exec('COMMIT');
    db.close();
    this.damaged = true;
    this.emit(1);
  }

  /** Rows of a type; null while there is no store to look into. */
  count(type: string): number {
    if (!existsSync(this.#shard) || this.damaged) return 0;
    const db = new Database(this.#shard, { readonly: true });
    try {
      return db.prepare('SELECT count(*) FROM events WHERE event_type = ?').pluck().get(type) as number;
    } finally {
      db.close();
    }
  }

  /** No sequence twice, and each but the newest `behind` there. */
  async checkEvents(all: boolean): Promise<void> {
    if (!existsSync(this.#shard) || this.damaged) return;
    const db = new Database(this.#shard, { readonly: true });
    try {
      const rows = db.prepare('SELECT sequence FROM events WHERE sequence IS NOT NULL ORDER BY sequence');
      const sequences = rows.pluck().all() as number[];
      assert.deepEqual(
        sequences,
        sequences.map((_, i) => i + 1),
        'each sequence once, without holes',
      );
      if (!all) return;
      assert.equal(sequences.length, Number(this.#emitted), 'an event is missing');
      const resume = resolveBoot(this.#events, parseGuid(BOOT_ID)).cpus.get(0);
      assert.equal(resume?.sequence, this.#emitted, 'where a restart would go on');
    } finally {
      db.close();
    }
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
    for (const name of ['QuerySocketPath', 'DebugSocketPath']) {
      assert.ok(!existsSync(String(this.#settings[name])), `${name} was left behind`);
    }
    native.producerClose(this.#producer);
    const maps = (): boolean => !readFileSync('/proc/self/maps', 'latin1').includes(this.directory);
    await until('the rings to be unmapped', maps);
    await until('the files to be closed', () => this.#openFiles().length === 0);
    if (!existsSync(this.#shard) || this.damaged) return;
    const db = new Database(this.#shard, { timeout: 0 });
    db.exec('BEGIN EXCLUSIVE; ROLLBACK');
    db.close();
  }

  close(): void {
    closeSync(this.#notify);
    this.unlock();
    rmSync(this.directory, { recursive: true, force: true });
  }

  #openFiles(): string[] {
    return readdirSync('/proc/self/fd').flatMap((fd) => {
      try {
        const target = readlinkSync(`/proc/self/fd/${fd}`);
        return target.startsWith(this.directory) ? [target] : [];
      } catch {
        return [];
      }
    });
  }

  get #shard(): string {
    return join(this.#events, 'shard-0000.db');
  }

  #writeHive(): void {
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
