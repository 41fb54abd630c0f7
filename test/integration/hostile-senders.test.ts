/**
 * Senders that mean harm, and such as are merely broken: whatever they send, eventd says nothing, keeps
 * its memory, and stores what the others send (LOG-23, MET-26, FAIL-23).
 */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';
import { encode } from '@msgpack/msgpack';
import { datagramLoad } from '../fixtures/dgramload.js';
import { type EventdRun, EventdWorld } from '../fixtures/eventd.js';
import {
  EventdRecords,
  gauge,
  line,
  numbered,
  numbersOf,
  residentMiB,
  type Store,
  silence,
} from '../fixtures/eventdRecords.js';
import { CASES } from '../fixtures/metricCases.js';
import { encodeTree } from '../fixtures/metricReference.js';

const LIMIT = { timeout: 120_000 };
const QUIET = { cpus: 1, settings: { HealthMetricIntervalSeconds: 0 } } as const;

/** Both buffers of each receiver and what lands in front of them, caches, and the heap's breathing space. */
const GROWTH_MIB = 160;
/** What the socket of a sender takes with the buffer it has by default. */
const LARGEST = 212_960;

const resident = ({ pid }: EventdRun) => residentMiB(readFileSync(`/proc/${pid}/status`, 'latin1'));
const bytes = (...values: number[]) => Uint8Array.from(values);
const filled = (head: readonly number[], length: number, fill: number) => {
  const datagram = new Uint8Array(length).fill(fill);
  datagram.set(head);
  return datagram;
};

/** What is wrong whatever the store. */
const NONSENSE: readonly (readonly [what: string, datagram: Uint8Array])[] = [
  ['nothing', bytes()],
  ['no msgpack', bytes(0xc1)],
  ['half a map', bytes(0x81, 0xa1)],
  ['an array that promises 33 million elements', bytes(0xdd, 1, 0xff, 0xff, 0xff)],
  ['a map that promises four thousand million', bytes(0xdf, 0xff, 0xff, 0xff, 0xff)],
  ['a text that promises four gigabytes', bytes(0x81, 0xdb, 0xff, 0xff, 0xff, 0xff, 0x61)],
  ['a number', bytes(7)],
  ['nil', bytes(0xc0)],
  ['a text', encode('hello')],
  ['two values', bytes(0x80, 0x80)],
  ['an empty array', bytes(0x90)],
  ['an array of arrays', encode([[line('x')]])],
  ['an extension', bytes(0xd4, 1, 0)],
  ['arrays in arrays, as many as fit', filled([], LARGEST, 0x91)],
  ['maps in maps, as many as fit', filled([], LARGEST, 0x81)],
  ['an array of 200,000 nils', filled([0xdd, 0, 3, 0x0d, 0x40], 200_005, 0xc0)],
  ['an array of 200,000 empty maps', filled([0xdd, 0, 3, 0x0d, 0x40], 200_005, 0x80)],
  ['noise', filled([0x82], LARGEST, 0xa5)],
  ['a key of its prototype', Buffer.from('\x81\xa9__proto__\x01', 'latin1')],
];

const BAD_LINES: readonly Record<string, unknown>[] = [
  {},
  { origin: 'svc', message: 'no flag' },
  { origin: 'svc', is_error: false },
  { is_error: false, message: 'no origin' },
  line('flag', { is_error: 0 }),
  line('nil', { timestamp: null }),
  line('late', { timestamp: 2n ** 63n }),
  line('early', { timestamp: -1 }),
  line('half', { timestamp: 1.5 }),
  line('bin', { message: bytes(1) }),
  line('number', { origin: 7 }),
];

const long = (length: number) => 'x'.repeat(length);
const BAD_SAMPLES: readonly Record<string, unknown>[] = [
  gauge('m', 1, { labels: { 'a=b': 'c' } }),
  gauge('m', 1, { labels: { a: 'b,c' } }),
  gauge('m', 1, { labels: { a: '' } }),
  gauge('m', 1, { labels: { [long(90_000)]: `${long(90_000)}=` } }),
  gauge('m', 1, { labels: Object.fromEntries(Array.from({ length: 10_000 }, (_, i) => [`k${i}`, ''])) }),
  {
    name: 'm',
    type: 'histogram',
    value: { boundaries: [...Array(9000).keys()], counts: [], total_count: 1, sum: 1 },
  },
];

/** A burst of one kind, then a line of an honest sender, which must come through; several times. */
async function among(records: EventdRecords, store: Store, kinds: readonly Uint8Array[]): Promise<number> {
  let honest = 0;
  for (const datagram of kinds) {
    // No more than the receiver's buffer takes at once: being crowded out is another matter.
    const burst = Math.min(Math.floor(1_000_000 / (datagram.length + 100)), 200);
    for (let i = 0; i < burst; i++) await records.sendRaw(store, datagram);
    await records.send(store, numbered(store, honest++));
    await records.stored(store, honest);
  }
  return honest;
}

