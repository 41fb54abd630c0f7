/** Which index each database answers a query by, asked of the statements that a query worker really runs. */
import assert from 'node:assert/strict';
import { copyFileSync, existsSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, type TestContext, test } from 'node:test';
import { inspect } from 'node:util';
import Database from 'better-sqlite3';
import fc from 'fast-check';
import { QueryExecutor } from '../../actors/query/executor.js';
import { InterruptGuard } from '../../actors/query/interruptGuard.js';
import { QueryMemory } from '../../actors/query/memory.js';
import type { FromQueryWorker } from '../../actors/query/protocol.js';
import { chosenSql } from '../../src/indexes/choice.js';
import { createStatement, indexNameOf } from '../../src/indexes/fields.js';
import { addonPath, type CursorPart, type NativeAddon, native } from '../../src/native/addon.js';
import type { IndexChoice } from '../../src/query/job.js';
import { parseQuery } from '../../src/query/parser.js';
import { planEvents } from '../../src/query/plan.js';
import { eventsJob } from '../../src/query/sql.js';
import { CommitFeed } from '../../src/stores/commitFeed.js';
import { eventually } from '../fixtures/eventd.js';
import { seedEvents } from '../fixtures/indexedShards.js';
import { condition, recordArbitrary } from '../fixtures/queryArbitraries.js';
import { makeStore } from '../fixtures/queryService.js';
import { openStore, storeOf, translate } from '../fixtures/queryStore.js';

const SECOND_NS = 1_000_000_000n;
const NOW = 1_900_000_000n * SECOND_NS;
/** One a second up to NOW: `user` has a thousand values, `code` three, `cpu_id` and `origin_class` one. */
const EVENTS = 30_000;

