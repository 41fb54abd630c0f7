/** The start of the real eventd: its order, its failures, its command line. */
import assert from 'node:assert/strict';
import {
  chmodSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import { createServer } from 'node:net';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { BOOT_A, BOOT_B, EventdWorld, eventually } from '../fixtures/eventd.js';
import { runProgram } from '../fixtures/runProgram.js';

test('[LIFE-125] [LIFE-126] [LIFE-138] [HOST-10] READY=1 waits for the commit of the startup record', async (t) => {
  const world = EventdWorld.for(t);
  await (await world.start()).end();
  assert.equal(world.synthetic('synthetic.startup').length, 1);

  // Shard 0 cannot commit while somebody else holds its write lock; shard 1 can.
  const release = world.lock(0);
  let run = world.spawn();
  world.emit(1, 'test.other');
  await world.stored(1);
  assert.equal(run.readyCount, 0, 'readers and writers run, but the record is not stored');
  release();
  await run.ready;
  assert.equal(world.synthetic('synthetic.startup').length, 2, 'the record is there when READY=1 arrives');
  assert.equal(world.notifications.find(({ pid }) => pid === run.pid)?.fields.get('READY'), '1');
  await run.end();

  // Without a service manager eventd starts all the same.
  run = world.spawn([], { NOTIFY_SOCKET: '' });
  await run.hasLogged('the start', ({ msg }) => msg === 'ready');
  assert.equal((await run.end()).code, 0);
});

test('[LIFE-137] [LIFE-115] a client that connects while eventd starts is answered afterwards', async (t) => {
  const world = EventdWorld.for(t);
  const run = world.spawn();
  await eventually('the query socket', () => readdirSync(world.paths.run).includes('query.sock'));
  const [record] = await world.query('EVENTS synthetic.startup');
  assert.equal(record?.get('event_type'), 'synthetic.startup');
  assert.equal(run.readyCount, 1);
});

interface FailingStart {
  readonly name: string;
  readonly cpus?: number;
  readonly prepare?: (world: EventdWorld, t: TestContext) => void | Promise<void>;
  readonly args?: readonly string[];
  readonly env?: Readonly<Record<string, string>>;
  /** What the one line must say. */
  readonly says: RegExp;
}

function withoutLine(world: EventdWorld, name: string): void {
  const text = readFileSync(world.paths.hive, 'utf8');
  writeFileSync(
    world.paths.hive,
    text
      .split('\n')
      .filter((line) => !line.startsWith(`"${name}"`))
      .join('\n'),
  );
}

const FAILING: readonly FailingStart[] = [
  ...['EventStorePath', 'LogStorePath', 'MetricStorePath', 'QuerySocketPath', 'LogSocketPath'].map(
    (key): FailingStart => ({
      name: `[LIFE-101] [CFG-10] [WIRE-12] without ${key}`,
      prepare: (world) => withoutLine(world, key),
      says: new RegExp(`configuration: .*${key}`),
    }),
  ),
  {
    name: '[LIFE-101] [STO-20] with a relative EventStorePath',
    prepare: (world) => world.writeHive({ EventStorePath: 'events' }),
    says: /configuration: .*EventStorePath/,
  },
  {
    name: '[LIFE-101] [WIRE-12] with a socket path no socket can have',
    prepare: (world) => world.writeHive({ QuerySocketPath: `/tmp/${'x'.repeat(110)}` }),
    says: /configuration: .*QuerySocketPath/,
  },
  {
    name: '[LIFE-1] [HOST-60] without a hive',
    prepare: (world) => rmSync(world.paths.hive),
    says: /configuration: .*eventd\.reg/,
  },
  {
    name: '[HOST-60] with a hive that is none',
    prepare: (world) => writeFileSync(world.paths.hive, 'PEIOS-REG 1\n[Machine\n'),
    says: /configuration: .*eventd\.reg.*2/,
  },
  {
    name: '[HOST-62] with a hive its group may write',
    prepare: (world) => chmodSync(world.paths.hive, 0o660),
    says: /configuration: .*eventd\.reg.* writable by group/,
  },
  {
    name: '[HOST-5] [LIFE-108] with a malformed boot id',
    env: { PEIOS_BOOT_ID: 'last tuesday' },
    says: /configuration: .*PEIOS_BOOT_ID/,
  },
  {
    name: '[HOST-73] with the rings of another boot',
    prepare: (world) => writeFileSync(join(world.paths.kmes, 'boot-id'), `${BOOT_B}\n`),
    says: /configuration: .*kmes belong to boot \{bbbbbbbb-.*this is boot \{aaaaaaaa-/,
  },
  {
    name: '[LIFE-1] [LIFE-133] without a ring',
    cpus: 0,
    says: /configuration: .*no ring file.*cpu-0000\.ring/,
  },
  {
    name: '[LIFE-133] with a hole in the rings',
    cpus: 3,
    prepare: (world) => rmSync(world.ringPath(1)),
    says: /configuration: .*cpu-0001\.ring is missing/,
  },
  {
    name: '[LIFE-133] with a ring that is none',
    prepare: (world) => truncateSync(world.ringPath(1), 100),
    says: /configuration: .*cpu-0001\.ring/,
  },
  {
    name: '[HOST-3] with --host peios on another kernel',
    args: ['--host', 'peios'],
    says: /configuration: .*ENOSYS/,
  },
  {
    name: '[STO-20] [LIFE-131] with a file where the event store belongs',
    prepare: (world) => writeFileSync(world.paths.events, 'not a directory'),
    says: /storage: .*events/,
  },
  {
    name: '[STO-20] [LIFE-131] with a directory where a shard belongs',
    prepare: (world) => {
      mkdirSync(join(world.paths.events, 'shard-0001.db'), { recursive: true });
    },
    says: /storage: .*shard-0001\.db/,
  },
  {
    name: '[LIFE-115] with another process on the query socket',
    prepare: async (world, t) => {
      const server = createServer().listen(world.paths.querySocket);
      await new Promise((resolve) => server.once('listening', resolve));
      t.after(() => server.close());
    },
    says: /sockets: .*query\.sock: another process/,
  },
];

for (const { name, cpus, prepare, args, env, says } of FAILING) {
  test(`[LIFE-130] [LIFE-131] [LIFE-132] [HOST-11] a start fails ${name}`, async (t) => {
    const world = EventdWorld.for(t, cpus === undefined ? {} : { cpus });
    await prepare?.(world, t);
    const present = () => [world.paths.run, world.paths.kmes].flatMap((dir) => readdirSync(dir).sort());
    const before = present();
    const run = world.spawn(args, env);
    assert.deepEqual(await run.exited, { code: 1, signal: null });
    const lines = run.stderr.split('\n').filter((line) => line !== '' && !line.startsWith('{'));
    assert.equal(lines.length, 1, run.stderr);
    assert.match(lines[0] ?? '', /^eventd: /);
    assert.match(lines[0] ?? '', says);
    assert.doesNotMatch(run.stderr, /\n\s+at /);
    assert.equal(run.readyCount, 0);
    assert.deepEqual(present(), before, 'nothing is left behind');
  });
}

test('[LIFE-115] a socket file that nobody answers on is replaced', async (t) => {
  const world = EventdWorld.for(t);
  const first = await world.start();
  await first.end('SIGKILL');
  assert.ok(readdirSync(world.paths.run).includes('query.sock'), 'the crash left the file');
  await world.start();
  assert.equal((await world.query('EVENTS synthetic.startup')).length, 2);
});

test('[LIFE-104] --check says what a start would do and changes nothing', async (t) => {
  const world = EventdWorld.for(t);
  const arguments_ = ['--registry', world.paths.hive, '--kmes', world.paths.kmes, '--check'];
  const check = () => runProgram('eventd', arguments_, { env: { PEIOS_BOOT_ID: BOOT_A } }).done;
  const before = readdirSync(world.dir).sort();
  const fresh = await check();
  assert.equal(fresh.code, 0, fresh.stdout.toString());
  assert.match(fresh.stdout.toString(), /shard-0001\.db: will be created/);
  assert.match(fresh.stdout.toString(), /2 event rings/);
  assert.deepEqual(readdirSync(world.dir).sort(), before);

  await (await world.start()).end();
  world.change(1, (db) => db.exec("UPDATE metadata SET value = '99' WHERE key = 'schema_version'"));
  const later = await check();
  assert.equal(later.code, 0);
  assert.match(later.stdout.toString(), /ok .*shard-0000\.db/);
  assert.match(later.stdout.toString(), /warn .*shard-0001\.db: schema version '99'/);

  withoutLine(world, 'LogStorePath');
  rmSync(world.ringPath(0));
  const bad = await check();
  assert.equal(bad.code, 1);
  assert.match(bad.stdout.toString(), /FAIL .*LogStorePath/);
  assert.match(bad.stdout.toString(), /FAIL .*cpu-0000\.ring/);
});

test('[LIFE-2] the command line: help, version, wrong usage', async () => {
  const help = await runProgram('eventd', ['--help']).done;
  assert.equal(help.code, 0);
  for (const option of ['--registry', '--kmes', '--host', '--check']) {
    assert.ok(help.stdout.includes(option), option);
  }
  const manifest = readFileSync(new URL('../../../package.json', import.meta.url), 'utf8');
  const { version } = JSON.parse(manifest) as { version: string };
  const said = ['eventd', 'kmesd', 'evctl', 'devhost'].map(async (program) => {
    const { code, stdout } = await runProgram(program, ['--version']).done;
    assert.deepEqual([code, stdout.toString()], [0, `${program} ${version}\n`], 'all programs agree');
  });
  await Promise.all(said);
  for (const wrong of [['--nonsense'], ['--host', 'windows'], ['stray'], ['--registry']]) {
    const { code, stderr } = await runProgram('eventd', wrong).done;
    assert.equal(code, 2, wrong.join(' '));
    assert.match(stderr, /^eventd: .*\n$/);
  }
});
