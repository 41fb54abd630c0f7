import assert from 'node:assert/strict';
import { test } from 'node:test';
import { parseGuid } from '../../src/host/guid.js';

import { payloadExpression } from '../../src/query/sqlPredicate.js';
import { type Packed, packedMap } from '../fixtures/packed.js';
import { type EventRecord, GUIDS } from '../fixtures/queryReference.js';
import {
  field,
  float,
  int,
  openStore,
  record,
  SYNTHETIC,
  storeOf,
  str,
  translate,
  types,
} from '../fixtures/queryStore.js';

test('[QL-31, QL-20, QL-26, QL-30] the table of NULL and type mismatch, cell by cell', () => {
  const db = storeOf(
    record('missing', packedMap({})),
    record('no-payload'),
    record('nil', field({ type: 'nil' })),
    record('nan', field(float(Number.NaN))),
    record('five', field(int(5n))),
    record('true', field({ type: 'bool', value: true })),
    record('text', field(str('Five'))),
    record('digits', field(str('9'))),
    record('bin', field({ type: 'bin', value: Uint8Array.of(0x39) })),
    record('array', field({ type: 'array', items: [int(5n)] })),
    record('map', field(packedMap({ y: int(5n) }))),
    record('ext', field({ type: 'ext', code: 1, value: Uint8Array.of(5) })),
  );
  const cells: readonly (readonly [string, string])[] = [
    ['x == 5', 'five'],
    ['x == true', 'true'],
    ['x == 1', 'true'],
    ['x == "FIVE"', 'text'],
    ['x IN (5, "five")', 'five text'],
    ['x != 5', 'true text digits bin'],
    ['x != "five"', 'five true digits bin'],
    ['x NOT_IN (5, "9")', 'true text bin'],
    ['x > 0', 'five true'],
    ['x >= 5', 'five'],
    ['x < 9', 'five true'],
    ['x <= 1.5', 'true'],
    ['x > "A"', ''],
    ['x STARTS_WITH "fi"', 'text'],
    ['x ENDS_WITH "VE"', 'text'],
    ['x CONTAINS ""', 'text digits'],
    ['x STARTS_WITH ""', 'text digits'],
    ['x CONTAINS "9"', 'digits'],
    ['x IS NULL', 'missing no-payload nil nan'],
    ['x IS NOT NULL', 'five true text digits bin array map ext'],
    ['x.y == 5', 'map'],
  ];
  for (const [predicate, expected] of cells) {
    assert.equal(types(db, `EVENTS WHERE ${predicate} SORT timestamp`).join(' '), expected, predicate);
  }
});

test('[QL-45, QL-47, QX-14, STO-9] a NULL column falls back to the payload key, a filled one hides it', () => {
  const db = storeOf(
    record('cpu3', packedMap({ cpu_id: int(7n) }), { cpu_id: 3n }),
    record('gap3', packedMap({ cpu_id: int(3n) }), SYNTHETIC),
    record('gap7', packedMap({ cpu_id: int(7n) }), SYNTHETIC),
    record('startup', packedMap({ cpu_id: { type: 'nil' } }), SYNTHETIC),
  );
  const cases: readonly (readonly [string, string])[] = [
    ['cpu_id == 3', 'cpu3 gap3'],
    ['cpu_id == 7', 'gap7'],
    ['cpu_id != 3', 'gap7'],
    ['cpu_id IN (3, 99)', 'cpu3 gap3'],
    ['cpu_id NOT_IN (3)', 'gap7'],
    ['cpu_id >= 3', 'cpu3 gap3 gap7'],
    ['cpu_id IS NULL', 'startup'],
    ['cpu_id IS NOT NULL', 'cpu3 gap3 gap7'],
    ['sequence IS NULL', 'gap3 gap7 startup'],
    ['origin_class == userspace', 'cpu3'],
  ];
  for (const [predicate, expected] of cases) {
    assert.equal(types(db, `EVENTS WHERE ${predicate} SORT timestamp`).join(' '), expected, predicate);
  }
  assert.deepEqual(types(db, 'EVENTS SORT cpu_id, event_type'), ['startup', 'cpu3', 'gap3', 'gap7']);
});

