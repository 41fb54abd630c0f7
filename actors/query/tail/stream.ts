/** A stream as the tail thread keeps it, and where it stands in the databases. */
import { QueryError } from '../../../src/query/errors.js';
import type { CommitEntry } from '../../../src/stores/commitFeed.js';
import { sqliteCode } from '../../../src/stores/storeError.js';
import type { QueryFailure } from '../protocol.js';
import type { StreamTerms } from './crossTerms.js';
import type { TailStore } from './databases.js';
import type { RowRange, Seam } from './protocol.js';
import type { Undecided } from './undecided.js';

/** What streams with the same conditions share. */
export interface Program {
  readonly key: string;
  readonly store: TailStore;
  readonly number: number;
  readonly terms: StreamTerms | null;
  /** Finds what nobody has decided about; null = there can be no such thing. */
  readonly undecided: Undecided | null;
  streams: number;
}

export interface Stream {
  readonly id: number;
  program: Program;
  readonly crossTypeWindowMs: number;
  /** `opened`: its initial set is being read. */
  phase: 'opened' | 'catchingUp' | 'live';
  /** It waits for another program. */
  held: boolean;
  /** Rows to be looked at again, before anything else. */
  redo: RowRange[];
  /** Where in the history the next commit stands that it has to look at. */
  place: number;
  seam: Seam | null;
  /** By source; a database that is not there was made after its initial set. */
  readonly marks: Map<number, bigint>;
  credits: number;
}

/**
 * Moves a stream's mark over a commit. Returns where the rows begin that are new to it, null when there
 * are none: it saw them in its initial set, or the entry only says where the ids of a database stand.
 */
export function advance(
  stream: Stream,
  { ticket, source, last, rows }: CommitEntry,
  path: string,
): bigint | null {
  const { seam, marks } = stream;
  if (seam !== null && ticket < seam.ticket) {
    const inSeam = seam.databases.some((database) => database.path === path);
    if (inSeam || ticket < seam.listed) return null;
  }
  const mark = marks.get(source);
  if (rows === 0) {
    marks.set(source, mark === undefined || mark > last ? last : mark);
    return null;
  }
  const start = mark ?? last - BigInt(rows);
  if (last <= start) return null;
  marks.set(source, last);
  return start;
}

/** Rows to be looked at again, as a batch. */
export function batchOf({ source, upTo }: RowRange): Pick<CommitEntry, 'source' | 'last'> {
  return { source, last: upTo };
}

/** What a client is told of the error that ended its stream (WIRE-21). */
export function failureOf(error: unknown): QueryFailure {
  if (error instanceof QueryError) return { kind: 'refused', text: error.text };
  const code = sqliteCode(error);
  const detail = code === null ? '' : ` (${code})`;
  return { kind: 'storage', text: `storage error: new rows could not be read${detail}` };
}
