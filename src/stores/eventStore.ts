/**
 * Start-up of the event store: which shard files will be written, which stay read-only, and what takes
 * the place of the latter (LIFE-104, FAIL-12..20).
 */
import { mkdirSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { openShardWriter, verifyShard } from './shard.js';
import { shardFileIndex, shardFileName } from './shardFiles.js';
import { StoreError } from './storeError.js';

/** One shard as the daemon starts it. */
export interface ShardPlan {
  /** Shard number given at start-up, 0..shards-1. */
  readonly shard: number;
  readonly file: string;
}

export interface EventStorePlan {
  /** Writable shards, ascending. Never empty. */
  readonly shards: readonly ShardPlan[];
  /** Active shards that must not be written, with the reason. Queries still read them (FAIL-15). */
  readonly excluded: readonly { readonly shard: number; readonly error: StoreError }[];
}

/**
 * Creates the directory, opens or creates every shard once to check it, and closes it again: the
 * writers open their own connections (STO-30). Only a file that cannot be opened for another reason
 * than its content fails the start.
 *
 * @throws StoreError `io`
 */
export function openEventStore(directory: string, shards: number): EventStorePlan {
  mkdirSync(directory, { recursive: true, mode: 0o700 });
  const good: ShardPlan[] = [];
  const excluded: { shard: number; error: StoreError }[] = [];
  for (let shard = 0; shard < shards; shard++) {
    const file = join(directory, shardFileName(shard));
    const error = tryOpen(file);
    if (error === null) good.push({ shard, file });
    else excluded.push({ shard, error });
  }
  if (good.length === 0) {
    // FAIL-18, FAIL-20: nothing writable is left, so fresh files above all existing ones take over (FAIL-19).
    const first = 1 + Math.max(...readdirSync(directory).map((name) => shardFileIndex(name) ?? -1));
    for (let shard = 0; shard < shards; shard++) {
      const file = join(directory, shardFileName(first + shard));
      const error = tryOpen(file);
      if (error !== null) throw error;
      good.push({ shard, file });
    }
  }
  return { shards: good, excluded };
}

/** What `eventd --check` reports: the same checks, creating and changing nothing. */
export function inspectEventStore(
  directory: string,
  shards: number,
): { file: string; state: 'missing' | 'good' | 'unusable'; detail: string }[] {
  return Array.from({ length: shards }, (_, shard) => {
    const file = join(directory, shardFileName(shard));
    try {
      return verifyShard(file)
        ? { file, state: 'good', detail: 'schema and structure are right' }
        : { file, state: 'missing', detail: 'will be created' };
    } catch (error) {
      return { file, state: 'unusable', detail: error instanceof Error ? error.message : String(error) };
    }
  });
}

function tryOpen(file: string): StoreError | null {
  try {
    openShardWriter(file).close();
    return null;
  } catch (error) {
    if (error instanceof StoreError && error.kind !== 'io') return error;
    throw error;
  }
}
