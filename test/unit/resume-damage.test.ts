/** Resume points from a damaged store: when in doubt, an event counts as not stored, and is read again. */
import assert from 'node:assert/strict';
import { closeSync, mkdtempSync, openSync, readFileSync, rmSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, test } from 'node:test';
import Database from 'better-sqlite3';
import fc from 'fast-check';
import { type BootResolution, resolveBoot } from '../../src/stores/resume.js';
import { openShardWriter } from '../../src/stores/shard.js';
import { shardFileName } from '../../src/stores/shardFiles.js';
import { INSERT_SYNTHETIC, SHARD_PAGE_SIZE } from '../../src/stores/shardSchema.js';
import { gapEvent } from '../../src/stores/synthetic.js';
import { WatermarkWriter } from '../../src/stores/watermarks.js';
import { memoryDirectory } from '../model/walk.js';

const BOOT = new Uint8Array(16).fill(0xb0);
const OTHER_BOOT = new Uint8Array(16).fill(0xa0);

/** In memory: random histories commit some thousand times. */
const root = memoryDirectory();
let directory: string;
beforeEach(() => {
  directory = mkdtempSync(join(root, 'resume-damage-'));
});
afterEach(() => rmSync(directory, { recursive: true, force: true }));

const file = (shard: number) => join(directory, shardFileName(shard));
const upTo = (last: number, step = 1, first = 1) =>
  Array.from({ length: Math.floor((last - first) / step) + 1 }, (_, i) => BigInt(first + i * step));

/** A shard as a writer leaves it: rows of CPUs, watermarks, nothing in a WAL. */
function write(
  shard: number,
  rows: readonly { readonly cpu: number; readonly sequences: readonly bigint[]; readonly settled: bigint }[],
  boot = BOOT,
): void {
  const db = openShardWriter(file(shard));
  const marks = new WatermarkWriter(db, boot);
  const insert = db.prepare(
    'INSERT INTO events (boot_id, timestamp, cpu_id, sequence, origin_class, event_type, payload) VALUES (?, ?, ?, ?, 0, ?, ?)',
  );
  const payload = Buffer.alloc(40, 0x5a);
  db.transaction(() => {
    for (const { cpu, sequences, settled } of rows) {
      for (const sequence of sequences)
        insert.run(boot, 1000n + sequence, cpu, sequence, 'test.event', payload);
      marks.write(cpu, { last: sequences.reduce((a, b) => (a > b ? a : b), 0n), settled });
    }
  })();
  marks.committed();
  db.close();
}

const lossOf = (first: bigint, last: bigint) =>
  gapEvent(1n, {
    cpu: 0,
    first,
    last,
    previousTimestamp: null,
    revealingTimestamp: null,
    cause: 'ring_loss',
  });

function change(shard: number, sql: string): void {
  const db = new Database(file(shard));
  try {
    db.exec(sql);
  } finally {
    db.close();
  }
}

/** Sequences of a CPU that a start would not store again. */
function believed({ cpus }: BootResolution, cpu: number, limit = 10_000n): bigint[] {
  const resume = cpus.get(cpu);
  if (resume === undefined) return [];
  const believed: bigint[] = [];
  for (let sequence = 1n; sequence <= resume.sequence && sequence <= limit; sequence++)
    believed.push(sequence);
  for (let i = 0; i < resume.covered.length; i += 2) {
    const end = resume.covered[i + 1] ?? 0n;
    for (let sequence = resume.covered[i] ?? 1n; sequence <= end && sequence <= limit; sequence++)
      believed.push(sequence);
  }
  return believed;
}

const SINGLE_LOSSES: readonly (readonly [string, string])[] = [
  ['all of them', "DELETE FROM metadata WHERE key = 'last_boot_id' OR key GLOB '*_seq.*'"],
  ['the boot ID', "DELETE FROM metadata WHERE key = 'last_boot_id'"],
  ['the boot ID, which is another one', "UPDATE metadata SET value = 'x' WHERE key = 'last_boot_id'"],
  ['those of all CPUs', "DELETE FROM metadata WHERE key GLOB '*_seq.*'"],
  ['those of one CPU', "DELETE FROM metadata WHERE key GLOB '*_seq.0'"],
  ['last_seq alone', "DELETE FROM metadata WHERE key = 'last_seq.0'"],
  ['settled_seq alone', "DELETE FROM metadata WHERE key = 'settled_seq.0'"],
  ['last_seq, which is no number', "UPDATE metadata SET value = '12monkeys' WHERE key = 'last_seq.0'"],
  [
    'last_seq, beyond any sequence',
    "UPDATE metadata SET value = '9999999999999999999' WHERE key = 'last_seq.0'",
  ],
  ['settled_seq, which is bytes', "UPDATE metadata SET value = x'00ff' WHERE key = 'settled_seq.0'"],
];

