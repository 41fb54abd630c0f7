/*
 * metric_batch(batch): the present slice of a sorted step as a table, so that one statement stores it:
 *
 *   INSERT INTO samples(series_id, timestamp, value, histogram_data)
 *   SELECT series_id, timestamp, value, histogram_data FROM metric_batch(?)
 *
 * Rows come by series, then time: each leaf of the index is then touched once per transaction.
 * Values point into the step, which nobody can change while the table is read.
 */
#include "sqlite3ext.h"
SQLITE_EXTENSION_INIT3

#include "batch_table.h"
#include "handle.h"
#include "metric_step.h"
#include "sqlite_parts.h"

enum { COLUMN_SERIES_ID, COLUMN_TIMESTAMP, COLUMN_VALUE, COLUMN_HISTOGRAM_DATA, COLUMN_BATCH };

static const char schema[] =
    "CREATE TABLE metric_batch(series_id INTEGER, timestamp INTEGER, value REAL, histogram_data BLOB,"
    " batch INTEGER HIDDEN)";

struct metric_cursor {
  sqlite3_vtab_cursor base;
  /* The borrowed batch and its handle, 0 = none. */
  struct datagrams *batch;
  int64_t handle;
  const struct metric_step *step;
  size_t place, count;
  struct metric_sample sample;
};

static const struct batch_table_kind kind = {
    .name = "metric_batch",
    .schema = schema,
    .argument_column = COLUMN_BATCH,
    .argument = "batch",
    .rows = 5000,
    .cursor_size = sizeof(struct metric_cursor),
};

static void give_back(struct metric_cursor *cursor) {
  cursor->place = cursor->count = 0;
  if (cursor->batch == NULL) return;
  datagrams_unlock_read(cursor->batch);
  handle_release(cursor->handle);
  cursor->batch = NULL;
  cursor->handle = 0;
}

static int metric_close(sqlite3_vtab_cursor *base) {
  struct metric_cursor *cursor = (struct metric_cursor *)base;
  give_back(cursor);
  sqlite3_free(cursor);
  return SQLITE_OK;
}

static int fail(struct metric_cursor *cursor, const char *what) {
  give_back(cursor);
  return batch_table_fail(cursor->base.pVtab, SQLITE_ERROR, what);
}

static void load(struct metric_cursor *cursor) {
  if (cursor->place < cursor->count) cursor->sample = metric_step_sample(cursor->step, cursor->place);
}

static int metric_filter(sqlite3_vtab_cursor *base, int index, const char *name, int argc, sqlite3_value **argv) {
  (void)index, (void)name, (void)argc;
  struct metric_cursor *cursor = (struct metric_cursor *)base;
  give_back(cursor);
  int64_t handle = sqlite3_value_int64(argv[0]);
  struct datagrams *batch = handle_acquire(HANDLE_DATAGRAMS, handle);
  if (batch == NULL) return fail(cursor, "the argument names no taken batch");
  if (!datagrams_lock_read(batch)) {
    handle_release(handle);
    return fail(cursor, "the batch is being decoded");
  }
  cursor->batch = batch;
  cursor->handle = handle;
  cursor->step = metric_step_of(batch);
  if (cursor->step == NULL) return fail(cursor, "no metrics were decoded from the batch");
  if (!metric_step_sorted(cursor->step)) return fail(cursor, "the batch is not sorted yet");
  struct metric_slice slice = metric_step_present(cursor->step);
  cursor->place = slice.first;
  cursor->count = slice.end;
  load(cursor);
  return SQLITE_OK;
}

static int metric_next(sqlite3_vtab_cursor *base) {
  struct metric_cursor *cursor = (struct metric_cursor *)base;
  cursor->place++;
  load(cursor);
  return SQLITE_OK;
}

static int metric_eof(sqlite3_vtab_cursor *base) {
  const struct metric_cursor *cursor = (const struct metric_cursor *)base;
  return cursor->place >= cursor->count;
}

static int metric_rowid(sqlite3_vtab_cursor *base, sqlite3_int64 *rowid) {
  *rowid = (sqlite3_int64)((struct metric_cursor *)base)->place + 1;
  return SQLITE_OK;
}

static int metric_column(sqlite3_vtab_cursor *base, sqlite3_context *context, int column) {
  const struct metric_cursor *cursor = (const struct metric_cursor *)base;
  const struct metric_sample *sample = &cursor->sample;
  switch (column) {
    case COLUMN_SERIES_ID: sqlite3_result_int64(context, sample->series_id); break;
    case COLUMN_TIMESTAMP: sqlite3_result_int64(context, sample->timestamp); break;
    case COLUMN_VALUE: sqlite3_result_double(context, sample->value); break;
    case COLUMN_HISTOGRAM_DATA:
      if (sample->histogram == NULL) break;
      sqlite3_result_blob64(context, sample->histogram, sample->histogram_length, SQLITE_STATIC);
      break;
    case COLUMN_BATCH: sqlite3_result_int64(context, cursor->handle); break;
  }
  return SQLITE_OK;
}

/* No xCreate: the table exists only as a function. */
static const sqlite3_module module = {
    .xConnect = batch_table_connect,
    .xBestIndex = batch_table_best_index,
    .xDisconnect = batch_table_disconnect,
    .xOpen = batch_table_open,
    .xClose = metric_close,
    .xFilter = metric_filter,
    .xNext = metric_next,
    .xEof = metric_eof,
    .xColumn = metric_column,
    .xRowid = metric_rowid,
};

int sqlite_metric_register(sqlite3 *db) {
  return sqlite3_create_module_v2(db, kind.name, &module, (void *)&kind, NULL);
}
