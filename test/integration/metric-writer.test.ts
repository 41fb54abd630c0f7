/** The metric path over a real socket: from the datagram to samples under their series. */
import assert from 'node:assert/strict';
import { existsSync, statSync } from 'node:fs';
import { test } from 'node:test';
import { decode } from '@msgpack/msgpack';
import { native } from '../../src/native/addon.js';
import { INSERT_SERIES, METRIC_SCHEMA } from '../../src/stores/metricSchema.js';
import { openStore } from '../../src/stores/storeFile.js';
import { LIMITS, PipelineFixture } from '../fixtures/recordPipelines.js';

interface SeriesRow {
  readonly id: bigint;
  readonly name: string;
  readonly labels: string;
  readonly type: bigint;
  readonly label_hash: bigint;
  readonly boundaries_hash: bigint | null;
}

interface SampleRow {
  readonly series_id: bigint;
  readonly timestamp: bigint;
  readonly value: number;
  readonly histogram_data: Buffer | null;
}

const SERIES = 'SELECT * FROM series ORDER BY id';
const SAMPLES = 'SELECT * FROM samples ORDER BY series_id, timestamp, rowid';
const NAMED = 'SELECT name, labels, value FROM samples JOIN series ON id = series_id ORDER BY samples.rowid';

const gauge = (value: unknown, more: Record<string, unknown> = {}) => ({
  name: 'cpu.usage',
  type: 'gauge',
  value,
  ...more,
});

const histogram = (more: Record<string, unknown> = {}) => ({
  name: 'latency',
  type: 'histogram',
  timestamp: 7,
  value: { boundaries: [0.1, 0.5, 1], counts: [1, 2, 3], total_count: 4, sum: 2.5, ...more },
});

test('[MET-5, MET-13, MET-15, MET-16, MET-17, MET-28, MET-29, MET-31, MET-38, MET-46, MET-48] samples are stored under their series, with canonical labels and their hash', async (t) => {
  const path = new PipelineFixture(t, 'metric');
  await path.start();
  assert.equal(statSync(path.socketPath).mode & 0o777, 0o666);
  await path.send(gauge(0.25, { labels: { host: 'server1', core: '0' }, timestamp: 11 }));
  await path.send([
    gauge(-1.5, { labels: { core: '0', host: 'server1' }, timestamp: 12 }),
    { name: 'requests.total', type: 'counter', timestamp: 13, value: 42 },
    gauge(2, { labels: { Core: '0' }, timestamp: 14 }),
    gauge(3, { labels: {}, timestamp: 15 }),
  ]);
  await path.stored(5);
  const series = path.rows<SeriesRow>(SERIES);
  assert.deepEqual(
    series.map(({ name, labels, type, label_hash, boundaries_hash }) => [
      name,
      labels,
      type,
      label_hash,
      boundaries_hash,
    ]),
    [
      ['cpu.usage', 'core=0,host=server1', 1n, -883976354372829056n, null],
      ['requests.total', '', 0n, -3750763034362895579n, null],
      ['cpu.usage', 'Core=0', 1n, series[2]?.label_hash, null],
      ['cpu.usage', '', 1n, -3750763034362895579n, null],
    ],
  );
  assert.deepEqual(
    path
      .rows<SampleRow>(SAMPLES)
      .map(({ timestamp, value, histogram_data }) => [timestamp, value, histogram_data]),
    [
      [11n, 0.25, null],
      [12n, -1.5, null],
      [13n, 42, null],
      [14n, 2, null],
      [15n, 3, null],
    ],
  );
});

test('[MET-8, MET-9, MET-18, MET-28, MET-30, MET-31, MET-39, MET-48] histograms keep their buckets, and other bounds are another series', async (t) => {
  const path = new PipelineFixture(t, 'metric');
  await path.start();
  await path.send(histogram());
  await path.send(histogram({ boundaries: [1, 0.5, 2] }));
  await path.send(histogram({ boundaries: [1, 2, 3] }));
  await path.send({ name: 'latency', type: 'gauge', value: 1 });
  await path.stored(3);
  const series = path.rows<SeriesRow>(SERIES);
  assert.deepEqual(
    series.map(({ type }) => type),
    [2n, 2n, 1n],
  );
  assert.equal(series[0]?.boundaries_hash, -8007442270075198572n);
  assert.equal(series[2]?.boundaries_hash, null);
  const [sample] = path.rows<SampleRow>(SAMPLES);
  assert.equal(sample?.value, 0);
  const data = decode(sample?.histogram_data ?? new Uint8Array()) as Record<string, unknown>;
  assert.deepEqual(Object.entries(data), [
    ['boundaries', [0.1, 0.5, 1]],
    ['counts', [1, 2, 3]],
    ['total_count', 4],
    ['sum', 2.5],
  ]);
});

