/**
 * `eventd-meta.db` (IDX-40..48): what the policy has counted and decided, for the next start. One thread
 * opens it (IDX-45). Losing it costs nothing but memory, so whatever is wrong with it is answered by a
 * fresh file; the old one stays beside it.
 */
import { mkdirSync, renameSync, rmSync, statSync } from 'node:fs';
import { join } from 'node:path';
import Database from 'better-sqlite3';
import { ensureAdminDescriptor } from '../access/adminDescriptor.js';
import { META_FILE } from '../stores/eventDatabases.js';
import { errorText, isCorruption, StoreError } from '../stores/storeError.js';
import { createEmpty, SCHEMA_VERSION } from '../stores/storeFile.js';
import type { StoredCounter } from './counters.js';
import { candidacyOf, type IndexedField } from './fields.js';
import type { ManualWishes } from './policy.js';

/** What is persisted of the indexing policy. */
export interface PolicyState {
  readonly counters: readonly StoredCounter[];
  /** Highest priority first. */
  readonly desired: readonly IndexedField[];
  readonly manual: ManualWishes;
}

export const NO_STATE: PolicyState = { counters: [], desired: [], manual: new Map() };

/** IDX-42, word for word. */
const TABLES: readonly (readonly [table: string, columns: readonly string[], statement: string])[] = [
  [
    'index_counters',
    ['field_path', 'query_count', 'window_start'],
    'CREATE TABLE index_counters (field_path TEXT PRIMARY KEY, query_count INTEGER NOT NULL, window_start INTEGER NOT NULL)',
  ],
  [
    'desired_indexes',
    ['field_path', 'priority', 'is_expression'],
    'CREATE TABLE desired_indexes (field_path TEXT PRIMARY KEY, priority INTEGER NOT NULL, is_expression INTEGER NOT NULL)',
  ],
  [
    'rollup_counters',
    ['function_window', 'query_count', 'window_start'],
    'CREATE TABLE rollup_counters (function_window TEXT PRIMARY KEY, query_count INTEGER NOT NULL, window_start INTEGER NOT NULL)',
  ],
  [
    'desired_rollups',
    ['function_window', 'priority'],
    'CREATE TABLE desired_rollups (function_window TEXT PRIMARY KEY, priority INTEGER NOT NULL)',
  ],
  ['meta', ['key', 'value'], 'CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL)'],
];

const MANUAL_PREFIX = 'manual_index.';
/** Rows read of each table at most: what we write is bounded, a file may hold anything. */
const MAX_ROWS = 8192;
/** Whoever else looks into the file holds a lock for a moment only, ms. */
const BUSY_TIMEOUT_MS = 1000;
const DIRECTORY_MODE = 0o700;

export class MetaStore {
  readonly #db: Database.Database;
  readonly file: string;

  private constructor(db: Database.Database, file: string) {
    this.#db = db;
    this.file = file;
  }

  /**
   * Opens the file of an event store, creating it where it is missing. One of an unknown schema version,
   * or that is damaged, is set aside and made anew (IDX-46).
   *
   * @param onRecreated told what was wrong with the old file
   * @throws StoreError `io` when neither can be done
   */
  static open(directory: string, onRecreated: (problem: StoreError) => void): MetaStore {
    const file = join(directory, META_FILE);
    try {
      return MetaStore.#open(file);
    } catch (error) {
      const problem = problemOf(file, error);
      if (problem.kind === 'io') throw problem;
      const store = MetaStore.recreate(directory);
      onRecreated(problem);
      return store;
    }
  }

  /** Sets the file aside, in place of one set aside before, and makes a fresh one. @throws StoreError `io` */
  static recreate(directory: string): MetaStore {
    const file = join(directory, META_FILE);
    try {
      // A name that does not end in `.db` is no database of the store's.
      for (const suffix of ['', '-wal']) setAside(`${file}${suffix}`, `${file}.old${suffix}`);
      rmSync(`${file}-shm`, { force: true });
      return MetaStore.#open(file);
    } catch (error) {
      throw new StoreError('io', file, errorText(error));
    }
  }

