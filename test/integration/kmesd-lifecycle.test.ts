import assert from 'node:assert/strict';
import {
  chmodSync,
  existsSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, test } from 'node:test';
import { encode } from '@msgpack/msgpack';
import { EmitClient } from '../../src/kmesd/emitClient.js';
import { native } from '../../src/native/addon.js';
import {
  BOOT_A,
  BOOT_B,
  type KmesdRun,
  runKmesd,
  scratchDirectory,
  startKmesd,
  until,
} from '../fixtures/kmesd.js';

const QUIET = ['--no-kmsg', '--no-process'];
const PAYLOAD = encode({ n: 1 });
let directory: { path: string; remove(): void };
let running: KmesdRun[] = [];

beforeEach(() => {
  directory = scratchDirectory();
  running = [];
});
afterEach(async () => {
  for (const kmesd of running) await kmesd.end('SIGKILL');
  directory.remove();
});

async function start(args: readonly string[] = [], boot = BOOT_A): Promise<KmesdRun> {
  const kmesd = await startKmesd(directory.path, { args: [...QUIET, ...args], boot });
  running.push(kmesd);
  return kmesd;
}

async function emit(kmesd: KmesdRun, count: number, type = 'test.life'): Promise<void> {
  const client = await EmitClient.connect(kmesd.socket);
  for (let index = 0; index < count; index += 1) await client.emit(type, PAYLOAD);
  client.close();
}

const sequences = (kmesd: KmesdRun, cpu = 0) => kmesd.events(cpu).map(({ sequence }) => Number(sequence));
const ring = (cpu = 0) => join(directory.path, `cpu-000${cpu}.ring`);
const upTo = (last: number) => Array.from({ length: last }, (_, index) => index + 1);

test('[KMES-32] [HOST-74] a fresh directory gets its rings, mode 0600, and the boot ID; sequences start at 1', async () => {
  const kmesd = await start(['--cpus', '2', '--capacity', '65536']);
  assert.equal(readFileSync(join(directory.path, 'boot-id'), 'utf8').trim(), BOOT_A);
  for (const cpu of [0, 1]) {
    const { size, mode } = statSync(ring(cpu));
    assert.deepEqual([size, mode & 0o777], [8192 + 65_536, 0o600]);
    const info = native.ringOpen(ring(cpu));
    assert.deepEqual([info.cpu, info.capacity, info.generation], [cpu, 65_536, 1n]);
    native.ringClose(info.ring);
  }
  await emit(kmesd, 2);
  assert.deepEqual(sequences(kmesd), [1, 2]);
});

test('[HOST-75] [KMES-156] a restart in the same boot goes on where it stopped', async () => {
  const first = await start();
  await emit(first, 5);
  assert.equal(await first.end('SIGTERM'), 0);
  const second = await start();
  await emit(second, 5);
  assert.deepEqual(sequences(second), upTo(10));
});

test('[HOST-75] [KMES-33] killed ten times in the middle of emitting: no number twice, nothing answered is lost', async () => {
  const answered: number[] = [];
  let next = 0;
  for (let round = 0; round < 10; round += 1) {
    const kmesd = await start();
    const client = await EmitClient.connect(kmesd.socket);
    const flood: Promise<void>[] = [];
    for (let index = 0; index < 400; index += 1) {
      const id = next;
      next += 1;
      flood.push(client.emit(`test.${id}`, PAYLOAD).then(() => void answered.push(id)));
    }
    await Promise.race(flood);
    await kmesd.end('SIGKILL');
    await Promise.allSettled(flood);
    client.close();
  }
  const kmesd = await start();
  await emit(kmesd, 1, 'test.last');
  const events = kmesd.events();
  const seen = events.map(({ sequence }) => sequence);
  assert.ok(answered.length >= 10, 'every round answered something');
  assert.ok(seen.every((sequence, index) => index === 0 || sequence > (seen[index - 1] ?? 0n)));
  const types = new Set(events.map(({ type }) => type));
  assert.equal(types.size, events.length, 'no event is in the ring twice');
  for (const id of answered) assert.ok(types.has(`test.${id}`), `event ${id} was answered but is not there`);
});

