/*
 * SQL functions on event payloads. None of them ever raises an error on data; all are deterministic
 * and may be used in indexes. `path` is '$.a.b': string keys, dots descending into nested maps, the
 * first of duplicate keys (IDX-34, QL-44, QX-12). A payload that is no blob, not well-formed to its
 * last byte or no map has no fields; a path of another form names none.
 *
 *   msgpack_extract(payload, path)         NULL: missing, nil, NaN, map, array, ext
 *                                          INTEGER: integers and bools (0, 1); REAL: floats, and
 *                                          integers above 2^63-1; TEXT: str; BLOB: bin
 *   msgpack_kind(payload, path)            0 missing, nil or NaN; 1 number; 2 bool; 3 str; 4 bin;
 *                                          5 map, array or ext
 *   msgpack_order(payload, path, literal)  -1, 0, 1: the number or bool (QL-26) there is below,
 *                                          equal to or above the literal, by exact value (QL-23);
 *                                          literal INTEGER, REAL, or TEXT with the decimal digits
 *                                          of an integer up to 2^64-1; NULL: no number there, or no
 *                                          such literal
 *   msgpack_guid(payload, path)            the 16 bytes of a str that reads as a GUID, braces
 *                                          optional (QL-46); else NULL
 */
#include "sqlite3ext.h"
SQLITE_EXTENSION_INIT3

#include <math.h>
#include <stdlib.h>

#include "msgpack.h"
#include "number.h"
#include "payload_number.h"
#include "record.h"
#include "sliced_call.h"
#include "sqlite_parts.h"
#include "sqlite_payload.h"

/* Cuts '$.a.b' into names, in one allocation with a copy of the text. NULL: no memory. */
static struct msgpack_path *parse_path(const uint8_t *text, size_t length) {
  bool usable = length > 2 && text[0] == '$' && text[1] == '.';
  size_t count = usable ? 1 : 0;
  for (size_t i = 2; usable && i < length; i++) count += text[i] == '.';
  struct msgpack_path *path = malloc(sizeof *path + count * sizeof *path->names + length);
  if (path == NULL) return NULL;
  path->count = count;
  path->names = (struct msgpack_name *)(path + 1);
  uint8_t *copy = (uint8_t *)(path->names + count);
  if (length > 0) memcpy(copy, text, length);
  const uint8_t *start = copy + 2;
  for (size_t i = 0; i < count; i++) {
    const uint8_t *dot = memchr(start, '.', (size_t)(copy + length - start));
    const uint8_t *end = dot == NULL ? copy + length : dot;
    path->names[i] = (struct msgpack_name){start, (size_t)(end - start)};
    if (dot != NULL) start = dot + 1;
  }
  return path;
}

bool payload_find(sqlite3_context *context, sqlite3_value **argv, struct msgpack_item *item) {
  sliced_call_glance();
  struct msgpack_path *path = sqlite3_get_auxdata(context, 1);
  struct msgpack_path *parsed = NULL;
  if (sqlite3_value_type(argv[0]) != SQLITE_BLOB) return false;
  if (path == NULL) {
    if (sqlite3_value_type(argv[1]) != SQLITE_TEXT) return false;
    const uint8_t *text = sqlite3_value_text(argv[1]);
    path = parsed = text == NULL ? NULL : parse_path(text, (size_t)sqlite3_value_bytes(argv[1]));
    if (path == NULL) {
      sqlite3_result_error_nomem(context);
      return false;
    }
  }
  struct msgpack_slice value;
  const uint8_t *payload = sqlite3_value_blob(argv[0]);
  size_t length = (size_t)sqlite3_value_bytes(argv[0]);
  bool found = payload != NULL && msgpack_find_path(payload, length, path, &value) &&
               msgpack_read(value.start, value.end, item) != NULL;
  /* SQLite may free the path at once, so this comes last. */
  if (parsed != NULL) sqlite3_set_auxdata(context, 1, parsed, free);
  return found;
}

