/** From query text to the read a worker executes. */
import { native } from '../../src/native/addon.js';
import { QueryError } from '../../src/query/errors.js';
import { parseQuery } from '../../src/query/parser.js';
import { planEvents, unsupportedReason } from '../../src/query/plan.js';
import { translateEvents } from '../../src/query/sql.js';
import { translateLogs } from '../../src/query/sqlLogs.js';
import { translateMetric } from '../../src/query/sqlMetric.js';
import type { ParsedQuery } from './session.js';

/**
 * Parses the text. The clock is read when the plan is made, once for the whole query (QL-12).
 * @throws QueryError
 */
export function interpret(text: string): ParsedQuery {
  const query = parseQuery(text);
  return {
    plan: () => {
      const now = native.realtimeNs();
      switch (query.mode) {
        case 'EVENTS':
          return translateEvents(planEvents(query, now));
        case 'LOGS':
          return translateLogs(query, now);
        case 'METRIC':
          return translateMetric(query, now);
        case 'INDEX':
          throw new QueryError('V', 'unsupported', unsupportedReason(query) ?? query.mode);
      }
    },
  };
}
