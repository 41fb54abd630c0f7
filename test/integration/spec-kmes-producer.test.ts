/** kmesd as the producer that the specification describes (KMES parts 3, 4, 9, 10). */
import assert from 'node:assert/strict';
import { readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { encode } from '@msgpack/msgpack';
import { parseGuid } from '../../src/host/guid.js';
import { attachAllRings, tryAttachRing } from '../../src/host/kmes.js';
import { EmitClient } from '../../src/kmesd/emitClient.js';
import { native } from '../../src/native/addon.js';
import { BOOT_A, type KmesdRun, scratchDirectory, startKmesd } from '../fixtures/kmesd.js';

const SOURCES_OFF = ['--no-kmsg', '--no-process'];
const OK = encode({ ok: true });

async function producer(t: TestContext, args: readonly string[]): Promise<KmesdRun> {
  const scratch = scratchDirectory();
  const kmesd = await startKmesd(scratch.path, { args: [...SOURCES_OFF, ...args] });
  t.after(async () => {
    await kmesd.end('SIGTERM');
    scratch.remove();
  });
  return kmesd;
}

async function client(t: TestContext, kmesd: KmesdRun): Promise<EmitClient> {
  const connection = await EmitClient.connect(kmesd.socket);
  t.after(() => connection.close());
  return connection;
}

test('[KMES-104] [KMES-105] [KMES-107] [KMES-153] without any configuration rings of 4 MiB capture at once and can be attached', async (t) => {
  const kmesd = await producer(t, []);
  const path = join(kmesd.directory, 'cpu-0000.ring');
  assert.equal(statSync(path).size, 8192 + 4_194_304);
  const emitter = await client(t, kmesd);
  await emitter.emit('boot.first', OK);
  const info = native.ringOpen(path);
  t.after(() => native.ringClose(info.ring));
  assert.deepEqual([info.capacity, info.generation], [4_194_304, 1n]);
  assert.ok(native.ringStatus(info.ring).writePos > 0n);
  assert.deepEqual(
    kmesd.events().map(({ type, sequence }) => [type, sequence]),
    [['boot.first', 1n]],
  );
});

test('[KMES-28] sizes are computed from what was sent, whatever the emitter claims', async (t) => {
  const kmesd = await producer(t, ['--capacity', '65536']);
  const emitter = await client(t, kmesd);
  const claims = { event_size: 4, header_size: 1, type_len: 60_000, cpu_id: 9, timestamp: 1 };
  await emitter.request({ op: 'emit', type: 'test.sizes', payload: OK, ...claims });
  const event = readFileSync(join(kmesd.directory, 'cpu-0000.ring')).subarray(8192);
  const header = 77 + 'test.sizes'.length;
  assert.deepEqual(
    [event.readUInt32LE(0), event.readUInt32LE(4), event.readUInt16LE(75), event.readUInt16LE(24)],
    [header + OK.length, header, 'test.sizes'.length, 0],
  );
  assert.ok(event.readBigUInt64LE(8) > 1_600_000_000_000_000_000n);
});

test('[KMES-34] [KMES-87] [KMES-88] [KMES-89] file, metadata and header name the same CPU; one past the last is none', async (t) => {
  const kmesd = await producer(t, ['--capacity', '65536', '--cpus', '3']);
  const emitters = await Promise.all(Array.from({ length: 6 }, () => client(t, kmesd)));
  for (const emitter of emitters) await emitter.emit('test.cpu', OK);
  const source = { kind: 'embedded', directory: kmesd.directory } as const;
  const rings = attachAllRings(source, parseGuid(BOOT_A));
  t.after(() => rings.map(({ ring }) => native.ringClose(ring)));
  assert.deepEqual(
    rings.map(({ cpu, capacity }) => [cpu, capacity]),
    [0, 1, 2].map((cpu) => [cpu, 65536]),
  );
  for (const { cpu } of rings) {
    const metadata = readFileSync(join(kmesd.directory, `cpu-000${cpu}.ring`));
    assert.equal(metadata.readUInt16LE(12), cpu);
    const events = kmesd.events(cpu);
    assert.equal(events.length, 2, 'the connections took turns');
    assert.ok(events.every((event) => event.cpu === cpu));
  }
  assert.equal(tryAttachRing(source, 3), null);
  assert.equal(tryAttachRing(source, 4096), null);
});

test('[KMES-41] [KMES-76] the entries of one batch carry one identity, and the answer counts them', async (t) => {
  const kmesd = await producer(t, ['--capacity', '65536']);
  const [one, two] = [await client(t, kmesd), await client(t, kmesd)];
  const entries = Array.from({ length: 20 }, (_, n) => ({ type: `t${n}`, payload: OK }));
  const answers = await Promise.all([
    one.request({ op: 'emit_batch', entries }),
    two.request({ op: 'emit_batch', entries }),
  ]);
  assert.deepEqual(
    answers.map(({ errno, emitted }) => [errno, emitted]),
    [
      [0, 20],
      [0, 20],
    ],
  );
  const stamps = kmesd
    .events()
    .map((event) =>
      [event.timestamp, ...[event.effectiveToken, event.trueToken, event.process].map(hex)].join(' '),
    );
  assert.equal(stamps.length, 40);
  // Two batches, each in one piece: neither the stamps nor the types interleave.
  assert.equal(new Set(stamps.slice(0, 20)).size, 1);
  assert.equal(new Set(stamps.slice(20)).size, 1);
  assert.notEqual(stamps[0], stamps[20]);
});

const hex = (bytes: Uint8Array): string => Buffer.from(bytes).toString('hex');

test('[KMES-159] a ring that appears after the start gets no events', async (t) => {
  const kmesd = await producer(t, ['--capacity', '65536']);
  native.producerClose(native.producerCreate(join(kmesd.directory, 'cpu-0001.ring'), 1, 65536));
  const emitters = await Promise.all(Array.from({ length: 4 }, () => client(t, kmesd)));
  for (const emitter of emitters) await emitter.emit('test.late', OK);
  assert.equal(kmesd.events(0).length, 4);
  assert.deepEqual(kmesd.events(1), []);
});
