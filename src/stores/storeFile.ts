/**
 * A SQLite file that eventd writes, whichever store it belongs to: how it is created, what is checked
 * before anything is written to it, and the one read-write connection of its writer (STO-20..30, LOG-37..44,
 * MET-51..56). Nothing here ever deletes or overwrites a file.
 */

import { closeSync, existsSync, mkdirSync, openSync, realpathSync, statSync } from 'node:fs';
import { dirname } from 'node:path';
import Database from 'better-sqlite3';
import { messageOf } from '../host/errorMessage.js';
import { addonPath } from '../native/addon.js';
import { setStrayWalAside } from './exclusion.js';
import { errorText, isCorruption, StoreError } from './storeError.js';
import { CHECKPOINT_BYTES } from './walCheckpoint.js';

export type StoreConnection = Database.Database;

/** What a store's file must be, and how its writer works with it. */
export interface StoreSchema {
  /** Of a new file, in bytes; an existing one keeps its own. */
  readonly pageSize: number;
  /** FULL: a commit survives power loss (ING-50). NORMAL: no fsync per commit (LOG-43, MET-42). */
  readonly synchronous: 'FULL' | 'NORMAL';
  /** The writer's page cache, KiB; what does not fit of one transaction is written twice. */
  readonly cacheKib: number;
  /** What creates a new file's tables and indexes, in order, `metadata` included. */
  readonly statements: readonly string[];
  /** Objects the structure check wants to see (FAIL-12). */
  readonly objects: readonly { readonly type: 'table' | 'index'; readonly name: string }[];
  /** Columns the structure check wants in each table, in any order. */
  readonly columns: Readonly<Record<string, readonly string[]>>;
  /** A file that has these tables, with those columns, can be read by queries. */
  readonly readable: readonly string[];
}

/** Schema version of event shards, log store, metric store and metadata database (CFG-90). */
export const SCHEMA_VERSION = '1';

/** The same table in every store (STO-12, LOG-35, MET-50). */
export const METADATA_TABLE = 'CREATE TABLE metadata (key TEXT PRIMARY KEY, value TEXT NOT NULL)';

/** What the file of a WAL is cut to when it starts anew after a reader has made it long. */
export const WAL_KEPT_BYTES = 2 * CHECKPOINT_BYTES;

/**
 * What a writer's connection runs with, beside WAL mode: its durability, its page cache, as negative KiB,
 * and checkpoints that are the writer's own decision (ING-63, LOG-45, MET-57); two mechanisms would fight
 * each other.
 */
export function writerPragmas({ synchronous, cacheKib }: StoreSchema): readonly string[] {
  return [
    `synchronous = ${synchronous}`,
    `cache_size = -${cacheKib}`,
    'wal_autocheckpoint = 0',
    `journal_size_limit = ${WAL_KEPT_BYTES}`,
  ];
}

/** A writer waits this long, in ms, for a lock that only a retention batch or a closing reader can hold. */
const BUSY_TIMEOUT_MS = 5000;

/** The checks of a start wait no longer, in ms: they run on the main thread, and a stop has its bound. */
export const CHECK_TIMEOUT_MS = 1000;

/** Permission bits: the audit trail, what services print and what they measure are nobody else's to read. */
const FILE_MODE = 0o600;
const DIRECTORY_MODE = 0o700;

/**
 * Opens the store for writing; creates the file and its directories where they are missing. The
 * connection is in WAL mode (ING-49), and the extension is loaded into it.
 *
 * @throws StoreError `schema` or `corrupt` when an existing file must not be written, `io` otherwise
 */
export function openStore(
  file: string,
  schema: StoreSchema,
  busyTimeoutMs = BUSY_TIMEOUT_MS,
): StoreConnection {
  return guarded(file, () => {
    const isNew = isBlank(file);
    if (isNew) create(file);
    // Looked at before it is opened for writing: closing that connection would checkpoint a WAL into a
    // bad file, and one of an unknown version is to stay as it is.
    else verifyStore(file, schema, busyTimeoutMs);
    const db = new Database(file, { timeout: busyTimeoutMs });
    try {
      db.loadExtension(addonPath);
      db.defaultSafeIntegers(true);
      if (isNew) db.pragma(`page_size = ${schema.pageSize}`);
      const mode = db.pragma('journal_mode = WAL', { simple: true });
      if (mode !== 'wal')
        throw new StoreError('io', file, `cannot switch to WAL mode (journal mode is ${mode})`);
      for (const pragma of writerPragmas(schema)) db.pragma(pragma);
      if (!hasAnyTable(db)) initialise(db, schema);
      return db;
    } catch (error) {
      db.close();
      throw error;
    }
  });
}

