import assert from 'node:assert/strict';
import { test } from 'node:test';
import {
  crossFilters,
  crossTrackedFields,
  type ReadableRows,
  withRanges,
} from '../../src/query/crossFilter.js';
import { type QueryJob, type RangesStage, storesOf } from '../../src/query/job.js';
import { parseQuery } from '../../src/query/parser.js';
import { planEvents } from '../../src/query/plan.js';
import { eventsJob } from '../../src/query/sql.js';
import { Fragment, sql } from '../../src/query/sqlFragment.js';
import { logsJob } from '../../src/query/sqlLogs.js';
import { openStore } from '../fixtures/queryStore.js';

const SETTINGS = { crossTypeWindowMs: 15_000, crossTypeMaxLookbackSeconds: 604_800 };
const NOW = 1_777_000_000_000_000_000n;
const HOUR = 3_600_000_000_000n;

function job(text: string, readable?: ReadableRows): QueryJob {
  const query = parseQuery(text);
  assert.ok(query.mode === 'EVENTS' || query.mode === 'LOGS', text);
  const cross = crossFilters(query, NOW, SETTINGS, readable);
  const bare =
    query.mode === 'EVENTS' ? eventsJob(query, planEvents(query, NOW, cross)) : logsJob(query, NOW, cross);
  return withRanges(bare, cross);
}

const stages = (text: string, readable?: ReadableRows): readonly RangesStage[] =>
  job(text, readable).stages.filter((stage) => stage.kind === 'ranges');

test('[QX-3] [QL-112] the stages of filters come first, once for each filter that differs, with their stores', () => {
  const text =
    'EVENTS SINCE 1h ago WHERE METRIC a > 1 OR (LOG b EXISTS AND METRIC a > 1) WHERE METRIC a[] > 1 OR log b EXISTS COUNT';
  const all = job(text);
  assert.deepEqual(
    all.stages.slice(0, 3).map((stage) => stage.kind === 'ranges' && [stage.index, stage.store]),
    [
      [0, 'metrics'],
      [1, 'logs'],
      [2, 'metrics'],
    ],
  );
  assert.equal(all.stages.filter(({ kind }) => kind === 'ranges').length, 3);
  assert.ok(all.stages.length > 3, 'the aggregation has stages of its own');
  assert.deepEqual(storesOf(all), ['events', 'logs', 'metrics']);
  assert.deepEqual(job('EVENTS SINCE 1h ago WHERE x == 1').stages, []);
});

test('[QL-112] filters that differ in nothing but the sign of an infinity are two', () => {
  assert.equal(stages('EVENTS SINCE 1h ago WHERE METRIC m < -1e999 OR METRIC m < 1e999').length, 2);
});

test('[QX-4] [QX-15] only ANDed terms narrow the scan; under OR a term keeps its place; ranges are bound', () => {
  const read = (where: string) => job(`EVENTS SINCE 1h ago WHERE ${where}`).read;
  const narrowed = read('x == 1 AND (METRIC a > 1 AND LOG b EXISTS)');
  assert.match(narrowed.sql, /timestamp >= max\(\?, ranges_start\(\?\), ranges_start\(\?\)\)/);
  assert.match(narrowed.sql, /timestamp <= min\(\?, ranges_end\(\?\), ranges_end\(\?\)\)/);
  assert.equal(narrowed.sql.match(/in_ranges\(timestamp, \?\)/g)?.length, 2);
  assert.equal(narrowed.sql.split('?').length - 1, narrowed.params.length);
  const named = narrowed.params.flatMap((param) =>
    typeof param === 'object' && param !== null && 'ranges' in param ? [param.ranges] : [],
  );
  assert.deepEqual(named, [0, 1, 0, 1, 0, 1]);
  const kept = read('METRIC a > 1 OR x == 1');
  assert.doesNotMatch(kept.sql, /ranges_start|ranges_end/);
  assert.match(kept.sql, /in_ranges\(timestamp, \?\) OR /);
  assert.match(
    job('LOGS SINCE 1h ago WHERE EVENT a EXISTS').read.sql,
    /timestamp >= max\(\?, ranges_start\(\?\)\)/,
  );
});

