/* System: peerCredentials, sendDatagram, watchReadable, openPipe, lockFile, threadBatch, clocks, probeSyscall. */
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <unistd.h>
#include <uv.h>

#include "addon_parts.h"
#include "addon_util.h"
#include "clock.h"

#ifndef SO_PEERGROUPS
#define SO_PEERGROUPS 59
#endif

/* NGROUPS_MAX of Linux: no process can have more supplementary groups. */
enum { FIRST_GROUPS = 64, MAX_GROUPS = 65536 };

static bool read_fd(napi_env env, napi_value value, int *fd) {
  int64_t number;
  if (!util_int(env, value, "fd", 0, INT32_MAX, &number)) return false;
  *fd = (int)number;
  return true;
}

/* Supplementary groups of the peer at connect; malloc'ed. Returns the count, -1 with errno. */
static ssize_t peer_groups(int fd, gid_t **groups) {
  socklen_t bytes = FIRST_GROUPS * sizeof(gid_t);
  for (;;) {
    gid_t *list = malloc(bytes > 0 ? bytes : 1);
    if (list == NULL) {
      errno = ENOMEM;
      return -1;
    }
    socklen_t length = bytes;
    if (getsockopt(fd, SOL_SOCKET, SO_PEERGROUPS, list, &length) == 0) {
      *groups = list;
      return (ssize_t)(length / sizeof(gid_t));
    }
    int error = errno;
    free(list);
    /* ERANGE tells the size needed; it must grow, or the kernel would keep us here. */
    if (error != ERANGE || length <= bytes || length > MAX_GROUPS * sizeof(gid_t)) {
      errno = error;
      return -1;
    }
    bytes = length;
  }
}

static napi_value peer_credentials(napi_env env, napi_callback_info call) {
  napi_value argv[1];
  int fd;
  if (!util_args(env, call, 1, argv, NULL) || !read_fd(env, argv[0], &fd)) return NULL;
  struct ucred peer;
  socklen_t length = sizeof peer;
  if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &length) != 0) {
    return util_throw_errno(env, errno, "SO_PEERCRED");
  }
  gid_t *groups;
  ssize_t count = peer_groups(fd, &groups);
  if (count < 0) return util_throw_errno(env, errno, "SO_PEERGROUPS");
  napi_value list = NULL, result = util_object(env);
  napi_create_array_with_length(env, (size_t)count, &list);
  for (ssize_t i = 0; i < count; i++) {
    napi_set_element(env, list, (uint32_t)i, util_new_double(env, groups[i]));
  }
  free(groups);
  util_set_double(env, result, "pid", peer.pid);
  util_set_double(env, result, "uid", peer.uid);
  util_set_double(env, result, "gid", peer.gid);
  util_set(env, result, "groups", list);
  return result;
}

/* Fills a Unix address; a leading '@' selects the abstract namespace. 0 or an errno. */
static int unix_address(const char *path, struct sockaddr_un *address, socklen_t *length) {
  size_t size = strlen(path);
  if (size == 0) return ENOENT;
  if (size >= sizeof address->sun_path) return ENAMETOOLONG;
  *address = (struct sockaddr_un){.sun_family = AF_UNIX};
  memcpy(address->sun_path, path, size);
  *length = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + size + 1);
  if (path[0] == '@') {
    address->sun_path[0] = '\0';
    /* Abstract names are counted, not terminated. */
    *length -= 1;
  }
  return 0;
}

/*
 * A socket kept for the time when no descriptor is left: a service manager that hears nothing would end
 * the process for it. Made with the first datagram, shared by all threads, never closed.
 */
static _Atomic int reserve_socket = -1;

static int datagram_socket(void) { return socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0); }

static void make_reserve(void) {
  int none = -1;
  if (atomic_load(&reserve_socket) >= 0) return;
  int fd = datagram_socket();
  if (fd >= 0 && !atomic_compare_exchange_strong(&reserve_socket, &none, fd)) close(fd);
}

