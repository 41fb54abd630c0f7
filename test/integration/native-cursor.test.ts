import { strict as assert } from 'node:assert';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { Worker } from 'node:worker_threads';
import { decode, encode } from '@msgpack/msgpack';
import Database from 'better-sqlite3';
import {
  addonPath,
  type CursorField,
  type CursorHandle,
  type CursorOptions,
  EVENT_COLUMNS,
  native,
  type SqlValue,
} from '../../src/native/addon.js';
import { BOOT_ID, type EventRow, gapRow, writeShard } from '../fixtures/eventShards.js';

const directory = mkdtempSync(join(tmpdir(), 'eventd-cursor-'));
after(() => rmSync(directory, { recursive: true }));

type EventRecord = Readonly<Record<string, unknown>>;

interface Opened {
  readonly db: Database.Database;
  readonly slot: number;
}

function open(path: string): Opened {
  const db = new Database(path, { readonly: true });
  db.loadExtension(addonPath);
  return { db, slot: db.prepare('SELECT eventd_slot()').pluck().get() as number };
}

let files = 0;

/** Opened shards with these rows, one file each. */
function shards(...rows: readonly (readonly EventRow[])[]): Opened[] {
  return rows.map((one) => open(writeShard(directory, `shard-${String(files++).padStart(4, '0')}.db`, one)));
}

function close(opened: readonly Opened[]): void {
  for (const { db } of opened) db.close();
}

const COLUMNS = [...EVENT_COLUMNS, 'payload'].join(', ');

/** Options of a cursor over all shards, sorted by these SQL expressions. */
function options(
  opened: readonly Opened[],
  keys: readonly { sql: string; descending: boolean }[],
  more: Partial<CursorOptions> & { where?: string; params?: readonly SqlValue[] } = {},
): CursorOptions {
  const order = keys.map(({ descending }, i) => `${i + 1} ${descending ? 'DESC' : 'ASC'}`).join(', ');
  const { where = '1', params = [], ...rest } = more;
  const sql = `SELECT ${keys.map((key) => `${key.sql}, `).join('')}${COLUMNS} FROM events WHERE ${where}${
    order === '' ? '' : ` ORDER BY ${order}`
  }`;
  return {
    parts: opened.map(({ slot }) => ({ slot, sql, params })),
    sort: keys.map(({ descending }) => ({ descending })),
    skip: 0n,
    take: null,
    fields: null,
    encoded: false,
    ...rest,
  };
}

/** Decodes strictly what a frame carries, and checks its shape. */
function recordsOf(frame: Uint8Array): EventRecord[] {
  const length = new DataView(frame.buffer, frame.byteOffset).getUint32(0, true);
  assert.equal(length, frame.length - 4);
  assert.equal(frame.byteOffset, 0);
  assert.ok(frame.buffer.byteLength - frame.length < 64 * 1024, 'little more memory than the frame needs');
  const message = decode(frame.subarray(4), { useBigInt64: true }) as {
    status: string;
    records: EventRecord[];
  };
  assert.deepEqual(Object.keys(message), ['status', 'records']);
  assert.equal(message.status, 'ok');
  return message.records;
}

/** Everything a cursor yields, fetched in pieces of this many records. */
function drain(cursor: CursorHandle, piece = 1000): EventRecord[] {
  const records: EventRecord[] = [];
  for (;;) {
    const chunk = native.cursorFetch(cursor, piece, 1 << 20);
    const decoded = recordsOf(chunk.frame);
    assert.equal(decoded.length, chunk.records);
    assert.ok(chunk.records <= piece);
    records.push(...decoded);
    if (chunk.done) break;
    assert.ok(chunk.records > 0);
  }
  native.cursorClose(cursor);
  return records;
}

const names = (records: readonly EventRecord[]) => records.map((record) => record.n);
const field = (name: string, column = -1, path = name.split('.')): CursorField => ({ name, column, path });
const TIME = [{ sql: 'timestamp', descending: false }];
const NEWEST = [{ sql: 'timestamp', descending: true }];

