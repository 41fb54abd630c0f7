/**
 * What streams cost the event path, and how late their records are: the same load with no tail, with one
 * and with many. Each tail looks for other events, by a payload field, and sees one in a thousand; the last
 * row is one tail that takes everything. Exits 1 when a record is missing or comes twice, a stream is
 * dropped, or an event is lost.
 *
 *   npm run bench:tails -- [--events N] [--rate PER_SECOND] [--tails N]
 */
import { readFileSync } from 'node:fs';
import { connect } from 'node:net';
import { Decoder } from '@msgpack/msgpack';
import { FrameDecoder } from '../src/wire/frame.js';
import { encodeRequest } from '../src/wire/messages.js';
import { EventdWorld } from '../test/fixtures/eventd.js';
import { RingLoad } from '../test/fixtures/ringload.js';
import { benchOptions } from './options.js';
import { table } from './table.js';

const values = benchOptions({
  events: { type: 'string', default: '500000' },
  rate: { type: 'string', default: '100000' },
  tails: { type: 'string', default: '64' },
});
const EVENTS = Number(values.events);
const RATE = Number(values.rate);
const CPUS = 2;
const CAPACITY = 8 << 20;
/** One event in so many is for a selective tail. */
const SHARE = 1000;
/** Clock ticks per second of /proc, on every Linux that runs Node. */
const TICKS = 100;
const PATIENCE_MS = 30_000;

const decoder = new Decoder({ useBigInt64: true });

/** Where the number of records stands in a result message: behind "status", "ok" and "records". */
const COUNT_AT = 20;
/** And the timestamp of its first record, which is the first field of a whole record. */
const TIMESTAMP_AT = 36;

/** A client of one stream: counts records and notes how late each is, ms. */
class Tail {
  readonly delays: number[] = [];
  readonly #seen = new Set<string>();
  readonly #counting: boolean;
  #counted = 0;
  readonly ready: Promise<void>;
  twice = 0;
  error: string | null = null;
  readonly #end: () => void;

  /** @param counting looks at the number of records and at the first of each message alone */
  constructor(path: string, query: string, counting: boolean) {
    this.#counting = counting;
    const socket = connect(path);
    const frames = new FrameDecoder(256 << 20);
    this.#end = () => socket.destroy();
    this.ready = new Promise((resolve, reject) => {
      socket.on('error', reject);
      socket.on('close', () => reject(new Error(this.error ?? 'closed')));
      socket.on('data', (chunk: Uint8Array) => {
        const now = performance.timeOrigin + performance.now();
        frames.push(chunk);
        for (let payload = frames.next(); payload !== null; payload = frames.next()) {
          this.#message(payload, now);
          resolve();
        }
      });
    });
    this.ready.catch(() => undefined);
    socket.write(encodeRequest(query));
  }

  get records(): number {
    return this.#seen.size + this.#counted;
  }

  close(): void {
    this.#end();
  }

  #message(payload: Uint8Array, now: number): void {
    const isResult = payload.length > 300;
    if (this.#counting && isResult) {
      const bytes = Buffer.from(payload.buffer, payload.byteOffset, payload.length);
      this.#counted += bytes.readUInt32BE(COUNT_AT);
      this.delays.push(now - Number(bytes.readBigUInt64BE(TIMESTAMP_AT)) / 1e6);
    } else this.#take(decoder.decode(payload) as Record<string, unknown>, now);
  }

  #take(message: Record<string, unknown>, now: number): void {
    if (message.status === 'error') this.error = String(message.error);
    for (const record of (message.records ?? []) as Record<string, unknown>[]) {
      const key = `${record.cpu_id} ${record.sequence}`;
      if (this.#seen.has(key)) this.twice++;
      this.#seen.add(key);
      this.delays.push(now - Number(record.timestamp) / 1e6);
    }
  }
}

/** Numbers of one ring's events that a selective tail sees. */
function numbersOf(tail: number): number[] {
  const all = EVENTS / CPUS;
  return Array.from({ length: Math.ceil(all / SHARE) }, (_, i) => 1 + i * SHARE + (tail % SHARE)).filter(
    (n) => n <= all,
  );
}

