/** What streams test rows with, the evaluator in C, must say what SQL says of every condition and row. */
import assert from 'node:assert/strict';
import { type TestContext, test } from 'node:test';
import { decode } from '@msgpack/msgpack';
import Database from 'better-sqlite3';
import fc from 'fast-check';
import { parseGuid } from '../../src/host/guid.js';
import { addonPath, native } from '../../src/native/addon.js';
import { parseQuery } from '../../src/query/parser.js';
import { eventsTail, logsTail } from '../../src/query/predicateProgram.js';
import { translateLogs } from '../../src/query/sqlLogs.js';
import { LOG_SCHEMA } from '../../src/stores/logSchema.js';
import { FrameDecoder } from '../../src/wire/frame.js';
import { condition, recordArbitrary } from '../fixtures/queryArbitraries.js';
import { GUIDS, matches } from '../fixtures/queryReference.js';
import { record, storeOf, translate } from '../fixtures/queryStore.js';

const NOW = 1_000_000n;
const MAX = 2n ** 63n - 1n;

const slotOf = (db: Database.Database): number => Number(db.prepare('SELECT eventd_slot()').pluck().get());

/** Ids of the rows each query's program matches, all programs at work at once. */
function tailIds(t: TestContext, db: Database.Database, store: 'events' | 'logs', texts: readonly string[]) {
  const tail = native.tailOpen(store);
  t.after(() => native.tailClose(tail));
  const parts = texts.map((text) => {
    const query = parseQuery(text);
    assert.ok(query.mode === 'EVENTS' || query.mode === 'LOGS', text);
    const { spec } = query.mode === 'EVENTS' ? eventsTail(query, NOW) : logsTail(query, NOW);
    return { program: native.tailAdd(tail, spec), truths: null };
  });
  const ids = texts.map((): number[] => []);
  const bounds = { slot: slotOf(db), maxRows: 1, maxBytes: 1 << 30, parts };
  for (let after = 0n; ; ) {
    const { last, rows, matches: found } = native.tailScan(tail, { ...bounds, after, upTo: MAX });
    if (rows === 0) return ids;
    for (const { part, records } of found) {
      assert.equal(records, 1);
      ids[part]?.push(Number(last));
    }
    after = last;
  }
}

function sqlIds(db: Database.Database, statement: { sql: string; params: readonly unknown[] }): number[] {
  // Ids are no part of the result; the same conditions under another head show them.
  const rows = db
    .prepare(statement.sql.replace(/^SELECT .*? AS k0,/, 'SELECT timestamp AS k0, id,'))
    .raw()
    .all(...statement.params) as unknown[][];
  return rows.map((row) => Number(row[1])).sort((a, b) => a - b);
}

test('[STR-7, QL-20, QL-21, QL-22, QL-23, QL-26, QL-30, QL-31, QL-32, QL-44, QL-45, QL-46, QL-47] C says of every event what SQL says', (t) => {
  const records = fc.sample(recordArbitrary, { numRuns: 250, seed: 20260502 });
  const db = storeOf(...records);
  t.after(() => db.close());
  const conditions = fc.sample(condition, { numRuns: 700, seed: 20260503 });
  const texts = conditions.map(({ text }) => `EVENTS WHERE ${text}`);
  const found = tailIds(
    t,
    db,
    'events',
    texts.map((text) => `${text} STREAM UNTIL 1h hence`),
  );
  for (const [index, text] of texts.entries()) {
    assert.deepEqual(found[index], sqlIds(db, translate(text)), text);
    const each = conditions[index];
    const expected = records.flatMap((row, id) => (each && matches(row, each.value) ? [id + 1] : []));
    assert.deepEqual(found[index], expected, text);
  }
});

