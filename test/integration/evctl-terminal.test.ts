/** What evctl does differently on a terminal: colours, the pager, charts. */
import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { stripVTControlCharacters } from 'node:util';
import { encodeEnd, encodeError, encodeResult, type WireRecord } from '../../src/wire/messages.js';
import { runProgram } from '../fixtures/runProgram.js';
import { runOnTerminal } from '../fixtures/terminal.js';
import { startWireServer, until } from '../fixtures/wireServer.js';

const directory = mkdtempSync(join(tmpdir(), 'evctl-tty-'));
after(() => rmSync(directory, { recursive: true, force: true }));

/** A pager that marks what goes through it, and says how it was called. */
const pager = join(directory, 'pager');
writeFileSync(pager, '#!/bin/sh\necho "pager $* LESS=$LESS"\nsed "s/^/| /"\necho "pager ends"\n', {
  mode: 0o755,
});

const T = 1_777_636_801_123_456_789n;
const log: WireRecord = { timestamp: T, origin: 'svc', is_error: true, message: 'oops', boot_id: '{x}' };
const answering = (records: readonly WireRecord[], last = encodeEnd()) =>
  startWireServer((_, socket) => socket.end(Buffer.concat([encodeResult(records), last])));
const ESCAPE = '\u001b[';

test('a terminal gets colours and a pipe none; NO_COLOR and --color decide otherwise', {
  timeout: 30_000,
}, async () => {
  await using server = await answering([log]);
  const args = ['-s', server.path, '--no-pager'];
  const shown = async (more: readonly string[], env: Readonly<Record<string, string>> = {}) => {
    const run = runOnTerminal('evctl', [...args, ...more, 'LOGS'], env);
    assert.equal(await run.done, 0, run.screen());
    assert.match(run.screen(), /oops/);
    return run.screen().includes(ESCAPE);
  };
  assert.ok(await shown([]));
  assert.ok(!(await shown([], { NO_COLOR: '1' })));
  assert.ok(await shown(['--color=always'], { NO_COLOR: '1' }));
  assert.ok(!(await shown(['--color', 'never'])));
  const piped = async (more: readonly string[]) =>
    (await runProgram('evctl', [...args, ...more, 'LOGS']).done).stdout.includes(ESCAPE);
  assert.ok(!(await piped([])));
  assert.ok(await piped(['--color', 'always']));
});

test('a result on a terminal goes through the pager, whose end evctl awaits', {
  timeout: 30_000,
}, async () => {
  await using server = await answering([log], encodeError('timeout: too long'));
  const run = runOnTerminal('evctl', ['-s', server.path, '--no-color', 'LOGS'], {
    EVCTL_PAGER: `${pager} -x`,
    PAGER: '/nowhere',
  });
  assert.equal(await run.done, 1);
  assert.equal(
    run.screen(),
    'pager -x LESS=FRX\n| 2026-05-01T12:00:01.123456Z  svc ! oops\npager ends\nevctl: timeout: too long\n',
  );
});

test('the pager may be a shell command, or missing; without records there is none', {
  timeout: 30_000,
}, async () => {
  await using server = await startWireServer((query, socket) =>
    socket.end(Buffer.concat([encodeResult(query.includes('none') ? [] : [log]), encodeEnd()])),
  );
  const shown = async (query: string, env: Readonly<Record<string, string>>) => {
    const run = runOnTerminal('evctl', ['-s', server.path, '--no-color', query], env);
    assert.equal(await run.done, 0, run.screen());
    return run.screen();
  };
  const line = '2026-05-01T12:00:01.123456Z  svc ! oops\n';
  assert.equal(
    await shown('LOGS', { PAGER: `tr a-z A-Z | sed 's/$/;/'` }),
    line.toUpperCase().replace('\n', ';\n'),
  );
  assert.equal(await shown('LOGS', { PAGER: '/nowhere/at/all' }), line);
  assert.equal(await shown('LOGS', { PAGER: pager, EVCTL_PAGER: 'cat' }), line);
  assert.equal(await shown('LOGS FROM none', { PAGER: pager }), '');
});

