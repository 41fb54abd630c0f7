/** A metric store as benchmarks ask it, and METRIC queries run on it as a query worker does, without the worker. */
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

export const SERIES = 50;
const INTERVAL_NS = 15_000_000_000n;
const START = 1_700_000_000_000_000_000n;

/** Samples of each series in so many days, one every 15 seconds. */
export const samplesIn = (days: bigint) => (days * 86_400_000_000_000n) / INTERVAL_NS;

/** The instant behind the last sample. */
export const endOf = (days: bigint) => START + samplesIn(days) * INTERVAL_NS + INTERVAL_NS;

/** Gauges and counters of one interval, written together as a collector sends them. */
export function build(file: string, days: bigint): void {
  const total = samplesIn(days);
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
  for (let first = 0n; first < total; first += 5000n) {
    const end = first + 5000n < total ? first + 5000n : total;
    insert.run(first, end, START, INTERVAL_NS);
  }
  db.pragma('wal_checkpoint(TRUNCATE)');
  db.close();
}

/** Result rows, the sum of their values, and the rows of the store that were looked at. */
export interface StageResult {
  readonly rows: number;
  readonly sum: number;
  readonly samples: number;
}

/** Runs the stage of a query. */
export function stage(file: string, query: string, days: bigint): () => StageResult {
  return () => {
    const parsed = parseQuery(query);
    const made = parsed.mode === 'METRIC' ? metricJob(parsed, endOf(days)).stages[0] : undefined;
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
