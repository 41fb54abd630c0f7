/* Metrics: seriesCacheOpen .. seriesCacheClose, metricDecode .. metricSort. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "addon_parts.h"
#include "addon_util.h"
#include "metric_step.h"

/* ---- Series cache ---- */

static void destroy_cache(void *object) { series_cache_free(object); }

static napi_value series_cache_open_js(napi_env env, napi_callback_info call) {
  napi_value argv[1];
  int64_t capacity;
  if (!util_args(env, call, 1, argv, NULL)) return NULL;
  if (!util_int(env, argv[0], "capacity", 1, UINT32_MAX, &capacity)) return NULL;
  struct series_cache *cache = series_cache_new((uint32_t)capacity);
  int64_t handle = cache != NULL ? handle_open(HANDLE_SERIES_CACHE, cache, destroy_cache) : 0;
  if (handle != 0) return util_new_handle(env, handle);
  series_cache_free(cache);
  return util_throw_errno(env, ENOMEM, "no memory for a series cache");
}

/* The cache of the first argument, acquired and locked; NULL after throwing. */
static struct series_cache *enter_cache(napi_env env, napi_value argument, int64_t *handle) {
  struct series_cache *cache = util_handle(env, HANDLE_SERIES_CACHE, argument, handle);
  if (cache != NULL) series_cache_lock(cache);
  return cache;
}

static void leave_cache(struct series_cache *cache, int64_t handle) {
  series_cache_unlock(cache);
  handle_release(handle);
}

static napi_value series_cache_limit_js(napi_env env, napi_callback_info call) {
  napi_value argv[2];
  int64_t handle, capacity;
  if (!util_args(env, call, 2, argv, NULL)) return NULL;
  if (!util_int(env, argv[1], "capacity", 1, UINT32_MAX, &capacity)) return NULL;
  struct series_cache *cache = enter_cache(env, argv[0], &handle);
  if (cache == NULL) return NULL;
  series_cache_limit(cache, (uint32_t)capacity);
  leave_cache(cache, handle);
  return util_undefined(env);
}

static napi_value with_cache(napi_env env, napi_callback_info call, void (*act)(struct series_cache *)) {
  napi_value argv[1];
  int64_t handle;
  if (!util_args(env, call, 1, argv, NULL)) return NULL;
  struct series_cache *cache = enter_cache(env, argv[0], &handle);
  if (cache == NULL) return NULL;
  act(cache);
  leave_cache(cache, handle);
  return util_undefined(env);
}

static napi_value series_cache_committed_js(napi_env env, napi_callback_info call) {
  return with_cache(env, call, series_cache_committed);
}

static napi_value series_cache_rolled_back_js(napi_env env, napi_callback_info call) {
  return with_cache(env, call, series_cache_rolled_back);
}

static napi_value series_cache_forget_js(napi_env env, napi_callback_info call) {
  napi_value argv[2];
  int64_t handle;
  bool typed = false;
  napi_typedarray_type type;
  size_t count;
  void *given;
  if (!util_args(env, call, 2, argv, NULL)) return NULL;
  if (napi_is_typedarray(env, argv[1], &typed) != napi_ok || !typed ||
      napi_get_typedarray_info(env, argv[1], &type, &count, &given, NULL, NULL) != napi_ok ||
      type != napi_bigint64_array) {
    return util_throw(env, "ERR_INVALID_ARG_TYPE", "ids must be a BigInt64Array");
  }
  int64_t *ids = malloc((count + 1) * sizeof *ids);
  if (ids == NULL) return util_throw_errno(env, ENOMEM, "no memory for %zu ids", count);
  if (count > 0) memcpy(ids, given, count * sizeof *ids);
  struct series_cache *cache = enter_cache(env, argv[0], &handle);
  if (cache != NULL) {
    series_cache_forget(cache, ids, count);
    leave_cache(cache, handle);
  }
  free(ids);
  return cache != NULL ? util_undefined(env) : NULL;
}

static napi_value series_cache_status_js(napi_env env, napi_callback_info call) {
  napi_value argv[1];
  int64_t handle;
  if (!util_args(env, call, 1, argv, NULL)) return NULL;
  struct series_cache *cache = enter_cache(env, argv[0], &handle);
  if (cache == NULL) return NULL;
  struct series_cache_status now = series_cache_status(cache);
  leave_cache(cache, handle);
  napi_value result = util_object(env);
  util_set_double(env, result, "entries", now.entries);
  util_set_double(env, result, "bytes", (double)now.bytes);
  util_set_u64(env, result, "hits", now.hits);
  util_set_u64(env, result, "misses", now.misses);
  return result;
}

static napi_value series_cache_close_js(napi_env env, napi_callback_info call) {
  napi_value argv[1];
  int64_t handle;
  if (!util_args(env, call, 1, argv, NULL)) return NULL;
  if (util_handle(env, HANDLE_SERIES_CACHE, argv[0], &handle) == NULL) return NULL;
  handle_close(HANDLE_SERIES_CACHE, handle);
  handle_release(handle);
  return util_undefined(env);
}

/* ---- Steps ---- */

