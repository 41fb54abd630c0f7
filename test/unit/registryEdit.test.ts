import assert from 'node:assert/strict';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { runRegistryCommand } from '../../src/registry/edit.js';

const KEY = 'Machine\\System\\eventd';
const BODY = `PEIOS-REG 1
[${KEY}]
"EventRetentionDays"=dword:00000007 ; a week
@="unnamed"
[${KEY}\\Security\\Events]
"*"=sddl:"O:SYG:SYD:(A;;0x1;;;SY)"
`;

async function withHive(
  work: (run: (...args: string[]) => Promise<string>, text: () => string) => Promise<void>,
) {
  const directory = mkdtempSync(join(tmpdir(), 'edit-'));
  const file = join(directory, 'eventd.reg');
  writeFileSync(file, BODY, { mode: 0o600 });
  try {
    await work(
      (command = '', ...args) => runRegistryCommand(file, command, args),
      () => readFileSync(file, 'utf8'),
    );
  } finally {
    rmSync(directory, { recursive: true });
  }
}

test('[HOST-64] get prints a value, a setting by its name alone, or a whole key', () =>
  withHive(async (run) => {
    assert.equal(await run('get', KEY, 'eventretentiondays'), 'dword:00000007');
    assert.equal(await run('get', 'EventRetentionDays'), 'dword:00000007');
    assert.equal(await run('get', 'machine/system/eventd', '@'), '"unnamed"');
    assert.equal(await run('get', `${KEY}\\Security\\Events`), '"*"=sddl:"O:SYG:SYD:(A;;0x1;;;SY)"');
    await assert.rejects(run('get', 'QueryTimeoutMs'), {
      code: 'ENOENT',
      message: `no value "QueryTimeoutMs" in ${KEY}; the default is 30000`,
    });
    await assert.rejects(run('get', KEY, 'DebugSocketPath'), {
      message: `no value "DebugSocketPath" in ${KEY}`,
    });
    await assert.rejects(run('get', 'Nowhere'), { code: 'ENOENT', message: /no key Nowhere/ });
  }));

test('[HOST-64] set takes hive syntax, and plain values for known settings', () =>
  withHive(async (run, text) => {
    assert.equal(await run('set', 'eventRetentionDays', '30'), '"EventRetentionDays"=dword:0000001e');
    assert.match(text(), /"EventRetentionDays"=dword:0000001e ; a week/);
    assert.equal(
      await run('set', KEY, 'LogRetentionMaxBytes', '1024'),
      '"LogRetentionMaxBytes"=qword:0000000000000400',
    );
    assert.equal(await run('set', 'QuerySocketPath', '/run/q.sock'), '"QuerySocketPath"="/run/q.sock"');
    assert.equal(await run('set', 'AdminGroups', 'wheel, 27'), '"AdminGroups"=multi:"wheel","27"');
    assert.equal(await run('set', 'QueryTimeoutMs', 'dword:00002710'), '"QueryTimeoutMs"=dword:00002710');
    assert.equal(await run('set', 'Machine\\New\\Key', 'x', 'hex:01,02'), '"x"=hex:01,02');
    assert.match(text(), /\[Machine\\New\]\n\[Machine\\New\\Key\]\n"x"=hex:01,02\n$/);
  }));

test('[HOST-64] set refuses what eventd would ignore and says what it expects', () =>
  withHive(async (run, text) => {
    const cases: [string[], RegExp][] = [
      [['EventRetentionDays', '0'], /EventRetentionDays: found 0, expected REG_DWORD from 1 to 3650/],
      [['EventRetentionDays', '99999999999'], /too large/],
      [['EventRetentionDays', 'qword:0000000000000001'], /found REG_QWORD, expected REG_DWORD/],
      [['QuerySocketPath', '"relative"'], /found the relative path "relative"/],
      [
        ['EventRetentionMaxBytes', '10MB'],
        /^EventRetentionMaxBytes takes a whole number of bytes, such as 10485760$/,
      ],
      [
        ['eventretentiondays', 'x'],
        /^EventRetentionDays takes a whole number of days from 1 to 3650, such as 30$/,
      ],
      [['QuerySocketPath', 'q.sock'], /^QuerySocketPath takes an absolute path, such as /],
      [['AdminGroups', 'a:b'], /^AdminGroups takes names with commas between them/],
      [['EventRetentionMaxBytes', 'qword:1'], /value:7: expected 16 hex digits/],
      [[KEY, 'Unknown', 'bare'], /value:1: expected "text", dword:/],
      [[KEY, 'Unknown', 'dword:1'], /value:7: expected 8 hex digits, found 1/],
      [[KEY, 'Unknown', '-'], /use del/],
      [['Unknown', '5'], /"Unknown" is no setting of eventd/],
      [['one'], /usage: set KEY NAME VALUE/],
    ];
    for (const [args, message] of cases)
      await assert.rejects(run('set', ...args), { code: 'ERR_USAGE', message });
    assert.equal(text(), BODY);
  }));

test('[HOST-64] del removes a value, ls shows subkeys and values', () =>
  withHive(async (run, text) => {
    assert.equal(await run('ls'), '[Machine]');
    assert.equal(await run('ls', KEY), '[Security]\n"EventRetentionDays"=dword:00000007\n@="unnamed"');
    assert.equal(await run('del', 'EventRetentionDays'), '"EventRetentionDays" deleted');
    assert.equal(await run('del', KEY, '@'), '@ deleted');
    assert.equal(await run('ls', KEY), '[Security]');
    assert.doesNotMatch(text(), /EventRetentionDays/);
    await assert.rejects(run('del', 'EventRetentionDays'), { code: 'ENOENT' });
    await assert.rejects(run('del', KEY), { code: 'ERR_USAGE' });
  }));

test('[HOST-64] [ACL-8] [ACL-9] set-sd stores a binary descriptor under a pattern', () =>
  withHive(async (run, text) => {
    const sddl = 'O:SYG:SYD:(A;;0x1;;;AU)';
    assert.equal(await run('set-sd', 'logs', 'loregd', sddl), `"loregd"=sddl:"${sddl}"`);
    assert.match(text(), /\[Machine\\System\\eventd\\Security\\Logs\]\n"loregd"=sddl:/);
    assert.equal(await run('set-sd', `${KEY}\\Security\\Events`, '*', sddl), `"*"=sddl:"${sddl}"`);
    assert.equal(await run('get', `${KEY}\\Security\\Events`, '*'), `sddl:"${sddl}"`);
    await assert.rejects(run('set-sd', 'Logs', 'x', 'O:ZZ'), {
      code: 'ERR_SDDL',
      message: /unknown SID "ZZ" at position 3/,
    });
    await assert.rejects(run('set-sd', 'Logs', '', sddl), { code: 'ERR_USAGE' });
  }));

test('[HOST-64] an unknown command names the known ones', () =>
  withHive(async (run) => {
    await assert.rejects(run('toString'), {
      code: 'ERR_USAGE',
      message: /there are get, set, del, ls, set-sd/,
    });
  }));
