/** The metric writer beside a retention whose COMMIT takes longer than its turn: no sample gets under the id of a series that is gone. */
import assert from 'node:assert/strict';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import Database from 'better-sqlite3';
import { SimulatedClock } from 'xstate';
import type { FromRecordWriter, ToRecordWriter } from '../../actors/messages.js';
import { startMetricWriter } from '../../actors/metricWriter/metricWriter.js';
import { Subject } from '../../actors/rx.js';
import { LEASE_BOUND_MS, type RecordLimits } from '../../machines/recordWriter.js';
import { native, type SeriesCacheHandle } from '../../src/native/addon.js';
import { HELD_CACHE, heldHandles } from '../../src/stores/heldHandles.js';
import type { LeaseId } from '../../src/stores/lease.js';
import { encodeSample } from '../../src/wire/recordSender.js';
import { temporaryDirectory } from '../fixtures/singleStores.js';
import { until } from '../fixtures/wireServer.js';

/** A latency of 2 ms leaves no time to let a batch grow. */
const LIMITS: RecordLimits = { maxBatchSize: 100, maxBatchLatencyMs: 2, seriesCacheSize: 1000 };
const BUFFER_BYTES = 1 << 16;
const NONE = new BigInt64Array();

/** A writer that knows the series `kept` and `doomed`, and a connection of retention's. */
async function stage(t: TestContext) {
  const directory = temporaryDirectory(t);
  const file = join(directory, 'metrics.db');
  const receiver = native.receiverOpen({
    path: join(directory, 'metrics.sock'),
    mode: 0o600,
    capacityBytes: 2 * BUFFER_BYTES,
  });
  t.after(() => native.receiverClose(receiver));
  const held = heldHandles();
  const commands$ = new Subject<ToRecordWriter>();
  const clock = new SimulatedClock();
  const reports: FromRecordWriter[] = [];
  let gate = Promise.resolve();
  const writer = startMetricWriter({
    file,
    receiver,
    held,
    limits: LIMITS,
    bufferBytes: BUFFER_BYTES,
    commands$,
    clock,
    pace: () => gate,
  });
  writer.reports$.subscribe((report) => reports.push(report));
  const state = () => writer.actor.getSnapshot().value;
  t.after(async () => {
    commands$.next({ type: 'close' });
    await until(() => writer.actor.getSnapshot().status === 'done', 'the writer to close');
  });

  const inject = (name: string) => {
    const sample = encodeSample({ type: 'gauge', name, value: 1, labels: {}, timestamp: 1n });
    assert.ok(native.receiverInject(receiver, sample));
  };
  const stored = () => reports.reduce((sum, r) => sum + (r.type === 'committed' ? r.records : 0), 0);
  const sent: string[] = [];
  const store = async (name: string) => {
    sent.push(name);
    const goal = stored() + 1;
    inject(name);
    await until(() => stored() >= goal && state() === 'idle', `a sample of ${name}`);
  };
  for (const name of ['kept', 'doomed']) await store(name);

  const retention = new Database(file);
  t.after(() => retention.close());
  return {
    store,
    /** The series of every sample that was stored, also of those that retention has deleted. */
    sent: sent as readonly string[],
    inject,
    give: (id: number) => commands$.next({ type: 'lease', id: id as LeaseId }),
    giveBack: (id: number, series: BigInt64Array | null) =>
      commands$.next({ type: 'leaseReturn', id: id as LeaseId, series }),
    leased: (id: number) => reports.some((report) => report.type === 'leased' && report.id === id),
    boundPasses: () => {
      assert.equal(state(), 'yielding');
      clock.increment(LEASE_BOUND_MS);
      assert.equal(state(), 'idle');
    },
    /** Deletes `doomed`, up to a COMMIT that stalls. */
    deleteSeries: (): BigInt64Array => {
      retention.exec('BEGIN IMMEDIATE');
      const id = retention.prepare("SELECT id FROM series WHERE name = 'doomed'").pluck().get() as number;
      retention.prepare('DELETE FROM samples WHERE series_id = ?').run(id);
      retention.prepare('DELETE FROM series WHERE id = ?').run(id);
      return BigInt64Array.of(BigInt(id));
    },
    commit: () => retention.exec('COMMIT'),
    /** The commits of the writer wait until `open` is called. */
    holdCommits: () => {
      let open: () => void = () => undefined;
      gate = new Promise((resolve) => {
        open = resolve;
      });
      return async (goal: number) => {
        open();
        await until(() => stored() >= goal && state() === 'idle', `${goal} samples`);
      };
    },
    state,
    cache: () => native.seriesCacheStatus(held[HELD_CACHE] as SeriesCacheHandle),
    /** The series of every sample, in the order of the samples. */
    names: () =>
      retention
        .prepare('SELECT name FROM samples LEFT JOIN series ON series.id = series_id ORDER BY samples.rowid')
        .pluck()
        .all(),
  };
}

