/**
 * The commits since the oldest stream that has not caught up, in the order of their signals (STR-8). They
 * are numbered here: what stands for missed signals has one ticket for several databases.
 */
import type { CommitEntry } from '../../../src/stores/commitFeed.js';

/** Entries kept before batches of the same database are put together. */
const MOST_ENTRIES = 65_536;

/** A commit and where it stands in the order. */
export interface PlacedEntry extends CommitEntry {
  readonly place: number;
}

export class CommitHistory {
  #entries: PlacedEntry[] = [];
  #next = 0;
  readonly #most: number;

  constructor(most = MOST_ENTRIES) {
    this.#most = most;
  }

  get size(): number {
    return this.#entries.length;
  }

  /** The place of the entry that is added next. */
  get next(): number {
    return this.#next;
  }

  add(entry: CommitEntry): void {
    this.#entries.push({ ...entry, place: this.#next++ });
    if (this.#entries.length > this.#most) this.#merge();
  }

  /** The first entry at this place or behind it. */
  from(place: number): PlacedEntry | null {
    let low = 0;
    let high = this.#entries.length;
    while (low < high) {
      const middle = (low + high) >>> 1;
      const entry = this.#entries[middle];
      if (entry !== undefined && entry.place < place) low = middle + 1;
      else high = middle;
    }
    return this.#entries[low] ?? null;
  }

  /** All entries from this place on. */
  since(place: number): readonly PlacedEntry[] {
    return this.#entries.filter((entry) => entry.place >= place);
  }

  clear(): void {
    this.#entries = [];
  }

  /**
   * Of the batches of a database between two statements of where its ids stand, the last is left with the
   * rows of all: who has not seen it yet, sees everything; who has seen a part, goes on from there.
   */
  #merge(): void {
    const kept: (PlacedEntry | null)[] = [];
    const open = new Map<number, number>();
    for (const entry of this.#entries) {
      const at = open.get(entry.source) ?? -1;
      const earlier = kept[at] ?? null;
      open.delete(entry.source);
      if (entry.rows === 0 || earlier === null) kept.push(entry);
      else kept.push({ ...entry, rows: earlier.rows + entry.rows });
      if (entry.rows === 0) continue;
      if (earlier !== null) kept[at] = null;
      open.set(entry.source, kept.length - 1);
    }
    this.#entries = kept.filter((entry) => entry !== null);
  }
}
