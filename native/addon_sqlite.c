/* The SQLite half of the addon's JavaScript face: slots and cursors (src/native/addon.ts). */
#include <stdlib.h>
#include <string.h>

#include "addon_util.h"
#include "cursor.h"
#include "handle.h"
#include "slot.h"
#include "sqlite3ext.h"
#include "sqlite_names.h"
SQLITE_EXTENSION_INIT3

napi_value addon_sqlite_init(napi_env env, napi_value exports);

/* Bounds on what one call may ask for, far above what a query can need. */
#define MAX_PARTS 65536
#define MAX_KEYS 1024
#define MAX_FIELDS 65536
#define MAX_DEADLINE_MS INT64_C(0x7fffffff)

static napi_value slot_interrupt_call(napi_env env, napi_callback_info info) {
  napi_value argument;
  int64_t slot;
  if (!util_args(env, info, 1, &argument, NULL)) return NULL;
  if (!util_int(env, argument, "slot", 1, SLOT_MAX, &slot)) return NULL;
  napi_value result = NULL;
  napi_get_boolean(env, slot_interrupt(slot), &result);
  return result;
}

static napi_value slot_deadline_call(napi_env env, napi_callback_info info) {
  napi_value arguments[2];
  int64_t slot;
  int64_t ms;
  if (!util_args(env, info, 2, arguments, NULL)) return NULL;
  if (!util_int(env, arguments[0], "slot", 1, SLOT_MAX, &slot)) return NULL;
  if (!util_int(env, arguments[1], "ms", 0, MAX_DEADLINE_MS, &ms)) return NULL;
  int error = slot_deadline(slot, (uint64_t)ms);
  if (error != 0) return util_throw_errno(env, error, "starting the deadline timer");
  return util_undefined(env);
}

/* UTF-8 of a string that may hold NUL; malloc'ed with a NUL behind it. NULL after throwing. */
static char *read_text(napi_env env, napi_value value, const char *name, size_t *length) {
  if (napi_get_value_string_utf8(env, value, NULL, 0, length) != napi_ok) {
    util_throw(env, "ERR_INVALID_ARG", "%s must be a string", name);
    return NULL;
  }
  char *text = malloc(*length + 1);
  if (text == NULL) {
    util_throw(env, "ENOMEM", "out of memory");
    return NULL;
  }
  napi_get_value_string_utf8(env, value, text, *length + 1, length);
  return text;
}

/* Binds one SqlValue. False after throwing. */
static bool bind(napi_env env, sqlite3_stmt *statement, int position, napi_value value) {
  napi_valuetype type;
  napi_typeof(env, value, &type);
  int rc;
  if (type == napi_null) {
    rc = sqlite3_bind_null(statement, position);
  } else if (type == napi_bigint) {
    int64_t integer;
    bool lossless;
    napi_get_value_bigint_int64(env, value, &integer, &lossless);
    if (!lossless) {
      util_throw(env, "ERR_OUT_OF_RANGE", "parameter %d does not fit an SQLite integer", position);
      return false;
    }
    rc = sqlite3_bind_int64(statement, position, integer);
  } else if (type == napi_number) {
    double number;
    napi_get_value_double(env, value, &number);
    rc = sqlite3_bind_double(statement, position, number);
  } else if (type == napi_string) {
    size_t length;
    char *text = read_text(env, value, "parameter", &length);
    if (text == NULL) return false;
    rc = sqlite3_bind_text64(statement, position, text, length, free, SQLITE_UTF8);
  } else {
    const uint8_t *bytes;
    size_t length;
    if (!util_bytes(env, value, "parameter", &bytes, &length)) return false;
    rc = sqlite3_bind_blob64(statement, position, length == 0 ? (const void *)"" : bytes, length, SQLITE_TRANSIENT);
  }
  if (rc == SQLITE_OK) return true;
  util_throw(env, sqlite_code_name(rc), "parameter %d: %s", position, sqlite3_errstr(rc));
  return false;
}

