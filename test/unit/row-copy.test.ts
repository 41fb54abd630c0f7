/** Native copies between real databases. */
import assert from 'node:assert/strict';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import Database from 'better-sqlite3';
import { addonPath, type CopyOptions, type GroupOptions, native } from '../../src/native/addon.js';
import { temporaryDirectory } from '../fixtures/singleStores.js';

interface Ends {
  readonly source: Database.Database;
  readonly target: Database.Database;
  readonly from: number;
  readonly into: number;
}

function ends(t: TestContext): Ends {
  const open = (path: string): Database.Database => {
    const db = new Database(path);
    db.loadExtension(addonPath);
    db.defaultSafeIntegers(true);
    t.after(() => db.close());
    return db;
  };
  const source = open(join(temporaryDirectory(t), 'source.db'));
  const target = open(':memory:');
  const slot = (db: Database.Database) => Number(db.prepare('SELECT eventd_slot()').pluck().get());
  return { source, target, from: slot(source), into: slot(target) };
}

interface Copying {
  readonly select: string;
  readonly insert: string;
  readonly params?: CopyOptions['from']['params'];
  readonly group?: GroupOptions & { readonly maxBytes: number };
}

const open = ({ from, into }: Ends, { select, insert, params = [], group }: Copying) =>
  native.copyOpen({
    from: { slot: from, sql: select, params },
    into: { slot: into, sql: insert },
    group: group ?? null,
  });

/** Copies to the end in steps of this size; returns how many steps it took. */
function copyAll(both: Ends, copying: Copying, maxRows = 1000, maxBytes = 65536): number {
  const copy = open(both, copying);
  try {
    for (let steps = 1; ; steps++) {
      const { done, waitingBytes, rows } = native.copyStep(copy, maxRows, maxBytes);
      assert.ok(rows <= maxRows);
      if (done) return steps;
      assert.ok(waitingBytes <= maxBytes, `a row of ${waitingBytes} bytes never fits`);
    }
  } finally {
    native.copyClose(copy);
  }
}

const NUMBERS = `WITH RECURSIVE n(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i + 1 < ?)`;
const ENDLESS = 'WITH RECURSIVE n(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n)';

test('[QX-24] a copy keeps the type and the bytes of every value', (t) => {
  const both = ends(t);
  const values =
    "(1, -9223372036854775808), (1.0, 1e300), ('a' || char(0) || 'b', ''), (x'', x'00ff'), (NULL, 'é')";
  both.source.exec(`CREATE TABLE s (a, b); INSERT INTO s VALUES ${values}`);
  both.target.exec('CREATE TABLE t (a, b)');
  copyAll(both, { select: 'SELECT a, b FROM s', insert: 'INSERT INTO t VALUES (?, ?)' });
  const shown = 'SELECT typeof(a), quote(a), typeof(b), quote(b), hex(a) FROM';
  assert.deepEqual(
    both.target.prepare(`${shown} t`).raw().all(),
    both.source.prepare(`${shown} s`).raw().all(),
  );
});

test('[QX-24] a step ends at its rows and bytes; a larger row waits until there is room for it', (t) => {
  const both = ends(t);
  both.target.exec('CREATE TABLE t (a)');
  const copying = {
    select: `${NUMBERS} SELECT i FROM n`,
    params: [1000n],
    insert: 'INSERT INTO t VALUES (?)',
  };
  assert.equal(copyAll(both, copying, 300), 4);
  // 16 bytes a value: 10 rows.
  assert.equal(copyAll(both, copying, 300, 160), 100);
  assert.equal(both.target.prepare('SELECT count(*) FROM t').pluck().get(), 2000n);
  const copy = open(both, { select: 'SELECT zeroblob(5000)', insert: 'INSERT INTO t VALUES (?)' });
  assert.deepEqual(native.copyStep(copy, 10, 1000), { rows: 0, waitingBytes: 5016, done: false });
  assert.deepEqual(native.copyStep(copy, 10, 5016), { rows: 1, waitingBytes: 0, done: true });
  native.copyClose(copy);
});

test('[QX-67] a step that searches for long ends when its time is over, and goes on from there', (t) => {
  const both = ends(t);
  both.target.exec('CREATE TABLE t (a)');
  const copying = {
    select: `${NUMBERS} SELECT i FROM n WHERE ascii_ends('' || i, '99999')`,
    params: [200_000n],
    insert: 'INSERT INTO t VALUES (?)',
  };
  const copy = open(both, copying);
  const nothing = { rows: 0, waitingBytes: 0, done: false };
  assert.deepEqual(native.copyStep(copy, 10, 1000, 1), nothing);
  assert.deepEqual(native.copyRead([copy], 10), [true]);
  let slices = 1;
  let slice = nothing;
  while (slice.rows === 0 && !slice.done) {
    slice = native.copyStep(copy, 10, 1000, 1);
    slices++;
  }
  assert.deepEqual([slice.rows, slice.done], [2, true]);
  assert.ok(slices > 3, `${slices} slices`);
  native.copyClose(copy);
  assert.deepEqual(both.target.prepare('SELECT a FROM t').pluck().all(), [99_999n, 199_999n]);
  const left = open(both, copying);
  assert.deepEqual(native.copyStep(left, 10, 1000, 1), nothing);
  native.copyClose(left);
  both.source.exec('CREATE TABLE free (a)');
});

