/* Row copies in JavaScript (src/native/addon.ts). */
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "addon_parts.h"
#include "addon_statement.h"
#include "addon_util.h"
#include "clock.h"
#include "handle.h"
#include "helpers.h"
#include "row_copy.h"
#include "sqlite3ext.h"
#include "sqlite_names.h"
SQLITE_EXTENSION_INIT3

/* Copies read at once at most: far more than there are helpers. */
#define MAX_COPIES 64

/* Above what a result row of SQLite can hold in pairs with the INSERT's parameters. */
#define MAX_KEYS 1000

static void destroy(void *copy) {
  row_copy_free(copy);
}

/* On the copy's thread: its statements go before another thread may drop the last reference. */
static void end_copy(struct row_copy *copy, int64_t handle) {
  row_copy_end(copy);
  handle_close(HANDLE_COPY, handle);
}

/* The environment ends with the copy still open. */
static void abandon(void *argument) {
  int64_t handle = (int64_t)(intptr_t)argument;
  struct row_copy *copy = handle_acquire(HANDLE_COPY, handle);
  if (copy == NULL) return;
  end_copy(copy, handle);
  handle_release(handle);
}

/* Prepares `object.sql` on the connection of `object.slot`. NULL after throwing. */
static sqlite3_stmt *prepare(napi_env env, napi_value object) {
  napi_value value;
  size_t length;
  sqlite3 *db = addon_connection(env, object);
  if (db == NULL || !util_get(env, object, "sql", &value)) return NULL;
  char *sql = addon_text(env, value, "sql", &length);
  if (sql == NULL) return NULL;
  sqlite3_stmt *statement = NULL;
  const char *tail = NULL;
  int rc = length > INT32_MAX ? SQLITE_TOOBIG : sqlite3_prepare_v2(db, sql, (int)length, &statement, &tail);
  bool single = statement != NULL && tail == sql + length;
  free(sql);
  if (rc == SQLITE_OK && single) return statement;
  sqlite3_finalize(statement);
  if (rc == SQLITE_OK) util_throw(env, "SQLITE_MISUSE", "expected one statement");
  else util_throw(env, sqlite_code_name(rc), "%s", rc == SQLITE_TOOBIG ? "statement too long" : sqlite3_errmsg(db));
  return NULL;
}

/* The options' `group`: NULL there gives NULL here. False after throwing. */
static bool read_groups(napi_env env, napi_value options, struct row_groups **groups) {
  static const char *const functions[] = {"distinct", "count", "total", "sum", "min", "max"};
  napi_value group;
  napi_value value;
  uint32_t keys;
  int64_t bytes;
  *groups = NULL;
  if (!util_get(env, options, "group", &group)) return false;
  if (util_is_null(env, group)) return true;
  if (!util_get(env, group, "maxBytes", &value) || !util_int(env, value, "maxBytes", 1, UINT32_MAX, &bytes)) return false;
  if (!util_get(env, group, "function", &value)) return false;
  char *name = util_string(env, value, "function");
  if (name == NULL) return false;
  size_t function = 0;
  while (function < sizeof functions / sizeof *functions && strcmp(functions[function], name) != 0) function++;
  free(name);
  if (function == sizeof functions / sizeof *functions) {
    util_throw(env, "ERR_INVALID_ARG", "function: no such function");
    return false;
  }
  if (!util_get(env, group, "keys", &value) || !util_array(env, value, "keys", &keys)) return false;
  if (keys > MAX_KEYS) {
    util_throw(env, "ERR_OUT_OF_RANGE", "more than %d keys", MAX_KEYS);
    return false;
  }
  bool encoded[MAX_KEYS];
  for (uint32_t i = 0; i < keys; i++) {
    napi_value key;
    napi_value flag;
    if (napi_get_element(env, value, i, &key) != napi_ok || !util_get(env, key, "encoded", &flag)) return false;
    if (!util_bool(env, flag, "encoded", &encoded[i])) return false;
  }
  *groups = row_groups_new(encoded, keys, (enum group_function)function, (size_t)bytes);
  if (*groups == NULL) util_throw(env, "ENOMEM", "out of memory");
  return *groups != NULL;
}

