/**
 * The query service over finished stores, in a process of its own, as eventd runs it: `server.js STORE LOGS
 * METRICS SOCKET`. Prints a line when it serves; ends when its input does.
 */
import { QueryService } from '../../actors/query/service.js';
import { LIMITS } from '../../test/fixtures/queryService.js';

const [eventStorePath, logStorePath, metricStorePath, socketPath] = process.argv.slice(2);
if (
  eventStorePath === undefined ||
  logStorePath === undefined ||
  metricStorePath === undefined ||
  socketPath === undefined
)
  throw new TypeError('usage: server.js STORE LOGS METRICS SOCKET');
const service = await QueryService.start({
  socketPath,
  eventStorePath,
  logStorePath,
  metricStorePath,
  limits: { ...LIMITS, queryTimeoutMs: 3_600_000 },
  logger: { info: () => {}, warn: console.error, error: console.error },
});
service.accept();
console.log('serving');
process.stdin.on('end', () => void service.stop().then(() => process.exit())).resume();
