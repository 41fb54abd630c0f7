import { strict as assert } from 'node:assert';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { encode } from '@msgpack/msgpack';
import Database from 'better-sqlite3';
import { addonPath } from '../../src/native/addon.js';
import { SHARD_SCHEMA } from '../../src/stores/shardSchema.js';
import { withSegment } from '../fixtures/segments.js';

const directory = mkdtempSync(join(tmpdir(), 'eventd-sqlite-'));
after(() => rmSync(directory, { recursive: true }));

const BOOT = Uint8Array.from({ length: 16 }, (_, i) => i + 1);
const IDENTITY = {
  effectiveToken: new Uint8Array(16).fill(0xe1),
  trueToken: new Uint8Array(16).fill(0xe2),
  process: new Uint8Array(16).fill(0xe3),
};

let databases = 0;

function openShard(): Database.Database {
  const db = new Database(join(directory, `shard-${databases++}.db`));
  db.pragma('journal_mode = WAL');
  db.loadExtension(addonPath);
  for (const sql of SHARD_SCHEMA) db.exec(sql);
  db.defaultSafeIntegers(true);
  return db;
}

const STORE = `INSERT INTO events (boot_id, timestamp, cpu_id, sequence, origin_class, event_type,
    effective_token_guid, true_token_guid, process_guid, payload)
  SELECT ?, timestamp, cpu_id, sequence, origin_class, event_type,
    effective_token_guid, true_token_guid, process_guid, payload FROM kmes_batch(?)`;

/** The value of one SQL expression over bound parameters. */
function evaluate(db: Database.Database, expression: string, ...params: unknown[]): unknown {
  return db
    .prepare(`SELECT ${expression}`)
    .pluck()
    .get(...params);
}

const bytes = (...values: number[]) => Uint8Array.from(values);
const text = (value: string) => new TextEncoder().encode(value);

test('[STO-1] [STO-2] [STO-3] [KMES-39] one statement stores a segment: every column, payload bytes unchanged', async () => {
  const db = openShard();
  const payload = bytes(0x82, 0xa1, 0x61, 0xd2, 0, 0, 0, 5, 0xa1, 0x61, 0xca, 0x3f, 0xc0, 0, 0);
  const emissions = [
    { type: text('kacs.access.denied'), payload },
    { type: bytes(0x61, 0x00, 0xff, 0x62), payload: bytes() },
  ];
  await withSegment(directory, 7, 2, emissions, IDENTITY, (segment) => {
    assert.equal(db.prepare(STORE).run(BOOT, BigInt(segment.segment)).changes, 2);
  });
  const rows = db
    .prepare(
      `SELECT boot_id, cpu_id, sequence, origin_class, typeof(event_type) AS kind, hex(event_type) AS type,
         effective_token_guid, true_token_guid, process_guid, payload FROM events ORDER BY id`,
    )
    .all();
  const common = {
    boot_id: Buffer.from(BOOT),
    cpu_id: 7n,
    origin_class: 2n,
    kind: 'text',
    effective_token_guid: Buffer.from(IDENTITY.effectiveToken),
    true_token_guid: Buffer.from(IDENTITY.trueToken),
    process_guid: Buffer.from(IDENTITY.process),
  };
  const type = Buffer.from('kacs.access.denied').toString('hex').toUpperCase();
  assert.deepEqual(rows, [
    { ...common, sequence: 1n, type, payload: Buffer.from(payload) },
    { ...common, sequence: 2n, type: '6100FF62', payload: null },
  ]);
  const stamps = db.prepare('SELECT min(timestamp), max(timestamp) FROM events').raw().get() as bigint[];
  for (const stamp of stamps) assert.ok(stamp > 1_700_000_000_000_000_000n);
  db.close();
});

test('[STO-1] without an identity the GUID columns hold 16 zero bytes, not NULL', async () => {
  const db = openShard();
  const emissions = [{ type: text('a'), payload: bytes(0xc0) }];
  await withSegment(directory, 0, 1, emissions, null, (segment) => {
    db.prepare(STORE).run(BOOT, BigInt(segment.segment));
  });
  const row = db
    .prepare('SELECT effective_token_guid, true_token_guid, process_guid FROM events')
    .raw()
    .get();
  assert.deepEqual(row, [Buffer.alloc(16), Buffer.alloc(16), Buffer.alloc(16)]);
  db.close();
});

