/**
 * Translates predicates into SQL with exactly the semantics of sections 3 and 4 of the language.
 * Each fragment is true for a matching row and false or NULL otherwise, which is the same thing, as
 * the language has no NOT (QL-31).
 *
 * String comparisons collate NOCASE, and so do number comparisons with payload expressions: their
 * indexes are built NOCASE and SQLite ignores an index of another collation (QX-13).
 */
import type { CompareOperator, NamePattern, StringOperator } from './ast.js';
import type { Operand, PlanField, PlanPredicate } from './plan.js';
import { Fragment, join, joinBalanced, sql } from './sqlFragment.js';

const INTEGER_LIMIT = 2n ** 63n;
const REAL_LIMIT = 2 ** 63;
const NEVER = new Fragment('0');
const NOCASE = new Fragment(' COLLATE NOCASE');
/** The default collation, spelt by saying nothing. */
const BINARY = new Fragment('');

const SQL_OPERATOR: Readonly<Record<CompareOperator, Fragment>> = {
  '==': new Fragment('='),
  '!=': new Fragment('<>'),
  '>': new Fragment('>'),
  '>=': new Fragment('>='),
  '<': new Fragment('<'),
  '<=': new Fragment('<='),
};

const ENDS = new Fragment('ascii_ends');
const CONTAINS = new Fragment('ascii_contains');

/** How `msgpack_order(payload, path, literal)` must come out for each operator. */
const ORDER_RESULT: Readonly<Record<CompareOperator, Fragment>> = {
  '==': new Fragment('= 0'),
  '!=': new Fragment('IS NOT 0'),
  '>': new Fragment('> 0'),
  '>=': new Fragment('>= 0'),
  '<': new Fragment('< 0'),
  '<=': new Fragment('<= 0'),
};

function pathLiteral(path: readonly string[]): string {
  return `'${['$', ...path].join('.').replaceAll("'", "''")}'`;
}

/** The arguments by which SQL functions find a payload path. */
export function payloadArguments(path: readonly string[]): string {
  return `payload, ${pathLiteral(path)}`;
}

/**
 * The expression a payload path is read by. An expression index serves queries only if it is built
 * on this very expression, collated NOCASE (QX-11, QX-13).
 */
export function payloadExpression(path: readonly string[]): string {
  return `msgpack_extract(${payloadArguments(path)})`;
}

/** The value of a field for sorting: the column, or the payload where it is NULL (QX-14). */
export function fieldExpression(field: PlanField): string {
  if (field.kind === 'payload') return payloadExpression(field.path);
  if (field.kind === 'expression') return field.sql;
  return field.nullable ? `COALESCE(${field.name}, ${payloadExpression([field.name])})` : field.name;
}

/** Translates one predicate; nullable columns get their payload fallback (QL-45, QX-14). */
export function translatePredicate(predicate: PlanPredicate): Fragment {
  const { field } = predicate;
  if (field.kind === 'payload') return payloadPredicate(payloadAt(field.path, NOCASE), predicate);
  if (field.kind === 'expression') return columnPredicate(new Fragment(field.sql), field.type, predicate);
  const column = new Fragment(field.name);
  const onColumn = columnPredicate(column, field.type, predicate);
  if (!field.nullable) return onColumn;
  // Column names are no payload paths, so no payload index fits, and NOCASE would keep SQLite from
  // using the column's index on both sides of the OR.
  const payload = payloadAt([field.name], BINARY);
  const onPayload =
    field.type === 'guid' ? guidFallback(payload, predicate) : payloadPredicate(payload, predicate);
  if (predicate.kind === 'null' && !predicate.negated) return sql`(${onColumn} AND ${onPayload})`;
  return sql`(${onColumn} OR (${column} IS NULL AND ${onPayload}))`;
}

/** A name pattern on a text column, or null if every name fits (QL-60, QL-77, QL-85). */
export function translatePattern(
  pattern: Pick<NamePattern, 'kind' | 'text'>,
  column = new Fragment('event_type'),
): Fragment | null {
  switch (pattern.kind) {
    case 'equal':
      return textEquals(column, pattern.text);
    case 'prefix':
      return pattern.text === '' ? null : startsWith(column, pattern.text);
    case 'glob': {
      const prefix = pattern.text.slice(0, pattern.text.indexOf('*'));
      const range = prefixRange(column, prefix);
      const glob = sql`ascii_glob(${column}, ${pattern.text})`;
      return range === null ? glob : sql`(${range} AND ${glob})`;
    }
  }
}

