/** What queries of restricted callers find out about event types before they run: complete, and cheap. */
import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import Database from 'better-sqlite3';
import { EventNames } from '../../actors/query/eventNames.js';
import { EventRows } from '../../actors/query/eventRows.js';
import { type Learned, Learnings } from '../../actors/query/learned.js';
import type { StageContext } from '../../actors/query/stages/context.js';
import { Surveys } from '../../actors/query/surveys.js';
import { QueryWorkerPool } from '../../actors/query/workerPool.js';
import { createStatement } from '../../src/indexes/fields.js';
import { addonPath, native } from '../../src/native/addon.js';
import type { Found, Survey, TimeRange } from '../../src/query/survey.js';
import { CommitFeed } from '../../src/stores/commitFeed.js';
import { ReadConnection } from '../../src/stores/readConnection.js';
import { insertRows } from '../fixtures/eventShards.js';
import { writeManyEvents } from '../fixtures/manyEvents.js';

const ALWAYS: TimeRange = { from: null, to: (1n << 63n) - 1n };
/** Two steps. */
const COUNT = 25_000;
const TYPES = Array.from({ length: 10 }, (_, n) => `type.${n}`);

/** A shard of many events of ten types, and a connection to it. */
function world(t: TestContext) {
  const directory = mkdtempSync(join(tmpdir(), 'eventd-names-'));
  writeManyEvents(directory, 'shard-0000.db', { count: COUNT, names: 5 });
  const path = join(directory, 'shard-0000.db');
  const db = new Database(path);
  db.loadExtension(addonPath);
  const connection = new ReadConnection({ path, identity: 'one' });
  t.after(() => {
    connection.close();
    db.close();
    rmSync(directory, { recursive: true });
  });
  return { directory, db, connection };
}

/** Runs a survey to its end; `turns` is how many steps it gave others a turn after. */
function run<Result>(steps: Generator<void, Result, void>): {
  readonly result: Result;
  readonly turns: number;
} {
  for (let turns = 0; ; turns++) {
    const { done, value } = steps.next();
    if (done === true) return { result: value, turns };
  }
}

const types = (names: EventNames, connection: ReadConnection, range = ALWAYS, spellings = true) => {
  const { result, turns } = run(names.types(connection, { range, spellings }, (call) => call()));
  return { types: [...result].sort(), turns };
};

test('[ACL-34] [ACL-45] types are looked for once, then in new rows only, and where ids began anew from the start', (t) => {
  const { db, connection } = world(t);
  const names = new EventNames();
  assert.deepEqual(types(names, connection), { types: TYPES, turns: 2 });
  assert.deepEqual(types(names, connection), { types: TYPES, turns: 0 });
  insertRows(db, [{ timestamp: 1n, type: 'Type.0' }]);
  assert.deepEqual(types(names, connection), { types: ['Type.0', ...TYPES], turns: 1 });
  db.exec('DELETE FROM events');
  insertRows(db, [{ timestamp: 1n, type: 'new' }]);
  assert.equal(types(names, connection).types.includes('new'), true);
  // The oldest rows are gone, and what remains is found all the same.
  insertRows(
    db,
    Array.from({ length: 300 }, (_, n) => ({ timestamp: BigInt(n), type: `t${n % 3}` })),
  );
  db.exec('DELETE FROM events WHERE id < 200');
  assert.deepEqual(types(new EventNames(), connection).types, ['t0', 't1', 't2']);
});

test('[ACL-34] [QX-5] a short time range is searched by time, whatever the store holds besides', (t) => {
  const { db, connection } = world(t);
  insertRows(db, [{ timestamp: 500_000n, type: 'late' }]);
  const late = { from: 100_000n, to: 900_000n };
  assert.deepEqual(types(new EventNames(), connection, late), { types: ['late'], turns: 1 });
  assert.deepEqual(types(new EventNames(), connection, { from: 600_000n, to: 900_000n }).types, []);
  const some = types(new EventNames(), connection, { from: 24_999n, to: 25_000n });
  assert.deepEqual(some.types, ['type.8', 'type.9']);
  const fields = (range: TimeRange) => {
    const found = run(new EventNames().fields(connection, ['TYPE.1', 'late'], range, (call) => call()));
    return [...found.result].map(([type, paths]) => [type, [...paths].map(String).sort()]);
  };
  assert.deepEqual(fields({ from: 24_992n, to: 24_992n }), [
    ['type.1', ['fill', 'name']],
    ['late', []],
  ]);
  assert.deepEqual(fields(late), [
    ['type.1', []],
    ['late', []],
  ]);
  assert.deepEqual(fields(ALWAYS), [
    ['type.1', ['fill', 'name']],
    ['late', []],
  ]);
});

