import assert from 'node:assert/strict';
import { mkdtempSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { formatGuid, newGuid } from '../../src/host/guid.js';
import {
  attachAllRings,
  attachRing,
  BOOT_ID_FILE,
  checkKmesSource,
  ringFileName,
  tryAttachRing,
} from '../../src/host/kmes.js';
import { native } from '../../src/native/addon.js';

const CAPACITY = 65536;
const HERE = newGuid();

function withRings(cpus: readonly number[], work: (directory: string) => void): void {
  const directory = mkdtempSync(join(tmpdir(), 'kmes-'));
  try {
    for (const cpu of cpus)
      native.producerClose(native.producerCreate(join(directory, ringFileName(cpu)), cpu, CAPACITY));
    work(directory);
  } finally {
    rmSync(directory, { recursive: true });
  }
}

const embedded = (directory: string) => ({ kind: 'embedded', directory }) as const;

test('[HOST-73] [KMES-90] [LIFE-112] rings are attached from CPU 0 up until there is none', () => {
  withRings([0, 1, 2], (directory) => {
    const rings = attachAllRings(embedded(directory), HERE);
    assert.deepEqual(
      rings.map(({ cpu, capacity }) => [cpu, capacity]),
      [
        [0, CAPACITY],
        [1, CAPACITY],
        [2, CAPACITY],
      ],
    );
    for (const { ring } of rings) native.ringClose(ring);
    assert.equal(tryAttachRing(embedded(directory), 3), null);
    assert.throws(() => attachRing(embedded(directory), 3, HERE), {
      code: 'ERR_KMES_ATTACH',
      message: /no event ring for CPU 3/,
    });
  });
});

test('[LIFE-133] no ring at all is a failure', () => {
  withRings([], (directory) => {
    assert.throws(() => attachAllRings(embedded(directory), HERE), {
      code: 'ERR_KMES_RINGS',
      message: /CPU 0/,
    });
    assert.throws(() => checkKmesSource(embedded(directory), newGuid()), {
      code: 'ERR_KMES_RINGS',
      message: /no ring file/,
    });
    const missing = embedded(join(directory, 'missing'));
    assert.throws(() => checkKmesSource(missing, newGuid()), { code: 'ERR_KMES_RINGS', message: /ENOENT/ });
  });
});

test('[HOST-73] a hole in the numbering is a failure that names the missing file', () => {
  withRings([0, 2], (directory) => {
    assert.throws(() => checkKmesSource(embedded(directory), newGuid()), {
      code: 'ERR_KMES_RINGS',
      message: `${directory}/cpu-0001.ring is missing although cpu-0002.ring exists`,
    });
  });
});

test('[HOST-75] rings of another boot are refused; without a boot-id file they are accepted', () => {
  withRings([0], (directory) => {
    const [here, other] = [newGuid(), newGuid()];
    checkKmesSource(embedded(directory), here);
    writeFileSync(join(directory, BOOT_ID_FILE), `${formatGuid(here)}\n`);
    checkKmesSource(embedded(directory), here);
    assert.throws(() => checkKmesSource(embedded(directory), other), {
      code: 'ERR_KMES_BOOT',
      message: `the rings in ${directory} belong to boot ${formatGuid(here)}, but this is boot ${formatGuid(other)}`,
    });
    writeFileSync(join(directory, BOOT_ID_FILE), 'rubbish');
    assert.throws(() => checkKmesSource(embedded(directory), here), {
      code: 'ERR_KMES_BOOT',
      message: /boot-id: "rubbish"/,
    });
  });
});

test('[HOST-75] [ING-15] a ring that another boot has put in the place of the old one is refused, and not left attached', () => {
  withRings([0], (directory) => {
    const other = newGuid();
    writeFileSync(join(directory, BOOT_ID_FILE), `${formatGuid(other)}\n`);
    const refused = { code: 'ERR_KMES_BOOT', message: new RegExp(`belong to boot ${formatGuid(other)}`) };
    const mappings = () => readFileSync('/proc/self/maps', 'utf8').split(directory).length;
    const before = mappings();
    assert.throws(() => attachRing(embedded(directory), 0, HERE), refused);
    assert.throws(() => attachAllRings(embedded(directory), HERE), refused);
    assert.equal(mappings(), before);
    native.ringClose(attachRing(embedded(directory), 0, other).ring);
  });
});

test('[LIFE-133] a file that is no ring, or the ring of another CPU, is a failure that leaves nothing attached', () => {
  withRings([0, 1], (directory) => {
    renameSync(join(directory, ringFileName(1)), join(directory, ringFileName(2)));
    assert.throws(() => attachRing(embedded(directory), 2, HERE), {
      code: 'ERR_KMES_ATTACH',
      message: /the ring of CPU 1/,
    });
    writeFileSync(join(directory, ringFileName(1)), Buffer.alloc(16384));
    assert.throws(() => attachAllRings(embedded(directory), HERE), {
      code: 'ERR_KMES_ATTACH',
      message: /cpu-0001\.ring/,
    });
  });
});

test('[KMES-92] each attach is a mapping of its own', () => {
  withRings([0], (directory) => {
    const [first, second] = [
      attachRing(embedded(directory), 0, HERE),
      attachRing(embedded(directory), 0, HERE),
    ];
    assert.notEqual(first.ring, second.ring);
    native.ringClose(first.ring);
    assert.equal(native.ringStatus(second.ring).capacity, CAPACITY);
    native.ringClose(second.ring);
  });
});

test('[HOST-51] [LIFE-133] a kernel without KMES is a failure, not an end of discovery', () => {
  if (native.probeSyscall(1091, 0xffffffffn) !== 'ENOSYS') {
    assert.equal(tryAttachRing({ kind: 'kernel' }, 0xffffffff), null);
    return;
  }
  assert.throws(() => tryAttachRing({ kind: 'kernel' }, 0), {
    code: 'ERR_KMES_ATTACH',
    message: /kmes_attach\(0\)/,
  });
});
