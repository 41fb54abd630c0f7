import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { closeSync, constants, mkdtempSync, openSync, rmSync, writeFileSync } from 'node:fs';
import { connect, createServer, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { Worker } from 'node:worker_threads';
import { addonPath, native } from '../../src/native/addon.js';
import { until } from '../fixtures/nativeRing.js';

const directory = mkdtempSync(join(tmpdir(), 'eventd-system-'));
after(() => rmSync(directory, { recursive: true, force: true }));

function descriptor(socket: Socket): number {
  return (socket as unknown as { _handle: { fd: number } })._handle.fd;
}

test('[HOST-65] a peer is known by pid, uid, gid and supplementary groups', async () => {
  const path = join(directory, 'peer.sock');
  const server = createServer().listen(path);
  await once(server, 'listening');
  const client = connect(path);
  const [socket] = (await once(server, 'connection')) as [Socket];
  const peer = native.peerCredentials(descriptor(socket));
  assert.equal(peer.pid, process.pid);
  assert.equal(peer.uid, process.getuid?.());
  assert.equal(peer.gid, process.getgid?.());
  const groups = spawnSync('sed', ['-n', 's/^Groups://p', '/proc/self/status'], { encoding: 'utf8' }).stdout;
  const expected = groups.trim().split(/\s+/).filter(Boolean).map(Number);
  assert.deepEqual([...peer.groups].sort(), expected.sort());
  client.destroy();
  server.close();
  assert.throws(() => native.peerCredentials(99_999), { code: 'EBADF' });
});

test('[HOST-65] supplementary groups are read whole, however many there are', () => {
  const source = (setup: string) => `
    const net = require('node:net');
    const native = require(${JSON.stringify(addonPath)});
    ${setup}
    const path = ${JSON.stringify(join(directory, 'many.sock'))};
    require('node:fs').rmSync(path, { force: true });
    const server = net.createServer((socket) => {
      const seen = native.peerCredentials(socket._handle.fd).groups;
      process.stdout.write(JSON.stringify({ seen, own: process.getgroups() }));
      process.exit(0);
    }).listen(path, () => net.connect(path));`;
  const groupsOf = (setup: string): { seen: number[]; own: number[] } =>
    JSON.parse(spawnSync(process.execPath, ['-e', source(setup)], { encoding: 'utf8' }).stdout);
  // Only root may choose its groups; anybody else has those it was given.
  const many = process.getuid?.() === 0 ? [0, 64, 65, 300] : [];
  for (const count of many) {
    const groups = Array.from({ length: count }, (_, i) => 10_000 + i);
    assert.deepEqual(groupsOf(`process.setgroups(${JSON.stringify(groups)});`).seen, groups);
  }
  const { seen, own } = groupsOf('');
  // getgroups adds the primary group where the kernel's list lacks it.
  const withPrimary = new Set([...seen, process.getgid?.()]);
  assert.deepEqual([...withPrimary].sort(), [...new Set([...own, process.getgid?.()])].sort());
  assert.equal(new Set(seen).size, seen.length);
});

test('[HOST-8][HOST-54] a datagram reaches a path and an abstract address; a missing one is ENOENT', async () => {
  const path = join(directory, 'notify.sock');
  const fd = native.notifyListen(path);
  let seen = 0;
  const stop = native.watchReadable(fd, () => {
    const message = native.notifyReceive(fd);
    if (message !== null) seen += message.data.length;
  });
  native.sendDatagram(path, new TextEncoder().encode('READY=1'));
  await until('the datagram', () => seen === 7);
  stop();
  stop();
  native.sendDatagram(path, new TextEncoder().encode('STOPPING=1'));
  await new Promise((resolve) => setImmediate(resolve));
  assert.equal(seen, 7);
  closeSync(fd);
  assert.throws(() => native.sendDatagram(join(directory, 'none.sock'), new Uint8Array(1)), {
    code: 'ENOENT',
  });
  assert.throws(() => native.sendDatagram('@eventd-no-such-name', new Uint8Array(1)), {
    code: 'ECONNREFUSED',
  });
  assert.throws(() => native.sendDatagram('x'.repeat(200), new Uint8Array(1)), { code: 'ENAMETOOLONG' });
});

test('[HOST-8] an error on the descriptor reaches the callback, and the watch goes on', async () => {
  // The writing end of a FIFO has an error for as long as nobody has the reading end open.
  const path = join(directory, 'fifo');
  assert.equal(spawnSync('mkfifo', [path]).status, 0);
  const openReader = () => openSync(path, constants.O_RDONLY | constants.O_NONBLOCK);
  let reader = openReader();
  const writer = openSync(path, constants.O_WRONLY | constants.O_NONBLOCK);
  let calls = 0;
  const stop = native.watchReadable(writer, () => {
    calls++;
  });
  const turns = async () => {
    for (let i = 0; i < 20; i++) await new Promise((resolve) => setImmediate(resolve));
  };
  await turns();
  assert.equal(calls, 0);
  for (let round = 0; round < 2; round++) {
    closeSync(reader);
    const before = calls;
    await until('three calls, one for each look at the descriptor', () => calls >= before + 3);
    reader = openReader();
    await turns();
    const quiet: number = calls;
    await turns();
    assert.equal(calls, quiet, 'no call without an error');
  }
  stop();
  // A callback that gives up and closes the descriptor is not called again, nor is the process hurt.
  let last = 0;
  const stopLast = native.watchReadable(writer, () => {
    last++;
    closeSync(writer);
  });
  closeSync(reader);
  await until('the last call', () => last > 0);
  await turns();
  assert.equal(last, 1);
  stopLast();
});

test('[HOST-8] a reset connection keeps calling until the watch is stopped; a closed descriptor ends it', () => {
  // A reset shows as error, end and readable at once, at which the event loop stops a watch.
  const source = (onReadable: string) => `
    const net = require('node:net');
    const native = require(${JSON.stringify(addonPath)});
    let calls = 0;
    const server = net.createServer({ pauseOnConnect: true }, (socket) => {
      const fd = socket._handle.fd;
      const stop = native.watchReadable(fd, () => { calls++; ${onReadable} });
      client.resetAndDestroy();
    }).listen(0, '127.0.0.1', () => { client = net.connect(server.address().port, '127.0.0.1'); });
    let client;`;
  const run = (onReadable: string) =>
    spawnSync(process.execPath, ['-e', source(onReadable)], { encoding: 'utf8', timeout: 10_000 });
  const goesOn = run("if (calls === 3) { stop(); process.stdout.write('three'); process.exit(0); }");
  assert.equal(goesOn.stdout, 'three', goesOn.stderr);
  const closes = run(
    "require('node:fs').closeSync(fd); setTimeout(() => { process.stdout.write('alive ' + calls); process.exit(0); }, 50);",
  );
  assert.equal(closes.stdout, 'alive 1', closes.stderr);
});

test('[HOST-8] a watch does not outlive the thread that made it', async () => {
  const path = join(directory, 'worker.sock');
  const source = `
    const { parentPort, workerData } = require('node:worker_threads');
    const native = require(workerData.addon);
    native.watchReadable(native.notifyListen(workerData.path), () => {});
    parentPort.postMessage('watching');`;
  const worker = new Worker(source, { eval: true, workerData: { addon: addonPath, path } });
  await once(worker, 'message');
  assert.equal(await worker.terminate(), 1);
});

test('[HOST-75] flock excludes another holder until it closes', () => {
  const path = join(directory, 'lock');
  writeFileSync(path, '');
  const [first, second] = [openSync(path, 'r'), openSync(path, 'r')];
  assert.equal(native.lockFile(first), true);
  assert.equal(native.lockFile(second), false);
  closeSync(first);
  assert.equal(native.lockFile(second), true);
  closeSync(second);
});

test('[KMES-31] the clocks agree with the platform', () => {
  const before = process.hrtime.bigint();
  const now = native.monotonicNs();
  assert.ok(now >= before && now <= process.hrtime.bigint());
  assert.ok(Math.abs(Number(native.realtimeNs() / 1_000_000n) - Date.now()) < 1000);
});

test('[HOST-2] an unknown syscall number is told apart from a known one', () => {
  assert.equal(native.probeSyscall(1010, -1n), 'ENOSYS');
  assert.equal(native.probeSyscall(3, -1n), 'EBADF');
});
