/* Tails as JavaScript sees them (src/native/addon.ts). */
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "addon_parts.h"
#include "addon_util.h"
#include "predicate.h"
#include "slot.h"
#include "sqlite3ext.h"
#include "sqlite_names.h"
#include "tail.h"
SQLITE_EXTENSION_INIT3

/* Programs of one tail, far above the streams there can be. */
#define MAX_PROGRAMS 65536

struct tail_object {
  pthread_t owner;
  struct tail *tail;
  /* By number; NULL where one was removed. */
  struct tail_program **programs;
  size_t room;
};

static void destroy(void *argument) {
  struct tail_object *object = argument;
  tail_free(object->tail);
  free(object->programs);
  free(object);
}

static void abandon(void *argument) {
  handle_close(HANDLE_TAIL, (int64_t)(intptr_t)argument);
}

/* tailOpen(store): "events" or "logs". */
static napi_value tail_open_call(napi_env env, napi_callback_info info) {
  napi_value argument;
  if (!util_args(env, info, 1, &argument, NULL)) return NULL;
  char *store = util_string(env, argument, "store");
  if (store == NULL) return NULL;
  bool logs = strcmp(store, "logs") == 0;
  bool known = logs || strcmp(store, "events") == 0;
  free(store);
  if (!known) return util_throw(env, "ERR_INVALID_ARG", "a tail is of events or logs");
  struct tail_object *object = calloc(1, sizeof *object);
  if (object != NULL) object->tail = tail_new(logs ? TAIL_LOGS : TAIL_EVENTS);
  if (object == NULL || object->tail == NULL) {
    free(object);
    return util_throw(env, "ENOMEM", "out of memory");
  }
  object->owner = pthread_self();
  int64_t handle = handle_open(HANDLE_TAIL, object, destroy);
  if (handle == 0) {
    destroy(object);
    return util_throw(env, "ENOMEM", "out of memory");
  }
  napi_add_env_cleanup_hook(env, abandon, (void *)(intptr_t)handle);
  return util_new_handle(env, handle);
}

/* The caller's own tail, acquired; NULL after throwing. */
static struct tail_object *own_tail(napi_env env, napi_value argument, int64_t *handle) {
  struct tail_object *object = util_handle(env, HANDLE_TAIL, argument, handle);
  if (object == NULL || pthread_equal(object->owner, pthread_self())) return object;
  handle_release(*handle);
  util_throw(env, "ERR_HANDLE", "the tail belongs to another thread");
  return NULL;
}

/* A free number; -1 after throwing. */
static int64_t free_number(napi_env env, struct tail_object *object) {
  for (size_t i = 0; i < object->room; i++) {
    if (object->programs[i] == NULL) return (int64_t)i;
  }
  size_t room = object->room == 0 ? 16 : object->room * 2;
  struct tail_program **programs =
      room > MAX_PROGRAMS ? NULL : realloc(object->programs, room * sizeof *object->programs);
  if (programs == NULL) {
    util_throw(env, "ENOMEM", "out of memory");
    return -1;
  }
  memset(programs + object->room, 0, (room - object->room) * sizeof *programs);
  int64_t number = (int64_t)object->room;
  object->programs = programs;
  object->room = room;
  return number;
}

static napi_value add(napi_env env, struct tail_object *object, napi_value argument) {
  const uint8_t *spec;
  size_t length;
  if (!util_bytes(env, argument, "spec", &spec, &length)) return NULL;
  int64_t number = free_number(env, object);
  if (number < 0) return NULL;
  enum tail_problem problem;
  struct tail_program *program = tail_add(object->tail, spec, length, &problem);
  if (problem == TAIL_NO_MEMORY) return util_throw(env, "ENOMEM", "out of memory");
  if (program == NULL) return util_throw(env, "ERR_INVALID_ARG", "spec is no tail program");
  object->programs[number] = program;
  return util_new_double(env, (double)number);
}

static napi_value tail_add_call(napi_env env, napi_callback_info info) {
  napi_value arguments[2];
  int64_t handle;
  if (!util_args(env, info, 2, arguments, NULL)) return NULL;
  struct tail_object *object = own_tail(env, arguments[0], &handle);
  if (object == NULL) return NULL;
  napi_value result = add(env, object, arguments[1]);
  handle_release(handle);
  return result;
}

