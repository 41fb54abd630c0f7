/** EVENTS queries where the specification says more than one clause at a time (06 part 3, 07 parts 1 to 3). */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { parseQuery } from '../../src/query/parser.js';
import { type EventRow, gapRow, writeShard } from '../fixtures/eventShards.js';
import { makeStore, startService } from '../fixtures/queryService.js';
import { ask, type ResponseRecord } from '../fixtures/rawQueryClient.js';

const second = (n: number): bigint => 1_777_593_600_000_000_000n + BigInt(n) * 1_000_000_000n;
const only = (records: readonly ResponseRecord[], name: string): unknown[] =>
  records.map((record) => record[name]);

test('[QX-22] [ING-34] [ING-35] [STO-7] a CPU is looked for in every shard, its gap records included', async (t) => {
  const store = makeStore(t);
  // Three runs with different assignments: CPU 1 has been everywhere, in any order of rows.
  writeShard(store.directory, 'shard-0000.db', [
    { timestamp: second(5), cpu: 1, sequence: 5n },
    { timestamp: second(1), cpu: 0, sequence: 1n },
    { timestamp: second(2), cpu: 1, sequence: 2n },
  ]);
  writeShard(store.directory, 'shard-0001.db', [gapRow(second(4), 1, 3n, 4n), gapRow(second(6), 0, 2n, 9n)]);
  writeShard(store.directory, 'shard-0007.db', [{ timestamp: second(1), cpu: 1, sequence: 1n }]);
  await startService(t, store);
  const of = async (cpu: number) => {
    const { records, error } = await ask(
      store.socketPath,
      `EVENTS WHERE cpu_id == ${cpu} SORT timestamp ASC`,
    );
    assert.equal(error, null);
    return records.map(({ sequence, first_missing }) => first_missing ?? sequence);
  };
  assert.deepEqual((await of(1)).map(Number), [1, 2, 3, 5]);
  assert.deepEqual((await of(0)).map(Number), [1, 2]);
  assert.deepEqual(await of(7), []);
});

test('[KMES-42] events of different CPUs are merged by timestamp, whatever their sequences say', async (t) => {
  const store = makeStore(t);
  const cpus = [0, 1, 2].map((cpu) =>
    Array.from(
      { length: 10 },
      (_, i): EventRow => ({
        timestamp: second(i * 3 + cpu),
        cpu,
        sequence: BigInt(1000 * (3 - cpu) + i),
      }),
    ),
  );
  for (const [cpu, rows] of cpus.entries()) writeShard(store.directory, `shard-000${cpu}.db`, rows);
  await startService(t, store);
  const { records } = await ask(store.socketPath, 'EVENTS SORT timestamp ASC');
  assert.deepEqual(
    only(records, 'cpu_id'),
    Array.from({ length: 30 }, (_, i) => i % 3),
  );
});

test('[QL-63] [QX-3] SELECT shapes the result last: WHERE, SORT, SKIP and TAKE see every field', async (t) => {
  const store = makeStore(t);
  writeShard(
    store.directory,
    'shard-0000.db',
    Array.from({ length: 20 }, (_, i) => ({
      timestamp: second(i),
      payload: { rank: (i * 7) % 20, name: `n${i}`, keep: i % 2 },
    })),
  );
  await startService(t, store);
  const clauses = ['SELECT name', 'WHERE keep == 1', 'SORT rank ASC', 'SKIP 2', 'TAKE 3'];
  const expected = Array.from({ length: 20 }, (_, i) => ({ rank: (i * 7) % 20, i }))
    .filter(({ i }) => i % 2 === 1)
    .sort((a, b) => a.rank - b.rank)
    .slice(2, 5)
    .map(({ i }) => ({ name: `n${i}` }));
  for (let turn = 0; turn < clauses.length; turn++) {
    const text = ['EVENTS', ...clauses.slice(turn), ...clauses.slice(0, turn)].join(' ');
    const { records, error } = await ask(store.socketPath, text);
    assert.equal(error, null, text);
    assert.deepEqual(records, expected, text);
  }
});

