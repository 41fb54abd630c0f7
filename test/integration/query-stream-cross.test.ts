/** Conditions about other stores while a stream watches: judged anew for every committed batch. */
import assert from 'node:assert/strict';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import Database from 'better-sqlite3';
import { CommitFeed } from '../../src/stores/commitFeed.js';
import { METRIC_SCHEMA } from '../../src/stores/metricSchema.js';
import { makeStore, startService } from '../fixtures/queryService.js';
import { ask, type ResponseRecord } from '../fixtures/rawQueryClient.js';
import { LiveLogs, LiveShard, StreamClient } from '../fixtures/streams.js';

const SECOND = 1_000_000_000n;
const T0 = (BigInt(Date.now()) / 1000n) * SECOND;
const at = (second: number): bigint => T0 + BigInt(Math.round(second * 1000)) * 1_000_000n;

/** A metric store that the test writes. */
class Metrics {
  readonly #db: Database.Database;
  readonly #ids = new Map<string, number>();

  constructor(t: TestContext, directory: string) {
    this.#db = new Database(join(directory, '..', 'metrics.db'));
    this.#db.pragma('journal_mode = WAL');
    for (const statement of METRIC_SCHEMA.statements) this.#db.exec(statement);
    t.after(() => this.#db.close());
  }

  sample(name: string, labels: string, timestamp: bigint, value: number, type = 1): void {
    let id = this.#ids.get(`${name} ${labels}`);
    if (id === undefined) {
      const insert = 'INSERT INTO series (name, labels, type, label_hash) VALUES (?, ?, ?, 0)';
      id = Number(this.#db.prepare(insert).run(name, labels, type).lastInsertRowid);
      this.#ids.set(`${name} ${labels}`, id);
    }
    this.#db.prepare('INSERT INTO samples VALUES (?, ?, ?, NULL)').run(id, timestamp, value);
  }

  /** So many series of other names. */
  flood(count: number): void {
    this.#db.exec(`
      WITH RECURSIVE n(i) AS (VALUES(1) UNION ALL SELECT i + 1 FROM n WHERE i < ${count})
        INSERT INTO series (name, labels, type, label_hash) SELECT 'flood.' || i, '', 1, 0 FROM n`);
  }
}

async function world(t: TestContext) {
  const store = makeStore(t);
  const commits = CommitFeed.allocate();
  const shard = new LiveShard(t, store.directory, 0, commits);
  const logs = new LiveLogs(t, store.directory, commits);
  const metrics = new Metrics(t, store.directory);
  await startService(t, store, { commits, limits: { crossTypeWindowMs: 10_000 } });
  let n = 0;
  return {
    path: store.socketPath,
    metrics,
    logs,
    /** One batch of events with these times; they are numbered through. */
    events: (times: readonly number[], type = 'test.event') =>
      shard.commit(times.map((second) => ({ timestamp: at(second), type, payload: { n: BigInt(n++) } }))),
  };
}

const numbers = (client: StreamClient): number[] => client.values('n').map(Number);
const open = (t: TestContext, path: string, text: string) =>
  StreamClient.begun(t, path, `EVENTS SINCE 1h ago ${text} SORT n STREAM`);

test('[STR-20] [STR-21] [STR-22] [STR-25] a METRIC condition is judged for each batch, by the newest sample at its newest record', async (t) => {
  const { path, metrics, events } = await world(t);
  metrics.sample('cpu', 'core=0', at(-100), 95);
  events([-90]);
  const client = await open(t, path, 'WHERE METRIC cpu[core="0"] > 90');
  assert.deepEqual(numbers(client), [0], 'the initial set goes by ranges');
  events([1, 2]);
  await client.has(3);
  metrics.sample('cpu', 'core=0', at(10), 50);
  events([11, 12]);
  // The newest sample at the batch's newest record decides for all of the batch.
  events([9]);
  await client.has(4);
  metrics.sample('cpu', 'core=0', at(20), 99);
  events([15, 21]);
  await client.has(6);
  assert.deepEqual(numbers(client), [0, 1, 2, 5, 6, 7]);
});

test('[STR-22] under OR a condition is its truth for the batch, and the other predicates go on', async (t) => {
  const { path, metrics, events } = await world(t);
  metrics.sample('cpu', '', at(-100), 1);
  const client = await open(t, path, 'WHERE METRIC cpu == 2 OR n IN (1, 3)');
  events([1, 1, 1]);
  await client.has(1);
  metrics.sample('cpu', '', at(2), 2);
  events([3, 3]);
  await client.has(3);
  assert.deepEqual(numbers(client), [1, 3, 4]);
});

test('[STR-23] [QL-111] several series: their average without brackets, any of them with brackets, any name of a glob', async (t) => {
  const { path, metrics, events } = await world(t);
  metrics.sample('cpu.a', 'core=0', at(-10), 100);
  metrics.sample('cpu.a', 'core=1', at(-10), 0);
  metrics.sample('cpu.b', '', at(-10), 70);
  const above = (text: string) => open(t, path, `TAKE 0 WHERE METRIC ${text}`);
  const average = await above('cpu.a > 60');
  const any = await above('cpu.a[] > 60');
  const some = await above('cpu.a[core="1"] > 60');
  const glob = await above('cpu.* > 60');
  const list = await above('cpu.a NOT_IN (50, 51)');
  const none = await above('cpu.none < 60');
  // A histogram has no value to compare; one that comes while the stream watches is passed over.
  metrics.sample('cpu.b', 'kind=histogram', at(0), 1e6, 2);
  events([1]);
  await Promise.all([any.has(1), glob.has(1)]);
  metrics.sample('cpu.a', 'core=1', at(2), 90);
  events([3]);
  await Promise.all([average.has(1), any.has(2), some.has(1), glob.has(2), list.has(1)]);
  // A series that is new while the stream watches.
  metrics.sample('cpu.none', 'core=9', at(4), 1);
  events([5]);
  await Promise.all([none.has(1), any.has(3)]);
  assert.deepEqual([average, any, some, glob, list, none].map(numbers), [
    [1, 2],
    [0, 1, 2],
    [1, 2],
    [0, 1, 2],
    [1, 2],
    [2],
  ]);
});

test('[STR-23] [QL-114] a LOG condition is true for a batch with a match in the window around its newest record', async (t) => {
  const { path, logs, events } = await world(t);
  const client = await open(t, path, 'TAKE 0 WHERE LOG svc CONTAINING "boom" EXISTS');
  logs.commit([
    { timestamp: at(10), message: 'BOOM' },
    { timestamp: at(30), origin: 'other', message: 'boom' },
    { timestamp: at(50), message: 'calm' },
  ]);
  // The window is 10 s wide: 5 s to either side, both ends included.
  for (const second of [4.9, 5, 10, 15, 15.1, 30, 50]) events([second]);
  await client.has(3);
  events([12]);
  await client.has(4);
  assert.deepEqual(numbers(client), [1, 2, 3, 7]);
});

test('[STR-23] an EVENT condition holds for streamed log records, against events committed meanwhile', async (t) => {
  const { path, logs, events } = await world(t);
  const client = await StreamClient.begun(t, path, 'LOGS SINCE 1h ago WHERE EVENT *.denied EXISTS STREAM');
  // Sees each batch as soon as it is judged, for all streams at once.
  const witness = await StreamClient.begun(t, path, 'LOGS TAKE 0 STREAM');
  logs.commit([{ timestamp: at(1), message: 'a' }]);
  await witness.has(1);
  events([2], 'kacs.denied');
  logs.commit([{ timestamp: at(3), message: 'b' }]);
  logs.commit([{ timestamp: at(20), message: 'c' }]);
  await witness.has(3);
  events([19], 'x.DENIED');
  logs.commit([{ timestamp: at(21), message: 'd' }]);
  await client.has(2);
  assert.deepEqual(client.values('message'), ['b', 'd']);
});

test('[STR-24] SINCE and the longest lookback are asked for at the start', async (t) => {
  const { path } = await world(t);
  assert.match((await ask(path, 'EVENTS WHERE METRIC cpu > 1 STREAM')).error ?? '', /^parse error:/);
  const long = await ask(path, 'EVENTS SINCE 30d ago WHERE METRIC cpu > 1 STREAM');
  assert.match(long.error ?? '', /^range too large:/);
});

test('[STR-21] what is caught up with is judged batch by batch, too', async (t) => {
  const { path, metrics, events } = await world(t);
  metrics.sample('cpu', '', at(-10), 1);
  for (let n = 0; n < 3000; n++) events([-60]);
  const client = await StreamClient.open(
    t,
    path,
    'EVENTS SINCE 1h ago WHERE METRIC cpu == 2 OR n < 3000 STREAM',
  );
  metrics.sample('cpu', '', at(2), 2);
  events([1]);
  events([3]);
  metrics.sample('cpu', '', at(4), 1);
  events([5]);
  metrics.sample('cpu', '', at(6), 2);
  events([7]);
  await client.has(3002);
  const late = client.records.map(({ n }: ResponseRecord) => Number(n)).filter((n) => n >= 3000);
  assert.deepEqual(
    late.sort((a, b) => a - b),
    [3001, 3003],
  );
});

test('[STR-21] [FAIL-33] [WIRE-21] a condition that has come to take too much ends its stream alone', async (t) => {
  const { path, metrics, events } = await world(t);
  metrics.sample('cpu', '', at(-10), 9);
  const greedy = await open(t, path, 'TAKE 0 WHERE METRIC *[] > 5');
  const modest = await open(t, path, 'TAKE 0 WHERE METRIC cpu > 5');
  const plain = await open(t, path, 'TAKE 0');
  events([1]);
  await Promise.all([greedy.has(1), modest.has(1), plain.has(1)]);
  metrics.flood(200_001);
  events([2]);
  await greedy.ended();
  assert.match(greedy.error ?? '', /^limit exceeded: .*METRIC \*\[\]/);
  assert.doesNotMatch(greedy.error ?? '', /\/|SELECT/);
  events([3]);
  await Promise.all([modest.has(3), plain.has(3)]);
  assert.deepEqual([modest, plain].map(numbers), [
    [0, 1, 2],
    [0, 1, 2],
  ]);
  // It is not let in again.
  const again = await ask(path, 'EVENTS SINCE 1h ago TAKE 0 WHERE METRIC *[] > 5 STREAM');
  assert.match(again.error ?? '', /^limit exceeded: .*METRIC \*\[\]/);
});
