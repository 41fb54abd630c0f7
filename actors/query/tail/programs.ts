/** The programs of the tail thread's streams: one for all streams that look for the same. */
import type { NativeAddon, TailHandle } from '../../../src/native/addon.js';
import type { TailProgram } from '../../../src/query/predicateProgram.js';
import type { CrossTerms } from './crossTerms.js';
import type { TailStore } from './databases.js';
import type { Program } from './stream.js';
import { undecided } from './undecided.js';

export class Programs {
  readonly #native: Pick<NativeAddon, 'tailOpen' | 'tailAdd' | 'tailRemove' | 'tailClose'>;
  readonly #cross: CrossTerms;
  readonly #tails = new Map<TailStore, TailHandle>();
  /** By key: those that others may share. */
  readonly #shared = new Map<string, Program>();

  constructor(
    native: Pick<NativeAddon, 'tailOpen' | 'tailAdd' | 'tailRemove' | 'tailClose'>,
    cross: CrossTerms,
  ) {
    this.#native = native;
    this.#cross = cross;
  }

  /** For one stream, which gives it back. Throws what the client is told when it is refused. */
  take({ store, spec, terms, decided }: TailProgram, windowMs: number): Program {
    // What is true of a term depends on more than the program says, and so does what was decided.
    const isShared = terms.length === 0 && decided === null;
    const key = `${store} ${Buffer.from(spec).toString('latin1')}`;
    const known = isShared ? this.#shared.get(key) : undefined;
    if (known !== undefined) {
      known.streams++;
      return known;
    }
    // First: it may refuse.
    const judge = terms.length === 0 ? null : this.#cross.forStream(terms, windowMs);
    const program: Program = {
      key,
      store,
      number: this.#native.tailAdd(this.tailOf(store), spec),
      terms: judge,
      undecided: decided === null ? null : undecided(store, decided),
      streams: 1,
    };
    if (isShared) this.#shared.set(key, program);
    return program;
  }

  /** The last stream takes the program along. */
  give(program: Program): void {
    program.streams--;
    if (program.streams > 0) return;
    if (this.#shared.get(program.key) === program) this.#shared.delete(program.key);
    this.#native.tailRemove(this.tailOf(program.store), program.number);
  }

  /** What scans for the programs of a store. */
  tailOf(store: TailStore): TailHandle {
    let tail = this.#tails.get(store);
    if (tail === undefined) {
      tail = this.#native.tailOpen(store);
      this.#tails.set(store, tail);
    }
    return tail;
  }

  /** When all are given back. */
  close(): void {
    for (const tail of this.#tails.values()) this.#native.tailClose(tail);
    this.#tails.clear();
  }
}
