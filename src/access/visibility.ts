/** What of an identifier's records may be seen, as checks of its fields say (ACL-29, ACL-30). */
import type { FieldList } from './fieldLists.js';

/** What of an identifier's records may be seen. Denied and absent look the same. */
export interface Visibility {
  /** The root or at least one field is granted (ACL-30). */
  readonly visible: boolean;
  /** No field is denied, whatever fields a record has. */
  readonly everything: boolean;
  /** Whether a field of the list that was asked about may be shown; unknown names may not. */
  mayShow(name: string): boolean;
}

export const NOTHING: Visibility = { visible: false, everything: false, mayShow: () => false };
export const EVERYTHING: Visibility = { visible: true, everything: true, mayShow: () => true };

/**
 * What the answers of the checks come to, one list of verdicts per list of fields. A node that stands in
 * several lists is granted only if it is in each (ACL-25).
 */
export function visibilityOf(
  lists: readonly FieldList[],
  answers: readonly (readonly boolean[])[],
): Visibility {
  const granted = new Set<string>();
  const denied = new Set<string>();
  for (const [list, { names }] of lists.entries()) {
    for (const [index, name] of names.entries()) {
      (answers[list]?.[index] === true ? granted : denied).add(name);
    }
  }
  for (const name of denied) granted.delete(name);
  if (granted.size === 0) return NOTHING;
  granted.delete('');
  return { visible: true, everything: false, mayShow: (name) => granted.has(name) };
}
