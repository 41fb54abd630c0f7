/** evctl --explain against the stores of a real eventd. */
import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { EventdWorld, eventually } from '../fixtures/eventd.js';
import { EventdRecords, gauge } from '../fixtures/eventdRecords.js';
import { runProgram } from '../fixtures/runProgram.js';

test('[QX-10] [QX-11] [QX-20] --explain shows stages, databases, SQL, parameters and indexes, without a running eventd', {
  timeout: 60_000,
}, async (t) => {
  const world = EventdWorld.for(t, { settings: { StorageShards: 2 } });
  const run = await world.start();
  const records = new EventdRecords(world);
  await records.send('metric', gauge('room.heat', 3));
  await eventually('the sample', async () => (await world.query('METRIC room.heat[]')).length === 1);
  await run.end();
  const explain = async (query: string, ...args: string[]) => {
    const given = args.length === 0 ? ['--registry', world.paths.hive] : args;
    const { code, stdout, stderr } = await runProgram('evctl', ['--explain', ...given, query]).done;
    assert.deepEqual([code, stderr], [0, ''], query);
    return stdout.toString();
  };

  const events = await explain('EVENTS demo.* SINCE 2026-05-01 WHERE user.name == "ada" SKIP 2 TAKE 5');
  assert.ok(events.startsWith(`events: 2 databases in ${world.events}\n`), events);
  assert.match(
    events,
    /1\. read from each database of events, merged\n {3}SELECT [^\n]*msgpack_extract\(payload, '\$\.user\.name'\)/,
  );
  assert.match(events, /\?1 = 1777593600000000000 \(2026-05-01T00:00:00\.000000000Z\)\n/);
  assert.match(events, /= ada\n/);
  assert.match(
    events,
    /in [^\n]*shard-0000\.db and 1 more alike:\n {5}SEARCH events USING INDEX idx_events_timestamp/,
  );
  assert.match(events, /indexes: idx_events_timestamp\n/);
  assert.match(events, /the first 2 left out, at most 5 records/);
  assert.doesNotMatch(events, /"ada"|'ada'/);

  const grouped = await explain('EVENTS COUNT BY event_type', '--store-dir', world.dir);
  assert.match(
    grouped,
    /1\. copy from each database of events [\s\S]*2\. read from the database in memory\n[\s\S]*in memory:\n/,
  );
  const metric = await explain('METRIC room.heat[] SINCE 1h ago');
  assert.match(metric, /metrics: 1 database in [^\n]*\n[\s\S]*idx_samples_series_timestamp/);
});

test('--explain without the stores, or the right to read them, says what it needs, exit 1', async (t) => {
  const root = mkdtempSync(join(tmpdir(), 'explain-'));
  t.after(() => rmSync(root, { recursive: true, force: true }));
  const failed = async (...args: string[]) => {
    const { code, stdout, stderr } = await runProgram('evctl', ['--explain', ...args]).done;
    assert.deepEqual([code, stdout.length], [1, 0]);
    return stderr;
  };
  assert.match(
    await failed('--registry', join(root, 'none.reg'), 'EVENTS'),
    /^evctl: --explain: the stores are unknown: registry file [^\n]*none\.reg does not exist; name the registry file with --registry or the directory of the stores with --store-dir\n$/,
  );
  assert.match(
    await failed('--store-dir', root, 'EVENTS'),
    /^evctl: --explain: [^\n]*\/events: the store cannot be read: there is none; --explain reads the stores itself, run it as root or as eventd's user\n$/,
  );
  const parse = await runProgram('evctl', ['--explain', '--store-dir', root, 'EVENTS WERE a']).done;
  assert.equal(parse.code, 2);
  assert.match(parse.stderr, /^evctl: parse error: [^\n]+\n {2}EVENTS WERE a\n/);
});
