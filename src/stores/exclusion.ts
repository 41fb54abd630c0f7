/**
 * What is remembered of a shard whose damage showed while it was written (FAIL-13, FAIL-15): a mark file
 * beside it. The bad file itself must not be written, and its structure check would pass again at the
 * next start. Whoever repairs the shard removes the mark.
 */
import { existsSync, readdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { basename, dirname, join } from 'node:path';

/** `shard-0001.db` → `shard-0001.db.excluded`. */
const SUFFIX = '.excluded';

/** Bytes of a mark that are read: it is ours, but anybody with the directory can write it. */
const MAX_REASON = 500;

export function markOf(file: string): string {
  return `${file}${SUFFIX}`;
}

/**
 * Keeps a shard from being written, across restarts.
 *
 * @param reason one line, what SQLite said
 * @throws the system's error when the mark cannot be written
 */
export function exclude(file: string, reason: string, when = new Date()): void {
  writeFileSync(markOf(file), `${when.toISOString()} ${reason}\n`, { mode: 0o600, flush: true });
}

/** Why a shard is excluded, in one line; null when it is not. */
export function exclusionOf(file: string): string | null {
  const mark = markOf(file);
  if (!existsSync(mark)) return null;
  return `excluded since ${reasonIn(mark)}; remove ${basename(mark)} once it is repaired`;
}

/** A mark that cannot be read is a mark all the same. */
function reasonIn(mark: string): string {
  try {
    const [line = ''] = readFileSync(mark, 'utf8').slice(0, MAX_REASON).split('\n');
    return line.trim() || 'unknown';
  } catch {
    return 'unknown';
  }
}

/** Removes marks whose shard is gone: the next file of that name is a new one. */
export function dropStaleMarks(directory: string): void {
  for (const name of readdirSync(directory)) {
    if (!name.endsWith(SUFFIX)) continue;
    const mark = join(directory, name);
    if (!existsSync(mark.slice(0, -SUFFIX.length))) rmSync(mark, { force: true });
  }
}

/**
 * Moves a WAL whose database is gone out of the way: SQLite would play it into the new file of that
 * name. Nothing is deleted (FAIL-19).
 *
 * @returns the new names
 */
export function setStrayWalAside(file: string, when = new Date()): string[] {
  const stamp = when.toISOString().replace(/[:.]/g, '-');
  return ['-wal', '-shm'].flatMap((suffix) => {
    const stray = `${file}${suffix}`;
    if (!existsSync(stray)) return [];
    const aside = join(dirname(file), `${basename(file)}.orphan-${stamp}${suffix}`);
    renameSync(stray, aside);
    return [aside];
  });
}
