/**
 * Which files an event query reads: every `.db` in the event store directory that holds an `events`
 * table, whoever made it and however many there are (STO-27, STO-32, QX-20, QX-21, QX-27).
 */
import { readdirSync, type Stats, statSync } from 'node:fs';
import { join } from 'node:path';
import { openReadOnly, type ReadableFile } from './readConnection.js';
import { EVENT_TABLE_COLUMNS } from './shardSchema.js';
import { errorText, isCorruption } from './storeError.js';

/** The metadata database shares the directory and holds no events. */
export const META_FILE = 'eventd-meta.db';

/** What a look into a file said. */
type Verdict =
  | { readonly kind: 'events' }
  /** Another store's file: skipped without a word. */
  | { readonly kind: 'other' }
  /** Skipped and logged, once for each state of the file. */
  /** `passing`: not because of what the file holds, so it is worth another look each time. */
  | { readonly kind: 'unreadable'; readonly reason: string; readonly passing: boolean };

interface Judged {
  readonly fingerprint: string;
  readonly verdict: Verdict;
}

/**
 * Finds the event databases of a directory, anew for each query so that new files appear without a
 * restart. A file is opened only when it is new or was not an event database and has changed since.
 */
export class EventDatabases {
  readonly #directory: string;
  readonly #onSkipped: (name: string, reason: string) => void;
  #judged = new Map<string, Judged>();

  /** @param onSkipped told of each file that should be readable and is not; `name` is the bare file name */
  constructor(directory: string, onSkipped: (name: string, reason: string) => void) {
    this.#directory = directory;
    this.#onSkipped = onSkipped;
  }

  /**
   * The databases as of now, by file name ascending in byte order, which is how ties are broken (QL-71).
   * @throws the file system's error when the directory cannot be listed
   */
  scan(): ReadableFile[] {
    const seen = new Map<string, Judged>();
    const files: ReadableFile[] = [];
    const names = readdirSync(this.#directory).filter((name) => name.endsWith('.db') && name !== META_FILE);
    for (const name of names.sort(compareBytes)) {
      const path = join(this.#directory, name);
      const stat = statSync(path, { throwIfNoEntry: false });
      if (stat === undefined || !stat.isFile()) continue;
      const judged = this.#judge(name, path, stat);
      if (!isPassing(judged.verdict)) seen.set(name, judged);
      if (judged.verdict.kind === 'events') files.push({ path, identity: identityOf(stat) });
    }
    this.#judged = seen;
    return files;
  }

  #judge(name: string, path: string, stat: Stats): Judged {
    const known = this.#judged.get(name);
    // Event databases stay event databases; the others may become one, also inside their WAL alone.
    const fingerprint =
      known?.verdict.kind === 'events' ? identityOf(stat) : `${identityOf(stat)} ${contentOf(path, stat)}`;
    if (known?.fingerprint === fingerprint) return known;
    const verdict = lookInto(path);
    if (verdict.kind === 'unreadable') this.#onSkipped(name, verdict.reason);
    return { fingerprint: verdict.kind === 'events' ? identityOf(stat) : fingerprint, verdict };
  }
}

function isPassing(verdict: Verdict): boolean {
  return verdict.kind === 'unreadable' && verdict.passing;
}

function lookInto(path: string): Verdict {
  try {
    const database = openReadOnly(path);
    try {
      const columns = new Set(
        database.prepare("SELECT name FROM pragma_table_info('events')").pluck().all() as string[],
      );
      if (columns.size === 0) return { kind: 'other' };
      const lacking = EVENT_TABLE_COLUMNS.filter((column) => !columns.has(column));
      if (lacking.length === 0) return { kind: 'events' };
      const reason = `its events table has no column ${lacking.join(', ')}`;
      return { kind: 'unreadable', reason, passing: false };
    } finally {
      database.close();
    }
  } catch (error) {
    return { kind: 'unreadable', reason: errorText(error), passing: !isCorruption(error) };
  }
}

function identityOf(stat: Stats): string {
  return `${stat.dev}:${stat.ino}`;
}

function contentOf(path: string, stat: Stats): string {
  const wal = statSync(`${path}-wal`, { throwIfNoEntry: false });
  return `${stat.ctimeMs}:${stat.size} ${wal === undefined ? '' : `${wal.ctimeMs}:${wal.size}`}`;
}

function compareBytes(a: string, b: string): number {
  return Buffer.compare(Buffer.from(a), Buffer.from(b));
}
