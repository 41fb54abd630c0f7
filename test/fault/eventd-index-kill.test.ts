/** kill -9 while indexes are built and the policy is written: nothing is half there, and nothing is forgotten. */
import assert from 'node:assert/strict';
import { mkdirSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import Database from 'better-sqlite3';
import { addonPath } from '../../src/native/addon.js';
import { EventdWorld, eventually } from '../fixtures/eventd.js';
import { seedEvents } from '../fixtures/indexedShards.js';

const EVENTS = 150_000;

test('[IDX-12][IDX-46][IDX-48][LIFE-221] killed during a build and around a write of the policy, eventd leaves whole databases and goes on', {
  timeout: 60_000,
}, async (t) => {
  const world = EventdWorld.for(t, { cpus: 1 });
  mkdirSync(world.events, { recursive: true, mode: 0o700 });
  const file = join(world.events, 'shard-0000.db');
  seedEvents(file, EVENTS);
  const run = await world.start();
  await world.query('EVENTS INDEX user');
  // The pages of the new index grow the WAL: the build is at its end, and not over.
  const walOf = () => statSync(`${file}-wal`, { throwIfNoEntry: false })?.size ?? 0;
  const idle = walOf();
  await eventually('the build to write', () => walOf() > idle + 100_000);
  await run.end('SIGKILL');
  checkWhole(file);
  const policy = join(world.events, 'eventd-meta.db');
  assert.deepEqual(
    ask(policy, 'SELECT field_path FROM desired_indexes'),
    ['user'],
    'what was answered is kept',
  );

  // Wishes one after the other, the kill in their midst: what was answered is there, and the file is whole.
  const second = await world.start();
  const answered: string[] = [];
  const wishing = (async () => {
    for (let n = 0; n < 25; n++) {
      await world.query(`EVENTS INDEX wish${n}`);
      answered.push(`wish${n}`);
    }
  })().catch(() => undefined);
  await eventually('a few answers', () => answered.length >= 5);
  await second.end('SIGKILL');
  await wishing;
  checkWhole(policy);
  const kept = ask(policy, 'SELECT field_path FROM desired_indexes');
  for (const field of answered) assert.ok(kept.includes(field), `${field} was answered and is forgotten`);
  checkWhole(file);

  const third = await world.start();
  assert.ok(!/begins anew/.test(third.stderr), third.stderr);
  await eventually('the index', () =>
    ask(file, "SELECT name FROM sqlite_master WHERE type = 'index'").includes('idx_events_payload_user'),
  );
  const [found] = await world.query('EVENTS WHERE user == "user-7" COUNT');
  assert.equal(found?.fields.get('count'), BigInt(EVENTS / 1000));
  assert.deepEqual(await third.end(), { code: 0, signal: null }, third.stderr);
  checkWhole(file);
});

function ask(file: string, sql: string): unknown[] {
  const db = new Database(file, { readonly: true });
  try {
    return db.prepare(sql).pluck().all();
  } finally {
    db.close();
  }
}

/** Every page, and every index entry against its row. */
function checkWhole(file: string): void {
  const db = new Database(file);
  try {
    db.loadExtension(addonPath);
    assert.equal(db.pragma('integrity_check', { simple: true }), 'ok', file);
  } finally {
    db.close();
  }
}