test('[QL-78] [QL-120] [QL-122] [WIRE-5] [WIRE-10] a full record: columns as wire types, payload pairs spliced', () => {
  const opened = shards([
    {
      timestamp: 1_800_000_000_000_000_001n,
      type: 'kacs.denied',
      cpu: 3,
      sequence: 2n ** 60n,
      origin: 2,
      payload: {
        text: 'gr\u00fc\u00df',
        whole: 1.5,
        big: 2n ** 64n - 1n,
        nested: { a: [1n, null] },
        nil: null,
      },
    },
    gapRow(1_800_000_000_000_000_002n, 5, 10n, 12n),
  ]);
  const [event, gap] = drain(native.cursorOpen(options(opened, TIME)));
  assert.ok(event !== undefined && gap !== undefined);
  assert.deepEqual(Object.keys(event), [...EVENT_COLUMNS, 'text', 'whole', 'big', 'nested', 'nil']);
  assert.equal(event.timestamp, 1_800_000_000_000_000_001n);
  assert.equal(event.sequence, 2n ** 60n);
  assert.equal(event.event_type, 'kacs.denied');
  assert.equal(event.boot_id, '{04030201-0605-0807-090a-0b0c0d0e0f10}');
  assert.equal(BOOT_ID[0], 1);
  assert.equal(event.text, 'gr\u00fc\u00df');
  assert.equal(event.big, 2n ** 64n - 1n);
  assert.deepEqual(event.nested, { a: [1n, null] });
  assert.equal(event.nil, null);
  assert.equal(gap.event_type, 'synthetic.gap');
  assert.equal(Number(gap.cpu_id), 5);
  assert.equal(gap.sequence, null);
  assert.equal(gap.process_guid, null);
  assert.equal(Number(gap.missing_count), 3);
  assert.equal(Object.keys(gap).length, EVENT_COLUMNS.length + 6);
  close(opened);
});

test('[WIRE-10] stored text and payload strings that are not valid UTF-8 decode strictly, as U+FFFD', () => {
  const payload = Uint8Array.of(0x82, 0xa2, 0x6b, 0xff, 0x91, 0xa1, 0xfe, 0xa1, 0x7a, 0xa2, 0xc3, 0x28);
  const opened = shards([{ timestamp: 1n, payload }]);
  const { db, slot } = opened[0] as Opened;
  const sql = `SELECT timestamp, ${COLUMNS.replace('event_type', "CAST(x'61ff62' AS TEXT)")} FROM events`;
  const cursor = native.cursorOpen({ ...options(opened, TIME), parts: [{ slot, sql, params: [] }] });
  const [record] = drain(cursor);
  assert.equal(record?.event_type, 'a\ufffdb');
  assert.deepEqual(record?.['k\ufffd'], ['\ufffd']);
  assert.equal(record?.z, '\ufffd(');
  db.close();
});

test('[QL-70] [QX-23] rows of three shards come out in one order, ascending and descending', () => {
  const opened = shards(
    [1n, 4n, 7n, 7n].map((t) => ({ timestamp: t, payload: { n: `a${t}` } })),
    [],
    [2n, 4n, 8n].map((t) => ({ timestamp: t, payload: { n: `c${t}` } })),
    [0n, 4n, 9n].map((t) => ({ timestamp: t, payload: { n: `d${t}` } })),
  );
  const ascending = ['d0', 'a1', 'c2', 'a4', 'c4', 'd4', 'a7', 'a7', 'c8', 'd9'];
  assert.deepEqual(names(drain(native.cursorOpen(options(opened, TIME)), 3)), ascending);
  const descending = ['d9', 'c8', 'a7', 'a7', 'a4', 'c4', 'd4', 'c2', 'a1', 'd0'];
  assert.deepEqual(names(drain(native.cursorOpen(options(opened, NEWEST)), 1)), descending);
  close(opened);
});

