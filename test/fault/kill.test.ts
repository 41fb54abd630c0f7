/**
 * kill -9 at any instant: nothing lost without a record, nothing twice. Twenty kills here; the soak
 * (`test/soak/kills.ts`) runs the same loop for as long as one likes.
 */
import assert from 'node:assert/strict';
import { randomInt } from 'node:crypto';
import { test } from 'node:test';
import { runKills } from '../fixtures/eventdKills.js';
import { KILL_KINDS } from '../soak/plan.js';

/** Ten kills hold every kind of instant once, and a change of boot. */
const RUNS = [
  { seed: 1, kills: 10, rings: 2 },
  { seed: 2, kills: 5, rings: 1 },
  { seed: randomInt(2 ** 31), kills: 5, rings: 2 },
];

for (const { seed, kills, rings } of RUNS) {
  test(`[BOOT-5] [BOOT-6] [BOOT-8] [BOOT-9] [BOOT-10] [ING-17] [ING-19] [ING-20] [ING-36] [LIFE-220] [LIFE-221] [LIFE-223] [FAIL-22] [HOST-75] kill -9 at any instant, StorageShards changing, leaves an exact account (${kills} kills, ${rings} rings, seed ${seed})`, async (t) => {
    const summary = await runKills({ kills, seed, rings, rate: 8000, capacity: 1 << 20 });
    const found = [...summary.faults.details, ...(summary.kept === null ? [] : [`kept: ${summary.kept}`])];
    assert.deepEqual(found, [], `run it again: node dist/test/soak/kills.js --seed ${seed} --rings ${rings}`);
    t.diagnostic(
      `seed ${seed}: ${summary.emitted} emitted, ${summary.stored} stored, ${summary.gapped} gapped`,
    );
    const hit = KILL_KINDS.filter((kind) => summary.kills[kind] > 0);
    assert.ok(
      hit.length >= (kills >= KILL_KINDS.length ? KILL_KINDS.length - 2 : 2),
      `kinds hit: ${hit.join(', ')}`,
    );
    assert.ok(summary.accounts >= 2, `${summary.accounts} accounts`);
    assert.ok(summary.stored > 1000, `${summary.stored} stored`);
    if (kills >= KILL_KINDS.length)
      assert.ok(summary.gapRecords > 0, 'rings were overrun while eventd was down');
  });
}
