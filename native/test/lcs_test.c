#include "../lcs.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "expect.h"

/* A kernel that keeps what it was asked last, and answers with what the case prepared. */
static struct {
  long number, first, second, third, fourth;
  unsigned long request;
  int key, calls;
  uint8_t args[64];
  char path[64], name[64], data[64];
  int (*answer)(uint8_t *args); /* 0 or an errno; changes what comes back */
  size_t records;
} kernel;

static uint32_t u32_at(size_t offset) {
  uint32_t value;
  memcpy(&value, kernel.args + offset, sizeof value);
  return value;
}

static uint64_t u64_in(const uint8_t *args, size_t offset) {
  uint64_t value;
  memcpy(&value, args + offset, sizeof value);
  return value;
}

static void put_u32(uint8_t *args, size_t offset, uint32_t value) { memcpy(args + offset, &value, 4); }

static void *pointer_in(const uint8_t *args, size_t offset) { return (void *)(uintptr_t)u64_in(args, offset); }

static int answer(uint8_t *args) {
  kernel.calls++;
  int error = kernel.answer == NULL ? 0 : kernel.answer(args);
  errno = error;
  return error == 0 ? 0 : -1;
}

static long fake_call(long number, long first, long second, long third, long fourth) {
  kernel.number = number;
  kernel.first = first;
  kernel.second = second;
  kernel.third = third;
  kernel.fourth = fourth;
  if (number == LCS_OPEN_KEY) {
    strncpy(kernel.path, (const char *)second, sizeof kernel.path - 1);
    if (kernel.answer != NULL && answer(NULL) != 0) return -1;
  } else {
    memcpy(kernel.args, (const void *)first, 48);
    strncpy(kernel.path, pointer_in(kernel.args, 8), sizeof kernel.path - 1);
    if (answer((uint8_t *)first) != 0) return -1;
  }
  return open("/dev/null", O_RDONLY);
}

static int fake_control(int key, unsigned long request, void *args) {
  kernel.key = key;
  kernel.request = request;
  size_t size = request >> 16 & 0x3fff;
  memcpy(kernel.args, args, size);
  if (request != LCS_QUERY_VALUES_BATCH && request != LCS_NOTIFY) {
    const void *name = pointer_in(kernel.args, 8);
    memset(kernel.name, 0, sizeof kernel.name);
    if (request != LCS_ENUM_SUBKEYS && name != NULL) memcpy(kernel.name, name, u32_at(0));
  }
  if (request == LCS_SET_VALUE && u32_at(20) > 0) memcpy(kernel.data, pointer_in(kernel.args, 24), u32_at(20));
  return answer(args);
}

/* One record, of `kernel.records` zero bytes. */
static ssize_t fake_read(int key, void *buffer, size_t size) {
  kernel.key = key;
  kernel.calls++;
  if (kernel.records == 0) errno = EAGAIN;
  else if (size < kernel.records) errno = EINVAL;
  else return memset(buffer, 0, kernel.records) == NULL ? -1 : (ssize_t)kernel.records;
  return -1;
}

static void answers(int (*with)(uint8_t *args)) {
  memset(&kernel, 0, sizeof kernel);
  kernel.answer = with;
}

static struct lcs_text text(const char *string) {
  return (struct lcs_text){(const uint8_t *)string, (uint32_t)strlen(string)};
}

static int refuses(uint8_t *args) {
  (void)args;
  return EACCES;
}

static int created(uint8_t *args) {
  *(uint32_t *)pointer_in(args, 40) = 1;
  return 0;
}

static int existed(uint8_t *args) {
  *(uint32_t *)pointer_in(args, 40) = 2;
  return 0;
}

static void keys(void) {
  title("[HOST-32] [HOST-33] [HOST-34] keys are opened by an absolute path and created by the 48 byte struct");
  answers(NULL);
  int key = lcs_open_key("Machine\\System\\eventd", LCS_KEY_READ);
  EXPECT(key >= 0);
  close(key);
  EXPECT(kernel.number == 1100 && (int)kernel.first == -1 && kernel.third == 0x20019 && kernel.fourth == 0);
  EXPECT(strcmp(kernel.path, "Machine\\System\\eventd") == 0);
  answers(refuses);
  EXPECT(lcs_open_key("Machine", LCS_KEY_READ) == -EACCES);
  bool fresh = false;
  answers(created);
  EXPECT(lcs_create_key("Machine\\New", &fresh) == 0 && fresh);
  EXPECT(kernel.number == 1101 && strcmp(kernel.path, "Machine\\New") == 0);
  EXPECT(u32_at(0) == UINT32_MAX && u32_at(4) == 0 && u32_at(16) == 6 && u32_at(20) == 0);
  EXPECT(u64_in(kernel.args, 24) == 0 && u32_at(32) == UINT32_MAX && u32_at(36) == 0);
  answers(existed);
  EXPECT(lcs_create_key("Machine\\Old", &fresh) == 0 && !fresh);
  answers(refuses);
  EXPECT(lcs_create_key("Machine\\New", &fresh) == -EACCES);
}

