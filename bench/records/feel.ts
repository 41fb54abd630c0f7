/**
 * What a sender feels: how long one send takes, at a moderate rate, in the states eventd can be in. A
 * plain sender blocks when the socket's queue is full; eventd's own never do.
 */
import { setTimeout as pause, setImmediate as turn } from 'node:timers/promises';
import Database from 'better-sqlite3';
import { DatagramSender } from '../../src/wire/datagramSender.js';
import { encodeLog, encodeSample } from '../../src/wire/recordSender.js';
import { table } from '../table.js';
import { RecordHost, type Store } from './eventdRun.js';
import type { Verdict } from './report.js';
import { type Load, send } from './senders.js';

/** Datagrams per second of the sender that is measured. */
const RATE = 1000;
/** Rate and size of what makes eventd checkpoint all the time. */
const CHECKPOINT_LOAD = {
  log: { rate: 4000, batch: 20, message: 8000, series: 10 },
  metric: { rate: 60_000, batch: 100, message: 100, series: 5000 },
} as const;
const LIMIT_US = 1000;
/** Until a state has set in, ms. */
const SETTLE_MS = 500;
/** After READY=1 query threads still start, ms. */
const START_MS = 3000;

export interface FeelOptions {
  readonly store: Store;
  /** The load that counts as full. */
  readonly full: Load;
  /** Length of each measurement. */
  readonly seconds: number;
}

interface Felt {
  readonly sender: 'blocking' | 'non-blocking' | "eventd's own";
  readonly state: string;
  readonly sends: number;
  readonly p50us: number;
  readonly p99us: number;
  readonly p999us: number;
  readonly maxus: number;
  /** The limit holds in this state. */
  readonly bound: boolean;
}

/** Measures every state; a verdict for each in which the limit holds. */
export async function feel(options: FeelOptions): Promise<Verdict[]> {
  const felt: Felt[] = [];
  for (const state of STATES) {
    process.stderr.write(`\rwhat a sender feels: ${state.title.padEnd(50)}`);
    const host = await RecordHost.start(options.store);
    try {
      await pause(START_MS);
      felt.push(await state.measure(host, options));
    } finally {
      await host.close();
    }
  }
  process.stderr.write('\r\x1b[K');
  console.log(
    table(
      ['sender', 'eventd', 'sends', 'p50 us', 'p99 us', 'p99.9 us', 'max us'],
      felt.map(({ sender, state, sends, p50us, p99us, p999us, maxus }) => [
        sender,
        state,
        sends,
        ...[p50us, p99us, p999us, maxus].map((us) => us.toFixed(0)),
      ]),
    ),
  );
  return felt.flatMap(({ sender, state, p99us, bound }) =>
    bound
      ? [
          {
            text: `p99 of one send, ${sender} sender, eventd ${state}`,
            measured: `${p99us.toFixed(0)} us`,
            target: `< ${LIMIT_US} us`,
            met: p99us < LIMIT_US,
          },
        ]
      : [],
  );
}

interface State {
  readonly title: string;
  measure(host: RecordHost, options: FeelOptions): Promise<Felt>;
}

const STATES: readonly State[] = [
  blocking('idle', async (host, options) => probe(host, options)),
  blocking('under full load', async (host, options) => during(host, options, options.full)),
  blocking('overloaded, dropping', async (host, options) =>
    during(host, options, { ...options.full, rate: 0 }),
  ),
  blocking('whose commits wait for a lock', whileLocked),
  blocking('checkpointing', async (host, options) =>
    during(host, options, { ...options.full, ...CHECKPOINT_LOAD[options.store] }),
  ),
  own('idle', async () => undefined),
  own('under full load', async (host, options) => {
    const seconds = options.seconds + 2 * (SETTLE_MS / 1000);
    void send(host.socket, { ...options.full, records: 0, seconds }).catch(() => undefined);
    await pause(SETTLE_MS);
  }),
  own('stopped by SIGSTOP', async (host) => {
    host.signal('SIGSTOP');
    await pause(SETTLE_MS);
  }),
  own('gone', async (host) => {
    await host.end();
  }),
];

interface Times {
  readonly sends: number;
  readonly p50us: number;
  readonly p99us: number;
  readonly p999us: number;
  readonly maxus: number;
}

function blocking(state: string, measure: (host: RecordHost, options: FeelOptions) => Promise<Times>): State {
  return {
    title: `blocking, ${state}`,
    measure: async (host, options) => ({
      sender: 'blocking',
      state,
      bound: true,
      ...(await measure(host, options)),
    }),
  };
}

function own(state: string, prepare: (host: RecordHost, options: FeelOptions) => Promise<void>): State {
  return {
    title: `eventd's own, ${state}`,
    measure: async (host, options) => {
      await prepare(host, options);
      return { sender: "eventd's own", state, bound: true, ...(await ownTimes(host.socket, options)) };
    },
  };
}

/** The sender that is measured: one record per datagram. */
async function probe({ socket }: RecordHost, { store, seconds }: FeelOptions): Promise<Times> {
  const { datagrams, p50us, p99us, p999us, maxus } = await send(socket, {
    kind: store === 'log' ? 'log' : 'gauge',
    records: RATE * seconds,
    rate: RATE,
    batch: 1,
    senders: 1,
    series: 1,
  });
  return { sends: datagrams, p50us, p99us, p999us, maxus };
}

async function during(host: RecordHost, options: FeelOptions, load: Load): Promise<Times> {
  const loading = send(host.socket, {
    ...load,
    records: 0,
    seconds: options.seconds + 2 * (SETTLE_MS / 1000),
  });
  loading.catch(() => undefined);
  await pause(SETTLE_MS);
  const times = await probe(host, options);
  await loading;
  return times;
}

/** Somebody holds the write lock all the time: a transaction waits, then fails. */
async function whileLocked(host: RecordHost, options: FeelOptions): Promise<Times> {
  const db = new Database(host.file);
  try {
    db.exec('BEGIN IMMEDIATE');
    return await during(host, options, { ...options.full, rate: options.full.rate / 2 });
  } finally {
    db.close();
  }
}

/** What a program feels that uses eventd's client library: a record at a time, with the turn that sends it. */
async function ownTimes(path: string, { store, seconds }: FeelOptions): Promise<Times> {
  const sender = new DatagramSender({ path });
  const record =
    store === 'log'
      ? encodeLog({ origin: 'load-own', isError: false, message: 'x'.repeat(100) })
      : encodeSample({ type: 'gauge', name: 'load.own', value: 1.5, labels: { series: 'own' } });
  const times: number[] = [];
  const started = performance.now();
  for (let number = 0; number < RATE * seconds; number++) {
    const due = started + (number * 1000) / RATE;
    if (performance.now() < due) await pause(Math.max(1, due - performance.now()));
    const before = performance.now();
    sender.push(record);
    // The turn of the event loop in which it is sent, if it can be.
    await turn();
    times.push((performance.now() - before) * 1000);
  }
  sender.close();
  times.sort((a, b) => a - b);
  const at = (share: number) => times[Math.min(times.length - 1, Math.floor(share * times.length))] ?? 0;
  return { sends: times.length, p50us: at(0.5), p99us: at(0.99), p999us: at(0.999), maxus: at(1) };
}
