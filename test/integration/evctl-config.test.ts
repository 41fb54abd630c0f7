/** What is in force, told by the running daemon and by `evctl config`; one record for each change that is applied. */
import assert from 'node:assert/strict';
import { readFileSync, renameSync, writeFileSync } from 'node:fs';
import { test } from 'node:test';
import { SETTING_NAMES, settingOf } from '../../src/registry/settings.js';
import { type EventdRun, EventdWorld, eventually } from '../fixtures/eventd.js';
import { EventdRecords, line } from '../fixtures/eventdRecords.js';
import { runProgram } from '../fixtures/runProgram.js';

const LIMIT = { timeout: 60_000 };

interface Row {
  readonly key: string;
  readonly value: unknown;
  readonly source: string;
  readonly applies: string;
  readonly problem: string | null;
  readonly next: unknown;
  readonly from: string;
}

async function config(world: EventdWorld, args: readonly string[] = []) {
  const env = { EVENTD_REGISTRY: world.paths.hive, EVENTD_DEBUG_SOCKET: world.paths.debugSocket };
  const { code, stdout, stderr } = await runProgram('evctl', ['config', ...args], { env }).done;
  return { code, stdout: stdout.toString(), stderr };
}

/** The rows of `-o jsonl`, by key. */
async function rowsOf(world: EventdWorld, args: readonly string[] = []): Promise<ReadonlyMap<string, Row>> {
  const { stdout, code, stderr } = await config(world, ['-o', 'jsonl', ...args]);
  assert.equal(code, 0, stderr);
  const rows = stdout.trimEnd().split('\n');
  return new Map(rows.map((text) => JSON.parse(text) as Row).map((row) => [row.key, row]));
}

const changesOf = (world: EventdWorld) =>
  world.synthetic('synthetic.config_change').map(({ payload }) => payload);

/** What was said about the registry, at warning level. */
const warnings = (run: EventdRun) =>
  run.log().flatMap(({ level, msg }) => (level === 40 ? [String(msg)] : []));

/** Puts a whole hive in place the way editors do. */
function replaceHive(world: EventdWorld, text: string): void {
  const fresh = `${world.paths.hive}~`;
  writeFileSync(fresh, text, { mode: 0o600 });
  renameSync(fresh, world.paths.hive);
}

test(
  '[CFG-3] [CFG-5] [CFG-6] [CFG-71] [LIFE-143] evctl config tells every value in force, its source, and why a value is not taken',
  LIMIT,
  async (t) => {
    const world = EventdWorld.for(t, {
      settings: { MaxBatchSize: 500, QueryTimeoutMs: 5, StorageShards: 1 },
    });
    const before = await rowsOf(world);
    assert.deepEqual([...before.keys()], SETTING_NAMES);
    assert.ok(
      [...before.values()].every(({ from }) => from === 'hive'),
      'nobody runs',
    );
    const run = await world.start();
    await world.set('MaxBatchLatencyMs', '50');
    await eventually('the change applied', () => changesOf(world).length === 1);
    const good = readFileSync(world.paths.hive, 'utf8');
    const wrong = good
      .replace(/^"MaxBatchLatencyMs"=.*$/m, '"MaxBatchLatencyMs"="soon"')
      .replace(
        /^"MaxBatchSize"=.*$/m,
        '"MaxBatchSize"=dword:00000258\n"AdaptiveIndexDropThreshold"=dword:000003e8',
      )
      .replace(/^"StorageShards"=.*$/m, '"StorageShards"=dword:00000002');
    replaceHive(world, wrong);
    await eventually('the valid part applied', () => changesOf(world).length === 2);

    const rows = await rowsOf(world);
    assert.deepEqual([...rows.keys()], SETTING_NAMES);
    const row = (key: string) => {
      const { value, source, problem, next, from } = rows.get(key) ?? assert.fail(key);
      return [value, source, problem, next, from];
    };
    assert.deepEqual(row('MaxBatchSize'), [600, 'hive', null, null, 'eventd']);
    const text = 'found REG_SZ, expected REG_DWORD from 10 to 5000';
    assert.deepEqual(row('MaxBatchLatencyMs'), [50, 'kept', text, null, 'eventd']);
    assert.deepEqual(row('StorageShards'), [1, 'kept', null, 2, 'eventd']);
    assert.deepEqual(row('QueryTimeoutMs').slice(0, 2), [30_000, 'default']);
    assert.match(String(row('QueryTimeoutMs')[2]), /found 5, expected REG_DWORD from 1000 to 300000/);
    assert.deepEqual(row('EventRetentionMaxBytes'), [0, 'default', null, null, 'eventd']);
    for (const key of ['AdaptiveIndexCreateThreshold', 'AdaptiveIndexDropThreshold'])
      assert.match(String(row(key)[2]), /found 1000 with AdaptiveIndexCreateThreshold 100/);
    for (const [key, { applies }] of rows)
      assert.equal(applies, settingOf(key as (typeof SETTING_NAMES)[number]).live ? 'live' : 'restart', key);

    const table = await config(world, ['maxbatchlatencyms', 'StorageShards']);
    assert.match(table.stdout, /^MaxBatchLatencyMs +50 +ms +100 +10\.\.5000 +kept +live\n {2}found REG_SZ/m);
    assert.match(table.stdout, /^StorageShards +1 .* kept +restart\n {2}2 takes effect at the next start$/m);
    // The file by itself: what a start would take now.
    const offline = await config(world, [
      '--registry',
      world.paths.hive,
      'StorageShards',
      'MaxBatchLatencyMs',
    ]);
    assert.match(offline.stdout, /^what a start would take from /);
    assert.match(offline.stdout, /^StorageShards +2 .* hive +restart$/m);
    assert.match(offline.stdout, /^MaxBatchLatencyMs +100 .* default +live$/m);
    assert.equal((await config(world, ['NoSuchKey'])).code, 2);
    await run.end();
  },
);