test(
  '[LOG-2, LOG-12, LOG-18, LOG-19, LOG-20, LOG-21, LOG-22, LOG-23, MET-3, MET-4, MET-16, MET-20, MET-21, MET-22, MET-23, MET-24, MET-25, MET-26, MET-27, FAIL-23] floods of every kind of malformed datagram: no word, no event, no memory, and every honest record is stored',
  LIMIT,
  async (t) => {
    const world = EventdWorld.for(t, QUIET);
    const records = new EventdRecords(world);
    const run = await world.start();
    await records.send('log', numbered('log', -1));
    await records.stored('log', 1);
    records.change('log', 'DELETE FROM logs');
    const quiet = await silence(run);
    const memory = resident(run);

    const wrong = CASES.filter(([, , , valid]) => !valid).map(([, , record]) => encodeTree(record));
    const options = { useBigInt64: true } as const;
    const lines = [
      ...NONSENSE.map(([, datagram]) => datagram),
      ...BAD_LINES.map((bad) => encode(bad, options)),
    ];
    const samples = [
      ...NONSENSE.map(([, datagram]) => datagram),
      ...wrong,
      ...BAD_SAMPLES.map((bad) => encode(bad, options)),
    ];
    const [logs, metrics] = await Promise.all([
      among(records, 'log', lines),
      among(records, 'metric', samples),
    ]);
    const all = (count: number) => Array.from({ length: count }, (_, i) => i);
    assert.deepEqual(numbersOf(records.logs()), all(logs));
    assert.deepEqual(numbersOf(records.samples()), all(metrics));

    // As fast as two senders can, with no regard for anybody.
    await Promise.all([
      datagramLoad(records.socket('log'), { datagrams: 20_000, size: 300 }),
      datagramLoad(records.socket('metric'), { datagrams: 300, size: 200_000, sndbuf: 1 << 20 }),
    ]);
    await records.send('log', numbered('log', logs));
    await records.send('metric', numbered('metric', metrics));
    await records.stored('log', logs + 1);
    await records.stored('metric', metrics + 1);

    assert.equal(run.stderr, quiet, 'not a word about it');
    const synthetic = world.rows(0, "event_type LIKE 'synthetic.%'").map(({ type }) => type.toString());
    assert.deepEqual(synthetic, ['synthetic.startup']);
    assert.equal(
      records.read('metric', (db) => db.prepare('SELECT count(*) FROM series').pluck().get()),
      1n,
    );
    const growth = resident(run) - memory;
    assert.ok(growth < GROWTH_MIB, `${Math.round(growth)} MiB`);
    assert.deepEqual(await run.end(), { code: 0, signal: null });
  },
);

test(
  '[LOG-12, LOG-17, MET-11, MET-29, MET-32, MET-33, MET-34, FAIL-23] 100,000 series and labels of 200 KiB are stored, and cost a bounded memory; a series that comes again is known',
  LIMIT,
  async (t) => {
    const world = EventdWorld.for(t, {
      ...QUIET,
      settings: { ...QUIET.settings, MetricSeriesCacheSize: 20_000 },
    });
    const records = new EventdRecords(world);
    const run = await world.start();
    const quiet = await silence(run);
    const memory = resident(run);
    const SERIES = 100_000;
    const STEP = 20_000;
    // The first ones are out of the cache when they come again.
    for (const [step, at] of [0, 20_000, 40_000, 60_000, 80_000, 0].entries()) {
      for (let series = at; series < at + STEP; series += 500)
        await records.send(
          'metric',
          Array.from({ length: 500 }, (_, i) =>
            gauge('flood', step, { labels: { request: `id-${series + i}`, host: 'a' } }),
          ),
        );
      // Paced by the store: crowding each other out is another matter.
      await records.stored('metric', (step + 1) * STEP);
    }
    const rows = (sql: string) => records.read('metric', (db) => Number(db.prepare(sql).pluck().get()));
    assert.equal(rows('SELECT count(*) FROM series'), SERIES);
    const again = 'SELECT count(*) FROM (SELECT 1 FROM samples GROUP BY series_id HAVING count(*) = 2)';
    assert.equal(rows(again), STEP);

    // Legal, and as large as a datagram can be.
    const label = long(LARGEST - 100);
    for (let i = 0; i < 5; i++)
      await records.send('metric', gauge('big', i, { labels: { l: `${label}${i}` } }));
    for (let i = 0; i < 5; i++) await records.send('log', line(`${label}${i}`));
    await records.stored('metric', SERIES + STEP + 5);
    await records.stored('log', 5);
    const lengths = await records.ask('LOGS TAKE 5');
    assert.ok(
      lengths.every(({ message }) => String(message).length === label.length + 1),
      'nothing is cut',
    );
    const growth = resident(run) - memory;
    assert.ok(growth < GROWTH_MIB, `${Math.round(growth)} MiB`);
    assert.equal(run.stderr, quiet);
    assert.deepEqual(await run.end(), { code: 0, signal: null });
  },
);