/* The program of this number; NULL after throwing. */
static struct tail_program *program_of(napi_env env, struct tail_object *object, napi_value value, int64_t *number) {
  if (!util_int(env, value, "program", 0, MAX_PROGRAMS, number)) return NULL;
  struct tail_program *program = (size_t)*number < object->room ? object->programs[*number] : NULL;
  if (program == NULL) util_throw(env, "ERR_HANDLE", "the tail has no program %lld", (long long)*number);
  return program;
}

static napi_value tail_remove_call(napi_env env, napi_callback_info info) {
  napi_value arguments[2];
  int64_t handle;
  int64_t number;
  if (!util_args(env, info, 2, arguments, NULL)) return NULL;
  struct tail_object *object = own_tail(env, arguments[0], &handle);
  if (object == NULL) return NULL;
  struct tail_program *program = program_of(env, object, arguments[1], &number);
  if (program != NULL) {
    tail_remove(object->tail, program);
    object->programs[number] = NULL;
  }
  handle_release(handle);
  return program == NULL ? NULL : util_undefined(env);
}

/* ---- scans ---- */

static bool read_id(napi_env env, napi_value options, const char *name, int64_t *id) {
  napi_value value;
  uint64_t wide;
  if (!util_get(env, options, name, &value) || !util_u64(env, value, name, &wide)) return false;
  *id = wide > INT64_MAX ? INT64_MAX : (int64_t)wide;
  return true;
}

static bool read_range(napi_env env, napi_value options, struct tail_range *range, sqlite3 **db) {
  napi_value value;
  int64_t slot;
  int64_t rows;
  int64_t bytes;
  bool own;
  if (!read_id(env, options, "after", &range->after) || !read_id(env, options, "upTo", &range->up_to)) return false;
  if (!util_get(env, options, "maxRows", &value) || !util_int(env, value, "maxRows", 1, UINT32_MAX, &rows)) return false;
  if (!util_get(env, options, "maxBytes", &value) || !util_int(env, value, "maxBytes", 1, UINT32_MAX, &bytes)) {
    return false;
  }
  range->max_rows = (uint32_t)rows;
  range->max_bytes = (size_t)bytes;
  range->total_bytes = TAIL_TOTAL_BYTES;
  if (!util_get(env, options, "slot", &value) || !util_int(env, value, "slot", 1, SLOT_MAX, &slot)) return false;
  *db = slot_connection(slot, &own);
  if (*db != NULL && own) return true;
  util_throw(env, "ERR_HANDLE", "slot %lld is no open connection of this thread", (long long)slot);
  return false;
}

static bool read_part(napi_env env, struct tail_object *object, napi_value value, struct tail_part *part) {
  static const uint8_t none[1];
  napi_value member;
  int64_t number;
  size_t length = 0;
  if (!util_get(env, value, "program", &member)) return false;
  part->program = program_of(env, object, member, &number);
  if (part->program == NULL || !util_get(env, value, "truths", &member)) return false;
  part->truths = none;
  if (!util_is_null(env, member) && !util_bytes(env, member, "truths", &part->truths, &length)) return false;
  if (length >= tail_truths(part->program)) return true;
  util_throw(env, "ERR_OUT_OF_RANGE", "program %lld wants %zu truth values", (long long)number,
             tail_truths(part->program));
  return false;
}

static napi_value new_match(napi_env env, uint32_t index, const struct tail_part *part) {
  void *bytes;
  napi_value buffer;
  napi_value frames;
  if (napi_create_arraybuffer(env, part->length, &bytes, &buffer) != napi_ok) return NULL;
  memcpy(bytes, part->frames, part->length);
  if (napi_create_typedarray(env, napi_uint8_array, part->length, buffer, 0, &frames) != napi_ok) return NULL;
  napi_value match = util_object(env);
  util_set_double(env, match, "part", index);
  util_set_double(env, match, "records", part->records);
  util_set(env, match, "frames", frames);
  return match;
}

