/** What every variant of the ingest benchmark stores: events of one shape, made by the load generator. */
import { execFile, spawn } from 'node:child_process';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { addonPath } from '../../src/native/addon.js';

/** Header 77, type 19 and payload 100 bytes. */
export const EVENT_TYPE = 'bench.ingest.sample';
const PAYLOAD_BYTES = 100;
export const EVENT_BYTES = 77 + EVENT_TYPE.length + PAYLOAD_BYTES;

/** Rows per transaction in every variant. */
export const BATCH = 10_000;
/** What the peers, who do not ask SQLite, take a row to cost in the WAL beside its payload, bytes. */
export const ROW_OVERHEAD = 40;
export const LIMITS = { maxBatchSize: BATCH, maxBatchLatencyMs: 100 };

/** Events published together by the load generator. */
const EMIT_BATCH = 16;

export const BOOT_ID = Uint8Array.from({ length: 16 }, (_, i) => 0xb0 + i);

/** Compiled programs of the addon build lie beside the addon. */
const RINGLOAD = join(addonPath, '..', 'ringload');
export const PROJECT = fileURLToPath(new URL('../../../', import.meta.url));

export interface Emitted {
  /** Sequences used up in all rings: what has to be in the store, as an event or inside a gap record. */
  readonly events: number;
  readonly seconds: number;
}

export interface LoadOptions {
  readonly directory: string;
  readonly rings: number;
  /** For all rings together. */
  readonly events: number;
  /** Per second for all rings together; 0 = as fast as possible. */
  readonly rate: number;
  /** Creates missing rings with this many data bytes. */
  readonly create?: number;
}

/** Runs the load generator to its end, in a process of its own. */
export async function emitEvents(options: LoadOptions): Promise<Emitted> {
  const { directory, rings, events, rate, create } = options;
  const flags = Object.entries({
    cpus: rings,
    events,
    rate,
    payload: PAYLOAD_BYTES,
    batch: EMIT_BATCH,
    ...(create === undefined ? {} : { create }),
  }).flatMap(([flag, value]) => [`--${flag}`, String(value)]);
  const { stdout } = await promisify(execFile)(RINGLOAD, [directory, '--type', EVENT_TYPE, ...flags]);
  const { last, seconds } = JSON.parse(stdout) as { last: number[]; seconds: number };
  return { events: last.reduce((sum, sequence) => sum + sequence, 0), seconds };
}

/** The smallest ring capacity, in bytes, that holds this many events without overwriting any. */
export function capacityFor(events: number): number {
  return 2 ** Math.max(16, Math.ceil(Math.log2((events + EMIT_BATCH) * EVENT_BYTES)));
}

/** Writes out what earlier variants left dirty, so that the next one does not pay for it. */
export async function settleDisk(directory: string): Promise<void> {
  await new Promise<void>((resolve, reject) => {
    const child = spawn('sync', ['-f', directory], { stdio: 'ignore' });
    child.once('error', reject);
    child.once('exit', () => resolve());
  });
}
