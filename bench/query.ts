/**
 * Queries over millions of records, through socket, session and workers of a service in a process of its
 * own: how soon the first record comes, how many a client gets per second, and aggregations beside the same
 * question asked of the sqlite3 shell and of journalctl. Variants take turns, the best round counts.
 * Exits 1 when an answer is wrong or a target is missed.
 *
 *   npm run bench:query -- [--quick] [--events N] [--shards N] [--logs N] [--samples N] [--journal N]
 *                          [--rounds N] [--seconds N] [--keep DIRECTORY]
 *
 * `--keep` leaves the data in a directory for the next run. The peers are Debian's packages sqlite3 and
 * systemd-journal-remote; one that is not installed is left out.
 */
import assert from 'node:assert/strict';
import { mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { query as libraryQuery } from '../src/wire/index.js';
import { drain } from '../test/fixtures/resultDrain.js';
import { benchOptions } from './options.js';
import { compareAggregations } from './query/aggregations.js';
import { type Dataset, makeDataset } from './query/dataset.js';
import { ingestWhileAsked } from './query/ingestion.js';
import { eventJournal } from './query/peers.js';
import { evict, ServiceProcess } from './query/service.js';
import { median, Verdicts } from './query/verdicts.js';
import { cpuSeconds } from './records/processes.js';
import { table } from './table.js';

const options = benchOptions({
  quick: { type: 'boolean' },
  events: { type: 'string' },
  shards: { type: 'string', default: '2' },
  logs: { type: 'string' },
  samples: { type: 'string' },
  journal: { type: 'string' },
  rounds: { type: 'string', default: '3' },
  seconds: { type: 'string' },
  keep: { type: 'string' },
});
const sized = (given: string | undefined, full: number) =>
  Math.floor(Number(given ?? full / (options.quick ? 20 : 1)));
const ROUNDS = Number(options.rounds);

/** What streaming all events may add to the service: page caches, frames, and V8's slack. */
const MAX_GROWTH_MIB = 64;
const FIRST_RECORD_ROUNDS = 15;
/** The library makes objects of all it gets: some of the records say how fast that is. */
const LIBRARY_RECORDS = 100_000;
const INGESTION_RATE = 100_000;

async function main(directory: string): Promise<boolean> {
  const verdicts = new Verdicts();
  const started = performance.now();
  const data = await makeDataset(directory, {
    events: sized(options.events, 5_000_000),
    shards: Number(options.shards),
    logs: sized(options.logs, 2_000_000),
    samples: sized(options.samples, 5_000_000),
  });
  console.log(
    `${data.events} events in ${data.shards} shards, ${data.logs} log records, ${data.samples} samples ` +
      `(${Math.round((performance.now() - started) / 1000)} s)\n`,
  );
  await firstRecord(directory, data, verdicts);
  const service = await ServiceProcess.start(directory, data);
  try {
    await delivery(directory, service, data, verdicts);
    await compareAggregations(service, data, ROUNDS, verdicts);
  } finally {
    await service.stop();
  }
  await ingestion(verdicts);
  console.log(`\n${verdicts}`);
  return !verdicts.failed;
}

/** From before the connection is made, with databases that nobody has open or in memory, and again. */
async function firstRecord(directory: string, data: Dataset, verdicts: Verdicts): Promise<void> {
  const query = 'EVENTS TAKE 50';
  const cold: number[] = [];
  const warm: number[] = [];
  for (let round = 0; round < ROUNDS; round++) {
    const service = await ServiceProcess.start(directory, data);
    try {
      await evict(data.shardPaths);
      cold.push((await service.timeOf(query)).first);
      await service.timeOf(query);
      for (let n = 0; n < FIRST_RECORD_ROUNDS; n++) warm.push((await service.timeOf(query)).first);
    } finally {
      await service.stop();
    }
  }
  const shown = (ms: readonly number[]) => [median(ms), Math.max(...ms)].map((one) => one.toFixed(1));
  console.log(
    table(
      [query, 'median ms', 'longest ms'],
      [
        ['databases closed, nothing cached', ...shown(cold)],
        ['again, new connection', ...shown(warm)],
      ],
    ),
  );
  verdicts.check(`first record of ${query}, warm, median`, median(warm), 'at most', 20, 'ms');
  verdicts.check(`first record of ${query}, cold, best`, Math.min(...cold), 'at most', 20, 'ms');
}

async function delivery(
  directory: string,
  service: ServiceProcess,
  data: Dataset,
  verdicts: Verdicts,
): Promise<void> {
  const records = Math.min(sized(options.journal, 500_000), data.events / data.shards);
  const journal = await eventJournal(directory, data.shardPaths[0] ?? '', records);
  await evict(data.shardPaths);
  const cold = await deliver(service, data);
  let best = cold;
  let [one, many] = [0, 0];
  let peer = 0;
  let { grown } = cold;
  for (let round = 0; round < ROUNDS; round++) {
    const run = await deliver(service, data);
    grown = Math.max(grown, run.grown);
    if (run.perSecond > best.perSecond) best = run;
    const asked = Math.min(LIBRARY_RECORDS, data.events);
    one = Math.max(one, await libraryRate(service, asked, 'one by one'));
    many = Math.max(many, await libraryRate(service, asked, 'in batches'));
    if (journal === null) continue;
    const { lines, ms } = await journal();
    assert.equal(lines, records, 'journalctl');
    peer = Math.max(peer, (records / ms) * 1000);
  }
  console.log(
    `\n${table(
      ['EVENTS to one client', 'records/s', 'MB/s', 'CPU µs/record of the service'],
      [
        ['frames counted, nothing cached', ...shownDelivery(cold)],
        ['frames counted', ...shownDelivery(best)],
        ['objects of the client library, one by one', Math.round(one), '', ''],
        ['objects of the client library, in batches', Math.round(many), '', ''],
        ...(journal === null ? [] : [[`journalctl -o json, ${records} entries`, Math.round(peer), '', '']]),
      ],
    )}\n`,
  );
  verdicts.check('delivered to one client', best.perSecond, 'at least', 200_000, 'records/s');
  if (journal === null) verdicts.skip('journalctl', 'it or systemd-journal-remote is not installed');
  else verdicts.check('delivered, against journalctl', best.perSecond / peer, 'at least', 10, 'times');
  verdicts.check(
    'objects of the client library, against frames counted',
    one / best.perSecond,
    'at least',
    0.2,
    'times as many',
  );
  verdicts.check('memory that grew while streaming', grown, 'at most', MAX_GROWTH_MIB, 'MiB');
}

interface Delivery {
  readonly perSecond: number;
  readonly megabytes: number;
  readonly cpuMicros: number;
  /** MiB by which the service's memory grew. */
  readonly grown: number;
}

async function deliver(service: ServiceProcess, data: Dataset): Promise<Delivery> {
  const cpuBefore = cpuSeconds(service.pid);
  const { result, bytes } = await service.growth(() => drain(service.socket, 'EVENTS'));
  assert.equal(result.records, data.events);
  return {
    perSecond: (result.records / result.ms) * 1000,
    megabytes: result.bytes / result.ms / 1000,
    cpuMicros: ((cpuSeconds(service.pid) - cpuBefore) / result.records) * 1e6,
    grown: bytes / 2 ** 20,
  };
}

function shownDelivery({ perSecond, megabytes, cpuMicros }: Delivery): (string | number)[] {
  return [Math.round(perSecond), Math.round(megabytes), cpuMicros.toFixed(2)];
}

async function libraryRate(
  service: ServiceProcess,
  records: number,
  how: 'one by one' | 'in batches',
): Promise<number> {
  const started = performance.now();
  let seen = 0;
  const result = libraryQuery(`EVENTS TAKE ${records}`, { socket: service.socket });
  if (how === 'one by one') for await (const _ of result) seen++;
  else for await (const batch of result.batches()) seen += batch.length;
  assert.equal(seen, records);
  return (seen / (performance.now() - started)) * 1000;
}

async function ingestion(verdicts: Verdicts): Promise<void> {
  const seconds = sized(options.seconds, 20) || 2;
  const rows: (string | number)[][] = [];
  for (const asked of [false, true]) {
    const run = await ingestWhileAsked(INGESTION_RATE, seconds, asked);
    rows.push([
      asked ? 'queries without a pause' : 'no query',
      Math.round(run.perSecond),
      run.peakFill,
      run.gapRecords,
      run.queries,
      run.records,
    ]);
    for (const fault of run.faults) console.error(fault);
    if (!asked) continue;
    verdicts.check(
      'events lost or stored twice while queries run',
      run.faults.length,
      'at most',
      0,
      'faults',
    );
    verdicts.check('gap records while queries run', run.gapRecords, 'at most', 0, 'records');
    verdicts.check('fullest ring while queries run', run.peakFill, 'at most', 0.5, 'of it');
  }
  const head = ['ingestion', 'events/s', 'peak fill', 'gap records', 'queries', 'records read'];
  console.log(`\n${table(head, rows)}`);
}

const directory = options.keep ?? mkdtempSync(join(tmpdir(), 'eventd-bench-query-'));
mkdirSync(directory, { recursive: true });
try {
  process.exitCode = (await main(directory)) ? 0 : 1;
} finally {
  if (options.keep === undefined) rmSync(directory, { recursive: true, force: true });
}
