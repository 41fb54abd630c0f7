/** What `npm run install:system` lays out runs from where it stands, and the service manager understands it. */
import assert from 'node:assert/strict';
import { spawn, spawnSync } from 'node:child_process';
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { after, before, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { inspectHive } from '../../src/registry/hiveFile.js';
import { EVENTD_KEY, SERVICE_KEY } from '../../src/registry/names.js';
import { decodeDword, decodeSz } from '../../src/registry/value.js';
import { BOOT_A, EventdWorld, eventually } from '../fixtures/eventd.js';

const PROJECT = fileURLToPath(new URL('../../..', import.meta.url));
const PREFIX = '/opt/eventd';

let stage = '';
const at = (...parts: string[]) => join(stage, ...parts);
const lib = (...parts: string[]) => at(PREFIX, 'lib', ...parts);

function install(...args: string[]) {
  const script = join(PROJECT, 'scripts', 'install.mjs');
  return spawnSync(process.execPath, [script, '--destdir', stage, '--prefix', PREFIX, ...args], {
    encoding: 'utf8',
  });
}

before(() => {
  stage = mkdtempSync(join(tmpdir(), 'eventd-install-'));
  const { status, stderr } = install();
  assert.equal(status, 0, stderr);
});
after(() => rmSync(stage, { recursive: true, force: true }));

test('an installation has programs, units, pages, completions and a seed, and nothing that only builds or tests', () => {
  for (const program of ['sbin/eventd', 'sbin/kmesd', 'bin/evctl', 'bin/devhost'])
    assert.equal(statSync(at(PREFIX, program)).mode & 0o777, 0o755, program);
  for (const file of [
    'lib/systemd/system/eventd.service',
    'lib/systemd/system/kmesd.service',
    'lib/sysusers.d/eventd.conf',
    'lib/tmpfiles.d/eventd.conf',
    'share/man/man8/eventd.8',
    'share/man/man1/evctl.1',
    'share/doc/eventd/operations.md',
    'share/eventd/eventd.reg',
  ])
    assert.ok(existsSync(at(PREFIX, file)), file);
  assert.match(
    readFileSync(at(PREFIX, 'share/bash-completion/completions/evctl'), 'utf8'),
    /complete -F _evctl/,
  );
  assert.match(readFileSync(at(PREFIX, 'share/zsh/site-functions/_evctl'), 'utf8'), /^#compdef evctl\n/);
  assert.equal(statSync(at('etc/eventd/eventd.reg')).mode & 0o777, 0o600);
  assert.equal(statSync(at('etc/eventd')).mode & 0o777, 0o700);
  assert.deepEqual(readdirSync(lib('eventd', 'dist')).sort(), ['actors', 'bin', 'machines', 'src']);
  const packages = readdirSync(lib('eventd', 'node_modules'));
  for (const name of ['better-sqlite3', 'pino', 'rxjs', 'xstate']) assert.ok(packages.includes(name), name);
  for (const name of ['typescript', 'node-gyp', 'fast-check', 'prebuild-install', '.bin'])
    assert.ok(!packages.includes(name), name);
  for (const file of readdirSync(lib('eventd'), { recursive: true }) as string[])
    assert.ok(!/\.(map|c|h|cc|cpp|o)$/.test(file), file);
});

/** Links of a page to files, or headings of pages, that are not there. */
function deadLinks(page: string): string[] {
  return [...readFileSync(page, 'utf8').matchAll(/\[[^\]]+\]\(([^)]+)\)/g)].flatMap(([, link = '']) => {
    const [path = '', heading] = link.split('#');
    if (/^[a-z]+:/.test(path)) return [];
    const target = path === '' ? page : join(dirname(page), path);
    const isThere = existsSync(target) && (heading === undefined || headingsOf(target).includes(heading));
    return isThere ? [] : [`${page}: ${link}`];
  });
}

