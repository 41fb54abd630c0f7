/** When a stream is held and decided about again: what fails must not keep it from going on. */
import assert from 'node:assert/strict';
import { mock, test } from 'node:test';
import { HeldStream, RETRY_MS } from '../../actors/query/heldStream.js';
import { UNRESTRICTED } from '../../src/query/predicateProgram.js';

const PROGRAM = {
  store: 'events',
  spec: new Uint8Array(),
  terms: [],
  decided: UNRESTRICTED.decided,
} as const;
const ROWS = { source: 0, after: 1n, upTo: 2n };

/** A stream whose checks fail while `fails`; `calls` tells in order what became of it. */
function held() {
  const calls: string[] = [];
  const state = { fails: true, retries: 0, change: () => {} };
  const stream = new HeldStream({
    access: {
      isStale: false,
      get hasFailed() {
        return state.fails;
      },
      retryFailed: () => void state.retries++,
    },
    watch: { hold: () => calls.push('hold'), resume: (_, rows) => calls.push(`resume ${rows.length}`) },
    again: async () => PROGRAM,
    onSecurityChange: (listener) => {
      state.change = listener;
      return () => calls.push('unheeded');
    },
    onFailed: (error) => calls.push(String(error)),
  });
  return { stream, state, calls };
}

test('[ACL-40] [ACL-41] [STR-13] failed checks are made again after a pause, and rows do not wait for them', async () => {
  mock.timers.enable({ apis: ['setTimeout'] });
  try {
    const { stream, state, calls } = held();
    stream.heed();
    assert.equal(stream.isOld(ROWS), false);
    mock.timers.tick(RETRY_MS - 1);
    assert.deepEqual([calls, state.retries], [[], 0]);
    // Rows that come while it stands still are looked at again.
    mock.timers.tick(1);
    assert.deepEqual([calls, state.retries], [['hold'], 1]);
    assert.equal(stream.isOld(ROWS), true);
    await stream.decide([]);
    assert.deepEqual(calls, ['hold', 'resume 1']);
    assert.equal(stream.isOld(ROWS), false);
    // Decisions in between do not make it sooner or later.
    mock.timers.tick(RETRY_MS - 1);
    await stream.decide([['new', []]]);
    mock.timers.tick(1);
    assert.deepEqual([calls.slice(2), state.retries], [['resume 0', 'hold'], 2]);
    state.fails = false;
    await stream.decide([]);
    mock.timers.tick(10 * RETRY_MS);
    assert.deepEqual([calls.slice(4), state.retries], [['resume 0'], 2]);
  } finally {
    mock.timers.reset();
  }
});

test('[ACL-41] a stream that ends waits for no check', async () => {
  mock.timers.enable({ apis: ['setTimeout'] });
  try {
    const { stream, state, calls } = held();
    stream.heed();
    const deciding = stream.decide([]);
    stream.close();
    stream.close();
    await deciding;
    mock.timers.tick(10 * RETRY_MS);
    assert.deepEqual([calls.filter((call) => call !== 'unheeded'), state.retries], [[], 0]);
  } finally {
    mock.timers.reset();
  }
});
