import assert from 'node:assert/strict';
import { PassThrough, Readable } from 'node:stream';
import { test } from 'node:test';
import { type EmitEntry, type EmitOutcome, runEmit } from '../../src/cli/emitCommand.js';
import { EVCTL_OPTIONS } from '../../src/cli/evctlOptions.js';
import { parseOptions } from '../../src/cli/options.js';
import { Output } from '../../src/cli/output.js';
import { MsgpackReader } from '../../src/wire/msgpackReader.js';

/** Runs `emit` against an emitter that answers each batch as `answer` says; returns the batch sizes and what got through. */
async function emit(
  args: readonly string[],
  input: string,
  answer: (batch: readonly EmitEntry[]) => EmitOutcome,
) {
  const sizes: number[] = [];
  const through: unknown[] = [];
  const warnings: string[] = [];
  let closed = false;
  const path: string[] = [];
  const failure = await runEmit(
    {
      options: parseOptions(args, EVCTL_OPTIONS, 'emit', { EVENTD_KMES_DIR: '/rings' }),
      env: {},
      stdin: Readable.from([Buffer.from(input)]),
      output: new Output(new PassThrough()),
      terminal: false,
      stdout: new PassThrough(),
      plan: () => Promise.reject(new Error('emit plans nothing')),
      paint: (_, text) => text,
      warn: (text) => void warnings.push(text),
      signal: new AbortController().signal,
    },
    async (socket) => {
      path.push(socket);
      return {
        async emitBatch(batch) {
          const outcome = answer(batch);
          sizes.push(batch.length);
          for (const entry of batch.slice(0, outcome.emitted))
            through.push(new MsgpackReader(entry.payload).value());
          return outcome;
        },
        close: () => {
          closed = true;
        },
      };
    },
  ).then(
    () => null,
    (error: unknown) => error,
  );
  return { sizes, through, failure, closed, path, warnings };
}

const all = (batch: readonly EmitEntry[]): EmitOutcome => ({ emitted: batch.length, error: null });
const lines = (count: number) => Array.from({ length: count }, (_, i) => `${i}\n`).join('');
const numbers = (count: number) => Array.from({ length: count }, (_, i) => BigInt(i));

test('[KMES-78] lines go out in batches of at most 256, in order, the last line without its end too', async () => {
  const { sizes, through, failure, closed, path } = await emit(['a.b', '-'], `${lines(600)}600`, all);
  assert.equal(failure, null);
  assert.deepEqual(sizes, [256, 256, 88, 1]);
  assert.deepEqual(through, numbers(601));
  assert.ok(closed);
  assert.deepEqual(path, ['/rings/emit.sock']);
});

test('[KMES-69] [KMES-78] on EAGAIN batches are halved and tried again after a pause, nothing lost or doubled', async () => {
  let refusals = 3;
  const { sizes, through, failure } = await emit(['a.b', '-'], lines(256), (batch) => {
    if (batch.length > 32 && refusals-- > 0)
      return { emitted: 0, error: { code: 'EAGAIN', message: 'rate limit' } };
    return all(batch);
  });
  assert.equal(failure, null);
  assert.deepEqual(sizes.slice(0, 5), [256, 128, 64, 32, 64]);
  assert.deepEqual(through, numbers(256));
});

test('[KMES-79] a refused entry is named by its line; those before it got through', async () => {
  const { through, failure } = await emit(['a.b', '-'], '0\n\n1\n2\n', () => ({
    emitted: 1,
    error: { code: 'ENOSPC', message: 'too big' },
  }));
  assert.ok(failure instanceof Error);
  assert.equal(failure.message, 'standard input, line 3: not emitted: too big (ENOSPC)');
  assert.deepEqual(through, [0n]);
});

test('[KMES-78] batches are bounded in bytes too', async () => {
  const line = `"${'x'.repeat(60_000)}"\n`;
  const { sizes, through } = await emit(['a.b', '-'], line.repeat(100), all);
  assert.equal(through.length, 100);
  assert.ok(Math.max(...sizes) <= 70, sizes.join());
});

test('[HOST-76] bad JSON is found before anything is connected', async () => {
  const { failure, path } = await emit(['a.b', '{'], '', all);
  assert.ok(failure instanceof Error);
  assert.match(failure.message, /^JSON: key in double quotes expected/);
  assert.deepEqual(path, []);
});

test('[QL-44] a payload that no query can show is stored with one warning, which names the first', async () => {
  const text =
    'warning: %: the payload is no JSON object; it is stored, but queries cannot search or show it';
  for (const json of ['[1,2]', '"str"', '1', 'true', JSON.stringify(Array(20).fill(0))]) {
    const { through, warnings } = await emit(['a.b', json], '', all);
    assert.deepEqual([through.length, warnings], [1, [text.replace('%', 'JSON')]]);
  }
  const map = JSON.stringify(Object.fromEntries(Array.from({ length: 20 }, (_, i) => [`k${i}`, i])));
  for (const json of ['{}', '{"a":1}', map, 'null'])
    assert.deepEqual((await emit(['a.b', json], '', all)).warnings, []);
  const { through, warnings } = await emit(['a.b', '-'], '{}\n\n1\n2\n', all);
  assert.deepEqual([through.length, warnings], [3, [text.replace('%', 'standard input, line 3')]]);
});
