/*
 * What the table-valued functions over a batch have in common (kmes_batch, log_batch, metric_batch):
 * one hidden argument that names the batch, no table behind it, rows read by a cursor of their own.
 */
#ifndef EVENTD_BATCH_TABLE_H
#define EVENTD_BATCH_TABLE_H

/* Include sqlite3ext.h first. */
#include <stddef.h>

/* One such function. Give it to sqlite3_create_module_v2 as client data. */
struct batch_table_kind {
  /* As SQL and errors call it. */
  const char *name;
  /* Its declaration; the argument is a HIDDEN column. */
  const char *schema;
  int argument_column;
  /* As errors call it. */
  const char *argument;
  /* Rows the planner reckons with. */
  sqlite3_int64 rows;
  /* Bytes of its cursor, which begins with an sqlite3_vtab_cursor and starts out as zeros. */
  size_t cursor_size;
};

/* xConnect, xBestIndex, xDisconnect and xOpen of the module. */
int batch_table_connect(sqlite3 *db, void *kind, int argc, const char *const *argv, sqlite3_vtab **table,
                        char **error);
int batch_table_best_index(sqlite3_vtab *table, sqlite3_index_info *info);
int batch_table_disconnect(sqlite3_vtab *table);
int batch_table_open(sqlite3_vtab *table, sqlite3_vtab_cursor **cursor);

/* Leaves `NAME: what` as the table's error and returns `rc`. */
int batch_table_fail(sqlite3_vtab *table, int rc, const char *what);

#endif