test('[MET-4, MET-20, MET-21, MET-22, MET-23, MET-24, MET-25, MET-26, MET-27] invalid records go in silence, valid neighbours are stored', async (t) => {
  const path = new PipelineFixture(t, 'metric');
  await path.start();
  await path.sendRaw(Uint8Array.of(0xc1));
  await path.send('text');
  await path.send([
    gauge(1),
    gauge(Number.NaN),
    gauge(Number.POSITIVE_INFINITY),
    gauge('1'),
    gauge(1, { labels: { a: '' } }),
    gauge(1, { labels: { 'a=b': 'c' } }),
    gauge(1, { labels: { a: 'b,c' } }),
    gauge(1, { type: 'Gauge' }),
    gauge(1, { timestamp: null }),
    { name: 'negative', type: 'counter', value: -1 },
    histogram({ counts: [1] }),
    histogram({ boundaries: [1, 1, 2] }),
    3,
    gauge(2),
  ]);
  await path.stored(2);
  assert.deepEqual(
    path.rows<{ value: number }>(NAMED).map(({ value }) => value),
    [1, 2],
  );
  assert.deepEqual(
    path.reports.map(({ type }) => type),
    ['commit'],
  );
});

test('[MET-35] a record of another type than its series is dropped, whatever it meets: the cache, the table, or its own batch', async (t) => {
  const path = new PipelineFixture(t, 'metric');
  await path.start();
  const counter = { name: 'cpu.usage', type: 'counter', value: 9 };
  await path.send([gauge(1), counter]);
  await path.stored(1);
  await path.send([counter, gauge(2)]);
  await path.stored(2);
  await path.stop();
  await path.start();
  await path.send([counter, gauge(3)]);
  await path.stored(3);
  assert.deepEqual(
    path.rows<SeriesRow>(SERIES).map(({ type }) => type),
    [1n],
  );
  assert.deepEqual(
    path.rows<SampleRow>(SAMPLES).map(({ value }) => value),
    [1, 2, 3],
  );
});

test('[MET-45, MET-40, MET-17] samples are stored as they come: backdated ones, equal times, and the time of receipt where none is given', async (t) => {
  const path = new PipelineFixture(t, 'metric');
  await path.start();
  const before = native.realtimeNs();
  await path.send([
    gauge(1, { timestamp: 5 }),
    gauge(2, { timestamp: 5 }),
    gauge(3, { timestamp: 1 }),
    gauge(4, { timestamp: 5 }),
    gauge(5),
  ]);
  await path.stored(5);
  const samples = path.rows<SampleRow>(SAMPLES);
  assert.deepEqual(
    samples.map(({ value }) => value),
    [3, 1, 2, 4, 5],
  );
  const received = samples[4]?.timestamp ?? 0n;
  assert.ok(before <= received && received <= native.realtimeNs());
});

test('[MET-32, MET-36, MET-47, MET-55] series are found again after a restart, with an empty cache, also those of other hashes', async (t) => {
  const path = new PipelineFixture(t, 'metric');
  const db = openStore(path.file, METRIC_SCHEMA);
  db.prepare(INSERT_SERIES).run('cpu.usage', 'core=0', 1, 12345n, null);
  db.close();
  await path.start();
  await path.send([gauge(1, { labels: { core: '0' } }), gauge(2, { labels: { core: '1' } })]);
  await path.stored(2);
  await path.stop();
  await path.start();
  await path.send([gauge(3, { labels: { core: '0' } }), gauge(4, { labels: { core: '1' } })]);
  await path.stored(4);
  assert.deepEqual(
    path.rows<SeriesRow>(SERIES).map(({ labels, label_hash }) => [labels, label_hash]),
    [
      ['core=0', 12345n],
      ['core=1', path.rows<SeriesRow>(SERIES)[1]?.label_hash],
    ],
  );
  assert.deepEqual(
    path.rows<{ labels: string; value: number }>(NAMED).map(({ labels, value }) => `${labels} ${value}`),
    ['core=0 1', 'core=1 2', 'core=0 3', 'core=1 4'],
  );
});