test('[STR-7, QL-60, QL-77] type patterns and explicit SINCE and UNTIL say what SQL says', (t) => {
  const letters = fc.constantFrom('a', 'A', 'b', '.', '?', '%', '_', '[', 'é');
  const names = fc.sample(
    fc.array(letters, { minLength: 1, maxLength: 6 }).map((list) => list.join('')),
    { numRuns: 200, seed: 8 },
  );
  const db = storeOf(
    ...names.map((name, index) => record(name, null, { timestamp: BigInt(index) * 1_000_000_000n })),
  );
  t.after(() => db.close());
  const pattern = fc.array(fc.oneof(letters, fc.constant('*')), { minLength: 1, maxLength: 6 });
  const range = fc.constantFrom(
    '',
    ' SINCE 1970-01-01T00:00:50',
    ' SINCE 1970-01-01T00:01:00 UNTIL 1970-01-01T00:02:00',
  );
  const queries = fc.sample(fc.tuple(pattern, range), { numRuns: 300, seed: 9 });
  // SQL sees the same range with the default end far away.
  const texts = queries.map(([parts, bounds]) => `EVENTS "${parts.join('')}"${bounds}`);
  const found = tailIds(
    t,
    db,
    'events',
    texts.map((text) => `${text} STREAM`),
  );
  for (const [index, text] of texts.entries()) {
    assert.deepEqual(found[index], sqlIds(db, translate(text, MAX)), text);
  }
});

function logStore(t: TestContext, rows: readonly (readonly unknown[])[]): Database.Database {
  const db = new Database(':memory:');
  t.after(() => db.close());
  db.loadExtension(addonPath);
  for (const statement of LOG_SCHEMA.statements) db.exec(statement);
  const insert = db.prepare(
    'INSERT INTO logs (boot_id, timestamp, origin, is_error, message) VALUES (?, ?, ?, ?, ?)',
  );
  for (const row of rows) insert.run(...row);
  return db;
}

test('[STR-7, QL-42, QL-80, QL-81, QL-82] C says of every log record what SQL says', (t) => {
  const row = fc.tuple(
    fc.constantFrom(...GUIDS).map(parseGuid),
    fc.bigInt(0n, 20n),
    fc.constantFrom('peinit', 'PEINIT', 'loregd', 'a b'),
    fc.constantFrom(0n, 1n),
    fc.constantFrom('', 'x', 'Ax', 'error: X', '100%', 'é', 'É'),
  );
  const db = logStore(t, fc.sample(row, { numRuns: 200, seed: 3 }));
  const clause = fc.constantFrom(
    ...[
      'FROM peinit',
      'FROM "LOREGD", "a b"',
      'ERROR ONLY',
      'CONTAINING "x"',
      'CONTAINING "%"',
      'CONTAINING "É"',
    ],
    ...[
      'WHERE is_error == false',
      'WHERE timestamp > 10',
      `WHERE boot_id == "${GUIDS[1]}"`,
      'WHERE origin != "peinit"',
    ],
    ...[
      'WHERE message IN ("x", "É")',
      'WHERE message STARTS_WITH "a" OR origin ENDS_WITH "b"',
      'WHERE is_error IN (1, 3)',
    ],
  );
  const clauses = fc.uniqueArray(clause, { maxLength: 4, selector: (text) => text.split(' ')[0] });
  const texts = fc.sample(clauses, { numRuns: 200, seed: 4 }).map((list) => `LOGS ${list.join(' ')}`);
  const found = tailIds(
    t,
    db,
    'logs',
    texts.map((text) => `${text} STREAM`),
  );
  for (const [index, text] of texts.entries()) {
    const query = parseQuery(text);
    assert.ok(query.mode === 'LOGS');
    assert.deepEqual(found[index], sqlIds(db, translateLogs(query, MAX)), text);
  }
});

/** Records of the messages a program makes of all rows. */
function tailed(t: TestContext, db: Database.Database, text: string): unknown[] {
  const query = parseQuery(text);
  assert.ok(query.mode === 'EVENTS' || query.mode === 'LOGS', text);
  const { store, spec } = query.mode === 'EVENTS' ? eventsTail(query, NOW) : logsTail(query, NOW);
  const tail = native.tailOpen(store);
  t.after(() => native.tailClose(tail));
  const parts = [{ program: native.tailAdd(tail, spec), truths: null }];
  const bounds = { slot: slotOf(db), maxRows: 10_000, maxBytes: 1 << 30, parts };
  const [match] = native.tailScan(tail, { ...bounds, after: 0n, upTo: MAX }).matches;
  const frames = new FrameDecoder(1 << 30);
  frames.push(match?.frames ?? new Uint8Array());
  const records: unknown[] = [];
  for (let payload = frames.next(); payload !== null; payload = frames.next()) {
    const message = decode(payload, { useBigInt64: true }) as { status: string; records: unknown[] };
    assert.equal(message.status, 'ok');
    assert.ok(message.records.length <= 1000, 'a message is split at 1000 records');
    records.push(...message.records);
  }
  return records;
}

