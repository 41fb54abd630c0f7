/**
 * What may reach a terminal. Every text that eventd stores was written by somebody else, so nothing
 * of it is printed before control characters are made visible: an event must not move the cursor,
 * retitle the window or reorder a line.
 */

/**
 * Controls (C0, DEL, C1), format characters (bidirectional overrides and isolates, zero-width and tag
 * characters), line and paragraph separators, halves of surrogate pairs.
 */
const UNSAFE = /[\p{Cc}\p{Cf}\p{Zl}\p{Zp}\p{Cs}]/gu;

/** The text with every unsafe character written as `\n`, `\t`, `\r` or `\u{hex}`. */
export function visible(text: string): string {
  return text.replace(UNSAFE, (character) => {
    if (character === '\n') return '\\n';
    if (character === '\t') return '\\t';
    if (character === '\r') return '\\r';
    return `\\u{${(character.codePointAt(0) ?? 0).toString(16)}}`;
  });
}

/** JSON text of a string in which every unsafe character is a JSON escape; still the same string when parsed. */
export function jsonString(text: string): string {
  return escapeUnsafe(JSON.stringify(text));
}

/** JSON text with every unsafe character as a JSON escape. Only strings can hold one, so its meaning stays. */
export function escapeUnsafe(json: string): string {
  return json.replace(UNSAFE, (character) => {
    let escaped = '';
    for (let i = 0; i < character.length; i++)
      escaped += `\\u${character.charCodeAt(i).toString(16).padStart(4, '0')}`;
    return escaped;
  });
}

/** The styles evctl uses. */
export type Style = 'dim' | 'bold' | 'red' | 'green' | 'yellow' | 'cyan' | 'magenta';

const CODES: Readonly<Record<Style, readonly [number, number]>> = {
  bold: [1, 22],
  dim: [2, 22],
  red: [31, 39],
  green: [32, 39],
  yellow: [33, 39],
  magenta: [35, 39],
  cyan: [36, 39],
};

/** Puts text into a style, or leaves it alone. */
export type Paint = (style: Style, text: string) => string;

/** The paint for a stream: colours only on a terminal, never under NO_COLOR, --no-color or TERM=dumb. */
export function paintFor(
  isTerminal: boolean,
  noColor: boolean,
  env: Readonly<Record<string, string | undefined>>,
): Paint {
  const coloured = isTerminal && !noColor && (env.NO_COLOR ?? '') === '' && env.TERM !== 'dumb';
  if (!coloured) return (_, text) => text;
  return (style, text) => `\u001b[${CODES[style][0]}m${text}\u001b[${CODES[style][1]}m`;
}
