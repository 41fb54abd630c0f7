/** From the command line to the text that is sent: options that stand for clauses, and what they imply. */
import type { Query, TimeLiteral } from '../query/ast.js';
import { QueryError } from '../query/errors.js';
import { Scanner } from '../query/lexer.js';
import { takeCount, takeTime } from '../query/literals.js';
import { parseQuery } from '../query/parser.js';
import { QueryFailure } from '../wire/client.js';
import { CommandFailure, EXIT } from './context.js';
import { type ParsedOptions, UsageError } from './options.js';
import { displayWidth, visible } from './terminal.js';

/** What `--follow` shows of the past when the query does not say, as tail(1) does. */
const FOLLOW_TAKE = 10;

/** A query as it is sent. */
export interface Ask {
  readonly text: string;
  /** The parsed text; null when it does not parse, which is for eventd to say. */
  readonly query: Query | null;
  /** It does not end by itself. */
  readonly stream: boolean;
  /** The stream begins with the newest records before it, to be shown oldest first. */
  readonly turnPast: boolean;
}

/**
 * Joins the text with the clauses of `--since`, `--until`, `--limit` and `--follow`.
 *
 * @throws {UsageError} for a bad value, a clause the text has already, or a mode that does not take it
 * @throws {CommandFailure} when a clause is to be added to a text that does not parse
 */
export function composeQuery(text: string, options: ParsedOptions): Ask {
  const isFollowed = options.has('follow');
  const wanted = (['since', 'until', 'limit'] as const).flatMap((name) => {
    const value = options.get(name);
    return value === undefined ? [] : [{ name, value, ...SUGAR[name] }];
  });
  for (const { name, value, check } of wanted) checkValue(name, value, check);
  const clauses = wanted.map(({ clause, value }) => `${clause} ${value}`);
  const alone = parsed(text);
  // A clause may be what the text lacks: windows and cross-type filters need SINCE.
  const query = alone instanceof QueryError ? completed(text, clauses, alone) : alone;
  if (query instanceof QueryError) {
    if (wanted.length === 0 && !isFollowed && !options.has('explain') && !options.has('chart'))
      return { text, query: null, stream: false, turnPast: false };
    throw refusal(new QueryFailure(query.text), text);
  }
  if (query.mode === 'INDEX') {
    const first = wanted[0]?.name ?? (isFollowed ? 'follow' : undefined);
    if (first !== undefined) throw new UsageError(`--${first}: EVENTS INDEX takes no clauses`);
    return { text, query, stream: false, turnPast: false };
  }
  if (query === alone)
    for (const { name, clause, field } of wanted)
      if (query[field] !== null) throw new UsageError(`--${name}: the query has ${clause} already`);
  const sugared = withClauses(text, clauses);
  if (!isFollowed)
    return { text: sugared, query, stream: 'stream' in query && query.stream, turnPast: false };
  if (query.mode === 'METRIC')
    throw new UsageError('--follow: METRIC cannot be followed, only EVENTS and LOGS');
  if (query.stream) return { text: sugared, query, stream: true, turnPast: false };
  const followed = [...clauses, ...followClauses(query, options)];
  const turnPast =
    query.sort.length === 0 && query.aggregation === null && !followed.includes('SORT timestamp');
  return { text: withClauses(text, followed), query, stream: true, turnPast };
}

const SUGAR = {
  since: {
    clause: 'SINCE',
    field: 'since',
    check: (scanner: Scanner): TimeLiteral => takeTime(scanner, 'SINCE'),
  },
  until: {
    clause: 'UNTIL',
    field: 'until',
    check: (scanner: Scanner): TimeLiteral => takeTime(scanner, 'UNTIL'),
  },
  limit: { clause: 'TAKE', field: 'take', check: (scanner: Scanner): bigint => takeCount(scanner, 'TAKE') },
} as const;

/** The value is one literal and nothing else: it must not bring clauses of its own. */
function checkValue(name: string, value: string, check: (scanner: Scanner) => unknown): void {
  try {
    const scanner = new Scanner(value);
    check(scanner);
    if (scanner.peek() === '' && !value.includes('--')) return;
  } catch (error) {
    if (error instanceof QueryError) throw new UsageError(`--${name}: ${error.message}`);
    throw error;
  }
  throw new UsageError(`--${name}: unexpected text in '${value.slice(0, 40)}'`);
}

/** STREAM, and what shows the past the way somebody who follows reads it: a little of it, oldest first. */
function followClauses(
  query: Exclude<Query, { mode: 'INDEX' | 'METRIC' }>,
  options: ParsedOptions,
): string[] {
  const isShaped = query.sort.length > 0 || query.aggregation !== null;
  const isLimited = query.take !== null || options.get('limit') !== undefined;
  if (isShaped || isLimited) return ['STREAM'];
  const isDated = query.since !== null || options.get('since') !== undefined;
  return isDated ? ['SORT timestamp', 'STREAM'] : [`TAKE ${FOLLOW_TAKE}`, 'STREAM'];
}

/** On a line of their own: the text may end in a comment. */
function withClauses(text: string, clauses: readonly string[]): string {
  return clauses.length === 0 ? text : `${text}\n${clauses.join(' ')}`;
}

/** A text that does not parse by itself, with the clauses added; its own error unless that helps. */
function completed(text: string, clauses: readonly string[], alone: QueryError): Query | QueryError {
  const query = clauses.length === 0 ? alone : parsed(withClauses(text, clauses));
  return query instanceof QueryError ? alone : query;
}

function parsed(text: string): Query | QueryError {
  try {
    return parseQuery(text);
  } catch (error) {
    if (error instanceof QueryError) return error;
    throw error;
  }
}

/** An error of eventd, or of the parser here, as it is told: a parse error is wrong usage. */
export function refusal(error: QueryFailure, text: string): CommandFailure {
  const details = error.position === null ? [] : caretLines(text, error.position);
  return new CommandFailure(error.message, details, error.class === 'parse error' ? EXIT.usage : EXIT.failed);
}

/** Width around the caret; a query of one long line is shown in part. */
const CARET_CONTEXT = 70;

/** The query line that holds the 1-based character `position`, and a caret beneath that character. */
export function caretLines(text: string, position: number): readonly string[] {
  const characters = [...text];
  const at = Math.min(Math.max(position - 1, 0), characters.length);
  const start = characters.lastIndexOf('\n', at - 1) + 1;
  const newline = characters.indexOf('\n', at);
  const end = newline === -1 ? characters.length : newline;
  const from = Math.max(start, at - CARET_CONTEXT);
  const to = Math.min(end, at + CARET_CONTEXT);
  const shown = (part: readonly string[]) => visible(part.join('').replaceAll('\t', ' '));
  const before = (from > start ? '…' : '') + shown(characters.slice(from, at));
  const after = shown(characters.slice(at, to)) + (to < end ? '…' : '');
  return [`  ${before}${after}`, `  ${' '.repeat(displayWidth(before))}^`];
}
