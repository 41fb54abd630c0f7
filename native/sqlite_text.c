/*
 * SQL functions on text. ASCII letters match in either case, other bytes exactly (QL-21). All give
 * 1 or 0, and 0 whenever an argument is not TEXT; all are deterministic and never raise an error on
 * data.
 *
 *   ascii_contains(text, part)    part occurs in text
 *   ascii_starts(text, prefix)    text begins with prefix
 *   ascii_ends(text, suffix)      text ends with suffix
 *   ascii_glob(text, pattern)     the whole text matches; `*` is any run of bytes, also none, and
 *                                 the only special character (QL-60)
 */
#include "sqlite3ext.h"
SQLITE_EXTENSION_INIT3

#include "ascii_match.h"
#include "sliced_call.h"
#include "sqlite_parts.h"

static const enum ascii_form glob = ASCII_GLOB;
static const enum ascii_form contains = ASCII_CONTAINS;
static const enum ascii_form starts = ASCII_STARTS;
static const enum ascii_form ends = ASCII_ENDS;

/* A constant pattern is prepared once per statement. */
static void match(sqlite3_context *context, int argc, sqlite3_value **argv) {
  (void)argc;
  sliced_call_glance();
  if (sqlite3_value_type(argv[0]) != SQLITE_TEXT || sqlite3_value_type(argv[1]) != SQLITE_TEXT) {
    sqlite3_result_int(context, 0);
    return;
  }
  struct ascii_pattern *pattern = sqlite3_get_auxdata(context, 1);
  struct ascii_pattern *made = NULL;
  if (pattern == NULL) {
    const uint8_t *source = sqlite3_value_text(argv[1]);
    size_t length = (size_t)sqlite3_value_bytes(argv[1]);
    enum ascii_form form = *(const enum ascii_form *)sqlite3_user_data(context);
    pattern = made = source == NULL ? NULL : ascii_pattern_new(form, source, length);
  }
  const uint8_t *text = sqlite3_value_text(argv[0]);
  int result = pattern == NULL || text == NULL ? -1 : ascii_match(pattern, text, (size_t)sqlite3_value_bytes(argv[0]));
  if (result < 0) {
    sqlite3_result_error_nomem(context);
  } else {
    sqlite3_result_int(context, result);
  }
  /* SQLite may free the pattern at once, so this comes last. */
  if (made != NULL) sqlite3_set_auxdata(context, 1, made, ascii_pattern_free);
}

int sqlite_text_register(sqlite3 *db) {
  static const struct {
    const char *name;
    const enum ascii_form *form;
  } functions[] = {
      {"ascii_contains", &contains},
      {"ascii_starts", &starts},
      {"ascii_ends", &ends},
      {"ascii_glob", &glob},
  };
  int rc = SQLITE_OK;
  for (size_t i = 0; i < sizeof functions / sizeof *functions && rc == SQLITE_OK; i++) {
    rc = sqlite3_create_function_v2(db, functions[i].name, 2, PURE_FUNCTION, (void *)functions[i].form, match, NULL,
                                    NULL, NULL);
  }
  return rc;
}
