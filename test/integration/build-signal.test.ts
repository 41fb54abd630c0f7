/** Ending an index build from other threads: the build and nothing else, and at once or in time. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Worker } from 'node:worker_threads';
import Database from 'better-sqlite3';
import { BuildSignal } from '../../src/indexes/buildSignal.js';
import { addonPath, native } from '../../src/native/addon.js';

const ENDLESS = 'WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT count(*) FROM n';
const interrupted = { code: 'SQLITE_INTERRUPT' };

function open(): { db: Database.Database; slot: number } {
  const db = new Database(':memory:');
  db.loadExtension(addonPath);
  return { db, slot: db.prepare('SELECT eventd_slot()').pluck().get() as number };
}

test('[IDX-12][IDX-14][IDX-15] a build yields to whoever presses, to events when its patience is over, and to nobody else', () => {
  const { db, slot } = open();
  const signal = new BuildSignal(BuildSignal.allocate());
  assert.equal(signal.arrived(), false, 'there is none');
  assert.equal(signal.press(), false);
  signal.begin(slot, 30);
  assert.equal(signal.building, true);
  assert.equal(signal.end(), 'undisturbed');
  assert.equal(signal.building, false);

  signal.begin(slot, 30);
  assert.equal(signal.arrived(), true);
  const began = performance.now();
  assert.throws(() => db.exec(ENDLESS), interrupted);
  assert.ok(performance.now() - began >= 25, 'it had its patience');
  assert.equal(signal.end(), 'yielded');

  // Pressed before SQLite was called: the interrupt falls between two statements, and is repeated.
  signal.begin(slot, 600_000);
  assert.equal(signal.press(), true);
  assert.throws(() => db.exec(ENDLESS), interrupted);
  assert.equal(signal.end(), 'pressed');

  // A new build begins undisturbed by what ended the last one.
  signal.begin(slot, 600_000);
  db.exec('CREATE TABLE t (a); INSERT INTO t VALUES (1); CREATE INDEX t_a ON t (a)');
  assert.equal(signal.end(), 'undisturbed');
  db.close();
  assert.equal(native.slotYield(slot, 0), false, 'a closed connection has no build');
});

test('[IDX-12][FAIL-4] under fire from another thread builds end and transactions never do', async () => {
  const { db, slot } = open();
  const buffer = BuildSignal.allocate();
  const signal = new BuildSignal(buffer);
  const stop = new Int32Array(new SharedArrayBuffer(4));
  const worker = new Worker(
    `const { workerData } = require('node:worker_threads');
     const native = require(workerData.addonPath);
     while (Atomics.load(workerData.stop, 0) === 0) native.slotYield(workerData.slot, 0);`,
    { eval: true, workerData: { addonPath, slot, stop } },
  );
  const ended = new Promise((resolve) => worker.once('exit', resolve));
  await new Promise((resolve) => worker.once('online', resolve));
  try {
    db.exec('CREATE TABLE t (a)');
    const values = JSON.stringify(Array.from({ length: 200 }, (_, n) => n));
    const insert = db.prepare('INSERT INTO t SELECT value FROM json_each(?)');
    for (let round = 0; round < 20; round++) {
      for (let n = 0; n < 10; n++) db.transaction(() => insert.run(values))();
      signal.begin(slot, 600_000);
      assert.throws(() => db.exec(ENDLESS), interrupted);
      assert.notEqual(signal.end(), 'undisturbed');
    }
    assert.equal(db.prepare('SELECT count(*) FROM t').pluck().get(), 20 * 10 * 200);
  } finally {
    Atomics.store(stop, 0, 1);
    await ended;
    db.close();
  }
});
