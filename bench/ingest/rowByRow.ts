/** The usual way in Node: one bound INSERT per event through better-sqlite3. */
import { readFileSync } from 'node:fs';
import { openShardWriter } from '../../src/stores/shard.js';
import { CHECKPOINT_BYTES } from '../../src/stores/walCheckpoint.js';
import { type Elapsed, startWatch } from './stopwatch.js';
import { BATCH, BOOT_ID, ROW_OVERHEAD } from './workload.js';

const RING_DATA_OFFSET = 8192;

const INSERT = `INSERT INTO events (boot_id, timestamp, cpu_id, sequence, origin_class, event_type,
  effective_token_guid, true_token_guid, process_guid, payload) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`;

/** Stores the first `events` events of a filled ring file. */
export function storeRowByRow(file: string, ringFile: string, events: number): Elapsed {
  const ring = readFileSync(ringFile);
  const db = openShardWriter(file);
  const insert = db.prepare(INSERT);
  const begin = db.prepare('BEGIN IMMEDIATE');
  const commit = db.prepare('COMMIT');
  const watch = startWatch();
  let sinceCheckpoint = 0;
  let at = RING_DATA_OFFSET;
  for (let done = 0; done < events; ) {
    begin.run();
    for (let i = 0; i < BATCH && done < events; i++, done++) {
      const size = ring.readUInt32LE(at);
      insert.run(
        BOOT_ID,
        ring.readBigUInt64LE(at + 8),
        ring.readUInt16LE(at + 24),
        ring.readBigUInt64LE(at + 16),
        ring[at + 26],
        ring.toString('utf8', at + 77, at + 77 + ring.readUInt16LE(at + 75)),
        ring.subarray(at + 27, at + 43),
        ring.subarray(at + 43, at + 59),
        ring.subarray(at + 59, at + 75),
        ring.subarray(at + ring.readUInt32LE(at + 4), at + size),
      );
      at += size;
      sinceCheckpoint += size + ROW_OVERHEAD;
    }
    commit.run();
    if (sinceCheckpoint < CHECKPOINT_BYTES) continue;
    db.pragma('wal_checkpoint(PASSIVE)');
    sinceCheckpoint = 0;
  }
  const elapsed = watch();
  db.close();
  return elapsed;
}
