/** eventd with the registry of a Peios kernel, which a preloaded stand-in answers for (HOST-32 to HOST-47). */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { after, before, test } from 'node:test';
import { seedHive } from '../../src/devhost/layout.js';
import { Hive } from '../../src/registry/hive.js';
import { EVENTD_KEY, SECURITY_KEY, SERVICE_KEY } from '../../src/registry/names.js';
import { dwordData, REG, type RegistryData, szData } from '../../src/registry/value.js';
import { type EventdRun, EventdWorld, eventually } from '../fixtures/eventd.js';
import { EventdRecords, gauge, line } from '../fixtures/eventdRecords.js';
import { FakeLcs } from '../fixtures/lcs.js';
import { runProgram } from '../fixtures/runProgram.js';

const LIMIT = { timeout: 60_000 };
const NAME = 'the registry of the kernel (LCS)';

const lcs = new FakeLcs();
const world = new EventdWorld({ cpus: 1, namesHive: false });
const seed = Hive.parse(seedHive(world.paths, process.getuid?.() ?? 0, { StorageShards: 1 }), 'seed');
let run: EventdRun;

before(() => {
  lcs.load(seed);
  // "No limit": a day of each, since no timer would wait so long.
  for (const name of ['StopTimeout', 'WatchdogTimeout'])
    lcs.set(SERVICE_KEY, name, dwordData(0xffff_ffff), true);
});
after(async () => {
  await world.close();
  lcs.close();
});

const changes = () =>
  world.synthetic('synthetic.config_change').map(({ payload }) => {
    const { key_name, old_value, new_value } = payload;
    return [key_name, old_value, new_value];
  });

/** Waits for the next change that is applied; nothing else may have been applied before it. */
async function applied(count: number, change: readonly unknown[]): Promise<void> {
  await eventually(`change ${count}`, () => changes().length >= count);
  assert.deepEqual(changes().slice(count - 1), [change]);
}

const logged = (text: string) => run.log().filter(({ msg }) => String(msg).includes(text)).length;
const hasLogged = (text: string) => run.hasLogged(text, ({ msg }) => String(msg).includes(text));
async function hasLoggedOnce(text: string): Promise<void> {
  await hasLogged(text);
  assert.equal(logged(text), 1);
}

async function config(args: readonly string[] = []): Promise<string> {
  const env = { ...lcs.env, EVENTD_DEBUG_SOCKET: world.paths.debugSocket };
  const { stdout, stderr, code } = await runProgram('evctl', ['config', ...args], { env }).done;
  assert.equal(code, 0, stderr);
  return stdout.toString();
}

test(
  '[HOST-2] [HOST-37] --check and evctl config read the kernel’s registry without a running eventd, and change nothing',
  LIMIT,
  async () => {
    const args = ['--check', '--kmes', world.paths.kmes];
    const { stdout, code } = await runProgram('eventd', args, { env: lcs.env }).done;
    assert.equal(code, 0, stdout.toString());
    assert.match(stdout.toString(), /^warn {2}host auto \(mixed\): .*registry \(LCS\) peios, probe EFAULT/m);
    assert.ok(stdout.toString().includes(`ok    ${NAME}: configuration is complete\n`), stdout.toString());
    const text = await config(['StorageShards']);
    assert.ok(text.startsWith(`what a start would take from ${NAME} (eventd was not asked: `), text);
    assert.match(text, /^StorageShards +1 /m);
    assert.deepEqual(
      lcs.calls().filter((call) => !/^(open 20019|batch) /.test(call)),
      [],
    );
  },
);

