import assert from 'node:assert/strict';
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { DevHost, type DevHostOptions, type ProgramName } from '../../src/devhost/host.js';
import { layoutOf, makeDirectories, seedHive } from '../../src/devhost/layout.js';
import { parseNotify } from '../../src/devhost/notifyReceiver.js';
import { RestartPolicy } from '../../src/devhost/restartPolicy.js';
import { addonPath } from '../../src/native/addon.js';
import { Hive } from '../../src/registry/hive.js';
import type { ServiceBehaviour } from '../fixtures/notifyingService.js';
import { until } from '../fixtures/wireServer.js';

const QUICK = { firstDelayMs: 10, maxDelayMs: 40, maxRestarts: 3, windowMs: 60_000 };

type Behaviour = Omit<ServiceBehaviour, 'name' | 'journal'>;

/** A host whose programs behave as said; stopped and removed after the test. */
function fakeHost(
  t: TestContext,
  behaviours: Partial<Record<ProgramName, Behaviour>>,
  options: Partial<DevHostOptions> = {},
) {
  const root = mkdtempSync(join(tmpdir(), 'devhost-'));
  const journal = join(root, 'journal');
  const fixture = fileURLToPath(new URL('../fixtures/notifyingService.js', import.meta.url));
  const script = (name: ProgramName) => {
    const path = join(root, `${name}.mjs`);
    const behaviour = { ...behaviours[name], name, journal };
    writeFileSync(
      path,
      `import { serve } from ${JSON.stringify(fixture)};\nserve(${JSON.stringify(behaviour)});\n`,
    );
    return path;
  };
  const states: string[] = [];
  const lines: string[] = [];
  const host = new DevHost({
    dir: join(root, 'data'),
    scripts: { kmesd: script('kmesd'), eventd: script('eventd') },
    env: { ...process.env, ADDON_PATH: addonPath },
    startTimeoutMs: 10_000,
    stopTimeoutMs: 10_000,
    restart: QUICK,
    onState: (name, state, detail) => states.push(`${name} ${state}${detail === '' ? '' : `: ${detail}`}`),
    onLine: (name, { text }) => lines.push(`${name}: ${text}`),
    ...options,
  });
  t.after(async () => {
    for (const name of ['eventd', 'kmesd'] as const) host.signal(name, 'SIGKILL');
    await host.stop();
    rmSync(root, { recursive: true, force: true });
  });
  const noted = () => (existsSync(journal) ? readFileSync(journal, 'utf8').trimEnd().split('\n') : []);
  return { host, root, script, states, lines, noted };
}

test('[HOST-24] restarts come after 1 s doubling to 60 s, at most 5 in 120 s', () => {
  const policy = new RestartPolicy();
  assert.deepEqual(
    [0, 1, 2, 3, 4, 5].map((second) => policy.crashed(second * 1000)),
    [1000, 2000, 4000, 8000, 16_000, null],
  );
  // The window slides: 121 s later the first restarts no longer count.
  assert.equal(policy.crashed(121_500), 8000);
  const patient = new RestartPolicy({
    firstDelayMs: 1000,
    maxDelayMs: 60_000,
    maxRestarts: 20,
    windowMs: 1e9,
  });
  assert.equal(Array.from({ length: 10 }, (_, i) => patient.crashed(i)).at(-1), 60_000);
});

test('[HOST-8] a notification is KEY=VALUE lines; others mean nothing', () => {
  assert.deepEqual(
    [...parseNotify(Buffer.from('READY=1\nnonsense\n=x\nSTATUS=a=b\n'))],
    [
      ['READY', '1'],
      ['STATUS', 'a=b'],
    ],
  );
});

test('[CFG-17] sockets of a deep directory move to a short one of its own, the data stays', () => {
  const deep = `/home/${'d'.repeat(120)}`;
  const paths = layoutOf(deep, {}, 1000);
  assert.equal(paths.events, `${deep}/events`);
  for (const path of [
    paths.querySocket,
    paths.metricSocket,
    paths.notifySocket,
    paths.debugSocket,
    paths.emitSocket,
  ])
    assert.ok(Buffer.byteLength(path) <= 107 && path.startsWith('/tmp/eventd-1000-'), path);
  assert.notEqual(layoutOf(`${deep}2`, {}, 1000).socketRoot, paths.socketRoot);
  assert.equal(layoutOf(deep, { XDG_RUNTIME_DIR: tmpdir() }, 1000).socketRoot.startsWith(tmpdir()), true);
  const shallow = layoutOf('/srv/e', {}, 1000);
  assert.equal(shallow.querySocket, '/srv/e/run/query.sock');
});

