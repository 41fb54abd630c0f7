/**
 * What may come next in a query that is being typed. It looks at words, not at grammar: the text is
 * unfinished, and a suggestion too many does no harm.
 */
import { CLAUSES, MODES, type Mode, OPERATOR_WORDS } from '../query/keywords.js';
import { EVENT_COLUMNS } from '../stores/eventColumns.js';

/** Names that only the stores know. */
export type NameKind = 'types' | 'origins' | 'metrics';

/** The words that fit, and the kind of names that does, too. */
export interface Expected {
  readonly words: readonly string[];
  readonly names?: NameKind;
}

const FIELDS: Readonly<Record<Mode, readonly string[]>> = {
  EVENTS: EVENT_COLUMNS,
  LOGS: ['timestamp', 'origin', 'is_error', 'message', 'boot_id'],
  METRIC: ['timestamp', 'name', 'type', 'value'],
};
const TIMES = ['5m ago', '15m ago', '1h ago', '6h ago', '1d ago', '7d ago', 'today', 'yesterday'];
const OPERATORS = ['==', '!=', '>', '>=', '<', '<=', ...OPERATOR_WORDS];
const FUNCTIONS = ['COUNT', 'SUM', 'AVG', 'MIN', 'MAX'];
const CROSS: Readonly<Record<Mode, readonly string[]>> = {
  EVENTS: ['METRIC', 'LOG'],
  LOGS: ['METRIC', 'EVENT'],
  METRIC: ['EVENT', 'LOG'],
};
const CROSS_NAMES: Readonly<Record<string, NameKind>> = { METRIC: 'metrics', EVENT: 'types', LOG: 'origins' };
const VALUES: Readonly<Record<string, readonly string[]>> = {
  origin_class: ['userspace', 'kmes', 'kacs', 'lcs'],
  is_error: ['true', 'false'],
  type: ['counter', 'gauge', 'histogram'],
  timestamp: TIMES,
};
/** Clauses that may stand more than once (QL-4, QL-5). */
const REPEATABLE: ReadonlySet<string> = new Set(['WHERE', 'SELECT', 'CONTAINING']);
const NOTHING: Expected = { words: [] };

/** The part of a query before the word at its end, and that word. */
export function splitLast(text: string): { readonly head: string; readonly last: string } {
  const at = /[^\s,(]*$/.exec(text)?.index ?? text.length;
  return { head: text.slice(0, at), last: text.slice(at) };
}

/** What fits behind `head`, which ends between words. */
export function expectedAfter(head: string): Expected {
  const tokens = head.match(/"(?:[^"\\]|\\.)*"?|[(),]|[^\s(),"]+/g) ?? [];
  if (tokens.some((token) => token.startsWith('"') && (token.length === 1 || !token.endsWith('"'))))
    return NOTHING;
  const mode = MODES.find((name) => name === tokens[0]?.toUpperCase()) as Mode | undefined;
  if (mode === undefined) return tokens.length === 0 ? { words: MODES } : NOTHING;
  const words = tokens.map((token) => token.toUpperCase());
  const starts = words.map(
    (word, i) => i > 0 && (CLAUSES[mode].includes(word) || (i === 1 && word === 'INDEX')),
  );
  const clauseAt = starts.lastIndexOf(true);
  const used = new Set(words.filter((word, i) => starts[i] && !REPEATABLE.has(word)));
  const clauses = CLAUSES[mode].filter((clause) => !used.has(clause));
  if (clauseAt === -1) return afterMode(mode, tokens.length - 1, clauses);
  const whereAt = words.lastIndexOf('WHERE');
  const isInside = whereAt !== -1 && ['CONTAINING', 'LOG', 'ERROR'].includes(words[clauseAt] ?? '');
  const from = isInside ? whereAt : clauseAt;
  return afterClause(mode, words[from] ?? '', tokens.slice(from + 1), clauses);
}

function afterMode(mode: Mode, count: number, clauses: readonly string[]): Expected {
  if (count > 0 || mode === 'LOGS') return { words: clauses };
  return mode === 'METRIC'
    ? { words: [], names: 'metrics' }
    : { words: ['INDEX', ...clauses], names: 'types' };
}

