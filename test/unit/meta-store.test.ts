/** eventd-meta.db: its schema word for word, what goes in and comes out, and what becomes of a bad file. */
import assert from 'node:assert/strict';
import { existsSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import Database from 'better-sqlite3';
import { readAdminDescriptor } from '../../src/access/adminDescriptor.js';
import { MetaStore, NO_STATE, type PolicyState } from '../../src/indexes/metaStore.js';
import { EventDatabases } from '../../src/stores/eventDatabases.js';
import { locksOn } from '../fixtures/database.js';

const STATE: PolicyState = {
  counters: [
    { field: 'event_type', count: 120, windowStart: 1_700_000_000_000_000_000n },
    { field: 'source.name', count: 2, windowStart: 1_700_003_600_000_000_000n },
  ],
  desired: [
    { field: 'source.name', isExpression: true },
    { field: 'event_type', isExpression: false },
  ],
  manual: new Map([['source.name', 1_700_000_000_123_456_789n]]),
};

function directoryOf(t: TestContext): { directory: string; file: string } {
  const directory = mkdtempSync(join(tmpdir(), 'eventd-meta-'));
  t.after(() => rmSync(directory, { recursive: true, force: true }));
  return { directory, file: join(directory, 'eventd-meta.db') };
}

const unexpected = (problem: Error) => assert.fail(problem.message);

test('[IDX-40][IDX-41][IDX-42][IDX-43] the file has its name, its mode, its tables and its rows', (t) => {
  const { directory, file } = directoryOf(t);
  const store = MetaStore.open(directory, unexpected);
  const db = store.database;
  assert.equal(store.file, file);
  assert.equal(db.pragma('journal_mode', { simple: true }), 'wal');
  assert.equal(db.pragma('synchronous', { simple: true }), 1n, 'NORMAL');
  const columns = (table: string) =>
    db
      .prepare('SELECT name, type, "notnull", pk FROM pragma_table_info(?)')
      .raw()
      .all(table)
      .map((row) => (row as unknown[]).join(' '));
  assert.deepEqual(columns('index_counters'), [
    'field_path TEXT 0 1',
    'query_count INTEGER 1 0',
    'window_start INTEGER 1 0',
  ]);
  assert.deepEqual(columns('desired_indexes'), [
    'field_path TEXT 0 1',
    'priority INTEGER 1 0',
    'is_expression INTEGER 1 0',
  ]);
  assert.deepEqual(columns('rollup_counters'), [
    'function_window TEXT 0 1',
    'query_count INTEGER 1 0',
    'window_start INTEGER 1 0',
  ]);
  assert.deepEqual(columns('desired_rollups'), ['function_window TEXT 0 1', 'priority INTEGER 1 0']);
  assert.deepEqual(columns('meta'), ['key TEXT 0 1', 'value TEXT 1 0']);
  const meta = new Map(db.prepare('SELECT key, value FROM meta').raw().all() as [string, unknown][]);
  assert.equal(meta.get('schema_version'), '1');
  assert.equal(new Date(String(meta.get('created_at'))).toISOString(), meta.get('created_at'));
  assert.ok(meta.get('admin_sd') instanceof Uint8Array, 'binary, in a TEXT column');
  const descriptor = readAdminDescriptor(db);
  assert.ok(descriptor !== null);
  store.close();
  // No event database, whatever else it is (STO-32).
  assert.deepEqual(new EventDatabases(directory, () => undefined).scan(), []);
});

test('[IDX-42][IDX-46][IDX-48] what was saved is loaded by the next start, and saving again replaces all of it', (t) => {
  const { directory } = directoryOf(t);
  const store = MetaStore.open(directory, unexpected);
  assert.deepEqual(store.load(), NO_STATE);
  store.save(STATE);
  store.close();
  const again = MetaStore.open(directory, unexpected);
  assert.deepEqual(again.load(), STATE);
  const rows = again.database.prepare('SELECT * FROM desired_indexes ORDER BY priority').raw().all();
  assert.deepEqual(rows, [
    ['source.name', 1n, 1n],
    ['event_type', 2n, 0n],
  ]);
  again.save({ ...STATE, desired: [], manual: new Map() });
  assert.deepEqual(again.load().desired, []);
  assert.deepEqual(again.load().manual, new Map());
  assert.equal(
    again.database.prepare("SELECT value FROM meta WHERE key = 'schema_version'").pluck().get(),
    '1',
  );
  again.close();
});

test('[IDX-41] opening it once more leaves the locks of the first connection alone', (t) => {
  const { directory } = directoryOf(t);
  const first = MetaStore.open(directory, unexpected);
  first.save(NO_STATE);
  const held = locksOn(first.file);
  assert.ok(held > 0);
  MetaStore.open(directory, unexpected).close();
  assert.equal(locksOn(first.file), held);
  first.close();
});

test('[IDX-46] rows that make no sense are passed over', (t) => {
  const { directory } = directoryOf(t);
  const store = MetaStore.open(directory, unexpected);
  store.database.exec(`
    INSERT INTO index_counters VALUES ('good', 3, 5), ('sequence', 3, 5), ('negative', -3, 5), ('text', 'x', 5), ('', 1, 1);
    INSERT INTO desired_indexes VALUES ('timestamp', 1, 0), ('good', 7, 0), (x'00', 8, 1);
    INSERT INTO meta VALUES ('manual_index.good', 'soon'), ('manual_index.sequence', '5'), ('manual_index.a.b', '6')`);
  assert.deepEqual(store.load(), {
    counters: [{ field: 'good', count: 3, windowStart: 5n }],
    desired: [{ field: 'good', isExpression: true }],
    manual: new Map([['a.b', 6n]]),
  });
  store.close();
});

test('[IDX-46] an unknown version, a missing column and a file that is no database are set aside and made anew', (t) => {
  const { directory, file } = directoryOf(t);
  const bad: readonly (readonly [name: string, spoil: () => void, problem: RegExp])[] = [
    [
      'version',
      () => change(file, "UPDATE meta SET value = '2' WHERE key = 'schema_version'"),
      /'2' is unknown/,
    ],
    ['no version', () => change(file, "DELETE FROM meta WHERE key = 'schema_version'"), /is unknown/],
    [
      'column',
      () => change(file, 'ALTER TABLE desired_indexes DROP COLUMN priority'),
      /desired_indexes.priority is missing/,
    ],
    ['table', () => change(file, 'DROP TABLE rollup_counters'), /rollup_counters.function_window is missing/],
    ['nonsense', () => writeFileSync(file, Buffer.alloc(8192, 'x')), /not a database/],
  ];
  for (const [name, spoil, expected] of bad) {
    const before = MetaStore.open(directory, () => undefined);
    before.save(STATE);
    before.close();
    spoil();
    const problems: string[] = [];
    const store = MetaStore.open(directory, (problem) => problems.push(problem.message));
    assert.equal(problems.length, 1, name);
    assert.match(problems[0] ?? '', expected);
    assert.deepEqual(store.load(), NO_STATE, name);
    store.save(STATE);
    store.close();
    assert.ok(existsSync(`${file}.old`));
  }
});

test('[IDX-44] admin_sd of an existing file is never replaced: a missing one refuses', (t) => {
  const { directory, file } = directoryOf(t);
  MetaStore.open(directory, unexpected).close();
  change(file, "DELETE FROM meta WHERE key = 'admin_sd'");
  const store = MetaStore.open(directory, unexpected);
  assert.equal(readAdminDescriptor(store.database), null);
  store.close();
});

function change(file: string, sql: string): void {
  const db = new Database(file);
  db.exec(sql);
  db.close();
}