static napi_value send_datagram(napi_env env, napi_callback_info call) {
  napi_value argv[2];
  const uint8_t *data;
  size_t size;
  if (!util_args(env, call, 2, argv, NULL)) return NULL;
  if (!util_bytes(env, argv[1], "data", &data, &size)) return NULL;
  char *path = util_string(env, argv[0], "path");
  if (path == NULL) return NULL;
  struct sockaddr_un address;
  socklen_t length;
  int error = unix_address(path, &address, &length);
  if (error == 0) {
    make_reserve();
    int fd = datagram_socket();
    int sender = fd >= 0 ? fd : atomic_load(&reserve_socket);
    if (sender < 0 || sendto(sender, data, size, MSG_DONTWAIT | MSG_NOSIGNAL,
                             (const struct sockaddr *)&address, length) < 0) {
      error = errno;
    }
    if (fd >= 0) close(fd);
  }
  if (error != 0) util_throw_errno(env, error, "%s", path);
  free(path);
  return error == 0 ? util_undefined(env) : NULL;
}

/* ---- watchReadable ---- */

struct watch {
  uv_poll_t poll;
  int fd;
  napi_env env;
  napi_ref callback, receiver;
  napi_async_context context;
  napi_async_cleanup_hook_handle cleanup;
  int references; /* the open handle, the stop function */
  bool closing, in_teardown;
};

static void watch_unref(struct watch *watch) {
  if (--watch->references == 0) free(watch);
}

static void on_closed(uv_handle_t *handle) {
  struct watch *watch = handle->data;
  /* This also tells an environment going down that it need not wait for us any longer. */
  napi_remove_async_cleanup_hook(watch->cleanup);
  watch_unref(watch);
}

static void watch_close(struct watch *watch) {
  if (watch->closing) return;
  watch->closing = true;
  uv_poll_stop(&watch->poll);
  if (!watch->in_teardown) {
    napi_delete_reference(watch->env, watch->callback);
    napi_delete_reference(watch->env, watch->receiver);
    napi_async_destroy(watch->env, watch->context);
  }
  uv_close((uv_handle_t *)&watch->poll, on_closed);
}

static void on_teardown(napi_async_cleanup_hook_handle handle, void *data) {
  (void)handle;
  struct watch *watch = data;
  watch->in_teardown = true;
  watch_close(watch);
}

/* Priority data as well: without it libuv takes what /dev/kmsg signals beside it for an error. */
enum { WATCHED = UV_READABLE | UV_PRIORITIZED | UV_DISCONNECT };

static void on_readable(uv_poll_t *poll, int status, int events) {
  (void)events;
  struct watch *watch = poll->data;
  napi_handle_scope scope;
  napi_value callback, receiver;
  napi_open_handle_scope(watch->env, &scope);
  napi_env env = watch->env;
  /* An error on the descriptor counts as readable: the caller's read will tell. */
  if (napi_get_reference_value(env, watch->callback, &callback) == napi_ok &&
      napi_get_reference_value(env, watch->receiver, &receiver) == napi_ok &&
      napi_make_callback(env, watch->context, receiver, callback, 0, NULL, NULL) ==
          napi_pending_exception) {
    napi_value error;
    if (napi_get_and_clear_last_exception(env, &error) == napi_ok) napi_fatal_exception(env, error);
  }
  napi_close_handle_scope(env, scope);
  /*
   * libuv stops a handle whose descriptor has an error. The read has taken the error off it, so the
   * watch goes on, unless the descriptor is gone (libuv aborts the process when it polls one).
   */
  if (status < 0 && !watch->closing && fcntl(watch->fd, F_GETFD) != -1) {
    uv_poll_start(&watch->poll, WATCHED, on_readable);
  }
}

static napi_value stop_watch(napi_env env, napi_callback_info call) {
  void *data;
  if (!util_args(env, call, 0, NULL, &data)) return NULL;
  watch_close(data);
  return util_undefined(env);
}

static void stop_collected(napi_env env, void *data, void *hint) {
  (void)env;
  (void)hint;
  watch_unref(data);
}