test('[QL-71] merged keys follow SQLite order: NULL, numbers exactly, text by bytes, blobs', () => {
  const values: unknown[] = [
    null,
    1.5,
    2n ** 53n,
    2 ** 53,
    2n ** 53n + 1n,
    -1n,
    'a',
    'B',
    'aa',
    '\u{1f600}',
    '\uffff',
  ];
  values.push(
    '',
    Uint8Array.of(),
    Uint8Array.of(0, 1),
    Uint8Array.of(0),
    Uint8Array.of(255),
    0n,
    -0.5,
    1e300,
    -1e300,
  );
  const rows: EventRow[][] = [[], [], []];
  for (let i = 0; i < 300; i++) {
    const row = { timestamp: BigInt(i % 7), payload: { k: values[(i * 7) % values.length], n: i } };
    rows[(i * i) % 3]?.push(row);
  }
  const opened = shards(...rows);
  const all = shards(rows.flat());
  for (const descending of [false, true]) {
    const keys = [
      { sql: "msgpack_extract(payload, '$.k')", descending },
      { sql: 'timestamp', descending: !descending },
      { sql: "msgpack_extract(payload, '$.n')", descending: false },
    ];
    const merged = names(drain(native.cursorOpen(options(opened, keys)), 17));
    assert.equal(merged.length, 300);
    assert.deepEqual(merged, names(drain(native.cursorOpen(options(all, keys)))));
  }
  close([...opened, ...all]);
});

test('[QL-53] [QL-54] SKIP and TAKE act on the merged order, and reading stops there', () => {
  const rows = (from: number) =>
    Array.from({ length: 50 }, (_, i) => ({ timestamp: BigInt(i * 3 + from), payload: { n: i * 3 + from } }));
  const opened = shards(rows(0), rows(1), rows(2));
  const take = (skip: bigint, limit: bigint | null) =>
    names(drain(native.cursorOpen(options(opened, TIME, { skip, take: limit })), 4)).map(Number);
  assert.deepEqual(take(10n, 5n), [10, 11, 12, 13, 14]);
  assert.deepEqual(take(148n, 5n), [148, 149]);
  assert.deepEqual(take(149n, null), [149]);
  assert.deepEqual(take(150n, null), []);
  assert.deepEqual(take(2n ** 64n - 1n, null), []);
  assert.deepEqual(take(0n, 0n), []);
  assert.equal(take(0n, null).length, 150);
  close(opened);
});

test('[WIRE-7] frames end at the record or byte limit; nothing at all is one empty frame', () => {
  const opened = shards(
    Array.from({ length: 30 }, (_, i) => ({
      timestamp: BigInt(i),
      payload: { n: i, fill: 'x'.repeat(1000) },
    })),
  );
  const cursor = native.cursorOpen(options(opened, TIME));
  assert.equal(native.cursorFetch(cursor, 7, 1 << 20).records, 7);
  const bySize = native.cursorFetch(cursor, 1000, 5000);
  assert.ok(bySize.records >= 4 && bySize.records <= 5 && !bySize.done);
  assert.equal(native.cursorFetch(cursor, 1000, 1).records, 1);
  const rest = native.cursorFetch(cursor, 1000, 1 << 20);
  assert.equal(rest.records, 30 - 8 - bySize.records);
  assert.equal(rest.done, true);
  const again = native.cursorFetch(cursor, 1000, 1 << 20);
  assert.deepEqual([again.records, again.done, recordsOf(again.frame)], [0, true, []]);
  native.cursorClose(cursor);
  const none = native.cursorFetch(native.cursorOpen(options([], TIME)), 1, 1);
  assert.deepEqual([none.records, none.done, recordsOf(none.frame)], [0, true, []]);
  close(opened);
});

test('[QX-26] [WIRE-7] a frame is written into the memory of a spent one where it fits', () => {
  const opened = shards(
    Array.from({ length: 40 }, (_, i) => ({
      timestamp: BigInt(i),
      payload: { n: i, fill: 'x'.repeat(i < 20 ? 10_000 : 10_100) },
    })),
  );
  const cursor = native.cursorOpen(options(opened, TIME));
  const first = native.cursorFetch(cursor, 1000, 150_000);
  const spent = first.frame.buffer as ArrayBuffer;
  const longer = native.cursorFetch(cursor, 1000, first.frame.length + 1000, spent);
  assert.ok(longer.frame.length > first.frame.length);
  assert.equal(longer.frame.buffer, spent, 'a little more fits');
  const small = native.cursorFetch(cursor, 1, 1000, spent);
  assert.deepEqual([small.frame.buffer === spent, small.frame.byteOffset, small.records], [true, 0, 1]);
  assert.equal(small.frame.length, new DataView(spent).getUint32(0, true) + 4);
  const large = native.cursorFetch(cursor, 1000, 1 << 20, new ArrayBuffer(100));
  assert.ok(large.done && large.frame.length > 50_000);
  assert.equal(first.records + longer.records + small.records + large.records, 40);
  native.cursorClose(cursor);
  close(opened);
});

