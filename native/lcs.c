#include "lcs.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <unistd.h>

enum {
  FIRST_VALUE = 4096,
  FIRST_BATCH = 65536,
  FIRST_RECORDS = 65536,
  MAX_RECORDS = 1 << 20,
};

static long real_call(long number, long first, long second, long third, long fourth) {
  return syscall(number, first, second, third, fourth);
}

static int real_control(int key, unsigned long request, void *args) { return ioctl(key, request, args); }

struct lcs_kernel lcs_kernel = {.call = real_call, .control = real_control, .read = read};

static int control(int key, unsigned long request, void *args) {
  return lcs_kernel.control(key, request, args) < 0 ? -errno : 0;
}

/* A pointer must be null exactly when its length is 0. */
static uint64_t address(const void *bytes, uint32_t length) {
  return length == 0 ? 0 : (uint64_t)(uintptr_t)bytes;
}

/* Room for at least `needed` bytes; the old content is of no use any more. Room that is there stays: an
 * answer may have shrunk since it asked for more. */
static int make_room(struct lcs_answer *answer, uint32_t *room, uint32_t needed) {
  if (needed > LCS_MAX_ANSWER) return -E2BIG;
  if (needed <= *room) return 0;
  free(answer->bytes);
  *room = 0;
  answer->bytes = malloc(needed);
  if (answer->bytes == NULL) return -ENOMEM;
  *room = needed;
  return 0;
}

int lcs_open_key(const char *path, uint32_t access) {
  long key = lcs_kernel.call(LCS_OPEN_KEY, -1, (long)path, (long)access, 0);
  return key < 0 ? -errno : (int)key;
}

int lcs_create_key(const char *path, bool *created) {
  uint32_t disposition = 0;
  struct lcs_create_key_args args = {
      .parent = -1,
      .path = (uint64_t)(uintptr_t)path,
      .access = LCS_KEY_SET_VALUE | LCS_KEY_CREATE_SUB_KEY,
      .txn = -1,
      .disposition = (uint64_t)(uintptr_t)&disposition,
  };
  long key = lcs_kernel.call(LCS_CREATE_KEY, (long)&args, 0, 0, 0);
  if (key < 0) return -errno;
  close((int)key);
  *created = disposition == LCS_CREATED;
  return 0;
}

int lcs_query_value(int key, struct lcs_text name, struct lcs_answer *value) {
  uint32_t room = 0;
  uint8_t layer[LCS_MAX_NAME];
  int error = make_room(value, &room, FIRST_VALUE);
  for (int pass = 0; error == 0 && pass < LCS_PASSES; pass++) {
    struct lcs_query_value_args args = {
        .name_len = name.length,
        .name = address(name.bytes, name.length),
        .data_len = room,
        .txn = -1,
        .layer_buf_len = sizeof layer,
        .data = address(value->bytes, room),
        .layer = (uint64_t)(uintptr_t)layer,
    };
    error = control(key, LCS_QUERY_VALUE, &args);
    if (error == 0) {
      value->type = args.type;
      value->length = args.data_len;
      return args.data_len > room ? -EPROTO : 0;
    }
    if (error == -ERANGE) error = make_room(value, &room, args.data_len);
  }
  return error != 0 ? error : -EAGAIN;
}

/* Count and length must agree to the byte: a value that is not seen would count as deleted. */
static int check_batch(const struct lcs_answer *values) {
  struct lcs_value value;
  uint32_t at = 0;
  for (uint32_t i = 0; i < values->count; i++) {
    if (!lcs_next_value(values, &at, &value)) return -EPROTO;
  }
  return at == values->length ? 0 : -EPROTO;
}