for (const [what, sql] of SINGLE_LOSSES) {
  test(`[BOOT-7] [BOOT-9] [BOOT-10] [STO-15] watermarks lost (${what}): the events themselves say what is stored`, () => {
    // CPU 0 goes round shards 0 and 1; CPU 1 has shard 0 alone.
    write(0, [
      { cpu: 0, sequences: upTo(6001, 2), settled: 4001n },
      { cpu: 1, sequences: upTo(30), settled: 30n },
    ]);
    write(1, [{ cpu: 0, sequences: upTo(5000, 2, 2), settled: 4500n }]);
    const whole = resolveBoot(directory, BOOT);
    assert.deepEqual(whole.unreadable, []);
    change(0, sql);
    const resolved = resolveBoot(directory, BOOT);
    assert.equal(resolved.restart, true);
    for (const cpu of [0, 1]) assert.deepEqual(believed(resolved, cpu), believed(whole, cpu), `CPU ${cpu}`);
    assert.deepEqual(
      believed(resolved, 0),
      [...upTo(5000), ...upTo(6001, 2, 5001)],
      'exactly what the shards hold',
    );
    if (!what.startsWith('settled_seq alone')) {
      assert.equal(resolved.unreadable.length, 1);
      assert.match(resolved.unreadable[0]?.file ?? '', /shard-0000\.db$/);
      assert.match(resolved.unreadable[0]?.reason ?? '', /watermarks are missing/);
    }
  });
}

test('[BOOT-9] lost watermarks do not make events of an earlier boot count', () => {
  write(0, [{ cpu: 0, sequences: upTo(50), settled: 50n }], OTHER_BOOT);
  write(0, [{ cpu: 0, sequences: upTo(9), settled: 9n }]);
  change(0, "DELETE FROM metadata WHERE key = 'last_boot_id' OR key GLOB '*_seq.*'");
  const resolved = resolveBoot(directory, BOOT);
  assert.deepEqual(believed(resolved, 0), upTo(9));
  assert.equal(resolved.cpus.get(0)?.timestamp, 1009n);
});

test('[STO-15] [BOOT-9] the first commit after a loss says again what the shard holds, also of CPUs it does not concern', () => {
  write(0, [
    { cpu: 1, sequences: upTo(70), settled: 70n },
    { cpu: 0, sequences: upTo(900), settled: 900n },
  ]);
  change(0, "DELETE FROM metadata WHERE key = 'last_boot_id' OR key GLOB '*_seq.*'");
  write(0, [{ cpu: 0, sequences: upTo(1500, 1, 901), settled: 1500n }]);
  const { cpus, unreadable } = resolveBoot(directory, BOOT);
  assert.deepEqual([cpus.get(0)?.sequence, cpus.get(1)?.sequence, unreadable], [1500n, 70n, []]);
});

test('[STO-15] what a rolled back commit has said again is said again by the next one', () => {
  write(0, [{ cpu: 1, sequences: upTo(70), settled: 70n }]);
  change(0, "DELETE FROM metadata WHERE key GLOB '*_seq.*'");
  const db = openShardWriter(file(0));
  const marks = new WatermarkWriter(db, BOOT);
  assert.throws(() =>
    db.transaction(() => {
      marks.claim();
      throw new Error('no room');
    })(),
  );
  marks.rolledBack();
  db.transaction(() => marks.claim())();
  marks.committed();
  assert.deepEqual([...marks.last()], [[1, 70n]]);
  db.close();
  const { cpus, unreadable } = resolveBoot(directory, BOOT);
  assert.deepEqual([cpus.get(1)?.sequence, unreadable], [70n, []]);
});

test('[BOOT-10] a gap record that its own count or the watermarks contradict hides nothing', () => {
  write(0, [{ cpu: 0, sequences: upTo(10), settled: 3n }]);
  const db = openShardWriter(file(0));
  const insert = db.prepare(INSERT_SYNTHETIC);
  const beyond = lossOf(11n, 1_000_000n);
  insert.run(BOOT, beyond.timestamp, beyond.type, beyond.payload);
  // One bit of `last_missing` flipped: 14 became 15.
  const flipped = Buffer.from(lossOf(11n, 14n).payload);
  const at = flipped.indexOf('last_missing') + 'last_missing'.length;
  assert.equal(flipped[at], 14);
  flipped[at] = 15;
  insert.run(BOOT, 1n, 'synthetic.gap', flipped);
  insert.run(BOOT, 1n, 'synthetic.gap', Buffer.from('c1', 'hex'));
  db.prepare("UPDATE metadata SET value = '15' WHERE key = 'last_seq.0'").run();
  db.close();
  assert.deepEqual(believed(resolveBoot(directory, BOOT), 0), upTo(10));
});

