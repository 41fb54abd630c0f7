/*
 * The kernel's process connector: starts and exits of processes over netlink, for kmesd. Node has
 * no netlink sockets. The descriptor is watched from JavaScript; here are only open, receive, close.
 */
#include <errno.h>
#include <linux/cn_proc.h>
#include <linux/connector.h>
#include <linux/filter.h>
#include <linux/netlink.h>
#include <node_api.h>
#include <poll.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "addon_util.h"

/* From <linux/cn_proc.h>, whose enum moved between header versions. */
#define EVENT_NONE 0x00000000u
#define EVENT_EXEC 0x00000002u
#define EVENT_EXIT 0x80000000u

/* One packed record: u32 kind, u32 pid, u32 wait status, u32 zero. */
#define RECORD_BYTES 16
#define RECORD_EXEC 1
#define RECORD_EXIT 2
/* Events taken at one go; between two calls the loop serves others. */
#define MAX_RECORDS 256
/* Absorbs bursts of some ten thousand processes between two turns of the loop. */
#define RECEIVE_BUFFER (8 * 1024 * 1024)
/* A kernel that lets us listen acknowledges at once; one that ignores us (a container) never does. */
#define ACK_TIMEOUT_MS 250
#define MESSAGE_BYTES 1024

/* Offsets in a datagram: netlink header, connector header, event. */
#define EVENT_AT (NLMSG_LENGTH(0) + sizeof(struct cn_msg))
#define WHAT_AT (EVENT_AT + offsetof(struct proc_event, what))
#define DATA_AT (EVENT_AT + offsetof(struct proc_event, event_data))
#define PID_AT (DATA_AT + 0)
#define TGID_AT (DATA_AT + 4)
#define STATUS_AT (DATA_AT + 8)

struct subscription {
  struct nlmsghdr header;
  struct cn_msg message;
  uint32_t operation;
} __attribute__((packed));

/* The answer to a request carries its `ack` plus one; newer kernels put a counter of their own in `seq`. */
static int subscribe(int fd, uint32_t operation, uint32_t tag) {
  struct subscription request = {
      .header = {.nlmsg_len = sizeof request, .nlmsg_type = NLMSG_DONE, .nlmsg_seq = tag},
      .message = {.id = {.idx = CN_IDX_PROC, .val = CN_VAL_PROC},
                  .seq = tag,
                  .ack = tag,
                  .len = sizeof request.operation},
      .operation = operation,
  };
  return send(fd, &request, sizeof request, 0) == (ssize_t)sizeof request ? 0 : errno;
}

/* Only execs and exits of whole processes reach the socket: forks and threads cost nothing. */
static int attach_filter(int fd) {
  struct sock_filter code[] = {
      BPF_STMT(BPF_LD | BPF_W | BPF_ABS, WHAT_AT),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, __builtin_bswap32(EVENT_NONE), 6, 0),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, __builtin_bswap32(EVENT_EXEC), 5, 0),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, __builtin_bswap32(EVENT_EXIT), 0, 5),
      BPF_STMT(BPF_LD | BPF_W | BPF_ABS, PID_AT),
      BPF_STMT(BPF_MISC | BPF_TAX, 0),
      BPF_STMT(BPF_LD | BPF_W | BPF_ABS, TGID_AT),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_X, 0, 0, 1),
      BPF_STMT(BPF_RET | BPF_K, UINT32_MAX),
      BPF_STMT(BPF_RET | BPF_K, 0),
  };
  struct sock_fprog program = {.len = sizeof code / sizeof code[0], .filter = code};
  return setsockopt(fd, SOL_SOCKET, SO_ATTACH_FILTER, &program, sizeof program) == 0 ? 0 : errno;
}

/* One datagram of the kernel: its length, 0 for one to skip, -errno on failure. */
static ssize_t receive(int fd, uint8_t *bytes) {
  struct sockaddr_nl from = {0};
  socklen_t from_length = sizeof from;
  ssize_t length = recvfrom(fd, bytes, MESSAGE_BYTES, MSG_DONTWAIT, (struct sockaddr *)&from, &from_length);
  if (length < 0) return errno == EINTR ? 0 : -errno;
  /* Port 0 is the kernel; anybody else is making processes up. */
  if (from.nl_pid != 0 || (size_t)length < DATA_AT + 12) return 0;
  return length;
}

static uint32_t field(const uint8_t *bytes, size_t offset) {
  uint32_t value;
  memcpy(&value, bytes + offset, sizeof value);
  return value;
}

