/* eventd_keep_wal(): closing this connection neither checkpoints nor removes the WAL (FAIL-13). */
#include <stddef.h>

#include "sqlite3ext.h"
SQLITE_EXTENSION_INIT3

#include "sqlite_parts.h"

static void eventd_keep_wal(sqlite3_context *context, int argc, sqlite3_value **argv) {
  (void)argc, (void)argv;
  sqlite3 *db = sqlite3_context_db_handle(context);
  int rc = sqlite3_db_config(db, SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1, NULL);
  if (rc == SQLITE_OK) sqlite3_result_int(context, 1);
  else sqlite3_result_error_code(context, rc);
}

int sqlite_wal_register(sqlite3 *db) {
  return sqlite3_create_function(db, "eventd_keep_wal", 0, SQLITE_UTF8 | SQLITE_DIRECTONLY, NULL, eventd_keep_wal,
                                 NULL, NULL);
}
