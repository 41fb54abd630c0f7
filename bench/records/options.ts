/** Command lines and round-taking that bench:logs and bench:metrics have in common. */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { settleDisk } from '../ingest/workload.js';
import { benchOptions } from '../options.js';

export interface RecordBenchOptions {
  readonly quick: boolean;
  readonly rounds: number;
  readonly records: number;
  /** Length of each measurement of what a sender feels, s. */
  readonly seconds: number;
  readonly only: readonly string[] | null;
}

/** @throws TypeError for a value that is no number */
export function recordBenchOptions(records: number): RecordBenchOptions {
  const values = benchOptions({
    quick: { type: 'boolean' },
    rounds: { type: 'string' },
    records: { type: 'string' },
    seconds: { type: 'string' },
    only: { type: 'string' },
  });
  const number = (text: string | undefined, otherwise: number) => {
    if (text !== undefined && !/^[1-9][0-9]{0,8}$/.test(text))
      throw new TypeError(`${text}: not a positive number`);
    return text === undefined ? otherwise : Number(text);
  };
  const { quick } = values;
  return {
    quick,
    rounds: number(values.rounds, quick ? 1 : 3),
    records: number(values.records, quick ? records / 10 : records),
    seconds: number(values.seconds, quick ? 1 : 5),
    only: values.only?.split(',') ?? null,
  };
}

/** A fresh directory on a disk that has nothing left to write. */
export async function inFreshDirectory<T>(work: (directory: string) => Promise<T>): Promise<T> {
  const directory = mkdtempSync(join(tmpdir(), 'eventd-bench-'));
  try {
    await settleDisk(directory);
    return await work(directory);
  } finally {
    rmSync(directory, { recursive: true, force: true });
  }
}

export function progress(text: string): void {
  process.stderr.write(`\r\x1b[K${text}`);
}
