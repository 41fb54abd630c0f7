/**
 * Which keys records have, in which order. Records of one kind have the same keys, so each key is foreseen from
 * the ones before it, and whether a record has a key twice is found out once for all that are alike.
 */

/** Beginnings of records that are known at most; then it starts anew. */
const MAX_SHAPES = 4096;

/** Keys of a record that are foreseen at most: to find out whether one is there already takes as many steps. */
const MAX_DEPTH = 128;

/** Longer keys are not kept for other records, in UTF-16 units. */
const MAX_NAME_LENGTH = 256;

/** The keys read so far of a record, without those it does not take. */
export class Shape {
  /** The key that made it, and what it was before. */
  readonly name: string;
  readonly #before: Shape | null;
  /** By the next key; what has the key already stays what it is. */
  readonly #after = new Map<string, Shape>();
  #latest: Shape = this;
  readonly #depth: number;

  constructor(name = '', before: Shape | null = null) {
    this.name = name;
    this.#before = before;
    this.#depth = before === null ? 0 : before.#depth + 1;
  }

  /** The key that came next the last time. */
  get likely(): string {
    return this.#latest === this ? '' : this.#latest.name;
  }

  /** Whether the key can become part of a shape; of others the record itself must know whether it has them. */
  takes(name: string): boolean {
    return this.#depth < MAX_DEPTH && name.length <= MAX_NAME_LENGTH;
  }

  /** The shape with one more key, which it takes; this one if it has the key. */
  with(name: string, root: RootShape): Shape {
    const latest = this.#latest;
    if (latest.name === name && latest !== this) return latest;
    let next = this.#after.get(name);
    if (next === undefined) {
      next = this.#has(name) ? this : new Shape(name, this);
      this.#after.set(name, next);
      root.count();
    }
    if (next !== this) this.#latest = next;
    return next;
  }

  #has(name: string): boolean {
    for (let shape: Shape = this; shape.#before !== null; shape = shape.#before)
      if (shape.name === name) return true;
    return false;
  }
}

/** The beginning of every record. */
export class RootShape {
  #empty = new Shape();
  #shapes = 0;

  /** No key yet. */
  get empty(): Shape {
    return this.#empty;
  }

  /** One more is known. */
  count(): void {
    if (++this.#shapes <= MAX_SHAPES) return;
    this.#shapes = 0;
    this.#empty = new Shape();
  }
}
