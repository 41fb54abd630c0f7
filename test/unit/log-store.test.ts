import assert from 'node:assert/strict';
import { join } from 'node:path';
import { test } from 'node:test';
import { LOG_SCHEMA } from '../../src/stores/logSchema.js';
import { openStore } from '../../src/stores/storeFile.js';
import { METADATA_SHAPE, shapeOf, temporaryDirectory, testSingleStore } from '../fixtures/singleStores.js';

testSingleStore({
  schema: LOG_SCHEMA,
  ids: {
    creation: '[LOG-35, LOG-39, LOG-40, LIFE-105]',
    pragmas: '[LOG-40, LOG-41, LOG-42, LOG-43, LOG-45]',
    version: '[LOG-36, LOG-41, FAIL-21]',
    structure: '[LOG-41, FAIL-12, FAIL-13]',
    path: '[LOG-37]',
    damage: '[FAIL-12, FAIL-18, FAIL-19]',
  },
  damages: [
    ['DROP INDEX idx_logs_origin', /index idx_logs_origin is missing/],
    ['DROP INDEX idx_logs_timestamp', /index idx_logs_timestamp is missing/],
    ['ALTER TABLE logs RENAME TO gone', /table logs is missing/],
    ['ALTER TABLE logs DROP COLUMN message', /column logs\.message is missing/],
  ],
});

test('[LOG-33, LOG-34, LOG-35, LOG-40] a new log store has exactly the tables and indexes of the specification', (t) => {
  const file = join(temporaryDirectory(t), 'logs.db');
  const db = openStore(file, LOG_SCHEMA);
  db.defaultSafeIntegers(false);
  assert.deepEqual(shapeOf(db, 'logs'), [
    { name: 'id', type: 'INTEGER', required: 0, pk: 1 },
    { name: 'boot_id', type: 'BLOB', required: 1, pk: 0 },
    { name: 'timestamp', type: 'INTEGER', required: 1, pk: 0 },
    { name: 'origin', type: 'TEXT', required: 1, pk: 0 },
    { name: 'is_error', type: 'INTEGER', required: 1, pk: 0 },
    { name: 'message', type: 'TEXT', required: 1, pk: 0 },
  ]);
  assert.deepEqual(shapeOf(db, 'metadata'), METADATA_SHAPE);
  const objects = db.prepare("SELECT name FROM sqlite_master WHERE name NOT LIKE 'sqlite_%' ORDER BY name");
  assert.deepEqual(objects.pluck().all(), ['idx_logs_origin', 'idx_logs_timestamp', 'logs', 'metadata']);
  const indexes = db.prepare("SELECT sql FROM sqlite_master WHERE name LIKE 'idx_%' ORDER BY name");
  assert.deepEqual(indexes.pluck().all(), [
    'CREATE INDEX idx_logs_origin ON logs(origin)',
    'CREATE INDEX idx_logs_timestamp ON logs(timestamp)',
  ]);
  db.close();
});