static void extract(sqlite3_context *context, int argc, sqlite3_value **argv) {
  (void)argc;
  struct msgpack_item item;
  if (!payload_find(context, argv, &item)) return;
  switch (item.kind) {
    case MSGPACK_BOOL: sqlite3_result_int(context, item.boolean); break;
    case MSGPACK_UINT:
      if (item.uint > INT64_MAX) {
        sqlite3_result_double(context, (double)item.uint);
      } else {
        sqlite3_result_int64(context, (sqlite3_int64)item.uint);
      }
      break;
    case MSGPACK_SINT: sqlite3_result_int64(context, item.sint); break;
    case MSGPACK_FLOAT32:
    case MSGPACK_FLOAT64: sqlite3_result_double(context, item.real); break; /* NaN becomes NULL */
    case MSGPACK_STR:
      sqlite3_result_text64(context, (const char *)item.data, item.length, SQLITE_TRANSIENT, SQLITE_UTF8);
      break;
    case MSGPACK_BIN: sqlite3_result_blob64(context, item.data, item.length, SQLITE_TRANSIENT); break;
    default: break;
  }
}

static void kind(sqlite3_context *context, int argc, sqlite3_value **argv) {
  (void)argc;
  static const uint8_t kinds[] = {
      [MSGPACK_NIL] = 0,     [MSGPACK_BOOL] = 2,    [MSGPACK_UINT] = 1, [MSGPACK_SINT] = 1,
      [MSGPACK_FLOAT32] = 1, [MSGPACK_FLOAT64] = 1, [MSGPACK_STR] = 3,  [MSGPACK_BIN] = 4,
      [MSGPACK_EXT] = 5,     [MSGPACK_ARRAY] = 5,   [MSGPACK_MAP] = 5,
  };
  struct msgpack_item item;
  bool present = payload_find(context, argv, &item) && !isnan(item.real);
  sqlite3_result_int(context, present ? kinds[item.kind] : 0);
}

static bool literal_number(sqlite3_value *value, struct number *number) {
  switch (sqlite3_value_type(value)) {
    case SQLITE_INTEGER: *number = number_of_int(sqlite3_value_int64(value)); return true;
    case SQLITE_FLOAT:
      *number = (struct number){.kind = NUMBER_REAL, .real = sqlite3_value_double(value)};
      return true;
    case SQLITE_TEXT: {
      const uint8_t *text = sqlite3_value_text(value);
      return text != NULL && number_parse(number, text, (size_t)sqlite3_value_bytes(value));
    }
    default: return false;
  }
}

static void order(sqlite3_context *context, int argc, sqlite3_value **argv) {
  (void)argc;
  struct msgpack_item item;
  struct number stored;
  struct number literal;
  if (!payload_find(context, argv, &item) || !payload_number(&item, &stored) || !literal_number(argv[2], &literal)) return;
  sqlite3_result_int(context, number_compare(&stored, &literal));
}

static void guid(sqlite3_context *context, int argc, sqlite3_value **argv) {
  (void)argc;
  struct msgpack_item item;
  uint8_t bytes[16];
  if (!payload_find(context, argv, &item) || item.kind != MSGPACK_STR) return;
  if (guid_parse(bytes, item.data, item.length)) sqlite3_result_blob(context, bytes, sizeof bytes, SQLITE_TRANSIENT);
}

int sqlite_payload_register(sqlite3 *db) {
  static const struct {
    const char *name;
    int arguments;
    void (*function)(sqlite3_context *, int, sqlite3_value **);
  } functions[] = {
      {"msgpack_extract", 2, extract},
      {"msgpack_kind", 2, kind},
      {"msgpack_order", 3, order},
      {"msgpack_guid", 2, guid},
  };
  int rc = SQLITE_OK;
  for (size_t i = 0; i < sizeof functions / sizeof *functions && rc == SQLITE_OK; i++) {
    rc = sqlite3_create_function_v2(db, functions[i].name, functions[i].arguments, PURE_FUNCTION, NULL,
                                    functions[i].function, NULL, NULL, NULL);
  }
  return rc;
}