  static #open(file: string): MetaStore {
    mkdirSync(join(file, '..'), { recursive: true, mode: DIRECTORY_MODE });
    createEmpty(file);
    const db = new Database(file, { timeout: BUSY_TIMEOUT_MS });
    try {
      db.defaultSafeIntegers(true);
      // IDX-41.
      db.pragma('journal_mode = WAL');
      db.pragma('synchronous = NORMAL');
      const isNew = db.prepare('SELECT 1 FROM sqlite_master LIMIT 1').get() === undefined;
      if (isNew) initialise(db);
      else check(db, file);
      return new MetaStore(db, file);
    } catch (error) {
      db.close();
      throw error;
    }
  }

  /** What the last run has left; rows that make no sense are passed over. */
  load(): PolicyState {
    const counters = this.#rows('SELECT field_path, query_count, window_start FROM index_counters');
    const desired = this.#rows('SELECT field_path FROM desired_indexes ORDER BY priority, field_path');
    const manual = this.#rows('SELECT key, value FROM meta WHERE key >= ? AND key < ?', [
      MANUAL_PREFIX,
      'manual_index/',
    ]);
    return {
      counters: counters.flatMap(([field, count, start]) =>
        isCandidate(field) && isCount(count) && isTime(start)
          ? [{ field, count: Number(count), windowStart: start }]
          : [],
      ),
      desired: desired.flatMap(([field]) => (isCandidate(field) ? [fieldOf(field)] : [])),
      manual: new Map(
        manual.flatMap(([key, value]) => {
          const field = String(key).slice(MANUAL_PREFIX.length);
          const at = typeof value === 'string' && /^\d{1,19}$/.test(value) ? BigInt(value) : null;
          return isCandidate(field) && at !== null ? [[field, at] as const] : [];
        }),
      ),
    };
  }

  /** All of it in one transaction: whoever is killed leaves the state before or the state after. */
  save({ counters, desired, manual }: PolicyState): void {
    this.#db.transaction(() => {
      this.#db.exec('DELETE FROM index_counters; DELETE FROM desired_indexes');
      this.#db.prepare('DELETE FROM meta WHERE key >= ? AND key < ?').run(MANUAL_PREFIX, 'manual_index/');
      const counter = this.#db.prepare('INSERT INTO index_counters VALUES (?, ?, ?)');
      for (const { field, count, windowStart } of counters) counter.run(field, BigInt(count), windowStart);
      const wanted = this.#db.prepare('INSERT INTO desired_indexes VALUES (?, ?, ?)');
      desired.forEach(({ field, isExpression }, index) => {
        wanted.run(field, BigInt(index + 1), isExpression ? 1n : 0n);
      });
      const wish = this.#db.prepare('INSERT INTO meta (key, value) VALUES (?, ?)');
      for (const [field, at] of manual) wish.run(`${MANUAL_PREFIX}${field}`, String(at));
    })();
  }

  /** For `readAdminDescriptor`. */
  get database(): Database.Database {
    return this.#db;
  }

  close(): void {
    this.#db.close();
  }

  #rows(sql: string, params: readonly string[] = []): unknown[][] {
    return this.#db
      .prepare(`${sql} LIMIT ${MAX_ROWS}`)
      .raw()
      .all(...params) as unknown[][];
  }
}

function initialise(db: Database.Database): void {
  db.transaction(() => {
    for (const [, , statement] of TABLES) db.exec(statement);
    const insert = db.prepare('INSERT INTO meta (key, value) VALUES (?, ?)');
    insert.run('schema_version', SCHEMA_VERSION);
    insert.run('created_at', new Date().toISOString());
    ensureAdminDescriptor(db);
  })();
}

function setAside(from: string, to: string): void {
  rmSync(to, { force: true });
  if (statSync(from, { throwIfNoEntry: false }) !== undefined) renameSync(from, to);
}

/** Version first, as in every store; then tables and columns. */
function check(db: Database.Database, file: string): void {
  const columns = (table: string): unknown[] =>
    db.prepare('SELECT name FROM pragma_table_info(?)').pluck().all(table);
  if (columns('meta').length > 0) {
    const version = db.prepare("SELECT value FROM meta WHERE key = 'schema_version'").pluck().get();
    if (version !== SCHEMA_VERSION) {
      throw new StoreError('schema', file, `schema version '${String(version)}' is unknown`);
    }
  }
  for (const [table, wanted] of TABLES) {
    const present = columns(table);
    const absent = wanted.find((column) => !present.includes(column));
    if (absent !== undefined) throw new StoreError('corrupt', file, `column ${table}.${absent} is missing`);
  }
}

function problemOf(file: string, error: unknown): StoreError {
  if (error instanceof StoreError) return error;
  return new StoreError(isCorruption(error) ? 'corrupt' : 'io', file, errorText(error));
}

function fieldOf(field: string): IndexedField {
  const candidacy = candidacyOf(field);
  return { field, isExpression: candidacy.kind === 'candidate' && candidacy.isExpression };
}

function isCandidate(field: unknown): field is string {
  return typeof field === 'string' && field !== '' && candidacyOf(field).kind === 'candidate';
}

function isCount(count: unknown): count is bigint {
  return typeof count === 'bigint' && count > 0n && count <= BigInt(Number.MAX_SAFE_INTEGER);
}

function isTime(ns: unknown): ns is bigint {
  return typeof ns === 'bigint' && ns >= 0n;
}
