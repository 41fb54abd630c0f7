/** The schema of the log store (LOG-33..35): what a new file gets, and what an existing one must have. */
import { METADATA_TABLE, type StoreSchema } from './storeFile.js';

/** Page size of a new log store, in bytes. */
export const LOG_PAGE_SIZE = 8192;

const LOGS_TABLE = `CREATE TABLE logs (
  id INTEGER PRIMARY KEY,
  boot_id BLOB NOT NULL,
  timestamp INTEGER NOT NULL,
  origin TEXT NOT NULL,
  is_error INTEGER NOT NULL,
  message TEXT NOT NULL
)`;

/** Columns of `logs`. */
export const LOG_COLUMNS: readonly string[] = ['id', 'boot_id', 'timestamp', 'origin', 'is_error', 'message'];

/** The write-time indexes (LOG-34); there are no others. */
const INDEXES = {
  idx_logs_timestamp: 'CREATE INDEX idx_logs_timestamp ON logs(timestamp)',
  idx_logs_origin: 'CREATE INDEX idx_logs_origin ON logs(origin)',
} as const;

export const LOG_SCHEMA: StoreSchema = {
  pageSize: LOG_PAGE_SIZE,
  synchronous: 'NORMAL',
  cacheKib: 4096,
  statements: [LOGS_TABLE, METADATA_TABLE, ...Object.values(INDEXES)],
  objects: [
    { type: 'table', name: 'logs' },
    { type: 'table', name: 'metadata' },
    ...Object.keys(INDEXES).map((name) => ({ type: 'index' as const, name })),
  ],
  columns: { logs: LOG_COLUMNS },
  readable: ['logs'],
};

/** Inserts the records of one decoding step. Parameters: boot id, batch handle. */
export const INSERT_LOGS = `INSERT OR FAIL INTO logs (boot_id, timestamp, origin, is_error, message)
  SELECT ?, timestamp, origin, is_error, message FROM log_batch(?)`;
