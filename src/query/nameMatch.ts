/** Tests names by the patterns of queries in JavaScript, as translatePattern does in SQL (QL-60). */
import type { NamePattern } from './ast.js';

/** Names compare without ASCII case (QL-21). */
export function foldAscii(text: string): string {
  return text.replace(/[A-Z]+/g, (letters) => letters.toLowerCase());
}

/** A test for one pattern; null passes everything. */
export function nameTest(pattern: Pick<NamePattern, 'kind' | 'text'> | null): (name: string) => boolean {
  if (pattern === null) return () => true;
  const text = foldAscii(pattern.text);
  switch (pattern.kind) {
    case 'equal':
      return (name) => foldAscii(name) === text;
    case 'prefix':
      return (name) => foldAscii(name).startsWith(text);
    case 'glob': {
      const pieces = text.split('*');
      return (name) => fits(foldAscii(name), pieces);
    }
  }
}

/** Each piece where it first fits behind the one before; the first at the start, the last at the end. */
function fits(name: string, pieces: readonly string[]): boolean {
  const first = pieces[0] ?? '';
  const last = pieces.at(-1) ?? '';
  if (!name.startsWith(first)) return false;
  let at = first.length;
  for (const piece of pieces.slice(1, -1)) {
    const found = name.indexOf(piece, at);
    if (found < 0) return false;
    at = found + piece.length;
  }
  return name.length - last.length >= at && name.endsWith(last);
}