static int64_t now_ms(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

/* 0 once the kernel has acknowledged, else an errno value. */
static int await_ack(int fd, uint32_t tag) {
  const int64_t deadline = now_ms() + ACK_TIMEOUT_MS;
  for (int64_t left = ACK_TIMEOUT_MS; left > 0; left = deadline - now_ms()) {
    struct pollfd waiting = {.fd = fd, .events = POLLIN};
    if (poll(&waiting, 1, (int)left) < 0 && errno != EINTR) return errno;
    uint8_t bytes[MESSAGE_BYTES];
    ssize_t length = receive(fd, bytes);
    if (length < 0 && length != -EAGAIN && length != -ENOBUFS) return (int)-length;
    if (length <= 0 || field(bytes, WHAT_AT) != EVENT_NONE) continue;
    if (field(bytes, NLMSG_LENGTH(0) + offsetof(struct cn_msg, ack)) != tag + 1) continue;
    return (int)field(bytes, DATA_AT);
  }
  return EPERM;
}

static int open_connector(int *out) {
  int fd = socket(AF_NETLINK, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, NETLINK_CONNECTOR);
  if (fd < 0) return errno;
  struct sockaddr_nl address = {.nl_family = AF_NETLINK, .nl_groups = CN_IDX_PROC};
  int size = RECEIVE_BUFFER;
  uint32_t tag = (uint32_t)getpid();
  int error = bind(fd, (struct sockaddr *)&address, sizeof address) == 0 ? 0 : errno;
  if (error == 0) error = attach_filter(fd);
  if (error == 0) {
    /* Beyond the usual limit where allowed; a smaller buffer only overflows sooner. */
    if (setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &size, sizeof size) != 0)
      setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &size, sizeof size);
    error = subscribe(fd, PROC_CN_MCAST_LISTEN, tag);
  }
  if (error == 0) error = await_ack(fd, tag);
  if (error != 0) close(fd);
  *out = fd;
  return error;
}

/* processConnectorOpen(): a subscribed, non-blocking descriptor; EPERM where the kernel refuses. */
static napi_value process_connector_open(napi_env env, napi_callback_info info) {
  int fd = -1;
  int error = open_connector(&fd);
  if (error != 0) return util_throw_errno(env, error, "process connector");
  return util_new_double(env, fd);
}

static bool fd_argument(napi_env env, napi_callback_info info, int *fd) {
  napi_value argument;
  int64_t value;
  if (!util_args(env, info, 1, &argument, NULL)) return false;
  if (!util_int(env, argument, "fd", 0, INT32_MAX, &value)) return false;
  *fd = (int)value;
  return true;
}

/* processConnectorReceive(fd): {records, overruns}, at most MAX_RECORDS packed records. */
static napi_value process_connector_receive(napi_env env, napi_callback_info info) {
  int fd;
  if (!fd_argument(env, info, &fd)) return NULL;
  uint8_t records[MAX_RECORDS * RECORD_BYTES];
  size_t used = 0;
  uint32_t overruns = 0;
  for (int reads = 0; reads < MAX_RECORDS; reads++) {
    uint8_t bytes[MESSAGE_BYTES];
    ssize_t length = receive(fd, bytes);
    if (length == -EAGAIN) break;
    if (length == -ENOBUFS) {
      overruns++;
      continue;
    }
    if (length < 0) return util_throw_errno(env, (int)-length, "process connector");
    if (length == 0) continue;
    uint32_t what = field(bytes, WHAT_AT);
    if (what != EVENT_EXEC && what != EVENT_EXIT) continue;
    uint32_t record[4] = {what == EVENT_EXEC ? RECORD_EXEC : RECORD_EXIT, field(bytes, TGID_AT),
                          what == EVENT_EXIT ? field(bytes, STATUS_AT) : 0, 0};
    memcpy(records + used, record, sizeof record);
    used += sizeof record;
  }
  void *data;
  napi_value buffer, array;
  if (napi_create_arraybuffer(env, used, &data, &buffer) != napi_ok ||
      napi_create_typedarray(env, napi_uint8_array, used, buffer, 0, &array) != napi_ok)
    return NULL;
  if (used > 0) memcpy(data, records, used);
  napi_value result = util_object(env);
  util_set(env, result, "records", array);
  util_set_double(env, result, "overruns", overruns);
  return result;
}

/* processConnectorClose(fd): unsubscribes, because older kernels count listeners for ever, and closes. */
static napi_value process_connector_close(napi_env env, napi_callback_info info) {
  int fd;
  if (!fd_argument(env, info, &fd)) return NULL;
  (void)subscribe(fd, PROC_CN_MCAST_IGNORE, (uint32_t)getpid());
  close(fd);
  return util_undefined(env);
}

napi_value addon_proc_connector_init(napi_env env, napi_value exports) {
  util_export(env, exports, "processConnectorOpen", process_connector_open);
  util_export(env, exports, "processConnectorReceive", process_connector_receive);
  util_export(env, exports, "processConnectorClose", process_connector_close);
  return exports;
}
