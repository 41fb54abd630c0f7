/**
 * Samples per second into the store, over one, a thousand and a hundred thousand series, from batching
 * senders and without a drop, beside what a Linux user has instead: a C loop of prepared INSERTs into
 * the same schema, and Prometheus by remote write. Then what a sender feels. Variants take turns, round
 * after round; every run is accounted for sample by sample. Exits 1 when a target is missed or something
 * is not accounted for.
 *
 *   npm run bench:metrics -- [--quick] [--rounds N] [--records N] [--seconds N] [--only store,feel]
 */
import { statSync } from 'node:fs';
import { loadavg } from 'node:os';
import { join } from 'node:path';
import { INSERT_SERIES, METRIC_SCHEMA } from '../src/stores/metricSchema.js';
import { CHECKPOINT_BYTES } from '../src/stores/recordCommitter.js';
import { openStore, writerPragmas } from '../src/stores/singleStore.js';
import { buildInsertLoop } from './ingest/insertLoop.js';
import { highestRate, offer, storedPerSecond } from './records/eventdRun.js';
import { feel } from './records/feel.js';
import { inFreshDirectory, progress, recordBenchOptions } from './records/options.js';
import { printed } from './records/processes.js';
import { prometheus } from './records/prometheus.js';
import {
  type Figure,
  figuresTable,
  machine,
  printVerdicts,
  rateVerdict,
  ratioVerdict,
  type Variant,
  type Verdict,
} from './records/report.js';
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

async function insertLoop(program: string, series: number, tuning: Tuning): Promise<Figure> {
  return inFreshDirectory(async (directory) => {
    const file = join(directory, 'metrics.db');
    const schema = tuning === 'as eventd' ? METRIC_SCHEMA : { ...METRIC_SCHEMA, pageSize: 4096 };
    const db = openStore(file, schema);
    const insert = db.prepare(INSERT_SERIES);
    db.transaction(() => {
      for (let number = 0; number < series; number++)
        insert.run('load.level', `series=${number}`, 1, number, null);
    })();
    db.close();
    const numbers = [chosen.records, series, BATCH].map(String);
    const start = String(BigInt(Date.now()) * 1_000_000n);
    const pragmas =
      tuning === 'as eventd'
        ? [
            ...writerPragmas(METRIC_SCHEMA),
            `wal_autocheckpoint = ${CHECKPOINT_BYTES / METRIC_SCHEMA.pageSize}`,
          ]
        : ['synchronous = NORMAL'];
    const { seconds, cpuSeconds } = await printed<{ seconds: number; cpuSeconds: number }>(program, [
      file,
      ...numbers,
      start,
      ...pragmas,
    ]);
    return {
      perSecond: chosen.records / seconds,
      cpuMicros: (cpuSeconds / chosen.records) * 1e6,
      bytesPerRecord: statSync(file).size / chosen.records,
    };
  });
}

/** Where the search of the next round begins, by variant. */
const startRates = new Map<string, number>();

async function eventd(
  key: string,
  series: number,
  first: number,
  settings: Readonly<Record<string, number>> = {},
): Promise<Figure> {
  const best = await highestRate(
    startRates.get(key) ?? first,
    (rate) => offer('metric', loadOf(series, rate), settings),
    (tried) =>
      progress(
        `${key}: eventd at ${tried.offered}/s: ${Math.round(storedPerSecond(tried))} stored, ${tried.dropped} dropped\n`,
      ),
  );
  startRates.set(key, best.offered);
  return {
    perSecond: storedPerSecond(best),
    cpuMicros: best.cpuMicros,
    bytesPerRecord: best.bytesPerRecord,
  };
}

async function storing(): Promise<Verdict[]> {
  const loop = await buildInsertLoop('metric_insert_loop');
  const peer = prometheus();
  if (peer === null) console.log('prometheus is not installed: left out');
  const variants: (Variant & { run(): Promise<Figure> })[] = [];
  const variant = (key: string, title: string, run: () => Promise<Figure>) => {
    const made: Variant & { run(): Promise<Figure> } = { key, title, figures: [], run };
    variants.push(made);
    return made;
  };
  const own = variant('e', `eventd, ${SERIES} series`, () => eventd('e', SERIES, TARGET_PER_SECOND));
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
    variant('e1', 'eventd, 1 series', () => eventd('e1', 1, 2 * TARGET_PER_SECOND)),
    variant('c1', 'C loop, 1 series, as eventd', () => insertLoop(loop, 1, 'as eventd')),
    variant('eL', `eventd, ${SERIES} series, MetricMaxBatchSize ${LARGE_BATCH}`, () =>
      eventd('eL', SERIES, TARGET_PER_SECOND, { MetricMaxBatchSize: LARGE_BATCH }),
    ),
    variant('eM', `eventd, ${MANY_SERIES} series in the cache`, () =>
      eventd('eM', MANY_SERIES, TARGET_PER_SECOND, { MetricSeriesCacheSize: 2 * MANY_SERIES }),
    ),
    variant('cM', `C loop, ${MANY_SERIES} series, as eventd`, () =>
      insertLoop(loop, MANY_SERIES, 'as eventd'),
    ),
  ];
  for (let round = 1; round <= chosen.rounds; round++) {
    for (const each of variants) {
      if (round > 1 && once.includes(each)) continue;
      progress(`round ${round} of ${chosen.rounds}: ${each.title}`);
      each.figures.push(await each.run());
    }
  }
  progress('');
  console.log(figuresTable(variants, 'samples'));
  for (const { text, measured } of ratioVerdict(own, remote, 1))
    console.log(`an aim, no target: ${text}: ${measured}`);
  return [
    rateVerdict(own, TARGET_PER_SECOND, 'samples'),
    ...ratioVerdict(own, tuned, 1.5),
    ...ratioVerdict(own, plain, 1.5),
  ];
}

try {
  const before = loadavg();
  const wanted = (part: string) => chosen.only === null || chosen.only.includes(part);
  const verdicts = wanted('store') ? await storing() : [];
  console.log('');
  if (wanted('feel')) {
    const full = loadOf(SERIES, TARGET_PER_SECOND);
    verdicts.push(...(await feel({ store: 'metric', full, seconds: chosen.seconds })));
  }
  console.log(
    `\n${chosen.rounds} round(s) of ${chosen.records} samples, one round of those with other series or settings; ${machine(before)}`,
  );
  console.log('Every sample sent is stored or counted as dropped.\n');
  process.exitCode = printVerdicts(verdicts) ? 0 : 1;
} catch (error) {
  console.error(`bench:metrics: ${error instanceof Error ? error.message : String(error)}`);
  process.exitCode = error instanceof TypeError ? 2 : 1;
}
