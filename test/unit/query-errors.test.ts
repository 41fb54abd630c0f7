import assert from 'node:assert/strict';
import { readFileSync, writeFileSync } from 'node:fs';
import { test } from 'node:test';
import { QueryError } from '../../src/query/errors.js';
import { nearest } from '../../src/query/keywords.js';
import { parseQuery } from '../../src/query/parser.js';

const GUID = '550e8400-e29b-41d4-a716-446655440000';

/** Refused texts, by the rule they break. The fixture holds the exact answer to each. */
const REFUSED: readonly (readonly [string, readonly string[]])[] = [
  [
    'QL-1 first word',
    ['', '   ', 'EVENT x', 'LOG', 'SELECT a', '"EVENTS"', '(EVENTS)', '\uFEFFEVENTS', 'EVENTSx'],
  ],
  [
    'QL-3 the pattern comes first',
    ['EVENTS SINCE 1h ago kacs.*', 'EVENTS a b', 'EVENTS "a" "b"', 'METRIC', 'METRIC []', 'LOGS loregd'],
  ],
  [
    'QL-5 clauses that stand once',
    [
      'EVENTS SINCE 1h ago SINCE 2h ago',
      'EVENTS UNTIL today UNTIL today',
      'EVENTS TAKE 1 TAKE 2',
      'EVENTS SKIP 1 SKIP 1',
      'EVENTS SORT a SORT b',
      'LOGS FROM a FROM b',
      'METRIC m RATE DELTA',
      'METRIC m SINCE today AVG_OVER 1m MAX_OVER 1m',
    ],
  ],
  [
    'QL-6 misspelt clauses',
    [
      'EVENTS SICNE 1h ago',
      'EVENTS x SICNE 1h ago',
      'EVENTS x WHRE a == 1',
      'EVENTS TAEK 5',
      'EVENTS LIMIT 5',
      'EVENTS ORDER BY timestamp',
      'EVENTS INDXE a',
      'EVENTS SINCE today WHERE METIRC m > 1',
      'LOGS SINCE today WHERE EVNET a EXISTS',
      'EVENTS WHERE a == 1 ADN b == 2',
      'EVENTS WHERE (a == 1 ro b == 2)',
      'METRIC SINCE 1h ago',
      'EVENTS x LIMIT 5',
      'EVENTS x ORDER BY a',
      'EVENTS RATE',
    ],
  ],
  [
    'QL-7 field names',
    [
      'EVENTS WHERE .a == 1',
      'EVENTS WHERE a..b == 1',
      'EVENTS SELECT a.',
      'EVENTS SELECT "a"',
      'EVENTS SELECT',
      'EVENTS SELECT a,',
      'EVENTS SELECT a b',
      'EVENTS INDEX a..b',
    ],
  ],
  [
    'QL-9 stray text',
    [
      'EVENTS;',
      'EVENTS kacs.*;',
      'EVENTS WHERE a == 1;',
      'EVENTS WHERE a == 1 )',
      'EVENTS WHERE (a == 1',
      'EVENTS WHERE ()',
      `EVENTS WHERE ${'('.repeat(65)}a == 1`,
      'EVENTS \uD800',
      'EVENTS TAKE 1 \u0007',
      'EVENTS x \u202E',
      `EVENTS x ${'y'.repeat(200)}`,
    ],
  ],
  [
    'QL-10 QL-13 relative times',
    [
      'EVENTS SINCE 1h',
      'EVENTS SINCE',
      'EVENTS SINCE 1 h ago',
      'EVENTS SINCE 1hago',
      'EVENTS SINCE 1h aog',
      'EVENTS SINCE 1.5h ago',
      'EVENTS SINCE 1w ago',
      'EVENTS SINCE -1h ago',
      'EVENTS SINCE 17',
      'EVENTS SINCE "today"',
      'EVENTS SINCE now',
      'EVENTS SINCE yestreday',
      'EVENTS WHERE t > now',
      'EVENTS WHERE t > 1h',
    ],
  ],
  [
    'QL-11 QL-12 calendar times',
    [
      'EVENTS SINCE 2026-02-30',
      'EVENTS SINCE 2026-13-01',
      'EVENTS SINCE 2025-02-29',
      'EVENTS SINCE 2026-5-1',
      'EVENTS SINCE 2026-05-01T24:00:00',
      'EVENTS SINCE 2026-05-01T23:59:60',
      'EVENTS SINCE 2026-05-01T10:00',
      'EVENTS SINCE 2026-05-01T10:00:00.5Z',
      'EVENTS SINCE 2026-05-01T10:00:00+02:00',
    ],
  ],
  [
    'QL-14 QL-15 numbers',
    [
      'EVENTS WHERE a == 18446744073709551616',
      'EVENTS WHERE a == -9223372036854775809',
      'EVENTS WHERE a == 0x10000000000000000',
      'EVENTS WHERE a == -0x1',
      'EVENTS WHERE a == +1',
      'EVENTS WHERE a == 0xZZ',
      'EVENTS WHERE a == .5',
      'EVENTS WHERE a == 5.',
      'EVENTS WHERE a == 1e',
      'EVENTS WHERE a == 1x',
      'EVENTS TAKE -1',
      'EVENTS TAKE 1.5',
      'EVENTS TAKE all',
      'EVENTS SKIP 9223372036854775808',
      'EVENTS TOP BY a',
    ],
  ],
  [
    'QL-16 strings',
    [
      "EVENTS WHERE a == 'x'",
      'EVENTS WHERE a == “x”',
      'EVENTS WHERE a == "x',
      'EVENTS WHERE a == "\\x"',
      'EVENTS WHERE a == "\\u12"',
      'EVENTS WHERE a == "\\uD83D"',
      'EVENTS WHERE a == "\\uDE00\\uD83D"',
      'EVENTS WHERE a == "\\',
      "EVENTS 'x'",
      'EVENTS "x',
    ],
  ],
  [
    'QL-17 GUIDs',
    [
      'EVENTS WHERE process_guid == "abc"',
      `EVENTS WHERE process_guid == "{${GUID}"`,
      `EVENTS WHERE boot_id IN ("${GUID}", "x")`,
      'EVENTS WHERE boot_id == 1',
      'EVENTS WHERE boot_id == abc',
    ],
  ],
  [
    'QL-19 NULL is no value',
    ['EVENTS WHERE a == NULL', 'EVENTS WHERE a IN (1, null)', 'EVENTS WHERE a IS', 'EVENTS WHERE a IS NOT 5'],
  ],
  [
    'QL-22 no NOT',
    ['EVENTS WHERE NOT a == 1', 'EVENTS WHERE NOT (a == 1)', 'EVENTS WHERE !a', 'EVENTS WHERE a NOT IN (1)'],
  ],
  [
    'QL-27 lists',
    [
      'EVENTS WHERE a IN ()',
      'EVENTS WHERE a IN (1,)',
      'EVENTS WHERE a IN (1 2)',
      'EVENTS WHERE a IN 1',
      'EVENTS WHERE a IN (1, 2',
    ],
  ],
  [
    'QL-28 operators',
    [
      'EVENTS WHERE a = 1',
      'EVENTS WHERE a <> 1',
      'EVENTS WHERE a =~ "x"',
      'EVENTS WHERE a LIKE "x%"',
      'EVENTS WHERE a STARTSWITH "x"',
      'EVENTS WHERE a BETWEEN 1',
      'EVENTS WHERE a',
      'EVENTS WHERE',
      'EVENTS WHERE a == 1 && b == 2',
      'EVENTS WHERE a == 1 || b == 2',
      'EVENTS WHERE a ==',
      'EVENTS WHERE a CONTAINS 5',
      'EVENTS WHERE 5 == a AND 6',
      'EVENTS WHERE == 1',
    ],
  ],
  [
    'QL-33 fixed types',
    [
      'EVENTS WHERE cpu_id == "3"',
      'EVENTS WHERE cpu_id == true',
      'EVENTS WHERE sequence > 1h ago',
      'EVENTS WHERE timestamp > 1.5',
      'EVENTS WHERE timestamp == "today"',
      'EVENTS WHERE event_type == 5',
      'EVENTS WHERE event_type > "a"',
      'EVENTS WHERE cpu_id CONTAINS "1"',
      'EVENTS WHERE process_guid STARTS_WITH "550e"',
      'LOGS WHERE is_error > 0',
      'LOGS WHERE is_error == 0.5',
      'LOGS WHERE is_error == "true"',
      'METRIC m WHERE core == 0',
      'METRIC m WHERE core > "1"',
      'METRIC m WHERE value == "1"',
    ],
  ],
  [
    'QL-42 log fields',
    ['LOGS WHERE level == "warn"', 'LOGS SELECT mesage', 'LOGS SORT Timestamp', 'LOGS COUNT BY orign'],
  ],
  [
    'QL-61 QL-88 aliases',
    [
      'EVENTS WHERE origin_class == kernel',
      'EVENTS WHERE origin_class == kcas',
      'EVENTS WHERE origin_class == "2"',
      'EVENTS WHERE a == kacs',
      'METRIC m WHERE type == guage',
      'EVENTS WHERE cpu_id == kacs',
      'EVENTS WHERE event_type == kacs.x',
    ],
  ],
  [
    'QL-65 QL-68 aggregation',
    [
      'EVENTS GROUP event_type',
      'EVENTS GROUP BY event_type COUNT',
      'EVENTS GROUP a CUONT',
      'EVENTS DISTINCT event_type COUNT BY cpu_id',
      'EVENTS COUNT BY a, b',
      'EVENTS DISTINCT a, b',
      'EVENTS TOP 5 a',
      'EVENTS SUM',
      'EVENTS COUNT SUM a',
      'EVENTS COUNT BY count',
      'EVENTS GROUP sum SUM a',
      'EVENTS COUNT BY a SORT b',
      'EVENTS COUNT BY a SORT cuont',
      'EVENTS DISTINCT a SELECT count',
      'EVENTS COUNT SELECT a',
    ],
  ],
  [
    'QL-75 INDEX alone',
    ['EVENTS INDEX', 'EVENTS INDEX a STREAM', 'EVENTS x INDEX a', 'LOGS INDEX origin', 'EVENTS INDEX a, b'],
  ],
  [
    'QL-80 origins',
    [
      'LOGS FROM',
      'LOGS FROM a*',
      'LOGS FROM *',
      'LOGS FROM a,',
      "LOGS FROM 'a'",
      'LOGS ERROR',
      'LOGS CONTAINING x',
    ],
  ],
  [
    'QL-84 QL-86 brackets',
    [
      'METRIC cpu.usage[core=0]',
      'METRIC m[',
      'METRIC m[a]',
      'METRIC m[a="x",]',
      'METRIC m[a="x"',
      'METRIC m[a > "x"]',
      'METRIC m[a IN ()]',
      'METRIC m[a IN ("x", 1)]',
      'METRIC m[a STARTWITH "x"]',
      'METRIC m]',
    ],
  ],
  [
    'QL-89 METRIC clauses',
    [
      'METRIC cpu.usage STREAM',
      'METRIC cpu.usage COUNT BY core',
      'METRIC m TOP 3 BY core',
      'METRIC m GROUP a COUNT',
      'METRIC m DISTINCT a',
      'METRIC m FROM a',
      'METRIC m P90',
    ],
  ],
  [
    'QL-107 QL-108 windows',
    [
      'METRIC cpu.usage AVG_OVER 1h',
      'METRIC m SINCE today AVG_OVER',
      'METRIC m SINCE today AVG_OVER 0s',
      'METRIC m SINCE today AVG_OVER 1h ago',
      'METRIC m SINCE today AVG_OVER 60',
    ],
  ],
  [
    'QL-110 QL-116 cross-type filters',
    [
      'EVENTS SINCE today WHERE EVENT a EXISTS',
      'LOGS SINCE today WHERE LOG a EXISTS',
      'METRIC m SINCE today WHERE METRIC n > 1',
      'LOGS FROM loregd WHERE METRIC mem.usage > 90',
      'EVENTS WHERE timestamp > today AND LOG a EXISTS',
      'EVENTS SINCE today WHERE METRIC m > "1"',
      'EVENTS SINCE today WHERE METRIC m > true',
      'EVENTS SINCE today WHERE METRIC m CONTAINS "x"',
      'EVENTS SINCE today WHERE METRIC m = 1',
      'EVENTS SINCE today WHERE LOG a',
      'EVENTS SINCE today WHERE LOG a CONTAINS "x"',
      'EVENTS SINCE today WHERE LOG a EXIST',
      'EVENTS SINCE today WHERE LOG a* EXISTS',
      'LOGS SINCE today WHERE EVENT kacs.*',
      'EVENTS SINCE today WHERE METRIC m AND a == 1',
    ],
  ],
  [
    'section 11, clause in the wrong mode',
    [
      'EVENTS CONTAINING "x"',
      'EVENTS FROM a',
      'EVENTS ERROR ONLY',
      'EVENTS x AVG_OVER 1h',
      'EVENTS x MIN_OVER 1h',
      'LOGS P95',
      'EVENTS P99',
      'LOGS DELTA',
      'METRIC m CONTAINING "x"',
    ],
  ],
];