test('[QX-67] databases that are read at the same time are left and taken up again, too, by whichever thread', (t) => {
  const { target, into, ...first } = ends(t);
  const sources = [first, ends(t), ends(t), ends(t)];
  target.exec('CREATE TABLE t (k PRIMARY KEY, type, n) WITHOUT ROWID');
  const copying = {
    ...COUNTED,
    select: `${NUMBERS} SELECT i FROM n WHERE ascii_ends('' || i, '99999')`,
    params: [200_000n],
  };
  let running = sources.map(({ from, source }) => open({ source, target, from, into }, copying));
  const [left] = running.splice(3);
  assert.ok(left !== undefined && native.copyRead([...running, left], 100_000, 1)[3] === false);
  native.copyClose(left);
  let slices = 1;
  while (running.length > 0) {
    const isUp = native.copyRead(running, 100_000, 1);
    running = running.filter((copy, i) => isUp[i] !== true || !native.copyStep(copy, 1000, 65536, 1).done);
    slices++;
  }
  assert.ok(slices > 3, `${slices} slices`);
  assert.deepEqual(target.prepare('SELECT sum(n), count(*) FROM t').raw().get(), [6n, 2n]);
});

test('[QX-24] groups come out complete, however small their table', (t) => {
  const both = ends(t);
  for (const maxBytes of [1, 20_000, 1 << 22]) {
    both.target.exec('DROP TABLE IF EXISTS t; CREATE TABLE t (k PRIMARY KEY, type, n) WITHOUT ROWID');
    copyAll(both, {
      select: `${NUMBERS} SELECT i % 500 FROM n`,
      params: [5000n],
      insert: 'INSERT INTO t VALUES (?, ?, ?) ON CONFLICT DO UPDATE SET n = n + excluded.n',
      group: { keys: [{ encoded: false }], function: 'count', maxBytes },
    });
    const counts = both.target.prepare('SELECT count(*), min(n), max(n), sum(n) FROM t').raw().get();
    assert.deepEqual(counts, [500n, 10n, 10n, 5000n], `${maxBytes} bytes`);
  }
});

test('[QX-24] a total counts rows by what they say, below zero too, however they are divided', (t) => {
  const both = ends(t);
  for (const maxBytes of [1, 1 << 22]) {
    both.target.exec('DROP TABLE IF EXISTS t; CREATE TABLE t (k PRIMARY KEY, type, n) WITHOUT ROWID');
    copyAll(both, {
      select: `SELECT * FROM (${NUMBERS} SELECT i % 5, iif(i < 10, -1, 2) FROM n)`,
      params: [20n],
      insert: COUNTED.insert,
      group: { keys: [{ encoded: false }], function: 'total', maxBytes },
    });
    const counts = both.target.prepare('SELECT count(*), min(n), max(n) FROM t').raw().get();
    assert.deepEqual(counts, [5n, 2n, 2n], `${maxBytes} bytes`);
  }
});

const COUNTED = {
  insert: 'INSERT INTO t VALUES (?, ?, ?) ON CONFLICT DO UPDATE SET n = n + excluded.n',
  group: { keys: [{ encoded: false }], function: 'count', maxBytes: 20_000 },
} as const;

test('[QX-23] [QX-24] databases read at the same time give all their groups, in small slices too', (t) => {
  const { target, into, ...first } = ends(t);
  const sources = [first, ends(t), ends(t)];
  for (const slice of [1, 1000, 1_000_000]) {
    target.exec('DROP TABLE IF EXISTS t; CREATE TABLE t (k PRIMARY KEY, type, n) WITHOUT ROWID');
    const copies = sources.map(({ from }, index) =>
      open(
        { ...first, target, from, into },
        { ...COUNTED, select: `${NUMBERS} SELECT i % 500 FROM n`, params: [BigInt(5000 * (index + 1))] },
      ),
    );
    for (let open = copies; open.length > 0; ) {
      const isUp = native.copyRead(open, slice);
      assert.equal(isUp.length, open.length);
      open = open.filter((copy, index) => isUp[index] !== true || !native.copyStep(copy, 1000, 65536).done);
    }
    for (const copy of copies) native.copyClose(copy);
    const counts = target.prepare('SELECT count(*), min(n), max(n), sum(n) FROM t').raw().get();
    assert.deepEqual(counts, [500n, 60n, 60n, 30_000n], `slices of ${slice}`);
  }
});

