/** kill -9 at any instant: nothing lost without a record, nothing twice. `bench/kill.ts` does more of it. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { faultsOf } from '../fixtures/accounting.js';
import { killUnderLoad } from '../fixtures/eventdKills.js';

for (const storageShards of [1, 2, 5]) {
  test(`[BOOT-8] [BOOT-9] [BOOT-10] [ING-17] [ING-19] [LIFE-220] [LIFE-221] [LIFE-223] [FAIL-22] kill -9 under load leaves an exact account with StorageShards=${storageShards}`, async () => {
    const { accounts, problems, emitted } = await killUnderLoad({
      storageShards,
      kills: 3,
      ratePerSecond: 40_000,
      // Uneven on purpose: within a commit, between two, right after start.
      runMs: (kill) => [130, 417, 5, 260][kill] ?? 200,
      // Once long enough for the rings to overrun: what nobody can fetch any more must be recorded.
      downMs: (kill) => (kill === 1 ? 700 : 0),
      capacity: 1 << 20,
    });
    assert.deepEqual([...problems, ...faultsOf(accounts)], []);
    assert.ok(emitted > 20_000, `the load ran: ${emitted} events`);
    for (const { cpu, stored, gapRecords } of accounts) {
      assert.ok(stored > 1000, `CPU ${cpu} stored ${stored}`);
      assert.ok(gapRecords > 0, `CPU ${cpu} overran while eventd was down`);
    }
  });
}
