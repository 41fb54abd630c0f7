import assert from 'node:assert/strict';
import { connect } from 'node:net';
import { after, before, test } from 'node:test';
import { decode, encode } from '@msgpack/msgpack';
import { formatGuid, nameGuid, parseGuid } from '../../src/host/guid.js';
import { EmitClient, EmitError } from '../../src/kmesd/emitClient.js';
import { readProcessStat } from '../../src/kmesd/identity.js';
import {
  answersIn,
  BOOT_A,
  frame,
  isRoot,
  type KmesdRun,
  ordinary,
  scratchDirectory,
  sendAs,
  startKmesd,
  until,
} from '../fixtures/kmesd.js';

const directory = scratchDirectory();
let kmesd: KmesdRun;
let client: EmitClient;
const OK = encode({ ok: true });
const boot = parseGuid(BOOT_A);

before(async () => {
  kmesd = await startKmesd(directory.path);
  client = await EmitClient.connect(kmesd.socket);
});
after(async () => {
  client.close();
  await kmesd.end('SIGTERM');
  directory.remove();
});

/** The errno name a call ends with, or null. */
async function codeOf(call: Promise<unknown>): Promise<string | null> {
  try {
    await call;
    return null;
  } catch (error) {
    assert.ok(error instanceof EmitError, String(error));
    return error.code;
  }
}

const lastSequence = () => kmesd.events().at(-1)?.sequence ?? 0n;

test('[KMES-30] [KMES-31] [KMES-35] [HOST-77] an event carries stamps of kmesd, never of its emitter', async () => {
  const before = BigInt(Date.now()) * 1_000_000n;
  const expected = lastSequence() + 1n;
  await client.request({ op: 'emit', type: 'test.stamps', payload: OK, origin: 3, sequence: 9, cpu_id: 7 });
  const event = kmesd.events().at(-1);
  assert.ok(event !== undefined);
  assert.equal(event.type, 'test.stamps');
  assert.deepEqual(decode(event.payload), { ok: true });
  assert.deepEqual([event.origin, event.cpu, event.sequence], [0, 0, expected]);
  assert.ok(event.timestamp >= before && event.timestamp <= BigInt(Date.now() + 1) * 1_000_000n);
  const uid = process.geteuid?.() ?? -1;
  const token = nameGuid(boot, uid === 0 ? 'S-1-5-18' : `S-1-22-1-${uid}`);
  const self = nameGuid(boot, `${process.pid}:${readProcessStat(process.pid)?.startTime}`);
  assert.equal(formatGuid(event.trueToken), formatGuid(token));
  assert.equal(formatGuid(event.effectiveToken), formatGuid(token));
  assert.equal(formatGuid(event.process), formatGuid(self));
});

test('[KMES-4] [KMES-80] [KMES-84] a batch is one timestamp, one identity and a sequence each', async () => {
  const entries = Array.from({ length: 256 }, (_, index) => ({
    type: `test.batch.${index}`,
    payload: encode(index),
  }));
  assert.equal(await client.emitBatch(entries), 256);
  const events = kmesd.events().slice(-256);
  assert.deepEqual(
    events.map(({ type }) => type),
    entries.map(({ type }) => type),
  );
  assert.deepEqual(
    events.map(({ payload }) => decode(payload)),
    entries.map((_, index) => index),
  );
  assert.equal(new Set(events.map(({ timestamp }) => timestamp)).size, 1);
  const first = events[0]?.sequence ?? 0n;
  assert.deepEqual(
    events.map(({ sequence }) => sequence),
    entries.map((_, index) => first + BigInt(index)),
  );
});

function nested(depth: number): Uint8Array {
  return Uint8Array.from([...new Array<number>(depth - 1).fill(0x91), 0x90]);
}

