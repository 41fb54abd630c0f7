import assert from 'node:assert/strict';
import { test } from 'node:test';
import type Database from 'better-sqlite3';
import fc from 'fast-check';
import { parseGuid } from '../../src/host/guid.js';
import { payloadExpression } from '../../src/query/sqlPredicate.js';
import type { Packed } from '../fixtures/packed.js';
import {
  compareOrder,
  type EventRecord,
  fieldValue,
  fold,
  GUIDS,
  matches,
  type ReferenceCondition,
} from '../fixtures/queryReference.js';
import { record, storeOf, str, translate, types } from '../fixtures/queryStore.js';

const numbers: readonly string[] = [
  ...['0', '1', '-1', '2', '5', '9007199254740992', '9007199254740993', '9223372036854775807'],
  ...['9223372036854775808', '9223372036854775809', '18446744073709551615', '-9223372036854775808'],
];
const floats: readonly number[] = [
  0,
  -0,
  1,
  1.5,
  -2.25,
  5,
  9007199254740992,
  2 ** 63,
  2 ** 63 + 4096,
  1e300,
  -1e300,
];
const strings: readonly string[] = [
  ...['', 'a', 'A', 'ab', 'aB.c', 'b', 'k', '\u212A', 'é', 'É', 'x\0y', 'X\0Y', 'x\0z', '5', '%', 'a_b', '*'],
  ...['[', '@', '💥', '\u{10FFFF}', GUIDS[1], `{${GUIDS[1].toUpperCase()}}`],
];

const scalar: fc.Arbitrary<Packed> = fc.oneof(
  fc.constantFrom(...numbers).map((text): Packed => ({ type: 'int', value: BigInt(text) })),
  fc
    .constantFrom(...floats, Number.NaN, Number.POSITIVE_INFINITY)
    .map((value): Packed => ({ type: 'float', value })),
  fc.constantFrom(...strings).map((value): Packed => ({ type: 'str', value })),
  fc.boolean().map((value): Packed => ({ type: 'bool', value })),
  fc.constant<Packed>({ type: 'nil' }),
  fc.constantFrom('', 'a', '5').map((text): Packed => ({ type: 'bin', value: Buffer.from(text) })),
  fc.constant<Packed>({ type: 'array', items: [] }),
  fc.constant<Packed>({ type: 'ext', code: 3, value: Uint8Array.of(1) }),
);

const PATHS = ['x', 'y', 'x.y', 'y.x.y', 'cpu_id', 'process_guid', 'timestamp'] as const;

const payload: fc.Arbitrary<EventRecord['payload']> = fc.oneof(
  { weight: 1, arbitrary: fc.constantFrom(null, Uint8Array.of(0xc1), Uint8Array.of(0x05), new Uint8Array()) },
  {
    weight: 12,
    arbitrary: fc
      .array(
        fc.tuple(
          fc.constantFrom('x', 'y', 'cpu_id', 'process_guid', 'sequence', 'timestamp', 'event_type'),
          fc.oneof(
            { weight: 4, arbitrary: scalar },
            {
              weight: 1,
              arbitrary: fc.array(fc.tuple(fc.constantFrom('x', 'y'), scalar), { maxLength: 2 }).map(
                (entries): Packed => ({
                  type: 'map',
                  entries: entries.map(([key, value]) => [str(key), value]),
                }),
              ),
            },
          ),
        ),
        // Duplicate keys are wanted: the first wins (QL-44).
        { maxLength: 4 },
      )
      .map((entries): Packed => ({ type: 'map', entries: entries.map(([key, value]) => [str(key), value]) })),
  },
);

const guid = fc.constantFrom(...GUIDS).map((text) => parseGuid(text));
const orNull = <Value>(arbitrary: fc.Arbitrary<Value>) => fc.option(arbitrary, { freq: 1 });

const recordArbitrary: fc.Arbitrary<EventRecord> = fc.record({
  columns: fc.record({
    boot_id: guid,
    timestamp: fc.bigInt(0n, 20n),
    cpu_id: orNull(fc.bigInt(0n, 5n)),
    sequence: orNull(fc.constantFrom(1n, 5n, 2n ** 63n - 1n)),
    origin_class: orNull(fc.bigInt(0n, 3n)),
    event_type: fc.constantFrom('kacs.a', 'KACS.A', 'kacs', 'synthetic.gap', 'a_b', 'a'),
    effective_token_guid: orNull(guid),
    true_token_guid: orNull(guid),
    process_guid: orNull(guid),
  }),
  payload,
});

