import assert from 'node:assert/strict';
import {
  chmodSync,
  closeSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  symlinkSync,
  unlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { setTimeout as delay } from 'node:timers/promises';
import { securityDescriptorToSddl } from '../../src/access/sddl.js';
import { native } from '../../src/native/addon.js';
import { type EmbeddedRegistry, openEmbeddedRegistry } from '../../src/registry/embedded.js';
import { ownershipProblem } from '../../src/registry/hiveFile.js';
import type { RegistryAvailability, RegistryEvent } from '../../src/registry/registry.js';
import { ensureSecurityDefaults, SECURITY_DEFAULTS } from '../../src/registry/securityDefaults.js';
import { dwordData, szData } from '../../src/registry/value.js';
import { lockEventStore } from '../../src/stores/storeLock.js';

const KEY = 'Machine\\System\\eventd';
const BODY = `PEIOS-REG 1
; kept
[${KEY}]
"EventRetentionDays"=dword:00000007
"Odd"=hex(63):01
[${KEY}\\Security\\Events]
"kacs"=sddl:"O:SYD:(A;;0x1;;;SY)"
`;

interface Fixture {
  readonly directory: string;
  readonly file: string;
  readonly registry: EmbeddedRegistry;
  readonly warnings: string[];
  /** Everything a watch on `key` delivers from now on. */
  watch(key?: string): Promise<RegistryEvent[]>;
  replace(text: string): void;
}

async function withRegistry(work: (fixture: Fixture) => Promise<void>, body = BODY): Promise<void> {
  const directory = mkdtempSync(join(tmpdir(), 'registry-'));
  const file = join(directory, 'eventd.reg');
  writeFileSync(file, body, { mode: 0o600 });
  const warnings: string[] = [];
  const registry = await openEmbeddedRegistry(file, { warn: (message) => void warnings.push(message) });
  const watch = async (key = KEY) => {
    const events: RegistryEvent[] = [];
    const armed = await registry.watch(key, () => void events.push(...armed.take()));
    return events;
  };
  const replace = (text: string) => {
    writeFileSync(`${file}.new`, text, { mode: 0o600 });
    renameSync(`${file}.new`, file);
  };
  try {
    await work({ directory, file, registry, warnings, watch, replace });
  } finally {
    await registry.close();
    rmSync(directory, { recursive: true });
  }
}

/** Inodes this process has inotify watch now. */
function watchedInodes(): Set<bigint> {
  const lines = readdirSync('/proc/self/fdinfo').flatMap((fd) => {
    try {
      return readFileSync(`/proc/self/fdinfo/${fd}`, 'utf8').split('\n');
    } catch {
      // The one that listed the directory is closed.
      return [];
    }
  });
  const inodes = lines.flatMap((line) => /^inotify .*\bino:([0-9a-f]+)/.exec(line)?.[1] ?? []);
  return new Set(inodes.map((ino) => BigInt(`0x${ino}`)));
}

async function until(condition: () => boolean, what: string): Promise<void> {
  const deadline = performance.now() + 8000;
  while (!condition()) {
    if (performance.now() > deadline) assert.fail(`timed out: ${what}`);
    await delay(5);
  }
}

test('[HOST-57] [CFG-1] values, single values and subkeys are read without regard to case', () =>
  withRegistry(async ({ registry }) => {
    const names = (await registry.readValues('machine/system/EVENTD')).map(({ name }) => name);
    assert.deepEqual(names, ['EventRetentionDays', 'Odd']);
    const value = await registry.readValue(KEY, 'EVENTRETENTIONDAYS');
    assert.deepEqual(value, { name: 'EventRetentionDays', ...dwordData(7) });
    assert.deepEqual(await registry.listSubkeys(KEY), ['Security']);
    assert.deepEqual(await registry.listSubkeys('Machine'), ['System']);
    assert.deepEqual(await registry.readValues(`${KEY}\\Security`), []);
  }));

test('[HOST-38] [HOST-57] failures carry the errno of the platform', () =>
  withRegistry(async ({ registry }) => {
    await assert.rejects(registry.readValues('Machine\\Nowhere'), { code: 'ENOENT' });
    await assert.rejects(registry.readValue(KEY, 'Missing'), { code: 'ENOENT' });
    await assert.rejects(registry.listSubkeys('Nowhere'), { code: 'ENOENT' });
    await assert.rejects(registry.readValues('Machine\\\\eventd'), { code: 'EINVAL' });
    await assert.rejects(registry.readValue(KEY, 'n'.repeat(256)), { code: 'ENAMETOOLONG' });
    await assert.rejects(registry.setValue('Nowhere', 'a', dwordData(1)), { code: 'ENOENT' });
    await assert.rejects(registry.deleteValue(KEY, 'Missing'), { code: 'ENOENT' });
    await assert.rejects(registry.createKey('Machine\\A\\B'), { code: 'ENOENT' });
    await assert.rejects(
      registry.watch('Nowhere', () => undefined),
      { code: 'ENOENT' },
    );
  }));

test('[HOST-56] a missing or malformed file is a start-up failure that names it', async () => {
  const directory = mkdtempSync(join(tmpdir(), 'registry-'));
  const file = join(directory, 'eventd.reg');
  const log = { warn: () => undefined };
  try {
    await assert.rejects(openEmbeddedRegistry(file, log), {
      message: `registry file ${file} does not exist`,
    });
    writeFileSync(file, 'PEIOS-REG 1\n[a]\n"x"=1\n', { mode: 0o600 });
    await assert.rejects(openEmbeddedRegistry(file, log), { message: new RegExp(`^${file}:3:5: expected`) });
  } finally {
    rmSync(directory, { recursive: true });
  }
});

test('[HOST-62] a file or directory that others may change is refused at start', async () => {
  const directory = mkdtempSync(join(tmpdir(), 'registry-'));
  const file = join(directory, 'eventd.reg');
  const log = { warn: () => undefined };
  const open = () => openEmbeddedRegistry(file, log);
  try {
    writeFileSync(file, BODY);
    chmodSync(file, 0o664);
    await assert.rejects(open(), {
      code: 'ERR_HIVE_UNSAFE',
      message: /writable by group or others \(mode 0664\)/,
    });
    chmodSync(file, 0o602);
    await assert.rejects(open(), { code: 'ERR_HIVE_UNSAFE' });
    chmodSync(file, 0o644);
    chmodSync(directory, 0o777);
    await assert.rejects(open(), { code: 'ERR_HIVE_UNSAFE', message: /its directory .* is writable/ });
    chmodSync(directory, 0o1777);
    await (await open()).close();
    const links = join(directory, 'links');
    mkdirSync(links);
    chmodSync(links, 0o777);
    symlinkSync(file, join(links, 'eventd.reg'));
    await assert.rejects(openEmbeddedRegistry(join(links, 'eventd.reg'), log), {
      message: /links is writable/,
    });
  } finally {
    rmSync(directory, { recursive: true });
  }
  const own = { uid: 1000n, mode: 0o100600n };
  assert.equal(ownershipProblem('f', own, 1000, false), null);
  assert.equal(ownershipProblem('f', { ...own, uid: 0n }, 1000, false), null);
  assert.match(
    ownershipProblem('f', own, 1001, false) ?? '',
    /belongs to uid 1000; it must belong to root or to uid 1001/,
  );
});

test('[HOST-58] [HOST-41] [HOST-42] one event per changed value or key, with its relative path', () =>
  withRegistry(async ({ watch, replace }) => {
    const events = await watch();
    const security = await watch(`${KEY}\\Security`);
    replace(`PEIOS-REG 1
[${KEY}]
"EventRetentionDays"=dword:00000008
[${KEY}\\Security\\Logs]
"*"=hex:01
`);
    await until(() => events.length > 0, 'events');
    assert.deepEqual(events, [
      { type: 'valueSet', path: [], name: 'EventRetentionDays' },
      { type: 'valueDeleted', path: [], name: 'Odd' },
      { type: 'subkeyCreated', path: ['Security'], name: 'Logs' },
      { type: 'valueSet', path: ['Security', 'Logs'], name: '*' },
      { type: 'subkeyDeleted', path: ['Security'], name: 'Events' },
    ]);
    assert.deepEqual(security, [
      { type: 'subkeyCreated', path: [], name: 'Logs' },
      { type: 'valueSet', path: ['Logs'], name: '*' },
      { type: 'subkeyDeleted', path: [], name: 'Events' },
    ]);
  }));

test('[HOST-58] a write that changes nothing, and other files beside it, cause no event', () =>
  withRegistry(async ({ registry, directory, file, watch, replace }) => {
    const events = await watch();
    replace(`${BODY}; only a comment\n`);
    writeFileSync(join(directory, 'other.reg'), 'noise');
    await registry.refresh();
    assert.deepEqual(events, []);
    // The next real change is the first thing to arrive.
    replace(BODY.replace('00000007', '00000009'));
    await until(() => events.length > 0, 'the real change');
    assert.deepEqual(events, [{ type: 'valueSet', path: [], name: 'EventRetentionDays' }]);
    assert.equal(statSync(file).isFile(), true);
  }));

test('[HOST-58] the file may be written in place, too', () =>
  withRegistry(async ({ registry, file, watch }) => {
    const events = await watch();
    writeFileSync(file, BODY.replace('00000007', '00000009'));
    await until(() => events.length > 0, 'the change');
    assert.deepEqual((await registry.readValue(KEY, 'EventRetentionDays')).data, dwordData(9).data);
  }));

test('[HOST-58] what happens to the file is seen at once, and its directory is watched only while it is missing', async (t) => {
  // Without its poll, only what inotify tells brings a change.
  t.mock.timers.enable({ apis: ['setInterval'] });
  await withRegistry(async ({ registry, directory, file, watch, replace }) => {
    const isWatched = (path: string) => watchedInodes().has(statSync(path, { bigint: true }).ino);
    const events = await watch();
    const seen = async (what: string) => {
      await until(() => events.length > 0, what);
      events.length = 0;
      assert.ok(isWatched(file), `${what}: the file is watched`);
      assert.ok(!isWatched(directory), `${what}: the directory is not`);
    };
    const states: boolean[] = [];
    registry.onAvailability(({ available }) => void states.push(available));
    assert.ok(isWatched(file) && !isWatched(directory), 'from the start');

    writeFileSync(file, BODY.replace('00000007', '00000008'));
    await seen('a write in place');
    for (const days of [9, 6]) {
      replace(BODY.replace('00000007', `0000000${days}`));
      await seen('a file in its place');
    }
    renameSync(file, `${file}.away`);
    await until(() => states.length === 1, 'a rename away');
    assert.ok(isWatched(directory), 'the directory is watched for its return');
    renameSync(`${file}.away`, file);
    await seen('a rename back');
    unlinkSync(file);
    await until(() => states.length === 3, 'a deletion');
    assert.ok(isWatched(directory), 'the directory is watched for a new file');
    writeFileSync(file, BODY, { mode: 0o600 });
    await seen('a new file');
    assert.deepEqual(states, [false, true, false, true]);
    assert.deepEqual((await registry.readValue(KEY, 'EventRetentionDays')).data, dwordData(7).data);
  });
});

test('[HOST-58] a link turned to another file, where inotify is blind, is found by comparing signatures', async () => {
  const directory = mkdtempSync(join(tmpdir(), 'registry-'));
  const link = join(directory, 'eventd.reg');
  const [first, second] = [join(directory, 'first.reg'), join(directory, 'second.reg')];
  writeFileSync(first, BODY, { mode: 0o600 });
  writeFileSync(second, BODY.replace('00000007', '00000009'), { mode: 0o600 });
  symlinkSync(first, link);
  const registry = await openEmbeddedRegistry(link, { warn: () => undefined });
  try {
    let notified = false;
    await registry.watch(KEY, () => {
      notified = true;
    });
    symlinkSync(second, `${link}.new`);
    renameSync(`${link}.new`, link);
    await until(() => notified, 'the change');
  } finally {
    await registry.close();
    rmSync(directory, { recursive: true });
  }
});

test('[HOST-59] [HOST-47] [HOST-43] [FAIL-25] [FAIL-27] a broken file leaves the last values; recovery is an overflow', () =>
  withRegistry(async ({ registry, warnings, watch, replace }) => {
    const events = await watch();
    const states: RegistryAvailability[] = [];
    registry.onAvailability((state) => void states.push(state));
    replace('PEIOS-REG 1\n[a\n');
    await until(() => states.length === 1, 'unavailable');
    assert.equal(states[0]?.available, false);
    assert.deepEqual((await registry.readValue(KEY, 'EventRetentionDays')).data, dwordData(7).data);
    await assert.rejects(registry.refresh(), { code: 'EIO', message: /eventd\.reg:2:3: expected \]/ });
    await assert.rejects(registry.setValue(KEY, 'x', dwordData(1)), { code: 'EIO' });
    replace('still broken');
    await assert.rejects(registry.refresh(), { code: 'EIO', message: /first line/ });
    assert.equal(warnings.length, 1);
    assert.match(
      warnings[0] ?? '',
      /registry unavailable, the last known values stay in force: .*eventd\.reg:2:3/,
    );

    replace(BODY.replace('00000007', '00000009'));
    await until(() => events.length > 0, 'recovery');
    assert.deepEqual(events, [{ type: 'overflow' }]);
    assert.deepEqual(
      states.map(({ available }) => available),
      [false, true],
    );
    assert.deepEqual((await registry.readValue(KEY, 'EventRetentionDays')).data, dwordData(9).data);
  }));

