import assert from 'node:assert/strict';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { KERNEL_BOOT_ID_FILE, readBootId } from '../../src/host/bootId.js';

const TEXT = '{01020304-0506-0708-090a-0b0c0d0e0f10}';

test('[HOST-5] [HOST-6] [HOST-53] the variable comes first, braces optional, printed lower case', () => {
  for (const value of [TEXT, TEXT.slice(1, -1), TEXT.toUpperCase(), `${TEXT}\n`]) {
    const boot = readBootId({ PEIOS_BOOT_ID: value });
    assert.equal(Buffer.from(boot.guid).toString('hex'), '0403020106050807090a0b0c0d0e0f10');
    assert.equal(boot.text, TEXT);
    assert.equal(boot.source, 'PEIOS_BOOT_ID');
  }
});

test('[HOST-5] [HOST-52] without the variable the kernel is asked', () => {
  const boot = readBootId({});
  assert.equal(boot.text, `{${readFileSync(KERNEL_BOOT_ID_FILE, 'utf8').trim()}}`);
  assert.equal(boot.source, KERNEL_BOOT_ID_FILE);
});

test('[HOST-5] [LIFE-130] a malformed variable fails and is not replaced by the kernel', () => {
  for (const value of ['', 'tomorrow', TEXT.slice(1), `${TEXT} x`]) {
    assert.throws(() => readBootId({ PEIOS_BOOT_ID: value }), {
      code: 'ERR_BOOT_ID',
      message: /PEIOS_BOOT_ID/,
    });
  }
});

test('[HOST-52] the nil GUID is no boot ID', () => {
  const nil = '00000000-0000-0000-0000-000000000000';
  assert.throws(() => readBootId({ PEIOS_BOOT_ID: nil }), { code: 'ERR_BOOT_ID', message: /nil/ });
});

test('[HOST-5] neither source is a failure; a broken kernel file, too', () => {
  const directory = mkdtempSync(join(tmpdir(), 'boot-id-'));
  try {
    const file = join(directory, 'boot_id');
    assert.throws(() => readBootId({}, file), { code: 'ERR_BOOT_ID', message: /not set, and .*ENOENT/ });
    writeFileSync(file, 'nonsense\n');
    assert.throws(() => readBootId({}, file), { code: 'ERR_BOOT_ID', message: /boot_id: "nonsense"/ });
  } finally {
    rmSync(directory, { recursive: true });
  }
});
