/*
 * MessagePack on untrusted bytes: checking, walking, looking up and writing.
 *
 * Nothing here recurses, allocates by declared counts or reads beyond the given end. Functions
 * whose comment says "checked" need a value that msgpack_scan or msgpack_valid has accepted;
 * all others take any bytes.
 */
#ifndef EVENTD_MSGPACK_H
#define EVENTD_MSGPACK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

/* The deepest nesting msgpack_valid can allow: the upper end of MaxNestingDepth (KMES-148). */
#define MSGPACK_DEPTH_LIMIT 256

enum msgpack_kind {
  MSGPACK_NIL,
  MSGPACK_BOOL,
  /* A number that is zero or more, in `uint`. */
  MSGPACK_UINT,
  /* A negative number, in `sint`. */
  MSGPACK_SINT,
  MSGPACK_FLOAT32,
  MSGPACK_FLOAT64,
  MSGPACK_STR,
  MSGPACK_BIN,
  MSGPACK_EXT,
  MSGPACK_ARRAY,
  MSGPACK_MAP,
};

/* One value as read; for containers only the head, their members follow in the buffer. */
struct msgpack_item {
  enum msgpack_kind kind;
  bool boolean;
  uint64_t uint;
  int64_t sint;
  /* Both float kinds, widened. */
  double real;
  /* Contents of str, bin and ext. */
  const uint8_t *data;
  /* Bytes of `data`, elements of an array, or pairs of a map. */
  uint32_t length;
};

/*
 * KMES-47: exactly one well-formed value fills the `n` bytes, with at most `max_depth` containers
 * open at once (the outermost counts 1, an empty one counts too). Contents of strings are not
 * looked at. More than MSGPACK_DEPTH_LIMIT levels are always refused.
 */
bool msgpack_valid(const uint8_t *bytes, size_t n, unsigned max_depth);

/*
 * Steps over one value of any depth. Returns its end, or NULL when it is malformed or truncated.
 * Clears `*utf8` (if given) when a string in it, keys included, is not valid UTF-8.
 */
const uint8_t *msgpack_scan(const uint8_t *p, const uint8_t *end, bool *utf8);

/* Steps over one value of any depth; NULL when it is malformed or truncated. */
static inline const uint8_t *msgpack_skip(const uint8_t *p, const uint8_t *end) {
  return msgpack_scan(p, end, NULL);
}

/* Reads one head, and the contents of str, bin and ext. Returns what follows it; NULL = malformed. */
const uint8_t *msgpack_read(const uint8_t *p, const uint8_t *end, struct msgpack_item *item);

/* A slice of a buffer. */
struct msgpack_slice {
  const uint8_t *start;
  const uint8_t *end;
};

/* A dotted path, cut at the dots. */
struct msgpack_path {
  size_t count;
  struct msgpack_name {
    const uint8_t *bytes;
    size_t length;
  } *names;
};

/* Checked map: the value of the first pair whose key is this string (QL-44). False = none, or no map. */
bool msgpack_find_key(struct msgpack_slice map, const uint8_t *key, size_t length, struct msgpack_slice *value);

/* Checked value: follows `count` names down nested maps. False when one is missing. */
bool msgpack_descend(struct msgpack_slice from, const struct msgpack_name *names, size_t count,
                     struct msgpack_slice *value);

/*
 * Follows a path from the top of a payload. The whole payload is checked first: one that is not
 * well-formed to its last byte has no fields at all (QL-44), whichever key is asked for.
 */
bool msgpack_find_path(const uint8_t *bytes, size_t n, const struct msgpack_path *path,
                       struct msgpack_slice *value);

/* A growing output buffer. A failed allocation sets `failed`; everything after it is a no-op. */
struct msgpack_writer {
  uint8_t *bytes;
  size_t length;
  size_t capacity;
  bool failed;
};

void msgpack_writer_free(struct msgpack_writer *writer);

/* Makes room where there is too little: use msgpack_reserve. */
uint8_t *msgpack_grow(struct msgpack_writer *writer, size_t n);

/* Room for `n` more bytes at the end, or NULL. The caller adds what it used to `length`. */
static inline uint8_t *msgpack_reserve(struct msgpack_writer *writer, size_t n) {
  if (writer->failed || n > writer->capacity - writer->length) return msgpack_grow(writer, n);
  return writer->bytes + writer->length;
}

void msgpack_write_raw(struct msgpack_writer *writer, const void *bytes, size_t n);
void msgpack_write_nil(struct msgpack_writer *writer);
void msgpack_write_uint(struct msgpack_writer *writer, uint64_t value);
void msgpack_write_int(struct msgpack_writer *writer, int64_t value);
/* Always as float64, whole numbers too (WIRE-10). */
void msgpack_write_double(struct msgpack_writer *writer, double value);
void msgpack_write_bin(struct msgpack_writer *writer, const uint8_t *bytes, uint32_t n);
/* A string that is valid UTF-8 already. */
void msgpack_write_str(struct msgpack_writer *writer, const void *bytes, uint32_t n);
/* A string of any bytes; invalid UTF-8 becomes U+FFFD. */
void msgpack_write_text(struct msgpack_writer *writer, const uint8_t *bytes, uint32_t n);
void msgpack_write_map(struct msgpack_writer *writer, uint32_t pairs);
void msgpack_write_array(struct msgpack_writer *writer, uint32_t elements);
/* Checked value: copied, with every string in it made valid UTF-8. */
void msgpack_write_repaired(struct msgpack_writer *writer, struct msgpack_slice value);

#endif
