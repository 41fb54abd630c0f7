import assert from 'node:assert/strict';
import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { accessSync, constants, openSync, readFileSync, readlinkSync, writeFileSync } from 'node:fs';
import { afterEach, beforeEach, test } from 'node:test';
import { decode, encode } from '@msgpack/msgpack';
import { formatGuid, nameGuid, parseGuid } from '../../src/host/guid.js';
import { EmitClient } from '../../src/kmesd/emitClient.js';
import { IdentityStamps } from '../../src/kmesd/identity.js';
import { claimRingDirectory } from '../../src/kmesd/ringFiles.js';
import { readRing } from '../../src/kmesd/ringReader.js';
import { RingSet } from '../../src/kmesd/rings.js';
import { startKmsg, startProcesses } from '../../src/kmesd/sources.js';
import { native } from '../../src/native/addon.js';
import { BOOT_A, type KmesdRun, scratchDirectory, startKmesd, until } from '../fixtures/kmesd.js';

/** The source of the first kmesd of a boot. */
const FIRST = { continued: false, unobservedSince: null };

let directory: { path: string; remove(): void };
beforeEach(() => {
  directory = scratchDirectory();
});
afterEach(() => directory.remove());

interface Decoded {
  readonly type: string;
  readonly process: Uint8Array;
  readonly payload: Readonly<Record<string, unknown>>;
}

function eventsOf(kmesd: KmesdRun, prefix: string): Decoded[] {
  return kmesd
    .events()
    .filter(({ type }) => type.startsWith(prefix))
    .map(({ type, process, payload }) => ({
      type,
      process,
      payload: decode(payload) as Record<string, unknown>,
    }));
}

/** Whether this machine lets us read, or write, the kernel log. */
function kernelLog(mode: number): boolean {
  try {
    accessSync('/dev/kmsg', mode);
    openSync('/dev/kmsg', mode === constants.W_OK ? 'a' : 'r');
    return true;
  } catch {
    return false;
  }
}

async function sourceState(kmesd: KmesdRun, name: string): Promise<unknown> {
  const client = await EmitClient.connect(kmesd.socket);
  const { sources } = await client.status();
  client.close();
  return (sources as Record<string, unknown>)[name];
}

test('[KMES-1] [HOST-75] the kernel log becomes linux.kmsg events, each once, also over a restart', async () => {
  const first = await startKmesd(directory.path, { args: ['--no-process'] });
  if (!kernelLog(constants.R_OK)) {
    assert.match(first.stderr(), /\/dev\/kmsg cannot be read \(E[A-Z]+\): no linux\.kmsg events/);
    assert.equal(await sourceState(first, 'kmsg'), 'unavailable');
    await first.end('SIGTERM');
    return;
  }
  assert.equal(await sourceState(first, 'kmsg'), 'running');
  const marker = `kmesd test ${process.pid} ${Date.now()} tab\there`;
  if (kernelLog(constants.W_OK)) writeFileSync('/dev/kmsg', `<13>${marker}\n`);
  const wanted = kernelLog(constants.W_OK) ? marker : null;
  await until(() => {
    const events = eventsOf(first, 'linux.kmsg');
    return wanted === null ? events.length > 0 : events.some(({ payload }) => payload.message === wanted);
  }, 'the kernel log');
  const own = eventsOf(first, 'linux.kmsg').find(({ payload }) => payload.message === wanted);
  if (wanted !== null)
    assert.deepEqual([own?.payload.priority, own?.payload.facility, own?.payload.level], [13, 1, 5]);
  await first.end('SIGKILL');
  const second = await startKmesd(directory.path, { args: ['--no-process'] });
  if (wanted !== null) writeFileSync('/dev/kmsg', `<13>${marker} again\n`);
  await until(
    () =>
      wanted === null ||
      eventsOf(second, 'linux.kmsg').some(({ payload }) => payload.message === `${wanted} again`),
    'the line after the restart',
  );
  const numbers = eventsOf(second, 'linux.kmsg')
    .filter(({ type }) => type === 'linux.kmsg')
    .map(({ payload }) => Number(payload.sequence));
  assert.ok(
    numbers.every((number, index) => index === 0 || number > (numbers[index - 1] ?? -1)),
    'no record twice',
  );
  await second.end('SIGTERM');
});

