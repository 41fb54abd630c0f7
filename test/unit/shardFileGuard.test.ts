/** What somebody else does to a writer's files, and what of it is harm. Real files, real connections. */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import {
  copyFileSync,
  linkSync,
  mkdtempSync,
  renameSync,
  rmSync,
  statSync,
  symlinkSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import Database from 'better-sqlite3';
import { openShardWriter, type ShardConnection } from '../../src/stores/shard.js';
import {
  SHARD_GONE,
  SHARD_TRUNCATED,
  SHARD_WAL_GONE,
  ShardFileGuard,
} from '../../src/stores/shardFileGuard.js';
import { locksOn } from '../fixtures/database.js';

const root = fileURLToPath(new URL('../../..', import.meta.url));
let directory: string;
let file: string;
let writer: ShardConnection;
let guard: ShardFileGuard;

beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'guard-'));
  file = join(directory, 'shard-0000.db');
  writer = openShardWriter(file);
  guard = new ShardFileGuard(writer, file);
});
afterEach(() => {
  writer.close();
  rmSync(directory, { recursive: true, force: true });
});

/** Makes the database some hundred pages long, in the file itself. */
function fill(): void {
  const insert = writer.prepare('INSERT INTO metadata VALUES (?, ?)');
  writer.transaction(() => {
    for (let i = 0; i < 200; i++) insert.run(`key${i}`, 'x'.repeat(4000));
  })();
  writer.pragma('wal_checkpoint(TRUNCATE)');
}

/** Another program's connection, with the timeouts of a shell. */
function elsewhere(work: (db: Database.Database) => void): void {
  const db = new Database(file, { timeout: 1000 });
  try {
    work(db);
  } finally {
    db.close();
  }
}

test('[FAIL-12] commits, growth and checkpoints of the writer itself are no problem', () => {
  assert.equal(guard.problem(), null);
  for (let round = 0; round < 3; round++) {
    writer.exec(`INSERT INTO metadata VALUES ('round${round}', 'x')`);
    assert.equal(guard.problem(), null);
    writer.pragma('wal_checkpoint(PASSIVE)');
    assert.equal(guard.problem(), null);
  }
  fill();
  assert.equal(guard.problem(), null);
});

test('[FAIL-12] a WAL that comes with the first transaction is no problem', () => {
  writer.close();
  rmSync(`${file}-wal`, { force: true });
  const early = new ShardFileGuard(writer, file);
  assert.equal(early.problem(), null);
  writer = openShardWriter(file);
  writer.exec("INSERT INTO metadata VALUES ('first', 'x')");
  assert.ok(statSync(`${file}-wal`).size > 0);
  assert.equal(early.problem(), null);
  assert.equal(early.problem(), null, 'now it knows the WAL, and it is the same');
});

test('[FAIL-12] VACUUM by another connection makes the file shorter and is no truncation', () => {
  fill();
  assert.equal(guard.problem(), null);
  const long = statSync(file).size;
  elsewhere((db) => {
    db.exec("DELETE FROM metadata WHERE key LIKE 'key%'");
    db.exec('VACUUM');
    db.pragma('wal_checkpoint(TRUNCATE)');
  });
  assert.ok(statSync(file).size < long / 2, 'the file has shrunk');
  assert.equal(guard.problem(), null);
  writer.exec("INSERT INTO metadata VALUES ('after', 'x')");
  assert.equal(guard.problem(), null);
});

test('[FAIL-12] a WAL truncated by a checkpoint of another connection is no problem', () => {
  writer.exec("INSERT INTO metadata VALUES ('before', 'x')");
  assert.equal(guard.problem(), null);
  elsewhere((db) => db.pragma('wal_checkpoint(TRUNCATE)'));
  assert.equal(statSync(`${file}-wal`).size, 0);
  assert.equal(guard.problem(), null);
  writer.exec("INSERT INTO metadata VALUES ('after', 'x')");
  assert.equal(guard.problem(), null);
});

test('[FAIL-12] another program that reads, writes and closes is no problem', () => {
  for (let round = 0; round < 3; round++) {
    elsewhere((db) => {
      db.exec(`INSERT INTO metadata VALUES ('other${round}', 'x')`);
      db.prepare('SELECT count(*) FROM metadata').get();
    });
    assert.equal(guard.problem(), null);
  }
  linkSync(file, join(directory, 'another name'));
  assert.equal(guard.problem(), null, 'a second link changes nothing for the first');
});

