/** Reads values: strings, numbers, booleans, times and durations (section 2 of the language). */
import type { Literal, NumberLiteral, StringLiteral, TimeLiteral, TimeUnit } from './ast.js';
import type { QueryError } from './errors.js';
import { nearest } from './keywords.js';
import { quote, type Run, type Scanner } from './lexer.js';
import { instantOf, unitNanoseconds } from './time.js';

const MIN_INTEGER = -(2n ** 63n);
const MAX_INTEGER = 2n ** 64n - 1n;
const MAX_COUNT = 2n ** 63n - 1n;
/** More significant digits than any value in range has; beyond it BigInt would be slow for nothing. */
const MAX_DIGITS = 24;

const DECIMAL = /^-?[0-9]+$/;
const HEX = /^0x[0-9a-f]+$/i;
const FLOAT = /^-?[0-9]+(?:\.[0-9]+)?(?:e[+-]?[0-9]+)?$/i;
const RELATIVE = /^([0-9]+)([smhd])$/i;
const DATE = /^([0-9]{4})-([0-9]{2})-([0-9]{2})(?:T([0-9]{2}):([0-9]{2}):([0-9]{2})Z?)?$/i;
const LIKE_DATE = /^[0-9]{4}-[0-9]/;

const TIME_FORMS = '1h ago, 1h hence, today, yesterday, YYYY-MM-DD or YYYY-MM-DDTHH:MM:SS';

const ESCAPES: Readonly<Record<string, string>> = {
  '"': '"',
  '\\': '\\',
  n: '\n',
  r: '\r',
  t: '\t',
};

