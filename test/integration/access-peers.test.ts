/**
 * Real processes of different users on a real socket, judged by descriptors of a real hive. As root the
 * test chooses the users; as anybody else it has the one it runs as.
 */
import assert from 'node:assert/strict';
import { type ChildProcessWithoutNullStreams, spawn } from 'node:child_process';
import { once } from 'node:events';
import { chmodSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { createServer, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { AccessSession } from '../../src/access/accessSession.js';
import { EmbeddedCaller } from '../../src/access/embeddedCaller.js';
import { SecurityPatterns } from '../../src/access/securityPatterns.js';
import { formatSid } from '../../src/access/sid.js';
import { callerSource } from '../../src/host/callers.js';
import { descriptorOf } from '../../src/host/socketDescriptor.js';
import { runRegistryCommand } from '../../src/registry/edit.js';
import { openEmbeddedRegistry } from '../../src/registry/embedded.js';
import { EVENTD_KEY } from '../../src/registry/names.js';
import { ensureSecurityDefaults } from '../../src/registry/securityDefaults.js';
import { until } from '../fixtures/nativeRing.js';

const isRoot = process.geteuid?.() === 0;
const OWN = { uid: process.geteuid?.() ?? 0, gid: process.getegid?.() ?? 0, groups: [] };

interface Who {
  readonly uid: number;
  readonly gid: number;
  readonly groups: readonly number[];
}

/** Connects as somebody, says so, and on a line of input becomes somebody else altogether. */
const CHILD = `
  const net = require('node:net');
  const [path, who] = [process.argv[1], JSON.parse(process.argv[2])];
  if (process.geteuid() === 0) {
    process.setgroups(who.groups);
    process.setegid(who.gid);
    process.seteuid(who.uid);
  }
  net.connect(path, () => console.log('connected')).on('error', (error) => console.log(error.code));
  process.stdin.once('data', () => {
    if (process.getuid() === 0) {
      process.seteuid(0);
      process.setegid(0);
      process.setgroups([]);
    }
    console.log('changed');
  });`;

interface Peers {
  connect(who: Who): Promise<{ readonly socket: Socket; readonly child: ChildProcessWithoutNullStreams }>;
}

async function peers(t: TestContext): Promise<Peers> {
  const directory = mkdtempSync(join(tmpdir(), 'access-'));
  chmodSync(directory, 0o755);
  const path = join(directory, 'query.sock');
  // A client that ends must not close our side before we have looked.
  const server = createServer({ allowHalfOpen: true, pauseOnConnect: true });
  server.listen(path);
  await once(server, 'listening');
  chmodSync(path, 0o666);
  const ends: (() => void)[] = [];
  t.after(() => {
    for (const end of ends) end();
    server.close();
    rmSync(directory, { recursive: true, force: true });
  });
  return {
    connect: async (who) => {
      const child = spawn(process.execPath, ['-e', CHILD, path, JSON.stringify(who)], { stdio: 'pipe' });
      ends.push(() => child.kill('SIGKILL'));
      const ended = once(child, 'exit').then(([code]) => assert.fail(`the client ended with ${code}`));
      ended.catch(() => {});
      const connected = Promise.all([
        once(server, 'connection') as Promise<[Socket]>,
        once(child.stdout, 'data') as Promise<[Buffer]>,
      ]);
      const [[socket], [line]] = await Promise.race([connected, ended]);
      assert.equal(line.toString().trim(), 'connected');
      ends.push(() => socket.destroy());
      return { socket, child };
    },
  };
}

async function hive(t: TestContext) {
  const directory = mkdtempSync(join(tmpdir(), 'access-hive-'));
  const file = join(directory, 'eventd.reg');
  writeFileSync(file, `PEIOS-REG 1\n[${EVENTD_KEY}]\n`, { mode: 0o600 });
  const log = { warn: () => {} };
  const registry = await openEmbeddedRegistry(file, log);
  t.after(async () => {
    await registry.close();
    rmSync(directory, { recursive: true, force: true });
  });
  const patterns = new SecurityPatterns(registry, log);
  const watch = await registry.watch(EVENTD_KEY, () => patterns.apply(watch.take(), EVENTD_KEY));
  await ensureSecurityDefaults(registry, log);
  return { file, patterns };
}

const source = (adminGids: readonly number[] = []) =>
  callerSource({ adapter: 'linux', adminGids: () => new Set(adminGids), sink: null });

const sidsOf = (caller: unknown): string[] => {
  assert.ok(caller instanceof EmbeddedCaller);
  return [caller.token.user, ...caller.token.groups.map(({ sid }) => sid)].map(formatSid);
};

test('[ACL-26] [HOST-65] [HOST-69] who connects is who it was at connect, whatever becomes of the process', async (t) => {
  const who = isRoot ? { uid: 12345, gid: 12346, groups: [12347, 12348] } : OWN;
  const { socket, child } = await (await peers(t)).connect(who);
  const before = sidsOf(source()(descriptorOf(socket)));
  child.stdin.write('\n');
  const [line] = (await once(child.stdout, 'data')) as [Buffer];
  assert.equal(line.toString().trim(), 'changed');
  assert.deepEqual(sidsOf(source()(descriptorOf(socket))), before);
  child.kill('SIGKILL');
  await once(child, 'exit');
  assert.deepEqual(sidsOf(source()(descriptorOf(socket))), before);
  assert.ok(before.includes(who.uid === 0 ? 'S-1-5-18' : `S-1-22-1-${who.uid}`));
  for (const gid of [who.gid, ...who.groups]) assert.ok(before.includes(`S-1-22-2-${gid}`));
});

test('[ACL-27] [HOST-65] a descriptor without a peer has no identity', async (t) => {
  await peers(t);
  const server = createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  t.after(() => server.close());
  const fd: unknown = Reflect.get(Reflect.get(server, '_handle') as object, 'fd');
  assert.equal(typeof fd, 'number');
  assert.throws(() => source()(Number(fd)));
  assert.throws(() => source()(0x7ffffff0), { code: 'EBADF' });
});

test('[ACL-13] [CFG-62] the defaults: everybody with a token reads logs and metrics, administrators events', async (t) => {
  const { patterns } = await hive(t);
  const sockets = await peers(t);
  const seen = async (who: Who, adminGids: readonly number[] = []) => {
    const { socket } = await sockets.connect(who);
    const session = await AccessSession.open(source(adminGids)(descriptorOf(socket)), patterns);
    const types = ['events', 'logs', 'metrics'] as const;
    const answers = await Promise.all(types.map((type) => session.visibility(type, 'anything')));
    return answers.map(({ everything }) => everything);
  };
  const known = isRoot
    ? [
        { who: { uid: 0, gid: 0, groups: [] }, sees: [true, true, true] },
        { who: { uid: 12345, gid: 12346, groups: [12347] }, sees: [false, true, true] },
        { who: { uid: 65534, gid: 65534, groups: [] }, sees: [false, true, true] },
      ]
    : [{ who: OWN, sees: [false, true, true] }];
  for (const { who, sees } of known) assert.deepEqual(await seen(who), sees, `uid ${who.uid}`);
  const member = isRoot ? { uid: 12345, gid: 12346, groups: [12347] } : OWN;
  assert.deepEqual(await seen(member, isRoot ? [12347] : [OWN.gid]), [true, true, true]);
});

test('[ACL-8] [ACL-46] [CFG-63] evctl registry set-sd opens a pattern to a group from the next query on', async (t) => {
  const { file, patterns } = await hive(t);
  const who = isRoot ? { uid: 12345, gid: 12346, groups: [12347] } : OWN;
  const gid = isRoot ? 12347 : OWN.gid;
  const { socket } = await (await peers(t)).connect(who);
  const caller = source()(descriptorOf(socket));
  const sees = async (identifier: string) => {
    const session = await AccessSession.open(caller, patterns);
    return (await session.visibility('events', identifier)).visible;
  };
  const others = await sees('other');
  assert.equal(others, who.uid === 0);
  const { generation } = patterns;
  const sddl = `O:SYG:SYD:(A;;0x1;;;SY)(A;;0x1;;;S-1-22-2-${gid})`;
  await runRegistryCommand(file, 'set-sd', ['Events', 'kacs', sddl]);
  await until('the watch tells of the new value', () => patterns.generation > generation);
  assert.equal(await sees('kacs.access_denied'), true);
  assert.equal(await sees('other'), others);
  const opened = patterns.generation;
  await runRegistryCommand(file, 'del', ['Machine\\System\\eventd\\Security\\Events', 'kacs']);
  await until('the watch tells of the deletion', () => patterns.generation > opened);
  assert.equal(await sees('kacs.access_denied'), others);
});
