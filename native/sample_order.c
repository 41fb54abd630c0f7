#include "sample_order.h"

#include <stdbool.h>
#include <string.h>

/* Short runs are sorted by insertion, longer ones by merging. */
enum { RUN = 16 };

static inline bool before(const struct sample_place *a, const struct sample_place *b) {
  return a->series_id != b->series_id ? a->series_id < b->series_id : a->timestamp < b->timestamp;
}

static void insertion_sort(struct sample_place *places, size_t count) {
  for (size_t i = 1; i < count; i++) {
    struct sample_place moving = places[i];
    size_t at = i;
    for (; at > 0 && before(&moving, &places[at - 1]); at--) places[at] = places[at - 1];
    places[at] = moving;
  }
}

static void merge(struct sample_place *to, const struct sample_place *left, size_t left_count,
                  const struct sample_place *right, size_t right_count) {
  const struct sample_place *left_end = left + left_count, *right_end = right + right_count;
  while (left < left_end && right < right_end) *to++ = before(right, left) ? *right++ : *left++;
  memcpy(to, left, (size_t)(left_end - left) * sizeof *to);
  memcpy(to + (left_end - left), right, (size_t)(right_end - right) * sizeof *to);
}

static size_t least(size_t a, size_t b) { return a < b ? a : b; }

static bool sorted(const struct sample_place *places, size_t count) {
  for (size_t i = 1; i < count; i++) {
    if (before(&places[i], &places[i - 1])) return false;
  }
  return true;
}

void sample_order_sort(struct sample_place *places, struct sample_place *spare, size_t count) {
  if (sorted(places, count)) return;
  for (size_t i = 0; i < count; i += RUN) insertion_sort(places + i, least(RUN, count - i));
  struct sample_place *from = places, *to = spare;
  for (size_t width = RUN; width < count; width *= 2) {
    for (size_t i = 0; i < count; i += width * 2) {
      size_t left = least(width, count - i);
      merge(to + i, from + i, left, from + i + left, least(width, count - i - left));
    }
    struct sample_place *swapped = from;
    from = to;
    to = swapped;
  }
  if (from != places) memcpy(places, from, count * sizeof *places);
}
