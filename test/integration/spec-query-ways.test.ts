/** A query means the same whichever way its rows are read: by index, while they are committed, counted. */
import assert from 'node:assert/strict';
import { readdirSync } from 'node:fs';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import Database from 'better-sqlite3';
import { addonPath } from '../../src/native/addon.js';
import { CommitFeed } from '../../src/stores/commitFeed.js';
import { FIELDS } from '../fixtures/exampleEvents.js';
import { FIELD_EXAMPLES, MEANT, MEANT_EVENTS } from '../fixtures/exampleMeanings.js';
import { LOGS } from '../fixtures/exampleRecords.js';
import { ago, type ExampleStores, rowOf, type TaggedEvent, writeStores } from '../fixtures/exampleStores.js';
import { askAll, type Example, records } from '../fixtures/exampleTable.js';
import { startService } from '../fixtures/queryService.js';
import { ask, eventually, type ResponseRecord } from '../fixtures/rawQueryClient.js';
import { LiveLogs, LiveShard, type LogLine, StreamClient } from '../fixtures/streams.js';

const COLUMNS = ['event_type COLLATE NOCASE', 'origin_class', 'cpu_id', 'process_guid', 'boot_id'];
const PATHS = [
  ...['a', 'b', 'c', 'count', 'granted_access', 'source.name', 'target_sid', 'bool', 'f', 'glob', 'i'],
  ...['m', 'm.a', 'm.a.b', 'm.a.b.c', 'n', 's', 'when', 'boot', 'process_guid', 'cpu_id', 'origin_class'],
];

/** Every index that adaptive indexing could build for the examples (IDX-30, IDX-31, QX-13). */
function indexEverything({ store }: ExampleStores): void {
  for (const name of readdirSync(store.directory).filter((each) => each.endsWith('.db'))) {
    const db = new Database(join(store.directory, name));
    db.loadExtension(addonPath);
    for (const column of COLUMNS)
      db.exec(`CREATE INDEX idx_events_${column.split(' ')[0]} ON events(${column})`);
    for (const path of PATHS) {
      const expression = `msgpack_extract(payload, '$.${path}') COLLATE NOCASE`;
      db.exec(`CREATE INDEX idx_events_payload_${path.replaceAll('.', '_')} ON events(${expression})`);
    }
    db.exec('ANALYZE');
    db.close();
  }
}

/** Only WHERE, pattern and time range: what decides about a record by itself. */
const isPredicate = ([, query, outcome]: Example): boolean =>
  typeof outcome === 'function' &&
  !/\b(SELECT|SORT|TAKE|SKIP|COUNT|TOP|SUM|MIN|MAX|AVG)\b/i.test(query.replaceAll('TAKE ==', ''));

const WORLDS = [
  ['literals and clauses', MEANT_EVENTS, MEANT],
  ['fields', FIELDS, FIELD_EXAMPLES],
] as const;

for (const [name, world, examples] of WORLDS) {
  test(`[QX-12] [QX-13] [QX-14] [QX-23] ${name}: indexes change no outcome, and as many are counted as are shown`, (t) => {
    const counted = examples
      .filter(isPredicate)
      .map(
        ([title, query, outcome]): Example => [
          title,
          `${query}\nCOUNT`,
          (stores) =>
            records({ count: BigInt(typeof outcome === 'function' ? outcome(stores).length : 0) })(),
        ],
      );
    return askAll(t, { events: world }, [...examples, ...counted], indexEverything);
  });

  test(`[STR-2] [STR-7] [QL-52] ${name}: what is committed while watching is judged alike`, (t) =>
    streamAll(t, world, examples.filter(isPredicate)));
}

