/** Adaptive indexes of the real eventd: asked for, built in quiet moments, used, given up for events, shed. */
import assert from 'node:assert/strict';
import { existsSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { encode } from '@msgpack/msgpack';
import Database from 'better-sqlite3';
import { EventdWorld, eventually } from '../fixtures/eventd.js';
import { runProgram } from '../fixtures/runProgram.js';

/** Names of the indexes on `events`, the one on `timestamp` left out. */
function indexesOf(world: EventdWorld, shard: number): string[] {
  return world.read(shard, (db) =>
    db
      .prepare(
        "SELECT name FROM sqlite_master WHERE type = 'index' AND tbl_name = 'events' AND name <> 'idx_events_timestamp' ORDER BY name",
      )
      .pluck()
      .all(),
  ) as string[];
}

function meta<T>(world: EventdWorld, sql: string): T[] {
  const db = new Database(join(world.events, 'eventd-meta.db'), { readonly: true });
  try {
    return db.prepare(sql).raw().all() as T[];
  } finally {
    db.close();
  }
}

const has = (world: EventdWorld, shard: number, ...names: string[]) =>
  eventually(`shard ${shard} to have ${names.join(', ')}`, () => {
    const existing = indexesOf(world, shard);
    return names.length === existing.length && names.every((name) => existing.includes(name));
  });

test('[QL-72][QL-79][IDX-1][IDX-7][IDX-10][IDX-33][IDX-40][IDX-47][IDX-48][LIFE-107][LIFE-124] EVENTS INDEX puts a field into the set at once, every shard builds it in its next quiet moment, and a restart goes on from there', async (t) => {
  const world = EventdWorld.for(t);
  const run = await world.start();
  for (const cpu of [0, 1]) {
    world.emit(cpu, 'app.login', encode({ source: { name: 'a' }, n: cpu }));
    await world.stored(cpu);
  }
  assert.deepEqual(await world.query('EVENTS INDEX source.name'), [], 'success is an empty result');
  assert.deepEqual(meta(world, 'SELECT field_path, priority, is_expression FROM desired_indexes'), [
    ['source.name', 1, 1],
  ]);
  assert.equal(meta(world, "SELECT value FROM meta WHERE key = 'manual_index.source.name'").length, 1);
  await world.query('EVENTS INDEX event_type');
  assert.deepEqual(
    meta(world, 'SELECT field_path, priority, is_expression FROM desired_indexes ORDER BY priority'),
    [
      ['event_type', 1, 0],
      ['source.name', 2, 1],
    ],
  );
  for (const shard of [0, 1])
    await has(world, shard, 'idx_events_event_type', 'idx_events_payload_source_name');
  assert.equal((await world.query('EVENTS WHERE source.name == "A"')).length, 2);
  // Events go on being stored over expression indexes.
  for (const cpu of [0, 1]) {
    world.emit(cpu, 'app.login', encode({ source: { name: 'b' } }));
    world.emit(cpu, 'app.garbage', Uint8Array.of(0xc1, 0xff));
    await world.stored(cpu);
  }
  assert.deepEqual(await run.end(), { code: 0, signal: null }, run.stderr);
  const counted = meta<[string, number]>(world, 'SELECT field_path, query_count FROM index_counters');
  assert.deepEqual(counted, [['source.name', 1]], '[IDX-2][QX-40][QX-43] counters are written at a stop');

  const again = await world.start();
  await world.query('EVENTS INDEX cpu_id');
  for (const shard of [0, 1])
    await has(world, shard, 'idx_events_event_type', 'idx_events_payload_source_name', 'idx_events_cpu_id');
  assert.deepEqual(await again.end(), { code: 0, signal: null }, again.stderr);
});

test('[QL-75][IDX-30] timestamp has its index always, sequence never', async (t) => {
  const world = EventdWorld.for(t, { cpus: 1 });
  const run = await world.start();
  assert.deepEqual(await world.query('EVENTS INDEX timestamp'), []);
  await assert.rejects(world.query('EVENTS INDEX sequence'), /unsupported: sequence is not indexable/);
  await assert.rejects(world.query(`EVENTS INDEX ${'x'.repeat(600)}`), /not indexable/);
  assert.deepEqual(meta(world, 'SELECT * FROM desired_indexes'), []);
  assert.deepEqual(await run.end(), { code: 0, signal: null }, run.stderr);
});

test('[IDX-46][IDX-43] a metadata database of an unknown version, or of nonsense, is made anew and the start goes on', async (t) => {
  const world = EventdWorld.for(t, { cpus: 1 });
  const first = await world.start();
  await world.query('EVENTS INDEX event_type');
  await has(world, 0, 'idx_events_event_type');
  await first.end();
  const file = join(world.events, 'eventd-meta.db');
  const db = new Database(file);
  db.exec("UPDATE meta SET value = '99' WHERE key = 'schema_version'");
  db.close();
  const second = await world.start();
  await second.hasWritten(/eventd-meta\.db: schema version '99' is unknown; the index policy begins anew/);
  assert.ok(existsSync(`${file}.old`), 'the old one stays beside it');
  assert.deepEqual(meta(world, "SELECT value FROM meta WHERE key = 'schema_version'"), [['1']]);
  // Its set is empty, and so the shard's indexes go.
  await has(world, 0);
  await second.end();
  writeFileSync(file, 'this is no database, and has never been one, whatever its name may say about it');
  const third = await world.start();
  await third.hasWritten(/the index policy begins anew/);
  assert.deepEqual(await world.query('EVENTS INDEX event_type'), []);
  assert.deepEqual(await third.end(), { code: 0, signal: null }, third.stderr);
});

test('[IDX-2][IDX-6] evctl inspect indexes tells what is asked for, what is desired, and why', async (t) => {
  const world = EventdWorld.for(t, { cpus: 1 });
  const run = await world.start();
  for (let n = 0; n < 3; n++) await world.query('EVENTS WHERE user == "a"');
  await world.query('EVENTS INDEX event_type');
  await has(world, 0, 'idx_events_event_type');
  const inspected = async () => {
    const { debugSocket } = world.paths;
    const { code, stdout, stderr } = await runProgram('evctl', [
      'inspect',
      'indexes',
      '--debug-socket',
      debugSocket,
    ]).done;
    assert.equal(code, 0, stderr);
    return stdout.toString();
  };
  const text = await eventually('the counts', async () => {
    const now = await inspected();
    return /^user +3 /m.test(now) && now;
  });
  assert.match(text, /^FIELD +QUERIES +PRIORITY +SHARDS +WHY$/m);
  assert.match(text, /^event_type +0 +1 +1\/1 +EVENTS INDEX named it less than 24 h ago$/m);
  assert.match(text, /^user +3 +- +- +out: it enters at 100$/m);
  assert.match(text, /^writer-0: idx_events_event_type$/m);
  assert.deepEqual(await run.end('SIGQUIT'), { code: 0, signal: null });
  assert.match(run.stderr, /index policy: observing, 3 queries by 1 fields, desired: event_type/);
  assert.match(run.stderr, /writer 0 has idx_events_event_type/);
});