test('[HOST-59] a missing file counts as unavailable until it is back', () =>
  withRegistry(async ({ registry, file, watch, replace }) => {
    const events = await watch();
    unlinkSync(file);
    await assert.rejects(registry.refresh(), { code: 'EIO', message: /is missing/ });
    assert.equal((await registry.readValues(KEY)).length, 2);
    replace(BODY);
    await until(() => events.length > 0, 'recovery');
    assert.deepEqual(events, [{ type: 'overflow' }]);
  }));

test('[HOST-62] a file that becomes writable by others at run time is not taken over', () =>
  withRegistry(async ({ registry, file }) => {
    chmodSync(file, 0o666);
    writeFileSync(file, BODY.replace('00000007', '00000009'));
    await assert.rejects(registry.refresh(), { code: 'EIO', message: /cannot be trusted/ });
    assert.deepEqual((await registry.readValue(KEY, 'EventRetentionDays')).data, dwordData(7).data);
    chmodSync(file, 0o600);
    await registry.refresh();
    assert.deepEqual((await registry.readValue(KEY, 'EventRetentionDays')).data, dwordData(9).data);
  }));

test('[HOST-59] [FAIL-27] what kept the file from being read may be mended outside it: it is tried again', () =>
  withRegistry(async ({ registry, directory, file, watch, warnings }) => {
    const events = await watch();
    chmodSync(directory, 0o777);
    writeFileSync(file, BODY.replace('00000007', '00000009'));
    await assert.rejects(registry.refresh(), { code: 'EIO', message: /directory .* is writable/ });
    chmodSync(directory, 0o700);
    await until(() => events.some(({ type }) => type === 'overflow'), 'the unchanged file is read again');
    assert.deepEqual((await registry.readValue(KEY, 'EventRetentionDays')).data, dwordData(9).data);
    assert.equal(warnings.length, 2, 'lost and found, each said once');
  }));

