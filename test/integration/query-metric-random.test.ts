/** METRIC queries over the socket against a plain computation of the same answers. */
import assert from 'node:assert/strict';
import { join } from 'node:path';
import { test } from 'node:test';
import { METRIC_SCHEMA } from '../../src/stores/metricSchema.js';
import { openStore } from '../../src/stores/storeFile.js';
import { answer, type Row } from '../fixtures/metricQueryReference.js';
import { Dice, drawQuestion, drawStore, questionText, writeStore } from '../fixtures/metricQuestions.js';
import { makeStore, startService } from '../fixtures/queryService.js';
import { ask, type ResponseRecord } from '../fixtures/rawQueryClient.js';

const STORES = 5;
const QUESTIONS = 60;
const BUILT_IN = new Set(['timestamp', 'name', 'type', 'value']);

/** A row as a result record (QL-99, QL-100), but for the last digits of a number. */
function assertRecord(record: ResponseRecord, { timestamp, name, labels, value }: Row, text: string): void {
  const shown = Object.fromEntries(Object.entries(labels).filter(([key]) => !BUILT_IN.has(key)));
  const { value: actual, ...rest } = record;
  assert.deepEqual(rest, { timestamp, name, ...shown }, text);
  if (typeof value !== 'number') {
    const { boundaries, counts, total, sum } = value;
    const plain = JSON.parse(
      JSON.stringify(actual, (_, each) => (typeof each === 'bigint' ? Number(each) : each)),
    );
    const expected = { boundaries, counts, total_count: total, sum };
    assert.deepEqual(plain, JSON.parse(JSON.stringify(expected)), text);
    return;
  }
  assert.equal(typeof actual, 'number', text);
  const difference = Math.abs((actual as number) - value);
  assert.ok(
    actual === value || difference <= 1e-9 * Math.max(1, Math.abs(value)),
    `${text}: ${actual}, not ${value}`,
  );
}

test('[QL-86] [QL-87] [QL-90] [QL-91] [QL-92] [QL-93] [QL-94] [QL-95] [QL-96] [QL-97] [QL-98] [QL-101] [QL-104] [QL-105] [QL-106] [QL-108] [QL-109] [ROL-28] random questions have the answers of the plain computation', async (t) => {
  let answered = 0;
  let rejected = 0;
  for (let seed = 1; seed <= STORES; seed++) {
    const dice = new Dice(seed);
    const stored = drawStore(dice);
    const store = makeStore(t);
    const db = openStore(join(store.directory, '..', 'metrics.db'), METRIC_SCHEMA);
    writeStore(db, stored);
    db.close();
    const service = await startService(t, store);
    for (let count = 0; count < QUESTIONS; count++) {
      const question = drawQuestion(dice);
      const text = `${questionText(question)} (seed ${seed}, ${count})`;
      const expected = answer(stored, question);
      const { records, error } = await ask(store.socketPath, questionText(question));
      if (expected.rejected !== null) {
        rejected++;
        assert.match(error ?? 'no error', /^type error: /, text);
        assert.ok(
          expected.rejected.some((name) => error?.includes(`'${name}'`)),
          `${text}: ${error}`,
        );
        continue;
      }
      assert.equal(error, null, text);
      assert.equal(records.length, expected.rows.length, text);
      if (records.length > 0) answered++;
      for (const [index, record] of records.entries()) {
        assertRecord(record, expected.rows[index] as Row, `${text}, record ${index}`);
      }
    }
    await service.stop();
  }
  assert.ok(answered > 90 && rejected > 20, `${answered} answered, ${rejected} rejected`);
});
