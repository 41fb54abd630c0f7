/** What bench:logs and bench:metrics have in common: variants, rounds, and the frame around them. */
import { statSync } from 'node:fs';
import { loadavg } from 'node:os';
import { type StoreSchema, writerPragmas } from '../../src/stores/storeFile.js';
import { CHECKPOINT_BYTES } from '../../src/stores/walCheckpoint.js';
import { highestRate, offer, type Store, storedPerSecond } from './eventdRun.js';
import { feel } from './feel.js';
import { progress, type RecordBenchOptions } from './options.js';
import { printed } from './processes.js';
import { type Figure, machine, printVerdicts, type Variant, type Verdict } from './report.js';
import type { Load } from './senders.js';

export interface RunnableVariant extends Variant {
  run(): Promise<Figure>;
}

/** What the C loop is told to open its database with, to work as eventd's writer does. */
export function pragmasOf(schema: StoreSchema): string[] {
  return [...writerPragmas(schema), `wal_autocheckpoint = ${CHECKPOINT_BYTES / schema.pageSize}`];
}

/** Runs the C loop on a database; `numbers` are its arguments between file and start time. */
export async function runInsertLoop(
  program: string,
  file: string,
  numbers: readonly number[],
  pragmas: readonly string[],
): Promise<Figure> {
  const [records = 0] = numbers;
  const start = String(BigInt(Date.now()) * 1_000_000n);
  const args = [file, ...numbers.map(String), start, ...pragmas];
  const { seconds, cpuSeconds } = await printed<{ seconds: number; cpuSeconds: number }>(program, args);
  return {
    perSecond: records / seconds,
    cpuMicros: (cpuSeconds / records) * 1e6,
    bytesPerRecord: statSync(file).size / records,
  };
}

export interface EventdSearch {
  readonly store: Store;
  /** How the progress line calls it. */
  readonly name: string;
  /** Where the first search begins; the others begin where the one before ended. */
  readonly firstRate: number;
  readonly load: (rate: number) => Load;
  readonly settings?: Readonly<Record<string, number>>;
}

/** A measurement of eventd at the highest rate it stores without a drop. */
export function eventdAtItsBest(search: EventdSearch): () => Promise<Figure> {
  const { store, name, load, settings = {} } = search;
  let startRate = search.firstRate;
  return async () => {
    const best = await highestRate(
      startRate,
      (rate) => offer(store, load(rate), settings),
      (tried) =>
        progress(
          `${name} at ${tried.offered}/s: ${Math.round(storedPerSecond(tried))} stored, ${tried.dropped} dropped\n`,
        ),
    );
    startRate = best.offered;
    return {
      perSecond: storedPerSecond(best),
      cpuMicros: best.cpuMicros,
      bytesPerRecord: best.bytesPerRecord,
    };
  };
}

/** Runs the variants in turns; those of `once` in the first round alone. */
export async function inRounds(
  variants: readonly RunnableVariant[],
  rounds: number,
  once: readonly RunnableVariant[] = [],
): Promise<void> {
  for (let round = 1; round <= rounds; round++) {
    for (const variant of variants) {
      if (round > 1 && once.includes(variant)) continue;
      progress(`round ${round} of ${rounds}: ${variant.title}`);
      variant.figures.push(await variant.run());
    }
  }
  progress('');
}

export interface RecordBench {
  readonly name: string;
  readonly store: Store;
  readonly chosen: RecordBenchOptions;
  readonly storing: () => Promise<Verdict[]>;
  /** The load that counts as full for what a sender feels. */
  readonly full: Load;
  /** What was measured, as the last lines say it. */
  readonly measured: string;
  readonly accounted: string;
}

/** Runs the chosen parts, prints what came out, and sets the exit code. */
export async function runRecordBench(bench: RecordBench): Promise<void> {
  const { name, store, chosen, storing, full, measured, accounted } = bench;
  try {
    const before = loadavg();
    const wanted = (part: string) => chosen.only === null || chosen.only.includes(part);
    const verdicts = wanted('store') ? await storing() : [];
    console.log('');
    if (wanted('feel')) verdicts.push(...(await feel({ store, full, seconds: chosen.seconds })));
    console.log(`\n${measured}; ${machine(before)}`);
    console.log(`${accounted}\n`);
    process.exitCode = printVerdicts(verdicts) ? 0 : 1;
  } catch (error) {
    console.error(`${name}: ${error instanceof Error ? error.message : String(error)}`);
    process.exitCode = error instanceof TypeError ? 2 : 1;
  }
}
