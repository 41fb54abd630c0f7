/**
 * How much a stream decides about one by one, of its own records and of each other store it looks at: names,
 * and the fields they have. Senders choose both, while all of them are kept, and sent to the tail thread
 * with every decision. The fields the query looks at do not count: they are kept once, not for each name. Only
 * verdicts under object ACEs tell of them as well, once for each set of fields and outcome.
 */
import type { PresentFields } from '../../src/access/accessSession.js';
import { QueryError } from '../../src/query/errors.js';

/** Event types, origins or metric names. */
export const MAX_DECIDED_NAMES = 16_384;
/** Fields, over all names whose fields matter. */
export const MAX_DECIDED_FIELDS = 16_384;
/** Characters of all these names and fields. */
export const MAX_DECIDED_CHARACTERS = 4 * 1024 * 1024;

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
    characters += paths.flat().reduce((sum, { length }) => sum + length, name.length);
  }
  if (fields > MAX_DECIDED_FIELDS) return `more than ${MAX_DECIDED_FIELDS} fields of ${noun}s`;
  const isLong = characters > MAX_DECIDED_CHARACTERS;
  return isLong ? `${noun}s and fields of more than ${MAX_DECIDED_CHARACTERS} characters` : null;
}
