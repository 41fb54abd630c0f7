import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, test } from 'node:test';
import fc from 'fast-check';
import { type CpuResume, resolveBoot } from '../../src/stores/resume.js';
import { openShardWriter, type ShardConnection } from '../../src/stores/shard.js';
import { shardFileName } from '../../src/stores/shardFiles.js';
import { INSERT_SYNTHETIC } from '../../src/stores/shardSchema.js';
import { gapEvent } from '../../src/stores/synthetic.js';
import { WatermarkWriter } from '../../src/stores/watermarks.js';
import { memoryDirectory } from '../model/walk.js';

const BOOT = new Uint8Array(16).fill(0xb0);
const OTHER_BOOT = new Uint8Array(16).fill(0xa0);

/** In memory: random histories commit some thousand times. */
const root = memoryDirectory();
let directory: string;
beforeEach(() => {
  directory = mkdtempSync(join(root, 'resume-'));
});
afterEach(() => rmSync(directory, { recursive: true, force: true }));

/** A shard written the way a writer writes it: rows and watermarks in one transaction. */
class Shard {
  readonly db: ShardConnection;
  readonly marks: WatermarkWriter;

  constructor(index: number, boot = BOOT) {
    this.db = openShardWriter(join(directory, shardFileName(index)));
    this.marks = new WatermarkWriter(this.db, boot);
  }

  commit(
    cpu: number,
    sequences: readonly bigint[],
    settled: bigint,
    order: { floor: bigint; upper: bigint } | null = null,
    boot = BOOT,
  ): void {
    const insert = this.db.prepare(
      'INSERT INTO events (boot_id, timestamp, cpu_id, sequence, origin_class, event_type) VALUES (?, ?, ?, ?, 0, ?)',
    );
    this.db.transaction(() => {
      for (const sequence of sequences) insert.run(boot, 1000n + sequence, cpu, sequence, 'test.event');
      const last = sequences.reduce((a, b) => (a > b ? a : b), 0n);
      this.marks.write(cpu, order === null ? { last, settled } : { last, settled, ...order });
    })();
    this.marks.committed();
  }

  gap(cpu: number, first: bigint, last: bigint, settled: bigint): void {
    const gap = gapEvent(1n, {
      cpu,
      first,
      last,
      previousTimestamp: null,
      revealingTimestamp: null,
      cause: 'ring_loss',
    });
    this.db.transaction(() => {
      this.db.prepare(INSERT_SYNTHETIC).run(BOOT, gap.timestamp, gap.type, gap.payload);
      this.marks.write(cpu, { last, settled });
    })();
    this.marks.committed();
  }

  close(): void {
    this.db.close();
  }
}

function cpu(number: number): CpuResume {
  const found = resolveBoot(directory, BOOT).cpus.get(number);
  assert.ok(found, `CPU ${number} has a resume point`);
  return found;
}

test('[BOOT-4, BOOT-7, ING-20] an empty store is a new boot with nothing seen', () => {
  assert.deepEqual(resolveBoot(directory, BOOT), { restart: false, cpus: new Map(), unreadable: [] });
});

test('[BOOT-5, BOOT-7, LIFE-110] data of another boot does not make a restart', () => {
  const shard = new Shard(0, OTHER_BOOT);
  shard.commit(0, [1n, 2n, 3n], 3n, null, OTHER_BOOT);
  shard.close();
  const { restart, cpus } = resolveBoot(directory, BOOT);
  assert.equal(restart, false);
  assert.equal(cpus.size, 0);
});

test('[BOOT-6, BOOT-8, ING-19, LIFE-111] one shard per CPU resumes after the last committed sequence', () => {
  const shard = new Shard(0);
  shard.commit(0, [1n, 2n, 3n], 3n);
  shard.commit(0, [4n, 5n], 5n);
  shard.close();
  assert.equal(resolveBoot(directory, BOOT).restart, true);
  const resume = cpu(0);
  assert.equal(resume.sequence, 5n);
  assert.equal(resume.timestamp, 1005n, 'the header timestamp of the last stored event');
  assert.equal(resume.covered.length, 0);
});

test('[STO-15] the first commit of a new boot removes what the older boot left', () => {
  const old = new Shard(0, OTHER_BOOT);
  old.commit(7, [1n, 2n], 2n, { floor: 0n, upper: 9n }, OTHER_BOOT);
  old.close();
  const shard = new Shard(0);
  shard.commit(0, [1n], 1n);
  const keys = shard.db
    .prepare("SELECT key FROM metadata WHERE key LIKE '%seq.%' ORDER BY key")
    .pluck()
    .all();
  assert.deepEqual(keys, ['last_seq.0', 'settled_seq.0']);
  shard.close();
});

test('[STO-15] a rolled back transaction leaves no trace in the watermarks', () => {
  const shard = new Shard(0);
  shard.commit(0, [1n], 1n);
  assert.throws(() =>
    shard.db.transaction(() => {
      shard.marks.write(0, { last: 50n, settled: 50n });
      throw new Error('no room');
    })(),
  );
  shard.marks.rolledBack();
  shard.commit(0, [2n], 2n);
  shard.close();
  assert.equal(cpu(0).sequence, 2n);
});

