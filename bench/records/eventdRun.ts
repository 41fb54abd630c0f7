/** The real eventd under a load of records, and what became of every one of them. */
import { statSync } from 'node:fs';
import { setTimeout as pause } from 'node:timers/promises';
import Database from 'better-sqlite3';
import { type EventdRun, EventdWorld } from '../../test/fixtures/eventd.js';
import { settleDisk } from '../ingest/workload.js';
import { cpuSeconds } from './processes.js';
import { type Load, type Sent, send } from './senders.js';

export type Store = 'log' | 'metric';

/** The last record counts as stored when nothing has come for so long, ms. */
const QUIET_MS = 1500;
const POLL_MS = 10;

export interface Offer {
  readonly offered: number;
  readonly sent: Sent;
  readonly stored: number;
  /** As eventd counted them, in records. */
  readonly dropped: number;
  /** First send to last commit. */
  readonly seconds: number;
  /** Of eventd, all threads, us per stored record. */
  readonly cpuMicros: number;
  /** Records per transaction. */
  readonly batch: number;
  /** Of the closed database. */
  readonly bytesPerRecord: number;
}

/** Stored per second, until the last one was committed: what only fills the buffer does not count. */
export function storedPerSecond({ stored, seconds }: Offer): number {
  return stored / seconds;
}

/** An eventd of its own, until `close`. */
export class RecordHost {
  readonly #world: EventdWorld;
  readonly #store: Store;
  readonly #run: EventdRun;

  private constructor(
    world: EventdWorld,
    store: Store,
    readonly file: string,
    run: EventdRun,
  ) {
    this.#world = world;
    this.#store = store;
    this.#run = run;
  }

  static async start(store: Store, settings: Readonly<Record<string, number>> = {}): Promise<RecordHost> {
    // Its own samples would be counted with ours.
    const world = new EventdWorld({ cpus: 1, settings: { HealthMetricIntervalSeconds: 0, ...settings } });
    const file = store === 'log' ? world.paths.logs : world.paths.metrics;
    try {
      return new RecordHost(world, store, file, await world.start());
    } catch (error) {
      await world.close();
      throw error;
    }
  }

  get socket(): string {
    return this.#store === 'log' ? this.#world.paths.logSocket : this.#world.paths.metricSocket;
  }

  get pid(): number {
    return this.#run.pid;
  }

  settleDisk(): Promise<void> {
    return settleDisk(this.#world.dir);
  }

  /** Rows in the store. Nothing is ever deleted here, so that the highest row id is their number. */
  stored(): number {
    const db = new Database(this.file, { readonly: true });
    try {
      const table = this.#store === 'log' ? 'logs' : 'samples';
      return Number(db.prepare(`SELECT max(rowid) FROM ${table}`).pluck().get() ?? 0);
    } finally {
      db.close();
    }
  }

  /** When the last of `expected` rows was there, or the last one that came at all; ms of the monotonic clock. */
  async settled(expected: number): Promise<{ rows: number; at: number }> {
    let rows = this.stored();
    let at = performance.now();
    while (rows < expected && performance.now() - at < QUIET_MS) {
      await pause(POLL_MS);
      const now = this.stored();
      if (now > rows) {
        rows = now;
        at = performance.now();
      }
    }
    return { rows, at };
  }

  signal(signal: NodeJS.Signals): void {
    this.#run.kill(signal);
  }

  /** Ends eventd; what its receiver dropped, in datagrams, and its commits, both since the start. */
  async end(): Promise<{ dropped: number; commits: number }> {
    const { code } = await this.#run.end('SIGQUIT');
    if (code !== 0) throw new Error(`eventd ended with ${code}: ${this.#run.stderr}`);
    const line = new RegExp(`^ +${this.#store} writer.*$`, 'm').exec(this.#run.stderr)?.[0] ?? '';
    const number = (what: string) => {
      const [, digits] = new RegExp(`(\\d+) ${what}`).exec(line) ?? [];
      if (digits === undefined) throw new Error(`the dump does not tell ${what}: ${line}`);
      return Number(digits);
    };
    return { dropped: number('dropped'), commits: number('commits') };
  }

  async close(): Promise<void> {
    await this.#world.close();
  }
}

/**
 * One load on a fresh eventd. Every series or origin is sent once before, so that none has to be made
 * while the clock runs.
 *
 * @throws Error when a record is neither stored nor counted
 */
export async function offer(
  store: Store,
  load: Load,
  settings: Readonly<Record<string, number>> = {},
): Promise<Offer> {
  const host = await RecordHost.start(store, settings);
  try {
    const warm = await send(host.socket, {
      ...load,
      records: load.series,
      rate: 20_000,
      batch: 20,
      senders: 1,
    });
    const before = await host.settled(warm.records);
    await host.settleDisk();
    const cpuBefore = cpuSeconds(host.pid);
    const started = performance.now();
    const sent = await send(host.socket, load);
    const after = await host.settled(before.rows + sent.records);
    const cpu = cpuSeconds(host.pid) - cpuBefore;
    const { dropped, commits } = await host.end();
    const stored = after.rows - before.rows;
    const lost = dropped * load.batch;
    if (before.rows !== warm.records || stored + lost !== sent.records)
      throw new Error(
        `${warm.records} + ${sent.records} records sent, ${before.rows} + ${stored} stored, ${lost} counted as dropped`,
      );
    return {
      offered: load.rate,
      sent,
      stored,
      dropped: lost,
      seconds: (after.at - started) / 1000,
      cpuMicros: (cpu / stored) * 1e6,
      batch: stored / commits,
      bytesPerRecord: statSync(host.file).size / after.rows,
    };
  } finally {
    await host.close();
  }
}

const STEP = 1.15;
const MOST_TRIES = 12;
/** A run that stores less than this share of what was offered was not offered it, or not stored in time. */
const KEPT_UP = 0.9;

/**
 * The highest rate at which nothing is dropped: up in steps of 15 % until something is, or down until
 * nothing is. The machine ends the search, too, when its senders cannot offer more.
 */
export async function highestRate(
  start: number,
  probe: (rate: number) => Promise<Offer>,
  onTry: (offer: Offer) => void,
): Promise<Offer> {
  let best: Offer | null = null;
  let failed = false;
  for (let tries = 0, rate = start; tries < MOST_TRIES; tries++) {
    const tried = await probe(Math.round(rate));
    onTry(tried);
    if (tried.dropped > 0) {
      failed = true;
      if (best !== null) return best;
      rate /= STEP;
      continue;
    }
    if (best === null || storedPerSecond(tried) > storedPerSecond(best)) best = tried;
    if (failed || storedPerSecond(tried) < rate * KEPT_UP) return best;
    rate *= STEP;
  }
  if (best === null) throw new Error('records were dropped at every rate that was tried');
  return best;
}
