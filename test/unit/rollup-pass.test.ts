/** What one pass over all windows leaves to the next: no more than has changed, and nothing that is missing. */
import assert from 'node:assert/strict';
import { renameSync } from 'node:fs';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { native } from '../../src/native/addon.js';
import type { Moment } from '../../src/rollups/computation.js';
import { RollupPass } from '../../src/rollups/rollupPass.js';
import { Reopened } from '../../src/rollups/rollupRows.js';
import { METRIC_SCHEMA } from '../../src/stores/metricSchema.js';
import { openStore, type StoreConnection } from '../../src/stores/storeFile.js';
import { finish, pairs, ROLLUP_LIMITS } from '../fixtures/rollups.js';
import { temporaryDirectory } from '../fixtures/singleStores.js';

const MINUTE_NS = 60_000_000_000n;
const START = 25_000_000n * MINUTE_NS;
const MINUTES = 3000;
/** Windows of so many of these are completed at `at(MINUTES)`. */
const at = (minute: number): bigint => START + BigInt(minute) * MINUTE_NS;
const moment = (minute: number, limits = ROLLUP_LIMITS): Moment => ({ nowNs: at(minute), limits });
/** Searching what has changed; searching everything takes at least one more. */
const FEW_STEPS = 3;

/** Two samples a minute, at its beginning and in its middle, of series 1 to `series`. */
function stage(t: TestContext, { series = 2, type = 1, value = '5.5', minutes = MINUTES } = {}) {
  const file = join(temporaryDirectory(t), 'metrics.db');
  const db = openStore(file, METRIC_SCHEMA);
  t.after(() => db.close());
  db.prepare(
    `WITH RECURSIVE n(i) AS (VALUES(1) UNION ALL SELECT i + 1 FROM n WHERE i < ?)
     INSERT INTO series SELECT i, 'load', 'core=' || i, ?, 0, NULL FROM n`,
  ).run(BigInt(series), BigInt(type));
  db.prepare(
    `WITH RECURSIVE n(i) AS (VALUES(0) UNION ALL SELECT i + 1 FROM n WHERE i + 1 < ?)
     INSERT INTO samples SELECT series.id, ? + i * ?, ${value}, NULL FROM series CROSS JOIN n`,
  ).run(BigInt(minutes) * 2n, START, MINUTE_NS / 2n);
  const pass = new RollupPass(file);
  t.after(() => pass.close());
  return { file, db, pass };
}

function add(db: StoreConnection, timestamp: bigint, { series = 1n, value = 7 } = {}): void {
  db.prepare('INSERT INTO samples VALUES (?, ?, ?, NULL)').run(series, timestamp, value);
}

const rowsAt = (db: StoreConnection, timestamp: bigint): unknown[] =>
  db.prepare('SELECT value FROM rollups WHERE window_start = ? ORDER BY series_id').pluck().all(timestamp);

test('[ROL-15] [ROL-17] decisions that leave a pair wanted do not keep the pass through it from its end', (t) => {
  const { pass } = stage(t);
  pass.want(pairs('avg_60', 'max_60'));
  let rows = 0;
  for (let steps = 0; ; steps++) {
    assert.ok(steps < 200, 'the pass does not end');
    const found = pass.step(moment(MINUTES));
    if (found === false) break;
    if (found === true) rows += pass.compute(moment(MINUTES)).rows;
    // The other one comes and goes, and its place is another each time.
    pass.want(steps % 2 === 0 ? pairs('min_60', 'avg_60') : pairs('avg_60', 'max_60'));
  }
  assert.equal(rows, MINUTES * 2, 'all of the first pair');
});

test('[ROL-15] [ROL-19] a pair that was searched is searched again where late samples have reopened windows, and nowhere else', (t) => {
  const { db, pass } = stage(t);
  pass.want(pairs('avg_60'));
  const rows = [MINUTES - 2, MINUTES - 1, MINUTES].map((minute) => finish(pass, moment(minute)).rows);
  assert.deepEqual(rows, [(MINUTES - 2) * 2, 2, 2]);
  pass.want(pairs('avg_60'));
  assert.equal(finish(pass, moment(MINUTES)).steps, 0, 'nothing was reopened');
  const minute = MINUTES - 10;
  db.exec(`DELETE FROM rollups WHERE series_id = 1 AND window_start = ${at(minute)}`);
  new Reopened(db).lower(at(minute) + 7n);
  assert.equal(finish(pass, moment(MINUTES)).steps, 0, 'that waits for the next decision');
  pass.want(pairs('avg_60'));
  const again = finish(pass, moment(MINUTES));
  assert.ok(again.steps <= FEW_STEPS, `${again.steps} steps`);
  assert.equal(again.rows, 1);
  assert.deepEqual(rowsAt(db, at(minute)), [5.5, 5.5]);
  pass.want(pairs('avg_60'));
  assert.equal(finish(pass, moment(MINUTES)).steps, 0);
});