test('[STO-6] [STO-8] [STO-9] a lost sequence becomes a synthetic.gap row between its neighbours', async () => {
  const db = openShard();
  const event = { type: text('a'), payload: bytes(0xc0) };
  await withSegment(directory, 5, 1, [event, null, null, event], null, (segment) => {
    assert.equal(segment.gaps, 1);
    assert.equal(db.prepare(STORE).run(BOOT, BigInt(segment.segment)).changes, 3);
  });
  const rows = db.prepare('SELECT * FROM events ORDER BY id').all() as Record<string, unknown>[];
  assert.deepEqual(
    rows.map((row) => [row.event_type, row.sequence]),
    [
      ['a', 1n],
      ['synthetic.gap', null],
      ['a', 4n],
    ],
  );
  const [first, gap, last] = rows;
  assert.ok(first !== undefined && gap !== undefined && last !== undefined);
  for (const column of [
    'cpu_id',
    'origin_class',
    'effective_token_guid',
    'true_token_guid',
    'process_guid',
  ]) {
    assert.equal(gap[column], null, column);
  }
  const fields = ['cpu_id', 'first_missing', 'last_missing', 'missing_count'];
  const values = fields.map((field) => evaluate(db, `msgpack_extract(?, '$.${field}')`, gap.payload));
  assert.deepEqual(values, [5n, 2n, 3n, 2n]);
  assert.equal(evaluate(db, "msgpack_extract(?, '$.cause')", gap.payload), 'ring_loss');
  assert.equal(evaluate(db, "msgpack_extract(?, '$.last_event_timestamp')", gap.payload), first.timestamp);
  assert.equal(
    evaluate(db, "msgpack_extract(?, '$.revealing_event_timestamp')", gap.payload),
    last.timestamp,
  );
  assert.ok((gap.timestamp as bigint) >= (last.timestamp as bigint));
  db.close();
});

test('[STO-1] kmes_batch refuses what names no taken segment, and stores nothing', async () => {
  const db = openShard();
  let stale = 0n;
  await withSegment(directory, 0, 1, [{ type: text('a'), payload: bytes(0xc0) }], null, (segment) => {
    stale = BigInt(segment.segment);
  });
  for (const handle of [stale, 0n, -1n, 12345n, null, 'x']) {
    assert.throws(
      () => db.prepare(STORE).run(BOOT, handle),
      /kmes_batch: row 0: the argument names no taken segment/,
    );
  }
  assert.throws(
    () => db.prepare('SELECT * FROM kmes_batch').all(),
    /kmes_batch: the segment argument is missing/,
  );
  assert.equal(db.prepare('SELECT count(*) FROM events').pluck().get(), 0n);
  db.close();
});

test('[IDX-34] [QX-12] [QL-26] msgpack_extract maps every kind of value to SQL', () => {
  const db = openShard();
  const cases: readonly (readonly [unknown, unknown])[] = [
    [5, 5n],
    [-5, -5n],
    [true, 1n],
    [false, 0n],
    ['gr\u00fc\u00df \0 x', 'gr\u00fc\u00df \0 x'],
    [bytes(0, 1, 255), Buffer.from([0, 1, 255])],
    [1.5, 1.5],
    [null, null],
    [Number.NaN, null],
    [{ a: 1 }, null],
    [[1], null],
    [new Date(0), null],
  ];
  for (const [value, expected] of cases) {
    const payload = encode({ 'k-\u00e9': value });
    assert.deepEqual(evaluate(db, "msgpack_extract(?, '$.k-\u00e9')", payload), expected);
  }
  const big = encode({ k: 2n ** 63n - 1n, l: 2n ** 63n }, { useBigInt64: true });
  assert.equal(evaluate(db, "msgpack_extract(?, '$.k')", big), 2n ** 63n - 1n);
  assert.equal(evaluate(db, "msgpack_extract(?, '$.l')", big), 2 ** 63);
  const float32 = bytes(0x81, 0xa1, 0x6b, 0xca, 0x3f, 0xc0, 0, 0);
  assert.equal(evaluate(db, "msgpack_extract(?, '$.k')", float32), 1.5);
  db.close();
});

