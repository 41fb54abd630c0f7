/* Any bytes as a handoff segment: entries stay inside it and their slices inside them. */
#include <stdlib.h>

#include "../segment_entry.h"

static void must(bool condition) {
  if (!condition) abort();
}

/* Reads every byte of a slice, so that a sanitizer sees one outside the buffer. */
static unsigned touch(const uint8_t *bytes, size_t n) {
  unsigned sum = 0;
  for (size_t i = 0; i < n; i++) sum += bytes[i];
  return sum;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  const uint8_t *p = data;
  const uint8_t *end = data + size;
  volatile unsigned sum = 0;
  struct segment_entry entry;
  while (p < end && segment_entry_read(&entry, p, end) == NULL) {
    must(entry.size > 0 && entry.size <= (size_t)(end - p));
    if (entry.gap) {
      struct msgpack_writer writer = {0};
      segment_gap_payload(&entry, &writer);
      must(msgpack_valid(writer.bytes, writer.length, 1));
      msgpack_writer_free(&writer);
    } else {
      sum += touch(entry.type, entry.type_length) + touch(entry.payload, entry.payload_length);
    }
    p += entry.size;
  }
  return 0;
}
