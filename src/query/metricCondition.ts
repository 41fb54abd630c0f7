/**
 * Takes the WHERE of a METRIC query apart: what it says of a series decides which series are looked at,
 * what it says of a sample which samples are (QL-88, QL-105).
 */
import type { PlanCondition } from './plan.js';

/** Fields whose value differs from sample to sample; all others belong to the series. */
const SAMPLE_FIELDS: ReadonlySet<string> = new Set(['timestamp', 'value']);

/**
 * The condition with everything that depends on the sample taken as true: false for series that no sample
 * of which can fulfil the whole. Sound because the language has no NOT. Null = every series.
 */
export function seriesCondition(condition: PlanCondition): PlanCondition | null {
  switch (condition.kind) {
    case 'and': {
      const terms = condition.terms.map(seriesCondition).filter((term) => term !== null);
      return terms.length === 0 ? null : { kind: 'and', terms };
    }
    case 'or': {
      const terms: PlanCondition[] = [];
      for (const term of condition.terms.map(seriesCondition)) {
        if (term === null) return null;
        terms.push(term);
      }
      return { kind: 'or', terms };
    }
    default:
      return dependsOnSample(condition) ? null : condition;
  }
}

/** What is left to ask of the samples of the series that remain; null = nothing. */
export function sampleCondition(condition: PlanCondition): PlanCondition | null {
  if (!dependsOnSample(condition)) return null;
  if (condition.kind !== 'and') return condition;
  return { kind: 'and', terms: condition.terms.map(sampleCondition).filter((term) => term !== null) };
}

function dependsOnSample(condition: PlanCondition): boolean {
  if (condition.kind === 'and' || condition.kind === 'or') return condition.terms.some(dependsOnSample);
  return !('field' in condition) || SAMPLE_FIELDS.has(condition.field.name);
}
