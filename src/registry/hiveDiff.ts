/** What changed between two snapshots of a hive, in the terms of registry watches (HOST-41, HOST-58). */
import type { Hive } from './hive.js';
import { foldPath } from './names.js';
import type { RegistryEvent } from './registry.js';
import { sameData } from './value.js';

/** A change with the absolute path of the key it happened in. */
export interface HiveChange {
  readonly type: 'valueSet' | 'valueDeleted' | 'subkeyCreated' | 'subkeyDeleted';
  readonly key: readonly string[];
  readonly name: string;
}

/** One change per value or key that differs; none for equal snapshots. */
export function diffHives(before: Hive, after: Hive): HiveChange[] {
  const changes: HiveChange[] = [];
  for (const [id, key] of after.keys) {
    const old = before.keys.get(id);
    const name = key.path.at(-1) ?? '';
    if (old === undefined) changes.push({ type: 'subkeyCreated', key: key.path.slice(0, -1), name });
    for (const [folded, value] of key.values) {
      const previous = old?.values.get(folded);
      if (previous === undefined || !sameData(previous, value)) {
        changes.push({ type: 'valueSet', key: key.path, name: value.name });
      }
    }
    for (const [folded, value] of old?.values ?? []) {
      if (!key.values.has(folded)) changes.push({ type: 'valueDeleted', key: key.path, name: value.name });
    }
  }
  // Children come after their parents in a hive; they go first.
  for (const [id, key] of [...before.keys].reverse()) {
    if (after.keys.has(id)) continue;
    changes.push({ type: 'subkeyDeleted', key: key.path.slice(0, -1), name: key.path.at(-1) ?? '' });
  }
  return changes;
}

/** The event a watch on `watched` gets for a change, or null when it lies elsewhere. */
export function eventFor(change: HiveChange, watched: readonly string[]): RegistryEvent | null {
  const { type, key, name } = change;
  if (type === 'subkeyDeleted' && foldPath([...key, name]) === foldPath(watched))
    return { type: 'keyDeleted' };
  if (key.length < watched.length || foldPath(key.slice(0, watched.length)) !== foldPath(watched))
    return null;
  return { type, path: key.slice(watched.length), name };
}
