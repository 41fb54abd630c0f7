#include "utf8.h"

#include <string.h>

/*
 * Length of the well-formed character at `p`, or minus the length of the ill-formed part there.
 * The second byte's range depends on the first (Unicode table 3-7), which excludes overlong forms,
 * surrogates and values above U+10FFFF without decoding.
 */
static int character(const uint8_t *p, const uint8_t *end) {
  uint8_t first = p[0];
  if (first < 0x80) return 1;
  uint8_t low = 0x80;
  uint8_t high = 0xbf;
  int length;
  if (first >= 0xc2 && first <= 0xdf) {
    length = 2;
  } else if (first >= 0xe0 && first <= 0xef) {
    length = 3;
    if (first == 0xe0) low = 0xa0;
    if (first == 0xed) high = 0x9f;
  } else if (first >= 0xf0 && first <= 0xf4) {
    length = 4;
    if (first == 0xf0) low = 0x90;
    if (first == 0xf4) high = 0x8f;
  } else {
    return -1;
  }
  for (int i = 1; i < length; i++) {
    if (p + i >= end || p[i] < low || p[i] > high) return -i;
    low = 0x80;
    high = 0xbf;
  }
  return length;
}

/* Skips whole words of ASCII, which most text is. */
static const uint8_t *skip_ascii(const uint8_t *p, const uint8_t *end) {
  while (end - p >= 8) {
    uint64_t word;
    memcpy(&word, p, 8);
    if (word & UINT64_C(0x8080808080808080)) break;
    p += 8;
  }
  while (p < end && *p < 0x80) p++;
  return p;
}

/* In a few loads, which may overlap: names and most values are short. */
static bool is_ascii(const uint8_t *bytes, size_t n) {
  uint64_t bits = 0;
  if (n >= 8) {
    uint64_t word;
    for (size_t i = 0; i + 8 < n; i += 8) {
      memcpy(&word, bytes + i, 8);
      bits |= word;
    }
    memcpy(&word, bytes + n - 8, 8);
    bits |= word;
  } else if (n >= 4) {
    uint32_t half[2];
    memcpy(&half[0], bytes, 4);
    memcpy(&half[1], bytes + n - 4, 4);
    bits = half[0] | half[1];
  } else {
    for (size_t i = 0; i < n; i++) bits |= bytes[i];
  }
  return (bits & UINT64_C(0x8080808080808080)) == 0;
}

bool utf8_valid(const uint8_t *bytes, size_t n) {
  if (is_ascii(bytes, n)) return true;
  const uint8_t *p = bytes;
  const uint8_t *end = bytes + n;
  while ((p = skip_ascii(p, end)) < end) {
    int length = character(p, end);
    if (length < 0) return false;
    p += length;
  }
  return true;
}

size_t utf8_repair(uint8_t *out, const uint8_t *bytes, size_t n) {
  const uint8_t *p = bytes;
  const uint8_t *end = bytes + n;
  uint8_t *to = out;
  while (p < end) {
    int length = character(p, end);
    if (length > 0) {
      memcpy(to, p, (size_t)length);
      to += length;
      p += length;
    } else {
      memcpy(to, "\xef\xbf\xbd", 3);
      to += 3;
      p -= length;
    }
  }
  return (size_t)(to - out);
}