test('[HOST-75] rings of another boot are discarded', async () => {
  const first = await start(['--cpus', '2']);
  await emit(first, 3);
  await first.end('SIGTERM');
  const second = await start(['--cpus', '1'], BOOT_B);
  assert.equal(readFileSync(join(directory.path, 'boot-id'), 'utf8').trim(), BOOT_B);
  assert.equal(existsSync(ring(1)), false);
  await emit(second, 1);
  assert.deepEqual(sequences(second), [1]);
  assert.match(second.stderr(), /discarding 2 ring\(s\) of boot \{aaaaaaaa/);
});

test('[HOST-75] rings without a boot ID are taken for this boot, with a warning', async () => {
  const first = await start();
  await emit(first, 3);
  await first.end('SIGTERM');
  rmSync(join(directory.path, 'boot-id'));
  const second = await start([], BOOT_B);
  await emit(second, 1);
  assert.deepEqual(sequences(second), upTo(4));
  assert.match(second.stderr(), /without a boot-id file/);
});

test('[HOST-74] [KMES-108] a second kmesd is refused while the first one lives, and only then', async () => {
  const first = await start();
  const refused = await runKmesd(directory.path, { args: QUIET });
  assert.equal(refused.code, 1);
  assert.equal(refused.stderr, `kmesd: ${directory.path}: another kmesd serves this directory\n`);
  await emit(first, 1);
  await first.end('SIGKILL');
  await emit(await start(), 1);
});

test('[KMES-102] [KMES-106] [KMES-140] [KMES-147] another --capacity swaps existing rings and keeps what they hold', async () => {
  const first = await start(['--capacity', '65536']);
  await emit(first, 20);
  await first.end('SIGTERM');
  const second = await start(['--capacity', '131072']);
  await emit(second, 1);
  assert.deepEqual(sequences(second), upTo(21));
  const info = native.ringOpen(ring());
  assert.deepEqual([info.capacity, info.generation], [131_072, 2n]);
  native.ringClose(info.ring);
});

test('[KMES-106] an equal --capacity swaps nothing', async () => {
  await (await start(['--capacity', '65536'])).end('SIGTERM');
  await start(['--capacity', '65536']);
  const info = native.ringOpen(ring());
  assert.equal(info.generation, 1n);
  native.ringClose(info.ring);
});

test('[HOST-73] more rings may be asked for later; rings beyond --cpus stay untouched', async () => {
  await (await start(['--cpus', '1'])).end('SIGTERM');
  const wide = await start(['--cpus', '2']);
  await emit(wide, 1);
  await emit(wide, 1);
  await wide.end('SIGTERM');
  const before = readFileSync(ring(1));
  const narrow = await start(['--cpus', '1']);
  await emit(narrow, 3);
  assert.match(narrow.stderr(), /1 ring\(s\) of this boot beyond --cpus 1/);
  assert.deepEqual(readFileSync(ring(1)), before);
  assert.deepEqual(sequences(narrow), upTo(4));
});

test('[KMES-33] a missing or damaged ring of this boot is never recreated', async () => {
  await (await start(['--cpus', '2'])).end('SIGTERM');
  renameSync(ring(0), `${directory.path}/kept`);
  const hole = await runKmesd(directory.path, { args: [...QUIET, '--cpus', '2'] });
  assert.deepEqual([hole.code, /cpu-0000\.ring: missing although/.test(hole.stderr)], [1, true], hole.stderr);
  assert.equal(hole.stderr.trimEnd().split('\n').length, 1);
  writeFileSync(ring(0), 'not a ring');
  const damaged = await runKmesd(directory.path, { args: [...QUIET, '--cpus', '2'] });
  assert.deepEqual(
    [damaged.code, /cpu-0000\.ring: cannot be continued/.test(damaged.stderr)],
    [1, true],
    damaged.stderr,
  );
  assert.equal(readFileSync(ring(0), 'utf8'), 'not a ring');
});

test('what a killed kmesd left half made is cleared away', async () => {
  await (await start()).end('SIGTERM');
  writeFileSync(`${ring()}.999-0.new`, 'half');
  await start();
  assert.deepEqual(readdirSync(directory.path).sort(), [
    'boot-id',
    'cpu-0000.ring',
    'emit.sock',
    'kmesd.lock',
  ]);
});

test('a directory everybody may write to, a foreign file in place of the socket, no boot ID: one clear line, exit 1', async () => {
  chmodSync(directory.path, 0o777);
  const open = await runKmesd(directory.path, { args: QUIET });
  assert.deepEqual([open.code, /writable by everybody/.test(open.stderr)], [1, true], open.stderr);
  chmodSync(directory.path, 0o755);
  writeFileSync(join(directory.path, 'emit.sock'), 'precious');
  const taken = await runKmesd(directory.path, { args: QUIET });
  assert.deepEqual(
    [taken.code, /emit\.sock: exists and is no socket/.test(taken.stderr)],
    [1, true],
    taken.stderr,
  );
  assert.equal(readFileSync(join(directory.path, 'emit.sock'), 'utf8'), 'precious');
  const bootless = await runKmesd(directory.path, { args: QUIET, boot: 'yesterday' });
  assert.deepEqual([bootless.code, /^kmesd: no boot ID/.test(bootless.stderr)], [1, true], bootless.stderr);
});

test('wrong usage is exit 2 with one line; help and version are exit 0', async () => {
  const wrong = await runKmesd(directory.path, { args: ['--capacity', '1'] });
  assert.equal(wrong.code, 2);
  assert.match(wrong.stderr, /^kmesd: --capacity: must be between .*\(see kmesd --help\)\n$/);
  const help = await runKmesd(directory.path, { args: ['--help'] });
  assert.deepEqual([help.code, help.stdout.startsWith('Usage: kmesd')], [0, true]);
  const version = await runKmesd(directory.path, { args: ['--version'] });
  assert.deepEqual([version.code, /^kmesd [0-9.]+\n$/.test(version.stdout)], [0, true]);
});

test('[HOST-10] [HOST-54] READY=1 comes when rings and socket are up, STOPPING=1 on SIGTERM', async () => {
  const path = join(directory.path, 'notify.sock');
  const fd = native.notifyListen(path);
  const received: string[] = [];
  const poll = () => {
    for (let message = native.notifyReceive(fd); message !== null; message = native.notifyReceive(fd)) {
      received.push(Buffer.from(message.data).toString());
    }
    return received;
  };
  const kmesd = await startKmesd(join(directory.path, 'rings'), { env: { NOTIFY_SOCKET: path } });
  await until(() => poll().includes('READY=1'), 'READY=1');
  await emit(kmesd, 1);
  assert.equal(await kmesd.end('SIGTERM'), 0);
  await until(() => poll().includes('STOPPING=1'), 'STOPPING=1');
});

test('SIGTERM with busy and stuck clients ends in time, exit 0', async () => {
  const kmesd = await start();
  const idle = await EmitClient.connect(kmesd.socket);
  await idle.emit('test.idle', PAYLOAD);
  const began = Date.now();
  assert.equal(await kmesd.end('SIGTERM'), 0);
  assert.ok(Date.now() - began < 5000);
  idle.close();
});