test('[HOST-63] [HOST-42] a full queue drops the oldest events for a single overflow', () =>
  withRegistry(async ({ registry, replace }) => {
    let notified = 0;
    const armed = await registry.watch(KEY, () => void notified++);
    const lines = (data: number) =>
      Array.from({ length: 300 }, (_, index) => `"v${index}"=dword:0000000${data}`).join('\n');
    replace(`${BODY}[${KEY}]\n${lines(1)}\n`);
    await registry.refresh();
    replace(`${BODY}[${KEY}]\n${lines(2)}\n`);
    await registry.refresh();
    const events = armed.take();
    assert.equal(events.length, 256);
    assert.equal(events[0]?.type, 'overflow');
    assert.equal(events.filter(({ type }) => type === 'overflow').length, 1);
    assert.deepEqual(events.at(-1), { type: 'valueSet', path: [], name: 'v299' });
    assert.equal(notified, 1);
    assert.deepEqual(armed.take(), []);
  }));

test('[HOST-46] [HOST-42] when the watched key goes the watch says so once and ends', () =>
  withRegistry(async ({ registry, watch, replace }) => {
    const events = await watch(`${KEY}\\Security\\Events`);
    replace(BODY.replace('Security\\Events', 'Security\\Other'));
    await registry.refresh();
    replace(BODY);
    await registry.refresh();
    assert.deepEqual(events, [{ type: 'keyDeleted' }]);
  }));

