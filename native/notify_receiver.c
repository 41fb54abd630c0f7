/*
 * The receiving end of the readiness protocol (HOST-8, HOST-9): a datagram socket whose every
 * message carries the kernel's word on which process sent it. Node has no Unix datagram sockets.
 */
#include <errno.h>
#include <node_api.h>
#include <stdint.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

/* The protocol's messages are a few short lines; a longer datagram is dropped whole. */
#define MESSAGE_BYTES 8192
/* peinit's bound on descriptors beside one message; more makes the kernel cut the control data. */
#define MAX_DESCRIPTORS 16
/* A sender that floods the socket with unusable datagrams must not keep the loop in here. */
#define MAX_SKIPPED 64

static const char *errno_code(int error) {
  switch (error) {
  case EADDRINUSE: return "EADDRINUSE";
  case EACCES: return "EACCES";
  case ENOENT: return "ENOENT";
  case ENOTDIR: return "ENOTDIR";
  case EBADF: return "EBADF";
  case EINVAL: return "EINVAL";
  case EMFILE: return "EMFILE";
  case ENAMETOOLONG: return "ENAMETOOLONG";
  case ENOTSOCK: return "ENOTSOCK";
  case EPERM: return "EPERM";
  case EROFS: return "EROFS";
  default: return "EIO";
  }
}

static napi_value throw_errno(napi_env env, int error, const char *call) {
  char text[160];
  const char *code = errno_code(error);
  size_t length = strlen(code);
  memcpy(text, code, length);
  text[length] = '\0';
  strncat(text, ": ", sizeof text - strlen(text) - 1);
  strncat(text, call, sizeof text - strlen(text) - 1);
  strncat(text, ": ", sizeof text - strlen(text) - 1);
  strncat(text, strerror(error), sizeof text - strlen(text) - 1);
  napi_throw_error(env, code, text);
  return NULL;
}

/* notifyListen(path): bound, non-blocking, close-on-exec, mode 0600. The caller removes old files. */
static napi_value notify_listen(napi_env env, napi_callback_info info) {
  napi_value argument;
  size_t count = 1;
  struct sockaddr_un address = {.sun_family = AF_UNIX};
  size_t length = 0;
  if (napi_get_cb_info(env, info, &count, &argument, NULL, NULL) != napi_ok || count < 1 ||
      napi_get_value_string_utf8(env, argument, NULL, 0, &length) != napi_ok) {
    napi_throw_type_error(env, "ERR_ARGUMENT", "notifyListen: path must be a string");
    return NULL;
  }
  if (length == 0) return throw_errno(env, EINVAL, "notifyListen");
  if (length >= sizeof address.sun_path) return throw_errno(env, ENAMETOOLONG, "notifyListen");
  napi_get_value_string_utf8(env, argument, address.sun_path, sizeof address.sun_path, &length);
  if (memchr(address.sun_path, '\0', length) != NULL) return throw_errno(env, EINVAL, "notifyListen");

  int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  if (fd < 0) return throw_errno(env, errno, "socket");
  int on = 1;
  /* Before bind: no message may arrive without credentials. */
  if (setsockopt(fd, SOL_SOCKET, SO_PASSCRED, &on, sizeof on) != 0 || fchmod(fd, 0600) != 0 ||
      bind(fd, (struct sockaddr *)&address, sizeof address) != 0) {
    int error = errno;
    close(fd);
    return throw_errno(env, error, "bind");
  }
  napi_value result;
  if (napi_create_int32(env, fd, &result) != napi_ok) {
    close(fd);
    return NULL;
  }
  return result;
}

/* Descriptors sent along are not part of what is supported: close them, or the sender fills our table. */
static pid_t take_control(struct msghdr *message) {
  pid_t pid = 0;
  for (struct cmsghdr *c = CMSG_FIRSTHDR(message); c != NULL; c = CMSG_NXTHDR(message, c)) {
    if (c->cmsg_level != SOL_SOCKET) continue;
    if (c->cmsg_type == SCM_CREDENTIALS && c->cmsg_len >= CMSG_LEN(sizeof(struct ucred))) {
      struct ucred credentials;
      memcpy(&credentials, CMSG_DATA(c), sizeof credentials);
      pid = credentials.pid;
    } else if (c->cmsg_type == SCM_RIGHTS) {
      size_t descriptors = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);
      for (size_t i = 0; i < descriptors; i++) {
        int fd;
        memcpy(&fd, CMSG_DATA(c) + i * sizeof fd, sizeof fd);
        close(fd);
      }
    }
  }
  return pid;
}

/* notifyReceive(fd): the next usable message, or null when none is waiting. */
static napi_value notify_receive(napi_env env, napi_callback_info info) {
  napi_value argument, result, value;
  size_t count = 1;
  int32_t fd;
  if (napi_get_cb_info(env, info, &count, &argument, NULL, NULL) != napi_ok || count < 1 ||
      napi_get_value_int32(env, argument, &fd) != napi_ok) {
    napi_throw_type_error(env, "ERR_ARGUMENT", "notifyReceive: fd must be a number");
    return NULL;
  }
  uint8_t data[MESSAGE_BYTES];
  union {
    struct cmsghdr align;
    char bytes[CMSG_SPACE(sizeof(struct ucred)) + CMSG_SPACE(MAX_DESCRIPTORS * sizeof(int))];
  } control;
  for (int skipped = 0; skipped < MAX_SKIPPED; skipped++) {
    struct iovec part = {.iov_base = data, .iov_len = sizeof data};
    struct msghdr message = {
        .msg_iov = &part, .msg_iovlen = 1, .msg_control = control.bytes, .msg_controllen = sizeof control.bytes};
    ssize_t length = recvmsg(fd, &message, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
    if (length < 0) {
      if (errno == EINTR) continue;
      if (errno == EAGAIN || errno == EWOULDBLOCK) break;
      return throw_errno(env, errno, "recvmsg");
    }
    pid_t pid = take_control(&message);
    if (pid <= 0 || (message.msg_flags & (MSG_TRUNC | MSG_CTRUNC)) != 0) continue;

    void *copy;
    napi_value buffer;
    if (napi_create_object(env, &result) != napi_ok ||
        napi_create_int32(env, pid, &value) != napi_ok ||
        napi_set_named_property(env, result, "pid", value) != napi_ok ||
        napi_create_arraybuffer(env, (size_t)length, &copy, &buffer) != napi_ok ||
        napi_create_typedarray(env, napi_uint8_array, (size_t)length, buffer, 0, &value) != napi_ok ||
        napi_set_named_property(env, result, "data", value) != napi_ok)
      return NULL;
    if (length > 0) memcpy(copy, data, (size_t)length);
    return result;
  }
  napi_get_null(env, &result);
  return result;
}

napi_value addon_notify_init(napi_env env, napi_value exports) {
  const napi_property_descriptor functions[] = {
      {"notifyListen", NULL, notify_listen, NULL, NULL, NULL, napi_default_method, NULL},
      {"notifyReceive", NULL, notify_receive, NULL, NULL, NULL, napi_default_method, NULL},
  };
  napi_define_properties(env, exports, sizeof functions / sizeof functions[0], functions);
  return exports;
}
