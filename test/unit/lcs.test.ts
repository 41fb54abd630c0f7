/** The adapter to the kernel's registry over calls that the test answers. */
import assert from 'node:assert/strict';
import { closeSync, fstatSync, openSync } from 'node:fs';
import { type TestContext, test } from 'node:test';
import { setImmediate as turn } from 'node:timers/promises';
import { type LcsRecord, native } from '../../src/native/addon.js';
import { LcsRegistry } from '../../src/registry/lcs.js';
import type { RegistryAvailability, RegistryEvent } from '../../src/registry/registry.js';
import { registrySource, sourceName } from '../../src/registry/source.js';
import { dwordData } from '../../src/registry/value.js';

const KEY = 'Machine\\System\\eventd';
const LOGS = `${KEY}\\Security\\Logs`;
const VALUE = { name: 'a', ...dwordData(1) };

const failure = (code: string) => Object.assign(new Error(`${code}: something`), { code });

/** Settles what is under way in promises. */
async function settled(): Promise<void> {
  for (let round = 0; round < 5; round++) await turn();
}

/** Calls that succeed, unless `error` says otherwise, and descriptors whose records the test queues. */
class FakeCalls {
  readonly asked: string[] = [];
  /** Of the watch armed last. */
  records: LcsRecord[] | Error = [];
  error: Error | null = null;
  /** The key that fails alone. */
  bad: string | null = null;
  readonly fds: number[] = [];
  readonly #callbacks = new Map<number, () => void>();

  async #answer<T>(what: string, value: T): Promise<T> {
    this.asked.push(what);
    await turn();
    if (this.error !== null) throw this.error;
    if (what === `values ${this.bad}`) throw failure('EIO');
    return value;
  }

  lcsReadValues = (key: string) => this.#answer(`values ${key}`, [VALUE]);
  lcsReadValue = (_: string, name: string) => this.#answer(`value ${name}`, VALUE);
  lcsListSubkeys = (key: string) => this.#answer(`subkeys ${key}`, ['Events', 'Logs', 'EVENTS']);
  lcsSetValue = (_: string, name: string) => this.#answer(`set ${name}`, undefined);
  lcsDeleteValue = (_: string, name: string) => this.#answer(`delete ${name}`, undefined);
  lcsCreateKey = (key: string) => this.#answer(`create ${key}`, true);
  lcsWatch = async (key: string) => {
    await this.#answer(`watch ${key}`, null);
    this.fds.push(openSync('/dev/null', 'r'));
    return this.fds.at(-1) ?? -1;
  };
  lcsReadWatch = () => {
    if (this.records instanceof Error) throw this.records;
    return this.records.splice(0);
  };
  watchReadable = (fd: number, callback: () => void) => {
    this.#callbacks.set(fd, callback);
    return () => void this.#callbacks.delete(fd);
  };

  /** Something can be read from the watch armed last. */
  async tell(records: LcsRecord[] | Error): Promise<void> {
    this.records = records;
    this.#callbacks.get(this.fds.at(-1) ?? -1)?.();
    await settled();
  }
}

async function watched() {
  const calls = new FakeCalls();
  const warnings: string[] = [];
  const states: RegistryAvailability[] = [];
  const registry = new LcsRegistry({ warn: (text) => void warnings.push(text) }, calls);
  registry.onAvailability((state) => void states.push(state));
  const events: RegistryEvent[] = [];
  /** Watches armed so far at each moment something was told. */
  const armedWhenTold: number[] = [];
  const armed = await registry.watch(KEY, () => {
    events.push(...armed.take());
    armedWhenTold.push(calls.fds.length);
  });
  const isOpen = (fd: number | undefined) => {
    try {
      return fd !== undefined && fstatSync(fd).isCharacterDevice();
    } catch {
      return false;
    }
  };
  return { calls, registry, warnings, states, events, armed, armedWhenTold, isOpen };
}

const set = (name: string, path: readonly string[] = []): LcsRecord => ({ type: 1, path, name });