test('[QL-46, QL-17, QL-18, QL-20] GUIDs compare as bytes, a fallback string after parsing', () => {
  const [zero, one, two] = GUIDS;
  const guidKey = (value: Packed): Packed => packedMap({ process_guid: value });
  const db = storeOf(
    record('zero', null, { process_guid: parseGuid(zero) }),
    record('one', guidKey(str(two)), { process_guid: parseGuid(one) }),
    record('plain', guidKey(str(one)), SYNTHETIC),
    record('braced', guidKey(str(`{${one.toUpperCase()}}`)), SYNTHETIC),
    record('word', guidKey(str('abc')), SYNTHETIC),
    record('number', guidKey(int(1n)), SYNTHETIC),
    record('none', packedMap({}), SYNTHETIC),
  );
  const cases: readonly (readonly [string, string])[] = [
    [`== "{${one}}"`, 'one plain braced'],
    [`== "${two}"`, ''],
    [`!= "${one}"`, 'zero word number'],
    [`IN ("${one}", "${two}")`, 'one plain braced'],
    [`NOT_IN ("${one}", "${two}")`, 'zero word number'],
    ['IS NULL', 'none'],
  ];
  for (const [test, expected] of cases) {
    assert.equal(types(db, `EVENTS WHERE process_guid ${test} SORT timestamp`).join(' '), expected, test);
  }
});

test('[QL-23, QX-12] numbers compare by exact value up to 2^64-1', () => {
  const db = storeOf(
    record('2^53', field(int(2n ** 53n))),
    record('2^53+1', field(int(2n ** 53n + 1n))),
    record('2^63-1', field(int(2n ** 63n - 1n))),
    record('2^63', field(int(2n ** 63n))),
    record('2^63+1', field(int(2n ** 63n + 1n))),
    record('2^64-1', field(int(2n ** 64n - 1n))),
    record('1e19', field(float(1e19))),
    record('-2^63', field(int(-(2n ** 63n)))),
  );
  const cases: readonly (readonly [string, string])[] = [
    ['== 9007199254740993', '2^53+1'],
    ['== 9007199254740992.0', '2^53'],
    ['== 9223372036854775808', '2^63'],
    ['== 9223372036854775808.0', '2^63'],
    ['== 18446744073709551615', '2^64-1'],
    ['> 9223372036854775807', '2^63 2^63+1 2^64-1 1e19'],
    ['>= 9223372036854775809', '2^63+1 2^64-1 1e19'],
    ['< 9223372036854775808', '2^53 2^53+1 2^63-1 -2^63'],
    ['!= 9223372036854775809', '2^53 2^53+1 2^63-1 2^63 2^64-1 1e19 -2^63'],
    ['IN (9223372036854775809, 10000000000000000000, -9223372036854775808)', '2^63+1 1e19 -2^63'],
    ['NOT_IN (9223372036854775809, 9223372036854775807)', '2^53 2^53+1 2^63 2^64-1 1e19 -2^63'],
    ['< 1e999', '2^53 2^53+1 2^63-1 2^63 2^63+1 2^64-1 1e19 -2^63'],
  ];
  for (const [test, expected] of cases) {
    assert.equal(types(db, `EVENTS WHERE x ${test} SORT timestamp`).join(' '), expected, test);
  }
});

