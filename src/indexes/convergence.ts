/** How a shard comes from the indexes it has to those it should have (IDX-10, IDX-16, IDX-21, IDX-35). */
import { type ExistingIndex, type IndexedField, indexNameOf, nameKey } from './fields.js';

/** One statement. */
export type IndexStep =
  | { readonly kind: 'drop'; readonly index: string; readonly field: string | null }
  | { readonly kind: 'create'; readonly index: string; readonly field: string };

/** The fields whose index can exist: of two with one name the more important has it (IDX-35). */
export function buildable(desired: readonly IndexedField[]): IndexedField[] {
  const taken = new Set<string>();
  return desired.filter(({ field }) => {
    const key = nameKey(indexNameOf(field));
    return !taken.has(key) && taken.add(key);
  });
}

/** What is missing to the desired set: drops first, then builds in priority order (IDX-16). */
export function nextStep(
  existing: readonly ExistingIndex[],
  desired: readonly IndexedField[],
): IndexStep | null {
  const wanted = buildable(desired).map(({ field }) => field);
  const surplus = existing.find(({ field }) => field === null || !wanted.includes(field));
  if (surplus !== undefined) return { kind: 'drop', index: surplus.name, field: surplus.field };
  const missing = wanted.find((one) => !existing.some(({ field }) => field === one));
  return missing === undefined ? null : { kind: 'create', index: indexNameOf(missing), field: missing };
}

/** What pressure takes away first: what is not desired any more, then the least important (IDX-21, IDX-22). */
export function leastImportant(
  existing: readonly ExistingIndex[],
  desired: readonly IndexedField[],
): ExistingIndex | null {
  const rank = ({ field }: ExistingIndex): number => {
    const place = desired.findIndex((one) => one.field === field);
    return place < 0 ? desired.length : place;
  };
  return [...existing].sort((a, b) => rank(b) - rank(a))[0] ?? null;
}
