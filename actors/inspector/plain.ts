/** Turns any value into plain JSON data at once, bounded in depth and size. */

const MAX_DEPTH = 10;
const MAX_ITEMS = 100;
const MAX_TEXT = 1000;

/** The mark by which a serialised reference to an actor is known. */
const ACTOR_REFERENCE = 1;

/**
 * bigint as text, maps and sets as objects and arrays, byte arrays as `{bytes: n}`, errors as their
 * message, actor references as XState serialises them; functions are left out, long arrays, maps and
 * texts are cut, and what lies deeper than `depth` levels is '…'.
 */
export function plain(value: unknown, { depth = MAX_DEPTH }: { readonly depth?: number } = {}): unknown {
  switch (typeof value) {
    case 'bigint':
      return String(value);
    case 'string':
      return value.length > MAX_TEXT ? `${value.slice(0, MAX_TEXT)}…` : value;
    case 'function':
    case 'symbol':
      return undefined;
    case 'object':
      break;
    default:
      return value;
  }
  if (value === null) return null;
  if (ArrayBuffer.isView(value)) return { bytes: value.byteLength };
  if (value instanceof Error) return plain(value.message);
  // Actor references know no JSON; their insides are nobody's business.
  if ('sessionId' in value && 'send' in value)
    return { xstate$$type: ACTOR_REFERENCE, id: plain((value as { id?: unknown }).id) };
  if (depth <= 0) return '…';
  if (value instanceof Set) return plain([...value], { depth });
  if (Array.isArray(value)) {
    const items = value.slice(0, MAX_ITEMS).map((item) => plain(item, { depth: depth - 1 }));
    return value.length > MAX_ITEMS ? [...items, `… ${value.length - MAX_ITEMS} more`] : items;
  }
  const entries: [unknown, unknown][] = value instanceof Map ? [...value] : Object.entries(value);
  const shown = entries
    .slice(0, MAX_ITEMS)
    .map(([key, item]) => [String(key), plain(item, { depth: depth - 1 })] as const);
  if (entries.length > MAX_ITEMS) shown.push(['…', `${entries.length - MAX_ITEMS} more`]);
  return Object.fromEntries(shown);
}
