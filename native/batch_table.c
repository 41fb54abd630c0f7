#include <stdbool.h>
#include <string.h>

#include "sqlite3ext.h"
SQLITE_EXTENSION_INIT3

#include "batch_table.h"

struct batch_table {
  sqlite3_vtab base;
  const struct batch_table_kind *kind;
};

static const struct batch_table_kind *kind_of(const sqlite3_vtab *table) {
  return ((const struct batch_table *)table)->kind;
}

int batch_table_connect(sqlite3 *db, void *kind, int argc, const char *const *argv, sqlite3_vtab **out, char **error) {
  (void)argc, (void)argv, (void)error;
  const struct batch_table_kind *own = kind;
  int rc = sqlite3_declare_vtab(db, own->schema);
  if (rc != SQLITE_OK) return rc;
  sqlite3_vtab_config(db, SQLITE_VTAB_DIRECTONLY);
  struct batch_table *table = sqlite3_malloc(sizeof *table);
  if (table == NULL) return SQLITE_NOMEM;
  memset(table, 0, sizeof *table);
  table->kind = own;
  *out = &table->base;
  return SQLITE_OK;
}

int batch_table_disconnect(sqlite3_vtab *table) {
  sqlite3_free(table);
  return SQLITE_OK;
}

int batch_table_fail(sqlite3_vtab *table, int rc, const char *what) {
  sqlite3_free(table->zErrMsg);
  table->zErrMsg = sqlite3_mprintf("%s: %s", kind_of(table)->name, what);
  return rc;
}

int batch_table_best_index(sqlite3_vtab *table, sqlite3_index_info *info) {
  const struct batch_table_kind *kind = kind_of(table);
  bool named = false;
  for (int i = 0; i < info->nConstraint; i++) {
    if (info->aConstraint[i].iColumn != kind->argument_column) continue;
    if (info->aConstraint[i].op != SQLITE_INDEX_CONSTRAINT_EQ) continue;
    named = true;
    if (!info->aConstraint[i].usable) continue;
    info->aConstraintUsage[i].argvIndex = 1;
    info->aConstraintUsage[i].omit = 1;
    info->estimatedCost = (double)kind->rows;
    info->estimatedRows = kind->rows;
    return SQLITE_OK;
  }
  if (named) return SQLITE_CONSTRAINT;
  sqlite3_free(table->zErrMsg);
  table->zErrMsg = sqlite3_mprintf("%s: the %s argument is missing", kind->name, kind->argument);
  return SQLITE_ERROR;
}

int batch_table_open(sqlite3_vtab *table, sqlite3_vtab_cursor **out) {
  size_t size = kind_of(table)->cursor_size;
  sqlite3_vtab_cursor *cursor = sqlite3_malloc64(size);
  if (cursor == NULL) return SQLITE_NOMEM;
  memset(cursor, 0, size);
  *out = cursor;
  return SQLITE_OK;
}