test('[QL-41] [QL-44] paths: nested maps, first duplicate, string keys; bad payloads and paths give NULL', () => {
  const db = openShard();
  const nested = encode({ source: { name: 'loginuid', deep: { er: 1 } }, list: [1] });
  assert.equal(evaluate(db, "msgpack_extract(?, '$.source.name')", nested), 'loginuid');
  assert.equal(evaluate(db, "msgpack_extract(?, '$.source.deep.er')", nested), 1n);
  assert.equal(evaluate(db, "msgpack_extract(?, '$.list.0')", nested), null);
  assert.equal(evaluate(db, "msgpack_extract(?, '$.source.name.x')", nested), null);
  const duplicate = bytes(0x82, 0xa1, 0x61, 1, 0xa1, 0x61, 2);
  assert.equal(evaluate(db, "msgpack_extract(?, '$.a')", duplicate), 1n);
  const cut = bytes(0x82, 0xa1, 0x61, 1, 0xa1, 0x62);
  for (const payload of [cut, bytes(), bytes(0xc1), bytes(0x91, 1), null, 'text', 5n]) {
    assert.equal(evaluate(db, "msgpack_extract(?, '$.a')", payload), null);
    assert.equal(evaluate(db, "msgpack_kind(?, '$.a')", payload), 0n);
    assert.equal(evaluate(db, "msgpack_order(?, '$.a', 1)", payload), null);
    assert.equal(evaluate(db, "msgpack_guid(?, '$.a')", payload), null);
  }
  for (const path of ['a', '$', '$.', '', '$a', '$[0]', null, 5n]) {
    assert.equal(evaluate(db, 'msgpack_extract(?, ?)', duplicate, path), null);
  }
  db.close();
});

test('[QX-12] [QL-30] [QL-31] msgpack_kind tells presence and type apart', () => {
  const db = openShard();
  const kinds: readonly (readonly [unknown, bigint])[] = [
    [null, 0n],
    [Number.NaN, 0n],
    [0, 1n],
    [-1, 1n],
    [1.5, 1n],
    [false, 2n],
    ['', 3n],
    [bytes(), 4n],
    [{}, 5n],
    [[], 5n],
    [new Date(0), 5n],
  ];
  for (const [value, kind] of kinds) {
    assert.equal(evaluate(db, "msgpack_kind(?, '$.k')", encode({ k: value })), kind, String(value));
  }
  assert.equal(evaluate(db, "msgpack_kind(?, '$.missing')", encode({ k: 1 })), 0n);
  db.close();
});

test('[QL-23] [QL-26] msgpack_order compares by exact mathematical value', () => {
  const db = openShard();
  const order = (value: unknown, literal: unknown) =>
    evaluate(db, "msgpack_order(?, '$.k', ?)", encode({ k: value }, { useBigInt64: true }), literal);
  assert.equal(order(2n ** 64n - 1n, '18446744073709551615'), 0n);
  assert.equal(order(2n ** 64n - 2n, '18446744073709551615'), -1n);
  assert.equal(order(2n ** 64n - 1n, 2 ** 64), -1n);
  assert.equal(order(2n ** 63n, 2n ** 63n - 1n), 1n);
  assert.equal(order(2n ** 53n + 1n, 2 ** 53), 1n);
  assert.equal(order(-1n, '18446744073709551615'), -1n);
  assert.equal(order(2.5, 2n), 1n);
  assert.equal(order(2.5, 2.5), 0n);
  assert.equal(order(true, 1n), 0n);
  assert.equal(order('5', 5n), null);
  assert.equal(order(Number.NaN, 5n), null);
  assert.equal(order(5n, 'five'), null);
  assert.equal(order(5n, null), null);
  db.close();
});

test('[QL-18] [QL-46] msgpack_guid reads a GUID string into stored byte order', () => {
  const db = openShard();
  const stored = Buffer.from(BOOT);
  for (const guid of ['{04030201-0605-0807-090a-0b0c0d0e0f10}', '04030201-0605-0807-090A-0B0C0D0E0F10']) {
    assert.deepEqual(evaluate(db, "msgpack_guid(?, '$.g')", encode({ g: guid })), stored);
  }
  for (const other of ['', 'x', '04030201-0605-0807-090a-0b0c0d0e0f1', 5, stored, null]) {
    assert.equal(evaluate(db, "msgpack_guid(?, '$.g')", encode({ g: other })), null);
  }
  db.close();
});

