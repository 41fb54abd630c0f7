/** The memory of frames goes round between a query worker, the session and the kernel. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { FRAME_CREDITS, FRAME_MAX_RECORDS } from '../../actors/query/protocol.js';
import { writeManyEvents } from '../fixtures/manyEvents.js';
import { makeStore, startService } from '../fixtures/queryService.js';
import { ask } from '../fixtures/rawQueryClient.js';

test('[QX-26] [WIRE-7] a frame that the kernel has taken is the memory of a later one: a query needs no more than its credits', async (t) => {
  const store = makeStore(t);
  const frames = 12;
  writeManyEvents(store.directory, 'shard-0000.db', { count: frames * FRAME_MAX_RECORDS, names: 1 });
  await startService(t, store, {
    workerEntry: new URL('../fixtures/spentFramesWorker.js', import.meta.url),
  });
  const { records } = await ask(store.socketPath, 'EVENTS');
  assert.equal(records.length, frames * FRAME_MAX_RECORDS);
  const said = store.log.map(({ text }) => text).filter((text) => text.startsWith('a frame in'));
  assert.ok(said.length >= frames);
  // When the first comes back is the scheduler's choice.
  const fresh = said.filter((text) => text === 'a frame in new memory').length;
  assert.ok(fresh >= 1 && fresh <= FRAME_CREDITS, `${fresh} frames in new memory`);
  assert.equal(said.filter((text) => text === 'a frame in spent memory').length, said.length - fresh);
  assert.equal(said.at(-1), 'a frame in spent memory');
});
