/**
 * Opening event shards: creation of new files, the start-up check of existing ones (STO-20..26), and
 * the one read-write connection of a shard's writer (STO-29, STO-30).
 */
import { closeSync, existsSync, openSync, statSync } from 'node:fs';
import Database from 'better-sqlite3';
import { addonPath } from '../native/addon.js';
import { setStrayWalAside } from './exclusion.js';
import {
  EVENT_TABLE_COLUMNS,
  REQUIRED_OBJECTS,
  SCHEMA_VERSION,
  SHARD_PAGE_SIZE,
  SHARD_SCHEMA,
} from './shardSchema.js';
import { errorText, isCorruption, StoreError } from './storeError.js';

export type ShardConnection = Database.Database;

/**
 * What a writer's connection runs with, beside WAL mode. A commit survives power loss (ING-50); the page
 * cache is 2 MiB, as negative KiB (ADV-6); checkpoints are the writer's own decision (ING-63), two
 * mechanisms would fight each other.
 */
export const WRITER_PRAGMAS: readonly string[] = [
  'synchronous = FULL',
  'cache_size = -2048',
  'wal_autocheckpoint = 0',
];

/** A writer waits this long, in ms, for a lock that only a retention batch or a closing reader can hold. */
const BUSY_TIMEOUT_MS = 5000;

/** The checks of a start wait no longer, in ms: they run on the main thread, and a stop has its bound. */
export const CHECK_TIMEOUT_MS = 1000;

/**
 * Opens the shard for writing, creating and initialising the file where it does not exist.
 * The connection is in WAL mode with synchronous=FULL, so a commit survives power loss (ING-49, ING-50).
 *
 * @throws StoreError `schema` or `corrupt` when an existing file must not be written, `io` otherwise.
 */
export function openShardWriter(file: string, busyTimeoutMs = BUSY_TIMEOUT_MS): ShardConnection {
  return guarded(file, () => {
    // An empty file is what a crash between creation and the first transaction leaves: it is new.
    const isNew = !existsSync(file) || statSync(file).size === 0;
    // The audit trail is nobody else's to read; SQLite gives the WAL the mode of the database.
    if (isNew) {
      setStrayWalAside(file);
      closeSync(openSync(file, 'a', 0o600));
    }
    const db = new Database(file, { timeout: busyTimeoutMs });
    try {
      db.loadExtension(addonPath);
      db.defaultSafeIntegers(true);
      if (isNew) db.pragma(`page_size = ${SHARD_PAGE_SIZE}`);
      const mode = db.pragma('journal_mode = WAL', { simple: true });
      if (mode !== 'wal')
        throw new StoreError('io', file, `cannot switch to WAL mode (journal mode is ${mode})`);
      for (const pragma of WRITER_PRAGMAS) db.pragma(pragma);
      if (isNew || !hasAnyTable(db)) initialise(db);
      checkShard(db, file);
      return db;
    } catch (error) {
      db.close();
      throw error;
    }
  });
}

/**
 * Checks an existing shard file without writing to it; false when there is nothing to check.
 *
 * @throws StoreError as `openShardWriter`.
 */
export function verifyShard(file: string): boolean {
  if (!existsSync(file) || statSync(file).size === 0) return false;
  return guarded(file, () => {
    const db = new Database(file, { readonly: true, timeout: CHECK_TIMEOUT_MS });
    try {
      if (!hasAnyTable(db)) return false;
      checkShard(db, file);
      return true;
    } finally {
      db.close();
    }
  });
}

function guarded<T>(file: string, work: () => T): T {
  try {
    return work();
  } catch (error) {
    if (error instanceof StoreError) throw error;
    throw new StoreError(isCorruption(error) ? 'corrupt' : 'io', file, errorText(error));
  }
}

function initialise(db: ShardConnection): void {
  db.transaction(() => {
    for (const statement of SHARD_SCHEMA) db.exec(statement);
    const insert = db.prepare('INSERT INTO metadata (key, value) VALUES (?, ?)');
    insert.run('schema_version', SCHEMA_VERSION);
    insert.run('created_at', new Date().toISOString());
  })();
}

function hasAnyTable(db: ShardConnection): boolean {
  return db.prepare('SELECT 1 FROM sqlite_master LIMIT 1').get() !== undefined;
}

/** Version first: what an unknown version looks like inside is not ours to judge (STO-25, STO-26). */
function checkShard(db: ShardConnection, file: string): void {
  const present = db.prepare('SELECT 1 FROM sqlite_master WHERE type = ? AND name = ?');
  const missing = REQUIRED_OBJECTS.filter(({ type, name }) => present.get(type, name) === undefined);
  if (!missing.some(({ name }) => name === 'metadata')) {
    const row = db.prepare("SELECT value FROM metadata WHERE key = 'schema_version'").get() as
      | { value: string }
      | undefined;
    if (row === undefined) throw new StoreError('corrupt', file, 'metadata holds no schema_version');
    if (row.value !== SCHEMA_VERSION) {
      throw new StoreError(
        'schema',
        file,
        `schema version '${row.value}' is unknown; this eventd writes ${SCHEMA_VERSION}`,
      );
    }
  }
  const [first] = missing;
  if (first !== undefined) throw new StoreError('corrupt', file, `${first.type} ${first.name} is missing`);
  const columns = new Set(
    (db.prepare("SELECT name FROM pragma_table_info('events')").all() as { name: string }[]).map(
      (c) => c.name,
    ),
  );
  const absent = EVENT_TABLE_COLUMNS.find((column) => !columns.has(column));
  if (absent !== undefined) throw new StoreError('corrupt', file, `column events.${absent} is missing`);
}
