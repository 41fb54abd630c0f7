import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import type { Condition, Literal, Query } from '../../src/query/ast.js';
import { QueryError } from '../../src/query/errors.js';
import { parseQuery } from '../../src/query/parser.js';

/** A short text form of the parts of a query, so that expectations read like the grammar. */
function show(query: Query): string {
  if (query.mode === 'INDEX') return `index ${query.field.name}`;
  const parts: string[] = [query.mode];
  if (query.mode === 'EVENTS' && query.pattern !== null)
    parts.push(`${query.pattern.kind}:${query.pattern.text}`);
  if (query.mode === 'LOGS') {
    if (query.from !== null) parts.push(`from:${query.from.map((origin) => origin.value).join('|')}`);
    if (query.errorOnly) parts.push('errors');
    parts.push(...query.containing.map((text) => `containing:${text.value}`));
  }
  if (query.mode === 'METRIC') {
    parts.push(`${query.name.kind}:${query.name.text}`);
    if (query.brackets !== null) parts.push(`[${query.brackets.map(showSelector).join(', ')}]`);
    if (query.valueFunction !== null) parts.push(query.valueFunction);
    if (query.window !== null) parts.push(`${query.window.function}:${query.window.ns}`);
  }
  if (query.since !== null) parts.push(`since:${showTime(query.since)}`);
  if (query.until !== null) parts.push(`until:${showTime(query.until)}`);
  if (query.where !== null) parts.push(`where:${showCondition(query.where)}`);
  if (query.mode !== 'METRIC') {
    const { aggregation } = query;
    if (aggregation !== null) {
      const fields =
        'field' in aggregation ? [aggregation.field] : 'fields' in aggregation ? aggregation.fields : [];
      const limit = aggregation.kind === 'top' ? ` ${aggregation.limit}` : '';
      const fn = 'function' in aggregation ? aggregation.function : null;
      const call = fn === null ? '' : fn.kind === 'COUNT' ? ' COUNT' : ` ${fn.kind} ${fn.argument.name}`;
      parts.push(`${aggregation.kind}${limit}(${fields.map((field) => field.name).join(',')})${call}`);
    }
    if (query.stream) parts.push('stream');
  }
  if (query.select !== null) parts.push(`select:${query.select.map((field) => field.name).join(',')}`);
  for (const { field, descending } of query.sort) parts.push(`sort:${field.name}${descending ? '-' : '+'}`);
  if (query.skip !== null) parts.push(`skip:${query.skip}`);
  if (query.take !== null) parts.push(`take:${query.take}`);
  return parts.join(' ');
}

type Selectors = NonNullable<Extract<Query, { mode: 'METRIC' }>['brackets']>;

function showSelector(selector: Selectors[number]): string {
  switch (selector.kind) {
    case 'compare':
      return `${selector.label.name} ${selector.operator} ${selector.value.value}`;
    case 'in':
      return `${selector.label.name} ${selector.negated ? 'NOT_IN' : 'IN'} ${selector.values.map((v) => v.value).join('|')}`;
    case 'null':
      return `${selector.label.name} IS ${selector.negated ? 'NOT ' : ''}NULL`;
  }
}

function showTime(time: NonNullable<Extract<Query, { mode: 'EVENTS' }>['since']>): string {
  switch (time.kind) {
    case 'relative':
      return `${time.amount}${time.unit}-${time.direction}`;
    case 'day':
      return time.day;
    case 'instant':
      return new Date(Number(time.ns / 1_000_000n)).toISOString();
  }
}

function showLiteral(literal: Literal): string {
  switch (literal.kind) {
    case 'string':
      return JSON.stringify(literal.value);
    case 'time':
      return showTime(literal.time);
    case 'guid':
      return `guid:${Buffer.from(literal.bytes).toString('hex')}`;
    default:
      return `${literal.kind}:${literal.value}`;
  }
}