test('a kernel log that cannot be opened is one warning and no source', () => {
  const warnings: string[] = [];
  const report = {
    info: () => undefined,
    warn: (text: string) => void warnings.push(text),
    error: assert.fail,
  };
  const claimed = claimRingDirectory(native, directory.path, parseGuid(BOOT_A), report);
  const rings = RingSet.open(native, claimed, 1, 65_536, report);
  const source = startKmsg(native, directory.path, rings, report, true, '/dev/no-such-log');
  assert.equal(source.state, 'unavailable');
  assert.deepEqual(warnings, ['/dev/no-such-log cannot be read (ENOENT): no linux.kmsg events']);
  source.stop();
  rings.close();
  claimed.release();
});

/**
 * Whether the kernel must let us read process events: it has the connector, which exists in the
 * initial network namespace only, and we are privileged in the initial pid and user namespaces.
 */
function connectorWorks(): boolean {
  const text = (path: string) => {
    try {
      return readFileSync(path, 'latin1');
    } catch {
      return '';
    }
  };
  const capabilities = BigInt(`0x${/^CapEff:\t([0-9a-f]+)$/m.exec(text('/proc/self/status'))?.[1] ?? '0'}`);
  const netAdmin = (capabilities & (1n << 12n)) !== 0n;
  const initial =
    readlinkSync('/proc/self/ns/pid') === 'pid:[4026531836]' &&
    readlinkSync('/proc/self/ns/user') === 'user:[4026531837]';
  return netAdmin && initial && text('/proc/net/connector').includes('cn_proc');
}

test('[HOST-77] process starts and exits become events with the identity of that process', async () => {
  const kmesd = await startKmesd(directory.path, { args: ['--no-kmsg'] });
  if (!connectorWorks()) {
    assert.match(kmesd.stderr(), /process events cannot be read \(E[A-Z]+\): no linux\.process events/);
    assert.equal(await sourceState(kmesd, 'process'), 'unavailable');
    await kmesd.end('SIGTERM');
    return;
  }
  const child = spawn('/bin/sh', ['-c', 'read line; exit 7', 'marker argument'], {
    stdio: ['pipe', 'ignore', 'ignore'],
  });
  const of = (type: string) => eventsOf(kmesd, type).find(({ payload }) => payload.pid === child.pid);
  await until(() => of('linux.process.exec') !== undefined, 'the exec');
  const startTime = readFileSync(`/proc/${child.pid}/stat`, 'latin1').split(') ')[1]?.split(' ')[19];
  child.stdin.end('\n');
  await once(child, 'exit');
  await until(() => of('linux.process.exit') !== undefined, 'the exit');
  const exec = of('linux.process.exec');
  assert.equal(exec?.payload.ppid, process.pid);
  assert.equal(exec?.payload.uid, process.geteuid?.());
  assert.deepEqual(exec?.payload.argv, ['/bin/sh', '-c', 'read line; exit 7', 'marker argument']);
  assert.equal(exec?.payload.command_line, '/bin/sh -c read line; exit 7 marker argument');
  assert.equal(exec?.payload.comm, 'sh');
  const guid = formatGuid(nameGuid(parseGuid(BOOT_A), `${child.pid}:${startTime}`));
  assert.equal(formatGuid(exec?.process ?? new Uint8Array(16)), guid);
  const exit = of('linux.process.exit');
  assert.deepEqual(exit?.payload, { pid: child.pid, exit_code: 7, signal: null });
  assert.equal(formatGuid(exit?.process ?? new Uint8Array(16)), guid);
  await kmesd.end('SIGTERM');
});

