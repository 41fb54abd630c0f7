/** Conditions of streams about other stores: all streams wait for each, so none may take much. */
import assert from 'node:assert/strict';
import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import Database from 'better-sqlite3';
import { CrossTerms, type TermLimits } from '../../actors/query/tail/crossTerms.js';
import { native } from '../../src/native/addon.js';
import { parseQuery } from '../../src/query/parser.js';
import { eventsTail } from '../../src/query/predicateProgram.js';
import { LOG_SCHEMA } from '../../src/stores/logSchema.js';
import { METRIC_SCHEMA } from '../../src/stores/metricSchema.js';
import { temporaryDirectory } from '../fixtures/singleStores.js';

const NOW = 1_000_000_000_000n;
const ROOMY: TermLimits = { series: 1000, ms: 60_000 };

function world(t: TestContext) {
  const directory = temporaryDirectory(t);
  const events = join(directory, 'events');
  mkdirSync(events);
  const paths = {
    eventStorePath: events,
    logStorePath: join(directory, 'logs.db'),
    metricStorePath: join(directory, 'metrics.db'),
  };
  const open = (path: string, statements: readonly string[]) => {
    const db = new Database(path);
    t.after(() => db.close());
    for (const statement of statements) db.exec(statement);
    return db;
  };
  const logs = open(paths.logStorePath, LOG_SCHEMA.statements);
  const metrics = open(paths.metricStorePath, METRIC_SCHEMA.statements);
  /** The terms of one stream, under these limits. */
  const judge = (where: string, limits: Partial<TermLimits>) => {
    const query = parseQuery(`EVENTS SINCE 1h ago WHERE ${where} STREAM`);
    assert.ok(query.mode === 'EVENTS');
    const cross = new CrossTerms(paths, native, assert.fail, { ...ROOMY, ...limits });
    t.after(() => cross.close());
    return cross.forStream(eventsTail(query, NOW).terms, 10_000);
  };
  return { logs, metrics, judge };
}

function addSeries(metrics: Database.Database, prefix: string, count: number): void {
  metrics.exec(`
    WITH RECURSIVE n(i) AS (VALUES(1) UNION ALL SELECT i + 1 FROM n WHERE i < ${count})
      INSERT INTO series (name, labels, type, label_hash) SELECT '${prefix}' || i, '', 1, 0 FROM n;
    INSERT INTO samples SELECT id, 1, 9, NULL FROM series WHERE name GLOB '${prefix}*'`);
}

test('[STR-23, FAIL-33, WIRE-21] a METRIC condition of a stream takes in so many series and no more, at its start and later', (t) => {
  const { metrics, judge } = world(t);
  addSeries(metrics, 'cpu.', 3);
  assert.throws(() => judge('METRIC *[] > 5', { series: 2 }), {
    name: 'QueryError',
    text: 'limit exceeded: METRIC *[] takes in more than 2 series; narrow it by its name or by labels',
  });
  const terms = judge('METRIC *[] > 5', { series: 3 });
  const narrow = judge('METRIC cpu.1 > 5', { series: 3 });
  assert.deepEqual([...terms.truths(NOW)], [1]);
  addSeries(metrics, 'disk.', 1);
  assert.throws(() => terms.truths(NOW), {
    text: /^limit exceeded: METRIC \*\[\] takes in more than 3 series/,
  });
  assert.deepEqual([...narrow.truths(NOW)], [1]);
});

test('[STR-23, FAIL-33, WIRE-21] a METRIC condition of a stream that takes too long is given up', (t) => {
  const { metrics, judge } = world(t);
  const where = 'METRIC cpu.*[] > 5';
  const [hasty, patient] = [judge(where, { series: 1e6, ms: 20 }), judge(where, { series: 1e6 })];
  assert.deepEqual([...patient.truths(NOW)], [0]);
  addSeries(metrics, 'cpu.', 50_000);
  assert.deepEqual([...patient.truths(NOW)], [1]);
  assert.throws(() => hasty.truths(NOW), {
    name: 'QueryError',
    text: 'limit exceeded: METRIC cpu.*[] takes longer than 20 ms to judge for a batch; a stream needs a narrower condition',
  });
});

test('[STR-23, FAIL-33, WIRE-21] so is one that looks through a window without end, in the middle of its statement', (t) => {
  const { logs, judge } = world(t);
  const where = 'LOG svc CONTAINING "boom" EXISTS';
  const [hasty, patient] = [judge(where, { ms: 1 }), judge(where, {})];
  logs.exec(`
    WITH RECURSIVE n(i) AS (VALUES(1) UNION ALL SELECT i + 1 FROM n WHERE i < 50000)
      INSERT INTO logs (boot_id, timestamp, origin, is_error, message)
      SELECT zeroblob(16), ${NOW} + i, 'svc', 0, printf('%.200c', 'x') FROM n`);
  assert.deepEqual([...patient.truths(NOW)], [0]);
  assert.throws(() => hasty.truths(NOW), {
    text: 'limit exceeded: LOG svc takes longer than 1 ms to judge for a batch; a stream needs a narrower condition',
  });
  assert.deepEqual([...patient.truths(NOW)], [0], 'nothing goes on being interrupted');
});
