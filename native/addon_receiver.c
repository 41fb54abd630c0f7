/*
 * Datagram sockets: receiverOpen .. receiverClose, datagramsRelease, logDecode.
 *
 * A wake-up crosses to JavaScript by a thread-safe function, at most one at a time. It belongs to
 * the environment that called receiverStart last. When that one dies the receiver goes on emptying
 * its socket, until another takes over or receiverClose.
 */
#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "addon_parts.h"
#include "addon_util.h"
#include "datagrams.h"
#include "log_decode.h"
#include "receiver.h"

/* ---- Opening ---- */

/* What a user can do about it; the errno's own words for the rest. */
static const char *reason(int error) {
  switch (error) {
    case EADDRINUSE: return "the path exists already";
    case ENOENT: return "its directory does not exist";
    case ENOTDIR: return "a part of its path is no directory";
    case EACCES: return "no permission to create it there";
    case EROFS: return "the file system is read-only";
    default: return strerrordesc_np(error);
  }
}

static int64_t open_path(napi_env env, const char *path, int64_t mode, int64_t capacity) {
  size_t length = strlen(path);
  if (length == 0) {
    util_throw_errno(env, EINVAL, "the socket path is empty");
    return 0;
  }
  if (length > RECEIVER_PATH_BYTES) {
    util_throw_errno(env, EINVAL, "the socket path %.200s has %zu bytes, the system allows %d", path, length,
                     RECEIVER_PATH_BYTES);
    return 0;
  }
  int64_t handle = receiver_open(path, (mode_t)mode, (size_t)capacity);
  if (handle == 0) {
    int error = errno;
    util_throw_errno(env, error, "cannot bind the socket %s: %s", path, reason(error));
  }
  return handle;
}

static napi_value open_receiver(napi_env env, napi_callback_info call) {
  napi_value argv[1], path, mode, capacity;
  int64_t bits, bytes;
  if (!util_args(env, call, 1, argv, NULL) || !util_get(env, argv[0], "path", &path) ||
      !util_get(env, argv[0], "mode", &mode) || !util_int(env, mode, "mode", 0, 0777, &bits) ||
      !util_get(env, argv[0], "capacityBytes", &capacity) ||
      !util_int(env, capacity, "capacityBytes", RECEIVER_MIN_CAPACITY, RECEIVER_MAX_CAPACITY, &bytes)) {
    return NULL;
  }
  char *text = util_string(env, path, "path");
  if (text == NULL) return NULL;
  int64_t handle = open_path(env, text, bits, bytes);
  free(text);
  return handle == 0 ? NULL : util_new_handle(env, handle);
}

/* ---- Waking ---- */

struct listener {
  atomic_uint references; /* the thread-safe function, the cleanup hook, the receiver */
  /* Guards `call`, which is NULL once it is released or its environment goes down. */
  pthread_mutex_t lock;
  napi_threadsafe_function call;
  atomic_bool signalled;
  bool hooked; /* its environment's thread only */
  int64_t receiver;
};

static void listener_unref(struct listener *listener) {
  if (atomic_fetch_sub(&listener->references, 1) != 1) return;
  pthread_mutex_destroy(&listener->lock);
  free(listener);
}

/* From the receiving thread, or whichever appends. */
static void wake(void *context) {
  struct listener *listener = context;
  if (atomic_exchange(&listener->signalled, true)) return;
  pthread_mutex_lock(&listener->lock);
  if (listener->call != NULL) napi_call_threadsafe_function(listener->call, NULL, napi_tsfn_nonblocking);
  pthread_mutex_unlock(&listener->lock);
}

/* Takes the thread-safe function away from everybody; the first caller may also give it up. */
static void disconnect(struct listener *listener, bool release) {
  pthread_mutex_lock(&listener->lock);
  if (release && listener->call != NULL) napi_release_threadsafe_function(listener->call, napi_tsfn_release);
  listener->call = NULL;
  pthread_mutex_unlock(&listener->lock);
}

/* The receiver has let go of it. */
static void dismiss(struct listener *listener) {
  if (listener == NULL) return;
  disconnect(listener, true);
  listener_unref(listener);
}

/* On the JavaScript thread. `env` is NULL while the environment goes down. */
static void deliver(napi_env env, napi_value callback, void *context, void *unused) {
  (void)unused;
  /* Node makes such calls even after the finaliser: the context may be gone. */
  if (env == NULL) return;
  struct listener *listener = context;
  /* Before the call: what comes during it must wake again. */
  atomic_store(&listener->signalled, false);
  pthread_mutex_lock(&listener->lock);
  bool connected = listener->call != NULL;
  pthread_mutex_unlock(&listener->lock);
  if (connected) napi_call_function(env, util_undefined(env), callback, 0, NULL, NULL);
}

