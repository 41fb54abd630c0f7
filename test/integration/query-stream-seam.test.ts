/** Between initial set and watching nothing is lost and nothing comes twice, whatever writers and clients do. */
import assert from 'node:assert/strict';
import { renameSync, rmSync } from 'node:fs';
import { type TestContext, test } from 'node:test';
import { CommitAnnouncer, CommitFeed } from '../../src/stores/commitFeed.js';
import type { EventRow } from '../fixtures/eventShards.js';
import { makeStore, startService } from '../fixtures/queryService.js';
import { eventually } from '../fixtures/rawQueryClient.js';
import { LiveShard, StreamClient } from '../fixtures/streams.js';

const row = (n: number, extra: object = {}): EventRow => ({
  timestamp: BigInt(1000 + n),
  sequence: BigInt(n),
  payload: { n: BigInt(n), ...extra },
});
const rows = (from: number, count: number): EventRow[] =>
  Array.from({ length: count }, (_, i) => row(from + i));
const numbers = (client: StreamClient): number[] => client.values('n').map(Number);
const upTo = (count: number): number[] => Array.from({ length: count }, (_, i) => i);

async function world(t: TestContext, shards: number) {
  const store = makeStore(t);
  const commits = CommitFeed.allocate();
  const live = Array.from({ length: shards }, (_, n) => new LiveShard(t, store.directory, n, commits));
  const service = await startService(t, store, { commits });
  return { store, commits, shards: live, service, path: store.socketPath };
}

test('[STR-3] streams opened at any moment of a steady flow see every row once', async (t) => {
  const { shards, path } = await world(t, 3);
  let next = 0;
  let batches = 0;
  const commit = (): void => {
    const size = 1 + (batches % 5);
    // Some signals come late: rows are committed that nobody has told of yet.
    const shard = shards[batches % 3];
    const late = batches % 4 === 0;
    shard?.commit(rows(next, size), late);
    if (late) setTimeout(() => shard?.tell(), 3);
    next += size;
    batches++;
  };
  const clients: StreamClient[] = [];
  const flow = setInterval(commit, 1);
  for (let n = 0; n < 24; n++) {
    const client = await StreamClient.open(
      t,
      path,
      n % 3 === 0 ? 'EVENTS STREAM' : `EVENTS WHERE n >= ${n} STREAM`,
    );
    clients.push(client);
    if (n % 4 === 1) client.socket.destroy();
    else await eventually('some rows', () => client.records.length > 0);
  }
  clearInterval(flow);
  for (const shard of shards) shard.tell();
  for (const [n, client] of clients.entries()) {
    if (n % 4 === 1) continue;
    const from = n % 3 === 0 ? 0 : n;
    await client.has(next - from);
    assert.deepEqual(
      [...numbers(client)].sort((a, b) => a - b),
      upTo(next).slice(from),
      `client ${n}`,
    );
  }
});

test('[STR-3] [STR-4] what is committed during a long initial set is caught up with, once', async (t) => {
  const { shards, path } = await world(t, 2);
  const [a, b] = shards;
  assert.ok(a && b);
  const big = 'x'.repeat(2000);
  a.commit(Array.from({ length: 1500 }, (_, n) => row(n, { big })));
  const client = await StreamClient.open(t, path, 'EVENTS SORT n STREAM');
  client.socket.pause();
  await eventually('the first frames', () => client.socket.bytesRead > 0);
  let next = 1500;
  for (let batch = 0; batch < 40; batch++) {
    (batch % 3 === 0 ? a : b).commit(Array.from({ length: 25 }, (_, n) => row(next + n, { big })));
    next += 25;
  }
  client.socket.resume();
  await client.has(next);
  a.commit([row(next)]);
  await client.has(next + 1);
  assert.deepEqual(numbers(client), upTo(next + 1), 'each once, in the order of the commits');
});

test('[STR-3] rows that were committed but not told when the snapshot was taken do not come twice', async (t) => {
  const { shards, path } = await world(t, 1);
  const [shard] = shards;
  assert.ok(shard);
  shard.commit(rows(0, 2));
  await StreamClient.begun(t, path, 'EVENTS STREAM TAKE 0');
  shard.commit(rows(2, 3), true);
  const client = await StreamClient.begun(t, path, 'EVENTS SORT n STREAM');
  assert.deepEqual(numbers(client), upTo(5));
  shard.tell();
  shard.commit(rows(5, 1));
  await client.has(6);
  assert.deepEqual(numbers(client), upTo(6));
});

