/** eventd's own health among the metrics: that it comes, how often, and that every figure is true. */
import assert from 'node:assert/strict';
import { readFileSync, statSync } from 'node:fs';
import { connect } from 'node:net';
import { join } from 'node:path';
import { test } from 'node:test';
import { setTimeout as pause } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { datagramLoad } from '../fixtures/dgramload.js';
import { EventdWorld, eventually } from '../fixtures/eventd.js';
import { EventdRecords, line } from '../fixtures/eventdRecords.js';

const LIMIT = { timeout: 90_000 };

interface Buckets {
  readonly boundaries: readonly number[];
  readonly counts: readonly bigint[];
  readonly total_count: bigint;
  readonly sum: number;
}

/** The latest value of a series of eventd's; labels as METRIC takes them. */
async function latest(records: EventdRecords, name: string, labels = ''): Promise<number> {
  const [record, ...others] = await records.ask(`METRIC ${name}[${labels}]`);
  assert.equal(others.length, 0, `${name}[${labels}] is one series`);
  return record === undefined ? Number.NaN : Number(record.value);
}

async function buckets(records: EventdRecords, name: string, labels: string): Promise<Buckets> {
  const [record] = await records.ask(`METRIC ${name}[${labels}]`);
  return record?.value as Buckets;
}

test(
  '[CFG-3, CFG-73, LIFE-141, LIFE-144] eventd’s own figures come every HealthMetricIntervalSeconds; what they say of stores, rings, queries and commits is true',
  LIMIT,
  async (t) => {
    const world = EventdWorld.for(t, {
      cpus: 2,
      settings: { HealthMetricIntervalSeconds: 1, StorageShards: 2 },
    });
    const records = new EventdRecords(world);
    const run = await world.start();
    world.emitMany(0, 700);
    world.emitMany(1, 300);
    for (const cpu of [0, 1]) await world.stored(cpu);
    await records.sendNumbered('log', 0, 1500, 100);
    await records.stored('log', 1500);
    await records.sendNumbered('metric', 0, 400, 100);
    await records.stored('metric', 400);

    const is = (name: string, labels: string, value: (now: number) => boolean) =>
      eventually(`${name}[${labels}]`, async () => value(await latest(records, name, labels)));
    await is('eventd.stored.total', 'store="log"', (now) => now === 1500);
    await is('eventd.stored.total', 'store="metric"', (now) => now >= 400);
    // The startup record is in shard 0.
    await is('eventd.stored.total', 'store="event", shard="0"', (now) => now === 701);
    await is('eventd.stored.total', 'store="event", shard="1"', (now) => now === 300);
    await is('eventd.ring.events.total', 'cpu="0"', (now) => now === 700);
    await is('eventd.ring.events.total', 'cpu="1"', (now) => now === 300);
    await is('eventd.datagrams.received.total', 'store="log"', (now) => now === 15);
    await is('eventd.datagrams.dropped.total', 'store="log"', (now) => now === 0);
    for (const name of ['eventd.events.lost.total', 'eventd.gaps.total'])
      assert.equal(await latest(records, name, 'cpu="0"'), 0);
    assert.ok((await latest(records, 'eventd.ring.fill', 'cpu="0"')) < 0.01);
    assert.equal(await latest(records, 'eventd.recoveries.total'), 0);

    const seconds = await buckets(records, 'eventd.commit.seconds', 'store="log"');
    const sizes = await buckets(records, 'eventd.commit.rows', 'store="log"');
    assert.equal(sizes.sum, 1500, 'the sizes of all commits');
    assert.equal(sizes.total_count, seconds.total_count);
    assert.ok(seconds.sum > 0 && seconds.sum < 60);
    for (const { boundaries, counts, total_count } of [seconds, sizes]) {
      assert.equal(boundaries.length, counts.length);
      assert.ok(counts.every((count, i) => count >= (counts[i - 1] ?? 0n) && count <= total_count));
    }

    // Sizes of files as they are; nobody writes logs now.
    await is('eventd.store.bytes', 'store="log"', (now) => now === statSync(world.paths.logs).size);
    await is('eventd.wal.bytes', 'store="log"', (now) => now === statSync(`${world.paths.logs}-wal`).size);
    const shard = join(world.events, 'shard-0001.db');
    await is('eventd.store.bytes', 'store="event", shard="1"', (now) => now === statSync(shard).size);
    await is('eventd.wal.bytes', 'store="event", shard="1"', (now) => now === statSync(`${shard}-wal`).size);
    const pages = /^VmRSS:\s+(\d+) kB$/m.exec(readFileSync(`/proc/${run.pid}/status`, 'latin1'));
    const resident = Number(pages?.[1]) * 1024;
    const told = await latest(records, 'eventd.memory.bytes');
    assert.ok(told > resident / 2 && told < resident * 2, `${told} of ${resident}`);

    const delivered = await latest(records, 'eventd.queries.delivered.total');
    await is('eventd.queries.delivered.total', '', (now) => now > delivered);
    await assert.rejects(world.query('EVENTS WHERE'));
    await is('eventd.queries.refused.total', '', (now) => now === 1);

    // A client that asks nothing; the test looks into the store, so as not to be counted itself.
    const client = connect(world.paths.querySocket);
    t.after(() => client.destroy());
    const newest = (name: string) => records.samples(`name = '${name}'`).at(-1)?.value;
    await eventually('one connection', () => newest('eventd.queries.connections') === 1);
    await eventually('no query', () => newest('eventd.queries.running') === 0);

    // A second apart, and older than the query that finds them.
    const times = await eventually('three rounds', async () => {
      const found = await records.ask('METRIC eventd.uptime.seconds[] SINCE 1h ago');
      return (
        found.length >= 3 &&
        found.map(({ timestamp, value }) => [Number(timestamp) / 1e6, Number(value)] as const)
      );
    });
    times.slice(1).forEach(([at, up], i) => {
      const [lastAt, lastUp] = times[i] ?? [0, 0];
      assert.ok(at - lastAt > 500 && at - lastAt < 5000, `${at - lastAt} ms apart`);
      assert.ok(Math.abs(at - lastAt - (up - lastUp) * 1000) < 1000, 'the uptime goes with the time');
    });

    // What retention has measured is known after its first sweep, which a new limit starts.
    await world.set('LogRetentionDays', '13');
    await eventually('a sweep', () => Number(newest('eventd.retention.used.bytes')) > 0);

    // Every series has its line in the document, and nothing else has.
    const stored = new Set(
      records.read(
        'metric',
        (db) => db.prepare("SELECT name FROM series WHERE name LIKE 'eventd.%'").pluck().all() as string[],
      ),
    );
    const text = readFileSync(
      fileURLToPath(new URL('../../../docs/health-metrics.md', import.meta.url)),
      'utf8',
    );
    const documented = new Set([...text.matchAll(/^\| `(eventd\.[a-z.]+)` \|/gm)].map(([, name]) => name));
    assert.deepEqual([...documented].sort(), [...stored].sort());
  },
);

