/* Handoff: channelOpen .. channelLossRecorded and the fate of segments. */
#include <errno.h>
#include <stdlib.h>

#include "addon_parts.h"
#include "addon_util.h"
#include "channel.h"
#include "segment_entry.h"

static napi_value open_channel(napi_env env, napi_callback_info call) {
  napi_value argv[3];
  int64_t shard, rows, bytes;
  if (!util_args(env, call, 3, argv, NULL)) return NULL;
  if (!util_int(env, argv[0], "shard", 0, UINT32_MAX, &shard) ||
      !util_int(env, argv[1], "maxRows", 1, UINT32_MAX / 2, &rows) ||
      !util_int(env, argv[2], "maxBytes", 1, INT64_C(1) << 40, &bytes)) {
    return NULL;
  }
  int64_t handle = channel_open((uint32_t)shard, (uint32_t)rows, (size_t)bytes);
  if (handle == 0) return util_throw_errno(env, errno, "no memory for a channel");
  return util_new_handle(env, handle);
}

static napi_value limit(napi_env env, napi_callback_info call) {
  napi_value argv[2];
  int64_t handle, rows;
  if (!util_args(env, call, 2, argv, NULL)) return NULL;
  if (!util_int(env, argv[1], "maxRows", 1, UINT32_MAX / 2, &rows)) return NULL;
  struct channel *channel = util_handle(env, HANDLE_CHANNEL, argv[0], &handle);
  if (channel == NULL) return NULL;
  channel_limit(channel, (uint32_t)rows);
  handle_release(handle);
  return util_undefined(env);
}

static napi_value take(napi_env env, napi_callback_info call) {
  napi_value argv[1];
  int64_t handle;
  if (!util_args(env, call, 1, argv, NULL)) return NULL;
  struct channel *channel = util_handle(env, HANDLE_CHANNEL, argv[0], &handle);
  if (channel == NULL) return NULL;
  struct segment_info info;
  int taken = channel_take(channel, &info);
  int error = errno;
  handle_release(handle);
  if (taken < 0) return util_throw_errno(env, error, "no memory for a segment");
  if (taken == 0) return util_null(env);
  napi_value result = util_object(env);
  util_set(env, result, "segment", util_new_handle(env, info.handle));
  util_set_double(env, result, "rows", info.rows);
  util_set_double(env, result, "events", info.events);
  util_set_double(env, result, "gaps", info.gaps);
  util_set_double(env, result, "bytes", (double)info.bytes);
  util_set_u64(env, result, "openedAt", info.opened_at);
  return result;
}

static napi_value status(napi_env env, napi_callback_info call) {
  napi_value argv[1];
  int64_t handle;
  if (!util_args(env, call, 1, argv, NULL)) return NULL;
  struct channel *channel = util_handle(env, HANDLE_CHANNEL, argv[0], &handle);
  if (channel == NULL) return NULL;
  struct channel_status now;
  channel_status(channel, &now);
  handle_release(handle);
  napi_value result = util_object(env);
  util_set_double(env, result, "rows", now.rows);
  util_set_double(env, result, "bytes", (double)now.bytes);
  util_set_double(env, result, "maxRows", now.max_rows);
  util_set_double(env, result, "blocked", now.blocked);
  util_set_bool(env, result, "halfFull", now.half_full);
  return result;
}

static napi_value close_channel(napi_env env, napi_callback_info call) {
  napi_value argv[1];
  int64_t handle;
  if (!util_args(env, call, 1, argv, NULL)) return NULL;
  struct channel *channel = util_handle(env, HANDLE_CHANNEL, argv[0], &handle);
  if (channel == NULL) return NULL;
  channel_shut(channel);
  handle_close(HANDLE_CHANNEL, handle);
  handle_release(handle);
  return util_undefined(env);
}

static napi_value loss_recorded(napi_env env, napi_callback_info call) {
  napi_value argv[1];
  int64_t handle;
  if (!util_args(env, call, 1, argv, NULL)) return NULL;
  struct channel *channel = util_handle(env, HANDLE_CHANNEL, argv[0], &handle);
  if (channel == NULL) return NULL;
  channel_loss_recorded(channel);
  handle_release(handle);
  return util_undefined(env);
}

