/** What is known of every sequence of one CPU in one boot: stored or gap-recorded, and whose event it is. */
import type { FaultList } from './faults.js';

const STORED = 1;
const GAPPED = 2;

/** `owner` of an event that no load generator wrote. */
export const NO_LOAD = 0;

export class CpuLedger {
  stored = 0;
  gapped = 0;
  gapRecords = 0;
  #state = new Uint8Array(1 << 12);
  /** Number of the load generator's run that wrote the event, and the event's number within the run. */
  #owner = new Uint16Array(1 << 12);
  #number = new Uint32Array(1 << 12);
  /** Everything up to here was found accounted for. */
  #complete = 0;
  /** Last event of each load run up to where payloads have been compared. */
  readonly #runs = new Map<number, { number: number; gappedBefore: number }>();
  #compared = 0;
  #gappedCompared = 0;

  constructor(
    readonly cpu: number,
    readonly faults: FaultList,
  ) {}

  addEvent(sequence: number, owner: number, number: number): void {
    this.#reserve(sequence);
    this.stored++;
    const state = this.#state[sequence] ?? 0;
    if ((state & STORED) !== 0) this.faults.add('duplicated', `cpu ${this.cpu}: ${sequence} is stored twice`);
    if ((state & GAPPED) !== 0) this.#falseGap(sequence);
    this.#state[sequence] = state | STORED;
    this.#owner[sequence] = owner;
    this.#number[sequence] = number;
  }

  addGap(first: number, last: number): void {
    this.#reserve(last);
    this.gapRecords++;
    for (let sequence = first; sequence <= last; sequence++) {
      const state = this.#state[sequence] ?? 0;
      if ((state & GAPPED) !== 0)
        this.faults.add('wrong', `cpu ${this.cpu}: ${sequence} is in two gap records`);
      else this.gapped++;
      if ((state & STORED) !== 0) this.#falseGap(sequence);
      this.#state[sequence] = state | GAPPED;
    }
  }

  has(sequence: number): boolean {
    return (this.#state[sequence] ?? 0) !== 0;
  }

  isGapped(sequence: number): boolean {
    return ((this.#state[sequence] ?? 0) & GAPPED) !== 0;
  }

  /** Highest sequence heard of. */
  highest(): number {
    let sequence = this.#state.length - 1;
    while (sequence > 0 && this.#state[sequence] === 0) sequence--;
    return sequence;
  }

  /** Maximal runs up to `last` of which nothing is known. */
  missing(last: number): [number, number][] {
    const runs: [number, number][] = [];
    for (let sequence = this.#complete + 1; sequence <= last; sequence++) {
      if (this.has(sequence)) continue;
      const run = runs.at(-1);
      if (run !== undefined && run[1] === sequence - 1) run[1] = sequence;
      else runs.push([sequence, sequence]);
    }
    return runs;
  }

  /** Reports what is not accounted for up to `last` as lost; `why` says who claims that it is. */
  expectComplete(last: number, why: string): void {
    const missing = this.missing(last);
    for (const [first, end] of missing)
      this.faults.add('lost', `cpu ${this.cpu}: ${first}-${end}, ${why}`, end - first + 1);
    if (missing.length === 0 && last > this.#complete) this.#complete = last;
  }

  /** Reports sequences above `last`, which nobody has emitted. */
  expectNothingBeyond(last: number): void {
    const highest = this.highest();
    if (highest > last)
      this.faults.add(
        'wrong',
        `cpu ${this.cpu}: ${highest} is recorded, but only ${last} were emitted`,
        highest - last,
      );
  }

  /**
   * Compares the numbers inside the payloads with the sequences, up to `last`, where all is accounted
   * for: within one load run they rise together, and a number may be missing only where a gap is.
   */
  comparePayloads(last: number): void {
    for (let sequence = this.#compared + 1; sequence <= last; sequence++) {
      if (this.isGapped(sequence)) this.#gappedCompared++;
      const owner = this.#owner[sequence] ?? NO_LOAD;
      if (owner === NO_LOAD) continue;
      const number = this.#number[sequence] ?? 0;
      const previous = this.#runs.get(owner) ?? { number: 0, gappedBefore: 0 };
      const absent = number - previous.number - 1;
      if (absent < 0 || absent > this.#gappedCompared - previous.gappedBefore)
        this.faults.add(
          'wrong',
          `cpu ${this.cpu}: ${sequence} holds event ${number} of load ${owner}, after event ${previous.number}`,
        );
      this.#runs.set(owner, { number, gappedBefore: this.#gappedCompared });
    }
    this.#compared = Math.max(this.#compared, last);
  }

  #falseGap(sequence: number): void {
    this.faults.add('wrong', `cpu ${this.cpu}: ${sequence} is stored and in a gap record`);
  }

  #reserve(sequence: number): void {
    if (sequence < this.#state.length) return;
    const size = Math.max(sequence + 1, this.#state.length * 2);
    const grown = <T extends Uint8Array | Uint16Array | Uint32Array>(old: T, fresh: T): T => {
      fresh.set(old);
      return fresh;
    };
    this.#state = grown(this.#state, new Uint8Array(size));
    this.#owner = grown(this.#owner, new Uint16Array(size));
    this.#number = grown(this.#number, new Uint32Array(size));
  }
}
