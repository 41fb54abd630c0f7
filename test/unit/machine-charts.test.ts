/** The generated documents say what the code says: state charts and the table of settings. */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { SETTING_NAMES } from '../../src/registry/settings.js';

const root = fileURLToPath(new URL('../../../', import.meta.url));

let directory = '';
before(() => {
  directory = mkdtempSync(join(tmpdir(), 'generated-'));
});
after(() => rmSync(directory, { recursive: true, force: true }));

function generate(script: string, ...args: string[]) {
  return spawnSync(process.execPath, [join(root, 'scripts', script), ...args], { encoding: 'utf8' });
}

for (const { script, document } of [
  { script: 'draw-machines.mjs', document: 'machines.md' },
  { script: 'list-settings.mjs', document: 'configuration.md' },
]) {
  test(`docs/${document} is up to date`, () => {
    const { status, stderr } = generate(script, '--check');
    assert.equal(status, 0, stderr);
  });

  test(`${script} --check notices a document that has changed, or is not there`, () => {
    const copy = join(directory, document);
    const missing = generate(script, '--check', '--out', copy);
    assert.equal(missing.status, 1);
    assert.match(missing.stderr, /out of date \(it does not exist\); run: node scripts\//);

    const text = readFileSync(join(root, 'docs', document), 'utf8');
    const lines = text.split('\n');
    writeFileSync(copy, [...lines.slice(0, 11), `${lines[11]} `, ...lines.slice(12)].join('\n'));
    const changed = generate(script, '--check', '--out', copy);
    assert.equal(changed.status, 1);
    assert.match(changed.stderr, /differs from line 12 on/);

    assert.equal(generate(script, '--out', copy).status, 0);
    assert.equal(generate(script, '--check', '--out', copy).status, 0);
  });
}

test('the charts draw every machine with nested and parallel states, invocations, guards and delays', () => {
  const text = readFileSync(join(root, 'docs/machines.md'), 'utf8');
  for (const line of [
    'state "configuring (invokes configure)" as starting_configuring',
    'starting_configuring --> undoing : configure done [stopping], configure failed',
    'state "reattaching" as flow_running_reattaching {',
    'Its regions run in parallel, one chart each.',
    'stateDiagram-v2\n  state "pressure" as pressure {',
    'batching --> committing : batch.available [fillsHalf], after linger, always [noLinger]',
    'querySession_any --> closed : client.left',
  ]) {
    assert.ok(text.includes(line), line);
  }
});

test('[CFG-71] the configuration table has a row for every setting and says which need a restart', () => {
  const text = readFileSync(join(root, 'docs/configuration.md'), 'utf8');
  for (const name of SETTING_NAMES)
    assert.equal(text.split('\n').filter((line) => line.startsWith(`| \`${name}\` |`)).length, 1, name);
  assert.equal(text.match(/^\| value \|/gm)?.length, 1, 'one table: no setting is without effect');
  assert.match(text, /`StorageShards` .*\| restart \|/);
  assert.match(text, /`MaxBatchSize` .*\| at once \|/);
});
