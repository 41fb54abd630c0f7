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
  /** Names of the list that are denied; none where nothing or everything is visible. */
  readonly denied: readonly string[];
}

export const NOTHING: Visibility = { visible: false, everything: false, mayShow: () => false, denied: [] };
export const EVERYTHING: Visibility = { visible: true, everything: true, mayShow: () => true, denied: [] };

/**
 * What the answers of the checks come to, one list of verdicts per list of fields. A node that stands in
 * several lists is granted only if it is in each (ACL-25).
 */
export function visibilityOf(
  lists: readonly FieldList[],
  answers: readonly (readonly boolean[])[],
): Visibility {
  const granted = new Map<string, boolean>();
  for (const [list, { names }] of lists.entries()) {
    for (const [index, name] of names.entries()) {
      granted.set(name, (granted.get(name) ?? true) && answers[list]?.[index] === true);
    }
  }
  if (![...granted.values()].some(Boolean)) return NOTHING;
  granted.delete('');
  return {
    visible: true,
    everything: false,
    mayShow: (name) => granted.get(name) === true,
    denied: [...granted].filter(([, ok]) => !ok).map(([name]) => name),
  };
}