test('[HOST-49] [CFG-10] [CFG-62] the seed hive parses, names the six paths and grants what the defaults grant', () => {
  const paths = layoutOf('/srv/a "b\\c', {}, 0);
  const hive = Hive.parse(seedHive(paths, 0, { MaxBatchSize: 500, EventRetentionMaxBytes: 1n }), '/seed');
  const text = seedHive(paths, 0);
  for (const name of [
    'EventStorePath',
    'LogStorePath',
    'MetricStorePath',
    'QuerySocketPath',
    'LogSocketPath',
    'MetricSocketPath',
    'DebugSocketPath',
  ])
    assert.ok(hive.key('Machine\\System\\eventd')?.values.has(name.toLowerCase()), name);
  assert.equal(hive.key('Machine\\System\\eventd')?.values.get('maxbatchsize')?.data.length, 4);
  assert.equal(hive.key('Machine\\System\\eventd')?.values.get('eventretentionmaxbytes')?.data.length, 8);
  assert.equal(
    Buffer.from(hive.key('Machine\\System\\eventd')?.values.get('eventstorepath')?.data ?? []).toString(),
    '/srv/a "b\\c/events\0',
  );
  assert.ok(
    text.includes(
      '[Machine\\System\\eventd\\Security\\Events]\n"*"=sddl:"O:SYG:SYD:(A;;0x1;;;SY)(A;;0x1;;;BA)"\n',
    ),
  );
  assert.ok(
    text.includes(
      '[Machine\\System\\eventd\\Security\\Logs]\n"*"=sddl:"O:SYG:SYD:(A;;0x1;;;SY)(A;;0x1;;;BA)(A;;0x1;;;AU)"\n',
    ),
  );
  // Nobody but root is an Administrator: the developer is granted the own machine's events by SID.
  assert.ok(seedHive(paths, 1000).includes('(A;;0x1;;;BA)(A;;0x1;;;S-1-22-1-1000)"'));
});

test('[HOST-62] directories are private, the seed hive is written once and never again', async (t) => {
  const { host } = fakeHost(t, {}, { settings: { MaxBatchSize: 777 } });
  host.prepare();
  assert.ok(host.seeded);
  for (const path of [host.paths.dir, host.paths.events, host.paths.run, host.paths.kmes])
    assert.equal(statSync(path).mode & 0o777, 0o700, path);
  assert.equal(statSync(host.paths.hive).mode & 0o777, 0o600);
  assert.ok(readFileSync(host.paths.hive, 'utf8').includes('"MaxBatchSize"=dword:00000309'));
  await host.stop();
  writeFileSync(host.paths.hive, 'PEIOS-REG 1\n; mine\n');
  host.prepare();
  assert.equal(host.seeded, false);
  assert.equal(readFileSync(host.paths.hive, 'utf8'), 'PEIOS-REG 1\n; mine\n');
});

test('[HOST-62] a place where nothing can be made is named, without spinning', () => {
  const paths = layoutOf('/proc/eventd-none', {}, 0);
  assert.throws(() => makeDirectories(paths, 0), /\/proc\/eventd-none: cannot be made/);
});

test('[HOST-62] a directory in the way is named', (t) => {
  const { host } = fakeHost(t, {});
  mkdirSync(host.paths.dir, { recursive: true });
  writeFileSync(host.paths.events, '');
  assert.throws(
    () => host.prepare(),
    (error) => error instanceof Error && error.message.startsWith(host.paths.events),
  );
});

test('[HOST-10] kmesd, then eventd are started and waited for; stopping goes the other way', {
  timeout: 30_000,
}, async (t) => {
  const { host, noted, states } = fakeHost(t, { eventd: { readyAfterMs: 50 } });
  await host.start();
  assert.deepEqual([host.state('kmesd'), host.state('eventd')], ['ready', 'ready']);
  await host.stop();
  assert.deepEqual(noted(), [
    'kmesd start',
    'eventd start',
    'eventd SIGTERM',
    'eventd end',
    'kmesd SIGTERM',
    'kmesd end',
  ]);
  assert.deepEqual(states, [
    'kmesd starting',
    'kmesd ready',
    'eventd starting',
    'eventd ready',
    'eventd stopping',
    'eventd stopped',
    'kmesd stopping',
    'kmesd stopped',
  ]);
  assert.equal(host.pid('eventd'), null);
});

test('[HOST-9] READY=1 from a child process is not believed', { timeout: 30_000 }, async (t) => {
  const { host, noted } = fakeHost(t, { kmesd: { ready: 'child' } });
  const starting = host.start();
  starting.catch(() => undefined);
  await until(() => noted().includes('kmesd child 0'), 'the child to have sent its message');
  // The message lies in the socket already: a receiver that took it would be ready within this.
  await new Promise((resolve) => setTimeout(resolve, 100));
  assert.equal(host.state('kmesd'), 'starting');
  await host.stop();
  await assert.rejects(starting);
});

test('[HOST-12] a program that is not ready within the start timeout is killed, and the start fails with the reason', {
  timeout: 30_000,
}, async (t) => {
  const { host, noted } = fakeHost(t, { eventd: { ready: 'never' } }, { startTimeoutMs: 1500 });
  await assert.rejects(host.start(), {
    message: 'eventd: was not ready in time and was killed before it was ready',
  });
  assert.deepEqual(noted(), ['kmesd start', 'eventd start', 'kmesd SIGTERM', 'kmesd end']);
});