test(
  '[HOST-44] [HOST-45] [LIFE-140] the watch is armed before anything is read; a change during the start is applied after it',
  LIMIT,
  async () => {
    for (const type of ['Events', 'Metrics']) lcs.deleteKey(`${SECURITY_KEY}\\${type}`);
    lcs.set(`${SECURITY_KEY}\\Logs`, '*', dwordData(0));
    lcs.set(EVENTD_KEY, 'LogMaxBatchSize', szData('many'));
    const before = lcs.calls().length;
    const release = lcs.hold(SERVICE_KEY);
    run = world.spawn([], lcs.env);
    await eventually('eventd held', () => lcs.calls().at(-1) === `open 20019 ${SERVICE_KEY}`);
    assert.deepEqual(lcs.calls().slice(before), [
      `open 20019 ${EVENTD_KEY}`,
      `watch ${EVENTD_KEY}`,
      `open 20019 ${EVENTD_KEY}`,
      `batch ${EVENTD_KEY}`,
      `open 20019 ${SERVICE_KEY}`,
    ]);
    lcs.set(EVENTD_KEY, 'MaxBatchSize', dwordData(500));
    release();
    await run.ready;
    await applied(1, ['MaxBatchSize', 10_000, 500]);
    const [startup] = world.synthetic('synthetic.startup');
    const [change] = world.synthetic('synthetic.config_change');
    assert.ok((change?.id ?? 0n) > (startup?.id ?? 0n), 'recorded behind the startup record');
  },
);

test(
  '[HOST-34] [HOST-32] missing defaults are created over descriptors of their own, what is there is left alone',
  LIMIT,
  () => {
    const writes = lcs.calls().filter((call) => /^(create|set|delete|open (?!20019))/.test(call));
    assert.deepEqual(
      writes,
      ['Events', 'Metrics'].flatMap((type) => [
        `create 6 ${EVENTD_KEY}`,
        `create 6 ${SECURITY_KEY}`,
        `create 6 ${SECURITY_KEY}\\${type}`,
        `open 6 ${SECURITY_KEY}\\${type}`,
        `set ${SECURITY_KEY}\\${type} *`,
      ]),
    );
    for (const type of ['Events', 'Metrics'])
      assert.equal(lcs.get(`${SECURITY_KEY}\\${type}`, '*')?.type, REG.BINARY);
    assert.deepEqual(lcs.get(`${SECURITY_KEY}\\Logs`, '*'), dwordData(0));
    assert.equal((lcs.watched as readonly string[]).join(), EVENTD_KEY, 'one watch');
  },
);

test(
  '[HOST-29] [HOST-30] [HOST-36] values of a wrong type or length are named and not taken, large ones are read in two passes',
  LIMIT,
  async () => {
    await hasLoggedOnce('LogMaxBatchSize: found REG_SZ, expected REG_DWORD');
    lcs.set(EVENTD_KEY, 'Unknown', { type: REG.BINARY, data: new Uint8Array(200_000) }, true);
    lcs.set(EVENTD_KEY, 'MaxBatchSize', { type: REG.DWORD, data: new Uint8Array(3) }, true);
    lcs.set(EVENTD_KEY, 'maxbatchlatencyms', dwordData(50));
    await applied(2, ['MaxBatchLatencyMs', 100, 50]);
    await hasLoggedOnce('MaxBatchSize: found REG_DWORD of 3 bytes');
    assert.ok(lcs.calls().includes(`too small ${EVENTD_KEY}`));
    const text = await config(['MaxBatchSize', 'LogMaxBatchSize']);
    assert.ok(text.startsWith(`eventd reads ${NAME}\n`), text);
    assert.match(text, /^MaxBatchSize +500 .* kept +live\n {2}found REG_DWORD of 3 bytes/m);
    assert.match(text, /^LogMaxBatchSize +5000 .* default +live\n {2}found REG_SZ/m);
    lcs.delete(EVENTD_KEY, 'maxbatchlatencyms');
    await applied(3, ['MaxBatchLatencyMs', 50, 100]);
  },
);

