/** Rollups that come into being while samples are swept: none says more than the samples that are left. */
import assert from 'node:assert/strict';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { RollupComputation, SEARCH_START } from '../../src/rollups/computation.js';
import { METRIC_SCHEMA } from '../../src/stores/metricSchema.js';
import { openMetricTable } from '../../src/stores/retentionMetrics.js';
import { openStore } from '../../src/stores/storeFile.js';
import { ask, seedSamples } from '../fixtures/retentionStores.js';
import { computeRollups, pairs, ROLLUP_LIMITS } from '../fixtures/rollups.js';
import { temporaryDirectory } from '../fixtures/singleStores.js';

const SECOND_NS = 1_000_000_000n;
const NOW = 1_900_000_000n * SECOND_NS;
const SERIES = 12;
const MINUTES = 300;
const PAIRS = pairs('avg_60', 'sum_300');
const [PAIR = assert.fail()] = PAIRS;

/** Rows whose samples are not all there any more. */
const OUTLIVING = `SELECT r.id FROM rollups r WHERE sample_count <> (SELECT count(*) FROM samples s
  WHERE s.series_id = r.series_id AND s.timestamp >= r.window_start
    AND s.timestamp < r.window_start + r.window_seconds * 1000000000)`;

/** Twelve series of five hours, a sample every 20 s, all long over at NOW. */
function stage(t: TestContext): string {
  const file = join(temporaryDirectory(t), 'metrics.db');
  const times = Array.from(
    { length: MINUTES * 3 },
    (_, n) => NOW - BigInt(20 * (MINUTES * 3 - n)) * SECOND_NS,
  );
  seedSamples(file, Object.fromEntries(Array.from({ length: SERIES }, (_, n) => [`load.${n}`, times])));
  return file;
}

/** Deletes what is not younger than the cutoff, as a sweep does, in batches; returns the number of samples. */
function sweep(file: string, cutoff: bigint, maxRows: number, between: (batch: number) => void): number {
  const table = openMetricTable(file);
  let rows = 0;
  try {
    for (let batch = 0; table.hasUpTo(cutoff); batch++) {
      between(batch);
      rows += table.database.batch(() => table.deleteUpTo(cutoff, maxRows));
      assert.deepEqual(ask(file, OUTLIVING), [], `behind batch ${batch}`);
    }
  } finally {
    table.database.close();
  }
  return rows;
}

test('[ROL-35] [ROL-36] [MET-61] rollups computed between the batches of a sweep go with their samples, in the same transaction', (t) => {
  const file = stage(t);
  let computed = 0;
  // In the middle of a minute.
  const cutoff = NOW - 7230n * SECOND_NS;
  const rows = sweep(file, cutoff, 200, (batch) => {
    if (batch % 4 === 0) computed += computeRollups(file, PAIRS, NOW);
  });
  assert.equal(rows, ask(stage(t), 'SELECT 1 FROM samples WHERE timestamp <= ?', cutoff).length);
  assert.ok(computed > SERIES * MINUTES * 1.2, `${computed} rollups: more than there were windows`);
  assert.ok(
    ask(file, 'SELECT 1 FROM rollups').length >= SERIES * 119,
    'those of what is left are there still',
  );
});

test('[ROL-36] [MET-61] a unit found before the sweep leaves the window alone that the sweep has cut', (t) => {
  const file = stage(t);
  const limits = { ...ROLLUP_LIMITS, sizeLimited: true };
  const computation = new RollupComputation(file);
  t.after(() => computation.close());
  const { unit } = computation.search(PAIR, SEARCH_START, null, { nowNs: NOW, limits });
  assert.ok(unit !== null);
  sweep(file, NOW - 7230n * SECOND_NS, 1000, () => undefined);
  assert.ok(computation.compute(unit, { nowNs: NOW, limits }).rows > 100);
  const [first] = ask<bigint>(file, 'SELECT min(timestamp) FROM samples WHERE series_id = ?', unit.series);
  const [row] = ask<bigint>(file, 'SELECT min(window_start) FROM rollups WHERE series_id = ?', unit.series);
  assert.ok(first !== undefined && row !== undefined && row > first, `${row} and ${first}`);
});

