/** The fields each mode knows, their fixed types, and what may be asked of them (QL-24, QL-33). */
import { parseGuid } from '../host/guid.js';
import type { CompareOperator, FieldRef, Literal, StringOperator } from './ast.js';
import { CLAUSE_WORDS, type Mode, nearest } from './keywords.js';
import { quote, type Scanner } from './lexer.js';
import type { Value } from './literals.js';

/** `payload` is the type of an EVENTS field without a column: its type is that of each record. */
export type FieldType = 'integer' | 'float' | 'timestamp' | 'guid' | 'string' | 'boolean' | 'payload';

const EVENT_FIELDS: Readonly<Record<string, FieldType>> = {
  timestamp: 'timestamp',
  cpu_id: 'integer',
  sequence: 'integer',
  origin_class: 'integer',
  event_type: 'string',
  effective_token_guid: 'guid',
  true_token_guid: 'guid',
  process_guid: 'guid',
  boot_id: 'guid',
};

const LOG_FIELDS: Readonly<Record<string, FieldType>> = {
  timestamp: 'timestamp',
  origin: 'string',
  is_error: 'boolean',
  message: 'string',
  boot_id: 'guid',
};

const METRIC_FIELDS: Readonly<Record<string, FieldType>> = {
  timestamp: 'timestamp',
  name: 'string',
  type: 'integer',
  value: 'float',
};

const FIELDS = {
  EVENTS: new Map(Object.entries(EVENT_FIELDS)),
  LOGS: new Map(Object.entries(LOG_FIELDS)),
  METRIC: new Map(Object.entries(METRIC_FIELDS)),
} as const;

const ALIASES: Readonly<Record<string, ReadonlyMap<string, bigint>>> = {
  'EVENTS origin_class': new Map([
    ['userspace', 0n],
    ['kmes', 1n],
    ['kacs', 2n],
    ['lcs', 3n],
  ]),
  'METRIC type': new Map([
    ['counter', 0n],
    ['gauge', 1n],
    ['histogram', 2n],
  ]),
};

/**
 * The type of a field in a mode. Unknown names are payload paths in EVENTS and labels (strings) in
 * METRIC; null in LOGS, which has no others (QL-41..43).
 */
export function fieldType(mode: Mode, name: string): FieldType | null {
  const type = FIELDS[mode].get(name);
  if (type !== undefined) return type;
  if (mode === 'LOGS') return null;
  return mode === 'EVENTS' ? 'payload' : 'string';
}

/** Reads a field name, label key or payload path (QL-7); any word will do (QL-6). */
export function takeField(scanner: Scanner, mode: Mode, what = 'a field name'): FieldRef {
  const { field, unknown } = takeFieldOrKey(scanner, mode, what);
  if (unknown !== null) throw unknown;
  return field;
}

/**
 * The same where the key of an aggregated record will do as well (QL-68): with why it is no field of the
 * mode, null if it is one.
 */
export function takeFieldOrKey(
  scanner: Scanner,
  mode: Mode,
  what = 'a field name',
): { readonly field: FieldRef; readonly unknown: Error | null } {
  const field = takeName(scanner, what, mode !== 'METRIC');
  if (fieldType(mode, field.name) !== null) return { field, unknown: null };
  const near = nearest(field.name, FIELDS.LOGS.keys());
  const unknown = scanner.error(`LOGS has no field ${quote(field.name)}`, {
    at: scanner.offset - field.name.length,
    hint: near === null ? `its fields are ${[...FIELDS.LOGS.keys()].join(', ')}` : `did you mean ${near}?`,
  });
  return { field, unknown };
}

/** Reads a label key inside brackets, where column names have no special meaning (QL-84). */
export function takeLabel(scanner: Scanner): FieldRef {
  return takeName(scanner, 'a label key', false);
}

function takeName(scanner: Scanner, what: string, dotted: boolean): FieldRef {
  const run = scanner.peekRun('word');
  if (run === null) {
    const hint = scanner.peek() === '"' ? 'names stand without quotes' : null;
    throw scanner.expected(what, { hint });
  }
  const segments = run.text.split('.');
  if (segments.includes('')) {
    throw scanner.error(`${quote(run.text)} is no field name`, {
      at: run.start,
      hint: 'single dots go between names',
    });
  }
  scanner.moveTo(run.end);
  return {
    name: run.text,
    path: dotted ? segments : [run.text],
    span: scanner.span(run.start, run.end),
  };
}