test('[BOOT-10] an event beyond what its shard claims to hold is not believed to be stored', () => {
  write(0, [{ cpu: 0, sequences: upTo(10), settled: 10n }]);
  change(
    0,
    `INSERT INTO events (boot_id, timestamp, cpu_id, sequence, origin_class, event_type)
     SELECT boot_id, timestamp, cpu_id, 5000, origin_class, event_type FROM events LIMIT 1`,
  );
  assert.deepEqual(believed(resolveBoot(directory, BOOT), 0), upTo(10));
});

test('[BOOT-9] [BOOT-10] [STO-15] random histories in which shards lose watermarks between runs: what counts as stored is exactly what is stored', () => {
  const step = fc.record({
    lane: fc.nat(2),
    count: fc.integer({ min: 1, max: 6 }),
    outcome: fc.constantFrom('committed', 'committed', 'open', 'gap'),
  });
  const life = fc.record({
    steps: fc.array(step, { maxLength: 10 }),
    loses: fc.option(fc.record({ lane: fc.nat(2), what: fc.nat(SINGLE_LOSSES.length - 1) })),
  });
  fc.assert(
    fc.property(fc.array(life, { minLength: 1, maxLength: 4 }), (lives) => {
      rmSync(directory, { recursive: true, force: true });
      directory = mkdtempSync(join(root, 'resume-damage-'));
      const stored = new Set<bigint>();
      for (const { steps, loses } of lives) {
        live(steps, stored);
        if (loses !== null) change(loses.lane, SINGLE_LOSSES[loses.what]?.[1] ?? '');
        const numbers = [...stored].sort((a, b) => (a < b ? -1 : 1));
        assert.deepEqual(believed(resolveBoot(directory, BOOT), 0), numbers);
      }
    }),
    { numRuns: 40 },
  );
});

/** One life of a daemon with three shards on one CPU; what is open at its end, it has not stored. */
function live(steps: readonly { lane: number; count: number; outcome: string }[], stored: Set<bigint>): void {
  const resume = resolveBoot(directory, BOOT).cpus.get(0);
  const order = resume !== undefined && resume.upper > 0n ? { floor: resume.floor, upper: resume.upper } : {};
  let next = (resume?.sequence ?? 0n) + 1n;
  const open: bigint[][] = [[], [], []];
  const lanes = open.map((_, shard) => {
    const db = openShardWriter(file(shard));
    return { db, marks: new WatermarkWriter(db, BOOT) };
  });
  for (const { lane, count, outcome } of steps) {
    const batch = open[lane] ?? [];
    for (let taken = 0; taken < count; next++) {
      if (stored.has(next)) continue;
      batch.push(next);
      taken++;
    }
    if (outcome === 'open') continue;
    const { db, marks } = lanes[lane] ?? assert.fail('no such lane');
    let settled = next - 1n;
    for (const [other, [first]] of open.entries())
      if (other !== lane && first !== undefined && first - 1n < settled) settled = first - 1n;
    db.transaction(() => {
      for (const sequence of batch) {
        stored.add(sequence);
        if (outcome === 'gap') {
          const gap = lossOf(sequence, sequence);
          db.prepare(INSERT_SYNTHETIC).run(BOOT, gap.timestamp, gap.type, gap.payload);
        } else {
          db.prepare(
            "INSERT INTO events (boot_id, timestamp, cpu_id, sequence, origin_class, event_type) VALUES (?, 1, 0, ?, 0, 't')",
          ).run(BOOT, sequence);
        }
      }
      marks.claim();
      const last = batch.at(-1);
      // Gap records of a failed batch settle nothing by themselves (FAIL-5).
      if (last !== undefined)
        marks.write(0, outcome === 'gap' ? { last, settled: 0n } : { last, settled, ...order });
    })();
    marks.committed();
    open[lane] = [];
  }
  for (const { db } of lanes) db.close();
}

