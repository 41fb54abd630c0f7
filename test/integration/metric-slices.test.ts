/**
 * A metric writer that has fallen behind decodes several transactions' worth of samples at once and
 * stores them in the order of their series, one transaction after the other.
 */
import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import Database from 'better-sqlite3';
import { native, type ReceiverHandle } from '../../src/native/addon.js';
import { DatagramSource } from '../../src/stores/datagramSource.js';
import { heldHandles } from '../../src/stores/heldHandles.js';
import type { LeaseId } from '../../src/stores/lease.js';
import { openMetricCommitter } from '../../src/stores/metricCommitter.js';
import { RecordCommitError, type RecordCommitter } from '../../src/stores/recordCommitter.js';
import { encodeSample } from '../../src/wire/recordSender.js';

const LIMITS = { maxBatchSize: 100, maxBatchLatencyMs: 1000 };
const SERIES = 20;

interface Fixture {
  readonly file: string;
  readonly source: DatagramSource;
  readonly receiver: ReceiverHandle;
  readonly committer: RecordCommitter;
}

function open(t: TestContext): Fixture {
  const directory = mkdtempSync(join(tmpdir(), 'metric-slices-'));
  const receiver = native.receiverOpen({ path: join(directory, 's'), mode: 0o600, capacityBytes: 1 << 22 });
  const held = heldHandles();
  const source = new DatagramSource(receiver, held);
  const file = join(directory, 'metrics.db');
  const committer = openMetricCommitter({ file, source, cacheSize: 1000, held });
  t.after(() => {
    committer.close();
    source.release();
    native.receiverClose(receiver);
    rmSync(directory, { recursive: true, force: true });
  });
  return { file, source, receiver, committer };
}

/** Sends one datagram with the samples `from` to `to`; sample i is of series i % SERIES. */
function send({ receiver }: Fixture, from: number, to: number): void {
  const samples = Array.from({ length: to - from }, (_, i) =>
    encodeSample({
      type: 'gauge',
      name: 'slices',
      value: from + i,
      labels: { series: String((from + i) % SERIES) },
      timestamp: BigInt(from + i),
    }),
  );
  const head = Buffer.from([0xdc, samples.length >> 8, samples.length & 0xff]);
  assert.ok(native.receiverInject(receiver, Buffer.concat([head, ...samples])));
}

/** Values with the label of the series they are stored under, by value. */
function stored(file: string): { value: number; labels: string }[] {
  const db = new Database(file, { readonly: true });
  try {
    return db
      .prepare('SELECT value, labels FROM samples JOIN series ON series.id = series_id ORDER BY value')
      .all() as { value: number; labels: string }[];
  } finally {
    db.close();
  }
}

function expected(values: readonly number[]): { value: number; labels: string }[] {
  return values.map((value) => ({ value, labels: `series=${value % SERIES}` }));
}

const range = (from: number, to: number) => Array.from({ length: to - from }, (_, i) => from + i);

test('[MET-40, MET-45, LOG-28] a backlog is stored in full transactions of few series each, every sample once', (t) => {
  const fixture = open(t);
  send(fixture, 0, 1000);
  const seriesOf = (rows: number) => {
    const db = new Database(fixture.file, { readonly: true });
    try {
      const newest =
        'SELECT count(DISTINCT series_id) FROM (SELECT series_id FROM samples ORDER BY rowid DESC LIMIT ?)';
      return db.prepare(newest).pluck().get(rows);
    } finally {
      db.close();
    }
  };
  for (let commit = 0; commit < 10; commit++) {
    const { records, more } = fixture.committer.commit(LIMITS);
    assert.equal(records, 100);
    assert.equal(more, commit < 9);
    // 50 samples of each series: two of them fill a transaction.
    assert.equal(seriesOf(100), 2);
  }
  assert.deepEqual(stored(fixture.file), expected(range(0, 1000)));
});

