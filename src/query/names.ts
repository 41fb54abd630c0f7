/** Reads event types, metric names with their brackets, and log origins. */
import type { NamePattern, Selector, StringLiteral } from './ast.js';
import { takeLabel } from './fields.js';
import { nearest } from './keywords.js';
import { quote, type RunKind, type Scanner } from './lexer.js';
import { takeString } from './literals.js';

/** A pattern as QL-60 reads it: equality, prefix (one trailing `*`) or glob. */
function patternOf(text: string): Omit<NamePattern, 'span'> {
  const star = text.indexOf('*');
  if (star < 0) return { kind: 'equal', text };
  return star === text.length - 1 ? { kind: 'prefix', text: text.slice(0, -1) } : { kind: 'glob', text };
}

function takePattern(scanner: Scanner, kind: RunKind, what: string): NamePattern {
  const string = takeString(scanner);
  if (string !== null) return { ...patternOf(string.value), span: string.span };
  const run = scanner.peekRun(kind);
  if (run === null || run.text.startsWith("'")) throw scanner.expected(what);
  rejectSemicolon(scanner, run.text, run.start);
  scanner.moveTo(run.end);
  return { ...patternOf(run.text), span: scanner.span(run.start, run.end) };
}

/** An unquoted name cannot hold ';' (QL-9): it is nearly always a terminator typed by habit. */
function rejectSemicolon(scanner: Scanner, text: string, start: number): void {
  const at = text.indexOf(';');
  if (at < 0) return;
  throw scanner.error("unexpected ';'", {
    at: start + at,
    hint: "one request holds one query, without ';' (a name with ';' needs double quotes)",
  });
}

export function takeEventPattern(scanner: Scanner): NamePattern {
  return takePattern(scanner, 'eventType', 'an event type');
}

export function takeMetricName(scanner: Scanner): NamePattern {
  return takePattern(scanner, 'metricName', 'a metric name');
}

/** Reads the origin of a log record: quoted, or unquoted without `*` (QL-80). */
export function takeOrigin(scanner: Scanner): StringLiteral {
  const string = takeString(scanner);
  if (string !== null) return string;
  const run = scanner.peekRun('origin');
  const end = run?.end ?? scanner.offset;
  if (scanner.text[end] === '*') {
    throw scanner.error("an origin has no wildcard, found '*'", {
      at: end,
      hint: 'quote it if the name holds a star',
    });
  }
  if (run === null || run.text.startsWith("'")) throw scanner.expected('an origin');
  rejectSemicolon(scanner, run.text, run.start);
  scanner.moveTo(run.end);
  return { kind: 'string', value: run.text, span: scanner.span(run.start, run.end) };
}

/** Reads `[...]` after a metric name; null if no bracket comes next (QL-84, QL-86). */
export function takeBrackets(scanner: Scanner): readonly Selector[] | null {
  if (!scanner.takeSymbol('[')) return null;
  const selectors: Selector[] = [];
  if (scanner.takeSymbol(']')) return selectors;
  do {
    selectors.push(takeSelector(scanner));
  } while (scanner.takeSymbol(','));
  if (!scanner.takeSymbol(']')) throw scanner.expected("',' or ']' in the brackets");
  return selectors;
}

function takeSelector(scanner: Scanner): Selector {
  const label = takeLabel(scanner);
  const start = scanner.offset - label.name.length;
  const sign = scanner.peekRun('operator');
  if (sign !== null && (sign.text === '=' || sign.text === '==' || sign.text === '!=')) {
    scanner.moveTo(sign.end);
    const operator = sign.text === '!=' ? '!=' : '==';
    return { kind: 'compare', label, operator, value: takeLabelValue(scanner), span: scanner.span(start) };
  }
  const word = scanner.peekKeyword();
  switch (word) {
    case 'STARTS_WITH':
    case 'ENDS_WITH':
    case 'CONTAINS':
      scanner.takeKeyword(word);
      return {
        kind: 'compare',
        label,
        operator: word,
        value: takeLabelValue(scanner),
        span: scanner.span(start),
      };
    case 'IN':
    case 'NOT_IN': {
      scanner.takeKeyword(word);
      const values = takeList(scanner, () => takeLabelValue(scanner));
      return { kind: 'in', label, negated: word === 'NOT_IN', values, span: scanner.span(start) };
    }
    case 'IS':
      scanner.takeKeyword(word);
      return { kind: 'null', label, negated: takeNullTest(scanner), span: scanner.span(start) };
    default: {
      const near = nearest(word, ['STARTS_WITH', 'ENDS_WITH', 'CONTAINS', 'NOT_IN']);
      throw scanner.expected(
        `=, !=, STARTS_WITH, ENDS_WITH, CONTAINS, IN, NOT_IN or IS after ${quote(label.name)}`,
        {
          hint: near === null ? null : `did you mean ${near}?`,
        },
      );
    }
  }
}

function takeLabelValue(scanner: Scanner): StringLiteral {
  const value = takeString(scanner);
  if (value === null) {
    throw scanner.expected('a string in double quotes', { hint: 'label values are strings, as in core="0"' });
  }
  return value;
}

/** Reads the rest of `IS [NOT] NULL`; true for IS NOT NULL. */
export function takeNullTest(scanner: Scanner): boolean {
  const negated = scanner.takeKeyword('NOT');
  if (!scanner.takeKeyword('NULL')) throw scanner.expected(negated ? "'NULL'" : "'NULL' or 'NOT NULL'");
  return negated;
}

/** Reads `(item, item, ...)`; empty lists and trailing commas are P (QL-27). */
export function takeList<Item>(scanner: Scanner, takeItem: () => Item): readonly Item[] {
  if (!scanner.takeSymbol('(')) throw scanner.expected("'(' and a list");
  if (scanner.peek() === ')') throw scanner.expected('a value', { hint: 'a list cannot be empty' });
  const items: Item[] = [];
  do {
    if (scanner.peek() === ')') throw scanner.expected("a value after ','");
    items.push(takeItem());
  } while (scanner.takeSymbol(','));
  if (!scanner.takeSymbol(')')) throw scanner.expected("',' or ')' in the list");
  return items;
}