interface Written {
  readonly text: string;
  readonly value: ReferenceCondition;
}

const quoted = (text: string): string => JSON.stringify(text);
const floatText = (value: number): string => {
  const text = Object.is(value, -0) ? '-0' : String(value);
  return /[.e]/.test(text) ? text : `${text}.0`;
};

type Operand = bigint | number | string;
const numberLiteral: fc.Arbitrary<readonly [string, Operand]> = fc.oneof(
  fc.constantFrom(...numbers).map((text) => [text, BigInt(text)] as const),
  fc.constantFrom(...floats).map((value) => [floatText(value), value] as const),
);
const anyLiteral: fc.Arbitrary<readonly [string, Operand]> = fc.oneof(
  numberLiteral,
  fc.constantFrom(...strings).map((text) => [quoted(text), text] as const),
  fc.boolean().map((value) => [String(value), value ? 1n : 0n] as const),
);
const stringLiteral = fc
  .constantFrom(...strings, 'KACS.a', 'kacs', 'synth')
  .map((text) => [quoted(text), text] as const);
const guidLiteral = fc.constantFrom(...GUIDS).map((text) => [quoted(text), text] as const);
const integerLiteral = fc.constantFrom(...numbers).map((text) => [text, BigInt(text) as Operand] as const);

const EQUALITY = ['==', '!='] as const;
const ORDER = ['==', '!=', '>', '>=', '<', '<='] as const;
const MATCH = ['STARTS_WITH', 'ENDS_WITH', 'CONTAINS'] as const;

function predicates(
  names: readonly string[],
  compare: readonly (typeof ORDER)[number][],
  literal: fc.Arbitrary<readonly [string, Operand]>,
  textual: boolean,
): fc.Arbitrary<Written> {
  const name = fc.constantFrom(...names);
  const compared = fc.tuple(name, fc.constantFrom(...compare), literal).map(
    ([field, operator, [text, value]]): Written => ({
      text: `${field} ${operator} ${text}`,
      value: { kind: 'compare', field, operator, value },
    }),
  );
  const listed = fc.tuple(name, fc.boolean(), fc.array(literal, { minLength: 1, maxLength: 5 })).map(
    ([field, negated, list]): Written => ({
      text: `${field} ${negated ? 'NOT_IN' : 'IN'} (${list.map(([text]) => text).join(', ')})`,
      value: { kind: 'in', field, negated, values: list.map(([, value]) => value) },
    }),
  );
  const nulls = fc.tuple(name, fc.boolean()).map(
    ([field, negated]): Written => ({
      text: `${field} IS ${negated ? 'NOT ' : ''}NULL`,
      value: { kind: 'null', field, negated },
    }),
  );
  const matched = fc.tuple(name, fc.constantFrom(...MATCH), stringLiteral).map(
    ([field, operator, [text, value]]): Written => ({
      text: `${field} ${operator} ${text}`,
      value: { kind: 'match', field, operator, value },
    }),
  );
  return textual ? fc.oneof(compared, listed, nulls, matched) : fc.oneof(compared, listed, nulls);
}

const predicate: fc.Arbitrary<Written> = fc.oneof(
  { weight: 6, arbitrary: predicates(PATHS.slice(0, 4), ORDER, anyLiteral, true) },
  { weight: 2, arbitrary: predicates(['cpu_id', 'sequence', 'origin_class'], ORDER, numberLiteral, false) },
  { weight: 1, arbitrary: predicates(['timestamp'], ORDER, integerLiteral, false) },
  { weight: 1, arbitrary: predicates(['event_type'], EQUALITY, stringLiteral, true) },
  { weight: 2, arbitrary: predicates(['process_guid', 'boot_id'], EQUALITY, guidLiteral, false) },
);

const { condition } = fc.letrec<{ condition: Written; list: Written }>((tie) => ({
  condition: fc.oneof({ maxDepth: 3, withCrossShrink: true }, predicate, tie('list')),
  list: fc
    .tuple(fc.constantFrom('and', 'or'), fc.array(tie('condition'), { minLength: 2, maxLength: 4 }))
    .map(
      ([kind, terms]): Written => ({
        text: `(${terms.map((term) => term.text).join(` ${kind.toUpperCase()} `)})`,
        value: { kind: kind === 'and' ? 'and' : 'or', terms: terms.map((term) => term.value) },
      }),
    ),
}));