test('[FAIL-12] [STO-22] a writer that takes over beside a reading connection holds its locks: another program that closes the file leaves the WAL alone', () => {
  fill();
  const reader = new Database(file, { readonly: true });
  try {
    reader.prepare('SELECT count(*) FROM metadata').get();
    assert.equal(guard.problem(), null);
    elsewhere((db) => {
      db.exec("DELETE FROM metadata WHERE key LIKE 'key%'");
      db.exec('VACUUM');
      db.pragma('wal_checkpoint(TRUNCATE)');
    });
    assert.equal(guard.problem(), null, 'it has looked into the header');
    // As a recovery does, while the connections of queries stay.
    writer.close();
    writer = openShardWriter(file);
    guard = new ShardFileGuard(writer, file);
    writer.exec("INSERT INTO metadata VALUES ('in', 'the WAL')");
    assert.equal(guard.problem(), null);
    assert.ok(locksOn(file) > 0, 'SQLite holds the file');
    const script = `const db = new (require('better-sqlite3'))(${JSON.stringify(file)});
      db.prepare('SELECT count(*) FROM metadata').get();
      db.close();`;
    execFileSync(process.execPath, ['-e', script], { cwd: root, timeout: 10_000 });
    assert.equal(guard.problem(), null);
  } finally {
    reader.close();
  }
});

test('[FAIL-12] [FAIL-13] a file cut by whole pages or in the middle of one is truncated', () => {
  fill();
  assert.equal(guard.problem(), null);
  const { size } = statSync(file);
  for (const length of [size - 8192, Math.floor(size / 2) + 100]) {
    truncateSync(file, length);
    assert.deepEqual(guard.problem(), {
      code: SHARD_TRUNCATED,
      detail: `the file was cut to ${length} bytes`,
    });
    assert.deepEqual(guard.problem()?.code, SHARD_TRUNCATED, 'it stays so');
  }
});

test('[FAIL-12] [FAIL-13] a file emptied or cut inside its header is truncated', () => {
  fill();
  assert.equal(guard.problem(), null);
  for (const length of [20, 0]) {
    truncateSync(file, length);
    assert.equal(guard.problem()?.code, SHARD_TRUNCATED);
  }
});

test('[FAIL-12] a file cut and made as long as before is not this guard’s to find', () => {
  fill();
  assert.equal(guard.problem(), null);
  const { size } = statSync(file);
  truncateSync(file, size - 8192);
  truncateSync(file, size);
  assert.equal(guard.problem(), null, 'its length is right; SQLite finds the empty page');
});

test('[FAIL-13] a deleted database is gone', () => {
  rmSync(file);
  assert.deepEqual(guard.problem(), { code: SHARD_GONE, detail: 'the file was deleted' });
});

test('[FAIL-13] a database renamed away is gone, even where its name is taken by a copy', () => {
  renameSync(file, `${file}.old`);
  assert.deepEqual(guard.problem(), { code: SHARD_GONE, detail: 'the file was deleted' });
  copyFileSync(`${file}.old`, file);
  assert.deepEqual(guard.problem(), { code: SHARD_GONE, detail: 'the file was replaced' });
  rmSync(file);
  writeFileSync(file, '');
  assert.deepEqual(guard.problem(), { code: SHARD_GONE, detail: 'the file was replaced' });
  rmSync(file);
  renameSync(`${file}.old`, file);
  assert.equal(guard.problem(), null, 'the same file is back');
});

test('[FAIL-13] a database behind a symbolic link counts by what the link leads to', () => {
  renameSync(file, `${file}.real`);
  symlinkSync(`${file}.real`, file);
  assert.equal(guard.problem(), null);
});

test('[FAIL-13] a deleted or replaced WAL is a shard that is gone: SQLite would go on writing to the old one', () => {
  writer.exec("INSERT INTO metadata VALUES ('in', 'the WAL')");
  assert.equal(guard.problem(), null);
  const wal = `${file}-wal`;
  renameSync(wal, `${wal}.old`);
  assert.deepEqual(guard.problem(), { code: SHARD_WAL_GONE, detail: 'its WAL was deleted' });
  copyFileSync(`${wal}.old`, wal);
  assert.deepEqual(guard.problem(), { code: SHARD_WAL_GONE, detail: 'its WAL was replaced' });
  rmSync(wal);
  renameSync(`${wal}.old`, wal);
  assert.equal(guard.problem(), null);
});