static void writes(void) {
  title("[HOST-34] [HOST-35] writes count their strings, use no transaction and no layer, and leave pads zero");
  answers(NULL);
  EXPECT(lcs_set_value(7, text("na\xc3\xafve"), 4, text("1234")) == 0);
  EXPECT(kernel.key == 7 && kernel.request == 0x40405201 && strcmp(kernel.name, "na\xc3\xafve") == 0);
  EXPECT(u32_at(0) == 6 && u32_at(4) == 0 && u32_at(16) == 4 && u32_at(20) == 4);
  EXPECT(memcmp(kernel.data, "1234", 4) == 0 && u32_at(32) == 0 && u32_at(36) == 0);
  EXPECT(u64_in(kernel.args, 40) == 0 && u32_at(48) == UINT32_MAX && u32_at(52) == 0);
  EXPECT(u64_in(kernel.args, 56) == 0);
  EXPECT(lcs_set_value(7, text(""), 0, text("")) == 0);
  EXPECT(u32_at(0) == 0 && u64_in(kernel.args, 8) == 0 && u32_at(20) == 0 && u64_in(kernel.args, 24) == 0);
  EXPECT(lcs_delete_value(8, text("gone")) == 0);
  EXPECT(kernel.key == 8 && kernel.request == 0x40285202 && strcmp(kernel.name, "gone") == 0);
  EXPECT(u32_at(0) == 4 && u32_at(4) == 0 && u32_at(16) == 0 && u32_at(20) == 0);
  EXPECT(u64_in(kernel.args, 24) == 0 && u32_at(32) == UINT32_MAX && u32_at(36) == 0);
  answers(refuses);
  EXPECT(lcs_set_value(7, text("a"), 4, text("1234")) == -EACCES);
}

/* A value that is larger with every look, until it has been looked at `LAST` times. */
enum { LAST = 3 };
static uint32_t value_size;

static int growing_value(uint8_t *args) {
  uint32_t room;
  memcpy(&room, args + 20, 4);
  if (kernel.calls < LAST) value_size = room + 1000;
  put_u32(args, 20, value_size);
  put_u32(args, 48, 4);
  if (room < value_size) return ERANGE;
  put_u32(args, 16, 3);
  memset(pointer_in(args, 32), 0xab, value_size);
  return 0;
}

static int endless_value(uint8_t *args) {
  uint32_t room;
  memcpy(&room, args + 20, 4);
  put_u32(args, 20, room + 1);
  return ERANGE;
}

static int huge_value(uint8_t *args) {
  put_u32(args, 20, UINT32_MAX);
  return ERANGE;
}

static int lying_value(uint8_t *args) {
  put_u32(args, 20, u32_at(20) + 1);
  return 0;
}

static void one_value(void) {
  title("[HOST-35] [HOST-36] a value that grows is asked for again, a few times and within a bound");
  struct lcs_answer value = {0};
  answers(growing_value);
  EXPECT(lcs_query_value(5, text("v"), &value) == 0);
  EXPECT(kernel.calls == LAST && kernel.request == 0xC0405200 && kernel.key == 5);
  EXPECT(value.type == 3 && value.length == value_size && value.bytes[value.length - 1] == 0xab);
  EXPECT(u32_at(0) == 1 && u32_at(4) == 0 && u32_at(24) == UINT32_MAX && u32_at(52) == 0);
  /* A value of a named layer says so, and wants the room for it. */
  EXPECT(u32_at(28) == 255 && u64_in(kernel.args, 56) != 0);
  answers(endless_value);
  EXPECT(lcs_query_value(5, text("v"), &value) == -EAGAIN && kernel.calls == LCS_PASSES);
  answers(huge_value);
  EXPECT(lcs_query_value(5, text("v"), &value) == -E2BIG && kernel.calls == 1);
  answers(lying_value);
  EXPECT(lcs_query_value(5, text("v"), &value) == -EPROTO);
  answers(refuses);
  EXPECT(lcs_query_value(5, text("v"), &value) == -EACCES);
  free(value.bytes);
}

