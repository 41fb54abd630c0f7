/** What the text of a query tells about the keys of its records (QL-62, QL-78, QL-121). */
import type { Query } from '../query/ast.js';
import { aggregateKeys } from '../query/parser.js';
import { EVENT_COLUMNS } from '../stores/eventColumns.js';

const LOG_COLUMNS = ['timestamp', 'origin', 'is_error', 'message', 'boot_id'] as const;

export interface KnownColumns {
  /** Keys in the order of the records. */
  readonly names: readonly string[];
  /** Is there no other key? Payload fields and labels are known only from the records. */
  readonly complete: boolean;
  /** One record per group, worth a table. */
  readonly grouped: boolean;
}

/** The keys of a query's records, as far as its text decides; null without a parsed query. */
export function knownColumns(query: Query | null): KnownColumns | null {
  if (query === null || query.mode === 'INDEX') return null;
  const aggregation = query.mode === 'METRIC' ? null : query.aggregation;
  if (query.select !== null)
    return { names: query.select.map(({ name }) => name), complete: true, grouped: aggregation !== null };
  if (aggregation !== null) {
    const { groups, key } = aggregateKeys(aggregation);
    const names = [...new Set(groups.map(({ name }) => name)), ...(key === null ? [] : [key])];
    return { names, complete: true, grouped: groups.length > 0 };
  }
  return plainColumns(query.mode);
}

/**
 * The columns of a query's records as CSV: where a stream (`--follow`, too) begins with an aggregation, also those
 * of the records behind it, which are as they were committed (STR-7).
 */
export function csvColumns(query: Query | null, stream: boolean): KnownColumns | null {
  const known = knownColumns(query);
  if (known === null || query === null || query.mode === 'INDEX' || query.mode === 'METRIC') return known;
  if (!stream || query.aggregation === null || query.select !== null) return known;
  const plain = plainColumns(query.mode);
  return { ...plain, names: [...new Set([...known.names, ...plain.names])] };
}

/** The keys of records that nothing shapes. */
function plainColumns(mode: Exclude<Query['mode'], 'INDEX'>): KnownColumns {
  switch (mode) {
    case 'EVENTS':
      return { names: EVENT_COLUMNS, complete: false, grouped: false };
    case 'LOGS':
      return { names: LOG_COLUMNS, complete: true, grouped: false };
    case 'METRIC':
      return { names: ['timestamp', 'name', 'value'], complete: false, grouped: false };
  }
}
