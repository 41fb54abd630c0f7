/*
 * eventd_file_header(): the first bytes of this connection's database file as they stand there, not in
 * the WAL or a cache; NULL when it is shorter (FAIL-12).
 *
 * Whoever opens and closes that file by himself drops every lock that the process has on it, SQLite's
 * included: fcntl locks belong to the process, not to a descriptor. So it is read through SQLite's own.
 */
#include <stddef.h>

#include "sqlite3ext.h"
SQLITE_EXTENSION_INIT3

#include "sqlite_parts.h"

/* Up to and with the number of pages. */
enum { HEADER_BYTES = 32 };

sqlite3_file *sqlite_main_file(sqlite3 *db) {
  sqlite3_file *file = NULL;
  int rc = sqlite3_file_control(db, "main", SQLITE_FCNTL_FILE_POINTER, &file);
  return rc == SQLITE_OK && file != NULL && file->pMethods != NULL ? file : NULL;
}

static void eventd_file_header(sqlite3_context *context, int argc, sqlite3_value **argv) {
  (void)argc, (void)argv;
  sqlite3_file *file = sqlite_main_file(sqlite3_context_db_handle(context));
  if (file == NULL) return;
  char header[HEADER_BYTES];
  int rc = file->pMethods->xRead(file, header, HEADER_BYTES, 0);
  if (rc == SQLITE_OK) sqlite3_result_blob(context, header, HEADER_BYTES, SQLITE_TRANSIENT);
  else if (rc != SQLITE_IOERR_SHORT_READ) sqlite3_result_error_code(context, rc);
}

int sqlite_file_register(sqlite3 *db) {
  return sqlite3_create_function(db, "eventd_file_header", 0, SQLITE_UTF8 | SQLITE_DIRECTONLY, NULL,
                                 eventd_file_header, NULL, NULL);
}
