/** Restarts and new boots of the real eventd: where each CPU goes on, and what is recorded as lost. */
import assert from 'node:assert/strict';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { encode } from '@msgpack/msgpack';
import { parseGuid } from '../../src/host/guid.js';
import { BOOT_ID_FILE } from '../../src/host/kmes.js';
import { EmitClient } from '../../src/kmesd/emitClient.js';
import { readRing } from '../../src/kmesd/ringReader.js';
import { native } from '../../src/native/addon.js';
import { accountFor, faultsOf } from '../fixtures/accounting.js';
import { BOOT_A, BOOT_B, EventdWorld, eventually } from '../fixtures/eventd.js';
import { isRoot, startKmesd } from '../fixtures/kmesd.js';

test('[BOOT-1] [BOOT-2] [BOOT-3] [HOST-4] [BOOT-5] [BOOT-6] [BOOT-7] [LIFE-109] [LIFE-110] [LIFE-111] [ING-19] [ING-20] fresh boot, restart, new boot', async (t) => {
  const world = EventdWorld.for(t);
  const first = await world.start();
  world.emitMany(0, 10);
  world.emitMany(1, 4);
  await first.end();

  world.emitMany(0, 3);
  const second = await world.start();
  await world.stored(0, 13n);
  await second.end();
  const startups = world
    .synthetic('synthetic.startup')
    .map(({ payload }) => [payload.restart, payload.resume_points]);
  assert.deepEqual(startups, [
    [false, { 0: 0, 1: 0 }],
    [true, { 0: 10, 1: 4 }],
  ]);
  assert.deepEqual(
    world.sequences(0),
    Array.from({ length: 13 }, (_, i) => BigInt(i + 1)),
  );

  world.createRings();
  world.emitMany(0, 2);
  const third = await world.start({ PEIOS_BOOT_ID: BOOT_B });
  await world.stored(0, 2n, BOOT_B);
  await third.end();
  const [startup] = world.synthetic('synthetic.startup', BOOT_B);
  assert.equal(startup?.payload.restart, false);
  assert.deepEqual(startup?.payload.resume_points, { 0: 0, 1: 0 });
  assert.deepEqual(world.sequences(0, BOOT_B), [1n, 2n]);
  assert.equal(world.sequences(0).length, 13, 'the old boot stays as it was');
  assert.deepEqual([...world.gaps(), ...world.gaps(BOOT_B)], []);
  const stale = world.read(0, (db) =>
    db.prepare("SELECT key, value FROM metadata WHERE key GLOB '*_seq.*' ORDER BY key").raw().all(),
  );
  assert.deepEqual(stale, [
    ['last_seq.0', '2'],
    ['settled_seq.0', '2'],
  ]);
  const shutdown = world.synthetic('synthetic.shutdown', BOOT_B);
  assert.deepEqual(shutdown.at(-1)?.payload.last_sequences, { 0: 2 });
});

test('[FAIL-1] [ING-23] [ING-26] [ING-27] [STO-9] [BOOT-10] [QL-45] an overrun while eventd was down becomes one exact gap record', async (t) => {
  const world = EventdWorld.for(t, { capacity: 65_536 });
  const first = await world.start();
  world.emitMany(0, 10);
  await world.stored(0);
  await first.end();
  const lastStored = world.rows(0, 'sequence = 10')[0];

  world.emitMany(0, 3000);
  const [revealing] = [...readRing(world.ringPath(0))];
  assert.ok(revealing !== undefined && revealing.sequence > 11n, 'the ring overran');
  await world.start();
  await world.stored(0);
  const [gap, ...others] = world.gaps();
  assert.deepEqual(others, []);
  assert.deepEqual(gap?.payload, {
    cpu_id: 0,
    first_missing: 11,
    last_missing: Number(revealing.sequence - 1n),
    missing_count: Number(revealing.sequence - 11n),
    last_event_timestamp: lastStored?.timestamp,
    revealing_event_timestamp: revealing.timestamp,
    cause: 'restart',
  });
  assert.deepEqual(faultsOf(accountFor(world.events, parseGuid(BOOT_A), [3010, 0])), []);
  const revealingRow = world.rows(0, `sequence = ${revealing.sequence}`)[0];
  assert.ok(gap !== undefined && revealingRow !== undefined && gap.id < revealingRow.id, 'gap record first');

  const found = await world.query('EVENTS synthetic.gap WHERE cpu_id == 0');
  assert.equal(found.length, 1);
  assert.equal(found[0]?.get('cpu_id'), 0n);
  assert.equal(found[0]?.get('first_missing'), 11n);
  assert.deepEqual(await world.query('EVENTS synthetic.gap WHERE cpu_id == 1'), []);
});

test('[ING-20] [ING-22] events lost before the first start of a boot are a gap from 1, with nothing before it', async (t) => {
  const world = EventdWorld.for(t, { cpus: 1, capacity: 65_536 });
  world.emitMany(0, 3000);
  const [oldest] = [...readRing(world.ringPath(0))];
  assert.ok(oldest !== undefined);
  await world.start();
  await world.stored(0);
  const [gap, ...others] = world.gaps();
  assert.deepEqual(others, []);
  assert.deepEqual([gap?.first, gap?.last], [1n, oldest.sequence - 1n]);
  assert.equal(gap?.payload.last_event_timestamp, null);
  assert.equal(gap?.payload.revealing_event_timestamp, oldest.timestamp);
});