test('[WIRE-7] a frame has memory of its own, so that it can be handed to another thread', () => {
  const opened = shards([
    { timestamp: 1n, payload: { n: 1 } },
    { timestamp: 2n, payload: { n: 2 } },
  ]);
  const cursor = native.cursorOpen(options(opened, TIME));
  const first = native.cursorFetch(cursor, 1, 1000).frame;
  const moved = structuredClone(first, { transfer: [first.buffer as ArrayBuffer] });
  native.cursorFetch(cursor, 1, 1000);
  assert.equal(first.length, 0);
  assert.deepEqual(names(recordsOf(moved)).map(Number), [1]);
  native.cursorClose(cursor);
  close(opened);
});

test('[QL-62] [QL-45] [QL-47] [QL-122] SELECT: chosen fields in their order, NULL columns from the payload', () => {
  const opened = shards([
    { timestamp: 1n, cpu: 4, payload: { source: { name: 'x' }, nil: null, cpu_id: 9 } },
    gapRow(2n, 6, 1n, 1n),
  ]);
  const fields = [
    field('source.name'),
    field('cpu_id', 1),
    field('nil'),
    field('absent'),
    field('sequence', 2),
  ];
  const [event, gap] = drain(native.cursorOpen(options(opened, TIME, { fields })));
  assert.deepEqual(Object.keys(event ?? {}), ['source.name', 'cpu_id', 'nil', 'sequence']);
  assert.deepEqual([event?.['source.name'], Number(event?.cpu_id), event?.nil], ['x', 4, null]);
  assert.deepEqual(Object.keys(gap ?? {}), ['cpu_id', 'sequence']);
  assert.deepEqual([Number(gap?.cpu_id), gap?.sequence], [6, null]);
  const nothing = drain(native.cursorOpen(options(opened, TIME, { fields: [] })));
  assert.deepEqual(nothing, [{}, {}]);
  close(opened);
});

test('[QX-11] every kind of parameter is bound with its type', () => {
  const opened = shards([{ timestamp: 5n, payload: { n: 1 } }]);
  const where =
    "? = 2 AND typeof(?1) = 'integer' AND typeof(?2) = 'real' AND ?3 = 'a' || char(0) || 'b' AND ?4 = x'0102' AND ?5 IS NULL AND ?6 = x''";
  const params: SqlValue[] = [2n, 2, 'a\0b', Uint8Array.of(1, 2), null, new Uint8Array()];
  const found = drain(native.cursorOpen(options(opened, TIME, { where, params })));
  assert.equal(found.length, 1);
  const bad = (list: readonly unknown[]) => () =>
    native.cursorOpen(options(opened, TIME, { where: '?1 IS NOT NULL', params: list as SqlValue[] }));
  assert.throws(bad([2n ** 63n]), { code: 'ERR_OUT_OF_RANGE' });
  assert.throws(bad([true]), /parameter/);
  assert.throws(bad([]), { code: 'SQLITE_RANGE' });
  assert.throws(bad([1n, 2n]), { code: 'SQLITE_RANGE' });
  close(opened);
});