/**
 * Checks an existing file without writing to it; false when there is nothing to check.
 *
 * @throws StoreError as `openStore`
 */
export function verifyStore(file: string, schema: StoreSchema, busyTimeoutMs = CHECK_TIMEOUT_MS): boolean {
  return guarded(file, () => {
    if (isBlank(file)) return false;
    const db = new Database(file, { readonly: true, timeout: busyTimeoutMs });
    try {
      if (!hasAnyTable(db)) return false;
      checkStructure(db, file, schema);
      return true;
    } finally {
      db.close();
    }
  });
}

/**
 * Version first: what an unknown version looks like inside is not ours to judge (STO-25, STO-26, LOG-36,
 * LOG-41, MET-55).
 *
 * @throws StoreError `schema` or `corrupt`
 */
export function checkStructure(db: StoreConnection, file: string, schema: StoreSchema): void {
  const present = db.prepare('SELECT 1 FROM sqlite_master WHERE type = ? AND name = ?');
  const missing = schema.objects.filter(({ type, name }) => present.get(type, name) === undefined);
  if (!missing.some(({ name }) => name === 'metadata')) {
    const version = db.prepare("SELECT value FROM metadata WHERE key = 'schema_version'").pluck().get();
    if (version === undefined) throw new StoreError('corrupt', file, 'metadata holds no schema_version');
    if (version !== SCHEMA_VERSION) {
      const detail = `schema version '${version}' is unknown; this eventd writes ${SCHEMA_VERSION}`;
      throw new StoreError('schema', file, detail);
    }
  }
  const [first] = missing;
  if (first !== undefined) throw new StoreError('corrupt', file, `${first.type} ${first.name} is missing`);
  for (const table of Object.keys(schema.columns)) {
    const absent = absentColumn(db, table, schema);
    if (absent !== null) throw new StoreError('corrupt', file, `column ${table}.${absent} is missing`);
  }
}

/** What `eventd --check` reports: the same checks, creating and changing nothing. */
export function inspectStore(
  file: string,
  schema: StoreSchema,
): { file: string; state: 'missing' | 'good' | 'unusable'; detail: string } {
  try {
    return verifyStore(file, schema)
      ? { file, state: 'good', detail: 'schema and structure are right' }
      : { file, state: 'missing', detail: 'will be created' };
  } catch (error) {
    return { file, state: 'unusable', detail: messageOf(error) };
  }
}

/** Where the file is: SQLite keeps the WAL of a symbolic link beside what the link names. */
export function realPath(file: string): string {
  return existsSync(file) ? realpathSync(file) : file;
}

/** An empty file is what a crash between creation and the first transaction leaves: it is new. */
function isBlank(file: string): boolean {
  const stat = statSync(file, { throwIfNoEntry: false });
  if (stat === undefined) return true;
  if (!stat.isFile()) throw new StoreError('io', file, 'is not a file');
  return stat.size === 0;
}

function create(file: string): void {
  mkdirSync(dirname(file), { recursive: true, mode: DIRECTORY_MODE });
  setStrayWalAside(realPath(file));
  createEmpty(file);
}

/**
 * Makes an empty file that SQLite gives its WAL the mode of, unless there is one: to open and close it
 * would drop the locks that other connections of the process have on it.
 */
export function createEmpty(file: string): void {
  if (!existsSync(file)) closeSync(openSync(file, 'a', FILE_MODE));
}

function initialise(db: StoreConnection, schema: StoreSchema): void {
  db.transaction(() => {
    for (const statement of schema.statements) db.exec(statement);
    const insert = db.prepare('INSERT INTO metadata (key, value) VALUES (?, ?)');
    insert.run('schema_version', SCHEMA_VERSION);
    insert.run('created_at', new Date().toISOString());
  })();
}

function hasAnyTable(db: StoreConnection): boolean {
  return db.prepare('SELECT 1 FROM sqlite_master LIMIT 1').get() !== undefined;
}

/** The first column the schema wants and the table has not; null when it has all. */
export function absentColumn(db: StoreConnection, table: string, schema: StoreSchema): string | null {
  const names = db.prepare('SELECT name FROM pragma_table_info(?)').pluck().all(table);
  return schema.columns[table]?.find((column) => !names.includes(column)) ?? null;
}

/** Runs `work`; what it throws becomes a StoreError about `file`. */
export function guarded<T>(file: string, work: () => T): T {
  try {
    return work();
  } catch (error) {
    if (error instanceof StoreError) throw error;
    throw new StoreError(isCorruption(error) ? 'corrupt' : 'io', file, errorText(error));
  }
}
