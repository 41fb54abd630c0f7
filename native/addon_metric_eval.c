/* METRIC computations of the addon's JavaScript face (src/native/addon.ts). */
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "addon_parts.h"
#include "addon_statement.h"
#include "addon_util.h"
#include "handle.h"
#include "metric_eval.h"
#include "sqlite3ext.h"
#include "sqlite_names.h"
SQLITE_EXTENSION_INIT3

#define MAX_DATABASES 65536

struct computation {
  pthread_t owner;
  struct metric_eval *eval;
};

/* Position of a word among others; -1 after throwing. */
static int read_word(napi_env env, napi_value object, const char *key, const char *const *words, int count) {
  napi_value value;
  char word[16];
  size_t length;
  if (!util_get(env, object, key, &value)) return -1;
  if (napi_get_value_string_utf8(env, value, word, sizeof word, &length) == napi_ok) {
    for (int i = 0; i < count; i++) {
      if (strcmp(words[i], word) == 0) return i;
    }
  }
  util_throw(env, "ERR_INVALID_ARG", "%s is none of the known words", key);
  return -1;
}

#define WORDS(...) (const char *const[]){__VA_ARGS__}, sizeof(const char *[]){__VA_ARGS__} / sizeof(char *)

static bool read_bigint(napi_env env, napi_value object, const char *key, int64_t *out) {
  napi_value value;
  bool lossless = false;
  if (!util_get(env, object, key, &value)) return false;
  if (napi_get_value_bigint_int64(env, value, out, &lossless) == napi_ok && lossless) return true;
  util_throw(env, "ERR_INVALID_ARG", "%s must be a bigint of 64 bits", key);
  return false;
}

static bool read_options(napi_env env, napi_value object, struct metric_options *out) {
  napi_value value;
  int64_t types;
  int function = read_word(env, object, "function", WORDS("sample", "rate", "delta", "quantile"));
  if (function < 0) return false;
  int shape = read_word(env, object, "shape", WORDS("latest", "each", "total", "windows", "deltaWindows"));
  if (shape < 0) return false;
  int combine = read_word(env, object, "combine", WORDS("avg", "min", "max", "sum"));
  if (combine < 0) return false;
  int window = read_word(env, object, "window", WORDS("avg", "min", "max", "sum"));
  if (window < 0) return false;
  int rollup = read_word(env, object, "rollup", WORDS("avg", "min", "max", "sum", "rate", "delta", "none"));
  if (rollup < 0) return false;
  out->rollup = rollup > ROLLUP_DELTA ? ROLLUP_NONE : (enum metric_rollup)rollup;
  out->function = (enum metric_function)function;
  out->shape = (enum metric_shape)shape;
  out->combine = (enum metric_fold)combine;
  out->window = (enum metric_fold)window;
  if (!util_get(env, object, "quantile", &value) || !util_double(env, value, "quantile", &out->quantile)) return false;
  if (!util_get(env, object, "bySeries", &value) || !util_bool(env, value, "bySeries", &out->by_series)) return false;
  if (!util_get(env, object, "types", &value) || !util_int(env, value, "types", 0, 7, &types)) return false;
  out->types = (unsigned)types;
  if (!read_bigint(env, object, "windowNs", &out->window_ns) || !read_bigint(env, object, "from", &out->from) ||
      !read_bigint(env, object, "to", &out->to)) {
    return false;
  }
  bool quantile = out->function != METRIC_QUANTILE || (out->quantile > 0 && out->quantile < 1);
  bool deltas = out->function == METRIC_RATE || out->function == METRIC_DELTA;
  /* Rollups add up where partials do, and those of deltas are no values. */
  bool adds = out->shape == METRIC_TOTAL || (out->shape == METRIC_WINDOWS && out->by_series);
  bool rolls = out->rollup == ROLLUP_NONE || (out->rollup < ROLLUP_RATE ? adds : out->shape == METRIC_DELTA_WINDOWS);
  if (quantile && rolls && out->window_ns > 0 && (out->shape != METRIC_DELTA_WINDOWS || deltas)) return true;
  util_throw(env, "ERR_OUT_OF_RANGE", "quantile, windowNs, rollup or shape is impossible");
  return false;
}

