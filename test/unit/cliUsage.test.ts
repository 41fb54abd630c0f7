import assert from 'node:assert/strict';
import { PassThrough } from 'node:stream';
import { text } from 'node:stream/consumers';
import { test } from 'node:test';
import { evctl } from '../../src/cli/evctl.js';

/** Runs evctl in this process; what it asks of eventd must fail before a connection is tried. */
async function run(args: readonly string[]) {
  const [stdin, stdout, stderr] = [new PassThrough(), new PassThrough(), new PassThrough()];
  const env = { EVENTD_SOCKET: '/nowhere/query.sock' };
  const plan = () => Promise.reject(new Error('nothing is planned'));
  const code = await evctl(args, env, { stdin, stdout, stderr }, new AbortController().signal, plan);
  stdout.end();
  stderr.end();
  return { code, stdout: await text(stdout), stderr: await text(stderr) };
}

for (const [what, args] of [
  ['a clause twice', ['--limit', '3', 'EVENTS TAKE 2']],
  ['a clause inside a value', ['--since', '1h ago TAKE 2', 'EVENTS']],
  ['a value that swallows what follows', ['--since', '1h ago --', 'EVENTS']],
  ['a time without direction', ['--since', '1h', 'EVENTS']],
  ['a limit that is no number', ['--limit', '-3', 'EVENTS']],
  ['following samples', ['-f', 'METRIC cpu.usage[]']],
  ['clauses for INDEX', ['-n', '3', 'EVENTS INDEX a']],
  ['a chart of events', ['--chart', 'EVENTS']],
  ['a chart as csv', ['--chart', '-o', 'csv', 'METRIC a[]']],
  ['a colour mode that is none', ['--color', 'sometimes', 'EVENTS']],
  ['completion for another shell', ['completion', 'fish']],
] as const) {
  test(`wrong usage (${what}) exits 2 with one line, and without asking eventd`, async () => {
    const { code, stdout, stderr } = await run(args);
    assert.equal(code, 2, stderr);
    assert.match(stderr, /^evctl: [^\n]+ \(see evctl[^\n]* --help\)\n$/);
    assert.equal(stdout, '');
  });
}

test('[QL-13] a time that lacks its direction is answered with a hint', async () => {
  const { stderr } = await run(['--since', '1h', 'EVENTS']);
  assert.match(stderr, /^evctl: --since: [^\n]*1h ago/);
});
