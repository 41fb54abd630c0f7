/** The examples of the query language (06, section 12), all of them, over the query socket. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { CommitFeed } from '../../src/stores/commitFeed.js';
import { EventdWorld, eventually } from '../fixtures/eventd.js';
import { EventdRecords, gauge, line } from '../fixtures/eventdRecords.js';
import { askExactly, type ExactRecord } from '../fixtures/exactRecords.js';
import {
  DATES,
  FIELDS,
  GROUPS,
  PROCESSES,
  TYPES,
  TYPES_NEWEST_FIRST as UP_TO_NOW,
} from '../fixtures/exampleEvents.js';
import { FIELD_EXAMPLES } from '../fixtures/exampleMeanings.js';
import { CROSS_EVENTS, CROSS_LOGS, CROSS_SERIES, LOGS, METRICS } from '../fixtures/exampleRecords.js';
import { ago, NOW, SECOND, windowOf } from '../fixtures/exampleStores.js';
import { askAll, type Example, error, events, logs, parseError, records } from '../fixtures/exampleTable.js';
import { makeStore, startService } from '../fixtures/queryService.js';
import { LiveShard, StreamClient } from '../fixtures/streams.js';

const ON_TYPES: readonly Example[] = [
  ['[QL-50] [QL-51] [QL-54] [QL-70] [QL-71] [QL-78] example 1', 'EVENTS', events(...UP_TO_NOW)],
  [
    '[QL-60] [QL-20] example 2',
    'EVENTS kacs.*',
    events('denied', 'suffix', 'audit', 'dot', 'aDenied', 'ab', 'qmark', 'abDenied'),
  ],
  ['[QL-60] [QL-77] example 3', 'EVENTS kacs.*.denied', events('aDenied', 'abDenied')],
  ['[QL-60] [QL-53] example 4', 'EVENTS kacs.a? TAKE 1', events('qmark')],
  ['[QL-3] [WIRE-20] example 5', 'EVENTS SINCE 1h ago kacs.*', parseError(21)],
  ['[QL-10] [WIRE-20] example 7', 'EVENTS SINCE 1h', parseError(16, /ago.*hence/)],
  ['[QL-10] [QL-51] example 8', 'EVENTS UNTIL 1h hence', events('soon', ...UP_TO_NOW)],
  [
    '[QL-4] [QL-62] example 22',
    'EVENTS SELECT timestamp SELECT event_type',
    ({ events }) =>
      events(...UP_TO_NOW).map(({ timestamp = null, event_type = null }) => ({ timestamp, event_type })),
  ],
  ['[QL-65] [WIRE-20] example 27', 'EVENTS GROUP event_type', parseError(24)],
  ['[QL-65] [WIRE-20] example 29', 'EVENTS DISTINCT event_type COUNT BY cpu_id', parseError(28)],
  ['[QL-82] [QX-1] [WIRE-20] example 31', 'EVENTS CONTAINING "x"', parseError(8)],
];

const group = (event_type: string, rest: ExactRecord): ExactRecord => ({ event_type, ...rest });
const busy = (process: number, count: bigint): ExactRecord => ({
  process_guid: PROCESSES[process] ?? null,
  count,
});

const ON_GROUPS: readonly Example[] = [
  [
    '[QL-66] [QX-23] example 23',
    'EVENTS SINCE 24h ago COUNT BY event_type',
    records(
      group('proc.tick', { count: 43n }),
      group('fs.open', { count: 4n }),
      group('net.tx', { count: 2n }),
      group('FS.Open', { count: 1n }),
      group('synthetic.gap', { count: 1n }),
    ),
  ],
  [
    '[QL-53] [QL-66] [QL-67] [QL-71] [QX-23] [QX-24] example 24',
    'EVENTS TOP 10 BY process_guid SKIP 5',
    records(busy(4, 4n), busy(6, 3n), busy(7, 3n), busy(5, 3n), busy(8, 2n)),
  ],
  [
    '[QL-66] [QX-23] example 25',
    'EVENTS GROUP origin_class, event_type COUNT',
    records(
      group('proc.tick', { origin_class: 0n, count: 43n }),
      group('fs.open', { origin_class: 0n, count: 3n }),
      group('net.tx', { origin_class: 1n, count: 2n }),
      group('synthetic.gap', { origin_class: null, count: 1n }),
      group('FS.Open', { origin_class: 0n, count: 1n }),
      group('fs.open', { origin_class: 2n, count: 1n }),
      group('old.boot', { origin_class: 3n, count: 1n }),
    ),
  ],
  [
    '[QL-26] [QL-64] [QL-66] [QL-69] [QL-71] [QX-23] example 26',
    'EVENTS GROUP event_type AVG size SORT avg',
    records(
      group('FS.Open', { avg: null }),
      group('proc.tick', { avg: null }),
      group('synthetic.gap', { avg: null }),
      group('net.tx', { avg: 1.5 }),
      group('old.boot', { avg: 7 }),
      group('fs.open', { avg: 30 }),
    ),
  ],
  ['[QL-51] [QL-69] example 28', 'EVENTS COUNT', records({ count: 52n })],
];

const FIRST_TWENTY = Array.from({ length: 20 }, (_, i) => `error ${i}`);
const ERRORS = [
  'other broke',
  'hook broke',
  ...FIRST_TWENTY,
  ...[20, 21, 22, 23, 24].map((i) => `error ${i}`),
];

const ON_LOGS: readonly Example[] = [
  [
    '[QL-11] [QL-51] [QL-53] example 6',
    'EVENTS TAKE 5 SINCE 2026-05-01 UNTIL 2026-05-02',
    events('last', 'noon', 'three', 'two', 'one'),
  ],
  [
    '[QL-20] [QL-80] [QL-81] [QL-121] example 34',
    'LOGS ERROR ONLY FROM loregd, peinit TAKE 20',
    logs(...FIRST_TWENTY),
  ],
  ['[QL-25] [QL-81] example 35', 'LOGS WHERE is_error == 1', logs(...ERRORS)],
  ['[QL-42] [WIRE-20] example 36', 'LOGS WHERE level == "warn"', parseError(12)],
  ['[QL-82] example 37', 'LOGS CONTAINING "100%"', logs('at 100% now', '100%')],
  [
    '[QL-66] [QL-67] [QL-83] example 38',
    'LOGS TOP 3 BY origin SINCE 2h ago',
    records({ origin: 'loregd', count: 14n }, { origin: 'PEInit', count: 12n }, { origin: 'web', count: 6n }),
  ],
  ['[QL-110] [WIRE-20] example 39', 'LOGS WHERE LOG a EXISTS SINCE 1h ago', parseError(12)],
  ['[QL-116] example 40', 'LOGS FROM loregd WHERE METRIC mem.usage > 90', parseError(24, /SINCE/)],
  [
    '[QL-117] [QL-123] [WIRE-20] example 41',
    'LOGS SINCE 30d ago WHERE EVENT kacs.* EXISTS',
    error('range too large:', /CrossTypeMaxLookbackSeconds.*(SINCE.*UNTIL|UNTIL.*SINCE)/),
  ],
];

const memory = (host: string, at: bigint, value: number): ExactRecord => ({
  timestamp: at,
  name: 'mem.usage',
  host,
  value,
});

const ON_CROSS: readonly Example[] = [
  [
    '[QL-111] [QL-112] [QL-113] [QX-3] example 42',
    'EVENTS SINCE 1h ago WHERE METRIC cpu.usage[core="0"] > 80',
    events('late', 'justBefore80', 'middle', 'nearOther', 'atSample'),
  ],
  [
    '[QL-111] [QL-112] example 43',
    'EVENTS SINCE 1h ago WHERE METRIC cpu.usage[] > 80',
    events('onlyCore1Late', 'late', 'onlyCore1', 'justBefore80', 'middle', 'nearOther', 'atSample'),
  ],
  ['[QL-110] [WIRE-20] example 44', 'EVENTS SINCE 1h ago WHERE EVENT a EXISTS', parseError(27)],
  [
    '[QL-20] [QL-114] [QL-115] example 45',
    'EVENTS SINCE 1h ago WHERE LOG loregd CONTAINING "error" EXISTS',
    events('nearUpper', 'logEnd', 'logStart'),
  ],
  [
    '[QL-60] [QL-114] [QL-115] [QL-104] example 58',
    'METRIC mem.usage[] WHERE EVENT *.denied EXISTS SINCE 2h ago',
    records(memory('b', ago(6003), 3), memory('a', ago(5007.5), 1)),
  ],
];

const cpu = (timestamp: bigint, core: string, value: number): ExactRecord => ({
  timestamp,
  name: 'cpu.usage',
  core,
  value,
});
const disk = (timestamp: bigint, labels: ExactRecord, value: number): ExactRecord => ({
  timestamp,
  name: 'disk.usage',
  ...labels,
  value,
});
const value = (timestamp: bigint, name: string, of: number): ExactRecord => ({ timestamp, name, value: of });

const TEN_MINUTES = windowOf(ago(10_800), 600);
const FIVE_MINUTES = windowOf(ago(1800), 300);
const cores = [
  cpu(windowOf(ago(86_340), 600), '0', 40),
  cpu(windowOf(ago(25_000), 600), '1', 1),
  cpu(TEN_MINUTES, '0', 15),
  cpu(TEN_MINUTES, '1', 8),
  cpu(TEN_MINUTES + 600n * SECOND, '0', 90),
  cpu(windowOf(ago(60), 600), '0', 20),
  cpu(windowOf(ago(50), 600), '1', 60),
];

const ON_METRICS: readonly Example[] = [
  [
    '[QL-86] [QL-87] [QL-91] [QL-99] [QL-109] example 46',
    'METRIC cpu.usage',
    records(value(ago(50), 'cpu.usage', 40)),
  ],
  [
    '[QL-86] [QL-91] [QL-104] [WIRE-10] example 47',
    'METRIC cpu.usage[]',
    records(cpu(ago(60), '0', 20), cpu(ago(50), '1', 60)),
  ],
  [
    '[QL-20] [QL-84] [QL-86] example 48',
    'METRIC disk.usage[device STARTS_WITH "sd"]',
    records(disk(ago(50), { device: 'SDB', host: 'z' }, 2), disk(ago(40), { device: 'sda' }, 1)),
  ],
  ['[QL-84] [WIRE-20] example 49', 'METRIC cpu.usage[core=0]', parseError(23)],
  [
    '[QL-96] [QL-109] example 50',
    'METRIC cpu.usage[core="1"] MIN SINCE 6h ago',
    records(cpu(ago(50), '1', 8)),
  ],
  ['[QL-107] [WIRE-20] example 51', 'METRIC cpu.usage AVG_OVER 1h', parseError(18, /SINCE/)],
  ['[QL-98] [QL-108] [ROL-4] example 52', 'METRIC cpu.usage[] AVG_OVER 10m SINCE 1d ago', records(...cores)],
  [
    '[QL-90] [QL-95] [QL-97] [QL-98] example 53',
    'METRIC req.duration P95 SINCE 1h ago AVG_OVER 5m',
    records(
      value(FIVE_MINUTES, 'req.duration', (0.75 + 0.48) / 2),
      value(FIVE_MINUTES + 300n * SECOND, 'req.duration', (1 + (1 + 0.095) / 2) / 2),
    ),
  ],
  [
    '[QL-93] [QL-94] [QL-97] [QL-109] example 54',
    'METRIC http.requests.total RATE',
    records(value(ago(10), 'http.requests.total', (40 / 60 + 1) / 2)),
  ],
  [
    '[QL-92] [WIRE-20] example 55',
    'METRIC cpu.usage SINCE 1h ago RATE',
    error('type error:', /(RATE.*cpu\.usage|cpu\.usage.*RATE)/),
  ],
  [
    '[QL-87] [QL-88] [QL-93] [QL-97] [QL-104] [QL-105] example 56',
    'METRIC http.* WHERE type == counter SINCE 1h ago DELTA',
    records(
      value(ago(80), 'HTTP.Extra', 2),
      value(ago(70), 'http.requests.total', 60),
      value(ago(30), 'http.errors.total', 3),
      value(ago(20), 'http.requests.total', 40),
      value(ago(10), 'http.requests.total', 30),
    ),
  ],
  ['[QL-89] [STR-1] [WIRE-20] example 57', 'METRIC cpu.usage STREAM', parseError(18)],
  ['[QL-89] [WIRE-20] example 59', 'METRIC cpu.usage COUNT BY core', parseError(18)],
];

test('examples 1 to 5, 7, 8, 22, 27, 29, 31: types, times and clauses', (t) =>
  askAll(t, { events: TYPES }, ON_TYPES));

test('[QL-17] [QL-18] [QL-20] [QL-23] [QL-31] [QL-40] [QL-45] [QL-46] [QL-47] [QL-61] examples 9 to 21: predicates', (t) =>
  askAll(t, { events: FIELDS }, FIELD_EXAMPLES));

test('examples 32 and 33: streams', async (t) => {
  const store = makeStore(t);
  const commits = CommitFeed.allocate();
  const shard = new LiveShard(t, store.directory, 0, commits);
  const other = new LiveShard(t, store.directory, 1, commits);
  const row = (tag: string, type: string, at: bigint) => ({ type, timestamp: at, payload: { tag } });
  shard.commit([row('old', 'kacs.a', ago(9_000_000)), row('no', 'kacs', ago(60))]);
  other.commit([row('new', 'KACS.b', ago(50)), row('no', 'fs.open', ago(40))]);
  await startService(t, store, { commits });
  const begin = (query: string) => StreamClient.begun(t, store.socketPath, query);
  const whole = await begin('EVENTS kacs.* STREAM');
  const live = await begin('EVENTS kacs.* STREAM TAKE 0');
  await whole.has(2);
  shard.commit([row('live', 'kacs.c', NOW + 60n * SECOND), row('no', 'kacs_c', NOW)]);
  await whole.has(3);
  other.commit([row('no', 'x.kacs.c', NOW), row('live too', 'Kacs.D', ago(3600))]);
  for (const [title, client, expected] of [
    ['[STR-2] [STR-7] [QL-52] example 32: the whole history, then live records', whole, ['new', 'old']],
    ['[STR-4] [STR-7] [QL-53] example 33: only live records', live, []],
  ] as const) {
    await t.test(title, async () => {
      await client.has(expected.length + 2);
      assert.deepEqual(client.values('tag'), [...expected, 'live', 'live too']);
      assert.ok(client.messages.every(({ status }) => status === 'ok'));
      assert.equal(client.closed, false);
    });
  }
});

test('examples 6 and 34 to 41: a day, and logs', (t) => askAll(t, { events: DATES, logs: LOGS }, ON_LOGS));

test('examples 42 to 45 and 58: cross-type filters', (t) =>
  askAll(t, { events: CROSS_EVENTS, logs: CROSS_LOGS, series: CROSS_SERIES }, ON_CROSS));

test('examples 23 to 26, 28, 46 to 57 and 59: aggregations and metrics', (t) =>
  askAll(t, { events: GROUPS, series: METRICS }, [...ON_GROUPS, ...ON_METRICS]));

test('[QL-72] [QL-75] [WIRE-7] example 30: EVENTS INDEX target_sid', async (t) => {
  const world = EventdWorld.for(t);
  await world.start();
  const path = world.paths.querySocket;
  assert.deepEqual(await askExactly(path, 'EVENTS INDEX target_sid'), []);
  await t.test(
    '[WIRE-13] [LOG-31] one socket serves all modes, and a log commit is told to streams',
    async (inner) => {
      const sender = new EventdRecords(world);
      const stream = await StreamClient.begun(inner, path, 'LOGS TAKE 0 STREAM FROM svc');
      world.emit(0, 'one.event');
      await sender.send('log', line('one line', { origin: 'svc' }));
      await sender.send('metric', gauge('one.gauge', 7));
      await stream.has(1);
      assert.deepEqual(stream.values('message'), ['one line']);
      const shown = {
        'EVENTS one.* SELECT event_type': 'one.event',
        'LOGS FROM svc SELECT message': 'one line',
        'METRIC one.gauge SELECT value': 7,
      };
      for (const [query, expected] of Object.entries(shown)) {
        await eventually(query, async () => (await askExactly(path, query)).length > 0);
        assert.deepEqual(
          (await askExactly(path, query)).map((record) => Object.values(record)),
          [[expected]],
          query,
        );
      }
    },
  );
});
