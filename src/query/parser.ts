/** Parses a query text into its AST: the mode, its primary selector, then clauses in any order (QX-1). */
import type {
  AggregateFunction,
  Aggregation,
  Condition,
  FieldRef,
  IndexCommand,
  MetricQuery,
  NamePattern,
  NumericFunction,
  Query,
  Selector,
  SortKey,
  Span,
  StringLiteral,
  TimeLiteral,
  ValueFunction,
  WindowFunction,
} from './ast.js';
import { QueryError } from './errors.js';
import { takeField, takeFieldOrKey } from './fields.js';
import { CLAUSE_WORDS, CLAUSES, FOREIGN_WORDS, MODES, type Mode, nearest } from './keywords.js';
import { quote, type Run, Scanner } from './lexer.js';
import { takeCount, takeDuration, takeString, takeTime } from './literals.js';
import { takeBrackets, takeEventPattern, takeMetricName, takeOrigin } from './names.js';
import { joinTerms, WhereParser } from './parserWhere.js';

/** Fields that one GROUP or SORT takes: each is a column of tables and sorters inside SQLite. */
const MAX_KEYS = 100;

/**
 * Parses and validates a query text as far as the text alone proves anything (class P).
 *
 * @throws QueryError of class P, prefix `parse error`, with the position of the offence.
 * @example parseQuery('EVENTS kacs.* SINCE 1h ago WHERE cpu_id == 3 TAKE 10')
 */
export function parseQuery(text: string): Query {
  const scanner = new Scanner(text);
  const run = scanner.takeRun('word');
  const word = run?.text.toUpperCase() ?? '';
  switch (word) {
    case 'EVENTS':
      return parseEvents(scanner);
    case 'LOGS':
      return new ClauseParser(scanner, 'LOGS').parse(null);
    case 'METRIC': {
      const isQuoted = scanner.peek() === '"';
      const name = takeMetricName(scanner);
      const primary = { name, brackets: takeBrackets(scanner) };
      return new ClauseParser(scanner, 'METRIC').parse(primary, isQuoted ? null : name);
    }
    default: {
      scanner.moveTo(run?.start ?? scanner.offset);
      const near = nearest(word, MODES);
      throw scanner.expected('EVENTS, LOGS or METRIC as the first word', {
        hint: near === null ? undefined : `did you mean ${near}?`,
      });
    }
  }
}

function parseEvents(scanner: Scanner): Query {
  if (scanner.takeKeyword('INDEX')) return parseIndex(scanner);
  const clauses = new ClauseParser(scanner, 'EVENTS');
  const next = scanner.peekRun('eventType');
  const isQuoted = scanner.peek() === '"';
  if (!isQuoted && (next === null || isClauseWord(next))) return clauses.parse(null);
  const pattern = takeEventPattern(scanner);
  return clauses.parse({ pattern }, isQuoted ? null : pattern);
}

