/** Retention deletes series and SQLite gives their ids to others: whoever keeps an id must not take them for the same. */
import assert from 'node:assert/strict';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import type Database from 'better-sqlite3';
import { MemoryShare, QueryMemory } from '../../actors/query/memory.js';
import type { StageContext } from '../../actors/query/stages/context.js';
import { runRanges } from '../../actors/query/stages/ranges.js';
import { native } from '../../src/native/addon.js';
import { crossFilters } from '../../src/query/crossFilter.js';
import type { SampleRangesStage } from '../../src/query/job.js';
import { parseQuery } from '../../src/query/parser.js';
import { planEvents } from '../../src/query/plan.js';
import { RollupComputation, SEARCH_START } from '../../src/rollups/computation.js';
import { METRIC_SCHEMA } from '../../src/stores/metricSchema.js';
import { ReadConnection } from '../../src/stores/readConnection.js';
import { openMetricTable } from '../../src/stores/retentionMetrics.js';
import { openStore } from '../../src/stores/storeFile.js';
import { pairs, ROLLUP_LIMITS } from '../fixtures/rollups.js';
import { temporaryDirectory } from '../fixtures/singleStores.js';

const SECOND_NS = 1_000_000_000n;
const NOW = 3600n * SECOND_NS;

/** A store with one series, `cpu`, a counter that stays below 90. */
function world(t: TestContext) {
  const file = join(temporaryDirectory(t), 'metrics.db');
  const db = openStore(file, METRIC_SCHEMA);
  t.after(() => db.close());
  addSeries(db, 'cpu', 0, 10);
  /** Makes its id another's. */
  const replace = (name: string, type: number, value: number) => {
    db.exec('DELETE FROM samples WHERE series_id = 1');
    const table = openMetricTable(file);
    assert.deepEqual(
      table.database.batch(() => table.deleteEmptySeries(1000)),
      [1n],
    );
    table.database.close();
    assert.equal(addSeries(db, name, type, value), 1);
  };
  return { file, db, replace };
}

function addSeries(db: Database.Database, name: string, type: number, value: number): number {
  const series = db.prepare(
    "INSERT INTO series (name, labels, type, label_hash, boundaries_hash) VALUES (?, '', ?, 0, ?)",
  );
  const id = Number(series.run(name, type, type === 2 ? 1 : null).lastInsertRowid);
  const sample = db.prepare('INSERT INTO samples VALUES (?, ?, ?, NULL)');
  for (let second = 10n; second < 3600n; second += 10n) sample.run(id, second * SECOND_NS, value);
  return id;
}

/** The METRIC filter of a query over all the time, as a stage. */
function stageOf(where: string): SampleRangesStage {
  const query = parseQuery(`EVENTS SINCE 1970-01-01 WHERE ${where}`);
  assert.ok(query.mode === 'EVENTS');
  const cross = crossFilters(query, NOW, { crossTypeWindowMs: 1000, crossTypeMaxLookbackSeconds: 3600 });
  planEvents(query, NOW, cross);
  const [stage] = cross?.stages ?? [];
  assert.ok(stage?.store === 'metrics');
  return stage;
}

test('[ACL-51, QL-112, QL-118] a METRIC filter reads the samples of the series it has found, whoever gets their ids meanwhile', (t) => {
  const { file, replace } = world(t);
  const connection = new ReadConnection({ path: file, identity: '' });
  t.after(() => connection.close());
  let made: Uint8Array | null = null;
  const context: StageContext = {
    connections: () => [connection],
    get scratch(): never {
      throw new Error('ranges need no scratch database');
    },
    memory: new MemoryShare(QueryMemory.allocate(1, 1 << 30), 0),
    native,
    bind: (params) => params as never,
    execute: (call) => call(),
    setRanges: (_, ranges) => {
      made = ranges;
    },
  };
  const run = (between: () => void): number => {
    const steps = runRanges(stageOf('METRIC cpu[] > 90'), context);
    steps.next();
    between();
    while (steps.next().done !== true);
    assert.ok(made !== null);
    return made.length;
  };
  assert.equal(
    run(() => replace('secret', 1, 100)),
    0,
  );
  assert.equal(
    run(() => replace('cpu', 1, 100)),
    0,
    'a series that comes later is for the next query',
  );
  assert.equal(
    run(() => {}),
    16,
    'and no snapshot is left behind',
  );
});

test('[ROL-5, ROL-18, MET-64] a unit of rollups that was found before its id became a histogram’s or a gauge’s makes no rows', (t) => {
  for (const [pair, name, type] of [
    ['avg_60', 'load', 2],
    ['rate_60', 'level', 1],
    ['avg_60', 'level', 1],
  ] as const) {
    const { file, db, replace } = world(t);
    const computation = new RollupComputation(file);
    t.after(() => computation.close());
    const moment = { nowNs: NOW, limits: ROLLUP_LIMITS };
    const [wanted = assert.fail()] = pairs(pair);
    const { unit } = computation.search(wanted, SEARCH_START, null, moment);
    assert.ok(unit !== null);
    replace(name, type, 5);
    const { rows } = computation.compute(unit, moment);
    assert.equal(rows > 0, pair === 'avg_60' && type === 1, `${pair} of ${name}`);
    assert.equal(Number(db.prepare('SELECT count(*) FROM rollups').pluck().get()), rows);
  }
});
