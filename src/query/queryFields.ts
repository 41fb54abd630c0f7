/** Which fields a query names, and in which role: what access control asks before it runs (ACL-33..37). */
import type { FieldPath } from '../access/fieldLists.js';
import type { AggregateFunction, Aggregation, FieldRef, NamePattern, Query } from './ast.js';

/**
 * Fields a record cannot be grouped, sorted or aggregated by without telling their values, each once
 * (ACL-33, ACL-35, QX-6). SELECT is not among them: it only shapes output.
 */
export function revealingFields(query: Exclude<Query, { mode: 'INDEX' }>): readonly FieldRef[] {
  const aggregation = query.mode === 'METRIC' ? null : query.aggregation;
  // With an aggregation, SORT can only name what that names already, or its result (QL-68).
  const fields = aggregation === null ? query.sort.map(({ field }) => field) : aggregated(aggregation);
  return [...new Map(fields.map((field) => [field.name, field])).values()];
}

function aggregated(aggregation: Aggregation): readonly FieldRef[] {
  switch (aggregation.kind) {
    case 'countBy':
    case 'top':
    case 'distinct':
      return [aggregation.field];
    case 'group':
      return [...aggregation.fields, ...argumentOf(aggregation.function)];
    case 'bare':
      return argumentOf(aggregation.function);
  }
}

function argumentOf(computed: AggregateFunction): readonly FieldRef[] {
  return computed.kind === 'COUNT' ? [] : [computed.argument];
}

/**
 * Fields a query tests or computes with outside WHERE, as if in it: where one is denied, nothing matches
 * (ACL-37, QL-77). Of metrics also `value`, wherever samples are combined (ACL-39), with the name they are
 * combined by and the type that decides whether they can be: a refusal names both.
 */
export function impliedFields(query: Exclude<Query, { mode: 'INDEX' }>): readonly FieldPath[] {
  // Without SINCE and UNTIL a query ends now, which tells nothing of the records.
  const times: readonly FieldPath[] = query.since === null && query.until === null ? [] : [['timestamp']];
  switch (query.mode) {
    case 'EVENTS':
      return query.pattern !== null && selects(query.pattern) ? [...times, ['event_type']] : times;
    case 'LOGS':
      return [
        ...times,
        ...(query.from === null ? [] : [['origin']]),
        ...(query.errorOnly ? [['is_error']] : []),
        ...(query.containing.length === 0 ? [] : [['message']]),
      ];
    case 'METRIC': {
      const combines = query.brackets === null || query.valueFunction !== null || query.window !== null;
      return [
        ...times,
        ...(combines || selects(query.name) ? [['name']] : []),
        ...(query.brackets ?? []).map(({ label }) => [label.name]),
        ...(combines ? [['value'], ['type']] : []),
      ];
    }
  }
}

/** `*` alone names nothing in particular. */
function selects(pattern: NamePattern): boolean {
  return !/^\**$/.test(pattern.text);
}