test(
  '[HOST-43] [HOST-41] [HOST-42] an overflow re-reads everything, and so does a record that makes no sense',
  LIMIT,
  async () => {
    lcs.set(EVENTD_KEY, 'MaxBatchSize', dwordData(600), true);
    lcs.overflow();
    await applied(4, ['MaxBatchSize', 500, 600]);
    lcs.set(EVENTD_KEY, 'MaxBatchSize', dwordData(700), true);
    lcs.send(Buffer.from([3, 0, 0, 0, 1, 0, 0, 0]));
    await applied(5, ['MaxBatchSize', 600, 700]);
    assert.deepEqual(await world.query('LOGS TAKE 1'), [], 'its descriptor is no descriptor');
  },
);

test(
  '[HOST-31] [HOST-44] [CFG-63] a descriptor that changes or goes holds from the next query on',
  LIMIT,
  async () => {
    const key = `${SECURITY_KEY}\\Events`;
    const granted = lcs.get(key, '*') as RegistryData;
    world.emit(0, 'test.seen');
    const seen = () => world.query('EVENTS test.seen');
    await eventually('stored', async () => (await seen()).length === 1);
    lcs.delete(key, '*');
    await eventually('denied', async () => (await seen()).length === 0);
    lcs.set(key, '*', granted);
    await eventually('granted', async () => (await seen()).length === 1);
  },
);

test(
  '[HOST-46] when the key goes its values stay; when it is back it is read and watched again',
  LIMIT,
  async () => {
    lcs.deleteKey(EVENTD_KEY);
    await hasLogged(`configuration kept: no key ${EVENTD_KEY}`);
    assert.match(await config(['MaxBatchSize']), /^MaxBatchSize +700 .* hive/m);
    assert.deepEqual(lcs.watched, []);
    assert.deepEqual(await world.query('EVENTS test.seen'), [], 'no descriptor grants anything');
    lcs.load(seed);
    await applied(6, ['MaxBatchSize', 700, 10_000]);
    await eventually('granted', async () => (await world.query('EVENTS test.seen')).length === 1);
    lcs.set(EVENTD_KEY, 'MaxBatchSize', dwordData(800));
    await applied(7, ['MaxBatchSize', 10_000, 800]);
    assert.deepEqual(lcs.watched, [EVENTD_KEY]);
  },
);

test(
  '[HOST-47] [HOST-38] [FAIL-25] [FAIL-26] a registry that is lost changes nothing; when it is back it is read without being asked to',
  LIMIT,
  async () => {
    lcs.fail('EIO');
    lcs.set(EVENTD_KEY, 'MaxBatchSize', dwordData(900));
    await hasLogged('registry unavailable, the last known values stay in force: EIO: reg_open_key');
    const text = await config(['MaxBatchSize']);
    assert.match(text, /^eventd keeps what it read last: EIO: .*\n.*\nMaxBatchSize +800 .* hive/);
    assert.equal((await world.query('EVENTS test.seen')).length, 1, 'descriptors stay');
    lcs.fail(null);
    await applied(8, ['MaxBatchSize', 800, 900]);
    await hasLogged('registry available again');

    // The descriptor of the watch itself can break as well.
    lcs.breakWatches();
    lcs.set(EVENTD_KEY, 'MaxBatchSize', dwordData(1000));
    await applied(9, ['MaxBatchSize', 900, 1000]);
    await eventually('watched again', () => lcs.watched.length === 1);
    lcs.set(EVENTD_KEY, 'MaxBatchSize', dwordData(1100));
    await applied(10, ['MaxBatchSize', 1000, 1100]);
  },
);

test(
  '[HOST-47] [ACL-48] [FAIL-26] one key that fails denies what it covers and nothing else, and is told of once',
  LIMIT,
  async () => {
    const records = new EventdRecords(world);
    await records.send('log', line('seen'));
    await records.send('metric', gauge('test.seen', 1));
    const logs = () => world.query('LOGS TAKE 1');
    const samples = () => world.query('METRIC test.seen[]');
    for (const seen of [logs, samples])
      await eventually('a record is seen', async () => (await seen()).length === 1);
    const told = () => ['registry unavailable', 'registry available again'].map(logged);
    const before = told();
    lcs.fail('EIO', `${SECURITY_KEY}\\Logs`);
    lcs.overflow();
    await eventually('denied', async () => (await logs()).length === 0);
    for (let question = 0; question < 20; question++)
      assert.deepEqual([(await logs()).length, (await samples()).length], [0, 1]);
    await hasLogged('cannot read');
    assert.deepEqual(
      told(),
      before.map((times) => times + 1),
    );
    lcs.fail(null);
  },
);

