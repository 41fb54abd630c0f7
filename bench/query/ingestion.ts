/** Events stored at full rate while queries read the same shards without a pause. */
import { parseGuid } from '../../src/host/guid.js';
import { accountFor, faultsOf } from '../../test/fixtures/accounting.js';
import { BOOT_A, EventdWorld } from '../../test/fixtures/eventd.js';
import { drain } from '../../test/fixtures/resultDrain.js';
import { RingLoad } from '../../test/fixtures/ringload.js';
import { peakFills } from '../ingest/fills.js';

export interface IngestionRun {
  readonly perSecond: number;
  readonly queries: number;
  /** Records the queries gave in all. */
  readonly records: number;
  /** The fullest ring, 0 to 1. */
  readonly peakFill: number;
  readonly gapRecords: number;
  /** What is lost, stored twice or otherwise wrong; empty when all is well. */
  readonly faults: readonly string[];
}

const CPUS = 2;
const CAPACITY = 8 << 20;
const QUERIES = [
  'EVENTS',
  'EVENTS COUNT BY event_type',
  'EVENTS GROUP cpu_id MAX sequence',
  'EVENTS TAKE 50',
  'EVENTS WHERE origin_class == 77',
] as const;

/** @param asked whether queries run at all */
export async function ingestWhileAsked(rate: number, seconds: number, asked: boolean): Promise<IngestionRun> {
  const world = new EventdWorld({ cpus: CPUS, capacity: CAPACITY });
  try {
    const run = await world.start();
    const load = new RingLoad(world.paths.kmes, { cpus: CPUS, events: rate * seconds, ratePerSecond: rate });
    const tally = { queries: 0, records: 0, ended: false };
    const loading = load.done.finally(() => {
      tally.ended = true;
    });
    const [result] = await Promise.all([loading, asked ? ask(world.paths.querySocket, tally) : null]);
    if (result === null) throw new Error('the load generator was killed');
    for (let cpu = 0; cpu < CPUS; cpu++) await world.stored(cpu, BigInt(result.last[cpu] ?? 0));
    await run.end('SIGQUIT');
    const accounts = accountFor(world.events, parseGuid(BOOT_A), result.last);
    return {
      perSecond: result.events / result.seconds,
      queries: tally.queries,
      records: tally.records,
      peakFill: Math.max(...peakFills(run.stderr)),
      gapRecords: accounts.reduce((sum, { gapRecords }) => sum + gapRecords, 0),
      faults: faultsOf(accounts),
    };
  } finally {
    await world.close();
  }
}

async function ask(
  socket: string,
  tally: { queries: number; records: number; readonly ended: boolean },
): Promise<void> {
  for (let n = 0; !tally.ended; n++) {
    const { records } = await drain(socket, QUERIES[n % QUERIES.length] ?? 'EVENTS');
    tally.queries++;
    tally.records += records;
  }
}