static uint8_t batch[200000];
static uint32_t batch_length, batch_count;

static void add_value(const char *name, uint32_t type, uint32_t length) {
  uint32_t name_length = (uint32_t)strlen(name);
  uint8_t *at = batch + batch_length;
  memcpy(at, &name_length, 4);
  memcpy(at + 4, name, name_length);
  memcpy(at + 4 + name_length, &type, 4);
  memcpy(at + 8 + name_length, &length, 4);
  memset(at + 12 + name_length, 'd', length);
  batch_length += 12 + name_length + length;
  batch_count++;
}

static int batch_answer(uint8_t *args) {
  uint32_t room;
  memcpy(&room, args, 4);
  put_u32(args, 0, batch_length);
  put_u32(args, 4, batch_count);
  if (room < batch_length) return ERANGE;
  memcpy(pointer_in(args, 8), batch, batch_length);
  return 0;
}

static int lying_batch(uint8_t *args) {
  put_u32(args, 0, u32_at(0) + 1);
  return 0;
}

static void batches(void) {
  title("[HOST-36] [HOST-37] one batch call takes all values; count, lengths and size must agree");
  struct lcs_answer values = {0};
  struct lcs_value value;
  uint32_t at = 0;
  answers(batch_answer);
  batch_length = batch_count = 0;
  EXPECT(lcs_query_values(4, &values) == 0 && values.count == 0 && !lcs_next_value(&values, &at, &value));
  EXPECT(kernel.request == 0xC0185204 && u32_at(16) == UINT32_MAX && u32_at(20) == 0);
  add_value("", 1, 3);
  add_value("Large", 3, 100000);
  kernel.calls = 0;
  EXPECT(lcs_query_values(4, &values) == 0 && kernel.calls == 2 && values.count == 2);
  EXPECT(lcs_next_value(&values, &at, &value) && value.name.length == 0 && value.type == 1);
  EXPECT(value.data.length == 3 && memcmp(value.data.bytes, "ddd", 3) == 0);
  EXPECT(lcs_next_value(&values, &at, &value) && memcmp(value.name.bytes, "Large", 5) == 0);
  EXPECT(value.data.length == 100000 && at == values.length && !lcs_next_value(&values, &at, &value));
  batch_count = 3;
  EXPECT(lcs_query_values(4, &values) == -EPROTO);
  batch_count = 1;
  EXPECT(lcs_query_values(4, &values) == -EPROTO);
  batch_count = 2;
  for (uint32_t i = 0; i < 4; i++) batch[i] = 0xff;
  EXPECT(lcs_query_values(4, &values) == -EPROTO);
  answers(lying_batch);
  EXPECT(lcs_query_values(4, &values) == -EPROTO);
  free(values.bytes);
}

static int three_subkeys(uint8_t *args) {
  static const char *const names[] = {"Events", "Logs", "M"};
  uint32_t index, room;
  memcpy(&index, args, 4);
  memcpy(&room, args + 4, 4);
  if (index >= 3) return ENOENT;
  put_u32(args, 4, (uint32_t)strlen(names[index]));
  if (room < strlen(names[index])) return ERANGE;
  memcpy(pointer_in(args, 8), names[index], strlen(names[index]));
  return 0;
}

static int lying_subkey(uint8_t *args) {
  put_u32(args, 4, 256);
  return 0;
}

static void subkeys(void) {
  title("[HOST-35] [HOST-37] subkeys are enumerated to ENOENT");
  struct lcs_answer names = {0};
  struct lcs_text name;
  uint32_t at = 0;
  answers(three_subkeys);
  EXPECT(lcs_list_subkeys(3, &names) == 0 && names.count == 3 && kernel.calls == 4);
  EXPECT(kernel.request == 0xC0285206 && u32_at(32) == UINT32_MAX && u32_at(36) == 0);
  struct lcs_text all = {names.bytes, names.length};
  EXPECT(lcs_next_component(all, &at, &name) && name.length == 6 && memcmp(name.bytes, "Events", 6) == 0);
  EXPECT(lcs_next_component(all, &at, &name) && lcs_next_component(all, &at, &name) && name.bytes[0] == 'M');
  EXPECT(!lcs_next_component(all, &at, &name));
  free(names.bytes);
  names = (struct lcs_answer){0};
  answers(lying_subkey);
  EXPECT(lcs_list_subkeys(3, &names) == -EPROTO);
  answers(refuses);
  EXPECT(lcs_list_subkeys(3, &names) == -EACCES);
  free(names.bytes);
}