const PAYLOADS: readonly (readonly [string, Uint8Array, string | null])[] = [
  ['nil', Uint8Array.of(0xc0), null],
  ['32 levels', nested(32), null],
  ['33 levels', nested(33), 'EINVAL'],
  ['nothing', new Uint8Array(0), 'EINVAL'],
  ['byte 0xc1', Uint8Array.of(0xc1), 'EINVAL'],
  ['a cut string', Uint8Array.of(0xa3, 0x61), 'EINVAL'],
  ['a second value', Uint8Array.of(0xc0, 0xc0), 'EINVAL'],
  ['an array of 2^32-1 absent elements', Uint8Array.of(0xdd, 0xff, 0xff, 0xff, 0xff), 'EINVAL'],
];

for (const [name, payload, code] of PAYLOADS) {
  test(`[KMES-45] [KMES-46] [KMES-47] [KMES-70] payload ${name}: ${code ?? 'accepted'}`, async () => {
    const before = lastSequence();
    assert.equal(await codeOf(client.emit('test.payload', payload)), code);
    assert.equal(lastSequence(), code === null ? before + 1n : before);
  });
}

test('[KMES-48] [KMES-65] the largest event is MaxEventSize, header and type included', async () => {
  // Header, one byte of type and three of bin16 go with the bytes.
  const eventOf = (total: number) => encode(new Uint8Array(total - 77 - 1 - 3));
  assert.equal(await codeOf(client.emit('t', eventOf(65_537))), 'ENOSPC');
  assert.equal(await codeOf(client.emit('t', eventOf(65_536))), null);
  assert.equal(kmesd.events().at(-1)?.payload.length, 65_536 - 78);
});

test('[KMES-79] [KMES-83] a batch stops at its first bad entry and says where', async () => {
  const before = lastSequence();
  const good = { type: 'test.partial', payload: OK };
  const bad = { type: 'test.partial', payload: Uint8Array.of(0xc1) };
  await assert.rejects(client.emitBatch([good, good, bad, good]), (error) => {
    assert.ok(error instanceof EmitError);
    assert.deepEqual([error.code, error.emitted], ['EINVAL', 2]);
    assert.match(error.message, /^entry 2: /);
    return true;
  });
  await client.emit('test.after', OK);
  const types = kmesd
    .events()
    .slice(-3)
    .map(({ type, sequence }) => [type, sequence - before]);
  assert.deepEqual(types, [
    ['test.partial', 1n],
    ['test.partial', 2n],
    ['test.after', 3n],
  ]);
});

test('[KMES-78] a batch of none or of 257 is EINVAL', async () => {
  const good = { type: 't', payload: OK };
  assert.equal(await codeOf(client.emitBatch([])), 'EINVAL');
  assert.equal(await codeOf(client.emitBatch(new Array(257).fill(good))), 'EINVAL');
});

test('pipelined requests are answered in their order', async () => {
  const calls = Array.from({ length: 500 }, (_, index) =>
    codeOf(
      client.emit(index % 3 === 0 ? '' : 'test.pipeline', index % 3 === 1 ? OK : Uint8Array.of(0xc1, 0)),
    ),
  );
  const codes = await Promise.all(calls);
  assert.deepEqual(
    codes,
    codes.map((_, index) => (index % 3 === 1 ? null : 'EINVAL')),
  );
});

/** Sends raw bytes and resolves to everything received until kmesd closes. */
function exchange(bytes: Uint8Array, half = true): Promise<{ answers: ReturnType<typeof answersIn> }> {
  return new Promise((resolve, reject) => {
    const socket = connect(kmesd.socket);
    const chunks: Buffer[] = [];
    socket.on('data', (chunk: Buffer) => chunks.push(chunk));
    socket.on('error', reject);
    socket.on('close', () => resolve({ answers: answersIn(Buffer.concat(chunks)) }));
    if (half) socket.end(bytes);
    else socket.write(bytes);
  });
}