/* The batch of an argument, acquired and locked for decoding; NULL after throwing. */
static struct datagrams *enter_batch(napi_env env, napi_value argument, int64_t *handle) {
  struct datagrams *batch = util_handle(env, HANDLE_DATAGRAMS, argument, handle);
  if (batch == NULL || datagrams_lock_decode(batch)) return batch;
  handle_release(*handle);
  util_throw_errno(env, EBUSY, "the batch is being read");
  return NULL;
}

static void leave_batch(struct datagrams *batch, int64_t handle) {
  datagrams_unlock_decode(batch);
  handle_release(handle);
}

/* `more` is true while a map is left, although none of the rest may turn out valid. */
static napi_value decode_step(napi_env env, struct datagrams *batch, struct series_cache *cache, int64_t cache_handle,
                              uint32_t max) {
  struct metric_step *step = metric_step_open(batch);
  if (step == NULL) {
    int error = errno;
    handle_release(cache_handle);
    return util_throw_errno(env, error, error == EINVAL ? "the batch holds logs" : "no memory for a step");
  }
  if (!metric_step_decode(step, batch, cache, cache_handle, max)) {
    return util_throw_errno(env, ENOMEM, "no memory for a sample");
  }
  struct datagrams_map rest;
  napi_value more = NULL;
  napi_get_boolean(env, datagrams_map(batch, &rest), &more);
  napi_value result = util_object(env);
  util_set_double(env, result, "records", (double)metric_step_count(step));
  util_set(env, result, "more", more);
  util_set_double(env, result, "unresolved", metric_step_unresolved(step));
  return result;
}

static napi_value metric_decode_js(napi_env env, napi_callback_info call) {
  napi_value argv[3];
  int64_t batch_handle, cache_handle, max;
  if (!util_args(env, call, 3, argv, NULL)) return NULL;
  /* Places are kept in 32 bits. */
  if (!util_int(env, argv[2], "maxRecords", 1, UINT32_MAX - 1, &max)) return NULL;
  struct series_cache *cache = util_handle(env, HANDLE_SERIES_CACHE, argv[1], &cache_handle);
  if (cache == NULL) return NULL;
  struct datagrams *batch = enter_batch(env, argv[0], &batch_handle);
  if (batch == NULL) {
    handle_release(cache_handle);
    return NULL;
  }
  napi_value result = decode_step(env, batch, cache, cache_handle, (uint32_t)max);
  leave_batch(batch, batch_handle);
  return result;
}

/* What a call does with the step of its batch, which is locked; `rest` is the call's other arguments. */
typedef napi_value step_action(napi_env env, struct metric_step *step, const void *rest);

static napi_value with_step(napi_env env, napi_value batch_argument, step_action *act, const void *rest) {
  int64_t handle;
  struct datagrams *batch = enter_batch(env, batch_argument, &handle);
  if (batch == NULL) return NULL;
  struct metric_step *step = metric_step_of(batch);
  napi_value result = step != NULL ? act(env, step, rest)
                                   : util_throw_errno(env, EINVAL, "no metrics were decoded from the batch");
  leave_batch(batch, handle);
  return result;
}

/* An unresolved series by its number; false after throwing. */
static bool series_index(napi_env env, const struct metric_step *step, int64_t index) {
  if (index < metric_step_unresolved(step)) return true;
  util_throw(env, "ERR_OUT_OF_RANGE", "no unresolved series has number %lld", (long long)index);
  return false;
}

static napi_value new_text(napi_env env, const uint8_t *bytes, size_t length) {
  napi_value result = NULL;
  napi_create_string_utf8(env, (const char *)bytes, length, &result);
  return result;
}

static napi_value new_signed_bigint(napi_env env, uint64_t hash) {
  napi_value result = NULL;
  napi_create_bigint_int64(env, (int64_t)hash, &result);
  return result;
}

static napi_value series_object(napi_env env, struct metric_step *step, const void *rest) {
  int64_t index = *(const int64_t *)rest;
  if (!series_index(env, step, index)) return NULL;
  struct unresolved_series series = metric_step_series(step, (uint32_t)index);
  napi_value result = util_object(env);
  util_set(env, result, "name", new_text(env, series.name, series.name_length));
  util_set(env, result, "labels", new_text(env, series.labels, series.labels_length));
  util_set(env, result, "labelHash",
           new_signed_bigint(env, fnv1a64(FNV1A64_START, series.labels, series.labels_length)));
  util_set_double(env, result, "type", series.type);
  util_set(env, result, "boundariesHash",
           series.histogram ? new_signed_bigint(env, series.boundaries_hash) : util_null(env));
  return result;
}

static napi_value metric_unresolved_js(napi_env env, napi_callback_info call) {
  napi_value argv[2];
  int64_t index;
  if (!util_args(env, call, 2, argv, NULL)) return NULL;
  if (!util_int(env, argv[1], "index", 0, UINT32_MAX, &index)) return NULL;
  return with_step(env, argv[0], series_object, &index);
}

