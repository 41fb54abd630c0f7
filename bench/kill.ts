/**
 * kill -9 in the middle of full load, ten times per StorageShards, at instants that the seed decides,
 * then the account of every sequence. Exits 1 when one is lost without a gap record, or stored or
 * recorded twice, and keeps the directory then.
 *
 *   npm run bench:kill -- [--kills N] [--rate PER_SECOND] [--seed N]
 */
import { runKills } from '../test/fixtures/eventdKills.js';
import { benchOptions } from './options.js';
import { table } from './table.js';

const values = benchOptions({
  kills: { type: 'string', default: '10' },
  rate: { type: 'string', default: '100000' },
  seed: { type: 'string', default: '1' },
});

const rows: (string | number)[][] = [];
const details: string[] = [];
for (const shards of [1, 2, 5]) {
  const started = performance.now();
  const summary = await runKills({
    kills: Number(values.kills),
    seed: Number(values.seed),
    rate: Number(values.rate),
    rings: 2,
    capacity: 4 << 20,
    kinds: ['running', 'running', 'commit', 'ready'],
    shards: [shards],
  });
  const { faults, starts, kept } = summary;
  details.push(...faults.details.map((detail) => `StorageShards=${shards}: ${detail}`));
  if (kept !== null) details.push(`StorageShards=${shards}: kept ${kept}`);
  rows.push([
    shards,
    Number(values.kills),
    summary.emitted,
    summary.stored,
    summary.gapRecords,
    summary.gapped,
    faults.counts.lost,
    faults.counts.duplicated,
    faults.counts.wrong,
    Math.round(starts[starts.length >> 1] ?? 0),
    Math.round((performance.now() - started) / 1000),
  ]);
}
console.log(
  table(
    [
      'shards',
      'kills',
      'emitted',
      'stored',
      'gap records',
      'in gaps',
      'lost',
      'twice',
      'wrong',
      'start ms',
      's',
    ],
    rows,
  ),
);
for (const detail of details) console.error(detail);
process.exitCode = details.length === 0 ? 0 : 1;
