/*
 * SQL functions of aggregation (QL-64..69, QX-24). Keys and their order: group_key.h; all of them are
 * BLOBs, NULL has one too.
 *
 *   value_key(x)                 full key of an SQL value
 *   msgpack_key(payload, path)   full key of a payload field; nil, NaN, map, array and ext are NULL (QL-32)
 *   msgpack_number(payload, path) the same for numbers and booleans, SQL NULL for all else (QL-64)
 *   key_base(key)                without the type of a number: what MIN and MAX are sorted by
 *   sum_join(a, b)               two BLOBs of struct sum_state as one; NULL is nothing
 *   sum_value(state), avg_value(state)
 *   wire_key(key, type, shape)   a key as msgpack, for record_map; shape 0: as it is, 1: 16 bytes are
 *                                shown as a GUID, 2: numbers are shown as booleans
 */
#include "sqlite3ext.h"
SQLITE_EXTENSION_INIT3

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "group_key.h"
#include "msgpack.h"
#include "payload_number.h"
#include "record.h"
#include "sqlite_parts.h"
#include "sqlite_payload.h"
#include "sqlite_wire.h"
#include "sum_state.h"

enum shape { SHAPE_PLAIN, SHAPE_GUID, SHAPE_BOOL };

static void result_number(sqlite3_context *context, const struct number *number) {
  uint8_t key[GROUP_KEY_NUMBER_FULL];
  group_key_of_number(key, number);
  sqlite3_result_blob(context, key, sizeof key, SQLITE_TRANSIENT);
}

static void result_null_key(sqlite3_context *context) {
  static const uint8_t key[1] = {GROUP_KEY_NULL};
  sqlite3_result_blob(context, key, sizeof key, SQLITE_STATIC);
}

static void result_bytes(sqlite3_context *context, enum group_key_kind kind, const uint8_t *bytes, size_t length) {
  uint8_t *key = sqlite3_malloc64(length + 1);
  if (key == NULL) {
    sqlite3_result_error_nomem(context);
    return;
  }
  key[0] = (uint8_t)kind;
  if (length > 0) memcpy(key + 1, bytes, length);
  sqlite3_result_blob64(context, key, length + 1, sqlite3_free);
}

static bool value_number(sqlite3_value *value, struct number *number) {
  switch (sqlite3_value_type(value)) {
    case SQLITE_INTEGER: *number = number_of_int(sqlite3_value_int64(value)); return true;
    case SQLITE_FLOAT:
      *number = (struct number){.kind = NUMBER_REAL, .real = sqlite3_value_double(value)};
      return true;
    default: return false;
  }
}

static void value_key(sqlite3_context *context, int argc, sqlite3_value **argv) {
  (void)argc;
  struct number number;
  int type = sqlite3_value_type(argv[0]);
  if (value_number(argv[0], &number)) {
    result_number(context, &number);
  } else if (type == SQLITE_NULL) {
    result_null_key(context);
  } else {
    const uint8_t *bytes = sqlite3_value_blob(argv[0]);
    enum group_key_kind kind = type == SQLITE_TEXT ? GROUP_KEY_TEXT : GROUP_KEY_BYTES;
    result_bytes(context, kind, bytes, (size_t)sqlite3_value_bytes(argv[0]));
  }
}

static void msgpack_key(sqlite3_context *context, int argc, sqlite3_value **argv) {
  (void)argc;
  struct msgpack_item item;
  struct number number;
  if (!payload_find(context, argv, &item)) {
    result_null_key(context);
  } else if (payload_number(&item, &number)) {
    result_number(context, &number);
  } else if (item.kind == MSGPACK_STR || item.kind == MSGPACK_BIN) {
    result_bytes(context, item.kind == MSGPACK_STR ? GROUP_KEY_TEXT : GROUP_KEY_BYTES, item.data, item.length);
  } else {
    result_null_key(context);
  }
}

static void msgpack_number(sqlite3_context *context, int argc, sqlite3_value **argv) {
  (void)argc;
  struct msgpack_item item;
  struct number number;
  if (payload_find(context, argv, &item) && payload_number(&item, &number)) result_number(context, &number);
}

static bool is_full_number(sqlite3_value *value, const uint8_t **key) {
  *key = sqlite3_value_blob(value);
  return sqlite3_value_bytes(value) == GROUP_KEY_NUMBER_FULL && *key != NULL && (*key)[0] == GROUP_KEY_NUMBER;
}

static void key_base(sqlite3_context *context, int argc, sqlite3_value **argv) {
  (void)argc;
  const uint8_t *key;
  if (is_full_number(argv[0], &key)) {
    sqlite3_result_blob(context, key, GROUP_KEY_NUMBER_BASE, SQLITE_TRANSIENT);
  } else {
    sqlite3_result_value(context, argv[0]);
  }
}

/* --- sums --- */

static bool read_state(sqlite3_value *value, struct sum_state *state) {
  const void *bytes = sqlite3_value_blob(value);
  if (bytes == NULL || sqlite3_value_bytes(value) != (int)sizeof *state) return false;
  memcpy(state, bytes, sizeof *state);
  return true;
}

