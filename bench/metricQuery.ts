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
import Database from 'better-sqlite3';
import { build, SERIES, samplesIn, stage } from './metricStore.js';
import { benchOptions } from './options.js';
import { table } from './table.js';

const options = benchOptions({
  quick: { type: 'boolean' },
  rounds: { type: 'string', default: '3' },
  keep: { type: 'string' },
});

const DAYS = options.quick ? 2n : 30n;
const HOUR_NS = 3_600_000_000_000n;

interface Variant {
  readonly title: string;
  /** Result rows and the sum of their values. */
  readonly run: () => { rows: number; sum: number; samples: number };
  readonly ms: number[];
  result: { rows: number; sum: number; samples: number };
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
      console.log(`writing ${SERIES} series of ${samplesIn(DAYS)} samples ...`);
      build(file, DAYS);
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
      variant('load[] AVG_OVER 1h', stage(file, 'METRIC load[] SINCE 400d ago AVG_OVER 1h', DAYS)),
      variant(
        'SQLite: GROUP BY series, hour',
        peer(
          file,
          `SELECT avg(s.value) AS value ${JOIN} WHERE r.name = 'load' GROUP BY s.series_id, ${window}`,
        ),
      ),
    ],
    [
      variant('*[] AVG_OVER 1h', stage(file, 'METRIC *[] SINCE 400d ago AVG_OVER 1h', DAYS)),
      variant(
        'SQLite: GROUP BY series, hour',
        peer(file, `SELECT avg(s.value) AS value FROM samples AS s GROUP BY s.series_id, ${window}`),
      ),
    ],
    [
      variant('*[] AVG', stage(file, 'METRIC *[] SINCE 400d ago AVG', DAYS)),
      variant(
        'SQLite: GROUP BY series',
        peer(file, 'SELECT avg(s.value) AS value FROM samples AS s GROUP BY s.series_id'),
      ),
    ],
    [variant('* AVG_OVER 1h, combined', stage(file, 'METRIC * SINCE 400d ago AVG_OVER 1h', DAYS)), null],
    [
      variant(
        'total[] RATE AVG_OVER 1h',
        stage(file, 'METRIC total[] SINCE 400d ago RATE AVG_OVER 1h', DAYS),
      ),
      null,
    ],
    [
      variant(
        'total RATE MAX_OVER 1h, combined',
        stage(file, 'METRIC total SINCE 400d ago RATE MAX_OVER 1h', DAYS),
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
