/** What a committer leaves behind when it has found its shard damaged. */
import assert from 'node:assert/strict';
import { mkdtempSync, readFileSync, rmSync, statSync, truncateSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import Database from 'better-sqlite3';
import { openChannel } from '../../actors/shardWriter/shardWriter.js';
import { native } from '../../src/native/addon.js';
import { CommitError, ShardCommitter } from '../../src/stores/shardCommitter.js';
import { SHARD_PAGE_SIZE } from '../../src/stores/shardSchema.js';
import { storageErrorEvent } from '../../src/stores/synthetic.js';

const LIMITS = { maxBatchSize: 1000, maxBatchLatencyMs: 100 };
const ROWS = 200;

test('[FAIL-13] [FAIL-15] closing a shard that was found cut short writes neither the file nor its WAL', (t) => {
  const directory = mkdtempSync(join(tmpdir(), 'eventd-shard-'));
  t.after(() => rmSync(directory, { recursive: true, force: true }));
  const file = join(directory, 'shard-0000.db');
  const channel = openChannel(0, LIMITS);
  t.after(() => native.channelClose(channel));
  const committer = new ShardCommitter({ file, bootId: new Uint8Array(16), channel, unordered: [] });
  const commitSome = (): void => {
    for (let i = 0; i < ROWS; i++) {
      const error = `row ${i} ${'x'.repeat(500)}`;
      committer.queue(storageErrorEvent(native.realtimeNs(), { store: 'log', shard: null, error }));
    }
    committer.commit(LIMITS);
  };
  commitSome();
  const other = new Database(file);
  other.pragma('wal_checkpoint(TRUNCATE)');
  other.close();
  commitSome();

  // So little that SQLite itself would notice nothing.
  truncateSync(file, statSync(file).size - SHARD_PAGE_SIZE);
  const bytes = readFileSync(file);
  const wal = readFileSync(`${file}-wal`);
  assert.ok(wal.length > ROWS * 500, 'the WAL holds what a checkpoint would move');
  assert.throws(
    commitSome,
    (error) => error instanceof CommitError && error.corrupt && error.code === 'ERR_SHARD_TRUNCATED',
  );
  committer.close();
  assert.ok(readFileSync(file).equals(bytes), 'the database is as it was found');
  assert.ok(readFileSync(`${file}-wal`).equals(wal), 'the WAL is as it was found');
});
