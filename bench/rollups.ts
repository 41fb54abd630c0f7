/**
 * METRIC queries over 30 days of samples, one every 15 seconds, with and without rollups of an hour and of five
 * minutes, in turns on the same store. Answers are compared; exits 1 when they differ.
 *
 *   node dist/bench/rollups.js [--quick] [--rounds N]
 */
import { copyFileSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { pairOf } from '../src/rollups/pairs.js';
import { RollupPass } from '../src/rollups/rollupPass.js';
import { build, endOf, SERIES, type StageResult, samplesIn, stage } from './metricStore.js';
import { benchOptions } from './options.js';
import { table } from './table.js';

const options = benchOptions({ quick: { type: 'boolean' }, rounds: { type: 'string', default: '5' } });
const DAYS = options.quick ? 2n : 30n;
const KEYS = ['avg_3600', 'max_3600', 'sum_3600', 'rate_3600', 'avg_300'];

const QUERIES = [
  'METRIC load[] SINCE 400d ago AVG_OVER 1h',
  'METRIC load[] SINCE 400d ago MAX_OVER 1d',
  'METRIC load[] SINCE 400d ago AVG_OVER 15m',
  'METRIC total[] SINCE 400d ago RATE AVG_OVER 1h',
  'METRIC total SINCE 400d ago RATE AVG_OVER 1d',
  'METRIC load SINCE 400d ago AVG',
  'METRIC load[core == "2"] SINCE 400d ago AVG_OVER 1h',
];

/** As the advisor does it, without leases; returns rows and ms. */
function compute(file: string): { rows: number; ms: number } {
  const pass = new RollupPass(file);
  pass.want(KEYS.map(pairOf).filter((pair) => pair !== null));
  const limits = { completionDelayNs: 0n, retentionDays: 3650, sizeLimited: false };
  const moment = { nowNs: endOf(DAYS), limits };
  const before = performance.now();
  let rows = 0;
  for (let found = pass.step(moment); found !== false; found = pass.step(moment)) {
    if (found) rows += pass.compute(moment).rows;
  }
  pass.close();
  return { rows, ms: performance.now() - before };
}

interface Measured {
  readonly run: () => StageResult;
  best: number;
  result: StageResult;
}

function measured(run: () => StageResult): Measured {
  return { run, best: Number.POSITIVE_INFINITY, result: { rows: 0, sum: 0, samples: 0 } };
}

function measure(each: Measured): void {
  const before = performance.now();
  each.result = each.run();
  each.best = Math.min(each.best, performance.now() - before);
}

function main(): boolean {
  const directory = mkdtempSync(join(tmpdir(), 'eventd-bench-'));
  try {
    const raw = join(directory, 'raw.db');
    const rolled = join(directory, 'rolled.db');
    console.log(`writing ${SERIES} series of ${samplesIn(DAYS)} samples ...`);
    build(raw, DAYS);
    copyFileSync(raw, rolled);
    const { rows, ms } = compute(rolled);
    console.log(`${rows} rows of ${KEYS.join(', ')} computed in ${Math.round(ms)} ms`);
    const variants = QUERIES.map((query) => ({
      query,
      samples: measured(stage(raw, query, DAYS)),
      rollups: measured(stage(rolled, query, DAYS)),
    }));
    for (let round = Number(options.rounds); round > 0; round--) {
      for (const { samples, rollups } of variants) {
        measure(samples);
        measure(rollups);
      }
    }
    const lines = variants.map(({ query, samples, rollups }) => [
      query.replace(' SINCE 400d ago', ''),
      samples.best.toFixed(1),
      rollups.best.toFixed(1),
      (samples.best / rollups.best).toFixed(1),
      samples.result.samples,
      rollups.result.samples,
    ]);
    const head = ['query', 'samples, ms', 'rollups, ms', 'times', 'rows read', 'with rollups'];
    console.log(table(head, lines));
    const wrong = variants.filter(({ samples: { result: a }, rollups: { result: b } }) => {
      return a.rows !== b.rows || Math.abs(a.sum - b.sum) > 1e-9 * Math.abs(a.sum);
    });
    for (const { query } of wrong) console.log(`${query}: the answers differ`);
    return wrong.length === 0;
  } finally {
    rmSync(directory, { recursive: true, force: true });
  }
}

process.exitCode = main() ? 0 : 1;