test('[FAIL-12] [FAIL-15] [BOOT-10] whatever page of a shard is damaged, nothing counts as stored that is not', () => {
  const stored = new Set(upTo(3999, 2));
  write(0, [{ cpu: 0, sequences: [...stored], settled: 1n }]);
  const good = readFileSync(file(0));
  const pages = good.length / SHARD_PAGE_SIZE;
  assert.ok(pages > 20, `${pages} pages`);
  const fills: ((page: Buffer, number: number) => Buffer)[] = [
    (page) => Buffer.alloc(page.length),
    (page) => Buffer.alloc(page.length, 0xff),
    // Another page of the file, as a misdirected write leaves it.
    (page, number) => good.subarray(((number + 7) % pages) * page.length).subarray(0, page.length),
    // The second half is old or foreign: a torn page.
    (page) => Buffer.concat([page.subarray(0, page.length / 2), Buffer.alloc(page.length / 2, 0xa5)]),
  ];
  let reported = 0;
  for (let number = 1; number < pages; number++) {
    for (const fill of fills) {
      const at = number * SHARD_PAGE_SIZE;
      overwrite(fill(good.subarray(at, at + SHARD_PAGE_SIZE), number), at);
      const resolved = resolveBoot(directory, BOOT);
      reported += resolved.unreadable.length;
      for (const sequence of believed(resolved, 0))
        assert.ok(stored.has(sequence), `page ${number}: ${sequence} is not stored`);
      overwrite(good.subarray(at, at + SHARD_PAGE_SIZE), at);
    }
  }
  assert.ok(reported > pages, `${reported} damages were reported`);
  assert.deepEqual(believed(resolveBoot(directory, BOOT), 0), [...stored]);
});

test('[FAIL-15] [BOOT-10] with the page of the watermarks damaged, readable events are not stored again', () => {
  write(0, [{ cpu: 0, sequences: upTo(3000), settled: 3000n }]);
  const db = new Database(file(0), { readonly: true });
  const root = db
    .prepare("SELECT rootpage FROM sqlite_master WHERE name = 'metadata'")
    .pluck()
    .get() as number;
  db.close();
  overwrite(Buffer.alloc(SHARD_PAGE_SIZE), (root - 1) * SHARD_PAGE_SIZE);
  const resolved = resolveBoot(directory, BOOT);
  assert.deepEqual(believed(resolved, 0), upTo(3000));
  assert.match(resolved.unreadable[0]?.reason ?? '', /watermarks are missing/);
});

test('[FAIL-12] [STO-15] a writer opens a shard with the page of the watermarks damaged, and its commit reports it', () => {
  write(
    0,
    Array.from({ length: 300 }, (_, cpu) => ({ cpu, sequences: [1n], settled: 1n })),
  );
  const whole = new Database(file(0), { readonly: true });
  const pages = whole
    .prepare("SELECT pageno FROM dbstat WHERE name = 'metadata' AND pagetype = 'leaf' ORDER BY path")
    .pluck()
    .all() as number[];
  whole.close();
  assert.ok(pages.length > 1, 'more than a page of metadata');
  overwrite(Buffer.alloc(SHARD_PAGE_SIZE, 0xa5), ((pages.at(-1) ?? 0) - 1) * SHARD_PAGE_SIZE);
  const db = openShardWriter(file(0));
  const marks = new WatermarkWriter(db, BOOT);
  assert.throws(
    () => {
      for (let cpu = 0; cpu < 300; cpu++) marks.write(cpu, { last: 2n, settled: 2n });
    },
    { code: 'SQLITE_CORRUPT' },
  );
  marks.rolledBack();
  db.close();
});

test('[BOOT-10] [STO-23] a good shard that is locked for the moment is no lost one: the start fails and names it', () => {
  write(0, [{ cpu: 0, sequences: upTo(10), settled: 10n }]);
  write(1, [{ cpu: 1, sequences: upTo(50), settled: 50n }]);
  const holder = new Database(file(1));
  holder.pragma('locking_mode = EXCLUSIVE');
  holder.exec('BEGIN IMMEDIATE');
  assert.throws(() => resolveBoot(directory, BOOT), {
    name: 'StoreError',
    kind: 'io',
    message: `${file(1)}: database is locked (SQLITE_BUSY)`,
  });
  holder.close();
  assert.deepEqual(believed(resolveBoot(directory, BOOT), 1), upTo(50));
});

function overwrite(bytes: Buffer, at: number): void {
  const fd = openSync(file(0), 'r+');
  try {
    writeSync(fd, bytes, 0, bytes.length, at);
  } finally {
    closeSync(fd);
  }
}
