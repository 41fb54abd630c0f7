/* The JavaScript face of range builders (src/native/addon.ts). */
#include <stdlib.h>
#include <string.h>

#include "addon_parts.h"
#include "addon_statement.h"
#include "addon_util.h"
#include "handle.h"
#include "range_build.h"
#include "sqlite3ext.h"
#include "sqlite_names.h"
SQLITE_EXTENSION_INIT3

/* Bounds on what one call may ask for, far above what a query can need. */
#define MAX_PARTS 65536
#define MAX_SOURCES 10000000
#define MAX_NUMBERS 16777216

/* Columns of every source: from and to, or timestamp and value. */
#define SOURCE_COLUMNS 2

/* Series id, lowest and highest timestamp. */
#define SAMPLES_PARAMETERS 3

/* Indexed by enum range_test_kind. */
static const char *const operators[] = {"==", "!=", ">", ">=", "<", "<=", "IN", "NOT_IN"};

static bool read_number(napi_env env, napi_value value, struct number *number) {
  napi_valuetype type;
  napi_typeof(env, value, &type);
  if (type == napi_bigint) {
    int sign = 0;
    uint64_t word = 0;
    size_t words = 1;
    if (napi_get_value_bigint_words(env, value, &sign, &words, &word) == napi_ok && words <= 1 &&
        (sign == 0 || word <= (uint64_t)INT64_MAX + 1)) {
      *number = sign == 0 ? (struct number){.kind = NUMBER_UINT, .uint = word} : number_of_int((int64_t)(0 - word));
      return true;
    }
    util_throw(env, "ERR_OUT_OF_RANGE", "numbers are -2^63 to 2^64-1");
    return false;
  }
  number->kind = NUMBER_REAL;
  return util_double(env, value, "numbers", &number->real);
}

/* The test's numbers belong to the caller, also after throwing. */
static bool read_test(napi_env env, napi_value object, struct range_test *test) {
  napi_value value;
  uint32_t count;
  if (!util_get(env, object, "operator", &value)) return false;
  char *operator= util_string(env, value, "operator");
  if (operator== NULL) return false;
  size_t kind = 0;
  while (kind < sizeof operators / sizeof *operators && strcmp(operators[kind], operator) != 0) kind++;
  free(operator);
  if (kind == sizeof operators / sizeof *operators) {
    util_throw(env, "ERR_INVALID_ARG", "unknown operator");
    return false;
  }
  test->kind = (enum range_test_kind)kind;
  if (!util_get(env, object, "numbers", &value) || !util_array(env, value, "numbers", &count)) return false;
  if (count == 0 || count > MAX_NUMBERS || (count > 1 && test->kind != TEST_IN && test->kind != TEST_NOT_IN)) {
    util_throw(env, "ERR_OUT_OF_RANGE", "a wrong count of numbers");
    return false;
  }
  test->count = count;
  test->numbers = calloc(count, sizeof *test->numbers);
  if (test->numbers == NULL) {
    util_throw(env, "ENOMEM", "out of memory");
    return false;
  }
  for (uint32_t i = 0; i < count; i++) {
    napi_value number;
    if (napi_get_element(env, value, i, &number) != napi_ok || !read_number(env, number, &test->numbers[i])) return false;
  }
  return true;
}

/* A bigint time in ns, zero or more. */
static bool read_time(napi_env env, napi_value object, const char *key, int64_t *time) {
  napi_value value;
  uint64_t number;
  if (!util_get(env, object, key, &value) || !util_u64(env, value, key, &number)) return false;
  *time = number > INT64_MAX ? INT64_MAX : (int64_t)number;
  return true;
}

/* The unit of each series; the caller frees `*units`, also after throwing. */
static bool read_units(napi_env env, napi_value object, uint32_t **units, size_t *series) {
  napi_value list;
  uint32_t count;
  if (!util_get(env, object, "units", &list) || !util_array(env, list, "units", &count)) return false;
  if (count > MAX_SOURCES) {
    util_throw(env, "ERR_OUT_OF_RANGE", "more than %d series", MAX_SOURCES);
    return false;
  }
  *series = count;
  *units = calloc(count + 1, sizeof **units);
  if (*units == NULL) {
    util_throw(env, "ENOMEM", "out of memory");
    return false;
  }
  int64_t next = 0;
  for (uint32_t i = 0; i < count; i++) {
    napi_value value;
    int64_t unit;
    if (napi_get_element(env, list, i, &value) != napi_ok) return false;
    if (!util_int(env, value, "units", i == 0 ? 0 : next - 1, next, &unit)) return false;
    (*units)[i] = (uint32_t)unit;
    next = unit + 1;
  }
  return true;
}

