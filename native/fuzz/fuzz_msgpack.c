/*
 * Any bytes as MessagePack: checking, skipping, looking up and repairing must agree with each other
 * and stay inside the buffer.
 */
#include <stdlib.h>

#include "../msgpack.h"
#include "../utf8.h"

static void must(bool condition) {
  if (!condition) abort();
}

/* A repaired value is valid text throughout and has the same outline. */
static void repair(struct msgpack_slice value, bool utf8) {
  struct msgpack_writer writer = {0};
  msgpack_write_repaired(&writer, value);
  must(!writer.failed);
  bool repaired = true;
  must(msgpack_scan(writer.bytes, writer.bytes + writer.length, &repaired) == writer.bytes + writer.length);
  must(repaired);
  must(!utf8 || writer.length <= (size_t)(value.end - value.start));
  msgpack_writer_free(&writer);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  const uint8_t *end = data + size;
  bool utf8 = true;
  const uint8_t *after = msgpack_scan(data, end, &utf8);
  must(after == NULL || (after > data && after <= end));
  must(msgpack_skip(data, end) == after);
  bool deepest = msgpack_valid(data, size, MSGPACK_DEPTH_LIMIT);
  must(!deepest || after == end);
  must(!msgpack_valid(data, size, 4) || deepest);
  struct msgpack_name names[] = {{(const uint8_t *)"a", 1}, {(const uint8_t *)"b", 1}};
  struct msgpack_path path = {2, names};
  struct msgpack_slice value;
  if (msgpack_find_path(data, size, &path, &value)) {
    must(after == end && value.start >= data && value.end <= end && msgpack_skip(value.start, value.end) == value.end);
  }
  if (after != NULL) repair((struct msgpack_slice){data, after}, utf8);
  uint8_t *out = malloc(UTF8_REPAIR_BOUND(size) + 1);
  must(utf8_valid(out, utf8_repair(out, data, size)));
  free(out);
  return 0;
}