test('[HOST-2] a file that is named is meant; without one the kernel’s registry is, where there is one', () => {
  assert.deepEqual(registrySource('/a.reg', 'peios'), { kind: 'hive', file: '/a.reg' });
  assert.deepEqual(registrySource(null, 'peios'), { kind: 'lcs' });
  assert.equal(sourceName(registrySource(null, 'linux')), '/etc/eventd/eventd.reg');
});

test('[HOST-2] on a kernel without the calls each of them answers ENOSYS', async () => {
  assert.equal(native.probeSyscall(1100, -1n), 'ENOSYS');
  for (const call of [
    native.lcsReadValues(KEY),
    native.lcsReadValue(KEY, 'a'),
    native.lcsListSubkeys(KEY),
    native.lcsSetValue(KEY, 'a', 4, new Uint8Array(4)),
    native.lcsDeleteValue(KEY, 'a'),
    native.lcsCreateKey(KEY),
    native.lcsWatch(KEY),
  ])
    await assert.rejects(call, {
      code: 'ENOSYS',
      message: new RegExp(`^ENOSYS: .* ${KEY.replaceAll('\\', '.')}`),
    });
});

test('[HOST-57] [HOST-27] one call at a time, in the order asked; what the kernel would refuse is not asked', async () => {
  const { calls, registry } = await watched();
  const answers = await Promise.all([
    registry.readValues('Machine/System/eventd'),
    registry.readValue(KEY, 'a'),
    registry.listSubkeys(KEY),
    registry.setValue(KEY, 'b', dwordData(1)),
    registry.deleteValue(KEY, 'b'),
    registry.createKey(`${KEY}\\New`),
  ]);
  assert.deepEqual(answers, [[VALUE], VALUE, ['EVENTS', 'Logs'], undefined, undefined, 'created']);
  const asked = ['watch KEY', 'values KEY', 'value a', 'subkeys KEY', 'set b', 'delete b', 'create KEY\\New'];
  assert.deepEqual(
    calls.asked,
    asked.map((text) => text.replace('KEY', KEY)),
  );
  await assert.rejects(registry.readValues('Machine\\\\eventd'), { code: 'EINVAL' });
  await assert.rejects(registry.readValue(KEY, 'n'.repeat(256)), { code: 'ENAMETOOLONG' });
  const large = { type: 3, data: new Uint8Array(1024 * 1024 + 1) };
  await assert.rejects(registry.setValue(KEY, 'a', large), { code: 'ENOSPC' });
  assert.equal(calls.asked.length, asked.length);
  await registry.close();
  await assert.rejects(registry.readValues(KEY), { code: 'EIO' });
});

test('[HOST-34] [HOST-38] a value is created only where it is absent, and failures carry the kernel’s errno', async () => {
  const { calls, registry } = await watched();
  const create = () => registry.setValue(KEY, 'a', dwordData(1), { onlyIfAbsent: true });
  await assert.rejects(create(), { code: 'EAGAIN' });
  calls.lcsReadValue = () => Promise.reject(failure('ENOENT'));
  await create();
  assert.deepEqual(calls.asked.slice(1), ['value a', 'set a']);
  await assert.rejects(registry.readValue(KEY, 'a'), { code: 'ENOENT', message: `no value "a" in ${KEY}` });
  for (const [code, expected] of [
    ['EACCES', 'EACCES'],
    ['ENOENT', 'ENOENT'],
    ['EIO', 'EIO'],
    ['ETIMEDOUT', 'ETIMEDOUT'],
    ['EPROTO', 'EIO'],
    ['E2BIG', 'EIO'],
  ]) {
    calls.error = failure(code ?? '');
    await assert.rejects(registry.readValues(KEY), { name: 'RegistryError', code: expected });
  }
  await registry.close();
});