test('an unknown operation is ENOSYS and the connection goes on', async () => {
  const { answers } = await exchange(
    Buffer.concat([frame({ op: 'dance' }), frame({ op: 'emit', type: 'x', payload: OK })]),
  );
  assert.deepEqual(
    answers.map(({ code, errno }) => code ?? errno),
    ['ENOSYS', 0],
  );
});

test('a body that is no request is EBADMSG and ends the connection', async () => {
  const good = frame({ op: 'emit', type: 'x', payload: OK });
  for (const body of ['', 'c1', '93010203', '81a26f70', '9191919191', 'df7fffffff']) {
    const bytes = Buffer.from(body, 'hex');
    const header = Buffer.alloc(4);
    header.writeUInt32LE(bytes.length);
    const { answers } = await exchange(Buffer.concat([good, header, bytes, good]), false);
    assert.deepEqual(
      answers.map(({ code, errno }) => code ?? errno),
      [0, 'EBADMSG'],
      `body ${body}`,
    );
  }
});

test('a frame beyond 16 MiB is refused by its header', async () => {
  const header = Buffer.alloc(4);
  header.writeUInt32LE(16 * 1024 * 1024 + 1);
  const { answers } = await exchange(header, false);
  assert.deepEqual(
    answers.map(({ code }) => code),
    ['EMSGSIZE'],
  );
});

test('requests arrive in any pieces, and a cut frame only ends its own connection', async () => {
  const whole = frame({ op: 'emit', type: 'test.pieces', payload: OK });
  const socket = connect(kmesd.socket);
  const chunks: Buffer[] = [];
  socket.on('data', (chunk: Buffer) => chunks.push(chunk));
  for (const byte of whole) await new Promise((done) => socket.write(Uint8Array.of(byte), done));
  await until(() => chunks.length > 0, 'an answer to the pieces');
  assert.deepEqual(answersIn(Buffer.concat(chunks)), [{ errno: 0 }]);
  socket.write(whole.subarray(0, 7));
  socket.destroy();
  const { answers } = await exchange(whole.subarray(0, 9));
  assert.deepEqual(answers, []);
  assert.equal(await codeOf(client.emit('test.alive', OK)), null);
});

test('answers keep coming to a client that sends everything before it reads', async () => {
  const one = frame({ op: 'emit', type: 'test.flood', payload: OK });
  const { answers } = await exchange(Buffer.concat(new Array<Buffer>(20_000).fill(one)));
  assert.equal(answers.length, 20_000);
});

test('[KMES-63] [KMES-65] [KMES-78] [HOST-76] who is neither root nor in an admin group gets EPERM for everything', async () => {
  const closed = scratchDirectory();
  const strict = await startKmesd(closed.path, {
    args: ['--no-kmsg', '--no-process', '--admin-group', '54321'],
  });
  try {
    const frames = [
      frame({ op: 'emit', type: '', payload: OK }),
      frame({ op: 'emit_batch', entries: [] }),
      frame({ op: 'status' }),
      frame('nonsense'),
    ];
    const stranger = { uid: 23_456, gid: 23_456 };
    if (!isRoot) return;
    const [answers] = await sendAs(stranger, strict.socket, frames);
    assert.deepEqual(
      answers?.map(({ code, errno }) => [code, errno]),
      new Array(4).fill(['EPERM', 1]),
    );
    const [member] = await sendAs({ uid: 23_456, gid: 54_321 }, strict.socket, frames.slice(0, 1));
    assert.deepEqual(
      member?.map(({ code }) => code),
      ['EINVAL'],
    );
    assert.equal(strict.events().length, 0);
  } finally {
    await strict.end('SIGTERM');
    closed.remove();
  }
});

