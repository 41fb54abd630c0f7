import type { Span } from './ast.js';
import { QueryError } from './errors.js';

/** Longest piece of the query that an error text repeats. */
const QUOTE_LIMIT = 40;

const BLANK = /[ \t\n\r\v\f]*/y;
const COMMENT = /--[^\n]*/y;
const NON_BLANK = /[^ \t\n\r\v\f"(),[\]]+/uy;
/** Words: keywords, fields and label keys with their dots. */
const WORD = /[A-Za-z0-9_.\-\u0080-\u{10FFFF}]+/uy;
/** Numbers, dates and words standing for values, with everything glued to them. */
const VALUE = /[A-Za-z0-9_.:+\-\u0080-\u{10FFFF}]+/uy;
const EVENT_TYPE = /[^ \t\n\r\v\f"]+/uy;
const METRIC_NAME = /[^ \t\n\r\v\f"[\](),=!<>]+/uy;
const ORIGIN = /[^ \t\n\r\v\f",()*]+/uy;
const OPERATOR = /[=!<>~&|]+/y;

const RUNS = {
  word: WORD,
  value: VALUE,
  eventType: EVENT_TYPE,
  metricName: METRIC_NAME,
  origin: ORIGIN,
  operator: OPERATOR,
} as const;

/** The kinds of unquoted text; which one applies depends on the place in the query (QL-6). */
export type RunKind = keyof typeof RUNS;

/** A piece of the query text. Offsets are UTF-16 units. */
export interface Run {
  readonly text: string;
  readonly start: number;
  readonly end: number;
}

/** How `fail` words an error. */
export interface FailOptions {
  /** Offset the error points to; default: the next token. */
  readonly at?: number;
  readonly hint?: string | null | undefined;
}

/**
 * A cursor over the query text. It knows white space, comments and the kinds of runs, but no
 * grammar: the parser says which kind it expects next, since the same characters are a number, a
 * field or an event type depending on their place.
 */
export class Scanner {
  readonly text: string;
  #offset = 0;
  /** Offsets of surrogate pairs, so that positions can count characters. */
  readonly #pairs: number[] = [];

  /** Throws class P for unpaired surrogates, the JavaScript form of invalid UTF-8 (QL-9). */
  constructor(text: string) {
    this.text = text;
    for (const match of text.matchAll(/[\uD800-\uDBFF][\uDC00-\uDFFF]|[\uD800-\uDFFF]/g)) {
      if (match[0].length === 1) {
        throw new QueryError(
          'P',
          'parse error',
          'the query text is not valid Unicode',
          this.position(match.index),
        );
      }
      this.#pairs.push(match.index);
    }
  }

  /** UTF-16 offset of the cursor. */
  get offset(): number {
    return this.#offset;
  }

  /** Moves the cursor, forwards past something read or back to a remembered place. */
  moveTo(offset: number): void {
    this.#offset = offset;
  }

  /** The 1-based character (code point) at a UTF-16 offset. */
  position(offset: number): number {
    let low = 0;
    let high = this.#pairs.length;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if ((this.#pairs[middle] ?? 0) < offset) low = middle + 1;
      else high = middle;
    }
    return offset + 1 - low;
  }

  span(start: number, end: number = this.#offset): Span {
    return { start: this.position(start), end: this.position(end) };
  }

  /** Skips white space and comments; a comment starts at the text's start or after white space (QL-8). */
  skipBlank(): void {
    for (;;) {
      const before = this.#offset;
      this.#advance(BLANK);
      const mayComment = this.#offset === 0 || /[ \t\n\r\v\f]/.test(this.text[this.#offset - 1] ?? '');
      if (!mayComment || !this.#advance(COMMENT)) return;
      if (this.#offset === before) return;
    }
  }

  #advance(pattern: RegExp): string | null {
    pattern.lastIndex = this.#offset;
    const match = pattern.exec(this.text);
    if (match === null || match[0] === '') return null;
    this.#offset += match[0].length;
    return match[0];
  }

  /** The next character after blanks; '' at the end. Moves past the blanks only. */
  peek(): string {
    this.skipBlank();
    return this.text[this.#offset] ?? '';
  }

  /** The run of a kind that comes next, without consuming it; null if there is none. */
  peekRun(kind: RunKind): Run | null {
    this.skipBlank();
    const start = this.#offset;
    const text = this.#advance(RUNS[kind]);
    const end = this.#offset;
    this.#offset = start;
    return text === null ? null : { text, start, end };
  }

  /** Consumes the run of a kind that comes next; null if there is none. */
  takeRun(kind: RunKind): Run | null {
    const run = this.peekRun(kind);
    if (run !== null) this.#offset = run.end;
    return run;
  }

  /** The next word in upper case, '' if none comes next. */
  peekKeyword(): string {
    return this.peekRun('word')?.text.toUpperCase() ?? '';
  }

  /** Consumes the next word if it is this keyword. */
  takeKeyword(keyword: string): boolean {
    const run = this.peekRun('word');
    if (run?.text.toUpperCase() !== keyword) return false;
    this.#offset = run.end;
    return true;
  }

  /** Consumes the next character if it is this one. */
  takeSymbol(symbol: string): boolean {
    if (this.peek() !== symbol) return false;
    this.#offset += symbol.length;
    return true;
  }

  /** What stands at an offset, in words fit for an error text. */
  describe(offset: number): string {
    const first = this.text[offset];
    if (first === undefined) return 'end of query';
    NON_BLANK.lastIndex = offset;
    const run = NON_BLANK.exec(this.text)?.[0];
    if (run !== undefined) return quote(run);
    if (first !== '"') return quote(first);
    const close = this.text.indexOf('"', offset + 1);
    return `string ${shorten(this.text.slice(offset, close < 0 ? offset + 2 * QUOTE_LIMIT : close + 1))}`;
  }

  /** A class P error that names place, expectation and finding (WIRE-20). */
  expected(what: string, options: FailOptions = {}): QueryError {
    this.skipBlank();
    const at = options.at ?? this.#offset;
    const message = `expected ${what}, found ${this.describe(at)}`;
    return this.error(message, { at, hint: options.hint ?? this.#usualHint(at) });
  }

  /** A class P error with a text of its own. */
  error(message: string, options: FailOptions = {}): QueryError {
    const hint = options.hint === undefined || options.hint === null ? '' : `; ${options.hint}`;
    return new QueryError('P', 'parse error', message + hint, this.position(options.at ?? this.#offset));
  }

  /** Hints that fit wherever the character is unexpected. */
  #usualHint(offset: number): string | null {
    switch (this.text[offset]) {
      case "'":
        return 'strings use double quotes';
      case ';':
        return "one request holds one query, without ';'";
      case '\uFEFF':
        return 'the text begins with a byte order mark';
      case '“':
      case '”':
        return 'strings use straight double quotes';
      default:
        return null;
    }
  }
}

/** Puts text from outside into an error text: shortened, quoted, without control characters. */
export function quote(text: string): string {
  return `'${shorten(text)}'`;
}

function shorten(text: string): string {
  const characters = Array.from(text.slice(0, 2 * QUOTE_LIMIT + 2));
  const cut = characters.length > QUOTE_LIMIT || text.length > 2 * QUOTE_LIMIT + 2;
  const shown = characters.slice(0, QUOTE_LIMIT).join('');
  // Control, format, separator and unassigned characters would be invisible or worse in a terminal.
  const safe = shown.replace(/[\p{C}\p{Zl}\p{Zp}\u00A0]/gu, (character) => {
    const code = character.codePointAt(0) ?? 0;
    return `<U+${code.toString(16).toUpperCase().padStart(4, '0')}>`;
  });
  return cut ? `${safe}...` : safe;
}
