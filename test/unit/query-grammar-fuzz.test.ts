/** The parser on texts nobody meant: it answers with a tree or a parse error at a place, and soon. */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';
import fc from 'fast-check';
import { QueryError } from '../../src/query/errors.js';
import { CLAUSE_WORDS } from '../../src/query/keywords.js';
import { parseQuery } from '../../src/query/parser.js';

/** Words that begin a clause or name a function, in some mode. */
const WORDS: readonly string[] = [...CLAUSE_WORDS];

/** Processor time, far above what any text of this size needs, far below what quadratic work would take. */
const BOUND_MS = 1500;

/** Parses a text and judges the answer; true when it was accepted. */
function judge(text: string): boolean {
  const start = process.cpuUsage();
  try {
    parseQuery(text);
    return true;
  } catch (error) {
    assert.ok(error instanceof QueryError, `${JSON.stringify(text)}: ${String(error)}`);
    assert.equal(error.class, 'P', text);
    assert.equal(error.prefix, 'parse error', text);
    const end = [...text].length + 1;
    assert.ok(
      error.position !== null && error.position >= 1 && error.position <= end,
      `${JSON.stringify(text)}: ${error.text}`,
    );
    assert.doesNotMatch(error.text, /[\n\r\0]|undefined|\[object|NaN\b.*NaN/, JSON.stringify(text));
    assert.ok(error.text.length < 600, `a long answer to ${JSON.stringify(text)}`);
    return false;
  } finally {
    const { user, system } = process.cpuUsage(start);
    const took = (user + system) / 1000;
    assert.ok(took < BOUND_MS, `${took} ms for ${JSON.stringify(text.slice(0, 200))}`);
  }
}

const VALID: readonly string[] = [
  'EVENTS',
  'EVENTS kacs.*.denied SINCE 1h ago UNTIL 2026-05-01T10:00:00Z WHERE a.b == 0x1F AND (c != "x\\"\\u00e9" OR d IS NOT NULL)',
  'EVENTS "sort" WHERE origin_class IN (kacs, 3) STREAM SELECT timestamp, a.b-c SORT a DESC, b TAKE 5 SKIP 18',
  'EVENTS WHERE process_guid == "{550E8400-E29B-41D4-A716-446655440000}" TOP 10 BY event_type',
  'EVENTS GROUP origin_class, event_type SUM size SORT sum DESC',
  'EVENTS INDEX target_sid',
  'LOGS FROM loregd, "pei nit" ERROR ONLY CONTAINING "100%" SINCE yesterday -- the day before\n COUNT BY origin',
  'LOGS SINCE 2h ago WHERE EVENT *.denied EXISTS OR METRIC mem.usage[host="a", rack IS NULL] NOT_IN (1, 2.5e3)',
  'METRIC http.*[code STARTS_WITH "5", host IN ("a", "b")] RATE AVG_OVER 5m SINCE 1d ago WHERE type == counter',
  'METRIC cpu.usage[] SINCE 1h ago WHERE LOG loregd CONTAINING "error" EXISTS AND value >= -1.5 SORT value DESC',
];

test('[QL-1, QL-2, QL-9] the texts that are mutated below are valid, in any case of letters', () => {
  for (const text of VALID) assert.ok(judge(text), text);
  for (const text of [
    'events KACS.* since TODAY Where a Is Not Null',
    'logs from a error only',
    'metric M[] rate',
  ])
    assert.ok(judge(text), text);
});

const PIECES: readonly string[] = [
  ...WORDS,
  ...[
    'EVENT',
    'LOG',
    'EXISTS',
    'AND',
    'OR',
    'NOT',
    'IN',
    'NOT_IN',
    'IS',
    'NULL',
    'BY',
    'ASC',
    'DESC',
    'ONLY',
  ],
  ...['a', 'a.b', '.', 'cpu.usage', '*', 'kacs.*', '-', '--', '_', 'é', '💥', '\u{10FFFF}', '\u202E', '\0'],
  ...[
    '(',
    ')',
    '[',
    ']',
    ',',
    '=',
    '==',
    '!=',
    '<',
    '>=',
    '<>',
    ';',
    '"',
    '"x"',
    '"\\u00',
    "'x'",
    '\\',
    '%',
    '|',
  ],
  ...[
    '1',
    '-1',
    '0x',
    '0xFF',
    '1e9',
    '1e999',
    '.5',
    '1.',
    '18446744073709551616',
    '1h',
    '1h ago',
    '9d hence',
    'today',
  ],
  ...[
    '2026-05-01',
    '2026-13-45',
    '2026-05-01T10:00:00Z',
    'timestamp',
    'origin_class',
    'kacs',
    'process_guid',
    'value',
  ],
];
const SPACES: readonly string[] = ['', ' ', ' ', ' ', '\n', '\t', ' -- note\n'];

const soup = fc
  .tuple(
    fc.constantFrom('EVENTS', 'LOGS', 'METRIC', 'METRIC m', 'EVENTS WHERE', 'LOGS WHERE', 'METRIC m[', ''),
    fc.array(fc.tuple(fc.constantFrom(...SPACES), fc.constantFrom(...PIECES)), { maxLength: 24 }),
  )
  .map(([head, parts]) => head + parts.map(([space, piece]) => space + piece).join(''));

test('[QL-1, QL-5, QL-9, QL-16, QX-7, WIRE-20] token soup never brings more than a parse error at a place', () => {
  let accepted = 0;
  fc.assert(
    fc.property(soup, (text) => {
      if (judge(text)) accepted++;
    }),
    { numRuns: 4000, seed: 41 },
  );
  assert.ok(accepted > 0, 'some soup is a query');
});

test('[QL-9, QL-16, QX-7, WIRE-20] any text at all, also broken Unicode, is answered the same way', () => {
  const unit = fc.integer({ min: 0, max: 0xffff }).map((code) => String.fromCharCode(code));
  const noise = fc
    .array(fc.oneof(fc.constantFrom(...PIECES), unit), { maxLength: 30 })
    .map((parts) => parts.join(''));
  fc.assert(
    fc.property(fc.constantFrom('', 'EVENTS ', 'LOGS WHERE a', 'METRIC '), noise, (head, text) => {
      judge(head + text);
    }),
    { numRuns: 2000, seed: 42 },
  );
});

/** Cuts, doubles, swaps and replaces pieces of a valid text. */
const mutated = fc
  .tuple(
    fc.constantFrom(...VALID),
    fc.array(
      fc.record({
        kind: fc.constantFrom('cut', 'double', 'insert', 'replace'),
        at: fc.double({ min: 0, max: 1, noNaN: true }),
        length: fc.integer({ min: 1, max: 12 }),
        piece: fc.constantFrom(...PIECES),
      }),
      { minLength: 1, maxLength: 3 },
    ),
  )
  .map(([text, changes]) =>
    changes.reduce((current, { kind, at, length, piece }) => {
      const start = Math.floor(at * current.length);
      const cut = current.slice(start, start + length);
      const [before, after] = [current.slice(0, start), current.slice(start + length)];
      if (kind === 'cut') return before + after;
      if (kind === 'double') return before + cut + cut + after;
      return kind === 'insert' ? before + piece + cut + after : before + piece + after;
    }, text),
  );

test('[QL-3, QL-9, QL-27, QX-7, WIRE-20] queries with slips are queries still, or refused at a place', () => {
  let refused = 0;
  fc.assert(
    fc.property(mutated, (text) => {
      if (!judge(text)) refused++;
    }),
    { numRuns: 4000, seed: 43 },
  );
  assert.ok(refused > 1000);
});

test('[QL-9, QX-7] long texts of any shape are read in time that grows with their length', () => {
  const long = 60_000;
  const texts = [
    `EVENTS WHERE ${'('.repeat(long)}`,
    `EVENTS WHERE a == 1${' AND b == 2'.repeat(long / 11)}`,
    `EVENTS WHERE a IN (${'1,'.repeat(long / 2)}1)`,
    `EVENTS WHERE a == "${'\\\\'.repeat(long / 2)}"`,
    `EVENTS WHERE a == "${'\\u00e9'.repeat(long / 6)}`,
    `EVENTS ${'*'.repeat(long)}`,
    `EVENTS WHERE ${'a.'.repeat(long / 2)}`,
    `EVENTS WHERE a == ${'9'.repeat(long)}`,
    `EVENTS WHERE a == 0x${'f'.repeat(long)}`,
    `EVENTS SINCE ${'9'.repeat(long)}d ago`,
    `EVENTS ${'STREAM '.repeat(long / 7)}`,
    `EVENTS SELECT ${'a,'.repeat(long / 2)}a`,
    `EVENTS${' -- x\n'.repeat(long / 6)}`,
    `EVENTS ${'💥'.repeat(long / 2)} x`,
    `METRIC m[${'a="b",'.repeat(long / 6)}`,
    'E'.repeat(long),
  ];
  for (const text of texts) judge(text);
});

test('[QL-1, QL-5, WIRE-20] each clause of the language has its answers in the golden file, with a suggestion for a slip', () => {
  const golden = readFileSync(new URL('../../../test/fixtures/query-errors.txt', import.meta.url), 'utf8');
  for (const word of WORDS) assert.match(golden, new RegExp(`\\b${word}\\b`), word);
  for (const word of WORDS.filter((each) => each.length > 3 && each !== 'INDEX')) {
    // The last two letters swapped, or the last one doubled where they are alike.
    const slip = word.replace(/(.)(.)$/, (_, a: string, b: string) => (a === b ? a + b + b : b + a));
    const answers = ['EVENTS x', 'LOGS', 'METRIC m'].map((head) => {
      try {
        parseQuery(`${head} ${slip}`);
        return '';
      } catch (error) {
        return error instanceof QueryError ? error.text : '';
      }
    });
    assert.ok(
      answers.some((text) => text.endsWith(`did you mean ${word}?`)),
      `${slip}: ${answers.join('\n')}`,
    );
  }
});