test('[HOST-12] EXTEND_TIMEOUT_USEC moves the deadline', { timeout: 30_000 }, async (t) => {
  const { host } = fakeHost(
    t,
    { kmesd: { before: 'EXTEND_TIMEOUT_USEC=5000000', readyAfterMs: 2000 } },
    { startTimeoutMs: 1500 },
  );
  await host.start();
  assert.equal(host.state('kmesd'), 'ready');
});

test('[HOST-11] a program that ends before it is ready fails the start at once, with its exit code', {
  timeout: 30_000,
}, async (t) => {
  const { host, lines } = fakeHost(t, { eventd: { exit: 1, print: 'eventd: no such hive\npartial' } });
  await assert.rejects(host.start(), { message: 'eventd: ended with exit code 1 before it was ready' });
  await until(() => lines.length === 2, 'its output');
  assert.deepEqual(lines, ['eventd: eventd: no such hive', 'eventd: partial']);
});

test('[HOST-24] a program killed while ready is restarted; the other one is left alone', {
  timeout: 30_000,
}, async (t) => {
  const { host, noted } = fakeHost(t, {});
  await host.start();
  const before = host.pid('eventd');
  const other = host.pid('kmesd');
  await host.kill('eventd');
  assert.equal(host.state('eventd'), 'waiting');
  await host.ready('eventd');
  assert.notEqual(host.pid('eventd'), before);
  assert.equal(host.pid('kmesd'), other);
  assert.deepEqual(noted(), ['kmesd start', 'eventd start', 'eventd start']);
});

test('[HOST-24] a program that keeps crashing is given up, and the host says so', {
  timeout: 30_000,
}, async (t) => {
  const { host, noted } = fakeHost(t, { eventd: { crash: 3 } });
  await host.start();
  const end = await host.ended;
  assert.deepEqual([end.program, end.ok], ['eventd', false]);
  assert.match(end.detail, /ended with exit code 3; too many restarts, given up/);
  assert.equal(noted().filter((line) => line === 'eventd start').length, 1 + QUICK.maxRestarts);
});

test('[HOST-24] a clean end is no crash', { timeout: 30_000 }, async (t) => {
  const { host } = fakeHost(t, { eventd: { crash: 0 } });
  await host.start();
  assert.deepEqual(await host.ended, { program: 'eventd', ok: true, detail: 'ended with exit code 0' });
});

test('[HOST-16] SIGKILL follows SIGTERM after the stop timeout', { timeout: 30_000 }, async (t) => {
  const { host, noted, states } = fakeHost(t, { eventd: { ignoreTerm: true } }, { stopTimeoutMs: 300 });
  await host.start();
  await host.stop();
  assert.ok(noted().includes('eventd SIGTERM') && !noted().includes('eventd end'));
  assert.ok(states.includes('eventd stopped: did not stop in time and was killed'));
});

test('[HOST-13] after STOPPING=1 no SIGTERM is sent', { timeout: 30_000 }, async (t) => {
  const { host, noted } = fakeHost(t, { eventd: { announceStop: true, before: 'STATUS=x' } });
  await host.start();
  host.signal('eventd', 'SIGUSR2');
  await until(() => host.status('eventd') === 'stopping', 'the announcement');
  const stopping = host.stop();
  host.signal('eventd', 'SIGHUP');
  await stopping;
  assert.ok(!noted().includes('eventd SIGTERM'), noted().join());
});

test('[HOST-19] signals reach the program they are meant for', { timeout: 30_000 }, async (t) => {
  const { host, noted } = fakeHost(t, {});
  await host.start();
  assert.ok(host.signal('eventd', 'SIGHUP'));
  await until(() => noted().includes('eventd SIGHUP'), 'the signal');
  assert.ok(!noted().includes('kmesd SIGHUP'));
  await host.stop();
  assert.equal(host.signal('eventd', 'SIGHUP'), false);
});

test('[HOST-16] one program can be restarted gracefully, and the host does not end by it', {
  timeout: 30_000,
}, async (t) => {
  const { host, noted } = fakeHost(t, {});
  await host.start();
  await host.restartProgram('eventd');
  assert.deepEqual(noted(), ['kmesd start', 'eventd start', 'eventd SIGTERM', 'eventd end', 'eventd start']);
  assert.equal(await Promise.race([host.ended, Promise.resolve('running')]), 'running');
});

test('[HOST-60] two hosts do not share a directory', { timeout: 30_000 }, async (t) => {
  const { host } = fakeHost(t, {});
  host.prepare();
  const second = new DevHost({ dir: host.paths.dir });
  assert.throws(() => second.prepare(), { message: `${host.paths.dir}: another devhost works here` });
  await host.stop();
  second.prepare();
  await second.stop();
});