test('[HOST-41] [HOST-42] [HOST-43] records become events; what a later version may know is an overflow', async () => {
  const { calls, registry, events, armed, isOpen } = await watched();
  await calls.tell([
    set('*', ['Security', 'Events']),
    { type: 2, path: [], name: 'a' },
    { type: 3, path: [], name: 'New' },
    { type: 4, path: ['New'], name: 'Old' },
    { type: 5, path: [], name: '' },
    { type: 6, path: ['Security', 'Logs'], name: '' },
    { type: 99, path: [], name: '' },
    { type: 6, path: [], name: '' },
    set('behind the end'),
  ]);
  assert.deepEqual(events, [
    { type: 'valueSet', path: ['Security', 'Events'], name: '*' },
    { type: 'valueDeleted', path: [], name: 'a' },
    { type: 'subkeyCreated', path: [], name: 'New' },
    { type: 'subkeyDeleted', path: ['New'], name: 'Old' },
    { type: 'subkeyDeleted', path: ['Security'], name: 'Logs' },
    { type: 'overflow' },
    { type: 'keyDeleted' },
  ]);
  assert.equal(isOpen(calls.fds[0]), false, 'the end of the key is the end of the watch');
  armed.close();
  await registry.close();
});

test('[HOST-63] [HOST-43] nobody who takes nothing grows a queue beyond its bound', async () => {
  const { calls, registry } = await watched();
  let told = 0;
  const lazy = await registry.watch(KEY, () => void told++);
  await calls.tell(Array.from({ length: 200 }, (_, index) => set(`v${index}`)));
  await calls.tell(Array.from({ length: 200 }, (_, index) => set(`w${index}`)));
  const events = lazy.take();
  assert.equal(told, 1);
  assert.equal(events.length, 256);
  assert.deepEqual(events[0], { type: 'overflow' });
  assert.deepEqual(events.at(-1), { type: 'valueSet', path: [], name: 'w199' });
  await registry.close();
});

test('[HOST-47] [HOST-43] a lost registry is told once, looked for with growing pauses, and back with an overflow', async (t) => {
  const { calls, registry, warnings, states, events } = await watched();
  t.mock.timers.enable({ apis: ['setTimeout'] });
  calls.error = failure('ETIMEDOUT');
  await assert.rejects(registry.readValues(KEY), { code: 'ETIMEDOUT' });
  await assert.rejects(registry.readValues(KEY), { code: 'ETIMEDOUT' });
  assert.deepEqual(states, [{ available: false, reason: 'ETIMEDOUT: something' }]);
  let asked = calls.asked.length;
  for (const pause of [250, 500, 1000, 2000, 4000, 8000, 10_000, 10_000]) {
    t.mock.timers.tick(pause - 1);
    await settled();
    assert.equal(calls.asked.length, asked, `quiet for ${pause} ms`);
    t.mock.timers.tick(1);
    await settled();
    assert.equal(calls.asked.length, ++asked);
  }
  assert.deepEqual(events, []);
  // The kernel has answered: even that there is no such key.
  calls.error = failure('ENOENT');
  t.mock.timers.tick(10_000);
  await settled();
  assert.deepEqual(events, [{ type: 'overflow' }]);
  assert.deepEqual(states.at(-1), { available: true });
  assert.deepEqual(warnings, [
    'registry unavailable, the last known values stay in force: ETIMEDOUT: something',
    'registry available again',
  ]);
  asked = calls.asked.length;
  t.mock.timers.tick(60_000);
  await settled();
  assert.equal(calls.asked.length, asked, 'nothing more to look for');
  await registry.close();
});

/** A watched registry whose user reads two keys: its own and one that may fail. */
async function readTwice(t: TestContext) {
  const host = await watched();
  t.mock.timers.enable({ apis: ['setTimeout', 'Date'] });
  const read = async (...keys: readonly string[]) => {
    for (const key of keys) await host.registry.readValues(key).catch(() => undefined);
  };
  const pass = async (ms: number) => {
    t.mock.timers.tick(ms);
    await settled();
  };
  const asked = (key: string) => host.calls.asked.filter((call) => call === `values ${key}`).length;
  return { ...host, read, pass, asked };
}

const LOST_AND_BACK = [
  'registry unavailable, the last known values stay in force: EIO: something',
  'registry available again',
];