// --- columns -------------------------------------------------------------------------------------

type ColumnType = Extract<PlanField, { kind: 'expression' }>['type'];

function columnPredicate(column: Fragment, type: ColumnType, predicate: PlanPredicate): Fragment {
  switch (predicate.kind) {
    case 'null':
      return predicate.negated ? isPresent(column) : sql`${column} IS NULL`;
    case 'match':
      return matches(column, predicate.operator, predicate.value);
    case 'compare':
      return compareColumn(column, type, predicate.operator, predicate.value);
    case 'in':
      if (type === 'guid') return guidIn(column, predicate.values, predicate.negated);
      if (type === 'text') return scalarIn(column, NOCASE, predicate.values, predicate.negated);
      return numberIn(column, type, predicate.values, predicate.negated);
  }
}

function compareColumn(
  column: Fragment,
  type: ColumnType,
  operator: CompareOperator,
  value: Operand,
): Fragment {
  if (typeof value === 'string') {
    return operator === '==' ? textEquals(column, value) : textDiffers(column, value);
  }
  if (type === 'real' && isBetweenFloats(value)) return compareBetween(column, operator, value);
  // A stored integer is below 2^63, so against a larger literal the nearest float decides the same.
  const bound = typeof value === 'bigint' && value >= INTEGER_LIMIT ? Number(value) : value;
  return sql`${column} ${SQL_OPERATOR[operator]} ${bound}`;
}

/** Whether a literal is an integer from 2^63 on that no float is: SQLite knows it as the nearest one only. */
function isBetweenFloats(value: Operand): value is bigint {
  return typeof value === 'bigint' && value >= INTEGER_LIMIT && BigInt(Number(value)) !== value;
}

/** Compares floats with an integer that lies between two of them. */
function compareBetween(column: Fragment, operator: CompareOperator, value: bigint): Fragment {
  const near = Number(value);
  switch (operator) {
    case '==':
      return NEVER;
    case '!=':
      return isPresent(column);
    case '>':
    case '>=':
      return near > value ? sql`${column} >= ${near}` : sql`${column} > ${near}`;
    case '<':
    case '<=':
      return near < value ? sql`${column} <= ${near}` : sql`${column} < ${near}`;
  }
}

function numberIn(
  column: Fragment,
  type: 'integer' | 'real',
  values: readonly Operand[],
  negated: boolean,
): Fragment {
  const storable = values.filter((value) => !(type === 'real' ? isBetweenFloats(value) : isHuge(value)));
  if (storable.length === 0) return negated ? isPresent(column) : NEVER;
  return scalarIn(column, BINARY, storable, negated);
}

function guidIn(value: Fragment, guids: readonly Operand[], negated: boolean): Fragment {
  const texts = guids.map((guid) => (guid instanceof Uint8Array ? Buffer.from(guid).toString('hex') : ''));
  const operator = new Fragment(negated ? 'NOT IN' : 'IN');
  return sql`${value} ${operator} (SELECT unhex(value) FROM json_each(${JSON.stringify(texts)}))`;
}

// --- payload -------------------------------------------------------------------------------------

/** The SQL expressions that look at one payload path. */
interface PayloadSql {
  readonly value: Fragment;
  readonly kind: Fragment;
  readonly guid: Fragment;
  /** `payload, '$.path'`, for functions with further arguments. */
  readonly arguments: Fragment;
  /** What number comparisons collate by, which is without effect but on the choice of indexes. */
  readonly collation: Fragment;
}

function payloadAt(path: readonly string[], collation: Fragment): PayloadSql {
  const args = payloadArguments(path);
  return {
    value: new Fragment(payloadExpression(path)),
    kind: new Fragment(`msgpack_kind(${args})`),
    guid: new Fragment(`msgpack_guid(${args})`),
    arguments: new Fragment(args),
    collation,
  };
}

function payloadPredicate(payload: PayloadSql, predicate: PlanPredicate): Fragment {
  switch (predicate.kind) {
    case 'null':
      return predicate.negated ? sql`${payload.kind} <> 0` : sql`${payload.kind} = 0`;
    case 'match':
      return matches(payload.value, predicate.operator, predicate.value);
    case 'compare':
      return comparePayload(payload, predicate.operator, predicate.value);
    case 'in':
      return payloadIn(payload, predicate.values, predicate.negated);
  }
}

