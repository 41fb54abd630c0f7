/** The schema of the metric store (MET-46..50, ROL-7, ROL-8): what a new file gets, and what an existing one must have. */
import { METADATA_TABLE, type StoreSchema } from './storeFile.js';

/** Page size of a new metric store, in bytes: each sample touches another leaf of the index, so small ones cost less WAL. */
export const METRIC_PAGE_SIZE = 2048;

const SERIES_TABLE = `CREATE TABLE series (
  id INTEGER PRIMARY KEY,
  name TEXT NOT NULL,
  labels TEXT NOT NULL,
  type INTEGER NOT NULL,
  label_hash INTEGER NOT NULL,
  boundaries_hash INTEGER,
  UNIQUE (name, labels, boundaries_hash)
)`;

const SAMPLES_TABLE = `CREATE TABLE samples (
  series_id INTEGER NOT NULL REFERENCES series(id),
  timestamp INTEGER NOT NULL,
  value REAL NOT NULL,
  histogram_data BLOB
)`;

/** The index SQLite makes for the constraint is the one ROL-8 asks for. */
const ROLLUPS_TABLE = `CREATE TABLE rollups (
  id INTEGER PRIMARY KEY,
  series_id INTEGER NOT NULL REFERENCES series(id),
  function INTEGER NOT NULL,
  window_seconds INTEGER NOT NULL,
  window_start INTEGER NOT NULL,
  value REAL NOT NULL,
  sample_count INTEGER NOT NULL,
  UNIQUE (series_id, function, window_seconds, window_start)
)`;

/** The write-time indexes (MET-49). */
const INDEXES = {
  idx_samples_series_timestamp: 'CREATE INDEX idx_samples_series_timestamp ON samples(series_id, timestamp)',
  idx_series_name: 'CREATE INDEX idx_series_name ON series(name)',
  idx_series_label_hash: 'CREATE INDEX idx_series_label_hash ON series(label_hash)',
} as const;

/** What SQLite calls the indexes of the two UNIQUE constraints. */
const CONSTRAINT_INDEXES = ['sqlite_autoindex_series_1', 'sqlite_autoindex_rollups_1'] as const;

/** Ids of metric types in `series.type` (MET-46). */
export type MetricType = 0 | 1 | 2;

export const METRIC_SCHEMA: StoreSchema = {
  pageSize: METRIC_PAGE_SIZE,
  synchronous: 'NORMAL',
  // The leaves of a few thousand series and what leads to them.
  cacheKib: 8192,
  statements: [SERIES_TABLE, SAMPLES_TABLE, ROLLUPS_TABLE, METADATA_TABLE, ...Object.values(INDEXES)],
  objects: [
    ...['series', 'samples', 'rollups', 'metadata'].map((name) => ({ type: 'table' as const, name })),
    ...[...Object.keys(INDEXES), ...CONSTRAINT_INDEXES].map((name) => ({ type: 'index' as const, name })),
  ],
  columns: {
    series: ['id', 'name', 'labels', 'type', 'label_hash', 'boundaries_hash'],
    samples: ['series_id', 'timestamp', 'value', 'histogram_data'],
    rollups: ['id', 'series_id', 'function', 'window_seconds', 'window_start', 'value', 'sample_count'],
  },
  readable: ['series', 'samples'],
};

/**
 * Looks a series up (MET-28). The hash narrows, the full strings decide; all of it is one step in the
 * index of the UNIQUE constraint, however many series share a name or a set of labels. Parameters: name, label
 * hash, labels, boundaries hash or NULL, which only `IS` finds.
 */
export const FIND_SERIES =
  'SELECT id, type FROM series WHERE name = ? AND label_hash = ? AND labels = ? AND boundaries_hash IS ?';

/** The same for a database that was hashed by other means (MET-36). Parameters: name, labels, boundaries hash. */
export const FIND_SERIES_BY_TEXT =
  'SELECT id, type FROM series WHERE name = ? AND labels = ? AND boundaries_hash IS ?';

/** Parameters: name, labels, type, label hash, boundaries hash. */
export const INSERT_SERIES =
  'INSERT INTO series (name, labels, type, label_hash, boundaries_hash) VALUES (?, ?, ?, ?, ?)';

/**
 * Inserts the resolved samples of one decoding step. Parameter: batch handle. A failure rolls the whole
 * transaction back anyway; FAIL spares SQLite a journal of every index page the statement touches.
 */
export const INSERT_SAMPLES = `INSERT OR FAIL INTO samples (series_id, timestamp, value, histogram_data)
  SELECT series_id, timestamp, value, histogram_data FROM metric_batch(?)`;
