/** LOGS and METRIC queries over the socket, on stores with the real schemas. */
import assert from 'node:assert/strict';
import { join } from 'node:path';
import { test } from 'node:test';
import { encode } from '@msgpack/msgpack';
import { formatGuid } from '../../src/host/guid.js';
import { LOG_SCHEMA } from '../../src/stores/logSchema.js';
import { METRIC_SCHEMA } from '../../src/stores/metricSchema.js';
import { setStoreAside } from '../../src/stores/singleStore.js';
import { openStore } from '../../src/stores/storeFile.js';
import { makeStore, startService, type TestStore } from '../fixtures/queryService.js';
import { ask } from '../fixtures/rawQueryClient.js';

const BOOT = Buffer.from('0102030405060708090a0b0c0d0e0f10', 'hex');
/** Far from the edges of the ranges below, however slowly the test runs. */
const UNIT = 100_000_000_000n;
const NOW = BigInt(Date.now()) * 1_000_000n;

type Line = readonly [age: bigint, origin: string, isError: 0 | 1, message: string];

const LINES: readonly Line[] = [
  [50n, 'loregd', 0, 'started'],
  [40n, 'peinit', 1, 'Unit FAILED to start'],
  [30n, 'LoregD', 1, 'hive is 100% full'],
  [20n, 'peinit', 0, 'unit started'],
  [10n, 'other', 0, 'failed? no: 100 units'],
  [-3600n, 'other', 0, 'from the future'],
];

function writeLogs(store: TestStore, lines: readonly Line[]): string {
  const file = join(store.directory, '..', 'logs.db');
  const db = openStore(file, LOG_SCHEMA);
  const insert = db.prepare(
    'INSERT INTO logs (boot_id, timestamp, origin, is_error, message) VALUES (?, ?, ?, ?, ?)',
  );
  for (const [age, origin, isError, message] of lines)
    insert.run(BOOT, NOW - age * UNIT, origin, BigInt(isError), message);
  db.close();
  return file;
}

test('[QL-42] [QL-121] a log record carries the five columns, is_error as a boolean', async (t) => {
  const store = makeStore(t);
  writeLogs(store, LINES);
  await startService(t, store);
  const { records } = await ask(store.socketPath, 'LOGS TAKE 1 SKIP 3');
  assert.deepEqual(records, [
    {
      timestamp: NOW - 40n * UNIT,
      origin: 'peinit',
      is_error: true,
      message: 'Unit FAILED to start',
      boot_id: formatGuid(BOOT),
    },
  ]);
  const selected = await ask(
    store.socketPath,
    'LOGS SELECT message, is_error WHERE origin == "other" TAKE 1',
  );
  assert.deepEqual(selected.records, [{ message: 'failed? no: 100 units', is_error: false }]);
});

const LOG_QUERIES = [
  ['LOGS', ['failed? no: 100 units', 'unit started', 'hive is 100% full', 'Unit FAILED to start', 'started']],
  ['LOGS FROM loregd', ['hive is 100% full', 'started']],
  ['LOGS FROM loregd, peinit TAKE 2', ['unit started', 'hive is 100% full']],
  ['LOGS ERROR ONLY', ['hive is 100% full', 'Unit FAILED to start']],
  ['LOGS WHERE is_error == 1', ['hive is 100% full', 'Unit FAILED to start']],
  ['LOGS WHERE is_error IN (false)', ['failed? no: 100 units', 'unit started', 'started']],
  ['LOGS CONTAINING "failed"', ['failed? no: 100 units', 'Unit FAILED to start']],
  ['LOGS CONTAINING "100%"', ['hive is 100% full']],
  ['LOGS CONTAINING "unit" CONTAINING "start" FROM peinit', ['unit started', 'Unit FAILED to start']],
  ['LOGS SINCE 3500s ago UNTIL 1500s ago', ['unit started', 'hive is 100% full']],
  ['LOGS UNTIL 300h hence TAKE 1', ['from the future']],
  ['LOGS SORT message TAKE 2', ['Unit FAILED to start', 'failed? no: 100 units']],
  ['LOGS WHERE boot_id != "{04030201-0605-0807-090a-0b0c0d0e0f10}"', []],
] as const;

test('[QL-50] [QL-51] [QL-53] [QL-80] [QL-81] [QL-82] [QL-83] [QL-20] the clauses of LOGS', async (t) => {
  const store = makeStore(t);
  writeLogs(store, LINES);
  await startService(t, store);
  for (const [query, expected] of LOG_QUERIES) {
    const { records, error } = await ask(store.socketPath, query);
    assert.equal(error, null, query);
    const messages = records.map((record) => (record as Record<string, unknown>).message);
    assert.deepEqual(messages, expected, query);
  }
});