test('[STR-7, QL-63, QL-121, WIRE-10] streamed records are shaped by SELECT like the others', (t) => {
  const guid = parseGuid(GUIDS[1]);
  const logs = logStore(t, [
    [guid, 5n, 'peinit', 1n, 'up'],
    [guid, 6n, 'peinit', 0n, 'down'],
  ]);
  const whole = { timestamp: 5, origin: 'peinit', is_error: true, message: 'up', boot_id: `{${GUIDS[1]}}` };
  const first = (records: unknown[]) =>
    JSON.stringify(records[0], (_, value) => (typeof value === 'bigint' ? Number(value) : value));
  assert.equal(first(tailed(t, logs, 'LOGS STREAM')), JSON.stringify(whole));
  assert.equal(
    first(tailed(t, logs, 'LOGS SELECT message, is_error STREAM')),
    '{"message":"up","is_error":true}',
  );
  assert.equal(tailed(t, logs, 'LOGS ERROR ONLY STREAM').length, 1);
  const events = storeOf(...Array.from({ length: 2500 }, (_, index) => record(`t.${index}`)));
  t.after(() => events.close());
  assert.equal(tailed(t, events, 'EVENTS SELECT event_type, nothing.there STREAM').length, 2500);
  assert.equal(
    JSON.stringify(tailed(t, events, 'EVENTS t.7 SELECT event_type, nothing.there STREAM')),
    '[{"event_type":"t.7"}]',
  );
});

test('[STR-8, STR-12] a scan goes by rowid, stops where it is told to, and says how far it came', (t) => {
  const db = storeOf(
    ...Array.from({ length: 10 }, (_, index) =>
      record(`t.${index}`, null, { timestamp: BigInt(100 - index) }),
    ),
  );
  t.after(() => db.close());
  const tail = native.tailOpen('events');
  t.after(() => native.tailClose(tail));
  const query = parseQuery('EVENTS STREAM');
  assert.ok(query.mode === 'EVENTS');
  const parts = [{ program: native.tailAdd(tail, eventsTail(query, NOW).spec), truths: null }];
  const bounds = { slot: slotOf(db), maxRows: 4, maxBytes: 1 << 20, parts };
  const one = native.tailScan(tail, { ...bounds, after: 2n, upTo: 8n });
  assert.deepEqual([one.last, one.rows, one.done], [6n, 4, false]);
  const two = native.tailScan(tail, { ...bounds, after: one.last, upTo: 8n });
  assert.deepEqual([two.last, two.rows, two.done], [8n, 2, true]);
  const tight = native.tailScan(tail, { ...bounds, after: 0n, upTo: 8n, maxBytes: 1 });
  assert.deepEqual([tight.last, tight.rows, tight.done], [1n, 1, false]);
  const nothing = native.tailScan(tail, { ...bounds, after: 10n, upTo: MAX });
  assert.deepEqual([nothing.last, nothing.rows, nothing.done, nothing.matches.length], [10n, 0, true, 0]);
});

test('[STR-7, WIRE-21] what is no program is refused, and leaves nothing behind', (t) => {
  const tail = native.tailOpen('events');
  t.after(() => native.tailClose(tail));
  const good = eventsTail(parseQuery('EVENTS kacs.* WHERE x.y IN (1, "a") STREAM') as never, NOW).spec;
  for (let length = 0; length < good.length; length++) {
    assert.throws(() => native.tailAdd(tail, good.slice(0, length)), { code: 'ERR_INVALID_ARG' });
  }
  const number = native.tailAdd(tail, good);
  native.tailRemove(tail, number);
  assert.throws(() => native.tailRemove(tail, number), { code: 'ERR_HANDLE' });
});