static napi_value copy_open_call(napi_env env, napi_callback_info info) {
  napi_value argument;
  napi_value from;
  napi_value into;
  if (!util_args(env, info, 1, &argument, NULL)) return NULL;
  if (!util_get(env, argument, "from", &from) || !util_get(env, argument, "into", &into)) return NULL;
  sqlite3_stmt *select = prepare(env, from);
  if (select == NULL) return NULL;
  sqlite3_stmt *insert = addon_bind_params(env, select, from) ? prepare(env, into) : NULL;
  if (insert == NULL) {
    sqlite3_finalize(select);
    return NULL;
  }
  struct row_groups *groups;
  if (!read_groups(env, argument, &groups)) {
    sqlite3_finalize(select);
    sqlite3_finalize(insert);
    return NULL;
  }
  const char *error;
  struct row_copy *copy = row_copy_new(select, insert, groups, &error);
  if (copy == NULL && error != NULL) return util_throw(env, "SQLITE_MISUSE", "%s", error);
  int64_t handle = copy == NULL ? 0 : handle_open(HANDLE_COPY, copy, destroy);
  if (handle == 0) {
    row_copy_free(copy);
    return util_throw(env, "ENOMEM", "out of memory");
  }
  /* Added later than the hook of the SQLite binding, hence run before it closes the connections. */
  napi_add_env_cleanup_hook(env, abandon, (void *)(intptr_t)handle);
  return util_new_handle(env, handle);
}

/* The caller's own copy, acquired; NULL after throwing. */
static struct row_copy *own_copy(napi_env env, napi_value argument, int64_t *handle) {
  struct row_copy *copy = util_handle(env, HANDLE_COPY, argument, handle);
  if (copy == NULL || row_copy_is_own(copy)) return copy;
  handle_release(*handle);
  util_throw(env, "ERR_HANDLE", "the copy belongs to another thread");
  return NULL;
}

/* Milliseconds, or undefined for UINT64_MAX. False after throwing. */
static bool read_limit(napi_env env, napi_value value, uint64_t *ns) {
  napi_valuetype type;
  int64_t ms;
  *ns = UINT64_MAX;
  if (napi_typeof(env, value, &type) != napi_ok || type == napi_undefined) return true;
  if (!util_int(env, value, "ms", 1, UINT32_MAX, &ms)) return false;
  *ns = (uint64_t)ms * UINT64_C(1000000);
  return true;
}

static napi_value copy_step_call(napi_env env, napi_callback_info info) {
  napi_value arguments[4];
  int64_t handle;
  int64_t rows;
  int64_t bytes;
  uint64_t ns;
  if (!util_args(env, info, 4, arguments, NULL)) return NULL;
  if (!util_int(env, arguments[1], "maxRows", 1, UINT32_MAX, &rows)) return NULL;
  if (!util_int(env, arguments[2], "maxBytes", 1, UINT32_MAX, &bytes)) return NULL;
  if (!read_limit(env, arguments[3], &ns)) return NULL;
  struct row_copy *copy = own_copy(env, arguments[0], &handle);
  if (copy == NULL) return NULL;
  struct row_copy_slice slice;
  int rc = row_copy_step(copy, (uint64_t)rows, (uint64_t)bytes, ns, &slice);
  napi_value result;
  if (rc == SQLITE_OK) {
    napi_value done;
    napi_get_boolean(env, slice.done, &done);
    result = util_object(env);
    util_set_double(env, result, "rows", (double)slice.rows);
    util_set_double(env, result, "waitingBytes", (double)slice.waiting);
    util_set(env, result, "done", done);
  } else {
    result = util_throw(env, sqlite_code_name(rc), "%s", row_copy_message(copy));
  }
  handle_release(handle);
  return result;
}