test('[QL-76] [KMES-36] origin_class is asked for by name and shown as the integer, reserved ones too', async (t) => {
  const store = makeStore(t);
  const origins = [0, 1, 2, 3, 4, 255];
  writeShard(
    store.directory,
    'shard-0000.db',
    origins.map((origin, i) => ({ timestamp: second(i), origin })),
  );
  await startService(t, store);
  const shown = async (where: string) =>
    only((await ask(store.socketPath, `EVENTS ${where} SORT timestamp ASC`)).records, 'origin_class');
  assert.deepEqual(await shown(''), origins);
  for (const [value, name] of ['userspace', 'kmes', 'kacs', 'lcs'].entries()) {
    assert.deepEqual(await shown(`WHERE origin_class == ${name}`), [value]);
  }
  assert.deepEqual(await shown('WHERE origin_class > 3'), [4, 255]);
});

test('[QX-1] the first word gives the mode, and clauses of another mode are refused', async (t) => {
  assert.equal(parseQuery('events test.* take 3 since yesterday').mode, 'EVENTS');
  assert.equal(parseQuery('LOGS FROM nginx').mode, 'LOGS');
  assert.equal(parseQuery('METRIC cpu.load').mode, 'METRIC');
  const refused = [
    'EVENTS ERROR ONLY',
    'EVENTS FROM nginx',
    'LOGS INDEX origin',
    'METRIC cpu STREAM',
    'TAKE 3',
  ];
  for (const text of refused) assert.throws(() => parseQuery(text), { name: 'QueryError' }, text);
  const store = makeStore(t);
  await startService(t, store);
  for (const text of refused) {
    const { error, messages } = await ask(store.socketPath, text);
    assert.ok(error !== null && messages.length === 1, `${text}: nothing is executed`);
  }
});

test('[QL-85] a METRIC needs a name, and its stars match as in event patterns', () => {
  for (const text of ['METRIC', 'METRIC []', 'METRIC [core="0"]']) {
    assert.throws(() => parseQuery(text), { name: 'QueryError', class: 'P' }, text);
  }
  const nameOf = (text: string) => {
    const query = parseQuery(text);
    assert.ok(query.mode === 'METRIC');
    return [query.name.kind, query.name.text];
  };
  const patternOf = (text: string) => {
    const query = parseQuery(text);
    assert.ok(query.mode === 'EVENTS' && query.pattern !== null);
    return [query.pattern.kind, query.pattern.text];
  };
  for (const name of ['cpu.load', 'cpu.*', '*', '*.load', 'cpu.*.user']) {
    assert.deepEqual(nameOf(`METRIC ${name}`), patternOf(`EVENTS ${name}`), name);
  }
});

test('[QL-115] EVENT and LOG filters want EXISTS, a LOG filter one origin without stars', () => {
  const accepted = [
    'LOGS WHERE EVENT kacs.* EXISTS SINCE 1h ago',
    'EVENTS WHERE LOG nginx EXISTS SINCE 1h ago',
    'EVENTS WHERE LOG nginx CONTAINING "refused" EXISTS SINCE 1h ago',
    'METRIC cpu WHERE LOG nginx EXISTS SINCE 1h ago',
  ];
  for (const text of accepted) assert.ok(parseQuery(text), text);
  const refused = [
    'LOGS WHERE EVENT kacs.* SINCE 1h ago',
    'EVENTS WHERE LOG nginx SINCE 1h ago',
    'EVENTS WHERE LOG nginx CONTAINING "refused" SINCE 1h ago',
    'EVENTS WHERE LOG ng* EXISTS SINCE 1h ago',
    'EVENTS WHERE LOG nginx apache EXISTS SINCE 1h ago',
  ];
  for (const text of refused) {
    assert.throws(() => parseQuery(text), { name: 'QueryError', class: 'P' }, text);
  }
});
