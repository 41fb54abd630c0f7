import assert from 'node:assert/strict';
import { test } from 'node:test';
import { choosePlatform } from '../../src/host/platform.js';

function kernel(answers: Record<number, string>) {
  const asked: [number, bigint][] = [];
  const probe = (number: number, argument: bigint) => {
    asked.push([number, argument]);
    return answers[number] ?? 'ENOSYS';
  };
  return { asked, probe };
}

const PEIOS = { 1010: 'EBADF', 1091: 'EINVAL', 1100: 'EFAULT' };

test('[HOST-2] each family is probed once with an invalid argument; ENOSYS selects the stand-in', () => {
  const linux = kernel({});
  assert.deepEqual(choosePlatform('auto', linux.probe).adapters, {
    kacs: 'linux',
    lcs: 'linux',
    kmes: 'linux',
  });
  assert.deepEqual(linux.asked, [
    [1010, -1n],
    [1100, -1n],
    [1091, 0xffffffffn],
  ]);
  const peios = choosePlatform('auto', kernel(PEIOS).probe);
  assert.deepEqual(peios.adapters, { kacs: 'peios', lcs: 'peios', kmes: 'peios' });
  assert.equal(peios.mixed, false);
});

test('[HOST-2] any other answer, also EPERM of a filter, selects the real call', () => {
  assert.equal(choosePlatform('auto', kernel({ ...PEIOS, 1010: 'EPERM' }).probe).adapters.kacs, 'peios');
});

test('[HOST-3] the choice is one line, and a mixed one says so', () => {
  const mixed = choosePlatform('auto', kernel({ 1010: 'EBADF' }).probe);
  assert.equal(mixed.mixed, true);
  assert.equal(
    mixed.description,
    'host auto (mixed): access checks (KACS) peios, probe EBADF; registry (LCS) linux, probe ENOSYS; ' +
      'event rings (KMES) linux, probe ENOSYS',
  );
});

test('[HOST-2] linux is taken at its word without asking the kernel', () => {
  const silent = kernel(PEIOS);
  assert.deepEqual(choosePlatform('linux', silent.probe).adapters, {
    kacs: 'linux',
    lcs: 'linux',
    kmes: 'linux',
  });
  assert.deepEqual(silent.asked, []);
});

test('[HOST-3] peios with ENOSYS is a failure that names the calls, never a fallback', () => {
  assert.equal(choosePlatform('peios', kernel(PEIOS).probe).adapters.lcs, 'peios');
  assert.throws(() => choosePlatform('peios', kernel({ 1010: 'EBADF', 1091: 'EINVAL' }).probe), {
    code: 'ERR_PLATFORM',
    message: '--host peios, but this kernel lacks registry (LCS): call 1100 answers ENOSYS',
  });
});