function refuse(text: string): QueryError {
  try {
    parseQuery(text);
  } catch (error) {
    assert.ok(error instanceof QueryError, `${JSON.stringify(text)}: ${String(error)}`);
    return error;
  }
  assert.fail(`accepted: ${text}`);
}

const fixture = new URL('../../../test/fixtures/query-errors.txt', import.meta.url);

test('[QL-5, QL-9, QL-16, QL-27, QL-28, QL-33, QL-42, QL-65, QL-68, QL-75, QL-89, QL-107, QL-116, WIRE-20] every refused text gets its exact answer', () => {
  const sections = REFUSED.map(([rule, texts]) => {
    const entries = texts.map((text) => {
      const error = refuse(text);
      assert.equal(error.class, 'P', text);
      const shown = text.length > 100 ? `${text.slice(0, 100)} ... (${text.length})` : text;
      return `${JSON.stringify(shown)}\n    ${error.text}\n`;
    });
    return `# ${rule}\n\n${entries.join('')}`;
  });
  const actual = sections.join('\n');
  if (process.env.UPDATE_FIXTURES === '1') writeFileSync(fixture, actual);
  assert.equal(actual, readFileSync(fixture, 'utf8'));
});

test('[WIRE-20, WIRE-21] error texts are one line, name a place within the text and hold no SQL or path', () => {
  for (const text of REFUSED.flatMap(([, texts]) => texts)) {
    const error = refuse(text);
    assert.match(error.text, /^parse error: character [1-9]\d*: \S/);
    assert.ok(error.position !== null && error.position <= [...text].length + 1, text);
    assert.doesNotMatch(error.text, /msgpack_|json_each|FROM events|dist\/|\.ts|\n/);
  }
});

test('[QL-1] near misses find the word that was meant, swapped letters included', () => {
  const words = ['SINCE', 'SELECT', 'SORT', 'TAKE', 'IN'];
  assert.equal(nearest('SICNE', words), 'SINCE');
  assert.equal(nearest('since', words), 'SINCE');
  assert.equal(nearest('SELCT', words), 'SELECT');
  assert.equal(nearest('SROT', words), 'SORT');
  assert.equal(nearest('ON', words), null);
  assert.equal(nearest('banana', words), null);
  assert.equal(nearest('x'.repeat(1_000_000), words), null);
});
