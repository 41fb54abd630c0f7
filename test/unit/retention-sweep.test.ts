/** Whole sweeps of a store at rest: what a limit of bytes leaves, whatever the rows are like. */
import assert from 'node:assert/strict';
import { join } from 'node:path';
import { test } from 'node:test';
import { METRIC_SCHEMA } from '../../src/stores/metricSchema.js';
import { logFiles, metricFiles, StoreSweep, type SweptFiles } from '../../src/stores/retentionSweep.js';
import { openStore } from '../../src/stores/storeFile.js';
import { ask, DAY_NS, seedLogs, seedSamples, usedBytes } from '../fixtures/retentionStores.js';
import { temporaryDirectory } from '../fixtures/singleStores.js';

const NOW = 1_900_000_000_000_000_000n;
const LAST = 2n ** 63n - 1n;

/** Carries out every step of one sweep; what is wrong with a file fails the test. */
function sweep(files: SweptFiles, days: number, maxBytes: number): StoreSweep {
  const swept = new StoreSweep(files, {
    days,
    maxBytes: BigInt(maxBytes),
    nowNs: NOW,
    urgent: false,
    onProblem: (file, error) => assert.fail(`${file}: ${error}`),
  });
  try {
    for (let step = swept.next(); step !== null; step = swept.next()) step.run(1000);
    return swept;
  } finally {
    swept.close();
  }
}

/** Series of one sample each, with long labels; the first of them at `from`, one a nanosecond. */
function seedShortLived(file: string, count: number, from: bigint): void {
  const db = openStore(file, METRIC_SCHEMA);
  db.prepare(
    `WITH RECURSIVE n(i) AS (VALUES(1) UNION ALL SELECT i + 1 FROM n WHERE i < ?)
     INSERT INTO series SELECT i, 'requests', 'id=' || printf('%0100d', i), 1, i, NULL FROM n`,
  ).run(BigInt(count));
  db.prepare('INSERT INTO samples SELECT id, ? + id, 1, NULL FROM series').run(from);
  db.close();
}

const count = (file: string, name: string) =>
  ask(file, 'SELECT 1 FROM samples JOIN series ON series.id = series_id WHERE name = ?', name).length;

test('[MET-61][MET-62] where the room went to series of one sample each, a limit of bytes takes these and no more samples than it has to', (t) => {
  const file = join(temporaryDirectory(t), 'metrics.db');
  seedShortLived(file, 8000, NOW - 2n * DAY_NS);
  const good = Array.from({ length: 20_000 }, (_, n) => NOW - DAY_NS - BigInt(n));
  seedSamples(file, { steady: good });
  const limit = Math.floor(usedBytes(file) * 0.6);
  const swept = sweep(metricFiles(file), 90, limit);
  assert.ok(usedBytes(file) <= limit);
  assert.ok(usedBytes(file) > limit * 0.9, `${usedBytes(file)} bytes are left of ${limit}`);
  assert.equal(count(file, 'steady'), good.length);
  const left = count(file, 'requests');
  assert.ok(left > 0 && left < 8000, `${left} are left`);
  assert.deepEqual([swept.rows, swept.series], [8000 - left, 8000 - left]);
  assert.equal(ask(file, 'SELECT 1 FROM series').length, left + 1);
});

test('[MET-60][MET-61][MET-62] series that age has emptied do not count against the limit of bytes', (t) => {
  const file = join(temporaryDirectory(t), 'metrics.db');
  seedShortLived(file, 4000, NOW - 20n * DAY_NS);
  const good = Array.from({ length: 2000 }, (_, n) => NOW - DAY_NS - BigInt(n));
  seedSamples(file, { steady: good });
  sweep(metricFiles(file), 10, Math.floor(usedBytes(file) / 2));
  assert.equal(count(file, 'requests'), 0);
  assert.equal(count(file, 'steady'), good.length);
});

test('[LOG-17][LOG-51][MET-61] rows of the last instant there is go like others when they are too much', (t) => {
  const directory = temporaryDirectory(t);
  const logs = join(directory, 'logs.db');
  const metrics = join(directory, 'metrics.db');
  const times = Array.from({ length: 3000 }, (_, n) => (n < 1000 ? NOW - BigInt(n) : LAST));
  seedLogs(logs, times, ' '.repeat(100));
  seedSamples(metrics, { load: times });
  for (const [file, files] of [
    [logs, logFiles(logs)],
    [metrics, metricFiles(metrics)],
  ] as const) {
    const limit = Math.floor(usedBytes(file) / 4);
    sweep(files, 90, limit);
    assert.ok(usedBytes(file) <= limit, `${file}: ${usedBytes(file)} bytes are left of ${limit}`);
  }
});