/* A set of ranges, or NULL; viewed in place. */
static bool read_skip(napi_env env, napi_value object, const uint8_t **skip, size_t *length) {
  napi_value value;
  if (!util_get(env, object, "skip", &value)) return false;
  if (util_is_null(env, value)) return true;
  if (!util_bytes(env, value, "skip", skip, length)) return false;
  if (ranges_valid(*skip, *length)) return true;
  util_throw(env, "ERR_INVALID_ARG", "malformed time ranges");
  return false;
}

static bool add_source(napi_env env, struct range_build *build, napi_value object,
                       const struct range_samples_options *options) {
  napi_value value;
  int64_t database;
  int64_t series;
  int64_t id;
  bool lossless = false;
  if (!util_get(env, object, "database", &value)) return false;
  if (!util_int(env, value, "database", 0, (int64_t)options->databases - 1, &database)) return false;
  if (!util_get(env, object, "series", &value)) return false;
  if (!util_int(env, value, "series", 0, (int64_t)options->series - 1, &series)) return false;
  if (!util_get(env, object, "id", &value)) return false;
  if (napi_get_value_bigint_int64(env, value, &id, &lossless) != napi_ok || !lossless) {
    util_throw(env, "ERR_OUT_OF_RANGE", "id must be a 64-bit bigint");
    return false;
  }
  const uint8_t *skip = NULL;
  size_t length = 0;
  if (!read_skip(env, object, &skip, &length)) return false;
  if (range_samples_add(build, (size_t)database, id, (size_t)series, skip, length)) return true;
  util_throw(env, "ENOMEM", "out of memory");
  return false;
}

/* Everything of SamplesOptions but the sources, which are counted. False after throwing. */
static bool read_samples(napi_env env, napi_value object, struct range_samples_options *options, uint32_t **units,
                         napi_value *sources) {
  napi_value test;
  uint32_t count;
  if (!read_time(env, object, "oldest", &options->oldest) || !read_time(env, object, "from", &options->from) ||
      !read_time(env, object, "to", &options->to)) {
    return false;
  }
  if (!util_get(env, object, "sources", sources) || !util_array(env, *sources, "sources", &count)) return false;
  if (count > MAX_SOURCES) {
    util_throw(env, "ERR_OUT_OF_RANGE", "more than %d sources", MAX_SOURCES);
    return false;
  }
  options->sources = count;
  if (!read_units(env, object, units, &options->series)) return false;
  options->units = *units;
  return util_get(env, object, "test", &test) && read_test(env, test, &options->test);
}

/* NULL after throwing. */
static struct range_build *open_samples(napi_env env, napi_value object, uint32_t databases, size_t limit) {
  struct range_samples_options options = {.databases = databases, .limit = limit};
  uint32_t *units = NULL;
  napi_value sources;
  if (!read_samples(env, object, &options, &units, &sources)) {
    free(options.test.numbers);
    free(units);
    return NULL;
  }
  struct range_build *build = range_samples_new(&options);
  free(units);
  if (build == NULL) {
    util_throw(env, "ENOMEM", "out of memory");
    return NULL;
  }
  for (uint32_t i = 0; i < options.sources; i++) {
    napi_handle_scope scope;
    napi_value source;
    napi_open_handle_scope(env, &scope);
    bool added = napi_get_element(env, sources, i, &source) == napi_ok && add_source(env, build, source, &options);
    napi_close_handle_scope(env, scope);
    if (added) continue;
    range_build_free(build);
    return NULL;
  }
  return build;
}

static bool add_part(napi_env env, struct range_build *build, napi_value part, bool samples) {
  sqlite3_stmt *statement = addon_prepare_select(env, part, SOURCE_COLUMNS);
  if (statement == NULL) return false;
  if (!samples) {
    if (!addon_bind_params(env, statement, part)) {
      sqlite3_finalize(statement);
      return false;
    }
    return range_spans_add(build, statement);
  }
  if (sqlite3_bind_parameter_count(statement) == SAMPLES_PARAMETERS) return range_samples_database(build, statement);
  sqlite3_finalize(statement);
  util_throw(env, "SQLITE_RANGE", "a statement of samples takes %d parameters", SAMPLES_PARAMETERS);
  return false;
}

static void destroy(void *build) { range_build_free(build); }

/* The environment ends with the builder still open. */
static void abandon(void *argument) { handle_close(HANDLE_RANGES, (int64_t)(intptr_t)argument); }

