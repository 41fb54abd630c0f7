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

#include <string.h>

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

static int log_connect(sqlite3 *db, void *aux, int argc, const char *const *argv, sqlite3_vtab **table, char **error) {
  (void)aux, (void)argc, (void)argv, (void)error;
  int rc = sqlite3_declare_vtab(db, schema);
  if (rc != SQLITE_OK) return rc;
  sqlite3_vtab_config(db, SQLITE_VTAB_DIRECTONLY);
  *table = sqlite3_malloc(sizeof **table);
  if (*table == NULL) return SQLITE_NOMEM;
  memset(*table, 0, sizeof **table);
  return SQLITE_OK;
}

static int log_disconnect(sqlite3_vtab *table) {
  sqlite3_free(table);
  return SQLITE_OK;
}

static int fail(sqlite3_vtab *table, const char *what) {
  sqlite3_free(table->zErrMsg);
  table->zErrMsg = sqlite3_mprintf("log_batch: %s", what);
  return SQLITE_ERROR;
}

static int log_best_index(sqlite3_vtab *table, sqlite3_index_info *info) {
  bool named = false;
  for (int i = 0; i < info->nConstraint; i++) {
    if (info->aConstraint[i].iColumn != COLUMN_BATCH) continue;
    if (info->aConstraint[i].op != SQLITE_INDEX_CONSTRAINT_EQ) continue;
    named = true;
    if (!info->aConstraint[i].usable) continue;
    info->aConstraintUsage[i].argvIndex = 1;
    info->aConstraintUsage[i].omit = 1;
    info->estimatedCost = 5000;
    info->estimatedRows = 5000;
    return SQLITE_OK;
  }
  return named ? SQLITE_CONSTRAINT : fail(table, "the batch argument is missing");
}

static int log_open(sqlite3_vtab *table, sqlite3_vtab_cursor **out) {
  (void)table;
  struct log_cursor *cursor = sqlite3_malloc(sizeof *cursor);
  if (cursor == NULL) return SQLITE_NOMEM;
  memset(cursor, 0, sizeof *cursor);
  *out = &cursor->base;
  return SQLITE_OK;
}

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
  if (batch == NULL) return fail(base->pVtab, "the argument names no taken batch");
  if (!datagrams_lock_read(batch)) {
    handle_release(cursor->handle);
    return fail(base->pVtab, "the batch is being decoded");
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
    .xConnect = log_connect,
    .xBestIndex = log_best_index,
    .xDisconnect = log_disconnect,
    .xOpen = log_open,
    .xClose = log_close,
    .xFilter = log_filter,
    .xNext = log_next,
    .xEof = log_eof,
    .xColumn = log_column,
    .xRowid = log_rowid,
};

int sqlite_log_register(sqlite3 *db) {
  return sqlite3_create_module_v2(db, "log_batch", &module, NULL, NULL);
}
