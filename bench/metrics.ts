/**
 * Samples per second into the store, over one, a thousand and a hundred thousand series, from batching
 * senders and without a drop, beside what a Linux user has instead: a C loop of prepared INSERTs into
 * the same schema, and Prometheus by remote write. Then what a sender feels. Variants take turns, round
 * after round; every run is accounted for sample by sample. Exits 1 when a target is missed or something
 * is not accounted for.
 *
 *   npm run bench:metrics -- [--quick] [--rounds N] [--records N] [--seconds N] [--only store,feel]
 */
import { join } from 'node:path';
import { INSERT_SERIES, METRIC_SCHEMA } from '../src/stores/metricSchema.js';
import { openStore } from '../src/stores/storeFile.js';
import { buildInsertLoop } from './ingest/insertLoop.js';
import {
  eventdAtItsBest,
  inRounds,
  pragmasOf,
  type RunnableVariant,
  runInsertLoop,
  runRecordBench,
} from './records/bench.js';
import { inFreshDirectory, recordBenchOptions } from './records/options.js';
import { prometheus } from './records/prometheus.js';
import { type Figure, figuresTable, rateVerdict, ratioVerdict, type Verdict } from './records/report.js';
import type { Load } from './records/senders.js';

const TARGET_PER_SECOND = 200_000;
const BATCH = 5000;
/** The targets are about this many series. */
const SERIES = 1000;
const MANY_SERIES = 100_000;
/** A live setting that buys throughput with latency. */
const LARGE_BATCH = 50_000;
const SENDERS = 2;

const chosen = recordBenchOptions(800_000);

function loadOf(series: number, rate: number): Load {
  return { kind: 'gauge', records: chosen.records, rate, batch: 200, senders: SENDERS, series };
}

/** SQLite's own settings for a file made without a word, and those of eventd's writer. */
type Tuning = 'as eventd' | 'as SQLite';

function insertLoop(program: string, series: number, tuning: Tuning): Promise<Figure> {
  return inFreshDirectory((directory) => {
    const file = join(directory, 'metrics.db');
    const schema = tuning === 'as eventd' ? METRIC_SCHEMA : { ...METRIC_SCHEMA, pageSize: 4096 };
    const db = openStore(file, schema);
    const insert = db.prepare(INSERT_SERIES);
    db.transaction(() => {
      for (let number = 0; number < series; number++)
        insert.run('load.level', `series=${number}`, 1, number, null);
    })();
    db.close();
    const pragmas = tuning === 'as eventd' ? pragmasOf(METRIC_SCHEMA) : ['synchronous = NORMAL'];
    return runInsertLoop(program, file, [chosen.records, series, BATCH], pragmas);
  });
}

function eventd(
  key: string,
  series: number,
  firstRate: number,
  settings: Readonly<Record<string, number>> = {},
): () => Promise<Figure> {
  const load = (rate: number) => loadOf(series, rate);
  return eventdAtItsBest({ store: 'metric', name: `${key}: eventd`, firstRate, load, settings });
}

async function storing(): Promise<Verdict[]> {
  const loop = await buildInsertLoop('metric_insert_loop');
  const peer = prometheus();
  if (peer === null) console.log('prometheus is not installed: left out');
  const variants: RunnableVariant[] = [];
  const variant = (key: string, title: string, run: () => Promise<Figure>) => {
    const made: RunnableVariant = { key, title, figures: [], run };
    variants.push(made);
    return made;
  };
  const own = variant('e', `eventd, ${SERIES} series`, eventd('e', SERIES, TARGET_PER_SECOND));
  const tuned = variant('c', `C loop, ${SERIES} series, file and settings as eventd`, () =>
    insertLoop(loop, SERIES, 'as eventd'),
  );
  const plain = variant('d', `C loop, ${SERIES} series, SQLite's defaults`, () =>
    insertLoop(loop, SERIES, 'as SQLite'),
  );
  const remote =
    peer === null
      ? undefined
      : variant('p', `Prometheus remote write, ${SERIES} series`, () =>
          inFreshDirectory((directory) =>
            peer(directory, { samples: chosen.records, series: SERIES, senders: SENDERS }),
          ),
        );
  const once = [
    variant('e1', 'eventd, 1 series', eventd('e1', 1, 2 * TARGET_PER_SECOND)),
    variant('c1', 'C loop, 1 series, as eventd', () => insertLoop(loop, 1, 'as eventd')),
    variant(
      'eL',
      `eventd, ${SERIES} series, MetricMaxBatchSize ${LARGE_BATCH}`,
      eventd('eL', SERIES, TARGET_PER_SECOND, { MetricMaxBatchSize: LARGE_BATCH }),
    ),
    variant(
      'eM',
      `eventd, ${MANY_SERIES} series in the cache`,
      eventd('eM', MANY_SERIES, TARGET_PER_SECOND, { MetricSeriesCacheSize: 2 * MANY_SERIES }),
    ),
    variant('cM', `C loop, ${MANY_SERIES} series, as eventd`, () =>
      insertLoop(loop, MANY_SERIES, 'as eventd'),
    ),
  ];
  await inRounds(variants, chosen.rounds, once);
  console.log(figuresTable(variants, 'samples'));
  for (const { text, measured } of ratioVerdict(own, remote, 1))
    console.log(`an aim, no target: ${text}: ${measured}`);
  return [
    rateVerdict(own, TARGET_PER_SECOND, 'samples'),
    ...ratioVerdict(own, tuned, 1.5),
    ...ratioVerdict(own, plain, 1.5),
  ];
}

await runRecordBench({
  name: 'bench:metrics',
  store: 'metric',
  chosen,
  storing,
  full: loadOf(SERIES, TARGET_PER_SECOND),
  measured: `${chosen.rounds} round(s) of ${chosen.records} samples, one round of those with other series or settings`,
  accounted: 'Every sample sent is stored or counted as dropped.',
});
