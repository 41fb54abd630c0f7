/** What a result may show, in the form native/shown.h reads. */
import { encode } from '../host/msgpack.js';
import type { ShownFields } from './accessFilter.js';

/** Null when every identifier shows everything. */
export function encodeShown(shown: ReadonlyMap<string, ShownFields>): Uint8Array | null {
  if ([...shown.values()].every(({ granted }) => granted === null)) return null;
  // Names that differ in case alone are one to SQL: each shows what all of them do.
  const folded = new Map<string, readonly string[] | null>();
  for (const [name, { granted }] of shown) {
    const key = name.replace(/[A-Z]+/g, (letters) => letters.toLowerCase());
    folded.set(key, common(folded.has(key) ? (folded.get(key) ?? null) : null, granted));
  }
  const entries = new Map<string, [readonly string[] | null, ...string[]]>();
  for (const [name, granted] of folded) {
    const key = JSON.stringify(granted);
    const entry = entries.get(key);
    if (entry === undefined) entries.set(key, [granted, name]);
    else entry.push(name);
  }
  return encode([...entries.values()]);
}

function common(a: readonly string[] | null, b: readonly string[] | null): readonly string[] | null {
  if (a === null || b === null) return a ?? b;
  const others = new Set(b);
  return a.filter((name) => others.has(name));
}
