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

/** How many names or fields it says. */
export function sizeOf(learned: Learned): number {
  return learned.what === 'fields' ? learned.paths.length : learned.names.length;
}

/** Kept for workers to come; types with field lists are few, databases with archives may be many. */
const MAX_LEARNED = 4096;

/** Names and fields kept over all of them: each worker to come gets them at once. */
const MAX_SIZE = 262_144;

/** The newest of each kind; past the bounds the oldest go. */
export class Learnings implements Iterable<Learned> {
  readonly #newest = new Map<string, Learned>();
  #size = 0;

  add(learned: Learned): void {
    const key = `${learned.what} ${learned.what === 'fields' ? learned.type : ''} ${learned.database}`;
    this.#remove(key);
    this.#newest.set(key, learned);
    this.#size += sizeOf(learned);
    for (const oldest of this.#newest.keys()) {
      if (this.#newest.size <= MAX_LEARNED && this.#size <= MAX_SIZE) break;
      this.#remove(oldest);
    }
  }

  [Symbol.iterator](): Iterator<Learned> {
    return this.#newest.values();
  }

  #remove(key: string): void {
    const learned = this.#newest.get(key);
    if (learned === undefined) return;
    this.#newest.delete(key);
    this.#size -= sizeOf(learned);
  }
}