test('[KMES-71] [KMES-72] [KMES-73] the rate limit holds per process, over all its connections', async () => {
  const limited = scratchDirectory();
  const args = ['--no-kmsg', '--no-process', '--admin-group', String(ordinary.gid), '--max-emit-rate', '100'];
  const slow = await startKmesd(limited.path, { args });
  try {
    const one = frame({ op: 'emit', type: 'test.rate', payload: OK });
    const connections = await sendAs(ordinary, slow.socket, new Array(100).fill(one), 2);
    const answers = connections.flat();
    const emitted = answers.filter(({ errno }) => errno === 0).length;
    assert.equal(answers.length, 200);
    assert.ok(emitted >= 100 && emitted < 200, `${emitted} of 200 were emitted`);
    assert.ok(answers.every(({ errno, code }) => errno === 0 || code === 'EAGAIN'));
    assert.equal(slow.events().length, emitted);

    // A fresh process has a fresh bucket; a batch above the burst can never succeed.
    const big = frame({ op: 'emit_batch', entries: new Array(101).fill({ type: 't', payload: OK }) });
    const full = frame({ op: 'emit_batch', entries: new Array(100).fill({ type: 't', payload: OK }) });
    const [second] = await sendAs(ordinary, slow.socket, [big, full]);
    assert.deepEqual(
      second?.map(({ code, emitted: count }) => [code ?? 0, count]),
      [
        ['EAGAIN', 0],
        [0, 100],
      ],
    );
  } finally {
    await slow.end('SIGTERM');
    limited.remove();
  }
});

test('[HOST-76] root is exempt from the rate limit', async () => {
  const limited = scratchDirectory();
  const slow = await startKmesd(limited.path, {
    args: ['--no-kmsg', '--no-process', '--max-emit-rate', '100', '--admin-group', String(ordinary.gid)],
  });
  const other = await EmitClient.connect(slow.socket);
  try {
    const codes = await Promise.all(Array.from({ length: 1000 }, () => codeOf(other.emit('test.root', OK))));
    assert.equal(codes.includes('EAGAIN'), !isRoot);
  } finally {
    other.close();
    await slow.end('SIGTERM');
    limited.remove();
  }
});

test('[KMES-2] [KMES-43] connections spread over the rings, each staying on one', async () => {
  const wide = scratchDirectory();
  const many = await startKmesd(wide.path, {
    args: ['--no-kmsg', '--no-process', '--cpus', '3', '--capacity', '65536'],
  });
  try {
    for (let index = 0; index < 6; index += 1) {
      const each = await EmitClient.connect(many.socket);
      for (let step = 0; step < 4; step += 1) await each.emit(`test.${index}`, encode(step));
      each.close();
    }
    for (const cpu of [0, 1, 2]) {
      const events = many.events(cpu);
      assert.ok(events.every((event) => event.cpu === cpu));
      assert.equal(events.length, 8);
      assert.equal(new Set(events.map(({ type }) => type)).size, 2);
      assert.deepEqual(
        events.map(({ sequence }) => sequence),
        [1n, 2n, 3n, 4n, 5n, 6n, 7n, 8n],
      );
    }
  } finally {
    await many.end('SIGTERM');
    wide.remove();
  }
});

test('EmitClient: a missing socket and a vanished kmesd are errors with a code', async () => {
  await assert.rejects(
    EmitClient.connect(`${directory.path}/none.sock`),
    (error) => error instanceof EmitError && error.code === 'ENOENT',
  );
  const gone = scratchDirectory();
  const victim = await startKmesd(gone.path);
  const orphan = await EmitClient.connect(victim.socket);
  await orphan.emit('test.before', OK);
  await victim.end('SIGKILL');
  await until(async () => (await codeOf(orphan.emit('test.after', OK))) !== null);
  orphan.close();
  gone.remove();
});

test('status tells rings, limits and sources', async () => {
  const status = await client.status();
  assert.equal(status.pid, kmesd.pid);
  assert.equal(status.boot_id, BOOT_A);
  assert.deepEqual(status.sources, { kmsg: 'off', process: 'off' });
  assert.deepEqual(
    [status.max_event_size, status.max_nesting_depth, status.max_emit_rate],
    [65_536, 32, 10_000],
  );
});
