/* What LCS writes into buffers: batches of values and watch records, taken apart without trust. */
#include <string.h>

#include "lcs.h"

static uint16_t u16_of(const uint8_t *bytes) {
  uint16_t value;
  memcpy(&value, bytes, sizeof value);
  return value;
}

static uint32_t u32_of(const uint8_t *bytes) {
  uint32_t value;
  memcpy(&value, bytes, sizeof value);
  return value;
}

/* `length` bytes at `*at`, which moves behind them, or false beyond `end`. */
static bool take(const uint8_t *bytes, uint32_t end, uint32_t *at, uint32_t length, struct lcs_text *out) {
  if (length > end - *at) return false;
  *out = (struct lcs_text){bytes + *at, length};
  *at += length;
  return true;
}

bool lcs_next_value(const struct lcs_answer *values, uint32_t *at, struct lcs_value *value) {
  const uint8_t *bytes = values->bytes;
  uint32_t end = values->length, next = *at;
  struct lcs_text head;
  if (!take(bytes, end, &next, 4, &head)) return false;
  if (!take(bytes, end, &next, u32_of(head.bytes), &value->name)) return false;
  if (!take(bytes, end, &next, 8, &head)) return false;
  value->type = u32_of(head.bytes);
  if (!take(bytes, end, &next, u32_of(head.bytes + 4), &value->data)) return false;
  *at = next;
  return true;
}

bool lcs_next_component(struct lcs_text path, uint32_t *at, struct lcs_text *component) {
  struct lcs_text head;
  uint32_t next = *at;
  if (!take(path.bytes, path.length, &next, 2, &head)) return false;
  if (!take(path.bytes, path.length, &next, u16_of(head.bytes), component)) return false;
  *at = next;
  return true;
}

/* The path behind a record's name: u16 depth, components. What follows them is none of ours (HOST-41). */
static bool read_path(const uint8_t *bytes, uint32_t end, uint32_t at, struct lcs_record *record) {
  struct lcs_text head, component;
  if (!take(bytes, end, &at, 2, &head)) return false;
  record->depth = u16_of(head.bytes);
  struct lcs_text rest = {bytes + at, end - at};
  uint32_t length = 0;
  for (uint32_t i = 0; i < record->depth; i++) {
    if (!lcs_next_component(rest, &length, &component)) return false;
  }
  record->path = (struct lcs_text){rest.bytes, length};
  return true;
}

bool lcs_next_record(const struct lcs_answer *records, uint32_t *at, struct lcs_record *record) {
  const uint8_t *bytes = records->bytes;
  uint32_t next = *at;
  struct lcs_text head;
  if (!take(bytes, records->length, &next, 8, &head)) return false;
  uint32_t total = u32_of(head.bytes);
  if (total < 8 || total > records->length - *at) return false;
  uint32_t end = *at + total;
  *record = (struct lcs_record){.type = u16_of(head.bytes + 4)};
  if (!take(bytes, end, &next, u16_of(head.bytes + 6), &record->name)) return false;
  if (!read_path(bytes, end, next, record)) {
    /* About lost events, and the end of the watched key itself, a path has nothing to add. */
    if (record->type != LCS_KEY_DELETED && record->type != LCS_OVERFLOW) return false;
    record->depth = 0;
    record->path = (struct lcs_text){0};
  }
  *at = end;
  return true;
}
