import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import Database from 'better-sqlite3';
import fc from 'fast-check';
import { addonPath, type DatagramsHandle, native, type SeriesCacheHandle } from '../../src/native/addon.js';
import { CASES, histogram, name, plain, totals } from '../fixtures/metricCases.js';
import {
  array,
  boundsHash,
  encodeTree,
  f32,
  f64,
  fnv1a,
  int,
  map,
  nil,
  type Sample,
  samplesOf,
  str,
  type Tree,
} from '../fixtures/metricReference.js';

const directory = mkdtempSync(join(tmpdir(), 'native-metric-'));
const receiver = native.receiverOpen({
  path: join(directory, 'socket'),
  mode: 0o600,
  capacityBytes: 8 * 2 ** 20,
});
const db = new Database(':memory:');
db.loadExtension(addonPath);
db.defaultSafeIntegers(true);
const rows = db.prepare<[DatagramsHandle], { series_id: bigint; [column: string]: unknown }>(
  'SELECT series_id, timestamp, value, histogram_data FROM metric_batch(?)',
);
after(() => {
  db.close();
  native.receiverClose(receiver);
  rmSync(directory, { recursive: true });
});

/** Receives datagrams as one batch and hands it to `use`, with a cache of its own unless one is given. */
function withBatch<T>(
  datagrams: readonly Uint8Array[],
  use: (batch: DatagramsHandle, cache: SeriesCacheHandle) => T,
  given?: SeriesCacheHandle,
): T {
  for (const datagram of datagrams) assert.ok(native.receiverInject(receiver, datagram));
  const taken = native.receiverTake(receiver);
  assert.ok(taken !== null);
  const cache = given ?? native.seriesCacheOpen(1000);
  try {
    return use(taken.batch, cache);
  } finally {
    native.datagramsRelease(taken.batch);
    if (given === undefined) native.seriesCacheClose(cache);
  }
}

/** A `series` table in memory: ids by order of appearance, the type of the first sample. */
class SeriesTable {
  readonly #known = new Map<string, { id: bigint; type: 0 | 1 | 2 }>();

  of(series: Pick<Sample, 'name' | 'labels' | 'boundariesHash' | 'type'>) {
    const key = JSON.stringify([series.name, series.labels, String(series.boundariesHash)]);
    const known = this.#known.get(key) ?? { id: BigInt(this.#known.size + 1), type: series.type };
    this.#known.set(key, known);
    return known;
  }
}

/** Resolves every series of a step by the table. */
function resolveAll(batch: DatagramsHandle, unresolved: number, table: SeriesTable): void {
  for (let i = 0; i < unresolved; i++) {
    const series = native.metricUnresolved(batch, i);
    assert.equal(series.labelHash, fnv1a(new TextEncoder().encode(series.labels)));
    const { id, type } = table.of(series);
    native.metricResolve(batch, i, id, type);
  }
}

interface Stored {
  readonly series: bigint;
  readonly timestamp: bigint;
  readonly value: number;
  readonly histogram: string | null;
}

/** Everything a batch stores, decoded in steps of `max`. */
function storeAll(
  batch: DatagramsHandle,
  cache: SeriesCacheHandle,
  table: SeriesTable,
  max: number,
): Stored[][] {
  const steps: Stored[][] = [];
  for (let more = true; more; ) {
    const decoded = native.metricDecode(batch, cache, max);
    ({ more } = decoded);
    assert.ok(decoded.records <= max);
    resolveAll(batch, decoded.unresolved, table);
    const left = native.metricSort(batch);
    const stored = rows.all(batch).map((row) => ({
      series: row.series_id,
      timestamp: row.timestamp as bigint,
      value: row.value as number,
      histogram: row.histogram_data === null ? null : (row.histogram_data as Buffer).toString('hex'),
    }));
    assert.equal(stored.length, left);
    steps.push(stored);
  }
  return steps;
}

