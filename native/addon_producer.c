/* Rings, producer side: producerCreate, Open, Emit, EmitBatch, Resize, Status, Close. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "addon_parts.h"
#include "addon_util.h"
#include "kmes_format.h"
#include "ring_write.h"

enum { MAX_BATCH = 65536 };

static void destroy_producer(void *object) { producer_close(object); }

static napi_value opened(napi_env env, int error, struct producer *producer, const char *path,
                         const char *reason) {
  if (error != 0) {
    return util_throw_errno(env, error, "%s: %s", path, reason ? reason : "cannot map ring");
  }
  int64_t handle = handle_open(HANDLE_PRODUCER, producer, destroy_producer);
  if (handle == 0) {
    producer_close(producer);
    return util_throw_errno(env, ENOMEM, "no memory for a producer");
  }
  return util_new_handle(env, handle);
}

static napi_value create(napi_env env, napi_callback_info call) {
  napi_value argv[3];
  int64_t cpu, capacity;
  if (!util_args(env, call, 3, argv, NULL)) return NULL;
  if (!util_int(env, argv[1], "cpu", 0, UINT16_MAX, &cpu)) return NULL;
  if (!util_int(env, argv[2], "capacity", 0, INT64_C(1) << 53, &capacity)) return NULL;
  char *path = util_string(env, argv[0], "path");
  if (path == NULL) return NULL;
  struct producer *producer = NULL;
  const char *reason;
  int error = producer_create(path, (uint16_t)cpu, (uint64_t)capacity, &producer, &reason);
  napi_value result = opened(env, error, producer, path, reason);
  free(path);
  return result;
}

static napi_value open_existing(napi_env env, napi_callback_info call) {
  napi_value argv[1];
  if (!util_args(env, call, 1, argv, NULL)) return NULL;
  char *path = util_string(env, argv[0], "path");
  if (path == NULL) return NULL;
  struct producer *producer = NULL;
  const char *reason;
  int error = producer_open(path, &producer, &reason);
  napi_value result = opened(env, error, producer, path, reason);
  free(path);
  return result;
}

static bool read_event(napi_env env, napi_value value, struct producer_event *event) {
  napi_value type, payload;
  return util_get(env, value, "type", &type) && util_get(env, value, "payload", &payload) &&
         util_bytes(env, type, "type", &event->type, &event->type_len) &&
         util_bytes(env, payload, "payload", &event->payload, &event->payload_len);
}

static bool read_identity(napi_env env, napi_value value, struct producer_identity *identity) {
  static const char *const names[] = {"effectiveToken", "trueToken", "process"};
  for (int i = 0; i < 3; i++) {
    napi_value property;
    const uint8_t *bytes;
    size_t length;
    if (!util_get(env, value, names[i], &property) ||
        !util_bytes(env, property, names[i], &bytes, &length)) {
      return false;
    }
    if (length != KMES_GUID_BYTES) {
      util_throw(env, "ERR_OUT_OF_RANGE", "%s must have 16 bytes", names[i]);
      return false;
    }
    memcpy(identity->guids + i * KMES_GUID_BYTES, bytes, KMES_GUID_BYTES);
  }
  return true;
}

struct emission {
  struct producer *producer;
  int64_t handle, origin;
  struct producer_identity guids;
  const struct producer_identity *identity;
};

/* The arguments that both calls share; on true the producer is acquired. */
static bool read_emission(napi_env env, napi_value *argv, struct emission *emission) {
  if (!util_int(env, argv[1], "origin", 0, 255, &emission->origin)) return false;
  emission->identity = NULL;
  if (!util_is_null(env, argv[3])) {
    if (!read_identity(env, argv[3], &emission->guids)) return false;
    emission->identity = &emission->guids;
  }
  emission->producer = util_handle(env, HANDLE_PRODUCER, argv[0], &emission->handle);
  return emission->producer != NULL;
}

static napi_value emit(napi_env env, napi_callback_info call) {
  napi_value argv[4];
  struct producer_event event;
  struct emission emission;
  if (!util_args(env, call, 4, argv, NULL)) return NULL;
  if (!read_event(env, argv[2], &event) || !read_emission(env, argv, &emission)) return NULL;
  size_t written;
  uint64_t sequence;
  int error = producer_emit(emission.producer, (uint8_t)emission.origin, &event, 1,
                            emission.identity, &written, &sequence);
  handle_release(emission.handle);
  if (error != 0) return util_throw_errno(env, error, "cannot reach the ring");
  return written == 1 ? util_new_u64(env, sequence) : util_null(env);
}

