/** Log records into `logs` (LOG-24..32): one statement per transaction, decoded and read in native code. */
import { native } from '../native/addon.js';
import { CommitAnnouncer, CommitFeed, LOG_SOURCE } from './commitFeed.js';
import type { DatagramSource } from './datagramSource.js';
import { INSERT_LOGS, LOG_SCHEMA } from './logSchema.js';
import { RecordCommitter } from './recordCommitter.js';

export interface LogCommitterOptions {
  readonly file: string;
  readonly source: DatagramSource;
  /** 16 bytes; senders cannot choose it. */
  readonly bootId: Uint8Array;
  /** Where commits are told (STR-5); null: nobody is told. */
  readonly commits?: SharedArrayBuffer | null;
}

/** @throws StoreError when the file must not be written */
export function openLogCommitter({
  file,
  source,
  bootId,
  commits = null,
}: LogCommitterOptions): RecordCommitter {
  return new RecordCommitter({
    file,
    schema: LOG_SCHEMA,
    source,
    table: (db) => {
      const insert = db.prepare(INSERT_LOGS);
      const last = db.prepare('SELECT ifnull(max(id), 0) FROM logs').pluck().get() as number | bigint;
      const announcer =
        commits === null ? null : new CommitAnnouncer(new CommitFeed(commits), LOG_SOURCE, BigInt(last));
      let decoded = 0;
      let stored = { rows: 0, last: 0n };
      return {
        begun: () => undefined,
        lent: () => undefined,
        returned: () => undefined,
        decode: (batch, maxRecords) => {
          const step = native.logDecode(batch, maxRecords);
          decoded = step.records;
          return step;
        },
        insert: (batch) => {
          const { changes, lastInsertRowid } = insert.run(bootId, batch);
          stored = { rows: changes, last: BigInt(lastInsertRowid) };
          return changes;
        },
        committed: () => {
          decoded = 0;
          announcer?.committed(stored.last, stored.rows);
          stored = { rows: 0, last: 0n };
        },
        rolledBack: () => {
          const lost = decoded;
          decoded = 0;
          stored = { rows: 0, last: 0n };
          return lost;
        },
        resize: () => undefined,
        close: () => undefined,
      };
    },
  });
}
