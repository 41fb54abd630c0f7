import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { formatSid, parseSid } from '../../src/access/sid.js';
import { isSystemOrAdministrator } from '../../src/access/token.js';
import { foreignRootProblem, resolveAdminGroups, tokenFromCredentials } from '../../src/host/peerIdentity.js';

const token = (uid: number, gid: number, groups: number[], admins: number[] = []) =>
  tokenFromCredentials({ pid: 7, uid, gid, groups }, new Set(admins));
const groupsOf = (peer: ReturnType<typeof token>) => peer.groups.map(({ sid }) => formatSid(sid)).sort();

test('[HOST-66] an ordinary user: own SID, Everyone, Authenticated Users and each group once', () => {
  const peer = token(1000, 100, [100, 27, 4294967294]);
  assert.equal(formatSid(peer.user), 'S-1-22-1-1000');
  assert.deepEqual(groupsOf(peer), [
    'S-1-1-0',
    'S-1-22-2-100',
    'S-1-22-2-27',
    'S-1-22-2-4294967294',
    'S-1-5-11',
  ]);
  assert.ok(peer.groups.every(({ attributes }) => attributes === 7));
  assert.equal(peer.integrityLevel, 8192);
  assert.equal(peer.mandatoryPolicy, 1);
  assert.equal(peer.privileges, 0n);
  assert.equal(peer.type, 'primary');
  assert.deepEqual(
    [peer.restrictingSids, peer.confinementSid, peer.trust],
    [[], null, { type: 0, level: 0 }],
  );
  assert.equal(peer.isSystemOrAdministrator, false);
});

test('[HOST-66] uid 0 is SYSTEM, administrator and local, with SeSecurity and system integrity', () => {
  const peer = token(0, 0, []);
  assert.equal(formatSid(peer.user), 'S-1-5-18');
  assert.deepEqual(groupsOf(peer), ['S-1-1-0', 'S-1-2-0', 'S-1-22-2-0', 'S-1-5-11', 'S-1-5-32-544']);
  assert.equal(peer.integrityLevel, 16384);
  assert.equal(peer.privileges, 1n << 8n);
  assert.equal(peer.isSystemOrAdministrator, true);
});

test('[HOST-66] [HOST-67] the primary and each supplementary group can make an administrator', () => {
  for (const peer of [token(1000, 27, [], [27]), token(1000, 100, [4, 27], [27])]) {
    assert.ok(groupsOf(peer).includes('S-1-5-32-544'));
    assert.equal(peer.integrityLevel, 12288);
    assert.equal(peer.isSystemOrAdministrator, true);
  }
  assert.equal(token(1000, 100, [4], [27]).isSystemOrAdministrator, false);
  assert.equal(token(1000, 0, [], []).isSystemOrAdministrator, false);
});

test('[HOST-68] unmapped ids are never root or administrator, even if listed, and stay unsigned', () => {
  for (const id of [65534, 4294967295]) {
    assert.equal(token(id, 27, [], [27]).isSystemOrAdministrator, false);
    assert.equal(token(1000, id, [id], [id]).isSystemOrAdministrator, false);
    assert.equal(formatSid(token(id, id, []).user), `S-1-22-1-${id}`);
  }
});

test('[ACL-69] an administrator group that is disabled or deny-only does not count', () => {
  const peer = (attributes: number) => ({
    user: parseSid('S-1-22-1-1000'),
    userDenyOnly: false,
    groups: [{ sid: parseSid('S-1-5-32-544'), attributes }],
  });
  assert.equal(isSystemOrAdministrator(peer(7)), true);
  assert.equal(isSystemOrAdministrator(peer(0)), false);
  assert.equal(isSystemOrAdministrator(peer(0x10)), false);
  assert.equal(
    isSystemOrAdministrator({ user: parseSid('S-1-5-18'), userDenyOnly: true, groups: [] }),
    false,
  );
});

test('[HOST-67] admin groups are ids or names; unknown names are logged and skipped', async () => {
  const directory = mkdtempSync(join(tmpdir(), 'groups-'));
  const warnings: string[] = [];
  const log = { warn: (message: string) => void warnings.push(message) };
  try {
    const file = join(directory, 'group');
    writeFileSync(file, 'root:x:0:\nwheel:x:10:alice,bob\nnogroup:x:65534:\nbroken\n');
    const gids = await resolveAdminGroups(['wheel', '27', 'nobody-has-this', 'nogroup'], log, file);
    assert.deepEqual([...gids].sort(), [10, 27]);
    assert.equal(warnings.length, 2);
    assert.match(warnings[0] ?? '', /no group is named "nobody-has-this"/);
    assert.match(warnings[1] ?? '', /65534/);
    assert.deepEqual([...(await resolveAdminGroups([], log))], []);
    assert.deepEqual([...(await resolveAdminGroups(['wheel'], log, join(directory, 'missing')))], []);
    assert.equal(warnings.length, 4);
  } finally {
    rmSync(directory, { recursive: true });
  }
});

test('[HOST-66] a user namespace whose root is somebody else outside is recognised', () => {
  assert.equal(foreignRootProblem('         0          0 4294967295\n'), null);
  assert.match(foreignRootProblem('0 100000 65536\n') ?? '', /uid 0 .* is uid 100000 outside/);
  assert.equal(foreignRootProblem('1000 1000 1\n'), null);
});