/* One SELECT with its parameters, which the caller may bind anew. NULL after throwing. */
static sqlite3_stmt *prepare_bound(napi_env env, napi_value part, const char *key, int columns) {
  napi_value value;
  if (!util_get(env, part, key, &value)) return NULL;
  sqlite3_stmt *statement = addon_prepare_select(env, value, columns);
  if (statement == NULL || addon_bind_params(env, statement, value)) return statement;
  sqlite3_finalize(statement);
  return NULL;
}

static bool add_database(napi_env env, struct metric_eval *eval, napi_value part, enum metric_shape shape) {
  bool latest = shape == METRIC_LATEST;
  sqlite3_stmt *series = prepare_bound(env, part, "series", 4);
  sqlite3_stmt *samples = series == NULL ? NULL : prepare_bound(env, part, "samples", latest ? 5 : 4);
  sqlite3_stmt *same = samples == NULL || latest ? NULL : prepare_bound(env, part, "same", 4);
  if (samples == NULL || (same == NULL && !latest)) {
    sqlite3_finalize(series);
    sqlite3_finalize(samples);
    return false;
  }
  int rc = metric_eval_database(eval, series, samples, same);
  if (rc != SQLITE_OK) util_throw(env, sqlite_code_name(rc), "%s", metric_eval_message(eval));
  return rc == SQLITE_OK;
}

/* Prepares an INSERT of so many values. NULL after throwing. */
static sqlite3_stmt *prepare_insert(napi_env env, sqlite3 *db, napi_value object, const char *key, int values) {
  napi_value value;
  size_t length;
  if (!util_get(env, object, key, &value)) return NULL;
  char *sql = addon_text(env, value, key, &length);
  if (sql == NULL) return NULL;
  sqlite3_stmt *statement = NULL;
  int rc = length > INT32_MAX ? SQLITE_TOOBIG : sqlite3_prepare_v2(db, sql, (int)length, &statement, NULL);
  free(sql);
  if (rc == SQLITE_OK && sqlite3_bind_parameter_count(statement) == values) return statement;
  const char *code = rc == SQLITE_OK ? "SQLITE_MISUSE" : sqlite_code_name(rc);
  util_throw(env, code, "%s is no INSERT of %d values", key, values);
  sqlite3_finalize(statement);
  return NULL;
}

static bool add_target(napi_env env, struct metric_eval *eval, napi_value options) {
  napi_value into;
  if (!util_get(env, options, "into", &into)) return false;
  sqlite3 *db = addon_connection(env, into);
  sqlite3_stmt *unit = db == NULL ? NULL : prepare_insert(env, db, into, "unit", 4);
  sqlite3_stmt *row = unit == NULL ? NULL : prepare_insert(env, db, into, "row", 5);
  if (row == NULL) {
    sqlite3_finalize(unit);
    return false;
  }
  metric_eval_target(eval, unit, row);
  return true;
}

static void destroy(void *object) {
  struct computation *computation = object;
  metric_eval_free(computation->eval);
  free(computation);
}

/* On the computation's thread; see the cursor: the last reference may be dropped by another one. */
static void end(struct computation *computation, int64_t handle) {
  metric_eval_end(computation->eval);
  handle_close(HANDLE_METRIC_EVAL, handle);
}

/* The environment ends with the computation still open. */
static void abandon(void *argument) {
  int64_t handle = (int64_t)(intptr_t)argument;
  struct computation *computation = handle_acquire(HANDLE_METRIC_EVAL, handle);
  if (computation == NULL) return;
  end(computation, handle);
  handle_release(handle);
}

static bool fill(napi_env env, struct metric_eval *eval, napi_value options, napi_value parts, uint32_t count,
                 enum metric_shape shape) {
  for (uint32_t i = 0; i < count; i++) {
    napi_value part;
    if (napi_get_element(env, parts, i, &part) != napi_ok || !add_database(env, eval, part, shape)) return false;
  }
  return add_target(env, eval, options);
}

