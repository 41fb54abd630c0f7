/** Which fields can have an index, its name and its statement, and that the planner's SQL is answered by it. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { buildable, leastImportant, nextStep } from '../../src/indexes/convergence.js';
import {
  candidacyOf,
  createStatement,
  dropStatement,
  existingIndex,
  type IndexedField,
  indexNameOf,
  MAX_FIELD_BYTES,
} from '../../src/indexes/fields.js';
import { openStore, translate } from '../fixtures/queryStore.js';

const COLUMNS = [
  'event_type',
  'origin_class',
  'cpu_id',
  'effective_token_guid',
  'true_token_guid',
  'process_guid',
  'boot_id',
];
const GUID = '"00000000-0000-4000-8000-000000000001"';

/** How SQLite finds the rows of a query in a shard with an index on these fields. */
function planOf(text: string, fields: readonly string[]): string {
  const db = openStore();
  for (const field of fields) db.exec(createStatement(field));
  const { sql, params } = translate(text);
  const rows = db.prepare(`EXPLAIN QUERY PLAN ${sql}`).all(...params) as { detail: string }[];
  db.close();
  return rows.map(({ detail }) => detail).join('; ');
}

const desired = (...fields: string[]): IndexedField[] =>
  fields.map((field) => ({ field, isExpression: !COLUMNS.includes(field) }));

const existing = (...fields: string[]) => fields.map((field) => ({ name: indexNameOf(field), field }));

test('[IDX-30][IDX-32] every column but timestamp and sequence is a candidate, and so is every payload path; the raw payload is none', () => {
  for (const column of COLUMNS)
    assert.deepEqual(candidacyOf(column), { kind: 'candidate', isExpression: false });
  assert.deepEqual(candidacyOf('timestamp'), { kind: 'always' });
  assert.equal(candidacyOf('sequence').kind, 'never');
  for (const path of ['source.name', 'granted_access', 'payload', 'id', 'x'.repeat(MAX_FIELD_BYTES)])
    assert.deepEqual(candidacyOf(path), { kind: 'candidate', isExpression: true });
  assert.equal(candidacyOf('x'.repeat(MAX_FIELD_BYTES + 1)).kind, 'never');
  assert.match(createStatement('payload'), /msgpack_extract\(payload, '\$\.payload'\)/);
});

test('[IDX-11][IDX-31][IDX-33] names, and the statements that make and drop', () => {
  assert.equal(
    createStatement('source.name'),
    `CREATE INDEX IF NOT EXISTS "idx_events_payload_source_name" ON events(msgpack_extract(payload, '$.source.name') COLLATE NOCASE)`,
  );
  assert.equal(createStatement('cpu_id'), 'CREATE INDEX IF NOT EXISTS "idx_events_cpu_id" ON events(cpu_id)');
  assert.equal(
    createStatement('event_type'),
    'CREATE INDEX IF NOT EXISTS "idx_events_event_type" ON events(event_type COLLATE NOCASE)',
  );
  assert.equal(
    dropStatement(indexNameOf('granted_access')),
    'DROP INDEX IF EXISTS "idx_events_payload_granted_access"',
  );
});

test('[IDX-31][IDX-46] the schema says which field an index is on; whatever is not exactly ours serves no query', () => {
  const db = openStore();
  // Names come from queries: nothing in them may end the literal or the name.
  const odd = ['a.b', "it's", 'say"hello"', "$.x') --", 'Größe.ß', 'a,b', ...COLUMNS];
  for (const field of odd) db.exec(createStatement(field));
  db.exec("CREATE INDEX idx_events_payload_old ON events(msgpack_extract(payload, '$.old'))");
  db.exec('CREATE INDEX somebody_elses ON events(sequence)');
  const rows = db
    .prepare("SELECT name, sql FROM sqlite_master WHERE type = 'index' ORDER BY rowid")
    .raw()
    .all() as [string, string | null][];
  const found = rows.flatMap(([name, sql]) => existingIndex(name, sql) ?? []);
  assert.deepEqual(
    found.map(({ field }) => field),
    [...odd, null],
    'binary collation would never be used; the index of timestamp and the foreign one are left alone',
  );
});

test('[IDX-35] of two paths with one index name the more important has it, and the other is not tried again and again', () => {
  const both = desired('source.name', 'source_name');
  assert.deepEqual(buildable(both), desired('source.name'));
  assert.equal(nextStep(existing('source.name'), both), null, 'nothing is left to be done');
  assert.deepEqual(buildable(desired('User', 'user')), desired('User'), 'SQLite folds names');
  // The other way round it takes the name over.
  assert.deepEqual(nextStep(existing('source_name'), both), {
    kind: 'drop',
    index: 'idx_events_payload_source_name',
    field: 'source_name',
  });
});

test('[IDX-16][IDX-21][IDX-22] drops come first, builds by priority; pressure takes the undesired, then the least important', () => {
  const wanted = desired('event_type', 'user', 'cpu_id');
  assert.equal(nextStep(existing('old', 'cpu_id'), wanted)?.index, 'idx_events_payload_old');
  assert.equal(nextStep(existing('cpu_id'), wanted)?.index, 'idx_events_event_type');
  assert.equal(nextStep(existing('cpu_id', 'event_type'), wanted)?.index, 'idx_events_payload_user');
  assert.equal(nextStep(existing('cpu_id', 'event_type', 'user'), wanted), null);
  assert.equal(leastImportant(existing('user', 'old', 'cpu_id'), wanted)?.field, 'old');
  assert.equal(leastImportant(existing('event_type', 'cpu_id', 'user'), wanted)?.field, 'cpu_id');
  assert.equal(leastImportant([], wanted), null);
});

test('[IDX-31][QX-11][QX-13][QX-14] the SQL of queries is answered by these very indexes', () => {
  const searches: readonly (readonly [field: string, condition: string])[] = [
    ['event_type', 'event_type == "Kacs.Denied"'],
    ['event_type', 'event_type STARTS_WITH "kacs."'],
    ['event_type', 'event_type IN ("a", "b")'],
    ['origin_class', 'origin_class == kacs'],
    ['cpu_id', 'cpu_id == 3'],
    ['effective_token_guid', `effective_token_guid == ${GUID}`],
    ['true_token_guid', `true_token_guid == ${GUID}`],
    ['process_guid', `process_guid == ${GUID}`],
    ['boot_id', `boot_id == ${GUID}`],
    ['source.name', 'source.name == "Peios"'],
    ['source.name', 'source.name STARTS_WITH "pe"'],
    ['granted_access', 'granted_access == 5'],
    ['granted_access', 'granted_access > 5'],
    ['granted_access', 'granted_access IN (1, 2, 3)'],
    ['granted_access', 'granted_access == 18446744073709551615'],
  ];
  for (const [field, condition] of searches) {
    const plan = planOf(`EVENTS WHERE ${condition}`, [field]);
    assert.match(
      plan,
      new RegExp(`SEARCH events USING INDEX ${indexNameOf(field)} `),
      `${condition}: ${plan}`,
    );
    assert.doesNotMatch(planOf(`EVENTS WHERE ${condition}`, []), new RegExp(indexNameOf(field)));
  }
  assert.match(planOf('EVENTS kacs.*', ['event_type']), /USING INDEX idx_events_event_type/);
});
