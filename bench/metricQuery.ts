/**
 * Samples per second of METRIC computations over a large store, beside the SQL that comes closest, on the
 * same file in the same run. Variants take turns. SQLite's answer is compared with ours where both say the
 * same thing; exits 1 when they differ.
 *
 *   node dist/bench/metricQuery.js [--quick] [--rounds N] [--keep DIRECTORY]
 */
import { mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import Database from 'better-sqlite3';
import { MemoryShare, QueryMemory } from '../actors/query/memory.js';
import { Scratch } from '../actors/query/scratch.js';
import { runMetric } from '../actors/query/stages/metric.js';
import { native, type SqlValue } from '../src/native/addon.js';
import type { JobParam } from '../src/query/job.js';
import { parseQuery } from '../src/query/parser.js';
import { metricJob } from '../src/query/sqlMetric.js';
import { METRIC_SCHEMA } from '../src/stores/metricSchema.js';
import { ReadConnection } from '../src/stores/readConnection.js';
import { openStore } from '../src/stores/storeFile.js';
import { table } from './table.js';

const { values: options } = parseArgs({
  options: {
    quick: { type: 'boolean', default: false },
    rounds: { type: 'string', default: '3' },
    keep: { type: 'string' },
  },
});

const SERIES = 50;
const INTERVAL_NS = 15_000_000_000n;
const DAYS = options.quick ? 2n : 30n;
const SAMPLES = (DAYS * 86_400_000_000_000n) / INTERVAL_NS;
const START = 1_700_000_000_000_000_000n;
const HOUR_NS = 3_600_000_000_000n;

/** Gauges and counters of one interval, written together as a collector sends them. */
function build(file: string): void {
  const db = openStore(file, METRIC_SCHEMA);
  db.pragma('synchronous = OFF');
  const series = db.prepare('INSERT INTO series (id, name, labels, type, label_hash) VALUES (?, ?, ?, ?, 0)');
  for (let id = 1; id <= SERIES; id++)
    series.run(id, id % 2 === 0 ? 'load' : 'total', `core=${id}`, (id + 1) % 2);
  const insert = db.prepare(
    `WITH RECURSIVE tick(n) AS (VALUES(?) UNION ALL SELECT n + 1 FROM tick WHERE n + 1 < ?)
     INSERT INTO samples SELECT r.id, ? + n * ? + r.id * 1000, CASE r.type WHEN 1 THEN (n * r.id) % 5761 ELSE n * 1.5 END, NULL
     FROM tick CROSS JOIN series AS r`,
  );
  for (let first = 0n; first < SAMPLES; first += 5000n) {
    const end = first + 5000n < SAMPLES ? first + 5000n : SAMPLES;
    insert.run(first, end, START, INTERVAL_NS);
  }
  db.pragma('wal_checkpoint(TRUNCATE)');
  db.close();
}

interface Variant {
  readonly title: string;
  /** Result rows and the sum of their values. */
  readonly run: () => { rows: number; sum: number; samples: number };
  readonly ms: number[];
  result: { rows: number; sum: number; samples: number };
}

const UNTIL = START + SAMPLES * INTERVAL_NS + INTERVAL_NS;

/** Runs the stage of a query as a query worker does, without the worker. */
function stage(file: string, query: string): Variant['run'] {
  return () => {
    const parsed = parseQuery(query);
    const made = parsed.mode === 'METRIC' ? metricJob(parsed, UNTIL).stages[0] : undefined;
    if (made?.kind !== 'metric') throw new Error(`${query} computes nothing`);
    const connection = new ReadConnection({ path: file, identity: '' });
    const memory = new MemoryShare(QueryMemory.allocate(1, 2 ** 30), 0);
    const scratch = new Scratch(memory);
    let samples = 0;
    const counting = {
      ...native,
      metricStep: (...call: Parameters<typeof native.metricStep>) => {
        const step = native.metricStep(...call);
        samples = step.samples;
        return step;
      },
    };
    const steps = runMetric(made, {
      connections: () => [connection],
      scratch,
      memory,
      native: counting,
      bind: (params) => params.map(plainValue),
      execute: (call) => call(),
      setRanges: () => {},
    });
    for (const _ of steps);
    const row = scratch.prepare('SELECT count(*), total(value) FROM metric_rows').raw().get() as [
      bigint,
      number,
    ];
    scratch.close();
    connection.close();
    return { rows: Number(row[0]), sum: row[1], samples };
  };
}

/** There are no cross-type conditions here. */
function plainValue(param: JobParam): SqlValue {
  if (param !== null && typeof param === 'object' && 'ranges' in param) throw new Error('no ranges are made');
  return param;
}

/** The nearest SQL, on a connection with the same settings. */
function peer(file: string, text: string): Variant['run'] {
  return () => {
    const db = new Database(file, { readonly: true });
    db.pragma('cache_size = -1024');
    const row = db.prepare(`SELECT count(*), total(value) FROM (${text})`).raw().get() as [number, number];
    db.close();
    return { rows: row[0], sum: row[1], samples: 0 };
  };
}

const JOIN = 'FROM samples AS s JOIN series AS r ON r.id = s.series_id';

function main(): boolean {
  const directory = options.keep ?? mkdtempSync(join(tmpdir(), 'eventd-bench-'));
  mkdirSync(directory, { recursive: true });
  const file = join(directory, `metrics-${DAYS}d.db`);
  try {
    const probe = () => new Database(file, { readonly: true, fileMustExist: true }).close();
    try {
      probe();
    } catch {
      console.log(`writing ${SERIES} series of ${SAMPLES} samples ...`);
      build(file);
    }
    return compare(file);
  } finally {
    if (options.keep === undefined) rmSync(directory, { recursive: true, force: true });
  }
}

function compare(file: string): boolean {
  const variant = (title: string, run: Variant['run']): Variant => ({
    title,
    run,
    ms: [],
    result: { rows: 0, sum: 0, samples: 0 },
  });
  const window = `s.timestamp / ${HOUR_NS}`;
  const pairs: [Variant, Variant | null][] = [
    [
      variant('load[] AVG_OVER 1h', stage(file, 'METRIC load[] SINCE 400d ago AVG_OVER 1h')),
      variant(
        'SQLite: GROUP BY series, hour',
        peer(
          file,
          `SELECT avg(s.value) AS value ${JOIN} WHERE r.name = 'load' GROUP BY s.series_id, ${window}`,
        ),
      ),
    ],
    [
      variant('*[] AVG_OVER 1h', stage(file, 'METRIC *[] SINCE 400d ago AVG_OVER 1h')),
      variant(
        'SQLite: GROUP BY series, hour',
        peer(file, `SELECT avg(s.value) AS value FROM samples AS s GROUP BY s.series_id, ${window}`),
      ),
    ],
    [
      variant('*[] AVG', stage(file, 'METRIC *[] SINCE 400d ago AVG')),
      variant(
        'SQLite: GROUP BY series',
        peer(file, 'SELECT avg(s.value) AS value FROM samples AS s GROUP BY s.series_id'),
      ),
    ],
    [variant('* AVG_OVER 1h, combined', stage(file, 'METRIC * SINCE 400d ago AVG_OVER 1h')), null],
    [
      variant('total[] RATE AVG_OVER 1h', stage(file, 'METRIC total[] SINCE 400d ago RATE AVG_OVER 1h')),
      null,
    ],
    [
      variant(
        'total RATE MAX_OVER 1h, combined',
        stage(file, 'METRIC total SINCE 400d ago RATE MAX_OVER 1h'),
      ),
      null,
    ],
  ];
  for (let round = Number(options.rounds); round > 0; round--) {
    for (const each of pairs.flat()) {
      if (each === null) continue;
      const before = performance.now();
      each.result = each.run();
      each.ms.push(performance.now() - before);
    }
  }
  const best = ({ ms }: Variant) => Math.min(...ms);
  const rows = pairs.map(([ours, theirs]) => [
    ours.title,
    ours.result.samples,
    Math.round((ours.result.samples / best(ours)) * 1000),
    theirs === null ? '' : Math.round((ours.result.samples / best(theirs)) * 1000),
    theirs === null ? '' : (best(theirs) / best(ours)).toFixed(2),
    ours.result.rows,
  ]);
  console.log(table(['query', 'samples', 'samples/s', 'SQL samples/s', 'times SQL', 'rows'], rows));
  const wrong = pairs.filter(([ours, theirs]) => {
    if (theirs === null) return false;
    const difference = Math.abs(ours.result.sum - theirs.result.sum);
    return ours.result.rows !== theirs.result.rows || difference > 1e-9 * Math.abs(theirs.result.sum);
  });
  for (const [ours] of wrong) console.log(`${ours.title}: differs from SQLite`);
  return wrong.length === 0;
}

process.exitCode = main() ? 0 : 1;