test('[QX-23] [QX-68] of databases read at the same time each fails by itself, at its next step', (t) => {
  const { target, into, ...first } = ends(t);
  const second = ends(t);
  target.exec('CREATE TABLE t (k PRIMARY KEY, type, n) WITHOUT ROWID');
  const both = { ...first, target, into };
  const endless = open(both, { ...COUNTED, select: `${ENDLESS} SELECT i FROM n WHERE i < 0` });
  const sound = open({ ...both, from: second.from }, { ...COUNTED, select: 'SELECT 7' });
  native.slotDeadline(first.from, 20);
  assert.deepEqual(native.copyRead([endless, sound], 1000), [true, true]);
  native.slotDeadline(first.from, 0);
  assert.throws(() => native.copyStep(endless, 10, 1000), { code: 'SQLITE_INTERRUPT' });
  assert.deepEqual(native.copyStep(sound, 10, 1000), { rows: 1, waitingBytes: 0, done: true });
  assert.deepEqual(native.copyRead([endless, sound], 1000), [true, true]);
  native.copyClose(endless);
  native.copyClose(sound);
  assert.throws(() => native.copyRead([sound], 1000), { code: 'ERR_HANDLE' });
  assert.ok(native.copyWidth() >= 1);
});

test('[QX-68] a deadline ends a copy inside a step, on either side; then it stays ended', (t) => {
  const both = ends(t);
  both.target.exec('CREATE TABLE t (a)');
  const cases: readonly (Copying & { readonly slot: number })[] = [
    { select: `${ENDLESS} SELECT max(i) FROM n`, insert: 'INSERT INTO t VALUES (?)', slot: both.from },
    { select: 'SELECT 1', insert: `INSERT INTO t ${ENDLESS} SELECT max(i) + ? FROM n`, slot: both.into },
    {
      select: `${ENDLESS} SELECT i FROM n WHERE i < 0`,
      insert: 'INSERT INTO t VALUES (?, ?)',
      group: { keys: [{ encoded: false }], function: 'distinct', maxBytes: 1000 },
      slot: both.from,
    },
  ];
  both.target.exec('DROP TABLE t; CREATE TABLE t (a)');
  for (const { slot, ...copying } of cases.slice(0, 2)) interrupted(both, copying, slot);
  both.target.exec('DROP TABLE t; CREATE TABLE t (a, b)');
  for (const { slot, ...copying } of cases.slice(2)) interrupted(both, copying, slot);
});

function interrupted(both: Ends, copying: Copying, slot: number): void {
  const copy = open(both, copying);
  native.slotDeadline(slot, 20);
  assert.throws(() => native.copyStep(copy, 10, 1000), { code: 'SQLITE_INTERRUPT' });
  native.slotDeadline(slot, 0);
  assert.throws(() => native.copyStep(copy, 10, 1000), { code: 'SQLITE_INTERRUPT' });
  native.copyClose(copy);
  assert.throws(() => native.copyStep(copy, 10, 1000), { code: 'ERR_HANDLE' });
}

test('[QX-24] statements that do not fit are refused before anything is read', (t) => {
  const both = ends(t);
  both.source.exec('CREATE TABLE s (a)');
  both.target.exec('CREATE TABLE t (a, b)');
  const insert = 'INSERT INTO t VALUES (?, ?)';
  const group = { keys: [{ encoded: false }], function: 'sum', maxBytes: 1000 } as const;
  const refused: readonly (Copying & { readonly code: string })[] = [
    { select: 'SELECT 1', insert, code: 'SQLITE_MISUSE' },
    { select: 'SELECT 1, 2; SELECT 3, 4', insert, code: 'SQLITE_MISUSE' },
    { select: 'DELETE FROM s RETURNING a, a', insert, code: 'SQLITE_MISUSE' },
    { select: 'SELECT 1, 2', insert: 'SELECT ?, ?', code: 'SQLITE_MISUSE' },
    { select: 'SELECT 1, 2', insert, group, code: 'SQLITE_MISUSE' },
    { select: 'SELECT 1, 2, 3', insert: 'INSERT INTO t VALUES (?, ? + ?)', group, code: 'SQLITE_MISUSE' },
    { select: 'SELECT nothing', insert, code: 'SQLITE_ERROR' },
    { select: 'SELECT 1, ?', insert, code: 'SQLITE_RANGE' },
  ];
  for (const { code, ...copying } of refused)
    assert.throws(() => open(both, copying), { code }, copying.select);
  // Nothing is left behind that would keep a connection from closing.
  both.source.close();
  both.target.close();
});
