/**
 * How much is decided one by one. For a stream: names, and the fields they have, of its own records and of
 * each other store it looks at. Senders choose both, while all of them are kept, and sent to the tail thread
 * with every decision. For every query: what comes of names and the fields it looks at, which callers choose.
 *
 * The first is counted before anything is checked, or it would bound nothing. The second counts what may be
 * seen, and nothing else: a caller who chooses how much each name counts could find out hidden ones by it.
 */
import type { CountName, PresentFields } from '../../src/access/accessSession.js';
import { type DataType, FIXED_FIELDS, type FieldPath } from '../../src/access/fieldLists.js';
import { QueryError } from '../../src/query/errors.js';

/** Event types, origins or metric names. */
export const MAX_DECIDED_NAMES = 16_384;
/** Fields, over all names whose fields matter. */
export const MAX_DECIDED_FIELDS = 16_384;
/** Characters of all these names and fields. */
export const MAX_DECIDED_CHARACTERS = 4 * 1024 * 1024;
/** Verdicts of a query: on each field of a name whose fields matter, on other names wherever they are listed. */
export const MAX_DECIDED_VERDICTS = 262_144;
/** Characters of names, as often as they are listed, and of the fields of each name whose fields matter. */
export const MAX_LISTED_CHARACTERS = 16 * 1024 * 1024;

/** What a query decides about the names of one store. */
export interface Decision {
  readonly type: DataType;
  /** What a client calls a name. */
  readonly noun: string;
  /** Those whose fields matter (ACL-43). */
  readonly apart: ReadonlySet<string>;
  /** Fields that the query looks at, as often as it does. */
  readonly used: readonly FieldPath[];
  /** Conditions that list the names. */
  readonly lists: number;
  /** Whether they do so only where fields of some name that may be seen matter. */
  readonly listsOnlyApart: boolean;
}

/** Counts what one query decides, over all stores it looks at. */
export class DecisionTally {
  #verdicts = 0;
  #characters = 0;

  /**
   * Begins with the names of a store.
   *
   * @returns counts one that may be seen; throws QueryError class X, prefix `limit exceeded`
   */
  begin({ type, noun, apart, used, lists, listsOnlyApart }: Decision): CountName {
    const fixed = FIXED_FIELDS[type].length;
    const looked = sizeOf(used);
    let areListed = !listsOnlyApart;
    /** Listed as soon as a name has fields that matter. */
    const unlisted = { names: 0, characters: 0 };
    return (name, fields) => {
      const isApart = apart.has(name);
      if (isApart) {
        const own = sizeOf(fields);
        this.#verdicts += fixed + own.fields + looked.fields;
        this.#characters += own.characters + looked.characters;
      }
      unlisted.names += isApart ? 0 : 1;
      unlisted.characters += name.length;
      areListed ||= isApart;
      if (areListed) {
        this.#verdicts += lists * unlisted.names;
        this.#characters += lists * unlisted.characters;
        unlisted.names = 0;
        unlisted.characters = 0;
      }
      this.#refuseExcess(noun);
    };
  }

  #refuseExcess(noun: string): void {
    const excess = this.#excess(noun);
    if (excess === null) return;
    const problem = `what the caller may see takes ${excess}`;
    throw new QueryError('X', 'limit exceeded', `${problem}; name the ${noun}s, or test fewer fields`);
  }

  #excess(noun: string): string | null {
    if (this.#verdicts > MAX_DECIDED_VERDICTS)
      return `more than ${MAX_DECIDED_VERDICTS} verdicts on ${noun}s and their fields`;
    const isLong = this.#characters > MAX_LISTED_CHARACTERS;
    return isLong ? `${noun}s and fields of more than ${MAX_LISTED_CHARACTERS} characters` : null;
  }
}

/**
 * @param noun what a client calls a name
 * @throws QueryError class X, prefix `limit exceeded`
 */
export function refuseTooMany(present: PresentFields, noun: string): void {
  const excess = excessOf(present, noun);
  if (excess === null) return;
  const problem = `the stream meets ${excess}, and what its caller may see is decided for each`;
  throw new QueryError('X', 'limit exceeded', `${problem}; name the ${noun}s`);
}

/** What there is too much of; null = nothing. */
function excessOf(present: PresentFields, noun: string): string | null {
  if (present.size > MAX_DECIDED_NAMES) return `more than ${MAX_DECIDED_NAMES} ${noun}s`;
  let fields = 0;
  let characters = 0;
  for (const [name, paths] of present) {
    fields += paths.length;
    characters += name.length + charactersOf(paths);
  }
  if (fields > MAX_DECIDED_FIELDS) return `more than ${MAX_DECIDED_FIELDS} fields of ${noun}s`;
  const isLong = characters > MAX_DECIDED_CHARACTERS;
  return isLong ? `${noun}s and fields of more than ${MAX_DECIDED_CHARACTERS} characters` : null;
}

/** Of the names of fields and of the maps they are in, as far as checks ask about each (ACL-23). */
function sizeOf(paths: readonly FieldPath[]): { readonly fields: number; readonly characters: number } {
  let fields = 0;
  let characters = 0;
  for (const path of paths) {
    let name = 0;
    for (const { length } of path) {
      name += length + 1;
      characters += name;
    }
    fields += path.length;
  }
  return { fields, characters };
}

function charactersOf(paths: readonly FieldPath[]): number {
  let characters = 0;
  for (const path of paths) for (const { length } of path) characters += length;
  return characters;
}