test('[ACL-34] [QX-5] an index of event types is followed from one to the next', (t) => {
  const { db, connection } = world(t);
  db.exec(createStatement('event_type'));
  const odd = ['', 'Type.3', 'zz', ...Array.from({ length: 1200 }, (_, n) => `many.${n}`)];
  insertRows(db, [
    ...odd.map((type) => ({ timestamp: 1n, type })),
    { timestamp: 1n, type: 'bytes' },
    { timestamp: 1n, type: 'bytes2' },
  ]);
  // Bytes that are no UTF-8 must not stop it.
  db.exec("UPDATE events SET event_type = CAST(x'ff41' AS TEXT) WHERE event_type = 'bytes'");
  db.exec("UPDATE events SET event_type = CAST(x'ff42' AS TEXT) WHERE event_type = 'bytes2'");
  const names = new EventNames();
  const found = types(names, connection, ALWAYS, false);
  assert.equal(found.turns, 2, '500 types a turn');
  const folded = new Set(found.types.map((type) => type.toLowerCase()));
  for (const type of [...TYPES, ...odd]) assert.ok(folded.has(type.toLowerCase()), type);
  assert.equal(found.types.length, folded.size, 'one spelling each');
  assert.ok(found.types.includes('\ufffdB'));
  // Where spellings matter the rows say which there are.
  assert.ok(types(names, connection, ALWAYS, true).types.includes('Type.3'));
  assert.ok(types(names, connection, ALWAYS, true).types.includes('type.3'));
  db.exec('DROP INDEX idx_events_event_type');
  assert.ok(types(new EventNames(), connection, ALWAYS, false).types.includes('type.3'));
});

test('[ACL-45] what one query thread found the others need not look for', async (t) => {
  const { directory, db, connection } = world(t);
  const told: Learned[] = [];
  const first = new EventNames((learned) => told.push(learned));
  types(first, connection);
  run(first.fields(connection, ['type.1'], ALWAYS, (call) => call()));
  assert.deepEqual(
    told.map(({ what }) => what),
    ['spelt', 'fields'],
  );
  const second = new EventNames();
  for (const learned of told) second.adopt(learned);
  assert.deepEqual(types(second, connection), { types: TYPES, turns: 0 });
  const { result, turns } = run(second.fields(connection, ['type.1'], ALWAYS, (call) => call()));
  assert.deepEqual([turns, [...(result.get('type.1') ?? [])].map(String)], [0, ['name', 'fill']]);

  // The same with real threads: the one that is asked second never saw the type that is gone by then.
  const pool = new QueryWorkerPool({
    eventStorePath: directory,
    logStorePath: join(directory, 'logs.db'),
    metricStorePath: join(directory, 'metrics.db'),
    commits: CommitFeed.allocate(),
    logger: { info: () => {}, warn: () => {}, error: () => {} },
    workers: 2,
    memoryBytes: 1 << 24,
  });
  t.after(() => pool.stop());
  pool.start();
  const deadline = native.monotonicNs() + 60_000_000_000n;
  const survey: Survey = { kind: 'names', store: 'events', pattern: null, range: ALWAYS, spellings: true };
  const ask = () =>
    new Promise<Found>((resolve, reject) => {
      pool.survey(survey, deadline, { onSurveyed: resolve, onFailed: (failure) => reject(failure) });
    });
  assert.equal((await ask()).length, 10);
  db.exec("DELETE FROM events WHERE event_type = 'type.4'");
  // Two at once are for two threads.
  const both = await Promise.all([ask(), ask()]);
  assert.deepEqual(
    both.map((found) => found.length),
    [10, 10],
  );
});

