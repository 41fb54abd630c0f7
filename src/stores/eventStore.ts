/**
 * Start-up of the event store: which shard files will be written, which stay read-only, and what takes
 * the place of the latter (LIFE-104, FAIL-12..20).
 */
import { mkdirSync, readdirSync, statSync } from 'node:fs';
import { join } from 'node:path';
import Database from 'better-sqlite3';
import { dropStaleMarks, exclusionOf } from './exclusion.js';
import { openShardWriter, verifyShard } from './shard.js';
import { shardFileIndex, shardFileName } from './shardFiles.js';
import { EVENT_SCHEMA, UPSERT_METADATA } from './shardSchema.js';
import { StoreError } from './storeError.js';
import { CHECK_TIMEOUT_MS, inspectStore } from './storeFile.js';

/** Metadata row of a fresh shard that took a bad one's place: the number of that shard. */
const REPLACES = 'replaces_shard';

/** Newest files looked at for a replacement; a start must not take longer the more of them there are. */
const MAX_REPLACEMENTS_TRIED = 512;

/** A file without tables is no larger; larger ones need not be opened to know. */
const BLANK_BYTES = 64 * 1024;

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
  dropStaleMarks(directory);
  const good: ShardPlan[] = [];
  const excluded: { shard: number; error: StoreError }[] = [];
  for (let shard = 0; shard < shards; shard++) {
    const file = join(directory, shardFileName(shard));
    const error = tryOpen(file);
    if (error === null) good.push({ shard, file });
    else excluded.push({ shard, error });
  }
  if (good.length === 0) good.push(...replacements(directory, shards));
  return { shards: good, excluded };
}

/**
 * Nothing writable is left (FAIL-18, FAIL-20): what an earlier start made for this case is used again,
 * so that files do not pile up start by start; the rest are fresh files above all that exist (FAIL-19).
 */
function replacements(directory: string, shards: number): ShardPlan[] {
  // A file that is still empty holds nothing and takes no number: a start on a full disk leaves those.
  const present = readdirSync(directory).flatMap((name) => {
    const index = shardFileIndex(name);
    return index === null || (index >= shards && isBlankShard(join(directory, name))) ? [] : index;
  });
  const newest = present.filter((index) => index >= shards).sort((a, b) => b - a);
  const earlier = new Map<number, string>();
  for (const index of newest.slice(0, MAX_REPLACEMENTS_TRIED)) {
    const file = join(directory, shardFileName(index));
    const shard = replacedShard(file);
    if (shard !== null && !earlier.has(shard)) earlier.set(shard, file);
  }
  let next = 1 + Math.max(shards - 1, ...present);
  return Array.from({ length: shards }, (_, shard) => {
    const used = earlier.get(shard);
    if (used !== undefined && tryOpen(used) === null) return { shard, file: used };
    const file = join(directory, shardFileName(next++));
    const db = openShardWriter(file);
    try {
      db.prepare(UPSERT_METADATA).run(REPLACES, String(shard));
    } finally {
      db.close();
    }
    return { shard, file };
  });
}

function isBlankShard(file: string): boolean {
  try {
    return statSync(file).size <= BLANK_BYTES && !verifyShard(file);
  } catch {
    return false;
  }
}

/** The shard this file was made to replace; null for any other file and for one that is bad itself. */
function replacedShard(file: string): number | null {
  try {
    if (!verifyShard(file)) return null;
    const db = new Database(file, { readonly: true });
    try {
      const value = db.prepare('SELECT value FROM metadata WHERE key = ?').pluck().get(REPLACES);
      return typeof value === 'string' && /^\d{1,4}$/.test(value) ? Number(value) : null;
    } finally {
      db.close();
    }
  } catch {
    return null;
  }
}

/** What `eventd --check` reports: the same checks, creating and changing nothing. */
export function inspectEventStore(directory: string, shards: number): ReturnType<typeof inspectStore>[] {
  return Array.from({ length: shards }, (_, shard) => {
    const file = join(directory, shardFileName(shard));
    const exclusion = exclusionOf(file);
    if (exclusion === null) return inspectStore(file, EVENT_SCHEMA);
    return { file, state: 'unusable', detail: new StoreError('corrupt', file, exclusion).message };
  });
}

function tryOpen(file: string): StoreError | null {
  try {
    const exclusion = exclusionOf(file);
    if (exclusion !== null) return new StoreError('corrupt', file, exclusion);
    openShardWriter(file, CHECK_TIMEOUT_MS).close();
    return null;
  } catch (error) {
    if (error instanceof StoreError && error.kind !== 'io') return error;
    throw error;
  }
}
