import assert from 'node:assert/strict';
import { test } from 'node:test';
import { EVCTL_OPTIONS } from '../../src/cli/evctlOptions.js';
import { parseOptions, UsageError } from '../../src/cli/options.js';
import { Patience } from '../../src/cli/patience.js';
import { ConnectionFailure } from '../../src/wire/client.js';

function patience(...args: string[]) {
  const warnings: string[] = [];
  const options = parseOptions(args, EVCTL_OPTIONS, null, {});
  const signal = new AbortController().signal;
  return {
    warnings,
    it: new Patience({ options, signal, warn: (text) => void warnings.push(text) }, '/q.sock'),
  };
}

/** What comes: an answer when `bring` is called, the signal's reason when that aborts. */
function source(signal: AbortSignal) {
  let bring: (answer: string) => void = () => undefined;
  async function* answers(): AsyncGenerator<string, void, undefined> {
    for (;;)
      yield await new Promise<string>((resolve, reject) => {
        bring = resolve;
        signal.addEventListener('abort', () => reject(signal.reason));
      });
  }
  return { answers: answers(), bring: (answer: string) => bring(answer) };
}

test('[WIRE-9] a first answer that is not there after 5 s is told once, and waited for', async (t) => {
  t.mock.timers.enable({ apis: ['setTimeout'] });
  const { it, warnings } = patience();
  const { answers, bring } = source(it.signal);
  const watched = it.watch(answers, true);
  const first = watched.next();
  t.mock.timers.tick(4999);
  assert.deepEqual(warnings, []);
  t.mock.timers.tick(1);
  t.mock.timers.tick(60_000);
  assert.deepEqual(warnings, ['eventd has not answered for 5 s on /q.sock; waiting (Ctrl-C ends)']);
  bring('a');
  assert.deepEqual(await first, { value: 'a', done: false });
  const second = watched.next();
  await Promise.resolve();
  t.mock.timers.tick(60_000);
  bring('b');
  assert.equal((await second).value, 'b');
  assert.equal(warnings.length, 1);
});

for (const each of [true, false])
  test(`[STR-2] --timeout bounds ${each ? 'every wait of a query' : 'the first wait of a stream'}`, async (t) => {
    t.mock.timers.enable({ apis: ['setTimeout'] });
    const { it, warnings } = patience('--timeout', '2.5');
    const { answers, bring } = source(it.signal);
    const watched = it.watch(answers, each);
    const first = watched.next();
    t.mock.timers.tick(2499);
    bring('a');
    await first;
    t.mock.timers.tick(10_000);
    assert.equal(it.signal.aborted, false, 'nobody waits');
    const second = watched.next();
    await Promise.resolve();
    t.mock.timers.tick(2500);
    assert.equal(it.signal.aborted, each);
    if (each)
      await assert.rejects(
        second,
        (error) => error instanceof ConnectionFailure && error.code === 'ETIMEDOUT',
      );
    else {
      bring('b');
      assert.equal((await second).value, 'b');
    }
    assert.deepEqual(warnings, []);
  });

test('a --timeout that is no time is wrong usage', () => {
  for (const text of ['0', '0.0001', 'soon', '-1', '1e3', '10s', '9999999'])
    assert.throws(() => patience('--timeout', text), UsageError);
});