test('[ING-36] [ING-38] [STO-23] [STO-27] [BOOT-8] [CFG-71] another StorageShards holds from the next start on, and old shards stay', async (t) => {
  const world = EventdWorld.for(t, { settings: { StorageShards: 3 } });
  const first = await world.start();
  world.emitMany(0, 20);
  world.emitMany(1, 20);
  await world.set('StorageShards', '1');
  await eventually('the deferred change in the log', () =>
    first.log().some(({ msg }) => String(msg).startsWith('StorageShards changed; it takes effect')),
  );
  world.emitMany(0, 20);
  await world.stored(0);
  await world.stored(1);
  assert.deepEqual(world.shardFiles().length, 3);
  await first.end();
  const old = [0, 1, 2].map((shard) => world.rows(shard, 'sequence IS NOT NULL').length);
  assert.ok(old.every((count) => count > 0));

  const second = await world.start();
  world.emitMany(0, 5);
  world.emitMany(1, 5);
  await world.stored(0);
  await world.stored(1);
  assert.equal(world.synthetic('synthetic.startup').at(-1)?.payload.shard_count, 1);
  assert.equal(world.rows(1, 'sequence IS NOT NULL').length, old[1]);
  assert.equal(world.rows(2, 'sequence IS NOT NULL').length, old[2]);
  assert.equal((await world.query('EVENTS test.many')).length, 70);
  assert.deepEqual(world.synthetic('synthetic.config_change'), []);
  await second.end();

  world.writeHive({ StorageShards: 5 });
  await world.start();
  world.emitMany(0, 5);
  world.emitMany(1, 5);
  await world.stored(0);
  await world.stored(1);
  assert.equal(world.shardFiles().length, 5);
  assert.deepEqual(faultsOf(accountFor(world.events, parseGuid(BOOT_A), [50, 30])), []);
  assert.deepEqual(world.gaps(), []);
});

test('[ING-14] [ING-15] [ING-17] [KMES-137] rings replaced under load lose and repeat nothing', async (t) => {
  const world = EventdWorld.for(t, { cpus: isRoot ? 0 : 1, capacity: 1 << 20 });
  const producer = isRoot ? await kmesdProducer(world) : nativeProducer(world);
  t.after(() => producer.close());
  const run = await world.start();
  let emitted = 0;
  for (const capacity of [1 << 21, 1 << 18, 1 << 22]) {
    for (let batch = 0; batch < 12; batch++) {
      await producer.emit(250);
      emitted += 250;
      // In the middle of the stream, not between two.
      if (batch === 5) await producer.resize(capacity);
    }
  }
  await world.stored(0, BigInt(emitted));
  await run.end();
  assert.deepEqual(faultsOf(accountFor(world.events, parseGuid(BOOT_A), [emitted])), []);
  assert.deepEqual(world.gaps(), []);
});

test('[ING-22] [FAIL-11] [HOST-75] [LIFE-131] rings made anew: in the same boot they are on record, of another boot they end eventd', async (t) => {
  const world = EventdWorld.for(t, { cpus: 1 });
  const first = await world.start();
  world.emitMany(0, 10);
  await world.stored(0);
  await first.end();
  world.createRings();
  world.emitMany(0, 4);
  const run = await world.start();
  const [record] = await eventually('the record', () => {
    const records = world.synthetic('synthetic.storage_error');
    return records.length > 0 && records;
  });
  const said =
    'the ring of CPU 0 has begun anew in the same boot: its newest event is number 4, but 10 are known; what it holds up to number 10 is not stored';
  assert.deepEqual(record?.payload, { store_type: 'event', shard_index: null, error: said });
  assert.deepEqual(
    run.log().flatMap(({ level, msg }) => (msg === said ? [level] : [])),
    [50],
  );

  // As a kmesd does that starts in another boot: first its ID, then the rings.
  const { paths } = world;
  writeFileSync(join(paths.kmes, BOOT_ID_FILE), BOOT_B);
  world.createRings();
  world.emitMany(0, 120);
  const why = `the rings in ${paths.kmes} belong to boot ${BOOT_B}, but this is boot ${BOOT_A}`;
  assert.equal((await run.exited).code, 1);
  assert.ok(run.stderr.trimEnd().split('\n').at(-1)?.endsWith(why), run.stderr);
  assert.deepEqual(world.sequences(0).length, 10, 'nothing of another boot is stored as one of this');
});

interface ResizableProducer {
  emit(count: number): Promise<unknown>;
  resize(capacity: number): Promise<unknown>;
  close(): Promise<unknown>;
}

async function kmesdProducer(world: EventdWorld): Promise<ResizableProducer> {
  const args = ['--no-kmsg', '--no-process', '--cpus', '1', '--capacity', String(1 << 20)];
  const kmesd = await startKmesd(world.paths.kmes, {
    args: [...args, '--max-emit-rate', '1000000', '--allow-kernel-path'],
  });
  const client = await EmitClient.connect(kmesd.socket);
  const payload = encode({ text: 'x'.repeat(20) });
  return {
    emit: (count) =>
      client.emitBatch(Array.from({ length: count }, () => ({ type: 'test.resize', payload }))),
    resize: (capacity) => client.request({ op: 'resize', capacity }),
    close: async () => {
      client.close();
      await kmesd.end('SIGTERM');
    },
  };
}

function nativeProducer(world: EventdWorld): ResizableProducer {
  return {
    emit: async (count) => world.emitMany(0, count),
    resize: async (capacity) => native.producerResize(world.producer(0), capacity),
    close: async () => undefined,
  };
}
