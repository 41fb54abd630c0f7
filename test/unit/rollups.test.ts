/** The registry of rollup pairs: what counts, and what is kept of it; and whose turn it is to write. */
import assert from 'node:assert/strict';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import Database from 'better-sqlite3';
import { LeaseQueue } from '../../actors/daemon/leaseQueue.js';
import { FieldCounters } from '../../src/indexes/counters.js';
import { decide } from '../../src/indexes/policy.js';
import { parseQuery } from '../../src/query/parser.js';
import { pairOf, recordedPair } from '../../src/rollups/pairs.js';
import { loadRegistry, saveRegistry } from '../../src/rollups/registryFile.js';
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

test('[MET-58] retention and rollups get their turns one after the other, and whoever has given up gets none', async () => {
  const log: string[] = [];
  const granted: ((pressure: number | null) => void)[] = [];
  const queue = new LeaseQueue(() => ({
    lease: (_file, id) => {
      log.push(`asks ${id}`);
      return new Promise((resolve) => granted.push(resolve));
    },
    returnLease: (_file, id) => log.push(`returns ${id}`),
  }));
  const [retention, rollups] = [queue.user(), queue.user()];
  const none = new BigInt64Array();
  const turn = () => new Promise((resolve) => setImmediate(resolve));
  const first = retention.lease('f', 1);
  const second = rollups.lease('f', 1);
  const given = rollups.lease('f', 2);
  const refused = retention.lease('f', 2);
  const last = retention.lease('f', 3);
  await turn();
  assert.deepEqual(log, ['asks 1']);
  rollups.returnLease('f', 2, none);
  granted[0]?.(0.5);
  assert.equal(await first, 0.5);
  await turn();
  assert.deepEqual(log, ['asks 1']);
  retention.returnLease('f', 1, none);
  await turn();
  granted[1]?.(0);
  assert.equal(await second, 0);
  rollups.returnLease('f', 1, none);
  assert.equal(await given, null);
  await turn();
  granted[2]?.(null);
  assert.equal(await refused, null);
  await turn();
  granted[3]?.(1);
  assert.equal(await last, 1);
  retention.returnLease('f', 3, none);
  assert.deepEqual(log, ['asks 1', 'returns 1', 'asks 2', 'returns 2', 'asks 4', 'asks 5', 'returns 5']);
});
