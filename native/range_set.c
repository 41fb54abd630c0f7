#include "range_set.h"

#include <endian.h>
#include <stdlib.h>
#include <string.h>

static int64_t read_time(const uint8_t *at) {
  uint64_t value;
  memcpy(&value, at, sizeof value);
  return (int64_t)le64toh(value);
}

static void write_time(uint8_t *at, int64_t time) {
  uint64_t value = htole64((uint64_t)time);
  memcpy(at, &value, sizeof value);
}

int64_t ranges_from(const uint8_t *bytes, size_t index) { return read_time(bytes + index * RANGE_BYTES); }

int64_t ranges_to(const uint8_t *bytes, size_t index) { return read_time(bytes + index * RANGE_BYTES + 8); }

enum range_result range_append(struct range_writer *writer, int64_t from, int64_t to) {
  if (writer->length > 0) {
    uint8_t *last = writer->bytes + writer->length - RANGE_BYTES;
    int64_t end = read_time(last + 8);
    if (end == INT64_MAX || from <= end + 1) {
      if (to > end) write_time(last + 8, to);
      return RANGE_OK;
    }
  }
  if (writer->length + RANGE_BYTES > writer->limit) return RANGE_TOO_LARGE;
  if (writer->length + RANGE_BYTES > writer->capacity) {
    size_t capacity = writer->capacity == 0 ? 64 * RANGE_BYTES : writer->capacity * 2;
    uint8_t *bytes = realloc(writer->bytes, capacity);
    if (bytes == NULL) return RANGE_NO_MEMORY;
    writer->bytes = bytes;
    writer->capacity = capacity;
  }
  write_time(writer->bytes + writer->length, from);
  write_time(writer->bytes + writer->length + 8, to);
  writer->length += RANGE_BYTES;
  return RANGE_OK;
}

void range_writer_free(struct range_writer *writer) {
  free(writer->bytes);
  *writer = (struct range_writer){.limit = writer->limit};
}

bool ranges_valid(const uint8_t *bytes, size_t length) {
  if (length % RANGE_BYTES != 0) return false;
  for (size_t i = 0; i < length / RANGE_BYTES; i++) {
    if (ranges_from(bytes, i) > ranges_to(bytes, i)) return false;
    /* No overflow: a `to` of INT64_MAX leaves no room for a later `from`. */
    if (i > 0 && ranges_from(bytes, i) <= ranges_to(bytes, i - 1)) return false;
    if (i > 0 && ranges_from(bytes, i) == ranges_to(bytes, i - 1) + 1) return false;
  }
  return true;
}

/* Whether the gap before range `index` and the range itself hold `time`: then that range answers. */
static bool answers(const uint8_t *bytes, size_t count, size_t index, int64_t time) {
  return index <= count && (index == 0 || time > ranges_to(bytes, index - 1)) &&
         (index == count || time <= ranges_to(bytes, index));
}

bool ranges_contain(const uint8_t *bytes, size_t count, int64_t time, size_t *hint) {
  size_t index = *hint;
  if (!answers(bytes, count, index, time)) {
    if (index > 0 && answers(bytes, count, index - 1, time)) {
      index--;
    } else if (answers(bytes, count, index + 1, time)) {
      index++;
    } else {
      /* The first range that does not end before the time. */
      size_t end = count;
      index = 0;
      while (index < end) {
        size_t middle = index + (end - index) / 2;
        if (ranges_to(bytes, middle) < time) {
          index = middle + 1;
        } else {
          end = middle;
        }
      }
    }
    *hint = index;
  }
  return index < count && ranges_from(bytes, index) <= time;
}
