/**
 * The world of one ring reader under a model-based test: a ring file with its producer, two shards with
 * channels and files, and the reports of the native drain thread, held back until a step wants them.
 */
import assert from 'node:assert/strict';
import {
  closeSync,
  mkdtempSync,
  openSync,
  readSync,
  renameSync,
  rmSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import { join } from 'node:path';
import { decode } from '@msgpack/msgpack';
import Database from 'better-sqlite3';
import { formatGuid } from '../../src/host/guid.js';
import { BOOT_ID_FILE, type KmesSource } from '../../src/host/kmes.js';
import {
  type ChannelHandle,
  type DrainEvent,
  type DrainHandle,
  native,
  type ProducerHandle,
} from '../../src/native/addon.js';
import { type CpuResume, NOTHING_SEEN, resolveBoot } from '../../src/stores/resume.js';
import { ShardCommitter } from '../../src/stores/shardCommitter.js';
import { until } from './walk.js';

export const CAPACITY = 65536;
export const DATA_OFFSET = 8192;
export const WRITE_POS_OFFSET = 64;
export const NARROW = 8;
const WIDE = 20_000;
const LIMITS = { maxBatchSize: WIDE, maxBatchLatencyMs: 2 };
export const TYPE = new TextEncoder().encode('model.event');
const PAYLOAD = Uint8Array.of(0x81, 0xa1, 0x6e, 0x01);
const EVENT = { type: TYPE, payload: PAYLOAD };
const EVENT_BYTES = 77 + TYPE.length + PAYLOAD.length;
export const BOOT = Uint8Array.from({ length: 16 }, (_, i) => i + 1);

export const SHARDS = [0, 1];

interface HeldReport {
  readonly event: DrainEvent;
  deliver(): void;
}

export class RingWorld {
  readonly directory: string;
  readonly source: KmesSource;
  readonly ring: ReturnType<typeof native.ringOpen>;
  readonly channels: readonly ChannelHandle[];
  /** Reports the drain thread made and the reader has not heard. */
  readonly held: HeldReport[] = [];
  protected readonly path: string;
  protected readonly producer: ProducerHandle;
  readonly #committers: readonly ShardCommitter[];
  readonly #readers: readonly Database.Database[];
  readonly #drainStart = native.drainStart;
  /** Emitted while something was done that loses events: these may end in a gap record. */
  readonly #atRisk = new Set<bigint>();
  /** First sequences that a reader, started anew, had not seen. */
  readonly #resumed = new Set<bigint>();
  #drain: DrainHandle | null = null;
  #narrow = false;
  #rows = WIDE;
  #closed = false;

  /** @param hold whether reports wait for `deliver`; else the reader hears them as they come */
  constructor(root: string, { hold = true }: { readonly hold?: boolean } = {}) {
    this.directory = mkdtempSync(join(root, 'world-'));
    this.source = { kind: 'embedded', directory: this.directory };
    this.path = join(this.directory, 'cpu-0000.ring');
    this.producer = native.producerCreate(this.path, 0, CAPACITY);
    this.ring = native.ringOpen(this.path);
    this.channels = SHARDS.map((shard) => native.channelOpen(shard, WIDE, 1 << 24));
    const file = (shard: number): string => join(this.directory, `shard-000${shard}.db`);
    this.#committers = this.channels.map(
      (channel, shard) => new ShardCommitter({ file: file(shard), bootId: BOOT, channel, unordered: [] }),
    );
    this.#readers = SHARDS.map((shard) =>
      new Database(file(shard), { readonly: true }).defaultSafeIntegers(true),
    );
    // The real thread, with a test's hand on the wire between it and the actor.
    native.drainStart = (options, report) => {
      const drain = this.#drainStart.call(native, options, (event) => {
        if (hold) this.held.push({ event, deliver: () => report(event) });
        else report(event);
      });
      this.#drain = drain;
      return drain;
    };
  }

  /** Emits into the sleeping ring. */
  emit(count = 1): void {
    for (let i = 0; i < count; i++) native.producerEmit(this.producer, 0, EVENT, null);
  }

  /** One sequence without an event, then an event that shows it. */
  drop(): void {
    const payload = new Uint8Array(CAPACITY * 4);
    assert.equal(native.producerEmit(this.producer, 0, { type: TYPE, payload }, null), null);
    this.risk(this.sequence);
    this.emit();
  }

  /** Too much for narrow channels that nobody takes from. */
  overfill(): void {
    this.stall();
    this.emit(4 * NARROW);
  }

  /** Channels that are soon full, and nobody who takes from them. */
  stall(): void {
    this.#narrow = true;
    this.limit(NARROW);
  }

  /** Whether the drain thread has been left without room. */
  get narrow(): boolean {
    return this.#narrow;
  }

  /** Room again, for everything there is. */
  widen(): void {
    this.#narrow = false;
    this.limit(WIDE);
    this.commit();
  }

  /** Emits until this share of the ring is unread. */
  fillTo(percent: number): void {
    const { capacity } = native.producerStatus(this.producer);
    const unread = (): bigint => native.producerStatus(this.producer).writePos - this.readPos;
    while (unread() * 100n < BigInt(percent * capacity)) this.emit();
  }

  /** Twice around the ring, published at once. */
  lap(): void {
    const { capacity } = native.producerStatus(this.producer);
    const count = Math.ceil((2 * capacity) / EVENT_BYTES);
    this.risk(this.lastRead + 1n);
    const events = Array.from({ length: count }, () => EVENT);
    const first = this.sequence + 1n;
    assert.equal(native.producerEmitBatch(this.producer, 0, events, null), count);
    this.risk(first);
  }

  /** Bytes that are no event, published at the write position, then an event. */
  publishGarbage(): void {
    const { writePos, capacity } = native.producerStatus(this.producer);
    const first = this.sequence + 1n;
    this.write(DATA_OFFSET + Number(writePos % BigInt(capacity)), Uint8Array.of(255, 255, 255, 255));
    const position = new Uint8Array(8);
    new DataView(position.buffer).setBigUint64(0, writePos + 64n, true);
    this.write(WRITE_POS_OFFSET, position);
    this.emit();
    this.risk(first);
  }

  /** Garbage over the size of the next event a blocked reader will read. */
  damageNextUnread(): void {
    const { capacity } = native.producerStatus(this.producer);
    this.risk(this.lastRead + 1n);
    this.write(DATA_OFFSET + Number(this.readPos % BigInt(capacity)), Uint8Array.of(255, 255, 255, 255));
  }

  /** Another ring under the same name; what the old one holds survives. */
  replaceRing(): void {
    const { capacity } = native.producerStatus(this.producer);
    native.producerResize(this.producer, capacity === CAPACITY ? 2 * CAPACITY : CAPACITY);
    this.emit(2);
  }

  /** Where a reader would go on that starts now. */
  resume(): CpuResume {
    const found = resolveBoot(this.directory, BOOT).cpus.get(0) ?? NOTHING_SEEN;
    if (found.sequence > 0n) this.#resumed.add(found.sequence + 1n);
    return found;
  }

  /** The boot that the rings are said to be of. */
  nameBoot(bootId: Uint8Array): void {
    writeFileSync(join(this.directory, BOOT_ID_FILE), formatGuid(bootId));
  }

  hideRing(): void {
    renameSync(this.path, `${this.path}.hidden`);
  }

  showRing(): void {
    renameSync(`${this.path}.hidden`, this.path);
  }

  /** Both shards store what their channels hold. */
  commit(): void {
    if (this.#closed) return;
    for (const committer of this.#committers) {
      for (let more = true; more; ) {
        const result = committer.commit(LIMITS);
        assert.ok(result.rows <= this.#rows, `${result.rows} rows in one batch of at most ${this.#rows}`);
        more = result.more;
      }
    }
  }

  /** The most rows that channels take and batches have, from now on; what is queued stays (LIFE-144). */
  limit(rows: number): void {
    this.#rows = rows;
    for (const channel of this.channels) native.channelLimit(channel, rows);
  }

  /** A drain thread cannot start without its channels. */
  closeChannels(): void {
    this.#closed = true;
    for (const channel of this.channels) native.channelClose(channel);
  }

  /** Hands reports to the reader, in order, until `wanted` was among them; then further ones until `there`. */
  async deliver(what: string, wanted: (event: DrainEvent) => boolean, there: () => boolean): Promise<void> {
    await until(what, () => this.held.some(({ event }) => wanted(event)));
    for (let found = false; !found; ) {
      const report = this.held.shift();
      found = report === undefined || wanted(report.event);
      report?.deliver();
    }
    while (!there()) {
      await until(`what follows ${what}`, () => this.held.length > 0);
      this.held.shift()?.deliver();
    }
  }

  /**
   * The shards agree with the ring: nothing twice, nothing missing up to where the thread has read,
   * nothing in a gap record that was never in danger.
   *
   * @param finished the last sequence, once the last drain is over
   */
  check(finished: bigint | null = null): void {
    const read = finished ?? this.lastRead;
    if (!this.#narrow || finished !== null) this.commit();
    const stored: bigint[] = [];
    const covered: bigint[] = [];
    for (const reader of this.#readers) {
      const rows = reader.prepare('SELECT cpu_id, sequence, payload FROM events ORDER BY id').all() as {
        cpu_id: bigint | null;
        sequence: bigint | null;
        payload: Buffer;
      }[];
      let before = 0n;
      for (const { cpu_id: cpu, sequence, payload } of rows) {
        if (sequence !== null) {
          assert.equal(cpu, 0n);
          assert.ok(sequence > before, 'a shard holds a CPU in ascending order');
          before = sequence;
          stored.push(sequence);
          continue;
        }
        const { first_missing: first, last_missing: last, cause } = decode(payload) as Record<string, number>;
        const resumed = this.#resumed.has(BigInt(first ?? 0));
        assert.equal(cause, resumed ? 'restart' : 'ring_loss', `the cause of the gap ${first} to ${last}`);
        for (let s = Number(first); s <= Number(last); s++) covered.push(BigInt(s));
      }
    }
    const all = [...stored, ...covered];
    const distinct = new Set(all);
    assert.equal(distinct.size, all.length, 'a sequence is accounted for twice');
    for (const s of covered) assert.ok(this.#atRisk.has(s), `sequence ${s} is in a gap record`);
    if (this.#narrow && finished === null) return;
    for (let s = 1n; s <= read; s++) assert.ok(distinct.has(s), `sequence ${s} of ${read} is missing`);
    if (finished !== null) this.#checkResume(finished);
  }

  /** A restart would go on exactly behind the last sequence. */
  #checkResume(finished: bigint): void {
    const resume = resolveBoot(this.directory, BOOT).cpus.get(0);
    assert.equal(resume?.sequence ?? 0n, finished);
    assert.equal(resume?.covered.length ?? 0, 0);
  }

  close(): void {
    native.drainStart = this.#drainStart;
    if (this.#drain !== null) native.drainStop(this.#drain);
    else native.ringClose(this.ring.ring);
    for (const reader of this.#readers) reader.close();
    for (const committer of this.#committers) committer.close();
    if (!this.#closed) this.closeChannels();
    native.producerClose(this.producer);
    rmSync(this.directory, { recursive: true, force: true });
  }

  protected get sequence(): bigint {
    return native.producerStatus(this.producer).sequence;
  }

  protected get lastRead(): bigint {
    return this.#drain === null ? 0n : native.drainStatus(this.#drain).lastSequence;
  }

  protected get readPos(): bigint {
    return this.#drain === null ? 0n : native.drainStatus(this.#drain).readPos;
  }

  /** Everything from `first` to the newest event may be lost from now on. */
  protected risk(first: bigint, last = this.sequence): void {
    for (let s = first; s <= last; s++) this.#atRisk.add(s);
  }

  protected write(offset: number, bytes: Uint8Array): void {
    const fd = openSync(this.path, 'r+');
    writeSync(fd, bytes, 0, bytes.length, offset);
    const back = new Uint8Array(bytes.length);
    readSync(fd, back, 0, back.length, offset);
    closeSync(fd);
    assert.deepEqual(back, bytes);
  }
}
