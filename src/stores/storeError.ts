/** Errors of the SQLite stores, in words an operator can act on. */

/** A store that cannot be opened or must not be written. `kind` decides what eventd does about it. */
export class StoreError extends Error {
  override readonly name = 'StoreError';

  constructor(
    /** `schema`: unknown version, readable (STO-14). `corrupt`: failed its structure check (FAIL-12). `io`: everything else. */
    readonly kind: 'schema' | 'corrupt' | 'io',
    /** File the error is about. */
    readonly file: string,
    detail: string,
  ) {
    super(`${file}: ${detail}`);
  }
}

/** The SQLite result code of an error (`SQLITE_FULL`), or null when it came from elsewhere. */
export function sqliteCode(error: unknown): string | null {
  const code = (error as { code?: unknown } | null)?.code;
  return typeof code === 'string' && code.startsWith('SQLITE_') ? code : null;
}

/** True for results that mean the file itself is damaged, not the disk full or busy (FAIL-12). */
export function isCorruption(error: unknown): boolean {
  const code = sqliteCode(error);
  return code !== null && (code.startsWith('SQLITE_CORRUPT') || code === 'SQLITE_NOTADB');
}

/** Results that say nothing about the file: somebody else's lock, no descriptor or memory left, no permission. */
const UNRELATED = ['SQLITE_BUSY', 'SQLITE_LOCKED', 'SQLITE_CANTOPEN', 'SQLITE_NOMEM', 'SQLITE_PERM'];

/** True for failures that leave open what the file holds: it may be as good as ever. */
export function isUnrelatedToFile(error: unknown): boolean {
  const code = sqliteCode(error);
  return code !== null && UNRELATED.some((unrelated) => code.startsWith(unrelated));
}

/** True when the disk is full (FAIL-3). */
export function isDiskFull(error: unknown): boolean {
  return sqliteCode(error)?.startsWith('SQLITE_FULL') ?? false;
}

/** One line for a log: code and message, no stack. */
export function errorText(error: unknown): string {
  if (!(error instanceof Error)) return String(error);
  const code = sqliteCode(error);
  return code === null ? error.message : `${error.message} (${code})`;
}