test('[HOST-43] a closed watch is silent', () =>
  withRegistry(async ({ registry, replace }) => {
    const armed = await registry.watch(KEY, () => assert.fail('notified'));
    armed.close();
    armed.close();
    replace(BODY.replace('00000007', '00000009'));
    await registry.refresh();
    assert.deepEqual(armed.take(), []);
  }));

test('[HOST-60] own writes keep comments, order, unknown values and the mode, and reach watchers', () =>
  withRegistry(async ({ registry, directory, file, watch }) => {
    chmodSync(file, 0o640);
    const events = await watch();
    await registry.setValue(KEY, 'eventretentiondays', dwordData(30));
    await registry.setValue(KEY, 'New', szData('text'));
    await registry.createKey(`${KEY}\\Security\\Logs`);
    await registry.deleteValue(KEY, 'Odd');
    assert.equal(
      readFileSync(file, 'utf8'),
      `${BODY.replace('00000007', '0000001e').replace('"Odd"=hex(63):01', '"New"="text"')}[${KEY}\\Security\\Logs]\n`,
    );
    assert.equal(statSync(file).mode & 0o777, 0o640);
    assert.deepEqual(readdirSync(directory), ['eventd.reg']);
    assert.deepEqual(
      events.map((event) => ('name' in event ? `${event.type} ${event.name}` : event.type)),
      ['valueSet EventRetentionDays', 'valueSet New', 'subkeyCreated Logs', 'valueDeleted Odd'],
    );
    assert.equal(await registry.createKey(`${KEY}\\SECURITY`), 'existed');
    assert.deepEqual((await registry.readValue(KEY, 'New')).data, szData('text').data);
  }));