test('[MET-32, MET-33, MET-37] more series than the cache holds, before and after its size changes: none twice, none mixed up', async (t) => {
  const path = new PipelineFixture(t, 'metric');
  const pipeline = await path.start({ seriesCacheSize: 1000 });
  const round = async (base: number): Promise<void> => {
    for (let first = 0; first < 2500; first += 500) {
      const samples = Array.from({ length: 500 }, (_, n) =>
        gauge(base + first + n, { labels: { n: String(first + n) } }),
      );
      await path.send(samples);
    }
  };
  await round(0);
  await path.stored(2500);
  await round(10_000);
  await path.stored(5000);
  pipeline.setLimits({ ...LIMITS, seriesCacheSize: 4000 });
  assert.equal(await pipeline.answers(10_000), true);
  await round(20_000);
  await round(30_000);
  await path.stored(10_000);
  pipeline.setLimits({ ...LIMITS, seriesCacheSize: 1000 });
  assert.equal(await pipeline.answers(10_000), true);
  await round(40_000);
  await path.stored(12_500);
  assert.equal(path.rows(SERIES).length, 2500);
  const wrong = path.rows(
    `SELECT * FROM samples JOIN series ON id = series_id
     WHERE CAST(value AS INTEGER) % 10000 <> CAST(substr(labels, 3) AS INTEGER)`,
  );
  assert.deepEqual(wrong, []);
});

test('[MET-37, MET-43, MET-44, FAIL-10, FAIL-11] series of a batch that was rolled back are not remembered', async (t) => {
  const path = new PipelineFixture(t, 'metric');
  await path.start();
  await path.send(gauge(1, { labels: { core: '0' } }));
  await path.stored(1);
  path.edit("CREATE TRIGGER refuse BEFORE INSERT ON samples BEGIN SELECT RAISE(ABORT, 'refused'); END");
  await path.send([gauge(2, { labels: { core: '1' } }), gauge(2, { labels: { core: '0' } })]);
  const [failed] = await path.reported('failed');
  assert.equal(failed?.store, 'metric');
  path.edit('DROP TRIGGER refuse');
  await path.send([gauge(3, { labels: { core: '2' } }), gauge(4, { labels: { core: '1' } })]);
  await path.stored(3);
  assert.deepEqual(
    path
      .rows<{ labels: string; value: number }>(NAMED)
      .map(({ labels, value }) => `${labels} ${value}`)
      .sort(),
    ['core=0 1', 'core=1 4', 'core=2 3'],
  );
  assert.equal((await path.reported('recovered'))[0]?.lost, 2);
  const [error] = path.reportsOf('storageError');
  const details = decode(error?.event.payload ?? new Uint8Array()) as Record<string, unknown>;
  assert.equal(details.store_type, 'metric');
});

test('[MET-37, MET-55] series that somebody deletes behind the writer’s back are made anew, also where their id has become another’s', async (t) => {
  const path = new PipelineFixture(t, 'metric');
  await path.start();
  await path.send(gauge(1));
  await path.stored(1);
  path.edit(
    'DELETE FROM samples',
    'DELETE FROM series',
    "INSERT INTO series (id, name, labels, type, label_hash) VALUES (1, 'stranger', '', 1, 0)",
  );
  await path.send(gauge(2));
  await path.send(gauge(3));
  await path.stored(3);
  assert.deepEqual(
    path.rows<{ name: string; value: number }>(NAMED).map(({ name, value }) => `${name} ${value}`),
    ['cpu.usage 2', 'cpu.usage 3'],
  );
  assert.deepEqual(path.rows('PRAGMA foreign_key_check'), []);
  assert.deepEqual(path.reportsOf('failed'), []);
});

test('[MET-40, MET-56, LIFE-202, LIFE-204, LIFE-207] batches have at most MetricMaxBatchSize samples, and a stop stores what is queued', async (t) => {
  const path = new PipelineFixture(t, 'metric');
  await path.start({ maxBatchSize: 100 });
  await path.send(Array.from({ length: 950 }, (_, n) => gauge(n, { timestamp: n })));
  await path.stop();
  assert.ok(path.reportsOf('commit').every(({ records }) => records <= 100));
  await path.stored(950);
  assert.equal(existsSync(`${path.file}-wal`), false);
  assert.deepEqual(
    path.rows<SampleRow>(SAMPLES).map(({ value }) => value),
    Array.from({ length: 950 }, (_, n) => n),
  );
});

test('[MET-55, FAIL-18, FAIL-19, FAIL-21] a damaged metric store is replaced, one of unknown version is left alone', async (t) => {
  const damaged = new PipelineFixture(t, 'metric');
  openStore(damaged.file, METRIC_SCHEMA).close();
  damaged.edit('DROP TABLE rollups');
  await damaged.start();
  assert.match(damaged.reportsOf('replaced')[0]?.reason ?? '', /table rollups is missing/);
  await damaged.send(gauge(1));
  await damaged.stored(1);

  const unknown = new PipelineFixture(t, 'metric');
  openStore(unknown.file, METRIC_SCHEMA).close();
  unknown.edit("UPDATE metadata SET value = '2' WHERE key = 'schema_version'");
  const pipeline = await unknown.start();
  await unknown.send(gauge(1));
  await unknown.reported('discarding');
  assert.equal((await pipeline.survey(2000)).dump?.state, 'discarding');
  await unknown.stop();
  assert.deepEqual(unknown.rows(SAMPLES), []);
});