test(
  '[CFG-4] [CFG-70] [CFG-73] [LIFE-141] [LIFE-142] every live setting is applied at once, with one record each',
  LIMIT,
  async (t) => {
    const world = EventdWorld.for(t);
    const run = await world.start();
    const wanted = new Map<string, number | bigint>();
    for (const key of SETTING_NAMES) {
      const setting = settingOf(key);
      if (!setting.live) continue;
      if (setting.type === 'dword') wanted.set(key, setting.default + 1);
      if (setting.type === 'qword') wanted.set(key, (1n << 63n) + 1n);
    }
    assert.ok(wanted.size > 28);
    world.writeHive(Object.fromEntries(wanted));
    await eventually('all of them recorded', () => changesOf(world).length >= wanted.size);
    const reloads = () => run.messages.filter((fields) => fields.get('RELOADING') === '1').length;
    run.kill('SIGHUP');
    await eventually('a reload that finds nothing', () => reloads() === 1 && run.readyCount === 2);

    const changes = changesOf(world);
    const plain = (value: unknown) => (typeof value === 'bigint' ? value : BigInt(value as number));
    assert.deepEqual(
      changes.map(({ key_name, new_value }) => [key_name, plain(new_value)]).sort(),
      [...wanted].map(([key, value]) => [key, plain(value)]).sort(),
    );
    for (const { key_name, old_value } of changes) {
      const { default: standard } = settingOf(key_name as (typeof SETTING_NAMES)[number]);
      assert.equal(plain(old_value), plain(standard), String(key_name));
    }
    const rows = await rowsOf(world);
    for (const [key, value] of wanted) {
      const row = rows.get(key);
      assert.equal(BigInt(Math.trunc(Number(row?.value))), BigInt(Math.trunc(Number(value))), key);
      assert.equal(row?.source, 'hive', key);
    }
    // All at once back to the defaults, by taking them out.
    world.writeHive();
    await eventually('all of them back', () => changesOf(world).length >= 2 * wanted.size);
    assert.equal((await rowsOf(world)).get('EventRetentionMaxBytes')?.source, 'default');
    await run.end();
    assert.equal(changesOf(world).length, 2 * wanted.size);
  },
);

