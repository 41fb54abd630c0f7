/** From query text to the job a worker executes. */
import type { AccessSession } from '../../src/access/accessSession.js';
import { native } from '../../src/native/addon.js';
import {
  type CrossSettings,
  crossFilters,
  crossTrackedFields,
  withRanges,
} from '../../src/query/crossFilter.js';
import { QueryError } from '../../src/query/errors.js';
import type { QueryJob } from '../../src/query/job.js';
import { parseQuery } from '../../src/query/parser.js';
import { planEvents } from '../../src/query/plan.js';
import {
  eventsTail,
  logsTail,
  type TailAccess,
  type TailProgram,
  UNRESTRICTED,
} from '../../src/query/predicateProgram.js';
import { eventsJob } from '../../src/query/sql.js';
import { logsJob } from '../../src/query/sqlLogs.js';
import { metricJob } from '../../src/query/sqlMetric.js';
import type { Found } from '../../src/query/survey.js';
import { recordedPair } from '../../src/rollups/pairs.js';
import { type Ask, QueryReader, type ReadQuery } from './readAccess.js';

/** A syntax tree, ready to be checked against clock, settings and caller. */
export type ParsedQuery =
  | {
      readonly kind: 'read';
      /** @throws QueryError class V, or X where the caller may not ask that (QX-6) */
      plan(session: AccessSession, ask: Ask): Promise<PlannedQuery>;
    }
  /** EVENTS INDEX, which reads nothing (QL-72). */
  | { readonly kind: 'index'; readonly field: string };

export interface PlannedQuery {
  readonly job: QueryJob;
  /** What a STREAM looks for in later commits; null for every other query. */
  readonly tail: PlannedTail | null;
  /** What it counts for in the index policy, each field once (QX-40, QX-42). */
  readonly trackedFields: readonly string[];
  /** Key of the rollups it counts for (QX-53); absent where it counts for none. */
  readonly rollup?: string | null;
}

export interface PlannedTail {
  readonly program: TailProgram;
  /** The program anew, after descriptors changed or with names and fields nobody has decided about (STR-13). */
  again(news: Found): Promise<TailProgram>;
}

/**
 * Parses the text. The clock is read when the plan is made, once for the whole query (QL-12).
 * @throws QueryError class P
 */
export function interpret(text: string, settings: CrossSettings): ParsedQuery {
  const query = parseQuery(text);
  if (query.mode === 'INDEX') return { kind: 'index', field: query.field.name };
  return { kind: 'read', plan: (session, ask) => planRead(query, settings, session, ask) };
}

/**
 * The job of a query whose caller may read everything: how eventd would go about it.
 * @throws QueryError class P or V
 */
export function unrestrictedJob(text: string, settings: CrossSettings): QueryJob {
  const query = parseQuery(text);
  if (query.mode === 'INDEX') throw new QueryError('V', 'unsupported', 'EVENTS INDEX reads nothing');
  return readOf(query, native.realtimeNs(), settings, UNRESTRICTED).job;
}

async function planRead(
  query: ReadQuery,
  settings: CrossSettings,
  session: AccessSession,
  ask: Ask,
): Promise<PlannedQuery> {
  const now = native.realtimeNs();
  // What is wrong with the query itself is told before anybody is asked.
  crossFilters(query, now, settings);
  const reader = new QueryReader(session, query, now, ask);
  const access = await reader.decide();
  const tailOf = tailMaker(query, now);
  return {
    ...readOf(query, now, settings, access),
    tail:
      tailOf === null
        ? null
        : { program: tailOf(access), again: async (news) => tailOf(await reader.decideAgain(news)) },
  };
}

function readOf(
  query: ReadQuery,
  now: bigint,
  settings: CrossSettings,
  access: TailAccess,
): Pick<PlannedQuery, 'job' | 'trackedFields' | 'rollup'> {
  const cross = crossFilters(query, now, settings, access.readable);
  switch (query.mode) {
    case 'EVENTS': {
      const plan = planEvents(query, now, cross);
      return { job: withRanges(eventsJob(query, plan, access), cross), trackedFields: plan.trackedFields };
    }
    case 'LOGS':
      return {
        job: withRanges(logsJob(query, now, cross, access), cross),
        trackedFields: crossTrackedFields(query.where),
      };
    case 'METRIC':
      return {
        job: withRanges(metricJob(query, now, cross, access), cross),
        trackedFields: crossTrackedFields(query.where),
        rollup: recordedPair(query),
      };
  }
}

function tailMaker(query: ReadQuery, now: bigint): ((access: TailAccess) => TailProgram) | null {
  if (query.mode === 'METRIC' || !query.stream) return null;
  return query.mode === 'EVENTS'
    ? (access) => eventsTail(query, now, access)
    : (access) => logsTail(query, now, access);
}
