#include "ascii_match.h"

#include <stdlib.h>
#include <string.h>

/* A literal part of a pattern, in lower case. */
struct piece {
  const uint8_t *bytes;
  size_t length;
};

struct ascii_pattern {
  /* The text must begin with `first` and end with `last`, and hold `middle` between them in order. */
  struct piece first;
  struct piece last;
  /* Without any free part between them the text is `first` and nothing else. */
  bool exact;
  size_t count;
  struct piece *middle;
  /* Room for the text in lower case. */
  uint8_t *lower;
  size_t capacity;
};

static uint8_t fold(uint8_t c) {
  return c >= 'A' && c <= 'Z' ? c | 0x20 : c;
}

/* Eight letters at a time: the high bit of each byte of `upper` tells whether it is A..Z. */
static void to_lower(uint8_t *out, const uint8_t *in, size_t n) {
  const uint64_t ones = UINT64_C(0x0101010101010101);
  size_t i = 0;
  for (; i + 8 <= n; i += 8) {
    uint64_t word;
    memcpy(&word, in + i, 8);
    uint64_t low7 = word & ones * 0x7f;
    uint64_t from_a = low7 + ones * (0x80 - 'A');
    uint64_t past_z = low7 + ones * (0x7f - 'Z');
    uint64_t upper = (from_a ^ past_z) & ~word & ones * 0x80;
    word |= upper >> 2;
    memcpy(out + i, &word, 8);
  }
  for (; i < n; i++) out[i] = fold(in[i]);
}

static bool equals(const uint8_t *text, struct piece piece) {
  for (size_t i = 0; i < piece.length; i++) {
    if (fold(text[i]) != piece.bytes[i]) return false;
  }
  return true;
}

struct ascii_pattern *ascii_pattern_new(enum ascii_form form, const uint8_t *text, size_t length) {
  size_t stars = 0;
  for (size_t i = 0; form == ASCII_GLOB && i < length; i++) stars += text[i] == '*';
  struct ascii_pattern *pattern = malloc(sizeof *pattern + (stars + 1) * sizeof(struct piece) + length);
  if (pattern == NULL) return NULL;
  *pattern = (struct ascii_pattern){.middle = (struct piece *)(pattern + 1)};
  uint8_t *copy = (uint8_t *)(pattern->middle + stars + 1);
  to_lower(copy, text, length);
  struct piece whole = {copy, length};
  struct piece none = {copy, 0};
  pattern->first = pattern->last = none;
  switch (form) {
    case ASCII_STARTS: pattern->first = whole; return pattern;
    case ASCII_ENDS: pattern->last = whole; return pattern;
    case ASCII_CONTAINS:
      if (length > 0) pattern->middle[pattern->count++] = whole;
      return pattern;
    case ASCII_GLOB: break;
  }
  if (stars == 0) {
    pattern->first = whole;
    pattern->exact = true;
    return pattern;
  }
  const uint8_t *start = copy;
  for (size_t star = 0; star <= stars; star++) {
    const uint8_t *end = star == stars ? copy + length : memchr(start, '*', (size_t)(copy + length - start));
    struct piece piece = {start, (size_t)(end - start)};
    if (star == 0) {
      pattern->first = piece;
    } else if (star == stars) {
      pattern->last = piece;
    } else if (piece.length > 0) {
      pattern->middle[pattern->count++] = piece;
    }
    if (star < stars) start = end + 1;
  }
  return pattern;
}

void ascii_pattern_free(void *pattern) {
  if (pattern != NULL) free(((struct ascii_pattern *)pattern)->lower);
  free(pattern);
}

/* The text in lower case, in the pattern's own room. */
static const uint8_t *lowered(struct ascii_pattern *pattern, const uint8_t *text, size_t length) {
  if (length > pattern->capacity) {
    uint8_t *more = realloc(pattern->lower, length);
    if (more == NULL) return NULL;
    pattern->lower = more;
    pattern->capacity = length;
  }
  to_lower(pattern->lower, text, length);
  return pattern->lower;
}

int ascii_match(struct ascii_pattern *pattern, const uint8_t *text, size_t length) {
  struct piece first = pattern->first;
  struct piece last = pattern->last;
  if (length < first.length + last.length) return 0;
  if (pattern->exact && length != first.length) return 0;
  if (!equals(text, first) || !equals(text + length - last.length, last)) return 0;
  if (pattern->count == 0) return 1;
  size_t left = length - first.length - last.length;
  if (left == 0) return 0;
  const uint8_t *p = lowered(pattern, text + first.length, left);
  if (p == NULL) return -1;
  /* The leftmost place for each piece leaves the most room for the rest, so nothing is tried twice. */
  for (size_t i = 0; i < pattern->count; i++) {
    struct piece piece = pattern->middle[i];
    const uint8_t *found = memmem(p, left, piece.bytes, piece.length);
    if (found == NULL) return 0;
    left -= (size_t)(found - p) + piece.length;
    p = found + piece.length;
  }
  return 1;
}