test('[QL-20, QL-21, QL-22, QL-23, QL-26, QL-31, QL-44, QL-45, QL-46, QX-12] SQL agrees with a plain evaluator, with and without indexes', () => {
  const records = fc.sample(recordArbitrary, { numRuns: 250, seed: 20260501 });
  const bare = storeOf(...records);
  const indexed = storeOf(...records);
  for (const path of PATHS.slice(0, 4)) {
    const name = `idx_events_payload_${path.replaceAll('.', '_')}`;
    indexed.exec(`CREATE INDEX "${name}" ON events(${payloadExpression(path.split('.'))} COLLATE NOCASE)`);
  }
  for (const column of ['cpu_id', 'origin_class', 'process_guid', 'boot_id']) {
    indexed.exec(`CREATE INDEX idx_events_${column} ON events(${column})`);
  }
  indexed.exec('CREATE INDEX idx_events_event_type ON events(event_type COLLATE NOCASE)');
  const ids = (db: Database.Database, text: string): number[] => {
    const { sql, params } = translate(text);
    // Rowids are not part of the result; the same conditions under another head show them.
    const rows = db
      .prepare(sql.replace(/^SELECT .*? AS k0,/, 'SELECT timestamp AS k0, id,'))
      .raw()
      .all(...params);
    return (rows as unknown[][]).map((row) => Number(row[1]) - 1).sort((a, b) => a - b);
  };
  fc.assert(
    fc.property(condition, ({ text, value }) => {
      const expected = records.flatMap((each, index) => (matches(each, value) ? [index] : []));
      assert.deepEqual(ids(bare, `EVENTS WHERE ${text}`), expected);
      assert.deepEqual(ids(indexed, `EVENTS WHERE ${text}`), expected);
    }),
    { numRuns: 600 },
  );
});

test('[QL-60, QL-21] patterns agree with a plain matcher', () => {
  const letters = fc.constantFrom('a', 'A', 'b', '.', '?', '%', '_', '[', 'é');
  const name = fc.array(letters, { minLength: 1, maxLength: 6 }).map((list) => list.join(''));
  const pattern = fc
    .array(fc.oneof(letters, fc.constant('*')), { minLength: 1, maxLength: 6 })
    .map((list) => list.join(''));
  const names = fc.sample(name, { numRuns: 300, seed: 7 });
  const db = storeOf(...names.map((each) => record(each)));
  fc.assert(
    fc.property(pattern, (text) => {
      const parts = text.split('*').map((part) => fold(part).replace(/[.?[\]%\\^$+(){}|]/g, '\\$&'));
      const regex = new RegExp(`^${parts.join('[\\s\\S]*')}$`);
      const expected = names.filter((each) => regex.test(fold(each)));
      assert.deepEqual(types(db, `EVENTS "${text}" SORT timestamp`), expected);
    }),
    { numRuns: 300 },
  );
});

test('[QL-70, QL-71, QX-14] rows come in the order of the language', () => {
  const records = fc.sample(recordArbitrary, { numRuns: 200, seed: 99 });
  const db = storeOf(...records);
  const key = fc.tuple(
    fc.constantFrom('x', 'x.y', 'cpu_id', 'process_guid', 'event_type', 'timestamp'),
    fc.boolean(),
  );
  fc.assert(
    fc.property(fc.uniqueArray(key, { minLength: 1, maxLength: 3, selector: ([name]) => name }), (keys) => {
      const text = `EVENTS SORT ${keys.map(([name, down]) => `${name}${down ? ' DESC' : ''}`).join(', ')}`;
      const full = keys.some(([name]) => name === 'timestamp')
        ? keys
        : [...keys, ['timestamp', true] as const];
      const order = records.map((each, id) => ({ each, id }));
      order.sort((a, b) => {
        for (const [name, down] of full) {
          const result = compareOrder(fieldValue(a.each, name), fieldValue(b.each, name));
          if (result !== 0) return down ? -result : result;
        }
        return b.id - a.id;
      });
      const { sql, params } = translate(text);
      const rows = db
        .prepare(sql.replace(' FROM events', ', id FROM events'))
        .raw()
        .all(...params) as unknown[][];
      assert.deepEqual(
        rows.map((row) => Number(row.at(-1)) - 1),
        order.map(({ id }) => id),
      );
    }),
    { numRuns: 60 },
  );
});