function showCondition(condition: Condition): string {
  switch (condition.kind) {
    case 'and':
    case 'or':
      return `(${condition.terms.map(showCondition).join(` ${condition.kind} `)})`;
    case 'compare':
      return `${condition.field.path.join('/')} ${condition.operator} ${showLiteral(condition.value)}`;
    case 'match':
      return `${condition.field.path.join('/')} ${condition.operator} ${showLiteral(condition.value)}`;
    case 'in':
      return `${condition.field.name} ${condition.negated ? 'NOT_IN' : 'IN'} ${condition.values.map(showLiteral).join('|')}`;
    case 'null':
      return `${condition.field.name} IS ${condition.negated ? 'NOT ' : ''}NULL`;
    case 'metricFilter': {
      const brackets =
        condition.brackets === null ? '' : `[${condition.brackets.map(showSelector).join(', ')}]`;
      const { test: check } = condition;
      const values = check.kind === 'compare' ? [check.value] : check.values;
      const operator = check.kind === 'compare' ? check.operator : check.negated ? 'NOT_IN' : 'IN';
      return `metric ${condition.name.text}${brackets} ${operator} ${values.map(showLiteral).join('|')}`;
    }
    case 'eventFilter':
      return `event ${condition.pattern.kind}:${condition.pattern.text}`;
    case 'logFilter':
      return `log ${condition.origin}${condition.containing === null ? '' : ` "${condition.containing}"`}`;
  }
}

/** The refusal of a text, which must be of class P and name a place. */
function refusal(text: string): QueryError {
  try {
    parseQuery(text);
  } catch (error) {
    assert.ok(error instanceof QueryError, String(error));
    assert.equal(error.class, 'P');
    assert.equal(error.prefix, 'parse error');
    assert.ok(error.position !== null && error.position >= 1);
    return error;
  }
  assert.fail(`accepted: ${text}`);
}

