/*
 * Sets of times as sorted, disjoint, inclusive ranges: what a cross-type condition becomes (QL-112).
 * Their form between the stages of a query is a byte string of little-endian int64 pairs, from and to.
 */
#ifndef EVENTD_RANGE_SET_H
#define EVENTD_RANGE_SET_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Bytes of one range. */
#define RANGE_BYTES 16

/* Collects ranges in the order of their start; those that overlap or touch become one. */
struct range_writer {
  uint8_t *bytes;
  size_t length;
  size_t capacity;
  /* Bytes the set may have at most. */
  size_t limit;
};

enum range_result { RANGE_OK, RANGE_NO_MEMORY, RANGE_TOO_LARGE };

/* Adds from..to, both included. `from` must not lie before that of an earlier range, nor behind `to`. */
enum range_result range_append(struct range_writer *writer, int64_t from, int64_t to);
void range_writer_free(struct range_writer *writer);

/* Whether the bytes are a set: whole pairs, each in order and behind the one before it, not touching it. */
bool ranges_valid(const uint8_t *bytes, size_t length);

int64_t ranges_from(const uint8_t *bytes, size_t index);
int64_t ranges_to(const uint8_t *bytes, size_t index);

/*
 * Whether `time` lies in a valid set of `count` ranges. `hint` is the index that answered last and
 * becomes the one that answers now: neighbouring times are found at once, others by binary search.
 */
bool ranges_contain(const uint8_t *bytes, size_t count, int64_t time, size_t *hint);

#endif
