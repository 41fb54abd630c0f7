/**
 * A million events at 150,000 a second over two rings of 4 MiB: all stored, none twice, no gap record,
 * and no ring ever half full. Exits 1 when one of these does not hold.
 *
 *   npm run bench:load -- [--events N] [--rate PER_SECOND] [--payload BYTES] [--limit-fill 0..1]
 */
import { parseGuid } from '../src/host/guid.js';
import { accountFor, faultsOf } from '../test/fixtures/accounting.js';
import { BOOT_A, EventdWorld } from '../test/fixtures/eventd.js';
import { RingLoad } from '../test/fixtures/ringload.js';
import { peakFills } from './ingest/fills.js';
import { benchOptions } from './options.js';
import { table } from './table.js';

const values = benchOptions({
  events: { type: 'string', default: '1000000' },
  rate: { type: 'string', default: '150000' },
  payload: { type: 'string', default: '128' },
  'limit-fill': { type: 'string', default: '0.5' },
});
const CPUS = 2;
const CAPACITY = 4 << 20;
/** Stored events are polled this often, ms. */
const POLL_MS = 20;

const world = new EventdWorld({ cpus: CPUS, capacity: CAPACITY });
try {
  const run = await world.start();
  const started = performance.now();
  const load = new RingLoad(world.paths.kmes, {
    cpus: CPUS,
    events: Number(values.events),
    ratePerSecond: Number(values.rate),
    payload: Number(values.payload),
  });
  const result = await load.done;
  if (result === null) throw new Error('the load generator was killed');
  const emittedAt = performance.now();
  for (let cpu = 0; cpu < CPUS; cpu++) await world.stored(cpu, BigInt(result.last[cpu] ?? 0));
  const lag = performance.now() - emittedAt;
  const { code } = await run.end('SIGQUIT');
  const accounts = accountFor(world.events, parseGuid(BOOT_A), result.last);
  const fills = peakFills(run.stderr);
  console.log(
    table(
      ['cpu', 'emitted', 'stored', 'twice', 'missing', 'gap records', 'peak fill'],
      accounts.map(({ cpu, last, stored, storedTwice, missing, gapRecords }) => [
        cpu,
        last,
        stored,
        storedTwice.count,
        missing.count,
        gapRecords,
        fills[cpu] ?? Number.NaN,
      ]),
    ),
  );
  const seconds = (emittedAt - started) / 1000;
  console.log(
    `${result.events} events in ${seconds.toFixed(2)} s (${Math.round(result.events / seconds)} per second); ` +
      `the last one stored ${lag < 2 * POLL_MS ? 'at once' : `${Math.round(lag)} ms later`}`,
  );
  const faults = [
    ...faultsOf(accounts),
    ...accounts.flatMap(({ cpu, gapRecords }) =>
      gapRecords > 0 ? [`cpu ${cpu}: ${gapRecords} gap records`] : [],
    ),
    ...(fills.length === CPUS ? [] : ['the dump does not show every reader']),
    ...fills.flatMap((fill, cpu) =>
      fill < Number(values['limit-fill']) ? [] : [`cpu ${cpu}: the ring was ${fill} full`],
    ),
    ...(code === 0 ? [] : [`eventd ended with ${code}`]),
  ];
  for (const fault of faults) console.error(fault);
  process.exitCode = faults.length === 0 ? 0 : 1;
} finally {
  await world.close();
}