static napi_value open_call(napi_env env, napi_callback_info info) {
  napi_value argument;
  napi_value parts;
  struct metric_options options = {0};
  if (!util_args(env, info, 1, &argument, NULL) || !read_options(env, argument, &options)) return NULL;
  if (!util_get(env, argument, "parts", &parts) || !util_array(env, parts, "parts", &options.databases)) return NULL;
  if (options.databases > MAX_DATABASES) return util_throw(env, "ERR_OUT_OF_RANGE", "too many parts");
  struct computation *computation = calloc(1, sizeof *computation);
  struct metric_eval *eval = computation == NULL ? NULL : metric_eval_new(&options);
  if (eval == NULL) {
    free(computation);
    return util_throw(env, "ENOMEM", "out of memory");
  }
  *computation = (struct computation){pthread_self(), eval};
  if (!fill(env, eval, argument, parts, options.databases, options.shape)) {
    destroy(computation);
    return NULL;
  }
  int64_t handle = handle_open(HANDLE_METRIC_EVAL, computation, destroy);
  if (handle == 0) {
    destroy(computation);
    return util_throw(env, "ENOMEM", "out of memory");
  }
  /* Added later than the hook of the SQLite binding, hence run before it closes the connections. */
  napi_add_env_cleanup_hook(env, abandon, (void *)(intptr_t)handle);
  return util_new_handle(env, handle);
}

/* The caller's own computation, acquired; NULL after throwing. */
static struct computation *own(napi_env env, napi_value argument, int64_t *handle) {
  struct computation *computation = util_handle(env, HANDLE_METRIC_EVAL, argument, handle);
  if (computation == NULL || pthread_equal(computation->owner, pthread_self())) return computation;
  handle_release(*handle);
  util_throw(env, "ERR_HANDLE", "the computation belongs to another thread");
  return NULL;
}

static napi_value step_object(napi_env env, const struct metric_progress *step) {
  napi_value done;
  napi_value rejected = util_null(env);
  napi_get_boolean(env, step->state == METRIC_DONE, &done);
  if (step->state == METRIC_REJECTED) {
    napi_value name;
    rejected = util_object(env);
    if (napi_create_string_utf8(env, step->name, step->name_length, &name) != napi_ok) return NULL;
    util_set(env, rejected, "name", name);
    util_set_double(env, rejected, "type", step->type);
  }
  napi_value result = util_object(env);
  util_set(env, result, "done", done);
  util_set(env, result, "rejected", rejected);
  util_set_double(env, result, "samples", (double)step->samples);
  util_set_double(env, result, "waitingBytes", (double)step->waiting_room);
  util_set_double(env, result, "waitingMemory", (double)step->waiting_memory);
  return result;
}

static napi_value step_call(napi_env env, napi_callback_info info) {
  napi_value arguments[4];
  int64_t handle;
  int64_t samples;
  int64_t bytes;
  int64_t memory;
  if (!util_args(env, info, 4, arguments, NULL)) return NULL;
  if (!util_int(env, arguments[1], "maxSamples", 1, UINT32_MAX, &samples)) return NULL;
  if (!util_int(env, arguments[2], "maxBytes", 0, UINT32_MAX, &bytes)) return NULL;
  if (!util_int(env, arguments[3], "memoryBytes", 0, INT64_C(1) << 53, &memory)) return NULL;
  struct computation *computation = own(env, arguments[0], &handle);
  if (computation == NULL) return NULL;
  struct metric_progress step;
  int rc = metric_eval_step(computation->eval, (uint64_t)samples, (size_t)bytes, (size_t)memory, &step);
  napi_value result = rc == SQLITE_OK
                          ? step_object(env, &step)
                          : util_throw(env, sqlite_code_name(rc), "%s", metric_eval_message(computation->eval));
  handle_release(handle);
  return result;
}

static napi_value close_call(napi_env env, napi_callback_info info) {
  napi_value argument;
  int64_t handle;
  if (!util_args(env, info, 1, &argument, NULL)) return NULL;
  struct computation *computation = own(env, argument, &handle);
  if (computation == NULL) return NULL;
  napi_remove_env_cleanup_hook(env, abandon, (void *)(intptr_t)handle);
  end(computation, handle);
  handle_release(handle);
  return util_undefined(env);
}

napi_value addon_metric_eval_init(napi_env env, napi_value exports) {
  util_export(env, exports, "metricOpen", open_call);
  util_export(env, exports, "metricStep", step_call);
  util_export(env, exports, "metricClose", close_call);
  return exports;
}
