/** The log writer: a record writer over the log store (LOG-24, LOG-44). */
import { openLogCommitter } from '../../src/stores/logCommitter.js';
import {
  type RecordWriter,
  type RecordWriterData,
  type RecordWriterOptions,
  startRecordWriter,
} from '../recordWriter.js';

export interface LogWriterData extends RecordWriterData {
  /** 16 bytes. */
  readonly bootId: Uint8Array;
  /** Where commits are told (STR-5). */
  readonly commits?: SharedArrayBuffer | null;
}

export function startLogWriter(
  options: LogWriterData & Omit<RecordWriterOptions, 'store' | 'open'>,
): RecordWriter {
  const { file, bootId, commits = null } = options;
  return startRecordWriter({
    ...options,
    store: 'log',
    open: (source) => openLogCommitter({ file, source, bootId, commits }),
  });
}