/* Prepares one CursorPart and binds its parameters. False after throwing. */
static bool add_part(napi_env env, struct cursor *cursor, napi_value part) {
  napi_value value;
  napi_value params;
  int64_t slot;
  uint32_t count;
  if (!util_get(env, part, "slot", &value) || !util_int(env, value, "slot", 1, SLOT_MAX, &slot)) return false;
  if (!util_get(env, part, "params", &params) || !util_array(env, params, "params", &count)) return false;
  if (!util_get(env, part, "sql", &value)) return false;
  bool own;
  sqlite3 *db = slot_connection(slot, &own);
  if (db == NULL || !own) {
    const char *problem = db == NULL ? "names no open connection" : "belongs to a connection of another thread";
    util_throw(env, "ERR_HANDLE", "slot %lld %s", (long long)slot, problem);
    return false;
  }
  size_t length;
  char *sql = read_text(env, value, "sql", &length);
  if (sql == NULL) return false;
  sqlite3_stmt *statement;
  int rc = cursor_add(cursor, db, sql, length, &statement);
  free(sql);
  if (rc != SQLITE_OK) {
    util_throw(env, sqlite_code_name(rc), "%s", cursor_message(cursor));
    return false;
  }
  if (sqlite3_bind_parameter_count(statement) != (int)count) {
    util_throw(env, "SQLITE_RANGE", "the statement takes %d parameters, %u are given",
               sqlite3_bind_parameter_count(statement), count);
    return false;
  }
  for (uint32_t i = 0; i < count; i++) {
    if (napi_get_element(env, params, i, &value) != napi_ok) return false;
    if (!bind(env, statement, (int)i + 1, value)) return false;
  }
  return true;
}

static bool read_sort(napi_env env, napi_value options, struct cursor_options *out) {
  napi_value sort;
  uint32_t count;
  if (!util_get(env, options, "sort", &sort) || !util_array(env, sort, "sort", &count)) return false;
  if (count > MAX_KEYS) {
    util_throw(env, "ERR_OUT_OF_RANGE", "more than %d sort keys", MAX_KEYS);
    return false;
  }
  out->keys = count;
  out->descending = calloc(count + 1, sizeof *out->descending);
  if (out->descending == NULL) {
    util_throw(env, "ENOMEM", "out of memory");
    return false;
  }
  for (uint32_t i = 0; i < count; i++) {
    napi_value key;
    napi_value value;
    if (napi_get_element(env, sort, i, &key) != napi_ok) return false;
    if (!util_get(env, key, "descending", &value)) return false;
    if (!util_bool(env, value, "descending", &out->descending[i])) return false;
  }
  return true;
}

/* A SELECT list while it is read: offsets stand for pointers until everything is known. */
struct field_reader {
  struct record_field *fields;
  struct msgpack_name *names;
  size_t name_count;
  size_t name_room;
  struct msgpack_writer text;
};

/* Keeps a string; `name->bytes` becomes its offset. False after throwing. */
static bool keep_text(napi_env env, struct field_reader *reader, napi_value value, struct msgpack_name *name) {
  size_t length;
  char *text = read_text(env, value, "a field name or path segment", &length);
  if (text == NULL) return false;
  *name = (struct msgpack_name){(const uint8_t *)(uintptr_t)reader->text.length, length};
  msgpack_write_raw(&reader->text, text, length);
  free(text);
  if (reader->text.failed) util_throw(env, "ENOMEM", "out of memory");
  return !reader->text.failed;
}

/* Keeps a path; `path->names` becomes the index of its first name. False after throwing. */
static bool keep_path(napi_env env, struct field_reader *reader, napi_value list, struct msgpack_path *path) {
  uint32_t count;
  if (!util_array(env, list, "path", &count)) return false;
  *path = (struct msgpack_path){count, (struct msgpack_name *)(uintptr_t)reader->name_count};
  for (uint32_t i = 0; i < count; i++) {
    napi_value value;
    if (reader->name_count == reader->name_room) {
      size_t room = reader->name_room == 0 ? 16 : reader->name_room * 2;
      struct msgpack_name *more = realloc(reader->names, room * sizeof *more);
      if (more == NULL) {
        util_throw(env, "ENOMEM", "out of memory");
        return false;
      }
      reader->names = more;
      reader->name_room = room;
    }
    if (napi_get_element(env, list, i, &value) != napi_ok) return false;
    if (!keep_text(env, reader, value, &reader->names[reader->name_count++])) return false;
  }
  return true;
}

