/** METRIC queries over stores with rollups: the answers are those of the samples, whatever rows there are. */
import assert from 'node:assert/strict';
import { join } from 'node:path';
import { test } from 'node:test';
import Database from 'better-sqlite3';
import { METRIC_SCHEMA } from '../../src/stores/metricSchema.js';
import { openStore } from '../../src/stores/storeFile.js';
import { answer } from '../fixtures/metricQueryReference.js';
import {
  Dice,
  drawQuestion,
  drawStore,
  EPOCH,
  questionText,
  writeStore,
} from '../fixtures/metricQuestions.js';
import { makeStore, startService } from '../fixtures/queryService.js';
import { ask, type ResponseRecord } from '../fixtures/rawQueryClient.js';
import { computeRollups, pairs } from '../fixtures/rollups.js';

const STORES = 5;
const QUESTIONS = 60;
const SECOND = 1_000_000_000n;
const FUNCTIONS = ['avg', 'min', 'max', 'sum', 'rate', 'delta'];

function assertSame(actual: readonly ResponseRecord[], values: readonly unknown[], text: string): void {
  assert.equal(actual.length, values.length, text);
  for (const [index, { value }] of actual.entries()) {
    const expected = values[index];
    if (typeof expected !== 'number' || typeof value !== 'number') continue;
    const difference = Math.abs(value - expected);
    assert.ok(
      value === expected || difference <= 1e-9 * Math.max(1, Math.abs(expected)),
      `${text}, record ${index}: ${value}, not ${expected}`,
    );
  }
}

test('[ROL-1] [ROL-6] [ROL-24] [ROL-25] [ROL-26] [ROL-28] [ROL-29] [ROL-30] [ROL-31] [ROL-32] [ROL-33] [ROL-34] [QL-103] [QX-50] [QX-51] [QX-52] random questions have the answers of the samples, with all, some and wrong sizes of rollups', async (t) => {
  let windows = 0;
  for (let seed = 1; seed <= STORES; seed++) {
    const dice = new Dice(seed + 100);
    const stored = drawStore(dice);
    const store = makeStore(t);
    const file = join(store.directory, '..', 'metrics.db');
    const db = openStore(file, METRIC_SCHEMA);
    writeStore(db, stored);
    db.close();
    const sizes = [1, 2, 5, 7, 10, 20, 60, 120].filter(() => dice.chance(0.6));
    const keys = FUNCTIONS.flatMap((name) => sizes.map((seconds) => `${name}_${seconds}`));
    const rows = computeRollups(file, pairs(...keys), BigInt(EPOCH + 100 + dice.below(900)) * SECOND);
    assert.ok(rows > 20, `${rows} rows`);
    if (dice.chance(0.7)) {
      const gaps = new Database(file);
      gaps.prepare('DELETE FROM rollups WHERE (id * 7919) % 10 < ?').run(dice.below(8));
      gaps.close();
    }
    const service = await startService(t, store);
    for (let count = 0; count < QUESTIONS; count++) {
      const drawn = drawQuestion(dice);
      const seconds = dice.pick([1, 10, 20, 60, 120, 3600]);
      const question = drawn.window === null ? drawn : { ...drawn, window: { ...drawn.window, seconds } };
      const text = `${questionText(question)} (seed ${seed}, ${count})`;
      const expected = answer(stored, question);
      const { records, error } = await ask(store.socketPath, questionText(question));
      if (expected.rejected !== null) {
        assert.match(error ?? 'no error', /^type error: /, text);
        continue;
      }
      assert.equal(error, null, text);
      assertSame(
        records,
        expected.rows.map(({ value }) => value),
        text,
      );
      assert.deepEqual(
        records.map(({ timestamp }) => timestamp),
        expected.rows.map(({ timestamp }) => timestamp),
        text,
      );
      if (question.window !== null) windows += records.length;
    }
    await service.stop();
  }
  assert.ok(windows > 150, `${windows} windows`);
});
