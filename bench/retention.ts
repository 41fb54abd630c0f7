/**
 * Events at a steady rate while millions of old ones are swept from the same shards, beside the same load
 * without a sweep: what retention costs the writers. Exits 1 when an event is lost or a gap record is made.
 *
 *   npm run bench:retention -- [--old N] [--rate PER_SECOND] [--seconds S] [--payload BYTES]
 */
import { closeSync, fsyncSync, mkdirSync, openSync } from 'node:fs';
import { decode } from '@msgpack/msgpack';
import { parseGuid } from '../src/host/guid.js';
import { openShardWriter } from '../src/stores/shard.js';
import { accountFor, faultsOf } from '../test/fixtures/accounting.js';
import { BOOT_A, EventdWorld, eventually } from '../test/fixtures/eventd.js';
import { ask, DAY_NS, OLD_BOOT, shardPath } from '../test/fixtures/retentionStores.js';
import { RingLoad } from '../test/fixtures/ringload.js';
import { benchOptions } from './options.js';
import { table } from './table.js';

const values = benchOptions({
  old: { type: 'string', default: '5000000' },
  rate: { type: 'string', default: '100000' },
  seconds: { type: 'string', default: '60' },
  payload: { type: 'string', default: '128' },
});
const CPUS = 2;
const CAPACITY = 8 << 20;

interface Outcome {
  readonly sweep: string;
  readonly perSecond: number;
  readonly lagMs: number;
  readonly fills: readonly number[];
  /** Below how many ms 50, 99 and 99.9 % of the commits are. */
  readonly commits: string;
  readonly deleted: number;
  readonly faults: readonly string[];
}

/** Old events, as many in each shard, made by SQLite itself. */
function seed(file: string, count: number): void {
  const db = openShardWriter(file);
  db.pragma('synchronous = OFF');
  const first = BigInt(Date.now()) * 1_000_000n - 40n * DAY_NS;
  db.prepare(
    `WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < ?)
     INSERT INTO events (boot_id, timestamp, cpu_id, sequence, origin_class, event_type, payload)
     SELECT ?, ? + i, 0, i, 0, 'bench.old', zeroblob(?) FROM n`,
  ).run(BigInt(count), OLD_BOOT, first, BigInt(values.payload));
  db.pragma('wal_checkpoint(TRUNCATE)');
  db.close();
  // Else the first checkpoint of the measurement would have all of it to write.
  const descriptor = openSync(file, 'r');
  fsyncSync(descriptor);
  closeSync(descriptor);
}

interface CommitHistogram {
  readonly boundaries: readonly number[];
  readonly counts: readonly (number | bigint)[];
  readonly total_count: number | bigint;
}

/** The bounds, ms, below which so many per cent of the commits of the worse shard are. */
function commitTimes(metrics: string, percents: readonly number[]): string {
  const samples = ask<Buffer>(
    metrics,
    `SELECT histogram_data FROM samples JOIN series ON series.id = series_id
     WHERE name = 'eventd.commit.seconds' AND labels GLOB '*store=event*' ORDER BY timestamp DESC LIMIT ${CPUS}`,
  ).map((data) => decode(data, { useBigInt64: true }) as CommitHistogram);
  const below = (percent: number) =>
    samples.map(({ boundaries, counts, total_count: total }) => {
      const index = counts.findIndex((count) => Number(count) >= (Number(total) * percent) / 100);
      return index < 0 ? Number.POSITIVE_INFINITY : (boundaries[index] ?? Number.POSITIVE_INFINITY);
    });
  return percents.map((percent) => Math.round(Math.max(...below(percent)) * 10_000) / 10).join(', ');
}

async function measure(sweep: boolean): Promise<Outcome> {
  const world = new EventdWorld({
    cpus: CPUS,
    capacity: CAPACITY,
    settings: { HealthMetricIntervalSeconds: 1 },
  });
  try {
    mkdirSync(world.events, { recursive: true, mode: 0o700 });
    const files = Array.from({ length: CPUS }, (_, shard) => shardPath(world.events, shard));
    for (const file of files) seed(file, Math.ceil(Number(values.old) / CPUS));
    const run = await world.start();
    const started = performance.now();
    const load = new RingLoad(world.paths.kmes, {
      cpus: CPUS,
      events: Number(values.rate) * Number(values.seconds),
      ratePerSecond: Number(values.rate),
      payload: Number(values.payload),
    });
    if (sweep) await world.set('EventRetentionDays', '20');
    const result = await load.done;
    if (result === null) throw new Error('the load generator was killed');
    const emittedAt = performance.now();
    for (let cpu = 0; cpu < CPUS; cpu++) await world.stored(cpu, BigInt(result.last[cpu] ?? 0));
    const lagMs = performance.now() - emittedAt;
    await eventually(
      'the figures',
      () => ask(world.paths.metrics, "SELECT 1 FROM series WHERE name = 'eventd.commit.seconds'").length > 0,
    );
    const commits = commitTimes(world.paths.metrics, [50, 99, 99.9]);
    const left = files.reduce(
      (sum, file) =>
        sum + Number(ask<bigint>(file, 'SELECT count(*) FROM events WHERE boot_id = ?', OLD_BOOT)[0]),
      0,
    );
    const { code } = await run.end('SIGQUIT');
    const accounts = accountFor(world.events, parseGuid(BOOT_A), result.last);
    return {
      sweep: sweep ? 'with a sweep' : 'without',
      perSecond: Math.round(result.events / ((emittedAt - started) / 1000)),
      lagMs: Math.round(lagMs),
      fills: [...run.stderr.matchAll(/^ {2}reader \d+: .* peak fill ([\d.]+)$/gm)].map(([, fill]) =>
        Number(fill),
      ),
      commits,
      deleted: Number(values.old) - left,
      faults: [
        ...faultsOf(accounts),
        ...accounts.flatMap(({ cpu, gapRecords }) =>
          gapRecords > 0 ? [`cpu ${cpu}: ${gapRecords} gap records`] : [],
        ),
        ...(code === 0 ? [] : [`eventd ended with ${code}`]),
      ],
    };
  } finally {
    await world.close();
  }
}

const outcomes = [await measure(false), await measure(true)];
console.log(
  table(
    [
      '',
      'events/s',
      'last stored after',
      'peak ring fill',
      'commits, ms: p50, p99, p99.9',
      'old events deleted',
    ],
    outcomes.map(({ sweep, perSecond, lagMs, fills, commits, deleted }) => [
      sweep,
      perSecond,
      `${lagMs} ms`,
      Math.max(...fills),
      commits,
      deleted,
    ]),
  ),
);
const faults = outcomes.flatMap(({ sweep, faults: found }) => found.map((fault) => `${sweep}: ${fault}`));
for (const fault of faults) console.error(fault);
process.exitCode = faults.length === 0 ? 0 : 1;