test('[QL-60, QL-77, QL-29] type patterns: equality, prefix, glob, and nothing else is special', () => {
  const names = [
    'kacs',
    'kacs.a',
    'KACS.b',
    'kacs.a.denied',
    'kacs.a.b.denied',
    'kacs/x',
    'kacs.a?',
    'kacs.[a]',
    'Kacs.%',
  ];
  const db = storeOf(...names.map((name) => record(name)));
  const cases: readonly (readonly [string, string])[] = [
    ['kacs.*', 'kacs.a KACS.b kacs.a.denied kacs.a.b.denied kacs.a? kacs.[a] Kacs.%'],
    ['kacs.*.denied', 'kacs.a.denied kacs.a.b.denied'],
    ['*.DENIED', 'kacs.a.denied kacs.a.b.denied'],
    ['kacs.a?', 'kacs.a?'],
    ['kacs.[a]', 'kacs.[a]'],
    ['KACS.%', 'Kacs.%'],
    ['kacs', 'kacs'],
    ['*', names.join(' ')],
    ['**', names.join(' ')],
    ['nothing*', ''],
    ['WHERE event_type == "kacs.*"', ''],
    [
      'WHERE event_type STARTS_WITH "KACS."',
      'kacs.a KACS.b kacs.a.denied kacs.a.b.denied kacs.a? kacs.[a] Kacs.%',
    ],
    ['WHERE event_type CONTAINS "."', 'kacs.a KACS.b kacs.a.denied kacs.a.b.denied kacs.a? kacs.[a] Kacs.%'],
    [
      'WHERE event_type NOT_IN ("KACS.A", "kacs")',
      'KACS.b kacs.a.denied kacs.a.b.denied kacs/x kacs.a? kacs.[a] Kacs.%',
    ],
  ];
  for (const [pattern, expected] of cases) {
    assert.equal(types(db, `EVENTS ${pattern} SORT timestamp`).join(' '), expected, pattern);
  }
});

test('[QL-20, QL-21] case folds for ASCII only, also around prefixes, U+0000 and the last code point', () => {
  const values = ['k', 'K', '\u212A', 'é', 'É', 'a\0b', 'A\0B', 'a\0c', 'a', '@x', '[x', '\u{10FFFF}z', 'İ'];
  const db = storeOf(...values.map((value, index) => record(String(index), field(str(value)))));
  const found = (predicate: string): string[] =>
    types(db, `EVENTS WHERE x ${predicate} SORT timestamp`).map((index) => values[Number(index)] ?? '');
  assert.deepEqual(found('== "K"'), ['k', 'K']);
  assert.deepEqual(found('== "É"'), ['É']);
  assert.deepEqual(found('== "a\\u0000B"'), ['a\0b', 'A\0B']);
  assert.deepEqual(found('IN ("A\\u0000b", "k")'), ['k', 'K', 'a\0b', 'A\0B']);
  assert.equal(found('!= "a\\u0000b"').length, values.length - 2);
  assert.equal(found('NOT_IN ("a\\u0000b", "a")').length, values.length - 3);
  assert.deepEqual(found('STARTS_WITH "A\\u0000"'), ['a\0b', 'A\0B', 'a\0c']);
  assert.deepEqual(found('STARTS_WITH "a"'), ['a\0b', 'A\0B', 'a\0c', 'a']);
  assert.deepEqual(found('STARTS_WITH "@"'), ['@x']);
  assert.deepEqual(found('STARTS_WITH "\u{10FFFF}"'), ['\u{10FFFF}z']);
  assert.deepEqual(found('STARTS_WITH "İ"'), ['İ']);
});

test('[QL-50, QL-51] SINCE is inclusive, UNTIL exclusive, the implicit UNTIL is now inclusive', () => {
  const second = 1_000_000_000n;
  const at = (timestamp: bigint): EventRecord => record(String(timestamp / second), null, { timestamp });
  const db = storeOf(...[0n, 1n, 2n, 3n, 4n].map((time) => at(time * second)));
  const query = (text: string): string => {
    const { sql, params } = translate(text, 3n * second);
    return (
      db
        .prepare(sql)
        .raw()
        .all(...params) as unknown[][]
    )
      .map((row) => row[5])
      .join(' ');
  };
  assert.equal(query('EVENTS'), '3 2 1 0');
  assert.equal(query('EVENTS SINCE 1s ago'), '3 2');
  assert.equal(query('EVENTS UNTIL 0s ago'), '2 1 0');
  assert.equal(query('EVENTS UNTIL 5s hence'), '4 3 2 1 0');
  assert.equal(query('EVENTS SINCE 1s ago UNTIL 1s ago'), '');
  assert.equal(
    query('EVENTS WHERE timestamp > 1970-01-01T00:00:01Z AND timestamp <= 18446744073709551615'),
    '3 2',
  );
  assert.equal(query('EVENTS WHERE timestamp IN (today, 2000000000)'), '2 0');
});

