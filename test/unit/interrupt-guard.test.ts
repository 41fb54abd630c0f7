import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Worker } from 'node:worker_threads';
import { InterruptGuard } from '../../actors/query/interruptGuard.js';

test('[QX-64] [QX-68] an interrupt reaches the query that is executing, and no other', () => {
  const guard = new InterruptGuard(InterruptGuard.allocate());
  let hits = 0;
  const hit = (): void => {
    hits++;
  };
  assert.equal(guard.interrupt(1, hit), false);
  const result = guard.execute(1, () => {
    assert.equal(guard.interrupt(2, hit), false);
    assert.equal(guard.interrupt(1, hit), true);
    return 'done';
  });
  assert.equal(result, 'done');
  assert.equal(guard.interrupt(1, hit), false);
  assert.throws(() => guard.execute(3, () => assert.fail('step failed')), /step failed/);
  assert.equal(guard.interrupt(3, hit), false);
  assert.equal(hits, 1);
});

test('[QX-64] the worker cannot leave its call while it is interrupted', async () => {
  const shared = InterruptGuard.allocate();
  // 0: the call has begun, 1: it may end, 2: the worker went on to something else.
  const flags = new Int32Array(new SharedArrayBuffer(12));
  const source = `
    const { workerData } = require('node:worker_threads');
    import(workerData.module).then(({ InterruptGuard }) => {
      const { flags } = workerData;
      new InterruptGuard(workerData.shared).execute(7, () => {
        Atomics.store(flags, 0, 1);
        Atomics.notify(flags, 0);
        Atomics.wait(flags, 1, 0);
      });
      Atomics.store(flags, 2, 1);
    });`;
  const module = new URL('../../actors/query/interruptGuard.js', import.meta.url).href;
  const worker = new Worker(source, { eval: true, workerData: { shared, flags, module } });
  const gone = new Promise((resolve) => worker.once('exit', resolve));
  assert.notEqual(Atomics.wait(flags, 0, 0, 5000), 'timed-out');
  const interrupted = new InterruptGuard(shared).interrupt(7, () => {
    Atomics.store(flags, 1, 1);
    Atomics.notify(flags, 1);
    // Long enough for the worker to get away, were it not held.
    const until = performance.now() + 50;
    while (performance.now() < until) assert.equal(Atomics.load(flags, 2), 0);
  });
  assert.equal(interrupted, true);
  await gone;
  assert.equal(Atomics.load(flags, 2), 1);
});