test('[MET-37, MET-43, FAIL-10] a transaction of a backlog that fails costs its own samples only, and no series is mixed up', (t) => {
  const fixture = open(t);
  send(fixture, 0, 1000);
  assert.equal(fixture.committer.commit(LIMITS).records, 100);
  const db = new Database(fixture.file);
  db.exec(`CREATE TRIGGER fails BEFORE INSERT ON samples BEGIN SELECT raise(FAIL, 'no'); END`);
  assert.throws(
    () => fixture.committer.commit(LIMITS),
    (error) => error instanceof RecordCommitError && error.lost === 100,
  );
  db.exec('DROP TRIGGER fails');
  db.close();
  let records = 100;
  while (records < 900) records += fixture.committer.commit(LIMITS).records;
  const rows = stored(fixture.file);
  const lost = new Set(range(0, 1000));
  for (const { value } of rows) lost.delete(value);
  assert.equal(lost.size, 100);
  assert.deepEqual(rows, expected(rows.map(({ value }) => value)));
  assert.equal(fixture.committer.commit(LIMITS).records, 0);
});

test('[MET-37, MET-43] what failed before it was sorted is lost as a whole and told so', (t) => {
  const fixture = open(t);
  const db = new Database(fixture.file);
  db.exec(`CREATE TRIGGER fails BEFORE INSERT ON series BEGIN SELECT raise(FAIL, 'no'); END`);
  send(fixture, 0, 1000);
  assert.throws(
    () => fixture.committer.commit(LIMITS),
    (error) => error instanceof RecordCommitError && error.lost === 1000,
  );
  db.exec('DROP TRIGGER fails');
  send(fixture, 1000, 1200);
  while (fixture.committer.commit(LIMITS).more);
  assert.deepEqual(stored(fixture.file), expected(range(1000, 1200)));
  db.close();
});

test('[MET-37, MET-55] series deleted between two transactions of a backlog are made anew, also where their id is another’s', (t) => {
  const fixture = open(t);
  send(fixture, 0, 1000);
  assert.equal(fixture.committer.commit(LIMITS).records, 100);
  const db = new Database(fixture.file);
  db.pragma('foreign_keys = OFF');
  db.exec('DELETE FROM samples');
  db.exec('DELETE FROM series');
  // Ids begin at 1 again, with a stranger.
  db.exec(`INSERT INTO series (name, labels, type, label_hash) VALUES ('stranger', '', 1, 0)`);
  db.close();
  while (fixture.committer.commit(LIMITS).more);
  const rows = stored(fixture.file);
  assert.equal(rows.length, 900);
  assert.deepEqual(rows, expected(rows.map(({ value }) => value)));
});

test('[FAIL-33, MET-37] after a sweeper that died in its turn the cache knows no series: any may be gone', (t) => {
  const fixture = open(t);
  send(fixture, 0, 100);
  assert.equal(fixture.committer.commit(LIMITS).records, 100);
  fixture.committer.lend(1 as LeaseId);
  const db = new Database(fixture.file);
  db.exec('DELETE FROM samples');
  db.exec('DELETE FROM series');
  db.close();
  fixture.committer.takeBack(1 as LeaseId, null);
  send(fixture, 100, 200);
  while (fixture.committer.commit(LIMITS).more);
  assert.deepEqual(stored(fixture.file), expected(range(100, 200)));
});

test('[FAIL-18, MET-37] a backlog goes on into the store that replaces its own', (t) => {
  const fixture = open(t);
  send(fixture, 0, 1000);
  assert.equal(fixture.committer.commit(LIMITS).records, 100);
  const held = heldHandles();
  const file = `${fixture.file}.fresh`;
  const next = openMetricCommitter({ file, source: fixture.source, cacheSize: 1000, held });
  try {
    while (next.commit(LIMITS).more);
    const rows = stored(file);
    assert.equal(rows.length, 900);
    assert.deepEqual(rows, expected(rows.map(({ value }) => value)));
  } finally {
    next.close();
  }
});