/** Section 12 of the language: the text, and its shape or the position at which it is refused. */
const EXAMPLES: readonly (readonly [number, string, string | number])[] = [
  [1, 'EVENTS', 'EVENTS'],
  [2, 'EVENTS kacs.*', 'EVENTS prefix:kacs.'],
  [3, 'EVENTS kacs.*.denied', 'EVENTS glob:kacs.*.denied'],
  [4, 'EVENTS kacs.a? TAKE 1', 'EVENTS equal:kacs.a? take:1'],
  [5, 'EVENTS SINCE 1h ago kacs.*', 21],
  [
    6,
    'EVENTS TAKE 5 SINCE 2026-05-01 UNTIL 2026-05-02',
    'EVENTS since:2026-05-01T00:00:00.000Z until:2026-05-02T00:00:00.000Z take:5',
  ],
  [7, 'EVENTS SINCE 1h', 16],
  [8, 'EVENTS UNTIL 1h hence', 'EVENTS until:1h-hence'],
  [9, 'EVENTS WHERE granted_access == 0x1F01FF', 'EVENTS where:granted_access == integer:2032127'],
  [10, 'EVENTS WHERE source.name STARTS_WITH "lo"', 'EVENTS where:source/name STARTS_WITH "lo"'],
  [11, 'EVENTS WHERE target_sid != "x"', 'EVENTS where:target_sid != "x"'],
  [12, 'EVENTS WHERE target_sid IS NULL', 'EVENTS where:target_sid IS NULL'],
  [13, 'EVENTS WHERE count > 5', 'EVENTS where:count > integer:5'],
  [14, 'EVENTS WHERE cpu_id == 3', 'EVENTS where:cpu_id == integer:3'],
  [15, 'EVENTS WHERE origin_class == kacs', 'EVENTS where:origin_class == alias:2'],
  [16, 'EVENTS WHERE origin_class IN (kmes, 3)', 'EVENTS where:origin_class IN alias:1|integer:3'],
  [
    17,
    'EVENTS WHERE process_guid == "{550E8400-E29B-41D4-A716-446655440000}"',
    'EVENTS where:process_guid == guid:00840e559be2d441a716446655440000',
  ],
  [18, 'EVENTS WHERE process_guid STARTS_WITH "550e"', 27],
  [19, 'EVENTS WHERE process_guid == "abc"', 30],
  [
    20,
    'EVENTS WHERE a == 1 OR b == 2 AND c == 3',
    'EVENTS where:(a == integer:1 or (b == integer:2 and c == integer:3))',
  ],
  [
    21,
    'EVENTS WHERE a == 1 OR b == 2 WHERE c == 3',
    'EVENTS where:((a == integer:1 or b == integer:2) and c == integer:3)',
  ],
  [22, 'EVENTS SELECT timestamp SELECT event_type', 'EVENTS select:timestamp,event_type'],
  [23, 'EVENTS SINCE 24h ago COUNT BY event_type', 'EVENTS since:24h-ago countBy(event_type)'],
  [24, 'EVENTS TOP 10 BY process_guid SKIP 5', 'EVENTS top 10(process_guid) skip:5'],
  [25, 'EVENTS GROUP origin_class, event_type COUNT', 'EVENTS group(origin_class,event_type) COUNT'],
  [26, 'EVENTS GROUP event_type AVG size SORT avg', 'EVENTS group(event_type) AVG size sort:avg+'],
  [27, 'EVENTS GROUP event_type', 24],
  [28, 'EVENTS COUNT', 'EVENTS bare() COUNT'],
  [29, 'EVENTS DISTINCT event_type COUNT BY cpu_id', 28],
  [30, 'EVENTS INDEX target_sid', 'index target_sid'],
  [31, 'EVENTS CONTAINING "x"', 8],
  [32, 'EVENTS kacs.* STREAM', 'EVENTS prefix:kacs. stream'],
  [33, 'EVENTS kacs.* STREAM TAKE 0', 'EVENTS prefix:kacs. stream take:0'],
  [34, 'LOGS ERROR ONLY FROM loregd, peinit TAKE 20', 'LOGS from:loregd|peinit errors take:20'],
  [35, 'LOGS WHERE is_error == 1', 'LOGS where:is_error == integer:1'],
  [36, 'LOGS WHERE level == "warn"', 12],
  [37, 'LOGS CONTAINING "100%"', 'LOGS containing:100%'],
  [38, 'LOGS TOP 3 BY origin SINCE 2h ago', 'LOGS since:2h-ago top 3(origin)'],
  [39, 'LOGS WHERE LOG a EXISTS SINCE 1h ago', 12],
  [40, 'LOGS FROM loregd WHERE METRIC mem.usage > 90', 24],
  [41, 'LOGS SINCE 30d ago WHERE EVENT kacs.* EXISTS', 'LOGS since:30d-ago where:event prefix:kacs.'],
  [
    42,
    'EVENTS SINCE 1h ago WHERE METRIC cpu.usage[core="0"] > 80',
    'EVENTS since:1h-ago where:metric cpu.usage[core == 0] > integer:80',
  ],
  [
    43,
    'EVENTS SINCE 1h ago WHERE METRIC cpu.usage[] > 80',
    'EVENTS since:1h-ago where:metric cpu.usage[] > integer:80',
  ],
  [44, 'EVENTS SINCE 1h ago WHERE EVENT a EXISTS', 27],
  [
    45,
    'EVENTS SINCE 1h ago WHERE LOG loregd CONTAINING "error" EXISTS',
    'EVENTS since:1h-ago where:log loregd "error"',
  ],
  [46, 'METRIC cpu.usage', 'METRIC equal:cpu.usage'],
  [47, 'METRIC cpu.usage[]', 'METRIC equal:cpu.usage []'],
  [48, 'METRIC disk.usage[device STARTS_WITH "sd"]', 'METRIC equal:disk.usage [device STARTS_WITH sd]'],
  [49, 'METRIC cpu.usage[core=0]', 23],
  [50, 'METRIC cpu.usage[core="1"] MIN SINCE 6h ago', 'METRIC equal:cpu.usage [core == 1] MIN since:6h-ago'],
  [51, 'METRIC cpu.usage AVG_OVER 1h', 18],
  [
    52,
    'METRIC cpu.usage[] AVG_OVER 10m SINCE 1d ago',
    'METRIC equal:cpu.usage [] AVG_OVER:600000000000 since:1d-ago',
  ],
  [
    53,
    'METRIC req.duration P95 SINCE 1h ago AVG_OVER 5m',
    'METRIC equal:req.duration P95 AVG_OVER:300000000000 since:1h-ago',
  ],
  [54, 'METRIC http.requests.total RATE', 'METRIC equal:http.requests.total RATE'],
  [55, 'METRIC cpu.usage SINCE 1h ago RATE', 'METRIC equal:cpu.usage RATE since:1h-ago'],
  [
    56,
    'METRIC http.* WHERE type == counter SINCE 1h ago DELTA',
    'METRIC prefix:http. DELTA since:1h-ago where:type == alias:0',
  ],
  [57, 'METRIC cpu.usage STREAM', 18],
  [
    58,
    'METRIC mem.usage[] WHERE EVENT *.denied EXISTS SINCE 2h ago',
    'METRIC equal:mem.usage [] since:2h-ago where:event glob:*.denied',
  ],
  [59, 'METRIC cpu.usage COUNT BY core', 18],
];