const byTime = (a: Stored, b: Stored) => (a.timestamp < b.timestamp ? -1 : Number(a.timestamp > b.timestamp));

/** The same by the reference. A wrong type counts in a step only while its series is new there. */
function expectAll(samples: readonly Sample[], table: SeriesTable, max: number): Stored[][] {
  const steps: Stored[][] = [];
  const cached = new Set<bigint>();
  for (let next = 0; next < samples.length; ) {
    const step: Stored[] = [];
    const fresh = new Set<bigint>();
    for (let count = 0; count < max && next < samples.length; next++) {
      const sample = samples[next];
      if (sample === undefined) break;
      const { id, type } = table.of(sample);
      if (type === sample.type || !cached.has(id)) count++;
      fresh.add(id);
      if (type !== sample.type) continue;
      const histogram = sample.histogram && Buffer.from(sample.histogram).toString('hex');
      step.push({ series: id, timestamp: sample.timestamp, value: sample.value, histogram });
    }
    for (const id of fresh) cached.add(id);
    steps.push(step.sort((a, b) => Number(a.series - b.series) || byTime(a, b)));
  }
  return steps;
}

/** How many records a datagram yields. */
const records = (datagram: Uint8Array): number =>
  withBatch([datagram], (batch, cache) => native.metricDecode(batch, cache, 1000).records);

for (const [ids, what, record, valid] of CASES) {
  test(`${ids} ${what}: ${valid ? 'taken' : 'dropped'}`, () => {
    assert.equal(records(encodeTree(record)), valid ? 1 : 0);
    assert.equal(samplesOf(record, 0n).length, valid ? 1 : 0, 'the reference');
  });
}

test('[MET-15] [MET-21] [MET-22] [MET-25] [MET-26] a datagram is one map or an array; the valid maps of an array count', () => {
  const good = encodeTree(plain);
  const bytes = (...parts: (number | Uint8Array)[]) =>
    Uint8Array.from(parts.flatMap((part) => (typeof part === 'number' ? [part] : [...part])));
  assert.equal(records(good), 1);
  assert.equal(records(bytes(0x93, good, 3, good)), 2);
  assert.equal(records(bytes(0xdd, 0, 0, 0, 2, good, good)), 2);
  assert.equal(records(bytes(0x92, encodeTree(map(name)), good)), 1);
  assert.equal(records(bytes(0x90)), 0);
  assert.equal(records(bytes()), 0);
  assert.equal(records(bytes(good, 0xc0)), 0, 'a byte behind the value');
  assert.equal(records(good.subarray(0, -1)), 0, 'cut short');
  assert.equal(records(bytes(0x92, good)), 0, 'an element is missing');
  assert.equal(records(bytes(0x92, good, 0xc1)), 0, 'no such format');
  assert.equal(records(bytes(0xdd, 1, 0xff, 0xff, 0xff)), 0, 'an absurd length');
  assert.equal(records(bytes(0x91, 0x91, good)), 0, 'an array in an array');
  for (const other of [0xc0, 0xc3, 0x2a, 0xa0]) assert.equal(records(bytes(other)), 0);
});

test('[MET-29] [MET-30] [MET-31] keys of unknown series carry canonical labels and the hashes of the specification', () => {
  const record = map(
    name,
    ['type', str('histogram')],
    ['labels', map(['host', str('server1')], ['core', str('0')])],
    [
      'value',
      map(
        ['boundaries', array(f64(0.1), f64(0.5), int(1))],
        ['counts', array(int(1), int(2), int(3))],
        ...totals,
      ),
    ],
  );
  const zero = (bound: Tree) => histogram([bound, f64(1)], [int(1), int(2)], ...totals);
  withBatch([record, zero(f64(0)), zero(f64(-0)), plain].map(encodeTree), (batch, cache) => {
    assert.deepEqual(native.metricDecode(batch, cache, 10), { records: 4, more: false, unresolved: 3 });
    assert.deepEqual(native.metricUnresolved(batch, 0), {
      name: 'm',
      labels: 'core=0,host=server1',
      labelHash: -883976354372829056n,
      type: 2,
      boundariesHash: -8007442270075198572n,
    });
    assert.equal(native.metricUnresolved(batch, 1).boundariesHash, boundsHash([0, 1]));
    const scalar = { name: 'm', labels: '', labelHash: -3750763034362895579n, type: 1, boundariesHash: null };
    assert.deepEqual(native.metricUnresolved(batch, 2), scalar);
  });
});

