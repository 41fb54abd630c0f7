/** What queries ask for, counted on the way to an advisor and told together (IDX-3, ROL-10). */
import { MAX_COUNTED_FIELDS } from '../../src/indexes/counters.js';

/** ms. */
const TELL_EVERY_MS = 1000;

export class UseCounts {
  readonly #tell: (counts: ReadonlyMap<string, number>) => boolean;
  #counts = new Map<string, number>();
  #timer: NodeJS.Timeout | null = null;

  /** `tell` is false when there is nobody to be told: then they wait for the next one. */
  constructor(tell: (counts: ReadonlyMap<string, number>) => boolean) {
    this.#tell = tell;
  }

  /** Costs its caller nothing but memory (QX-43), and of that no more than MAX_COUNTED_FIELDS names. */
  add(names: readonly string[]): void {
    for (const name of names) {
      const count = this.#counts.get(name);
      if (count === undefined && this.#counts.size >= MAX_COUNTED_FIELDS) continue;
      this.#counts.set(name, (count ?? 0) + 1);
    }
    if (this.#counts.size > 0) this.#timer ??= setTimeout(() => this.flush(), TELL_EVERY_MS).unref();
  }

  /** Tells them now: at a stop nothing that was counted is lost (IDX-48). */
  flush(): void {
    if (this.#timer !== null) clearTimeout(this.#timer);
    this.#timer = null;
    if (this.#counts.size > 0 && this.#tell(this.#counts)) this.#counts = new Map();
  }
}
