/** From query text to the job a worker executes. */
import { native } from '../../src/native/addon.js';
import { type CrossSettings, crossFilters, crossTrackedFields, withRanges } from '../../src/query/crossFilter.js';
import { parseQuery } from '../../src/query/parser.js';
import { planEvents } from '../../src/query/plan.js';
import { eventsTail, logsTail } from '../../src/query/predicateProgram.js';
import { eventsJob } from '../../src/query/sql.js';
import { logsJob } from '../../src/query/sqlLogs.js';
import { metricJob } from '../../src/query/sqlMetric.js';
import type { ParsedQuery } from './session.js';

/**
 * Parses the text. The clock is read when the plan is made, once for the whole query (QL-12).
 * @throws QueryError
 */
export function interpret(text: string, settings: CrossSettings): ParsedQuery {
  const query = parseQuery(text);
  if (query.mode === 'INDEX') return { kind: 'index', field: query.field.name };
  return {
    kind: 'read',
    plan: () => {
      const now = native.realtimeNs();
      const cross = crossFilters(query, now, settings);
      switch (query.mode) {
        case 'EVENTS': {
          const plan = planEvents(query, now, cross);
          return {
            job: withRanges(eventsJob(query, plan), cross),
            tail: query.stream ? eventsTail(query, now) : null,
            trackedFields: plan.trackedFields,
          };
        }
        case 'LOGS':
          return {
            job: withRanges(logsJob(query, now, cross), cross),
            tail: query.stream ? logsTail(query, now) : null,
            trackedFields: crossTrackedFields(query.where),
          };
        case 'METRIC':
          return {
            job: withRanges(metricJob(query, now, cross), cross),
            tail: null,
            trackedFields: crossTrackedFields(query.where),
          };
      }
    },
  };
}