static napi_value ranges_open_call(napi_env env, napi_callback_info info) {
  napi_value argument;
  napi_value parts;
  napi_value value;
  uint32_t count;
  int64_t limit;
  if (!util_args(env, info, 1, &argument, NULL)) return NULL;
  if (!util_get(env, argument, "parts", &parts) || !util_array(env, parts, "parts", &count)) return NULL;
  if (count > MAX_PARTS) return util_throw(env, "ERR_OUT_OF_RANGE", "more than %d parts", MAX_PARTS);
  if (!util_get(env, argument, "maxBytes", &value)) return NULL;
  if (!util_int(env, value, "maxBytes", 0, INT32_MAX, &limit)) return NULL;
  if (!util_get(env, argument, "samples", &value)) return NULL;
  bool samples = !util_is_null(env, value);
  struct range_build *build;
  if (samples) {
    build = open_samples(env, value, count, (size_t)limit);
    if (build == NULL) return NULL;
  } else {
    build = range_spans_new(count, (size_t)limit);
    if (build == NULL) return util_throw(env, "ENOMEM", "out of memory");
  }
  for (uint32_t i = 0; i < count; i++) {
    napi_value part;
    if (napi_get_element(env, parts, i, &part) == napi_ok && add_part(env, build, part, samples)) continue;
    range_build_free(build);
    return NULL;
  }
  int64_t handle = handle_open(HANDLE_RANGES, build, destroy);
  if (handle == 0) {
    range_build_free(build);
    return util_throw(env, "ENOMEM", "out of memory");
  }
  /* Added later than the hook of the SQLite binding, hence run before it closes the connections. */
  napi_add_env_cleanup_hook(env, abandon, (void *)(intptr_t)handle);
  return util_new_handle(env, handle);
}

/* The caller's own builder, acquired; NULL after throwing. */
static struct range_build *own_build(napi_env env, napi_value argument, int64_t *handle) {
  struct range_build *build = util_handle(env, HANDLE_RANGES, argument, handle);
  if (build == NULL || range_build_is_own(build)) return build;
  handle_release(*handle);
  util_throw(env, "ERR_HANDLE", "the ranges belong to another thread");
  return NULL;
}

static napi_value copy_set(napi_env env, const struct range_writer *set) {
  void *bytes;
  napi_value buffer;
  napi_value array;
  if (napi_create_arraybuffer(env, set->length, &bytes, &buffer) != napi_ok) return NULL;
  if (set->length > 0) memcpy(bytes, set->bytes, set->length);
  if (napi_create_typedarray(env, napi_uint8_array, set->length, buffer, 0, &array) != napi_ok) return NULL;
  return array;
}

static napi_value ranges_step_call(napi_env env, napi_callback_info info) {
  napi_value arguments[2];
  int64_t handle;
  int64_t rows;
  if (!util_args(env, info, 2, arguments, NULL)) return NULL;
  if (!util_int(env, arguments[1], "maxRows", 1, UINT32_MAX, &rows)) return NULL;
  struct range_build *build = own_build(env, arguments[0], &handle);
  if (build == NULL) return NULL;
  int rc = range_build_step(build, (size_t)rows);
  napi_value result = NULL;
  if (rc == SQLITE_TOOBIG) {
    util_throw(env, "ERR_TOO_LARGE", "%s", range_build_message(build));
  } else if (rc != SQLITE_ROW && rc != SQLITE_DONE) {
    util_throw(env, sqlite_code_name(rc), "%s", range_build_message(build));
  } else {
    const struct range_writer *set = range_build_set(build);
    result = util_object(env);
    util_set_double(env, result, "bytes", (double)set->length);
    napi_value ranges = rc == SQLITE_DONE ? copy_set(env, set) : util_null(env);
    if (ranges == NULL) {
      result = util_throw(env, "ENOMEM", "out of memory");
    } else {
      util_set(env, result, "ranges", ranges);
    }
  }
  handle_release(handle);
  return result;
}

static napi_value ranges_close_call(napi_env env, napi_callback_info info) {
  napi_value argument;
  int64_t handle;
  if (!util_args(env, info, 1, &argument, NULL)) return NULL;
  if (own_build(env, argument, &handle) == NULL) return NULL;
  napi_remove_env_cleanup_hook(env, abandon, (void *)(intptr_t)handle);
  handle_close(HANDLE_RANGES, handle);
  handle_release(handle);
  return util_undefined(env);
}

napi_value addon_ranges_init(napi_env env, napi_value exports) {
  util_export(env, exports, "rangesOpen", ranges_open_call);
  util_export(env, exports, "rangesStep", ranges_step_call);
  util_export(env, exports, "rangesClose", ranges_close_call);
  return exports;
}
