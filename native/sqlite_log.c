/*
 * log_batch(batch): the records of a batch's last decoding step as a table, so that one statement
 * stores them all:
 *
 *   INSERT INTO logs(boot_id, timestamp, origin, is_error, message)
 *   SELECT ?2, timestamp, origin, is_error, message FROM log_batch(?1)
 *
 * Texts point into the batch, which cannot be decoded further or given back while the table is read.
 */
#include "sqlite3ext.h"
SQLITE_EXTENSION_INIT3

#include "batch_table.h"
#include "handle.h"
#include "log_decode.h"
#include "sqlite_parts.h"

enum { COLUMN_TIMESTAMP, COLUMN_ORIGIN, COLUMN_IS_ERROR, COLUMN_MESSAGE, COLUMN_BATCH };

static const char schema[] =
    "CREATE TABLE log_batch(timestamp INTEGER, origin TEXT, is_error INTEGER, message TEXT, batch INTEGER HIDDEN)";

struct log_cursor {
  sqlite3_vtab_cursor base;
  /* The batch being read, NULL = none. */
  struct datagrams *batch;
  int64_t handle;
  const struct log_record *records;
  uint32_t count, row;
};

static const struct batch_table_kind kind = {
    .name = "log_batch",
    .schema = schema,
    .argument_column = COLUMN_BATCH,
    .argument = "batch",
    .rows = 5000,
    .cursor_size = sizeof(struct log_cursor),
};

static void let_go(struct log_cursor *cursor) {
  if (cursor->batch == NULL) return;
  datagrams_unlock_read(cursor->batch);
  handle_release(cursor->handle);
  cursor->batch = NULL;
  cursor->count = 0;
}

static int log_close(sqlite3_vtab_cursor *base) {
  let_go((struct log_cursor *)base);
  sqlite3_free(base);
  return SQLITE_OK;
}

static int log_filter(sqlite3_vtab_cursor *base, int index, const char *name, int argc, sqlite3_value **argv) {
  (void)index, (void)name, (void)argc;
  struct log_cursor *cursor = (struct log_cursor *)base;
  let_go(cursor);
  cursor->row = 0;
  cursor->handle = sqlite3_value_int64(argv[0]);
  struct datagrams *batch = handle_acquire(HANDLE_DATAGRAMS, cursor->handle);
  if (batch == NULL) return batch_table_fail(base->pVtab, SQLITE_ERROR, "the argument names no taken batch");
  if (!datagrams_lock_read(batch)) {
    handle_release(cursor->handle);
    return batch_table_fail(base->pVtab, SQLITE_ERROR, "the batch is being decoded");
  }
  cursor->batch = batch;
  cursor->records = log_decoded(batch, &cursor->count);
  return SQLITE_OK;
}

static int log_next(sqlite3_vtab_cursor *base) {
  ((struct log_cursor *)base)->row++;
  return SQLITE_OK;
}

static int log_eof(sqlite3_vtab_cursor *base) {
  const struct log_cursor *cursor = (struct log_cursor *)base;
  return cursor->row >= cursor->count;
}

static int log_rowid(sqlite3_vtab_cursor *base, sqlite3_int64 *rowid) {
  *rowid = ((struct log_cursor *)base)->row + 1;
  return SQLITE_OK;
}

static void result_text(sqlite3_context *context, const uint8_t *text, uint32_t length) {
  sqlite3_result_text(context, (const char *)text, (int)length, SQLITE_STATIC);
}

static int log_column(sqlite3_vtab_cursor *base, sqlite3_context *context, int column) {
  const struct log_cursor *cursor = (struct log_cursor *)base;
  const struct log_record *record = &cursor->records[cursor->row];
  switch (column) {
    case COLUMN_TIMESTAMP: sqlite3_result_int64(context, record->timestamp); break;
    case COLUMN_ORIGIN: result_text(context, record->origin, record->origin_length); break;
    case COLUMN_IS_ERROR: sqlite3_result_int(context, record->is_error); break;
    case COLUMN_MESSAGE: result_text(context, record->message, record->message_length); break;
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
    .xClose = log_close,
    .xFilter = log_filter,
    .xNext = log_next,
    .xEof = log_eof,
    .xColumn = log_column,
    .xRowid = log_rowid,
};

int sqlite_log_register(sqlite3 *db) {
  return sqlite3_create_module_v2(db, kind.name, &module, (void *)&kind, NULL);
}
