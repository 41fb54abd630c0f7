/**
 * Log lines per second into the store, from batching senders and without a drop, beside what a Linux
 * user has instead: a C loop of prepared INSERTs into the same schema, rsyslog, systemd-journald. Then
 * what a sender feels. Variants take turns, round after round; every run is accounted for line by line.
 * Exits 1 when a target is missed or something is not accounted for.
 *
 *   npm run bench:logs -- [--quick] [--rounds N] [--records N] [--seconds N] [--only store,feel]
 */
import { join } from 'node:path';
import { LOG_SCHEMA } from '../src/stores/logSchema.js';
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
import { journald, rsyslog } from './records/peers.js';
import { type Figure, figuresTable, rateVerdict, ratioVerdict, type Verdict } from './records/report.js';
import type { Load } from './records/senders.js';

const TARGET_PER_SECOND = 150_000;
const BATCH = 5000;
const ORIGINS = 10;
const MESSAGE_BYTES = 100;

const chosen = recordBenchOptions(600_000);

function loadAt(rate: number): Load {
  return {
    kind: 'log',
    records: chosen.records,
    rate,
    batch: 200,
    senders: 2,
    series: ORIGINS,
    message: MESSAGE_BYTES,
  };
}

function insertLoop(program: string): Promise<Figure> {
  return inFreshDirectory((directory) => {
    const file = join(directory, 'logs.db');
    openStore(file, LOG_SCHEMA).close();
    const numbers = [chosen.records, ORIGINS, MESSAGE_BYTES, BATCH];
    return runInsertLoop(program, file, numbers, pragmasOf(LOG_SCHEMA));
  });
}

async function storing(): Promise<Verdict[]> {
  const loop = await buildInsertLoop('log_insert_loop');
  const peers = { rsyslog: rsyslog(), journald: journald() };
  const lines = { lines: chosen.records, origins: ORIGINS, message: MESSAGE_BYTES };
  const own: RunnableVariant = {
    key: 'e',
    title: 'eventd',
    figures: [],
    run: eventdAtItsBest({ store: 'log', name: 'eventd', firstRate: TARGET_PER_SECOND, load: loadAt }),
  };
  const variants: RunnableVariant[] = [
    own,
    { key: 'c', title: 'C loop, prepared INSERT per line', figures: [], run: () => insertLoop(loop) },
  ];
  for (const [key, peer] of Object.entries(peers)) {
    if (peer === null) console.log(`${key} is not installed, or may not be started by this user: left out`);
    else
      variants.push({
        key: key.slice(0, 1),
        title: key,
        figures: [],
        run: () => inFreshDirectory((directory) => peer(directory, lines)),
      });
  }
  await inRounds(variants, chosen.rounds);
  console.log(figuresTable(variants, 'lines'));
  const find = (key: string) => variants.find((variant) => variant.key === key);
  return [
    rateVerdict(own, TARGET_PER_SECOND, 'lines'),
    ...ratioVerdict(own, find('r'), 1.5),
    ...ratioVerdict(own, find('j'), 3),
  ];
}

await runRecordBench({
  name: 'bench:logs',
  store: 'log',
  chosen,
  storing,
  full: loadAt(TARGET_PER_SECOND),
  measured: `${chosen.rounds} round(s) of ${chosen.records} lines of ${MESSAGE_BYTES} bytes`,
  accounted: 'Every line sent is stored or counted as dropped.',
});
