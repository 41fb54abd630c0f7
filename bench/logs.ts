/**
 * Log lines per second into the store, from batching senders and without a drop, beside what a Linux
 * user has instead: a C loop of prepared INSERTs into the same schema, rsyslog, systemd-journald. Then
 * what a sender feels. Variants take turns, round after round; every run is accounted for line by line.
 * Exits 1 when a target is missed or something is not accounted for.
 *
 *   npm run bench:logs -- [--quick] [--rounds N] [--records N] [--seconds N] [--only store,feel]
 */
import { statSync } from 'node:fs';
import { loadavg } from 'node:os';
import { join } from 'node:path';
import { LOG_SCHEMA } from '../src/stores/logSchema.js';
import { CHECKPOINT_BYTES } from '../src/stores/recordCommitter.js';
import { openStore, writerPragmas } from '../src/stores/singleStore.js';
import { buildInsertLoop } from './ingest/insertLoop.js';
import { highestRate, offer, storedPerSecond } from './records/eventdRun.js';
import { feel } from './records/feel.js';
import { inFreshDirectory, progress, recordBenchOptions } from './records/options.js';
import { journald, rsyslog } from './records/peers.js';
import { printed } from './records/processes.js';
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

const TARGET_PER_SECOND = 150_000;
const BATCH = 5000;
const ORIGINS = 10;
const MESSAGE_BYTES = 100;

const chosen = recordBenchOptions(600_000);
const load: Load = {
  kind: 'log',
  records: chosen.records,
  rate: TARGET_PER_SECOND,
  batch: 200,
  senders: 2,
  series: ORIGINS,
  message: MESSAGE_BYTES,
};

async function insertLoop(program: string): Promise<Figure> {
  return inFreshDirectory(async (directory) => {
    const file = join(directory, 'logs.db');
    openStore(file, LOG_SCHEMA).close();
    const numbers = [chosen.records, ORIGINS, MESSAGE_BYTES, BATCH].map(String);
    const start = String(BigInt(Date.now()) * 1_000_000n);
    const pragmas = [
      ...writerPragmas(LOG_SCHEMA),
      `wal_autocheckpoint = ${CHECKPOINT_BYTES / LOG_SCHEMA.pageSize}`,
    ];
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

/** Where the search of the next round begins. */
let startRate = TARGET_PER_SECOND;

async function eventd(): Promise<Figure> {
  const best = await highestRate(
    startRate,
    (rate) => offer('log', { ...load, rate }),
    (tried) =>
      progress(
        `eventd at ${tried.offered}/s: ${Math.round(storedPerSecond(tried))} stored, ${tried.dropped} dropped\n`,
      ),
  );
  startRate = best.offered;
  return {
    perSecond: storedPerSecond(best),
    cpuMicros: best.cpuMicros,
    bytesPerRecord: best.bytesPerRecord,
  };
}

async function storing(): Promise<Verdict[]> {
  const loop = await buildInsertLoop('log_insert_loop');
  const peers = { rsyslog: rsyslog(), journald: journald() };
  const lines = { lines: chosen.records, origins: ORIGINS, message: MESSAGE_BYTES };
  const own: Variant = { key: 'e', title: 'eventd', figures: [] };
  const variants: (Variant & { run(): Promise<Figure> })[] = [
    { ...own, run: eventd },
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
  for (let round = 1; round <= chosen.rounds; round++) {
    for (const variant of variants) {
      progress(`round ${round} of ${chosen.rounds}: ${variant.title}`);
      variant.figures.push(await variant.run());
    }
  }
  progress('');
  console.log(figuresTable(variants, 'lines'));
  const find = (key: string) => variants.find((variant) => variant.key === key);
  return [
    rateVerdict(own, TARGET_PER_SECOND, 'lines'),
    ...ratioVerdict(own, find('r'), 1.5),
    ...ratioVerdict(own, find('j'), 3),
  ];
}

try {
  const before = loadavg();
  const wanted = (part: string) => chosen.only === null || chosen.only.includes(part);
  const verdicts = wanted('store') ? await storing() : [];
  console.log('');
  if (wanted('feel')) {
    const full = { ...load, rate: TARGET_PER_SECOND };
    verdicts.push(...(await feel({ store: 'log', full, seconds: chosen.seconds })));
  }
  console.log(
    `\n${chosen.rounds} round(s) of ${chosen.records} lines of ${MESSAGE_BYTES} bytes; ${machine(before)}`,
  );
  console.log('Every line sent is stored or counted as dropped.\n');
  process.exitCode = printVerdicts(verdicts) ? 0 : 1;
} catch (error) {
  console.error(`bench:logs: ${error instanceof Error ? error.message : String(error)}`);
  process.exitCode = error instanceof TypeError ? 2 : 1;
}