static napi_value new_result(napi_env env, const struct tail_range *range, const struct tail_part *parts,
                             uint32_t count) {
  napi_value matches;
  napi_value done;
  uint32_t found = 0;
  if (napi_create_array(env, &matches) != napi_ok) return NULL;
  for (uint32_t i = 0; i < count; i++) {
    if (parts[i].records == 0) continue;
    napi_value match = new_match(env, i, &parts[i]);
    if (match == NULL || napi_set_element(env, matches, found++, match) != napi_ok) return NULL;
  }
  napi_get_boolean(env, range->done, &done);
  napi_value result = util_object(env);
  util_set_u64(env, result, "last", (uint64_t)range->last);
  util_set_double(env, result, "rows", range->rows);
  util_set(env, result, "done", done);
  util_set(env, result, "matches", matches);
  return result;
}

static napi_value scan(napi_env env, struct tail_object *object, napi_value options) {
  struct tail_range range;
  sqlite3 *db;
  napi_value list;
  uint32_t count;
  if (!read_range(env, options, &range, &db)) return NULL;
  if (!util_get(env, options, "parts", &list) || !util_array(env, list, "parts", &count)) return NULL;
  if (count > MAX_PROGRAMS) return util_throw(env, "ERR_OUT_OF_RANGE", "more than %d parts", MAX_PROGRAMS);
  struct tail_part *parts = calloc(count + 1, sizeof *parts);
  if (parts == NULL) return util_throw(env, "ENOMEM", "out of memory");
  napi_value result = NULL;
  bool read = true;
  for (uint32_t i = 0; read && i < count; i++) {
    napi_value part;
    read = napi_get_element(env, list, i, &part) == napi_ok && read_part(env, object, part, &parts[i]);
  }
  if (read) {
    int rc = tail_scan(object->tail, db, &range, parts, count);
    result = rc == SQLITE_OK ? new_result(env, &range, parts, count)
                             : util_throw(env, sqlite_code_name(rc), "%s", tail_message(object->tail));
  }
  free(parts);
  return result;
}

static napi_value tail_scan_call(napi_env env, napi_callback_info info) {
  napi_value arguments[2];
  int64_t handle;
  if (!util_args(env, info, 2, arguments, NULL)) return NULL;
  struct tail_object *object = own_tail(env, arguments[0], &handle);
  if (object == NULL) return NULL;
  napi_value result = scan(env, object, arguments[1]);
  handle_release(handle);
  return result;
}

static napi_value tail_close_call(napi_env env, napi_callback_info info) {
  napi_value argument;
  int64_t handle;
  if (!util_args(env, info, 1, &argument, NULL)) return NULL;
  struct tail_object *object = own_tail(env, argument, &handle);
  if (object == NULL) return NULL;
  napi_remove_env_cleanup_hook(env, abandon, (void *)(intptr_t)handle);
  handle_close(HANDLE_TAIL, handle);
  handle_release(handle);
  return util_undefined(env);
}

/* socketSendBuffer(fd, bytes): past the limit of wmem_max where we may, else up to it. */
static napi_value socket_send_buffer_call(napi_env env, napi_callback_info info) {
  napi_value arguments[2];
  int64_t fd;
  int64_t bytes;
  if (!util_args(env, info, 2, arguments, NULL)) return NULL;
  if (!util_int(env, arguments[0], "fd", 0, INT32_MAX, &fd)) return NULL;
  if (!util_int(env, arguments[1], "bytes", 1, INT32_MAX / 2, &bytes)) return NULL;
  int size = (int)bytes;
  socklen_t length = sizeof size;
  if (setsockopt((int)fd, SOL_SOCKET, SO_SNDBUFFORCE, &size, length) != 0 &&
      setsockopt((int)fd, SOL_SOCKET, SO_SNDBUF, &size, length) != 0) {
    return util_throw_errno(env, errno, "setting the size of a send buffer");
  }
  if (getsockopt((int)fd, SOL_SOCKET, SO_SNDBUF, &size, &length) != 0) {
    return util_throw_errno(env, errno, "asking for the size of a send buffer");
  }
  return util_new_double(env, size);
}

napi_value addon_tail_init(napi_env env, napi_value exports) {
  util_export(env, exports, "tailOpen", tail_open_call);
  util_export(env, exports, "tailAdd", tail_add_call);
  util_export(env, exports, "tailRemove", tail_remove_call);
  util_export(env, exports, "tailScan", tail_scan_call);
  util_export(env, exports, "tailClose", tail_close_call);
  util_export(env, exports, "socketSendBuffer", socket_send_buffer_call);
  return exports;
}