const TIME = /SEARCH events USING (COVERING )?INDEX idx_events_timestamp \(timestamp/;
const SORT = /TEMP B-TREE FOR (LAST \d+ TERMS? OF )?ORDER BY/;

const seeded = mkdtempSync(join(tmpdir(), 'eventd-choice-'));
after(() => rmSync(seeded, { recursive: true, force: true }));

/** A shard without indexes but its own, made once. */
function seededShard(): string {
  const file = join(seeded, 'shard-0000.db');
  if (existsSync(file)) return file;
  seedEvents(file, EVENTS);
  const db = new Database(file);
  db.prepare('UPDATE events SET timestamp = ? + (id - ?) * ?').run(NOW, BigInt(EVENTS), SECOND_NS);
  db.exec("UPDATE events SET event_type = 'app.rare' WHERE id % 5000 = 0");
  db.pragma('wal_checkpoint(TRUNCATE)');
  db.close();
  return file;
}

/** A worker over one shard with indexes on these fields; it says by which way it reads. */
function stage(t: TestContext, fields: readonly string[]) {
  const { directory } = makeStore(t);
  const file = join(directory, 'shard-0000.db');
  copyFileSync(seededShard(), file);
  const db = new Database(file);
  t.after(() => db.close());
  db.pragma('synchronous = OFF');
  db.loadExtension(addonPath);
  for (const field of fields) db.exec(createStatement(field));
  const seen: CursorPart[] = [];
  const watched: NativeAddon = {
    ...native,
    cursorOpen: (options) => {
      if (options.encoded === false) seen.push(...options.parts);
      return native.cursorOpen(options);
    },
    copyOpen: (options) => {
      seen.push(options.from);
      return native.copyOpen(options);
    },
  };
  const said: FromQueryWorker[] = [];
  const executor = new QueryExecutor(
    {
      eventStorePath: directory,
      logStorePath: join(directory, '..', 'logs.db'),
      metricStorePath: join(directory, '..', 'metrics.db'),
      commits: CommitFeed.allocate(),
      guard: InterruptGuard.allocate(),
      maxConnections: 8,
      memory: QueryMemory.allocate(1, 64 * 1024 * 1024).shared,
      worker: 0,
      idleConnectionMs: 60_000,
    },
    watched,
    new InterruptGuard(InterruptGuard.allocate()),
    (message) => said.push(message),
  );
  t.after(() => executor.stop());
  let id = 0;
  /** Runs the query; its plan, and how many records came. */
  const run = async (text: string) => {
    const query = parseQuery(text);
    assert.ok(query.mode === 'EVENTS');
    const job = eventsJob(query, planEvents(query, NOW));
    seen.length = 0;
    said.length = 0;
    const deadline = native.monotonicNs() + 20n * SECOND_NS;
    executor.receive({ type: 'query.run', id: ++id, job, deadline, credits: 1000, seam: null });
    await eventually(text, () =>
      said.some(({ type }) => type === 'query.finished' || type === 'query.failed'),
    );
    assert.deepEqual(
      said.filter(({ type }) => type === 'query.failed'),
      [],
      text,
    );
    const [part] = seen;
    assert.ok(part !== undefined && seen.length === 1);
    const rows = db.prepare(`EXPLAIN QUERY PLAN ${part.sql}`).all(...part.params) as { detail: string }[];
    const records = said.reduce((sum, each) => sum + (each.type === 'query.frame' ? each.records : 0), 0);
    return { plan: rows.map(({ detail }) => detail).join('\n'), records };
  };
  return { run, db };
}

const by = (field: string) => new RegExp(`SEARCH events USING INDEX ${indexNameOf(field)} `);

test('[QX-13] [IDX-31] [IDX-35] a selective field finds the rows by its index, whatever the time range; an unselective one leaves it to the time', async (t) => {
  const { run } = stage(t, ['user', 'code', 'source.name', 'cpu_id', 'origin_class', 'event_type']);
  const few = await run('EVENTS WHERE user == "USER-7" SINCE 7h ago');
  assert.match(few.plan, by('user'));
  assert.equal(few.records, 25, 'a thousandth of seven hours');
  for (const where of [
    'user == "user-7" AND code == 1 SINCE 7h ago',
    'code == 1 AND user IN ("user-7", "user-8") SINCE 7h ago',
    'cpu_id == 0 AND user STARTS_WITH "user-71"',
    'user < 5 SINCE 7h ago',
    'user == "user-7" TAKE 1',
    'user == "user-7" SORT event_type TAKE 5',
  ]) {
    assert.match((await run(`EVENTS WHERE ${where}`)).plan, by('user'), where);
  }
  const either = await run('EVENTS WHERE cpu_id == 7 OR cpu_id == 8');
  assert.match(either.plan, /MULTI-INDEX OR[\s\S]*idx_events_cpu_id/);
  for (const where of [
    'code == 1 SINCE 1m ago',
    'cpu_id == 0 SINCE 1m ago',
    '(cpu_id == 0 OR cpu_id == 1) SINCE 1m ago',
    'origin_class == 0 SINCE 10m ago UNTIL 9m ago',
    'code == 1 AND cpu_id == 0 SINCE 1m ago',
    'code == 1 AND (cpu_id == 0 OR cpu_id == 1) SINCE 1m ago',
    'code == 1 AND timestamp > 1899999950000000000',
  ]) {
    const { plan, records } = await run(`EVENTS WHERE ${where}`);
    assert.match(plan, TIME, where);
    assert.doesNotMatch(plan, /idx_events_(payload|cpu|origin)/, where);
    assert.doesNotMatch(plan, SORT, where);
    assert.ok(records > 0 && records <= 61, `${where}: ${records}`);
  }
});

test('[QX-13] [QX-23] a value of its own decides, not the field: rare types go by their index, common ones by time', async (t) => {
  const { run } = stage(t, ['event_type']);
  assert.match((await run('EVENTS app.rare SINCE 8h ago')).plan, by('event_type'));
  assert.match((await run('EVENTS app.rare TAKE 3')).plan, by('event_type'));
  for (const text of [
    'EVENTS app.* SINCE 1m ago',
    'EVENTS app.type3 SINCE 1m ago',
    'EVENTS app.type3 TAKE 10',
  ]) {
    const { plan, records } = await run(text);
    assert.match(plan, TIME, text);
    assert.doesNotMatch(plan, SORT, text);
    assert.ok(records > 0, text);
  }
});

test('[QL-54] [QX-23] TAKE goes by time where matches are near, in both directions, and by the field where they are not', async (t) => {
  const { run, db } = stage(t, ['code', 'cpu_id']);
  for (const text of [
    'EVENTS WHERE code == 1 TAKE 10',
    'EVENTS WHERE cpu_id == 0 SKIP 20 TAKE 10',
    'EVENTS WHERE code == 2 SORT timestamp TAKE 10',
  ]) {
    const { plan, records } = await run(text);
    assert.match(plan, TIME, text);
    assert.equal(records, 10, text);
  }
  // Two thousand rows with the value, all of them at the far end.
  db.exec("UPDATE events SET payload = x'81A4636F646509' WHERE id < 2000");
  assert.match((await run('EVENTS WHERE code == 9 TAKE 10')).plan, by('code'));
  assert.match((await run('EVENTS WHERE code == 9 SORT timestamp TAKE 10')).plan, TIME);
});

test('[QX-24] aggregations read the rows the same way, and everything where that is as good', async (t) => {
  const { run } = stage(t, ['code', 'user']);
  assert.match((await run('EVENTS WHERE user == "user-7" SINCE 7h ago COUNT')).plan, by('user'));
  assert.match((await run('EVENTS WHERE code == 1 SINCE 1m ago COUNT BY user')).plan, TIME);
  assert.match((await run('EVENTS WHERE user == "user-7" AND code == 1 COUNT BY code')).plan, by('user'));
});

test('[IDX-21] [QX-13] [FAIL-15] an index dropped between choice and read, or before it is counted in, fails no query, nor does damage met while counting', () => {
  const db = openStore();
  db.exec(createStatement('user'));
  const statement = translate('EVENTS WHERE user == "x"');
  const bind = (params: readonly unknown[]) => params;
  const chosen = chosenSql(db, statement, bind);
  assert.notEqual(chosen, statement.sql);
  const vanishing = {
    prepare: (sql: string) => {
      if (sql.includes('INDEXED BY')) db.exec(`DROP INDEX IF EXISTS ${indexNameOf('user')}`);
      return db.prepare(sql);
    },
  };
  const second = chosenSql(vanishing, statement, bind);
  for (const sql of [chosen, second]) assert.deepEqual(db.prepare(sql).all(...statement.params), []);
  const failing = (code: string) => ({
    prepare: () => {
      throw new Database.SqliteError('while counting', code);
    },
  });
  assert.equal(
    chosenSql(failing('SQLITE_CORRUPT'), statement, bind),
    statement.sql,
    'the read may not meet it',
  );
  assert.throws(() => chosenSql(failing('SQLITE_INTERRUPT'), statement, bind), { code: 'SQLITE_INTERRUPT' });
  assert.equal(chosenSql(db, statement, bind), statement.sql, 'without indexes there is nothing to choose');
  db.close();
});

/** Clauses that decide how a SELECT is spelt and whether a search by time may end early. */
const clauses = fc.constantFrom(
  ...['', 'SORT x', 'SORT event_type ASC, y DESC', 'SORT timestamp ASC'],
  ...['TAKE 3', 'SKIP 2 TAKE 10', 'SORT timestamp ASC SKIP 1 TAKE 5', 'SORT x.y ASC SKIP 3 TAKE 7', 'SKIP 4'],
  ...['COUNT', 'COUNT BY x', 'SUM y', 'GROUP event_type MAX x', 'DISTINCT x.y', 'GROUP x, cpu_id COUNT'],
);

/** The same database as if each of its rows were `factor` rows: so many are counted, up to the limit. */
function enlarged(db: Database.Database, factor: number, onLimit: (most: number) => void) {
  return {
    prepare: (sql: string) => ({
      all: (...params: unknown[]) => {
        const rows = db.prepare(sql).all(...params) as Record<string, unknown>[];
        const most = Number(params.at(-1));
        return rows.map((row) => {
          if ('id' in row) return { id: Number(row.id) * factor };
          if (!('n' in row)) return row;
          onLimit(most);
          return { n: Math.min(Number(row.n) * factor, most) };
        });
      },
    }),
  };
}

/** The SELECT on each database that a query begins with, and whether its rows come in an order. */
function firstSelect(text: string) {
  const query = parseQuery(text);
  assert.ok(query.mode === 'EVENTS', text);
  const { stages, read } = eventsJob(query, planEvents(query, 1_000_000n));
  const [stage] = stages;
  if (stage === undefined) return { statement: read, isOrdered: true };
  assert.ok(stage.kind === 'copy', text);
  return { statement: stage.from, isOrdered: false };
}

test('[QX-11] [QX-13] [QX-23] [QX-24] [QL-31] all spellings of a query give the same rows, however much there is to count', () => {
  const records = fc.sample(recordArbitrary, { numRuns: 150, seed: 20260612 });
  const db = storeOf(...records);
  for (const field of ['x', 'y', 'x.y', 'cpu_id', 'origin_class', 'process_guid', 'boot_id', 'event_type']) {
    db.exec(createStatement(field));
  }
  const seen = new Map<string, number>();
  const note = (what: string) => seen.set(what, (seen.get(what) ?? 0) + 1);
  const spellings = ({ seeks, byTime }: IndexChoice) => [byTime, ...seeks.flatMap(({ sql }) => sql ?? [])];
  const given = fc.tuple(condition, clauses, fc.constantFrom(1, 100, 10_000, 10_000_000));
  fc.assert(
    fc.property(given, ([{ text: where }, clause, factor]) => {
      const text = `EVENTS WHERE ${where} ${clause}`;
      const { statement, isOrdered } = firstSelect(text);
      const { choice } = statement;
      if (choice === undefined) return;
      const params = statement.params.filter(
        (param) => param === null || !Object.hasOwn(Object(param), 'ranges'),
      );
      const rows = (sql: string) => {
        const all = db
          .prepare(sql)
          .raw()
          .all(...params);
        const shown = all.map((row) => inspect(row, { maxStringLength: null, maxArrayLength: null }));
        return isOrdered ? shown : shown.sort();
      };
      const expected = rows(statement.sql);
      for (const spelling of spellings(choice))
        assert.deepEqual(rows(spelling), expected, `${text}\n${spelling}`);
      const counting = enlarged(db, factor, (most) => note(`${most} rows`));
      const chosen = chosenSql(counting, statement, (values) => values);
      assert.deepEqual(rows(chosen), expected, `${text}\n${chosen}`);
      note(clause);
      note(chosen === choice.byTime ? 'by time' : chosen === statement.sql ? 'as it is' : 'by a field');
    }),
    { numRuns: 400, seed: 3 },
  );
  db.close();
  const few = fc
    .sample(clauses, 1000)
    .concat(['by time', 'as it is', 'by a field', '1000 rows', '16000 rows', '256000 rows']);
  for (const what of new Set(few)) assert.ok((seen.get(what) ?? 0) >= 5, `${what}: ${seen.get(what) ?? 0}`);
});