test('[BOOT-9] with several shards per CPU what is stored above the resume point is listed, not hidden', () => {
  const a = new Shard(0);
  const b = new Shard(1);
  a.commit(0, [1n, 3n, 5n], 1n);
  b.commit(0, [2n], 3n);
  a.commit(0, [7n, 9n], 3n);
  a.close();
  b.close();
  const resume = cpu(0);
  assert.equal(resume.sequence, 3n);
  assert.deepEqual([...resume.covered], [5n, 5n, 7n, 7n, 9n, 9n]);
  assert.deepEqual([resume.floor, resume.upper], [3n, 9n]);
});

test('[BOOT-10] gap records count as covered, forged ones do not', () => {
  const a = new Shard(0);
  a.commit(0, [1n], 1n);
  a.gap(0, 4n, 8n, 1n);
  // A program may emit what looks like a gap record, but then it has a sequence.
  const forged = gapEvent(1n, {
    cpu: 0,
    first: 20n,
    last: 30n,
    previousTimestamp: null,
    revealingTimestamp: null,
    cause: 'ring_loss',
  });
  a.db
    .prepare(
      'INSERT INTO events (boot_id, timestamp, cpu_id, sequence, origin_class, event_type, payload) VALUES (?, 5, 0, 99, 0, ?, ?)',
    )
    .run(BOOT, forged.type, forged.payload);
  a.marks.write(0, { last: 99n, settled: 1n });
  a.close();
  assert.deepEqual([...cpu(0).covered], [4n, 8n, 99n, 99n]);
});

test('[BOOT-9] events ingested again below stored ones do not end the search too early', () => {
  const a = new Shard(0);
  const b = new Shard(1);
  // First run: A has the odd ones, B lost everything after 2.
  a.commit(0, [1n, 3n, 5n, 7n], 1n);
  b.commit(0, [2n], 3n);
  // Second run resumed at 3 with 5 and 7 covered; A took 4 and 8, B's 6 was lost again.
  a.commit(0, [4n, 8n], 5n, { floor: 3n, upper: 7n });
  a.close();
  b.close();
  const resume = cpu(0);
  assert.equal(resume.sequence, 5n);
  assert.deepEqual([...resume.covered], [7n, 8n]);
  assert.equal(resume.floor, 3n, 'the next restart still has to look behind 4');
});

test('[STO-23, ING-33, BOOT-8] shards of an earlier configuration take part', () => {
  for (const [index, settled] of [
    [0, 4n],
    [3, 6n],
  ] as const) {
    const shard = new Shard(index);
    shard.commit(0, [settled], settled);
    shard.close();
  }
  assert.equal(cpu(0).sequence, 6n);
});

test('[FAIL-15] an unreadable file is named and the others decide', () => {
  const shard = new Shard(0);
  shard.commit(0, [1n], 1n);
  shard.close();
  writeFileSync(join(directory, 'shard-0001.db'), 'x'.repeat(9000));
  const { restart, unreadable } = resolveBoot(directory, BOOT);
  assert.equal(restart, true);
  assert.match(unreadable[0]?.file ?? '', /shard-0001\.db$/);
});

test('[BOOT-9, BOOT-10] random histories: resume point and covered ranges are exactly what is stored', () => {
  const step = fc.record({ lane: fc.nat(2), count: fc.integer({ min: 1, max: 6 }), commit: fc.boolean() });
  fc.assert(
    fc.property(fc.array(fc.array(step, { maxLength: 12 }), { minLength: 1, maxLength: 4 }), (runs) => {
      rmSync(directory, { recursive: true, force: true });
      directory = mkdtempSync(join(root, 'resume-'));
      const stored = new Set<bigint>();
      for (const run of runs) simulateRun(run, stored);
      const resume = resolveBoot(directory, BOOT).cpus.get(0);
      if (stored.size === 0) return;
      assert.ok(resume);
      const covered = new Set<bigint>();
      for (let i = 0; i < resume.covered.length; i += 2) {
        for (let s = resume.covered[i] ?? 0n; s <= (resume.covered[i + 1] ?? -1n); s++) covered.add(s);
      }
      for (let s = 1n; s <= resume.sequence; s++)
        assert.ok(stored.has(s), `${s} is settled, so it is stored`);
      for (const s of stored)
        assert.ok(s <= resume.sequence || covered.has(s), `${s} is stored, so it is covered`);
      for (const s of covered) assert.ok(stored.has(s), `${s} is covered, so it is stored`);
    }),
    { numRuns: 60 },
  );
});

/** One life of a daemon with three shards on one CPU: reads on from the resume point, commits some, dies. */
function simulateRun(
  steps: readonly { lane: number; count: number; commit: boolean }[],
  stored: Set<bigint>,
): void {
  const resume = resolveBoot(directory, BOOT).cpus.get(0);
  const order =
    resume !== undefined && resume.upper > 0n ? { floor: resume.floor, upper: resume.upper } : null;
  let next = (resume?.sequence ?? 0n) + 1n;
  const shards = [0, 1, 2].map((index) => new Shard(index));
  const open: bigint[][] = [[], [], []];
  for (const { lane, count, commit } of steps) {
    const batch = open[lane] ?? [];
    for (let taken = 0; taken < count; next++) {
      if (stored.has(next)) continue;
      batch.push(next);
      taken++;
    }
    if (!commit) continue;
    for (const sequence of batch) stored.add(sequence);
    let settled = next - 1n;
    for (const [other, waiting] of open.entries()) {
      const [first] = waiting;
      if (other !== lane && first !== undefined && first - 1n < settled) settled = first - 1n;
    }
    shards[lane]?.commit(0, batch, settled, order);
    open[lane] = [];
  }
  for (const shard of shards) shard.close();
}