static bool keep_field(napi_env env, struct field_reader *reader, napi_value object, struct record_field *field) {
  napi_value value;
  int64_t column;
  if (!util_get(env, object, "column", &value)) return false;
  if (!util_int(env, value, "column", -1, RECORD_COLUMNS - 1, &column)) return false;
  field->column = (int)column;
  if (!util_get(env, object, "name", &value) || !keep_text(env, reader, value, &field->name)) return false;
  return util_get(env, object, "path", &value) && keep_path(env, reader, value, &field->path);
}

/* Packs the list into the one block a cursor owns; NULL: no memory. */
static struct record_field *pack_fields(const struct field_reader *reader, size_t count) {
  size_t fields_size = count * sizeof *reader->fields;
  size_t names_size = reader->name_count * sizeof *reader->names;
  struct record_field *fields = malloc(fields_size + names_size + reader->text.length + 1);
  if (fields == NULL) return NULL;
  struct msgpack_name *names = (struct msgpack_name *)(fields + count);
  uint8_t *text = (uint8_t *)(names + reader->name_count);
  if (count > 0) memcpy(fields, reader->fields, fields_size);
  if (names_size > 0) memcpy(names, reader->names, names_size);
  if (reader->text.length > 0) memcpy(text, reader->text.bytes, reader->text.length);
  for (size_t i = 0; i < reader->name_count; i++) names[i].bytes = text + (uintptr_t)names[i].bytes;
  for (size_t i = 0; i < count; i++) {
    fields[i].name.bytes = text + (uintptr_t)fields[i].name.bytes;
    fields[i].path.names = names + (uintptr_t)fields[i].path.names;
  }
  return fields;
}

static bool read_fields(napi_env env, napi_value options, struct cursor_options *out) {
  napi_value list;
  uint32_t count;
  if (!util_get(env, options, "fields", &list)) return false;
  if (util_is_null(env, list)) return true;
  if (!util_array(env, list, "fields", &count)) return false;
  if (count > MAX_FIELDS) {
    util_throw(env, "ERR_OUT_OF_RANGE", "more than %d fields", MAX_FIELDS);
    return false;
  }
  struct field_reader reader = {.fields = calloc(count + 1, sizeof *reader.fields)};
  bool read = reader.fields != NULL;
  for (uint32_t i = 0; read && i < count; i++) {
    napi_value field;
    read = napi_get_element(env, list, i, &field) == napi_ok && keep_field(env, &reader, field, &reader.fields[i]);
  }
  if (read) {
    out->fields = pack_fields(&reader, count);
    out->field_count = count;
  }
  if (reader.fields == NULL || (read && out->fields == NULL)) util_throw(env, "ENOMEM", "out of memory");
  free(reader.fields);
  free(reader.names);
  msgpack_writer_free(&reader.text);
  return read && out->fields != NULL;
}

/* Everything of CursorOptions but the parts. False after throwing; `out` may then own memory. */
static bool read_options(napi_env env, napi_value options, struct cursor_options *out) {
  napi_value value;
  if (!util_get(env, options, "skip", &value) || !util_u64(env, value, "skip", &out->skip)) return false;
  if (!util_get(env, options, "take", &value)) return false;
  out->take = UINT64_MAX;
  if (!util_is_null(env, value) && !util_u64(env, value, "take", &out->take)) return false;
  if (!util_get(env, options, "encoded", &value) || !util_bool(env, value, "encoded", &out->encoded)) return false;
  return read_sort(env, options, out) && read_fields(env, options, out);
}

static void destroy(void *cursor) {
  cursor_free(cursor);
}

/*
 * On the cursor's thread. Its statements go now: another thread that is looking at the handle may
 * drop the last reference, and must not be the one to enter this thread's connections.
 */
static void end_cursor(struct cursor *cursor, int64_t handle) {
  cursor_end(cursor);
  handle_close(HANDLE_CURSOR, handle);
}

/* The environment ends with the cursor still open. */
static void abandon(void *argument) {
  int64_t handle = (int64_t)(intptr_t)argument;
  struct cursor *cursor = handle_acquire(HANDLE_CURSOR, handle);
  if (cursor == NULL) return;
  end_cursor(cursor, handle);
  handle_release(handle);
}

