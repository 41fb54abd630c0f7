/**
 * The log and the metric store of the real eventd when their files are no good: unknown, damaged, full,
 * gone. Each costs what it must, is said once, and slows nobody down.
 */
import assert from 'node:assert/strict';
import { closeSync, existsSync, openSync, readdirSync, readFileSync, rmSync, writeSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { test } from 'node:test';
import Database from 'better-sqlite3';
import { datagramLoad } from '../fixtures/dgramload.js';
import { smallDisk } from '../fixtures/disks.js';
import { type EventdRun, EventdWorld, eventually } from '../fixtures/eventd.js';
import { EventdRecords, gauge, line, STORES, type Store, saidBy } from '../fixtures/eventdRecords.js';

const LIMIT = { timeout: 120_000 };
const SETTINGS = { cpus: 1, settings: { HealthMetricIntervalSeconds: 0 } } as const;

/** A blocking sender: none of its sends may take anywhere near as long as a commit that fails. */
async function flood(records: EventdRecords, store: Store, datagrams: number): Promise<void> {
  const kind = store === 'log' ? 'log' : 'gauge';
  const { maxus } = await datagramLoad(records.socket(store), { kind, datagrams });
  assert.ok(maxus < 2_000_000, `a sender of the ${store} store waited ${maxus} µs`);
}

/** One log line and one storage error about each store. */
async function saidOnce(records: EventdRecords, run: EventdRun, text: (store: Store) => RegExp, times = 1) {
  for (const store of STORES) {
    const errors = await eventually(`a storage error of the ${store} store`, () => {
      const found = records.errors(store);
      return found.length >= times && found;
    });
    assert.equal(errors.length, times, `storage errors of the ${store} store`);
    assert.ok(errors.every(({ shard_index }) => shard_index === null));
    const lines = () => saidBy(run).filter((said) => text(store).test(said)).length;
    await eventually(`a line about the ${store} store`, () => lines() >= times);
    assert.equal(lines(), times, `${store}: ${saidBy(run).join('\n')}`);
  }
}

test(
  '[FAIL-21, LOG-36, LOG-41, LOG-47, LOG-11, MET-55, MET-44, LIFE-131] stores of an unknown version stay untouched byte by byte and readable, records are dropped, senders go on, one storage error each',
  LIMIT,
  async (t) => {
    const world = EventdWorld.for(t, SETTINGS);
    const records = new EventdRecords(world);
    const first = await world.start();
    await records.send('log', line('old'));
    await records.send('metric', gauge('old', 1));
    for (const store of STORES) await records.stored(store, 1);
    await first.end();
    for (const store of STORES)
      records.change(
        store,
        "UPDATE metadata SET value = '7' WHERE key = 'schema_version'",
        'PRAGMA journal_mode = DELETE',
      );
    const before = STORES.map((store) => readFileSync(records.file(store)));

    const run = await world.start();
    for (const store of STORES) await flood(records, store, 3000);
    await saidOnce(
      records,
      run,
      (store) => new RegExp(`^${store} records are dropped: .*version '7' is unknown`),
    );
    assert.deepEqual(
      (await records.ask('LOGS')).map(({ message }) => message),
      ['old'],
    );
    assert.deepEqual(
      (await records.ask('METRIC old[]')).map(({ value }) => value),
      [1],
    );
    world.emit(0, 'test.event');
    await world.stored(0);
    run.kill('SIGQUIT');
    assert.deepEqual(await run.exited, { code: 0, signal: null });
    assert.match(run.stderr, /log writer.* discarding/);
    STORES.forEach((store, i) => {
      assert.deepEqual(readFileSync(records.file(store)), before[i], store);
    });
    assert.deepEqual(
      readdirSync(dirname(world.paths.logs)).filter(
        (name) => /\.db.+/.test(name) && /^(logs|metrics)/.test(name),
      ),
      [],
    );
  },
);

test(
  '[FAIL-12, FAIL-13, FAIL-18, FAIL-19, LOG-41, LOG-47, MET-55] damaged at start and damaged again while running: renamed each time, fresh files take over, one storage error each, old records are still found, senders go on',
  LIMIT,
  async (t) => {
    const world = EventdWorld.for(t, SETTINGS);
    const records = new EventdRecords(world);
    const before = await world.start();
    await records.send('log', line('first'));
    await records.send('metric', gauge('steady', 1));
    for (const store of STORES) await records.stored(store, 1);
    await before.end();
    records.change('log', 'DROP INDEX idx_logs_origin');
    records.change('metric', 'DROP INDEX idx_series_label_hash');

    const run = await world.start();
    await saidOnce(
      records,
      run,
      (store) => new RegExp(`/${store}s\\.db was replaced: .*index idx_\\w+ is missing`),
    );
    await records.send('log', line('second'));
    await records.send('metric', gauge('steady', 2));
    for (const store of STORES) await records.stored(store, 1);

    // Pages that only a write meets: reading by time, and by name, goes another way.
    const indexes = { log: 'idx_logs_origin', metric: 'idx_series_label_hash' };
    for (const store of STORES) {
      const db = new Database(records.file(store));
      db.pragma('wal_checkpoint(TRUNCATE)');
      const root = db
        .prepare('SELECT rootpage FROM sqlite_master WHERE name = ?')
        .pluck()
        .get(indexes[store]);
      const size = Number(db.pragma('page_size', { simple: true }));
      const fd = openSync(records.file(store), 'r+');
      writeSync(fd, Buffer.alloc(size, 0xee), 0, size, (Number(root) - 1) * size);
      closeSync(fd);
      // The writer has the good page in its cache until somebody else has written.
      db.exec("INSERT INTO metadata VALUES ('touched', 'yes')");
      db.close();
    }
    await records.send('log', line('lost'));
    await records.send('metric', gauge('lost', 3));
    const aside = (store: Store) =>
      readdirSync(dirname(world.paths.logs)).filter((name) =>
        new RegExp(`^${store}s\\.corrupt-[-0-9TZ]+\\.db$`).test(name),
      ).length;
    for (const store of STORES) await eventually(`a second ${store} file aside`, () => aside(store) === 2);
    await flood(records, 'log', 500);
    await records.send('metric', gauge('steady', 4));
    await records.stored('log', 500);
    await records.stored('metric', 1);
    await saidOnce(records, run, (store) => new RegExp(`/${store}s\\.db was replaced: `), 2);
    assert.deepEqual(
      (await records.ask('LOGS WHERE origin == "svc" SORT timestamp ASC')).map(({ message }) => message),
      ['first', 'second'],
    );
    assert.deepEqual(
      (await records.ask('METRIC steady[] SINCE 1h ago')).map(({ value }) => value),
      [1, 2, 4],
    );
    assert.deepEqual(await run.end(), { code: 0, signal: null });
    const last = await world.start();
    for (const store of STORES)
      assert.equal(records.errors(store).length, 2, 'the next start has no complaint');
    assert.deepEqual(saidBy(last), []);
  },
);

test(
  '[FAIL-10, FAIL-11, LOG-46, LOG-47, LOG-11, MET-43, MET-44, FAIL-31] a full disk costs batches: no sender waits, one line and one storage error per episode, and it goes on by itself',
  LIMIT,
  async (t) => {
    const disk = smallDisk(t);
    const world = EventdWorld.for(t, {
      cpus: 1,
      settings: {
        HealthMetricIntervalSeconds: 0,
        LogStorePath: join(disk.directory, 'logs.db'),
        MetricStorePath: join(disk.directory, 'metrics.db'),
      },
    });
    const records = new EventdRecords(world, {
      log: join(disk.directory, 'logs.db'),
      metric: join(disk.directory, 'metrics.db'),
    });
    const run = await world.start(disk.env);
    const recovered = () => run.log().filter(({ msg }) => /store works again$/.test(String(msg)));
    for (const episode of [1, 2]) {
      disk.fill();
      for (let round = 0; round < 4; round++) for (const store of STORES) await flood(records, store, 2000);
      await saidOnce(records, run, (store) => new RegExp(`^the ${store} store cannot be written: `), episode);
      // Nobody else notices.
      world.emit(0, 'test.event');
      await world.stored(0);
      disk.free();
      await eventually('both stores to work again', async () => {
        for (const store of STORES)
          await records.send(store, store === 'log' ? line(`mark ${episode}`) : gauge('mark', episode));
        return recovered().length === 2 * episode;
      });
      assert.ok(recovered().every(({ lost }) => Number(lost) > 0));
      await eventually('a line of after it', () => records.logs(`message = 'mark ${episode}'`).length > 0);
      await eventually(
        'a sample of after it',
        () => records.samples(`value = ${episode} AND name = 'mark'`).length > 0,
      );
      await saidOnce(records, run, (store) => new RegExp(`^the ${store} store cannot be written: `), episode);
    }
    assert.equal(run.readyCount, 1);
    assert.deepEqual(await run.end(), { code: 0, signal: null });
  },
);

test(
  '[LOG-39, LOG-44, LOG-47, MET-53, FAIL-11, FAIL-19] files and directory deleted under a running eventd are made anew, with one storage error each, in the same process',
  LIMIT,
  async (t) => {
    const world = EventdWorld.for(t, SETTINGS);
    const place = join(world.dir, 'stores');
    const files = { log: join(place, 'logs.db'), metric: join(place, 'metrics.db') };
    world.writeHive({ LogStorePath: files.log, MetricStorePath: files.metric });
    const records = new EventdRecords(world, files);
    const run = await world.start();
    await records.send('log', line('old'));
    await records.send('metric', gauge('old', 1));
    for (const store of STORES) await records.stored(store, 1);
    rmSync(dirname(files.log), { recursive: true });
    await records.send('log', line('new'));
    await records.send('metric', gauge('new', 2));
    await eventually('new files', () => STORES.every((store) => existsSync(files[store])));
    for (const store of STORES) await records.stored(store, 1);
    await saidOnce(records, run, (store) => new RegExp(`/${store}s\\.db was replaced: .*deleted`));
    assert.deepEqual(
      (await records.ask('LOGS')).map(({ message }) => message),
      ['new'],
    );
    assert.deepEqual(
      (await records.ask('METRIC new[]')).map(({ value }) => value),
      [2],
    );
    assert.equal(run.readyCount, 1);
  },
);
