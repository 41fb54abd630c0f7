/** The retention thread beside writers that refuse, hang or die, and the daemon's part in it: nobody waits for whoever is gone. */
import assert from 'node:assert/strict';
import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import type { Worker } from 'node:worker_threads';
import { askLease, type Lender } from '../../actors/daemon/leases.js';
import { RetentionThread } from '../../actors/daemon/retentionThread.js';
import { MaintenanceThread } from '../../actors/maintenance/maintenanceThread.js';
import type { FromWriter, LeaseCommand } from '../../actors/messages.js';
import { Subject } from '../../actors/rx.js';
import type { ProcessLog } from '../../src/host/processLog.js';
import { native } from '../../src/native/addon.js';
import type { LeaseId } from '../../src/stores/lease.js';
import { DEFAULT_SETTINGS } from '../fixtures/defaultSettings.js';
import { eventually } from '../fixtures/eventd.js';
import { BOOT_ID } from '../fixtures/eventShards.js';
import { ask, DAY_NS, eventsSince, seedLogs, seedSamples, seedShard } from '../fixtures/retentionStores.js';
import { temporaryDirectory } from '../fixtures/singleStores.js';

/** What was asked of a lender, in order. */
class Ledger implements Lender {
  readonly said: string[] = [];
  readonly returned: bigint[] = [];
  unknown = 0;

  constructor(readonly answer: () => Promise<number | null>) {}

  lease(file: string, id: number): Promise<number | null> {
    this.said.push(`lease ${id}`);
    this.file = file;
    return this.answer();
  }

  returnLease(_file: string, id: number, series: BigInt64Array | null): void {
    this.said.push(`return ${id}`);
    if (series === null) this.unknown++;
    else this.returned.push(...series);
  }

  file = '';
}

/** Stores with rows that 30 days let live and 20 do not, and the thread over them. */
async function stage(t: TestContext, lender: Lender) {
  const directory = temporaryDirectory(t);
  const events = join(directory, 'events');
  mkdirSync(events);
  const now = native.realtimeNs();
  const shard = seedShard(events, 'shard-0000.db', eventsSince(now, 25, 600));
  const logs = join(directory, 'logs.db');
  const metrics = join(directory, 'metrics.db');
  seedLogs(logs, [now - 12n * DAY_NS]);
  seedSamples(metrics, { old: [now - 25n * DAY_NS], new: [now] });
  const workers: Worker[] = [];
  const seen = (worker: Worker) => workers.push(worker);
  process.on('worker', seen);
  t.after(() => process.off('worker', seen));
  const errors: string[] = [];
  const over: string[] = [];
  const log = { info: () => undefined, warn: () => undefined, error: (text: string) => errors.push(text) };
  const retention = new RetentionThread({
    maintenance: new MaintenanceThread(),
    settings: DEFAULT_SETTINGS,
    eventStorePath: events,
    logStorePath: logs,
    metricStorePath: metrics,
    bootId: BOOT_ID,
    log: log as unknown as ProcessLog,
    lender: () => lender,
    onInspection: () => undefined,
    onThreadEnded: (thread) => over.push(thread),
  });
  t.after(() => retention.release());
  await retention.start();
  const tighten = () =>
    retention.setLimits({
      ...DEFAULT_SETTINGS,
      EventRetentionDays: 20,
      LogRetentionDays: 10,
      MetricRetentionDays: 20,
    });
  const left = () =>
    [shard, logs, metrics].map(
      (file, n) => ask(file, `SELECT 1 FROM ${['events', 'logs', 'samples'][n]}`).length,
    );
  return { retention, workers, errors, over, tighten, left, shard };
}

test('[RET-8][LOG-52][MET-58][MET-64] each batch has a lease of its own, which is returned; the metric writer hears which series are gone before it goes on', async (t) => {
  const ledger = new Ledger(async () => 0);
  const { retention, tighten, left } = await stage(t, ledger);
  tighten();
  await eventually('all stores to be swept', () => left().join() === '0,0,1');
  await eventually('the series', () => ledger.returned.length > 0);
  assert.deepEqual(ledger.returned, [1n]);
  await retention.stop(5000);
  assert.ok(ledger.said.length >= 8);
  for (const [n, word] of ledger.said.entries()) {
    assert.match(word, n % 2 === 0 ? /^lease/ : /^return/);
    if (n % 2 === 1) assert.equal(word.slice(7), ledger.said[n - 1]?.slice(6));
  }
});

test('[RET-8][RET-12] a database whose writer refuses is left alone, and the sweep goes on to the next store', async (t) => {
  const ledger = new Ledger(async () => null);
  const { retention, tighten, left } = await stage(t, ledger);
  tighten();
  await eventually('the sweep to end', async () => (await retention.survey(1000)).sweeps > 0);
  assert.deepEqual(left(), [600, 1, 2]);
  assert.deepEqual(
    ledger.said.map((word) => word.slice(0, 5)),
    ['lease', 'lease', 'lease'],
  );
});

test('[RET-8][FAIL-33][MET-37] a sweeper that dies gives its lease back without a word of the series it deleted, and is mentioned once', async (t) => {
  const ledger = new Ledger(() => new Promise(() => undefined));
  const { workers, errors, over, tighten } = await stage(t, ledger);
  tighten();
  await eventually('a lease to be asked for', () => ledger.said.length === 1);
  await workers.at(-1)?.terminate();
  await eventually('the lease to come back', () => ledger.said.length === 2);
  const [asked = '', back = ''] = ledger.said;
  assert.equal(back, asked.replace('lease', 'return'));
  assert.equal(ledger.unknown, 1, 'an empty list would say that no series is gone');
  assert.equal(errors.length, 1);
  assert.match(errors[0] ?? '', /^thread retention ended and is started again/);
  assert.deepEqual(over, ['retention'], 'the debug socket shows it no more');
});

test('[RET-8][FAIL-33] a writer that dies before it grants a lease is as good as one that refuses', async () => {
  const messages$ = new Subject<FromWriter>();
  const sent: LeaseCommand[] = [];
  const thread = {
    name: 'writer-0',
    messages$,
    ended: Promise.resolve(new Error('gone')),
    send: (message: LeaseCommand) => sent.push(message),
    close: () => undefined,
    terminate: async () => undefined,
  };
  const granted = askLease(thread, 7 as LeaseId);
  messages$.next({ type: 'leased', id: 6 as LeaseId, pressure: 0.1 });
  messages$.next({ type: 'leased', id: 7 as LeaseId, pressure: 0.5 });
  assert.equal(await granted, 0.5, 'the grant of another lease is not ours');
  const never = askLease(thread, 8 as LeaseId);
  messages$.complete();
  assert.equal(await never, null);
  assert.deepEqual(sent, [
    { type: 'lease', id: 7 },
    { type: 'lease', id: 8 },
  ]);
});
