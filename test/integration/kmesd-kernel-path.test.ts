import assert from 'node:assert/strict';
import { join } from 'node:path';
import { afterEach, beforeEach, test } from 'node:test';
import { decode, encode } from '@msgpack/msgpack';
import { EmitClient, EmitError } from '../../src/kmesd/emitClient.js';
import { native } from '../../src/native/addon.js';
import {
  frame,
  isRoot,
  type KmesdRun,
  ordinary,
  scratchDirectory,
  sendAs,
  startKmesd,
} from '../fixtures/kmesd.js';

const SOURCES_OFF = ['--no-kmsg', '--no-process'];
const OK = encode({ ok: true });
let directory: { path: string; remove(): void };
let kmesd: KmesdRun;
let client: EmitClient;

beforeEach(async () => {
  directory = scratchDirectory();
  const admin = ['--admin-group', String(ordinary.gid)];
  kmesd = await startKmesd(directory.path, {
    args: [...SOURCES_OFF, ...admin, '--allow-kernel-path', '--capacity', '65536'],
  });
  client = await EmitClient.connect(kmesd.socket);
});
afterEach(async () => {
  client.close();
  await kmesd.end('SIGTERM');
  directory.remove();
});

/** Resolves to the answer, or to the errno name. Whoever is not root gets EPERM, whatever is asked. */
async function ask(request: Record<string, unknown>): Promise<Readonly<Record<string, unknown>> | string> {
  try {
    return await client.request(request);
  } catch (error) {
    assert.ok(error instanceof EmitError);
    return error.code;
  }
}
const expected = <Value>(value: Value): Value | string => (isRoot ? value : 'EPERM');

test('[KMES-35] [KMES-46] [KMES-53] [KMES-57] the kernel path stamps the given origin and checks no content', async () => {
  const entries = [
    { type: 'kacs.audit', payload: new Uint8Array(0) },
    { type: Uint8Array.of(0xff), payload: Uint8Array.of(0xc1) },
  ];
  assert.deepEqual(await ask({ op: 'kernel_emit', origin: 2, entries }), expected({ errno: 0, emitted: 2 }));
  if (!isRoot) return;
  const events = kmesd.events();
  assert.deepEqual(
    events.map(({ origin, payload }) => [origin, payload.length]),
    [
      [2, 0],
      [2, 1],
    ],
  );
  assert.equal(new Set(events.map(({ timestamp }) => timestamp)).size, 1);
});

test('[KMES-49] [KMES-54] [KMES-55] [KMES-59] what fails in structure is dropped with its number, the rest is written', async () => {
  const entries = [
    { type: 'a', payload: OK },
    { type: '', payload: OK },
    { type: 'b', payload: new Uint8Array(32_768 - 77) },
    { type: 'c', payload: new Uint8Array(32_768 - 78) },
  ];
  assert.deepEqual(await ask({ op: 'kernel_emit', origin: 1, entries }), expected({ errno: 0, emitted: 2 }));
  if (!isRoot) return;
  assert.deepEqual(
    kmesd.events().map(({ type, sequence }) => [type, sequence]),
    [
      ['a', 1n],
      ['c', 4n],
    ],
  );
});

test('[KMES-40] anonymous kernel events carry null GUIDs', async () => {
  const entries = [{ type: 'a', payload: OK }];
  assert.deepEqual(
    await ask({ op: 'kernel_emit', origin: 3, anonymous: true, entries }),
    expected({ errno: 0, emitted: 1 }),
  );
  if (!isRoot) return;
  const nil = Buffer.alloc(16);
  const [event] = kmesd.events();
  assert.deepEqual([event?.effectiveToken, event?.trueToken, event?.process], [nil, nil, nil]);
});

test('an origin that is no u8 and missing entries are EINVAL', async () => {
  const entries = [{ type: 'a', payload: OK }];
  for (const request of [
    { origin: 256, entries },
    { origin: -1, entries },
    { origin: 1 },
    { origin: 1, entries: [] },
    { origin: 1, entries: [3] },
  ]) {
    assert.equal(await ask({ op: 'kernel_emit', ...request }), expected('EINVAL'));
  }
});