type Stage = Awaited<ReturnType<typeof stage>>;

/**
 * Retention's COMMIT stalls for longer than its lease 1, and falls into the rollups' lease 2.
 * @returns the ids of the series that it deletes
 */
function stalls({ give, leased, boundPasses, deleteSeries, commit }: Stage): BigInt64Array {
  give(1);
  assert.ok(leased(1));
  const series = deleteSeries();
  boundPasses();
  give(2);
  assert.ok(leased(2));
  commit();
  return series;
}

/** The same, with a writer that was started again meanwhile: it has never heard of lease 1. */
function stallsPastRestart({ give, leased, deleteSeries, commit }: Stage): BigInt64Array {
  const series = deleteSeries();
  give(2);
  assert.ok(leased(2));
  commit();
  return series;
}

interface Ending {
  readonly what: string;
  readonly stall: (on: Stage) => BigInt64Array;
  readonly back: (on: Stage, series: BigInt64Array) => Promise<void> | void;
}

const named: Ending['back'] = ({ giveBack }, series) => {
  giveBack(1, series);
  giveBack(2, NONE);
};
const died: Ending['back'] = ({ giveBack }) => {
  giveBack(1, null);
  giveBack(2, NONE);
};
const diedOvertaken: Ending['back'] = ({ giveBack }) => {
  giveBack(2, NONE);
  giveBack(1, null);
};
/** Retention and rollups tell the daemon through ports of their own: the later word may come first. */
const overtaken: Ending['back'] = async ({ giveBack, store }, series) => {
  giveBack(2, NONE);
  await store('kept');
  await store('doomed');
  giveBack(1, series);
};

const ENDINGS: readonly Ending[] = [
  { what: 'comes in the next lease', stall: stalls, back: named },
  { what: 'comes behind that of the next lease', stall: stalls, back: overtaken },
  { what: 'cannot name them any more', stall: stalls, back: died },
  { what: 'comes to a writer that was started again', stall: stallsPastRestart, back: named },
  { what: 'comes to a writer that was started again, and names none', stall: stallsPastRestart, back: died },
  { what: 'comes to such a writer too late, and names none', stall: stallsPastRestart, back: diedOvertaken },
];

for (const { what, stall, back } of ENDINGS) {
  test(`[MET-37, MET-58, FAIL-33] no sample gets the id of a deleted series when the word of it ${what}`, async (t) => {
    const on = await stage(t);
    await back(on, stall(on));
    await on.store('stranger');
    await on.store('doomed');
    const [kept, _deleted, ...later] = on.sent;
    assert.deepEqual(on.names(), [kept, ...later]);
  });
}

test('[MET-37, MET-58] whoever gives a lease up before it was granted answers for nothing that was written meanwhile', async (t) => {
  const on = await stage(t);
  on.give(1);
  const series = on.deleteSeries();
  on.boundPasses();
  const goOn = on.holdCommits();
  on.inject('doomed');
  await until(() => on.state() === 'committing', 'a commit');
  on.commit();
  on.give(2);
  on.giveBack(2, NONE);
  assert.ok(!on.leased(2));
  await goOn(3);
  on.giveBack(1, series);
  assert.deepEqual(on.names(), ['kept', 'doomed']);
});

test('[MET-37, MET-64] a return in time costs the cache no series but the deleted ones', async (t) => {
  const on = await stage(t);
  on.give(1);
  const series = on.deleteSeries();
  on.commit();
  on.giveBack(1, series);
  const { misses } = on.cache();
  await on.store('kept');
  await on.store('doomed');
  assert.equal(on.cache().misses - misses, 1n);
  assert.deepEqual(on.names(), ['kept', 'kept', 'doomed']);
});