function comparePayload(payload: PayloadSql, operator: CompareOperator, value: Operand): Fragment {
  if (isHuge(value)) return compareHuge(payload, operator, value);
  const { value: x, collation } = payload;
  if (typeof value === 'string') {
    if (operator === '==') return textEquals(x, value);
    // Strings have no order in the language, only in SQLite.
    return operator === '!=' ? textDiffers(x, value) : NEVER;
  }
  const comparison = sql`${x} ${SQL_OPERATOR[operator]} ${value}${collation}`;
  // SQLite puts text and blobs above all numbers.
  if (operator === '>' || operator === '>=') return sql`(${comparison} AND ${isBelowText(x, collation)})`;
  return comparison;
}

function isBelowText(x: Fragment, collation: Fragment): Fragment {
  return sql`${x} < ''${collation}`;
}

/** Whether a number needs the exact comparison: payload integers from 2^63 on are read as floats. */
function isHuge(value: Operand): value is bigint | number {
  return (
    (typeof value === 'bigint' && value >= INTEGER_LIMIT) ||
    (typeof value === 'number' && value >= REAL_LIMIT)
  );
}

/** The float comparison lets an index narrow the search; `msgpack_order` decides (QX-12). */
function compareHuge(payload: PayloadSql, operator: CompareOperator, value: bigint | number): Fragment {
  const { value: x, collation } = payload;
  const exact = typeof value === 'bigint' ? value.toString() : value;
  const order = sql`msgpack_order(${payload.arguments}, ${exact}) ${ORDER_RESULT[operator]}`;
  const near = Number(value);
  switch (operator) {
    case '==':
      return sql`(${x} = ${near}${collation} AND ${order})`;
    case '!=':
      return sql`(${x} IS NOT NULL AND ${order})`;
    case '>':
    case '>=':
      return sql`(${x} >= ${near}${collation} AND ${isBelowText(x, collation)} AND ${order})`;
    case '<':
    case '<=':
      return sql`(${x} <= ${near}${collation} AND ${order})`;
  }
}

function payloadIn(payload: PayloadSql, values: readonly Operand[], negated: boolean): Fragment {
  const huge = values.filter(isHuge);
  const rest = values.filter((value) => !isHuge(value));
  const parts: Fragment[] = [];
  if (rest.length > 0) parts.push(scalarIn(payload.value, payload.collation, rest, negated));
  if (huge.length > 0) parts.push(membership(payload.value, isHugeMember(payload, huge), negated));
  return joinBalanced(parts, negated ? 'AND' : 'OR');
}

/**
 * Membership in a list of numbers from 2^63 on. One call of `msgpack_order` over a row source: SQLite
 * finds a function's cached path in a list as long as the statement has calls, on every call.
 */
function isHugeMember(payload: PayloadSql, values: readonly (bigint | number)[]): Fragment {
  const integers = values.filter((value) => typeof value === 'bigint').map(String);
  const floats = values.filter((value) => typeof value === 'number').map((value) => sql`(${value})`);
  const source = sql`SELECT value FROM json_each(${JSON.stringify(integers)})`;
  const all = floats.length === 0 ? source : sql`${source} UNION ALL VALUES ${join(floats, ', ')}`;
  const exact = sql`SELECT 1 FROM (${all}) WHERE msgpack_order(${payload.arguments}, value) = 0`;
  const { value: x, collation } = payload;
  return sql`(${x} >= ${REAL_LIMIT}${collation} AND ${isBelowText(x, collation)} AND EXISTS (${exact}))`;
}

/** A GUID column's fallback: a payload string is compared as the GUID it spells (QL-46). */
function guidFallback(payload: PayloadSql, predicate: PlanPredicate): Fragment {
  const { value: x, guid } = payload;
  switch (predicate.kind) {
    case 'compare':
      return predicate.operator === '=='
        ? sql`${guid} = ${predicate.value}`
        : sql`(${x} IS NOT NULL AND ${guid} IS NOT ${predicate.value})`;
    case 'in':
      return predicate.negated
        ? sql`(${x} IS NOT NULL AND (${guid} IS NULL OR ${guidIn(guid, predicate.values, true)}))`
        : guidIn(guid, predicate.values, false);
    default:
      return payloadPredicate(payload, predicate);
  }
}

// --- shared --------------------------------------------------------------------------------------

function isPresent(x: Fragment): Fragment {
  return sql`${x} IS NOT NULL`;
}

