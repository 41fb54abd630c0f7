/**
 * Which fields of events can have an index of their own, what that index is called, and the statement
 * that makes it (IDX-30..35). The SQL is what the planner's predicates are answered by: an index of
 * another expression or collation would never be used (QX-11, QX-13).
 */
import { STORAGE } from '../query/plan.js';
import { payloadExpression } from '../query/sqlPredicate.js';
import { EVENT_COLUMNS, type EventColumn } from '../stores/eventColumns.js';
import { TIMESTAMP_INDEX } from '../stores/shardSchema.js';

/** A field of the desired set: a column, or a payload path such as `source.name`. */
export interface IndexedField {
  readonly field: string;
  readonly isExpression: boolean;
}

/** What becomes of a wish for an index on a field. */
export type Candidacy =
  | { readonly kind: 'candidate'; readonly isExpression: boolean }
  /** `timestamp` has its index since the shard was made. */
  | { readonly kind: 'always' }
  | { readonly kind: 'never'; readonly reason: string };

/** Longer names, in bytes of UTF-8, are neither counted nor indexed: the schema of every shard holds them. */
export const MAX_FIELD_BYTES = 512;

const PREFIX = 'idx_events_';
const PAYLOAD_PREFIX = `${PREFIX}payload_`;

/** Whether a field may have an index (IDX-30, QL-75). */
export function candidacyOf(field: string): Candidacy {
  const column = columnOf(field);
  if (column === 'timestamp') return { kind: 'always' };
  if (column === 'sequence') return { kind: 'never', reason: 'sequence is not indexable' };
  if (column !== null) return { kind: 'candidate', isExpression: false };
  if (Buffer.byteLength(field) > MAX_FIELD_BYTES) {
    return { kind: 'never', reason: `a name longer than ${MAX_FIELD_BYTES} bytes is not indexable` };
  }
  return { kind: 'candidate', isExpression: true };
}

/** The name of a field's index (IDX-33). Two payload paths may have the same one (IDX-35). */
export function indexNameOf(field: string): string {
  return columnOf(field) === null ? `${PAYLOAD_PREFIX}${field.replaceAll('.', '_')}` : `${PREFIX}${field}`;
}

/** Names that SQLite takes for the same have the same key: it folds ASCII letters. */
export function nameKey(name: string): string {
  return name.replace(/[A-Z]/g, (letter) => letter.toLowerCase());
}

/** What the index holds, in the words of its definition. */
function indexedExpression(field: string): string {
  const column = columnOf(field);
  if (column === null) return `${payloadExpression(field.split('.'))} COLLATE NOCASE`;
  return STORAGE[column].type === 'text' ? `${column} COLLATE NOCASE` : column;
}

/** Name and expression: what CREATE INDEX is followed by, and what SQLite keeps of it. */
function definitionOf(field: string): string {
  return `${quoted(indexNameOf(field))} ON events(${indexedExpression(field)})`;
}

/** IDX-11. */
export function createStatement(field: string): string {
  return `CREATE INDEX IF NOT EXISTS ${definitionOf(field)}`;
}

/** IDX-11. */
export function dropStatement(index: string): string {
  return `DROP INDEX IF EXISTS ${quoted(index)}`;
}

/** An index that eventd may make and drop, as a shard's schema has it. */
export interface ExistingIndex {
  readonly name: string;
  /** Null: not an index as this version makes it, so it serves no query for sure. */
  readonly field: string | null;
}

/**
 * What a row of `sqlite_master` is about; null for indexes that are not managed here: the one on
 * `timestamp` (IDX-25), and those that somebody else has made under names of his own.
 */
export function existingIndex(name: string, sql: string | null): ExistingIndex | null {
  const key = nameKey(name);
  if (!key.startsWith(PREFIX) || key === TIMESTAMP_INDEX) return null;
  const field = fieldNamedBy(sql ?? '');
  return { name, field: field !== null && sql === `CREATE INDEX ${definitionOf(field)}` ? field : null };
}

/** A name does not lead back to its path, the expression does. */
function fieldNamedBy(sql: string): string | null {
  const payload = /ON events\(msgpack_extract\(payload, '\$\.((?:[^']|'')+)'\)/.exec(sql)?.[1];
  if (payload !== undefined) return payload.replaceAll("''", "'");
  return /ON events\(([a-z_]+)/.exec(sql)?.[1] ?? null;
}

function columnOf(field: string): EventColumn | null {
  return EVENT_COLUMNS.find((column) => column === field) ?? null;
}

function quoted(name: string): string {
  return `"${name.replaceAll('"', '""')}"`;
}