test('[QL-1, QL-3, QL-4, QL-22, QL-40, QL-60, QL-61, QL-80, QL-86] examples 1 to 59 parse to their shape or are refused at their place', () => {
  assert.equal(EXAMPLES.length, 59);
  for (const [index, [number, text, outcome]] of EXAMPLES.entries()) {
    assert.equal(number, index + 1);
    if (typeof outcome === 'string') assert.equal(show(parseQuery(text)), outcome, text);
    else assert.equal(refusal(text).position, outcome, `${text}: ${refusal(text).text}`);
  }
});

/** Queries that must parse, with their shape. */
const SHAPES: readonly (readonly [string, string, string])[] = [
  [
    '[QL-2] words of every kind ignore case',
    'events Where A is not null and b Not_In (TRUE, 1H AGO) sort A desc',
    'EVENTS where:(A IS NOT NULL and b NOT_IN boolean:true|1h-ago) sort:A-',
  ],
  [
    '[QL-5] STREAM, ERROR ONLY and CONTAINING may repeat',
    'LOGS STREAM ERROR ONLY CONTAINING "a" STREAM ERROR ONLY CONTAINING "b"',
    'LOGS errors containing:a containing:b stream',
  ],
  ['[QL-6] a keyword as a log origin', 'LOGS FROM where, ERROR ERROR ONLY', 'LOGS from:where|ERROR errors'],
  [
    '[QL-6] a keyword as a metric name and label key',
    'METRIC take[in="x"] TAKE 1',
    'METRIC equal:take [in == x] take:1',
  ],
  ['[QL-6] a quoted keyword is an event type', 'EVENTS "sort"', 'EVENTS equal:sort'],
  [
    '[QL-7] field names hold letters beyond ASCII and keep their case',
    'EVENTS WHERE Größe.a-b == 1 SELECT 2fa.denied',
    'EVENTS where:Größe/a-b == integer:1 select:2fa.denied',
  ],
  [
    '[QL-8] comments start after white space only',
    '-- all\nEVENTS -- no type\n WHERE a--b == "--" -- end',
    'EVENTS where:a--b == "--"',
  ],
  [
    '[QL-9] 64 parentheses',
    `EVENTS WHERE ${'('.repeat(64)}a == 1${')'.repeat(64)}`,
    'EVENTS where:a == integer:1',
  ],
  [
    '[QL-13] time literals are values',
    'EVENTS WHERE t >= 2026-05-01T10:00:00Z AND timestamp < 7',
    'EVENTS where:(t >= 2026-05-01T10:00:00.000Z and timestamp < integer:7)',
  ],
  [
    '[QL-14] integers in decimal and hex, to both ends of the range',
    'EVENTS WHERE a IN (-9223372036854775808, 18446744073709551615, 0xFFffFFffFFffFFff, -0, 007)',
    'EVENTS where:a IN integer:-9223372036854775808|integer:18446744073709551615|integer:18446744073709551615|integer:0|integer:7',
  ],
  [
    '[QL-14] counts take hex and 2^63-1',
    'EVENTS SKIP 0x10 TAKE 9223372036854775807',
    'EVENTS skip:16 take:9223372036854775807',
  ],
  [
    '[QL-15] floats',
    'EVENTS WHERE a IN (1.5, -2.5e3, 1e2, 0.1)',
    'EVENTS where:a IN float:1.5|float:-2500|float:100|float:0.1',
  ],
  [
    '[QL-16] escapes, surrogate pairs joined',
    'EVENTS WHERE a == "\\"\\\\\\n\\r\\t\\u0041\\uD83D\\uDE00"',
    `EVENTS where:a == ${JSON.stringify('"\\\n\r\tA😀')}`,
  ],
  [
    '[QL-17, QL-18] a GUID without braces, in stored byte order',
    'EVENTS WHERE boot_id == "04030201-0605-0807-090A-0b0c0d0e0f10"',
    'EVENTS where:boot_id == guid:0102030405060708090a0b0c0d0e0f10',
  ],
  [
    '[QL-19, QL-27] one list may mix types',
    'EVENTS WHERE a IN (true, "x", 1, 1.5, today)',
    'EVENTS where:a IN boolean:true|"x"|integer:1|float:1.5|today',
  ],
  [
    '[QL-24] any number suits integer and float columns',
    'METRIC m WHERE value > 1 AND type != 1.5',
    'METRIC equal:m where:(value > integer:1 and type != float:1.5)',
  ],
  [
    '[QL-25] is_error takes booleans and integers',
    'LOGS WHERE is_error IN (true, 0)',
    'LOGS where:is_error IN boolean:true|integer:0',
  ],
  [
    '[QL-32] payload fields take every operator and type',
    'EVENTS WHERE a > "x" AND b < true AND c CONTAINS "y"',
    'EVENTS where:(a > "x" and b < boolean:true and c CONTAINS "y")',
  ],
  ['[QL-43] a dotted label is one key', 'METRIC m WHERE a.b == "x"', 'METRIC equal:m where:a.b == "x"'],
  [
    '[QL-61] aliases bare or quoted, in order operators too',
    'EVENTS WHERE origin_class >= "KMES" AND origin_class NOT_IN (lcs)',
    'EVENTS where:(origin_class >= alias:1 and origin_class NOT_IN alias:3)',
  ],
  ['[QL-62] duplicates in SELECT collapse', 'EVENTS SELECT b, a SELECT b, c', 'EVENTS select:b,a,c'],
  ['[QL-65] functions without GROUP', 'LOGS SUM timestamp', 'LOGS bare() SUM timestamp'],
  ['[QL-80] a quoted origin may hold anything', 'LOGS FROM "a*, b"', 'LOGS from:a*, b'],
  [
    '[QL-84] selectors take the string operators and name labels only',
    'METRIC m[name == "a", b != "c", value IN ("x", "y"), z IS NULL, q ENDS_WITH "e"]',
    'METRIC equal:m [name == a, b != c, value IN x|y, z IS NULL, q ENDS_WITH e]',
  ],
  [
    '[QL-110] filters nest in AND, OR and parentheses',
    'EVENTS SINCE today WHERE (METRIC m IN (1, 2.5) OR LOG a EXISTS) AND x == 1',
    'EVENTS since:today where:((metric m IN integer:1|float:2.5 or log a) and x == integer:1)',
  ],
  [
    '[QL-110] METRIC, EVENT and LOG before an operator are fields',
    'EVENTS WHERE metric > 1 AND event IS NULL AND log IN (2) AND LOG CONTAINS "x"',
    'EVENTS where:(metric > integer:1 and event IS NULL and log IN integer:2 and LOG CONTAINS "x")',
  ],
];

