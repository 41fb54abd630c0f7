/*
 * Any bytes as log datagrams: two of them, cut where the first two bytes say. However the steps
 * are sized, the same records must come, all of them valid and inside their datagram.
 */
#include <stdlib.h>
#include <string.h>

#include "../log_decode.h"
#include "../utf8.h"

enum { RECEIPT = 12345, ALL = 1000000 };

static void must(bool condition) {
  if (!condition) abort();
}

static struct datagrams whole, stepped;

static void inside(const struct datagrams *batch, const uint8_t *text, uint32_t length) {
  must(text >= batch->bytes && text + length <= batch->bytes + batch->length);
  must(utf8_valid(text, length));
}

static void load(struct datagrams *batch, const uint8_t *data, size_t size, size_t cut) {
  if (batch->bytes == NULL) must(datagrams_init(batch, 1 << 18));
  batch->length = batch->next = 0;
  batch->at = batch->end = NULL;
  batch->count = batch->elements = 0;
  must(datagrams_append(batch, RECEIPT, data, cut));
  must(datagrams_append(batch, RECEIPT, data + cut, size - cut));
}

/* One datagram that ends where its heap block ends, so that a sanitizer sees every read beyond it. */
static void read_exact(const uint8_t *data, size_t size) {
  const uint64_t head[] = {RECEIPT, size};
  uint8_t *entry = malloc(sizeof head + size);
  must(entry != NULL);
  memcpy(entry, head, sizeof head);
  if (size > 0) memcpy(entry + sizeof head, data, size);
  struct datagrams batch = {.bytes = entry, .length = sizeof head + size};
  struct datagrams_map map;
  while (datagrams_map(&batch, &map)) {
    struct log_record record;
    bool valid;
    const uint8_t *after = log_record_read(&map, &record, &valid);
    must(after > map.start && after <= map.end);
    datagrams_pass(&batch, after);
  }
  free(entry);
}

static bool same(const struct log_record *a, const struct log_record *b) {
  return a->timestamp == b->timestamp && a->is_error == b->is_error && a->origin_length == b->origin_length &&
         a->message_length == b->message_length && memcmp(a->origin, b->origin, a->origin_length) == 0 &&
         memcmp(a->message, b->message, a->message_length) == 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  if (size < 2) return 0;
  uint32_t per_step = 1 + data[0] % 8;
  size_t cut = data[1] == 0 ? 0 : (size - 2) * data[1] / 255;
  data += 2;
  size -= 2;
  read_exact(data, size);
  load(&whole, data, size, cut);
  load(&stepped, data, size, cut);
  struct log_step step;
  uint32_t count, seen = 0, found;
  must(log_decode(&whole, ALL, &step) == 0 && !step.more);
  const struct log_record *all = log_decoded(&whole, &count);
  for (uint32_t i = 0; i < count; i++) {
    inside(&whole, all[i].origin, all[i].origin_length);
    inside(&whole, all[i].message, all[i].message_length);
    must(all[i].timestamp >= 0);
  }
  do {
    must(log_decode(&stepped, per_step, &step) == 0);
    const struct log_record *some = log_decoded(&stepped, &found);
    must(found <= per_step && (found == per_step || !step.more));
    for (uint32_t i = 0; i < found; i++, seen++) must(seen < count && same(&all[seen], &some[i]));
  } while (step.more);
  must(seen == count);
  return 0;
}
