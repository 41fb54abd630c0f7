/**
 * What the log store and the metric store have in common: each is one file, by the rules of storeFile.ts,
 * that is prepared at the start and set aside when it is damaged (FAIL-18..21). Nothing here ever deletes
 * or overwrites a file.
 */
import { existsSync, readdirSync, renameSync, statSync } from 'node:fs';
import { basename, dirname, extname, join } from 'node:path';
import { openReadOnly, type ReadableFile } from './readConnection.js';
import { errorText, StoreError } from './storeError.js';
import { absentColumn, guarded, openStore, realPath, type StoreSchema } from './storeFile.js';

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

const SIDE_FILES = ['-wal', '-shm'] as const;

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
