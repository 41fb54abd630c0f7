/** The text of queries, from literals to clauses, over the query socket (06, parts 1 to 5). */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { writeShard } from '../fixtures/eventShards.js';
import { MEANT, MEANT_EVENTS } from '../fixtures/exampleMeanings.js';
import { NOW } from '../fixtures/exampleStores.js';
import { askAll, type Example, error, parseError } from '../fixtures/exampleTable.js';
import { makeStore, startService } from '../fixtures/queryService.js';
import { ask, connectRaw, readAnswer } from '../fixtures/rawQueryClient.js';

const P = error('parse error:', /character \d+/);

/** Texts that the language knows nothing about; numbers are positions the rejection must name. */
const REJECTED: readonly (readonly [
  ids: string,
  ...queries: readonly (string | readonly [string, number])[],
])[] = [
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
  [
    '[QL-19]',
    'EVENTS WHERE a == NULL',
    'EVENTS WHERE a IN (NULL)',
    'EVENTS WHERE a != null',
    'EVENTS WHERE a IS TRUE',
  ],
  [
    '[QL-22]',
    'EVENTS WHERE NOT a == 1',
    'EVENTS WHERE a NOT IN (1)',
    'EVENTS WHERE a == 1 OR',
    'EVENTS WHERE',
  ],
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
  [
    '[QL-61]',
    'EVENTS WHERE origin_class == peinit',
    'EVENTS WHERE a == kacs',
    'EVENTS WHERE origin_class CONTAINS "k"',
  ],
  ['[QL-88]', 'METRIC a[] WHERE type == summary', 'METRIC a[] WHERE core == counter'],
  [
    '[QL-42]',
    'LOGS SELECT payload',
    'LOGS SORT cpu_id',
    'LOGS COUNT BY level',
    'LOGS WHERE origin.name == "a"',
  ],
  ['[QL-80]', 'LOGS FROM a*', 'LOGS FROM', 'LOGS FROM a,'],
  [
    '[QL-65]',
    'EVENTS COUNT BY a, b',
    'EVENTS GROUP a COUNT SUM b',
    'EVENTS TOP BY a',
    'EVENTS GROUP a TAKE 1 COUNT',
  ],
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
  [
    '[QL-75]',
    'EVENTS x INDEX a',
    'EVENTS INDEX a STREAM',
    'EVENTS INDEX a SINCE 1h ago',
    'EVENTS INDEX',
    'EVENTS INDEX a, b',
  ],
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
  [
    '[QL-108]',
    'METRIC a SINCE 1h ago AVG_OVER 0s',
    'METRIC a SINCE 1h ago AVG_OVER 10',
    'METRIC a SINCE 1h ago AVG_OVER',
  ],
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

test('[QL-1] [QL-5] [QL-12] [QL-13] [QL-14] [QL-15] [QL-16] [QL-19] [QL-27] [QL-33] [QL-68] [QL-84] [QL-108] what the language does not know is refused, with the place', (t) =>
  askAll(
    t,
    {},
    REJECTED.flatMap(([ids, ...queries]) =>
      queries.map((each): Example => {
        const [query, at] = typeof each === 'string' ? [each, null] : each;
        return [`${ids} refused`, query, at === null ? P : parseError(at)];
      }),
    ),
  ));

test('[QL-2] [QL-6] [QL-7] [QL-8] [QL-9] [QL-12] [QL-13] [QL-16] [QL-21] [QL-23] [QL-26] [QL-29] [QL-30] [QL-31] [QL-46] [QL-69] [QL-120] [QL-122] what it knows has its meaning', (t) =>
  askAll(t, { events: MEANT_EVENTS }, MEANT));

test('[QL-44] [QX-31] payloads that are no maps, keys that are no strings, keys that are there twice', async (t) => {
  const store = makeStore(t);
  const bytes = (hex: string) => Uint8Array.from(Buffer.from(hex.replaceAll(' ', ''), 'hex'));
  const payloads = {
    array: '91 a1 61',
    text: 'a1 61',
    cut: '82 a1 61 01',
    trailing: '81 a1 61 01 c0',
    integerKey: '81 01 01',
    twice: '82 a1 61 01 a1 61 02',
    inArray: '81 a1 6d 91 81 a1 61 01',
    float32: '81 a1 61 ca 3f 80 00 00',
  };
  writeShard(
    store.directory,
    'shard-0000.db',
    Object.entries(payloads).map(([type, hex], i) => ({
      type,
      timestamp: NOW - BigInt(i),
      payload: bytes(hex),
    })),
  );
  await startService(t, store);
  const types = async (where: string) => {
    const answer = await ask(store.socketPath, `EVENTS WHERE ${where}`);
    assert.equal(answer.error, null, where);
    return answer.records.map(({ event_type }) => event_type);
  };
  assert.deepEqual(await types('a == 1'), ['twice', 'float32']);
  assert.deepEqual(await types('a == 2'), []);
  assert.deepEqual(await types('m IS NOT NULL'), ['inArray']);
  assert.deepEqual(await types('m.a IS NOT NULL OR m.0 IS NOT NULL OR m.0.a == 1'), []);
  const { records: shown } = await ask(store.socketPath, 'EVENTS SELECT a, event_type WHERE a IS NOT NULL');
  assert.deepEqual(shown, [
    { event_type: 'twice', a: 1 },
    { event_type: 'float32', a: 1 },
  ]);
  const whole = await ask(store.socketPath, 'EVENTS twice');
  assert.equal(whole.records[0]?.a, 1, 'what is shown is what is tested');
});

test('[QL-9] [WIRE-4] a text that is no UTF-8 is refused', async (t) => {
  const store = makeStore(t);
  await startService(t, store);
  const text = Buffer.concat([Buffer.from('EVENTS WHERE a == "'), Buffer.of(0xff), Buffer.from('"')]);
  const body = Buffer.concat([
    Buffer.of(0x81, 0xa5),
    Buffer.from('query'),
    Buffer.of(0xa0 + text.length),
    text,
  ]);
  const frame = Buffer.alloc(4);
  frame.writeUInt32LE(body.length);
  const socket = await connectRaw(store.socketPath);
  const answer = readAnswer(socket);
  socket.write(Buffer.concat([frame, body]));
  assert.match((await answer).error ?? '', /^(protocol|parse) error:/);
});