/* Rows read before looking again at what is left of the slice. */
#define CHUNK_ROWS 500

struct reading {
  struct row_copy *copy;
  int64_t handle;
  /*
   * What is left of the slice, for all copies together: while one thread does not get a processor another
   * one reads more of its own.
   */
  _Atomic int64_t *rows_left;
  /* CLOCK_MONOTONIC ns at which it ends in any case. */
  uint64_t end;
  enum row_copy_read state;
};

static void read_one(void *item) {
  struct reading *reading = item;
  while (reading->state == ROW_COPY_READS && atomic_fetch_sub(reading->rows_left, CHUNK_ROWS) > 0) {
    uint64_t now = clock_monotonic();
    uint64_t ns = reading->end == UINT64_MAX ? UINT64_MAX : now < reading->end ? reading->end - now : 0;
    reading->state = row_copy_read(reading->copy, CHUNK_ROWS, ns);
  }
}

static napi_value copy_read_call(napi_env env, napi_callback_info info) {
  napi_value arguments[3];
  napi_value element;
  uint32_t count;
  int64_t rows;
  uint64_t ns;
  if (!util_args(env, info, 3, arguments, NULL) || !util_array(env, arguments[0], "copies", &count)) return NULL;
  if (!util_int(env, arguments[1], "maxRows", 1, UINT32_MAX, &rows)) return NULL;
  if (!read_limit(env, arguments[2], &ns)) return NULL;
  if (count > MAX_COPIES) return util_throw(env, "ERR_OUT_OF_RANGE", "more than %d copies", MAX_COPIES);
  _Atomic int64_t rows_left = rows;
  uint64_t end = ns == UINT64_MAX ? UINT64_MAX : clock_monotonic() + ns;
  struct reading readings[MAX_COPIES];
  void *items[MAX_COPIES];
  uint32_t entered = 0;
  for (; entered < count; entered++) {
    struct reading *reading = &readings[entered];
    if (napi_get_element(env, arguments[0], entered, &element) != napi_ok) break;
    *reading = (struct reading){.rows_left = &rows_left, .end = end};
    reading->copy = own_copy(env, element, &reading->handle);
    if (reading->copy == NULL) break;
    items[entered] = reading;
  }
  napi_value result = NULL;
  if (entered == count) {
    helpers_run(read_one, items, count);
    napi_create_array_with_length(env, count, &result);
    for (uint32_t i = 0; i < count; i++) {
      napi_get_boolean(env, readings[i].state == ROW_COPY_WAITS, &element);
      napi_set_element(env, result, i, element);
    }
  }
  for (uint32_t i = 0; i < entered; i++) handle_release(readings[i].handle);
  return result;
}

static napi_value copy_width_call(napi_env env, napi_callback_info info) {
  napi_value width;
  napi_create_uint32(env, (uint32_t)helpers_width(), &width);
  return width;
}

static napi_value copy_close_call(napi_env env, napi_callback_info info) {
  napi_value argument;
  int64_t handle;
  if (!util_args(env, info, 1, &argument, NULL)) return NULL;
  struct row_copy *copy = own_copy(env, argument, &handle);
  if (copy == NULL) return NULL;
  napi_remove_env_cleanup_hook(env, abandon, (void *)(intptr_t)handle);
  end_copy(copy, handle);
  handle_release(handle);
  return util_undefined(env);
}

napi_value addon_copy_init(napi_env env, napi_value exports) {
  util_export(env, exports, "copyOpen", copy_open_call);
  util_export(env, exports, "copyWidth", copy_width_call);
  util_export(env, exports, "copyRead", copy_read_call);
  util_export(env, exports, "copyStep", copy_step_call);
  util_export(env, exports, "copyClose", copy_close_call);
  return exports;
}
