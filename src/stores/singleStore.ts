/**
 * What the log store and the metric store have in common: each is one SQLite file that is created,
 * checked when it is opened, and set aside when it is damaged (LOG-37..44, MET-51..56, FAIL-18..21).
 * Nothing here ever deletes or overwrites a file.
 */
import {
  closeSync,
  existsSync,
  mkdirSync,
  openSync,
  readdirSync,
  realpathSync,
  renameSync,
  statSync,
} from 'node:fs';
import { basename, dirname, extname, join } from 'node:path';
import Database from 'better-sqlite3';
import { addonPath } from '../native/addon.js';
import { setStrayWalAside } from './exclusion.js';
import { openReadOnly, type ReadableFile } from './readConnection.js';
import { SCHEMA_VERSION } from './shardSchema.js';
import { errorText, isCorruption, StoreError } from './storeError.js';

export type StoreConnection = Database.Database;

/** What a store's file must be. */
export interface StoreSchema {
  readonly store: 'log' | 'metric';
  /** Of a new file, in bytes; an existing one keeps its own. */
  readonly pageSize: number;
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

/** The same table in every store (LOG-35, MET-50, STO-12). */
export const METADATA_TABLE = 'CREATE TABLE metadata (key TEXT PRIMARY KEY, value TEXT NOT NULL)';

/**
 * What a writer's connection runs with, beside WAL mode: no fsync per commit (LOG-43, MET-42), its page
 * cache, as negative KiB, and checkpoints that are the writer's own decision (LOG-45, MET-57).
 */
export function writerPragmas({ cacheKib }: StoreSchema): readonly string[] {
  return ['synchronous = NORMAL', `cache_size = -${cacheKib}`, 'wal_autocheckpoint = 0'];
}

/** A writer waits this long, in ms, for a lock that only a retention batch or a closing reader can hold. */
const BUSY_TIMEOUT_MS = 5000;

/** Permission bits: what services print and measure is nobody else's to read. */
const FILE_MODE = 0o600;
const DIRECTORY_MODE = 0o700;

/** How a store stands when eventd starts. */
export type StoreCondition =
  | { readonly state: 'good' }
  /** The file was damaged: it is `aside` now, and a fresh one is in its place (FAIL-18, FAIL-19). */
  | { readonly state: 'replaced'; readonly aside: string; readonly error: StoreError }
  /** Unknown schema version: the file stays untouched and readable, and nothing is stored (FAIL-21). */
  | { readonly state: 'unwritable'; readonly error: StoreError };

/**
 * Phase 2 of the start (LIFE-105, LIFE-106): makes the file and its directories where they are missing,
 * checks an existing one, replaces a damaged one. The writer opens its own connection later (LOG-44).
 *
 * @throws StoreError `io` when the store can neither be opened nor made
 */
export function prepareStore(file: string, schema: StoreSchema, now = new Date()): StoreCondition {
  try {
    openStore(file, schema).close();
    return { state: 'good' };
  } catch (error) {
    if (!(error instanceof StoreError) || error.kind === 'io') throw error;
    if (error.kind === 'schema') return { state: 'unwritable', error };
    const aside = setStoreAside(file, now);
    openStore(file, schema).close();
    return { state: 'replaced', aside, error };
  }
}

/**
 * Opens the store for writing; creates the file and its directories where they are missing. The
 * connection is in WAL mode with synchronous=NORMAL, and the extension is loaded into it.
 *
 * @throws StoreError `schema` or `corrupt` when an existing file must not be written, `io` otherwise
 */
export function openStore(file: string, schema: StoreSchema): StoreConnection {
  return guarded(file, () => {
    const isNew = isBlank(file);
    if (isNew) create(file);
    // Looked at before it is opened for writing: closing that connection would checkpoint a WAL into a
    // bad file, and one of an unknown version is to stay as it is.
    else verifyStore(file, schema);
    const db = new Database(file, { timeout: BUSY_TIMEOUT_MS });
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
export function verifyStore(file: string, schema: StoreSchema): boolean {
  return guarded(file, () => {
    if (isBlank(file)) return false;
    const db = new Database(file, { readonly: true, timeout: BUSY_TIMEOUT_MS });
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
 * Version first: what an unknown version looks like inside is not ours to judge (LOG-36, LOG-41, MET-55).
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

/**
 * Renames a damaged store with its WAL to `<stem>.corrupt-<UTC time>.db` beside it (FAIL-19). The
 * connection that writes it must be closed, without a checkpoint.
 *
 * @returns the database's new path
 * @throws StoreError `io`
 */
export function setStoreAside(file: string, now = new Date()): string {
  return guarded(file, () => {
    const path = realPath(file);
    const aside = unusedName(path, now);
    renameSync(path, aside);
    for (const suffix of SIDE_FILES) {
      if (existsSync(`${path}${suffix}`)) renameSync(`${path}${suffix}`, `${aside}${suffix}`);
    }
    return aside;
  });
}

/**
 * The files a query reads: the store itself, whatever its version, then damaged ones that were set
 * aside, oldest first (FAIL-18, FAIL-19, FAIL-21).
 *
 * @param onSkipped told of each file that has the name and cannot be read
 */
export function readableFiles(
  file: string,
  schema: StoreSchema,
  onSkipped: (path: string, reason: string) => void,
): ReadableFile[] {
  return [realPath(file), ...filesAside(file)].flatMap((path) => {
    const stat = statSync(path, { throwIfNoEntry: false });
    if (stat === undefined || !stat.isFile()) return [];
    const problem = whyUnreadable(path, schema);
    if (problem === null) return [{ path, identity: `${stat.dev}:${stat.ino}` }];
    onSkipped(path, problem);
    return [];
  });
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
    return { file, state: 'unusable', detail: error instanceof Error ? error.message : String(error) };
  }
}

/** Where the file is: SQLite keeps the WAL of a symbolic link beside what the link names. */
export function realPath(file: string): string {
  return existsSync(file) ? realpathSync(file) : file;
}

const SIDE_FILES = ['-wal', '-shm'] as const;

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
  // SQLite gives the WAL the mode of the database.
  closeSync(openSync(file, 'a', FILE_MODE));
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

function absentColumn(db: StoreConnection, table: string, schema: StoreSchema): string | null {
  const names = db.prepare('SELECT name FROM pragma_table_info(?)').pluck().all(table);
  return schema.columns[table]?.find((column) => !names.includes(column)) ?? null;
}

function whyUnreadable(path: string, schema: StoreSchema): string | null {
  try {
    const db = openReadOnly(path);
    try {
      for (const table of schema.readable) {
        const absent = absentColumn(db, table, schema);
        if (absent !== null) return `it has no column ${table}.${absent}`;
      }
      return null;
    } finally {
      db.close();
    }
  } catch (error) {
    return errorText(error);
  }
}

/** `logs.db` → `logs`. */
function stemOf(path: string): string {
  return basename(path, extname(path));
}

/** `2026-01-02T03-04-05-678Z`, with a number behind it where that name is taken. */
const ASIDE = /^\.corrupt-\d{4}-\d\d-\d\dT\d\d-\d\d-\d\d-\d{3}Z(?:-\d+)?\.db$/;

function unusedName(path: string, now: Date): string {
  const stamp = now.toISOString().replace(/[:.]/g, '-');
  for (let n = 1; ; n++) {
    const name = join(dirname(path), `${stemOf(path)}.corrupt-${stamp}${n === 1 ? '' : `-${n}`}.db`);
    if (!['', ...SIDE_FILES].some((suffix) => existsSync(`${name}${suffix}`))) return name;
  }
}

function filesAside(file: string): string[] {
  const path = realPath(file);
  const stem = stemOf(path);
  if (!existsSync(dirname(path))) return [];
  return readdirSync(dirname(path))
    .filter((name) => name.startsWith(stem) && ASIDE.test(name.slice(stem.length)))
    .sort()
    .map((name) => join(dirname(path), name));
}

function guarded<T>(file: string, work: () => T): T {
  try {
    return work();
  } catch (error) {
    if (error instanceof StoreError) throw error;
    throw new StoreError(isCorruption(error) ? 'corrupt' : 'io', file, errorText(error));
  }
}