test('[QL-20] [QL-21] [QL-29] [QL-60] text functions fold ASCII only and give 0 for what is no text', () => {
  const db = openShard();
  const cases: readonly (readonly [string, string, string, bigint])[] = [
    ['ascii_contains', 'Access DENIED here', 'denied', 1n],
    ['ascii_contains', 'Access', 'x', 0n],
    ['ascii_contains', '\u00dcber', '\u00fcber', 0n],
    ['ascii_contains', 'a%b', '%', 1n],
    ['ascii_contains', 'a*b', '*', 1n],
    ['ascii_contains', 'ab', '*', 0n],
    ['ascii_contains', 'a\0b\0c', '\0C', 1n],
    ['ascii_starts', 'LOGIN', 'lo', 1n],
    ['ascii_starts', 'xlo', 'lo', 0n],
    ['ascii_ends', 'login', 'IN', 1n],
    ['ascii_ends', 'login', 'inx', 0n],
    ['ascii_glob', 'KACS.x.denied', 'kacs.*.DENIED', 1n],
    ['ascii_glob', 'kacs.denied', 'kacs.*.denied', 0n],
    ['ascii_glob', 'kacs.ab', 'kacs.a?', 0n],
    ['ascii_glob', 'a[b]{c}', 'A[B]{C}', 1n],
  ];
  for (const [name, subject, pattern, expected] of cases) {
    assert.equal(evaluate(db, `${name}(?, ?)`, subject, pattern), expected, `${name} ${subject} ${pattern}`);
  }
  for (const name of ['ascii_contains', 'ascii_starts', 'ascii_ends', 'ascii_glob']) {
    for (const other of [null, 5n, 1.5, bytes(0x61)]) {
      assert.equal(evaluate(db, `${name}(?, ?)`, other, ''), 0n);
      assert.equal(evaluate(db, `${name}(?, ?)`, 'a', other), 0n);
    }
  }
  db.close();
});

test('[QL-60] a pattern that changes from row to row is never taken for the one before', () => {
  const db = openShard();
  const rows = db
    .prepare("WITH p(x) AS (VALUES ('a*'), ('b*'), ('*a')) SELECT ascii_glob('abba', x) FROM p")
    .pluck()
    .all();
  assert.deepEqual(rows, [1n, 0n, 1n]);
  const payload = encode({ a: 1, b: 2 });
  const values = db
    .prepare("WITH p(x) AS (VALUES ('$.a'), ('$.b'), ('$.c')) SELECT msgpack_extract(?, x) FROM p")
    .pluck()
    .all(payload);
  assert.deepEqual(values, [1n, 2n, null]);
  db.close();
});

test('[IDX-31] [QX-11] an expression index on a payload path is kept by inserts and used by queries', () => {
  const db = openShard();
  const insert = db.prepare(
    "INSERT INTO events (boot_id, timestamp, event_type, payload) VALUES (?, ?, 't', ?)",
  );
  for (let i = 0n; i < 200n; i++)
    insert.run(BOOT, i, encode({ granted_access: Number(i % 10n), name: `N${i % 7n}` }));
  insert.run(BOOT, 1000n, bytes(0xc1));
  db.exec("CREATE INDEX i ON events(msgpack_extract(payload, '$.granted_access'))");
  db.exec("CREATE INDEX n ON events(msgpack_extract(payload, '$.name') COLLATE NOCASE)");
  for (let i = 200n; i < 300n; i++)
    insert.run(BOOT, i, encode({ granted_access: Number(i % 10n), name: `N${i % 7n}` }));
  const byNumber = "SELECT count(*) FROM events WHERE msgpack_extract(payload, '$.granted_access') = 3";
  const byName = "SELECT count(*) FROM events WHERE msgpack_extract(payload, '$.name') = 'n3' COLLATE NOCASE";
  for (const [sql, index, count] of [
    [byNumber, 'INDEX i ', 30n],
    [byName, 'INDEX n ', 43n],
  ] as const) {
    const plan = db.prepare(`EXPLAIN QUERY PLAN ${sql}`).all() as { detail: string }[];
    assert.ok(
      plan.some((step) => step.detail.includes(index)),
      plan.map((step) => step.detail).join('; '),
    );
    assert.equal(db.prepare(sql).pluck().get(), count);
  }
  assert.deepEqual(db.pragma('integrity_check'), [{ integrity_check: 'ok' }]);
  db.close();
});
