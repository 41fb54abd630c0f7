/** What one query worker found out about the names in an event database, for the others (actors/query/eventNames.ts). */
import type { FieldPath } from '../../src/access/fieldLists.js';
import type { Mark } from './eventRows.js';

/** Complete up to its mark: whoever knows less may take it as it is. */
export type Learned = {
  /** Which database, file and identity. */
  readonly database: string;
  readonly mark: Mark;
} & (
  | { readonly what: 'spelt' | 'folded'; readonly names: readonly string[] }
  | { readonly what: 'fields'; readonly type: string; readonly paths: readonly FieldPath[] }
);

/** Kept for workers to come; types with field lists are few, databases with archives may be many. */
const MAX_LEARNED = 4096;

/** The newest of each kind. */
export class Learnings implements Iterable<Learned> {
  readonly #newest = new Map<string, Learned>();

  add(learned: Learned): void {
    const key = `${learned.what} ${learned.what === 'fields' ? learned.type : ''} ${learned.database}`;
    this.#newest.delete(key);
    this.#newest.set(key, learned);
    for (const oldest of this.#newest.keys()) {
      if (this.#newest.size <= MAX_LEARNED) break;
      this.#newest.delete(oldest);
    }
  }

  [Symbol.iterator](): Iterator<Learned> {
    return this.#newest.values();
  }
}
