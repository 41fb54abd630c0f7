/**
 * The world of one shard writer under a model-based test: two CPUs' rings with their drain threads, one
 * channel, one shard file, and a ledger of what the file must hold.
 */
import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { Worker } from 'node:worker_threads';
import { decode } from '@msgpack/msgpack';
import Database from 'better-sqlite3';
import { formatGuid } from '../../src/host/guid.js';
import { type DrainHandle, native, type ProducerHandle } from '../../src/native/addon.js';
import { openShardWriter } from '../../src/stores/shard.js';
import { TIMESTAMP_INDEX } from '../../src/stores/shardSchema.js';
import { acceptRows, refuseRows, ruinIndex } from '../fixtures/database.js';
import type { IntruderOrder } from './intruder.js';
import { until } from './walk.js';

const CPUS = 2;
const CAPACITY = 1 << 20;
const CHANNEL_ROWS = 20_000;
const TYPE = new TextEncoder().encode('model.event');
const PAYLOAD = Uint8Array.of(0x81, 0xa1, 0x6e, 0x01);
const OVERSIZE = new Uint8Array(CAPACITY);
export const BOOT = Uint8Array.from({ length: 16 }, (_, i) => i + 1);

/** Sequences of one CPU, and what became of them. */
class CpuLedger {
  readonly stored = new Set<bigint>();
  /** Why each sequence that is missing from the rows must be inside a gap record. */
  readonly covered = new Map<bigint, string>();
  /** Lost to a failed commit, gap record not stored yet. */
  lost: { sequence: bigint; cause: string }[] = [];
  /** Highest sequence this shard has stored or gap-recorded. */
  get last(): bigint {
    let last = 0n;
    for (const s of this.stored) if (s > last) last = s;
    for (const s of this.covered.keys()) if (s > last) last = s;
    return last;
  }
}

/** A row in the channel. `cause` null = an event, else it is a gap record of the drain thread. */
interface Waiting {
  readonly cpu: number;
  readonly sequence: bigint;
  readonly cause: string | null;
}

export class ShardWorld {
  readonly directory: string;
  readonly file: string;
  readonly channel = native.channelOpen(0, CHANNEL_ROWS, 1 << 24);
  readonly #producers: ProducerHandle[] = [];
  readonly #drains: DrainHandle[] = [];
  readonly #cpus: CpuLedger[] = [];
  readonly #synthetic: string[] = [];
  #syntheticWaiting: string[] = [];
  /** Handed off and not taken, in the order of the channel. */
  readonly #waiting: Waiting[] = [];
  #segmentSince = new Set<number>();
  #turn = 0;
  #names = 0;
  #reader: Database.Database | null = null;

