/** The fields of METRIC as SQL: columns, labels, and conditions on labels inside brackets (QL-43, QL-84). */
import type { FieldRef, Selector } from './ast.js';
import type { PlanField } from './plan.js';
import type { Fragment } from './sqlFragment.js';
import { translatePredicate } from './sqlPredicate.js';

export type MetricField = Extract<PlanField, { kind: 'expression' }>;

/** The built-in fields of a table of samples. */
export type MetricColumns = Readonly<Record<string, Pick<MetricField, 'sql' | 'type'>>>;

/** A column, or else a label (QL-43, QL-100). */
export function metricField(
  { name }: Pick<FieldRef, 'name'>,
  columns: MetricColumns,
  labels: string,
): MetricField {
  const column = Object.hasOwn(columns, name) ? columns[name] : undefined;
  return column === undefined ? label(name, labels) : { kind: 'expression', name, ...column };
}

function label(name: string, labels: string): MetricField {
  const sqlText = `label_value(${labels}, '${name.replaceAll("'", "''")}')`;
  return { kind: 'expression', name, sql: sqlText, type: 'text' };
}

/** A condition of brackets on `r.labels`; inside them a key is always a label (QL-84). */
export function translateSelector(condition: Selector): Fragment {
  const field = label(condition.label.name, 'r.labels');
  switch (condition.kind) {
    case 'null':
      return translatePredicate({ kind: 'null', field, negated: condition.negated });
    case 'in':
      return translatePredicate({
        kind: 'in',
        field,
        negated: condition.negated,
        values: condition.values.map(({ value }) => value),
      });
    case 'compare': {
      const { operator, value } = condition;
      if (operator === '==' || operator === '!=')
        return translatePredicate({ kind: 'compare', field, operator, value: value.value });
      return translatePredicate({ kind: 'match', field, operator, value: value.value });
    }
  }
}
