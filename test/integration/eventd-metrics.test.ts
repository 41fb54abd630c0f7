/** Samples through the whole program: socket in, series and samples in the store, METRIC out. */
import assert from 'node:assert/strict';
import { statSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { setImmediate as turn } from 'node:timers/promises';
import { EventdWorld, eventually } from '../fixtures/eventd.js';
import { EventdRecords, gauge, numbered, numbersOf, silence } from '../fixtures/eventdRecords.js';
import { runProgram } from '../fixtures/runProgram.js';

const LIMIT = { timeout: 90_000 };
const QUIET = { cpus: 1, settings: { HealthMetricIntervalSeconds: 0 } } as const;

const STAMP = 1_700_000_000_000_000_000n;

test(
  '[MET-1, MET-2, MET-5, MET-6, MET-7, MET-8, MET-13, MET-15, MET-17, MET-18, MET-38, MET-39, MET-45, MET-53, MET-54, LIFE-106, LIFE-117, LIFE-122] samples of every kind are found by METRIC as they were sent, in a file made with its directories; eventd itself collects nothing',
  LIMIT,
  async (t) => {
    const world = EventdWorld.for(t, QUIET);
    const metrics = join(world.dir, 'deep', 'er', 'figures.db');
    world.writeHive({ MetricStorePath: metrics });
    const run = await world.start();
    const records = new EventdRecords(world, { log: world.paths.logs, metric: metrics });
    assert.equal(statSync(metrics).mode & 0o777, 0o600);
    const buckets = { boundaries: [0.1, 0.5], counts: [3, 9], total_count: 10, sum: 2.5 };
    await records.send(
      'metric',
      gauge('room.temperature', -3, { labels: { room: 'attic' }, timestamp: STAMP }),
    );
    await records.send('metric', [
      gauge('room.temperature', 21.5, { labels: { room: 'kitchen', floor: '1' }, timestamp: STAMP }),
      gauge('room.temperature', 20, { labels: { room: 'kitchen', floor: '1' }, timestamp: STAMP - 5n }),
      { name: 'requests.total', type: 'counter', value: 1042, timestamp: STAMP },
      { name: 'latency', type: 'histogram', value: buckets, timestamp: STAMP },
    ]);
    await records.stored('metric', 5);
    const kitchen = { name: 'room.temperature', room: 'kitchen', floor: '1' };
    assert.deepEqual(await records.ask('METRIC room.temperature[room="kitchen"] SINCE 200000h ago'), [
      { ...kitchen, timestamp: STAMP - 5n, value: 20 },
      { ...kitchen, timestamp: STAMP, value: 21.5 },
    ]);
    assert.deepEqual(await records.ask('METRIC requests.total[]'), [
      { timestamp: STAMP, name: 'requests.total', value: 1042 },
    ]);
    const [latency] = await records.ask('METRIC latency[]');
    assert.deepEqual(latency?.value, {
      boundaries: [0.1, 0.5],
      counts: [3, 9],
      total_count: 10,
      sum: 2.5,
    });
    // And from the command line.
    const env = { EVENTD_METRIC_SOCKET: world.paths.metricSocket, EVENTD_SOCKET: world.paths.querySocket };
    const sent = await runProgram('evctl', ['metric', 'room.temperature', '18', 'room=cellar'], { env }).done;
    assert.equal(sent.code, 0, sent.stderr);
    await records.stored('metric', 6);
    const shown = await runProgram('evctl', ['-o', 'jsonl', 'METRIC room.temperature[] WHERE value < 20'], {
      env,
    }).done;
    const lines = shown.stdout.toString().trimEnd().split('\n');
    assert.deepEqual(
      lines.map((text) => (JSON.parse(text) as { room: string }).room).sort(),
      ['attic', 'cellar'],
      shown.stderr,
    );
    assert.equal(records.count('metric'), records.samples().length, 'nothing but what was sent');
    assert.deepEqual(await run.end(), { code: 0, signal: null });
  },
);

test(
  '[MET-4, MET-9, MET-10, MET-12, MET-19, MET-26, MET-35] what a series cannot take goes in silence; changed bounds are a new series; a gap in the values is nobody’s error',
  LIMIT,
  async (t) => {
    const world = EventdWorld.for(t, QUIET);
    const records = new EventdRecords(world);
    const run = await world.start();
    const before = await silence(run);
    const bounds = (...boundaries: number[]) => ({
      name: 'latency',
      type: 'histogram',
      value: { boundaries, counts: boundaries.map(() => 1), total_count: 1, sum: 0.5 },
    });
    await records.send('metric', [gauge('load', 1), { name: 'load', type: 'counter', value: 2 }]);
    await records.send('metric', { name: 'load', type: 'counter', value: 3 });
    await records.send('metric', gauge('load', 4, { labels: { a: 'b,c' } }));
    await records.send('metric', gauge('load', 5, { labels: { '': 'x' } }));
    await records.send('metric', { ...gauge('load', 6), value: [6, 7] });
    await records.send('metric', [bounds(1, 2), bounds(1, 2, 3), bounds(2, 1), bounds(1, 2)]);
    await records.send('metric', gauge('load', 8));
    await records.stored('metric', 5);
    assert.deepEqual(
      records.samples("name = 'load'").map(({ value }) => value),
      [1, 8],
    );
    assert.equal(
      records.read('metric', (db) => db.prepare('SELECT count(*) FROM series').pluck().get()),
      3n,
    );
    assert.equal(run.stderr, before, 'not a word');
    assert.deepEqual(world.gaps(), []);
    assert.deepEqual(records.errors('metric'), []);
  },
);

test(
  '[LIFE-220, LIFE-221, LIFE-222, MET-28, MET-32, MET-42, MET-47, MET-55] after kill -9 the committed samples are there, and known series go on under their ids, none twice',
  LIMIT,
  async (t) => {
    const world = EventdWorld.for(t, QUIET);
    const records = new EventdRecords(world);
    const first = await world.start();
    const datagram = (at: number) =>
      Array.from({ length: 50 }, (_, i) => gauge('n', at + i, { labels: { lane: String(i) } }));
    let sent = 0;
    let killed = false;
    const flow = (async () => {
      for (; !killed; sent += 50)
        try {
          await records.send('metric', datagram(sent));
          await turn();
        } catch (error) {
          assert.equal((error as NodeJS.ErrnoException).code, 'ECONNREFUSED');
          return;
        }
    })();
    const committed = await eventually('some commits', () => {
      const numbers = numbersOf(records.samples());
      return numbers.length > 1000 && numbers;
    });
    await first.end('SIGKILL');
    killed = true;
    await flow;
    const run = await world.start();
    // What was decoded together is committed by series, so a kill in between keeps some series further than others.
    const kept = numbersOf(records.samples());
    const distinct = new Set(kept);
    assert.equal(distinct.size, kept.length, 'none twice');
    assert.ok(kept.every((number) => number >= 0 && number < sent));
    for (let lane = 0; lane < 50; lane++) {
      const own = kept.filter((number) => number % 50 === lane);
      assert.deepEqual(
        own,
        own.map((_, i) => lane + 50 * i),
        `lane ${lane} has no hole and keeps its order`,
      );
    }
    assert.deepEqual(
      committed.filter((number) => !distinct.has(number)),
      [],
    );
    await records.send('metric', [...datagram(sent), numbered('metric', -1)]);
    await records.stored('metric', kept.length + 51);
    const series = 'SELECT count(*) AS rows, count(DISTINCT name || labels) AS distinct_rows FROM series';
    assert.deepEqual(
      records.read('metric', (db) => db.prepare(series).get()),
      { rows: 51n, distinct_rows: 51n },
    );
    assert.deepEqual(await run.end(), { code: 0, signal: null });
  },
);
