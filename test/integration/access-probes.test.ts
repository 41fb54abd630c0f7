/**
 * What somebody tries who wants to learn of records, names, types or fields that are hidden: through the
 * text of errors, the borders of messages, paging, aggregates, time ranges and streams. Every answer is the
 * one that stores without them would give.
 */
import assert from 'node:assert/strict';
import { type TestContext, test } from 'node:test';
import { EmbeddedCaller } from '../../src/access/embeddedCaller.js';
import { fieldGuid } from '../../src/access/fieldGuid.js';
import { formatPlainGuid } from '../../src/host/guid.js';
import { CommitFeed } from '../../src/stores/commitFeed.js';
import { FakeSecurity, patternsOf, tokenOf, userToken } from '../fixtures/access.js';
import type { EventRow } from '../fixtures/eventShards.js';
import { histogram, series, write as writeMetrics } from '../fixtures/metricService.js';
import { makeStore, startService } from '../fixtures/queryService.js';
import { ask, eventually } from '../fixtures/rawQueryClient.js';
import { LiveLogs, LiveShard, StreamClient } from '../fixtures/streams.js';

const guid = (name: string) => formatPlainGuid(fieldGuid(name));
const SYSTEM = 'O:SYG:SYD:(A;;0x1;;;SY)';
const OPEN = `${SYSTEM}(A;;0x1;;;AU)`;
const without = (...names: string[]) =>
  `${SYSTEM}${names.map((name) => `(OD;;0x1;${guid(name)};;AU)`).join('')}(A;;0x1;;;AU)`;

const SECRET = 'x'.repeat(20_000);
const AT = 1_700_000_000n;
const ALWAYS = 'SINCE 2023-11-14T00:00:00 UNTIL 2023-11-16T00:00:00';

/** The same history twice: with everything, and as it is for who does not know of what is hidden. */
function history(isWhole: boolean) {
  const events: EventRow[] = [];
  for (let n = 0; n < 60; n++) {
    const timestamp = (AT + BigInt(n)) * 1_000_000_000n;
    const payload = { n, ...(isWhole ? { secret: SECRET, deep: { secret: n } } : {}) };
    events.push({ timestamp, type: 'hush', sequence: BigInt(n), payload });
    if (isWhole)
      events.push({ timestamp: timestamp + 1n, type: `closed.${n}`, payload: { n: 'text', only: n } });
    events.push({ timestamp: timestamp + 2n, type: 'open', sequence: BigInt(n), payload: { n } });
  }
  const line = (n: number, origin: string) => ({
    timestamp: (AT + BigInt(n)) * 1_000_000_000n,
    origin,
    message: `line ${n}`,
  });
  const lines = Array.from({ length: 20 }, (_, n) => n).flatMap((n) =>
    isWhole ? [line(n, 'app'), line(n, 'closed')] : [line(n, 'app')],
  );
  const samples = [0, 10, 20, 30].map((n) => [Number(AT) + n, n] as const);
  const metrics = [series('cpu', { core: '0' }, 1, samples)];
  if (isWhole) {
    const value = histogram([1, 2], [1, 1], 2);
    metrics.push(
      series('closed.h', { core: '0' }, 2, [[Number(AT), value]]),
      series('closed.c', { core: '0' }, 0, samples),
      // Only parts of these are hidden, and what is left must not tell of them.
      series('part.name', { core: '0' }, 2, [[Number(AT), value]]),
      series('part.type', { core: '0' }, 2, [[Number(AT), value]]),
    );
  }
  return { events, lines, metrics };
}

async function serve(t: TestContext, isWhole: boolean) {
  const store = makeStore(t);
  const commits = CommitFeed.allocate();
  const shard = new LiveShard(t, store.directory, 0, commits);
  const logs = new LiveLogs(t, store.directory, commits);
  const { events, lines, metrics } = history(isWhole);
  shard.commit(events);
  logs.commit(lines);
  writeMetrics(store, metrics);
  const security = new FakeSecurity();
  for (const type of ['Events', 'Logs', 'Metrics']) {
    security.set(`${type}\\*`, OPEN);
    security.set(`${type}\\closed`, SYSTEM);
  }
  security.set('Events\\hush', without('secret', 'deep'));
  security.set('Metrics\\part.name', without('name'));
  security.set('Metrics\\part.type', without('type'));
  const token = isWhole ? userToken() : tokenOf('SY', []);
  await startService(t, store, {
    commits,
    patterns: await patternsOf(security),
    callers: () => new EmbeddedCaller(token, null),
  });
  return { path: store.socketPath, shard, logs };
}

