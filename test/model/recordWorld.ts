/**
 * The world of one record writer under a model-based test: a real receiver, a store's file, and a ledger
 * of what the file must hold. The wake-ups are the test's own, so that nothing arrives unasked.
 */
import assert from 'node:assert/strict';
import { existsSync, mkdirSync, mkdtempSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { encode } from '@msgpack/msgpack';
import Database from 'better-sqlite3';
import type { RecordStore } from '../../machines/recordWriter.js';
import { native } from '../../src/native/addon.js';
import { heldHandles } from '../../src/stores/heldHandles.js';
import { LOG_SCHEMA } from '../../src/stores/logSchema.js';
import { METRIC_SCHEMA } from '../../src/stores/metricSchema.js';
import { openStore } from '../../src/stores/storeFile.js';
import { acceptRows, edit, refuseRows, ruinIndex } from '../fixtures/database.js';
import { until } from './walk.js';

/** One half of the receiver's memory. */
export const BUFFER_BYTES = 512 * 1024;
export const BOOT = Uint8Array.from({ length: 16 }, (_, i) => 16 - i);

const TABLES = {
  log: {
    schema: LOG_SCHEMA,
    table: 'logs',
    index: 'idx_logs_timestamp',
    /** `n` tells a record from every other. */
    record: (n: number, filler: string) => ({ origin: 'model', is_error: false, message: `${n}${filler}` }),
    select: 'SELECT CAST(message AS INTEGER) FROM logs WHERE boot_id = ? ORDER BY id',
  },
  metric: {
    schema: METRIC_SCHEMA,
    table: 'samples',
    index: 'idx_samples_series_timestamp',
    record: (n: number, filler: string) => ({
      name: 'model',
      type: 'gauge',
      timestamp: n,
      value: n,
      ignored: filler,
    }),
    select: `SELECT CAST(value AS INTEGER) FROM samples JOIN series ON series.id = series_id
      WHERE ? IS NOT NULL AND name = 'model' AND type = 1 ORDER BY samples.rowid`,
  },
} as const;

export class RecordWorld {
  readonly directory: string;
  readonly file: string;
  readonly receiver;
  readonly held = heldHandles();
  readonly #kind;
  #next = 1;
  /** Sent and not taken, and taken but not decoded. */
  #waiting: number[] = [];
  #inHand: number[] = [];
  /** What the present file must hold, in order. */
  #stored: number[] = [];
  #reader: Database.Database | null = null;
  /** Bytes of every file that was set aside, by path. */
  readonly #aside = new Map<string, Buffer>();
  #damaged: Buffer | null = null;
  #trash = 0;

  constructor(
    root: string,
    readonly store: RecordStore,
  ) {
    this.#kind = TABLES[store];
    this.directory = mkdtempSync(join(root, 'world-'));
    this.file = join(this.directory, 'store.db');
    const path = join(this.directory, 'records.sock');
    this.receiver = native.receiverOpen({ path, mode: 0o600, capacityBytes: 2 * BUFFER_BYTES });
  }

  /** From now on the receiver wakes nobody. */
  muteReceiver(): void {
    native.receiverStart(this.receiver, () => undefined);
  }

  get waitingBytes(): number {
    return native.receiverStatus(this.receiver).waiting;
  }

  get waitingRecords(): number {
    return this.#waiting.length;
  }

  get recordsInHand(): number {
    return this.#inHand.length;
  }

  /** One datagram with so many records, each `filler` bytes longer than need be. */
  send(count: number, filler = 0): void {
    const numbers = Array.from({ length: count }, () => this.#next++);
    const records = numbers.map((n) => this.#kind.record(n, ' '.repeat(filler)));
    assert.ok(native.receiverInject(this.receiver, encode(records)), 'the buffer is full');
    this.#waiting.push(...numbers);
  }

  /** The commit that is about to run has something to store. */
  ensureWaiting(): void {
    if (this.#inHand.length + this.#waiting.length === 0) this.send(2);
  }

  /** What is left after the next commit of at most `max` records is nothing, or something, as asked for. */
  ensureRest(more: boolean, max: number): void {
    if (!more) {
      assert.ok(this.#inHand.length === 0 || this.#waiting.length === 0, 'two batches wait');
      assert.ok(this.#inHand.length + this.#waiting.length <= max, 'too much waits');
    } else if (this.#inHand.length > 0) this.send(1);
    else this.send(Math.max(max + 5 - this.#waiting.length, 1));
  }

  /** The receiver is told to end, and has. */
  async finishReceiver(): Promise<void> {
    native.receiverFinish(this.receiver, 1 << 20, 1000);
    await until('the receiver to end', () => native.receiverStatus(this.receiver).finished);
  }

  committed(max: number): void {
    this.#stored.push(...this.#step(max));
  }

  /** @returns how many records went */
  lost(max: number): number {
    return this.#step(max).length;
  }

  discarded(): void {
    this.#inHand = [];
    this.#waiting = [];
  }

  #step(max: number): number[] {
    if (this.#inHand.length === 0) this.#inHand = this.#waiting.splice(0);
    return this.#inHand.splice(0, max);
  }

  /** Every insert fails until `repair`. */
  sabotage(): void {
    refuseRows(this.file, this.#kind.table);
  }

  repair(): void {
    acceptRows(this.file);
  }

  /** Overwrites the root page of an index in the file, and makes every connection read it again. */
  damage(): void {
    this.#closeReader();
    ruinIndex(this.file, this.#kind.index);
    this.#damaged = readFileSync(this.file);
  }

  /** Somebody takes the file away, and leaves its WAL. */
  remove(): void {
    this.#closeReader();
    renameSync(this.file, join(this.directory, `taken-${this.#trash++}`));
    this.#stored = [];
  }

  /** The path cannot be opened. */
  block(): void {
    this.unblock();
    mkdirSync(this.file);
  }

  unblock(): void {
    // Only ever an empty directory: anything else makes this fail.
    if (existsSync(this.file)) rmSync(this.file, { recursive: true });
  }

  /** The file is no database at all. */
  plantGarbage(): void {
    this.unblock();
    writeFileSync(this.file, 'this is no database, whatever its name says. '.repeat(200));
    this.#damaged = readFileSync(this.file);
  }

  /** A store that a later eventd has made. */
  plantUnknownVersion(): void {
    this.unblock();
    openStore(this.file, this.#kind.schema).close();
    edit(this.file, "UPDATE metadata SET value = '9' WHERE key = 'schema_version'");
    this.#stored = [];
  }

  /** Hides the damaged file, so that it cannot be renamed. */
  hide(): () => void {
    renameSync(this.file, `${this.file}.hidden`);
    return () => renameSync(`${this.file}.hidden`, this.file);
  }

  /** The writer says that it has set the damaged file aside. */
  setAside(path: string): void {
    assert.ok(this.#damaged !== null, 'nothing was damaged');
    assert.ok(!existsSync(this.file), 'the damaged file is still there');
    this.#aside.set(path, this.#damaged);
    this.#damaged = null;
    this.#stored = [];
  }

  /** The file agrees with the ledger, and nothing that was set aside has been touched since. */
  check(isOpen: boolean): void {
    for (const [path, bytes] of this.#aside) assert.ok(readFileSync(path).equals(bytes), `[FAIL-19] ${path}`);
    if (!isOpen) return;
    this.#reader ??= new Database(this.file, { readonly: true });
    const rows = this.#reader.prepare(this.#kind.select).pluck().all(BOOT);
    assert.deepEqual(rows, this.#stored, 'rows of the file');
    const { table } = this.#kind;
    const count = this.#reader.prepare(`SELECT count(*) FROM ${table} NOT INDEXED`).pluck().get();
    assert.equal(count, this.#stored.length);
  }

  get nothingWaits(): boolean {
    return this.#inHand.length + this.#waiting.length === 0;
  }

  close(): void {
    this.#closeReader();
    native.receiverClose(this.receiver);
    rmSync(this.directory, { recursive: true, force: true });
  }

  #closeReader(): void {
    this.#reader?.close();
    this.#reader = null;
  }
}
