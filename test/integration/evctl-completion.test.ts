/** The completion scripts: what a shell makes of them, with names from a real eventd. */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { EventdWorld, eventually } from '../fixtures/eventd.js';
import { EventdRecords, gauge, line } from '../fixtures/eventdRecords.js';
import { programPath, runProgram } from '../fixtures/runProgram.js';

test('bash completes options, keywords, and names that are stored, inside a quoted query', {
  timeout: 60_000,
}, async (t) => {
  const world = EventdWorld.for(t, { cpus: 1 });
  await world.start();
  const records = new EventdRecords(world);
  world.emit(0, 'demo.login');
  world.emit(0, 'demo.logout');
  await records.send('log', line('up', { origin: 'loregd' }));
  await records.send('metric', gauge('room.heat', 3));
  await world.stored(0);
  await eventually('the log line', async () => (await world.query('LOGS FROM loregd')).length > 0);
  await eventually('the sample', async () => (await world.query('METRIC room.heat[]')).length > 0);

  const bin = mkdtempSync(join(tmpdir(), 'completion-'));
  t.after(() => rmSync(bin, { recursive: true, force: true }));
  writeFileSync(
    join(bin, 'evctl'),
    `#!/bin/sh\nexec '${process.execPath}' '${programPath('evctl')}' "$@"\n`,
    {
      mode: 0o755,
    },
  );
  const script = (await runProgram('evctl', ['completion', 'bash']).done).stdout.toString();
  /** What bash would offer; words as it cuts the line, an open quote included. */
  const complete = (...words: string[]): string[] => {
    const quoted = ['evctl', ...words].map((word) => `'${word.replaceAll("'", "'\\''")}'`);
    const { stdout, stderr, status } = spawnSync(
      'bash',
      [
        '--norc',
        '-c',
        `${script}\nCOMP_WORDS=(${quoted.join(' ')}); COMP_CWORD=${words.length}; _evctl; printf '%s\\n' "\${COMPREPLY[@]}"`,
      ],
      {
        cwd: bin,
        encoding: 'utf8',
        env: { PATH: `${bin}:${process.env.PATH}`, EVENTD_SOCKET: world.paths.querySocket },
      },
    );
    assert.deepEqual([status, stderr], [0, ''], words.join(' '));
    return stdout.split('\n').slice(0, -1);
  };
  assert.deepEqual(complete('--foll'), ['--follow']);
  assert.deepEqual(complete('--file', ''), ['evctl']);
  // The second candidate keeps bash from closing the quote.
  assert.deepEqual(complete("'EVENTS SIN"), ['EVENTS SINCE', 'EVENTS SINCE ']);
  assert.deepEqual(complete("'EVENTS demo.lo"), ['EVENTS demo.login', 'EVENTS demo.logout']);
  assert.deepEqual(complete('"LOGS FROM lor'), ['LOGS FROM loregd', 'LOGS FROM loregd ']);
  assert.deepEqual(complete("'METRIC room"), ['METRIC room.heat', 'METRIC room.heat ']);
  assert.deepEqual(complete('metric', 'room'), ['room.heat']);
  assert.deepEqual(complete('emit', 'demo.logi'), ['demo.login']);
});

test('completion without eventd is quick and knows what needs no names', { timeout: 20_000 }, async () => {
  const env = { EVENTD_SOCKET: '/nowhere/query.sock' };
  const words = async (...line: string[]) => {
    const args = ['completion', 'words', String(line.length), '--', 'evctl', ...line];
    const { code, stdout, stderr } = await runProgram('evctl', args, { env }).done;
    assert.deepEqual([code, stderr], [0, '']);
    return stdout.toString();
  };
  assert.equal(await words('EVENTS IN'), 'EVENTS INDEX\n');
  assert.equal(await words('LOGS FROM a'), '');
});

test('zsh gets a script that zsh can read', async (t) => {
  const script = (await runProgram('evctl', ['completion', 'zsh']).done).stdout.toString();
  assert.match(script, /^#compdef evctl\n/);
  assert.match(script, /completion words \$index -- /);
  const folder = mkdtempSync(join(tmpdir(), 'zsh-'));
  t.after(() => rmSync(folder, { recursive: true, force: true }));
  writeFileSync(join(folder, '_evctl'), script);
  const checked = spawnSync('zsh', ['-n', join(folder, '_evctl')], { encoding: 'utf8' });
  // zsh is not on every machine; where it is it must take the script.
  if (checked.error === undefined) assert.deepEqual([checked.status, checked.stderr], [0, '']);
});
