/** Conditions of streams about other stores: all streams wait for each, so none may take much. */
import assert from 'node:assert/strict';
import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import type Database from 'better-sqlite3';
import { CrossTerms, type TermLimits } from '../../actors/query/tail/crossTerms.js';
import { native } from '../../src/native/addon.js';
import { parseQuery } from '../../src/query/parser.js';
import { eventsTail, type TailTerm } from '../../src/query/predicateProgram.js';
import { LOG_SCHEMA } from '../../src/stores/logSchema.js';
import { METRIC_SCHEMA } from '../../src/stores/metricSchema.js';
import { openMetricTable } from '../../src/stores/retentionMetrics.js';
import { openStore, type StoreSchema } from '../../src/stores/storeFile.js';
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
  const open = (path: string, schema: StoreSchema) => {
    const db = openStore(path, schema);
    t.after(() => db.close());
    return db;
  };
  const logs = open(paths.logStorePath, LOG_SCHEMA);
  const metrics = open(paths.metricStorePath, METRIC_SCHEMA);
  /** What retention does to series that have lost their samples. */
  const sweepSeries = () => {
    const table = openMetricTable(paths.metricStorePath);
    table.database.batch(() => table.deleteEmptySeries(1000));
    table.database.close();
  };
  /** The terms of one stream, under these limits. */
  const judge = (where: string, limits: Partial<TermLimits> = {}) => {
    const cross = new CrossTerms(paths, native, assert.fail, { ...ROOMY, ...limits });
    t.after(() => cross.close());
    return cross.forStream(termsOf(where), 10_000);
  };
  return { logs, metrics, judge, sweepSeries };
}

function termsOf(where: string): readonly TailTerm[] {
  const query = parseQuery(`EVENTS SINCE 1h ago WHERE ${where} STREAM`);
  assert.ok(query.mode === 'EVENTS');
  return eventsTail(query, NOW).terms;
}

const tooSlow = (ms: number, term: string) =>
  `limit exceeded: the conditions of the stream about other stores take longer than ${ms} ms to judge for a batch, which ended in ${term}; a stream needs fewer or narrower ones`;

function addLogs(logs: Database.Database, count: number): void {
  logs.exec(`
    WITH RECURSIVE n(i) AS (VALUES(1) UNION ALL SELECT i + 1 FROM n WHERE i < ${count})
      INSERT INTO logs (boot_id, timestamp, origin, is_error, message)
      SELECT zeroblob(16), ${NOW} + i, 'svc', 0, printf('%.200c', 'x') FROM n`);
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
    text: 'limit exceeded: with METRIC *[] the METRIC conditions of the stream take in more than 2 series; narrow them by names or by labels',
  });
  const terms = judge('METRIC *[] > 5', { series: 3 });
  const narrow = judge('METRIC cpu.1 > 5', { series: 3 });
  assert.deepEqual([...terms.truths(NOW)], [1]);
  addSeries(metrics, 'disk.', 1);
  assert.throws(() => terms.truths(NOW), {
    text: /^limit exceeded: with METRIC \*\[\] the METRIC conditions of the stream take in more than 3 series/,
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
    text: tooSlow(20, 'METRIC cpu.*[]'),
  });
});

test('[STR-23, FAIL-33, WIRE-21] so is one that looks through a window without end, in the middle of its statement', (t) => {
  const { logs, judge } = world(t);
  const where = 'LOG svc CONTAINING "boom" EXISTS';
  const [hasty, patient] = [judge(where, { ms: 1 }), judge(where, {})];
  addLogs(logs, 50_000);
  assert.deepEqual([...patient.truths(NOW)], [0]);
  assert.throws(() => hasty.truths(NOW), {
    text: tooSlow(1, 'LOG svc'),
  });
  assert.deepEqual([...patient.truths(NOW)], [0], 'nothing goes on being interrupted');
});

test('[STR-6, STR-23, FAIL-33] conditions that say the same are one, and all of a stream together have one time to be judged', (t) => {
  const { logs, judge } = world(t);
  const term = (text: string) => `LOG svc CONTAINING "${text}" EXISTS`;
  const same = termsOf(Array.from({ length: 1000 }, () => `${term('x')} OR ${term('y')}`).join(' OR '));
  assert.equal(same.length, 2);
  addLogs(logs, 5000);
  const alone = judge(term('boom'), { ms: 100 });
  const many = Array.from({ length: 400 }, (_, n) => term(`boom${n}`)).join(' OR ');
  const together = judge(many, { ms: 100 });
  assert.deepEqual([...alone.truths(NOW)], [0]);
  assert.throws(() => together.truths(NOW), { text: tooSlow(100, 'LOG svc') });
  assert.deepEqual([...alone.truths(NOW)], [0]);
});

test('[STR-23, FAIL-33] the METRIC conditions of a stream together take in so many series and no more', (t) => {
  const { metrics, judge } = world(t);
  addSeries(metrics, 'cpu.', 3);
  const where = 'METRIC cpu.*[] > 5 AND METRIC *[] > 6';
  assert.throws(() => judge(where, { series: 5 }), { text: /more than 5 series/ });
  const terms = judge(where, { series: 9 });
  assert.deepEqual([...terms.truths(NOW)], [1, 1]);
  addSeries(metrics, 'cpu.x', 1);
  assert.deepEqual([...terms.truths(NOW)], [1, 1], 'what it had before does not count again');
  addSeries(metrics, 'disk.', 2);
  assert.throws(() => terms.truths(NOW), { text: /more than 9 series/ });
});

test('[ACL-51, STR-21, STR-25, MET-64] a METRIC condition sees neither another series under an id it knew, nor misses one', (t) => {
  const { metrics, judge, sweepSeries } = world(t);
  const add = (id: number, name: string, labels: string, value: number, type = 1) => {
    metrics
      .prepare(
        'INSERT INTO series (id, name, labels, type, label_hash, boundaries_hash) VALUES (?, ?, ?, ?, 0, ?)',
      )
      .run(id, name, labels, type, type === 2 ? 1 : null);
    metrics.prepare('INSERT INTO samples VALUES (?, 1, ?, NULL)').run(id, value);
  };
  const remove = (...ids: number[]) => {
    for (const id of ids) metrics.prepare('DELETE FROM samples WHERE series_id = ?').run(id);
  };
  add(1, 'cpu', 'core=0', 10);
  add(2, 'cpu', 'core=1', 10);
  const terms = judge('METRIC cpu[] > 90');
  const truth = () => terms.truths(NOW)[0];
  assert.equal(truth(), 0);
  // Behind everybody's back: not even counted.
  remove(2);
  metrics.exec('DELETE FROM series WHERE id = 2');
  add(2, 'secret', '', 100);
  assert.equal(truth(), 0, 'a series of another name');
  remove(2);
  metrics.exec('DELETE FROM series WHERE id = 2');
  add(2, 'cpu', 'core=1', 100, 2);
  assert.equal(truth(), 0, 'a histogram');
  remove(2);
  sweepSeries();
  add(2, 'cpu', 'core=2', 100);
  assert.equal(truth(), 1, 'another core');
  add(3, 'disk', '', 1);
  add(4, 'net', '', 1);
  remove(2);
  assert.equal(truth(), 0);
  remove(3, 4);
  sweepSeries();
  add(2, 'cpu', 'core=3', 10);
  add(3, 'cpu', 'core=4', 100);
  add(4, 'net', '', 1);
  assert.equal(truth(), 1, 'one under the id of another name, below a series that is back');
});