test('[ACL-34] [QX-5] types that differ behind a U+0000 alone are all found, index or not', (t) => {
  const { db, connection } = world(t);
  db.exec(createStatement('event_type'));
  const odd = ['odd\0a', 'odd\0b', 'odd'];
  insertRows(
    db,
    odd.map((type) => ({ timestamp: 1n, type })),
  );
  const found = types(new EventNames(), connection, ALWAYS, false).types;
  assert.deepEqual(found, [...odd, ...TYPES].sort());
});

test('[ACL-34] [QX-5] of more types than are kept none is known too many, whichever way they are found', (t) => {
  const { db, connection } = world(t);
  const late = { from: 100_000n, to: 900_000n };
  insertRows(
    db,
    Array.from({ length: 9 }, (_, n) => ({ timestamp: 500_000n, type: `late.${n}` })),
  );
  const few = (range: TimeRange, spellings: boolean) =>
    types(new EventNames(() => {}, 4), connection, range, spellings).types.length;
  assert.deepEqual([few(ALWAYS, true), few(late, true)], [4, 4]);
  db.exec(createStatement('event_type'));
  assert.equal(few(ALWAYS, false), 4);
  const steps = new EventRows(connection, (call) => call()).indexedTypes(4);
  assert.equal(run(steps).result?.length, 4);
});

test('[QX-5] [QX-67] as many names as a store may hold are an answer', () => {
  const rows = Array.from({ length: 200_000 }, (_, n) => [String(n)]);
  const connection = { prepare: () => ({ raw: () => ({ iterate: () => rows.values() }) }) };
  const context = {
    connections: () => [connection],
    bind: () => [],
    execute: <Result>(call: () => Result) => call(),
  } as unknown as StageContext;
  const statement = { sql: '', params: [] };
  const survey = { kind: 'select', store: 'metrics', statement } as const;
  assert.equal(run(new Surveys(() => {}).run(survey, context)).result.length, rows.length);
});

test('[ACL-34] rows deleted between two looks at a table neither end the search nor turn it back', (t) => {
  const { db, connection } = world(t);
  for (const gone of ['id = 2', 'id <= 2']) {
    db.exec('DELETE FROM events');
    insertRows(db, [{ timestamp: 1n }, { timestamp: 2n }, { timestamp: 3n }]);
    db.exec('UPDATE events SET id = 100000 WHERE id = 3');
    const newest = { id: 100_000n, timestamp: 3n };
    let questions = 0;
    const rows = new EventRows(connection, (call) => {
      const answer = call();
      // The first asked for the oldest row after the mark.
      if (questions++ === 0) db.exec(`DELETE FROM events WHERE ${gone}`);
      return answer;
    });
    const stretches = [...rows.byId({ id: 1n, timestamp: 1n }, newest)];
    assert.deepEqual(
      stretches.map(({ bounds }) => bounds),
      [[99_999n, 100_000n]],
      gone,
    );
  }
});

test('[ACL-45] what is told and kept for other threads is bounded', (t) => {
  const { db, connection } = world(t);
  const told: Learned[] = [];
  const names = new EventNames((learned) => told.push(learned));
  db.exec("UPDATE events SET event_type = 'type.' || id WHERE id <= 16384");
  types(names, connection);
  assert.equal(told.length, 0, 'more names than are told');
  // A database that is gone is forgotten, and looked at again when it is there again.
  names.retain([connection]);
  assert.equal(types(names, connection).turns, 0);
  names.retain([]);
  assert.equal(types(names, connection).turns, 2);

  const learnings = new Learnings();
  const many = Array.from({ length: 100_000 }, (_, n) => `n${n}`);
  const add = (database: string, count: number) =>
    learnings.add({ what: 'spelt', database, mark: { id: 1n, timestamp: 1n }, names: many.slice(0, count) });
  for (const database of ['a', 'b', 'a', 'b', 'a', 'b']) add(database, 100_000);
  const kept = () => [...learnings].map(({ database }) => database);
  assert.deepEqual(kept(), ['a', 'b'], 'news take the place of what was known');
  add('c', 70_000);
  assert.deepEqual(kept(), ['b', 'c']);
  for (let n = 0; n < 5000; n++) add(`small ${n}`, 1);
  assert.equal(kept().length, 4096);
});