test('[QX-10] parts that are no single SELECT of the agreed columns are refused', () => {
  const opened = shards([]);
  const { slot } = opened[0] as Opened;
  const openSql = (sql: string) => () =>
    native.cursorOpen({ ...options(opened, TIME), parts: [{ slot, sql, params: [] }] });
  assert.throws(openSql('SELEC'), { code: 'SQLITE_ERROR', message: /syntax error/ });
  assert.throws(openSql('SELECT 1'), {
    code: 'SQLITE_MISUSE',
    message: /sort keys, the header columns and the payload/,
  });
  assert.throws(openSql(`SELECT timestamp, ${COLUMNS} FROM events; SELECT 1`), { code: 'SQLITE_MISUSE' });
  assert.throws(openSql(''), { code: 'SQLITE_MISUSE' });
  assert.throws(openSql('DELETE FROM events'), { code: 'SQLITE_MISUSE' });
  assert.throws(() => native.cursorFetch(12345 as CursorHandle, 1, 1), { code: 'ERR_HANDLE' });
  close(opened);
  assert.throws(openSql(`SELECT timestamp, ${COLUMNS} FROM events`), { code: 'ERR_HANDLE' });
});

test('[QX-62] [QX-68] an interrupted fetch throws SQLITE_INTERRUPT, and keeps throwing it', () => {
  const opened = shards([{ timestamp: 1n }], [{ timestamp: 2n }]);
  const { slot } = opened[1] as Opened;
  const endless =
    '(WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT count(*) FROM n WHERE i < 0) IS NULL';
  const cursor = native.cursorOpen(options(opened, TIME, { where: `timestamp = 1 OR ${endless}` }));
  native.slotDeadline(slot, 50);
  assert.throws(() => native.cursorFetch(cursor, 1000, 1 << 20), { code: 'SQLITE_INTERRUPT' });
  native.slotDeadline(slot, 0);
  assert.throws(() => native.cursorFetch(cursor, 1000, 1 << 20), { code: 'SQLITE_INTERRUPT' });
  native.cursorClose(cursor);
  assert.throws(() => native.cursorFetch(cursor, 1, 1), { code: 'ERR_HANDLE' });
  close(opened);
});

test('[QX-67] a frame is built in slices: nothing lost, nothing twice, and a cursor may be closed between two', () => {
  const payload = { text: 'x'.repeat(1000), name: 'n' };
  const rows = (shard: number) =>
    Array.from({ length: 4000 }, (_, i) => ({ timestamp: BigInt(2 * i + shard), payload }));
  const opened = shards(rows(0), rows(1));
  for (const { db } of opened) db.prepare('SELECT eventd_read_ahead()').get();
  const where = `timestamp >= 7900 AND ${Array.from({ length: 20 }, () => `ascii_contains(msgpack_extract(payload, '$.text'), 'xz') = 0`).join(' AND ')}`;
  const scan = options(opened, TIME, { where: `+${where}` });
  const expected = drain(native.cursorOpen(scan));
  assert.deepEqual(
    expected.map(({ timestamp }) => timestamp),
    Array.from({ length: 100 }, (_, i) => 7900 + i),
  );
  const cursor = native.cursorOpen(scan);
  let slices = 1;
  while (!native.cursorAdvance(cursor, 1000, 1 << 20, 1)) slices++;
  assert.ok(slices >= 3, `${slices} slices`);
  assert.equal(native.cursorAdvance(cursor, 1000, 1 << 20, 1), true);
  assert.deepEqual(drain(cursor), expected);
  const left = native.cursorOpen(scan);
  assert.equal(native.cursorAdvance(left, 1000, 1 << 20, 1), false);
  native.cursorClose(left);
  const interrupted = native.cursorOpen(scan);
  assert.equal(native.cursorAdvance(interrupted, 1000, 1 << 20, 1), false);
  for (const { slot } of opened) native.slotInterrupt(slot);
  while (!native.cursorAdvance(interrupted, 1000, 1 << 20, 1));
  assert.throws(() => native.cursorFetch(interrupted, 1000, 1 << 20), { code: 'SQLITE_INTERRUPT' });
  native.cursorClose(interrupted);
  assert.deepEqual(drain(native.cursorOpen(scan)), expected);
  close(opened);
});

