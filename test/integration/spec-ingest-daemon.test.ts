/** The running daemon: its threads, its shards, its synthetic events (ING parts 1 to 3, 6 to 8, 11). */
import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { readdirSync, readFileSync, readlinkSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { decode, encode } from '@msgpack/msgpack';
import Database from 'better-sqlite3';
import { parseGuid } from '../../src/host/guid.js';
import { native } from '../../src/native/addon.js';
import { BOOT_A, EventdWorld, eventually, type StoredRow } from '../fixtures/eventd.js';

/** Bytes a thread has written so far, with whatever system call. */
function bytesWritten(pid: number, tid: string): number {
  const io = readFileSync(`/proc/${pid}/task/${tid}/io`, 'utf8');
  return Number(/^wchar: (\d+)/m.exec(io)?.[1]);
}

/** Descriptors of a process that may write to the file. */
function writableDescriptors(pid: number, path: string): number {
  return readdirSync(`/proc/${pid}/fd`).filter((fd) => {
    try {
      if (readlinkSync(`/proc/${pid}/fd/${fd}`) !== path) return false;
      const flags = /^flags:\s+(\d+)/m.exec(readFileSync(`/proc/${pid}/fdinfo/${fd}`, 'utf8'))?.[1] ?? '0';
      return (Number.parseInt(flags, 8) & 3) !== 0;
    } catch {
      return false;
    }
  }).length;
}

test('[LIFE-114] [LIFE-120] [ING-1] [ING-28] [ING-39] [ING-40] [ING-41] [STO-30] one thread and one connection write each shard, and no other thread does', {
  timeout: 30_000,
}, async (t) => {
  const shards = 3;
  const world = EventdWorld.for(t, { cpus: 2, settings: { StorageShards: shards } });
  const run = await world.start();
  const tasks = () => readdirSync(`/proc/${run.pid}/task`);
  const before = new Map(tasks().map((tid) => [tid, bytesWritten(run.pid, tid)]));
  for (const cpu of [0, 1]) {
    world.emitMany(cpu, 2000, 300);
    await world.stored(cpu);
  }
  const wrote = tasks().map((tid) => bytesWritten(run.pid, tid) - (before.get(tid) ?? 0));
  const busy = wrote.filter((bytes) => bytes > 200_000);
  assert.equal(busy.length, shards, `bytes written per thread: ${wrote.join(' ')}`);
  assert.ok(Math.max(...wrote.filter((bytes) => bytes <= 200_000)) < 50_000);
  for (const file of world.shardFiles()) {
    const path = join(world.events, file);
    assert.equal(writableDescriptors(run.pid, path), 1, file);
    assert.equal(writableDescriptors(run.pid, `${path}-wal`), 1, `${file}-wal`);
  }
  assert.deepEqual(world.sequences(0).length, 2000);
  assert.deepEqual(world.sequences(1).length, 2000);
  assert.deepEqual(
    world.shardFiles().map((file) => world.rows(file, 'cpu_id IS NOT NULL').length),
    [1000, 2000, 1000],
    'CPU 0 feeds shards 0 and 2 in turn, CPU 1 shard 1',
  );
});

test('[ING-3] a shard that cannot commit holds up no other', { timeout: 30_000 }, async (t) => {
  const world = EventdWorld.for(t, { cpus: 2, settings: { StorageShards: 2 } });
  await world.start();
  const lock = new Database(join(world.events, 'shard-0000.db'), { timeout: 2000 });
  t.after(() => lock.close());
  lock.exec('BEGIN IMMEDIATE');
  world.emitMany(0, 500);
  for (let round = 0; round < 5; round++) {
    world.emitMany(1, 200);
    await world.stored(1);
  }
  assert.deepEqual(world.sequences(0), []);
  lock.exec('ROLLBACK');
  await world.stored(0);
  assert.equal(world.sequences(0).length, 500);
  assert.deepEqual(world.gaps(), []);
});

const HEADER_COLUMNS = [
  'cpu_id',
  'sequence',
  'origin_class',
  'effective_token_guid',
  'true_token_guid',
  'process_guid',
] as const;

function assertSyntheticColumns(row: StoredRow): void {
  for (const column of HEADER_COLUMNS) assert.equal(row[column], null, `${row.type.toString()}.${column}`);
  assert.equal(row.boot_id.equals(parseGuid(BOOT_A)), true);
  const payload = decode(row.payload ?? new Uint8Array(), { useBigInt64: true });
  assert.equal(Object.getPrototypeOf(payload), Object.prototype, 'the payload is a map');
}

/** Drops one event of a CPU: a number that only a gap record can explain. */
function lose(world: EventdWorld, cpu: number): bigint {
  assert.throws(() => world.emit(cpu, new Uint8Array(0)));
  return world.sequence(cpu);
}

test('[ING-24] [ING-26] [ING-27] [ING-67] [ING-68] [ING-70] [ING-71] [ING-72] [ING-75] [ING-76] [ING-77] [STO-4] [STO-5] [CFG-86] the five synthetic events, each in its shard with its columns', {
  timeout: 40_000,
}, async (t) => {
  const world = EventdWorld.for(t, { cpus: 3, settings: { StorageShards: 3 } });
  const began = BigInt(Date.now()) * 1_000_000n;
  const first = await world.start();

  // A gap on CPU 1, seen while its ring counts nothing but real events.
  world.emit(1, 'test.before');
  await world.stored(1);
  const lost = lose(world, 1);
  const atLoss = BigInt(Date.now()) * 1_000_000n;
  world.emit(1, 'test.revealing');
  const emitted = world.sequence(1);
  await world.stored(1);
  const [gap] = world.gaps();
  assert.ok(gap !== undefined && world.gaps().length === 1);
  assert.equal(gap.shard, 'shard-0001.db');
  assert.deepEqual([gap.cpu, gap.first, gap.last], [1, lost, lost]);
  assert.equal(world.sequence(1), emitted, 'the record did not go through KMES');
  const [row] = world.rows(gap.shard, "event_type = 'synthetic.gap'");
  assert.ok(row !== undefined);
  assertSyntheticColumns(row);
  assert.ok(row.timestamp >= atLoss, 'stamped when eventd noticed');
  const found = await world.query('EVENTS synthetic.gap WHERE cpu_id == 1');
  assert.deepEqual(
    found.map((record) => [record.get('event_type'), record.get('first_missing')]),
    [['synthetic.gap', lost]],
  );
  assert.deepEqual(await world.query('EVENTS synthetic.gap WHERE cpu_id == 0'), []);

  await world.set('MaxBatchLatencyMs', '200');
  await eventually('the change is recorded', () => world.synthetic('synthetic.config_change').length === 1);

  // Shard 2 takes nothing more: its error is told by another shard.
  world.change(2, (db) =>
    db.exec(`CREATE TRIGGER trap BEFORE INSERT ON events BEGIN SELECT RAISE(ABORT, 'trap'); END`),
  );
  world.emit(2, 'test.unlucky');
  await eventually('the error is recorded', () => world.synthetic('synthetic.storage_error').length > 0);
  world.change(2, (db) => db.exec('DROP TRIGGER trap'));
  await eventually('the shard recovers', () => world.gaps().some(({ cpu }) => cpu === 2));
  assert.equal((await first.end()).code, 0);
  const ended = BigInt(Date.now()) * 1_000_000n + 1_000_000n;

  const types = ['startup', 'shutdown', 'config_change', 'storage_error'];
  for (const type of types) {
    const [event, ...more] = world.synthetic(`synthetic.${type}`);
    assert.ok(event !== undefined, type);
    if (type !== 'storage_error') assert.deepEqual(more, [], type);
    assert.equal(event.shard, 'shard-0000.db', type);
    assert.ok(event.timestamp >= began && event.timestamp <= ended, type);
  }
  const payloadOf = (type: string) => world.synthetic(`synthetic.${type}`)[0]?.payload ?? {};
  assert.deepEqual(payloadOf('startup'), {
    boot_id: 'aaaaaaaa-0000-4000-8000-00000000000a',
    restart: false,
    shard_count: 3,
    cpu_count: 3,
    resume_points: { 0: 0, 1: 0, 2: 0 },
  });
  assert.deepEqual(payloadOf('config_change'), {
    key_name: 'MaxBatchLatencyMs',
    old_value: 100,
    new_value: 200,
  });
  const error = payloadOf('storage_error');
  assert.deepEqual([error.store_type, error.shard_index], ['event', 2]);
  assert.match(String(error.error), /trap/);
  assert.deepEqual(payloadOf('shutdown').last_sequences, { 1: 3, 2: 1 });
  const all = world
    .shardFiles()
    .flatMap((shard) => world.rows(shard, "event_type LIKE 'synthetic.%' AND sequence IS NULL"));
  assert.equal(new Set(all.map(({ type }) => type.toString())).size, 5);
  for (const each of all) assertSyntheticColumns(each);
  const columns = world.read(0, (db) =>
    db.prepare("SELECT name FROM pragma_table_info('events')").pluck().all(),
  ) as string[];
  assert.deepEqual(
    columns.filter((name) => /record|kind|synthetic/.test(name)),
    [],
    'event_type is the only discriminator',
  );
});

test('[ING-67] [STO-5] an event that calls itself synthetic is stored as it came, and believed by nobody', {
  timeout: 30_000,
}, async (t) => {
  const world = EventdWorld.for(t, { cpus: 1 });
  const run = await world.start();
  const lie = { cpu_id: 0, first_missing: 2, last_missing: 1_000_000, boot_id: 'x', restart: true };
  world.emit(0, 'synthetic.gap', encode(lie));
  world.emit(0, 'synthetic.startup', encode(lie));
  world.emit(0, 'test.after');
  await world.stored(0);
  await run.end('SIGKILL');
  // The next run must not take the lie for a recorded range: it would swallow the loss of event 4.
  const lost = lose(world, 0);
  world.emit(0, 'test.later');
  await world.start();
  await world.stored(0);
  assert.deepEqual(world.sequences(0), [1n, 2n, 3n, 5n]);
  assert.deepEqual(
    world.gaps().map(({ first, last }) => [first, last]),
    [[lost, lost]],
  );
  const [row] = world.rows(0, 'sequence = 1');
  assert.deepEqual([row?.type.toString(), row?.origin_class, row?.cpu_id], ['synthetic.gap', 0n, 0n]);
  assert.deepEqual(decode(row?.payload ?? new Uint8Array()), lie);
  const [stored] = await world.query('EVENTS synthetic.gap WHERE sequence == 1');
  assert.equal(stored?.get('origin_class'), 0n);
});

test('[ING-36] [ING-38] [KMES-159] another number of shards or CPUs waits for a restart, and leaves earlier files as they are', {
  timeout: 30_000,
}, async (t) => {
  const world = EventdWorld.for(t, { cpus: 2, settings: { StorageShards: 4 } });
  const hashes = () =>
    world
      .shardFiles()
      .slice(1)
      .map((file) =>
        createHash('sha256')
          .update(readFileSync(join(world.events, file)))
          .digest('hex'),
      );
  const first = await world.start();
  world.emitMany(0, 40);
  world.emitMany(1, 40);
  await world.stored(0);
  await world.stored(1);
  const late = native.producerCreate(world.ringPath(2), 2, 65536);
  t.after(() => native.producerClose(late));
  native.producerEmit(late, 0, { type: Buffer.from('test.late'), payload: new Uint8Array() }, null);
  await world.set('StorageShards', '6');
  await world.set('MaxBatchSize', '500');
  await eventually('the live setting is applied', () =>
    world.synthetic('synthetic.config_change').some(({ payload }) => payload.key_name === 'MaxBatchSize'),
  );
  world.emitMany(0, 40);
  await world.stored(0);
  assert.equal(world.shardFiles().length, 4);
  assert.deepEqual(world.sequences(2), [], 'a ring that came later is not read');
  assert.deepEqual(
    world.synthetic('synthetic.config_change').map(({ payload }) => payload.key_name),
    ['MaxBatchSize'],
  );
  await first.end();

  await world.set('StorageShards', '1');
  const before = hashes();
  assert.equal(before.length, 3);
  const second = await world.start();
  world.emitMany(0, 10);
  world.emitMany(1, 10);
  await world.stored(0);
  await world.stored(1);
  await world.stored(2, 1n);
  const answer = await world.query('EVENTS test.many');
  assert.equal(answer.length, 140, 'all files are queried');
  await second.end();
  assert.deepEqual(hashes(), before);
  assert.equal(world.rows(0, 'sequence > 80 AND cpu_id = 0').length, 10);
  assert.deepEqual(world.gaps(), []);
});