/*
 * The environment goes down (worker.terminate). Cleanup hooks run in reverse order, and this one
 * was added after the thread-safe function, which the environment ends by itself.
 */
static void on_env_cleanup(void *argument) {
  struct listener *listener = argument;
  listener->hooked = false;
  disconnect(listener, false);
  struct receiver *receiver = handle_acquire(HANDLE_RECEIVER, listener->receiver);
  if (receiver != NULL) {
    bool current = receiver_unlisten(receiver, listener);
    handle_release(listener->receiver);
    if (current) listener_unref(listener);
  }
  listener_unref(listener);
}

/* On the environment's thread, once; a call without an environment may still follow. */
static void finalize_call(napi_env env, void *data, void *hint) {
  (void)hint;
  struct listener *listener = data;
  if (listener->hooked && env != NULL) {
    napi_remove_env_cleanup_hook(env, on_env_cleanup, listener);
    listener->hooked = false;
    listener_unref(listener);
  }
  listener_unref(listener);
}

/* With references for the function, the hook and the receiver. NULL after throwing. */
static struct listener *create_listener(napi_env env, napi_value callback, int64_t receiver) {
  struct listener *listener = calloc(1, sizeof *listener);
  if (listener == NULL) {
    util_throw_errno(env, ENOMEM, "no memory to listen to a receiver");
    return NULL;
  }
  pthread_mutex_init(&listener->lock, NULL);
  atomic_init(&listener->references, 3);
  listener->receiver = receiver;
  napi_value name = util_new_string(env, "eventd.receiver");
  if (napi_create_threadsafe_function(env, callback, NULL, name, 0, 1, listener, finalize_call, listener, deliver,
                                      &listener->call) != napi_ok) {
    pthread_mutex_destroy(&listener->lock);
    free(listener);
    util_throw(env, "ERR_INVALID_ARG_TYPE", "available must be a function");
    return NULL;
  }
  listener->hooked = true;
  napi_add_env_cleanup_hook(env, on_env_cleanup, listener);
  return listener;
}

static napi_value start(napi_env env, napi_callback_info call) {
  napi_value argv[2];
  int64_t handle;
  if (!util_args(env, call, 2, argv, NULL)) return NULL;
  struct receiver *receiver = util_handle(env, HANDLE_RECEIVER, argv[0], &handle);
  if (receiver == NULL) return NULL;
  struct listener *listener = create_listener(env, argv[1], handle);
  if (listener == NULL) {
    handle_release(handle);
    return NULL;
  }
  dismiss(receiver_listen(receiver, wake, listener));
  int error = receiver_start(receiver);
  if (error != 0 && receiver_unlisten(receiver, listener)) dismiss(listener);
  handle_release(handle);
  return error == 0 ? util_undefined(env) : util_throw_errno(env, error, "cannot start a receiving thread");
}

/* ---- The rest ---- */

static napi_value take(napi_env env, napi_callback_info call) {
  napi_value argv[1];
  int64_t handle;
  if (!util_args(env, call, 1, argv, NULL)) return NULL;
  struct receiver *receiver = util_handle(env, HANDLE_RECEIVER, argv[0], &handle);
  if (receiver == NULL) return NULL;
  struct receiver_batch batch;
  int taken = receiver_take(receiver, &batch);
  handle_release(handle);
  if (taken < 0) return util_throw_errno(env, ENOMEM, "no memory for a batch");
  if (taken == 0) return util_null(env);
  napi_value result = util_object(env);
  util_set(env, result, "batch", util_new_handle(env, batch.handle));
  util_set_double(env, result, "datagrams", batch.datagrams);
  util_set_double(env, result, "bytes", (double)batch.bytes);
  util_set_u64(env, result, "openedAt", batch.opened_at);
  return result;
}

static napi_value inject(napi_env env, napi_callback_info call) {
  napi_value argv[2], result = NULL;
  int64_t handle;
  const uint8_t *bytes;
  size_t length;
  if (!util_args(env, call, 2, argv, NULL) || !util_bytes(env, argv[1], "datagram", &bytes, &length)) return NULL;
  if (length > DATAGRAM_MAX_BYTES) {
    return util_throw_errno(env, EMSGSIZE, "a datagram has at most %d bytes", DATAGRAM_MAX_BYTES);
  }
  struct receiver *receiver = util_handle(env, HANDLE_RECEIVER, argv[0], &handle);
  if (receiver == NULL) return NULL;
  napi_get_boolean(env, receiver_inject(receiver, bytes, length), &result);
  handle_release(handle);
  return result;
}

