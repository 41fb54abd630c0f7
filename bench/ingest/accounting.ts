/** What a run left in its shard files, sequence by sequence. */
import { decode } from '@msgpack/msgpack';
import Database from 'better-sqlite3';

export interface Account {
  /** Event rows. */
  readonly stored: number;
  /** Sequences inside gap records. */
  readonly lost: number;
  readonly gapRecords: number;
  /** Why stored and lost are not exactly the emitted events; empty when they are. */
  readonly errors: readonly string[];
}

interface GapPayload {
  readonly cpu_id: number;
  readonly first_missing: number;
  readonly last_missing: number;
}

/**
 * Marks every sequence that the files store or cover by a gap record. Right means: each of the
 * sequences 1.. of every CPU is there exactly once, and there are as many as were emitted.
 */
export function account(files: readonly string[], emitted: number): Account {
  const seen = new Map<number, Uint8Array>();
  let stored = 0;
  let lost = 0;
  let gapRecords = 0;
  let twice = 0;
  const mark = (cpu: number, sequence: number) => {
    let flags = seen.get(cpu);
    if (flags === undefined || sequence >= flags.length) {
      const grown = new Uint8Array(Math.max(sequence + 1, (flags?.length ?? 512) * 2));
      grown.set(flags ?? []);
      flags = grown;
      seen.set(cpu, flags);
    }
    if (flags[sequence] === 1) twice++;
    flags[sequence] = 1;
  };
  for (const file of files) {
    const db = new Database(file, { readonly: true });
    const events = db.prepare('SELECT cpu_id, sequence FROM events WHERE sequence IS NOT NULL').raw();
    for (const [cpu, sequence] of events.iterate() as IterableIterator<[number, number]>) {
      mark(cpu, sequence);
      stored++;
    }
    const gaps = db.prepare("SELECT payload FROM events WHERE event_type = 'synthetic.gap'").pluck();
    for (const payload of gaps.iterate() as IterableIterator<Uint8Array>) {
      const gap = decode(payload) as GapPayload;
      for (let at = gap.first_missing; at <= gap.last_missing; at++) mark(gap.cpu_id, at);
      lost += gap.last_missing - gap.first_missing + 1;
      gapRecords++;
    }
    db.close();
  }
  const errors: string[] = [];
  if (twice > 0) errors.push(`${twice} sequences are there twice`);
  for (const [cpu, flags] of seen) {
    const missing = flags.subarray(1, flags.lastIndexOf(1)).reduce((sum, flag) => sum + (1 - flag), 0);
    if (missing > 0) errors.push(`${missing} sequences of CPU ${cpu} are neither stored nor in a gap record`);
  }
  if (stored + lost !== emitted) {
    errors.push(`${emitted} emitted, but ${stored} stored and ${lost} in gap records`);
  }
  return { stored, lost, gapRecords, errors };
}
