/** SQL text together with its bound values, so that the two cannot get out of step (QX-11). */
import type { JobParam } from './job.js';

/** A piece of SQL and the values of its `?`, in the order of the text. */
export class Fragment {
  readonly sql: string;
  readonly params: readonly JobParam[];

  constructor(sql: string, params: readonly JobParam[] = []) {
    this.sql = sql;
    this.params = params;
  }
}

/** Builds a fragment: fragments are spliced in, every other value is bound. */
export function sql(parts: TemplateStringsArray, ...values: readonly (Fragment | JobParam)[]): Fragment {
  const text: string[] = [parts[0] ?? ''];
  const params: JobParam[] = [];
  for (const [index, value] of values.entries()) {
    if (value instanceof Fragment) {
      text.push(value.sql);
      for (const param of value.params) params.push(param);
    } else {
      text.push('?');
      params.push(value);
    }
    text.push(parts[index + 1] ?? '');
  }
  return new Fragment(text.join(''), params);
}

/** Joins fragments by a separator. */
export function join(fragments: readonly Fragment[], separator: string): Fragment {
  return new Fragment(
    fragments.map((fragment) => fragment.sql).join(separator),
    fragments.flatMap((fragment) => fragment.params),
  );
}

/**
 * Joins terms by AND or OR as a balanced tree: SQLite would parse a flat chain into a list as deep
 * as it is long, and its expressions may be 1000 deep. `empty` stands for no terms.
 */
export function joinBalanced(terms: readonly Fragment[], operator: 'AND' | 'OR'): Fragment {
  const [first] = terms;
  if (first === undefined) return new Fragment(operator === 'AND' ? '1' : '0');
  if (terms.length === 1) return first;
  const middle = terms.length >>> 1;
  const left = joinBalanced(terms.slice(0, middle), operator);
  const right = joinBalanced(terms.slice(middle), operator);
  return new Fragment(`(${left.sql} ${operator} ${right.sql})`, [...left.params, ...right.params]);
}

/** The same truth value with NULL as false, as one expression that SQLite's planner does not take apart. */
export function opaque(condition: Fragment): Fragment {
  return sql`(${condition} IS TRUE)`;
}