static napi_value finish(napi_env env, napi_callback_info call) {
  napi_value argv[3];
  int64_t handle, bytes, ms;
  if (!util_args(env, call, 3, argv, NULL) || !util_int(env, argv[1], "maxBytes", 0, INT64_C(1) << 53, &bytes) ||
      !util_int(env, argv[2], "ms", 0, INT32_MAX, &ms)) {
    return NULL;
  }
  struct receiver *receiver = util_handle(env, HANDLE_RECEIVER, argv[0], &handle);
  if (receiver == NULL) return NULL;
  int error = receiver_finish(receiver, (uint64_t)bytes, (uint32_t)ms);
  handle_release(handle);
  return error == 0 ? util_undefined(env) : util_throw_errno(env, error, "cannot read what the socket still holds");
}

static napi_value status(napi_env env, napi_callback_info call) {
  napi_value argv[1];
  int64_t handle;
  if (!util_args(env, call, 1, argv, NULL)) return NULL;
  struct receiver *receiver = util_handle(env, HANDLE_RECEIVER, argv[0], &handle);
  if (receiver == NULL) return NULL;
  struct receiver_status now;
  receiver_status(receiver, &now);
  handle_release(handle);
  napi_value result = util_object(env), finished;
  util_set_u64(env, result, "datagrams", now.datagrams);
  util_set_u64(env, result, "bytes", now.bytes);
  util_set_u64(env, result, "dropped", now.dropped);
  util_set_u64(env, result, "truncated", now.truncated);
  util_set_double(env, result, "waiting", (double)now.waiting);
  if (napi_get_boolean(env, now.finished, &finished) == napi_ok) util_set(env, result, "finished", finished);
  return result;
}

static napi_value close_receiver(napi_env env, napi_callback_info call) {
  napi_value argv[1];
  int64_t handle;
  if (!util_args(env, call, 1, argv, NULL)) return NULL;
  /* A handle that is stale has been closed before: safe twice. */
  if (!util_int(env, argv[0], "receiver", 1, (INT64_C(1) << 53) - 1, &handle)) return NULL;
  struct receiver *receiver = handle_acquire(HANDLE_RECEIVER, handle);
  if (receiver != NULL) {
    receiver_close(handle);
    /* Last, so that a receiverStart in another thread either sees the end or is dismissed here. */
    dismiss(receiver_listen(receiver, NULL, NULL));
    handle_release(handle);
  }
  return util_undefined(env);
}

static napi_value release(napi_env env, napi_callback_info call) {
  napi_value argv[1];
  int64_t handle;
  if (!util_args(env, call, 1, argv, NULL)) return NULL;
  if (util_handle(env, HANDLE_DATAGRAMS, argv[0], &handle) == NULL) return NULL;
  handle_close(HANDLE_DATAGRAMS, handle);
  handle_release(handle);
  return util_undefined(env);
}

static napi_value decode_failed(napi_env env, int error) {
  switch (error) {
    case EBUSY: return util_throw_errno(env, error, "the batch is being read");
    case EINVAL: return util_throw_errno(env, error, "the batch was decoded as metrics before");
    default: return util_throw_errno(env, error, "no memory for log records");
  }
}

static napi_value decode_logs(napi_env env, napi_callback_info call) {
  napi_value argv[2], more;
  int64_t handle, max_records;
  if (!util_args(env, call, 2, argv, NULL) ||
      !util_int(env, argv[1], "maxRecords", 1, UINT32_MAX / 2, &max_records)) {
    return NULL;
  }
  struct datagrams *batch = util_handle(env, HANDLE_DATAGRAMS, argv[0], &handle);
  if (batch == NULL) return NULL;
  struct log_step step;
  int error = log_decode(batch, (uint32_t)max_records, &step);
  handle_release(handle);
  if (error != 0) return decode_failed(env, error);
  napi_value result = util_object(env);
  util_set_double(env, result, "records", step.records);
  if (napi_get_boolean(env, step.more, &more) == napi_ok) util_set(env, result, "more", more);
  return result;
}

napi_value addon_receiver_init(napi_env env, napi_value exports) {
  util_export(env, exports, "receiverOpen", open_receiver);
  util_export(env, exports, "receiverStart", start);
  util_export(env, exports, "receiverTake", take);
  util_export(env, exports, "receiverInject", inject);
  util_export(env, exports, "receiverFinish", finish);
  util_export(env, exports, "receiverStatus", status);
  util_export(env, exports, "receiverClose", close_receiver);
  util_export(env, exports, "datagramsRelease", release);
  util_export(env, exports, "logDecode", decode_logs);
  return exports;
}