const PROBES = [
  // Borders of messages, and pages.
  'EVENTS',
  'EVENTS hush SELECT n, timestamp',
  'EVENTS SKIP 100',
  'EVENTS TAKE 7 SKIP 55',
  'EVENTS SORT n, event_type TAKE 50',
  // Names that are there and names that are not.
  'EVENTS closed.1',
  'EVENTS closed.*',
  'EVENTS *.1 COUNT',
  'EVENTS COUNT',
  'EVENTS COUNT BY event_type',
  'EVENTS TOP 3 BY event_type',
  'EVENTS DISTINCT event_type',
  // Sums over what is text elsewhere, fields that only hidden records have.
  'EVENTS SUM n',
  'EVENTS DISTINCT only',
  'EVENTS GROUP n MAX only',
  'EVENTS WHERE only IS NOT NULL',
  'EVENTS WHERE secret STARTS_WITH "x"',
  'EVENTS WHERE deep.secret > 3 OR n == 3',
  'EVENTS WHERE deep IS NULL COUNT',
  'EVENTS WHERE NOT secret == "x"',
  // Mistakes near hidden names.
  'EVENTS closd.1 WHERE secrt = 1',
  'EVENTS SORT',
  'EVENTS COUNT BY n SORT secret',
  // Logs.
  'LOGS FROM closed',
  'LOGS CONTAINING "line" TAKE 7 SKIP 7',
  'LOGS COUNT BY origin',
  'LOGS WHERE origin STARTS_WITH "c"',
  `LOGS ${ALWAYS} WHERE EVENT closed.* EXISTS`,
  `LOGS ${ALWAYS} WHERE METRIC closed.h > 1`,
  `LOGS ${ALWAYS} WHERE METRIC *[] > 1`,
  `LOGS ${ALWAYS} WHERE METRIC part.*[] > 1`,
  `LOGS ${ALWAYS} WHERE METRIC closed.c > 1 OR EVENT hush EXISTS`,
  // Types of hidden series make refusals.
  'METRIC closed.h',
  'METRIC closed.*[]',
  'METRIC cpu',
  `METRIC * ${ALWAYS} AVG`,
  `METRIC * ${ALWAYS} RATE`,
  `METRIC * ${ALWAYS} P95`,
  `METRIC c*[core="0"] ${ALWAYS} AVG_OVER 10s`,
  `METRIC * ${ALWAYS} MAX_OVER 10s`,
  `METRIC part.* ${ALWAYS} AVG`,
  `EVENTS ${ALWAYS} WHERE METRIC closed.c > 1 COUNT`,
  `EVENTS ${ALWAYS} WHERE LOG closed EXISTS COUNT`,
  `EVENTS ${ALWAYS} WHERE LOG closed CONTAINING "line" EXISTS`,
];

test('[ACL-31] [ACL-32] [ACL-36] [ACL-37] [ACL-39] [ACL-51] [ACL-52] [WIRE-21] nothing tells of what is hidden', async (t) => {
  const whole = await serve(t, true);
  const rest = await serve(t, false);
  let answered = 0;
  for (const probe of PROBES) {
    const answer = await ask(whole.path, probe);
    const expected = await ask(rest.path, probe);
    assert.deepEqual(answer.messages, expected.messages, probe);
    if (answer.error === null) answered++;
  }
  assert.ok(answered > 30, `${answered} answered`);

  // Streams: what is hidden makes no message, not even an empty one.
  const queries = ['EVENTS TAKE 0 SELECT n, event_type STREAM', 'LOGS TAKE 0 SELECT message STREAM'];
  const open = (path: string) => Promise.all(queries.map((query) => StreamClient.begun(t, path, query)));
  const clients = [await open(whole.path), await open(rest.path)];
  for (const [{ shard, logs }, [events, lines], isWhole] of [
    [whole, clients[0] ?? [], true],
    [rest, clients[1] ?? [], false],
  ] as const) {
    for (let n = 1; n <= 6; n++) {
      const timestamp = (AT + 100n + BigInt(n)) * 1_000_000_000n;
      const secret = isWhole ? { secret: n } : {};
      const hidden = isWhole ? [{ timestamp, type: `closed.new.${n}`, payload: { n } }] : [];
      if (isWhole) shard.commit(hidden);
      shard.commit([...hidden, { timestamp, type: 'hush', payload: { n, ...secret } }, ...hidden]);
      if (isWhole) logs.commit([{ timestamp, origin: `closed.${n}`, message: 'hidden' }]);
      logs.commit([{ timestamp, origin: 'app', message: String(n) }]);
      await eventually('both records', () => events?.records.length === n && lines?.records.length === n);
    }
  }
  const [seen, expected] = clients.map((both) => both.map(({ messages }) => messages));
  assert.deepEqual(seen, expected);
});