test(
  '[CFG-3, CFG-73, LIFE-141, LIFE-142, LOG-3] 0 turns the figures off, a change applies at once; a flood behind a locked store is counted as dropped',
  LIMIT,
  async (t) => {
    const world = EventdWorld.for(t, { cpus: 1, settings: { HealthMetricIntervalSeconds: 0 } });
    const records = new EventdRecords(world);
    await world.start();
    await pause(1200);
    const own = () => records.samples("name = 'eventd.uptime.seconds'").length;
    assert.equal(own(), 0);
    const unlock = records.lock('log');
    t.after(unlock);
    const { datagrams } = await datagramLoad(records.socket('log'), { datagrams: 15_000, message: 1000 });
    unlock();
    await records.send('log', line('end'));
    await eventually('the last line', () => records.logs("message = 'end'").length === 1);
    const kept = records.count('log');
    assert.ok(kept < datagrams, 'more than the buffer holds');

    await world.set('HealthMetricIntervalSeconds', '1');
    await eventually('figures', () => own() >= 1);
    const dropped = await latest(records, 'eventd.datagrams.dropped.total', 'store="log"');
    assert.equal(dropped + kept, datagrams + 1);
    assert.equal(await latest(records, 'eventd.datagrams.received.total', 'store="log"'), datagrams + 1);
    assert.equal(await latest(records, 'eventd.records.lost.total', 'store="log"'), 0);

    await world.set('HealthMetricIntervalSeconds', '0');
    await eventually('both changes', () => world.synthetic('synthetic.config_change').length === 2);
    // One that was under way may still come.
    await pause(300);
    const last = own();
    await pause(1200);
    assert.equal(own(), last);
  },
);