test('[HOST-47] [HOST-38] a key that alone fails is told once, asked for every 10 s, and back with an overflow', async (t) => {
  const { calls, registry, warnings, events, read, pass, asked } = await readTwice(t);
  calls.bad = LOGS;
  // As often as somebody asks for it, and again after every overflow.
  for (let query = 0; query < 20; query++) await read(LOGS, KEY);
  assert.deepEqual(warnings, LOST_AND_BACK);
  assert.deepEqual(events.splice(0), [{ type: 'overflow' }], 'what had not been answered is read again');
  let tries = asked(LOGS);
  for (let look = 0; look < 3; look++) {
    await pass(9_999);
    assert.equal(asked(LOGS), tries);
    await pass(1);
    assert.equal(asked(LOGS), ++tries);
  }
  calls.bad = null;
  assert.deepEqual(events, []);
  await pass(10_000);
  assert.deepEqual(events.splice(0), [{ type: 'overflow' }], 'who waits for it would not ask');
  await read(LOGS, KEY);
  tries = asked(LOGS);
  await pass(60_000);
  assert.deepEqual([asked(LOGS), events, warnings], [tries, [], LOST_AND_BACK], 'all is well');
  await registry.close();
});

test('[HOST-47] [HOST-38] a key that comes and goes is news every 10 s at most', async (t) => {
  const { calls, registry, warnings, events, read, pass } = await readTwice(t);
  const comeAndGo = async () => {
    for (let query = 0; query < 10; query++) {
      calls.bad = query % 2 === 0 ? LOGS : null;
      await read(LOGS, KEY);
    }
  };
  await comeAndGo();
  assert.deepEqual([warnings, events.length], [LOST_AND_BACK, 1]);
  await pass(10_000);
  await comeAndGo();
  assert.deepEqual([warnings, events.length], [[...LOST_AND_BACK, ...LOST_AND_BACK], 3]);
  await registry.close();
});

test('[HOST-47] [HOST-43] a registry that is lost by one key and back by another is told of once each way', async (t) => {
  const { calls, registry, warnings, events, read, pass, asked } = await readTwice(t);
  calls.error = failure('EIO');
  for (let query = 0; query < 3; query++) await read(LOGS, KEY);
  calls.error = null;
  await pass(250);
  await read(KEY, LOGS);
  assert.deepEqual([warnings, events], [LOST_AND_BACK, [{ type: 'overflow' }]]);
  const tries = asked(LOGS);
  await pass(10_000);
  await pass(60_000);
  assert.deepEqual([warnings, events.length, asked(LOGS)], [LOST_AND_BACK, 1, tries + 1], 'nobody missed it');
  // A key known to fail does not hide that all of it is gone, nor, even if watched, that it is back.
  calls.bad = LOGS;
  await read(LOGS, KEY);
  calls.error = failure('EIO');
  await read(LOGS, KEY);
  assert.equal(warnings.length, 5);
  [calls.error, calls.bad] = [null, KEY];
  await pass(10_000);
  await read(KEY, LOGS);
  assert.equal(warnings.length, 6);
  await pass(10_000);
  calls.error = failure('EIO');
  await read(LOGS, KEY);
  calls.error = null;
  await pass(10_000);
  assert.deepEqual(warnings.slice(6), LOST_AND_BACK);
  await registry.close();
});

test('[HOST-47] [FAIL-25] beside a key set aside the end of all is told, though only that key is asked for', async (t) => {
  const { calls, registry, warnings, read, pass } = await readTwice(t);
  calls.bad = LOGS;
  await read(LOGS, KEY);
  assert.deepEqual(warnings, LOST_AND_BACK);
  calls.error = failure('EIO');
  await read(LOGS);
  assert.equal(warnings.length, 2);
  await pass(10_000);
  assert.deepEqual(warnings.slice(2), LOST_AND_BACK.slice(0, 1));
  await registry.close();
});

test('[HOST-47] [HOST-38] a watched key that alone fails is no registry that is gone, though nobody asks for another', async (t) => {
  const { calls, registry, warnings, read, pass } = await readTwice(t);
  await read(LOGS, KEY);
  calls.bad = KEY;
  await read(KEY, KEY);
  await pass(250);
  assert.deepEqual(warnings, LOST_AND_BACK);
  await read(KEY);
  await pass(60_000);
  assert.deepEqual(warnings, LOST_AND_BACK);
  await registry.close();
});

