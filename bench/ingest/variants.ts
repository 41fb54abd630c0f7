/** The variants of the benchmark: what each runs, and what it has to leave in the store. */
import { mkdirSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { ringFileName } from '../../src/host/kmes.js';
import { native } from '../../src/native/addon.js';
import { openShardWriter } from '../../src/stores/shard.js';
import { shardFileName } from '../../src/stores/shardFiles.js';
import { EVENT_SCHEMA } from '../../src/stores/shardSchema.js';
import { writerPragmas } from '../../src/stores/storeFile.js';
import { CHECKPOINT_BYTES } from '../../src/stores/walCheckpoint.js';
import { type Account, account } from './accounting.js';
import { type Measured, measure } from './measure.js';
import type { VariantResult, VariantTask } from './variant.js';
import { BATCH, BOOT_ID, capacityFor, ROW_OVERHEAD, settleDisk } from './workload.js';

export interface Bench {
  /** For databases, on a disk. */
  readonly dataDirectory: string;
  /** For rings, in memory. */
  readonly ringDirectory: string;
  /** Holds `cpu-0000.ring` and `cpu-0001.ring`, filled with `events` events each. */
  readonly filledDirectory: string;
  readonly events: number;
  /** The compiled C peer. */
  readonly insertLoop: string;
}

/** One run of a variant. */
export interface Sample {
  readonly emitted: number;
  readonly seconds: number;
  readonly cpuSeconds: number;
  readonly peakBytes: number;
  /** See WholeWayResult; null where no ring was being filled meanwhile. */
  readonly peakBacklog: number | null;
  readonly commits: number | null;
  readonly account: Account;
}

export interface WholeWayShape {
  readonly rings: number;
  readonly events: number;
  readonly rate: number;
  /** Data bytes of each ring. */
  readonly capacity: number;
}

/** The C peer, `loops` of it side by side in processes of their own. */
export async function runInsertLoop(bench: Bench, loops: number): Promise<Sample> {
  return inFreshDirectory(bench, async (directory) => {
    const files = Array.from({ length: loops }, (_, shard) => join(directory, shardFileName(shard)));
    for (const file of files) openShardWriter(file).close();
    const numbers = [bench.events, BATCH, CHECKPOINT_BYTES, ROW_OVERHEAD].map(String);
    const bootId = Buffer.from(BOOT_ID).toString('hex');
    const runs = await Promise.all(
      files.map((file, cpu) => {
        const args = [file, filledRing(bench, cpu), ...numbers, bootId, ...writerPragmas(EVENT_SCHEMA)];
        return measure<VariantResult>(bench.insertLoop, args);
      }),
    );
    const all = {
      result: {
        seconds: Math.max(...runs.map(({ result }) => result.seconds)),
        cpuSeconds: runs.reduce((sum, { result }) => sum + result.cpuSeconds, 0),
      },
      peakBytes: runs.reduce((sum, { peakBytes }) => sum + peakBytes, 0),
    };
    return sampleOf(all, files, bench.events * loops);
  });
}

export async function runRowByRow(bench: Bench): Promise<Sample> {
  return inFreshDirectory(bench, async (directory) => {
    const file = join(directory, shardFileName(0));
    const ringFile = filledRing(bench, 0);
    const measured = await perform({ kind: 'rowByRow', file, ringFile, events: bench.events });
    return sampleOf(measured, [file], bench.events);
  });
}

export async function runWriters(bench: Bench, writers: number): Promise<Sample> {
  return inFreshDirectory(bench, async (directory) => {
    const parts = Array.from({ length: writers }, (_, cpu) => ({
      file: join(directory, shardFileName(cpu)),
      ringFile: filledRing(bench, cpu),
      cpu,
      events: bench.events,
    }));
    const files = parts.map(({ file }) => file);
    return sampleOf(await perform({ kind: 'writers', parts }), files, bench.events * writers);
  });
}

export async function runWholeWay(bench: Bench, shape: WholeWayShape): Promise<Sample> {
  return inFreshDirectory(bench, async (directory) => {
    const ringDirectory = join(bench.ringDirectory, 'live');
    mkdirSync(ringDirectory, { recursive: true });
    try {
      for (let cpu = 0; cpu < shape.rings; cpu++) {
        const path = join(ringDirectory, ringFileName(cpu));
        native.producerClose(native.producerCreate(path, cpu, shape.capacity));
      }
      const { rings, events, rate } = shape;
      const options = { directory, ringDirectory, rings, events, rate };
      const measured = await perform({ kind: 'wholeWay', options });
      const files = Array.from({ length: shape.rings }, (_, shard) => join(directory, shardFileName(shard)));
      return sampleOf(measured, files, shape.events);
    } finally {
      rmSync(ringDirectory, { recursive: true });
    }
  });
}

/** A ring that holds a whole run, so that the load generator may go at its own speed. */
export function burst(bench: Bench, rings: number): WholeWayShape {
  return { rings, events: bench.events * rings, rate: 0, capacity: capacityFor(bench.events) };
}

function filledRing(bench: Bench, cpu: number): string {
  return join(bench.filledDirectory, ringFileName(cpu));
}

function perform(task: VariantTask): Promise<Measured<VariantResult>> {
  const entry = fileURLToPath(new URL('./variant.js', import.meta.url));
  return measure<VariantResult>(process.execPath, [entry, JSON.stringify(task)]);
}

function sampleOf(measured: Measured<VariantResult>, files: readonly string[], expected: number): Sample {
  const { result, peakBytes } = measured;
  const { seconds, cpuSeconds, emitted = expected, peakBacklog = null, commits = null } = result;
  return { emitted, seconds, cpuSeconds, peakBytes, peakBacklog, commits, account: account(files, emitted) };
}

async function inFreshDirectory(bench: Bench, work: (directory: string) => Promise<Sample>): Promise<Sample> {
  const directory = join(bench.dataDirectory, 'store');
  rmSync(directory, { recursive: true, force: true });
  mkdirSync(directory, { recursive: true });
  await settleDisk(bench.dataDirectory);
  try {
    return await work(directory);
  } finally {
    rmSync(directory, { recursive: true, force: true });
  }
}
