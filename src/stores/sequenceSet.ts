/**
 * A set of sequence numbers of one CPU: one bit each, in blocks that exist only where numbers are, and
 * whole ranges beside them. Millions of scattered numbers stay small, however far apart they lie.
 */

const BLOCK_SHIFT = 16n;
const BLOCK_BITS = 1 << 16;

export class SequenceSet {
  readonly #blocks = new Map<bigint, Uint32Array>();
  readonly #ranges: [bigint, bigint][] = [];

  add(sequence: bigint): void {
    const key = sequence >> BLOCK_SHIFT;
    let words = this.#blocks.get(key);
    if (words === undefined) {
      words = new Uint32Array(BLOCK_BITS / 32);
      this.#blocks.set(key, words);
    }
    const bit = Number(BigInt.asUintN(16, sequence));
    words[bit >>> 5] = (words[bit >>> 5] ?? 0) | (1 << (bit & 31));
  }

  /** `first` to `last`, both included. */
  addRange(first: bigint, last: bigint): void {
    this.#ranges.push([first, last]);
  }

  /** Sorted, disjoint, never touching, both ends included. */
  ranges(): [bigint, bigint][] {
    const all = [...this.#runs(), ...this.#ranges].sort(([a], [b]) => (a < b ? -1 : a > b ? 1 : 0));
    const merged: [bigint, bigint][] = [];
    for (const [first, last] of all) {
      const previous = merged.at(-1);
      if (previous !== undefined && first <= previous[1] + 1n) {
        if (last > previous[1]) previous[1] = last;
      } else merged.push([first, last]);
    }
    return merged;
  }

  /** Runs of set bits, cut at the ends of blocks. */
  *#runs(): Generator<[bigint, bigint]> {
    for (const [key, words] of this.#blocks) {
      const base = key << BLOCK_SHIFT;
      let start = -1;
      for (let bit = 0; bit <= BLOCK_BITS; bit++) {
        const isSet = bit < BLOCK_BITS && ((words[bit >>> 5] ?? 0) & (1 << (bit & 31))) !== 0;
        if (isSet && start < 0) start = bit;
        if (isSet || start < 0) continue;
        yield [base + BigInt(start), base + BigInt(bit - 1)];
        start = -1;
      }
    }
  }
}
