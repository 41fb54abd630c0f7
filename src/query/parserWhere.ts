/** Recursive descent over WHERE expressions (sections 3 and 9 of the language). */
import type { CompareOperator, Condition, CrossFilter, Literal, MetricTest, StringOperator } from './ast.js';
import { checkOperator, fieldType, fitValue, takeField } from './fields.js';
import { type Mode, nearest, OPERATOR_WORDS } from './keywords.js';
import { quote, type Scanner } from './lexer.js';
import { takeNumber, takeString, takeValue } from './literals.js';
import {
  takeBrackets,
  takeEventPattern,
  takeList,
  takeMetricName,
  takeNullTest,
  takeOrigin,
} from './names.js';

/** Deepest nesting of parentheses (QL-9). */
const MAX_NESTING = 64;
/** Most predicates of one query: more would take SQLite longer to plan than to run. */
const MAX_PREDICATES = 2000;
/** Most fractions in lists: each takes a parameter of its own, of which SQLite has 32766. */
const MAX_FRACTIONS = 8000;

const COMPARE: ReadonlySet<string> = new Set(['==', '!=', '>', '>=', '<', '<=']);

const SIGN_HINTS: Readonly<Record<string, string>> = {
  '=': 'use == to compare',
  '===': 'use == to compare',
  '<>': 'use != for unequal',
  '!': 'use != for unequal',
  '=>': 'use >=',
  '=<': 'use <=',
  '~': 'use CONTAINS, STARTS_WITH or ENDS_WITH',
  '=~': 'use CONTAINS, STARTS_WITH or ENDS_WITH',
  '~=': 'use CONTAINS, STARTS_WITH or ENDS_WITH',
  '!==': 'use != for unequal',
};

const WORD_HINTS: Readonly<Record<string, string>> = {
  LIKE: 'use CONTAINS, STARTS_WITH or ENDS_WITH',
  ILIKE: 'use CONTAINS, STARTS_WITH or ENDS_WITH',
  MATCHES: 'use CONTAINS, STARTS_WITH or ENDS_WITH',
  NOT: 'use != or NOT_IN',
  BETWEEN: 'use >= and <= with AND',
  EQUALS: 'use ==',
};

const FILTER_WORDS = { METRIC: 'metricFilter', EVENT: 'eventFilter', LOG: 'logFilter' } as const;

const ALLOWED_MODES: Readonly<Record<CrossFilter['kind'], readonly Mode[]>> = {
  metricFilter: ['EVENTS', 'LOGS'],
  eventFilter: ['LOGS', 'METRIC'],
  logFilter: ['EVENTS', 'METRIC'],
};

/** Parses the WHERE clauses of one query and counts what they hold. */
export class WhereParser {
  readonly #scanner: Scanner;
  readonly #mode: Mode;
  #predicates = 0;
  #fractions = 0;
  #firstCross: number | null = null;

  constructor(scanner: Scanner, mode: Mode) {
    this.#scanner = scanner;
    this.#mode = mode;
  }

  /** Offset of the first cross-type filter, which needs SINCE (QL-116); null if there is none. */
  get firstCrossFilter(): number | null {
    return this.#firstCross;
  }

  /** Parses one expression, up to the first word that cannot continue it. */
  parse(): Condition {
    return this.#parseOr(0);
  }

