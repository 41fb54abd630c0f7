/** Log records into `logs` (LOG-24..32): one statement per transaction, decoded and read in native code. */
import { native } from '../native/addon.js';
import type { DatagramSource } from './datagramSource.js';
import { INSERT_LOGS, LOG_SCHEMA } from './logSchema.js';
import { RecordCommitter } from './recordCommitter.js';

export interface LogCommitterOptions {
  readonly file: string;
  readonly source: DatagramSource;
  /** 16 bytes; senders cannot choose it. */
  readonly bootId: Uint8Array;
}

/** @throws StoreError when the file must not be written */
export function openLogCommitter({ file, source, bootId }: LogCommitterOptions): RecordCommitter {
  return new RecordCommitter({
    file,
    schema: LOG_SCHEMA,
    source,
    table: (db) => {
      const insert = db.prepare(INSERT_LOGS);
      let decoded = 0;
      return {
        begun: () => undefined,
        decode: (batch, maxRecords) => {
          const step = native.logDecode(batch, maxRecords);
          decoded = step.records;
          return step;
        },
        insert: (batch) => insert.run(bootId, batch).changes,
        committed: () => {
          decoded = 0;
        },
        rolledBack: () => {
          const lost = decoded;
          decoded = 0;
          return lost;
        },
        resize: () => undefined,
        close: () => undefined,
      };
    },
  });
}