test('[QL-53, QL-54, QX-23] each shard yields the first SKIP + TAKE rows, the cursor cuts the rest', () => {
  const db = storeOf(...Array.from({ length: 6 }, (_, index) => record(`e${index}`)));
  assert.equal(types(db, 'EVENTS').length, 6);
  assert.equal(types(db, 'EVENTS SKIP 2').length, 6);
  assert.deepEqual(types(db, 'EVENTS SKIP 1 TAKE 2'), ['e5', 'e4', 'e3']);
  assert.deepEqual(types(db, 'EVENTS SKIP 3 TAKE 0'), []);
  assert.equal(types(db, 'EVENTS SKIP 9223372036854775807 TAKE 9223372036854775807').length, 6);
  const { skip, take } = translate('EVENTS SKIP 1 TAKE 2');
  assert.deepEqual([skip, take], [1n, 2n]);
  assert.deepEqual([translate('EVENTS').skip, translate('EVENTS').take], [0n, null]);
});

test('[QL-62, QL-78, QL-120] SELECT becomes the field list of the cursor', () => {
  assert.equal(translate('EVENTS').fields, null);
  assert.deepEqual(translate('EVENTS SELECT cpu_id, a.b SELECT id, payload, cpu_id').fields, [
    { name: 'cpu_id', column: 1, path: ['cpu_id'] },
    { name: 'a.b', column: -1, path: ['a', 'b'] },
    { name: 'id', column: -1, path: ['id'] },
    { name: 'payload', column: -1, path: ['payload'] },
  ]);
});

test('[QL-70, QL-71] timestamp descending by default and in ties, unless it is a sort field itself', () => {
  assert.deepEqual(translate('EVENTS').sort, [{ descending: true }]);
  assert.deepEqual(translate('EVENTS SORT a, b DESC, a DESC').sort, [
    { descending: false },
    { descending: true },
    { descending: true },
  ]);
  assert.deepEqual(translate('EVENTS SORT timestamp, a DESC').sort, [
    { descending: false },
    { descending: true },
  ]);
  const db = storeOf(
    record('text', field(str('b'))),
    record('upper', field(str('B'))),
    record('same-time-1', field(int(1n)), { timestamp: 900n }),
    record('same-time-2', field(float(1)), { timestamp: 900n }),
    record('bytes', field({ type: 'bin', value: Uint8Array.of(0) })),
    record('none'),
    record('map', field(packedMap({}))),
    record('older', field(int(1n)), { timestamp: 800n }),
  );
  assert.deepEqual(types(db, 'EVENTS SORT x'), [
    'map',
    'none',
    'same-time-2',
    'same-time-1',
    'older',
    'upper',
    'text',
    'bytes',
  ]);
});