test('no pager in a pipe, with --no-pager or with --follow', { timeout: 30_000 }, async () => {
  await using server = await startWireServer((query, socket) => {
    socket.write(encodeResult([log]));
    if (query.includes('STREAM')) socket.write(encodeResult([]));
    else socket.end(encodeEnd());
  });
  const env = { EVCTL_PAGER: pager };
  const piped = await runProgram('evctl', ['-s', server.path, 'LOGS'], { env }).done;
  assert.doesNotMatch(piped.stdout.toString(), /pager/);
  const plain = runOnTerminal('evctl', ['-s', server.path, '--no-pager', 'LOGS'], env);
  assert.equal(await plain.done, 0);
  assert.doesNotMatch(plain.screen(), /pager/);
  const followed = runOnTerminal('evctl', ['-s', server.path, '-f', 'LOGS'], env);
  await until(() => followed.screen().includes('oops'), 'the line');
  followed.type('\x03');
  assert.equal(await followed.done, 0);
  assert.doesNotMatch(followed.screen(), /pager/);
});

test('a pager that is quit ends the query quietly', { timeout: 30_000 }, async () => {
  const many = encodeResult(Array.from({ length: 1000 }, () => log));
  await using server = await startWireServer((_, socket) => {
    const pump = () => {
      while (socket.write(many));
    };
    socket.on('drain', pump);
    pump();
  });
  const run = runOnTerminal('evctl', ['-s', server.path, 'LOGS'], { EVCTL_PAGER: 'head -n 2' });
  assert.equal(await run.done, 0, run.screen().slice(-300));
  assert.equal(run.screen().trimEnd().split('\n').length, 2);
  await server.closed(0);
});

test('Ctrl-C belongs to the pager: evctl ends the query and waits for it', { timeout: 30_000 }, async () => {
  const patient = join(directory, 'patient');
  writeFileSync(
    patient,
    '#!/bin/sh\ntrap "echo again" INT\nwhile read -r x; do echo "| $x"; done\necho "patient ends"\n',
    {
      mode: 0o755,
    },
  );
  await using server = await startWireServer((_, socket) => {
    socket.write(encodeResult([log]));
  });
  const run = runOnTerminal('evctl', ['-s', server.path, 'LOGS'], { EVCTL_PAGER: patient });
  await until(() => run.screen().includes('oops'), 'the line');
  run.type('\x03');
  assert.equal(await run.done, 130, run.screen());
  assert.match(run.screen(), /patient ends\n$/);
  await server.closed(0);
});

test('[QL-99] --chart draws series over time with both axes and a colour each', {
  timeout: 30_000,
}, async () => {
  const sample = (core: string, n: number): WireRecord => ({
    timestamp: T + BigInt(n) * 60_000_000_000n,
    name: 'cpu.usage',
    core,
    value: core === '0' ? n : 20 - n,
  });
  const records = Array.from({ length: 40 }, (_, i) => sample(String(i % 2), i >> 1));
  await using server = await answering(records);
  const run = runOnTerminal('evctl', [
    '-s',
    server.path,
    '--no-pager',
    '--chart',
    'METRIC cpu.usage[] SINCE 1h ago',
  ]);
  assert.equal(await run.done, 0);
  const screen = run.screen();
  const styled = (code: number, text: string) => `${ESCAPE}${code}m${text}${ESCAPE}${code === 1 ? 22 : 39}m`;
  const legend = [36, 33].map(
    (code, core) => `${styled(code, '━━')} ${styled(1, `cpu.usage{core="${core}"}`)}`,
  );
  assert.ok(screen.includes(`${legend[0]}  last 19  min 0  max 19\n`));
  assert.ok(screen.includes(`${legend[1]}  last 1  min 1  max 20\n`));
  assert.match(screen, /^20 /m);
  assert.match(screen, /^ 0 /m);
  assert.match(screen, / 12:00:01 +12:09:31 +12:19:01 UTC\n$/);
  const rows = screen.split('\n').filter((line) => /[┤│]/.test(line));
  // One line rises, the other falls: colours swap from the first row to the last.
  assert.ok((rows[0] ?? '').indexOf(`${ESCAPE}33m`) < (rows[0] ?? '').indexOf(`${ESCAPE}36m`));
  assert.ok((rows.at(-1) ?? '').indexOf(`${ESCAPE}36m`) < (rows.at(-1) ?? '').indexOf(`${ESCAPE}33m`));
  for (const row of rows) assert.ok(stripVTControlCharacters(row).length <= 100);
});
