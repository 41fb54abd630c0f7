#include "histogram.h"

#include <math.h>
#include <string.h>

#include "msgpack.h"

static bool number(const struct msgpack_item *item, double *value) {
  switch (item->kind) {
    case MSGPACK_UINT: *value = (double)item->uint; return true;
    case MSGPACK_SINT: *value = (double)item->sint; return true;
    case MSGPACK_FLOAT32:
    case MSGPACK_FLOAT64: *value = item->real; return !isnan(item->real);
    default: return false;
  }
}

/* The next number of an array. */
static bool next_number(struct msgpack_slice *from, double *value) {
  struct msgpack_item item;
  const uint8_t *next = msgpack_read(from->start, from->end, &item);
  if (next == NULL || !number(&item, value)) return false;
  from->start = next;
  return true;
}

/* A member of the histogram's map and its head; for an array `slice` then holds the elements. */
static bool member(struct msgpack_slice map, const char *key, struct msgpack_slice *slice, struct msgpack_item *item) {
  if (!msgpack_find_key(map, (const uint8_t *)key, strlen(key), slice)) return false;
  const uint8_t *next = msgpack_read(slice->start, slice->end, item);
  if (next == NULL) return false;
  slice->start = next;
  return true;
}

/* From `low` to `high`; an end without limit has no distance, so the other one is the answer. */
static double interpolate(double low, double high, double share) {
  if (isinf(high)) return low;
  if (isinf(low)) return high;
  return low + (high - low) * share;
}

bool histogram_quantile(const uint8_t *bytes, size_t n, double quantile, double *value) {
  if (bytes == NULL || msgpack_skip(bytes, bytes + n) != bytes + n) return false;
  struct msgpack_slice map = {bytes, bytes + n};
  struct msgpack_slice bounds, counts, rest;
  struct msgpack_item bound_head, count_head, total_head;
  if (!member(map, "boundaries", &bounds, &bound_head) || bound_head.kind != MSGPACK_ARRAY) return false;
  if (!member(map, "counts", &counts, &count_head) || count_head.kind != MSGPACK_ARRAY) return false;
  double total;
  if (!member(map, "total_count", &rest, &total_head) || !number(&total_head, &total)) return false;
  if (!(total > 0) || bound_head.length == 0 || bound_head.length != count_head.length) return false;
  double rank = quantile * total;
  double low = 0, below = 0, bound = 0;
  for (uint32_t i = 0; i < bound_head.length; i++) {
    double count;
    if (!next_number(&bounds, &bound) || !next_number(&counts, &count)) return false;
    if (i == 0) low = bound < 0 ? bound : 0;
    if (count >= rank) {
      *value = interpolate(low, bound, (rank - below) / (count - below));
      return true;
    }
    low = bound;
    below = count;
  }
  *value = bound;
  return true;
}
