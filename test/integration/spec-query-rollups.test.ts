/** Which windows of METRIC queries come from rollups: the rows here hold what no computation gives (07, part 5). */
import assert from 'node:assert/strict';
import { join } from 'node:path';
import { test } from 'node:test';
import { withDatabase } from '../fixtures/database.js';
import { ago, SECOND, series, windowOf, writeStores } from '../fixtures/exampleStores.js';
import { startService } from '../fixtures/queryService.js';
import { ask } from '../fixtures/rawQueryClient.js';

/** Six windows of 600 s, at the edge of larger ones, with a sample every 100 s, whose values are their numbers, or ten times that. */
const BASE = windowOf(ago(7200), 3600);
const COUNT = 36;
const at = (seconds: number): bigint => BASE + BigInt(seconds) * SECOND;
const gaugeSamples = Array.from({ length: COUNT }, (_, i) => [at(i * 100), i] as const);
const counterSamples = Array.from({ length: COUNT }, (_, i) => [at(i * 100), i * 10] as const);

/** Of both series, for every function; none for the fourth window. `sample_count` of the third is 2. */
const ROWS = [0, 1, 2, 4, 5].map((window) => ({
  window,
  value: 6000 + window,
  samples: window === 2 ? 2 : 6,
}));

const iso = (seconds: number): string =>
  new Date(Number(at(seconds) / 1_000_000n)).toISOString().slice(0, 19);
/** Cuts the first and the last window. */
const RANGE = `SINCE ${iso(300)} UNTIL ${iso(3500)}`;

type Points = readonly (readonly [second: number, value: number])[];

/** Queries, each with its values by the second of their window. */
const QUERIES: readonly (readonly [ids: string, query: string, points: Points])[] = [
  [
    '[QL-103] [QX-50] [ROL-30] [ROL-32] [ROL-34] completed windows from rows, cut and missing ones raw',
    'METRIC load[] AVG_OVER 10m',
    [
      [0, 4],
      [600, 6001],
      [1200, 6002],
      [1800, 20.5],
      [2400, 6004],
      [3000, 32],
    ],
  ],
  [
    '[QX-51] [ROL-24] [ROL-25] larger windows from smaller ones, AVG by its weights',
    'METRIC load[core="0"] AVG AVG_OVER 20m',
    [
      [0, (3 + 4 + 5 + 6 * 6001) / 9],
      [1200, (2 * 6002 + 18 + 19 + 20 + 21 + 22 + 23) / 8],
      [2400, (6 * 6004 + 30 + 31 + 32 + 33 + 34) / 11],
    ],
  ],
  [
    '[QX-51] [ROL-25] MIN and MAX',
    'METRIC load[] MIN MIN_OVER 30m',
    [
      [0, 3],
      [1800, 18],
    ],
  ],
  [
    '[QX-51] [ROL-25] MIN and MAX',
    'METRIC load[] MAX MAX_OVER 30m',
    [
      [0, 6002],
      [1800, 6004],
    ],
  ],
  [
    '[QX-51] [ROL-26] [ROL-27] RATE by the time between samples',
    'METRIC req[] RATE AVG_OVER 20m',
    [
      [0, (20 + 6001) / 800],
      [1200, (6002 + 60) / 1200],
      [2400, (6004 + 50) / 1100],
    ],
  ],
  [
    '[QX-51] never the reverse',
    'METRIC load[] AVG_OVER 5m UNTIL_900',
    [
      [300, 4],
      [600, 7],
    ],
  ],
  [
    '[QX-52] [ROL-31] not with predicates on samples',
    'METRIC load[] AVG_OVER 30m WHERE value >= 0',
    [
      [0, 10],
      [1800, 26],
    ],
  ],
  [
    '[QX-52] [ROL-31] not with predicates on samples',
    'METRIC load[] AVG_OVER 30m WHERE timestamp > 0',
    [
      [0, 10],
      [1800, 26],
    ],
  ],
  [
    '[QX-52] [ROL-31] but with predicates on the series',
    'METRIC *[] AVG_OVER 30m WHERE core == "0"',
    [
      [0, (3 + 4 + 5 + 6 * 6001 + 2 * 6002) / 11],
      [1800, (18 + 19 + 20 + 21 + 22 + 23 + 6 * 6004 + 30 + 31 + 32 + 33 + 34) / 17],
    ],
  ],
  [
    '[QX-52] [ROL-31] not for another function',
    'METRIC load[] AVG MAX_OVER 30m',
    [
      [0, 17],
      [1800, 34],
    ],
  ],
];

test('[QX-50] [QX-51] [QX-52] rollups serve what they cover and nothing else', async (t) => {
  const { store } = writeStores(t, {
    series: [
      series('load', 'gauge', { core: '0' }, ...gaugeSamples),
      series('req', 'counter', {}, ...counterSamples),
    ],
  });
  withDatabase(join(store.directory, '..', 'metrics.db'), (db) => {
    const insert = db.prepare(
      `INSERT INTO rollups (series_id, function, window_seconds, window_start, value, sample_count)
       VALUES (?, ?, 600, ?, ?, ?)`,
    );
    for (const id of [1, 2])
      for (const what of [0, 1, 2, 3, 4, 5])
        for (const { window, value, samples } of ROWS) insert.run(id, what, at(window * 600), value, samples);
  });
  await startService(t, store);
  for (const [title, text, points] of QUERIES) {
    const range = text.includes('UNTIL_900') ? RANGE.replace(iso(3500), iso(900)) : RANGE;
    const query = `${text.replace(' UNTIL_900', '')} ${range}`;
    await t.test(`${title}: ${text}`, async () => {
      const answer = await ask(store.socketPath, query);
      assert.equal(answer.error, null);
      const shown = answer.records.map(({ timestamp, value }) => [
        Number(((timestamp as bigint) - BASE) / SECOND),
        Number(Number(value).toPrecision(12)),
      ]);
      assert.deepEqual(
        shown,
        points.map(([second, value]) => [second, Number(value.toPrecision(12))]),
      );
    });
  }
});