/** Reads a string in double quotes if one comes next (QL-16); null otherwise. */
export function takeString(scanner: Scanner): StringLiteral | null {
  if (scanner.peek() !== '"') return null;
  const { text } = scanner;
  const start = scanner.offset;
  const parts: string[] = [];
  const stop = /["\\]/g;
  let from = start + 1;
  for (;;) {
    stop.lastIndex = from;
    const match = stop.exec(text);
    if (match === null) throw scanner.error('the string is not closed', { at: start, hint: 'end it with "' });
    parts.push(text.slice(from, match.index));
    if (match[0] === '"') {
      scanner.moveTo(match.index + 1);
      return { kind: 'string', value: parts.join(''), span: scanner.span(start) };
    }
    const escaped = readEscape(scanner, match.index);
    parts.push(escaped.value);
    from = escaped.end;
  }
}

function readEscape(scanner: Scanner, at: number): { readonly value: string; readonly end: number } {
  const { text } = scanner;
  const letter = text[at + 1] ?? '';
  const simple = ESCAPES[letter];
  if (simple !== undefined) return { value: simple, end: at + 2 };
  if (letter !== 'u') {
    const shown = quote(
      text.slice(at, at + 1 + (String.fromCodePoint(text.codePointAt(at + 1) ?? 0).length || 1)),
    );
    throw scanner.error(`unknown escape ${letter === '' ? 'at the end of the query' : shown}`, {
      at,
      hint: 'known are \\" \\\\ \\n \\r \\t \\uXXXX',
    });
  }
  const unit = readHexUnit(text, at);
  if (unit === null) throw scanner.error('\\u needs four hex digits', { at });
  if (unit < 0xd800 || unit > 0xdfff) return { value: String.fromCharCode(unit), end: at + 6 };
  const second = unit < 0xdc00 ? readHexUnit(text, at + 6) : null;
  if (second === null || second < 0xdc00 || second > 0xdfff) {
    throw scanner.error('a lone surrogate is no character', {
      at,
      hint: 'write both halves, \\uD83D\\uDE00, or the character itself',
    });
  }
  return { value: String.fromCharCode(unit, second), end: at + 12 };
}

function readHexUnit(text: string, at: number): number | null {
  const match = /^\\u([0-9a-fA-F]{4})$/.exec(text.slice(at, at + 6));
  return match === null ? null : Number.parseInt(match[1] ?? '', 16);
}

/** BigInt of decimal digits; a huge number of them gives some value out of every range. */
function boundedInteger(digits: string): bigint {
  const significant = digits.replace(/^0+(?=[0-9])/, '');
  return significant.length > MAX_DIGITS ? 10n ** BigInt(MAX_DIGITS) : BigInt(significant);
}

/** Parses a number of the `number` rule; null if the run is not one. Throws P when out of range. */
function parseNumber(scanner: Scanner, run: Run): NumberLiteral | null {
  const span = scanner.span(run.start, run.end);
  let value: bigint;
  if (HEX.test(run.text)) {
    const digits = run.text.slice(2).replace(/^0+(?=.)/, '');
    value = digits.length > MAX_DIGITS ? MAX_INTEGER + 1n : BigInt(`0x${digits}`);
  } else if (DECIMAL.test(run.text)) {
    const negative = run.text.startsWith('-');
    const magnitude = boundedInteger(negative ? run.text.slice(1) : run.text);
    value = negative ? -magnitude : magnitude;
  } else if (FLOAT.test(run.text)) {
    return { kind: 'float', value: Number(run.text), span };
  } else {
    return null;
  }
  if (value < MIN_INTEGER || value > MAX_INTEGER) {
    throw scanner.error(`integer ${quote(run.text)} is out of range`, {
      at: run.start,
      hint: 'integers go from -2^63 to 2^64-1',
    });
  }
  return { kind: 'integer', value, span };
}

/** Reads a number; throws P if anything else comes next. */
export function takeNumber(scanner: Scanner, what = 'a number'): NumberLiteral {
  const run = scanner.peekRun('value');
  if (run === null) throw scanner.expected(what);
  const number = parseNumber(scanner, run);
  if (number === null) throw scanner.expected(what, { hint: numberHint(run.text) });
  scanner.moveTo(run.end);
  return number;
}

/** Reads the count after TAKE, SKIP or TOP: 0 .. 2^63-1 (QL-14). */
export function takeCount(scanner: Scanner, after: string): bigint {
  const run = scanner.peekRun('value');
  const what = `a number of records after ${after}`;
  if (run === null || !(HEX.test(run.text) || /^[0-9]+$/.test(run.text))) {
    throw scanner.expected(what, { hint: run?.text.startsWith('-') ? 'it cannot be negative' : null });
  }
  const number = parseNumber(scanner, run);
  if (number === null || number.kind !== 'integer' || number.value > MAX_COUNT) {
    throw scanner.error(`${quote(run.text)} is out of range`, {
      at: run.start,
      hint: `${after} takes 0 to 2^63-1`,
    });
  }
  scanner.moveTo(run.end);
  return number.value;
}

/** Reads a time literal; throws P if anything else comes next (QL-13). */
export function takeTime(scanner: Scanner, after: string): TimeLiteral {
  const run = scanner.peekRun('value');
  const time = run === null ? null : parseTime(scanner, run);
  if (time === null) {
    const hint = scanner.peek() === '"' ? 'write times without quotes' : timeHint(run?.text ?? '');
    throw scanner.expected(`a time after ${after}`, { hint: hint ?? `times are ${TIME_FORMS}` });
  }
  return time;
}

/** Reads the fixed duration of a window function: at least one second (QL-108), in ns. */
export function takeDuration(scanner: Scanner, after: string): bigint {
  const run = scanner.peekRun('value');
  const match = run === null ? null : RELATIVE.exec(run.text);
  if (run === null || match === null) {
    throw scanner.expected(`a duration after ${after}`, { hint: 'durations are 30s, 5m, 1h or 1d' });
  }
  const unit = (match[2] ?? 's').toLowerCase() as TimeUnit;
  const ns = boundedInteger(match[1] ?? '0') * unitNanoseconds[unit];
  if (ns < unitNanoseconds.s) {
    throw scanner.error(`the window ${quote(run.text)} is too short`, { at: run.start, hint: 'at least 1s' });
  }
  scanner.moveTo(run.end);
  return ns;
}

/** Parses and consumes a time literal that starts with this run; null if it is none. */
function parseTime(scanner: Scanner, run: Run): TimeLiteral | null {
  const word = run.text.toLowerCase();
  if (word === 'today' || word === 'yesterday') {
    scanner.moveTo(run.end);
    return { kind: 'day', day: word, span: scanner.span(run.start, run.end) };
  }
  const relative = RELATIVE.exec(run.text);
  if (relative !== null) return parseRelative(scanner, run, relative);
  if (!LIKE_DATE.test(run.text)) return null;
  const date = DATE.exec(run.text);
  if (date === null) {
    throw scanner.error(`${quote(run.text)} is no time`, {
      at: run.start,
      hint: 'write YYYY-MM-DD or YYYY-MM-DDTHH:MM:SS, in UTC, without fractions or offsets',
    });
  }
  const [year, month, day, hour, minute, second] = date.slice(1, 7).map((part) => Number(part ?? '0'));
  const ns = instantOf(year ?? 0, month ?? 0, day ?? 0, hour ?? 0, minute ?? 0, second ?? 0);
  if (ns === null) {
    throw scanner.error(`${quote(run.text)} does not exist in the calendar`, { at: run.start });
  }
  scanner.moveTo(run.end);
  return { kind: 'instant', ns, span: scanner.span(run.start, run.end) };
}

function parseRelative(scanner: Scanner, run: Run, match: RegExpExecArray): TimeLiteral {
  scanner.moveTo(run.end);
  const direction = scanner.peekKeyword();
  if (direction !== 'AGO' && direction !== 'HENCE') {
    const near = nearest(direction, ['AGO', 'HENCE'])?.toLowerCase();
    const hint = near
      ? `did you mean ${near}?`
      : `write ${shortRun(run)} ago (before now) or ${shortRun(run)} hence (after now)`;
    throw scanner.expected(`'ago' or 'hence' after ${quote(run.text)}`, { hint });
  }
  scanner.takeKeyword(direction);
  return {
    kind: 'relative',
    amount: boundedInteger(match[1] ?? '0'),
    unit: (match[2] ?? 's').toLowerCase() as TimeUnit,
    direction: direction === 'AGO' ? 'ago' : 'hence',
    span: scanner.span(run.start),
  };
}

function shortRun(run: Run): string {
  return run.text.length > 12 ? '1h' : run.text;
}

function timeHint(text: string): string | null {
  if (text.toLowerCase() === 'now') return "there is no 'now': leave UNTIL out, or write 0s ago";
  if (/^[0-9]+$/.test(text)) return 'a number needs a unit and a direction, as in 1h ago';
  const glued = /^([0-9]{1,18}[smhd])(ago|hence)$/i.exec(text);
  if (glued !== null) return `did you mean ${glued[1]} ${glued[2]?.toLowerCase()}?`;
  if (/^[0-9]+(?:\.[0-9]+)?[a-z]+$/i.test(text)) return 'units are s, m, h and d, after a whole number';
  const near = nearest(text, ['today', 'yesterday']);
  return near === null ? null : `did you mean ${near}?`;
}

function numberHint(text: string): string | null {
  if (/^-0x/i.test(text)) return 'only decimal numbers take a sign';
  if (text.startsWith('+')) return 'write positive numbers without a sign';
  if (/^-?\.[0-9]/.test(text) || /^-?[0-9]+\.$/.test(text)) return 'write digits on both sides of the point';
  if (/^0x/i.test(text)) return 'hex digits are 0-9 and a-f';
  return null;
}

/** A literal, or a bare word that may be an alias of the field it is compared with. */
export type Value = Literal | { readonly kind: 'word'; readonly run: Run };

/**
 * Reads a value of a WHERE predicate. A bare word is handed back as it is, since only the field
 * knows its aliases (QL-61).
 */
export function takeValue(scanner: Scanner): Value {
  const string = takeString(scanner);
  if (string !== null) return string;
  const run = scanner.peekRun('value');
  if (run === null) throw scanner.expected('a value');
  if (/^[-+.]?[0-9]/.test(run.text)) return takeNumericValue(scanner, run);
  const word = run.text.toLowerCase();
  if (word === 'true' || word === 'false') {
    scanner.moveTo(run.end);
    return { kind: 'boolean', value: word === 'true', span: scanner.span(run.start, run.end) };
  }
  if (word === 'null') {
    throw scanner.error('NULL is not a value', { at: run.start, hint: 'use IS NULL or IS NOT NULL' });
  }
  if (word === 'now') throw nowError(scanner, run);
  const time = parseTime(scanner, run);
  if (time !== null) return { kind: 'time', time, span: time.span };
  scanner.moveTo(run.end);
  return { kind: 'word', run };
}

function takeNumericValue(scanner: Scanner, run: Run): Literal {
  const number = parseNumber(scanner, run);
  if (number !== null) {
    scanner.moveTo(run.end);
    return number;
  }
  const time = parseTime(scanner, run);
  if (time !== null) return { kind: 'time', time, span: time.span };
  const hint = numberHint(run.text) ?? timeHint(run.text) ?? 'strings need double quotes';
  throw scanner.expected('a value', { at: run.start, hint });
}

function nowError(scanner: Scanner, run: Run): QueryError {
  return scanner.error("there is no 'now'", { at: run.start, hint: 'write 0s ago' });
}
