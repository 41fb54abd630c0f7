/**
 * What is kept of the registry of pairs between two runs: the tables `rollup_counters` and `desired_rollups`
 * of `eventd-meta.db` (ROL-38, IDX-42). The file belongs to the index policy, which makes it, checks it and
 * replaces it; here it is opened for a moment and closed again, so that there is never more than one who works
 * on it for long (IDX-45).
 */
import { statSync } from 'node:fs';
import { join } from 'node:path';
import Database from 'better-sqlite3';
import type { StoredCounter } from '../indexes/counters.js';
import { MetaStore } from '../indexes/metaStore.js';
import { META_FILE } from '../stores/eventDatabases.js';
import { pairOf } from './pairs.js';

export interface RegistryState {
  /** `field` is the key of a pair. */
  readonly counters: readonly StoredCounter[];
  /** Keys, highest priority first. */
  readonly desired: readonly string[];
}

/** Rows read of each table at most: a file may hold anything. */
const MAX_ROWS = 8192;
const BUSY_TIMEOUT_MS = 1000;

/** Rows that make no sense are passed over. @throws an error of SQLite or the file system */
export function loadRegistry(directory: string): RegistryState {
  return opened(directory, (db) => {
    const rows = (sql: string) => db.prepare(`${sql} LIMIT ${MAX_ROWS}`).raw().all() as unknown[][];
    const counters = rows('SELECT function_window, query_count, window_start FROM rollup_counters');
    const desired = rows('SELECT function_window FROM desired_rollups ORDER BY priority, function_window');
    return {
      counters: counters.flatMap(([key, count, windowStart]) =>
        isKey(key) && typeof count === 'bigint' && count > 0n && count < 2n ** 53n && isTime(windowStart)
          ? [{ field: key, count: Number(count), windowStart }]
          : [],
      ),
      desired: desired.flatMap(([key]) => (isKey(key) ? [key] : [])),
    };
  });
}

/** All of it in one transaction: whoever is killed leaves the state before or the state after. */
export function saveRegistry(directory: string, { counters, desired }: RegistryState): void {
  opened(directory, (db) => {
    db.transaction(() => {
      db.exec('DELETE FROM rollup_counters; DELETE FROM desired_rollups');
      const counter = db.prepare('INSERT INTO rollup_counters VALUES (?, ?, ?)');
      for (const { field, count, windowStart } of counters) counter.run(field, BigInt(count), windowStart);
      const wanted = db.prepare('INSERT INTO desired_rollups VALUES (?, ?)');
      for (const [index, key] of desired.entries()) wanted.run(key, BigInt(index + 1));
    }).immediate();
  });
}

function opened<T>(directory: string, work: (db: Database.Database) => T): T {
  const file = join(directory, META_FILE);
  if ((statSync(file, { throwIfNoEntry: false })?.size ?? 0) === 0) {
    MetaStore.open(directory, () => undefined).close();
  }
  const db = new Database(file, { timeout: BUSY_TIMEOUT_MS, fileMustExist: true });
  try {
    db.defaultSafeIntegers(true);
    return work(db);
  } finally {
    db.close();
  }
}

function isKey(key: unknown): key is string {
  return typeof key === 'string' && pairOf(key) !== null;
}

function isTime(ns: unknown): ns is bigint {
  return typeof ns === 'bigint' && ns >= 0n;
}
