import assert from 'node:assert/strict';
import { join } from 'node:path';
import { test } from 'node:test';
import {
  FIND_SERIES,
  FIND_SERIES_BY_TEXT,
  INSERT_SERIES,
  METRIC_SCHEMA,
} from '../../src/stores/metricSchema.js';
import { openStore } from '../../src/stores/storeFile.js';
import { METADATA_SHAPE, shapeOf, temporaryDirectory, testSingleStore } from '../fixtures/singleStores.js';

testSingleStore({
  schema: METRIC_SCHEMA,
  ids: {
    creation: '[MET-50, MET-53, MET-54, LIFE-106]',
    pragmas: '[MET-41, MET-42, MET-54, MET-55, MET-57]',
    version: '[MET-55, FAIL-21]',
    structure: '[MET-55, FAIL-12, FAIL-13]',
    path: '[MET-51]',
    damage: '[FAIL-12, FAIL-18, FAIL-19]',
  },
  damages: [
    ['DROP INDEX idx_samples_series_timestamp', /index idx_samples_series_timestamp is missing/],
    ['DROP INDEX idx_series_name', /index idx_series_name is missing/],
    ['DROP INDEX idx_series_label_hash', /index idx_series_label_hash is missing/],
    ['DROP TABLE samples', /table samples is missing/],
    ['DROP TABLE rollups', /table rollups is missing/],
    ['ALTER TABLE samples DROP COLUMN histogram_data', /column samples\.histogram_data is missing/],
  ],
});

test('[MET-46, MET-47, MET-48, MET-49, MET-50, MET-54, ROL-7, ROL-8] a new metric store has exactly the tables and indexes of the specification', (t) => {
  const db = openStore(join(temporaryDirectory(t), 'metrics.db'), METRIC_SCHEMA);
  db.defaultSafeIntegers(false);
  assert.deepEqual(shapeOf(db, 'series'), [
    { name: 'id', type: 'INTEGER', required: 0, pk: 1 },
    { name: 'name', type: 'TEXT', required: 1, pk: 0 },
    { name: 'labels', type: 'TEXT', required: 1, pk: 0 },
    { name: 'type', type: 'INTEGER', required: 1, pk: 0 },
    { name: 'label_hash', type: 'INTEGER', required: 1, pk: 0 },
    { name: 'boundaries_hash', type: 'INTEGER', required: 0, pk: 0 },
  ]);
  assert.deepEqual(shapeOf(db, 'samples'), [
    { name: 'series_id', type: 'INTEGER', required: 1, pk: 0 },
    { name: 'timestamp', type: 'INTEGER', required: 1, pk: 0 },
    { name: 'value', type: 'REAL', required: 1, pk: 0 },
    { name: 'histogram_data', type: 'BLOB', required: 0, pk: 0 },
  ]);
  assert.deepEqual(shapeOf(db, 'rollups'), [
    { name: 'id', type: 'INTEGER', required: 0, pk: 1 },
    { name: 'series_id', type: 'INTEGER', required: 1, pk: 0 },
    { name: 'function', type: 'INTEGER', required: 1, pk: 0 },
    { name: 'window_seconds', type: 'INTEGER', required: 1, pk: 0 },
    { name: 'window_start', type: 'INTEGER', required: 1, pk: 0 },
    { name: 'value', type: 'REAL', required: 1, pk: 0 },
    { name: 'sample_count', type: 'INTEGER', required: 1, pk: 0 },
  ]);
  assert.deepEqual(shapeOf(db, 'metadata'), METADATA_SHAPE);
  const tables = db
    .prepare("SELECT name FROM sqlite_master WHERE type = 'table' ORDER BY name")
    .pluck()
    .all();
  assert.deepEqual(tables, ['metadata', 'rollups', 'samples', 'series']);
  const indexes = db.prepare("SELECT sql FROM sqlite_master WHERE name LIKE 'idx_%' ORDER BY name");
  assert.deepEqual(indexes.pluck().all(), [
    'CREATE INDEX idx_samples_series_timestamp ON samples(series_id, timestamp)',
    'CREATE INDEX idx_series_label_hash ON series(label_hash)',
    'CREATE INDEX idx_series_name ON series(name)',
  ]);
  const unique = (table: string) =>
    db
      .prepare(
        `SELECT c.name FROM pragma_index_list(?) AS l, pragma_index_info(l.name) AS c
         WHERE l."unique" AND l.origin = 'u' ORDER BY c.seqno`,
      )
      .pluck()
      .all(table);
  assert.deepEqual(unique('series'), ['name', 'labels', 'boundaries_hash']);
  assert.deepEqual(unique('rollups'), ['series_id', 'function', 'window_seconds', 'window_start']);
  const references = (table: string) =>
    db.prepare('SELECT "table", "from", "to" FROM pragma_foreign_key_list(?)').raw().all(table);
  assert.deepEqual(references('samples'), [['series', 'series_id', 'id']]);
  assert.deepEqual(references('rollups'), [['series', 'series_id', 'id']]);
  db.close();
});

test('[MET-28, MET-36] a series is found by all of its identity, NULL included, in one step of the UNIQUE index', (t) => {
  const db = openStore(join(temporaryDirectory(t), 'metrics.db'), METRIC_SCHEMA);
  const insert = db.prepare(INSERT_SERIES);
  insert.run('cpu', 'core=0', 1, 11n, null);
  insert.run('cpu', 'core=0', 2, 11n, 77n);
  insert.run('cpu', 'core=1', 1, 11n, null);
  const find = db.prepare(FIND_SERIES);
  assert.deepEqual(find.get('cpu', 11n, 'core=0', null), { id: 1n, type: 1n });
  assert.deepEqual(find.get('cpu', 11n, 'core=0', 77n), { id: 2n, type: 2n });
  assert.deepEqual(find.get('cpu', 11n, 'core=1', null), { id: 3n, type: 1n }, 'a collision of the hash');
  assert.equal(find.get('cpu', 12n, 'core=0', null), undefined, 'another hash');
  assert.equal(find.get('CPU', 11n, 'core=0', null), undefined, 'names are case-sensitive');
  const byText = db.prepare(FIND_SERIES_BY_TEXT);
  assert.deepEqual(byText.get('cpu', 'core=0', null), { id: 1n, type: 1n });
  for (const sql of [FIND_SERIES, FIND_SERIES_BY_TEXT]) {
    const parameters = [...sql].filter((c) => c === '?').map(() => null);
    const plan = db.prepare(`EXPLAIN QUERY PLAN ${sql}`).all(...parameters) as { detail: string }[];
    assert.deepEqual(
      plan.map(({ detail }) => detail),
      ['SEARCH series USING INDEX sqlite_autoindex_series_1 (name=? AND labels=? AND boundaries_hash=?)'],
    );
  }
  db.close();
});
