/** What a restart in the running boot would know without the rows: read the way `resume.ts` reads it. */
import Database from 'better-sqlite3';
import type { SettledSequences } from './retentionTables.js';
import { CHECK_TIMEOUT_MS } from './storeFile.js';
import { readWatermarks } from './watermarks.js';

/**
 * The highest `settled_seq` per CPU over these shards. A shard that cannot be read vouches for nothing:
 * a value that is too low keeps rows that could go, and does no other harm.
 */
export function settledSequences(files: readonly string[], bootId: Uint8Array): SettledSequences {
  const sequences = new Map<number, bigint>();
  for (const file of files) {
    for (const [cpu, settled] of settledIn(file, bootId)) {
      if (settled > (sequences.get(cpu) ?? 0n)) sequences.set(cpu, settled);
    }
  }
  return { bootId, sequences };
}

function settledIn(file: string, bootId: Uint8Array): [cpu: number, settled: bigint][] {
  try {
    const db = new Database(file, { readonly: true, timeout: CHECK_TIMEOUT_MS });
    try {
      db.defaultSafeIntegers(true);
      return [...(readWatermarks(db, bootId) ?? [])].map(([cpu, { settled }]) => [cpu, settled]);
    } finally {
      db.close();
    }
  } catch {
    return [];
  }
}