/* ---- Against the reference ---- */

const text = fc.constantFrom(
  '',
  'a',
  'a!',
  'b',
  'B',
  'é',
  'é',
  '～',
  '🌍',
  'host',
  '__proto__',
  'a=',
  ',',
  '\0',
);
const anyText: fc.Arbitrary<Tree> = fc.oneof(
  {
    weight: 12,
    arbitrary: fc.tuple(text, fc.boolean()).map(([value, wide]) => ({ ...str(value), wide }) as Tree),
  },
  { weight: 1, arbitrary: fc.uint8Array({ maxLength: 4 }).map((bytes) => ({ kind: 'str', bytes }) as Tree) },
);
const anyInt = fc.oneof(
  fc.bigInt({ min: -4n, max: 300n }),
  fc.bigInt({ min: -(2n ** 63n), max: 2n ** 64n - 1n }),
  fc.constantFrom(2n ** 63n - 1n, 2n ** 63n, 2n ** 53n + 1n, -(2n ** 63n)),
);
const anyNumber: fc.Arbitrary<Tree> = fc.oneof(
  fc.tuple(anyInt, fc.boolean()).map(([value, wide]) => int(value, wide)),
  fc.double().map(f64),
  fc.float().map(f32),
);
const anyTree: fc.Arbitrary<Tree> = fc.oneof(
  fc.constantFrom<Tree>(nil, { kind: 'bool', value: true }, map(), array(), plain),
  anyText,
  anyNumber,
  fc.uint8Array({ maxLength: 3 }).map((bytes) => ({ kind: 'bin', bytes }) as Tree),
  fc.uint8Array({ maxLength: 3 }).map((bytes) => ({ kind: 'ext', bytes }) as Tree),
  fc.array(anyNumber, { maxLength: 3 }).map((items) => array(...items)),
);
/** Mostly what is right, now and then anything. */
const mostly = (right: fc.Arbitrary<Tree>) =>
  fc.oneof({ weight: 30, arbitrary: right }, { weight: 1, arbitrary: anyTree });
const pairsOf = (fields: Record<string, fc.Arbitrary<Tree>>) =>
  fc
    .tuple(
      fc.array(fc.tuple(fc.oneof(anyTree, fc.constantFrom(...Object.keys(fields)).map(str)), anyTree), {
        maxLength: 1,
      }),
      fc
        .record(fields, { requiredKeys: [] })
        .map((all) => Object.entries(all).map(([key, value]) => [str(key), value] as const)),
      fc.record(fields).map((all) => Object.entries(all).map(([key, value]) => [str(key), value] as const)),
      fc.nat(15),
    )
    .map(
      ([stray, some, all, choice]) =>
        [...(choice === 0 ? stray : []), ...(choice === 1 ? some : all), ...stray] as const,
    )
    .chain((pairs) => fc.shuffledSubarray([...pairs], { minLength: pairs.length }))
    .map((pairs) => ({ kind: 'map', pairs }) as Tree);
const bounds = fc
  .uniqueArray(fc.oneof(fc.integer({ min: -3, max: 3 }), fc.double({ noNaN: true })), { maxLength: 4 })
  .map((list) => [...list].sort((a, b) => a - b).map(f64));