/** What a field of each type is compared with, for error texts. */
const WANTED: Readonly<Record<FieldType, string>> = {
  integer: 'a number',
  float: 'a number',
  timestamp: 'a time or an integer in nanoseconds',
  guid: 'a GUID in double quotes',
  string: 'a string in double quotes',
  boolean: 'true, false, 1 or 0',
  payload: 'a value',
};

const ORDERED: ReadonlySet<FieldType> = new Set(['integer', 'float', 'timestamp', 'payload']);

/** Throws P if an operator does not apply to a field of a fixed type (QL-33). */
export function checkOperator(
  scanner: Scanner,
  mode: Mode,
  field: FieldRef,
  operator: CompareOperator | StringOperator,
  at: number,
): void {
  const type = fieldType(mode, field.name);
  if (type === null || operator === '==' || operator === '!=') return;
  const isOrder = operator !== 'STARTS_WITH' && operator !== 'ENDS_WITH' && operator !== 'CONTAINS';
  if (isOrder ? ORDERED.has(type) : type === 'string' || type === 'payload') return;
  throw scanner.error(`${operator} does not apply to ${quote(field.name)}, ${typeName(type)} field`, {
    at,
    hint: `it takes ${operatorsOf(type)}`,
  });
}

function typeName(type: FieldType): string {
  if (type === 'guid') return 'a GUID';
  return type === 'integer' ? 'an integer' : `a ${type}`;
}

function operatorsOf(type: FieldType): string {
  if (ORDERED.has(type)) return '== != > >= < <= IN NOT_IN and IS NULL';
  if (type === 'string') return '== != STARTS_WITH ENDS_WITH CONTAINS IN NOT_IN and IS NULL';
  return '== != IN NOT_IN and IS NULL';
}

/**
 * Turns a value as written into the literal its field compares with: aliases and GUIDs are
 * resolved, a value of another type than the field's fixed one is P (QL-24, QL-33, QL-61).
 */
export function fitValue(scanner: Scanner, mode: Mode, field: FieldRef, value: Value, at: number): Literal {
  const type = fieldType(mode, field.name) ?? 'payload';
  const aliases = ALIASES[`${mode} ${field.name}`];
  if (value.kind === 'word' || (value.kind === 'string' && aliases !== undefined)) {
    const text = value.kind === 'word' ? value.run.text : value.value;
    if (aliases !== undefined) return fitAlias(scanner, field, aliases, text, at);
    throw bareWord(scanner, field, type, text, at);
  }
  if (type === 'guid' && value.kind === 'string') return fitGuid(scanner, field, value.value, at);
  const fits =
    type === 'payload' ||
    (type === 'string' && value.kind === 'string') ||
    ((type === 'integer' || type === 'float') && (value.kind === 'integer' || value.kind === 'float')) ||
    (type === 'timestamp' && (value.kind === 'integer' || value.kind === 'time')) ||
    (type === 'boolean' && (value.kind === 'boolean' || value.kind === 'integer'));
  if (fits) return value;
  throw scanner.expected(`${WANTED[type]} for ${quote(field.name)}`, { at });
}

function fitAlias(
  scanner: Scanner,
  field: FieldRef,
  aliases: ReadonlyMap<string, bigint>,
  text: string,
  at: number,
): Literal {
  const name = text.toLowerCase();
  const value = aliases.get(name);
  if (value !== undefined) return { kind: 'alias', name, value, span: scanner.span(at) };
  const near = nearest(name, aliases.keys());
  throw scanner.error(`${quote(text)} is no value of ${quote(field.name)}`, {
    at,
    hint: near === null ? `it takes numbers and ${[...aliases.keys()].join(', ')}` : `did you mean ${near}?`,
  });
}

function fitGuid(scanner: Scanner, field: FieldRef, text: string, at: number): Literal {
  try {
    return { kind: 'guid', bytes: parseGuid(text), span: scanner.span(at) };
  } catch {
    throw scanner.error(`${quote(text)} is no GUID, but ${quote(field.name)} holds one`, {
      at,
      hint: 'write 8-4-4-4-12 hex digits, with or without braces',
    });
  }
}

function bareWord(scanner: Scanner, field: FieldRef, type: FieldType, text: string, at: number): Error {
  const isText = (type === 'payload' || type === 'string') && /^[\p{L}\p{N}_]/u.test(text);
  const hint = isText && !CLAUSE_WORDS.has(text.toUpperCase()) ? 'strings need double quotes' : null;
  return scanner.expected(type === 'payload' ? 'a value' : `${WANTED[type]} for ${quote(field.name)}`, {
    at,
    hint,
  });
}
