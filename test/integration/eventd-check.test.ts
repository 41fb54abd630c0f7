/** `eventd --check`: what a start would open, create and replace, and that nothing is touched by asking. */
import assert from 'node:assert/strict';
import { mkdirSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { test } from 'node:test';
import { runRegistryCommand } from '../../src/registry/edit.js';
import { SECURITY_KEY } from '../../src/registry/names.js';
import { BOOT_A, EventdWorld } from '../fixtures/eventd.js';
import { runProgram } from '../fixtures/runProgram.js';

const LIMIT = { timeout: 60_000 };

async function check(world: EventdWorld): Promise<{ code: number | null; text: string }> {
  const args = ['--check', '--registry', world.paths.hive, '--kmes', world.paths.kmes];
  const { code, stdout, stderr } = await runProgram('eventd', args, { env: { PEIOS_BOOT_ID: BOOT_A } }).done;
  assert.equal(stderr, '');
  return { code, text: stdout.toString() };
}

/** Every file with its size, mode and time of change. `-shm` is SQLite's scratch index: every reader marks it. */
function state(world: EventdWorld): string[] {
  const files = (readdirSync(world.dir, { recursive: true }) as string[]).sort();
  return files.map((name) => {
    if (name.endsWith('-shm')) return name;
    const { mode, size, mtimeMs, ino } = statSync(join(world.dir, name));
    return `${name} ${mode} ${size} ${mtimeMs} ${ino}`;
  });
}

test(
  '[LIFE-104] [LIFE-105] [LIFE-106] [CFG-61] --check goes through platform, security, rings, stores and sockets, and changes nothing',
  LIMIT,
  async (t) => {
    const world = EventdWorld.for(t, { cpus: 1 });
    const { hive, logs, metrics, querySocket, logSocket, metricSocket, debugSocket } = world.paths;
    const before = state(world);
    const fresh = await check(world);
    assert.deepEqual(state(world), before);
    assert.equal(fresh.code, 0, fresh.text);
    assert.ok(
      fresh.text.split('\n').every((line) => /^(ok {4}|$)/.test(line)),
      fresh.text,
    );
    assert.match(fresh.text, /^ok {4}host auto: /);
    for (const path of [logs, metrics, querySocket, logSocket, metricSocket, debugSocket])
      assert.match(fresh.text, new RegExp(`^ok .*${path}: will be created$`, 'm'));

    // While it runs the sockets are in use: a warning, for a restart is what one checks for.
    const run = await world.start();
    const running = await check(world);
    assert.equal(running.code, 0, running.text);
    for (const [name, path] of [
      ['query', querySocket],
      ['log', logSocket],
      ['metric', metricSocket],
      ['debug', debugSocket],
    ])
      assert.match(
        running.text,
        new RegExp(`^warn {2}${name} socket ${path}: in use by a running process$`, 'm'),
      );
    assert.match(running.text, new RegExp(`^ok {4}${logs}: schema and structure are right$`, 'm'));

    // What a crash leaves, a file in the way, a pattern nobody understands, a type without a default.
    await run.end('SIGKILL');
    rmSync(metricSocket);
    writeFileSync(metricSocket, 'mine');
    await runRegistryCommand(hive, 'set', [`${SECURITY_KEY}\\Logs`, 'svc', 'hex:01,02']);
    await runRegistryCommand(hive, 'set', [`${SECURITY_KEY}\\Logs`, 'app', '"everybody"']);
    await runRegistryCommand(hive, 'del', [`${SECURITY_KEY}\\Metrics`, '*']);
    await runRegistryCommand(hive, 'set', ['MaxBatchSize', '500']);
    writeFileSync(hive, readFileSync(hive, 'utf8').replace('dword:000001f4', 'dword:00000001'));
    const left = state(world);
    const crashed = await check(world);
    assert.deepEqual(state(world), left);
    assert.equal(crashed.code, 1);
    assert.match(
      crashed.text,
      new RegExp(`^ok {4}query socket ${querySocket}: stale, will be replaced$`, 'm'),
    );
    assert.match(crashed.text, new RegExp(`^ok {4}log socket ${logSocket}: stale, will be replaced$`, 'm'));
    assert.match(
      crashed.text,
      new RegExp(`^FAIL {2}metric socket ${metricSocket}: exists and is no socket$`, 'm'),
    );
    assert.match(crashed.text, /^warn .*Security\\Logs: "svc" is no valid security descriptor .*is denied$/m);
    assert.match(crashed.text, /^warn .*Security\\Logs: "app" is REG_SZ and no security descriptor/m);
    assert.match(crashed.text, /^warn .*Security\\Metrics: no "\*" yet; a start creates the default$/m);
    assert.match(crashed.text, /^warn {2}MaxBatchSize: found 1, expected REG_DWORD from 100 to 100000/m);
  },
);

test(
  '[LIFE-101] [HOST-49] --check names what a start would fail of: a mistake by its place, directories that cannot be',
  LIMIT,
  async (t) => {
    const world = EventdWorld.for(t, { cpus: 1 });
    const good = readFileSync(world.paths.hive, 'utf8');
    const lines = good.split('\n').length;
    writeFileSync(world.paths.hive, `${good}nonsense\n`);
    const broken = await check(world);
    assert.equal(broken.code, 1);
    assert.match(broken.text, new RegExp(`^FAIL {2}${world.paths.hive}:${lines}:1: `, 'm'));

    const elsewhere = join(world.dir, 'no', 'such', 'place.sock');
    writeFileSync(join(world.dir, 'file'), '');
    world.writeHive({ QuerySocketPath: elsewhere, LogStorePath: join(world.dir, 'file', 'logs.db') });
    const nowhere = await check(world);
    assert.equal(nowhere.code, 1);
    assert.match(
      nowhere.text,
      new RegExp(`^FAIL {2}query socket ${elsewhere}: its directory does not exist$`, 'm'),
    );
    assert.match(
      nowhere.text,
      new RegExp(`^FAIL {2}${world.dir}/file: ${world.dir}/file is no directory$`, 'm'),
    );
    mkdirSync(dirname(elsewhere), { recursive: true });
    world.writeHive({ QuerySocketPath: elsewhere });
    assert.equal((await check(world)).code, 0);
  },
);