test('[STR-3] rowids that begin anew because retention emptied the table are new rows', async (t) => {
  const { shards, path } = await world(t, 1);
  const [shard] = shards;
  assert.ok(shard);
  shard.commit(rows(0, 10));
  const client = await StreamClient.begun(t, path, 'EVENTS SORT n STREAM');
  shard.commit(rows(10, 2));
  await client.has(12);
  shard.db.exec('DELETE FROM events');
  shard.commit(rows(12, 4));
  await client.has(16);
  shard.db.exec('DELETE FROM events WHERE id > 2');
  // More at once than there were: the old mark lies inside the batch.
  shard.commit(rows(16, 20));
  await client.has(36);
  assert.deepEqual(numbers(client), upTo(36));
});

test('[STR-3] a fresh file in the place of a damaged one, and a new shard, are watched from their start', async (t) => {
  const { store, commits, shards, path } = await world(t, 1);
  const [shard] = shards;
  assert.ok(shard);
  shard.commit(rows(0, 10));
  const client = await StreamClient.begun(t, path, 'EVENTS SORT n STREAM');
  shard.commit(rows(10, 1));
  await client.has(11);
  // What recovery does with a damaged shard: the file is set aside, another takes its number.
  renameSync(shard.path, `${shard.path}.1.db`);
  for (const side of ['-wal', '-shm']) rmSync(`${shard.path}${side}`, { force: true });
  const fresh = new LiveShard(t, store.directory, 0, commits);
  const another = new LiveShard(t, store.directory, 1, commits);
  fresh.commit(rows(11, 3));
  another.commit(rows(14, 3));
  await client.has(17);
  assert.deepEqual(numbers(client), upTo(17));
});

test('[STR-3] [STR-10] a tail that is lapped by the writers looks at the databases instead', async (t) => {
  const { shards, commits, path } = await world(t, 2);
  const [a, b] = shards;
  assert.ok(a && b);
  a.commit(rows(0, 5));
  const client = await StreamClient.begun(t, path, 'EVENTS SORT n STREAM');
  a.commit(rows(5, 1));
  await client.has(6);
  b.commit(rows(6, 4), true);
  a.commit(rows(10, 4), true);
  // Far more entries than the ring has, in one turn of ours: most are gone when the tail thread looks.
  const feed = new CommitFeed(commits);
  for (let n = 0; n < 200_000; n++) feed.publish(7, 1n, 0);
  await client.has(14);
  a.commit(rows(14, 1));
  await client.has(15);
  assert.deepEqual(
    [...numbers(client)].sort((x, y) => x - y),
    upTo(15),
  );
});

test('[STR-5] [STR-8] the feed gives entries in the order of their tickets and says when some are missed', () => {
  const feed = new CommitFeed();
  feed.publish(1, 1n, 1);
  assert.equal(feed.next, 0n, 'nobody reads, nothing is said');
  const reader = feed.read();
  const announcer = new CommitAnnouncer(feed, 3, 10n);
  announcer.committed(12n, 2);
  announcer.committed(5n, 3);
  announcer.committed(5n, 0);
  const said: unknown[] = [];
  for (let step = reader.next(); step !== 'nothing'; step = reader.next()) {
    assert.ok(step !== 'missed');
    said.push([step.entry.ticket, step.entry.source, step.entry.last, step.entry.rows]);
  }
  assert.deepEqual(said, [
    [0n, 3, 10n, 0],
    [1n, 3, 12n, 2],
    [2n, 3, 2n, 0],
    [3n, 3, 5n, 3],
  ]);
  for (let n = 0; n < 5000; n++) feed.publish(0, BigInt(n), 1);
  assert.equal(reader.next(), 'missed');
  assert.equal(reader.next(), 'nothing');
  feed.publish(0, 1n, 1);
  assert.notEqual(reader.next(), 'nothing');
  reader.close();
  reader.close();
  const before = feed.next;
  feed.publish(0, 1n, 1);
  assert.equal(feed.next, before);
});
