/**
 * The verdicts of one session, and the sets of fields they are about (ACL-42..44). Senders choose
 * identifiers and fields, so both are bounded; what goes costs another check.
 */
import type { StoredDescriptor } from './caller.js';
import {
  type DataType,
  type FieldList,
  type FieldPath,
  fieldLists,
  fieldNames,
  isTooDeep,
} from './fieldLists.js';
import { type Visibility, visibilityOf } from './visibility.js';

/** What the verdicts of a session may weigh together: each its identifier's length and something. */
const MAX_VERDICT_WEIGHT = 4 * 1024 * 1024;
const VERDICT_WEIGHT = 128;
/** What the sets of fields of a session and their outcomes may weigh together, about their bytes. */
const MAX_SETS_WEIGHT = 16 * 1024 * 1024;
/** A field of a set, besides its name, which is there twice. */
const FIELD_WEIGHT = 256;
/** A field in an outcome. */
const GRANT_WEIGHT = 64;

/** What was found out about the records of one identifier that have one set of fields. */
export interface Verdict {
  readonly type: DataType;
  readonly identifier: string;
  /** What governed the identifier then. */
  readonly descriptor: StoredDescriptor | null;
  /** The set it is about; null where fields do not matter (ACL-43). */
  readonly fields: FieldSet | null;
  readonly visibility: Promise<Visibility>;
  /** The check could not be made: it counts as denied. */
  failed: boolean;
}

/** The lists of one set of fields, and what came out for them so far: few outcomes serve many identifiers. */
export interface FieldSet {
  readonly id: number;
  readonly lists: readonly FieldList[];
  /** How many fields it has. */
  readonly size: number;
  readonly outcomes: Map<string, Visibility>;
}

/** As many verdicts as their weight allows; past it the oldest go. When the sets of fields go, so do verdicts about them. */
export class VerdictCache {
  /** Numbers are never given twice, so nobody asks for a verdict about a set that is gone. */
  readonly sets = new FieldSets(() => this.forget(({ fields }) => fields !== null));
  readonly #verdicts = new Map<string, Verdict>();
  #weight = 0;

  /**
   * The verdict, made now where there is none.
   *
   * @param fields the set of fields it is about; null where fields do not matter (ACL-43)
   */
  take(type: DataType, identifier: string, fields: FieldSet | null, make: () => Verdict): Verdict {
    const key = `${type} ${fields?.id ?? 0} ${identifier}`;
    const known = this.#verdicts.get(key);
    if (known !== undefined) {
      // The oldest goes first; a used one is the youngest.
      this.#verdicts.delete(key);
      this.#verdicts.set(key, known);
      return known;
    }
    const made = make();
    this.#verdicts.set(key, made);
    this.#weight += weightOf(identifier);
    this.#shrink(key);
    return made;
  }

  /** Forgets the verdicts that no longer hold; whether there were any. */
  forget(isOver: (verdict: Verdict) => boolean): boolean {
    const before = this.#verdicts.size;
    for (const [key, verdict] of this.#verdicts) if (isOver(verdict)) this.#drop(key, verdict);
    return this.#verdicts.size < before;
  }

  clear(): void {
    this.#verdicts.clear();
    this.#weight = 0;
    this.sets.clear();
  }

  #shrink(youngest: string): void {
    for (const [key, verdict] of this.#verdicts) {
      if (this.#weight <= MAX_VERDICT_WEIGHT || key === youngest) return;
      this.#drop(key, verdict);
    }
  }

  #drop(key: string, { identifier }: Verdict): void {
    this.#verdicts.delete(key);
    this.#weight -= weightOf(identifier);
  }
}

function weightOf(identifier: string): number {
  return VERDICT_WEIGHT + identifier.length;
}

/** Sets of fields by what is in them, in whatever order it comes (ACL-44). Past their weight all go at once. */
export class FieldSets {
  readonly #sets = new Map<string, FieldSet>();
  readonly #onGone: () => void;
  #weight = 0;
  #nextId = 1;

  /** @param onGone hears that nothing about any set needs to be kept */
  constructor(onGone: () => void) {
    this.#onGone = onGone;
  }

  /** The set of the fixed fields and these; what is too deep for any list is left out. */
  of(type: DataType, present: readonly FieldPath[]): FieldSet {
    const held = present.some(isTooDeep) ? present.filter((path) => !isTooDeep(path)) : present;
    const names = fieldNames(type, held);
    const key = JSON.stringify([type, names]);
    const known = this.#sets.get(key);
    if (known !== undefined) return known;
    this.#weigh(names.length * FIELD_WEIGHT + 2 * key.length);
    const made = {
      id: this.#nextId++,
      lists: fieldLists(type, names),
      size: names.length,
      outcomes: new Map(),
    };
    this.#sets.set(key, made);
    return made;
  }

  /** What the answers of the checks of a set come to. */
  visibility({ lists, size, outcomes }: FieldSet, answers: readonly (readonly boolean[])[]): Visibility {
    const outcome = answers.map((verdicts) => verdicts.map(Number).join('')).join(' ');
    let known = outcomes.get(outcome);
    if (known === undefined) {
      this.#weigh(size * GRANT_WEIGHT);
      known = visibilityOf(lists, answers);
      outcomes.set(outcome, known);
    }
    return known;
  }

  clear(): void {
    this.#sets.clear();
    this.#weight = 0;
    this.#onGone();
  }

  #weigh(more: number): void {
    if (this.#weight + more > MAX_SETS_WEIGHT) this.clear();
    this.#weight += more;
  }
}