/** Headings of a page, as links name them. */
function headingsOf(page: string): string[] {
  return [...readFileSync(page, 'utf8').matchAll(/^#+ (.+)$/gm)].map(([, text = '']) =>
    text
      .toLowerCase()
      .replace(/[^\p{L}\p{N} _-]/gu, '')
      .replaceAll(' ', '-'),
  );
}

test('no link of an installed page is dead, nor one of the README, and what pages name is installed', () => {
  const doc = at(PREFIX, 'share', 'doc', 'eventd');
  const pages = (readdirSync(doc, { recursive: true }) as string[]).filter((name) => name.endsWith('.md'));
  for (const page of ['query-language.md', 'access-control.md', 'client.md', 'spec/07-query-execution.md'])
    assert.ok(pages.includes(page), page);
  const dead = [join(PROJECT, 'README.md'), ...pages.map((page) => join(doc, page))].flatMap(deadLinks);
  assert.deepEqual(dead, []);
  // The source is not installed: of a link to it the words stay.
  assert.match(readFileSync(join(doc, 'exactly-once.md'), 'utf8'), /\(watermarks\.ts\)/);
});

test('[HOST-25] the seed names the installed program and its stop time is that of the unit', async () => {
  const hive = await inspectHive(at('etc/eventd/eventd.reg'));
  const service = hive.key(SERVICE_KEY)?.values;
  const imagePath = service?.get('imagepath')?.data ?? new Uint8Array();
  assert.equal(decodeSz(imagePath), `${PREFIX}/sbin/eventd`);
  assert.ok((hive.key(EVENTD_KEY)?.values.size ?? 0) >= 6);
  const unit = unitOf('eventd.service');
  const seconds = (name: string) => String(decodeDword(service?.get(name)?.data ?? new Uint8Array()));
  assert.deepEqual(unit.get('Service.TimeoutStopSec'), [seconds('stoptimeout')]);
  assert.deepEqual(unit.get('Service.TimeoutStartSec'), [seconds('starttimeout')]);
  assert.deepEqual(unit.get('Service.WatchdogSec'), [seconds('watchdogtimeout')]);
  assert.deepEqual(unit.get('Service.LimitNOFILE'), [seconds('limitnofile')]);
});

/** Values of a unit by `Section.Key`, in order. */
function unitOf(name: string): ReadonlyMap<string, readonly string[]> {
  const values = new Map<string, string[]>();
  let section = '';
  for (const line of readFileSync(lib('systemd', 'system', name), 'utf8').split('\n')) {
    const header = /^\[(\w+)\]$/.exec(line)?.[1];
    if (header !== undefined) section = header;
    const [, key, value] = /^(\w+)=(.*)$/.exec(line) ?? [];
    if (key !== undefined)
      values.set(`${section}.${key}`, [...(values.get(`${section}.${key}`) ?? []), value ?? '']);
    else assert.match(line, /^($|#|\[)/, `${name}: ${line}`);
  }
  return values;
}

test('[HOST-2] [HOST-9] [HOST-21] [LOG-11] the units notify, are watched, and are locked in as far as the programs bear', (t) => {
  for (const [name, program] of [
    ['eventd.service', 'eventd'],
    ['kmesd.service', 'kmesd'],
  ] as const) {
    const unit = unitOf(name);
    assert.ok(unit.get('Service.ExecStart')?.[0]?.startsWith(`${PREFIX}/sbin/${program} `), name);
    for (const [key, value] of [
      ['Type', 'notify'],
      ['NotifyAccess', 'main'],
      ['ProtectSystem', 'strict'],
      ['NoNewPrivileges', 'yes'],
      ['SystemCallFilter', '@system-service @pkey'],
      // EPERM would look like a kernel that has the calls of Peios.
      ['SystemCallErrorNumber', 'ENOSYS'],
    ] as const)
      assert.deepEqual(unit.get(`Service.${key}`), [value], `${name} ${key}`);
    assert.equal(unit.get('Service.MemoryDenyWriteExecute'), undefined, 'the engine compiles at run time');
    assert.equal(unit.get('Service.PrivateUsers'), undefined, 'clients would all be nobody');
  }
  const eventd = unitOf('eventd.service');
  assert.deepEqual(eventd.get('Service.RuntimeDirectory'), ['eventd']);
  assert.deepEqual(eventd.get('Service.StateDirectory'), ['eventd']);
  assert.ok(eventd.get('Service.ReadWritePaths')?.includes('-/etc/eventd'));
  // Without a capability it is the only leave the receivers have to hurry (LOG-11).
  const receiver = readFileSync(join(PROJECT, 'native', 'receiver.c'), 'utf8');
  assert.deepEqual(eventd.get('Service.LimitNICE'), [/THREAD_NICE = (-\d+),/.exec(receiver)?.[1]]);

  // systemd's own opinion, with the programs where they are staged.
  const units = at('units');
  mkdirSync(units);
  const files = ['kmesd.service', 'eventd.service'].map((name) => {
    const text = readFileSync(lib('systemd', 'system', name), 'utf8');
    const file = join(units, name);
    writeFileSync(file, text.replaceAll(`=${PREFIX}/`, `=${at(PREFIX)}/`));
    return file;
  });
  const verify = spawnSync('systemd-analyze', ['verify', '--man=no', ...files], { encoding: 'utf8' });
  if (verify.error !== undefined) return t.diagnostic('systemd-analyze is not here');
  assert.deepEqual([verify.status, verify.stderr.trim()], [0, '']);
});

test('[LIFE-126] the installed programs work: eventd is ready under its own pid, evctl is answered', {
  timeout: 60_000,
}, async (t) => {
  const world = EventdWorld.for(t, { cpus: 1 });
  const environment = { PATH: '/usr/bin:/bin', PEIOS_BOOT_ID: BOOT_A, EVENTD_REGISTRY: world.paths.hive };
  const evctl = (...args: string[]) =>
    spawnSync(at(PREFIX, 'bin/evctl'), args, { encoding: 'utf8', env: environment });
  const child = spawn(at(PREFIX, 'sbin/eventd'), ['--kmes', world.paths.kmes], {
    cwd: '/',
    stdio: ['ignore', 'ignore', 'pipe'],
    env: { ...environment, NOTIFY_SOCKET: world.paths.notifySocket },
  });
  let said = '';
  child.stderr.setEncoding('utf8').on('data', (text: string) => {
    said += text;
  });
  const ended = new Promise<number | null>((resolve) => child.once('close', resolve));
  t.after(async () => {
    child.kill('SIGKILL');
    await ended;
  });
  await eventually('READY=1 of the very process that was started', () => {
    assert.equal(child.exitCode, null, said);
    return world.notifications.some(({ pid, fields }) => pid === child.pid && fields.get('READY') === '1');
  });
  world.emitMany(0, 10);
  await world.stored(0);
  const answer = evctl('--socket', world.paths.querySocket, '-o', 'jsonl', 'EVENTS test.many COUNT');
  assert.deepEqual([answer.status, JSON.parse(answer.stdout)], [0, { count: 10 }], answer.stderr);
  assert.equal(evctl('config', '--debug-socket', world.paths.debugSocket, 'MaxBatchSize').status, 0);
  child.kill('SIGTERM');
  assert.equal(await ended, 0, said);
  const version = evctl('--version').stdout;
  assert.equal(version, `evctl ${JSON.parse(readFileSync(join(PROJECT, 'package.json'), 'utf8')).version}\n`);
});

test('a second installation replaces the programs and keeps the hive', () => {
  writeFileSync(at('etc/eventd/eventd.reg'), 'PEIOS-REG 1\n; mine\n');
  const stray = lib('eventd', 'dist', 'stray.js');
  writeFileSync(stray, '');
  const { status, stdout } = install();
  assert.equal(status, 0);
  assert.match(stdout, /\/etc\/eventd\/eventd\.reg is kept/);
  assert.equal(readFileSync(at('etc/eventd/eventd.reg'), 'utf8'), 'PEIOS-REG 1\n; mine\n');
  assert.ok(!existsSync(stray));
  assert.equal(install('--prefix', 'relative').status, 2);
});