test('[KMES-44] [HOST-77] what went on while kmesd was dead shows as a hole: its process source tells when it begins', async () => {
  const first = await startKmesd(directory.path, { args: ['--no-kmsg'] });
  if (!connectorWorks()) {
    assert.deepEqual(first.events(), [], 'a source that cannot listen begins nothing');
    await first.end('SIGTERM');
    return;
  }
  await first.end('SIGKILL');
  const before = first.events();
  const [begun] = before;
  assert.equal(begun?.type, 'linux.process.begin');
  assert.deepEqual(decode(begun.payload), { method: 'netlink', continued: false });
  const unseen = spawnSync('/bin/true');
  const second = await startKmesd(directory.path, { args: ['--no-kmsg'] });
  await second.end('SIGKILL');
  const after = second.events().slice(before.length);
  assert.equal(after[0]?.type, 'linux.process.begin');
  assert.deepEqual(decode(after[0].payload, { useBigInt64: true }), {
    method: 'netlink',
    continued: true,
    unobserved_since: before.at(-1)?.timestamp,
  });
  const pids = eventsOf(second, 'linux.process.').map(({ payload }) => payload.pid);
  assert.ok(!pids.includes(unseen.pid), 'within the hole');
  const quiet = await startKmesd(directory.path);
  await quiet.end('SIGTERM');
  assert.equal(quiet.events().length, before.length + after.length, 'no source, no event');
});

test('a killed process tells its signal; threads and forks make no events', async () => {
  const kmesd = await startKmesd(directory.path, { args: ['--no-kmsg'] });
  const killed = spawnSync('/bin/sh', ['-c', 'kill -9 $$']);
  if (connectorWorks()) {
    await until(
      () => eventsOf(kmesd, 'linux.process.exit').some(({ payload }) => payload.pid === killed.pid),
      'the exit',
    );
    const exit = eventsOf(kmesd, 'linux.process.exit').find(({ payload }) => payload.pid === killed.pid);
    assert.deepEqual(exit?.payload, { pid: killed.pid, exit_code: 0, signal: 9 });
    const client = await EmitClient.connect(kmesd.socket);
    await client.emit('test.done', encode(1));
    client.close();
    const kinds = new Set(eventsOf(kmesd, 'linux.').map(({ type }) => type));
    kinds.delete('linux.process.begin');
    assert.ok([...kinds].every((kind) => kind === 'linux.process.exec' || kind === 'linux.process.exit'));
  } else {
    assert.match(kmesd.stderr(), /no linux\.process events/);
  }
  await kmesd.end('SIGTERM');
});

test('[KMES-44] after an overflow of the kernel queue the connector is watched anew, and the loss becomes an event', () => {
  const report = { info: assert.fail, warn: assert.fail, error: assert.fail };
  const boot = parseGuid(BOOT_A);
  const claimed = claimRingDirectory(native, directory.path, boot, report);
  const rings = RingSet.open(native, claimed, 1, 65_536, report);
  const watchers: (() => void)[] = [];
  const open = new Set<number>();
  let overruns = 0;
  const connector = {
    processConnectorOpen: () => 99,
    processConnectorReceive: () => ({ records: new Uint8Array(0), overruns }),
    processConnectorClose: (fd: number) => assert.equal(fd, 99),
    watchReadable(_fd: number, callback: () => void) {
      const index = watchers.push(callback) - 1;
      open.add(index);
      return () => void open.delete(index);
    },
  };
  const source = startProcesses(connector, rings, new IdentityStamps(boot), report, FIRST, () => 0);
  watchers[0]?.();
  assert.deepEqual([...open], [0]);
  overruns = 2;
  watchers[0]?.();
  assert.deepEqual([...open], [1]);
  source.stop();
  assert.equal(open.size, 0);
  assert.deepEqual(
    [...readRing(rings.first.path)].map(({ type, payload }) => [type, decode(payload)]),
    [
      ['linux.process.begin', { method: 'netlink', continued: false }],
      ['linux.process.lost', { count: 0, overruns: 2 }],
    ],
  );
  rings.close();
  claimed.release();
});