int lcs_query_values(int key, struct lcs_answer *values) {
  uint32_t room = 0;
  int error = make_room(values, &room, FIRST_BATCH);
  for (int pass = 0; error == 0 && pass < LCS_PASSES; pass++) {
    struct lcs_query_batch_args args = {.buf_len = room, .buf = address(values->bytes, room), .txn = -1};
    error = control(key, LCS_QUERY_VALUES_BATCH, &args);
    if (error == 0) {
      values->length = args.buf_len;
      values->count = args.count;
      return args.buf_len > room ? -EPROTO : check_batch(values);
    }
    if (error == -ERANGE) error = make_room(values, &room, args.buf_len);
  }
  return error != 0 ? error : -EAGAIN;
}

/* Appends one name with its length; the room doubles. */
static int append_name(struct lcs_answer *names, uint32_t *room, const uint8_t *name, uint16_t length) {
  uint32_t needed = names->length + 2u + length;
  if (needed > *room) {
    uint32_t more = 2 * needed;
    uint8_t *bytes = realloc(names->bytes, more);
    if (bytes == NULL) return -ENOMEM;
    names->bytes = bytes;
    *room = more;
  }
  memcpy(names->bytes + names->length, &length, 2);
  memcpy(names->bytes + names->length + 2, name, length);
  names->length = needed;
  names->count++;
  return 0;
}

int lcs_list_subkeys(int key, struct lcs_answer *names) {
  uint8_t name[LCS_MAX_NAME];
  uint32_t room = 0;
  for (uint32_t index = 0; index < LCS_MAX_SUBKEYS; index++) {
    struct lcs_enum_subkeys_args args = {
        .index = index,
        .name_len = sizeof name,
        .name = (uint64_t)(uintptr_t)name,
        .txn = -1,
    };
    int error = control(key, LCS_ENUM_SUBKEYS, &args);
    if (error == -ENOENT) return 0;
    if (error != 0) return error;
    if (args.name_len == 0 || args.name_len > sizeof name) return -EPROTO;
    error = append_name(names, &room, name, (uint16_t)args.name_len);
    if (error != 0) return error;
  }
  return -E2BIG;
}

int lcs_set_value(int key, struct lcs_text name, uint32_t type, struct lcs_text data) {
  struct lcs_set_value_args args = {
      .name_len = name.length,
      .name = address(name.bytes, name.length),
      .type = type,
      .data_len = data.length,
      .data = address(data.bytes, data.length),
      .txn = -1,
  };
  return control(key, LCS_SET_VALUE, &args);
}

int lcs_delete_value(int key, struct lcs_text name) {
  struct lcs_delete_value_args args = {
      .name_len = name.length,
      .name = address(name.bytes, name.length),
      .txn = -1,
  };
  return control(key, LCS_DELETE_VALUE, &args);
}

static int set_flags(int key) {
  int flags = fcntl(key, F_GETFL);
  if (flags < 0 || fcntl(key, F_SETFL, flags | O_NONBLOCK) < 0 || fcntl(key, F_SETFD, FD_CLOEXEC) < 0) {
    return -errno;
  }
  return 0;
}

int lcs_watch(const char *path) {
  int key = lcs_open_key(path, LCS_KEY_READ);
  if (key < 0) return key;
  struct lcs_notify_args args = {.filter = LCS_WATCH_VALUES | LCS_WATCH_SUBKEYS, .subtree = 1};
  int error = control(key, LCS_NOTIFY, &args);
  if (error == 0) error = set_flags(key);
  if (error == 0) return key;
  close(key);
  return error;
}

int lcs_read_watch(int key, struct lcs_answer *records) {
  uint32_t room = 0;
  for (uint32_t wanted = FIRST_RECORDS; wanted <= MAX_RECORDS; wanted *= 2) {
    int error = make_room(records, &room, wanted);
    if (error != 0) return error;
    ssize_t size;
    do size = lcs_kernel.read(key, records->bytes, room);
    while (size < 0 && errno == EINTR);
    if (size > (ssize_t)room) return -EPROTO;
    if (size == 0) return -EIO;
    if (size > 0) {
      records->length = (uint32_t)size;
      return 0;
    }
    /* The next record is larger than the buffer (HOST-40). */
    if (errno != EINVAL) return -errno;
  }
  return -EPROTO;
}