static napi_value cursor_open_call(napi_env env, napi_callback_info info) {
  napi_value argument;
  napi_value parts;
  uint32_t count;
  if (!util_args(env, info, 1, &argument, NULL)) return NULL;
  if (!util_get(env, argument, "parts", &parts) || !util_array(env, parts, "parts", &count)) return NULL;
  if (count > MAX_PARTS) return util_throw(env, "ERR_OUT_OF_RANGE", "more than %d cursor parts", MAX_PARTS);
  struct cursor_options options = {.parts = count};
  if (!read_options(env, argument, &options)) {
    free(options.descending);
    free(options.fields);
    return NULL;
  }
  struct cursor *cursor = cursor_new(&options);
  if (cursor == NULL) return util_throw(env, "ENOMEM", "out of memory");
  for (uint32_t i = 0; i < count; i++) {
    napi_value part;
    if (napi_get_element(env, parts, i, &part) != napi_ok || !add_part(env, cursor, part)) {
      cursor_free(cursor);
      return NULL;
    }
  }
  int64_t handle = handle_open(HANDLE_CURSOR, cursor, destroy);
  if (handle == 0) {
    cursor_free(cursor);
    return util_throw(env, "ENOMEM", "out of memory");
  }
  /* Added later than the hook of the SQLite binding, hence run before it closes the connections. */
  napi_add_env_cleanup_hook(env, abandon, (void *)(intptr_t)handle);
  return util_new_handle(env, handle);
}

/* The caller's own cursor, acquired; NULL after throwing. */
static struct cursor *own_cursor(napi_env env, napi_value argument, int64_t *handle) {
  struct cursor *cursor = util_handle(env, HANDLE_CURSOR, argument, handle);
  if (cursor == NULL || cursor_is_own(cursor)) return cursor;
  handle_release(*handle);
  util_throw(env, "ERR_HANDLE", "the cursor belongs to another thread");
  return NULL;
}

static napi_value chunk_object(napi_env env, const struct cursor_chunk *chunk) {
  void *bytes;
  napi_value buffer;
  napi_value frame;
  napi_value done;
  if (napi_create_arraybuffer(env, chunk->length, &bytes, &buffer) != napi_ok) return NULL;
  memcpy(bytes, chunk->frame, chunk->length);
  if (napi_create_typedarray(env, napi_uint8_array, chunk->length, buffer, 0, &frame) != napi_ok) return NULL;
  napi_get_boolean(env, chunk->done, &done);
  napi_value result = util_object(env);
  util_set_double(env, result, "records", chunk->records);
  util_set(env, result, "done", done);
  util_set(env, result, "frame", frame);
  return result;
}

static napi_value cursor_fetch_call(napi_env env, napi_callback_info info) {
  napi_value arguments[3];
  int64_t handle;
  int64_t records;
  int64_t bytes;
  if (!util_args(env, info, 3, arguments, NULL)) return NULL;
  if (!util_int(env, arguments[1], "maxRecords", 1, UINT32_MAX, &records)) return NULL;
  if (!util_int(env, arguments[2], "maxBytes", 1, UINT32_MAX, &bytes)) return NULL;
  struct cursor *cursor = own_cursor(env, arguments[0], &handle);
  if (cursor == NULL) return NULL;
  struct cursor_chunk chunk;
  int rc = cursor_fetch(cursor, (uint32_t)records, (size_t)bytes, &chunk);
  napi_value result = rc == SQLITE_OK ? chunk_object(env, &chunk)
                                      : util_throw(env, sqlite_code_name(rc), "%s", cursor_message(cursor));
  handle_release(handle);
  return result;
}

static napi_value cursor_close_call(napi_env env, napi_callback_info info) {
  napi_value argument;
  int64_t handle;
  if (!util_args(env, info, 1, &argument, NULL)) return NULL;
  struct cursor *cursor = own_cursor(env, argument, &handle);
  if (cursor == NULL) return NULL;
  napi_remove_env_cleanup_hook(env, abandon, (void *)(intptr_t)handle);
  end_cursor(cursor, handle);
  handle_release(handle);
  return util_undefined(env);
}

napi_value addon_sqlite_init(napi_env env, napi_value exports) {
  util_export(env, exports, "slotInterrupt", slot_interrupt_call);
  util_export(env, exports, "slotDeadline", slot_deadline_call);
  util_export(env, exports, "cursorOpen", cursor_open_call);
  util_export(env, exports, "cursorFetch", cursor_fetch_call);
  util_export(env, exports, "cursorClose", cursor_close_call);
  return exports;
}
