/**
 * kill -9 under full load: ten times per StorageShards, at instants chosen at random, then the account
 * of every sequence. Exits 1 when one is lost without a gap record, or stored or recorded twice.
 *
 *   npm run bench:kill -- [--kills N] [--rate PER_SECOND] [--seed N]
 */
import { parseArgs } from 'node:util';
import { faultsOf } from '../test/fixtures/accounting.js';
import { killUnderLoad } from '../test/fixtures/eventdKills.js';
import { table } from './table.js';

const { values } = parseArgs({
  options: {
    kills: { type: 'string', default: '10' },
    rate: { type: 'string', default: '150000' },
    seed: { type: 'string', default: '1' },
  },
});
const kills = Number(values.kills);
let state = Number(values.seed) >>> 0;

/** A repeatable number from 0 to `below`, so that a failing run can be tried again. */
function random(below: number): number {
  state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
  return Math.floor((state / 2 ** 32) * below);
}

const rows: (string | number)[][] = [];
const faults: string[] = [];
for (const storageShards of [1, 2, 5]) {
  const started = performance.now();
  const { accounts, problems, emitted } = await killUnderLoad({
    storageShards,
    kills,
    ratePerSecond: Number(values.rate),
    runMs: () => random(800),
    downMs: () => random(100),
    capacity: 4 << 20,
  });
  const found = [...problems, ...faultsOf(accounts)];
  faults.push(...found.map((fault) => `StorageShards=${storageShards}: ${fault}`));
  const sum = (pick: (account: (typeof accounts)[number]) => number) =>
    accounts.reduce((total, account) => total + pick(account), 0);
  rows.push([
    storageShards,
    kills,
    emitted,
    sum(({ stored }) => stored),
    sum(({ gapRecords }) => gapRecords),
    sum(({ gapped }) => gapped),
    sum(({ missing }) => missing.count),
    sum(({ storedTwice }) => storedTwice.count),
    sum(({ gappedTwice, storedAndGapped }) => gappedTwice.count + storedAndGapped.count),
    Math.round((performance.now() - started) / 1000),
  ]);
}
console.log(
  table(
    ['shards', 'kills', 'emitted', 'stored', 'gap records', 'in gaps', 'missing', 'twice', 'false gaps', 's'],
    rows,
  ),
);
for (const fault of faults) console.error(fault);
process.exitCode = faults.length === 0 ? 0 : 1;
