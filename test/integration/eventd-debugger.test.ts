/** What Node adds to a program must not be reachable in a daemon that runs as root. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { EventdWorld } from '../fixtures/eventd.js';

test('[LIFE-230] [LIFE-231] SIGUSR1 opens no debugger: it ends eventd as it ends any program', async (t) => {
  const world = EventdWorld.for(t);
  const run = await world.start();
  run.kill('SIGUSR1');
  const { signal } = await run.exited;
  assert.equal(signal, 'SIGUSR1');
  assert.doesNotMatch(run.stderr, /Debugger/);
});
