/**
 * Goes through the windows of all pairs, one pair after the other: what is still to be searched, where the search
 * stands, and what it has found. How far each pair was searched is remembered, so that the next pass looks at what
 * was completed since, and once an hour at what late samples have reopened (ROL-19). Nothing of it is stored:
 * whoever starts anew looks at every window once (ROL-39).
 */
import { BatchTooLong } from '../stores/retentionDatabase.js';
import {
  completedEnd,
  type Moment,
  RollupComputation,
  type RollupUnit,
  SEARCH_START,
  type SearchPlace,
} from './computation.js';
import type { RollupPair } from './pairs.js';

const SECOND_NS = 1_000_000_000n;

/** How far a pair was searched. */
interface Searched {
  /** Windows that end before it need no look, ns; null: there may be some in all of the past. */
  readonly since: bigint | null;
  /** The end of the windows that were completed by then, ns; null: there is something to do, whatever the time. */
  readonly completed: bigint | null;
}

/** The search for windows of one pair, through all series. */
interface PairSearch {
  readonly since: bigint | null;
  place: SearchPlace;
  /** What holds when it is over. */
  readonly result: Searched;
}

export class RollupPass {
  readonly #file: string;
  #computation: RollupComputation | null = null;
  /** Highest priority first. */
  #pairs: readonly RollupPair[] = [];
  /** Still to be searched in this pass, the one under way first. */
  #queue: readonly RollupPair[] = [];
  #search: PairSearch | null = null;
  #unit: RollupUnit | 'reopened' | null = null;
  /** By key of the pair. */
  readonly #searched = new Map<string, Searched>();
  #asksForReopened = true;

  /** @param file the metric store; it is opened when there is something to do, and closed behind it */
  constructor(file: string) {
    this.#file = file;
  }

  /**
   * What the policy has decided, highest priority first. The pass under way goes on, without what is not wanted
   * any more; the next one also looks for what late samples have reopened.
   */
  want(pairs: readonly RollupPair[]): void {
    const isWanted = (key: string) => pairs.some((pair) => pair.key === key);
    for (const key of [...this.#searched.keys()]) if (!isWanted(key)) this.#searched.delete(key);
    const [underWay] = this.#queue;
    if (underWay !== undefined && !isWanted(underWay.key)) {
      this.#search = null;
      this.#unit = null;
    }
    this.#pairs = pairs;
    this.#queue = this.#queue.filter(({ key }) => isWanted(key));
    this.#asksForReopened = true;
  }

  /**
   * One bounded step of the search.
   *
   * @returns true: something is to be computed; false: nothing is, for now; null: the search is to go on
   * @throws StoreError or SQLite's error; call `close` then
   */
  step(moment: Moment): boolean | null {
    if (this.#unit === null && this.#queue.length === 0) this.#begin(moment);
    if (this.#unit !== null) return true;
    const [pair] = this.#queue;
    if (pair === undefined) return this.#rest();
    this.#search ??= this.#searchOf(pair, moment);
    const { unit, next } = this.#open().search(pair, this.#search.place, this.#search.since, moment);
    this.#unit = unit;
    if (next !== null) this.#search.place = next;
    else this.#searched.set(pair.key, this.#search.result);
    if (unit !== null) return true;
    if (next !== null) return null;
    this.#search = null;
    this.#queue = this.#queue.slice(1);
    return this.#queue.length > 0 ? null : this.#rest();
  }

  /**
   * One transaction, for what a step has found; call it under a lease only.
   *
   * @throws StoreError or SQLite's error; call `close` then
   */
  compute(moment: Moment): { readonly rows: number; readonly samples: number } {
    const unit = this.#unit;
    if (unit === null) throw new Error('there is nothing to compute');
    this.#unit = null;
    if (unit === 'reopened') {
      this.#reopen(this.#open().takeReopened());
      return { rows: 0, samples: 0 };
    }
    const { series, pair, from } = unit;
    const goOn = (at: bigint) => {
      if (this.#search !== null) this.#search.place = { series, from: at };
    };
    try {
      const done = this.#open().compute(unit, moment);
      goOn(done.next);
      return done;
    } catch (error) {
      if (!(error instanceof BatchTooLong)) throw error;
      // Which of its windows was too much shows when they are computed one by one: the samples of that will do.
      if (unit.alone) goOn(from + BigInt(pair.windowSeconds) * SECOND_NS);
      else this.#unit = { ...unit, alone: true };
      return { rows: 0, samples: 0 };
    }
  }

  /** Gives the store back. A pass under way ends, and what it has not come to is still to be done. */
  close(): void {
    const closing = this.#computation;
    this.#computation = null;
    this.#queue = [];
    this.#search = null;
    this.#unit = null;
    closing?.close();
  }

  #open(): RollupComputation {
    this.#computation ??= new RollupComputation(this.#file);
    return this.#computation;
  }

  /** What late samples have reopened has to be known first; then the pass goes to all pairs that have work. */
  #begin(moment: Moment): void {
    const isOpen = (pair: RollupPair) =>
      this.#searched.get(pair.key)?.completed !== completedEnd(pair, moment);
    if (this.#pairs.length === 0 || !(this.#asksForReopened || this.#pairs.some(isOpen))) return;
    this.#forgetOtherFile();
    if (this.#asksForReopened && this.#open().hasReopened()) {
      this.#unit = 'reopened';
      return;
    }
    this.#asksForReopened = false;
    this.#queue = this.#pairs.filter(isOpen);
  }

  /**
   * In a file that has replaced another all of the past is open, for every pair. It shows in that less of it was
   * looked at, as long as no pair has been computed in it.
   */
  #forgetOtherFile(): void {
    const looked = this.#open().lookedUntil();
    const isOfOther = ({ since }: Searched) => since !== null && (looked === null || since > looked);
    if ([...this.#searched.values()].some(isOfOther)) this.#searched.clear();
  }

  #rest(): false {
    this.close();
    return false;
  }

  /**
   * A sample from `lookedUntil` on is not late, so nothing tells of it; and it may come where this search has been
   * already. Hence the next one begins there, or earlier.
   */
  #searchOf(pair: RollupPair, moment: Moment): PairSearch {
    const completed = completedEnd(pair, moment);
    const looked = this.#open().lookedUntil();
    return {
      since: this.#searched.get(pair.key)?.since ?? null,
      place: SEARCH_START,
      result: { since: looked === null ? null : earlier(looked, completed), completed },
    };
  }

  #reopen(at: bigint | null): void {
    this.#asksForReopened = false;
    if (at === null) return;
    for (const [key, { since }] of this.#searched) {
      this.#searched.set(key, { since: since === null ? null : earlier(since, at), completed: null });
    }
  }
}

function earlier(a: bigint, b: bigint): bigint {
  return a < b ? a : b;
}