test('[QX-4] the narrowed scan is a search in the index by both bounds, and an empty set reads no row', () => {
  const db = openStore();
  const { sql: text, params } = job('EVENTS SINCE 1h ago WHERE LOG b EXISTS').read;
  const empty = params.map((param) =>
    typeof param === 'object' && param !== null && 'ranges' in param ? Buffer.alloc(0) : param,
  );
  const rows = db.prepare(`EXPLAIN QUERY PLAN ${text}`).all(...empty) as { readonly detail: string }[];
  assert.match(
    rows.map(({ detail }) => detail).join('\n'),
    /USING INDEX \w+ \(timestamp>\? AND timestamp<\?\)/,
  );
  db.close();
});

test('[QL-114] the window of EVENT and LOG filters is centred, and the scan reaches half of it beyond the range', () => {
  const [stage] = stages('LOGS SINCE 1h ago UNTIL 30m ago WHERE EVENT kacs.* EXISTS');
  assert.ok(stage?.store === 'events');
  const half = 7_500_000_000n;
  const from = NOW - HOUR;
  const to = NOW - HOUR / 2n - 1n;
  assert.deepEqual(stage.spans.params.slice(0, 6), [half, from, to - half, half, from - half, to + half]);
});

test('[QL-113] [QL-111] a METRIC filter reads from CrossTypeWindowMs before SINCE and says what is compared', () => {
  const [stage] = stages('EVENTS SINCE 1h ago WHERE METRIC cpu.usage NOT_IN (1, 2.5)');
  assert.ok(stage?.store === 'metrics');
  assert.equal(stage.oldest, NOW - HOUR - 15_000_000_000n);
  assert.deepEqual(stage.range, { from: NOW - HOUR, to: NOW });
  assert.deepEqual(stage.test, { operator: 'NOT_IN', numbers: [1n, 2.5] });
  const unit = (metric: string) => {
    const [only] = stages(`EVENTS SINCE 1h ago WHERE METRIC ${metric} > 1`);
    return only?.store === 'metrics' ? only.unit : null;
  };
  assert.deepEqual(['a', 'a.*', '*.a', 'a[]', 'a*[b="c"]'].map(unit), [
    'all',
    'name',
    'name',
    'series',
    'series',
  ]);
  const [epoch] = stages('EVENTS SINCE 1970-01-01 UNTIL 1970-01-02 WHERE METRIC a > 1');
  assert.equal(epoch?.store === 'metrics' && epoch.oldest, 0n);
});

test('[QL-118] what a caller may not read does not exist for a filter: one condition per store decides', () => {
  const columns = { eventFilter: 'event_type', logFilter: 'origin', metricFilter: 'r.name' } as const;
  const readable: ReadableRows = ({ kind }) => sql`${new Fragment(columns[kind])} IS NOT ${'secret'}`;
  const statement = (text: string): string => {
    const [stage] = stages(text, readable);
    assert.ok(stage !== undefined);
    const { sql: made, params } = stage.store === 'metrics' ? stage.series : stage.spans;
    assert.equal(params.at(-1), 'secret');
    return made;
  };
  assert.match(statement('LOGS SINCE 1h ago WHERE EVENT * EXISTS'), /AND event_type IS NOT \?/);
  assert.match(statement('EVENTS SINCE 1h ago WHERE LOG a EXISTS'), /AND origin IS NOT \?/);
  assert.match(statement('EVENTS SINCE 1h ago WHERE METRIC a > 1'), /AND r\.name IS NOT \?/);
});

test('[QX-42] an EVENT filter counts as event_type, METRIC and LOG filters as nothing', () => {
  const tracked = (text: string): readonly string[] => {
    const query = parseQuery(text);
    assert.ok(query.mode !== 'INDEX');
    return crossTrackedFields(query.where);
  };
  assert.deepEqual(tracked('LOGS SINCE 1h ago WHERE EVENT a EXISTS OR EVENT b EXISTS'), ['event_type']);
  assert.deepEqual(tracked('METRIC m[] SINCE 1h ago WHERE value > 1 AND (EVENT a EXISTS OR LOG b EXISTS)'), [
    'event_type',
  ]);
  assert.deepEqual(tracked('METRIC m[] SINCE 1h ago WHERE LOG b EXISTS'), []);
  assert.deepEqual(tracked('LOGS'), []);
  const query = parseQuery('EVENTS SINCE 1h ago WHERE x == 1 AND METRIC m > 1 AND LOG b EXISTS');
  assert.ok(query.mode === 'EVENTS');
  assert.deepEqual(planEvents(query, NOW, crossFilters(query, NOW, SETTINGS)).trackedFields, ['x']);
});