test('[HOST-46] [HOST-47] a watch that breaks is armed again, unless its key is gone', async (t) => {
  const { calls, registry, events, armedWhenTold, isOpen } = await watched();
  t.mock.timers.enable({ apis: ['setTimeout'] });
  await calls.tell(failure('EIO'));
  assert.equal(isOpen(calls.fds[0]), false);
  t.mock.timers.tick(250);
  await settled();
  assert.equal(calls.fds.length, 2);
  assert.ok(events.every(({ type }) => type === 'overflow'));
  assert.equal(armedWhenTold.at(-1), 2, 'what was read before it was armed again may be old');
  events.splice(0);
  await calls.tell([set('a')]);
  assert.deepEqual(events, [{ type: 'valueSet', path: [], name: 'a' }]);
  await calls.tell(failure('EIO'));
  calls.error = failure('ENOENT');
  t.mock.timers.tick(500);
  await settled();
  assert.deepEqual(events.at(-1), { type: 'keyDeleted' });
  await registry.close();
});

test('[HOST-43] [HOST-47] a watch that breaks whenever it is armed is armed ever more rarely, until it has held', async (t) => {
  const { calls, registry } = await watched();
  t.mock.timers.enable({ apis: ['setTimeout', 'Date'] });
  let armed = calls.fds.length;
  for (const pause of [250, 500, 1000, 2000, 4000, 8000, 10_000]) {
    await calls.tell(failure('EIO'));
    t.mock.timers.tick(pause - 1);
    await settled();
    assert.equal(calls.fds.length, armed, `quiet for ${pause} ms`);
    t.mock.timers.tick(1);
    await settled();
    assert.equal(calls.fds.length, ++armed);
  }
  t.mock.timers.tick(10_000);
  await settled();
  await calls.tell(failure('EIO'));
  t.mock.timers.tick(250);
  await settled();
  assert.equal(calls.fds.length, armed + 1, 'it had held');
  await registry.close();
});

test('[HOST-38] [HOST-47] an answer eventd cannot use does not make the registry unavailable', async () => {
  const { calls, registry, states, warnings } = await watched();
  for (const code of ['EPROTO', 'E2BIG', 'ENOMEM']) {
    calls.error = failure(code);
    await assert.rejects(registry.readValues(KEY), { code: 'EIO' });
  }
  assert.deepEqual([states, warnings], [[], []]);
  await registry.close();
});

test('[HOST-45] [HOST-47] a watch that cannot be listened to leaves no descriptor behind, nor a word of values', async () => {
  const calls = new FakeCalls();
  const warnings: string[] = [];
  const registry = new LcsRegistry({ warn: (text) => void warnings.push(text) }, calls);
  calls.watchReadable = () => {
    throw failure('EMFILE');
  };
  await assert.rejects(registry.watch(KEY, () => undefined));
  assert.throws(() => fstatSync(calls.fds[0] ?? -1), { code: 'EBADF' });
  calls.error = failure('EIO');
  await assert.rejects(registry.readValues(KEY), { code: 'EIO' });
  assert.deepEqual(warnings, ['registry unavailable: EIO: something']);
  await registry.close();
});

test('[HOST-57] closing ends every watch, also one that is being armed', async () => {
  const { calls, registry, events, isOpen } = await watched();
  const arming = registry.watch(KEY, () => undefined);
  await turn();
  await registry.close();
  await registry.close();
  await assert.rejects(arming, { code: 'EIO' });
  assert.deepEqual(calls.fds.filter(isOpen), []);
  await calls.tell([set('a')]);
  assert.deepEqual(events, []);
});

test('[HOST-40] a descriptor that is no watch is an error, not memory', () => {
  const fd = openSync('/dev/null', 'r');
  assert.throws(() => native.lcsReadWatch(fd), { code: 'EIO' });
  closeSync(fd);
  assert.throws(() => native.lcsReadWatch(fd), { code: 'EBADF' });
});