test('[QX-66] an exhausted or failed cursor holds no read transaction', () => {
  const path = writeShard(directory, 'held.db', [{ timestamp: 1n }, { timestamp: 2n }]);
  const writer = new Database(path);
  const opened = [open(path)];
  const busy = () => (writer.pragma('wal_checkpoint(TRUNCATE)') as { busy: number }[])[0]?.busy;
  writer.prepare('UPDATE events SET timestamp = timestamp').run();
  const cursor = native.cursorOpen(options(opened, TIME));
  native.cursorFetch(cursor, 1, 1000);
  writer.prepare('UPDATE events SET timestamp = timestamp').run();
  writer.pragma('busy_timeout = 0');
  assert.equal(busy(), 1);
  assert.equal(native.cursorFetch(cursor, 1, 1000).done, true);
  assert.equal(busy(), 0);
  native.cursorClose(cursor);
  close(opened);
  writer.close();
});

test('[QX-65] a cursor serves only the thread of its connection', async () => {
  const opened = shards([{ timestamp: 1n }]);
  const cursor = native.cursorOpen(options(opened, TIME));
  const worker = new Worker(
    `const { parentPort, workerData } = require('node:worker_threads');
     const native = require(workerData.addonPath);
     const codeOf = (run) => { try { run(); return 'none'; } catch (error) { return error.code; } };
     parentPort.postMessage([
       codeOf(() => native.cursorOpen(workerData.options)),
       codeOf(() => native.cursorFetch(workerData.cursor, 1, 1)),
       codeOf(() => native.cursorClose(workerData.cursor)),
     ]);`,
    { eval: true, workerData: { addonPath, cursor, options: options(opened, TIME) } },
  );
  const codes = await new Promise((resolve, reject) => {
    worker.once('message', resolve);
    worker.once('error', reject);
  });
  assert.deepEqual(codes, ['ERR_HANDLE', 'ERR_HANDLE', 'ERR_HANDLE']);
  assert.equal(drain(cursor).length, 1);
  close(opened);
});

test('[QX-64] a thread may end with its cursors open, before or after closing their connections', async () => {
  const path = writeShard(directory, 'abandoned.db', [{ timestamp: 1n }, { timestamp: 2n }]);
  const sql = `SELECT timestamp, ${COLUMNS} FROM events ORDER BY 1`;
  for (const end of [
    '',
    'db.close();',
    'db.close(); native.cursorFetch(cursor, 1, 1000);',
    'process.exit(0);',
  ]) {
    const worker = new Worker(
      `const { parentPort, workerData } = require('node:worker_threads');
       const native = require(workerData.addonPath);
       const Database = require('better-sqlite3');
       const db = new Database(workerData.path, { readonly: true });
       db.loadExtension(workerData.addonPath);
       const slot = db.prepare('SELECT eventd_slot()').pluck().get();
       const cursor = native.cursorOpen({ parts: [{ slot, sql: workerData.sql, params: [] }],
         sort: [{ descending: false }], skip: 0n, take: null, fields: null, encoded: false });
       parentPort.postMessage(native.cursorFetch(cursor, 1, 1000).records);
       ${end}`,
      { eval: true, workerData: { addonPath, path, sql } },
    );
    const [records, code] = await Promise.all([
      new Promise((resolve) => worker.once('message', resolve)),
      new Promise((resolve, reject) => {
        worker.once('exit', resolve);
        worker.once('error', reject);
      }),
    ]);
    assert.deepEqual([records, code], [1, 0], end);
  }
});

test('[QL-44] what is shown and what is filtered agree for payloads no decoder would take', () => {
  const whole = encode({ a: 1, b: 2 });
  const opened = shards([
    { timestamp: 1n, payload: whole.subarray(0, whole.length - 1) },
    { timestamp: 2n, payload: Uint8Array.of(0x82, 0xa1, 0x61, 7, 0xa1, 0x61, 8) },
  ]);
  const records = drain(native.cursorOpen(options(opened, TIME)));
  assert.deepEqual(
    records.map((record) => record.a),
    [undefined, 7],
  );
  const where = "msgpack_extract(payload, '$.a') IN (1, 7, 8)";
  const found = drain(native.cursorOpen(options(opened, TIME, { where })));
  assert.deepEqual(
    found.map((record) => record.a),
    [7],
  );
  close(opened);
});
