/** What an aggregation asks of each database, and of the indexes there. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { CopyStage, QueryJob } from '../../src/query/job.js';
import { parseQuery } from '../../src/query/parser.js';
import { planEvents } from '../../src/query/plan.js';
import { eventsJob } from '../../src/query/sql.js';
import { payloadExpression } from '../../src/query/sqlPredicate.js';
import { openStore, record, storeOf } from '../fixtures/queryStore.js';

function jobOf(text: string): QueryJob {
  const query = parseQuery(text);
  assert.ok(query.mode === 'EVENTS', text);
  return eventsJob(query, planEvents(query, 1_000_000n));
}

function copyOf(text: string): CopyStage {
  const [stage] = jobOf(text).stages;
  assert.ok(stage?.kind === 'copy', text);
  return stage;
}

test('[QX-13] [QX-14] [QX-24] aggregations read by the same indexes as raw queries, and sort no rows', () => {
  const db = openStore();
  db.exec('CREATE INDEX idx_events_event_type ON events(event_type COLLATE NOCASE)');
  db.exec('CREATE INDEX idx_events_cpu_id ON events(cpu_id)');
  db.exec(`CREATE INDEX idx_events_payload_x ON events(${payloadExpression(['x'])} COLLATE NOCASE)`);
  const planOf = (text: string): string => {
    const { sql, params } = copyOf(text).from;
    const rows = db.prepare(`EXPLAIN QUERY PLAN ${sql}`).all(...params) as { readonly detail: string }[];
    return rows.map(({ detail }) => detail).join('\n');
  };
  const cases: readonly (readonly [string, RegExp])[] = [
    ['EVENTS kacs.* COUNT BY x', /USING INDEX idx_events_event_type/],
    ['EVENTS WHERE x == "a" TOP 3 BY event_type', /USING INDEX idx_events_payload_x/],
    ['EVENTS WHERE cpu_id == 3 GROUP y AVG x', /MULTI-INDEX OR[\s\S]*idx_events_cpu_id \(cpu_id=\?\)/],
    ['EVENTS SINCE today DISTINCT event_type', /USING INDEX idx_events_timestamp/],
    ['EVENTS COUNT', /USING COVERING INDEX idx_events_timestamp/],
    ['EVENTS COUNT BY event_type', /SCAN events USING COVERING INDEX idx_events_event_type/],
    ['EVENTS kacs.* COUNT', /SEARCH events USING COVERING INDEX idx_events_event_type/],
    ['EVENTS SINCE today COUNT', /SEARCH events USING COVERING INDEX idx_events_timestamp/],
    // Every row is wanted: from end to end, not by way of an index.
    ['EVENTS COUNT BY origin_class', /^SCAN events$/],
    ['EVENTS WHERE z == 3 COUNT', /^SCAN events$/],
    ['EVENTS UNTIL today COUNT BY event_type', /USING INDEX idx_events_timestamp/],
  ];
  for (const [text, index] of cases) {
    assert.match(planOf(text), index, text);
    assert.doesNotMatch(planOf(text), /TEMP B-TREE/, text);
  }
});

test('[QX-11] [QX-24] names are quoted, values are bound, and paging is left to the merged groups', () => {
  const { stages, read } = jobOf(
    'EVENTS WHERE t == "x\' OR 1" GROUP Größe, a-b SUM n SORT sum DESC SKIP 2 TAKE 3 SELECT Größe',
  );
  const { from } = copyOf('EVENTS WHERE t == "x\' OR 1" GROUP Größe, a-b SUM n');
  assert.ok(from.sql.includes("msgpack_key(payload, '$.Größe')"));
  assert.ok(from.params.includes("x' OR 1"));
  assert.doesNotMatch(from.sql, /x'|LIMIT/);
  assert.equal(stages.length, 1);
  assert.deepEqual([read.store, read.skip, read.take, read.sort], ['scratch', 2n, 3n, []]);
});

test('[QL-51] [QL-64] [QX-24] a range that ends before it begins holds nothing, in whatever order records came', () => {
  const times = [10n, 5n, 7n, 1n];
  const db = storeOf(...times.map((second) => record('a', null, { timestamp: second * 1_000_000_000n })));
  const bound = (second: number) => `1970-01-01T00:00:${String(second).padStart(2, '0')}`;
  for (let since = 0; since <= 11; since++) {
    for (let until = 0; until <= 11; until++) {
      const { sql, params } = copyOf(`EVENTS SINCE ${bound(since)} UNTIL ${bound(until)} COUNT`).from;
      const count = db
        .prepare(sql)
        .pluck()
        .get(...params);
      const expected = times.filter((second) => since <= second && second < until).length;
      assert.equal(count, BigInt(expected), `${since} to ${until}`);
    }
  }
});
