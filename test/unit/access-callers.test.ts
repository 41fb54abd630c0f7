import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { fstatSync, mkdtempSync, openSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { decode } from '@msgpack/msgpack';
import Database from 'better-sqlite3';
import { ensureAdminDescriptor, readAdminDescriptor } from '../../src/access/adminDescriptor.js';
import { storedDescriptor } from '../../src/access/caller.js';
import { CLAIM, encodeClaims } from '../../src/access/claims.js';
import { EmbeddedCaller } from '../../src/access/embeddedCaller.js';
import { rootList } from '../../src/access/fieldLists.js';
import { sddlToSecurityDescriptor, securityDescriptorToSddl } from '../../src/access/sddl.js';
import { RingAuditSink } from '../../src/host/accessAuditSink.js';
import { callerSource } from '../../src/host/callers.js';
import { encodeNodes, KacsCaller } from '../../src/host/kacs.js';
import { ringFileName } from '../../src/host/kmes.js';
import { choosePlatform } from '../../src/host/platform.js';
import { readRing } from '../../src/kmesd/ringReader.js';
import { addonPath, type KacsCheck, native } from '../../src/native/addon.js';
import { tokenOf, userToken } from '../fixtures/access.js';

const OPEN = storedDescriptor(sddlToSecurityDescriptor('O:SYG:SYD:(A;;0x1;;;AU)'));
const { nodes: ROOT } = rootList('events');
const REQUEST = {
  descriptor: OPEN,
  nodes: ROOT,
  auditContext: 'events:a',
  localClaims: [{ name: 'Identifier', type: CLAIM.string, flags: 0, values: ['a'] }],
};

const onPeios = native.probeSyscall(1010, -1n) !== 'ENOSYS';

test('[HOST-2] [ACL-40] on a kernel without KACS the real calls say ENOSYS and the stand-in is chosen', async () => {
  const { adapters } = choosePlatform('auto', (number, argument) => native.probeSyscall(number, argument));
  assert.equal(adapters.kacs, onPeios ? 'peios' : 'linux');
  const check: KacsCheck = {
    token: 0x7ffffff0,
    descriptor: OPEN.bytes,
    desired: 1,
    mapping: { read: 1, write: 2, execute: 3, all: 4 },
    nodes: encodeNodes(ROOT),
    claims: encodeClaims(REQUEST.localClaims),
    context: Buffer.from('events:a'),
  };
  const code = onPeios ? /^E(BADF|INVAL)$/ : /^ENOSYS$/;
  const coded = (error: unknown) => code.test(String((error as { code?: unknown }).code));
  await assert.rejects(native.kacsAccessCheck(check), coded);
  await assert.rejects(native.kacsAccessCheck({ ...check, nodes: new Uint8Array(0) }), coded);
  assert.throws(() => native.kacsOpenPeerToken(0x7ffffff0), coded);
  assert.throws(
    () => callerSource({ adapter: 'peios', adminGids: () => new Set(), sink: null })(0x7ffffff0),
    coded,
  );
});

test('[ACL-60] a check waits for a thread of the pool and leaves the JavaScript thread alone', () => {
  // The pool has one thread, which is busy: whatever is done before it is free was done on this thread.
  const script = `
    const { pbkdf2 } = require('node:crypto');
    const native = require(${JSON.stringify(addonPath)});
    const order = [];
    pbkdf2('x', 'y', 100000, 32, 'sha512', () => order.push('pool'));
    const mapping = { read: 1, write: 2, execute: 3, all: 4 };
    const none = new Uint8Array(0);
    const check = { token: 0x7ffffff0, descriptor: new Uint8Array(4), desired: 1, mapping };
    native.kacsAccessCheck({ ...check, nodes: none, claims: none, context: none })
      .catch(() => order.push('check'))
      .then(() => console.log(order.join()));
    setImmediate(() => order.push('turn'));`;
  const child = spawnSync(process.execPath, ['-e', script], {
    encoding: 'utf8',
    env: { ...process.env, UV_THREADPOOL_SIZE: '1' },
  });
  assert.equal(child.stdout.trim(), 'turn,pool,check', child.stderr);
});

test('[ACL-40] arguments that no check can have never reach the kernel', async () => {
  const check: KacsCheck = {
    token: 3,
    descriptor: OPEN.bytes,
    desired: 1,
    mapping: { read: 1, write: 2, execute: 3, all: 4 },
    nodes: new Uint8Array(0),
    claims: new Uint8Array(0),
    context: new Uint8Array(0),
  };
  for (const wrong of [
    { descriptor: new Uint8Array(0) },
    { descriptor: new Uint8Array(65_536) },
    { nodes: new Uint8Array(20 * 1025) },
    { claims: new Uint8Array(65_537) },
    { context: new Uint8Array(4097) },
  ]) {
    await assert.rejects(native.kacsAccessCheck({ ...check, ...wrong }), { code: 'EINVAL' });
  }
  assert.throws(() => native.kacsAccessCheck({ ...check, token: -1 }), /token/);
  assert.throws(() => native.kacsAccessCheck({ ...check, nodes: new Uint8Array(19) }), /20 bytes/);
});

/** A kernel that answers when it is told to. */
function fakeKernel() {
  const checks: KacsCheck[] = [];
  const answers: ((verdicts: readonly boolean[]) => void)[] = [];
  const token = openSync('/dev/null', 'r');
  const calls = {
    kacsOpenPeerToken: (fd: number) => (fd === 9 ? token : assert.fail(`asked about descriptor ${fd}`)),
    kacsAccessCheck: (check: KacsCheck) => {
      checks.push(check);
      return new Promise<readonly boolean[]>((resolve) => answers.push(resolve));
    },
  };
  const isOpen = () => {
    try {
      fstatSync(token);
      return true;
    } catch {
      return false;
    }
  };
  return { checks, answers, token, calls, isOpen };
}

test('[ACL-15] [ACL-16] [ACL-26] [ACL-53] a caller on Peios is checked by its own token, for EVENTD_READ', async () => {
  const { checks, answers, token, calls } = fakeKernel();
  const caller = KacsCaller.of(9, calls);
  const verdict = caller.check(REQUEST);
  answers[0]?.([true]);
  assert.deepEqual(await verdict, [true]);
  const [check] = checks;
  assert.equal(check?.token, token);
  assert.equal(check?.desired, 0x1);
  assert.deepEqual(check?.mapping, { read: 0x20001, write: 0x20002, execute: 0x20001, all: 0xf0003 });
  assert.deepEqual(check?.descriptor, OPEN.bytes);
  assert.equal(Buffer.from(check?.context ?? []).toString(), 'events:a');
  assert.deepEqual(check?.claims, encodeClaims(REQUEST.localClaims));
  assert.equal(Buffer.from(check?.nodes ?? []).toString('hex'), '00000000d4c3b2a1010000408000000000000001');
  void caller.check({ ...REQUEST, nodes: null });
  assert.equal(checks[1]?.nodes.length, 0);
});

test('[ACL-26] the token is closed with the connection, but not under a check that uses it', async () => {
  const { answers, calls, isOpen } = fakeKernel();
  const caller = KacsCaller.of(9, calls);
  const running = caller.check(REQUEST);
  caller.close();
  assert.equal(isOpen(), true);
  await assert.rejects(caller.check(REQUEST));
  answers[0]?.([true]);
  await running;
  assert.equal(isOpen(), false);
  caller.close();
});

test('[ACL-19] [ACL-20] entries of a list: level, zero, GUID', () => {
  const guid = Uint8Array.from({ length: 16 }, (_, index) => index + 1);
  const bytes = Buffer.from(encodeNodes([...ROOT, { level: 258, guid }]));
  assert.equal(bytes.length, 40);
  assert.equal(bytes.toString('hex', 20), '02010000' + '0102030405060708090a0b0c0d0e0f10');
});

interface AuditPayload {
  readonly subject: unknown;
  readonly object_context: Uint8Array;
  readonly requested_access: number;
  readonly granted_access: number;
  readonly success: boolean;
  readonly trigger: { readonly kind: string; readonly ace: Uint8Array | null };
  readonly process: { readonly pid: number };
}

test('[ACL-85] [HOST-77] what a SACL asks for becomes an event of origin class 2 in the rings', async (t) => {
  const directory = mkdtempSync(join(tmpdir(), 'access-audit-'));
  t.after(() => rmSync(directory, { recursive: true, force: true }));
  const ring = join(directory, ringFileName(0));
  const other = native.producerCreate(ring, 0, 65_536);
  t.after(() => native.producerClose(other));
  const stamp = (value: number) => new Uint8Array(16).fill(value);
  const identity = { effectiveToken: stamp(1), trueToken: stamp(2), process: stamp(3) };
  const warnings: string[] = [];
  const sink = new RingAuditSink(directory, identity, { warn: (message) => void warnings.push(message) });
  t.after(() => sink.close());
  const audited = storedDescriptor(
    sddlToSecurityDescriptor('O:SYG:SYD:(A;;0x1;;;AU)S:(AU;SA;0x1;;;WD)(AU;FA;0x1;;;WD)'),
  );
  const caller = new EmbeddedCaller(userToken([], { auditPolicy: 1 }), sink);
  assert.deepEqual(await caller.check({ ...REQUEST, descriptor: audited }), [true]);
  const refused = new EmbeddedCaller(tokenOf('S-1-22-1-7', ['WD']), sink);
  assert.deepEqual(await refused.check({ ...REQUEST, descriptor: audited }), [false]);
  const events = [...readRing(ring)];
  assert.deepEqual(
    events.map(({ type, origin, effectiveToken }) => [type, origin, effectiveToken[0]]),
    Array(3).fill(['access-audit', 2, 1]),
  );
  const [success, policy, failure] = events.map(({ payload }) => decode(payload) as AuditPayload);
  assert.deepEqual(Object.keys(success ?? {}).sort(), [
    'granted_access',
    'object_context',
    'process',
    'requested_access',
    'subject',
    'success',
    'trigger',
  ]);
  assert.deepEqual(success?.subject, {
    user_sid: 'S-1-22-1-1000',
    group_sids: ['S-1-5-11', 'S-1-1-0'],
    integrity_level: 8192,
    pip_type: 0,
    pip_trust: 0,
  });
  assert.equal(Buffer.from(success?.object_context ?? []).toString(), 'events:a');
  assert.deepEqual([success?.requested_access, success?.granted_access, success?.success], [1, 1, true]);
  assert.equal(success?.trigger.kind, 'sacl');
  assert.deepEqual(policy?.trigger, { kind: 'policy', ace: null });
  assert.deepEqual([failure?.granted_access, failure?.success], [0, false]);
  assert.equal(failure?.process.pid, process.pid);
  // The other producer goes on, a resize is followed, and nothing was worth a warning.
  native.producerResize(other, 131_072);
  await caller.check({ ...REQUEST, descriptor: audited });
  assert.equal([...readRing(ring)].length, 5);
  assert.deepEqual(warnings, []);
});

test('[ACL-85] [ACL-84] audit that cannot be written is told once and changes no verdict', async (t) => {
  const directory = mkdtempSync(join(tmpdir(), 'access-audit-'));
  t.after(() => rmSync(directory, { recursive: true, force: true }));
  const warnings: string[] = [];
  const nil = new Uint8Array(16);
  const identity = { effectiveToken: nil, trueToken: nil, process: nil };
  const sink = new RingAuditSink(directory, identity, { warn: (message) => void warnings.push(message) });
  const caller = new EmbeddedCaller(userToken([], { auditPolicy: 1 }), sink);
  assert.deepEqual(await caller.check(REQUEST), [true]);
  assert.deepEqual(await caller.check(REQUEST), [true]);
  assert.equal(warnings.length, 1);
  const producer = native.producerCreate(join(directory, ringFileName(0)), 0, 65_536);
  t.after(() => native.producerClose(producer));
  await caller.check(REQUEST);
  assert.equal([...readRing(join(directory, ringFileName(0)))].length, 1);
  sink.close();
  await caller.check(REQUEST);
  assert.equal([...readRing(join(directory, ringFileName(0)))].length, 1);
});

test('[ACL-57] [ACL-58] [IDX-43] admin_sd: the default as a BLOB, kept once set, refused when unusable', (t) => {
  const directory = mkdtempSync(join(tmpdir(), 'access-admin-'));
  t.after(() => rmSync(directory, { recursive: true, force: true }));
  const database = new Database(join(directory, 'eventd-meta.db'));
  t.after(() => database.close());
  database.exec('CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL)');
  assert.equal(readAdminDescriptor(database), null);
  ensureAdminDescriptor(database);
  assert.equal(database.prepare('SELECT typeof(value) FROM meta').pluck().get(), 'blob');
  const stored = readAdminDescriptor(database);
  assert.equal(
    securityDescriptorToSddl(stored?.bytes ?? new Uint8Array()),
    'O:SYG:SYD:(A;;0x1;;;SY)(A;;0x1;;;BA)',
  );
  const set = (value: unknown) => database.prepare('UPDATE meta SET value = ?').run(value);
  set(Buffer.from(OPEN.bytes));
  ensureAdminDescriptor(database);
  assert.deepEqual(readAdminDescriptor(database)?.bytes, OPEN.bytes);
  set(Buffer.alloc(20));
  assert.equal(readAdminDescriptor(database), null);
  set('O:SYG:SYD:(A;;0x1;;;WD)');
  assert.equal(readAdminDescriptor(database), null);
});