static void sum_join(sqlite3_context *context, int argc, sqlite3_value **argv) {
  (void)argc;
  struct sum_state sum;
  struct sum_state other;
  if (!read_state(argv[0], &sum)) {
    sqlite3_result_value(context, argv[1]);
  } else if (!read_state(argv[1], &other)) {
    sqlite3_result_value(context, argv[0]);
  } else {
    sum_state_join(&sum, &other);
    sqlite3_result_blob(context, &sum, sizeof sum, SQLITE_TRANSIENT);
  }
}

static void sum_value(sqlite3_context *context, int argc, sqlite3_value **argv) {
  (void)argc;
  struct sum_state state;
  if (!read_state(argv[0], &state)) return;
  struct number sum = sum_state_sum(&state);
  if (sum.kind == NUMBER_REAL) {
    sqlite3_result_double(context, sum.real);
  } else {
    sqlite3_result_int64(context, sum.kind == NUMBER_UINT ? (sqlite3_int64)sum.uint : sum.sint);
  }
}

static void avg_value(sqlite3_context *context, int argc, sqlite3_value **argv) {
  (void)argc;
  struct sum_state state;
  if (read_state(argv[0], &state)) sqlite3_result_double(context, sum_state_mean(&state));
}

/* --- results --- */

static void write_number(struct msgpack_writer *writer, const struct number *number, bool as_bool) {
  if (as_bool) {
    bool zero = number->kind == NUMBER_REAL ? number->real == 0 : number->kind == NUMBER_UINT && number->uint == 0;
    msgpack_write_raw(writer, zero ? "\xc2" : "\xc3", 1);
  } else if (number->kind == NUMBER_REAL) {
    msgpack_write_double(writer, number->real);
  } else if (number->kind == NUMBER_UINT) {
    msgpack_write_uint(writer, number->uint);
  } else {
    msgpack_write_int(writer, number->sint);
  }
}

static void write_key(struct msgpack_writer *writer, const struct group_key *key, enum shape shape) {
  switch (key->kind) {
    case GROUP_KEY_NULL: msgpack_write_nil(writer); break;
    case GROUP_KEY_NUMBER: write_number(writer, &key->number, shape == SHAPE_BOOL); break;
    case GROUP_KEY_TEXT: msgpack_write_text(writer, key->bytes, (uint32_t)key->length); break;
    case GROUP_KEY_BYTES:
      if (shape == SHAPE_GUID && key->length == 16) {
        char text[GUID_TEXT_LENGTH];
        guid_format(text, key->bytes);
        msgpack_write_str(writer, text, GUID_TEXT_LENGTH);
      } else {
        msgpack_write_bin(writer, key->bytes, (uint32_t)key->length);
      }
      break;
  }
}

static void wire_key(sqlite3_context *context, int argc, sqlite3_value **argv) {
  (void)argc;
  const uint8_t *bytes = sqlite3_value_blob(argv[0]);
  size_t length = (size_t)sqlite3_value_bytes(argv[0]);
  uint8_t full[GROUP_KEY_NUMBER_FULL];
  if (length == GROUP_KEY_NUMBER_BASE && bytes != NULL && bytes[0] == GROUP_KEY_NUMBER) {
    memcpy(full, bytes, length);
    full[length++] = sqlite3_value_int(argv[1]) != 0;
    bytes = full;
  }
  struct group_key key;
  struct msgpack_writer writer = {0};
  /* SQL NULL, which MIN and MAX of nothing give, is no key. */
  if (!group_key_read(bytes, length, &key)) key = (struct group_key){.kind = GROUP_KEY_NULL};
  write_key(&writer, &key, (enum shape)sqlite3_value_int(argv[2]));
  if (writer.failed) {
    msgpack_writer_free(&writer);
    sqlite3_result_error_nomem(context);
    return;
  }
  sqlite3_result_blob64(context, writer.bytes, writer.length, free);
  sqlite3_result_subtype(context, SUBTYPE_MSGPACK);
}

int sqlite_group_register(sqlite3 *db) {
  static const struct {
    const char *name;
    int arguments;
    int flags;
    void (*function)(sqlite3_context *, int, sqlite3_value **);
  } functions[] = {
      {"value_key", 1, 0, value_key},
      {"msgpack_key", 2, 0, msgpack_key},
      {"msgpack_number", 2, 0, msgpack_number},
      {"key_base", 1, 0, key_base},
      {"sum_join", 2, 0, sum_join},
      {"sum_value", 1, 0, sum_value},
      {"avg_value", 1, 0, avg_value},
      {"wire_key", 3, SQLITE_RESULT_SUBTYPE, wire_key},
  };
  int rc = SQLITE_OK;
  for (size_t i = 0; i < sizeof functions / sizeof *functions && rc == SQLITE_OK; i++) {
    rc = sqlite3_create_function(db, functions[i].name, functions[i].arguments, PURE_FUNCTION | functions[i].flags,
                                 NULL, functions[i].function, NULL, NULL);
  }
  return rc;
}
