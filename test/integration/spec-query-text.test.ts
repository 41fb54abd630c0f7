/** The text of queries, from literals to clauses, over the query socket (06, parts 1 to 5). */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { writeShard } from '../fixtures/eventShards.js';
import { ago, NOW, type Shown, type TaggedEvent } from '../fixtures/exampleStores.js';
import { askAll, type Example, error, events, parseError, records } from '../fixtures/exampleTable.js';
import { makeStore, startService } from '../fixtures/queryService.js';
import { ask, connectRaw, readAnswer } from '../fixtures/rawQueryClient.js';

const P = error('parse error:', /character \d+/);

/** Texts that the language knows nothing about; numbers are positions the rejection must name. */
const REJECTED: readonly (readonly [ids: string, ...queries: readonly (string | readonly [string, number])[]])[] = [
  ['[QL-1]', '', '   ', 'EVENT', '"EVENTS"', ['SELECT a', 1], 'METRICS cpu', '-- only a comment'],
  [
    '[QL-5]',
    ['EVENTS SINCE 1h ago SINCE 2h ago', 21],
    ['EVENTS UNTIL today UNTIL today', 20],
    ['EVENTS TAKE 1 TAKE 1', 15],
    ['EVENTS SKIP 1 SKIP 1', 15],
    ['EVENTS SORT a SORT b', 15],
    ['LOGS FROM a FROM a', 13],
    ['EVENTS COUNT COUNT', 14],
    ['METRIC a AVG MIN', 14],
    ['METRIC a SINCE 1h ago AVG_OVER 1m MIN_OVER 1m', 35],
  ],
  ['[QL-6]', 'EVENTS RATE', 'EVENTS from', 'EVENTS Containing', 'EVENTS p95', 'EVENTS avg_over'],
  ['[QL-9]', ['EVENTS TAKE 5;', 14], 'EVENTS WHERE a == 1)', 'EVENTS WHERE (a == 1', 'EVENTS a b'],
  ['[QL-9]', `EVENTS WHERE ${'('.repeat(65)}a == 1${')'.repeat(65)}`],
  [
    '[QL-12]',
    'EVENTS SINCE 1 h ago',
    'EVENTS SINCE 1.5h ago',
    'EVENTS SINCE 1w ago',
    'EVENTS SINCE now',
    'EVENTS SINCE 2026-02-29',
    'EVENTS SINCE 2026-13-01',
    'EVENTS SINCE 2026-05-01T24:00:00',
    'EVENTS SINCE 2026-05-01T10:00:60',
    'EVENTS SINCE 2026-05-01T10:00:00.5',
    'EVENTS SINCE 2026-05-01T10:00:00+01:00',
    'EVENTS SINCE 2026-05-01T10:00',
  ],
  ['[QL-13]', ['EVENTS SINCE 1777593600000000000', 14], 'EVENTS UNTIL "2026-05-01"'],
  [
    '[QL-14]',
    ['EVENTS WHERE a == 18446744073709551616', 19],
    'EVENTS WHERE a == -9223372036854775809',
    'EVENTS WHERE a == -0x10',
    'EVENTS WHERE a == 0x',
    'EVENTS WHERE a == 0x10000000000000000',
    'EVENTS TAKE -1',
    'EVENTS TAKE 1.0',
    'EVENTS SKIP 9223372036854775808',
    'EVENTS TOP -1 BY a',
  ],
  ['[QL-15]', 'EVENTS WHERE a == .5', 'EVENTS WHERE a == 1.', 'EVENTS WHERE a == 1e', 'EVENTS WHERE a == +1'],
  [
    '[QL-16]',
    String.raw`EVENTS WHERE a == "\x41"`,
    String.raw`EVENTS WHERE a == "\ud83d"`,
    String.raw`EVENTS WHERE a == "\ude00\ud83d"`,
    String.raw`EVENTS WHERE a == "\u12"`,
    'EVENTS WHERE a == "open',
    "EVENTS WHERE a == 'x'",
  ],
  [
    '[QL-17] [QL-33]',
    'EVENTS WHERE boot_id == "{550e8400-e29b-41d4-a716-446655440000"',
    'EVENTS WHERE boot_id == "550e8400e29b41d4a716446655440000"',
    'EVENTS WHERE boot_id IN ("550e8400-e29b-41d4-a716-446655440000", "x")',
    'LOGS WHERE boot_id == ""',
  ],
  ['[QL-19]', 'EVENTS WHERE a == NULL', 'EVENTS WHERE a IN (NULL)', 'EVENTS WHERE a != null', 'EVENTS WHERE a IS TRUE'],
  ['[QL-22]', 'EVENTS WHERE NOT a == 1', 'EVENTS WHERE a NOT IN (1)', 'EVENTS WHERE a == 1 OR', 'EVENTS WHERE'],
  [
    '[QL-24] [QL-33]',
    'EVENTS WHERE cpu_id == "3"',
    'EVENTS WHERE cpu_id CONTAINS "3"',
    'EVENTS WHERE sequence == true',
    'EVENTS WHERE event_type == 5',
    'EVENTS WHERE event_type > "a"',
    'EVENTS WHERE event_type IN ("a", 1)',
    'EVENTS WHERE boot_id > "550e8400-e29b-41d4-a716-446655440000"',
    'EVENTS WHERE timestamp == "2026-05-01"',
    'EVENTS WHERE timestamp STARTS_WITH "1"',
    'LOGS WHERE message == 5',
    'LOGS WHERE origin >= "a"',
    'METRIC a[] WHERE value == "5"',
    'METRIC a[] WHERE value STARTS_WITH "5"',
    'METRIC a[] WHERE core == 0',
    'METRIC a[] WHERE core > "1"',
    'METRIC a[] WHERE name == 1',
    'METRIC a[] WHERE type == true',
  ],
  [
    '[QL-25]',
    'LOGS WHERE is_error > 0',
    'LOGS WHERE is_error == "true"',
    'LOGS WHERE is_error CONTAINS "1"',
    'LOGS WHERE is_error >= false',
  ],
  ['[QL-27]', 'EVENTS WHERE a IN ()', 'EVENTS WHERE a IN (1,)', 'EVENTS WHERE a IN (,1)', 'EVENTS SELECT a,'],
  ['[QL-61]', 'EVENTS WHERE origin_class == peinit', 'EVENTS WHERE a == kacs', 'EVENTS WHERE origin_class CONTAINS "k"'],
  ['[QL-88]', 'METRIC a[] WHERE type == summary', 'METRIC a[] WHERE core == counter'],
  ['[QL-42]', 'LOGS SELECT payload', 'LOGS SORT cpu_id', 'LOGS COUNT BY level', 'LOGS WHERE origin.name == "a"'],
  ['[QL-80]', 'LOGS FROM a*', 'LOGS FROM', 'LOGS FROM a,'],
  ['[QL-65]', 'EVENTS COUNT BY a, b', 'EVENTS GROUP a COUNT SUM b', 'EVENTS TOP BY a', 'EVENTS GROUP a TAKE 1 COUNT'],
  [
    '[QL-68]',
    'EVENTS COUNT BY a SORT b',
    'EVENTS COUNT BY a SELECT b',
    'EVENTS GROUP a SUM b SORT b',
    'EVENTS GROUP a SUM b SORT count',
    'EVENTS COUNT BY count',
    'EVENTS GROUP sum SUM b',
    'EVENTS DISTINCT a SORT count',
  ],
  ['[QL-75]', 'EVENTS x INDEX a', 'EVENTS INDEX a STREAM', 'EVENTS INDEX a SINCE 1h ago', 'EVENTS INDEX', 'EVENTS INDEX a, b'],
  [
    '[QL-84] [QL-111]',
    'METRIC a[core > "1"]',
    'METRIC a[core == 1]',
    'METRIC a[core IN ()]',
    'METRIC a[core="1",]',
    'METRIC a[core="1"',
    'EVENTS SINCE 1h ago WHERE METRIC a STARTS_WITH "1"',
    'EVENTS SINCE 1h ago WHERE METRIC a == "1"',
    'EVENTS SINCE 1h ago WHERE METRIC a IS NULL',
    'EVENTS SINCE 1h ago WHERE METRIC a AVG > 1',
  ],
  ['[QL-108]', 'METRIC a SINCE 1h ago AVG_OVER 0s', 'METRIC a SINCE 1h ago AVG_OVER 10', 'METRIC a SINCE 1h ago AVG_OVER'],
  [
    '[QL-115] [QL-116]',
    'EVENTS SINCE 1h ago WHERE LOG a',
    'EVENTS SINCE 1h ago WHERE LOG a* EXISTS',
    'LOGS SINCE 1h ago WHERE EVENT EXISTS',
    'EVENTS WHERE LOG a EXISTS',
    'EVENTS WHERE timestamp > 1h ago AND METRIC a > 1',
    'METRIC a WHERE EVENT x EXISTS UNTIL today',
  ],
];

test('what the language does not know is refused, with the place', async (t) => {
  for (const [ids, ...queries] of REJECTED) {
    const rows = queries.map((each): Example => {
      const [query, at] = typeof each === 'string' ? [each, null] : each;
      return [`${ids} refused`, query, at === null ? P : parseError(at)];
    });
    await t.test(`${ids} is refused`, (inner) => askAll(inner, {}, rows));
  }
});