static napi_value emit_batch(napi_env env, napi_callback_info call) {
  napi_value argv[4], result = NULL;
  struct emission emission;
  uint32_t count;
  if (!util_args(env, call, 4, argv, NULL)) return NULL;
  if (!util_array(env, argv[2], "events", &count)) return NULL;
  if (count > MAX_BATCH) {
    return util_throw(env, "ERR_OUT_OF_RANGE", "events must have at most %d members", MAX_BATCH);
  }
  struct producer_event *events = calloc(count > 0 ? count : 1, sizeof *events);
  if (events == NULL) return util_throw_errno(env, ENOMEM, "no memory for %u events", count);
  bool valid = true;
  for (uint32_t i = 0; valid && i < count; i++) {
    napi_value member;
    napi_handle_scope scope;
    napi_open_handle_scope(env, &scope);
    valid = napi_get_element(env, argv[2], i, &member) == napi_ok &&
            read_event(env, member, &events[i]);
    napi_close_handle_scope(env, scope);
  }
  if (valid && read_emission(env, argv, &emission)) {
    size_t written;
    uint64_t sequence;
    int error = producer_emit(emission.producer, (uint8_t)emission.origin, events, count,
                              emission.identity, &written, &sequence);
    handle_release(emission.handle);
    if (error != 0) {
      util_throw_errno(env, error, "cannot reach the ring");
    } else {
      result = util_new_double(env, (double)written);
    }
  }
  free(events);
  return result;
}

static napi_value resize(napi_env env, napi_callback_info call) {
  napi_value argv[2];
  int64_t capacity, handle;
  if (!util_args(env, call, 2, argv, NULL)) return NULL;
  if (!util_int(env, argv[1], "capacity", 0, INT64_C(1) << 53, &capacity)) return NULL;
  struct producer *producer = util_handle(env, HANDLE_PRODUCER, argv[0], &handle);
  if (producer == NULL) return NULL;
  const char *reason;
  int error = producer_resize(producer, (uint64_t)capacity, &reason);
  handle_release(handle);
  if (error != 0) {
    return util_throw_errno(env, error, "%s", reason ? reason : "cannot replace the ring");
  }
  return util_undefined(env);
}

static napi_value status(napi_env env, napi_callback_info call) {
  napi_value argv[1];
  int64_t handle;
  if (!util_args(env, call, 1, argv, NULL)) return NULL;
  struct producer *producer = util_handle(env, HANDLE_PRODUCER, argv[0], &handle);
  if (producer == NULL) return NULL;
  struct producer_status now;
  int error = producer_status(producer, &now);
  handle_release(handle);
  if (error != 0) return util_throw_errno(env, error, "cannot reach the ring");
  napi_value result = util_object(env);
  util_set_u64(env, result, "writePos", now.write_pos);
  util_set_u64(env, result, "tailPos", now.tail_pos);
  util_set_u64(env, result, "generation", now.generation);
  util_set_double(env, result, "capacity", (double)now.capacity);
  util_set_u64(env, result, "sequence", now.sequence);
  util_set_u64(env, result, "dropped", now.dropped);
  return result;
}

static napi_value close_producer(napi_env env, napi_callback_info call) {
  napi_value argv[1];
  int64_t handle;
  if (!util_args(env, call, 1, argv, NULL)) return NULL;
  if (util_handle(env, HANDLE_PRODUCER, argv[0], &handle) == NULL) return NULL;
  handle_close(HANDLE_PRODUCER, handle);
  handle_release(handle);
  return util_undefined(env);
}

napi_value addon_producer_init(napi_env env, napi_value exports) {
  util_export(env, exports, "producerCreate", create);
  util_export(env, exports, "producerOpen", open_existing);
  util_export(env, exports, "producerEmit", emit);
  util_export(env, exports, "producerEmitBatch", emit_batch);
  util_export(env, exports, "producerResize", resize);
  util_export(env, exports, "producerStatus", status);
  util_export(env, exports, "producerClose", close_producer);
  return exports;
}
