/** The registry of rollup pairs: what counts, and what is kept of it; and whose turn it is to write. */
import assert from 'node:assert/strict';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import Database from 'better-sqlite3';
import { LeaseQueue } from '../../actors/daemon/leaseQueue.js';
import { LEASE_BOUND_MS } from '../../machines/recordWriter.js';
import { FieldCounters } from '../../src/indexes/counters.js';
import { decide } from '../../src/indexes/policy.js';
import { parseQuery } from '../../src/query/parser.js';
import { pairOf, recordedPair } from '../../src/rollups/pairs.js';
import { loadRegistry, saveRegistry } from '../../src/rollups/registryFile.js';
import type { LeaseId } from '../../src/stores/lease.js';
import { temporaryDirectory } from '../fixtures/singleStores.js';

const recorded = (text: string) => {
  const query = parseQuery(text);
  return query.mode === 'METRIC' ? recordedPair(query) : null;
};

test('[ROL-10] [ROL-14] [ROL-3] [QX-53] a query counts for one pair: its value function, else that of its window, and none without a window or with a percentile', () => {
  assert.equal(recorded('METRIC a[] SINCE 1h ago AVG_OVER 1h'), 'avg_3600');
  assert.equal(recorded('METRIC a SINCE 1h ago MIN_OVER 5m'), 'min_300');
  assert.equal(recorded('METRIC a SINCE 1h ago RATE AVG_OVER 1m'), 'rate_60');
  assert.equal(recorded('METRIC a SINCE 1h ago DELTA MAX_OVER 1m'), 'delta_60');
  assert.equal(recorded('METRIC a SINCE 1h ago SUM AVG_OVER 1d'), 'sum_86400');
  assert.equal(recorded('METRIC a SINCE 1h ago MAX AVG_OVER 90s'), 'max_90');
  for (const text of [
    'METRIC a',
    'METRIC a SINCE 1h ago',
    'METRIC a SINCE 1h ago AVG',
    'METRIC a SINCE 1h ago P95',
    'METRIC a SINCE 1h ago P95 AVG_OVER 1m',
  ])
    assert.equal(recorded(text), null, text);
});

test('[ROL-38] keys are the function in lower case, an underscore and whole seconds', () => {
  assert.deepEqual(pairOf('avg_3600'), { key: 'avg_3600', function: 'avg', windowSeconds: 3600 });
  for (const key of [
    'AVG_3600',
    'avg_0',
    'avg_060',
    'avg',
    'p95_60',
    'avg_1.5',
    'avg_99999999999',
    'avg_60 ',
    '',
  ])
    assert.equal(pairOf(key), null, key);
});

test('[ROL-11] [ROL-12] [ROL-14] a pair enters at the create threshold, leaves below the drop threshold, and nothing changes between', () => {
  const limits = { windowHours: 48, createThreshold: 50, dropThreshold: 5 };
  const hour = 3_600_000_000_000n;
  const counters = new FieldCounters();
  counters.add('avg_60', 50, 0n);
  counters.add('max_60', 49, 0n);
  const at = (nowNs: bigint, members: readonly string[]) => {
    counters.prune(limits.windowHours, nowNs);
    const desired = members.map((field) => ({ field, isExpression: true }));
    return decide({ counts: counters.counts(), desired, manual: new Map(), limits, nowNs }).desired.map(
      ({ field }) => field,
    );
  };
  assert.deepEqual(at(0n, []), ['avg_60']);
  counters.add('avg_60', 5, 47n * hour);
  assert.deepEqual(at(60n * hour, ['avg_60', 'max_60']), ['avg_60']);
  assert.deepEqual(at(60n * hour, []), []);
  assert.deepEqual(at(95n * hour, ['avg_60']), []);
});

test('[ROL-38] [IDX-42] registry and counters survive, and what makes no sense is passed over', (t) => {
  const directory = temporaryDirectory(t);
  const state = {
    counters: [{ field: 'avg_3600', count: 7, windowStart: 5n }],
    desired: ['rate_60', 'avg_3600'],
  };
  saveRegistry(directory, state);
  assert.deepEqual(loadRegistry(directory), state);
  const file = join(directory, 'eventd-meta.db');
  const db = new Database(file);
  assert.deepEqual(db.prepare('SELECT * FROM desired_rollups ORDER BY priority').raw().all(), [
    ['rate_60', 1],
    ['avg_3600', 2],
  ]);
  db.exec(`INSERT INTO desired_rollups VALUES ('p95_60', 3), ('nothing', 0);
    INSERT INTO rollup_counters VALUES ('min_60', -1, 0), ('max_60', 'x', 0), ('sum_60', 5, -1), ('x', 1, 1)`);
  db.close();
  assert.deepEqual(loadRegistry(directory), state);
  writeFileSync(file, 'no database at all, but long enough to be looked at');
  assert.throws(() => loadRegistry(directory));
});

/** A queue before a writer that answers when told. */
function queued() {
  const log: string[] = [];
  const granted: ((pressure: number | null) => void)[] = [];
  const queue = new LeaseQueue(() => ({
    lease: (_file, id) => {
      log.push(`asks ${id}`);
      return new Promise((resolve) => granted.push(resolve));
    },
    returnLease: (_file, id, series) => log.push(`returns ${id}: ${series}`),
  }));
  return {
    log,
    granted,
    ask: (id: number) => queue.lease('f', id as LeaseId),
    giveBack: (id: number, ...series: bigint[]) =>
      queue.returnLease('f', id as LeaseId, BigInt64Array.from(series)),
    settled: () => new Promise((resolve) => setImmediate(resolve)),
  };
}

test('[MET-58] retention and rollups get their turns one after the other, and whoever has given up gets none', async () => {
  const { log, granted, ask, giveBack, settled } = queued();
  const first = ask(1);
  const second = ask(2);
  const given = ask(3);
  const refused = ask(4);
  const last = ask(5);
  await settled();
  assert.deepEqual(log, ['asks 1']);
  giveBack(3);
  granted[0]?.(0.5);
  assert.equal(await first, 0.5);
  await settled();
  assert.deepEqual(log, ['asks 1']);
  giveBack(1, 7n);
  await settled();
  granted[1]?.(0);
  assert.equal(await second, 0);
  giveBack(2);
  assert.equal(await given, null);
  await settled();
  granted[2]?.(null);
  assert.equal(await refused, null);
  await settled();
  granted[3]?.(1);
  assert.equal(await last, 1);
  giveBack(5);
  assert.deepEqual(log, [
    'asks 1',
    'returns 1: 7',
    'asks 2',
    'returns 2: ',
    'asks 4',
    'asks 5',
    'returns 5: ',
  ]);
});

test('[MET-37, MET-58] a lease that comes back after its turn, and during the next one, still reaches the writer', async (t) => {
  t.mock.timers.enable({ apis: ['setTimeout'] });
  const { log, granted, ask, giveBack, settled } = queued();
  const late = ask(1);
  void ask(2);
  await settled();
  granted[0]?.(0);
  await late;
  t.mock.timers.tick(2 * LEASE_BOUND_MS - 1);
  await settled();
  assert.deepEqual(log, ['asks 1']);
  t.mock.timers.tick(1);
  await settled();
  assert.deepEqual(log, ['asks 1', 'asks 2']);
  giveBack(1, 7n);
  assert.deepEqual(log.at(-1), 'returns 1: 7');
});