for (const [title, text, shape] of SHAPES) {
  test(title, () => assert.equal(show(parseQuery(text)), shape));
}

test('[QL-6] keywords are names where names are expected', () => {
  assert.equal(
    show(parseQuery('EVENTS WHERE where == 1 AND in IN (2) SELECT select, take SORT desc DESC, asc')),
    'EVENTS where:(where == integer:1 and in IN integer:2) select:select,take sort:desc- sort:asc+',
  );
  assert.equal(
    show(parseQuery('EVENTS GROUP by, group AVG avg SORT avg')),
    'EVENTS group(by,group) AVG avg sort:avg+',
  );
});

test('[QL-3] the order of clauses changes nothing', () => {
  const clauses = ['SINCE 1h ago', 'WHERE a == 1', 'SELECT a', 'SORT a DESC', 'TAKE 5', 'SKIP 2', 'STREAM'];
  const expected = show(parseQuery(`EVENTS x ${clauses.join(' ')}`));
  fc.assert(
    fc.property(fc.shuffledSubarray(clauses, { minLength: clauses.length }), (order) => {
      assert.equal(show(parseQuery(`EVENTS x ${order.join(' ')}`)), expected);
    }),
  );
});

test('[QL-9] spans and positions count characters, not UTF-16 units', () => {
  const query = parseQuery('EVENTS WHERE 💥 == "💥" AND b == 1');
  assert.ok(query.mode === 'EVENTS' && query.where?.kind === 'and');
  const [first, second] = query.where.terms;
  assert.ok(first?.kind === 'compare' && second?.kind === 'compare');
  assert.deepEqual(first.field.span, { start: 14, end: 15 });
  assert.deepEqual(first.span, { start: 14, end: 22 });
  assert.deepEqual(second.field.span, { start: 27, end: 28 });
  assert.equal(refusal('EVENTS WHERE 💥 = 1').position, 16);
});