function afterClause(
  mode: Mode,
  clause: string,
  rest: readonly string[],
  clauses: readonly string[],
): Expected {
  const [first, second] = rest.map((token) => token.toUpperCase());
  const fields = { words: FIELDS[mode] };
  const isListOpen = rest.length === 0 || rest.at(-1) === ',';
  switch (clause) {
    case 'WHERE':
      return inWhere(mode, rest, clauses);
    case 'SINCE':
    case 'UNTIL':
      if (first === undefined) return { words: TIMES };
      return /^\d+[SMHD]$/.test(first) && rest.length === 1
        ? { words: ['ago', 'hence'] }
        : { words: clauses };
    case 'FROM':
      return isListOpen ? { words: [], names: 'origins' } : { words: clauses };
    case 'SELECT':
    case 'INDEX':
      return isListOpen ? fields : { words: clause === 'INDEX' ? [] : clauses };
    case 'SORT':
      return isListOpen ? fields : { words: ['ASC', 'DESC', ...clauses] };
    case 'GROUP':
      return isListOpen ? fields : { words: FUNCTIONS };
    case 'COUNT':
      if (first === undefined) return { words: ['BY', ...clauses] };
      return first === 'BY' && second === undefined ? fields : { words: clauses };
    case 'TOP':
      if (first === undefined) return NOTHING;
      if (second === undefined) return { words: ['BY'] };
      return rest.length === 2 ? fields : { words: clauses };
    case 'ERROR':
      return { words: first === undefined ? ['ONLY'] : clauses };
    case 'CONTAINING':
    case 'TAKE':
    case 'SKIP':
      return first === undefined ? NOTHING : { words: clauses };
    case 'AVG_OVER':
    case 'MIN_OVER':
    case 'MAX_OVER':
      return { words: first === undefined ? ['1m', '5m', '1h'] : clauses };
    case 'DISTINCT':
    case 'SUM':
    case 'AVG':
    case 'MIN':
    case 'MAX':
      return first === undefined && mode !== 'METRIC' ? fields : { words: clauses };
    default:
      return { words: clauses };
  }
}

function inWhere(mode: Mode, tokens: readonly string[], clauses: readonly string[]): Expected {
  const words = tokens.map((token) => token.toUpperCase());
  const isList = /^(?:IN|NOT_IN)$/.test(words[words.lastIndexOf('(') - 1] ?? '');
  const isOpen = words.lastIndexOf('(') > words.lastIndexOf(')');
  const begin = Math.max(
    words.lastIndexOf('AND'),
    words.lastIndexOf('OR'),
    isList ? -1 : words.lastIndexOf('('),
  );
  const [first, operator, ...values] = words.slice(begin + 1);
  const field = tokens[begin + 1] ?? '';
  if (first === undefined) return { words: [...FIELDS[mode], ...CROSS[mode]] };
  const names = CROSS[mode].includes(first) ? CROSS_NAMES[first] : undefined;
  if (names !== undefined && operator === undefined) return { words: OPERATORS, names };
  if (operator === undefined) return { words: OPERATORS };
  if (names !== undefined && names !== 'metrics')
    return words.at(-1) === 'EXISTS'
      ? { words: ['AND', 'OR', ...clauses] }
      : { words: ['CONTAINING', 'EXISTS'] };
  if (operator === 'IS' && (values.length === 0 || values.at(-1) === 'NOT'))
    return { words: values.length === 0 ? ['NULL', 'NOT NULL'] : ['NULL'] };
  const isValueDue = values.length === 0 || (isList && isOpen && ['(', ','].includes(words.at(-1) ?? ''));
  if (isValueDue && names === undefined)
    return {
      words: ['IN', 'NOT_IN'].includes(operator) && values.length === 0 ? ['('] : (VALUES[field] ?? []),
    };
  return isValueDue ? NOTHING : { words: ['AND', 'OR', ...clauses] };
}
