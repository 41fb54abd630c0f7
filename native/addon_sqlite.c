/* The SQLite half of the addon's JavaScript face: slots and cursors (src/native/addon.ts). */
#include <stdlib.h>
#include <string.h>

#include "addon_statement.h"
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

/* Frames of result records are usually a quarter of a MiB and a record long. */
#define FRAME_STEP ((size_t)64 << 10)

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

/* The slot and milliseconds of a call. False after throwing. */
static bool slot_and_ms(napi_env env, napi_callback_info info, int64_t least, int64_t *slot, int64_t *ms) {
  napi_value arguments[2];
  return util_args(env, info, 2, arguments, NULL) && util_int(env, arguments[0], "slot", 1, SLOT_MAX, slot) &&
         util_int(env, arguments[1], "ms", least, MAX_DEADLINE_MS, ms);
}

static napi_value slot_yieldable_begin_call(napi_env env, napi_callback_info info) {
  int64_t slot;
  int64_t ms;
  if (!slot_and_ms(env, info, 1, &slot, &ms)) return NULL;
  int error = slot_yieldable_begin(slot, (uint64_t)ms);
  if (error != 0) return util_throw_errno(env, error, "starting the deadline timer");
  return util_undefined(env);
}

static napi_value slot_yieldable_end_call(napi_env env, napi_callback_info info) {
  napi_value argument;
  int64_t slot;
  if (!util_args(env, info, 1, &argument, NULL)) return NULL;
  if (!util_int(env, argument, "slot", 1, SLOT_MAX, &slot)) return NULL;
  napi_value result = NULL;
  napi_get_boolean(env, slot_yieldable_end(slot), &result);
  return result;
}

static napi_value slot_yield_call(napi_env env, napi_callback_info info) {
  int64_t slot;
  int64_t ms;
  if (!slot_and_ms(env, info, 0, &slot, &ms)) return NULL;
  napi_value result = NULL;
  napi_get_boolean(env, slot_yield(slot, (uint64_t)ms), &result);
  return result;
}

