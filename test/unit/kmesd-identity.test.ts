import assert from 'node:assert/strict';
import { test } from 'node:test';
import { nameGuid, parseGuid } from '../../src/host/guid.js';
import { Admission } from '../../src/kmesd/admission.js';
import { IdentityStamps, parseProcessStat, readProcessStat } from '../../src/kmesd/identity.js';

const boot = parseGuid('{01020304-0506-0708-090a-0b0c0d0e0f10}');
const stamps = new IdentityStamps(boot);
const stat = { comm: 'x', parent: 1, startTime: '4711' };

test('[HOST-77] [KMES-37] [KMES-38] both tokens are named after the user, the process after pid and start time', () => {
  const identity = stamps.of(1000, { pid: 42, startTime: '4711' });
  assert.deepEqual(identity.trueToken, nameGuid(boot, 'S-1-22-1-1000'));
  assert.deepEqual(identity.effectiveToken, identity.trueToken);
  assert.deepEqual(identity.process, nameGuid(boot, '42:4711'));
  assert.deepEqual(stamps.of(0, null).trueToken, nameGuid(boot, 'S-1-5-18'));
});

test('[KMES-40] a process that cannot be identified has the null GUID', () => {
  assert.deepEqual(stamps.of(0, null).process, new Uint8Array(16));
});

test('[HOST-77] another boot gives other GUIDs', () => {
  const other = new IdentityStamps(parseGuid('{11020304-0506-0708-090a-0b0c0d0e0f10}'));
  assert.notDeepEqual(other.of(0, null).trueToken, stamps.of(0, null).trueToken);
});

test('stat lines are read behind the last parenthesis', () => {
  const tail = `S 7 ${'0 '.repeat(17)}4711 0 0`;
  assert.deepEqual(parseProcessStat(`42 (a) b (c) ${tail}`), {
    comm: 'a) b (c',
    parent: 7,
    startTime: '4711',
  });
  assert.equal(parseProcessStat('42 (a S 7'), null);
  assert.equal(parseProcessStat('42 (a) S 7'), null);
  assert.equal(readProcessStat(process.pid)?.parent, process.ppid);
  assert.equal(readProcessStat(0), null);
});

test('[HOST-76] [KMES-63] root and admin group members may emit, only root is free of the rate limit', () => {
  const admission = new Admission(new Set([44]), stamps, () => stat);
  const caller = (uid: number, gid: number, groups: number[]) => {
    const { mayEmit, rateExempt } = admission.caller({ pid: 42, uid, gid, groups });
    return [mayEmit, rateExempt];
  };
  assert.deepEqual(caller(0, 0, []), [true, true]);
  assert.deepEqual(caller(1000, 44, []), [true, false], 'the primary group counts');
  assert.deepEqual(caller(1000, 1000, [7, 44]), [true, false]);
  assert.deepEqual(caller(1000, 1000, [7]), [false, false]);
  assert.deepEqual(caller(65_534, 1000, [44]), [false, false], 'nobody is never an administrator');
});

test('[KMES-71] [KMES-73] the bucket belongs to the process, not to the user', () => {
  const admission = new Admission(new Set(), stamps, () => stat);
  assert.equal(admission.caller({ pid: 42, uid: 1, gid: 1, groups: [] }).process, '42:4711');
  const blind = new Admission(new Set(), stamps, () => null);
  assert.equal(blind.caller({ pid: 42, uid: 1, gid: 1, groups: [] }).process, null);
});
