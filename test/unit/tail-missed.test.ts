import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import type { FromTail } from '../../actors/query/tail/protocol.js';
import { Tailer } from '../../actors/query/tail/tailer.js';
import { native } from '../../src/native/addon.js';
import { parseQuery } from '../../src/query/parser.js';
import { eventsTail } from '../../src/query/predicateProgram.js';
import { CommitFeed } from '../../src/stores/commitFeed.js';
import { writeShard } from '../fixtures/eventShards.js';
import { eventually } from '../fixtures/rawQueryClient.js';

const SHARDS = [0, 1, 2];
const ROWS = 3;
/** More than the feed holds, so that its reader misses some. */
const SIGNALS = 5000;

test('[STR-3] [STR-15] a stream that catches up over missed signals gets the rows of every database', async (t) => {
  const directory = mkdtempSync(join(tmpdir(), 'tail-missed-'));
  const feed = new CommitFeed();
  let records = 0;
  let live = false;
  const tailer: Tailer = new Tailer(
    {
      eventStorePath: directory,
      logStorePath: join(directory, 'none', 'logs.db'),
      metricStorePath: join(directory, 'none', 'metrics.db'),
      commits: feed.shared,
    },
    native,
    (message: FromTail) => {
      if (message.type === 'tail.live') live = true;
      if (message.type !== 'tail.frame') return;
      records += message.records;
      setImmediate(() => tailer.receive({ type: 'tail.credit', id: message.id }));
    },
  );
  t.after(() => {
    tailer.stop();
    rmSync(directory, { recursive: true, force: true });
  });
  const program = eventsTail(parseQuery('EVENTS STREAM') as never, native.realtimeNs());
  tailer.receive({ type: 'tail.open', id: 1, program, crossTypeWindowMs: 1000 });
  const ticket = feed.next;
  for (const shard of SHARDS) {
    const rows = Array.from({ length: ROWS }, (_, i) => ({ timestamp: BigInt(i + 1) }));
    writeShard(directory, `shard-000${shard}.db`, rows);
  }
  for (let i = 0; i < SIGNALS; i++) feed.publish(0, BigInt(ROWS), i === 0 ? ROWS : 0);
  tailer.receive({ type: 'tail.attach', id: 1, seam: { listed: ticket, ticket, databases: [] }, credits: 2 });
  await eventually('the stream is live', () => live, 10_000);
  await eventually('every row came', () => records >= SHARDS.length * ROWS, 10_000);
  assert.equal(records, SHARDS.length * ROWS);
});