/* Prepares one CursorPart and binds its parameters. False after throwing. */
static bool add_part(napi_env env, struct cursor *cursor, napi_value part) {
  napi_value value;
  sqlite3 *db = addon_connection(env, part);
  if (db == NULL || !util_get(env, part, "sql", &value)) return false;
  size_t length;
  char *sql = addon_text(env, value, "sql", &length);
  if (sql == NULL) return false;
  sqlite3_stmt *statement;
  int rc = cursor_add(cursor, db, sql, length, &statement);
  free(sql);
  if (rc != SQLITE_OK) {
    util_throw(env, sqlite_code_name(rc), "%s", cursor_message(cursor));
    return false;
  }
  return addon_bind_params(env, statement, part);
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
  char *text = addon_text(env, value, "a field name or path segment", &length);
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

static bool read_shown(napi_env env, napi_value options, struct cursor_options *out) {
  napi_value value;
  const uint8_t *spec;
  size_t length;
  bool malformed;
  bool given;
  if (napi_has_named_property(env, options, "shown", &given) != napi_ok || !given) return true;
  if (!util_get(env, options, "shown", &value)) return false;
  if (util_is_null(env, value)) return true;
  if (!util_bytes(env, value, "shown", &spec, &length)) return false;
  out->shown = shown_new(spec, length, &malformed);
  if (out->shown != NULL) return true;
  if (malformed) {
    util_throw(env, "ERR_INVALID_ARG", "shown does not say what is granted");
  } else {
    util_throw(env, "ENOMEM", "out of memory");
  }
  return false;
}

/* Everything of CursorOptions but the parts. False after throwing; `out` may then own memory. */
static bool read_options(napi_env env, napi_value options, struct cursor_options *out) {
  napi_value value;
  if (!util_get(env, options, "skip", &value) || !util_u64(env, value, "skip", &out->skip)) return false;
  if (!util_get(env, options, "take", &value)) return false;
  out->take = UINT64_MAX;
  if (!util_is_null(env, value) && !util_u64(env, value, "take", &out->take)) return false;
  if (!util_get(env, options, "encoded", &value) || !util_bool(env, value, "encoded", &out->encoded)) return false;
  return read_sort(env, options, out) && read_fields(env, options, out) && read_shown(env, options, out);
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
    shown_free(options.shown);
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

/*
 * Memory for a frame: that of a spent one where the frame fits in, else new memory. Frames differ in
 * length by a record or so: the room of a large one is rounded up, so that the next may have it.
 */
static void *frame_memory(napi_env env, size_t length, napi_value spent, napi_value *buffer) {
  void *bytes;
  size_t room;
  bool usable;
  if (napi_is_arraybuffer(env, spent, &usable) == napi_ok && usable &&
      napi_get_arraybuffer_info(env, spent, &bytes, &room) == napi_ok && room >= length) {
    *buffer = spent;
    return bytes;
  }
  room = length < FRAME_STEP ? length : (length + FRAME_STEP - 1) / FRAME_STEP * FRAME_STEP;
  return napi_create_arraybuffer(env, room, &bytes, buffer) == napi_ok ? bytes : NULL;
}

static napi_value chunk_object(napi_env env, const struct cursor_chunk *chunk, napi_value spent) {
  napi_value buffer;
  napi_value frame;
  napi_value done;
  void *bytes = frame_memory(env, chunk->length, spent, &buffer);
  if (bytes == NULL) return NULL;
  memcpy(bytes, chunk->frame, chunk->length);
  if (napi_create_typedarray(env, napi_uint8_array, chunk->length, buffer, 0, &frame) != napi_ok) return NULL;
  napi_get_boolean(env, chunk->done, &done);
  napi_value result = util_object(env);
  util_set_double(env, result, "records", chunk->records);
  util_set(env, result, "done", done);
  util_set(env, result, "frame", frame);
  return result;
}

static napi_value cursor_advance_call(napi_env env, napi_callback_info info) {
  napi_value arguments[4];
  int64_t handle;
  int64_t records;
  int64_t bytes;
  int64_t ms;
  if (!util_args(env, info, 4, arguments, NULL)) return NULL;
  if (!util_int(env, arguments[1], "maxRecords", 1, UINT32_MAX, &records)) return NULL;
  if (!util_int(env, arguments[2], "maxBytes", 1, UINT32_MAX, &bytes)) return NULL;
  if (!util_int(env, arguments[3], "ms", 1, UINT32_MAX, &ms)) return NULL;
  struct cursor *cursor = own_cursor(env, arguments[0], &handle);
  if (cursor == NULL) return NULL;
  bool is_ready = cursor_advance(cursor, (uint32_t)records, (size_t)bytes, (uint64_t)ms * UINT64_C(1000000));
  napi_value result = NULL;
  napi_get_boolean(env, is_ready, &result);
  handle_release(handle);
  return result;
}

static napi_value cursor_fetch_call(napi_env env, napi_callback_info info) {
  napi_value arguments[4];
  int64_t handle;
  int64_t records;
  int64_t bytes;
  if (!util_args(env, info, 4, arguments, NULL)) return NULL;
  if (!util_int(env, arguments[1], "maxRecords", 1, UINT32_MAX, &records)) return NULL;
  if (!util_int(env, arguments[2], "maxBytes", 1, UINT32_MAX, &bytes)) return NULL;
  struct cursor *cursor = own_cursor(env, arguments[0], &handle);
  if (cursor == NULL) return NULL;
  struct cursor_chunk chunk;
  int rc = cursor_fetch(cursor, (uint32_t)records, (size_t)bytes, &chunk);
  napi_value result = rc == SQLITE_OK ? chunk_object(env, &chunk, arguments[3])
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
  util_export(env, exports, "slotYieldableBegin", slot_yieldable_begin_call);
  util_export(env, exports, "slotYieldableEnd", slot_yieldable_end_call);
  util_export(env, exports, "slotYield", slot_yield_call);
  util_export(env, exports, "cursorOpen", cursor_open_call);
  util_export(env, exports, "cursorAdvance", cursor_advance_call);
  util_export(env, exports, "cursorFetch", cursor_fetch_call);
  util_export(env, exports, "cursorClose", cursor_close_call);
  return exports;
}
