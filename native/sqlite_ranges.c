/*
 * SQL functions on sets of time ranges (range_set.h), by which the SELECTs of a query take up its
 * cross-type conditions (QL-112, QX-4):
 *
 *   in_ranges(time, ranges)   1 when a range holds the INTEGER `time`, else 0
 *   ranges_start(ranges)      the first time in the set, ranges_end(ranges) the last; NULL when it is
 *                             empty: as bounds of a scan they then keep every row out
 *
 * Anything but a well-formed set raises an error: a scan over half of a condition would be wrong.
 */
#include "sqlite3ext.h"
SQLITE_EXTENSION_INIT3

#include <stdlib.h>

#include "range_set.h"
#include "sqlite_parts.h"

/* The bytes of a set; NULL after raising an error. `checked` saves the walk over a set seen before. */
static const uint8_t *read_set(sqlite3_context *context, sqlite3_value *value, bool checked, size_t *count) {
  if (sqlite3_value_type(value) != SQLITE_BLOB) {
    sqlite3_result_error(context, "time ranges are a blob", -1);
    return NULL;
  }
  size_t length = (size_t)sqlite3_value_bytes(value);
  const uint8_t *bytes = sqlite3_value_blob(value);
  if (bytes == NULL) bytes = (const uint8_t *)"";
  if (!checked && !ranges_valid(bytes, length)) {
    sqlite3_result_error(context, "malformed time ranges", -1);
    return NULL;
  }
  *count = length / RANGE_BYTES;
  return bytes;
}

/* A constant set is checked once per statement, and remembers which of its ranges answered last. */
static void in_ranges(sqlite3_context *context, int argc, sqlite3_value **argv) {
  (void)argc;
  size_t *hint = sqlite3_get_auxdata(context, 1);
  size_t *made = NULL;
  size_t count;
  const uint8_t *bytes = read_set(context, argv[1], hint != NULL, &count);
  if (bytes == NULL) return;
  if (hint == NULL) {
    hint = made = calloc(1, sizeof *made);
    if (made == NULL) {
      sqlite3_result_error_nomem(context);
      return;
    }
  }
  bool inside = sqlite3_value_type(argv[0]) == SQLITE_INTEGER &&
                ranges_contain(bytes, count, sqlite3_value_int64(argv[0]), hint);
  sqlite3_result_int(context, inside);
  /* SQLite may free it at once, so this comes last. */
  if (made != NULL) sqlite3_set_auxdata(context, 1, made, free);
}

static void ranges_start(sqlite3_context *context, int argc, sqlite3_value **argv) {
  (void)argc;
  size_t count;
  const uint8_t *bytes = read_set(context, argv[0], false, &count);
  if (bytes != NULL && count > 0) sqlite3_result_int64(context, ranges_from(bytes, 0));
}

static void ranges_end(sqlite3_context *context, int argc, sqlite3_value **argv) {
  (void)argc;
  size_t count;
  const uint8_t *bytes = read_set(context, argv[0], false, &count);
  if (bytes != NULL && count > 0) sqlite3_result_int64(context, ranges_to(bytes, count - 1));
}

int sqlite_ranges_register(sqlite3 *db) {
  static const struct {
    const char *name;
    int arguments;
    void (*function)(sqlite3_context *, int, sqlite3_value **);
  } functions[] = {{"in_ranges", 2, in_ranges}, {"ranges_start", 1, ranges_start}, {"ranges_end", 1, ranges_end}};
  int rc = SQLITE_OK;
  for (size_t i = 0; i < sizeof functions / sizeof *functions && rc == SQLITE_OK; i++) {
    rc = sqlite3_create_function_v2(db, functions[i].name, functions[i].arguments, PURE_FUNCTION, NULL,
                                    functions[i].function, NULL, NULL, NULL);
  }
  return rc;
}