test('[FAIL-18] a damaged log store that was set aside is still read', async (t) => {
  const store = makeStore(t);
  const file = writeLogs(store, LINES.slice(0, 2));
  setStoreAside(file);
  writeLogs(store, LINES.slice(3, 4));
  await startService(t, store);
  const { records } = await ask(store.socketPath, 'LOGS SELECT message');
  assert.deepEqual(records, [
    { message: 'unit started' },
    { message: 'Unit FAILED to start' },
    { message: 'started' },
  ]);
});

type Sample = readonly [age: bigint, value: number];

function writeMetrics(store: TestStore): void {
  const db = openStore(join(store.directory, '..', 'metrics.db'), METRIC_SCHEMA);
  const series = db.prepare(
    'INSERT INTO series (name, labels, type, label_hash, boundaries_hash) VALUES (?, ?, ?, 0, ?)',
  );
  const sample = db.prepare(
    'INSERT INTO samples (series_id, timestamp, value, histogram_data) VALUES (?, ?, ?, ?)',
  );
  const add = (name: string, labels: string, type: bigint, samples: readonly Sample[], data?: Buffer) => {
    const { lastInsertRowid } = series.run(name, labels, type, data === undefined ? null : 7n);
    for (const [age, value] of samples) sample.run(lastInsertRowid, NOW - age * UNIT, value, data ?? null);
  };
  add('cpu.usage', 'core=0,host=a', 1n, [
    [30n, 10],
    [20n, 95],
    [10n, 20],
  ]);
  add('cpu.usage', 'core=1,host=a', 1n, [
    [30n, 50],
    [10n, 60],
  ]);
  add('cpu.total', 'name=hidden', 0n, [[5n, 7]]);
  const histogram = encode({ boundaries: [0.5, 1], counts: [3, 4], total_count: 5, sum: 3.25 });
  add('req.time', '', 2n, [[15n, 0]], Buffer.from(histogram));
}

const at = (age: bigint) => NOW - age * UNIT;
const core = (number: string, age: bigint, value: number) => ({
  timestamp: at(age),
  name: 'cpu.usage',
  core: number,
  host: 'a',
  value,
});

const METRIC_QUERIES = [
  ['METRIC cpu.usage[]', [core('0', 10n, 20), core('1', 10n, 60)]],
  ['METRIC CPU.Usage[core="1"]', [core('1', 10n, 60)]],
  ['METRIC cpu.usage[core IN ("0", "7")]', [core('0', 10n, 20)]],
  ['METRIC cpu.usage[rack IS NOT NULL]', []],
  ['METRIC cpu.usage[core STARTS_WITH "1", host != "b"]', [core('1', 10n, 60)]],
  ['METRIC cpu.usage[] WHERE value > 50', [core('1', 10n, 60)]],
  ['METRIC cpu.usage[] UNTIL 1500s ago', [core('1', 30n, 50), core('0', 20n, 95)]],
  [
    'METRIC cpu.usage[] SINCE 100h ago',
    [core('0', 30n, 10), core('1', 30n, 50), core('0', 20n, 95), core('0', 10n, 20), core('1', 10n, 60)],
  ],
  [
    'METRIC cpu.usage[] SINCE 100h ago WHERE value >= 50 SORT value DESC TAKE 2',
    [core('0', 20n, 95), core('1', 10n, 60)],
  ],
  ['METRIC cpu.*[] WHERE type == counter', [{ timestamp: at(5n), name: 'cpu.total', value: 7 }]],
  [
    'METRIC req.time[]',
    [
      {
        timestamp: at(15n),
        name: 'req.time',
        value: { boundaries: [0.5, 1], counts: [3, 4], total_count: 5, sum: 3.25 },
      },
    ],
  ],
  ['METRIC req.time[] WHERE value IS NULL TAKE 0', []],
] as const;

test('[QL-84] [QL-85] [QL-86] [QL-88] [QL-91] [QL-99] [QL-100] [QL-102] [QL-104] latest samples and ranges per series', async (t) => {
  const store = makeStore(t);
  writeMetrics(store);
  await startService(t, store);
  for (const [query, expected] of METRIC_QUERIES) {
    const { records, error } = await ask(store.socketPath, query);
    assert.equal(error, null, query);
    assert.deepEqual(records, expected, query);
  }
});
