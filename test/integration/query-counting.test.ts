/** Counts that are read in an index alone, beside brute force: events and log records, of all times and of some. */
import assert from 'node:assert/strict';
import { join } from 'node:path';
import { test } from 'node:test';
import Database from 'better-sqlite3';
import fc from 'fast-check';
import { addonPath, native } from '../../src/native/addon.js';
import { LOG_SCHEMA } from '../../src/stores/logSchema.js';
import { sqliteCode } from '../../src/stores/storeError.js';
import { openStore } from '../../src/stores/storeFile.js';
import { edit } from '../fixtures/database.js';
import { BOOT_ID, writeShard } from '../fixtures/eventShards.js';
import { makeStore, startService } from '../fixtures/queryService.js';
import { ask } from '../fixtures/rawQueryClient.js';
import { temporaryDirectory } from '../fixtures/singleStores.js';

/** 2026-05-01T00:00:00Z in ns. */
const T0 = 1_777_593_600_000_000_000n;
const SECOND = 1_000_000_000n;
/** Stored with a time that is still to come, as a wrong clock leaves it. */
const LATER = native.realtimeNs() + 86_400n * SECOND;

const NAMES = ['a', 'A', 'b', 'kacs.x', 'KACS.x', 'kacs.y', 'ü', 'only.later'] as const;

interface Row {
  readonly name: string;
  readonly timestamp: bigint;
}

/** Most in the order of their time, some out of it, some from the future. */
const rows: fc.Arbitrary<Row[]> = fc
  .array(
    fc.record({
      name: fc.constantFrom(...NAMES),
      jitter: fc.nat(9),
      isLater: fc.nat(9).map((n) => n === 0),
    }),
    { minLength: 40, maxLength: 60 },
  )
  .map((made) =>
    made.map(({ name, jitter, isLater }, i) => ({
      name,
      timestamp: isLater || name === 'only.later' ? LATER : T0 + BigInt(i * 5 + jitter) * SECOND,
    })),
  );

const isoOf = (second: number): string =>
  new Date(Number(T0 / 1_000_000n) + second * 1000).toISOString().slice(0, 19);
const secondOf = (second: number): bigint => T0 + BigInt(second) * SECOND;

/** A condition on the name alone, or none: as EVENTS and as LOGS spell it. */
const chosen = fc.constantFrom<readonly [events: string, logs: string, fits: (name: string) => boolean]>(
  ['', '', () => true],
  ['kacs.*', 'WHERE origin STARTS_WITH "kacs."', (name) => name.toLowerCase().startsWith('kacs.')],
  ['A', 'FROM a', (name) => name.toLowerCase() === 'a'],
  ['* WHERE event_type IN ("B", "ü")', 'FROM B, "ü"', (name) => name === 'b' || name === 'ü'],
  ['* WHERE event_type != "a"', 'WHERE origin != "a"', (name) => name.toLowerCase() !== 'a'],
  ['nothing', 'FROM nothing', () => false],
);

const question = fc.record({
  chosen,
  since: fc.option(fc.integer({ min: -10, max: 320 })),
  until: fc.option(fc.integer({ min: -10, max: 320 })),
  asked: fc.constantFrom('COUNT', 'COUNT BY', 'TOP', 'DISTINCT', 'GROUP'),
});

const byBytes = (a: string, b: string): number => Buffer.compare(Buffer.from(a), Buffer.from(b));

function expected(kept: readonly Row[], asked: string, field: string): Record<string, unknown>[] {
  if (asked === 'COUNT') return [{ count: kept.length }];
  const counts = new Map<string, number>();
  for (const { name } of kept) counts.set(name, (counts.get(name) ?? 0) + 1);
  const sorted = [...counts].sort(([a], [b]) => byBytes(a, b));
  if (asked === 'DISTINCT') return sorted.map(([name]) => ({ [field]: name }));
  const most = sorted.sort(([, a], [, b]) => b - a).map(([name, count]) => ({ [field]: name, count }));
  return asked === 'TOP' ? most.slice(0, 2) : most;
}