static void watches(void) {
  title("[HOST-39] [HOST-40] [HOST-44] a watch covers the subtree, does not block, and takes records of any size");
  answers(NULL);
  int key = lcs_watch("Machine\\System\\eventd");
  EXPECT(key >= 0 && kernel.request == 0x4008520C && kernel.third == 0x20019);
  EXPECT(u32_at(0) == 3 && kernel.args[4] == 1 && kernel.args[5] == 0 && kernel.args[6] == 0 && kernel.args[7] == 0);
  EXPECT((fcntl(key, F_GETFL) & O_NONBLOCK) != 0 && (fcntl(key, F_GETFD) & FD_CLOEXEC) != 0);
  close(key);
  struct lcs_answer records = {0};
  EXPECT(lcs_read_watch(9, &records) == -EAGAIN && kernel.key == 9);
  kernel.records = 200000;
  EXPECT(lcs_read_watch(9, &records) == 0 && records.length == 200000);
  kernel.records = 2000000;
  EXPECT(lcs_read_watch(9, &records) == -EPROTO);
  free(records.bytes);
}

/* A record: type, name, path of one component per slash, `extra` bytes behind. */
static uint32_t add_record(uint8_t *out, uint16_t type, const char *name, const char *path, uint32_t extra) {
  uint16_t name_length = (uint16_t)strlen(name), depth = 0;
  uint32_t at = 8 + name_length;
  memcpy(out + 4, &type, 2);
  memcpy(out + 6, &name_length, 2);
  memcpy(out + 8, name, name_length);
  uint32_t depth_at = at;
  at += 2;
  while (*path != '\0') {
    uint16_t length = (uint16_t)strcspn(path, "/");
    memcpy(out + at, &length, 2);
    memcpy(out + at + 2, path, length);
    at += 2u + length;
    path += length + (path[length] == '/');
    depth++;
  }
  memcpy(out + depth_at, &depth, 2);
  at += extra;
  memcpy(out, &at, 4);
  return at;
}

static void records(void) {
  title("[HOST-41] [HOST-42] records are walked by the length they say; bytes behind what is known are skipped");
  uint8_t bytes[256] = {0};
  uint32_t length = add_record(bytes, LCS_VALUE_SET, "*", "Security/Events", 5);
  uint32_t first = length;
  length += add_record(bytes + length, LCS_SUBKEY_DELETED, "Security", "", 0);
  uint32_t last = length;
  const uint8_t overflow[] = {8, 0, 0, 0, 7, 0, 0, 0};
  memcpy(bytes + length, overflow, sizeof overflow);
  length += sizeof overflow;
  struct lcs_answer all = {exact_copy(bytes, length), length, 0, 0};
  struct lcs_record record;
  struct lcs_text component;
  uint32_t at = 0, in_path = 0;
  EXPECT(lcs_next_record(&all, &at, &record) && record.type == 1 && record.depth == 2);
  EXPECT(record.name.length == 1 && record.name.bytes[0] == '*');
  EXPECT(lcs_next_component(record.path, &in_path, &component) && component.length == 8);
  EXPECT(lcs_next_component(record.path, &in_path, &component) && memcmp(component.bytes, "Events", 6) == 0);
  EXPECT(!lcs_next_component(record.path, &in_path, &component));
  EXPECT(lcs_next_record(&all, &at, &record) && record.type == 4 && record.depth == 0 && at == last);
  EXPECT(lcs_next_record(&all, &at, &record) && record.type == 7 && at == length);
  EXPECT(!lcs_next_record(&all, &at, &record));
  /* Cut anywhere, no record is taken for whole, and none is read beyond the cut. */
  for (uint32_t cut = 0; cut < length; cut++) {
    uint8_t *copy = exact_copy(bytes, cut);
    struct lcs_answer part = {copy, cut, 0, 0};
    at = 0;
    while (lcs_next_record(&part, &at, &record)) continue;
    EXPECT(at == (cut < first ? 0 : cut < last ? first : last));
    free(copy);
  }
  /* A total that leaves out what the record needs, or goes backwards. */
  for (uint32_t total = 0; total < first - 5; total++) {
    memcpy(all.bytes, &total, 4);
    at = 0;
    EXPECT(!lcs_next_record(&all, &at, &record) && at == 0);
  }
  free(all.bytes);
}

int main(void) {
  struct lcs_kernel real = lcs_kernel;
  lcs_kernel = (struct lcs_kernel){fake_call, fake_control, fake_read};
  keys();
  writes();
  one_value();
  batches();
  subkeys();
  watches();
  records();
  lcs_kernel = real;
  return expect_result();
}
