/*
 * Access control in SQL:
 *
 *   shown(record, identifier, spec)  the encoded record with the fields that the spec grants to its
 *                                    identifier (native/shown.h); one that shows none is an empty map
 *   payload_paths(payload)           the paths of a payload's fields as msgpack, a list of lists
 */
#include "sqlite3ext.h"
SQLITE_EXTENSION_INIT3

#include <stdlib.h>

#include "shown.h"
#include "sqlite_parts.h"

static void release(void *shown) {
  shown_free(shown);
}

/* The spec of a call, compiled once per statement. NULL after telling why. */
static struct shown *spec_of(sqlite3_context *context, sqlite3_value *value, bool *is_new) {
  struct shown *known = sqlite3_get_auxdata(context, 2);
  *is_new = known == NULL;
  if (known != NULL) return known;
  bool malformed = sqlite3_value_type(value) != SQLITE_BLOB;
  const uint8_t *bytes = sqlite3_value_blob(value);
  struct shown *made = malformed ? NULL : shown_new(bytes, (size_t)sqlite3_value_bytes(value), &malformed);
  if (made != NULL) return made;
  if (malformed) {
    sqlite3_result_error(context, "shown takes what the field names are granted to", -1);
  } else {
    sqlite3_result_error_nomem(context);
  }
  return NULL;
}

static void result(sqlite3_context *context, struct msgpack_writer *writer) {
  if (writer->failed) {
    msgpack_writer_free(writer);
    sqlite3_result_error_nomem(context);
  } else {
    sqlite3_result_blob64(context, writer->bytes, writer->length, free);
  }
}

static void shown_call(sqlite3_context *context, int argc, sqlite3_value **argv) {
  (void)argc;
  bool is_new;
  struct shown *shown = spec_of(context, argv[2], &is_new);
  if (shown == NULL) return;
  const uint8_t *identifier = sqlite3_value_text(argv[1]);
  size_t length = identifier == NULL ? 0 : (size_t)sqlite3_value_bytes(argv[1]);
  struct msgpack_writer writer = {0};
  const uint8_t *record = sqlite3_value_blob(argv[0]);
  if (record == NULL) record = (const uint8_t *)"\x80";
  size_t size = sqlite3_value_blob(argv[0]) == NULL ? 1 : (size_t)sqlite3_value_bytes(argv[0]);
  msgpack_write_raw(&writer, record, size);
  shown_cut(shown, identifier, length, &writer, 0);
  result(context, &writer);
  if (is_new) sqlite3_set_auxdata(context, 2, shown, release);
}

static void payload_paths(sqlite3_context *context, int argc, sqlite3_value **argv) {
  (void)argc;
  struct msgpack_writer writer = {0};
  bool is_blob = sqlite3_value_type(argv[0]) == SQLITE_BLOB;
  const uint8_t *payload = is_blob ? sqlite3_value_blob(argv[0]) : NULL;
  shown_paths(&writer, payload == NULL ? (const uint8_t *)"" : payload,
              payload == NULL ? 0 : (size_t)sqlite3_value_bytes(argv[0]));
  result(context, &writer);
}

int sqlite_shown_register(sqlite3 *db) {
  int rc = sqlite3_create_function(db, "shown", 3, PURE_FUNCTION, NULL, shown_call, NULL, NULL);
  if (rc != SQLITE_OK) return rc;
  return sqlite3_create_function(db, "payload_paths", 1, PURE_FUNCTION, NULL, payload_paths, NULL, NULL);
}