test('[STR-7] [QL-80] [QL-81] [QL-82] log lines are judged alike while they are committed', async (t) => {
  const { store } = writeStores(t, {});
  const commits = CommitFeed.allocate();
  const writer = new LiveLogs(t, store.directory, commits);
  await startService(t, store, { commits });
  const queries: readonly (readonly [query: string, fits: (line: LogLine) => boolean])[] = [
    [
      'LOGS ERROR ONLY FROM loregd, peinit',
      ({ origin, isError }) => isError === true && /^(loregd|peinit)$/i.test(origin ?? ''),
    ],
    ['LOGS WHERE is_error != 1', ({ isError }) => isError !== true],
    ['LOGS CONTAINING "100%"', ({ message }) => message.includes('100%')],
    [
      'LOGS WHERE origin ENDS_WITH "D" OR message IN ("IDLE", "100X")',
      ({ origin, message }) => /d$/i.test(origin ?? '') || ['idle', '100x'].includes(message),
    ],
    ['LOGS FROM web SINCE 3002s ago', ({ origin, timestamp }) => origin === 'web' && timestamp > ago(2000)],
    ['LOGS WHERE boot_id != "04030201-0605-0807-090a-0b0c0d0e0f10"', () => false],
  ];
  const clients = await Promise.all(
    queries.map(([query]) => StreamClient.begun(t, store.socketPath, `${query} TAKE 0 STREAM`)),
  );
  const last = await StreamClient.begun(t, store.socketPath, 'LOGS TAKE 0 STREAM');
  writer.commit(LOGS);
  await last.has(LOGS.length);
  const expected = queries.map(([, fits]) => LOGS.filter(fits).map(({ message }) => message));
  await eventually('every line', () =>
    clients.every((client, i) => client.records.length >= (expected[i]?.length ?? 0)),
  );
  const byMessage = (list: readonly ResponseRecord[]) =>
    new Map(list.map((record) => [record.message, record]));
  const read = await ask(store.socketPath, 'LOGS');
  assert.deepEqual(
    byMessage(last.records),
    byMessage(read.records),
    'streamed lines look like those that are read',
  );
  assert.deepEqual(
    clients.map((client) => client.values('message')),
    expected,
  );
});

/** Opens a stream for each query on an empty store, commits every event, and looks at what each was sent. */
async function streamAll(
  t: TestContext,
  world: readonly TaggedEvent[],
  examples: readonly Example[],
): Promise<void> {
  // The stores of `expected` are only there to say what each query should bring.
  const expected = writeStores(t, { events: world });
  const { store } = writeStores(t, {});
  const commits = CommitFeed.allocate();
  const shard = new LiveShard(t, store.directory, 0, commits);
  const limits = { maxStreamingQueries: 200, maxConcurrentQueries: 256 };
  await startService(t, store, { commits, limits });
  const clients = await Promise.all(
    examples.map(async ([, query, outcome]) => ({
      query,
      tags: typeof outcome === 'function' ? outcome(expected).map(({ tag }) => tag) : [],
      client: await StreamClient.begun(t, store.socketPath, `${query}\nTAKE 0 STREAM`),
    })),
  );
  const last = await StreamClient.begun(t, store.socketPath, 'EVENTS TAKE 0 STREAM');
  shard.commit(world.map((event, i) => rowOf(event, BigInt(i))));
  await eventually('every record', () =>
    clients.every(({ client, tags }) => client.closed || client.records.length >= tags.length),
  );
  shard.commit([{ timestamp: 1n, type: 'the.end' }]);
  await last.has(world.length + 1);
  const seen = (client: StreamClient) =>
    client.records.filter(({ event_type }) => event_type !== 'the.end').map(({ tag }) => tag);
  const brought = clients.map(({ query, client }) => [query, client.error ?? seen(client)]);
  assert.deepEqual(
    brought,
    clients.map(({ query, tags }) => [query, tags]),
  );
  const byTag = (list: readonly ResponseRecord[]) =>
    new Map(list.map((record) => [record.tag ?? record.event_type, record]));
  const read = await ask(store.socketPath, 'EVENTS UNTIL 1d hence');
  assert.deepEqual(
    byTag(last.records),
    byTag(read.records),
    'streamed records look like those that are read',
  );
}
