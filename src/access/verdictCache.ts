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
import type { Visibility } from './visibility.js';

/** What the verdicts of a session may weigh together: each its identifier's length and something. */
const MAX_VERDICT_WEIGHT = 4 * 1024 * 1024;
const VERDICT_WEIGHT = 128;
/** Fields over all sets of fields a session keeps. */
const MAX_KEPT_FIELDS = 65536;

/** What was found out about the records of one identifier that have one set of fields. */
export interface Verdict {
  readonly type: DataType;
  readonly identifier: string;
  /** What governed the identifier then. */
  readonly descriptor: StoredDescriptor | null;
  readonly visibility: Promise<Visibility>;
  /** The check could not be made: it counts as denied. */
  failed: boolean;
}

/** The lists of one set of fields, and what came out for them so far: few outcomes serve many identifiers. */
export interface FieldSet {
  readonly id: number;
  readonly lists: readonly FieldList[];
  readonly outcomes: Map<string, Visibility>;
}

/** As many verdicts as their weight allows; past it the oldest go. */
export class VerdictCache {
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

/** Sets of fields by what is in them, in whatever order it comes (ACL-44). */
export class FieldSets {
  readonly #sets = new Map<string, FieldSet>();
  #fields = 0;
  /** Numbers are never given twice: a set that is made anew is another to the verdicts. */
  #nextId = 1;

  /** The set of the fixed fields and these; what is too deep for any list is left out. */
  of(type: DataType, present: readonly FieldPath[]): FieldSet {
    const held = present.some(isTooDeep) ? present.filter((path) => !isTooDeep(path)) : present;
    const names = fieldNames(type, held);
    const key = JSON.stringify([type, names]);
    const known = this.#sets.get(key);
    if (known !== undefined) return known;
    if (this.#fields + names.length > MAX_KEPT_FIELDS) this.clear();
    const made = { id: this.#nextId++, lists: fieldLists(type, names), outcomes: new Map() };
    this.#sets.set(key, made);
    this.#fields += names.length;
    return made;
  }

  clear(): void {
    this.#sets.clear();
    this.#fields = 0;
  }
}
