/**
 * Random walks of one shard writer in its own thread, fed by two rings: bursts, locks, refused rows, new
 * limits, broken files, an end at any time. Whatever happened, the account of every sequence is exact.
 */
import assert from 'node:assert/strict';
import { mkdirSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { setTimeout as pause } from 'node:timers/promises';
import { MessageChannel } from 'node:worker_threads';
import fc from 'fast-check';
import type { FromWriter, ToWriter } from '../../actors/messages.js';
import { openChannel } from '../../actors/shardWriter/shardWriter.js';
import type { ShardWriterThreadData } from '../../actors/shardWriter/worker.js';
import { startThread } from '../../actors/thread.js';
import type { WriterLimits } from '../../machines/shardWriter.js';
import { type DrainHandle, native, type ProducerHandle } from '../../src/native/addon.js';
import { configChangeEvent } from '../../src/stores/synthetic.js';
import { acceptRows, refuseRows } from '../fixtures/database.js';
import { DaemonStore } from './daemonStore.js';
import { walkRandomly } from './random.js';
import { memoryDirectory, until } from './walk.js';

const CPUS = 2;
const CAPACITY = 1 << 20;
const BOOT = Uint8Array.from({ length: 16 }, (_, i) => i + 1);
const TYPE = new TextEncoder().encode('walk.event');
const PAYLOAD = Uint8Array.of(0x81, 0xa1, 0x6e, 0x01);
/** Larger than the ring: its sequence is used up and its event is not there. */
const OVERSIZE = new Uint8Array(CAPACITY);
const LIMITS: WriterLimits = { maxBatchSize: 400, maxBatchLatencyMs: 20 };

type Command =
  | { readonly do: 'emit'; readonly cpu: number; readonly count: number }
  | { readonly do: 'drop'; readonly cpu: number }
  | { readonly do: 'synthetic' | 'repair' | 'refuse' | 'dump' }
  | { readonly do: 'limits'; readonly maxBatchSize: number; readonly maxBatchLatencyMs: number }
  | { readonly do: 'lock' | 'wait'; readonly ms: number }
  /** The file breaks; nothing of it may be written any more. */
  | { readonly do: 'damage' | 'cut' | 'remove' | 'removeWal' }
  | { readonly do: 'stop' }
  /** Its thread ends there and then. */
  | { readonly do: 'kill' };

const cpu = fc.nat(CPUS - 1);
const command = fc.oneof<fc.WeightedArbitrary<Command>[]>(
  {
    weight: 8,
    arbitrary: fc.record({ do: fc.constant('emit' as const), cpu, count: fc.integer({ min: 1, max: 300 }) }),
  },
  { weight: 2, arbitrary: fc.record({ do: fc.constant('drop' as const), cpu }) },
  {
    weight: 5,
    arbitrary: fc.constantFrom<Command>(
      { do: 'synthetic' },
      { do: 'refuse' },
      { do: 'repair' },
      { do: 'repair' },
      { do: 'dump' },
    ),
  },
  {
    weight: 2,
    arbitrary: fc.record({
      do: fc.constant('limits' as const),
      maxBatchSize: fc.integer({ min: 1, max: 2000 }),
      maxBatchLatencyMs: fc.integer({ min: 1, max: 100 }),
    }),
  },
  {
    weight: 3,
    arbitrary: fc.record({
      do: fc.constantFrom('lock' as const, 'wait' as const),
      ms: fc.integer({ min: 0, max: 40 }),
    }),
  },
  {
    weight: 1,
    arbitrary: fc.constantFrom<Command>(
      { do: 'damage' },
      { do: 'cut' },
      { do: 'remove' },
      { do: 'removeWal' },
    ),
  },
  { weight: 1, arbitrary: fc.constantFrom<Command>({ do: 'stop' }, { do: 'kill' }) },
);

const root = memoryDirectory();

class Walk {
  readonly #directory = mkdtempSync(join(root, 'w-'));
  readonly #store: DaemonStore;
  readonly #file: string;
  readonly #channel = openChannel(0, LIMITS);
  readonly #producers: ProducerHandle[] = [];
  readonly #drains: DrainHandle[] = [];
  readonly #thread;
  readonly #reports: FromWriter[] = [];
  readonly #synthetic: string[] = [];
  readonly #readers = new MessageChannel();
  #broken: 'damage' | 'cut' | 'remove' | 'removeWal' | null = null;
  #refused = false;
  #ended: 'stop' | 'kill' | null = null;

  constructor() {
    const events = join(this.#directory, 'events');
    mkdirSync(events);
    this.#store = new DaemonStore(events, BOOT, CPUS);
    this.#file = join(events, 'shard-0000.db');
    for (let number = 0; number < CPUS; number++) {
      const path = join(this.#directory, `cpu-${number}.ring`);
      this.#producers.push(native.producerCreate(path, number, CAPACITY));
      const options = {
        ring: native.ringOpen(path).ring,
        cpu: number,
        channels: [this.#channel],
        lastSequence: 0n,
        lastTimestamp: null,
        covered: new BigUint64Array(),
        elevatedPercent: 50,
        emergencyPercent: 80,
      };
      this.#drains.push(
        native.drainStart(options, (event) => {
          if (event.type === 'available')
            this.#readers.port1.postMessage({ type: 'batch.available', halfFull: event.halfFull });
        }),
      );
    }
    const data: ShardWriterThreadData = {
      shard: 0,
      file: this.#file,
      bootId: BOOT,
      channel: this.#channel,
      unordered: [],
      limits: LIMITS,
      readers: this.#readers.port2,
    };
    const entry = new URL('../../actors/shardWriter/worker.js', import.meta.url);
    this.#thread = startThread<FromWriter, ToWriter>('writer-0', entry, { ...data }, [this.#readers.port2]);
    this.#thread.messages$.subscribe((report) => this.#reports.push(report));
  }

  async run(commands: readonly Command[]): Promise<void> {
    await until('the writer to be ready', () => this.#heard('ready'));
    for (const one of commands) {
      await this.#do(one);
      // What is on disk at this instant is what a crash would leave.
      if (this.#broken === null) assert.deepEqual(this.#store.problems(this.#emitted), []);
      if (this.#ended === 'kill') break;
    }
    if (this.#ended === 'kill') await this.#thread.ended;
    else if (this.#ended === 'stop') await this.#end();
    else await this.#settleAndEnd();
    await this.#checkFile();
  }

  async close(): Promise<void> {
    this.#store.unlock();
    await this.#thread.terminate();
    this.#readers.port1.close();
    for (const drain of this.#drains) native.drainStop(drain);
    native.channelClose(this.#channel);
    for (const producer of this.#producers) native.producerClose(producer);
    rmSync(this.#directory, { recursive: true, force: true });
  }

  async #do(one: Command): Promise<void> {
    switch (one.do) {
      case 'emit':
        return this.#emit(one.cpu, one.count);
      case 'drop': {
        const producer = this.#producer(one.cpu);
        native.producerEmit(producer, 0, { type: TYPE, payload: OVERSIZE }, null);
        // A missing sequence shows when the next one comes.
        return this.#emit(one.cpu, 1);
      }
      case 'synthetic': {
        const key = `Key${this.#synthetic.length}`;
        this.#synthetic.push(key);
        const event = configChangeEvent(native.realtimeNs(), { key, oldValue: 1, newValue: 2 });
        return this.#thread.send({ type: 'synthetic', event });
      }
      case 'limits':
        return this.#thread.send({ type: 'limits', limits: one });
      case 'refuse':
        this.#refused ||= this.#broken === null;
        if (this.#broken === null) refuseRows(this.#file, 'events');
        return;
      case 'repair':
        return this.#acceptRows();
      case 'lock':
        if (this.#broken !== null) return;
        this.#store.lock(this.#file);
        await pause(one.ms);
        return this.#store.unlock();
      case 'wait':
        await pause(one.ms);
        return;
      case 'dump': {
        const asked = this.#count('dumped');
        this.#thread.send({ type: 'dump' });
        return until('the dump', () => this.#count('dumped') > asked || this.#count('closed') > 0);
      }
      case 'stop':
      case 'kill':
        if (this.#ended !== null) return;
        this.#ended = one.do;
        if (one.do === 'kill') await this.#thread.terminate();
        else this.#thread.send({ type: 'stop' });
        return;
      default:
        return this.#break(one.do);
    }
  }

  /** At most one break in a walk: the writer must not write any more after it. */
  #break(how: 'damage' | 'cut' | 'remove' | 'removeWal'): void {
    if (this.#broken !== null || this.#ended !== null) return;
    this.#broken = how;
    if (how === 'damage') this.#store.damage(this.#file);
    else if (how === 'cut') this.#store.cut(this.#file);
    else if (how === 'removeWal') this.#store.removeWal(this.#file);
    else this.#store.remove(this.#file, { wal: true });
  }

  /** No more faults: whatever has come so far must be stored, but in a broken file. */
  async #settleAndEnd(): Promise<void> {
    if (this.#broken === null) {
      this.#acceptRows();
      const missing = (): string[] => this.#store.missing(this.#emitted);
      await until('every event to be stored', () => missing().length === 0).catch(() => undefined);
      assert.deepEqual(missing(), [], 'neither stored nor in a gap record');
      const stored = (): unknown[] => this.#keys();
      await until('every synthetic row', () => stored().length === this.#synthetic.length).catch(
        () => undefined,
      );
      assert.deepEqual(stored(), this.#synthetic, 'each once, in order');
      const lost = this.#reports.flatMap((report) => (report.type === 'failed' ? report.failure.lost : []));
      assert.ok(this.#refused || lost.length === 0, 'nothing failed unless rows were refused');
    } else {
      this.#emit(0, 3);
      await until('the break to be found', () => this.#heard('readOnly'));
      this.#checkFailure();
    }
    this.#thread.send({ type: 'stop' });
    await this.#end();
  }

  #checkFailure(): void {
    const failed = this.#reports.filter((report) => report.type === 'failed').at(-1);
    assert.ok(failed?.type === 'failed' && failed.failure.corrupt);
    const codes = {
      damage: /^SQLITE_CORRUPT/,
      // A file cut to what it had when it was last looked at is SQLite's to find.
      cut: /^(ERR_SHARD_TRUNCATED$|SQLITE_CORRUPT|SQLITE_NOTADB|SQLITE_IOERR_SHORT_READ)/,
      remove: /^ERR_SHARD_GONE$/,
      removeWal: /^ERR_SHARD_WAL_GONE$/,
    };
    if (this.#broken !== null) assert.match(failed.failure.code, codes[this.#broken]);
    assert.ok(this.#reports.indexOf(failed) < this.#reports.findIndex(({ type }) => type === 'readOnly'));
    const after = this.#reports.slice(this.#reports.indexOf(failed));
    assert.ok(
      !after.some(({ type }) => type === 'committed'),
      'nothing was committed after the break was found',
    );
  }

  async #end(): Promise<void> {
    const over = (): boolean => this.#heard('drained') || this.#heard('closed');
    await until('the last commit', over);
    this.#thread.send({ type: 'close' });
    await this.#thread.ended;
    assert.equal(this.#reports.at(-1)?.type, 'closed');
    assert.equal(this.#count('closed'), 1);
    const drained = this.#reports.filter((report) => report.type === 'drained').at(-1);
    if (this.#broken !== null || drained?.type !== 'drained') return;
    const stored = this.#store.highest;
    assert.deepEqual(drained.lastSequences, stored, 'what it says that it has stored');
  }

  /** The file as it was left. */
  async #checkFile(): Promise<void> {
    if (this.#broken === 'cut' || this.#broken === 'remove') return;
    assert.deepEqual(this.#store.problems(this.#emitted), []);
    const keys = this.#keys();
    assert.deepEqual(keys, this.#synthetic.slice(0, keys.length), 'synthetic rows in order, none twice');
    if (this.#broken === 'damage' && this.#heard('readOnly')) {
      // Whoever opens it now sees what the writer left: the damaged page is as it was.
      const bytes = readFileSync(this.#file);
      assert.ok(bytes.includes(Buffer.alloc(8192, 0xff)), 'not a byte of the damage was written over');
    }
  }

  #keys(): unknown[] {
    return this.#store.synthetic('synthetic.config_change').map(({ key_name }) => key_name);
  }

  #emit(number: number, count: number): void {
    const events = Array.from({ length: count }, () => ({ type: TYPE, payload: PAYLOAD }));
    native.producerEmitBatch(this.#producer(number), 0, events, null);
  }

  #acceptRows(): void {
    if (this.#broken === null) acceptRows(this.#file);
  }

  #producer(number: number): ProducerHandle {
    const producer = this.#producers[number];
    if (producer === undefined) throw new RangeError(`no CPU ${number}`);
    return producer;
  }

  get #emitted(): bigint[] {
    return this.#producers.map((producer) => native.producerStatus(producer).sequence);
  }

  #count(type: FromWriter['type']): number {
    return this.#reports.filter((report) => report.type === type).length;
  }

  #heard(type: FromWriter['type']): boolean {
    return this.#count(type) > 0;
  }
}

test('[ING-17][ING-46][ING-48][ING-55][ING-71][FAIL-3][FAIL-4][FAIL-5][FAIL-9][FAIL-13][STO-15][LIFE-204][LIFE-221] on random walks every sequence is stored or recorded as lost, once, whatever happens to the file and to the writer', async (t) => {
  const sequences = fc.array(command, { minLength: 4, maxLength: 24 });
  await walkRandomly(t, sequences, 10, () => new Walk());
});