/**
 * Membership in a list of numbers and strings. Integers and strings travel in one bound JSON array
 * (QX-15); other numbers are bound one by one, since JSON text need not give the same float back; strings
 * with U+0000, which SQLite's JSON cuts, travel as hex.
 */
function scalarIn(x: Fragment, collation: Fragment, values: readonly Operand[], negated: boolean): Fragment {
  const listed: string[] = [];
  const floats: Fragment[] = [];
  const withNul: string[] = [];
  for (const value of values) {
    if (isStoredInteger(value)) listed.push(BigInt(value).toString());
    else if (typeof value === 'bigint' || typeof value === 'number') floats.push(sql`(${Number(value)})`);
    else if (typeof value === 'string' && value.includes('\0'))
      withNul.push(Buffer.from(value).toString('hex'));
    else listed.push(JSON.stringify(value));
  }
  const sources: Fragment[] = [];
  if (listed.length > 0) sources.push(sql`SELECT value FROM json_each(${`[${listed.join(',')}]`})`);
  if (floats.length > 0) sources.push(sql`VALUES ${join(floats, ', ')}`);
  const parts: Fragment[] = [];
  if (sources.length > 0) {
    const operator = new Fragment(negated ? 'NOT IN' : 'IN');
    parts.push(sql`${x}${collation} ${operator} (${join(sources, ' UNION ALL ')})`);
  }
  if (withNul.length > 0) {
    const source = sql`SELECT CAST(unhex(value) AS TEXT) AS text FROM json_each(${JSON.stringify(withNul)})`;
    const equal = sql`${x} = text COLLATE NOCASE AND ascii_starts(${x}, text)`;
    parts.push(membership(x, sql`EXISTS (SELECT 1 FROM (${source}) WHERE ${equal})`, negated));
  }
  return joinBalanced(parts, negated ? 'AND' : 'OR');
}

/** Whether a number is one that SQLite holds as an integer. */
function isStoredInteger(value: Operand): value is bigint | number {
  const isInteger = typeof value === 'bigint' || (typeof value === 'number' && Number.isInteger(value));
  return isInteger && value >= -REAL_LIMIT && value < REAL_LIMIT;
}

/** NOT_IN wants a value: NULL and containers are in no list and not in none (QL-31). */
function membership(x: Fragment, isMember: Fragment, negated: boolean): Fragment {
  return negated ? sql`(${x} IS NOT NULL AND NOT ${isMember})` : isMember;
}

/** NOCASE stops comparing at U+0000, so strings holding one are compared by our own function too. */
function textEquals(x: Fragment, text: string): Fragment {
  const equal = sql`${x} = ${text} COLLATE NOCASE`;
  return text.includes('\0') ? sql`(${equal} AND ascii_starts(${x}, ${text}))` : equal;
}

function textDiffers(x: Fragment, text: string): Fragment {
  const differs = sql`${x} <> ${text} COLLATE NOCASE`;
  if (!text.includes('\0')) return differs;
  return sql`(${differs} OR (typeof(${x}) = 'text' AND NOT ascii_starts(${x}, ${text})))`;
}

/** The match functions give 0 for anything that is no string. */
function matches(x: Fragment, operator: StringOperator, text: string): Fragment {
  if (operator === 'STARTS_WITH') return startsWith(x, text);
  return sql`${operator === 'ENDS_WITH' ? ENDS : CONTAINS}(${x}, ${text})`;
}

function startsWith(x: Fragment, prefix: string): Fragment {
  const range = prefixRange(x, prefix);
  const match = sql`ascii_starts(${x}, ${prefix})`;
  return range === null ? match : sql`(${range} AND ${match})`;
}

/**
 * A NOCASE range that holds every string with the prefix, no number and no blob, for an index to
 * use; null if there is none. It may hold other strings too.
 */
function prefixRange(x: Fragment, prefix: string): Fragment | null {
  if (prefix === '' || prefix.includes('\0')) return null;
  // Folded as NOCASE folds: ASCII only (QL-21).
  const folded = prefix.replace(/[A-Z]/g, (letter) => letter.toLowerCase());
  const characters = Array.from(folded);
  for (let last = characters.pop(); last !== undefined; last = characters.pop()) {
    const code = last.codePointAt(0) ?? 0;
    if (code === 0x10ffff) continue;
    const next = String.fromCodePoint(code === 0xd7ff ? 0xe000 : code + 1);
    const end = characters.join('') + next;
    return sql`(${x} >= ${prefix} COLLATE NOCASE AND ${x} < ${end} COLLATE NOCASE)`;
  }
  return null;
}