test('[QX-11] literals are bound and paths inlined, whatever they hold', () => {
  const evil = `"'; DROP TABLE events; --"`;
  const { sql, params } = translate(
    `EVENTS "x' OR 1" WHERE Größe.a-b == ${evil} AND n IN (${evil}, 5) AND t > 7.25`,
  );
  assert.ok(sql.includes(`msgpack_extract(payload, '$.Größe.a-b')`));
  assert.doesNotMatch(sql, /DROP|7\.25|x'/);
  assert.equal(sql.split('?').length - 1, params.length);
  assert.ok(params.includes("'; DROP TABLE events; --"));
});

test('[QX-13, QX-14, IDX-31] equality, ranges, prefixes and lists are served by the policy’s indexes', () => {
  const db = openStore();
  db.exec('CREATE INDEX idx_events_event_type ON events(event_type COLLATE NOCASE)');
  db.exec('CREATE INDEX idx_events_cpu_id ON events(cpu_id)');
  db.exec('CREATE INDEX idx_events_process_guid ON events(process_guid)');
  db.exec(`CREATE INDEX idx_events_payload_x ON events(${payloadExpression(['x'])} COLLATE NOCASE)`);
  const plan = (text: string): string => {
    const { sql, params } = translate(text);
    const rows = db.prepare(`EXPLAIN QUERY PLAN ${sql}`).all(...params) as { readonly detail: string }[];
    return rows.map((row) => row.detail).join('\n');
  };
  for (const where of [
    'x == "a"',
    'x == 5',
    'x == 18446744073709551615',
    'x > 5',
    'x STARTS_WITH "a"',
    'x IN ("a", 5, 2.5)',
  ]) {
    assert.match(plan(`EVENTS WHERE ${where}`), /USING INDEX idx_events_payload_x/, where);
  }
  for (const text of ['kacs.a', 'kacs.*', 'kacs.*.denied', 'WHERE event_type IN ("a", "b")']) {
    assert.match(plan(`EVENTS ${text}`), /USING INDEX idx_events_event_type/, text);
  }
  for (const where of ['cpu_id == 3', 'cpu_id IN (3, 4)']) {
    assert.match(
      plan(`EVENTS WHERE ${where}`),
      /MULTI-INDEX OR[\s\S]*idx_events_cpu_id \(cpu_id=\?\)/,
      where,
    );
  }
  assert.match(
    plan(`EVENTS WHERE process_guid == "${GUIDS[1]}"`),
    /MULTI-INDEX OR[\s\S]*idx_events_process_guid/,
  );
  // The default order comes from the index, without sorting.
  assert.doesNotMatch(plan('EVENTS TAKE 10'), /TEMP B-TREE/);
});

test('[QX-15, QL-9] the longest queries stay within the limits of SQLite', () => {
  const db = storeOf(record('hit', packedMap({ x: int(1999n), y: int(0n) }), { cpu_id: 7n }));
  db.exec('CREATE INDEX idx_events_cpu_id ON events(cpu_id)');
  db.exec('CREATE INDEX idx_events_process_guid ON events(process_guid)');
  db.exec(`CREATE INDEX idx_events_payload_x ON events(${payloadExpression(['x'])} COLLATE NOCASE)`);
  const many = (count: number, each: (index: number) => string, operator: string): string =>
    Array.from({ length: count }, (_, index) => each(index)).join(` ${operator} `);
  const hit = (where: string): void =>
    assert.deepEqual(types(db, `EVENTS WHERE ${where}`), ['hit'], where.slice(0, 60));
  hit(many(2000, (index) => `x == ${index}`, 'OR'));
  hit(many(2000, (index) => `cpu_id != ${index + 8}`, 'AND'));
  hit(many(1000, (index) => `(cpu_id == 7 OR x == ${index})`, 'AND'));
  hit(
    many(
      650,
      (index) => `(x STARTS_WITH "a" AND cpu_id > ${index}) OR process_guid IN ("${GUIDS[0]}")`,
      'OR',
    ),
  );
  hit(
    many(19, () => `(${many(50, (index) => `(x == 1999 OR cpu_id == ${index})`, 'AND')} OR y == 5)`, 'AND'),
  );
  let nested = 'x == 1999';
  for (let level = 0; level < 60; level++) {
    const side = many(
      15,
      (index) => `cpu_id == ${index === 0 ? 7 : index + 100}`,
      level % 2 === 0 ? 'OR' : 'AND',
    );
    nested = level % 2 === 0 ? `(${nested} AND (${side}))` : `(${nested} OR (${side}))`;
  }
  hit(nested);
  hit(`cpu_id NOT_IN (${Array.from({ length: 8000 }, (_, index) => `${index}.5`).join(', ')})`);
  hit(`x NOT_IN (${Array.from({ length: 8000 }, (_, index) => 2n ** 63n + BigInt(index)).join(', ')})`);
  hit(`x IN (${Array.from({ length: 200_000 }, (_, index) => `"v${index}"`).join(', ')}, 1999)`);
});