/* A segment handle argument as a number; whether it is live is for the callee to find. */
static bool segment_argument(napi_env env, napi_callback_info call, int64_t *handle) {
  napi_value argv[1];
  return util_args(env, call, 1, argv, NULL) &&
         util_handle(env, HANDLE_SEGMENT, argv[0], handle) != NULL;
}

static napi_value segment_failed(napi_env env, int error) {
  if (error == EBADF) return util_throw(env, "ERR_HANDLE", "no such segment");
  return util_throw_errno(env, error, "no memory to describe the segment");
}

static napi_value watermarks(napi_env env, napi_callback_info call) {
  int64_t handle;
  if (!segment_argument(env, call, &handle)) return NULL;
  struct segment_watermark *marks;
  int count = segment_watermarks(handle, &marks);
  int error = errno;
  handle_release(handle);
  if (count < 0) return segment_failed(env, error);
  napi_value result = NULL;
  napi_create_array_with_length(env, (size_t)count, &result);
  for (int i = 0; i < count; i++) {
    napi_value mark = util_object(env);
    util_set_double(env, mark, "cpu", marks[i].cpu);
    util_set_u64(env, mark, "last", marks[i].last);
    util_set_u64(env, mark, "settled", marks[i].settled);
    napi_set_element(env, result, (uint32_t)i, mark);
  }
  free(marks);
  return result;
}

static napi_value committed(napi_env env, napi_callback_info call) {
  int64_t handle;
  if (!segment_argument(env, call, &handle)) return NULL;
  bool done = segment_committed(handle);
  handle_release(handle);
  return done ? util_undefined(env) : segment_failed(env, EBADF);
}

static void set_timestamp(napi_env env, napi_value run, const char *key, bool known,
                          uint64_t value) {
  util_set(env, run, key, known ? util_new_u64(env, value) : util_null(env));
}

static napi_value lost(napi_env env, napi_callback_info call) {
  int64_t handle;
  if (!segment_argument(env, call, &handle)) return NULL;
  struct segment_run *runs;
  int count = segment_lost(handle, &runs);
  int error = errno;
  handle_release(handle);
  if (count < 0) return segment_failed(env, error);
  napi_value result = NULL;
  napi_create_array_with_length(env, (size_t)count, &result);
  for (int i = 0; i < count; i++) {
    napi_handle_scope scope;
    napi_open_handle_scope(env, &scope);
    napi_value run = util_object(env);
    util_set_string(env, run, "kind", runs[i].gap ? "gap" : "events");
    util_set_double(env, run, "cpu", runs[i].cpu);
    util_set_u64(env, run, "first", runs[i].first);
    util_set_u64(env, run, "last", runs[i].last);
    set_timestamp(env, run, "previousTimestamp", runs[i].has_previous, runs[i].previous_ts);
    set_timestamp(env, run, "revealingTimestamp", runs[i].has_revealing, runs[i].revealing_ts);
    set_timestamp(env, run, "detectedAt", runs[i].gap, runs[i].detected_at);
    util_set(env, run, "cause",
             runs[i].gap ? util_new_string(env, gap_cause_name(runs[i].cause)) : util_null(env));
    napi_set_element(env, result, (uint32_t)i, run);
    napi_close_handle_scope(env, scope);
  }
  free(runs);
  return result;
}

napi_value addon_channel_init(napi_env env, napi_value exports) {
  util_export(env, exports, "channelOpen", open_channel);
  util_export(env, exports, "channelLimit", limit);
  util_export(env, exports, "channelTake", take);
  util_export(env, exports, "channelStatus", status);
  util_export(env, exports, "channelClose", close_channel);
  util_export(env, exports, "segmentWatermarks", watermarks);
  util_export(env, exports, "segmentCommitted", committed);
  util_export(env, exports, "segmentLost", lost);
  util_export(env, exports, "channelLossRecorded", loss_recorded);
  return exports;
}
