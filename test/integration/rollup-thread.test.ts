/** The rollup thread as the daemon holds it: it stops for rising writes, comes again when it dies, and takes turns. */
import assert from 'node:assert/strict';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import type { Worker } from 'node:worker_threads';
import { RollupThread } from '../../actors/daemon/rollupThread.js';
import { MaintenanceThread } from '../../actors/maintenance/maintenanceThread.js';
import type { ProcessLog } from '../../src/host/processLog.js';
import { native } from '../../src/native/addon.js';
import { saveRegistry } from '../../src/rollups/registryFile.js';
import { METRIC_SCHEMA } from '../../src/stores/metricSchema.js';
import { openStore } from '../../src/stores/storeFile.js';
import { DEFAULT_SETTINGS } from '../fixtures/defaultSettings.js';
import { eventually } from '../fixtures/eventd.js';
import { ask } from '../fixtures/retentionStores.js';
import { temporaryDirectory } from '../fixtures/singleStores.js';

const MINUTE_NS = 60_000_000_000n;

const { MetricMaxBatchSize } = DEFAULT_SETTINGS;

/** A store of many series with a minute or two each, and the thread over it; the lender answers as told. */
async function stage(t: TestContext, answer: () => Promise<number | null>) {
  const directory = temporaryDirectory(t);
  const events = join(directory, 'events');
  const metrics = join(directory, 'metrics.db');
  saveRegistry(events, {
    counters: [{ field: 'avg_60', count: 99, windowStart: native.realtimeNs() }],
    desired: ['avg_60'],
  });
  const db = openStore(metrics, METRIC_SCHEMA);
  db.exec(`WITH RECURSIVE n(i) AS (VALUES(1) UNION ALL SELECT i + 1 FROM n WHERE i < 400)
    INSERT INTO series SELECT i, 'load', 'core=' || i, 1, 0, NULL FROM n`);
  db.prepare('INSERT INTO samples SELECT id, ?, id, NULL FROM series').run(
    native.realtimeNs() - 10n * MINUTE_NS,
  );
  db.close();
  const said: string[] = [];
  const workers: Worker[] = [];
  const seen = (worker: Worker) => workers.push(worker);
  process.on('worker', seen);
  t.after(() => process.off('worker', seen));
  const note = (text: string) => said.push(text);
  const leases: string[] = [];
  const rollups = new RollupThread({
    maintenance: new MaintenanceThread(),
    settings: DEFAULT_SETTINGS,
    eventStorePath: events,
    metricStorePath: metrics,
    log: { info: note, warn: note, error: note } as unknown as ProcessLog,
    lender: {
      lease: (_file, id) => {
        leases.push(`lease ${id}`);
        return answer();
      },
      returnLease: (_file, id) => leases.push(`return ${id}`),
    },
    onInspection: () => undefined,
    onThreadEnded: () => undefined,
  });
  t.after(() => rollups.release());
  await rollups.start();
  const rows = () => ask(metrics, 'SELECT 1 FROM rollups').length;
  const state = async () => (await rollups.survey(2000)).dump?.state;
  return { rollups, rows, state, leases, workers, said };
}

test('[ROL-17] [ROL-18] batches of three quarters of the limit stop the computation after the unit under way, small ones let it go on', async (t) => {
  const { rollups, rows, state, leases } = await stage(t, async () => 0);
  rollups.committed(MetricMaxBatchSize * 0.75);
  await eventually('the pause', async () => (await state()) === 'paused');
  const before = rows();
  assert.ok(before < 400, `${before} rows`);
  rollups.committed(MetricMaxBatchSize / 2);
  assert.equal(await state(), 'paused', 'between the two nothing changes');
  assert.equal(rows(), before);
  rollups.committed(MetricMaxBatchSize / 4 - 1);
  await eventually('all rows', () => rows() === 400);
  await eventually('the end of the search', async () => (await state()) === 'observing');
  for (const [n, word] of leases.entries()) {
    assert.match(word, n % 2 === 0 ? /^lease/ : /^return/);
    if (n % 2 === 1) assert.equal(word.slice(7), leases[n - 1]?.slice(6));
  }
  assert.ok(leases.length >= 800, 'each unit has a lease of its own');
});

test('[ROL-18] [MET-58] without a lease nothing is written, and a thread that dies gives its own back', async (t) => {
  const { rollups, rows, state, leases, workers, said } = await stage(t, () => new Promise(() => undefined));
  await eventually('the question', async () => (await state()) === 'leasing');
  assert.equal(rows(), 0);
  await workers[0]?.terminate();
  await eventually('the return', () => leases.length === 2);
  assert.equal(leases[1]?.slice(7), leases[0]?.slice(6));
  assert.ok(said.some((text) => text.startsWith('thread rollup-advisor ended and is started again')));
  assert.equal((await rollups.survey(100)).dump, null);
  assert.equal(rows(), 0);
});
