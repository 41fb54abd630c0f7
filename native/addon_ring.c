/* Rings, consumer side: ringOpen, ringAttachKernel, ringStatus, ringClose; and msgpackValid. */
#include <errno.h>
#include <stdlib.h>

#include "addon_parts.h"
#include "addon_util.h"
#include "kmes_format.h"
#include "msgpack.h"
#include "ring_map.h"

enum { MAX_MSGPACK_DEPTH = 65535 };

static void destroy_ring(void *object) { ring_unmap(object); }

static napi_value ring_info(napi_env env, struct ring *ring) {
  ring->handle = handle_open(HANDLE_RING, ring, destroy_ring);
  if (ring->handle == 0) {
    ring_unmap(ring);
    return util_throw_errno(env, ENOMEM, "no memory for a ring");
  }
  napi_value info = util_object(env);
  util_set(env, info, "ring", util_new_handle(env, ring->handle));
  util_set_double(env, info, "cpu", ring->cpu);
  util_set_double(env, info, "capacity", (double)ring->capacity);
  util_set_u64(env, info, "generation", ring->generation);
  return info;
}

static napi_value ring_open(napi_env env, napi_callback_info call) {
  napi_value argv[1];
  if (!util_args(env, call, 1, argv, NULL)) return NULL;
  char *path = util_string(env, argv[0], "path");
  if (path == NULL) return NULL;
  struct ring *ring;
  const char *reason;
  int error = ring_map_file(path, &ring, &reason);
  if (error != 0) util_throw_errno(env, error, "%s: %s", path, reason ? reason : "cannot map ring");
  free(path);
  return error == 0 ? ring_info(env, ring) : NULL;
}

static napi_value ring_attach_kernel(napi_env env, napi_callback_info call) {
  napi_value argv[1];
  int64_t cpu;
  if (!util_args(env, call, 1, argv, NULL)) return NULL;
  if (!util_int(env, argv[0], "cpu", 0, UINT32_MAX, &cpu)) return NULL;
  struct ring *ring;
  const char *reason;
  int error = ring_map_kernel((uint32_t)cpu, &ring, &reason);
  if (error != 0) {
    return util_throw_errno(env, error, "kmes_attach(%lld)%s%s", (long long)cpu,
                            reason ? ": " : "", reason ? reason : "");
  }
  return ring_info(env, ring);
}

static napi_value ring_status(napi_env env, napi_callback_info call) {
  napi_value argv[1];
  int64_t handle;
  if (!util_args(env, call, 1, argv, NULL)) return NULL;
  struct ring *ring = util_handle(env, HANDLE_RING, argv[0], &handle);
  if (ring == NULL) return NULL;
  napi_value status = util_object(env);
  util_set_u64(env, status, "writePos", ring_load(ring->page, RING_WRITE_POS));
  util_set_u64(env, status, "tailPos", ring_load(ring->page, RING_TAIL_POS));
  util_set_u64(env, status, "generation", ring_load(ring->page, RING_GENERATION));
  util_set_double(env, status, "capacity", (double)ring->capacity);
  handle_release(handle);
  return status;
}

static napi_value ring_close(napi_env env, napi_callback_info call) {
  napi_value argv[1];
  int64_t handle;
  if (!util_args(env, call, 1, argv, NULL)) return NULL;
  struct ring *ring = util_handle(env, HANDLE_RING, argv[0], &handle);
  if (ring == NULL) return NULL;
  /* Claiming it first keeps a drain thread from starting on a ring that is being closed. */
  if (__atomic_exchange_n(&ring->owned, 1, __ATOMIC_ACQ_REL) != 0) {
    handle_release(handle);
    return util_throw_errno(env, EBUSY, "a drain thread owns the ring");
  }
  handle_close(HANDLE_RING, handle);
  handle_release(handle);
  return util_undefined(env);
}

static napi_value check_msgpack(napi_env env, napi_callback_info call) {
  napi_value argv[2], result = NULL;
  const uint8_t *bytes;
  size_t length;
  int64_t depth;
  if (!util_args(env, call, 2, argv, NULL)) return NULL;
  if (!util_bytes(env, argv[0], "bytes", &bytes, &length)) return NULL;
  if (!util_int(env, argv[1], "maxDepth", 0, MAX_MSGPACK_DEPTH, &depth)) return NULL;
  napi_get_boolean(env, msgpack_valid(bytes, length, (unsigned)depth), &result);
  return result;
}

napi_value addon_ring_init(napi_env env, napi_value exports) {
  util_export(env, exports, "ringOpen", ring_open);
  util_export(env, exports, "ringAttachKernel", ring_attach_kernel);
  util_export(env, exports, "ringStatus", ring_status);
  util_export(env, exports, "ringClose", ring_close);
  util_export(env, exports, "msgpackValid", check_msgpack);
  return exports;
}
