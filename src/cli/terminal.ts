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

/** Nothing in it that JSON or a terminal could take for something else: most of what there is to write. */
const PLAIN_ASCII = /^[ !#-[\]-~]*$/;

/** JSON text of a string in which every unsafe character is a JSON escape; still the same string when parsed. */
export function jsonString(text: string): string {
  return PLAIN_ASCII.test(text) ? `"${text}"` : escapeUnsafe(JSON.stringify(text));
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

/** East Asian wide characters and emoji take two cells. */
const WIDE =
  /[\u1100-\u115f\u2e80-\u303e\u3041-\ua4cf\uac00-\ud7a3\uf900-\ufaff\ufe30-\ufe6f\uff00-\uff60\uffe0-\uffe6\u{1f300}-\u{1faff}\u{20000}-\u{3fffd}]/u;

/** Cells that a text without control characters takes on a terminal. */
export function displayWidth(text: string): number {
  if (/^[\x20-\x7e]*$/.test(text)) return text.length;
  let width = 0;
  for (const character of text) width += /\p{M}/u.test(character) ? 0 : WIDE.test(character) ? 2 : 1;
  return width;
}

/** The text with blanks up to a width in cells, behind it or before it. */
export function padTo(text: string, width: number, align: 'left' | 'right' = 'left'): string {
  const padding = ' '.repeat(Math.max(0, width - displayWidth(text)));
  return align === 'left' ? text + padding : padding + text;
}

/** The styles evctl uses. */
export type Style = 'dim' | 'bold' | 'red' | 'green' | 'yellow' | 'blue' | 'cyan' | 'magenta';

const CODES: Readonly<Record<Style, readonly [number, number]>> = {
  bold: [1, 22],
  dim: [2, 22],
  red: [31, 39],
  green: [32, 39],
  yellow: [33, 39],
  blue: [34, 39],
  magenta: [35, 39],
  cyan: [36, 39],
};

/** Puts text into a style, or leaves it alone. */
export type Paint = (style: Style, text: string) => string;

/** When to use colours: on a terminal that likes them, always, never. */
export type ColorMode = 'auto' | 'always' | 'never';

/** The paint for a stream. `auto` means a terminal, and neither NO_COLOR nor TERM=dumb. */
export function paintFor(
  isTerminal: boolean,
  mode: ColorMode,
  env: Readonly<Record<string, string | undefined>>,
): Paint {
  const isWelcome = isTerminal && (env.NO_COLOR ?? '') === '' && env.TERM !== 'dumb';
  if (mode === 'never' || (mode === 'auto' && !isWelcome)) return PLAIN;
  return (style, text) => `\u001b[${CODES[style][0]}m${text}\u001b[${CODES[style][1]}m`;
}

/** No styles at all. */
export const PLAIN: Paint = (_, text) => text;