test('[QX-7] no text makes the parser fail in another way than by a QueryError of class P', () => {
  const piece = fc.oneof(
    {
      weight: 8,
      arbitrary: fc.constantFrom(
        ...'EVENTS LOGS METRIC SINCE UNTIL WHERE SELECT SORT SKIP TAKE STREAM COUNT BY TOP DISTINCT GROUP SUM AVG FROM ERROR ONLY CONTAINING INDEX AND OR NOT IN NOT_IN IS NULL EXISTS EVENT LOG STARTS_WITH AVG_OVER RATE ago hence today true DESC'.split(
          ' ',
        ),
      ),
    },
    {
      weight: 6,
      arbitrary: fc.constantFrom(
        '(',
        ')',
        ',',
        '[',
        ']',
        '==',
        '=',
        '!=',
        '<',
        '>=',
        '"',
        '"a\\u00"',
        '"x"',
        '--',
        "'",
        ';',
        '.',
        '*',
        '-',
        '\\',
        '\n',
        '1h',
        '0x',
        '1e',
        '-5',
        '2026-02-30',
        '99999999999999999999',
        '\u0000',
        '💥',
        '\uD800',
        'kacs.*',
        'timestamp',
        'a.b',
        'a..b',
      ),
    },
    { weight: 1, arbitrary: fc.string({ unit: 'binary', maxLength: 6 }) },
  );
  const soup = fc
    .array(fc.tuple(piece, fc.constantFrom(' ', '', ' ')), { maxLength: 30 })
    .map((pairs) => pairs.flat().join(''));
  const start = fc.constantFrom('', 'EVENTS ', 'EVENTS WHERE ', 'LOGS ', 'METRIC m ', 'EVENTS WHERE a == ');
  fc.assert(
    fc.property(start, soup, (head, tail) => {
      try {
        parseQuery(head + tail);
      } catch (error) {
        assert.ok(error instanceof QueryError, `${head + tail}: ${String(error)}`);
        assert.equal(error.class, 'P');
        assert.ok(
          error.position !== null && error.position >= 1 && error.position <= [...(head + tail)].length + 1,
        );
        // One bounded line without control characters, whatever the text held (WIRE-21).
        assert.match(error.text, /^parse error: character \d+: [^\p{Cc}\p{Cs}]{1,400}$/u);
      }
    }),
    { numRuns: 4000 },
  );
});

test('[QL-9] a huge query is refused or parsed in bounded time and depth', () => {
  assert.match(refusal(`EVENTS WHERE ${'('.repeat(100_000)}`).text, /nested deeper than 64/);
  assert.match(refusal(`EVENTS WHERE ${'a == 1 OR '.repeat(5000)}a == 1`).text, /more than 2000 predicates/);
  const fields = (count: number): string => Array.from({ length: count }, (_, i) => `f${i}`).join(', ');
  assert.match(refusal(`EVENTS SORT ${fields(101)}`).text, /more than 100 fields in SORT/);
  assert.match(refusal(`EVENTS GROUP ${fields(101)} COUNT`).text, /more than 100 fields in GROUP/);
  parseQuery(`EVENTS GROUP ${fields(100)} COUNT SORT ${fields(100)}`);
  assert.match(refusal(`EVENTS TAKE ${'9'.repeat(1_000_000)}`).text, /out of range/);
  assert.match(refusal(`EVENTS WHERE a IN (${'1.5, '.repeat(8001)}1)`).text, /more than 8000 fractions/);
  const long = parseQuery(
    `EVENTS SINCE ${'9'.repeat(100_000)}d ago WHERE a IN (${'"x", '.repeat(100_000)}1)`,
  );
  assert.ok(long.mode === 'EVENTS' && long.where?.kind === 'in');
  assert.equal(long.where.values.length, 100_001);
});

test('[QL-68] [QL-83] SORT and SELECT of aggregated LOGS name what the records have, wherever they stand', () => {
  parseQuery('LOGS COUNT BY origin SORT count DESC');
  parseQuery('LOGS SELECT count SORT count GROUP origin COUNT');
  parseQuery('LOGS MAX timestamp SELECT max');
  assert.match(refusal('LOGS SORT count').text, /LOGS has no field "?'?count/);
  assert.match(refusal('LOGS SELECT count').text, /character 13: LOGS has no field/);
  assert.match(refusal('LOGS COUNT BY origin SORT message').text, /no field of the aggregated records/);
});
