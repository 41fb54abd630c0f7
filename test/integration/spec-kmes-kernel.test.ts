/** The path to the real KMES, run against a preloaded stand-in for its attach call (KMES part 9, ING part 2). */
import assert from 'node:assert/strict';
import { execFileSync, spawnSync } from 'node:child_process';
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { constants, tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { after, before, test } from 'node:test';
import { addonPath, native } from '../../src/native/addon.js';
import { numbered, TYPE } from '../fixtures/nativeRing.js';

const CAPACITY = 131_072;
const directory = mkdtempSync(join(tmpdir(), 'kmes-kernel-'));
const library = join(directory, 'stand-in.so');
const log = join(directory, 'attach.log');

before(() => {
  const source = join(dirname(addonPath), '../../test/kmes_attach_stand_in.c');
  execFileSync('cc', ['-shared', '-fPIC', '-O1', '-Wall', '-Werror', '-o', library, source, '-ldl']);
  for (const cpu of [0, 1]) {
    // What the kernel maps in one call: both pages, then the data twice.
    const path = join(directory, `${cpu}.ring`);
    const producer = native.producerCreate(path, cpu, CAPACITY);
    for (let n = 0; n < 5; n++) {
      native.producerEmit(producer, 0, { type: TYPE, payload: numbered(n) }, null);
    }
    native.producerClose(producer);
    const ring = readFileSync(path);
    writeFileSync(join(directory, `${cpu}.map`), Buffer.concat([ring, ring.subarray(8192)]));
  }
});
after(() => rmSync(directory, { recursive: true }));

interface Outcome {
  readonly rings: readonly { cpu: number; capacity: number; written: string }[];
  /** Mappings of each `.map` file: bytes and protection. */
  readonly mapped: readonly (readonly [string, number, string])[];
  readonly error: { readonly code: string; readonly message: string } | null;
  /** CPU and errno of every attach call. */
  readonly calls: readonly (readonly number[])[];
}

const PROGRAM = `
  import { readFileSync } from 'node:fs';
  const { attachAllRings } = await import(process.argv[1]);
  const { native } = await import(process.argv[2]);
  let rings = [], error = null;
  try {
    rings = attachAllRings({ kind: 'kernel' }).map(({ ring, cpu, capacity }) =>
      ({ cpu, capacity, written: String(native.ringStatus(ring).writePos) }));
  } catch ({ code, message }) {
    error = { code, message };
  }
  const mapped = readFileSync('/proc/self/maps', 'utf8').split('\\n').filter((line) => line.endsWith('.map'))
    .map((line) => {
      const [range, protection] = line.split(' ');
      const [start, end] = range.split('-').map((text) => parseInt(text, 16));
      return [line.slice(line.lastIndexOf('/') + 1), end - start, protection];
    });
  console.log(JSON.stringify({ rings, mapped, error }));`;

/** Attaches every ring in a process of its own; `fail` makes one CPU's attach answer an errno. */
function attachAll(fail?: readonly [cpu: number, errno: number]): Outcome {
  rmSync(log, { force: true });
  const modules = ['host/kmes.js', 'native/addon.js'].map(
    (name) => new URL(`../../src/${name}`, import.meta.url).href,
  );
  const { stdout, stderr } = spawnSync(
    process.execPath,
    ['--input-type=module', '-e', PROGRAM, '--', ...modules],
    {
      encoding: 'utf8',
      env: {
        ...process.env,
        LD_PRELOAD: library,
        KMES_RINGS: directory,
        KMES_LOG: log,
        ...(fail === undefined ? {} : { KMES_FAIL: fail.join(' ') }),
      },
    },
  );
  assert.notEqual(stdout, '', stderr);
  const calls = existsSync(log) ? readFileSync(log, 'utf8').trim().split('\n') : [];
  return {
    ...(JSON.parse(stdout) as Omit<Outcome, 'calls'>),
    calls: calls.map((line) => line.split(' ').map(Number)),
  };
}

test('[KMES-62] [KMES-87] [KMES-93] [ING-4] [ING-5] [ING-6] [CFG-91] rings are attached by call 1091 from CPU 0 up to EINVAL, each mapped whole', () => {
  const { rings, mapped, error, calls } = attachAll();
  assert.equal(error, null);
  assert.deepEqual(calls, [
    [0, 0],
    [1, 0],
    [2, constants.errno.EINVAL],
  ]);
  const written = String(5 * (77 + TYPE.length + numbered(0).length));
  assert.deepEqual(rings, [
    { cpu: 0, capacity: CAPACITY, written },
    { cpu: 1, capacity: CAPACITY, written },
  ]);
  assert.deepEqual(mapped.toSorted(), [
    ['0.map', 8192 + 2 * CAPACITY, 'rw-s'],
    ['1.map', 8192 + 2 * CAPACITY, 'rw-s'],
  ]);
});

for (const code of ['EPERM', 'ENOMEM', 'EFAULT', 'EMFILE'] as const) {
  test(`[KMES-91] [ING-4] [ING-7] ${code} is a failure and no end of the CPUs, and nothing stays attached`, () => {
    const { error, mapped, calls } = attachAll([1, constants.errno[code]]);
    assert.equal(error?.code, 'ERR_KMES_ATTACH');
    assert.match(error.message, new RegExp(`kmes_attach\\(1\\).*${code}`));
    assert.equal(error.message.includes('SeSecurityPrivilege'), code === 'EPERM');
    assert.deepEqual(mapped, []);
    assert.equal(calls.length, 2);
  });
}

test('[KMES-89] [ING-4] EINVAL for CPU 0 means that there are no rings', () => {
  const { error, calls } = attachAll([0, constants.errno.EINVAL]);
  assert.equal(error?.code, 'ERR_KMES_RINGS');
  assert.equal(calls.length, 1);
});