test('[HOST-60] concurrent writers wait for each other and lose nothing', () =>
  withRegistry(async ({ registry, file }) => {
    const second = await openEmbeddedRegistry(file, { warn: () => undefined });
    try {
      const writes = Array.from({ length: 10 }, (_, index) =>
        (index % 2 === 0 ? registry : second).setValue(KEY, `w${index}`, dwordData(index)),
      );
      await Promise.all(writes);
      await registry.refresh();
      const written = (await registry.readValues(KEY)).filter(({ name }) => name.startsWith('w'));
      assert.equal(written.length, 10);
    } finally {
      await second.close();
    }
  }));

test('[HOST-60] [STO-29] a hive beside the event store can be edited while eventd holds the store', () =>
  withRegistry(async ({ registry, directory }) => {
    const release = lockEventStore(directory);
    try {
      await registry.setValue(KEY, 'x', dwordData(1));
    } finally {
      release();
    }
  }));

test('[HOST-60] a write waits for the advisory lock on the file', () =>
  withRegistry(async ({ registry, file }) => {
    const descriptor = openSync(file, 'r');
    assert.equal(native.lockFile(descriptor), true);
    let done = false;
    const write = registry.setValue(KEY, 'x', dwordData(1)).then(() => {
      done = true;
    });
    await delay(100);
    assert.equal(done, false);
    closeSync(descriptor);
    await write;
    assert.deepEqual((await registry.readValue(KEY, 'x')).data, dwordData(1).data);
  }));

test('[ACL-13] [CFG-62] missing defaults are created, with the descriptors of the table', () =>
  withRegistry(async ({ registry, warnings }) => {
    const log = { warn: (message: string) => void warnings.push(message) };
    assert.deepEqual(await ensureSecurityDefaults(registry, log), ['Events', 'Logs', 'Metrics']);
    for (const [namespace, sddl] of Object.entries(SECURITY_DEFAULTS)) {
      const value = await registry.readValue(`${KEY}\\Security\\${namespace}`, '*');
      assert.equal(value.type, 3);
      assert.equal(securityDescriptorToSddl(value.data), sddl);
    }
    assert.deepEqual(await ensureSecurityDefaults(registry, log), []);
    assert.deepEqual(warnings, []);
  }));

test('[ACL-8] [ACL-14] [CFG-65] an entry that exists is never overwritten, whatever it holds', () =>
  withRegistry(async ({ registry, file }) => {
    const log = { warn: () => undefined };
    assert.deepEqual(await ensureSecurityDefaults(registry, log), ['Logs', 'Metrics']);
    assert.match(readFileSync(file, 'utf8'), /"\*"="mine"/);
    await assert.rejects(
      registry.setValue(`${KEY}\\Security\\Events`, '*', dwordData(1), { onlyIfAbsent: true }),
      {
        code: 'EAGAIN',
      },
    );
  }, `${BODY}"*"="mine"\n`));

test('[ACL-14] [CFG-65] a failed write is logged and leaves the type without its entry', () =>
  withRegistry(async ({ registry, replace, warnings }) => {
    replace('broken');
    await assert.rejects(registry.refresh());
    const before = warnings.length;
    assert.deepEqual(
      await ensureSecurityDefaults(registry, { warn: (message) => void warnings.push(message) }),
      [],
    );
    assert.equal(warnings.length, before + 3);
    assert.match(warnings[before] ?? '', /cannot create the default .*Events\\\*.*stays denied/);
    await assert.rejects(registry.readValue(`${KEY}\\Security\\Events`, '*'), { code: 'ENOENT' });
  }));