test('[QL-50] [QL-64] [QL-66] [QL-67] [QX-24] counts by the index agree with brute force', async (t) => {
  const [first = [], second = [], lines = []] = fc.sample(rows, { numRuns: 3, seed: 20260601 });
  const store = makeStore(t);
  for (const [index, shard] of [first, second].entries())
    writeShard(
      store.directory,
      `shard-000${index}.db`,
      shard.map(({ name, timestamp }) => ({ type: name, timestamp })),
    );
  const indexed = join(store.directory, 'shard-0001.db');
  edit(
    indexed,
    'CREATE INDEX idx_events_event_type ON events(event_type COLLATE NOCASE)',
    // As retention leaves them: ids that are missing at the beginning and in between.
    'DELETE FROM events WHERE id < 5 OR id % 7 = 0',
  );
  const events = [...first, ...second.filter((_, i) => i + 1 >= 5 && (i + 1) % 7 !== 0)];
  const db = openStore(join(store.directory, '..', 'logs.db'), LOG_SCHEMA);
  const insert = db.prepare(
    'INSERT INTO logs (boot_id, timestamp, origin, is_error, message) VALUES (?, ?, ?, 0, ?)',
  );
  for (const { name, timestamp } of lines) insert.run(BOOT_ID, timestamp, name, 'x');
  db.close();
  await startService(t, store);
  await fc.assert(
    fc.asyncProperty(question, async ({ chosen: [ofEvents, ofLogs, fits], since, until, asked }) => {
      const [from, to] = [since ?? -1000, until ?? 1_000_000];
      const range = [
        ...(since === null ? [] : [`SINCE ${isoOf(since)}`]),
        ...(until === null ? [] : [`UNTIL ${isoOf(until)}`]),
      ];
      const isKept = ({ name, timestamp }: Row): boolean =>
        fits(name) && timestamp >= secondOf(from) && timestamp < secondOf(to);
      for (const [mode, condition, field, all] of [
        ['EVENTS', ofEvents, 'event_type', events],
        ['LOGS', ofLogs, 'origin', lines],
      ] as const) {
        const spelt = new Map([
          ['COUNT', 'COUNT'],
          ['GROUP', `GROUP ${field} COUNT`],
          ['TOP', `TOP 2 BY ${field}`],
        ]);
        const text = `${mode} ${condition} ${spelt.get(asked) ?? `${asked} ${field}`} ${range.join(' ')}`;
        const answer = await ask(store.socketPath, text);
        assert.equal(answer.error, null, text);
        assert.deepEqual(answer.records, expected(all.filter(isKept), asked, field), text);
      }
    }),
    { numRuns: 60, seed: 20260602 },
  );
});

test('[QX-65] [QX-68] a deadline ends the counting of an index between two of its pages', (t) => {
  const db = new Database(join(temporaryDirectory(t), 'many.db'));
  t.after(() => db.close());
  db.loadExtension(addonPath);
  // Many pages that are read anew each time: a count is long, and is one step of the statement.
  db.pragma('page_size = 512');
  db.pragma('synchronous = OFF');
  db.pragma('journal_mode = OFF');
  db.exec(`CREATE TABLE t (id INTEGER PRIMARY KEY, n); CREATE INDEX i ON t(n);
    WITH RECURSIVE n(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i < 400000) INSERT INTO t SELECT NULL, i FROM n`);
  db.pragma('cache_size = 10');
  const slot = Number(db.prepare('SELECT eventd_slot()').pluck().get());
  const statement = db.prepare('SELECT count(*) FROM t');
  const timeOf = (run: () => void): number => {
    const started = performance.now();
    run();
    return performance.now() - started;
  };
  const whole = Math.min(...Array.from({ length: 10 }, () => timeOf(() => statement.get())));
  // On busy cores the count may be through before the deadline has its turn: one of the tries is enough.
  let cut = Number.POSITIVE_INFINITY;
  for (let tries = 0; tries < 200 && cut >= whole / 2; tries++) {
    native.slotDeadline(slot, 1);
    let code: string | null = null;
    const taken = timeOf(() => {
      try {
        statement.get();
      } catch (error) {
        code = sqliteCode(error);
      }
    });
    native.slotDeadline(slot, 0);
    if (code === 'SQLITE_INTERRUPT') cut = taken;
  }
  assert.ok(cut < whole / 2, `${cut} ms of ${whole} ms`);
});