test('[ROL-16] each pass looks at what was completed since the one before, windows without a finite result included', (t) => {
  const { db, pass } = stage(t, { series: 1, value: '1e308', minutes: MINUTES + 3 });
  pass.want(pairs('sum_60'));
  assert.equal(finish(pass, moment(MINUTES)).rows, 0);
  // Where the first has looked at last is looked at once more.
  finish(pass, moment(MINUTES + 1));
  for (const minute of [MINUTES + 2, MINUTES + 3]) {
    const { steps, samples } = finish(pass, moment(minute));
    assert.ok(steps <= FEW_STEPS && samples <= 12, `${steps} steps, ${samples} samples`);
  }
  add(db, at(MINUTES + 3));
  assert.equal(finish(pass, moment(MINUTES + 4)).rows, 1);
});

test('[ROL-15] a sample that comes behind the search, to where nothing was rolled up yet, is found by the next pass', (t) => {
  const { db, pass } = stage(t, { series: 2, minutes: 10 });
  pass.want(pairs('avg_60'));
  finish(pass, moment(10));
  // Two minutes ago nobody sent anything; a sample of then reaches series 1 when the search is at series 2.
  add(db, at(14), { series: 2n });
  while (pass.step(moment(15)) === null);
  add(db, at(12), { series: 1n });
  assert.ok(finish(pass, moment(15)).rows > 0);
  assert.deepEqual(rowsAt(db, at(14)), [7]);
  finish(pass, moment(16));
  assert.deepEqual(rowsAt(db, at(12)), [7]);
});

for (const { what, wanted, reopened } of [
  { what: '', wanted: ['avg_60', 'max_60'], reopened: null },
  { what: ', also behind a pair that is new', wanted: ['min_60', 'avg_60', 'max_60'], reopened: null },
  { what: ', also where late samples have come to it', wanted: ['avg_60', 'max_60'], reopened: 18 },
]) {
  test(`[ROL-15] [ROL-39] [FAIL-19] a store that takes the place of another is searched whole for each pair, whatever was known of that${what}`, (t) => {
    const { file, db, pass } = stage(t, { series: 1, minutes: 20 });
    pass.want(pairs('avg_60', 'max_60'));
    for (const minute of [19, 20]) finish(pass, moment(minute));
    // The new one has samples of later, so that the first pair gets as far in it as all have been in the old one.
    const other = stage(t, { series: 1, minutes: 22 });
    if (reopened !== null) new Reopened(other.db).lower(at(reopened));
    db.close();
    other.db.close();
    renameSync(other.file, file);
    pass.want(pairs(...wanted));
    assert.equal(finish(pass, moment(22)).rows, 22 * wanted.length);
  });
}

test('[ROL-15] [ROL-16] a clock that was ahead for a while leaves no window without its row', (t) => {
  const { db, pass } = stage(t, { series: 1, minutes: 10 });
  pass.want(pairs('avg_60'));
  finish(pass, moment(10));
  finish(pass, moment(100_000));
  for (const minute of [10, 11]) {
    add(db, at(minute));
    finish(pass, moment(minute + 1));
    assert.deepEqual(rowsAt(db, at(minute)), [7]);
  }
});

test('[ROL-15] [ROL-22] [ROL-36] a series whose only sample is of the last instant there is does not end the pass of the others', (t) => {
  const { db, pass } = stage(t, { series: 2, type: 0, minutes: 10 });
  db.exec('DELETE FROM samples WHERE series_id = 1');
  add(db, 2n ** 63n - 1n);
  pass.want(pairs('delta_60', 'avg_60'));
  const limits = { ...ROLLUP_LIMITS, sizeLimited: true };
  assert.equal(finish(pass, moment(10, limits)).rows, 18);
});

test('[ROL-18] [FAIL-33] a window that takes too long goes without its row, and takes no other with it', (t) => {
  const { db, pass } = stage(t, { series: 1, minutes: 6 });
  const { slotDeadline } = native;
  t.mock.method(native, 'slotDeadline', (slot: number, ms: number) => slotDeadline(slot, Math.min(ms, 50)));
  db.exec(
    `CREATE VIEW endless AS
       WITH RECURSIVE n(i) AS (VALUES(1) UNION ALL SELECT i + 1 FROM n) SELECT max(i) AS last FROM n;
     CREATE TRIGGER slow BEFORE INSERT ON rollups WHEN NEW.window_start = ${at(3)}
     BEGIN SELECT last FROM endless; END`,
  );
  pass.want(pairs('avg_60'));
  assert.equal(finish(pass, moment(6)).rows, 5);
  const starts = db.prepare('SELECT window_start FROM rollups ORDER BY window_start').pluck().all();
  assert.deepEqual(starts, [0, 1, 2, 4, 5].map(at));
});

test('[ROL-19] what is noted of late samples is the oldest one, and goes when it was asked for', (t) => {
  const { db } = stage(t, { minutes: 1 });
  const reopened = new Reopened(db);
  assert.equal(reopened.read(), null);
  for (const time of [9n, 10n, 5n, 2n ** 63n - 1n]) reopened.lower(time);
  assert.equal(reopened.read(), 5n);
  reopened.clear();
  assert.equal(reopened.read(), null);
  db.exec("INSERT INTO metadata VALUES ('rollups_reopened', 'some time')");
  reopened.lower(5n);
  assert.equal(reopened.read(), 0n, 'what says nothing means everything');
});