test('[KMES-142] [KMES-145] [KMES-149] a resize at run time swaps the ring and keeps its events', async () => {
  await client.emit('test.before', OK);
  const info = native.ringOpen(join(directory.path, 'cpu-0000.ring'));
  assert.deepEqual(await ask({ op: 'resize', capacity: 131_072 }), expected({ errno: 0 }));
  await client.emit('test.after', OK);
  assert.deepEqual(
    kmesd.events().map(({ type }) => type),
    ['test.before', 'test.after'],
  );
  assert.equal(native.ringStatus(info.ring).generation, isRoot ? 2n : 1n, 'the old mapping learns of it');
  native.ringClose(info.ring);
});

const INVALID: readonly (readonly [string, unknown, number])[] = [
  ['BufferCapacity', 98_304, 65_536],
  ['BufferCapacity', 32_768, 65_536],
  ['MaxEventSize', 1023, 65_536],
  ['MaxNestingDepth', '32', 32],
  ['MaxEmitRatePerProcess', 1_000_001, 10_000],
];
for (const [key, value, retained] of INVALID) {
  test(`[KMES-150] [KMES-151] ${key} = ${JSON.stringify(value)} is ignored, and an event of origin 1 says so`, async () => {
    assert.equal(await ask({ op: 'configure', key, value }), expected('EINVAL'));
    if (!isRoot) return;
    const [event] = kmesd.events();
    assert.deepEqual([event?.type, event?.origin], ['kmes.config_rejected', 1]);
    assert.deepEqual(decode(event?.payload ?? new Uint8Array(0)), { key, value, retained });
  });
}

test('[KMES-148] unknown keys are ignored without an event', async () => {
  assert.equal(await ask({ op: 'configure', key: 'Colour', value: 1 }), expected('EINVAL'));
  assert.equal(kmesd.events().length, 0);
});

test('[KMES-74] [KMES-149] valid limits apply to the next call', async () => {
  assert.deepEqual(await ask({ op: 'configure', key: 'MaxEventSize', value: 1024 }), expected({ errno: 0 }));
  assert.deepEqual(await ask({ op: 'configure', key: 'MaxNestingDepth', value: 4 }), expected({ errno: 0 }));
  assert.deepEqual(
    await ask({ op: 'configure', key: 'MaxEmitRatePerProcess', value: 100 }),
    expected({ errno: 0 }),
  );
  if (!isRoot) return;
  assert.equal(await ask({ op: 'emit', type: 't', payload: encode(new Uint8Array(1000)) }), 'ENOSPC');
  assert.equal(await ask({ op: 'emit', type: 't', payload: encode([[[[[1]]]]]) }), 'EINVAL');
  const batch = frame({ op: 'emit_batch', entries: new Array(101).fill({ type: 't', payload: OK }) });
  const [answers] = await sendAs(ordinary, kmesd.socket, [batch]);
  assert.deepEqual(
    answers?.map(({ code }) => code),
    ['EAGAIN'],
  );
});

test('the kernel path is closed without --allow-kernel-path, and to everybody but root', async () => {
  const requests = [
    { op: 'kernel_emit', origin: 1, entries: [{ type: 'a', payload: OK }] },
    { op: 'resize', capacity: 131_072 },
    { op: 'configure', key: 'MaxEventSize', value: 1024 },
  ];
  const [answers] = await sendAs(ordinary, kmesd.socket, requests.map(frame));
  assert.deepEqual(
    answers?.map(({ code }) => code),
    ['EPERM', 'EPERM', 'EPERM'],
  );
  const other = scratchDirectory();
  const plain = await startKmesd(other.path);
  const outsider = await EmitClient.connect(plain.socket);
  for (const request of requests) {
    await assert.rejects(
      outsider.request(request),
      (error) => error instanceof EmitError && error.code === 'EPERM',
    );
  }
  outsider.close();
  await plain.end('SIGTERM');
  other.remove();
});