  #parseOr(depth: number): Condition {
    const terms = [this.#parseAnd(depth)];
    while (this.#takeConnective('OR', '||')) terms.push(this.#parseAnd(depth));
    return joinTerms('or', terms);
  }

  #parseAnd(depth: number): Condition {
    const terms = [this.#parseTerm(depth)];
    while (this.#takeConnective('AND', '&&')) terms.push(this.#parseTerm(depth));
    return joinTerms('and', terms);
  }

  #takeConnective(word: string, sign: string): boolean {
    if (this.#scanner.takeKeyword(word)) return true;
    const run = this.#scanner.peekRun('operator');
    if (run?.text === sign) throw this.#scanner.expected(`${word} or a clause`, { hint: `use ${word}` });
    return false;
  }

  #parseTerm(depth: number): Condition {
    const scanner = this.#scanner;
    if (scanner.peek() === '(') {
      const open = scanner.offset;
      if (depth === MAX_NESTING) {
        throw scanner.error(`parentheses are nested deeper than ${MAX_NESTING}`, { at: open });
      }
      scanner.takeSymbol('(');
      const inner = this.#parseOr(depth + 1);
      if (!scanner.takeSymbol(')')) {
        const near = nearest(scanner.peekKeyword(), ['AND', 'OR']);
        throw scanner.expected(`AND, OR or the ')' that closes character ${scanner.position(open)}`, {
          hint: near === null ? undefined : `did you mean ${near}?`,
        });
      }
      return inner;
    }
    this.#count();
    const word = scanner.peekKeyword();
    if (word === 'NOT' && !this.#operatorFollows()) {
      throw scanner.error('there is no NOT operator', { hint: 'use != NOT_IN or IS NOT NULL' });
    }
    if ((word === 'METRIC' || word === 'EVENT' || word === 'LOG') && !this.#operatorFollows()) {
      return this.#parseCross(word);
    }
    return this.#parsePredicate();
  }

  #count(): void {
    this.#predicates++;
    if (this.#predicates > MAX_PREDICATES) {
      throw this.#scanner.error(`more than ${MAX_PREDICATES} predicates in one query`, {
        hint: 'IN takes lists of any length',
      });
    }
  }

  /** Whether the next word is followed by a comparison, so that it must be a field (QL-110). */
  #operatorFollows(): boolean {
    const scanner = this.#scanner;
    const start = scanner.offset;
    scanner.takeRun('word');
    const sign = scanner.peekRun('operator');
    const word = scanner.peekRun('word');
    const after = scanner.text[word?.end ?? scanner.offset] ?? '';
    const isWord =
      word !== null && OPERATOR_WORDS.includes(word.text.toUpperCase()) && /^[ \t\n\r\v\f("]?$/.test(after);
    scanner.moveTo(start);
    return sign !== null || isWord;
  }

  #parsePredicate(): Condition {
    const scanner = this.#scanner;
    if (scanner.peek() === '!') {
      throw scanner.error("there is no '!' operator", { hint: 'use != NOT_IN or IS NOT NULL' });
    }
    this.#rejectMisspeltFilter();
    const field = takeField(scanner, this.#mode, "a field name or '('");
    const start = scanner.offset - field.name.length;
    const at = this.#operatorOffset();
    const sign = scanner.peekRun('operator');
    if (sign !== null && COMPARE.has(sign.text)) {
      const operator = sign.text as CompareOperator;
      scanner.moveTo(sign.end);
      checkOperator(scanner, this.#mode, field, operator, at);
      const value = this.#takeFitting(field);
      return { kind: 'compare', field, operator, value, span: scanner.span(start) };
    }
    const word = scanner.peekKeyword();
    switch (word) {
      case 'STARTS_WITH':
      case 'ENDS_WITH':
      case 'CONTAINS': {
        scanner.takeKeyword(word);
        checkOperator(scanner, this.#mode, field, word, at);
        const value = takeString(scanner);
        if (value === null) throw scanner.expected(`a string in double quotes after ${word}`);
        return { kind: 'match', field, operator: word as StringOperator, value, span: scanner.span(start) };
      }
      case 'IN':
      case 'NOT_IN': {
        scanner.takeKeyword(word);
        const values = takeList(scanner, () => this.#countFraction(this.#takeFitting(field)));
        return { kind: 'in', field, negated: word === 'NOT_IN', values, span: scanner.span(start) };
      }
      case 'IS':
        scanner.takeKeyword(word);
        return { kind: 'null', field, negated: takeNullTest(scanner), span: scanner.span(start) };
      default:
        throw scanner.expected(`an operator after ${quote(field.name)}`, {
          hint: this.#operatorHint(sign?.text ?? null, word, field.name),
        });
    }
  }

  #operatorOffset(): number {
    this.#scanner.skipBlank();
    return this.#scanner.offset;
  }

  #operatorHint(sign: string | null, word: string, field: string): string {
    const usual = sign === null ? WORD_HINTS[word] : SIGN_HINTS[sign];
    if (usual !== undefined) return usual;
    const near = sign === null ? nearest(word, OPERATOR_WORDS) : null;
    if (near !== null) return `did you mean ${near}?`;
    const filter = sign === null && word !== '' ? this.#nearestFilter(field) : null;
    if (filter !== null) return `did you mean ${filter}?`;
    return 'operators are == != > >= < <= STARTS_WITH ENDS_WITH CONTAINS IN NOT_IN and IS';
  }

  /** The cross-type filter of this mode that a misspelt word may have meant. */
  #nearestFilter(word: string): string | null {
    const filters = Object.entries(FILTER_WORDS).filter(([, kind]) =>
      ALLOWED_MODES[kind].includes(this.#mode),
    );
    return nearest(
      word,
      filters.map(([filter]) => filter),
    );
  }

  /** In LOGS a word that is no field is refused as such, unless a filter was meant. */
  #rejectMisspeltFilter(): void {
    const word = this.#scanner.peekKeyword();
    if (this.#mode !== 'LOGS' || fieldType('LOGS', word.toLowerCase()) !== null || this.#operatorFollows())
      return;
    const filter = this.#nearestFilter(word);
    if (filter === null) return;
    throw this.#scanner.expected("a field name or '('", { hint: `did you mean ${filter}?` });
  }

  #takeFitting(field: Parameters<typeof fitValue>[2]): Literal {
    const scanner = this.#scanner;
    scanner.skipBlank();
    const at = scanner.offset;
    return fitValue(scanner, this.#mode, field, takeValue(scanner), at);
  }

  #countFraction(value: Literal): Literal {
    if (value.kind === 'float' && ++this.#fractions > MAX_FRACTIONS) {
      throw this.#scanner.error(`more than ${MAX_FRACTIONS} fractions in the lists of one query`);
    }
    return value;
  }

  #parseCross(word: 'METRIC' | 'EVENT' | 'LOG'): CrossFilter {
    const scanner = this.#scanner;
    scanner.skipBlank();
    const start = scanner.offset;
    scanner.takeKeyword(word);
    const kind = FILTER_WORDS[word];
    if (!ALLOWED_MODES[kind].includes(this.#mode)) {
      throw scanner.error(`${word} filters are not available in ${this.#mode}`, {
        at: start,
        hint: `they belong to ${ALLOWED_MODES[kind].join(' and ')}`,
      });
    }
    this.#firstCross ??= start;
    switch (kind) {
      case 'metricFilter': {
        const name = takeMetricName(scanner);
        const brackets = takeBrackets(scanner);
        const test = this.#takeMetricTest();
        return { kind, name, brackets, test, span: scanner.span(start) };
      }
      case 'eventFilter': {
        const pattern = takeEventPattern(scanner);
        this.#takeExists("'EXISTS' after the event type");
        return { kind, pattern, span: scanner.span(start) };
      }
      case 'logFilter': {
        const origin = takeOrigin(scanner).value;
        let containing: string | null = null;
        if (scanner.takeKeyword('CONTAINING')) {
          const text = takeString(scanner);
          if (text === null) throw scanner.expected('a string in double quotes after CONTAINING');
          containing = text.value;
        }
        this.#takeExists(containing === null ? "'EXISTS' or 'CONTAINING' after the origin" : "'EXISTS'");
        return { kind, origin, containing, span: scanner.span(start) };
      }
    }
  }

  #takeExists(what: string): void {
    if (this.#scanner.takeKeyword('EXISTS')) return;
    const near = nearest(this.#scanner.peekKeyword(), ['EXISTS', 'CONTAINING']);
    throw this.#scanner.expected(what, { hint: near === null ? null : `did you mean ${near}?` });
  }

  #takeMetricTest(): MetricTest {
    const scanner = this.#scanner;
    const sign = scanner.peekRun('operator');
    if (sign !== null && COMPARE.has(sign.text)) {
      scanner.moveTo(sign.end);
      return { kind: 'compare', operator: sign.text as CompareOperator, value: takeNumber(scanner) };
    }
    const word = scanner.peekKeyword();
    if (word === 'IN' || word === 'NOT_IN') {
      scanner.takeKeyword(word);
      return { kind: 'in', negated: word === 'NOT_IN', values: takeList(scanner, () => takeNumber(scanner)) };
    }
    const hint = sign === null ? undefined : SIGN_HINTS[sign.text];
    throw scanner.expected('== != > >= < <= IN or NOT_IN after the metric', { hint });
  }
}

/** One term stands for itself; more become a flat list, nested lists of the same kind spliced in. */
export function joinTerms(kind: 'and' | 'or', terms: readonly Condition[]): Condition {
  const [only] = terms;
  if (terms.length === 1 && only !== undefined) return only;
  return { kind, terms: terms.flatMap((term) => (term.kind === kind ? term.terms : [term])) };
}