const histogramValue = bounds.chain((list) =>
  pairsOf({
    boundaries: mostly(fc.constant(array(...list))),
    counts: mostly(
      fc
        .array(fc.bigInt({ min: 0n, max: 2n ** 64n - 1n }), {
          minLength: list.length,
          maxLength: list.length,
        })
        .map((counts) => array(...counts.map((count) => int(count)))),
    ),
    total_count: mostly(fc.nat().map((count) => int(count))),
    sum: mostly(anyNumber),
  }),
);
const anyLabels = fc
  .array(fc.tuple(mostly(anyText), mostly(anyText)), { maxLength: 5 })
  .map((pairs) => ({ kind: 'map', pairs }) as Tree);
const goodLabels = fc
  .array(fc.tuple(fc.constantFrom('a', 'a!', 'B', '～', '🌍', 'é'), fc.constantFrom('1', '2')), {
    maxLength: 4,
  })
  .map((pairs) => map(...pairs.map(([key, value]) => [key, str(value)] as const)));
const metricName = fc.constantFrom('m', 'n', '').map(str);
const anyTime = fc.bigInt({ min: 0n, max: 9n }).map((time) => int(time));
const anyRecord = fc.oneof(
  pairsOf({
    name: mostly(metricName),
    type: mostly(fc.constantFrom('counter', 'gauge').map(str)),
    labels: fc.oneof(anyLabels, goodLabels),
    timestamp: mostly(anyTime),
    value: mostly(anyNumber),
  }),
  pairsOf({
    name: metricName,
    type: fc.constant(str('histogram')),
    timestamp: anyTime,
    value: histogramValue,
  }),
  anyTree,
);
const anyDatagram = fc.oneof(
  fc.array(anyRecord, { maxLength: 12 }).map((list) => array(...list)),
  anyRecord,
);

test('[MET-20] [MET-25] [MET-28] [MET-29] [MET-35] [MET-39] [MET-45] what is stored agrees with the reference, in steps of any size', () => {
  let seen = 0;
  const property = fc.property(
    fc.array(anyDatagram, { minLength: 1, maxLength: 4 }),
    fc.integer({ min: 1, max: 20 }),
    (datagrams, max) => {
      // Records without a timestamp get the receipt time, of which only the bounds are known.
      const earliest = native.realtimeNs();
      withBatch(datagrams.map(encodeTree), (batch, cache) => {
        const latest = native.realtimeNs();
        const received = (row: Stored): Stored =>
          row.timestamp >= earliest && row.timestamp <= latest ? { ...row, timestamp: earliest } : row;
        const samples = datagrams.flatMap((datagram) => samplesOf(datagram, earliest));
        seen += samples.length;
        assert.deepEqual(
          storeAll(batch, cache, new SeriesTable(), max).flat().map(received),
          expectAll(samples, new SeriesTable(), max).flat(),
        );
      });
    },
  );
  fc.assert(property, { numRuns: 1500 });
  assert.ok(seen > 1500, `only ${seen} valid samples were tried`);
});

/* ---- Steps ---- */

const sample = (series: string, type: string, timestamp: number, value = 0) =>
  map(['name', str(series)], ['type', str(type)], ['timestamp', int(timestamp)], ['value', f64(value)]);

test('[MET-35] a sample of another type than its series is dropped, whether the store or the cache knows it', () => {
  const cache = native.seriesCacheOpen(1000);
  const stored = new SeriesTable();
  stored.of({ name: 'm', labels: '', type: 0, boundariesHash: null });
  for (const known of ['the store', 'the cache']) {
    const both = array(sample('m', 'gauge', 1), sample('m', 'counter', 2), sample('m', 'gauge', 3));
    withBatch(
      [encodeTree(both)],
      (batch) => {
        const [step] = storeAll(batch, cache, stored, 10);
        assert.deepEqual(
          step?.map(({ timestamp }) => timestamp),
          [2n],
          known,
        );
      },
      cache,
    );
  }
  native.seriesCacheClose(cache);
});

