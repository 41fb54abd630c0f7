/* The writing half of msgpack.h. */
#include <stdlib.h>

#include "msgpack.h"
#include "utf8.h"

void msgpack_writer_free(struct msgpack_writer *writer) {
  free(writer->bytes);
  *writer = (struct msgpack_writer){0};
}

uint8_t *msgpack_grow(struct msgpack_writer *writer, size_t n) {
  if (writer->failed) return NULL;
  size_t capacity = writer->capacity == 0 ? 256 : writer->capacity;
  while (capacity - writer->length < n) {
    if (capacity > SIZE_MAX / 2) {
      writer->failed = true;
      return NULL;
    }
    capacity *= 2;
  }
  uint8_t *bytes = realloc(writer->bytes, capacity);
  if (bytes == NULL) {
    writer->failed = true;
    return NULL;
  }
  writer->bytes = bytes;
  writer->capacity = capacity;
  return writer->bytes + writer->length;
}

void msgpack_write_raw(struct msgpack_writer *writer, const void *bytes, size_t n) {
  uint8_t *to = msgpack_reserve(writer, n);
  if (to == NULL || n == 0) return;
  memcpy(to, bytes, n);
  writer->length += n;
}

/* A head byte followed by the low `width` bytes of `value`, big endian. */
static void write_head(struct msgpack_writer *writer, uint8_t head, uint64_t value, unsigned width) {
  uint8_t *to = msgpack_reserve(writer, 9);
  if (to == NULL) return;
  to[0] = head;
  for (unsigned i = 0; i < width; i++) to[1 + i] = (uint8_t)(value >> (8 * (width - 1 - i)));
  writer->length += 1 + width;
}

void msgpack_write_nil(struct msgpack_writer *writer) {
  write_head(writer, 0xc0, 0, 0);
}

void msgpack_write_uint(struct msgpack_writer *writer, uint64_t value) {
  if (value < 0x80) {
    write_head(writer, (uint8_t)value, 0, 0);
  } else if (value <= UINT8_MAX) {
    write_head(writer, 0xcc, value, 1);
  } else if (value <= UINT16_MAX) {
    write_head(writer, 0xcd, value, 2);
  } else if (value <= UINT32_MAX) {
    write_head(writer, 0xce, value, 4);
  } else {
    write_head(writer, 0xcf, value, 8);
  }
}

void msgpack_write_int(struct msgpack_writer *writer, int64_t value) {
  if (value >= 0) {
    msgpack_write_uint(writer, (uint64_t)value);
  } else if (value >= -32) {
    write_head(writer, (uint8_t)value, 0, 0);
  } else if (value >= INT8_MIN) {
    write_head(writer, 0xd0, (uint64_t)value, 1);
  } else if (value >= INT16_MIN) {
    write_head(writer, 0xd1, (uint64_t)value, 2);
  } else if (value >= INT32_MIN) {
    write_head(writer, 0xd2, (uint64_t)value, 4);
  } else {
    write_head(writer, 0xd3, (uint64_t)value, 8);
  }
}

void msgpack_write_double(struct msgpack_writer *writer, double value) {
  uint64_t bits;
  memcpy(&bits, &value, 8);
  write_head(writer, 0xcb, bits, 8);
}

void msgpack_write_bin(struct msgpack_writer *writer, const uint8_t *bytes, uint32_t n) {
  if (n <= UINT8_MAX) {
    write_head(writer, 0xc4, n, 1);
  } else if (n <= UINT16_MAX) {
    write_head(writer, 0xc5, n, 2);
  } else {
    write_head(writer, 0xc6, n, 4);
  }
  msgpack_write_raw(writer, bytes, n);
}

static void write_str_head(struct msgpack_writer *writer, size_t n) {
  if (n < 32) {
    write_head(writer, (uint8_t)(0xa0 | n), 0, 0);
  } else if (n <= UINT8_MAX) {
    write_head(writer, 0xd9, n, 1);
  } else if (n <= UINT16_MAX) {
    write_head(writer, 0xda, n, 2);
  } else if (n <= UINT32_MAX) {
    write_head(writer, 0xdb, n, 4);
  } else {
    writer->failed = true;
  }
}

void msgpack_write_str(struct msgpack_writer *writer, const void *bytes, uint32_t n) {
  write_str_head(writer, n);
  msgpack_write_raw(writer, bytes, n);
}

void msgpack_write_text(struct msgpack_writer *writer, const uint8_t *bytes, uint32_t n) {
  if (utf8_valid(bytes, n)) {
    msgpack_write_str(writer, bytes, n);
    return;
  }
  uint8_t *repaired = malloc(UTF8_REPAIR_BOUND(n));
  if (repaired == NULL) {
    writer->failed = true;
    return;
  }
  size_t length = utf8_repair(repaired, bytes, n);
  write_str_head(writer, length);
  msgpack_write_raw(writer, repaired, length);
  free(repaired);
}

void msgpack_write_map(struct msgpack_writer *writer, uint32_t pairs) {
  if (pairs < 16) {
    write_head(writer, (uint8_t)(0x80 | pairs), 0, 0);
  } else if (pairs <= UINT16_MAX) {
    write_head(writer, 0xde, pairs, 2);
  } else {
    write_head(writer, 0xdf, pairs, 4);
  }
}

void msgpack_write_array(struct msgpack_writer *writer, uint32_t elements) {
  if (elements < 16) {
    write_head(writer, (uint8_t)(0x90 | elements), 0, 0);
  } else if (elements <= UINT16_MAX) {
    write_head(writer, 0xdc, elements, 2);
  } else {
    write_head(writer, 0xdd, elements, 4);
  }
}

void msgpack_write_repaired(struct msgpack_writer *writer, struct msgpack_slice value) {
  const uint8_t *p = value.start;
  /* Container heads are copied as they stand and their members follow, so no nesting is tracked. */
  while (p < value.end) {
    struct msgpack_item item;
    const uint8_t *after = msgpack_read(p, value.end, &item);
    if (after == NULL) {
      writer->failed = true;
      return;
    }
    if (item.kind == MSGPACK_STR) {
      msgpack_write_text(writer, item.data, item.length);
    } else {
      msgpack_write_raw(writer, p, (size_t)(after - p));
    }
    p = after;
  }
}