static napi_value watch_readable(napi_env env, napi_callback_info call) {
  napi_value argv[2], stop;
  napi_valuetype type;
  int fd;
  if (!util_args(env, call, 2, argv, NULL) || !read_fd(env, argv[0], &fd)) return NULL;
  if (napi_typeof(env, argv[1], &type) != napi_ok || type != napi_function) {
    return util_throw(env, "ERR_INVALID_ARG_TYPE", "callback must be a function");
  }
  uv_loop_t *loop;
  if (napi_get_uv_event_loop(env, &loop) != napi_ok) {
    return util_throw(env, "ERR_INTERNAL", "no event loop");
  }
  struct watch *watch = calloc(1, sizeof *watch);
  if (watch == NULL) return util_throw_errno(env, ENOMEM, "no memory for a watch");
  int error = uv_poll_init(loop, &watch->poll, fd);
  if (error != 0) {
    free(watch);
    return util_throw_errno(env, -error, "descriptor %d cannot be watched", fd);
  }
  watch->fd = fd;
  watch->env = env;
  watch->references = 2;
  watch->poll.data = watch;
  napi_value receiver = util_object(env);
  napi_create_reference(env, argv[1], 1, &watch->callback);
  napi_create_reference(env, receiver, 1, &watch->receiver);
  napi_async_init(env, NULL, util_new_string(env, "eventd.watchReadable"), &watch->context);
  napi_add_async_cleanup_hook(env, on_teardown, watch, &watch->cleanup);
  napi_create_function(env, "stop", NAPI_AUTO_LENGTH, stop_watch, watch, &stop);
  napi_add_finalizer(env, stop, watch, stop_collected, NULL, NULL);
  error = uv_poll_start(&watch->poll, WATCHED, on_readable);
  if (error != 0) {
    watch_close(watch);
    return util_throw_errno(env, -error, "descriptor %d cannot be watched", fd);
  }
  return stop;
}

/* ---- The rest ---- */

static napi_value lock_file(napi_env env, napi_callback_info call) {
  napi_value argv[1], result = NULL;
  int fd;
  if (!util_args(env, call, 1, argv, NULL) || !read_fd(env, argv[0], &fd)) return NULL;
  bool locked = flock(fd, LOCK_EX | LOCK_NB) == 0;
  if (!locked && errno != EWOULDBLOCK) return util_throw_errno(env, errno, "flock");
  napi_get_boolean(env, locked, &result);
  return result;
}

/* Without the kernel's leave the thread stays as it is: it is a matter of speed only. */
static napi_value thread_batch(napi_env env, napi_callback_info call) {
  (void)call;
  sched_setscheduler(0, SCHED_BATCH, &(struct sched_param){0});
  return util_undefined(env);
}

static napi_value open_pipe(napi_env env, napi_callback_info call) {
  (void)call;
  int ends[2];
  if (pipe2(ends, O_CLOEXEC) != 0) return util_throw_errno(env, errno, "pipe2");
  napi_value result = util_object(env);
  util_set_double(env, result, "read", ends[0]);
  util_set_double(env, result, "write", ends[1]);
  return result;
}

static napi_value realtime(napi_env env, napi_callback_info call) {
  (void)call;
  return util_new_u64(env, clock_realtime());
}

static napi_value monotonic(napi_env env, napi_callback_info call) {
  (void)call;
  return util_new_u64(env, clock_monotonic());
}

static napi_value probe_syscall(napi_env env, napi_callback_info call) {
  napi_value argv[2];
  int64_t number, argument;
  bool lossless;
  if (!util_args(env, call, 2, argv, NULL)) return NULL;
  if (!util_int(env, argv[0], "number", 0, INT32_MAX, &number)) return NULL;
  if (napi_get_value_bigint_int64(env, argv[1], &argument, &lossless) != napi_ok || !lossless) {
    return util_throw(env, "ERR_INVALID_ARG_TYPE", "argument must be a bigint of 64 bits");
  }
  long result = syscall(number, argument, 0, 0, 0, 0, 0);
  if (result >= 0) return util_new_string(env, "OK");
  const char *name = strerrorname_np(errno);
  return util_new_string(env, name != NULL ? name : "EUNKNOWN");
}

napi_value addon_system_init(napi_env env, napi_value exports) {
  util_export(env, exports, "peerCredentials", peer_credentials);
  util_export(env, exports, "sendDatagram", send_datagram);
  util_export(env, exports, "watchReadable", watch_readable);
  util_export(env, exports, "openPipe", open_pipe);
  util_export(env, exports, "lockFile", lock_file);
  util_export(env, exports, "threadBatch", thread_batch);
  util_export(env, exports, "realtimeNs", realtime);
  util_export(env, exports, "monotonicNs", monotonic);
  util_export(env, exports, "probeSyscall", probe_syscall);
  return exports;
}