static bool read_id(napi_env env, napi_value value, int64_t *id) {
  bool lossless = false;
  if (napi_get_value_bigint_int64(env, value, id, &lossless) != napi_ok) {
    util_throw(env, "ERR_INVALID_ARG_TYPE", "id must be a bigint");
    return false;
  }
  if (!lossless) util_throw(env, "ERR_OUT_OF_RANGE", "id must be from -(2n ** 63n) to 2n ** 63n - 1n");
  return lossless;
}

struct resolution {
  int64_t index, id, type;
};

static napi_value resolve_series(napi_env env, struct metric_step *step, const void *rest) {
  const struct resolution *found = rest;
  if (!series_index(env, step, found->index)) return NULL;
  metric_step_resolve(step, (uint32_t)found->index, found->id, (enum metric_type)found->type);
  return util_undefined(env);
}

static napi_value metric_resolve_js(napi_env env, napi_callback_info call) {
  napi_value argv[4];
  struct resolution found;
  if (!util_args(env, call, 4, argv, NULL)) return NULL;
  if (!util_int(env, argv[1], "index", 0, UINT32_MAX, &found.index) || !read_id(env, argv[2], &found.id) ||
      !util_int(env, argv[3], "type", METRIC_COUNTER, METRIC_HISTOGRAM, &found.type)) {
    return NULL;
  }
  return with_step(env, argv[0], resolve_series, &found);
}

static napi_value sort_step(napi_env env, struct metric_step *step, const void *rest) {
  int error = metric_step_sort(step);
  if (error == EAGAIN) return util_throw(env, "ERR_UNRESOLVED", "not every series of the step is resolved");
  if (error != 0) return util_throw_errno(env, error, "no memory to sort %zu samples", metric_step_count(step));
  return util_new_double(env, (double)metric_step_count(step));
}

static napi_value metric_sort_js(napi_env env, napi_callback_info call) {
  napi_value argv[1];
  if (!util_args(env, call, 1, argv, NULL)) return NULL;
  return with_step(env, argv[0], sort_step, NULL);
}

static napi_value slice_step(napi_env env, struct metric_step *step, const void *rest) {
  int64_t max = *(const int64_t *)rest;
  if (!metric_step_sorted(step)) return util_throw(env, "ERR_UNSORTED", "the step is not sorted");
  return util_new_double(env, (double)metric_step_slice(step, (size_t)max));
}

static napi_value metric_slice_js(napi_env env, napi_callback_info call) {
  napi_value argv[2];
  int64_t max;
  if (!util_args(env, call, 2, argv, NULL)) return NULL;
  if (!util_int(env, argv[1], "maxRecords", 1, UINT32_MAX - 1, &max)) return NULL;
  return with_step(env, argv[0], slice_step, &max);
}

static napi_value oldest_step(napi_env env, struct metric_step *step, const void *rest) {
  napi_value result;
  napi_create_bigint_int64(env, metric_step_oldest(step), &result);
  return result;
}

static napi_value metric_oldest_js(napi_env env, napi_callback_info call) {
  napi_value argv[1];
  if (!util_args(env, call, 1, argv, NULL)) return NULL;
  return with_step(env, argv[0], oldest_step, NULL);
}

static napi_value metric_left_js(napi_env env, napi_callback_info call) {
  napi_value argv[1];
  int64_t handle;
  if (!util_args(env, call, 1, argv, NULL)) return NULL;
  struct datagrams *batch = enter_batch(env, argv[0], &handle);
  if (batch == NULL) return NULL;
  const struct metric_step *step = metric_step_of(batch);
  napi_value result = util_new_double(env, step == NULL ? 0 : (double)metric_step_left(step));
  leave_batch(batch, handle);
  return result;
}

static napi_value again_step(napi_env env, struct metric_step *step, const void *rest) {
  metric_step_again(step);
  return util_new_double(env, metric_step_unresolved(step));
}

static napi_value metric_again_js(napi_env env, napi_callback_info call) {
  napi_value argv[1];
  if (!util_args(env, call, 1, argv, NULL)) return NULL;
  return with_step(env, argv[0], again_step, NULL);
}

napi_value addon_metric_init(napi_env env, napi_value exports) {
  util_export(env, exports, "seriesCacheOpen", series_cache_open_js);
  util_export(env, exports, "seriesCacheLimit", series_cache_limit_js);
  util_export(env, exports, "seriesCacheCommitted", series_cache_committed_js);
  util_export(env, exports, "seriesCacheRolledBack", series_cache_rolled_back_js);
  util_export(env, exports, "seriesCacheForget", series_cache_forget_js);
  util_export(env, exports, "seriesCacheStatus", series_cache_status_js);
  util_export(env, exports, "seriesCacheClose", series_cache_close_js);
  util_export(env, exports, "metricDecode", metric_decode_js);
  util_export(env, exports, "metricUnresolved", metric_unresolved_js);
  util_export(env, exports, "metricResolve", metric_resolve_js);
  util_export(env, exports, "metricSort", metric_sort_js);
  util_export(env, exports, "metricSlice", metric_slice_js);
  util_export(env, exports, "metricOldest", metric_oldest_js);
  util_export(env, exports, "metricLeft", metric_left_js);
  util_export(env, exports, "metricAgain", metric_again_js);
  return exports;
}