test('[MET-45] [MET-40] samples come by series and time, equal ones as sent; a step ends inside a datagram', () => {
  const sent = [
    sample('b', 'gauge', 5, 1),
    sample('a', 'gauge', 7, 2),
    sample('b', 'gauge', 5, 3),
    sample('b', 'gauge', 4, 4),
  ];
  withBatch([encodeTree(array(...sent))], (batch, cache) => {
    const steps = storeAll(batch, cache, new SeriesTable(), 3);
    assert.deepEqual(
      steps.map((step) => step.map(({ series, timestamp, value }) => [series, timestamp, value])),
      [
        [
          [1n, 5n, 1],
          [1n, 5n, 3],
          [2n, 7n, 2],
        ],
        [[1n, 4n, 4]],
      ],
    );
  });
});

const failing = (code: string, pattern: RegExp) => (error: unknown) =>
  error instanceof Error && (error as NodeJS.ErrnoException).code === code && pattern.test(error.message);

test('[MET-28] [MET-39] a step that is not ready, or no step at all, is refused in words', () => {
  withBatch([encodeTree(plain)], (batch, cache) => {
    assert.throws(() => native.metricSort(batch), failing('EINVAL', /no metrics were decoded/));
    assert.throws(() => rows.all(batch), /metric_batch: no metrics were decoded from the batch/);
    assert.equal(native.metricDecode(batch, cache, 10).unresolved, 1);
    assert.throws(() => native.metricSort(batch), failing('ERR_UNRESOLVED', /not every series/));
    assert.throws(() => rows.all(batch), /metric_batch: the batch is not sorted yet/);
    assert.throws(() => native.metricUnresolved(batch, 1), failing('ERR_OUT_OF_RANGE', /number 1/));
    assert.throws(() => native.metricResolve(batch, 1, 1n, 1), failing('ERR_OUT_OF_RANGE', /number 1/));
    assert.throws(() => native.metricResolve(batch, 0, 2n ** 63n, 1), failing('ERR_OUT_OF_RANGE', /id/));
    assert.throws(() => native.metricDecode(batch, cache, 0), failing('ERR_OUT_OF_RANGE', /maxRecords/));
    native.metricResolve(batch, 0, -(2n ** 63n), 1);
    assert.equal(native.metricSort(batch), 1);
    assert.equal(rows.all(batch)[0]?.series_id, -(2n ** 63n));
    const reading = rows.iterate(batch);
    assert.equal(reading.next().done, false);
    assert.throws(() => native.metricDecode(batch, cache, 1), failing('EBUSY', /being read/));
    reading.return?.();
    assert.deepEqual(native.metricDecode(batch, cache, 1), { records: 0, more: false, unresolved: 0 });
    assert.equal(native.metricSort(batch), 0);
    assert.deepEqual(rows.all(batch), []);
  });
  const released = withBatch([encodeTree(plain)], (batch) => batch);
  const cache = native.seriesCacheOpen(10);
  assert.throws(
    () => native.metricDecode(released, cache, 1),
    failing('ERR_HANDLE', /no such datagram batch/),
  );
  assert.throws(() => rows.all(released), /metric_batch: the argument names no taken batch/);
  native.seriesCacheClose(cache);
  assert.throws(() => native.seriesCacheStatus(cache), failing('ERR_HANDLE', /no such series cache/));
});

test('[MET-38] a batch of logs is no batch of metrics', () => {
  const path = join(directory, 'logs');
  const logs = native.receiverOpen({ path, mode: 0o600, capacityBytes: 2 ** 20 });
  assert.ok(native.receiverInject(logs, encodeTree(plain)));
  const taken = native.receiverTake(logs);
  assert.ok(taken !== null);
  native.logDecode(taken.batch, 10);
  const cache = native.seriesCacheOpen(10);
  assert.throws(() => native.metricDecode(taken.batch, cache, 10), failing('EINVAL', /holds logs/));
  assert.throws(() => rows.all(taken.batch), /no metrics were decoded/);
  native.seriesCacheClose(cache);
  native.datagramsRelease(taken.batch);
  native.receiverClose(logs);
});