test('[ROL-35] [ROL-37] rollups whose samples are gone already go by themselves, series by series and kind by kind, and no younger ones', (t) => {
  const file = stage(t);
  const cutoff = NOW - 3600n * SECOND_NS;
  computeRollups(file, PAIRS, NOW);
  const young = ask(file, 'SELECT id FROM rollups WHERE window_start > ?', cutoff);
  const db = openStore(file, METRIC_SCHEMA);
  db.prepare('DELETE FROM samples WHERE timestamp <= ?').run(cutoff);
  db.close();
  const table = openMetricTable(file);
  t.after(() => table.database.close());
  for (let batches = 0; table.hasUpTo(cutoff); batches++) {
    assert.equal(
      table.database.batch(() => table.deleteUpTo(cutoff, 100)),
      0,
    );
    assert.ok(batches < 100, 'the sweep gets nowhere');
  }
  assert.deepEqual(ask(file, 'SELECT id FROM rollups'), young);
});

/** A store with rollups of these series, two kinds each, and no samples; `old` have one at the cutoff. */
function seedOrphans(t: TestContext, series: string, old: string, cutoff: bigint): string {
  const file = join(temporaryDirectory(t), 'metrics.db');
  const db = openStore(file, METRIC_SCHEMA);
  db.prepare(`INSERT INTO series SELECT id, 'load', id, 1, id, NULL FROM (${series})`).run();
  const rollups = `INSERT INTO rollups (series_id, function, window_seconds, window_start, value, sample_count)
    SELECT series.id, function.value, 60, ? + function.value, 1.5, 2 FROM series, json_each('[0, 1]') AS function`;
  db.prepare(rollups).run(cutoff + 1n);
  db.prepare(`UPDATE rollups SET window_start = ? WHERE function = 1 AND ${old}`).run(cutoff);
  db.close();
  return file;
}

test('[ROL-35] [FAIL-33] one old rollup among those of many series costs the writer a look at a few of them, not at all', (t) => {
  const count =
    'WITH RECURSIVE n(id) AS (SELECT 1 UNION ALL SELECT id + 1 FROM n WHERE id < 20000) SELECT id FROM n';
  const file = seedOrphans(t, count, 'series_id = 1', NOW);
  const table = openMetricTable(file);
  t.after(() => table.database.close());
  assert.ok(table.hasUpTo(NOW));
  const msOf = (work: () => void) => {
    const started = performance.now();
    work();
    return performance.now() - started;
  };
  // The first deletes it, the others only look; the least of them has met nobody else on the processor.
  const batches = Array.from({ length: 5 }, () =>
    msOf(() => table.database.batch(() => table.deleteUpTo(NOW, 1))),
  );
  const walk = msOf(() => assert.ok(!table.hasUpTo(NOW), 'the batch found it'));
  const batch = Math.min(...batches);
  assert.ok(batch < walk / 4, `${batch} ms under the lease, ${walk} ms for all series`);
});

test('[ROL-35] [ROL-37] old rollups are found wherever the ids of their series lie, the last one included', (t) => {
  const ids = [1n, 256n, 257n, 5000n, 5256n, 2n ** 40n, 2n ** 63n - 300n, 2n ** 63n - 1n];
  const file = seedOrphans(t, ids.map((id) => `SELECT ${id} AS id`).join(' UNION ALL '), 'TRUE', NOW);
  const table = openMetricTable(file);
  t.after(() => table.database.close());
  for (let batches = 0; table.hasUpTo(NOW); batches++) {
    table.database.batch(() => table.deleteUpTo(NOW, 1));
    assert.ok(batches < ids.length, 'the sweep gets nowhere');
  }
  assert.deepEqual(ask(file, 'SELECT series_id FROM rollups WHERE window_start <= ?', NOW), []);
  assert.equal(ask(file, 'SELECT 1 FROM rollups').length, ids.length);
});