  constructor(root: string) {
    this.directory = mkdtempSync(join(root, 'world-'));
    this.file = join(this.directory, 'shard-0000.db');
    for (let cpu = 0; cpu < CPUS; cpu++) {
      const path = join(this.directory, `cpu-000${cpu}.ring`);
      this.#producers.push(native.producerCreate(path, cpu, CAPACITY));
      this.#cpus.push(new CpuLedger());
      this.#drains.push(
        native.drainStart(
          {
            ring: native.ringOpen(path).ring,
            cpu,
            channels: [this.channel],
            lastSequence: 0n,
            lastTimestamp: null,
            covered: new BigUint64Array(),
            elevatedPercent: 50,
            emergencyPercent: 80,
          },
          () => undefined,
        ),
      );
    }
  }

  get waitingRows(): number {
    return this.#waiting.length;
  }

  get owes(): boolean {
    return this.#syntheticWaiting.length > 0 || this.#cpus.some(({ lost }) => lost.length > 0);
  }

  /** An event, a dropped one and another: an event row, a gap row and an event row. */
  async handOff(): Promise<number> {
    const { cpu, producer } = this.#next();
    this.#emit(cpu, producer);
    const dropped = native.producerEmit(producer, 0, { type: TYPE, payload: OVERSIZE }, null);
    assert.equal(dropped, null);
    this.#waiting.push({ cpu, sequence: this.#sequence(producer), cause: 'ring_loss' });
    this.#emit(cpu, producer);
    return this.#handedOff();
  }

  async handOffMany(count: number): Promise<number> {
    this.emitMany(count);
    return this.#handedOff();
  }

  /** Puts events into a ring, and leaves it to its drain and to the writer how far they come. */
  emitMany(count: number): void {
    const { cpu, producer } = this.#next();
    const before = this.#sequence(producer);
    const events = Array.from({ length: count }, () => ({ type: TYPE, payload: PAYLOAD }));
    assert.equal(native.producerEmitBatch(producer, 0, events, null), count);
    this.#arrived(cpu, before, count);
  }

  /** A name for a synthetic row; the ledger expects it in the next good transaction. */
  synthetic(): string {
    const name = `Setting${++this.#names}`;
    this.#syntheticWaiting.push(name);
    return name;
  }

  /** Every insert fails until `repair`. */
  sabotage(): void {
    refuseRows(this.file, 'events');
  }

  repair(): void {
    acceptRows(this.file);
  }

  /** Overwrites the root page of the time index in the file, and makes every connection read it again. */
  damage(): void {
    ruinIndex(this.file, TIMESTAMP_INDEX);
  }

  /** The file is no database at all. */
  replaceByGarbage(): void {
    writeFileSync(this.file, 'this is no database, whatever its name says. '.repeat(200));
  }

  /** An empty, well-formed shard from the start: the writer meets an existing file. */
  prepare(): void {
    openShardWriter(this.file).close();
  }

  /**
   * Lets `intruder` hold the lock, so that a commit started now meets it and `count` events arrive
   * meanwhile. `over`, called when that commit has succeeded, takes the place of `committed`.
   */
  obstruct(intruder: Intruder, count: number): { over(): Promise<void> } {
    const { cpu, producer } = this.#next();
    const before = this.#sequence(producer);
    const events = Array.from({ length: count }, () => ({ type: TYPE, payload: PAYLOAD }));
    const done = intruder.obstruct({ file: this.file, channel: this.channel, producer, events });
    return {
      over: async () => {
        await done;
        this.committed(count);
        this.#arrived(cpu, before, count);
      },
    };
  }

  /** A transaction has succeeded: what was owed is stored, and every row that left the channel. */
  committed(arrivedMeanwhile = 0): void {
    this.#synthetic.push(...this.#syntheticWaiting);
    this.#syntheticWaiting = [];
    for (const [cpu, ledger] of this.#cpus.entries()) {
      if (ledger.lost.length > 0) this.#segmentSince.delete(cpu);
      for (const { sequence, cause } of ledger.lost) ledger.covered.set(sequence, cause);
      ledger.lost = [];
    }
    for (const { cpu, sequence, cause } of this.#taken(arrivedMeanwhile)) {
      const ledger = this.#ledger(cpu);
      if (cause === null) ledger.stored.add(sequence);
      else ledger.covered.set(sequence, cause);
      this.#segmentSince.add(cpu);
    }
  }

  /** A transaction has failed: what left the channel is lost, synthetic rows are kept. */
  failed(): void {
    for (const { cpu, sequence, cause } of this.#taken(0)) {
      this.#ledger(cpu).lost.push({ sequence, cause: cause ?? 'commit_failure' });
    }
  }

  /** What the last transaction took out of the channel. */
  #taken(arrivedMeanwhile: number): Waiting[] {
    const left = native.channelStatus(this.channel).rows - arrivedMeanwhile;
    return this.#waiting.splice(0, this.#waiting.length - left);
  }

  /** The file agrees with the ledger: rows, gap records, synthetic rows, watermarks. */
  check(): void {
    this.#reader ??= new Database(this.file, { readonly: true }).defaultSafeIntegers(true);
    const rows = this.#reader
      .prepare('SELECT cpu_id, sequence, event_type, boot_id, payload FROM events NOT INDEXED ORDER BY id')
      .all() as {
      cpu_id: bigint | null;
      sequence: bigint | null;
      event_type: string;
      boot_id: Buffer;
      payload: Buffer;
    }[];
    const stored = this.#cpus.map((): bigint[] => []);
    const covered = this.#cpus.map((): [bigint, string][] => []);
    const synthetic: string[] = [];
    for (const { cpu_id: cpu, sequence, event_type: type, payload } of rows) {
      if (cpu !== null && sequence !== null) {
        stored[Number(cpu)]?.push(sequence);
        continue;
      }
      const details = decode(payload) as Record<string, string | number>;
      if (type === 'synthetic.config_change') synthetic.push(String(details.key_name));
      if (type !== 'synthetic.gap') continue;
      for (let s = Number(details.first_missing); s <= Number(details.last_missing); s++) {
        covered[Number(details.cpu_id)]?.push([BigInt(s), String(details.cause)]);
      }
    }
    assert.ok(rows.every(({ boot_id }) => boot_id.equals(BOOT)));
    assert.deepEqual(synthetic, this.#synthetic, 'synthetic rows');
    for (const [cpu, ledger] of this.#cpus.entries()) {
      assert.deepEqual(ascending(stored[cpu] ?? []), ascending([...ledger.stored]), `rows of CPU ${cpu}`);
      const gaps = (covered[cpu] ?? []).sort(([a], [b]) => (a < b ? -1 : 1));
      const expected = [...ledger.covered].sort(([a], [b]) => (a < b ? -1 : 1));
      assert.deepEqual(gaps, expected, `sequences inside gap records of CPU ${cpu}`);
    }
    this.#checkWatermarks(this.#reader);
  }

  /** STO-15: `last` is the highest sequence here, `settled` a bound below which nothing is missing. */
  #checkWatermarks(db: Database.Database): void {
    const rows = db.prepare('SELECT key, value FROM metadata').raw().all() as [string, string][];
    const metadata = new Map(rows);
    const touched = this.#synthetic.length > 0 || this.#cpus.some(({ last }) => last > 0n);
    assert.equal(metadata.get('last_boot_id'), touched ? formatGuid(BOOT) : undefined);
    for (const [cpu, ledger] of this.#cpus.entries()) {
      const { last } = ledger;
      assert.equal(metadata.get(`last_seq.${cpu}`), last > 0n ? String(last) : undefined);
      const settled = BigInt(metadata.get(`settled_seq.${cpu}`) ?? 0);
      for (let s = 1n; s <= settled; s++) {
        assert.ok(ledger.stored.has(s) || ledger.covered.has(s), `CPU ${cpu}: settled ${settled}, no ${s}`);
      }
      // With the newest segment stored and nothing owed, nothing keeps the bound down.
      if (this.#segmentSince.has(cpu) && ledger.lost.length === 0) assert.equal(settled, last);
    }
  }

  /** The sequences the last good transaction of each CPU ended with. */
  get lastSequences(): Map<number, bigint> {
    return new Map(this.#cpus.flatMap(({ last }, cpu) => (last > 0n ? [[cpu, last] as const] : [])));
  }

  get storedRows(): { events: number; synthetic: number } {
    return {
      events: this.#cpus.reduce((sum, { stored }) => sum + stored.size, 0),
      synthetic: this.#synthetic.length,
    };
  }

  close(): void {
    this.#reader?.close();
    for (const drain of this.#drains) native.drainStop(drain);
    native.channelClose(this.channel);
    for (const producer of this.#producers) native.producerClose(producer);
    rmSync(this.directory, { recursive: true, force: true });
  }

  #next(): { cpu: number; producer: ProducerHandle } {
    const cpu = this.#turn++ % CPUS;
    const producer = this.#producers[cpu];
    if (producer === undefined) throw new RangeError(`no CPU ${cpu}`);
    return { cpu, producer };
  }

  #ledger(cpu: number): CpuLedger {
    const ledger = this.#cpus[cpu];
    if (ledger === undefined) throw new RangeError(`no CPU ${cpu}`);
    return ledger;
  }

  #sequence(producer: ProducerHandle): bigint {
    return native.producerStatus(producer).sequence;
  }

  #emit(cpu: number, producer: ProducerHandle): void {
    const sequence = native.producerEmit(producer, 0, { type: TYPE, payload: PAYLOAD }, null);
    if (sequence === null) throw new Error('the producer dropped an event');
    this.#waiting.push({ cpu, sequence, cause: null });
  }

  #arrived(cpu: number, before: bigint, count: number): void {
    for (let i = 1; i <= count; i++) this.#waiting.push({ cpu, sequence: before + BigInt(i), cause: null });
  }

  async #handedOff(): Promise<number> {
    const rows = this.waitingRows;
    await until(`${rows} rows in the channel`, () => native.channelStatus(this.channel).rows === rows);
    return rows;
  }
}

/** The thread of intruder.ts. */
export class Intruder {
  readonly #held = new Int32Array(new SharedArrayBuffer(4));
  readonly #worker = new Worker(new URL('./intruder.js', import.meta.url), {
    workerData: this.#held.buffer,
  });

  /** Returns when the lock is held; resolves when it is free again. */
  obstruct(order: IntruderOrder): Promise<void> {
    Atomics.store(this.#held, 0, 0);
    const done = new Promise<void>((resolve, reject) => {
      this.#worker.once('message', () => resolve());
      this.#worker.once('error', reject);
    });
    this.#worker.postMessage(order);
    Atomics.wait(this.#held, 0, 0, 5000);
    if (Atomics.load(this.#held, 0) === 0) throw new Error('the intruder did not get the lock');
    return done;
  }

  /** Resolves when the thread runs. */
  async online(): Promise<void> {
    await new Promise((resolve) => this.#worker.once('online', resolve));
  }

  async close(): Promise<void> {
    await this.#worker.terminate();
  }
}

function ascending(values: readonly bigint[]): bigint[] {
  return [...values].sort((a, b) => (a < b ? -1 : a > b ? 1 : 0));
}
