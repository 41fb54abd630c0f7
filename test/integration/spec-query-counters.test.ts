/** What queries leave behind for the index and rollup policies (07, part 5), in the metadata database of a real eventd. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { EventdWorld } from '../fixtures/eventd.js';
import { ask } from '../fixtures/rawQueryClient.js';
import { StreamClient } from '../fixtures/streams.js';

/** Every query, with the fields and the pairs it counts for. */
const QUERIES: readonly (readonly [query: string, ...counted: readonly string[]])[] = [
  ['EVENTS'],
  ['EVENTS kacs.*', 'event_type'],
  ['EVENTS x WHERE event_type == "x"', 'event_type'],
  ['EVENTS WHERE a.b == 1 AND a.b == 2 OR cpu_id IS NULL', 'a.b', 'cpu_id'],
  ['EVENTS WHERE timestamp > 0 AND sequence > 1 SORT z SELECT y SINCE 1h ago UNTIL today'],
  ['EVENTS GROUP g SUM f'],
  ['EVENTS WHERE p == 1 AND'],
  ['EVENTS SINCE 30d ago WHERE v == 1 AND METRIC m > 1'],
  ['LOGS FROM a WHERE message == "x"'],
  ['LOGS SINCE 1h ago WHERE EVENT x EXISTS', 'event_type'],
  ['METRIC m SINCE 1h ago WHERE EVENT x EXISTS AND core == "0"', 'event_type'],
  ['EVENTS SINCE 1h ago WHERE METRIC m[core="0"] > 1 AND LOG a CONTAINING "x" EXISTS AND w == 1', 'w'],
  ['METRIC m SINCE 1d ago AVG_OVER 1h', 'avg_3600'],
  ['METRIC m[] SINCE 1h ago MIN_OVER 1m', 'min_60'],
  ['METRIC m[core="0"] SINCE 2h ago MIN MIN_OVER 60s', 'min_60'],
  ['METRIC m SINCE 1h ago RATE MAX_OVER 5m', 'rate_300'],
  ['METRIC m SINCE 1h ago SUM'],
  ['METRIC m SINCE 1h ago P95 AVG_OVER 1m'],
  ['METRIC m RATE'],
];

test('[QX-40] [QX-41] [QX-42] [QX-43] [QX-53] [ROL-10] [ROL-14] what queries ask for is counted once each, and written by the policy', async (t) => {
  const world = EventdWorld.for(t);
  const run = await world.start();
  const path = world.paths.querySocket;
  for (const [query] of QUERIES) await ask(path, query);
  const stream = await StreamClient.begun(t, path, 'EVENTS WHERE live == 1 OR cpu_id == 0 TAKE 0 STREAM');
  for (let n = 1; n <= 3; n++) {
    world.emit(0, 'test.live');
    await stream.has(n);
  }
  await run.end();
  const stored = (table: string, key: string) =>
    world.read('eventd-meta.db', (db) =>
      Object.fromEntries(
        db.prepare(`SELECT ${key}, query_count FROM ${table}`).raw().all() as [string, bigint][],
      ),
    );
  const expected = new Map([
    ['live', 1n],
    ['cpu_id', 1n],
  ]);
  for (const name of QUERIES.flatMap(([, ...counted]) => counted))
    expected.set(name, (expected.get(name) ?? 0n) + 1n);
  assert.deepEqual(
    { ...stored('index_counters', 'field_path'), ...stored('rollup_counters', 'function_window') },
    Object.fromEntries(expected),
  );
});
