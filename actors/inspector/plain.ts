/** Turns any value into plain JSON data at once, bounded in depth and size. */

const MAX_DEPTH = 10;
const MAX_ITEMS = 100;
const MAX_TEXT = 1000;

/**
 * bigint as text, maps as objects, byte arrays as `{bytes: n}`, errors as their message; functions are
 * left out, long arrays and texts are cut, and what lies deeper than 10 levels is '…'.
 */
export function plain(value: unknown, depth = 0): unknown {
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
  if (value instanceof Error) return value.message;
  if (depth >= MAX_DEPTH) return '…';
  if (value instanceof Set) return plain([...value], depth);
  if (value instanceof Map) return plain(Object.fromEntries(value), depth);
  if (Array.isArray(value)) {
    const items = value.slice(0, MAX_ITEMS).map((item) => plain(item, depth + 1));
    return value.length > MAX_ITEMS ? [...items, `… ${value.length - MAX_ITEMS} more`] : items;
  }
  // Actor references and the like know how to describe themselves.
  if ('sessionId' in value && 'send' in value) return { ref: (value as { id?: unknown }).id };
  return Object.fromEntries(Object.entries(value).map(([key, item]) => [key, plain(item, depth + 1)]));
}