function cpuSeconds(pid: number): number {
  const [, fields] = readFileSync(`/proc/${pid}/stat`, 'latin1').split(') ');
  const [user, system] = (fields ?? '').split(' ').slice(11, 13).map(Number);
  return ((user ?? 0) + (system ?? 0)) / TICKS;
}

function percentile(sorted: readonly number[], share: number): number {
  return Math.round((sorted[Math.floor((sorted.length - 1) * share)] ?? Number.NaN) * 10) / 10;
}

interface Result {
  readonly row: (string | number)[];
  readonly faults: string[];
}

async function measure(
  name: string,
  queries: readonly string[],
  wanted: (tail: number) => number,
  counting = false,
): Promise<Result> {
  const world = new EventdWorld({ cpus: CPUS, capacity: CAPACITY });
  const faults: string[] = [];
  try {
    const run = await world.start();
    const tails = queries.map((query) => new Tail(world.paths.querySocket, query, counting));
    await Promise.all(tails.map(({ ready }) => ready));
    const before = cpuSeconds(run.pid);
    const load = new RingLoad(world.paths.kmes, { cpus: CPUS, events: EVENTS, ratePerSecond: RATE });
    const result = await load.done;
    if (result === null) throw new Error('the load generator was killed');
    const emittedAt = performance.now();
    for (let cpu = 0; cpu < CPUS; cpu++) await world.stored(cpu, BigInt(result.last[cpu] ?? 0));
    const storedMs = performance.now() - emittedAt;
    const late = () => tails.filter((tail, n) => tail.error === null && tail.records < wanted(n));
    for (const limit = performance.now() + PATIENCE_MS; late().length > 0 && performance.now() < limit; ) {
      await new Promise((resolve) => setTimeout(resolve, 5));
    }
    const cpu = cpuSeconds(run.pid) - before;
    const gaps = world.gaps().length;
    if (gaps > 0) faults.push(`${name}: ${gaps} gap records`);
    for (const [n, tail] of tails.entries()) {
      if (tail.error !== null) faults.push(`${name}: tail ${n}: ${tail.error}`);
      else if (tail.records !== wanted(n))
        faults.push(`${name}: tail ${n} saw ${tail.records} of ${wanted(n)}`);
      if (tail.twice > 0) faults.push(`${name}: tail ${n} saw ${tail.twice} twice`);
      tail.close();
    }
    const delays = tails.flatMap((tail) => tail.delays).sort((a, b) => a - b);
    const perEvent = Math.round((cpu * 1e9) / EVENTS) / 1000;
    return {
      row: [
        name,
        Math.round(result.events / result.seconds),
        Math.round(storedMs),
        perEvent,
        delays.length,
        percentile(delays, 0.5),
        percentile(delays, 0.99),
      ],
      faults,
    };
  } finally {
    await world.close();
  }
}

const selective = (n: number): string =>
  `EVENTS bench.* TAKE 0 WHERE n IN (${numbersOf(n).join(', ')}) SELECT timestamp, cpu_id, sequence STREAM`;
const share = (n: number): number => numbersOf(n).length * CPUS;
const many = Number(values.tails);

const results = [
  await measure('no tail', [], () => 0),
  await measure('1 tail', [selective(0)], share),
  await measure(
    `${many} tails`,
    Array.from({ length: many }, (_, n) => selective(n)),
    share,
  ),
  await measure('1 tail, everything', ['EVENTS bench.* TAKE 0 STREAM'], () => EVENTS, true),
];
console.log(
  table(
    ['', 'events/s', 'stored after ms', 'eventd µs/event', 'records', 'delay p50 ms', 'p99 ms'],
    results.map(({ row }) => row),
  ),
);
const faults = results.flatMap((result) => result.faults);
for (const fault of faults) console.error(fault);
process.exitCode = faults.length === 0 ? 0 : 1;
