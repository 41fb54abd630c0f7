/**
 * How fast events get into the store, next to what one would write without eventd's data plane.
 * Variants run in turn, round after round, on the same bytes; every run is accounted for sequence by
 * sequence, and a run that does not add up fails the benchmark.
 */
import { mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import { availableParallelism, loadavg } from 'node:os';
import { join, resolve } from 'node:path';
import { parseArgs } from 'node:util';
import { buildInsertLoop } from './ingest/insertLoop.js';
import { type Row, rateOf, ratios, summary, type Target, table } from './ingest/report.js';
import {
  type Bench,
  burst,
  runInsertLoop,
  runRowByRow,
  runWholeWay,
  runWriters,
  type Sample,
} from './ingest/variants.js';
import { capacityFor, EVENT_BYTES, emitEvents, PROJECT } from './ingest/workload.js';

const USAGE = `usage: npm run bench:ingest -- [options]
  --quick          one short round, for a look at the accounting rather than the speed
  --rounds N       default 5
  --events N       per ring and run, default 400000
  --only a,c,d     run these variants only
  --rate N         only the whole way, at N events/s
  --rings N        rings and shards of --rate, default 1
  --seconds N      length of a run at a rate, default 3
  --capacity N     ring bytes at a rate and under overload, default 4194304
  --json           one JSON object instead of the tables
  --dir PATH       where the databases go, default .bench in the project; should be on a disk
`;

/** Variants a to d2; `o` and `r` depend on what these have shown. */
const VARIANTS: readonly { key: string; title: string; run(bench: Bench): Promise<Sample> }[] = [
  { key: 'a', title: 'C loop, prepared INSERT per row', run: (bench) => runInsertLoop(bench, 1) },
  { key: 'a2', title: 'two C loops side by side', run: (bench) => runInsertLoop(bench, 2) },
  { key: 'b', title: 'better-sqlite3, INSERT per row', run: runRowByRow },
  { key: 'c', title: "eventd's writer, one shard", run: (bench) => runWriters(bench, 1) },
  { key: 'c2', title: "eventd's writers, two shards", run: (bench) => runWriters(bench, 2) },
  { key: 'd', title: 'whole way, one ring and shard', run: (bench) => runWholeWay(bench, burst(bench, 1)) },
  {
    key: 'd2',
    title: 'whole way, two rings and shards',
    run: (bench) => runWholeWay(bench, burst(bench, 2)),
  },
];

const TARGETS: readonly Target[] = [
  { over: 'c', under: 'a', least: 1.2, text: 'writer to C loop' },
  { over: 'c', under: 'b', least: null, text: 'writer to better-sqlite3 row by row' },
  { over: 'c2', under: 'c', least: 1.8, text: 'two writers to one' },
  { over: 'a2', under: 'a', least: null, text: 'two C loops to one: what this machine and its disk allow' },
  { over: 'd2', under: 'd', least: null, text: 'two rings and shards to one, the whole way' },
  { over: 'd', under: 'c', least: 0.6, text: 'whole way to writer alone' },
];

/** Overload: the load generator writes as fast as it can, this many times what a plain run holds. */
const OVERLOAD = 20;

/** The steady run offers this share of what the writer alone was just seen to store. */
const STEADY_SHARE = 0.6;

function options() {
  const { values } = parseArgs({
    options: {
      quick: { type: 'boolean', default: false },
      rounds: { type: 'string' },
      events: { type: 'string' },
      only: { type: 'string' },
      rate: { type: 'string' },
      rings: { type: 'string' },
      seconds: { type: 'string' },
      capacity: { type: 'string' },
      json: { type: 'boolean', default: false },
      dir: { type: 'string', default: join(PROJECT, '.bench') },
      help: { type: 'boolean', short: 'h', default: false },
    },
  });
  const { quick } = values;
  const number = (
    name: 'rounds' | 'events' | 'rate' | 'rings' | 'seconds' | 'capacity',
    otherwise: number,
  ) => {
    const text = values[name];
    if (text !== undefined && !/^[1-9][0-9]{0,9}$/.test(text))
      throw new Error(`--${name}: not a positive number`);
    return text === undefined ? otherwise : Number(text);
  };
  return {
    help: values.help,
    rounds: number('rounds', quick ? 1 : 5),
    events: number('events', quick ? 20_000 : 400_000),
    only: values.only?.split(',') ?? null,
    rate: number('rate', 0),
    rings: number('rings', 1),
    seconds: number('seconds', quick ? 1 : 3),
    capacity: number('capacity', 4 * 2 ** 20),
    json: values.json,
    directory: resolve(values.dir),
  };
}

type Options = ReturnType<typeof options>;

async function atRate(
  bench: Bench,
  { seconds, capacity }: Options,
  rings: number,
  rate: number,
): Promise<Row> {
  const events = Math.round(rate * seconds);
  const sample = await runWholeWay(bench, { rings, events, rate, capacity });
  return {
    key: 'r',
    title: `whole way, ${rings} ring(s), ${rate.toLocaleString('en')}/s offered`,
    samples: [sample],
  };
}

async function inRounds(bench: Bench, chosen: Options): Promise<Row[]> {
  const wanted = (key: string) => chosen.only === null || chosen.only.includes(key);
  const rows = VARIANTS.filter(({ key }) => wanted(key)).map((variant) => ({
    ...variant,
    samples: [] as Sample[],
  }));
  for (let round = 1; round <= chosen.rounds; round++) {
    for (const row of rows) {
      process.stderr.write(`\rround ${round} of ${chosen.rounds}: ${row.key.padEnd(4)}`);
      row.samples.push(await row.run(bench));
    }
  }
  process.stderr.write('\r\x1b[K');
  const more: Row[] = [];
  const writer = rows.find(({ key }) => key === 'c');
  if (wanted('r') && writer !== undefined) {
    more.push(await atRate(bench, chosen, 1, Math.floor((rateOf(writer) * STEADY_SHARE) / 1000) * 1000));
  }
  if (wanted('o')) {
    const shape = { rings: 1, events: bench.events * OVERLOAD, rate: 0, capacity: chosen.capacity };
    more.push({
      key: 'o',
      title: 'whole way, one ring, overload',
      samples: [await runWholeWay(bench, shape)],
    });
  }
  return [...rows, ...more];
}

function print(
  chosen: Options,
  loadBefore: readonly number[],
  rows: readonly Row[],
  errors: readonly string[],
): void {
  const average = (values: readonly number[]) => values.map((value) => value.toFixed(2)).join(' ');
  console.log(
    `${chosen.rounds} round(s), ${chosen.events} events of ${EVENT_BYTES} bytes per ring; ${availableParallelism()} cores, load average before ${average(loadBefore)}, after ${average(loadavg())}\n`,
  );
  console.log(table(rows));
  const compared = ratios(rows, TARGETS);
  if (compared !== '') console.log(`\n${compared}`);
  console.log(
    errors.length === 0
      ? '\nEvery emitted event is stored or inside a gap record, exactly once.'
      : `\nNOT ACCOUNTED FOR\n${errors.join('\n')}`,
  );
}

async function main(): Promise<number> {
  const chosen = options();
  if (chosen.help) {
    process.stdout.write(USAGE);
    return 0;
  }
  mkdirSync(chosen.directory, { recursive: true });
  const dataDirectory = mkdtempSync(join(chosen.directory, 'ingest-'));
  const ringDirectory = mkdtempSync('/dev/shm/eventd-bench-');
  const filledDirectory = join(ringDirectory, 'filled');
  const load = loadavg();
  try {
    mkdirSync(filledDirectory);
    const { events } = chosen;
    const bench: Bench = {
      dataDirectory,
      ringDirectory,
      filledDirectory,
      events,
      insertLoop: await buildInsertLoop(),
    };
    let rows: Row[];
    if (chosen.rate > 0) {
      rows = [await atRate(bench, chosen, chosen.rings, chosen.rate)];
    } else {
      await emitEvents({
        directory: filledDirectory,
        rings: 2,
        events: events * 2,
        rate: 0,
        create: capacityFor(events),
      });
      rows = await inRounds(bench, chosen);
    }
    const errors = rows.flatMap(({ key, samples }) =>
      samples.flatMap(({ account }) => account.errors.map((error) => `${key}: ${error}`)),
    );
    if (chosen.json) console.log(JSON.stringify({ rows: rows.map(summary), errors }));
    else print(chosen, load, rows, errors);
    return errors.length === 0 ? 0 : 1;
  } finally {
    rmSync(dataDirectory, { recursive: true, force: true });
    rmSync(ringDirectory, { recursive: true, force: true });
  }
}

try {
  process.exitCode = await main();
} catch (error) {
  console.error(`bench:ingest: ${error instanceof Error ? error.message : String(error)}`);
  process.exitCode = error instanceof TypeError ? 2 : 1;
}
