/**
 * The exactly-once proof: kill -9 of eventd and kmesd at random instants, and the account of every
 * sequence. Prints its seed; the same seed makes the same decisions. Exits 1 on any fault and keeps the
 * directory then.
 *
 *   node dist/test/soak/kills.js [--kills 200] [--seed N] [--rate PER_SECOND] [--rings N] [--capacity BYTES]
 */
import { randomInt } from 'node:crypto';
import { parseArgs } from 'node:util';
import { type KillSummary, runKills } from '../fixtures/eventdKills.js';
import { summaryOf } from './summary.js';

const { values } = parseArgs({
  options: {
    kills: { type: 'string', default: '200' },
    seed: { type: 'string', default: String(randomInt(2 ** 31)) },
    rate: { type: 'string', default: '12000' },
    rings: { type: 'string', default: '2' },
    capacity: { type: 'string', default: String(1 << 20) },
    verbose: { type: 'boolean', default: false },
  },
});

function count(name: 'kills' | 'seed' | 'rate' | 'rings' | 'capacity', least: number): number {
  const value = Number(values[name]);
  if (Number.isSafeInteger(value) && value >= least) return value;
  console.error(`kills: --${name} must be an integer of at least ${least}`);
  process.exit(2);
}

const options = {
  kills: count('kills', 1),
  seed: count('seed', 0),
  rate: count('rate', 100),
  rings: count('rings', 1),
  capacity: count('capacity', 1 << 16),
};
console.log(
  `seed ${options.seed}: ${options.kills} kills, ${options.rings} rings of ${options.capacity} bytes, ${options.rate} events/s`,
);
const started = performance.now();
const summary: KillSummary = await runKills({
  ...options,
  ...(values.verbose ? { progress: (line: string) => console.error(line) } : {}),
});
console.log(summaryOf(summary, performance.now() - started));
for (const detail of summary.faults.details) console.error(detail);
if (summary.kept !== null) console.error(`kept: ${summary.kept} (seed ${options.seed})`);
process.exitCode = summary.faults.total === 0 ? 0 : 1;
