import assert from 'node:assert/strict';
import { test } from 'node:test';
import Database from 'better-sqlite3';
import fc from 'fast-check';
import { addonPath, native } from '../../src/native/addon.js';
import { crossFilters } from '../../src/query/crossFilter.js';
import { parseQuery } from '../../src/query/parser.js';
import { planEvents } from '../../src/query/plan.js';
import { metricJob } from '../../src/query/sqlMetric.js';
import { payloadExpression } from '../../src/query/sqlPredicate.js';
import { SAMPLES } from '../../src/query/sqlRanges.js';
import { METRIC_SCHEMA } from '../../src/stores/metricSchema.js';
import { condition, numberCondition, PATHS, recordArbitrary } from '../fixtures/queryArbitraries.js';
import { compareOrder, fieldValue, fold, matches } from '../fixtures/queryReference.js';
import { record, storeOf, translate, types } from '../fixtures/queryStore.js';

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

test('[QL-23, QL-88, QL-111, QL-112] SQL and C agree with a plain comparison of sample values', () => {
  const values = [
    0,
    -0,
    1.5,
    -2.25,
    2 ** 53,
    2 ** 53 + 2,
    2 ** 63 - 1024,
    2 ** 63,
    2 ** 63 + 2048,
    2 ** 64,
    1e300,
    -1e300,
  ];
  const db = new Database(':memory:');
  db.loadExtension(addonPath);
  for (const statement of METRIC_SCHEMA.statements) db.exec(statement);
  db.exec("INSERT INTO series (name, labels, type, label_hash) VALUES ('m', '', 1, 0)");
  // The time of each, in ns, is its place.
  const insert = db.prepare('INSERT INTO samples VALUES (1, ?, ?, NULL)');
  for (const [place, value] of values.entries()) insert.run(BigInt(place), value);
  const now = BigInt(values.length - 1);
  const slot = Number(db.prepare('SELECT eventd_slot()').pluck().get());
  const bySql = (text: string): number[] => {
    const query = parseQuery(`METRIC m[] SINCE 1970-01-01 WHERE value ${text}`);
    assert.ok(query.mode === 'METRIC');
    const { sql, params } = metricJob(query, now).read;
    // The record is no part of the question; the sort keys in front of it begin with the time.
    return (
      db
        .prepare(sql)
        .raw()
        .all(...params) as unknown[][]
    ).map(([time]) => Number(time));
  };
  const byRanges = (text: string): number[] => {
    const query = parseQuery(`EVENTS SINCE 1970-01-01 WHERE METRIC m[] ${text}`);
    assert.ok(query.mode === 'EVENTS');
    const cross = crossFilters(query, now, { crossTypeWindowMs: 1000, crossTypeMaxLookbackSeconds: 3600 });
    planEvents(query, now, cross);
    const [stage] = cross?.stages ?? [];
    assert.ok(stage?.store === 'metrics');
    const { range, oldest, test } = stage;
    const sources = [{ database: 0, id: 1n, series: 0, skip: null }];
    const handle = native.rangesOpen({
      parts: [{ slot, sql: SAMPLES, params: [] }],
      maxBytes: 1 << 20,
      samples: { ...range, oldest, test, units: [0], sources },
    });
    const { ranges } = native.rangesStep(handle, 1000);
    native.rangesClose(handle);
    assert.ok(ranges !== null);
    const words = new BigInt64Array(ranges.slice().buffer);
    const isIn = (time: bigint) =>
      words.some((from, at) => at % 2 === 0 && from <= time && time <= (words[at + 1] ?? -1n));
    return values.flatMap((_, place) => (isIn(BigInt(place)) ? [place] : []));
  };
  fc.assert(
    fc.property(numberCondition, ({ text, holds }) => {
      const expected = values.flatMap((value, place) => (holds(value) ? [place] : []));
      assert.deepEqual(bySql(text), expected, 'SQL');
      assert.deepEqual(byRanges(text), expected, 'C');
    }),
    { numRuns: 500, seed: 20260504 },
  );
});