/** Whether the text in the place of an event type is a clause keyword; `WHERE(` needs no blank. */
function isClauseWord(next: Run): boolean {
  return CLAUSE_WORDS.has(next.text.toUpperCase()) || /^WHERE\(/i.test(next.text);
}

function parseIndex(scanner: Scanner): IndexCommand {
  const field = takeField(scanner, 'EVENTS', 'the field to index');
  if (scanner.peek() !== '') {
    throw scanner.expected('end of query', { hint: 'nothing else may accompany INDEX' });
  }
  return { mode: 'INDEX', field };
}

/** What stands directly after the mode word. */
type Primary =
  | { readonly pattern: NamePattern }
  | { readonly name: NamePattern; readonly brackets: readonly Selector[] | null }
  | null;

/** Reads the clauses of one query into its fields, in whatever order they come (QL-3). */
class ClauseParser {
  readonly #scanner: Scanner;
  readonly #mode: Mode;
  readonly #where: WhereParser;
  /** Offset of the first use of each clause that may stand once (QL-5). */
  readonly #seen = new Map<string, number>();
  #since: TimeLiteral | null = null;
  #until: TimeLiteral | null = null;
  readonly #conditions: Condition[] = [];
  #select: FieldRef[] | null = null;
  /** The first name in SORT or SELECT that is no field of the mode. */
  #unknown: Error | null = null;
  #sort: SortKey[] = [];
  #skip: bigint | null = null;
  #take: bigint | null = null;
  #stream = false;
  #from: StringLiteral[] | null = null;
  #errorOnly = false;
  readonly #containing: StringLiteral[] = [];
  #aggregation: Aggregation | null = null;
  #valueFunction: ValueFunction | null = null;
  #window: MetricQuery['window'] = null;
  #lastClause: string | null = null;

  constructor(scanner: Scanner, mode: Mode) {
    this.#scanner = scanner;
    this.#mode = mode;
    this.#where = new WhereParser(scanner, mode);
  }

  /** `unquoted` is the primary name if it was no string, so it may be a misspelt clause. */
  parse(primary: Primary, unquoted: NamePattern | null = null): Query {
    const scanner = this.#scanner;
    while (scanner.peek() !== '') {
      const run = scanner.peekRun('word');
      const word = run?.text.toUpperCase() ?? '';
      if (run === null || !CLAUSE_WORDS.has(word)) throw this.#noClause(word, primary, unquoted);
      scanner.moveTo(run.end);
      if (!CLAUSES[this.#mode].includes(word)) throw this.#wrongMode(word, run.start);
      this.#parseClause(word, run.start);
      this.#lastClause = word;
    }
    this.#checkWhole();
    return this.#build(primary);
  }

  #build(primary: Primary): Query {
    const common = {
      since: this.#since,
      until: this.#until,
      where: this.#conditions.length === 0 ? null : joinTerms('and', this.#conditions),
      select: this.#select,
      sort: this.#sort,
      skip: this.#skip,
      take: this.#take,
    };
    const record = { aggregation: this.#aggregation, stream: this.#stream };
    if (primary !== null && 'name' in primary) {
      return {
        mode: 'METRIC',
        ...primary,
        ...common,
        valueFunction: this.#valueFunction,
        window: this.#window,
      };
    }
    if (this.#mode === 'LOGS') {
      const log = { from: this.#from, errorOnly: this.#errorOnly, containing: this.#containing };
      return { mode: 'LOGS', ...log, ...common, ...record };
    }
    return { mode: 'EVENTS', pattern: primary?.pattern ?? null, ...common, ...record };
  }

  #parseClause(word: string, start: number): void {
    const scanner = this.#scanner;
    switch (word) {
      case 'SINCE':
        this.#once(word, start);
        this.#since = takeTime(scanner, word);
        return;
      case 'UNTIL':
        this.#once(word, start);
        this.#until = takeTime(scanner, word);
        return;
      case 'WHERE':
        this.#conditions.push(this.#where.parse());
        return;
      case 'SELECT':
        this.#addSelected(this.#takeSelected());
        return;
      case 'SORT':
        this.#once(word, start);
        this.#sort = this.#takeSortKeys();
        return;
      case 'SKIP':
        this.#once(word, start);
        this.#skip = takeCount(scanner, word);
        return;
      case 'TAKE':
        this.#once(word, start);
        this.#take = takeCount(scanner, word);
        return;
      case 'STREAM':
        this.#stream = true;
        return;
      case 'FROM':
        this.#once(word, start);
        this.#from = this.#takeOrigins();
        return;
      case 'ERROR':
        if (!scanner.takeKeyword('ONLY')) throw scanner.expected("'ONLY' after ERROR");
        this.#errorOnly = true;
        return;
      case 'CONTAINING': {
        const text = takeString(scanner);
        if (text === null) throw scanner.expected('a string in double quotes after CONTAINING');
        this.#containing.push(text);
        return;
      }
      default:
        if (this.#mode === 'METRIC') this.#takeMetricFunction(word, start);
        else this.#takeAggregation(word, start);
    }
  }

  #once(clause: string, start: number, what = `a second ${clause}`): void {
    const first = this.#seen.get(clause);
    if (first !== undefined) {
      throw this.#scanner.error(`${what} is not allowed`, {
        at: start,
        hint: `the first one is at character ${this.#scanner.position(first)}`,
      });
    }
    this.#seen.set(clause, start);
  }

  #takeFields(): FieldRef[] {
    const fields: FieldRef[] = [];
    do {
      fields.push(takeField(this.#scanner, this.#mode));
    } while (this.#scanner.takeSymbol(','));
    return fields;
  }

  #takeSelected(): FieldRef[] {
    const fields: FieldRef[] = [];
    do {
      fields.push(this.#takeFieldOrKey());
    } while (this.#scanner.takeSymbol(','));
    return fields;
  }

  /** Aggregated records have other keys, and the aggregation may be still to come. */
  #takeFieldOrKey(): FieldRef {
    const { field, unknown } = takeFieldOrKey(this.#scanner, this.#mode);
    this.#unknown ??= unknown;
    return field;
  }

  #addSelected(fields: readonly FieldRef[]): void {
    this.#select = uniqueFields([...(this.#select ?? []), ...fields]);
  }

  #takeSortKeys(): SortKey[] {
    const keys: SortKey[] = [];
    do {
      const field = this.#takeFieldOrKey();
      const descending = this.#scanner.takeKeyword('DESC');
      if (!descending) this.#scanner.takeKeyword('ASC');
      keys.push({ field, descending });
      this.#checkKeys('SORT', keys.length);
    } while (this.#scanner.takeSymbol(','));
    return keys;
  }

  #checkKeys(clause: string, count: number): void {
    if (count > MAX_KEYS) throw this.#scanner.error(`more than ${MAX_KEYS} fields in ${clause}`);
  }

  #takeOrigins(): StringLiteral[] {
    const origins: StringLiteral[] = [];
    do {
      origins.push(takeOrigin(this.#scanner));
    } while (this.#scanner.takeSymbol(','));
    return origins;
  }

  #takeAggregation(word: string, start: number): void {
    const scanner = this.#scanner;
    this.#once('aggregation', start, 'a second aggregation');
    const span = (): Span => scanner.span(start);
    switch (word) {
      case 'COUNT':
        if (scanner.takeKeyword('BY')) {
          const field = this.#takeSingleField();
          this.#aggregation = { kind: 'countBy', field, span: span() };
        } else {
          this.#aggregation = { kind: 'bare', function: { kind: 'COUNT' }, span: span() };
        }
        return;
      case 'TOP': {
        const limit = takeCount(scanner, word);
        if (!scanner.takeKeyword('BY')) throw scanner.expected("'BY' and a field after TOP");
        this.#aggregation = { kind: 'top', limit, field: this.#takeSingleField(), span: span() };
        return;
      }
      case 'DISTINCT':
        this.#aggregation = { kind: 'distinct', field: this.#takeSingleField(), span: span() };
        return;
      case 'GROUP': {
        const fields = uniqueFields(this.#takeFields());
        this.#checkKeys(word, fields.length);
        this.#aggregation = {
          kind: 'group',
          fields,
          function: this.#takeGroupFunction(fields),
          span: span(),
        };
        return;
      }
      default:
        this.#aggregation = {
          kind: 'bare',
          function: this.#takeArgument(word as NumericFunction),
          span: span(),
        };
    }
  }

  #takeSingleField(): FieldRef {
    const field = takeField(this.#scanner, this.#mode);
    if (this.#scanner.peek() === ',') {
      throw this.#scanner.expected('a clause', { hint: 'only GROUP takes several fields' });
    }
    return field;
  }

  #takeGroupFunction(fields: readonly FieldRef[]): AggregateFunction {
    const word = this.#scanner.peekKeyword();
    switch (word) {
      case 'COUNT':
        this.#scanner.takeKeyword(word);
        return { kind: 'COUNT' };
      case 'SUM':
      case 'AVG':
      case 'MIN':
      case 'MAX':
        this.#scanner.takeKeyword(word);
        return this.#takeArgument(word);
      default: {
        const near = nearest(word, ['COUNT', 'SUM', 'AVG', 'MIN', 'MAX']);
        const readBy = fields[0]?.name.toUpperCase() === 'BY';
        const hint = readBy ? "GROUP takes its fields without 'BY'" : null;
        throw this.#scanner.expected('COUNT, SUM, AVG, MIN or MAX after the GROUP fields', {
          hint: near === null ? hint : `did you mean ${near}?`,
        });
      }
    }
  }

  #takeArgument(kind: NumericFunction): AggregateFunction {
    return { kind, argument: takeField(this.#scanner, this.#mode, `the field of ${kind}`) };
  }

  #takeMetricFunction(word: string, start: number): void {
    if (word !== 'AVG_OVER' && word !== 'MIN_OVER' && word !== 'MAX_OVER') {
      this.#once('value function', start, 'a second value function');
      this.#valueFunction = word as ValueFunction;
      return;
    }
    this.#once('window function', start, 'a second window function');
    const name: WindowFunction = word;
    this.#window = {
      function: name,
      ns: takeDuration(this.#scanner, word),
      span: this.#scanner.span(start),
    };
  }

  /** Rules over several clauses, checked once all are known. */
  #checkWhole(): void {
    const window = this.#seen.get('window function');
    if (this.#since === null && window !== undefined) {
      throw this.#scanner.error(`${this.#window?.function} needs a SINCE clause`, { at: window });
    }
    const cross = this.#where.firstCrossFilter;
    if (this.#since === null && cross !== null) {
      throw this.#scanner.error('a cross-type filter needs a SINCE clause', {
        at: cross,
        hint: 'a WHERE on timestamp does not replace it',
      });
    }
    if (this.#aggregation !== null) this.#checkAggregation(this.#aggregation);
    else if (this.#unknown !== null) throw this.#unknown;
  }

  /** SORT and SELECT see only the keys of the aggregated records (QL-68). */
  #checkAggregation(aggregation: Aggregation): void {
    const { groups, key } = aggregateKeys(aggregation);
    for (const group of groups) {
      if (group.name === key) {
        throw errorAt(
          group,
          `the group field ${quote(group.name)} is named like the result of the aggregation`,
        );
      }
    }
    const keys = [...groups.map((group) => group.name), ...(key === null ? [] : [key])];
    for (const field of [...this.#sort.map((sort) => sort.field), ...(this.#select ?? [])]) {
      if (keys.includes(field.name)) continue;
      const near = nearest(field.name, keys);
      throw errorAt(
        field,
        `${quote(field.name)} is no field of the aggregated records; ${near === null ? `they have ${keys.slice(0, 8).map(quote).join(', ')}` : `did you mean ${near}?`}`,
      );
    }
  }

  #wrongMode(word: string, start: number): QueryError {
    const homes = MODES.filter((mode) => CLAUSES[mode as Mode].includes(word));
    if (word === 'INDEX') {
      const hint = this.#mode === 'EVENTS' ? 'nothing else may accompany it' : 'it belongs to EVENTS';
      return this.#scanner.error('INDEX must follow EVENTS directly', { at: start, hint });
    }
    return this.#scanner.error(`${word} is not available in ${this.#mode}`, {
      at: start,
      hint: `it belongs to ${homes.join(' and ')}`,
    });
  }

  #noClause(word: string, primary: Primary, unquoted: NamePattern | null): QueryError {
    const afterWhere = this.#lastClause === 'WHERE';
    const candidates = [...CLAUSES[this.#mode], ...(afterWhere ? ['AND', 'OR'] : [])];
    const what = afterWhere ? 'AND, OR, a clause or end of query' : 'a clause or end of query';
    return this.#scanner.expected(what, { hint: this.#clauseHint(word, candidates, primary, unquoted) });
  }

  #clauseHint(
    word: string,
    candidates: readonly string[],
    primary: Primary,
    unquoted: NamePattern | null,
  ): string | undefined {
    if (this.#lastClause === null && unquoted !== null) {
      const name = unquoted.text.toUpperCase();
      const meant = CLAUSE_WORDS.has(name)
        ? name
        : (FOREIGN_WORDS.get(name) ??
          nearest(name, this.#mode === 'EVENTS' ? [...candidates, 'INDEX'] : candidates));
      if (meant !== null) {
        const kind = this.#mode === 'METRIC' ? 'a metric name' : 'an event type';
        return `${quote(unquoted.text)} was read as ${kind}: did you mean ${meant}?`;
      }
    }
    const near = FOREIGN_WORDS.get(word) ?? nearest(word, candidates);
    if (near !== null) return `did you mean ${near}?`;
    if (this.#lastClause === 'SELECT' || this.#lastClause === 'SORT') {
      return word === '' ? undefined : 'fields are separated by commas';
    }
    if (this.#mode === 'EVENTS' && primary === null && word !== '') {
      return 'the event type pattern must follow EVENTS directly';
    }
    if (this.#mode === 'LOGS' && this.#lastClause === null && word !== '') return 'origins follow FROM';
    return undefined;
  }
}

function errorAt(field: FieldRef, message: string): QueryError {
  return new QueryError('P', 'parse error', message, field.span.start);
}

/** Keeps the first of fields with the same name (QL-62). */
function uniqueFields(fields: readonly FieldRef[]): FieldRef[] {
  const seen = new Set<string>();
  return fields.filter((field) => !seen.has(field.name) && seen.add(field.name));
}

/** The fields of aggregated records: group fields, and the key of the computed value. */
export function aggregateKeys(aggregation: Aggregation): {
  readonly groups: readonly FieldRef[];
  readonly key: string | null;
} {
  switch (aggregation.kind) {
    case 'countBy':
    case 'top':
      return { groups: [aggregation.field], key: 'count' };
    case 'distinct':
      return { groups: [aggregation.field], key: null };
    case 'group':
      return { groups: aggregation.fields, key: aggregation.function.kind.toLowerCase() };
    case 'bare':
      return { groups: [], key: aggregation.function.kind.toLowerCase() };
  }
}