test(
  '[FAIL-25] [FAIL-27] [HOST-47] [HOST-59] a mistake in the hive is told by line and column, what was good stays, and the mended file is applied once',
  LIMIT,
  async (t) => {
    const world = EventdWorld.for(t, { cpus: 1, settings: { MaxBatchSize: 500 } });
    const run = await world.start();
    const good = readFileSync(world.paths.hive, 'utf8');
    const bad = good.replace('"MaxBatchSize"=dword:000001f4', '"MaxBatchSize"=dword:1f4');
    const at = bad.slice(0, bad.indexOf('dword:1f4')).split('\n');
    const place = `${world.paths.hive}:${at.length}:${(at.at(-1)?.length ?? 0) + 1 + 'dword:'.length}`;
    replaceHive(world, bad);
    await eventually('the mistake told', () => warnings(run).some((text) => text.includes(place)));
    assert.match(
      warnings(run).join('\n'),
      /last known values stay in force: .*expected 8 hex digits, found 3/,
    );

    const { stdout } = await config(world);
    assert.ok(stdout.startsWith(`eventd keeps what it read last: ${place}`), stdout.slice(0, 200));
    assert.match(stdout, /^MaxBatchSize +500 .* hive/m);
    const offline = await config(world, ['--registry', world.paths.hive]);
    assert.equal(offline.code, 1);
    assert.ok(offline.stderr.includes(place), offline.stderr);
    // A reload on request finds the same, keeps the same, and is still answered.
    run.kill('SIGHUP');
    await eventually('the reload answered', () => run.readyCount === 2);
    world.emitMany(0, 100);
    await world.stored(0);

    replaceHive(world, good.replace('dword:000001f4', 'dword:00000258'));
    await eventually('the change recorded', () => changesOf(world).length === 1);
    assert.deepEqual(changesOf(world), [{ key_name: 'MaxBatchSize', old_value: 500, new_value: 600 }]);
    assert.ok(warnings(run).includes('registry available again'));
    assert.equal(warnings(run).filter((text) => text.includes('stay in force')).length, 1, 'told once');
    const [note] = (await config(world, ['MaxBatchSize'])).stdout.split('\n');
    assert.equal(note, `eventd reads ${world.paths.hive}`, 'and no more of the mistake');
    await run.end();
    assert.equal(changesOf(world).length, 1);
  },
);

test(
  '[HOST-15] [LIFE-115] [LIFE-116] [LIFE-117] all sockets are there and take data before READY=1',
  LIMIT,
  async (t) => {
    const world = EventdWorld.for(t, { cpus: 1 });
    const records = new EventdRecords(world);
    await (await world.start()).end();
    const release = world.lock(0);
    const run = world.spawn();
    const asked = eventually('the query socket', () => world.query('EVENTS TAKE 1').catch(() => null));
    await eventually('the log socket', () => {
      try {
        return records.offer('log', Buffer.from([0x80])) && records.offer('metric', Buffer.from([0x80]));
      } catch {
        return false;
      }
    });
    await records.send('log', line('early'));
    assert.equal(run.readyCount, 0, 'the startup record cannot be stored yet');
    release();
    await run.ready;
    assert.equal((await asked).length, 1);
    await records.stored('log', 1);
    await run.end();
  },
);

test(
  '[CFG-89] [CFG-90] error flags compare as booleans and as integers; every store says version 1',
  LIMIT,
  async (t) => {
    const world = EventdWorld.for(t, { cpus: 1 });
    const records = new EventdRecords(world);
    const run = await world.start();
    await records.send('log', [line('fine'), line('bad', { is_error: true })]);
    await records.stored('log', 2);
    for (const [condition, wanted] of [
      ['is_error == true', 'bad'],
      ['is_error == 1', 'bad'],
      ['is_error != 0', 'bad'],
      ['is_error == false', 'fine'],
      ['is_error == 0', 'fine'],
    ] as const) {
      const found = await records.ask(`LOGS WHERE ${condition}`);
      assert.deepEqual(
        found.map(({ message, is_error }) => [message, is_error]),
        [[wanted, wanted === 'bad']],
        condition,
      );
    }
    assert.deepEqual(await records.ask('LOGS ERROR ONLY'), await records.ask('LOGS WHERE is_error == true'));
    assert.equal(records.logs("message = 'bad'")[0]?.is_error, 1n, 'stored as an integer');
    const version = "SELECT value FROM metadata WHERE key = 'schema_version'";
    assert.equal(
      world.read(0, (db) => db.prepare(version).pluck().get()),
      '1',
    );
    for (const store of ['log', 'metric'] as const)
      assert.equal(
        records.read(store, (db) => db.prepare(version).pluck().get()),
        '1',
        store,
      );
    await run.end();
  },
);
