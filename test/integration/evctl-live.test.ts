import assert from 'node:assert/strict';
import { existsSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { DevHost } from '../../src/devhost/host.js';
import { query } from '../../src/wire/client.js';
import { runProgram } from '../fixtures/runProgram.js';
import { until } from '../fixtures/wireServer.js';

async function rows(socket: string, text: string): Promise<bigint[]> {
  const numbers: bigint[] = [];
  for await (const record of query(socket, text)) {
    const n = record.get('n');
    if (typeof n === 'bigint') numbers.push(n);
  }
  return numbers;
}

/** Polls until the query gives `count` records. */
async function rowsOnce(socket: string, text: string, count: number): Promise<bigint[]> {
  let found: bigint[] = [];
  const deadline = performance.now() + 15_000;
  do found = await rows(socket, text);
  while (found.length < count && performance.now() < deadline);
  return found;
}

test('[HOST-10] [HOST-24] [HOST-76] on a real host, events go from evctl emit through kill -9 of eventd to evctl, none lost or doubled', {
  timeout: 90_000,
}, async (t) => {
  const root = mkdtempSync(join(tmpdir(), 'live-'));
  const lines: string[] = [];
  const host = new DevHost({
    dir: join(root, 'data'),
    kmsg: false,
    process: false,
    restart: { firstDelayMs: 50, maxDelayMs: 50, maxRestarts: 5, windowMs: 60_000 },
    onLine: (name, { text }) => lines.push(`${name}: ${text}`),
  });
  t.after(async () => {
    await host.stop();
    rmSync(root, { recursive: true, force: true });
  });
  await host.start();
  const { kmes, querySocket, hive, debugSocket } = host.paths;
  const emit = async (from: number, to: number) => {
    const input = Array.from({ length: to - from }, (_, i) => `{"n": ${from + i}}\n`).join('');
    const result = await runProgram('evctl', ['emit', '--kmes', kmes, 'live.count', '-'], { input }).done;
    assert.deepEqual([result.code, result.stderr], [0, '']);
  };
  await emit(0, 300);
  await host.kill('eventd');
  await emit(300, 600);
  await host.ready('eventd');
  const text = 'EVENTS live.count SORT n';
  const expected = Array.from({ length: 600 }, (_, i) => BigInt(i));
  assert.deepEqual(await rowsOnce(querySocket, text, 600), expected, lines.join('\n'));

  const single = await runProgram('evctl', [
    'emit',
    '--kmes',
    kmes,
    'live.big',
    '{"n": 18446744073709551615}',
  ]).done;
  assert.equal(single.code, 0);
  await rowsOnce(querySocket, 'EVENTS live.big', 1);
  const json = await runProgram('evctl', ['-s', querySocket, '-o', 'jsonl', 'EVENTS live.big SELECT n']).done;
  assert.equal(json.stdout.toString(), '{"n":18446744073709551615}\n');

  const refused = await runProgram('evctl', ['emit', '--kmes', kmes, 'live.bad', '-'], {
    input: '{}\n\n{"a":}\n3\n',
  }).done;
  assert.deepEqual(
    [refused.code, refused.stderr],
    [1, 'evctl: standard input, line 3: JSON value expected at character 6\n'],
  );

  const set = await runProgram('evctl', ['registry', '--registry', hive, 'set', 'MaxBatchSize', '500']).done;
  assert.deepEqual([set.code, set.stdout.toString()], [0, '"MaxBatchSize"=dword:000001f4\n']);
  const get = await runProgram('evctl', ['registry', 'get', 'MaxBatchSize'], {
    env: { EVENTD_REGISTRY: hive },
  }).done;
  assert.equal(get.stdout.toString(), 'dword:000001f4\n');
  const missing = await runProgram('evctl', ['registry', '--registry', join(root, 'none.reg'), 'ls']).done;
  assert.equal(missing.code, 1);
  assert.match(missing.stderr, /^evctl: [^\n]*none\.reg[^\n]*\n$/);

  const tree = await runProgram('evctl', ['inspect', '--debug-socket', debugSocket]).done;
  assert.equal(tree.code, 0);
  assert.match(tree.stdout.toString(), /^daemon\s+ready/m);

  await host.stop();
  assert.ok(!existsSync(querySocket));
});

test('[HOST-19] [HOST-16] the program devhost runs until it is told to stop, and stops eventd before kmesd', {
  timeout: 60_000,
}, async (t) => {
  const root = mkdtempSync(join(tmpdir(), 'host-'));
  const deep = join(root, 'd'.repeat(100));
  const devhost = runProgram('devhost', [
    '--dir',
    deep,
    '--cpus',
    '2',
    '--capacity',
    '65536',
    '--no-kmsg',
    '--no-process',
  ]);
  t.after(() => rmSync(root, { recursive: true, force: true }));
  await until(
    () => devhost.stdout().includes('Ctrl-C stops everything.') || devhost.child.exitCode !== null,
    'the welcome',
    30_000,
  );
  assert.match(devhost.stdout(), /sockets and rings are in (\S+)\.\n/, devhost.stderr());
  const short = /sockets and rings are in (\S+)\.\n/.exec(devhost.stdout())?.[1] ?? '';
  t.after(() => rmSync(short, { recursive: true, force: true }));
  assert.ok(existsSync(join(short, 'kmes', 'cpu-0001.ring')) && existsSync(join(deep, 'events')));
  devhost.child.kill('SIGTERM');
  const result = await devhost.done;
  assert.deepEqual([result.code, result.signal], [0, null], result.stderr);
  const order = [...result.stderr.matchAll(/devhost \| (\w+): stopped/g)].map((match) => match[1]);
  assert.deepEqual(order, ['eventd', 'kmesd']);
});

test('[HOST-11] devhost says what keeps eventd from starting, and exits 1; wrong usage exits 2', {
  timeout: 60_000,
}, async (t) => {
  const root = mkdtempSync(join(tmpdir(), 'host-'));
  t.after(() => rmSync(root, { recursive: true, force: true }));
  const failed = await runProgram('devhost', ['--dir', root, '--no-kmsg', '--no-process', '--capacity', '7'])
    .done;
  assert.equal(failed.code, 1);
  assert.match(failed.stderr, /^kmesd {3}\| .*--capacity/m);
  assert.match(failed.stderr, /devhost: kmesd: ended with exit code 2 before it was ready\n$/);
  for (const args of [['--exec', 'x'], ['x'], ['--cpus', '0']]) {
    const usage = await runProgram('devhost', args, { cwd: root }).done;
    assert.equal(usage.code, 2);
    assert.match(usage.stderr, /^devhost: [^\n]+ \(see devhost --help\)\n$/);
  }
});
