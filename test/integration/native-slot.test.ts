import { strict as assert } from 'node:assert';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { Worker } from 'node:worker_threads';
import Database from 'better-sqlite3';
import { addonPath, native } from '../../src/native/addon.js';

const directory = mkdtempSync(join(tmpdir(), 'eventd-slot-'));
after(() => rmSync(directory, { recursive: true }));

/** Runs for many minutes unless interrupted. */
const ENDLESS =
  'WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT count(*) FROM n WHERE i < 0';

function open(path = ':memory:'): { db: Database.Database; slot: number } {
  const db = new Database(path);
  db.loadExtension(addonPath);
  return { db, slot: db.prepare('SELECT eventd_slot()').pluck().get() as number };
}

const interrupted = { code: 'SQLITE_INTERRUPT' };

/**
 * Starts a thread that interrupts the slot over and over while the flag is 1, and ends when it is 2;
 * `run` executes on this thread meanwhile.
 */
async function whileInterrupting(slot: number, run: () => void): Promise<void> {
  const flag = new Int32Array(new SharedArrayBuffer(4));
  const worker = new Worker(
    `const { workerData } = require('node:worker_threads');
     const native = require(workerData.addonPath);
     Atomics.wait(workerData.flag, 0, 0);
     while (Atomics.load(workerData.flag, 0) === 1) {
       native.slotInterrupt(workerData.slot);
       Atomics.wait(workerData.flag, 0, 1, 10);
     }`,
    { eval: true, workerData: { addonPath, flag, slot } },
  );
  const ended = new Promise<void>((resolve, reject) => {
    worker.once('exit', () => resolve());
    worker.once('error', reject);
  });
  await new Promise((resolve) => worker.once('online', resolve));
  try {
    Atomics.store(flag, 0, 1);
    Atomics.notify(flag, 0);
    run();
  } finally {
    Atomics.store(flag, 0, 2);
    Atomics.notify(flag, 0);
    await ended;
  }
}

test('[QX-65] every connection has a slot number of its own, stale once it is closed', () => {
  const first = open();
  const second = open();
  assert.notEqual(first.slot, second.slot);
  assert.equal(native.slotInterrupt(first.slot), true);
  first.db.close();
  assert.equal(native.slotInterrupt(first.slot), false);
  const third = open();
  assert.notEqual(third.slot, first.slot);
  assert.equal(native.slotInterrupt(first.slot), false);
  assert.equal(native.slotInterrupt(third.slot), true);
  assert.doesNotThrow(() => native.slotDeadline(first.slot, 1));
  second.db.close();
  third.db.close();
});

test('[QX-65] many connections are told apart, and closing some leaves the others reachable', () => {
  const all = Array.from({ length: 200 }, () => open());
  assert.equal(new Set(all.map(({ slot }) => slot)).size, 200);
  for (const [i, { db }] of all.entries()) if (i % 2 === 0) db.close();
  for (const [i, { slot }] of all.entries()) assert.equal(native.slotInterrupt(slot), i % 2 === 1);
  for (const [i, { db }] of all.entries()) if (i % 2 === 1) db.close();
});

test('[QX-65] arguments that can be no slot are refused by name', () => {
  for (const slot of [0, -1, 1.5, Number.NaN, 2 ** 60]) {
    assert.throws(() => native.slotInterrupt(slot), /slot/);
    assert.throws(() => native.slotDeadline(slot, 5), /slot/);
  }
  assert.throws(() => native.slotDeadline(1 << 20, -1), /ms/);
});

test('[QX-64] [QX-65] slotInterrupt from another thread ends a statement inside one long step', async () => {
  const { db, slot } = open();
  await whileInterrupting(slot, () => {
    assert.throws(() => db.prepare(ENDLESS).get(), interrupted);
  });
  assert.equal(db.prepare('SELECT 1').pluck().get(), 1);
  db.close();
});

test('[IDX-12] [IDX-14] a running CREATE INDEX is cancelled and leaves nothing behind', async () => {
  const path = join(directory, 'index.db');
  const { db, slot } = open(path);
  db.pragma('journal_mode = WAL');
  db.exec('CREATE TABLE t(payload BLOB)');
  db.prepare(
    `WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n LIMIT 300000)
     INSERT INTO t SELECT randomblob(40) FROM n`,
  ).run();
  await whileInterrupting(slot, () => {
    assert.throws(
      () => db.exec("CREATE INDEX i ON t(msgpack_extract(payload, '$.a'), payload)"),
      interrupted,
    );
  });
  assert.equal(db.prepare("SELECT count(*) FROM sqlite_master WHERE type = 'index'").pluck().get(), 0);
  assert.equal(db.prepare('INSERT INTO t VALUES (NULL)').run().changes, 1);
  db.close();
});

test('[QX-62] [QX-68] slotDeadline ends a statement by itself when the time is up, not before', () => {
  const { db, slot } = open();
  native.slotDeadline(slot, 150);
  const start = performance.now();
  assert.throws(() => db.prepare(ENDLESS).get(), interrupted);
  const elapsed = performance.now() - start;
  assert.ok(elapsed >= 140 && elapsed < 5000, `${elapsed} ms`);
  native.slotDeadline(slot, 0);
  db.close();
});

test('[QX-62] a deadline that passed between two statements still ends the next one', () => {
  const { db, slot } = open();
  native.slotDeadline(slot, 1);
  const until = performance.now() + 120;
  while (performance.now() < until);
  assert.throws(() => db.prepare(ENDLESS).get(), interrupted);
  assert.throws(() => db.prepare(ENDLESS).get(), interrupted);
  native.slotDeadline(slot, 0);
  db.close();
});

test('[QX-62] a cleared deadline interrupts nothing, and each slot has its own', () => {
  const cleared = open();
  const other = open();
  native.slotDeadline(cleared.slot, 30);
  native.slotDeadline(other.slot, 60);
  native.slotDeadline(cleared.slot, 0);
  assert.throws(() => other.db.prepare(ENDLESS).get(), interrupted);
  const until = performance.now() + 150;
  const busy = cleared.db.prepare(
    'WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n LIMIT 10000) SELECT count(*) FROM n',
  );
  while (performance.now() < until) assert.deepEqual(busy.pluck().get(), 10000);
  other.db.close();
  cleared.db.close();
});

test('[QX-65] a connection closed with its deadline set is not touched any more', () => {
  for (let i = 0; i < 50; i++) {
    const { db, slot } = open();
    native.slotDeadline(slot, 1 + (i % 3));
    db.close();
  }
  const { db, slot } = open();
  native.slotDeadline(slot, 80);
  assert.throws(() => db.prepare(ENDLESS).get(), interrupted);
  db.close();
});
