/*
 * Entry point of the SQLite extension: the same shared object as the Node addon, loaded once more
 * into each connection by `loadExtension(path, 'sqlite3_eventd_init')`.
 *
 * The host may have omitted parts of SQLite (better-sqlite3 leaves the progress handler out, its
 * pointer in the extension API is null): call only what is listed in sqlite3ext.h and used here.
 */
#include "sqlite3ext.h"
SQLITE_EXTENSION_INIT1

#include "sqlite_parts.h"

__attribute__((visibility("default"))) int sqlite3_eventd_init(sqlite3 *db, char **error,
                                                               const sqlite3_api_routines *api);

int sqlite3_eventd_init(sqlite3 *db, char **error, const sqlite3_api_routines *api) {
  SQLITE_EXTENSION_INIT2(api);
  int rc = sqlite_batch_register(db);
  if (rc == SQLITE_OK) rc = sqlite_log_register(db);
  if (rc == SQLITE_OK) rc = sqlite_metric_register(db);
  if (rc == SQLITE_OK) rc = sqlite_payload_register(db);
  if (rc == SQLITE_OK) rc = sqlite_text_register(db);
  if (rc == SQLITE_OK) rc = sqlite_record_register(db);
  if (rc == SQLITE_OK) rc = sqlite_ranges_register(db);
  if (rc == SQLITE_OK) rc = sqlite_group_register(db);
  if (rc == SQLITE_OK) rc = sqlite_shown_register(db);
  if (rc == SQLITE_OK) rc = sqlite_file_register(db);
  if (rc == SQLITE_OK) rc = sqlite_wal_register(db);
  if (rc == SQLITE_OK) rc = sqlite_read_ahead_register(db);
  if (rc == SQLITE_OK) rc = sqlite_slot_register(db);
  if (rc != SQLITE_OK) *error = sqlite3_mprintf("eventd extension: %s", sqlite3_errstr(rc));
  return rc;
}