test(
  '[HOST-17] [HOST-18] [HOST-38] [LIFE-210] a registry that hangs keeps neither a query nor the stop waiting, which no limit cuts short',
  LIMIT,
  async () => {
    // Descriptors that changed are read before a query is answered; these are known.
    assert.equal((await world.query('EVENTS test.seen')).length, 1);
    const release = lcs.hold(EVENTD_KEY);
    const asked = lcs.calls().length;
    lcs.set(EVENTD_KEY, 'MaxBatchSize', dwordData(1200));
    await eventually('a call that hangs', () => lcs.calls().length > asked);
    assert.equal((await world.query('EVENTS test.seen')).length, 1);
    assert.deepEqual(await run.end(), { code: 0, signal: null });
    release();
    assert.equal(world.synthetic('synthetic.shutdown').length, 1, run.stderr);
    assert.equal(changes().length, 10);
  },
);

const PROGRAM = `
  const { LcsRegistry } = await import(process.argv[1]);
  const registry = new LcsRegistry({ warn: () => undefined });
  const shown = ({ name, type, data }) => [name, type, Buffer.from(data).toString()];
  const said = [];
  const tell = (work) => work.then((value) => said.push(value ?? null), ({ code }) => said.push(code));
  const key = 'Machine\\\\Test';
  const bytes = (text) => ({ type: 3, data: Buffer.from(text) });
  await tell(registry.createKey(key));
  await tell(registry.createKey(key));
  await tell(registry.createKey(key + '\\\\A\\\\B'));
  await registry.createKey(key + '\\\\Sub');
  await registry.setValue(key, 'na\\u00efve*.\\\\', bytes('x'.repeat(9000)));
  await registry.setValue(key, '', bytes(''));
  await tell(registry.readValue('MACHINE/test', 'NA\\u00efVE*.\\\\').then(({ data }) => data.length));
  await registry.setValue(key, 'Na\\u00efve*.\\\\', bytes('other'));
  await tell(registry.setValue(key, '', bytes('new'), { onlyIfAbsent: true }));
  await tell(registry.readValues(key).then((values) => values.map(shown).sort()));
  await tell(registry.listSubkeys(key));
  await tell(registry.deleteValue(key, ''));
  await tell(registry.deleteValue(key, ''));
  await tell(registry.readValue(key, ''));
  await registry.close();
  console.log(JSON.stringify(said));`;

test(
  '[HOST-28] [HOST-31] [HOST-32] [HOST-57] the port reads, writes, lists and deletes, names without regard to case',
  LIMIT,
  () => {
    const module = new URL('../../src/registry/lcs.js', import.meta.url).href;
    const { stdout, stderr } = spawnSync(
      process.execPath,
      ['--input-type=module', '-e', PROGRAM, '--', module],
      { encoding: 'utf8', env: { ...process.env, ...lcs.env } },
    );
    assert.equal(stderr, '');
    assert.deepEqual(JSON.parse(stdout), [
      'created',
      'existed',
      'ENOENT',
      9000,
      'EAGAIN',
      [
        ['', 3, ''],
        ['na\u00efve*.\\', 3, 'other'],
      ],
      ['Sub'],
      null,
      'ENOENT',
      'ENOENT',
    ]);
  },
);

test('[HOST-33] [HOST-35] [HOST-39] [HOST-40] every argument was one the kernel takes', () => {
  assert.deepEqual(lcs.violations(), []);
});
